//! Typed tables over a real store.

use std::borrow::Cow;
use std::ops::Bound::{Excluded, Included, Unbounded};

use serde::{Deserialize, Serialize};

use super::*;
use crate::bytes::Bytes;
use crate::error::{CodecOp, Error, LimitKind, Result};
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
        assert_eq!(words.update("b", |_| None::<u32>)?, None);
        assert_eq!(words.update("c", |number| Some(number.unwrap_or(5)))?, Some(5));
        assert_eq!(words.update("x", |number| number)?, None);
        let failed = words.try_update("a", |_| Err::<Option<u32>, _>(Error::Invalid("no".into())));
        assert!(matches!(failed, Err(Error::Invalid(_))));
        Ok(())
    });
    assert_eq!(left, [("a".to_owned(), 11), ("c".to_owned(), 5)]);
}

#[test]
fn ranges_and_prefixes() {
    on_words("abcde", |words| {
        let keys = |range: TypedRange<&str, u32, MessagePack, WriteTxn>| range.keys().collect::<Result<Vec<_>>>();
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
    const BLOBS: BytesTable<&str> = BytesTable::new("words");
    const OWN: Table<&str, u32, Own> = Table::new("words");
    const SAME: Table<String, u64> = Table::new("words");
    let snap = store.read().unwrap();
    assert!(matches!(snap.table(OTHER), Err(Error::TypeMismatch { .. })));
    assert!(matches!(snap.table(BLOBS), Err(Error::TypeMismatch { .. })));
    let error = snap.table(OWN).unwrap_err().to_string();
    assert_eq!(error, "table \"words\" holds str → msgpack, not str → own");
    assert!(matches!(store.write(|tx| tx.table(OWN).map(drop)), Err(Error::TypeMismatch { .. })));
    assert!(matches!(store.write(|tx| tx.read_table(OWN).map(drop)), Err(Error::TypeMismatch { .. })));
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
fn tables_of_bytes() {
    const FILES: BytesTable<[u8; 4]> = BytesTable::new("files");
    let (_dir, store) = store();
    let long = vec![7; 20_000];
    store
        .write(|tx| {
            let files = tx.table(FILES)?;
            files.put([1, 2, 3, 4], b"text")?;
            files.put([1, 2, 3, 5], &long)?;
            files.update([1, 2, 3, 4], |old| Some([&*old.unwrap(), b"!"].concat()))?;
            assert_eq!(files.retain(|_, value| value.len() > 3)?, 0);
            assert_eq!(files.insert([1, 9, 9, 9], vec![1])?, None);
            Ok::<_, Error>(())
        })
        .unwrap();
    let snap = store.read().unwrap();
    let files = snap.table(FILES).unwrap();
    // The value outlives the handle: it borrows from the snapshot.
    let value = files.clone().get([1, 2, 3, 4]).unwrap().unwrap();
    assert_eq!(value, b"text!");
    assert_eq!(files.get([1, 2, 3, 5]).unwrap().unwrap(), &long[..]);
    assert_eq!(files.prefix([1, 2]).unwrap().count(), 2);
    assert_eq!(&*snap.untyped("files").unwrap().get(&[1, 2, 3, 4]).unwrap().unwrap(), b"text!");
    let types = snap.table_types("files").unwrap().unwrap();
    assert_eq!(types, ("[u8;4]".to_owned(), "bytes".to_owned()));
}

/// A codec of this test: numbers that are read in place.
struct Own;

#[derive(Debug, PartialEq)]
struct InPlace<'a>(Bytes<'a>);

impl Codec<u32> for Own {
    type Value<'a> = InPlace<'a>;
    fn name() -> Cow<'static, str> {
        "own".into()
    }
    fn encode(value: &u32) -> Result<Cow<'_, [u8]>, CodecError> {
        if *value == 13 { Err(CodecError::new("unlucky")) } else { Ok(value.to_string().into_bytes().into()) }
    }
    fn decode(bytes: Bytes<'_>) -> Result<InPlace<'_>, CodecError> {
        if bytes.is_empty() { Err(CodecError::new("nothing")) } else { Ok(InPlace(bytes)) }
    }
}

#[test]
fn a_codec_of_the_program() {
    const NUMBERS: Table<u8, u32, Own> = Table::new("numbers");
    let (_dir, store) = store();
    store
        .write(|tx| {
            let numbers = tx.table(NUMBERS)?;
            assert_eq!(numbers.bulk_load((1..10).map(|number| (number, u32::from(number) * 100)))?, 9);
            let refused = numbers.put(1, 13).unwrap_err().to_string();
            assert_eq!(refused, "table \"numbers\": cannot encode as u32: unlucky");
            assert!(matches!(numbers.bulk_load([(1, 1), (2, 13)]), Err(Error::Codec { op: CodecOp::Encode, .. })));
            assert!(matches!(numbers.update(1, |_| Some(13)), Err(Error::Codec { op: CodecOp::Encode, .. })));
            assert_eq!(numbers.insert(1, 5)?.unwrap().0, b"1");
            assert_eq!(numbers.remove(2)?.unwrap().0, b"200");
            assert_eq!(numbers.pop_last()?.unwrap().1.0, b"900");
            tx.untyped("numbers")?.put(&[77], b"")
        })
        .unwrap();
    let before = store.read().unwrap();
    let numbers = before.table(NUMBERS).unwrap();
    assert!(matches!(numbers.get(77), Err(Error::Codec { op: CodecOp::Decode, .. })));
    let mut values = numbers.values().unwrap();
    assert_eq!(values.next().unwrap().unwrap().0, b"5");
    assert!(values.next_back().unwrap().is_err());
    assert_eq!(values.by_ref().filter_map(Result::ok).count(), 6);
    assert!(values.next().is_none() && values.next_back().is_none(), "fused");
    store.write(|tx| tx.table(NUMBERS)?.put(3, 4)).unwrap();
    let now = store.read().unwrap();
    let diff = before.diff(&now).unwrap();
    let change = diff.table(NUMBERS).unwrap().next().unwrap().unwrap();
    assert_eq!((change.key, &*change.before.unwrap().0, &*change.after.unwrap().0), (3, &b"300"[..], &b"4"[..]));
}

#[test]
fn a_table_keeps_its_schema() {
    const PLAIN: Table<&str, u32> = Table::new("notes");
    const FIRST: Table<&str, u32> = Table::new("notes").schema("note", 1);
    const SECOND: Table<&str, u32> = Table::new("notes").schema("note", 2);
    const OTHER: Table<&str, u32> = Table::new("notes").schema("memo", 1);
    let (_dir, store) = store();
    let refused = |store: &Store, table: Table<&'static str, u32>, found: &str, expected: &str| {
        let message = format!("table \"notes\" holds {found}, not {expected}");
        let snapshot = store.read().unwrap();
        assert_eq!(snapshot.table(table).unwrap_err().to_string(), message);
        assert_eq!(store.write(|tx| tx.table(table).map(drop)).unwrap_err().to_string(), message);
        assert_eq!(store.write(|tx| tx.read_table(table).map(drop)).unwrap_err().to_string(), message);
    };
    assert!(store.read().unwrap().table(FIRST).unwrap().is_empty().unwrap(), "no table, no schema");
    store.write(|tx| tx.table(FIRST)?.put("a", 1)).unwrap();
    let recorded = || store.read().unwrap().table_schema("notes").unwrap().unwrap();
    assert_eq!(recorded(), ("note".to_owned(), 1));
    refused(&store, SECOND, "schema \"note\" version 1", "schema \"note\" version 2");
    refused(&store, OTHER, "schema \"note\" version 1", "schema \"memo\" version 1");
    assert_eq!(store.read().unwrap().table(PLAIN).unwrap().get("a").unwrap(), Some(1), "not looked at");
    store
        .write(|tx| {
            let old = tx.table(FIRST)?;
            tx.set_schema("notes", "note", 2)?;
            let new = tx.table(SECOND)?;
            old.range(..)?.try_for_each(|row| row.and_then(|(key, value)| new.put(key, value + 1)))
        })
        .unwrap();
    assert_eq!(store.read().unwrap().table(SECOND).unwrap().get("a").unwrap(), Some(2));
    refused(&store, FIRST, "schema \"note\" version 2", "schema \"note\" version 1");
    // A table that was created without one.
    store.write(|tx| tx.drop_table("notes")).unwrap();
    store.write(|tx| tx.table(PLAIN)?.put("a", 1)).unwrap();
    refused(&store, FIRST, "no schema", "schema \"note\" version 1");
    // One that is too long for a row is refused before anything is created.
    store.write(|tx| tx.drop_table("notes")).unwrap();
    let long = "s".repeat(1025);
    let refused = store.write(|tx| {
        let too_long = tx.table(PLAIN.schema(&long, 1)).map(drop);
        assert!(matches!(too_long, Err(Error::TooLarge { what: LimitKind::SchemaName, .. })));
        Ok::<_, Error>(())
    });
    assert!(refused.is_ok() && store.read().unwrap().tables().unwrap().is_empty());
}

/// A handle for reading is opened before its table: it is checked when it is read.
#[test]
fn a_table_that_comes_later_is_checked() {
    const FIRST: Table<&str, u32> = Table::new("notes").schema("note", 1);
    const SECOND: Table<&str, u32> = Table::new("notes").schema("note", 2);
    const PLAIN: Table<&str, u32> = Table::new("notes");
    const BYTES: BytesTable<&str> = BytesTable::new("notes");
    let (_dir, store) = store();
    store
        .write(|tx| {
            let (first, second) = (tx.read_table(FIRST)?, tx.read_table(SECOND)?);
            let (plain, bytes) = (tx.read_table(PLAIN)?, tx.read_table(BYTES)?);
            assert!(first.is_empty()? && second.is_empty()? && plain.is_empty()? && bytes.is_empty()?);
            tx.table(FIRST)?.put("a", 1)?;
            assert_eq!((first.get("a")?, plain.get("a")?), (Some(1), Some(1)));
            let message = "table \"notes\" holds schema \"note\" version 1, not schema \"note\" version 2";
            assert_eq!(second.get("a").unwrap_err().to_string(), message);
            assert_eq!(second.len().unwrap_err().to_string(), message);
            assert!(matches!(bytes.get("a"), Err(Error::TypeMismatch { .. })), "another codec");
            tx.set_schema("notes", "note", 2)?;
            assert!(first.get("a").is_err());
            assert_eq!(second.get("a")?, Some(1));
            Ok(())
        })
        .unwrap();
}

#[cfg(feature = "json")]
#[test]
fn tables_of_json() {
    const NOTES: Table<&str, Note, Json> = Table::new("notes");
    let (_dir, store) = store();
    store.write(|tx| tx.table(NOTES)?.put("a", Note { text: "first".into(), stars: 3 })).unwrap();
    let snap = store.read().unwrap();
    assert_eq!(snap.table(NOTES).unwrap().get("a").unwrap().unwrap().stars, 3);
    assert_eq!(&*snap.untyped("notes").unwrap().get(b"a").unwrap().unwrap(), br#"{"text":"first","stars":3}"#);
    assert_eq!(snap.table_types("notes").unwrap().unwrap().1, "json");
}

/// What may cross threads: all that reads a snapshot, whatever its keys and values are.
#[test]
fn readers_of_snapshots_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    struct Local(std::rc::Rc<u8>);
    impl Codec<Local> for Own {
        type Value<'a> = Local;
        fn name() -> Cow<'static, str> {
            "local".into()
        }
        fn encode(value: &Local) -> Result<Cow<'_, [u8]>, CodecError> {
            Ok(vec![*value.0].into())
        }
        fn decode(_: Bytes<'_>) -> Result<Local, CodecError> {
            Ok(Local(std::rc::Rc::new(1)))
        }
    }
    crosses::<Table<'static, &str, Local, Own>>();
    crosses::<TypedTable<'static, &str, Local, Own>>();
    crosses::<OwnedTypedTable<&str, Local, Own>>();
    crosses::<OwnedTypedRange<&str, Local, Own>>();
    crosses::<TypedTable<'static, &str, u32>>();
    crosses::<OwnedTypedTable<&str, u32>>();
}

#[test]
fn owned_tables_and_ranges() {
    const FILES: BytesTable<u8> = BytesTable::new("files");
    let (_dir, store) = store();
    let long = vec![7; 20_000];
    store.write(|tx| tx.table(FILES)?.bulk_load((0..100).map(|key| (key, &long[..usize::from(key) * 100])))).unwrap();
    let files = store.read().unwrap().into_table(FILES).unwrap();
    store.write(|tx| tx.drop_table(FILES)).unwrap();
    drop(store);
    assert_eq!(format!("{files:?}"), "OwnedTypedTable { name: \"files\", .. }");
    let again = files.table().into_owned();
    let value = files.get_owned(99).unwrap().unwrap();
    let mut range = files.range_owned(10..=90).unwrap();
    let above = files.table().range_owned(95..).unwrap();
    drop(files);
    let moved = std::thread::spawn(move || {
        assert_eq!(range.last_key().unwrap(), None);
        assert_eq!(range.next().unwrap().unwrap().0, 10);
        assert_eq!(range.next_back().unwrap().unwrap().0, 90);
        assert_eq!(range.last_key().unwrap(), Some(90));
        let rest = range.by_ref().map(|row| row.unwrap()).collect::<Vec<_>>();
        assert!(range.next().is_none() && range.next_back().is_none(), "fused");
        rest
    });
    let rest = moved.join().unwrap();
    assert!(rest.iter().all(|(key, value)| value.len() == usize::from(*key) * 100) && rest.len() == 79);
    assert_eq!((value.len(), above.count()), (9900, 5));
    assert_eq!((again.len().unwrap(), again.is_empty().unwrap(), again.contains(7).unwrap()), (100, false, true));
    assert_eq!((again.first().unwrap().unwrap().0, again.last().unwrap().unwrap().0), (0, 99));
    assert_eq!((again.keys().unwrap().count(), again.values().unwrap().count()), (100, 100));
    assert_eq!((again.count(90..).unwrap(), again.rank(30).unwrap()), (10, 30));
    assert_eq!(again.nth(50).unwrap().unwrap().0, 50);
    assert_eq!((again.range(..5).unwrap().count(), again.get(3).unwrap().unwrap().len()), (5, 300));
}
