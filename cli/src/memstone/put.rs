//! `memstone put`: sets a key's value.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;
use crate::values::Form;
use crate::{Common, values};

/// Set the value of a key; the store and the table are created if they are not there
///
/// What JSON cannot express has a notation: {"$bytes": hex}, {"$map": [[key, value], …]} for maps
/// with other keys than text, {"$msgpack": hex} for any other MessagePack.
#[derive(Args)]
pub(crate) struct Put {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// The value as JSON; `-` reads it from standard input
    #[arg(allow_negative_numbers = true, required_unless_present = "from")]
    value: Option<String>,
    /// Read the value from this file
    #[arg(long = "file", id = "from", value_name = "PATH", conflicts_with = "value")]
    from: Option<PathBuf>,
    /// Take the value as text, not as JSON; for a table of bytes, as any bytes
    #[arg(long, visible_alias = "raw")]
    string: bool,
    /// Take the value as hex digits of the bytes to store, as `get --hex` prints them
    #[arg(long, conflicts_with = "string")]
    hex: bool,
}

impl Put {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        // Read before the lock is taken: nobody should wait for this standard input.
        let form = match (self.string, self.hex) {
            (true, _) => Form::Text,
            (_, true) => Form::Hex,
            _ => Form::Json,
        };
        let value = match &self.from {
            Some(file) => {
                values::meant(fs::read(file).map_err(|e| Failure::Usage(format!("{}: {e}", file.display())))?, form)?
            }
            None => values::argument(self.value.as_deref().unwrap_or("-"), form)?,
        };
        let ((), commit) = self.place.write(true, common.timeout, |txn| {
            let (table, types) = self.place.find_or_create(txn)?;
            Ok(table.put(&types.keys.key(&self.key)?, &types.values.encode(value)?)?)
        })?;
        if out.json() { out.line(json!({ "key": self.key, "commit": commit })) } else { Ok(()) }
    }
}
