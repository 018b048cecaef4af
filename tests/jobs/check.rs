//! Whatever disagrees is found.

use crate::support::{Fixture, LEASE, SECOND};
use memstone::memory::MemoryError;
use memstone::memory::jobs::{Job, JobError, Priority};

/// Jobs in every state.
fn filled() -> Fixture {
    let f = Fixture::new();
    for (n, namespace) in ["", "ada", "ada/chat"].into_iter().enumerate() {
        f.enqueue(namespace, Job::new("q", format!("{n}")).key(format!("key {n}")).attempts(1));
        f.enqueue(namespace, Job::new("q", "later").delay(SECOND * 60));
        f.enqueue(namespace, Job::new("q", "low").priority(Priority::Low).keep(SECOND * 100));
        f.enqueue(namespace, Job::new("r", "only later").delay(SECOND * 60).keep(SECOND * 50));
    }
    let claims = [f.claim("q"), f.claim("q"), f.claim("q"), f.claim("q"), f.claim("q")];
    f.jobs.give_up(&claims[0], "never").unwrap();
    f.jobs.finish(&claims[3]).unwrap();
    f.jobs.cancel(claims[4].id).unwrap();
    let lanes = f.jobs.lanes().unwrap();
    let sum = |count: fn(&memstone::memory::jobs::JobCounts) -> u64| {
        lanes.iter().map(|lane| count(&lane.counts)).sum::<u64>()
    };
    let counts: [u64; 6] = [
        sum(|c| c.waiting),
        sum(|c| c.delayed),
        sum(|c| c.running),
        sum(|c| c.done),
        sum(|c| c.cancelled),
        sum(|c| c.dead),
    ];
    assert_eq!(counts, [1, 6, 2, 1, 1, 1]);
    f.is_clean();
    f
}

fn tables(f: &Fixture) -> Vec<String> {
    let tables = f.jobs.store().read().unwrap().tables().unwrap();
    tables.into_iter().map(|table| table.name).filter(|name| name.starts_with("jobs.")).collect()
}

/// Each row that any table has is needed: without it, or with another one beside it, the check finds a problem there.
#[test]
fn every_row_that_is_lost_or_left_over_is_found() {
    let f = filled();
    let store = f.jobs.store().clone();
    let (tables, mut tried) = (tables(&f), 0);
    assert_eq!(tables.len(), 14);
    for table in &tables {
        let snapshot = store.read().unwrap();
        for row in snapshot.raw(table).unwrap().range(..).unwrap() {
            let (key, value) = row.unwrap();
            store.write(|tx| tx.raw(table)?.delete(&key)).unwrap();
            assert!(!f.jobs.check().unwrap().is_clean(), "{table} without {key:?}");
            store.write(|tx| tx.raw(table)?.put(&key, &value)).unwrap();
            // The same row for a job, or a lane, that is not there.
            let mut other = key.to_vec();
            match other.last_mut() {
                Some(last) => *last ^= 0x80,
                None => continue,
            }
            store.write(|tx| tx.raw(table)?.put(&other, &value)).unwrap();
            assert!(!f.jobs.check().unwrap().is_clean(), "{table} with {other:?}");
            store.write(|tx| tx.raw(table)?.delete(&other)).unwrap();
            tried += 1;
        }
    }
    f.is_clean();
    assert!(tried > 50, "only {tried} rows");
}

/// No byte of any row makes an operation panic, and none that an index depends on is changed unseen.
#[test]
fn rows_that_are_changed_are_found_and_nothing_panics() {
    let f = filled();
    let store = f.jobs.store().clone();
    let mut tried = 0;
    for table in tables(&f) {
        let snapshot = store.read().unwrap();
        for row in snapshot.raw(&table).unwrap().range(..).unwrap() {
            let (key, value) = row.unwrap();
            for at in 0..value.len() {
                let mut other = value.to_vec();
                other[at] ^= 0x41;
                store.write(|tx| tx.raw(&table)?.put(&key, &other)).unwrap();
                let clean = f.jobs.check().is_ok_and(|report| report.is_clean());
                let index = ["jobs.waiting", "jobs.keys", "jobs.lane_numbers", "jobs.counts"].contains(&table.as_str());
                assert!(!clean || !index, "{table}, {key:?}: byte {at}");
                // The tables are as they were after each.
                let tx = store.begin_write().unwrap();
                if let Ok(jobs) = f.jobs.on(&tx) {
                    for _ in 0..3 {
                        let Ok(Some(claim)) = jobs.claim("worker", &["q", "r"], LEASE) else { break };
                        drop(jobs.fail(&claim, "down"));
                        drop(jobs.retry(claim.id));
                    }
                    drop(jobs.claim_under("ada", "worker", &["q", "r"], LEASE));
                    drop(jobs.enqueue("ada", Job::new("q", "new").key("key 1")));
                }
                tx.rollback();
                tried += 1;
            }
            if let Some((_, cut)) = value.split_last().filter(|_| !table.ends_with("payloads")) {
                store.write(|tx| tx.raw(&table)?.put(&key, cut)).unwrap();
                assert!(!f.jobs.check().is_ok_and(|report| report.is_clean()), "{table}, cut");
            }
            store.write(|tx| tx.raw(&table)?.put(&key, &value)).unwrap();
        }
    }
    f.is_clean();
    assert!(tried > 500, "only {tried} bytes");
}

#[test]
fn rows_of_a_newer_layout_are_refused() {
    let f = filled();
    let store = f.jobs.store().clone();
    let mut row = store.read().unwrap().raw("jobs.head").unwrap().get(b"").unwrap().unwrap().to_vec();
    // An array, whose first element is the layout.
    assert_eq!(row[1], 1);
    row[1] = 2;
    store.write(|tx| tx.raw("jobs.head")?.put(b"", &row)).unwrap();
    let newer = |error: JobError| matches!(error, JobError::Memory(MemoryError::Layout { found: 2, supported: 1 }));
    assert!(newer(f.jobs.enqueue("ada", Job::new("q", "1")).unwrap_err()));
    assert!(newer(f.jobs.claim("worker", &["q"], LEASE).unwrap_err()));
    assert!(newer(f.jobs.check().unwrap_err()));
}
