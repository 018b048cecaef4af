//! Figures about the store, the log, locks and waits, and every process that has the store open.

use crate::disk::host::time_of;
use crate::disk::locks::{CHECKPOINT, FairLock, SLOT, WRITER};
use crate::disk::slot::{Counter, State, WAIT_BUCKETS};
use crate::engine::Engine;
use crate::engine::names::NamedSnapshot;
use crate::error::{Holder, Result};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

/// How often a waiter without a sidecar looks at the file.
const POLL: Duration = Duration::from_millis(20);

/// Figures about a store. Sizes are in bytes.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// LSN of the newest transaction that readers see.
    pub last_commit: u64,
    /// LSN up to which the log is known to be durable. It may lie above `last_commit`: the checkpoint record
    /// has an LSN and is no transaction.
    pub durable: u64,
    /// Page size.
    pub page_size: u32,
    /// The application that the store is for ([`Options::application_id`](crate::Options::application_id)); 0: none.
    pub application_id: u32,
    /// The user's own version of the content ([`WriteTxn::set_user_version`](crate::WriteTxn::set_user_version)).
    pub user_version: u64,
    /// When the store was made; a clone has the time of its original.
    pub created: SystemTime,
    /// Length of the file.
    pub file_size: u64,
    /// Sequence of the newest root.
    pub root_sequence: u64,
    /// LSN up to which the log is applied to the tree.
    pub checkpoint_lsn: u64,
    /// When the newest checkpoint was made; `None` before the first.
    pub checkpoint_time: Option<SystemTime>,
    /// The log as it is now.
    pub log: LogStats,
    /// Tree versions kept by snapshots of any process, in ranges from the first to the last.
    pub pins: Vec<RangeInclusive<u64>>,
    /// The writer lock, all processes together.
    pub locks: LockStats,
    /// The named snapshots.
    pub snapshots: Vec<NamedSnapshot>,
    /// The tables.
    pub tables: Vec<TableInfo>,
    /// Whether a flush has failed and is not repaired yet: the next write transaction repairs it.
    pub flush_failed: bool,
}

/// A table: its name, the types it was created with, and how large it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// Name of the type of its keys; `"bytes"` for raw tables.
    pub key_type: String,
    /// Name of the encoding of its values; `"bytes"` for raw tables.
    pub value_type: String,
    /// The number of entries.
    pub entries: u64,
    /// Pages that its tree and its long values take, as of the checkpoint that the state builds on: what the log adds
    /// has none yet.
    pub pages: u64,
    /// Bytes of the keys and values in these pages, as they were given.
    pub bytes: u64,
    /// The name of its schema ([`WriteTxn::set_schema`](crate::WriteTxn::set_schema)); empty: none.
    pub schema: String,
    /// The version of its schema.
    pub schema_version: u64,
    /// Flags of the table in the file. One that this program does not know was set by a newer one, and the table cannot
    /// be opened.
    pub flags: u32,
}

/// Figures about the log.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LogStats {
    /// Its size in the file.
    pub capacity: u64,
    /// The part of it that the next checkpoint frees.
    pub used: u64,
    /// The size up to which it may grow.
    pub cap: u64,
    /// Bytes appended to it since the store was created, padding of its blocks included: the position of the next
    /// frame.
    pub position: u64,
}

/// Figures about a lock. Each process counts from when it opened the store; processes that have left are not
/// included.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LockStats {
    /// How often it was taken.
    pub acquisitions: u64,
    /// How often a caller gave up at its deadline, or at an error.
    pub failures: u64,
    /// The sum of all waits.
    pub total_wait: Duration,
    /// Average wait.
    pub average_wait: Duration,
    /// Longest wait.
    pub longest_wait: Duration,
    /// 99 of 100 waits were shorter than this (the upper end of a bucket of a factor of two).
    pub p99_wait: Duration,
    /// When it was last taken.
    pub last_acquired: Option<SystemTime>,
    /// Transactions committed.
    pub commits: u64,
    /// Flushes that the commits shared.
    pub flushes: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
}

/// Which processes hold locks, and which wait. Each process writes its own name into the sidecar: a process
/// without a place in it (there are 128), or one that cannot share it, is not named. Whether a lock is held is
/// asked of the system.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Locks {
    /// The process that holds the writer lock, and since when, if that process left its name.
    pub writer: Option<Holder>,
    /// Whether any process holds the writer lock, named or not.
    pub writer_held: bool,
    /// The process that makes a checkpoint, and since when, if that process left its name.
    pub checkpoint: Option<Holder>,
    /// Whether any process makes a checkpoint, named or not.
    pub checkpoint_held: bool,
    /// The processes that wait for the writer lock, in the order of their turns, if they left their names.
    pub waiting: Vec<Holder>,
    /// Every process that has the store open for writing and left its name.
    pub processes: Vec<ProcessStats>,
}

/// One process.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ProcessStats {
    /// The process; `since` is when it opened the store.
    pub process: Holder,
    /// Its own figures.
    pub locks: LockStats,
    /// Since when it keeps the oldest state that it keeps: the state of a snapshot or, for some seconds after its
    /// last use, the one that the next snapshot starts from.
    pub oldest_state: Option<SystemTime>,
}

/// Adds up what several processes counted.
#[derive(Default)]
struct Sum {
    stats: LockStats,
    total_us: u64,
    waits: [u64; WAIT_BUCKETS],
}

impl Sum {
    fn add(&mut self, slot: crate::disk::slot::Slot<'_>) {
        let stats = &mut self.stats;
        for (sum, counter) in [
            (&mut stats.acquisitions, Counter::Acquisitions),
            (&mut stats.failures, Counter::Failures),
            (&mut self.total_us, Counter::WaitTotal),
            (&mut stats.commits, Counter::Commits),
            (&mut stats.flushes, Counter::Flushes),
            (&mut stats.checkpoints, Counter::Checkpoints),
        ] {
            *sum = sum.saturating_add(slot.counter(counter));
        }
        let longest = Duration::from_micros(slot.counter(Counter::WaitLongest));
        stats.longest_wait = stats.longest_wait.max(longest);
        stats.last_acquired = stats.last_acquired.max(slot.last_acquired());
        for (sum, n) in self.waits.iter_mut().zip(slot.waits()) {
            *sum = sum.saturating_add(n);
        }
    }

    fn finish(mut self) -> LockStats {
        let stats = &mut self.stats;
        stats.total_wait = Duration::from_micros(self.total_us);
        stats.average_wait = Duration::from_micros(self.total_us.checked_div(stats.acquisitions).unwrap_or(0));
        let total: u64 = self.waits.iter().fold(0, |sum, n| sum.saturating_add(*n));
        let mut left = total.saturating_sub(total / 100);
        for (bucket, n) in (0_u32..).zip(self.waits) {
            if left <= n {
                // Bucket 0 is for waits of 0 µs.
                stats.p99_wait = Duration::from_micros(if left == 0 { 0 } else { 1 << bucket }).min(stats.longest_wait);
                break;
            }
            left -= n;
        }
        self.stats
    }
}

impl Engine {
    /// `last_commit`, `user_version` and `tables` are those of a snapshot that the caller has.
    pub(crate) fn stats(&self, last_commit: u64, user_version: u64, tables: Vec<TableInfo>) -> Result<Stats> {
        let root = self.slots()?.newest;
        let sidecar = self.sidecar();
        self.load_hints(&sidecar);
        let mut sum = Sum::default();
        for index in (0..sidecar.slot_bound()).filter(|index| self.slot_is_alive(*index)) {
            sum.add(sidecar.slot(index));
        }
        // A tail hint from before the newest root says less than the root.
        let tail = sidecar.tail().map_or(root.log_position, |tail| tail.end.max(root.log_position));
        Ok(Stats {
            last_commit,
            durable: self.durable_lsn(),
            page_size: self.page_size,
            application_id: root.application,
            user_version,
            created: time_of(root.created),
            file_size: self.disk.len().map_err(self.io("read the length"))?,
            root_sequence: root.sequence,
            checkpoint_lsn: root.checkpoint_lsn,
            checkpoint_time: (root.time != 0).then(|| time_of(root.time)),
            log: LogStats {
                capacity: root.log_capacity(),
                used: tail - root.log_position,
                cap: self.settings.log_cap,
                position: tail,
            },
            pins: self.pins.all(root.sequence + 1)?.into_iter().map(|r| r.start..=r.end - 1).collect(),
            locks: sum.finish(),
            snapshots: self.named_snapshots()?,
            tables,
            flush_failed: self.is_poisoned(&sidecar),
        })
    }

    pub(crate) fn locks(&self) -> Result<Locks> {
        self.check_process()?;
        let sidecar = self.sidecar();
        // One query for all processes shows which of them are stopped.
        let seen = self.disk.holders(SLOT, sidecar.slot_bound() as u64);
        let holder = |index: usize, since| {
            let byte = SLOT + index as u64;
            let stopped = seen.iter().any(|held| (held.first..=held.last).contains(&byte) && held.holder.stopped);
            Holder { stopped, ..sidecar.slot(index).holder(Some(since)) }
        };
        let mut waiting: Vec<_> = (0..sidecar.slot_bound())
            .filter_map(|index| {
                let slot = sidecar.slot(index);
                let since = slot.state(State::Waiting).filter(|_| self.slot_is_alive(index))?;
                Some((slot.ticket(), holder(index, since)))
            })
            .collect();
        waiting.sort_by_key(|(ticket, _)| *ticket);
        let processes = (0..sidecar.slot_bound()).filter(|index| self.slot_is_alive(*index)).map(|index| {
            let slot = sidecar.slot(index);
            let mut sum = Sum::default();
            sum.add(slot);
            ProcessStats { process: holder(index, slot.started()), locks: sum.finish(), oldest_state: slot.pinned() }
        });
        let writer_held = self.is_held(&self.writer, WRITER)?;
        let checkpoint_held = self.is_held(&self.checkpointing, CHECKPOINT)?;
        let writer = self.holder(&sidecar, State::Writing);
        let checkpoint = self.holder(&sidecar, State::Checkpointing);
        Ok(Locks {
            writer_held: writer_held || writer.is_some(),
            writer,
            checkpoint_held: checkpoint_held || checkpoint.is_some(),
            checkpoint,
            waiting: waiting.into_iter().map(|(_, holder)| holder).collect(),
            processes: processes.collect(),
        })
    }

    /// Whether a lock is held: by another process, as the system reports it, or by this one, whose own lock the
    /// system does not report.
    pub(crate) fn is_held(&self, own: &FairLock, byte: u64) -> Result<bool> {
        let foreign = self.disk.probe(byte, 1).map_err(self.io("ask for locks"))?;
        Ok(own.is_held() || foreign.is_some())
    }

    pub(crate) fn wait_for_change(&self, after: u64, timeout: Duration) -> Result<u64> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let sidecar = self.sidecar();
            let seen = sidecar.changed_word();
            let lsn = self.snapshot()?.last_commit;
            let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
            if lsn > after || left.is_zero() {
                return Ok(lsn);
            }
            let look = if self.load_hints(&sidecar) { Duration::from_millis(500) } else { POLL };
            sidecar.wait_changed(seen, left.min(look));
        }
    }
}
