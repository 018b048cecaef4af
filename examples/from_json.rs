//! Moving from a JSON file: imported once, in one transaction, by the first of any number of processes.
//!
//!     cargo run --example from_json -- memory.json memory.mst
//!
//! The JSON file is an object, or an array of objects; it stays as it is.

use memstone::{Store, Table};
use serde_json::Value;
use std::error::Error;
use std::fs;

/// Each entry as it was: JSON values are serde values, too.
const ENTRIES: Table<&str, Value> = Table::new("entries");
/// What was imported, from where.
const IMPORTED: Table<&str, u64> = Table::new("imported");

fn entries(json: Value) -> Vec<(String, Value)> {
    match json {
        Value::Object(fields) => fields.into_iter().collect(),
        Value::Array(items) => {
            items.into_iter().enumerate().map(|(position, item)| (format!("{position:08}"), item)).collect()
        }
        single => vec![("value".to_owned(), single)],
    }
}

fn import(store: &Store, source: &str) -> Result<u64, Box<dyn Error>> {
    let entries = entries(serde_json::from_str(&fs::read_to_string(source)?)?);
    // Several processes may get here at once. They take turns, and the first one imports: the others see in the same
    // transaction that it is done.
    let count = store.write(|tx| {
        let imported = tx.table(IMPORTED)?;
        if imported.contains(source)? {
            return Ok(0);
        }
        let table = tx.table(ENTRIES)?;
        for (key, value) in &entries {
            table.put(key, value)?;
        }
        imported.put(source, entries.len() as u64)?;
        Ok(entries.len() as u64)
    })?;
    Ok(count)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(source), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("from_json SOURCE.json STORE.mst".into());
    };
    let store = Store::open(path)?;
    println!("{} entries imported", import(&store, &source)?);
    for entry in store.read()?.table(ENTRIES)?.range(..)? {
        let (key, value) = entry?;
        println!("{key}: {value}");
    }
    Ok(())
}
