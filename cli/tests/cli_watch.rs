//! `memstone watch` and `stat`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use support::{Bench, json};

#[test]
fn commits_of_other_processes_are_seen_as_they_land() {
    let bench = Bench::new();
    let first = json(&bench.ok("put", &["a", "1", "--json"]))["commit"].as_u64().unwrap();
    let from = first.to_string();
    let watch = |arguments: &[&str]| {
        let mut child = bench.command("watch", arguments).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, out.lines())
    };
    let (mut child, lines) = watch(&["--json", "--after", &from]);
    let mut lines = lines.map(|line| json(&line.unwrap()));
    // A checkpoint may have a line of its own.
    let mut line_of = |commit: u64| lines.find(|line| line["commit"].as_u64().unwrap() >= commit).unwrap();
    // Lines come at once, not when the watcher ends.
    let second = json(&bench.ok("put", &["b", "1", "--table", "other", "--json"]))["commit"].as_u64().unwrap();
    assert!(line_of(second)["time"].as_str().unwrap().ends_with('Z'));
    let third = json(&bench.ok("del", &["a", "--json"]))["commit"].as_u64().unwrap();
    let gone = line_of(third);
    assert_eq!(
        (&gone["table"], &gone["change"], &gone["key"]),
        (&json("\"default\""), &json("\"deleted\""), &json("\"a\""))
    );
    child.kill().unwrap();
    child.wait().unwrap();

    let (mut child, mut lines) = watch(&["--count", "1", "--after", &from]);
    // What came before it began, commit by commit.
    let line = lines.next().unwrap().unwrap();
    assert!(line.ends_with(&format!(" {second} other created")), "{line}");
    assert!(child.wait().unwrap().success());
    let (mut child, lines) = watch(&["--count", "2", "--commits", "--after", &from]);
    let commits: Vec<_> = lines.map(|line| line.unwrap().split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(commits, [second.to_string(), third.to_string()]);
    assert!(child.wait().unwrap().success());
}

#[test]
fn each_change_is_named_by_table_and_key() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let mut child = bench.command("watch", &["--values"]).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || out.lines().try_for_each(|line| send.send(line.unwrap())));
    // Until it watches.
    let first = loop {
        bench.ok("put", &["probe", "1"]);
        bench.ok("del", &["probe"]);
        if let Ok(line) = lines.recv_timeout(std::time::Duration::from_millis(10)) {
            break line;
        }
    };
    assert!(first.contains("probe") || first.ends_with(|end: char| end.is_ascii_digit()), "{first}");
    // Each is seen before the next is made. (A checkpoint is none.)
    let next = || {
        let mut changes = lines.iter().filter_map(|line| line.splitn(3, ' ').nth(2).map(str::to_owned));
        changes.find(|change| !change.contains("probe")).unwrap()
    };
    bench.ok("put", &["b", "2"]);
    assert_eq!(next(), "default + b\t2");
    bench.ok("put", &["b", "[3]"]);
    assert_eq!(next(), "default ~ b\t[3]");
    bench.ok("put", &["b", "4", "--table", "other"]);
    assert_eq!((next(), next()), ("other created".to_owned(), "other + b\t4".to_owned()));
    bench.ok("del", &["a"]);
    assert_eq!(next(), "default - a");
    bench.ok("drop", &["--table", "other"]);
    assert_eq!(next(), "other dropped");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_watcher_whose_reader_left_ends_well() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let mut child = bench.command("watch", &["--after", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    // What it printed before the pipe closed went well: it finds out with what comes next.
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        bench.ok("put", &["a", "2"]);
    };
    assert!(status.success());
}

#[test]
fn an_idle_store_has_nothing_that_is_not_durable() {
    let bench = Bench::new();
    let not_durable = |file: &str| {
        let stats = json(
            &support::outcome(
                std::process::Command::new(env!("CARGO_BIN_EXE_memstone")).args(["stat", file, "--json"]),
            )
            .out,
        );
        let figure = |name: &str| stats[name].as_u64().unwrap();
        figure("last_commit").saturating_sub(figure("durable"))
    };
    let [file, copy] = [bench.file.to_str().unwrap().to_owned(), format!("{}-copy", bench.file.display())];
    bench.ok("put", &["a", "1"]);
    // The checkpoint of the last process to leave has a number of its own, above that of the last commit.
    assert_eq!(not_durable(&file), 0);
    let store = memstone::Store::open(&bench.file).unwrap();
    store.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    assert_eq!(not_durable(&file), 0, "open, and idle");
    std::fs::copy(&file, &copy).unwrap();
    assert_eq!(not_durable(&copy), 0, "and as a killed process leaves it");
}

#[test]
fn stat_prints_figures() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    assert!(bench.ok("stat", &[]).contains("commits"));
    assert!(json(&bench.ok("stat", &["--json"])).is_object());
}

#[test]
fn a_journal_keeps_what_checkpoints_apply() {
    let bench = Bench::new();
    let first = json(&bench.ok("put", &["a", "1", "--json"]))["commit"].as_u64().unwrap();
    bench.ok("checkpoint", &[]);
    let status = || json(&bench.ok("journal", &["status", "--json"]));
    assert_eq!(status()["bytes"], Value::Null);
    assert!(status()["after"].as_u64().unwrap() >= first, "the log alone goes back to the checkpoint");
    assert!(bench.ok("journal", &["on", "--bytes", "5000"]).starts_with("a journal of up to 5000 bytes;"));
    bench.ok("checkpoint", &[]);
    let second = json(&bench.ok("put", &["b", "1", "--json"]))["commit"].as_u64().unwrap();
    bench.ok("checkpoint", &[]);
    assert_eq!(status()["bytes"], 5000);
    assert!((first..second).contains(&status()["after"].as_u64().unwrap()), "{}", status());
    // The LSN before it is not that of a commit: the checkpoint has it.
    let after = (second - 1).to_string();
    let line = bench.ok("watch", &["--after", &after, "--count", "1"]);
    assert!(line.trim_end().ends_with(&format!(" {second} default + b")), "{line}");
    assert!(bench.ok("journal", &["off"]).starts_with("no journal;"));
    assert_eq!(status()["bytes"], Value::Null);
}
