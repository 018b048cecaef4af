//! A program that changes the shape of its data: fields that come and go, a new key, all at once or not at all.
//!
//!     cargo run --example schema_change -- notes.mst

use memstone::{Result, Store, Table, WriteTxn};
use serde::{Deserialize, Serialize};

/// Version 1 of the program stored this, by title.
mod version_1 {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub struct Note {
        pub text: String,
    }
    pub const NOTES: Table<&str, Note> = Table::new("notes");
}

/// A field more needs no migration: `default` says what older rows mean. The key has changed, too, and that does.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    title: String,
    text: String,
    #[serde(default)]
    stars: u8,
}

const NOTES: Table<(u64, &str), Note> = Table::new("notes");
const VERSION: u64 = 2;

/// Brings the store to this program's version. Every process calls it when it starts: the first one does the work.
fn migrate(store: &Store) -> Result<()> {
    if store.read()?.user_version()? == VERSION {
        return Ok(());
    }
    store.create_snapshot(&format!("before version {VERSION}")).map(drop).or_else(|error| match error {
        memstone::Error::SnapshotExists { .. } => Ok(()),
        error => Err(error),
    })?;
    store.write(|tx| {
        // Another process may have been faster: the version is read again in the transaction.
        match tx.user_version()? {
            0 | 1 => from_version_1(tx)?,
            VERSION => return Ok(()),
            newer => return Err(memstone::Error::abort(format!("this program is too old for version {newer}"))),
        }
        tx.set_user_version(VERSION)
    })
}

fn from_version_1(tx: &WriteTxn) -> Result<()> {
    if tx.table_types("notes")?.is_none() {
        return Ok(());
    }
    tx.rename_table("notes", "notes of version 1")?;
    let old = tx.table(Table::<&str, version_1::Note>::new("notes of version 1"))?;
    let new = tx.table(NOTES)?;
    for (number, entry) in old.range(..)?.enumerate() {
        let (title, version_1::Note { text }) = entry?;
        new.put((number as u64, &title), Note { title: title.clone(), text, stars: 0 })?;
    }
    tx.drop_table("notes of version 1").map(drop)
}

fn main() -> Result<()> {
    let store = Store::open(std::env::args().nth(1).unwrap_or("notes.mst".to_owned()))?;
    if store.read()?.user_version()? == 0 {
        store.write(|tx| {
            tx.table(version_1::NOTES)?.put("plants", version_1::Note { text: "water them".to_owned() })?;
            tx.set_user_version(1)
        })?;
    }
    migrate(&store)?;
    migrate(&store)?; // the second time there is nothing to do
    for entry in store.read()?.table(NOTES)?.range(..)? {
        let ((number, _), note) = entry?;
        println!("{number}: {note:?}");
    }
    println!("kept: {:?}", store.snapshots()?.iter().map(|kept| kept.name.as_str()).collect::<Vec<_>>());
    Ok(())
}
