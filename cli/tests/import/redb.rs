//! From redb.

use std::path::Path;

use memstone::{MessagePack, Raw, Store, Table};
use redb::{Database, MultimapTableDefinition, TableDefinition};

use super::{Move, table, tables};

/// Writes a database, and closes it in order.
fn write(path: &Path, body: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(path).unwrap();
    let txn = database.begin_write().unwrap();
    body(&txn);
    txn.commit().unwrap();
}

fn put<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &redb::WriteTransaction,
    name: &str,
    rows: &[(K::SelfType<'_>, V::SelfType<'_>)],
) {
    let mut table = txn.open_table(TableDefinition::<K, V>::new(name)).unwrap();
    for (key, value) in rows {
        table.insert(key, value).unwrap();
    }
}

#[test]
fn every_type_comes_over() {
    let here = Move::new("source.redb");
    write(&here.source, |txn| {
        put::<&[u8], &[u8]>(txn, "bytes", &[(b"\0\xFF", b"\xFE"), (b"", b"")]);
        put::<&str, &str>(txn, "str", &[("é", "text"), ("", "")]);
        put::<String, String>(txn, "string", &[("a".to_owned(), "b".to_owned())]);
        put::<u8, u8>(txn, "u8", &[(0, 255), (255, 0)]);
        put::<u16, u16>(txn, "u16", &[(258, 258)]);
        put::<u32, u32>(txn, "u32", &[(u32::MAX, u32::MAX), (1, 1)]);
        put::<u64, u64>(txn, "u64", &[(u64::MAX, u64::MAX), (256, 256), (1, 1)]);
        put::<u128, u128>(txn, "u128", &[(u128::MAX, u128::MAX), (7, 7)]);
        put::<i8, i8>(txn, "i8", &[(-128, -128), (127, 127), (0, 0)]);
        put::<i16, i16>(txn, "i16", &[(-2, -2)]);
        put::<i32, i32>(txn, "i32", &[(-3, -3)]);
        put::<i64, i64>(txn, "i64", &[(i64::MIN, i64::MIN), (-1, -1), (1, 1)]);
        put::<i128, i128>(txn, "i128", &[(i128::MIN, i128::MIN)]);
        put::<bool, bool>(txn, "bool", &[(true, false), (false, true)]);
        put::<char, char>(txn, "char", &[('é', '\u{10FFFF}')]);
        put::<(), ()>(txn, "unit", &[((), ())]);
        put::<u8, f32>(txn, "f32", &[(1, 0.1)]);
        put::<u8, f64>(txn, "f64", &[(1, -0.0), (2, f64::INFINITY)]);
        put::<u64, &str>(txn, "empty", &[]);
    });
    let before = std::fs::read(&here.source).unwrap();
    let report = here.ok("redb", &[]);
    assert_eq!(std::fs::read(&here.source).unwrap(), before, "the source is only read");
    let number = |name: &str, rows| table(name, name, "msgpack", rows);
    let expected = [
        table("bool", "bool", "msgpack", 2),
        table("bytes", "bytes", "bytes", 2),
        table("char", "char", "msgpack", 1),
        table("empty", "u64", "msgpack", 0),
        table("f32", "u8", "msgpack", 1),
        table("f64", "u8", "msgpack", 2),
        number("i128", 1),
        number("i16", 1),
        number("i32", 1),
        number("i64", 3),
        number("i8", 3),
        table("str", "str", "msgpack", 2),
        table("string", "str", "msgpack", 1),
        number("u128", 2),
        number("u16", 1),
        number("u32", 2),
        number("u64", 3),
        number("u8", 2),
        table("unit", "()", "msgpack", 1),
    ];
    assert_eq!(tables(&report), expected);

    let snapshot = Store::open(&here.bench.file).unwrap().read().unwrap();
    macro_rules! holds {
        ($name:literal, $key:ty, $value:ty, $rows:expr) => {
            holds!($name, $key, $value, MessagePack, $rows)
        };
        ($name:literal, $key:ty, $value:ty, $codec:ty, $rows:expr) => {
            let found = snapshot.table(Table::<$key, $value, $codec>::new($name)).unwrap();
            let found: Vec<_> = found.range(..).unwrap().map(|row| row.unwrap()).collect();
            assert_eq!(found, $rows, $name);
        };
    }
    holds!("bytes", &[u8], Vec<u8>, Raw, [(vec![], vec![]), (vec![0, 255], vec![254])]);
    holds!("str", &str, String, [(String::new(), String::new()), ("é".to_owned(), "text".to_owned())]);
    holds!("string", &str, String, [("a".to_owned(), "b".to_owned())]);
    holds!("u8", u8, u8, [(0, 255), (255, 0)]);
    holds!("u16", u16, u16, [(258, 258)]);
    holds!("u32", u32, u32, [(1, 1), (u32::MAX, u32::MAX)]);
    holds!("u64", u64, u64, [(1, 1), (256, 256), (u64::MAX, u64::MAX)]);
    holds!("u128", u128, u128, [(7, 7), (u128::MAX, u128::MAX)]);
    holds!("i8", i8, i8, [(-128, -128), (0, 0), (127, 127)]);
    holds!("i16", i16, i16, [(-2, -2)]);
    holds!("i32", i32, i32, [(-3, -3)]);
    holds!("i64", i64, i64, [(i64::MIN, i64::MIN), (-1, -1), (1, 1)]);
    holds!("i128", i128, i128, [(i128::MIN, i128::MIN)]);
    holds!("bool", bool, bool, [(false, true), (true, false)]);
    holds!("char", char, char, [('é', '\u{10FFFF}')]);
    holds!("unit", (), (), [((), ())]);
    holds!("f32", u8, f32, [(1, 0.1)]);
    holds!("f64", u8, f64, [(1, -0.0), (2, f64::INFINITY)]);
}

#[test]
fn a_multimap_becomes_pairs() {
    let here = Move::new("source.redb");
    write(&here.source, |txn| {
        let mut tags = txn.open_multimap_table(MultimapTableDefinition::<&str, u64>::new("tags")).unwrap();
        for (tag, id) in [("b", 300), ("a", 2), ("a", 1), ("a\0", 0)] {
            tags.insert(tag, id).unwrap();
        }
    });
    assert_eq!(tables(&here.ok("redb", &[])), [table("tags", "(str,u64)", "bytes", 4)]);
    let keys: Vec<_> = here.scan("tags").iter().map(|row| row.split('\t').next().unwrap().to_owned()).collect();
    assert_eq!(keys, [r#"["a",1]"#, r#"["a",2]"#, r#"["a\u0000",0]"#, r#"["b",300]"#]);
    assert_eq!(here.bench.ok("count", &["--table", "tags", "--prefix", r#"["a"]"#]), "2\n");
}

#[test]
fn a_type_without_a_form_is_named_or_left_out() {
    let here = Move::new("source.redb");
    write(&here.source, |txn| {
        put::<u8, &str>(txn, "plain", &[(1, "a")]);
        put::<(u8, &str), &str>(txn, "pairs", &[((1, "a"), "b")]);
        put::<u8, Option<u64>>(txn, "options", &[(1, None)]);
    });
    here.fails(2, "table \"options\": its values are of redb's type \"Option<u64>\"", "redb", &[]);
    here.fails(2, "table \"pairs\": its keys are of redb's type \"(u8,&str)\"", "redb", &["--table", "pairs"]);
    let report = here.ok("redb", &["--skip-unknown"]);
    assert_eq!(tables(&report), [table("plain", "u8", "msgpack", 1)]);
    let left: Vec<_> = report["left_out"].as_array().unwrap().iter().map(|table| table["table"].clone()).collect();
    assert_eq!(left, ["options", "pairs"]);
}

#[test]
fn what_cannot_be_read_is_told() {
    let here = Move::new("source.redb");
    write(&here.source, |txn| put::<u8, &str>(txn, "plain", &[(1, "a")]));
    let open = Database::open(&here.source).unwrap();
    here.fails(5, "nothing was imported", "redb", &[]);
    drop(open);
    let mut bytes = std::fs::read(&here.source).unwrap();
    bytes.truncate(5000);
    std::fs::write(&here.source, &bytes).unwrap();
    here.fails(5, "nothing was imported", "redb", &[]);
}

#[test]
fn many_rows_come_over_in_batches() {
    const ROWS: u64 = 100_000;
    let here = Move::new("source.redb");
    write(&here.source, |txn| {
        let mut table = txn.open_table(TableDefinition::<u64, &[u8]>::new("rows")).unwrap();
        (0..ROWS).for_each(|n| drop(table.insert(n, &[n.to_be_bytes()[7]; 200][..]).unwrap()));
    });
    assert_eq!(tables(&here.ok("redb", &[])), [table("rows", "u64", "bytes", ROWS)]);
    let snapshot = Store::open(&here.bench.file).unwrap().read().unwrap();
    let rows = snapshot.table(Table::<u64, [u8], Raw>::new("rows")).unwrap();
    for n in 0..ROWS {
        assert_eq!(rows.get(n).unwrap().unwrap(), &[n.to_be_bytes()[7]; 200]);
    }
}
