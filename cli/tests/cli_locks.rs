//! `memstone with-lock` and `locks`, and what a held lock means to the other verbs.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use memstone::Store;
use support::{Bench, json};

/// Holds the lock while `script` runs, which must print a line when it is ready.
fn hold(bench: &Bench, script: &str) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut command = bench.command("with-lock", &["--", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    (child, out, line.trim().to_owned())
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

#[test]
fn the_exit_code_is_the_commands() {
    let bench = Bench::new();
    assert_eq!(bench.ok("with-lock", &["--", "echo", "a b", "--json"]), "a b --json\n");
    assert_eq!(bench.run("with-lock", &["--", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(bench.run("with-lock", &["--", "sh", "-c", "kill -9 $$"]).code, 137);
    bench.fails(5, "cannot be run", "with-lock", &["--", "/nothing/such"]);
    assert_eq!(bench.run("with-lock", &[]).code, 2);
}

#[test]
fn the_command_has_the_standard_streams() {
    let bench = Bench::new();
    let cat = bench.run_with_input("with-lock", &["--", "sh", "-c", "cat; echo problem >&2"], b"text");
    assert_eq!((cat.out.as_str(), cat.err.as_str()), ("text", "problem\n"));
}

#[test]
fn others_wait_their_turn_up_to_the_deadline() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let (mut holder, _out, _) = hold(&bench, "echo ready; read line");
    assert_eq!(bench.ok("get", &["a"]), "1\n", "reading is free");
    bench.fails(3, &format!("held by process {}", holder.id()), "put", &["a", "2", "--timeout", "0.3"]);
    bench.fails(3, "lock was not free", "with-lock", &["--timeout", "0", "--", "true"]);
    let error = bench.run("put", &["a", "2", "--timeout", "0.1", "--json"]);
    assert_eq!(json(&error.err)["error"]["kind"], "busy");
    holder.kill().unwrap();
    holder.wait().unwrap();
    bench.ok("put", &["a", "2"]);
}

#[test]
fn a_deadline_of_five_seconds_ends_before_a_holder_that_takes_longer() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    // It takes as long as the test wants.
    let (mut holder, mut out, _) = hold(&bench, "echo ready; read line; echo done");
    let started = Instant::now();
    bench.fails(3, &format!("held by process {}", holder.id()), "put", &["a", "2", "--timeout", "5"]);
    assert!(started.elapsed() >= Duration::from_secs(5), "it has not waited");
    assert!(holder.try_wait().unwrap().is_none(), "the holder is not disturbed");
    assert_eq!(bench.ok("get", &["a"]), "1\n");
    holder.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((holder.wait().unwrap().code(), rest.as_str()), (Some(0), "done\n"));
    bench.ok("put", &["a", "2"]);
}

#[test]
fn a_waiter_gets_its_turn_when_the_command_ends() {
    let bench = Bench::new();
    let (mut holder, _out, _) = hold(&bench, "echo ready; sleep 0.5");
    bench.ok("put", &["a", "1", "--timeout", "60"]);
    assert!(holder.wait().unwrap().success());
}

#[test]
fn a_killed_holder_blocks_nobody() {
    let bench = Bench::new();
    let (mut holder, _out, orphan) = hold(&bench, "echo $$; exec sleep 400");
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Otherwise refused after its deadline: the command lives on.
    bench.ok("put", &["a", "1", "--timeout", "60"]);
    signal("-KILL", &orphan);
}

#[test]
fn a_request_to_end_is_passed_on_and_the_lock_held_until_then() {
    let bench = Bench::new();
    // It ends when it is told to: after the other has tried.
    let (mut holder, mut out, _) =
        hold(&bench, "trap 'read line; echo ended; exit 9' TERM; echo ready; while :; do sleep 0.05; done");
    signal("-TERM", &holder.id().to_string());
    bench.fails(3, "lock was not free", "put", &["a", "1", "--timeout", "0.05"]);
    holder.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert_eq!(holder.wait().unwrap().code(), Some(9));
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "ended\n");
}

#[test]
fn locks_tells_who_holds_and_since_when() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let free = bench.ok("locks", &[]);
    let (mut holder, _out, _) = hold(&bench, "echo ready; read line");
    let held = bench.ok("locks", &[]);
    let pid = holder.id().to_string();
    assert!(held.contains(&pid) && held.contains("with-lock"), "{held}");
    assert!(!free.contains("with-lock"), "{free}");
    let held = bench.ok("locks", &["--json"]);
    assert!(json(&held).to_string().contains(&format!("\"pid\":{pid}")), "{held}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_lock_whose_holder_has_no_name_is_not_free() {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    let writer = |out: &str| out.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(writer(&bench.ok("locks", &[])), "writer free");
    let txn = store.begin_write().unwrap();
    // The names go with it; the lock stays.
    std::fs::remove_file(bench.file.with_extension("mst-shm")).unwrap();
    let held = bench.ok("locks", &[]);
    assert!(!writer(&held).contains("free"), "{held}");
    let json = json(&bench.ok("locks", &["--json"]));
    assert_eq!(json["writer_held"], true);
    // Nobody is named but by what can be told.
    assert_eq!(
        json["writer"].is_null(),
        writer(&held).ends_with("? ? ? ? held by a process that left no name"),
        "{held}"
    );
    assert!(store.locks().unwrap().writer_held);
    txn.rollback();
    assert!(!store.locks().unwrap().writer_held);
    assert_eq!(writer(&bench.ok("locks", &[])), "writer free");
}

#[test]
fn a_lock_held_by_the_library_counts_too() {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    let txn = store.begin_write().unwrap();
    bench.fails(3, &format!("held by process {}", std::process::id()), "put", &["a", "1", "--timeout", "0.2"]);
    txn.rollback();
    bench.ok("put", &["a", "1"]);
}
