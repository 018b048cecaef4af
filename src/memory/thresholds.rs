//! Thresholds, and the warnings about what exceeds them.

use crate::memory::error::Resource;
use crate::memory::measure::Operation;
use crate::memory::namespace::Namespace;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// From which figures on [`Memory::statistics`](super::Memory::statistics) warns.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::Store;
/// use memstone::memory::{Memory, MemoryError, MemoryOptions, Thresholds, Watched};
/// use std::time::Duration;
/// let mut thresholds = Thresholds::default();
/// thresholds.read_p99 = Duration::ZERO;
/// let options = MemoryOptions::new().thresholds(thresholds);
/// let memory = Memory::with(Store::open(dir.path().join("memory.mst"))?, options);
/// let id = memory.add("ada", "likes tea")?.id;
/// memory.get(id)?;
/// let warnings = memory.statistics()?.warnings;
/// assert_eq!(warnings[0].watched, Watched::ReadLatency);
/// assert!(warnings[0].to_string().starts_with("99 of 100 reads: get in \"ada\""));
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Thresholds {
    /// The average wait for the turn to write, of all processes. Half a second.
    pub average_wait: Duration,
    /// The wait that 99 of 100 do not exceed, of all processes. Five seconds.
    pub p99_wait: Duration,
    /// For how long one transaction holds the writer lock. Ten seconds.
    pub writer_held: Duration,
    /// How many processes wait for the writer lock at once. 16.
    pub waiting: u64,
    /// The share of attempts to write that gave up at their deadline, of 100 attempts at least. 1 %.
    pub failed_share: f64,
    /// The latency that 99 of 100 operations that only read do not exceed. 100 ms.
    pub read_p99: Duration,
    /// The same for those that write. One second.
    pub write_p99: Duration,
    /// For how long an item has been expired without being swept. A day.
    pub unswept: Duration,
    /// The used share of a quota. 90 %.
    pub quota_share: f64,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            average_wait: Duration::from_millis(500),
            p99_wait: Duration::from_secs(5),
            writer_held: Duration::from_secs(10),
            waiting: 16,
            failed_share: 0.01,
            read_p99: Duration::from_millis(100),
            write_p99: Duration::from_secs(1),
            unswept: Duration::from_secs(86_400),
            quota_share: 0.9,
        }
    }
}

/// What a threshold is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Watched {
    /// [`Thresholds::average_wait`].
    AverageWait,
    /// [`Thresholds::p99_wait`].
    LongWaits,
    /// [`Thresholds::writer_held`].
    WriterHeld,
    /// [`Thresholds::waiting`].
    Waiting,
    /// [`Thresholds::failed_share`].
    FailedAcquisitions,
    /// [`Thresholds::read_p99`].
    ReadLatency,
    /// [`Thresholds::write_p99`].
    WriteLatency,
    /// [`Thresholds::unswept`].
    Unswept,
    /// [`Thresholds::quota_share`].
    Quota,
}

impl Watched {
    const fn what(self) -> &'static str {
        match self {
            Watched::AverageWait => "average wait for the turn to write",
            Watched::LongWaits => "99 of 100 waits for the turn to write",
            Watched::WriterHeld => "a transaction holds the writer lock",
            Watched::Waiting => "processes that wait to write",
            Watched::FailedAcquisitions => "attempts to write that gave up",
            Watched::ReadLatency => "99 of 100 reads",
            Watched::WriteLatency => "99 of 100 writes",
            Watched::Unswept => "the oldest item that has expired and is still there",
            Watched::Quota => "a quota is nearly used up",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Watched::AverageWait | Watched::LongWaits => {
                "make transactions shorter: think before `write`, use `edit` for what takes long, and import in batches"
            }
            Watched::WriterHeld => {
                "look at that process (`memstone locks FILE`): others write when its transaction ends, or it does"
            }
            Watched::Waiting => "put several changes into one transaction (`Memory::write`)",
            Watched::FailedAcquisitions => "give writers a longer timeout, or make transactions shorter",
            Watched::ReadLatency => "search in smaller namespaces, with more conditions, or for fewer items",
            Watched::WriteLatency => "see whether waits or flushes take the time (`memstone top FILE`)",
            Watched::Unswept => "call `Memory::sweep` now and then",
            Watched::Quota => "remove or sweep items of the namespace, or raise its limit",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Watched::Waiting => "processes",
            Watched::FailedAcquisitions | Watched::Quota => "share",
            _ => "seconds",
        }
    }
}

/// A figure that has reached its threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Warning {
    /// Which figure.
    pub watched: Watched,
    /// The namespace that it concerns, if it concerns one; for latencies `None` stands for those that are not tracked.
    pub namespace: Option<Namespace>,
    /// The kind of operation, for latencies.
    pub operation: Option<Operation>,
    /// What the quota counts, for quotas.
    pub resource: Option<Resource>,
    /// What was measured.
    pub measured: f64,
    /// From where on it is too much.
    pub threshold: f64,
    /// What both are measured in: `seconds`, `share` (of 1) or `processes`.
    pub unit: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

impl Warning {
    /// A warning, if it is due.
    pub(super) fn over(watched: Watched, measured: f64, threshold: f64) -> Option<Warning> {
        let (unit, advice) = (watched.unit(), watched.advice());
        let (namespace, operation, resource) = (None, None, None);
        let warning = Warning { watched, namespace, operation, resource, measured, threshold, unit, advice };
        (measured >= threshold).then_some(warning)
    }

    pub(super) fn longer(watched: Watched, measured: Duration, threshold: Duration) -> Option<Warning> {
        Warning::over(watched, measured.as_secs_f64(), threshold.as_secs_f64())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.watched.what())?;
        if let Some(operation) = self.operation {
            write!(f, ": {operation}")?;
        }
        match (&self.namespace, self.operation) {
            (Some(namespace), _) => write!(f, " in {namespace:?}")?,
            (None, Some(_)) => write!(f, " in other namespaces")?,
            (None, None) => {}
        }
        if let Some(resource) = self.resource {
            write!(f, " ({resource})")?;
        }
        let figure = |value: f64| match self.unit {
            "share" => format!("{:.1} %", value * 100.0),
            "seconds" => format!("{value:.3} s"),
            unit => format!("{value} {unit}"),
        };
        write!(f, ": {}, and {} is the threshold; {}", figure(self.measured), figure(self.threshold), self.advice)
    }
}
