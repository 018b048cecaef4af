//! Exit codes, and what the command must not do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::fs;
use std::process::Command;

use support::{Bench, json, outcome};

const READERS: [(&str, &[&str]); 6] =
    [("get", &["a"]), ("scan", &[]), ("tables", &[]), ("stat", &[]), ("locks", &[]), ("watch", &["--count", "0"])];

#[test]
fn a_verb_that_only_reads_creates_nothing() {
    let bench = Bench::new();
    for (verb, arguments) in READERS {
        bench.fails(1, "no such store", verb, arguments);
    }
    bench.fails(1, "no such store", "del", &["a"]);
    assert_eq!(fs::read_dir(bench.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_verb_that_only_reads_does_not_change_the_file() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let before = fs::read(&bench.file).unwrap();
    for (verb, arguments) in READERS {
        bench.ok(verb, arguments);
    }
    assert!(fs::read(&bench.file).unwrap() == before);
}

#[test]
fn a_foreign_file_is_left_alone() {
    let bench = Bench::new();
    fs::write(&bench.file, "a text of mine\n").unwrap();
    bench.fails(5, "not a memstone store", "put", &["a", "1"]);
    bench.fails(5, "not a memstone store", "get", &["a"]);
    assert_eq!(fs::read(&bench.file).unwrap(), b"a text of mine\n");
}

#[test]
fn damage_is_told_from_all_else() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let mut bytes = fs::read(&bench.file).unwrap();
    // Both root slots, behind their magic numbers.
    for (offset, byte) in bytes.iter_mut().enumerate().take(8192) {
        if offset % 4096 >= 8 {
            *byte ^= 0x55;
        }
    }
    fs::write(&bench.file, &bytes).unwrap();
    bench.fails(4, "is damaged", "get", &["a"]);
    bench.fails(4, "is damaged", "put", &["a", "1"]);
    let error = json(&bench.run("get", &["a", "--json"]).err);
    assert_eq!((&error["error"]["kind"], &error["error"]["code"]), (&"corrupt".into(), &4.into()));
    assert!(fs::read(&bench.file).unwrap() == bytes, "and left as it is");
}

#[test]
fn wrong_usage() {
    let bench = Bench::new();
    for (verb, arguments) in [
        ("get", &[] as &[&str]),
        ("put", &["a"]),
        ("nothing-such", &[]),
        ("put", &["a", "1", "--timeout", "-1"]),
        ("put", &["a", "1", "--timeout", "x"]),
        ("get", &["a", "--raw", "--json"]),
        ("demo", &["--processes", "1"]),
    ] {
        assert_eq!(bench.run(verb, arguments).code, 2, "{verb} {arguments:?}");
    }
    let long = "k".repeat(memstone::MAX_KEY_SIZE + 1);
    bench.fails(2, "larger than the limit", "put", &[&long, "1"]);
}

#[test]
fn help_tells_the_exit_codes() {
    let help = outcome(Command::new(env!("CARGO_BIN_EXE_memstone")).arg("--help"));
    assert_eq!(help.code, 0);
    for verb in [
        "put",
        "get",
        "del",
        "scan",
        "update",
        "tables",
        "stat",
        "locks",
        "watch",
        "backup",
        "backups",
        "restore",
        "with-lock",
        "demo",
    ] {
        assert!(help.out.contains(&format!("\n  {verb} ")), "{verb}");
    }
    assert!(help.out.contains("3  busy"));
    assert!(!help.out.contains("demo-worker"));
}

#[test]
fn debug_goes_to_standard_error() {
    let bench = Bench::new();
    let put = bench.run("put", &["a", "1", "--debug"]);
    assert_eq!((put.code, put.out.as_str()), (0, ""));
    assert_eq!(bench.run("get", &["a", "--debug"]).out, "1\n");
}
