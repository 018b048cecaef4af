//! What each operation does, and refuses.

use crate::support::{Fixture, LEASE, SECOND};
use memstone::memory::jobs::{Backoff, Failed, Job, JobError, JobId, JobState, MAX_PAYLOAD, Priority};
use memstone::memory::{Memory, MemoryError};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_job_is_claimed_once_and_goes_when_it_is_done() {
    let f = Fixture::new();
    let id = f.enqueue("ada/chat", Job::json("embed", &json!({"note": 7})).unwrap());
    assert_eq!(f.try_claim("other"), None);
    let claim = f.claim("embed");
    assert_eq!((claim.id, claim.attempt, claim.until), (id, 1, f.now() + LEASE));
    assert_eq!((claim.queue.as_str(), claim.namespace.to_string().as_str()), ("embed", "ada/chat"));
    assert_eq!(claim.json::<serde_json::Value>().unwrap(), json!({"note": 7}));
    assert_eq!(f.try_claim("embed"), None);
    assert_eq!(f.state(id), Some(JobState::Running { until: claim.until }));
    f.jobs.finish(&claim).unwrap();
    assert_eq!(f.state(id), None);
    assert!(matches!(f.jobs.finish(&claim), Err(JobError::Lost { found: None, .. })));
    assert!(matches!(f.jobs.cancel(id), Err(JobError::NotFound { .. })));
    f.is_empty();
}

#[test]
fn jobs_and_what_they_are_about_commit_together() {
    let f = Fixture::new();
    let memory = Memory::new(f.jobs.store().clone());
    let tx = f.jobs.store().begin_write().unwrap();
    let note = memory.on(&tx).unwrap().add("ada", "likes tea").unwrap().id;
    f.jobs.on(&tx).unwrap().enqueue("ada", Job::new("embed", note.as_bytes())).unwrap();
    assert!(f.try_claim("embed").is_none(), "it is not committed");
    tx.rollback();
    assert!(f.try_claim("embed").is_none() && memory.get(note).unwrap().is_none());
    f.is_empty();
}

#[test]
fn a_lost_job_is_taken_over_when_its_lease_has_ended() {
    let f = Fixture::new();
    let id = f.enqueue("ada", Job::new("embed", "1").attempts(2));
    let first = f.claim("embed");
    f.jobs.progress(&first, json!({"page": 3})).unwrap();
    f.pass(LEASE - Duration::from_micros(1));
    assert_eq!(f.try_claim("embed"), None);
    f.pass(Duration::from_micros(1));
    let second = f.claim("embed");
    assert_eq!((second.id, second.attempt, &second.progress), (id, 2, &json!({"page": 3})));
    assert!(second.token > first.token);
    // The first worker wakes up: nothing that it does counts any more.
    let lost = |error: JobError| matches!(error, JobError::Lost { found: Some(found), .. } if found == second.token);
    assert!(lost(f.jobs.heartbeat(&first, LEASE).unwrap_err()));
    assert!(lost(f.jobs.progress(&first, 1).unwrap_err()));
    assert!(lost(f.jobs.fail(&first, "late").unwrap_err()));
    assert!(lost(f.jobs.give_up(&first, "late").unwrap_err()));
    assert!(lost(f.jobs.release(&first).unwrap_err()));
    let late = f.jobs.complete(&first, |tx| Ok::<_, JobError>(tx.raw("effects")?.put(b"k", b"v")?));
    assert!(lost(late.unwrap_err()));
    f.jobs.complete(&second, |tx| Ok::<_, JobError>(tx.raw("effects")?.put(b"k", b"w")?)).unwrap();
    let effect = f.jobs.store().read().unwrap().raw("effects").unwrap().get(b"k").unwrap().unwrap().to_vec();
    assert_eq!(effect, b"w");
    f.is_empty();
}

#[test]
fn a_worker_that_is_late_may_finish_until_another_one_has_the_job() {
    let f = Fixture::new();
    for n in 0..3 {
        f.enqueue("ada", Job::new("embed", format!("{n}")));
    }
    let (first, second) = (f.claim("embed"), f.claim("embed"));
    f.pass(LEASE * 2);
    f.jobs.finish(&first).unwrap();
    // A claim has found that the lease of the second one has ended, and has got that job: it is the first in its lane.
    let third = f.claim("embed");
    assert_eq!((third.id, third.attempt), (second.id, 2));
    assert!(matches!(f.jobs.finish(&second), Err(JobError::Lost { .. })));
    f.pass(LEASE);
    // This claim finds two jobs that wait, and takes the other one.
    let other = f.jobs.claim("worker", &["embed"], LEASE).unwrap().unwrap();
    assert_eq!((other.id, other.attempt), (third.id, 3));
    let last = f.claim("embed");
    f.pass(LEASE);
    f.enqueue("bob", Job::new("embed", "bob's"));
    let (one, two) = (f.claim("embed"), f.claim("embed"));
    assert_eq!([one.payload.as_slice(), &two.payload], [b"bob's".as_slice(), b"1"], "bob's lane had its turn first");
    // The other job waits again, and its last claim is still good: it may go on, and finish.
    assert_eq!(f.state(last.id), Some(JobState::Waiting));
    f.jobs.heartbeat(&last, LEASE).unwrap();
    assert_eq!(f.state(last.id), Some(JobState::Running { until: f.now() + LEASE }));
    for claim in [&last, &one, &two] {
        f.is_clean();
        f.jobs.finish(claim).unwrap();
    }
    f.is_empty();
}

#[test]
fn a_claim_that_finds_nothing_changes_nothing() {
    let f = Fixture::new();
    f.enqueue("ada", Job::new("embed", "1").delay(SECOND * 100));
    f.enqueue("ada", Job::new("embed", "2"));
    let claim = f.claim("embed");
    f.pass(SECOND);
    let before = f.jobs.store().last_commit().unwrap();
    assert_eq!(f.jobs.write(|tx| tx.claim("worker", &["embed", "none"], LEASE)).unwrap(), None);
    assert_eq!(f.jobs.store().last_commit().unwrap(), before);
    f.jobs.finish(&claim).unwrap();
}

#[test]
fn a_heartbeat_begins_the_lease_anew() {
    let f = Fixture::new();
    f.enqueue("ada", Job::new("embed", "1"));
    let claim = f.claim("embed");
    for _ in 0..5 {
        f.pass(LEASE / 2);
        assert_eq!(f.jobs.heartbeat(&claim, LEASE).unwrap(), f.now() + LEASE);
        assert_eq!(f.try_claim("embed"), None);
    }
    f.jobs.finish(&claim).unwrap();
    f.is_empty();
}

#[test]
fn a_job_that_fails_waits_longer_each_time_and_is_a_dead_letter_in_the_end() {
    let f = Fixture::new();
    let backoff = Backoff::new(SECOND, SECOND * 5);
    let id = f.enqueue("ada", Job::new("mail", "1").attempts(5).backoff(backoff));
    for whole in [1, 2, 4, 5] {
        let claim = f.claim("mail");
        let Failed::Again(due) = f.jobs.fail(&claim, "no answer").unwrap() else { panic!("dead after {whole} s") };
        let wait = due.since(f.now());
        assert!(wait >= SECOND * whole / 2 && wait <= SECOND * whole, "{wait:?} of {whole} s");
        assert!(matches!(f.jobs.finish(&claim), Err(JobError::Lost { found: None, .. })), "it was given back");
        assert_eq!(f.state(id), Some(JobState::Delayed { until: due }));
        f.pass(wait - Duration::from_micros(1));
        assert_eq!(f.try_claim("mail"), None);
        f.pass(Duration::from_micros(1));
    }
    assert_eq!(f.jobs.fail(&f.claim("mail"), &"ä".repeat(4000)).unwrap(), Failed::Dead);
    let dead = f.jobs.dead("mail", "ada", None, 10).unwrap();
    assert_eq!((dead.len(), dead[0].id, dead[0].state, dead[0].attempts), (1, id, JobState::Dead, 5));
    assert_eq!(dead[0].error.as_ref().unwrap().len(), 4096);
    assert_eq!(f.jobs.counts("mail", "ada").unwrap().dead, 1);
    assert!(f.jobs.dead("mail", "ada", Some(id), 10).unwrap().is_empty());
    assert!(f.jobs.dead("mail", "bob", None, 10).unwrap().is_empty());
    f.pass(SECOND * 100_000);
    assert_eq!(f.try_claim("mail"), None);
    f.is_clean();
    f.jobs.retry(id).unwrap();
    assert!(matches!(f.jobs.retry(id), Err(JobError::WrongState { state: "waiting", .. })));
    let claim = f.claim("mail");
    assert_eq!(claim.attempt, 1);
    f.jobs.give_up(&claim, "no such address").unwrap();
    assert_eq!(f.jobs.get(id).unwrap().unwrap().error.as_deref(), Some("no such address"));
    f.jobs.remove(id).unwrap();
    f.is_empty();
}

#[test]
fn the_waits_of_jobs_that_failed_together_are_spread() {
    let f = Fixture::new();
    let mut waits = std::collections::BTreeSet::new();
    for n in 0..20 {
        f.enqueue("ada", Job::new("mail", format!("{n}")));
        let Failed::Again(due) = f.jobs.fail(&f.claim("mail"), "down").unwrap() else { panic!("dead") };
        waits.insert(due);
    }
    assert_eq!(waits.len(), 20);
}

#[test]
fn a_job_whose_workers_all_die_is_a_dead_letter() {
    let f = Fixture::new();
    let id = f.enqueue("ada", Job::new("embed", "poison").attempts(2));
    let mut last = None;
    for _ in 0..2 {
        last = Some(f.claim("embed"));
        f.pass(LEASE);
    }
    assert_eq!(f.try_claim("embed"), None);
    let job = f.jobs.get(id).unwrap().unwrap();
    assert_eq!(job.state, JobState::Dead);
    assert_eq!(job.error.as_deref(), Some("attempt 2: the lease of worker \"worker\" ended"));
    assert!(matches!(f.jobs.finish(&last.unwrap()), Err(JobError::Lost { found: None, .. })));
    f.is_clean();
}

#[test]
fn a_job_that_is_given_back_comes_first_and_has_lost_no_attempt() {
    let f = Fixture::new();
    let id = f.enqueue("ada", Job::new("embed", "1").attempts(1).priority(Priority::Low));
    f.enqueue("ada", Job::new("embed", "2").priority(Priority::High));
    let high = f.claim("embed");
    let low = f.claim("embed");
    assert_eq!(low.id, id);
    f.enqueue("ada", Job::new("embed", "3").priority(Priority::High));
    f.jobs.release(&low).unwrap();
    assert!(matches!(f.jobs.release(&low), Err(JobError::Lost { found: None, .. })));
    let again = f.claim("embed");
    assert_eq!((again.id, again.attempt), (id, 1));
    f.jobs.finish(&again).unwrap();
    f.jobs.finish(&high).unwrap();
    f.is_clean();
}

#[test]
fn priority_orders_the_jobs_of_a_namespace() {
    let f = Fixture::new();
    for (n, priority) in
        [Priority::Low, Priority::Normal, Priority::High, Priority::Normal, Priority::High].into_iter().enumerate()
    {
        f.enqueue("ada", Job::new("embed", format!("{n}")).priority(priority));
    }
    let order: Vec<Vec<u8>> = std::iter::from_fn(|| f.try_claim("embed")).map(|claim| claim.payload).collect();
    assert_eq!(order.concat(), b"24130");
}

#[test]
fn delayed_jobs_come_in_the_order_of_their_times() {
    let f = Fixture::new();
    let start = f.now();
    for delay in [3, 1, 2] {
        f.enqueue("ada", Job::new("mail", format!("{delay}")).delay(SECOND * delay));
    }
    f.enqueue("ada", Job::new("mail", "4").at(start + SECOND * 4));
    assert_eq!(f.jobs.snapshot().unwrap().due(&["mail"]).unwrap(), Some(start + SECOND));
    assert_eq!(f.try_claim("mail"), None);
    assert_eq!(f.jobs.counts("mail", "ada").unwrap().delayed, 4);
    f.pass(SECOND);
    assert_eq!(f.claim("mail").payload, b"1");
    assert_eq!(f.try_claim("mail"), None);
    f.pass(SECOND * 5);
    let order: Vec<Vec<u8>> = std::iter::from_fn(|| f.try_claim("mail")).map(|claim| claim.payload).collect();
    assert_eq!(order.concat(), b"234");
    // A time that has passed is no delay.
    f.enqueue("ada", Job::new("mail", "now").at(start));
    assert_eq!(f.claim("mail").payload, b"now");
    f.is_clean();
}

#[test]
fn cancelling_ends_a_job_wherever_it_is() {
    let f = Fixture::new();
    let waiting = f.enqueue("ada", Job::new("embed", "1"));
    let delayed = f.enqueue("ada", Job::new("embed", "2").delay(SECOND));
    assert!(f.jobs.cancel(waiting).unwrap() && f.jobs.cancel(delayed).unwrap());
    assert_eq!((f.state(waiting), f.state(delayed)), (None, None), "they are not kept");
    f.is_empty();
    let running = f.enqueue("ada", Job::new("embed", "3"));
    let claim = f.claim("embed");
    assert!(f.jobs.cancel(running).unwrap() && !f.jobs.cancel(running).unwrap());
    // The worker is told, until its lease would have ended.
    assert!(matches!(f.jobs.heartbeat(&claim, LEASE), Err(JobError::Cancelled { .. })));
    let effect = f.jobs.complete(&claim, |tx| Ok::<_, JobError>(tx.raw("effects")?.put(b"k", b"v")?));
    assert!(matches!(effect, Err(JobError::Cancelled { .. })));
    assert_eq!((f.state(running), f.try_claim("embed")), (Some(JobState::Cancelled), None));
    f.pass(LEASE);
    f.is_clean();
    // The next job that is enqueued sweeps it up.
    let kept = f.enqueue("ada", Job::new("embed", "4").keep(SECOND));
    assert_eq!(f.state(running), None);
    assert!(f.jobs.cancel(kept).unwrap());
    assert!(matches!(f.jobs.retry(kept), Err(JobError::WrongState { state: "cancelled", .. })));
    f.jobs.remove(kept).unwrap();
    f.is_empty();
}

#[test]
fn a_job_that_is_kept_tells_how_it_ended() {
    let f = Fixture::new();
    let id = f.enqueue("ada", Job::new("embed", "1").keep(SECOND * 60).key("k"));
    assert!(matches!(f.jobs.remove(id), Err(JobError::WrongState { state: "waiting", .. })));
    let claim = f.claim("embed");
    f.jobs
        .write(|tx| {
            tx.progress(&claim, json!({"vector": [1, 2]}))?;
            tx.finish(&claim)
        })
        .unwrap();
    let job = f.jobs.get(id).unwrap().unwrap();
    assert_eq!((job.state, &job.progress, job.key.as_deref()), (JobState::Done, &json!({"vector": [1, 2]}), Some("k")));
    assert_eq!((job.worker.as_deref(), job.created, job.max_attempts), (Some("worker"), f.now(), 10));
    assert_eq!(f.jobs.snapshot().unwrap().payload(id).unwrap().as_deref(), Some(&b"1"[..]));
    assert!(matches!(f.jobs.finish(&claim), Err(JobError::Lost { found: None, .. })));
    f.pass(SECOND * 59);
    f.enqueue("bob", Job::new("other", "1"));
    assert_eq!(f.state(id), Some(JobState::Done));
    f.pass(SECOND);
    f.enqueue("bob", Job::new("other", "2"));
    assert_eq!(f.state(id), None);
    assert_eq!(f.jobs.lanes().unwrap().len(), 1, "the lane went with its last job");
    f.is_clean();
}

#[test]
fn a_key_keeps_others_out_until_the_job_has_ended_or_is_claimed() {
    let f = Fixture::new();
    let job = || Job::new("index", "note 7").key("note 7");
    let id = f.enqueue("ada", job());
    let again = f.jobs.enqueue("ada", job()).unwrap();
    assert_eq!((again.id, again.duplicate), (id, true));
    // In other queues and namespaces it is another key.
    f.enqueue("bob", job());
    f.enqueue("ada", Job::new("other", "note 7").key("note 7"));
    f.enqueue("ada", Job::new("index", "note 8").key("note 8"));
    let claim = f.claim("index");
    assert!(f.jobs.enqueue("ada", job()).unwrap().duplicate);
    f.jobs.fail(&claim, "down").unwrap();
    assert!(f.jobs.enqueue("ada", job()).unwrap().duplicate);
    f.pass(SECOND * 10);
    let claim = std::iter::from_fn(|| f.try_claim("index")).find(|claim| claim.id == id).unwrap();
    f.jobs.finish(&claim).unwrap();
    let next = f.enqueue("ada", job());
    f.is_clean();

    let soon = || Job::new("look", "7").key_until_claimed("7");
    let first = f.enqueue("ada", soon());
    assert!(f.jobs.enqueue("ada", soon()).unwrap().duplicate);
    let claim = f.claim("look");
    let second = f.enqueue("ada", soon());
    assert_ne!(first, second);
    f.jobs.fail(&claim, "down").unwrap();
    f.is_clean();

    // A dead letter has left its key to others, and comes back without it.
    f.pass(SECOND * 100);
    let claim = std::iter::from_fn(|| f.try_claim("index")).find(|claim| claim.id == next).unwrap();
    f.jobs.give_up(&claim, "never").unwrap();
    let third = f.enqueue("ada", job());
    f.jobs.retry(next).unwrap();
    assert_eq!(f.jobs.get(next).unwrap().unwrap().key, None);
    assert_eq!(f.jobs.enqueue("ada", job()).unwrap().id, third);
    f.is_clean();
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_changes() {
    let f = Fixture::new();
    let invalid = |error: JobError, text: &str| {
        assert!(matches!(&error, JobError::Memory(MemoryError::Invalid { .. })), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    invalid(f.jobs.enqueue("ada", Job::new("", "1")).unwrap_err(), "invalid queue");
    invalid(f.jobs.enqueue("ada", Job::new("q\n", "1")).unwrap_err(), "invalid queue");
    invalid(f.jobs.enqueue("a//b", Job::new("q", "1")).unwrap_err(), "invalid namespace");
    invalid(f.jobs.enqueue("ada", Job::new("q", "1").key("k".repeat(201))).unwrap_err(), "invalid key");
    invalid(f.jobs.enqueue("ada", Job::new("q", vec![0_u8; MAX_PAYLOAD + 1])).unwrap_err(), "invalid payload");
    f.is_empty();
    let id = f.enqueue("ada", Job::new("q", vec![0_u8; MAX_PAYLOAD]));
    invalid(f.jobs.claim("", &["q"], LEASE).unwrap_err(), "invalid worker");
    assert_eq!(f.state(id), Some(JobState::Waiting));
    let claim = f.claim("q");
    assert_eq!(claim.payload.len(), MAX_PAYLOAD);
    assert!(claim.json::<u8>().is_err());
    invalid(f.jobs.progress(&claim, "x".repeat(70_000)).unwrap_err(), "invalid progress");
    let deep = (0..100).fold(json!(1), |value, _| json!([value]));
    invalid(f.jobs.progress(&claim, deep).unwrap_err(), "nested");
    assert!(matches!(f.jobs.cancel(JobId::from_u64(99)), Err(JobError::NotFound { .. })));
    assert!(f.jobs.claim::<&str>("worker", &[], LEASE).unwrap().is_none());
    f.is_clean();
}

/// A clock that was set back delays what is due by as much, and loses nothing. One that was set forward ends leases:
/// workers that have lost theirs are refused.
#[test]
fn a_clock_that_is_set_loses_and_doubles_nothing() {
    let f = Fixture::new();
    let hour = SECOND * 3600;
    let delayed = f.enqueue("ada", Job::new("q", "delayed").delay(SECOND * 10));
    let first = f.enqueue("ada", Job::new("q", "first"));
    let second = f.enqueue("bob", Job::new("q", "second"));
    let claim = f.claim("q");
    assert_eq!(claim.id, first);
    f.go_back(hour);
    // What waits needs no clock.
    let other = f.claim("q");
    assert_eq!(other.id, second);
    let third = f.enqueue("ada", Job::new("q", "third"));
    let newest = f.claim("q");
    assert_eq!(newest.id, third);
    assert_eq!(f.try_claim("q"), None);
    f.is_clean();
    // The leases of before last as much longer; those of after are as long as they should be.
    f.pass(LEASE);
    let again = f.claim("q");
    assert_eq!(again.attempt, 2);
    f.jobs.finish(&again).unwrap();
    f.jobs.finish(&f.claim("q")).unwrap();
    assert_eq!(f.try_claim("q"), None);
    f.pass(hour);
    let mut ids = vec![f.claim("q").id, f.claim("q").id];
    ids.sort();
    assert_eq!(ids, [delayed, first]);
    assert!(matches!(f.jobs.finish(&claim), Err(JobError::Lost { .. })));
    f.is_clean();
}
