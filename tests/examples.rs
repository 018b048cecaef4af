//! The programs in `examples/` do what they say.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that cargo has built beside this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is built by `cargo test`, or `cargo build --examples`", program.display());
    program
}

/// What the program prints.
fn run(name: &str, directory: &Path, arguments: &[&str]) -> String {
    let ended = Command::new(example(name)).args(arguments).current_dir(directory).output().unwrap();
    let printed = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{name}: {printed}{}", String::from_utf8_lossy(&ended.stderr));
    printed
}

#[test]
fn notes_and_their_index_agree() {
    let dir = tempfile::tempdir().unwrap();
    let notes = |arguments: &[&str]| run("notes", dir.path(), &[&["notes.mst"], arguments].concat());
    assert_eq!(notes(&["add", "water the plants", "home", "garden"]), "1\n");
    assert_eq!(notes(&["add", "mow", "garden"]), "2\n");
    assert_eq!(notes(&["find", "garden"]), "1: water the plants\n2: mow\n");
    assert_eq!(notes(&["remove", "1"]), "true\n");
    assert_eq!(notes(&["find", "garden"]), "2: mow\n");
    assert_eq!(notes(&["find", "home"]), "");
    assert_eq!(notes(&["list"]), "2: mow [\"garden\"]\n");
}

#[test]
fn a_lost_job_is_done_by_another_worker() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run("job_queue", dir.path(), &["queue.mst"]);
    assert!(printed.contains("job 1, attempt 2: embed note 1\n"), "{printed}");
    assert!(printed.ends_with("0 jobs left\n"), "{printed}");
}

#[cfg(feature = "memory")]
#[test]
fn workers_do_each_job_once() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run("workers", dir.path(), &["jobs.mst"]);
    let expected = "ada: likes tea, 9 bytes\nbob: a bad text, attempt 1: tried again\nada: walks, 5 bytes\n\
                    bob: a bad text, attempt 2: a dead letter\n1 dead letters\n";
    assert_eq!(printed, expected);
}

#[test]
fn what_is_over_leaves_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run("cache", dir.path(), &["cache.mst"]);
    // 50 entries are over at minute 50 and 51 with that minute itself; number 7 has been given a longer life.
    assert_eq!(printed, "answer 7: Some(\"a longer life\")\nanswer 8: None\n50 left\n");
}

#[test]
fn indexes_refuse_and_find() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run("secondary_indexes", dir.path(), &["people.mst"]);
    assert_eq!(printed, "refused: 1 has this address already\nemmy@example.org is Emmy\nLondon, 41: number 2\n");
}

#[test]
fn a_json_file_is_imported_once() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"plants": {"text": "water"}, "age": 36}"#;
    std::fs::write(dir.path().join("memory.json"), json).unwrap();
    let import = || run("from_json", dir.path(), &["memory.json", "memory.mst"]);
    let rows = "age: 36\nplants: {\"text\":\"water\"}\n";
    assert_eq!(import(), format!("2 entries imported\n{rows}"));
    assert_eq!(import(), format!("0 entries imported\n{rows}"));
    assert_eq!(std::fs::read_to_string(dir.path().join("memory.json")).unwrap(), json);
}

#[test]
fn no_count_of_four_processes_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run("several_processes", dir.path(), &["shared.mst"]);
    assert_eq!(printed, "ada: 50\nall: 200\nbob: 50\ncyd: 50\ndan: 50\n");
}

#[test]
fn events_arrive_between_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run("async_tokio", dir.path(), &["async.mst"]);
    assert_eq!(printed, "10 events, the last one is Some(\"event 9\")\n");
}

#[test]
fn a_migration_runs_once() {
    let dir = tempfile::tempdir().unwrap();
    let migrated = run("schema_change", dir.path(), &["notes.mst"]);
    assert!(migrated.starts_with("0: Note { title: \"plants\", text: \"water them\", stars: 0 }\n"), "{migrated}");
    assert!(migrated.ends_with("kept: [\"before version 2\"]\n"), "{migrated}");
    assert_eq!(run("schema_change", dir.path(), &["notes.mst"]), migrated);
}
