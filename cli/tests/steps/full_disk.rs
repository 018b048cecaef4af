//! A disk that is full at each call that needs room, once or from then on.

use std::process::Command;

use crate::works::{Before, WORKS, add_work, do_work};
use crate::{all_points, cannot_trace};

/// Calls that need room.
const CALLS: [&str; 8] = ["pwrite64", "write", "ftruncate", "fallocate", "mkdir", "linkat", "fsync", "fdatasync"];

#[test]
fn full_at_each_call() {
    if cannot_trace() {
        return;
    }
    let (before, mut points, mut refused) = (Before::new(), 0, 0);
    for work in WORKS {
        let calls = CALLS.iter().flat_map(|call| [(*call, ""), (*call, "+")]);
        // (With every `write` refused nothing could be said.)
        for (call, rest) in calls.filter(|call| *call != ("write", "+")) {
            for nth in (1..).filter(|nth| rest.is_empty() || nth % 4 == 1 || all_points()) {
                let dir = before.copy();
                let told = tempfile::NamedTempFile::new().unwrap();
                let mut strace = Command::new("strace");
                strace.args(["-f", "-qq", "-e", &format!("trace={call},ioctl"), "-o"]).arg(told.path());
                strace.args(["-e", "inject=ioctl:error=EOPNOTSUPP"]);
                strace.args(["-e", &format!("inject={call}:error=ENOSPC:when={nth}{rest}")]);
                add_work(&mut strace, work, dir.path());
                let out = strace.output().unwrap();
                let told = std::fs::read_to_string(told.path()).unwrap();
                if !told.lines().any(|line| line.ends_with("(INJECTED)") && line.contains("ENOSPC")) {
                    break;
                }
                points += 1;
                let what = format!("{work}, no room at {call} {nth}{rest}: {out:?}");
                let judged = std::panic::catch_unwind(|| before.judge(dir.path(), work, out.status.success()));
                let done = judged.unwrap_or_else(|_| panic!("{what}"));
                assert!(matches!(out.status.code(), Some(0 | 5)), "{what}");
                if out.status.code() == Some(5) {
                    refused += 1;
                    let said = String::from_utf8(out.stderr).unwrap();
                    let is_clean = said.starts_with("memstone: ") && said.lines().count() == 1;
                    assert!(is_clean && said.to_lowercase().contains("no space left"), "{what}");
                    assert!(done || before.strays(dir.path()).is_empty(), "{what}: {:?}", before.strays(dir.path()));
                }
                if !done {
                    do_work(work, dir.path());
                    before.judge(dir.path(), work, true);
                }
            }
        }
    }
    println!("{points} points, {refused} refused");
    assert!(refused > 60, "{points} points, {refused} refused");
}
