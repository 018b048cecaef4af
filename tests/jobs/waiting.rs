//! A worker without work waits for it.

use crate::support::{Fixture, LEASE, SECOND};
use memstone::memory::jobs::{Job, Jobs};
use std::time::Duration;

/// Long enough for any machine: what is waited for comes.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_wait_ends_with_a_job_that_is_enqueued() {
    let f = Fixture::new();
    let jobs = f.jobs.clone();
    let worker = std::thread::spawn(move || jobs.claim_wait("worker", &["q"], LEASE, LONG).unwrap());
    // Commits that have nothing for it do not end it.
    f.jobs.store().write(|tx| tx.raw("other")?.put(b"k", b"v")).unwrap();
    f.enqueue("ada", Job::new("other", "1"));
    let id = f.enqueue("ada", Job::new("q", "2"));
    assert_eq!(worker.join().unwrap().unwrap().id, id);
    f.is_clean();
}

#[test]
fn a_wait_ends_without_a_job() {
    let f = Fixture::new();
    assert_eq!(f.jobs.claim_wait("worker", &["q"], LEASE, Duration::ZERO).unwrap(), None);
    f.enqueue("ada", Job::new("q", "1").delay(SECOND));
    let lsn = f.jobs.store().last_commit().unwrap();
    assert_eq!(f.jobs.claim_wait("worker", &["q"], LEASE, Duration::from_millis(20)).unwrap(), None);
    assert_eq!(f.jobs.store().last_commit().unwrap(), lsn, "it wakes nobody");
}

/// A worker hears of what becomes due by the next commit at the latest, whatever clock it has.
#[test]
fn a_wait_looks_at_the_clock_again_after_each_commit() {
    let f = Fixture::new();
    let id = f.enqueue("ada", Job::new("q", "1").delay(LONG * 100));
    let jobs = f.jobs.clone();
    let worker = std::thread::spawn(move || jobs.claim_wait("worker", &["q"], LEASE, LONG).unwrap());
    f.pass(LONG * 100);
    f.jobs.store().write(|tx| tx.raw("other")?.put(b"k", b"v")).unwrap();
    assert_eq!(worker.join().unwrap().unwrap().id, id);
}

/// With the clock of the host: nothing but the time ends the waits.
#[test]
fn a_wait_ends_when_a_job_is_due_or_a_lease_has_ended() {
    let f = Fixture::new();
    let jobs = Jobs::new(f.jobs.store().clone());
    let id = jobs.enqueue("ada", Job::new("q", "1").delay(Duration::from_millis(30))).unwrap().id;
    let first = jobs.claim_wait("one", &["q"], Duration::from_millis(30), LONG).unwrap().unwrap();
    let second = jobs.claim_wait("two", &["q"], LEASE, LONG).unwrap().unwrap();
    assert_eq!((first.id, second.id, second.attempt), (id, id, 2));
}

#[test]
fn several_workers_that_wait_get_a_job_each() {
    let f = Fixture::new();
    let workers: Vec<_> = (0..4)
        .map(|n| {
            let jobs = f.jobs.clone();
            let work = move || jobs.claim_wait(&format!("worker {n}"), &["q"], LEASE, LONG).unwrap().unwrap().id;
            std::thread::spawn(work)
        })
        .collect();
    let mut ids: Vec<_> = (0..4).map(|n| f.enqueue("ada", Job::new("q", format!("{n}")))).collect();
    let mut claimed: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    ids.sort();
    claimed.sort();
    assert_eq!(claimed, ids);
    f.is_clean();
}
