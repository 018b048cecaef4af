//! `memstone get`: prints a key's value.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::access::{Place, Types};
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
    /// Print text without quotes and line end, and bytes as they are, for `put --raw`
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print the stored bytes as hex digits, exactly, for `put --hex`
    #[arg(long, conflicts_with = "raw")]
    hex: bool,
    /// Write it to this file instead of standard output
    #[arg(long = "file", id = "to", value_name = "PATH")]
    to: Option<PathBuf>,
}

impl Get {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let snapshot = self.place.read_at(self.at.as_deref())?;
        let types = self.place.types_in(&snapshot)?;
        let table = snapshot.untyped(&self.place.table)?;
        let bytes = table.get(&types.keys.key(&self.key)?)?.ok_or_else(|| self.place.no_key(&self.key))?;
        match (self.printed(&bytes, &types, out.json())?, &self.to) {
            (Printed::Line(line), None) => out.line(line),
            (Printed::Bytes(bytes), None) => out.bytes(&bytes),
            (Printed::Line(line), Some(file)) => write(file, (line + "\n").as_bytes()),
            (Printed::Bytes(bytes), Some(file)) => write(file, &bytes),
        }
    }

    fn printed(&self, bytes: &[u8], types: &Types, json: bool) -> Result<Printed, Failure> {
        if self.hex {
            let digits = hex(bytes);
            let line = if json { json!({ "key": self.key, "hex": digits }).to_string() } else { digits };
            return Ok(Printed::Line(line));
        }
        if self.raw && types.values == ValueType::Bytes {
            return Ok(Printed::Bytes(bytes.to_vec()));
        }
        match types.values.decode(bytes)? {
            Value::String(text) if self.raw => Ok(Printed::Bytes(text.into_bytes())),
            _ if self.raw => Err(Failure::Usage(NOT_RAW.to_owned())),
            value if json => Ok(Printed::Line(json!({ "key": self.key, "value": value }).to_string())),
            // Over several lines for a person.
            value if self.to.is_none() && io::stdout().is_terminal() => Ok(Printed::Line(format!("{value:#}"))),
            value => Ok(Printed::Line(value.to_string())),
        }
    }
}

enum Printed {
    Line(String),
    /// As they are, without a line's end.
    Bytes(Vec<u8>),
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(file, bytes).map_err(|e| Failure::Other(format!("{}: {e}", file.display())))
}

/// What `put --raw` took for text would be another value.
const NOT_RAW: &str = "the value is no text: leave out --raw to have it as JSON, or take --hex for its bytes";
