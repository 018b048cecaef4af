//! A queue of jobs with leases: workers in any process, and no job is lost when one of them dies.
//!
//! A worker *claims* a job: for the time of the lease no other worker gets it. A worker that finishes removes the
//! job; the job of one that died is claimed again after its lease. So each job is done at least once. Its attempt is
//! the fencing token: a worker whose lease has ended can no longer finish a job that another one has taken over.
//!
//!     cargo run --example job_queue -- queue.mst

use memstone::{Result, Store, Table};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Job {
    task: String,
    attempt: u32,
    /// When it may be claimed (again), in milliseconds since 1970.
    due: u64,
}

const JOBS: Table<u64, Job> = Table::new("jobs");
/// The same jobs in the order in which they become due.
const DUE: Table<(u64, u64), ()> = Table::new("jobs by time");

fn enqueue(store: &Store, task: &str, due: u64) -> Result<u64> {
    store.write(|tx| {
        let jobs = tx.table(JOBS)?;
        let number = jobs.last()?.map_or(1, |(last, _)| last + 1);
        jobs.put(number, Job { task: task.to_owned(), attempt: 0, due })?;
        tx.table(DUE)?.put((due, number), ()).map(|()| number)
    })
}

/// The job that has been due longest; for the time of the lease it is this worker's.
fn claim(store: &Store, now: u64, lease: u64) -> Result<Option<(u64, Job)>> {
    store.write(|tx| {
        let (jobs, due) = (tx.table(JOBS)?, tx.table(DUE)?);
        let first = due.first()?.filter(|((since, _), ())| *since <= now);
        let Some(((since, number), ())) = first else { return Ok(None) };
        let Some(mut job) = jobs.get(number)? else { return Ok(None) };
        (job.attempt, job.due) = (job.attempt + 1, now + lease);
        due.delete((since, number))?;
        due.put((job.due, number), ())?;
        jobs.put(number, &job)?;
        Ok(Some((number, job)))
    })
}

/// Removes a job that is done. `false`: its lease has ended, and another worker has claimed it since.
fn finish(store: &Store, number: u64, job: &Job) -> Result<bool> {
    store.write(|tx| {
        let jobs = tx.table(JOBS)?;
        if jobs.get(number)?.is_none_or(|found| found.attempt != job.attempt) {
            return Ok(false);
        }
        jobs.delete(number)?;
        tx.table(DUE)?.delete((job.due, number))?;
        Ok(true)
    })
}

/// Times and leases are in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn main() -> Result<()> {
    let store = Store::open(std::env::args().nth(1).unwrap_or("queue.mst".to_owned()))?;
    let tasks = ["embed note 1", "embed note 2", "summarise"];
    tasks.iter().try_for_each(|task| enqueue(&store, task, now()).map(drop))?;
    // A worker claims a job and dies: after the lease the job is there again.
    let Some((lost, its_job)) = claim(&store, now(), 0)? else { return Ok(()) };
    while let Some((number, job)) = claim(&store, now(), 30_000)? {
        println!("job {number}, attempt {}: {}", job.attempt, job.task);
        assert!(finish(&store, number, &job)?);
    }
    assert!(!finish(&store, lost, &its_job)?, "the fencing token of a lost lease is refused");
    println!("{} jobs left", store.read()?.table(JOBS)?.len()?);
    // A worker without work sleeps until a process commits something: store.wait_for_change(…).
    Ok(())
}
