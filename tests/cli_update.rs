//! `memstone update`: read, modify and write as one.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod cli_support;
use std::process::Child;

use cli_support::{Bench, json};

#[test]
fn a_program_changes_the_value() {
    let bench = Bench::new();
    bench.ok("update", &["sessions", r#".items += [{"id":"a"}]"#]);
    bench.ok("update", &["sessions", ".items += [{id: $id}]", "--arg", "id", "b\"'é"]);
    bench.ok("update", &["sessions", ".n = $n.x", "--argjson", "n", r#"{"x":[1]}"#]);
    assert_eq!(bench.ok("get", &["sessions"]), "{\"items\":[{\"id\":\"a\"},{\"id\":\"b\\\"'é\"}],\"n\":[1]}\n");
    let updated = json(&bench.ok("update", &["n", ". + 1", "--json"]));
    assert_eq!((&updated["key"], &updated["value"]), (&"n".into(), &1.into()));
    bench.ok("update", &["n", "-. - 1"]);
    assert_eq!(bench.ok("get", &["n"]), "-2\n");
}

#[test]
fn a_failed_program_changes_nothing() {
    let bench = Bench::new();
    bench.fails(2, "is wrong", "update", &["a", ".x +"]);
    bench.fails(2, "there is no filter nonsense", "update", &["a", "nonsense"]);
    bench.fails(2, "not JSON", "update", &["a", ".", "--argjson", "x", "{"]);
    assert!(!bench.file.exists());
    bench.ok("put", &["a", "[1]"]);
    bench.fails(2, "gave no value", "update", &["a", "empty"]);
    bench.fails(2, "gave several values", "update", &["a", ".[0], 2"]);
    bench.fails(2, "the jq program failed", "update", &["a", ".x"]);
    assert_eq!(bench.ok("get", &["a"]), "[1]\n");
    let fails = bench.run("update", &["new", "empty", "--table", "other"]);
    assert_eq!(fails.code, 2);
    assert_eq!(bench.ok("tables", &[]).lines().count(), 2, "not even the table was created");
}

#[test]
fn what_a_program_keeps_and_json_has_not_stays_as_it_is() {
    let bench = Bench::new();
    // {"id": 16 bytes, "n": 1, "score": NaN, "stars": {1: 0.5 of 32 bits}, "big": u128}
    let value = "85a26964c410ff5c7800000000ffff80c328090a0d00a16e01a573636f7265cb7ff8000000000001\
                 a573746172738101ca3f000000a3626967c41080000000000000000000000000000001";
    bench.ok("put", &["a", "--hex", value]);
    let commit = json(&bench.ok("update", &["a", ".", "--json"]))["commit"].clone();
    assert_eq!(bench.ok("get", &["a", "--hex"]).trim(), value);
    assert_eq!(json(&bench.ok("update", &["a", ".n = .n", "--json"]))["commit"], commit, "and nothing is written");
    bench.ok("update", &["a", ".n += 1"]);
    let changed = value.replace("a16e01", "a16e02");
    assert_eq!(bench.ok("get", &["a", "--hex"]).trim(), changed);
    for program in [".id |= .[1:]", ".n = tojson", ".stars[1] = 2", ".score += 1", ".n = \"\\(.id)\"", ".n = nan"] {
        bench.fails(2, "the jq program gave", "update", &["a", program]);
    }
    assert_eq!(bench.ok("get", &["a", "--hex"]).trim(), changed);
    let store = memstone::Store::open(&bench.file).unwrap();
    let bytes = |tx: &memstone::WriteTxn| tx.raw("bytes")?.put(b"k", b"\xFF");
    store.write(bytes).unwrap();
    drop(store);
    bench.ok("update", &["--table", "bytes", "k", "."]);
    assert_eq!(bench.ok("get", &["--table", "bytes", "k", "--hex"]), "ff\n");
    bench.fails(2, "not UTF-8", "update", &["--table", "bytes", "k", "tostring"]);
}

#[test]
fn numbers_of_a_program_are_exact() {
    let bench = Bench::new();
    let numbers = "[5e-324,1.7976931348623157e308,0.1,2.2250738585072014e-308,-0.0,1e23,18446744073709551615]";
    bench.ok("update", &["a", ".n = $n", "--argjson", "n", numbers]);
    let value = bench.ok("get", &["a", "--hex"]);
    bench.ok("update", &["a", ".n |= map(. * 1)"]);
    assert_eq!(bench.ok("get", &["a", "--hex"]), value);
    bench.fails(2, "does not fit 64 bits", "update", &["a", ".n[6] += 1"]);
    bench.fails(2, "does not fit 64 bits", "update", &["a", ".n = $n", "--argjson", "n", "-9223372036854775809"]);
}

fn all_succeed(children: Vec<Child>) {
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn two_clients_of_ten_appends_make_twenty() {
    let bench = Bench::new();
    for round in 0..10 {
        let append = |name| {
            let program = format!(".items += [\"{name}{round}\"]");
            bench.command("update", &["list", &program]).spawn().unwrap()
        };
        all_succeed(vec![append("a"), append("b")]);
    }
    let items = json(&bench.ok("get", &["list"]));
    let mut items: Vec<_> = items["items"].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
    items.sort_unstable();
    items.dedup();
    assert_eq!(items.len(), 20);
}

#[test]
fn a_hundred_increments_beside_five_readers_make_a_hundred() {
    let bench = Bench::new();
    bench.ok("put", &["n", "0"]);
    for _ in 0..5 {
        let writers = (0..20).map(|_| bench.command("update", &["n", ". + 1"]).spawn().unwrap());
        let readers = (0..5).map(|_| bench.command("get", &["n"]).stdout(std::process::Stdio::null()).spawn().unwrap());
        all_succeed(writers.chain(readers).collect());
    }
    assert_eq!(bench.ok("get", &["n"]), "100\n");
}
