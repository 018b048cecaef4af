//! Typed tables over a real store.

use std::ops::Bound::{Excluded, Included, Unbounded};

use serde::{Deserialize, Serialize};

use super::*;
use crate::error::{CodecOp, Error, Result};
use crate::{Store, WriteTxn};

const WORDS: Table<&str, u32> = Table::new("words");
const PAIRS: Table<(u32, &str), String> = Table::new("pairs");

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("test.mst")).unwrap();
    (dir, store)
}

/// Runs `body` on the words a = 1, b = 2, … in a write transaction that commits.
fn on_words<T>(words: &str, body: impl FnOnce(&TypedTableMut<&str, u32>) -> Result<T>) -> (T, Vec<(String, u32)>) {
    let (_dir, store) = store();
    let outcome = store.write(|tx: &WriteTxn| {
        let table = tx.table(WORDS)?;
        for (word, number) in words.chars().zip(1..) {
            table.put(word.to_string(), number)?;
        }
        body(&table)
    });
    let left = store.read().unwrap().table(WORDS).unwrap().range(..).unwrap().collect::<Result<_>>().unwrap();
    (outcome.unwrap(), left)
}

fn named(words: &str) -> Vec<String> {
    words.chars().map(String::from).collect()
}

#[test]
fn point_operations() {
    let ((), left) = on_words("abc", |words| {
        assert_eq!(words.get("b")?, Some(2));
        assert_eq!(words.get(&"b".to_owned())?, Some(2), "an owned form, and a reference to it");
        assert_eq!(words.get("x")?, None);
        assert!(words.contains("a")? && !words.contains("")?);
        assert_eq!(words.insert("a", 7)?, Some(1));
        assert_eq!(words.insert("d", 8)?, None);
        assert_eq!(words.remove("b")?, Some(2));
        assert_eq!(words.remove("b")?, None);
        words.delete("c")?;
        words.delete("c")?;
        assert_eq!(words.len()?, 2);
        assert!(!words.is_empty()?);
        Ok(())
    });
    assert_eq!(left, [("a".to_owned(), 7), ("d".to_owned(), 8)]);
}

#[test]
fn both_ends() {
    let ((), left) = on_words("abcd", |words| {
        assert_eq!(words.first()?, Some(("a".to_owned(), 1)));
        assert_eq!(words.last()?, Some(("d".to_owned(), 4)));
        assert_eq!(words.pop_first()?, Some(("a".to_owned(), 1)));
        assert_eq!(words.pop_last()?, Some(("d".to_owned(), 4)));
        Ok(())
    });
    assert_eq!(left.len(), 2);
    let ((), left) = on_words("", |words| {
        assert_eq!(words.first()?, None);
        assert_eq!(words.pop_last()?, None);
        assert!(words.is_empty()?);
        Ok(())
    });
    assert_eq!(left, []);
}

#[test]
fn update_makes_changes_and_removes() {
    let ((), left) = on_words("ab", |words| {
        assert_eq!(words.update("a", |number| number.map(|number| number + 10))?, Some(11));
        assert_eq!(words.update("b", |_| None)?, None);
        assert_eq!(words.update("c", |number| Some(number.unwrap_or(5)))?, Some(5));
        assert_eq!(words.update("x", |number| number)?, None);
        let failed = words.try_update("a", |_| Err(Error::Invalid("no".into())));
        assert!(matches!(failed, Err(Error::Invalid(_))));
        Ok(())
    });
    assert_eq!(left, [("a".to_owned(), 11), ("c".to_owned(), 5)]);
}

#[test]
fn ranges_and_prefixes() {
    on_words("abcde", |words| {
        let keys = |range: TypedRange<&str, u32, WriteTxn>| range.keys().collect::<Result<Vec<_>>>();
        assert_eq!(keys(words.range("b".."d")?)?, named("bc"));
        assert_eq!(keys(words.range("b"..="d")?)?, named("bcd"));
        assert_eq!(keys(words.range(.."b")?)?, named("a"));
        assert_eq!(keys(words.range((Excluded("b"), Included("d")))?)?, named("cd"));
        let reversed = "d".."b";
        assert_eq!(keys(words.range(reversed)?)?, named(""));
        assert_eq!(words.values()?.rev().collect::<Result<Vec<_>>>()?, [5, 4, 3, 2, 1]);
        words.put("bb", 9)?;
        assert_eq!(keys(words.prefix("b")?)?, ["b", "bb"]);
        assert_eq!(keys(words.prefix("")?)?.len(), 6);
        Ok(())
    });
}

#[test]
fn a_range_goes_on_after_its_last_key() {
    on_words("abcde", |words| {
        let mut range = words.range(..)?;
        assert_eq!(range.last_key()?, None);
        range.next();
        range.next();
        let after = range.last_key()?.unwrap();
        assert_eq!(after, "b");
        let rest = words.range((Excluded(after), Unbounded))?.keys().collect::<Result<Vec<_>>>()?;
        assert_eq!(rest, named("cde"));
        range.next_back();
        assert_eq!(range.last_key()?.unwrap(), "e");
        let mut values = words.values()?;
        values.next();
        assert_eq!(values.last_key()?.unwrap(), "a");
        Ok(())
    });
}

#[test]
fn changes_of_many() {
    let (removed, left) = on_words("abcdef", |words| {
        assert_eq!(words.retain(|key, number| key != "a" && *number != 4)?, 2);
        words.delete_range("e"..)
    });
    assert_eq!(removed, 2);
    assert_eq!(left, [("b".to_owned(), 2), ("c".to_owned(), 3)]);
    let ((), left) = on_words("abc", |words| {
        words.clear()?;
        words.put("z", 1)
    });
    assert_eq!(left, [("z".to_owned(), 1)]);
}

#[test]
fn bulk_load_wants_order() {
    let (loaded, left) = on_words("", |words| words.bulk_load((10..30).map(|number| (number.to_string(), number))));
    assert_eq!(loaded, 20);
    assert_eq!(left.len(), 20);
    let (outcome, _) = on_words("", |words| Ok(words.bulk_load([("b", 1), ("a", 2)])));
    assert!(matches!(outcome, Err(Error::Unsorted { position: 1, .. })));
}

#[test]
fn tuples_and_their_parts() {
    let (_dir, store) = store();
    store
        .write(|tx| {
            let pairs = tx.table(PAIRS)?;
            for (number, name) in [(1, "b"), (2, "a"), (2, "ab"), (2, "b"), (3, "a")] {
                pairs.put((number, name), &format!("{number}{name}"))?;
            }
            pairs.put(&(7, "x".to_owned()), "a text")
        })
        .unwrap();
    let snap = store.read().unwrap();
    let pairs = snap.table(PAIRS).unwrap();
    assert_eq!(pairs.get((2, "ab")).unwrap().unwrap(), "2ab");
    let all =
        |range: Result<TypedRange<(u32, &str), String>>| range.unwrap().values().collect::<Result<Vec<_>>>().unwrap();
    assert_eq!(all(pairs.prefix((2,))), ["2a", "2ab", "2b"]);
    assert_eq!(all(pairs.prefix((2, "a"))), ["2a", "2ab"]);
    assert_eq!(all(pairs.range((2, "ab")..(3, ""))), ["2ab", "2b"]);
    assert_eq!(pairs.last().unwrap().unwrap().0, (7, "x".to_owned()));
}

#[test]
fn a_table_keeps_its_types() {
    let (_dir, store) = store();
    store.write(|tx| tx.table(WORDS)?.put("a", 1)).unwrap();
    const OTHER: Table<u64, u32> = Table::new("words");
    const BLOBS: Table<&str, Blob> = Table::new("words");
    const SAME: Table<String, u64> = Table::new("words");
    let snap = store.read().unwrap();
    assert!(matches!(snap.table(OTHER), Err(Error::TypeMismatch { .. })));
    assert!(matches!(snap.table(BLOBS), Err(Error::TypeMismatch { .. })));
    assert!(matches!(store.write(|tx| tx.table(OTHER).map(drop)), Err(Error::TypeMismatch { .. })));
    assert_eq!(snap.table(SAME).unwrap().get("a").unwrap(), Some(1));
}

#[test]
fn a_missing_table_reads_as_empty_and_is_not_created() {
    let (_dir, store) = store();
    assert!(store.read().unwrap().table(WORDS).unwrap().is_empty().unwrap());
    store.write(|tx| tx.read_table(WORDS)?.get("a").map(drop)).unwrap();
    assert!(store.read().unwrap().tables().unwrap().is_empty());
    let name = format!("notes of {}", "ada");
    store.write(|tx| tx.table(Table::<&str, u32>::new(&name))?.put("a", 1)).unwrap();
    assert_eq!(store.read().unwrap().tables().unwrap()[0].name, name);
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Default)]
struct Note {
    text: String,
    #[serde(default)]
    stars: u8,
}

#[test]
fn what_does_not_decode_names_its_table_and_stays() {
    const NOTES: Table<&str, Note> = Table::new("notes");
    const AS_NUMBERS: Table<&str, u32> = Table::new("notes");
    let (_dir, store) = store();
    store.write(|tx| tx.table(NOTES)?.put("a", Note::default())).unwrap();
    store.write(|tx| tx.table(AS_NUMBERS)?.put("b", 3)).unwrap();
    let snap = store.read().unwrap();
    let notes = snap.table(NOTES).unwrap();
    assert_eq!(notes.get("a").unwrap(), Some(Note::default()));
    let error = notes.get("b").unwrap_err();
    assert!(matches!(&error, Error::Codec { table, op: CodecOp::Decode, .. } if table == "notes"), "{error}");
    let kinds: Vec<_> = notes.range(..).unwrap().map(|entry| entry.is_ok()).collect();
    assert_eq!(kinds, [true, false]);
    let retained = store.write(|tx| tx.table(NOTES)?.retain(|_, _| false));
    assert!(matches!(retained, Err(Error::Codec { .. })));
    assert_eq!(store.read().unwrap().table(AS_NUMBERS).unwrap().get("b").unwrap(), Some(3));
}

#[test]
fn blobs_take_bytes() {
    const FILES: Table<[u8; 4], Blob> = Table::new("files");
    let (_dir, store) = store();
    store.write(|tx| tx.table(FILES)?.put([1, 2, 3, 4], b"text")).unwrap();
    let snap = store.read().unwrap();
    assert_eq!(snap.table(FILES).unwrap().get([1, 2, 3, 4]).unwrap().unwrap().0, b"text");
    assert_eq!(snap.table(FILES).unwrap().prefix([1, 2]).unwrap().count(), 1);
    assert_eq!(&*snap.raw("files").unwrap().get(&[1, 2, 3, 4]).unwrap().unwrap(), b"text");
}
