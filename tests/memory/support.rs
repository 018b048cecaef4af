//! A memory in a directory of its own, with a clock that the test sets.

use memstone::memory::{Found, ItemId, Memory, MemoryOptions, Query, Timestamp};
use memstone::{Durability, Store, WriteOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub struct Fixture {
    pub memory: Memory,
    clock: Arc<AtomicU64>,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000_000));
        let memory = Memory::with(Store::open(dir.path().join("memory.mst")).unwrap(), options(&clock));
        Fixture { memory, clock, dir }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("memory.mst")
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.load(Ordering::SeqCst))
    }

    pub fn pass(&self, duration: Duration) {
        self.clock.fetch_add(duration.as_micros() as u64, Ordering::SeqCst);
    }

    pub fn set_clock(&self, time: Timestamp) {
        self.clock.store(time.as_micros(), Ordering::SeqCst);
    }

    /// Those of this memory, for another handle.
    pub fn options(&self) -> MemoryOptions {
        options(&self.clock)
    }

    /// All indexes agree.
    pub fn is_clean(&self) {
        let report = self.memory.check().unwrap();
        assert!(report.is_clean() && report.stale_texts == 0, "{report:#?}");
    }

    pub fn found(&self, query: &Query) -> Vec<ItemId> {
        ids(&self.memory.find(query).unwrap())
    }

    pub fn contents(&self, query: &Query) -> Vec<String> {
        self.memory.find(query).unwrap().hits.into_iter().map(|hit| hit.item.content).collect()
    }
}

fn options(clock: &Arc<AtomicU64>) -> MemoryOptions {
    let clock = Arc::clone(clock);
    MemoryOptions::new()
        .writing(WriteOptions::new().durability(Durability::Relaxed))
        .clock(move || Timestamp::from_micros(clock.load(Ordering::SeqCst)))
}

pub fn ids(found: &Found) -> Vec<ItemId> {
    found.hits.iter().map(|hit| hit.item.id).collect()
}

pub const SECOND: Duration = Duration::from_secs(1);
