//! `memstone snapshot`, and `--at`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::process::Command;

use memstone::{Error, Store};
use support::{Bench, Outcome, json};

/// `memstone snapshot VERB FILE REST…`.
fn snapshot(bench: &Bench, verb: &str, rest: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memstone"));
    command.args(["snapshot", verb]).arg(&bench.file).args(rest);
    let out = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { code: out.status.code().unwrap(), out: text(out.stdout), err: text(out.stderr) }
}

fn ok(bench: &Bench, verb: &str, rest: &[&str]) -> String {
    let outcome = snapshot(bench, verb, rest);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{verb} {rest:?}: {outcome:?}");
    outcome.out
}

#[test]
fn a_state_is_kept_compared_and_brought_back() {
    let bench = Bench::new();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        bench.ok("put", &[key, value]);
    }
    let made = json(&ok(&bench, "create", &["before", "--json"]));
    assert_eq!((made["name"].as_str(), made["kept"].as_u64()), (Some("before"), Some(0)), "{made}");
    assert_eq!(made["lsn"], json(&bench.ok("stat", &["--json"]))["last_commit"]);
    assert!(made["time"].as_str().unwrap().ends_with('Z'));
    bench.ok("put", &["b", "20"]);
    bench.ok("del", &["c"]);
    bench.ok("put", &["d", "4"]);
    bench.ok("put", &["x", "1", "--table", "more"]);

    let told = ok(&bench, "diff", &["before"]);
    assert_eq!(told, "default: changed\n- b\t2\n+ b\t20\n- c\t3\n+ d\t4\nmore: created\n+ x\t1\n");
    assert_eq!(
        ok(&bench, "diff", &["before", "--count"]),
        "default: changed, 3 rows differ\nmore: created, 1 rows differ\n"
    );
    let lines: Vec<_> = ok(&bench, "diff", &["before", "--json"]).lines().map(json).collect();
    assert_eq!(lines[1], serde_json::json!({ "table": "default", "key": "b", "before": 2, "after": 20 }));
    assert_eq!(ok(&bench, "diff", &["before", "--to", "before"]), "");

    assert_eq!(bench.ok("get", &["b", "--at", "before"]), "2\n");
    assert_eq!(bench.ok("scan", &["--at", "before"]), "a\t1\nb\t2\nc\t3\n");
    assert!(!bench.ok("tables", &["--at", "before"]).contains("more"));
    let copy = bench.dir.path().join("copy.mst");
    bench.ok("backup", &[copy.to_str().unwrap(), "--at", "before"]);
    let copied = Store::open(&copy).unwrap().read().unwrap();
    assert_eq!(copied.tables().unwrap()[0].entries, 3);

    ok(&bench, "rollback", &["before"]);
    assert_eq!(bench.ok("scan", &[]), "a\t1\nb\t2\nc\t3\n");
    assert_eq!(ok(&bench, "diff", &["before"]), "");
    bench.ok("check", &[]);
    ok(&bench, "delete", &["before"]);
    assert_eq!(ok(&bench, "list", &[]), "SNAPSHOT  TIME  LSN  KEPT\n");
}

#[test]
fn names_are_listed_with_the_space_that_they_keep() {
    let bench = Bench::new();
    bench.ok("put", &["a", &format!("{:?}", "x".repeat(50_000))]);
    ok(&bench, "create", &["first one"]);
    bench.ok("del", &["a"]);
    ok(&bench, "create", &["second"]);
    let list = ok(&bench, "list", &[]);
    let lines: Vec<_> = list.lines().collect();
    assert!(
        lines[0].starts_with("SNAPSHOT") && lines[1].starts_with("\"first one\"") && lines[2].starts_with("second")
    );
    let stat = json(&bench.ok("stat", &["--json"]));
    let kept = |at: usize| stat["snapshots"][at]["kept"].as_u64().unwrap();
    assert!(kept(0) >= 50_000 && kept(1) < 50_000, "{stat}");
    let lines: Vec<_> = ok(&bench, "list", &["--json"]).lines().map(json).collect();
    assert_eq!(lines[0], stat["snapshots"][0]);
}

#[test]
fn what_cannot_be_is_told() {
    let bench = Bench::new();
    assert_eq!(snapshot(&bench, "create", &["n"]).code, 1, "no store");
    bench.ok("put", &["a", "1"]);
    ok(&bench, "create", &["n"]);
    for (code, part, outcome) in [
        (2, "already", snapshot(&bench, "create", &["n"])),
        (2, "empty", snapshot(&bench, "create", &[""])),
        (1, "no snapshot named \"m\"", snapshot(&bench, "delete", &["m"])),
        (1, "no snapshot named \"m\"", snapshot(&bench, "rollback", &["m"])),
        (1, "no snapshot named \"m\"", snapshot(&bench, "diff", &["m"])),
        (1, "no snapshot named \"m\"", snapshot(&bench, "diff", &["n", "--to", "m"])),
        (1, "no snapshot named \"m\"", bench.run("get", &["a", "--at", "m"])),
    ] {
        assert!(outcome.code == code && outcome.err.contains(part), "{outcome:?}");
    }
}

#[test]
fn processes_that_have_the_store_open_see_names_come_and_go() {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    let put = |n: u8| store.write(|tx| (0..100_u8).try_for_each(|key| tx.raw("t")?.put(&[key], &[n; 500]))).unwrap();
    put(1);
    ok(&bench, "create", &["one"]);
    let all = |snapshot: &memstone::Snapshot, n: u8| {
        let table = snapshot.raw("t").unwrap();
        (0..100_u8).all(|key| *table.get(&[key]).unwrap().unwrap() == [n; 500])
    };
    for n in 2..6 {
        put(n);
        store.checkpoint().unwrap();
    }
    let held = store.snapshot("one").unwrap();
    ok(&bench, "delete", &["one"]);
    for n in 6..10 {
        put(n);
        store.checkpoint().unwrap();
    }
    assert!(all(&held, 1) && all(&store.read().unwrap(), 9));
    assert!(matches!(store.snapshot("one"), Err(Error::NoSnapshot { .. })));
}

#[test]
fn what_the_page_on_operations_says_can_be_done() {
    let text = include_str!("../../docs/OPERATIONS.md");
    let part = text.split("\n## Snapshots by name\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = part.split("```").nth(1).unwrap().lines().skip(1).collect();
    assert_eq!(commands.len(), 6, "{commands:?}");
    let bench = Bench::new();
    let dir = bench.dir.path();
    bench.ok("put", &["a", "1"]);
    std::fs::rename(&bench.file, dir.join("memory.mst")).unwrap();
    let binaries = std::path::Path::new(env!("CARGO_BIN_EXE_memstone")).parent().unwrap();
    let path = std::env::join_paths([binaries, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    for command in commands {
        let out = Command::new("sh").args(["-c", command]).current_dir(dir).env("PATH", &path).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{command}: {out:?}");
    }
}
