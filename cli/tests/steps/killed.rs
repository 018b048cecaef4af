//! Killed before each call that changes something: the tracer counts calls, so no moment is missed.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::works::{Before, WORKS, add_work, do_work};
use crate::{CALLS, all_points, cannot_trace};

#[test]
fn killed_before_each_call() {
    if cannot_trace() {
        return;
    }
    let (before, mut points) = (Before::new(), 0);
    for work in WORKS {
        let mut done = 0;
        for call in CALLS {
            for nth in 1.. {
                let dir = before.copy();
                let mut strace = Command::new("strace");
                // (Blocks are copied, not shared: what follows is the same on every file system.)
                strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call},ioctl")]);
                strace.args(["-e", "inject=ioctl:error=EOPNOTSUPP"]);
                strace.args(["-e", &format!("inject={call}:signal=SIGKILL:when={nth}")]);
                add_work(&mut strace, work, dir.path());
                let out = strace.output().unwrap();
                if out.status.signal() != Some(9) {
                    assert!(out.status.success(), "{work}: {out:?}");
                    break;
                }
                points += 1;
                let what = format!("{work}, killed before {call} {nth}");
                let judged = std::panic::catch_unwind(|| before.judge(dir.path(), work, false));
                done += u32::from(judged.unwrap_or_else(|_| panic!("{what}")));
                // What the dead has left does not stand in the way.
                if all_points() || nth % 4 == 1 {
                    again(&before, work, dir.path());
                }
            }
        }
        assert!(done > 0 || work == "compact", "{work} was never killed after it was done: are all calls tried?");
    }
    println!("killed at {points} points");
    assert!(points > 100, "killed at {points} points only");
}

fn again(before: &Before, work: &str, dir: &std::path::Path) {
    if dir.join("made.mst").exists() {
        std::fs::remove_file(dir.join("made.mst")).unwrap();
    }
    do_work(work, dir);
    before.judge(dir, work, true);
}
