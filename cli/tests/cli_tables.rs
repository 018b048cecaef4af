//! `memstone create`, `count`, `rename`, `clear`, `drop`, `checkpoint`, `compact`, and `del` of ranges.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use serde_json::json;
use support::{Bench, json};

fn letters() -> Bench {
    let bench = Bench::new();
    for key in ["a", "ab", "b", "c"] {
        bench.ok("put", &[key, "1"]);
    }
    bench
}

#[test]
fn create_makes_stores_and_tables_and_keeps_what_is_there() {
    let bench = Bench::new();
    bench.ok("create", &["--page-size", "8192"]);
    assert_eq!(json(bench.ok("stat", &["--json"]).trim())["page_size"], json!(8192));
    bench.ok("create", &["--table", "pairs", "--keys", "(u32,str)", "--values", "bytes"]);
    bench.ok("put", &["--table", "pairs", "[7,\"a\"]", "\"v\""]);
    bench.ok("create", &["--table", "pairs", "--keys", "(u32,str)", "--values", "bytes"]);
    assert_eq!(bench.ok("get", &["--table", "pairs", "[7,\"a\"]"]), "\"v\"\n");
    bench.fails(2, "pairs", "create", &["--table", "pairs"]);
    bench.fails(2, "no type of keys", "create", &["--table", "t", "--keys", "u31"]);
    assert_eq!(bench.run("create", &["--keys", "u32"]).code, 2, "types without a table");
    assert_eq!(
        bench.ok("create", &["--json"]),
        format!("{}\n", json!({ "file": bench.file, "new": false, "table": null }))
    );
}

#[test]
fn count_counts_tables_and_ranges() {
    let bench = letters();
    assert_eq!(bench.ok("count", &[]), "4\n");
    assert_eq!(bench.ok("count", &["--prefix", "a"]), "2\n");
    assert_eq!(bench.ok("count", &["--from", "ab", "--to", "c"]), "2\n");
    assert_eq!(bench.ok("count", &["--json"]), "{\"table\":\"default\",\"entries\":4}\n");
    bench.fails(1, "no table", "count", &["--table", "none"]);
}

#[test]
fn del_takes_out_ranges() {
    let bench = letters();
    assert_eq!(bench.ok("del", &["--prefix", "a"]), "2\n");
    assert_eq!(bench.ok("del", &["--from", "c"]), "1\n");
    assert_eq!(bench.ok("del", &["--to", "a"]), "0\n");
    assert_eq!(bench.ok("scan", &[]), "b\t1\n");
    assert_eq!(bench.run("del", &[]).code, 2, "neither a key nor a range");
    assert_eq!(bench.run("del", &["b", "--prefix", "b"]).code, 2);
    assert_eq!(bench.ok("count", &[]), "1\n");
}

#[test]
fn tables_are_renamed_cleared_and_dropped() {
    let bench = letters();
    bench.ok("rename", &["letters"]);
    bench.fails(1, "no table", "rename", &["again"]);
    bench.ok("put", &["k", "1"]);
    bench.fails(2, "already", "rename", &["letters"]);
    assert_eq!(bench.ok("count", &["--table", "letters"]), "4\n");
    let cleared = json(bench.ok("clear", &["--table", "letters", "--json"]).trim());
    assert_eq!((&cleared["entries"], bench.ok("count", &["--table", "letters"]).as_str()), (&json!(4), "0\n"));
    bench.ok("drop", &["--table", "letters"]);
    bench.fails(1, "no table", "drop", &["--table", "letters"]);
    assert_eq!(bench.run("drop", &[]).code, 2, "no table is dropped by default");
    assert_eq!(bench.ok("count", &[]), "1\n");
}

#[test]
fn compact_gives_space_back_and_checkpoint_empties_the_log() {
    let bench = letters();
    let long = "x".repeat(4 << 20);
    bench.run_with_input("put", &["long", "-", "--string"], long.as_bytes());
    // Another process has it open, so that the file does not shrink by itself when the last one leaves.
    let store = memstone::Store::open(&bench.file).unwrap();
    let _snapshot = store.read().unwrap();
    bench.ok("del", &["long"]);
    let kept = json(bench.ok("compact", &["--json"]).trim());
    assert!(kept["after"].as_u64().unwrap() > 4 << 20, "a snapshot needs it: {kept}");
    drop((_snapshot, store));
    let told = json(bench.ok("compact", &["--json"]).trim());
    assert!(told["after"].as_u64().unwrap() < 1 << 20, "{told}");
    bench.ok("checkpoint", &[]);
    assert_eq!(bench.ok("count", &[]), "4\n");
    let none = Bench::new();
    none.fails(1, "no such store", "checkpoint", &[]);
    none.fails(1, "no such store", "compact", &[]);
}

#[test]
fn rows_with_the_same_value_are_found_and_taken_out() {
    let bench = Bench::new();
    for (key, value) in [("a", "1"), ("b", "[2]"), ("c", "1"), ("d", "1.0"), ("e", "[2]")] {
        bench.ok("put", &[key, value]);
    }
    assert_eq!(bench.ok("duplicates", &[]), "c\ta\ne\tb\n2 found\n");
    let lines: Vec<_> = bench.ok("duplicates", &["--json"]).lines().map(json).collect();
    assert_eq!(
        (&lines[0]["key"], &lines[0]["same_as"], &lines[2]["found"]),
        (&json("\"c\""), &json("\"a\""), &json("2"))
    );
    assert_eq!(bench.ok("count", &[]), "5\n", "finding changes nothing");
    assert_eq!(bench.ok("duplicates", &["--remove"]), "c\ta\ne\tb\n2 removed\n");
    assert_eq!(bench.ok("scan", &[]), "a\t1\nb\t[2]\nd\t1.0\n");
    assert_eq!(bench.ok("duplicates", &["--remove"]), "0 removed\n");
    bench.fails(1, "no table", "duplicates", &["--table", "none"]);
}
