//! `memstone put`, `get` and `del`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::cmp::Reverse;

use memstone::{Json, Raw, Store, Table};
use support::{Bench, json};

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
    bench.fails(2, "leave out --raw", "get", &["n", "--raw"]);
    let file = bench.dir.path().join("value");
    let file = file.to_str().unwrap();
    assert_eq!(bench.ok("get", &["a", "--raw", "--file", file]), "");
    assert_eq!(std::fs::read(file).unwrap(), b"no \"json\"");
    bench.ok("put", &["copy", "--raw", "--file", file]);
    assert_eq!(bench.stored("default", "copy"), bench.stored("default", "a"));
    bench.ok("get", &["n", "--file", file]);
    bench.ok("put", &["copy", "--file", file]);
    assert_eq!(bench.stored("default", "copy"), bench.stored("default", "n"));
    bench.fails(2, "No such file", "put", &["copy", "--file", "/no/such/file"]);
    bench.fails(2, "cannot be used with", "put", &["copy", "1", "--file", file]);
    bench.fails(2, "required", "put", &["copy"]);
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
            tx.table(Table::<&[u8], [u8], Raw>::new("raw"))?.put(b"k\0\xFF", b"v\xFF")
        })
        .unwrap();
    drop(store);
    assert_eq!(bench.ok("get", &["--table", "pairs", r#"[7,"x"]"#]), "[1,2]\n");
    bench.ok("put", &["--table", "pairs", r#"[8,"y"]"#, "[3]"]);
    bench.ok("del", &["--table", "pairs", r#"[7,"x"]"#]);
    bench.fails(2, "\"7\" is no key of type (u32,str)", "get", &["--table", "pairs", "7"]);
    assert_eq!(bench.ok("get", &["--table", "raw", r"k\x00\xff"]), "{\"$bytes\":\"76ff\"}\n");
    bench.ok("put", &["--table", "raw", "text", "--string", "as it is"]);
    assert_eq!(bench.ok("get", &["--table", "raw", "text", "--raw"]), "as it is");
    bench.fails(2, "this table holds bytes", "put", &["--table", "raw", "text", "1"]);

    let store = Store::open(&bench.file).unwrap();
    let snap = store.read().unwrap();
    let pairs = snap.table(Table::<(u32, &str), Vec<u8>>::new("pairs")).unwrap();
    assert_eq!(pairs.first().unwrap(), Some(((8, "y".to_owned()), vec![3])));
}

#[test]
fn tables_of_other_codecs() {
    let bench = Bench::new();
    bench.ok("create", &["--table", "notes", "--keys", "reverse<f64>", "--values", "json"]);
    bench.ok("put", &["--table", "notes", "-1.5", r#"{"b": [1], "a": "x"}"#]);
    bench.ok("put", &["--table", "notes", "2", "--string", "text"]);
    bench.ok("update", &["--table", "notes", "-1.5", ".b += [2]"]);
    assert_eq!(bench.ok("get", &["--table", "notes", "-1.5"]), "{\"b\":[1,2],\"a\":\"x\"}\n");
    assert_eq!(bench.ok("get", &["--table", "notes", "2", "--raw"]), "text");
    bench.ok("append", &["--table", "notes", "7", "1"]);
    assert_eq!(bench.ok("scan", &["--table", "notes"]), "7.0\t[1]\n2.0\t\"text\"\n-1.5\t{\"b\":[1,2],\"a\":\"x\"}\n");
    let store = Store::open(&bench.file).unwrap();
    let notes: Table<Reverse<f64>, serde_json::Value, Json> = Table::new("notes");
    assert_eq!(store.read().unwrap().table(notes).unwrap().get(Reverse(2.0)).unwrap().unwrap(), "text");
}

#[test]
fn floats_and_integers_go_in_and_come_out_exactly() {
    let bench = Bench::new();
    // Of 0.1 and its neighbours, and of numbers that a hasty parser gets wrong by one unit.
    let floats: [f64; 9] =
        [0.1, 1.0 / 3.0, 5e-324, 2.225_073_858_507_201e-308, 1e23, 8.41e21, 9007199254740993.5, 0.039519742, -0.0];
    for float in floats.iter().flat_map(|float| [float.next_down(), *float, float.next_up()]) {
        bench.ok("put", &["f", &format!("[{float:?}]")]);
        let stored = [&[0x91, 0xCB][..], &float.to_bits().to_be_bytes()].concat();
        assert_eq!(bench.stored("default", "f"), stored, "{float:?}");
        let printed = bench.ok("get", &["f"]);
        bench.ok("put", &["f", printed.trim()]);
        assert_eq!(bench.stored("default", "f"), stored, "{float:?}");
    }
    for integer in ["18446744073709551615", "-9223372036854775808", "9007199254740993"] {
        bench.ok("put", &["n", integer]);
        assert_eq!(bench.ok("get", &["n"]).trim(), integer);
    }
    for integer in ["18446744073709551616", "[-9223372036854775809]"] {
        bench.fails(2, "does not fit 64 bits", "put", &["n", integer]);
    }
}

#[test]
fn what_json_has_not_is_printed_and_put_back() {
    let bench = Bench::new();
    // {"id": bytes, 7: extension, "nan": NaN, "unsound": text that is no UTF-8}
    let bytes = b"\x84\xA2id\xC4\x02\xFF\0\x07\xD4\x05\x09\xA3nan\xCB\x7F\xF8\0\0\0\0\0\0\xA7unsound\xA1\xFF";
    let value = "84a26964c402ff0007d40509a36e616ecb7ff8000000000000a7756e736f756e64a1ff";
    bench.store("a", bytes);
    let printed = bench.ok("get", &["a"]);
    let shown = r#"{"$map":[["id",{"$bytes":"ff00"}],[7,{"$msgpack":"d40509"}],["nan",{"$msgpack":"cb7ff8000000000000"}],["unsound",{"$msgpack":"a1ff"}]]}"#;
    assert_eq!(printed.trim(), shown);
    bench.ok("put", &["b", printed.trim()]);
    assert_eq!(bench.stored("default", "b"), bytes);
    assert_eq!(bench.ok("get", &["b", "--hex"]).trim(), value);
    bench.ok("put", &["c", "--hex", value]);
    assert_eq!(bench.stored("default", "c"), bytes);
    assert_eq!(json(&bench.ok("get", &["b", "--hex", "--json"])), serde_json::json!({ "key": "b", "hex": value }));
    for (wrong, part) in [("c1", "never used"), ("c", "not hex digits"), ("c0c0", "bytes follow")] {
        bench.fails(2, part, "put", &["a", "--hex", wrong]);
    }
    bench.fails(2, "no string of hex digits", "put", &["a", r#"{"$bytes":"0"}"#]);
    assert_eq!(bench.run("put", &["a", "--hex", "--string", "00"]).code, 2);
}

#[test]
fn any_bytes_can_be_read_out_and_put_back() {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    let all: Vec<u8> = (0..=255).collect();
    let text = br"\xff".to_vec();
    store
        .write(|tx| {
            let table = tx.raw("raw")?;
            table.put(b"all", &all)?;
            table.put(b"text", &text)
        })
        .unwrap();
    drop(store);
    let place = ["--table", "raw"];
    let run = |verb, rest: &[&str]| bench.ok(verb, &[&place[..], rest].concat());
    assert_eq!(run("get", &["text"]), "\"\\\\xff\"\n");
    for key in ["all", "text"] {
        let printed = run("get", &[key]);
        run("put", &["printed", printed.trim()]);
        run("put", &["hex", "--hex", run("get", &[key, "--hex"]).trim()]);
        let raw = bench.command("get", &[key, "--raw", "--table", "raw"]).output().unwrap().stdout;
        let put = bench.run_with_input("put", &["raw", "-", "--string", "--table", "raw"], &raw);
        assert_eq!(put.code, 0, "{put:?}");
        for copy in ["printed", "hex", "raw"] {
            assert_eq!(run("get", &[copy, "--hex"]), run("get", &[key, "--hex"]), "{key} {copy}");
        }
    }
}
