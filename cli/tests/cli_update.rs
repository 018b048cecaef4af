//! `memstone update`: read, modify and write as one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Bench, json};

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
    let value = |n: u8| {
        let id = b"\x85\xA2id\xC4\x10\xFF\\x\0\0\0\0\xFF\xFF\x80\xC3\x28\x09\x0A\x0D\0\xA1n";
        let rest = b"\xA5score\xCB\x7F\xF8\0\0\0\0\0\x01\xA5stars\x81\x01\xCA\x3F\0\0\0";
        let big = b"\xA3big\xC4\x10\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
        [&id[..], &[n], rest, big].concat()
    };
    bench.store("a", &value(1));
    let commit = json(&bench.ok("update", &["a", ".", "--json"]))["commit"].clone();
    assert!(bench.stored("default", "a") == value(1));
    assert_eq!(json(&bench.ok("update", &["a", ".n = .n", "--json"]))["commit"], commit, "and nothing is written");
    bench.ok("update", &["a", ".n += 1"]);
    assert!(bench.stored("default", "a") == value(2));
    for program in [".id |= .[1:]", ".n = tojson", ".stars[1] = 2", ".score += 1", ".n = \"\\(.id)\"", ".n = nan"] {
        bench.fails(2, "the jq program gave", "update", &["a", program]);
    }
    assert!(bench.stored("default", "a") == value(2));
    let store = memstone::Store::open(&bench.file).unwrap();
    let bytes = |tx: &memstone::WriteTxn| tx.raw("bytes")?.put(b"k", b"\xFF");
    store.write(bytes).unwrap();
    drop(store);
    bench.ok("update", &["--table", "bytes", "k", "."]);
    assert_eq!(bench.stored("bytes", "k"), b"\xFF");
    bench.fails(2, "not UTF-8", "update", &["--table", "bytes", "k", "tostring"]);
}

#[test]
fn numbers_of_a_program_are_exact() {
    let bench = Bench::new();
    let numbers = "[5e-324,1.7976931348623157e308,0.1,2.2250738585072014e-308,-0.0,1e23,18446744073709551615]";
    bench.ok("update", &["a", ".n = $n", "--argjson", "n", numbers]);
    let value = b"\x81\xA1n\x97\xCB\0\0\0\0\0\0\0\x01\xCB\x7F\xEF\xFF\xFF\xFF\xFF\xFF\xFF\xCB\x3F\xB9\x99\x99\x99\x99\x99\x9A\
                  \xCB\0\x10\0\0\0\0\0\0\xCB\x80\0\0\0\0\0\0\0\xCB\x44\xB5\x2D\x02\xC7\xE1\x4A\xF6\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF";
    assert_eq!(bench.stored("default", "a"), value);
    bench.ok("update", &["a", ".n |= map(. * 1)"]);
    assert_eq!(bench.stored("default", "a"), value);
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
fn a_hundred_increments_beside_five_readers_make_a_hundred_and_never_go_back() {
    let bench = Bench::new();
    bench.ok("put", &["n", "0"]);
    let read = || bench.ok("get", &["n"]).trim().parse::<u32>().unwrap();
    let writers_left = AtomicUsize::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Also a failed one is done: the readers end, and the failure is told.
                let done = Done(&writers_left);
                (0..25).for_each(|_| drop(bench.ok("update", &["n", ". + 1"])));
                drop(done);
            });
        }
        for _ in 0..5 {
            scope.spawn(|| {
                let mut last = 0;
                // Once more when all is written.
                let mut is_last = false;
                while !is_last {
                    is_last = writers_left.load(Ordering::SeqCst) == 0;
                    let next = read();
                    assert!(next >= last, "{last}, and then {next}");
                    last = next;
                }
            });
        }
    });
    assert_eq!(read(), 100);
}

struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
