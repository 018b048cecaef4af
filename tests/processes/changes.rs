//! What one process commits, another is woken by and sees, flushed or not.

use crate::common::{Child, Role, TestStore, listen, measured, tell};
use memstone::{Durability, Store, WriteOptions};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const ROLES: &[Role] = &[("commits", commits)];

fn micros_now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

/// Commits each time it is told how; says the LSN and when it was done.
fn commits(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    tell("ready");
    loop {
        let durability = match listen().as_str() {
            "relaxed" => Durability::Relaxed,
            "sync" => Durability::Sync,
            _ => return,
        };
        let lsn = {
            let tx = store.begin_write_with(WriteOptions::new().durability(durability)).unwrap();
            tx.raw("t").unwrap().put(b"a", &micros_now().to_be_bytes()).unwrap();
            tx.commit().unwrap()
        };
        tell(format!("{lsn} {}", micros_now()));
    }
}

fn told(child: &Child) -> (u64, u128) {
    let line = child.hear();
    let (lsn, at) = line.split_once(' ').unwrap();
    (lsn.parse().unwrap(), at.parse().unwrap())
}

#[test]
fn another_process_commit_wakes_a_waiter() {
    let test = TestStore::alone();
    let store = test.open();
    let mut child = Child::start("commits", &[&test.path.display()]);
    child.hear();
    for how in ["sync", "relaxed"] {
        measured(3, || {
            let mut longest = 0;
            for _ in 0..10 {
                let seen = store.last_commit().unwrap();
                let waiter = store.clone();
                let before = store.read().unwrap().raw("t").unwrap().get(b"a").unwrap().map(|v| v.to_vec());
                let waiting = std::thread::spawn(move || {
                    let mut lsn = seen;
                    // Woken by the mark of a checkpoint, too.
                    loop {
                        lsn = waiter.wait_for_change(lsn, Duration::from_secs(20)).unwrap();
                        let value = waiter.read().unwrap().raw("t").unwrap().get(b"a").unwrap().map(|v| v.to_vec());
                        if value != before {
                            return (lsn, micros_now());
                        }
                    }
                });
                std::thread::sleep(Duration::from_millis(20));
                child.say(how);
                let (lsn, done) = told(&child);
                let (changed, woken) = waiting.join().unwrap();
                assert!(changed >= lsn, "{changed}, {lsn}");
                longest = longest.max(woken.saturating_sub(done));
            }
            println!("{how}: woken at most {longest} µs after the commit returned");
            if longest < 100_000 { Ok(()) } else { Err(format!("{longest} µs")) }
        });
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
        let (lsn, _) = told(&child);
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
        let (lsn, _) = told(&child);
        child.kill();
        assert!(test.open().last_commit().unwrap() >= lsn);
    }
}
