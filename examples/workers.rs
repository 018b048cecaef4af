//! Workers over `memstone::memory::jobs`: leases, retries, and effects that happen exactly once. Any number of processes
//! may run this on one file.
//!
//! `cargo run --features memory --example workers -- jobs.mst`

#![allow(missing_docs, reason = "a program")]

use memstone::Table;
use memstone::memory::jobs::{Backoff, Claim, Failed, Job, JobError, Jobs};
use std::time::Duration;

const LENGTHS: Table<&str, u64> = Table::new("lengths");
const LEASE: Duration = Duration::from_secs(30);

/// What a worker does for long, without a lock. It tells that it is alive before half of its lease has passed.
fn measure(jobs: &Jobs, claim: &Claim) -> Result<u64, JobError> {
    jobs.heartbeat(claim, LEASE)?;
    Ok(claim.payload.len() as u64)
}

fn main() -> Result<(), JobError> {
    let jobs = Jobs::open(std::env::args().nth(1).unwrap_or_else(|| "jobs.mst".to_owned()))?;
    let backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(60));
    for (user, text) in [("ada", "likes tea"), ("ada", "walks"), ("bob", "a bad text")] {
        jobs.enqueue(user, Job::new("measure", text).key(text).attempts(2).backoff(backoff))?;
    }
    // Until nothing comes for a while; a worker of its own would wait for ever.
    while let Some(claim) = jobs.claim_wait("worker 1", &["measure"], LEASE, Duration::from_secs(1))? {
        let text = String::from_utf8_lossy(&claim.payload).into_owned();
        if text.contains("bad") {
            let again = if jobs.fail(&claim, "cannot")? == Failed::Dead { "a dead letter" } else { "tried again" };
            println!("{}: {text}, attempt {}: {again}", claim.namespace, claim.attempt);
            continue;
        }
        let length = measure(&jobs, &claim)?;
        // The result, and that the job is done: both or neither, whatever becomes of this process.
        jobs.complete(&claim, |tx| Ok::<_, JobError>(tx.table(LENGTHS)?.put(text.as_str(), length)?))?;
        println!("{}: {text}, {length} bytes", claim.namespace);
    }
    println!("{} dead letters", jobs.dead("measure", "bob", None, 10)?.len());
    Ok(())
}
