//! How a memory works.

use crate::WriteOptions;
use crate::memory::measure::Meter;
use crate::memory::thresholds::Thresholds;
use crate::memory::time::{Clock, Timestamp};

/// How a memory works.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::{Memory, MemoryError, MemoryOptions, Meter, Thresholds, Timestamp};
/// use memstone::{Durability, Store, WriteOptions};
/// let options = MemoryOptions::new()
///     .writing(WriteOptions::new().durability(Durability::Relaxed))
///     .clock(|| Timestamp::from_micros(7))
///     .thresholds(Thresholds::default())
///     .meter(Meter::new());
/// let memory = Memory::with(Store::open(dir.path().join("memory.mst"))?, options);
/// let id = memory.add("ada", "likes tea")?.id;
/// assert_eq!(memory.get(id)?.unwrap().created.as_micros(), 7);
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryOptions {
    pub(super) writing: WriteOptions,
    pub(super) clock: Clock,
    pub(super) thresholds: Thresholds,
    pub(super) meter: Option<Meter>,
}

impl MemoryOptions {
    /// Durable commits, the store's timeout, and the system's clock.
    #[must_use]
    pub fn new() -> MemoryOptions {
        MemoryOptions::default()
    }

    /// How write transactions wait and commit.
    #[must_use]
    pub fn writing(mut self, options: WriteOptions) -> MemoryOptions {
        self.writing = options;
        self
    }

    /// Where the time comes from: for tests, and for hosts whose clock is not to be trusted.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> MemoryOptions {
        self.clock = Clock::new(clock);
        self
    }

    /// From which figures on [`Memory::statistics`](super::Memory::statistics) warns.
    #[must_use]
    pub fn thresholds(mut self, thresholds: Thresholds) -> MemoryOptions {
        self.thresholds = thresholds;
        self
    }

    /// Where the handle measures its operations: for several handles that are to measure together.
    #[must_use]
    pub fn meter(mut self, meter: Meter) -> MemoryOptions {
        self.meter = Some(meter);
        self
    }
}
