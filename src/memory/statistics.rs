//! Statistics: waits for the writer lock, latencies of operations, and warnings.

use crate::memory::Memory;
use crate::memory::error::Result;
use crate::memory::job_counts;
use crate::memory::limits::Limits;
use crate::memory::load;
use crate::memory::measure::{Operation, Series};
use crate::memory::namespace::Namespace;
use crate::memory::snapshot::MemorySnapshot;
use crate::memory::tables::Table;
use crate::memory::thresholds::{Thresholds, Warning, Watched};
use crate::memory::time::Timestamp;
use crate::{LockStats, Locks};
use serde::Serialize;
use std::time::Duration;

/// Of fewer attempts no share is taken.
const ENOUGH: u64 = 100;

/// Figures about a memory, of three scopes: each field says which.
///
/// Figures of other processes come from the store's sidecar, in which each process counts for itself from when it opened
/// the store; they end with the process. `memstone::diagnose` has the health of the file.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::{Memory, MemoryError, Operation};
/// let memory = Memory::open(dir.path().join("memory.mst"))?;
/// memory.add("ada/chat", "likes tea")?;
/// let statistics = memory.statistics()?;
/// assert!(statistics.writer.acquisitions >= 1 && statistics.active == 0);
/// let added = &statistics.operations[0];
/// assert_eq!((added.operation, added.count), (Operation::Add, 1));
/// assert_eq!(added.namespace, Some("ada/chat".parse()?));
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// **All processes** that have the store open for writing now: how often the writer lock was taken and given up,
    /// waits for it, commits. Transactions on other tables count, too.
    pub writer: LockStats,
    /// **All processes**: how many hold the writer lock or wait for it, at this moment.
    pub active: u64,
    /// **All processes**: which of them hold locks or wait, and under [`Locks::processes`] the figures of each. Those of
    /// **this process** are there under its process id.
    pub locks: Locks,
    /// **This handle**, its clones, and others with its meter ([`MemoryOptions::meter`](super::MemoryOptions::meter)), as
    /// all that follows: since when they measure.
    pub since: Timestamp,
    /// **This handle**: operations that run at this moment, this one not included.
    pub running: u64,
    /// **This handle**: operations by namespace and kind. A namespace stands for itself, without those
    /// below it: for a search it is the one that the query names. Operations that concern no single namespace, and those
    /// on items that are not there, count for the root. At most 704 pairs of a namespace and a kind are told apart, those
    /// that come first; the others are together under `None`, by kind. What is done with a [`MemorySnapshot`], or inside of a
    /// transaction, is not counted singly.
    pub operations: Vec<OperationStatistics>,
    /// **This handle**: rows read, as [`Memory::work`] counts them.
    pub rows_read: u64,
    /// **This handle**: rows written.
    pub rows_written: u64,
    /// From which figures on there are warnings.
    pub thresholds: Thresholds,
    /// What has reached its threshold, in all of the above, in quotas and in what is to be swept.
    pub warnings: Vec<Warning>,
}

/// Operations of one kind on one namespace.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationStatistics {
    /// The namespace; `None`: all those that are not told apart.
    pub namespace: Option<Namespace>,
    /// Their kind.
    pub operation: Operation,
    /// How many, with those that were refused or failed.
    pub count: u64,
    /// How many were refused by a limit of a namespace.
    pub refused: u64,
    /// How many failed otherwise.
    pub failed: u64,
    /// The time of all of them together, waits and flushes included.
    pub total: Duration,
    /// The average time.
    pub average: Duration,
    /// Half of them took no longer. This and the next two are right to 1 %.
    pub p50: Duration,
    /// 95 of 100 took no longer.
    pub p95: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
}

impl OperationStatistics {
    fn new((namespace, operation, series): (Option<Namespace>, Operation, Series)) -> OperationStatistics {
        let average = series.total.checked_div(u32::try_from(series.count).unwrap_or(u32::MAX));
        OperationStatistics {
            namespace,
            operation,
            count: series.count,
            refused: series.refused,
            failed: series.failed,
            total: series.total,
            average: average.unwrap_or_default(),
            p50: series.quantile(500),
            p95: series.quantile(950),
            p99: series.quantile(990),
            longest: series.longest,
        }
    }

    fn warning(&self, thresholds: &Thresholds) -> Option<Warning> {
        if matches!(self.operation, Operation::Lengthy(_)) {
            return None;
        }
        let (watched, threshold) = if self.operation.is_read() {
            (Watched::ReadLatency, thresholds.read_p99)
        } else {
            (Watched::WriteLatency, thresholds.write_p99)
        };
        let warning = Warning::longer(watched, self.p99, threshold)?;
        Some(Warning { namespace: self.namespace.clone(), operation: Some(self.operation), ..warning })
    }
}

impl Memory {
    /// Figures about this memory, and warnings about what has reached its threshold
    /// ([`MemoryOptions::thresholds`](super::MemoryOptions::thresholds)). Waits for no writer; takes time for each
    /// namespace with limits, and for each process.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::{Limits, Memory, MemoryError, Watched};
    /// # let memory = Memory::open(dir.path().join("memory.mst"))?;
    /// memory.set_limits("ada", Limits::new().items(1))?;
    /// memory.add("ada", "likes tea")?;
    /// let warnings = memory.statistics()?.warnings;
    /// let quota = warnings.iter().find(|warning| warning.watched == Watched::Quota).unwrap();
    /// assert_eq!((&quota.namespace, quota.measured), (&Some("ada".parse()?), 1.0));
    /// # Ok::<(), MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Memory::snapshot`], and as [`Store::stats`](crate::Store::stats).
    pub fn statistics(&self) -> Result<Statistics> {
        let (writer, locks) = (self.store().stats()?.locks, self.store().locks()?);
        let (meter, work) = (&self.meter, self.work());
        let active = u64::from(locks.writer_held) + locks.waiting.len() as u64;
        let operations: Vec<_> = meter.series().into_iter().map(OperationStatistics::new).collect();
        let thresholds = &self.options.thresholds;
        let mut warnings = warnings_of_locks(thresholds, &writer, &locks);
        warnings.extend(operations.iter().filter_map(|operation| operation.warning(thresholds)));
        warnings.extend(warnings_of_content(thresholds, &self.snapshot()?)?);
        Ok(Statistics {
            writer,
            active,
            locks,
            since: meter.since(),
            running: meter.running(),
            operations,
            rows_read: work.rows_read,
            rows_written: work.rows_written,
            thresholds: *thresholds,
            warnings,
        })
    }
}

fn warnings_of_locks(thresholds: &Thresholds, writer: &LockStats, locks: &Locks) -> Vec<Warning> {
    let attempts = writer.acquisitions.saturating_add(writer.failures);
    // A state since the future, or since years ago, says nothing.
    let held = locks.writer.as_ref().and_then(crate::Holder::held_for).unwrap_or_default();
    let warnings = [
        Warning::longer(Watched::AverageWait, writer.average_wait, thresholds.average_wait),
        Warning::longer(Watched::LongWaits, writer.p99_wait, thresholds.p99_wait),
        Warning::longer(Watched::WriterHeld, held, thresholds.writer_held),
        Warning::over(Watched::Waiting, exact(locks.waiting.len() as u64), exact(thresholds.waiting)),
        Warning::over(Watched::FailedAcquisitions, share(writer.failures, attempts), thresholds.failed_share)
            .filter(|_| attempts >= ENOUGH),
    ];
    warnings.into_iter().flatten().collect()
}

fn warnings_of_content(thresholds: &Thresholds, snapshot: &MemorySnapshot) -> Result<Vec<Warning>> {
    let (reader, mut warnings) = (snapshot.reader(), Vec::new());
    if let Some(row) = reader.prefix(Table::Expiries, b"")?.next() {
        let expired = row?.0.first_chunk().map_or(0, |time| u64::from_be_bytes(*time));
        let since = snapshot.now().since(Timestamp::from_micros(expired));
        warnings.extend(Warning::longer(Watched::Unswept, since, thresholds.unswept));
    }
    for row in reader.prefix(Table::Limits, b"")? {
        let (key, row) = row?;
        let path = || Table::Limits.damaged(&key, "not a path");
        let namespace = Namespace::from_key(&key).ok_or_else(path)?;
        let used = load::namespace_row(&reader, &namespace)?.unwrap_or_default().total;
        let jobs = job_counts::read(&reader, &namespace)?;
        for (resource, limit, used) in Limits::parse(&key, &row)?.quotas(used, jobs) {
            let warning = Warning::over(Watched::Quota, share(used, limit), thresholds.quota_share);
            let of = |warning| Warning { namespace: Some(namespace.clone()), resource: Some(resource), ..warning };
            warnings.extend(warning.map(of));
        }
    }
    Ok(warnings)
}

/// What part of the whole; all of it, if there is no whole.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { f64::from(u8::from(part > 0)) } else { exact(part) / exact(whole) }
}

/// Counts are far below the limit up to which a float is exact; of bytes a share is wanted.
#[allow(clippy::cast_precision_loss)]
fn exact(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn each_figure_of_the_locks_has_its_warning() {
        let thresholds = Thresholds::default();
        let second = Duration::from_secs(1);
        let mut writer = LockStats::default();
        let mut locks = Locks {
            writer: None,
            writer_held: true,
            checkpoint: None,
            checkpoint_held: false,
            waiting: Vec::new(),
            processes: Vec::new(),
        };
        assert!(warnings_of_locks(&thresholds, &writer, &locks).is_empty());
        (writer.average_wait, writer.p99_wait) = (second / 2, second * 5);
        (writer.acquisitions, writer.failures) = (98, 1);
        let holder = crate::Holder {
            pid: 1,
            host: String::new(),
            command: String::new(),
            since: Some(SystemTime::now() - second * 60),
            stopped: false,
        };
        locks.waiting = vec![holder.clone(); 16];
        locks.writer = Some(holder);
        let watched = |writer: &LockStats, locks: &Locks| -> Vec<Watched> {
            warnings_of_locks(&thresholds, writer, locks).into_iter().map(|warning| warning.watched).collect()
        };
        let all = [Watched::AverageWait, Watched::LongWaits, Watched::WriterHeld, Watched::Waiting];
        assert_eq!(watched(&writer, &locks), all, "99 attempts are too few for a share");
        writer.acquisitions = 99;
        assert_eq!(watched(&writer, &locks)[4..], [Watched::FailedAcquisitions]);
        let text = warnings_of_locks(&thresholds, &writer, &locks)[4].to_string();
        assert!(text.starts_with("attempts to write that gave up: 1.0 %, and 1.0 % is the threshold; give"), "{text}");
    }
}
