//! `memstone get`: prints a key's value.

use clap::Args;
use serde_json::{Value, json};

use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::hex;
use crate::values::ValueType;

/// Print the value of a key as JSON
///
/// What JSON cannot express is printed in a notation that `put` takes: {"$bytes": hex},
/// {"$map": [[key, value], …]} for maps with other keys than text, {"$msgpack": hex} for any other
/// MessagePack.
#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// Read the named snapshot instead of the newest state
    #[arg(long, value_name = "NAME")]
    at: Option<String>,
    /// Print a string without quotes and line end, and bytes as they are
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print the stored bytes as hex digits, exactly, for `put --hex`
    #[arg(long, conflicts_with = "raw")]
    hex: bool,
}

impl Get {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let snapshot = self.place.read_at(self.at.as_deref())?;
        let types = self.place.types_in(&snapshot)?;
        let table = snapshot.raw(&self.place.table)?;
        let bytes = table.get(&types.keys.key(&self.key)?)?.ok_or_else(|| self.place.no_key(&self.key))?;
        if self.hex {
            let digits = hex(&bytes);
            return if out.json() { out.line(json!({ "key": self.key, "hex": digits })) } else { out.line(digits) };
        }
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
