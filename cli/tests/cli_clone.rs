//! `memstone clone`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::process::{Command, Stdio};
use support::{Bench, json};

#[test]
fn a_clone_is_made_told_and_refused() {
    let bench = Bench::new();
    let path = |name: &str| bench.dir.path().join(name).to_str().unwrap().to_owned();
    bench.fails(1, "no such store", "clone", &[&path("clone")]);
    bench.ok("put", &["a", "1"]);
    let told = bench.ok("clone", &[&path("clone")]);
    assert!(told.contains("verified, up to transaction "), "{told}");
    bench.ok("put", &["a", "2"]);
    bench.fails(2, "by this name already", "clone", &[&path("clone")]);
    let told = json(&bench.ok("clone", &["--overwrite", "--quick", "--json", &path("clone")]));
    assert_eq!((&told["verified"], told["last_commit"].as_u64().is_some()), (&false.into(), true), "{told}");
    std::fs::rename(path("clone"), &bench.file).unwrap();
    assert_eq!(bench.ok("get", &["a"]), "2\n");
    bench.ok("check", &[]);
    // A reader that has had enough.
    let mut child = bench.command("clone", &[&path("again")]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // What the page on the command says can be done.
    let text = include_str!("../../docs/COMMAND_LINE.md");
    let part = text.split("\n## Cloning\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = part.split("```").nth(1).unwrap().lines().skip(1).collect();
    assert_eq!(commands.len(), 1, "{commands:?}");
    std::fs::rename(&bench.file, path("memory.mst")).unwrap();
    let binaries = std::path::Path::new(env!("CARGO_BIN_EXE_memstone")).parent().unwrap();
    let search = std::env::join_paths([binaries, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    let mut shell = Command::new("sh");
    let done = support::outcome(shell.args(["-c", commands[0]]).current_dir(bench.dir.path()).env("PATH", search));
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
}
