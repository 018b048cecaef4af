//! `memstone get`: prints a key's value.

use clap::Args;
use serde_json::{Value, json};

use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;
use crate::values::ValueType;

/// Print the value of a key as JSON
#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// Print a string without quotes and line end, and bytes as they are
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

impl Get {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let snapshot = self.place.read()?;
        let types = self.place.types(&snapshot.tables()?)?;
        let table = snapshot.raw(&self.place.table)?;
        let bytes = table.get(&types.keys.key(&self.key)?)?.ok_or_else(|| self.place.no_key(&self.key))?;
        if self.raw && types.values == ValueType::Bytes {
            return out.bytes(&bytes);
        }
        match types.values.decode(&bytes)? {
            Value::String(text) if self.raw => out.bytes(text.as_bytes()),
            value if out.json() => out.line(json!({ "key": self.key, "value": value })),
            value => out.value(&value),
        }
    }
}
