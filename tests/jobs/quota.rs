//! How many jobs a namespace may have, and claims of one namespace alone.

use crate::support::{Fixture, LEASE, SECOND};
use memstone::memory::jobs::{Job, JobError, JobId};
use memstone::memory::{Limits, Memory, MemoryError, Resource, Watched};

fn limit(f: &Fixture, namespace: &str, jobs: u64) {
    Memory::new(f.jobs.store().clone()).set_limits(namespace, Limits::new().jobs(jobs)).unwrap();
}

/// The namespace that refuses one more job, its limit and what it has.
fn refused(f: &Fixture, namespace: &str) -> (String, u64, u64) {
    let before = f.jobs.store().last_commit().unwrap();
    let error = f.jobs.enqueue(namespace, Job::new("q", "more")).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("again when one of them has ended"), "{error}");
    assert_eq!(f.jobs.store().last_commit().unwrap(), before, "nothing was written");
    match error {
        JobError::Memory(MemoryError::Quota { namespace, resource: Resource::Jobs, limit, used, asked: 1 }) => {
            (namespace.to_string(), limit, used)
        }
        error => panic!("{error}"),
    }
}

#[test]
fn a_quota_counts_what_has_not_ended_and_dead_letters_of_all_below() {
    let f = Fixture::new();
    limit(&f, "ada", 3);
    limit(&f, "ada/mail", 2);
    f.enqueue("ada", Job::new("r", "1").attempts(1));
    f.enqueue("ada/mail", Job::new("q", "2").keep(SECOND * 100));
    f.enqueue("ada/mail", Job::new("q", "3").delay(SECOND).keep(SECOND * 100));
    f.enqueue("bob", Job::new("s", "4"));
    assert_eq!(refused(&f, "ada/chat"), ("ada".to_owned(), 3, 3));
    // The one above is asked first.
    assert_eq!(refused(&f, "ada/mail"), ("ada".to_owned(), 3, 3));
    assert_eq!(["", "ada", "ada/mail", "ada/chat"].map(|path| f.jobs.held(path).unwrap()), [4, 3, 2, 0]);

    // Claimed, tried again, given back, dead, tried again: it is there all the time.
    let claim = f.claim("r");
    assert_eq!(f.jobs.held("ada").unwrap(), 3);
    f.jobs.release(&claim).unwrap();
    let claim = f.claim("r");
    f.jobs.fail(&claim, "down").unwrap();
    assert_eq!(refused(&f, "ada"), ("ada".to_owned(), 3, 3));
    f.jobs.retry(claim.id).unwrap();
    let claim = f.claim("r");
    f.pass(LEASE);
    f.is_clean();
    assert!(f.try_claim("r").is_none(), "its only attempt is over");
    assert_eq!(refused(&f, "ada"), ("ada".to_owned(), 3, 3));

    // Room comes with the end of a job, also if it is kept, and with a dead letter that goes.
    let done = f.claim("q");
    f.jobs.finish(&done).unwrap();
    f.enqueue("ada/mail", Job::new("q", "5"));
    assert_eq!(refused(&f, "ada/mail"), ("ada".to_owned(), 3, 3));
    f.jobs.remove(claim.id).unwrap();
    assert_eq!(refused(&f, "ada/mail"), ("ada/mail".to_owned(), 2, 2));
    let other = f.claim("q");
    assert!(f.jobs.cancel(other.id).unwrap());
    f.enqueue("ada/mail", Job::new("q", "6").key("k"));
    assert_eq!(refused(&f, "ada/mail"), ("ada/mail".to_owned(), 2, 2));
    // One that is there already is no other.
    assert!(f.jobs.enqueue("ada/mail", Job::new("q", "6").key("k")).unwrap().duplicate);
    f.is_clean();

    let warnings = Memory::new(f.jobs.store().clone()).statistics().unwrap().warnings;
    let quota = warnings.iter().find(|warning| warning.watched == Watched::Quota).unwrap();
    assert_eq!((quota.resource, quota.measured), (Some(Resource::Jobs), 1.0));
    while let Some(claim) = f.jobs.claim("worker", &["q", "r", "s"], LEASE).unwrap() {
        f.jobs.finish(&claim).unwrap();
    }
    assert_eq!(f.jobs.held("").unwrap(), 0);
    f.is_clean();
}

#[test]
fn jobs_that_are_kept_do_not_close_a_queue() {
    let f = Fixture::new();
    limit(&f, "", 1);
    for n in 0..5 {
        f.enqueue("ada", Job::new("q", format!("{n}")).keep(SECOND * 1000));
        f.jobs.finish(&f.claim("q")).unwrap();
    }
    assert_eq!(f.jobs.counts("q", "ada").unwrap().done, 5);
    limit(&f, "", 0);
    let never = f.jobs.enqueue("ada", Job::new("q", "1")).unwrap_err();
    assert!(!never.is_retryable(), "{never}");
}

#[test]
fn a_claim_of_a_namespace_gets_its_jobs_alone_and_takes_no_turn_of_others() {
    let f = Fixture::new();
    let enqueue = |namespace: &str| f.enqueue(namespace, Job::new("q", namespace));
    let [first, second, third, fourth] = ["bob", "ada/a", "ada/b", "ada/a"].map(enqueue);
    let under = |namespace: &str| f.jobs.claim_under(namespace, "worker", &["q", "none"], LEASE).unwrap();
    let ids = |claims: Vec<Option<memstone::memory::jobs::Claim>>| -> Vec<Option<JobId>> {
        claims.into_iter().map(|claim| claim.map(|claim| claim.id)).collect()
    };
    // Its namespaces take turns.
    let claims = vec![under("ada"), under("ada"), under("ada"), under("ada"), under("adam"), under("ada/a/x")];
    assert_eq!(ids(claims), [Some(second), Some(third), Some(fourth), None, None, None]);
    f.is_clean();
    // The turn of another one, which came first, is still found.
    assert_eq!(f.claim("q").id, first);
    f.is_clean();

    // Leases that have ended, and jobs that are due: behind those of many others.
    f.pass(LEASE);
    for n in 0..40 {
        f.enqueue(&format!("other {n}"), Job::new("q", "later").delay(SECOND));
    }
    let delayed = f.enqueue("carl", Job::new("q", "later").delay(SECOND * 2));
    f.pass(SECOND * 2);
    assert_eq!(under("carl").map(|claim| claim.id), Some(delayed));
    assert_eq!(under("ada").map(|claim| claim.attempt), Some(2));
    f.is_clean();
    let none = f.jobs.store().last_commit().unwrap();
    assert!(under("nobody").is_none());
    f.is_clean();
    assert_eq!(f.jobs.store().last_commit().unwrap(), none, "what is not there takes no lock");
}

#[test]
fn a_claim_is_resumed_by_its_token_alone() {
    let f = Fixture::new();
    let id = f.enqueue("ada", Job::new("q", "payload"));
    let resume = |token| f.jobs.write(|tx| tx.resume(id, token));
    assert!(matches!(resume(0), Err(JobError::Lost { found: None, .. })), "no claim has it");
    let claim = f.claim("q");
    assert_eq!(resume(claim.token).unwrap(), claim);
    assert!(matches!(resume(claim.token + 1), Err(JobError::Lost { .. })));
    f.pass(LEASE * 2);
    assert_eq!(resume(claim.token).unwrap().until, claim.until, "no other worker has it yet");
    let other = f.claim("q");
    assert!(matches!(resume(claim.token), Err(JobError::Lost { found: Some(token), .. }) if token == other.token));
    assert!(f.jobs.cancel(id).unwrap());
    assert!(matches!(resume(other.token), Err(JobError::Cancelled { .. })));
}
