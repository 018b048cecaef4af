//! A program that changes the shape of its data: fields that come and go, a new key, all at once or not at all.
//!
//!     cargo run --example schema_change -- notes.mst

use memstone::{Error, Result, Store, Table, WriteTxn};
use serde::{Deserialize, Serialize};

/// Version 1 of the program stored this, by title.
#[derive(Serialize, Deserialize)]
struct OldNote {
    text: String,
}

const OLD_NOTES: Table<&str, OldNote> = Table::new("notes");

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
    let kept = store.create_snapshot(&format!("before version {VERSION}")).map(drop);
    kept.or_else(|error| if matches!(error, Error::SnapshotExists { .. }) { Ok(()) } else { Err(error) })?;
    store.write(|tx| {
        // Another process may have been faster: the version is read again in the transaction.
        match tx.user_version()? {
            0 => {} // a new store
            1 => from_version_1(tx)?,
            VERSION => return Ok(()),
            newer => return Err(Error::abort(format!("this program is too old for version {newer}"))),
        }
        tx.set_user_version(VERSION)
    })
}

fn from_version_1(tx: &WriteTxn) -> Result<()> {
    tx.rename_table(OLD_NOTES, "notes of version 1")?;
    let old = tx.table(Table::<&str, OldNote>::new("notes of version 1"))?;
    let new = tx.table(NOTES)?;
    for (number, entry) in old.range(..)?.enumerate() {
        let (title, OldNote { text }) = entry?;
        new.put((number as u64, &title), Note { title: title.clone(), text, stars: 0 })?;
    }
    tx.drop_table("notes of version 1").map(drop)
}

fn main() -> Result<()> {
    let store = Store::open(std::env::args().nth(1).unwrap_or("notes.mst".to_owned()))?;
    if store.read()?.user_version()? == 0 {
        store.write(|tx| {
            tx.table(OLD_NOTES)?.put("plants", OldNote { text: "water them".to_owned() })?;
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
