//! Sixteen processes that commit as fast as they can: each makes all of its commits, and each commit is there.
//!
//! How many they make in a second, and how alike, depends on the machine: `benches/field` measures that
//! (`many`). How turns are handed on is counted where time is simulated.

use crate::common::{Child, Role, TestStore, listen, number, setting, tell};
use memstone::{Error, Store};

const PROCESSES: u64 = 16;

pub const ROLES: &[Role] = &[("commit_rows", commit_rows)];

/// Makes so many commits; each notes in its row which of all commits it is.
fn commit_rows(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let (process, times): (u64, u64) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    tell("ready");
    listen();
    for _ in 0..times {
        store
            .write(|tx| {
                let turn = tx.raw("turns")?.last()?.map_or(0, |(key, _)| number(&key) + 1);
                tx.raw("turns")?.put(&turn.to_be_bytes(), &process.to_be_bytes())?;
                tx.raw("rows")?.put(&(process << 32 | turn).to_be_bytes(), &[7; 150])
            })
            .unwrap();
    }
    tell("done");
    listen();
}

/// The most turns that others took between two of one process.
fn longest_gap(order: &[u64]) -> usize {
    let mut last = [None; PROCESSES as usize];
    let mut longest = 0;
    for (turn, process) in order.iter().enumerate() {
        if let Some(before) = last[*process as usize].replace(turn) {
            longest = longest.max(turn - before - 1);
        }
    }
    longest
}

#[test]
fn sixteen_processes_make_all_their_commits() {
    let test = TestStore::alone();
    let times = setting("MEMSTONE_FAIRNESS_COMMITS", 100);
    let mut children: Vec<_> =
        (0..PROCESSES).map(|process| Child::start("commit_rows", &[&test.path.display(), &process, &times])).collect();
    children.iter().for_each(|child| assert_eq!(child.hear(), "ready"));
    children.iter_mut().for_each(|child| child.say("go"));
    children.iter().for_each(|child| assert_eq!(child.hear(), "done"));
    let store = test.open();
    let stats = store.stats().unwrap().locks;
    let snap = store.read().unwrap();
    let order = snap.raw("turns").unwrap().prefix(b"").unwrap().map(|row| Ok(number(&row?.1)));
    let order: Vec<u64> = order.collect::<Result<_, Error>>().unwrap();
    println!(
        "{} commits of {PROCESSES} processes in {} flushes; at most {} turns between two of one process",
        order.len(),
        stats.flushes,
        longest_gap(&order)
    );
    for process in 0..PROCESSES {
        assert_eq!(order.iter().filter(|by| **by == process).count() as u64, times, "process {process}");
    }
    assert_eq!(snap.raw("rows").unwrap().len().unwrap(), PROCESSES * times);
    children.into_iter().for_each(|child| drop(child.finish()));
}
