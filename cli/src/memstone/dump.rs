//! `memstone dump`: the whole content as JSON lines, without any loss.
//!
//! The first line says what it is, the last one how many rows there are: a dump that was cut off is known by that. A
//! line for each table with its types comes before its rows. A key or a value whose JSON would not lead back to the
//! same bytes (a float of 32 bits, bytes that are no text) is given as its bytes in base64: `"k64"`, `"v64"`.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use memstone::{Snapshot, TableInfo};
use serde_json::{Map, Value, json};

use crate::access::{Types, read_at};
use crate::failure::Failure;
use crate::output::Output;
use crate::values::Given;

/// What the first line calls it.
pub(crate) const FORMAT: &str = "memstone-dump";
pub(crate) const VERSION: u64 = 1;
/// A value whose JSON is nested deeper is given as its bytes: those who read JSON stop at 128 levels, the row among them.
const DEEPEST: usize = 100;

/// Print all tables with their types, keys and values as JSON lines, for `load`
///
/// What is printed is one state, while others go on writing. Loaded into an empty store and dumped again it
/// gives the same lines.
#[derive(Args)]
pub(crate) struct Dump {
    /// The store's file
    file: PathBuf,
    /// Only this table; may be given several times
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Only keys that begin so
    #[arg(long, requires = "table")]
    prefix: Option<String>,
    /// Read the named snapshot instead of the newest state
    #[arg(long, value_name = "NAME")]
    at: Option<String>,
}

impl Dump {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let snapshot = read_at(&self.file, self.at.as_deref())?;
        let mut tables = snapshot.tables()?;
        if let Some(missing) = self.table.iter().find(|name| !tables.iter().any(|table| table.name == **name)) {
            return Err(Failure::NotFound(format!("there is no table {missing:?}")));
        }
        tables.retain(|table| self.table.is_empty() || self.table.contains(&table.name));
        out.line(match snapshot.user_version()? {
            0 => json!({ "format": FORMAT, "version": VERSION }),
            version => json!({ "format": FORMAT, "version": VERSION, "user_version": version }),
        })?;
        let mut rows = 0_u64;
        for table in &tables {
            rows += self.dump_table(&snapshot, table, out)?;
        }
        out.line(json!({ "end": true, "tables": tables.len(), "rows": rows }))
    }

    fn dump_table(&self, snapshot: &Snapshot, table: &TableInfo, out: &mut Output) -> Result<u64, Failure> {
        let TableInfo { name, key_type, value_type, schema, schema_version, .. } = table;
        out.line(match (schema.as_str(), *schema_version) {
            ("", 0) => json!({ "table": name, "keys": key_type, "values": value_type }),
            (schema, version) => json!({
                "table": name, "keys": key_type, "values": value_type, "schema": schema, "schema_version": version,
            }),
        })?;
        let types = Types::named(&table.key_type, &table.value_type);
        let raw = snapshot.untyped(&table.name)?;
        let entries = match &self.prefix {
            Some(prefix) => raw.prefix(&types.keys.prefix(prefix)?)?,
            None => raw.prefix(b"")?,
        };
        let mut rows = 0;
        for entry in entries {
            let (key, value) = entry?;
            out.line(row(&types, &key, &value))?;
            rows += 1;
        }
        Ok(rows)
    }
}

fn row(types: &Types, key: &[u8], value: &[u8]) -> Value {
    let mut row = Map::new();
    let shown = types.keys.show(key);
    match types.keys.bytes_of(&shown) {
        Some(bytes) if bytes == key => row.insert("k".to_owned(), shown),
        _ => row.insert("k64".to_owned(), BASE64.encode(key).into()),
    };
    let shown = types.values.decode(value).ok().filter(|shown| {
        if is_deeper(shown, DEEPEST) {
            return false;
        }
        let back = types.values.encode(Given::Json(shown.clone()));
        back.is_ok_and(|bytes| bytes == value)
    });
    match shown {
        Some(shown) => row.insert("v".to_owned(), shown),
        None => row.insert("v64".to_owned(), BASE64.encode(value).into()),
    };
    Value::Object(row)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(inside) = levels.checked_sub(1) else { return value.is_array() || value.is_object() };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, inside)),
        Value::Object(fields) => fields.values().any(|field| is_deeper(field, inside)),
        _ => false,
    }
}
