//! A notes program: texts with tags, and an index by tag that cannot disagree with them.
//!
//!     cargo run --example notes -- notes.mst add "water the plants" home garden
//!     cargo run --example notes -- notes.mst find garden
//!     cargo run --example notes -- notes.mst list
//!
//! Any number of these may run at once on the same file.

use memstone::{Result, Store, Table};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    text: String,
    #[serde(default)] // a field that was added later: older notes can still be read
    tags: Vec<String>,
}

/// Notes by number.
const NOTES: Table<u64, Note> = Table::new("notes");
/// The numbers of the notes that have a tag: one row for each tag of each note.
const BY_TAG: Table<(&str, u64), ()> = Table::new("notes by tag");

fn add(store: &Store, note: &Note) -> Result<u64> {
    // Both tables change in one transaction: after a crash at any moment they still agree.
    store.write(|tx| {
        let (notes, by_tag) = (tx.table(NOTES)?, tx.table(BY_TAG)?);
        let number = notes.last()?.map_or(1, |(last, _)| last + 1);
        notes.put(number, note)?;
        note.tags.iter().try_for_each(|tag| by_tag.put((tag, number), ()))?;
        Ok(number)
    })
}

fn remove(store: &Store, number: u64) -> Result<bool> {
    store.write(|tx| {
        let Some(note) = tx.table(NOTES)?.remove(number)? else { return Ok(false) };
        note.tags.iter().try_for_each(|tag| tx.table(BY_TAG)?.delete((tag, number)))?;
        Ok(true)
    })
}

fn find(store: &Store, tag: &str) -> Result<Vec<(u64, Note)>> {
    // One snapshot for both tables: what the index names is there.
    let snapshot = store.read()?;
    let (notes, by_tag) = (snapshot.table(NOTES)?, snapshot.table(BY_TAG)?);
    let mut found = Vec::new();
    for key in by_tag.prefix((tag,))?.keys() {
        let (_, number) = key?;
        found.extend(notes.get(number)?.map(|note| (number, note)));
    }
    Ok(found)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [path, "add", text, tags @ ..] => {
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            println!("{}", add(&Store::open(path)?, &Note { text: (*text).to_owned(), tags })?);
        }
        [path, "remove", number] => println!("{}", remove(&Store::open(path)?, number.parse().unwrap_or(0))?),
        [path, "find", tag] => {
            for (number, note) in find(&Store::open(path)?, tag)? {
                println!("{number}: {}", note.text);
            }
        }
        [path, "list"] => {
            for entry in Store::open(path)?.read()?.table(NOTES)?.range(..)? {
                let (number, note) = entry?;
                println!("{number}: {} {:?}", note.text, note.tags);
            }
        }
        _ => println!("notes FILE add TEXT [TAG ...] | remove NUMBER | find TAG | list"),
    }
    Ok(())
}
