//! Namespaces take turns, whatever the others have, and however they come by it. Counted in claims.

use crate::support::{Fixture, LEASE, SECOND};
use memstone::memory::jobs::{Claim, Job, JobError};
use std::collections::BTreeMap;

fn fill(f: &Fixture, namespace: &str, count: usize, job: impl Fn() -> Job) {
    f.jobs.write(|tx| (0..count).try_for_each(|_| tx.enqueue(namespace, job()).map(drop))).unwrap();
}

/// The namespaces of the next claims.
fn claims(f: &Fixture, count: usize) -> Vec<String> {
    let claims = f.jobs.write(|tx| {
        let claims = (0..count).map(|_| tx.claim("worker", &["q"], LEASE));
        claims.collect::<Result<Vec<Option<Claim>>, JobError>>()
    });
    claims.unwrap().into_iter().flatten().map(|claim| claim.namespace.to_string()).collect()
}

#[test]
fn a_namespace_with_many_jobs_keeps_no_other_one_waiting() {
    let f = Fixture::new();
    fill(&f, "many", 10_000, || Job::new("q", "1"));
    for _ in 0..20 {
        claims(&f, 7);
        fill(&f, "few", 1, || Job::new("q", "2"));
        let next = claims(&f, 2);
        assert!(next.contains(&"few".to_owned()), "{next:?}");
    }
    f.is_clean();
}

#[test]
fn namespaces_that_have_jobs_get_equal_shares() {
    let f = Fixture::new();
    for n in 1..=5 {
        fill(&f, &n.to_string(), n * 100, || Job::new("q", "1"));
    }
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    for namespace in claims(&f, 500) {
        *shares.entry(namespace).or_default() += 1;
    }
    assert!(shares.values().all(|share| *share == 100) && shares.len() == 5, "{shares:?}");
    // The first one has none left.
    let shares = claims(&f, 80);
    assert!(shares.chunks(4).all(|round| round == ["2", "3", "4", "5"]), "{shares:?}");
    f.is_clean();
}

/// A lane that is empty in between is not served before those that have waited.
#[test]
fn a_namespace_that_comes_back_again_and_again_gets_no_more_than_its_share() {
    let f = Fixture::new();
    for namespace in ["a", "b", "c", "d"] {
        fill(&f, namespace, 200, || Job::new("q", "1"));
    }
    fill(&f, "again", 1, || Job::new("q", "1"));
    let mut its = 0;
    for _ in 0..500 {
        if claims(&f, 1) == ["again"] {
            its += 1;
            fill(&f, "again", 1, || Job::new("q", "1"));
        }
    }
    assert_eq!(its, 100);
    f.is_clean();
}

#[test]
fn many_jobs_that_are_due_at_once_keep_no_other_one_waiting() {
    let f = Fixture::new();
    let noon = f.now() + SECOND * 100;
    fill(&f, "many", 5_000, || Job::new("q", "1").at(noon));
    fill(&f, "late", 1, || Job::new("q", "2").at(noon + SECOND));
    for n in 0..40 {
        fill(&f, &format!("other {n}"), 1, || Job::new("q", "3").at(noon));
    }
    f.pass(SECOND * 200);
    let order = claims(&f, 100);
    let at = order.iter().position(|namespace| namespace == "late").unwrap();
    assert!(at <= 42, "claim {at} of 42 lanes");
    assert_eq!(order.iter().filter(|namespace| namespace.starts_with("other")).count(), 40);
    f.is_clean();
}

#[test]
fn leases_that_end_together_keep_no_other_namespace_waiting() {
    let f = Fixture::new();
    fill(&f, "many", 500, || Job::new("q", "1").attempts(2));
    claims(&f, 500);
    f.pass(LEASE);
    fill(&f, "few", 1, || Job::new("q", "2"));
    assert!(claims(&f, 2).contains(&"few".to_owned()));
    assert_eq!(claims(&f, 1000).len(), 499, "each of them is found");
    f.pass(LEASE);
    assert_eq!(claims(&f, 1).len(), 1, "500 dead letters are passed for one job");
    assert_eq!(f.jobs.counts("q", "many").unwrap().dead, 500);
    f.is_clean();
}

/// A worker of several queues serves them like one.
#[test]
fn queues_that_a_worker_asks_for_together_share_their_turns() {
    let f = Fixture::new();
    fill(&f, "a", 100, || Job::new("q", "1"));
    fill(&f, "b", 100, || Job::new("q", "1"));
    fill(&f, "a", 100, || Job::new("r", "1"));
    let queues: Vec<String> =
        (0..30).map(|_| f.jobs.claim("worker", &["q", "none", "r"], LEASE).unwrap().unwrap().queue).collect();
    assert_eq!(queues.iter().filter(|queue| *queue == "r").count(), 10);
    f.is_clean();
}
