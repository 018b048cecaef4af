//! `memstone demo`: the processes, the kill, and the verdict.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::fs;
use std::process::Command;

use support::{json, outcome};

fn demo(arguments: &[&str]) -> support::Outcome {
    outcome(Command::new(env!("CARGO_BIN_EXE_memstone")).arg("demo").args(arguments))
}

#[test]
fn nothing_is_lost_when_a_writer_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let docs = tempfile::tempdir().unwrap();
    fs::create_dir(docs.path().join("sub")).unwrap();
    fs::write(docs.path().join("a.md"), "# A\n\none\n\ntwo\n\nthree").unwrap();
    fs::write(docs.path().join("sub/b.md"), "only one").unwrap();
    let [dir_path, docs_path] = [&dir, &docs].map(|folder| folder.path().to_str().unwrap());
    let arguments = ["--seconds", "1.5", "--processes", "3", "--json", "--dir", dir_path, "--docs", docs_path];
    let outcome = demo(&arguments);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let verdict = json(&outcome.out);
    assert_eq!(verdict["good"], true);
    assert_eq!((&verdict["lost"], &verdict["doubled"]), (&serde_json::json!([]), &serde_json::json!([])));
    let acknowledged = verdict["acknowledged"].as_u64().unwrap();
    let unreported = verdict["unreported"].as_u64().unwrap();
    assert!(acknowledged > 0 && unreported <= 1);
    assert_eq!(verdict["found"].as_u64().unwrap(), acknowledged + unreported);
    let processes = verdict["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 5);
    assert_eq!(processes.iter().filter(|process| process["killed"] == true).count(), 1);
    assert!(processes[1]["commits"].as_u64().unwrap() > 0, "the others went on");
    assert!(processes[3]["seen"].as_u64().unwrap() > 0, "the reader read");
    assert!(processes[4]["seen"].is_u64(), "the watcher watched");
    assert!(fs::read_dir(dir.path()).unwrap().count() > 0, "the store is kept where it was asked for");
}

#[test]
fn a_short_run_reads_well() {
    let outcome = demo(&["--seconds", "0.5", "--processes", "2"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(outcome.err, "", "no progress bar without a terminal");
    assert!(outcome.out.contains("lost               0\n"), "{}", outcome.out);
    assert!(outcome.out.ends_with("Every acknowledged commit is there, once; the file is sound.\n"));
}

#[test]
fn a_folder_without_text_is_a_usage_error() {
    let docs = tempfile::tempdir().unwrap();
    let outcome = demo(&["--docs", docs.path().to_str().unwrap()]);
    assert_eq!(outcome.code, 2, "{outcome:?}");
}
