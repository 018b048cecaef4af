//! The exit status and the output of `store-check`.
#![cfg(feature = "cli")]
#![expect(clippy::expect_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_store-check")).args(args).args(files).output().expect("store-check runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn usage_and_foreign_files() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(run(&[], &[]).status.code(), Some(2));
    assert_eq!(run(&["--no-such-option"], &[]).status.code(), Some(2));

    let missing = run(&[], &[&dir.path().join("missing")]);
    assert_eq!(missing.status.code(), Some(5));
    assert!(text(&missing.stderr).contains("missing"));

    let foreign = dir.path().join("notes.txt");
    fs::write(&foreign, "shopping list").expect("written");
    let output = run(&["--json"], &[&foreign]);
    assert_eq!(output.status.code(), Some(5));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert!(json["error"].as_str().is_some_and(|error| error.contains("not a memstone store")), "{json}");
    assert_eq!(fs::read(&foreign).expect("read"), b"shopping list", "it was not touched");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing was created");
}

#[test]
fn damage_is_told_with_its_place_and_outweighs_failures() {
    let dir = tempfile::tempdir().expect("a directory");
    let broken = dir.path().join("broken.mst");
    let mut bytes = vec![0; 3 * 4096];
    for copy in [0, 2048, 4096, 6144] {
        bytes[copy..copy + 8].copy_from_slice(b"memstone");
    }
    fs::write(&broken, &bytes).expect("written");
    let output = run(&[], &[&broken, &dir.path().join("missing")]);
    assert_eq!(output.status.code(), Some(4));
    let told = text(&output.stdout);
    assert!(told.contains("broken.mst: damage at byte 2048: this copy of the root slot is broken"), "{told}");
    assert!(told.contains("no root slot is whole") && told.contains("DAMAGED: 5 findings"), "{told}");

    let output = run(&["--json", "--max-findings", "2"], &[&broken]);
    assert_eq!(output.status.code(), Some(4));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(json["damage"], 5);
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["findings"][1]["offset"], 2048);
    assert_eq!(json["findings"][1]["severity"], "damage");
    assert_eq!(fs::read(&broken).expect("read"), bytes, "it was not touched");
}
