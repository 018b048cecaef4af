//! `memstone backup`, `backups` and `restore`.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Bench, outcome};

/// `memstone WORDS…`; what it came to.
fn run(words: &[&str]) -> support::Outcome {
    outcome(Command::new(env!("CARGO_BIN_EXE_memstone")).args(words))
}

fn ok(words: &[&str]) -> String {
    let outcome = run(words);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{words:?}: {outcome:?}");
    outcome.out
}

fn fails(code: i32, part: &str, words: &[&str]) {
    let outcome = run(words);
    assert!(outcome.code == code && outcome.err.contains(part), "{words:?}: {outcome:?}");
}

struct Place {
    bench: Bench,
}

impl Place {
    fn new() -> Place {
        let bench = Bench::new();
        bench.ok("put", &["a", "1"]);
        Place { bench }
    }

    fn path(&self, name: &str) -> String {
        self.bench.dir.path().join(name).display().to_string()
    }

    fn file(&self) -> String {
        self.bench.file.display().to_string()
    }
}

#[test]
fn a_backup_and_its_increment_bring_the_store_back() {
    let place = Place::new();
    let (file, full, increment, again) = (place.file(), place.path("full"), place.path("incr"), place.path("again"));
    assert!(ok(&["backup", &file, &full]).contains("full: full, 1 rows, up to transaction 1"));
    place.bench.ok("put", &["b", "2"]);
    assert!(ok(&["backup", &file, &increment, "--since", &full, "--compress"]).contains("increment, 2 rows"));
    assert!(ok(&["restore", &increment, &again]).contains("2 rows"));
    assert_eq!(ok(&["scan", &again]), "a\t1\nb\t2\n");
    assert_eq!(ok(&["scan", &full]), "a\t1\n", "itself a store");
    fails(2, "there is a file by this name", &["backup", &file, &full]);
    ok(&["backup", &file, &full, "--overwrite"]);
    fails(2, "there is a file by this name", &["restore", &full, &file]);
    let told = ok(&["restore", &full, &file, "--overwrite"]);
    assert!(told.contains(".before-restore-"), "{told}");
    fails(5, "make a full backup", &["backup", &file, &place.path("new"), "--since", &full]);
}

#[test]
fn a_directory_is_listed_kept_by_rule_and_restored_by_date() {
    let place = Place::new();
    let (file, dir, again) = (place.file(), place.path("backups"), place.path("again"));
    let made: Value = serde_json::from_str(&ok(&["backup", &file, "--dir", &dir, "--json"])).unwrap();
    assert_eq!((&made["manifest"]["kind"], &made["manifest"]["tables"][0]["rows"]), (&"full".into(), &1.into()));
    place.bench.ok("put", &["b", "2"]);
    let second = ok(&["backup", &file, "--dir", &dir, "--increment", "--keep", "7d,4w,12m"]);
    assert!(second.contains("increment") && !second.contains("removed"), "{second}");
    let listed = ok(&["backups", &dir, "--verify"]);
    assert!(listed.lines().count() == 3 && listed.matches("verified").count() == 2, "{listed}");
    let listed = ok(&["backups", &dir, "--json"]);
    let states: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(states.len() == 2 && states.iter().all(|entry| entry["state"] == "good"), "{states:?}");
    ok(&["restore", &dir, &again]);
    assert_eq!(ok(&["scan", &again]), "a\t1\nb\t2\n");
    fails(5, "early enough", &["restore", &dir, &place.path("none"), "--at", "2020-01-01"]);
    fails(2, "--at", &["restore", &dir, &place.path("none"), "--at", "yesterday"]);
    ok(&["restore", &dir, &place.path("late"), "--at", "2990-01-01"]);
    // A full one every time, kept for a day: only the last stays.
    let third = ok(&["backup", &file, "--dir", &dir, "--keep", "1d"]);
    assert_eq!(third.matches("removed").count(), 2, "{third}");
    let name = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let name = name.into_iter().find(|path| path.extension().is_some_and(|e| e == "mst")).unwrap();
    let mut bytes = fs::read(&name).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(&name, bytes).unwrap();
    let damaged = run(&["backups", &dir, "--verify"]);
    assert!(damaged.code == 4 && damaged.out.contains("unreadable"), "{damaged:?}");
    fails(5, "no backup in it is good", &["restore", &dir, &place.path("none")]);
    fails(1, "no such store", &["backups", &place.path("nowhere")]);
    assert!(!Path::new(&place.path("none")).exists());
}

#[test]
fn a_stream_goes_through_a_pipe() {
    let place = Place::new();
    for compress in [false, true] {
        let mut backup = Command::new(env!("CARGO_BIN_EXE_memstone"));
        backup.args(["backup", &place.file(), "-"]).args(compress.then_some("--compress")).stdout(Stdio::piped());
        let mut backup = backup.spawn().unwrap();
        let again = place.path(&format!("again {compress}"));
        let mut restore = Command::new(env!("CARGO_BIN_EXE_memstone"));
        restore.args(["restore", "-", &again]).stdin(backup.stdout.take().unwrap());
        assert!(restore.output().unwrap().status.success());
        assert!(backup.wait().unwrap().success());
        assert_eq!(ok(&["scan", &again]), "a\t1\n");
    }
    let left = fs::read_dir(place.bench.dir.path()).unwrap().count();
    assert_eq!(left, 3, "the store and two restored ones");
    let cut = place.bench.dir.path().join("cut");
    fs::write(&cut, b"mstnback").unwrap();
    fails(5, "not a memstone store", &["restore", cut.to_str().unwrap(), &place.path("none")]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = Place::new();
    let file = place.file();
    fails(2, "required", &["backup", &file]);
    fails(2, "cannot be used with", &["backup", &file, &place.path("x"), "--dir", &place.path("d")]);
    fails(2, "--keep", &["backup", &file, "--dir", &place.path("d"), "--keep", "7x"]);
    fails(2, "--compress", &["backup", &file, &place.path("x"), "--compress"]);
    fails(2, "not to a stream", &["backup", &file, "-", "--since", &file]);
    fails(2, "--at", &["restore", &file, &place.path("x"), "--at", "2026-01-01"]);
    fails(1, "no such store", &["backup", &place.path("nowhere"), &place.path("x")]);
    fails(1, "no such store", &["restore", &place.path("nowhere"), &place.path("x")]);
    fails(5, "no manifest", &["backup", &file, &place.path("x"), "--since", &file]);
    assert_eq!(fs::read_dir(place.bench.dir.path()).unwrap().count(), 1);
}

#[test]
fn what_the_page_on_operations_says_can_be_done() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md")).unwrap();
    let part = text.split("\n## Backups\n").nth(1).unwrap().split("\n## Disk full").next().unwrap();
    let blocks = part.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert_eq!(commands.len(), 12, "{commands:?}");
    let place = Place::new();
    let dir = place.bench.dir.path();
    fs::rename(&place.bench.file, dir.join("memory.mst")).unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_memstone")).parent().unwrap();
    let path = std::env::join_paths([binaries, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    ok(&["backup", &place.path("memory.mst"), &place.path("full.mst")]);
    let mut then = String::new();
    for command in commands {
        if command.contains(" flush") {
            let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output().unwrap().stdout;
            String::from_utf8(date).unwrap().trim().clone_into(&mut then);
        }
        // That day is not today, and that transaction another one.
        let stat: Value = serde_json::from_str(&ok(&["stat", "--json", &place.path("memory.mst")])).unwrap();
        let command = command.replace("2026-11-20T14:05", &then).replace("4711", &stat["last_commit"].to_string());
        let command = command.replace("2026-11-20", "2990-01-01");
        if command.starts_with("memstone restore full.mst") {
            fs::remove_file(dir.join("memory.mst")).unwrap();
        }
        let mut shell = Command::new("sh");
        let outcome = outcome(shell.args(["-c", &command]).current_dir(dir).env("PATH", &path));
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{command}: {outcome:?}");
        assert_eq!(ok(&["get", &place.path("memory.mst"), "a"]), "1\n", "{command}");
    }
}

#[test]
fn any_moment_comes_back_from_an_archive() {
    let place = Place::new();
    let (file, dir, again) = (place.file(), place.path("backups"), place.path("again"));
    assert!(ok(&["archive", &file, "status"]).contains("no archive"));
    assert!(ok(&["archive", &file, "on", "--dir", &dir]).contains("transactions after"));
    ok(&["backup", &file, "--dir", &dir]);
    place.bench.ok("put", &["b", "2"]);
    let lsn = || serde_json::from_str::<Value>(&ok(&["stat", "--json", &file])).unwrap()["last_commit"].to_string();
    let good = lsn();
    place.bench.ok("del", &["a"]);
    assert!(ok(&["archive", &file, "flush"]).contains(&format!("up to {}", lsn())));
    ok(&["restore", &dir, &again, "--to", &good]);
    assert_eq!(ok(&["scan", &again]), "a\t1\nb\t2\n");
    ok(&["restore", &dir, &again, "--to", "latest", "--overwrite"]);
    assert_eq!(ok(&["scan", &again]), "b\t2\n");
    fails(5, "reaches to", &["restore", &dir, &again, "--to", "2999-01-01", "--overwrite"]);
    fails(2, "cannot be used with", &["restore", &dir, &again, "--to", "1", "--at", "2999-01-01"]);
    let status: Value = serde_json::from_str(&ok(&["archive", "--json", &file, "status"])).unwrap();
    assert_eq!((status["trouble"].is_null(), status["gaps"].as_array().unwrap().len()), (true, 0));
    fs::rename(&dir, place.path("away")).unwrap();
    place.bench.ok("put", &["c", "3"]);
    let flushed = run(&["archive", &file, "flush"]);
    assert!(flushed.code == 5 && flushed.out.contains("does not go on"), "{flushed:?}");
    assert!(ok(&["archive", &file, "off"]).contains("ended"));
    assert!(ok(&["archive", &file, "off"]).contains("none"));
}
