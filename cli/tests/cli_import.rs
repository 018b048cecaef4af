//! `memstone import`. What needs another store's library lies in `tests/import/`, behind the feature that brings it.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "import/broken_off.rs"]
mod broken_off;
#[cfg(feature = "import-fjall")]
#[path = "import/fjall.rs"]
mod fjall;
#[path = "import/jsonl.rs"]
mod jsonl;
#[cfg(feature = "import-lmdb")]
#[path = "import/lmdb.rs"]
mod lmdb;
#[cfg(feature = "import-redb")]
#[path = "import/redb.rs"]
mod redb;
#[path = "../../tests/common/skip.rs"]
mod skip;
#[cfg(feature = "import-sqlite")]
#[path = "import/sqlite.rs"]
mod sqlite;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Bench, Outcome, outcome};

/// A folder with a source and, in a folder of its own, the store that it becomes.
struct Move {
    bench: Bench,
    source: PathBuf,
    _source: tempfile::TempDir,
}

impl Move {
    fn new(name: &str) -> Move {
        let dir = tempfile::tempdir().unwrap();
        Move { bench: Bench::new(), source: dir.path().join(name), _source: dir }
    }

    fn command(&self, kind: &str, rest: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memstone"));
        command.args(["import", "--from", kind]).arg(&self.source).arg(&self.bench.file).args(rest);
        command.stdin(Stdio::null());
        command
    }

    fn import(&self, kind: &str, rest: &[&str]) -> Outcome {
        outcome(&mut self.command(kind, rest))
    }

    /// Imports, which must succeed; gives the report.
    fn ok(&self, kind: &str, rest: &[&str]) -> serde_json::Value {
        let done = self.import(kind, &[rest, &["--json"]].concat());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
        self.nothing_else();
        support::json(&done.out)
    }

    /// Imports, which must fail, and leave nothing.
    fn fails(&self, code: i32, part: &str, kind: &str, rest: &[&str]) {
        let done = self.import(kind, rest);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{done:?}");
        assert!(done.err.contains(part), "{done:?}");
        self.nothing_at_all();
    }

    fn scan(&self, table: &str) -> Vec<String> {
        self.bench.ok("scan", &["--table", table]).lines().map(str::to_owned).collect()
    }

    /// Nothing but the store lies where it was made.
    fn nothing_else(&self) {
        assert_eq!(names(self.bench.dir.path()), ["test.mst"]);
    }

    fn nothing_at_all(&self) {
        assert!(names(self.bench.dir.path()).is_empty(), "{:?}", names(self.bench.dir.path()));
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

/// The name, the types, and the number of rows of each table in a report.
fn tables(report: &serde_json::Value) -> Vec<(String, String, String, u64)> {
    let text = |table: &serde_json::Value, name: &str| table[name].as_str().unwrap().to_owned();
    let tables = report["tables"].as_array().unwrap().iter();
    tables
        .map(|table| {
            assert_eq!(table["rows"], table["source_rows"], "{report}");
            (text(table, "table"), text(table, "keys"), text(table, "values"), table["rows"].as_u64().unwrap())
        })
        .collect()
}

fn table(name: &str, keys: &str, values: &str, rows: u64) -> (String, String, String, u64) {
    (name.to_owned(), keys.to_owned(), values.to_owned(), rows)
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let here = Move::new("source");
    here.fails(1, "no such file or directory", "jsonl", &[]);
    std::fs::write(&here.source, "").unwrap();
    here.fails(2, "--key is for --from jsonl", "redb", &["--key", "id"]);
    here.fails(2, "--rowid is for --from sqlite", "jsonl", &["--rowid"]);
    here.fails(2, "--duplicates is for --from jsonl", "sqlite", &["--duplicates", "keep"]);
    here.fails(2, "possible values: redb, sqlite, lmdb, jsonl, fjall", "mongodb", &[]);
    here.bench.ok("create", &[]);
    let done = here.import("jsonl", &[]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("by this name already"), "{done:?}");
}

/// What this build cannot read, it says how to be built for; and its tests count as skipped.
#[test]
fn a_build_without_a_kind_names_its_feature() {
    for (kind, there) in [
        ("redb", cfg!(feature = "import-redb")),
        ("sqlite", cfg!(feature = "import-sqlite")),
        ("lmdb", cfg!(feature = "import-lmdb")),
        ("fjall", cfg!(feature = "import-fjall")),
    ] {
        let here = Move::new("source");
        std::fs::write(&here.source, "neither of them").unwrap();
        if there {
            here.fails(5, "nothing was imported", kind, &[]);
        } else {
            here.fails(2, &format!("import-{kind}"), kind, &[]);
            skip::skip(&format!("the feature import-{kind}, for all tests of importing from it"));
        }
    }
}

#[test]
fn what_the_page_on_the_command_says_can_be_done() {
    let text = include_str!("../../docs/COMMAND_LINE.md");
    let part = text.split("\n## Moving in\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = part.split("```").nth(1).unwrap().lines().skip(1).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let dir = tempfile::tempdir().unwrap();
    let line = "{\"type\":\"entity\",\"id\":1,\"name\":\"a\",\"entityType\":\"t\",\"observations\":[]}\n";
    for name in ["memory.jsonl", "notes.jsonl"] {
        std::fs::write(dir.path().join(name), line).unwrap();
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_memstone")).parent().unwrap();
    let path = std::env::join_paths([binaries, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    for command in commands {
        let done = outcome(Command::new("sh").args(["-c", command]).current_dir(dir.path()).env("PATH", &path));
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{command}: {done:?}");
        assert!(done.out.contains("1 rows of 1"), "{command}: {done:?}");
    }
    assert_eq!(names(dir.path()), ["memory.jsonl", "memory.mst", "notes.jsonl", "notes.mst"]);
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let here = Move::new("memory.jsonl");
    std::fs::write(&here.source, "").unwrap();
    let mut child = here.command("jsonl", &[]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    here.nothing_else();
}
