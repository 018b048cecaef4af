//! Power lost at each call, by the calls that a work makes and the bytes that it writes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::replay::{Files, Survives, record};
use crate::works::{Before, WORKS, add_work};
use crate::{all_points, cannot_trace};

#[test]
fn power_lost_at_each_call() {
    if cannot_trace() {
        return;
    }
    let (before, mut states) = (Before::new(), 0);
    for work in WORKS {
        let dir = before.copy();
        let dir = &dir.path().canonicalize().unwrap();
        let mut files = Files::of(dir);
        let calls = record(dir, |mut strace| {
            strace.args(["-e", "inject=ioctl:error=EOPNOTSUPP"]);
            add_work(&mut strace, work, dir);
            let out = strace.output().unwrap();
            assert!(out.status.success(), "{work}: {out:?}");
        });
        let count = calls.len();
        assert!(count > 5, "{work}: {calls:?}");
        // The last calls, in which names are given, and a sample of those before.
        let is_cut = |n: usize| all_points() || n == count || count - n < 12 || n.is_multiple_of((count / 12).max(1));
        for (n, call) in calls.into_iter().map(Some).chain([None]).enumerate() {
            let what = format!("{work}, before call {n} of {count}: {:.80}", format!("{call:?}"));
            for survives in [Survives::Nothing, Survives::All, Survives::Some(n as u64)] {
                if is_cut(n) {
                    files.lose_power(dir, survives);
                    let judged = catch_unwind(AssertUnwindSafe(|| before.judge(dir, work, n == count)));
                    assert!(judged.is_ok(), "{what}, of the unflushed {survives:?}");
                    states += 1;
                }
            }
            call.into_iter().for_each(|call| files.apply(call));
        }
    }
    println!("{states} states");
}
