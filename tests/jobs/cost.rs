//! What an operation costs, in rows, does not grow with the number of jobs, of namespaces, or of what was done.

use crate::support::{Fixture, LEASE, SECOND};
use memstone::memory::jobs::{Claim, Job, JobError};
use serde_json::json;

fn fill(f: &Fixture, from: usize, to: usize) {
    f.jobs
        .write(|tx| {
            for n in from..to {
                let namespace = format!("user {:05}", n % (to / 10).max(1));
                tx.enqueue(namespace.as_str(), Job::new("q", "payload"))?;
                if n % 10 == 0 {
                    tx.enqueue(namespace.as_str(), Job::new("q", "payload").delay(SECOND * (1000 + n as u32)))?;
                }
            }
            Ok::<_, JobError>(())
        })
        .unwrap();
}

/// Rows read and written by one operation.
fn cost(f: &Fixture, operation: impl FnOnce()) -> [u64; 2] {
    let before = f.jobs.work();
    operation();
    let after = f.jobs.work();
    [after.rows_read - before.rows_read, after.rows_written - before.rows_written]
}

/// The costs of one of each operation.
fn costs(f: &Fixture) -> Vec<(&'static str, [u64; 2])> {
    let mut costs = Vec::new();
    let mut measure = |what, operation: &mut dyn FnMut()| costs.push((what, cost(f, operation)));
    let mut id = None;
    measure("enqueue", &mut || id = Some(f.enqueue("user 00000", Job::new("q", "payload").key("k"))));
    measure("enqueue again", &mut || {
        assert!(f.jobs.enqueue("user 00000", Job::new("q", "payload").key("k")).unwrap().duplicate);
    });
    measure("get", &mut || assert!(f.jobs.get(id.unwrap()).unwrap().is_some()));
    measure("counts", &mut || assert!(f.jobs.counts("q", "user 00000").unwrap().waiting > 0));
    measure("cancel", &mut || assert!(f.jobs.cancel(id.unwrap()).unwrap()));
    measure("delay", &mut || id = Some(f.enqueue("user 00000", Job::new("q", "payload").delay(SECOND * 500))));
    measure("cancel delayed", &mut || assert!(f.jobs.cancel(id.unwrap()).unwrap()));
    measure("claim of nothing", &mut || assert_eq!(f.try_claim("none"), None));
    let mut claims: Vec<Claim> = Vec::new();
    measure("claim", &mut || claims.push(f.claim("q")));
    measure("heartbeat", &mut || assert!(f.jobs.heartbeat(&claims[0], LEASE * 2).is_ok()));
    measure("progress", &mut || f.jobs.progress(&claims[0], json!(7)).unwrap());
    measure("finish", &mut || f.jobs.finish(&claims[0]).unwrap());
    for _ in 0..4 {
        claims.push(f.claim("q"));
    }
    measure("fail", &mut || assert!(f.jobs.fail(&claims[1], "down").is_ok()));
    measure("release", &mut || f.jobs.release(&claims[2]).unwrap());
    measure("give up", &mut || f.jobs.give_up(&claims[3], "never").unwrap());
    measure("retry", &mut || f.jobs.retry(claims[3].id).unwrap());
    f.pass(LEASE);
    measure("take over", &mut || claims.push(f.claim("q")));
    for claim in [&claims[4], &claims[5]] {
        drop(f.jobs.finish(claim));
    }
    costs
}

#[test]
fn the_cost_of_an_operation_is_the_same_at_any_size() {
    let f = Fixture::new();
    let (mut from, mut found) = (0, Vec::new());
    for size in [100, 1_000, 10_000] {
        fill(&f, from, size);
        from = size;
        found.push((size, costs(&f)));
        // Many jobs are done, and leave deletions behind.
        let done = |tx: &memstone::memory::jobs::JobsTxn<'_>| {
            (0..size / 4).try_for_each(|_| match tx.claim("worker", &["q"], LEASE)? {
                Some(claim) => tx.finish(&claim),
                None => Ok(()),
            })
        };
        f.jobs.write(done).unwrap();
        found.push((size, costs(&f)));
    }
    let (_, first) = &found[0];
    for (size, costs) in &found {
        for ((what, small), (_, large)) in first.iter().zip(costs) {
            // A job that failed before may be due in a lane that sleeps, or in one that has a turn.
            let same = large.iter().zip(small).all(|(large, small)| large.abs_diff(*small) <= 6);
            assert!(same, "{what}: {small:?}, and with {size} jobs {large:?} rows read, written: {found:#?}");
        }
    }
    f.is_clean();
}

/// Rows that one operation may touch at all.
#[test]
fn no_operation_touches_many_rows() {
    let f = Fixture::new();
    fill(&f, 0, 1000);
    for (what, [read, written]) in costs(&f) {
        assert!(read <= 50 && written <= 30, "{what}: {read} rows read, {written} written");
    }
}
