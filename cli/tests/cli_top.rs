//! `memstone top` and `memstone stat --prometheus`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use memstone::Store;
use support::{Bench, json, outcome};

#[test]
fn each_look_is_a_block_or_an_object() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let store = Store::open(&bench.file).unwrap();
    let quick = ["--interval", "0.05", "--count", "2"];
    let text = bench.ok("top", &quick);
    assert_eq!((text.matches("commits per flush").count(), text.matches("\n\n").count()), (2, 1), "{text}");
    assert!(!text.contains('\x1b') && text.contains(&std::process::id().to_string()), "{text}");
    let lines = bench.ok("top", &[&quick[..], &["--json"]].concat());
    let looks: Vec<_> = lines.lines().map(json).collect();
    assert_eq!(looks.len(), 2);
    for look in &looks {
        assert_eq!(look["stats"]["last_commit"], store.last_commit().unwrap());
        assert_eq!(
            (&look["rates"]["commits"], look["rates"]["interval_seconds"].is_f64()),
            (&0.0.into(), true),
            "{look}"
        );
        assert_eq!(look["locks"]["processes"][0]["process"]["pid"], std::process::id());
    }
}

#[test]
fn what_is_committed_meanwhile_is_counted() {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    store.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    let mut command = bench.command("top", &["--json", "--interval", "0.05"]);
    let mut top = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let mut commits = 0.0;
    // It has looked once; what is committed from now on is seen.
    lines.next().unwrap().unwrap();
    store.write(|tx| tx.raw("t")?.put(b"k", b"w")).unwrap();
    while commits == 0.0 {
        commits = json(&lines.next().unwrap().unwrap())["rates"]["commits"].as_f64().unwrap();
    }
    // Ctrl-C is its orderly end.
    assert!(Command::new("kill").args(["-INT", &top.id().to_string()]).status().unwrap().success());
    assert!(top.wait().unwrap().success());
}

#[test]
fn wrong_usage_and_closed_pipes() {
    let bench = Bench::new();
    bench.fails(1, "no such store", "top", &[]);
    bench.ok("put", &["a", "1"]);
    for wrong in [&["--interval", "0"][..], &["--interval", "x"], &["--count", "-1"]] {
        assert_eq!(bench.run("top", wrong).code, 2, "{wrong:?}");
    }
    let script =
        format!("(\"{}\" top \"$1\" --interval 0.05; echo code $? >&2) | head -n 1", env!("CARGO_BIN_EXE_memstone"));
    let told = outcome(Command::new("sh").args(["-c", &script, "sh"]).arg(&bench.file));
    assert_eq!((told.err.as_str(), told.out.lines().count()), ("code 0\n", 1), "{told:?}");
}

#[test]
fn figures_for_prometheus() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let text = bench.ok("stat", &["--prometheus"]);
    let store = format!("store=\"{}\"", bench.file.canonicalize().unwrap().display());
    assert!(
        text.contains(&format!(
            "# TYPE memstone_table_entries gauge\nmemstone_table_entries{{{store},table=\"default\"}} 1\n"
        )),
        "{text}"
    );
    bench.fails(2, "leave --json out", "stat", &["--prometheus", "--json"]);
}
