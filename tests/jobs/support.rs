//! Jobs in a directory of their own, with a clock that the test sets.

use memstone::memory::jobs::{Claim, Job, JobId, JobState, Jobs};
use memstone::memory::{MemoryOptions, Timestamp};
use memstone::{Durability, Store};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const SECOND: Duration = Duration::from_secs(1);
pub const LEASE: Duration = Duration::from_secs(30);

pub struct Fixture {
    pub jobs: Jobs,
    clock: Arc<AtomicU64>,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000_000));
        let jobs = open(dir.path(), &clock);
        Fixture { jobs, clock, dir }
    }

    /// Another handle, which has opened the store by itself.
    pub fn another(&self) -> Jobs {
        open(self.dir.path(), &self.clock)
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.load(Ordering::SeqCst))
    }

    pub fn pass(&self, duration: Duration) {
        self.clock.fetch_add(duration.as_micros() as u64, Ordering::SeqCst);
    }

    pub fn go_back(&self, duration: Duration) {
        self.clock.fetch_sub(duration.as_micros() as u64, Ordering::SeqCst);
    }

    pub fn enqueue(&self, namespace: &str, job: Job) -> JobId {
        let enqueued = self.jobs.enqueue(namespace, job).unwrap();
        assert!(!enqueued.duplicate);
        enqueued.id
    }

    pub fn try_claim(&self, queue: &str) -> Option<Claim> {
        self.jobs.claim("worker", &[queue], LEASE).unwrap()
    }

    pub fn claim(&self, queue: &str) -> Claim {
        self.try_claim(queue).unwrap()
    }

    pub fn state(&self, id: JobId) -> Option<JobState> {
        self.jobs.get(id).unwrap().map(|job| job.state)
    }

    /// All indexes agree.
    pub fn is_clean(&self) {
        let report = self.jobs.check().unwrap();
        assert!(report.is_clean(), "{report:#?}");
    }

    /// Nothing is left: neither jobs nor rows of anything that they needed.
    pub fn is_empty(&self) {
        self.is_clean();
        let snapshot = self.jobs.store().read().unwrap();
        for table in snapshot.tables().unwrap().iter().filter(|table| table.name != "jobs.head") {
            let rows = snapshot.raw(&table.name).unwrap().len().unwrap();
            assert!(rows == 0 || !table.name.starts_with("jobs."), "{rows} rows in {}", table.name);
        }
    }
}

fn open(dir: &Path, clock: &Arc<AtomicU64>) -> Jobs {
    let clock = Arc::clone(clock);
    let options = MemoryOptions::new().clock(move || Timestamp::from_micros(clock.load(Ordering::SeqCst)));
    let store = Store::options().durability(Durability::Relaxed).open(dir.join("jobs.mst")).unwrap();
    Jobs::with(store, options)
}
