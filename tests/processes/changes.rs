//! A commit of one process wakes another, which sees it, flushed or not.

use crate::common::{Child, Role, STUCK, TestStore, give_up_after, listen, tell};
use memstone::{Durability, Store, WriteOptions};
use std::time::{Duration, Instant};

pub const ROLES: &[Role] = &[("commits", commits)];

/// Commits each time it is told how, another value each time; says the LSN.
fn commits(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    tell("ready");
    for time in 0_u64.. {
        let durability = match listen().as_str() {
            "relaxed" => Durability::Relaxed,
            "sync" => Durability::Sync,
            _ => return,
        };
        let lsn = {
            let tx = store.begin_write_with(WriteOptions::new().durability(durability)).unwrap();
            tx.raw("t")
                .unwrap()
                .put(b"a", &[time.to_be_bytes(), u64::from(std::process::id()).to_be_bytes()].concat())
                .unwrap();
            tx.commit().unwrap()
        };
        tell(lsn);
    }
}

fn told(child: &Child) -> u64 {
    child.hear().parse().unwrap()
}

#[test]
fn another_process_commit_wakes_a_waiter() {
    let test = TestStore::alone();
    let store = test.open();
    let mut child = Child::start("commits", &[&test.path.display()]);
    child.hear();
    for how in ["sync", "relaxed"].repeat(5) {
        let seen = store.last_commit().unwrap();
        let waiter = store.clone();
        let before = store.read().unwrap().raw("t").unwrap().get(b"a").unwrap().map(|v| v.to_vec());
        let waiting = std::thread::spawn(move || {
            let (started, mut lsn) = (Instant::now(), seen);
            // Woken by the mark of a checkpoint, too.
            loop {
                lsn = waiter.wait_for_change(lsn, STUCK).unwrap();
                let value = waiter.read().unwrap().raw("t").unwrap().get(b"a").unwrap().map(|v| v.to_vec());
                if value != before {
                    return lsn;
                }
                give_up_after(started, "a waiter is not told of a commit");
            }
        });
        // So that it mostly waits already; either order is right.
        std::thread::sleep(Duration::from_millis(20));
        child.say(how);
        let lsn = told(&child);
        let changed = waiting.join().unwrap();
        assert!(changed >= lsn, "{changed}, {lsn}");
    }
    let seen = store.last_commit().unwrap();
    let started = Instant::now();
    assert_eq!(store.wait_for_change(seen, Duration::from_millis(60)).unwrap(), seen);
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[test]
fn relaxed_commits_are_seen_at_once_and_outlive_their_process() {
    let test = TestStore::new();
    let store = test.open();
    for _ in 0..10 {
        let mut child = Child::start("commits", &[&test.path.display()]);
        child.hear();
        child.say("relaxed");
        let lsn = told(&child);
        assert!(store.last_commit().unwrap() >= lsn, "not seen at once");
        child.kill();
        assert!(store.last_commit().unwrap() >= lsn, "lost with its process");
        store.flush().unwrap();
        assert!(store.stats().unwrap().durable >= lsn, "not durable after a flush");
    }
}

#[test]
fn a_relaxed_commit_outlives_the_last_process() {
    let test = TestStore::new();
    for _ in 0..5 {
        let mut child = Child::start("commits", &[&test.path.display()]);
        child.hear();
        child.say("relaxed");
        let lsn = told(&child);
        child.kill();
        assert!(test.open().last_commit().unwrap() >= lsn);
    }
}
