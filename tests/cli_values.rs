//! `memstone put`, `get` and `del`.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod cli_support;
use cli_support::{Bench, json};
use memstone::{Blob, Store, Table};

#[test]
fn what_is_put_can_be_got() {
    let bench = Bench::new();
    assert_eq!(bench.ok("put", &["a", r#"{"b": [1, -2.5, null, true], "é": "ü\n"}"#]), "");
    assert_eq!(bench.ok("get", &["a"]), "{\"b\":[1,-2.5,null,true],\"é\":\"ü\\n\"}\n");
    bench.ok("put", &["a", "18446744073709551615"]);
    assert_eq!(bench.ok("get", &["a"]), "18446744073709551615\n");
    bench.ok("put", &["a", "-5"]);
    assert_eq!(bench.ok("get", &["a"]), "-5\n");
}

#[test]
fn keys_and_tables_may_be_any_text() {
    let bench = Bench::new();
    for key in ["", "ключ", "a b\tc\n", "-", "-1", "{}", "🦀"] {
        bench.ok("put", &[key, "1"]);
        assert_eq!(bench.ok("get", &[key]), "1\n", "{key:?}");
    }
    bench.ok("put", &["--table", "заметки", "a", "2"]);
    assert_eq!(bench.ok("get", &["a", "--table", "заметки"]), "2\n");
    bench.fails(1, "there is no key \"a\" in table \"default\"", "get", &["a"]);
}

#[test]
fn json_output_names_key_and_commit() {
    let bench = Bench::new();
    let first = json(&bench.ok("put", &["a", "1", "--json"]));
    let second = json(&bench.ok("put", &["a", "[2]", "--json"]));
    assert_eq!(first["key"], "a");
    assert!(second["commit"].as_u64().unwrap() > first["commit"].as_u64().unwrap());
    assert_eq!(json(&bench.ok("get", &["a", "--json"])), serde_json::json!({ "key": "a", "value": [2] }));
    let gone = json(&bench.ok("del", &["a", "--json"]));
    assert!(gone["commit"].as_u64().unwrap() > second["commit"].as_u64().unwrap());
}

#[test]
fn strings_and_raw_output() {
    let bench = Bench::new();
    bench.ok("put", &["a", "--string", "no \"json\""]);
    assert_eq!(bench.ok("get", &["a"]), "\"no \\\"json\\\"\"\n");
    assert_eq!(bench.ok("get", &["a", "--raw"]), "no \"json\"");
    bench.ok("put", &["n", "[1]"]);
    assert_eq!(bench.ok("get", &["n", "--raw"]), "[1]\n");
}

#[test]
fn standard_input_is_a_value() {
    let bench = Bench::new();
    let put = bench.run_with_input("put", &["a", "-"], b"{\"x\":\n 1}\n");
    assert_eq!((put.code, put.err.as_str()), (0, ""));
    assert_eq!(bench.ok("get", &["a"]), "{\"x\":1}\n");
    bench.run_with_input("put", &["a", "-", "--string"], "line\nü\n".as_bytes());
    assert_eq!(bench.ok("get", &["a", "--raw"]), "line\nü\n");
    assert_eq!(bench.run_with_input("put", &["a", "-"], b"").code, 2);
    assert_eq!(bench.run_with_input("put", &["a", "-", "--string"], b"\xFF").code, 2);
    assert_eq!(bench.ok("get", &["a", "--raw"]), "line\nü\n", "what failed changed nothing");
}

#[test]
fn wrong_json_is_a_usage_error_that_offers_string() {
    let bench = Bench::new();
    bench.fails(2, "to store text as it is, add --string", "put", &["a", "{b"]);
    assert!(!bench.file.exists(), "and creates no store");
}

#[test]
fn del_takes_out_once() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    assert_eq!(bench.ok("del", &["a"]), "");
    bench.fails(1, "there is no key \"a\"", "del", &["a"]);
    bench.fails(1, "there is no key \"a\"", "get", &["a"]);
    bench.fails(1, "there is no table \"other\" (the store has tables: default)", "del", &["a", "--table", "other"]);
}

#[test]
fn tables_of_other_types() {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    store
        .write(|tx| {
            tx.table(Table::<(u32, &str), Vec<u8>>::new("pairs"))?.put((7, "x"), vec![1, 2])?;
            tx.table(Table::<&[u8], Blob>::new("raw"))?.put(b"k\0\xFF", b"v\xFF")
        })
        .unwrap();
    drop(store);
    assert_eq!(bench.ok("get", &["--table", "pairs", r#"[7,"x"]"#]), "[1,2]\n");
    bench.ok("put", &["--table", "pairs", r#"[8,"y"]"#, "[3]"]);
    bench.ok("del", &["--table", "pairs", r#"[7,"x"]"#]);
    bench.fails(2, "\"7\" is no key of type (u32,str)", "get", &["--table", "pairs", "7"]);
    assert_eq!(bench.ok("get", &["--table", "raw", r"k\x00\xff"]), "\"v\\\\xff\"\n");
    bench.ok("put", &["--table", "raw", "text", "--string", "as it is"]);
    assert_eq!(bench.ok("get", &["--table", "raw", "text", "--raw"]), "as it is");
    bench.fails(2, "this table holds bytes", "put", &["--table", "raw", "text", "1"]);

    let store = Store::open(&bench.file).unwrap();
    let snap = store.read().unwrap();
    let pairs = snap.table(Table::<(u32, &str), Vec<u8>>::new("pairs")).unwrap();
    assert_eq!(pairs.first().unwrap(), Some(((8, "y".to_owned()), vec![3])));
}
