//! Figures as text for Prometheus, and as rates between two samples.

use crate::engine::stats::{LockStats, Locks, ProcessStats, Stats};
use crate::error::Holder;
use std::fmt::{Display, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The figures of a store at one moment, from which [`Rates`] are taken; see [`Store::sample`](crate::Store::sample).
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Sample {
    /// When the sample was taken.
    pub time: SystemTime,
    /// Figures of the store.
    pub stats: Stats,
    /// Which processes hold locks, and which wait.
    pub locks: Locks,
    #[cfg_attr(feature = "serde", serde(skip))]
    taken: Instant,
}

/// What happened per second between two [`Sample`]s.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Rates {
    /// The time between them.
    pub interval: Duration,
    /// LSNs given each second, by any process: those of transactions and of the checkpoint records.
    pub lsns: f64,
    /// Transactions committed each second, by the processes that have the store open at the end.
    pub commits: f64,
    /// Flushes each second, by those processes.
    pub flushes: f64,
    /// Commits for each flush, of those processes; `None` if there was no flush.
    pub commits_per_flush: Option<f64>,
    /// Bytes appended to the log each second.
    pub log_bytes: f64,
    /// Checkpoints each second, by those processes.
    pub checkpoints: f64,
    /// How often the writer lock was taken each second, by those processes.
    pub turns: f64,
    /// Callers that gave up waiting for it each second.
    pub failures: f64,
    /// The average wait for it; `None` if it was not taken.
    pub average_wait: Option<Duration>,
}

impl Sample {
    pub(crate) fn new(stats: Stats, locks: Locks) -> Sample {
        Sample { time: SystemTime::now(), stats, locks, taken: Instant::now() }
    }

    /// What happened since an earlier sample of the same store. A process that opened and left the store in
    /// between counts only in `lsns` and `log_bytes`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// let before = store.sample()?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let rates = store.sample()?.rates_since(&before);
    /// assert!(rates.lsns > 0.0 && rates.turns > 0.0 && rates.average_wait.is_some());
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn rates_since(&self, earlier: &Sample) -> Rates {
        let interval = self.taken.saturating_duration_since(earlier.taken);
        // Counts within a second are far below the limit up to which a float is exact.
        #[allow(clippy::cast_precision_loss)]
        let per_second = |count: u64| count as f64 / interval.as_secs_f64().max(1e-9);
        let sum = |count: fn(&LockStats) -> u64| {
            let since = |now: &ProcessStats| {
                let is_same =
                    |was: &&ProcessStats| was.process == Holder { stopped: was.process.stopped, ..now.process.clone() };
                let before = earlier.locks.processes.iter().find(is_same).map_or(0, |was| count(&was.locks));
                count(&now.locks).saturating_sub(before)
            };
            self.locks.processes.iter().map(since).fold(0, u64::saturating_add)
        };
        let (commits, flushes) = (sum(|locks| locks.commits), sum(|locks| locks.flushes));
        let turns = sum(|locks| locks.acquisitions);
        let waited = sum(|locks| u64::try_from(locks.total_wait.as_micros()).unwrap_or(u64::MAX));
        #[allow(clippy::cast_precision_loss)]
        let commits_per_flush = (flushes > 0).then(|| commits as f64 / flushes as f64);
        Rates {
            interval,
            lsns: per_second(self.stats.last_commit.saturating_sub(earlier.stats.last_commit)),
            commits: per_second(commits),
            flushes: per_second(flushes),
            commits_per_flush,
            log_bytes: per_second(self.stats.log.position.saturating_sub(earlier.stats.log.position)),
            checkpoints: per_second(sum(|locks| locks.checkpoints)),
            turns: per_second(turns),
            failures: per_second(sum(|locks| locks.failures)),
            average_wait: waited.checked_div(turns).map(Duration::from_micros),
        }
    }

    /// The figures in the text format of Prometheus (version 0.0.4), with the store's path as the label `store`.
    /// Counters of a process have its process id and host as labels, since they start at 0 in each process.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// let text = store.sample()?.to_prometheus(store.path());
    /// assert!(text.contains("# TYPE memstone_file_size_bytes gauge\nmemstone_file_size_bytes{store="));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn to_prometheus(&self, path: &Path) -> String {
        let store = label("store", &path.to_string_lossy());
        let mut text = Text { out: String::new(), store };
        self.write_store(&mut text);
        self.write_locks(&mut text);
        self.write_processes(&mut text);
        self.write_contents(&mut text);
        text.out
    }

    fn write_store(&self, text: &mut Text) {
        let (stats, log) = (&self.stats, &self.stats.log);
        let pinned: u64 = stats.pins.iter().map(|range| range.end() - range.start() + 1).fold(0, u64::saturating_add);
        let failed = u8::from(stats.flush_failed);
        text.one("last_commit_lsn", GAUGE, "LSN of the newest transaction that readers see.", stats.last_commit);
        text.one("durable_lsn", GAUGE, "LSN up to which the log is known to be durable.", stats.durable);
        text.one("checkpoint_lsn", GAUGE, "LSN up to which the log is applied to the tree.", stats.checkpoint_lsn);
        text.family("checkpoint_timestamp_seconds", GAUGE, "When the newest checkpoint was made, since 1970.");
        if let Some(time) = stats.checkpoint_time {
            text.sample("checkpoint_timestamp_seconds", "", since_1970(time));
        }
        text.one("root_sequence", GAUGE, "Sequence of the newest root.", stats.root_sequence);
        text.one("file_size_bytes", GAUGE, "Length of the file.", stats.file_size);
        text.one("page_size_bytes", GAUGE, "Size of a page.", stats.page_size);
        text.one("log_capacity_bytes", GAUGE, "Size of the log in the file.", log.capacity);
        text.one("log_used_bytes", GAUGE, "The part of the log that the next checkpoint sets free.", log.used);
        text.one("log_cap_bytes", GAUGE, "The size that the log may grow to.", log.cap);
        text.one("log_appended_bytes_total", COUNTER, "Bytes ever appended to the log.", log.position);
        text.one("pinned_versions", GAUGE, "Tree versions that snapshots keep.", pinned);
        text.one("flush_failed", GAUGE, "1 if a flush has failed and is not made good yet.", failed);
    }

    fn write_locks(&self, text: &mut Text) {
        let locks = &self.locks;
        let longest = locks.waiting.iter().filter_map(|holder| holder.held_for()).max().unwrap_or_default();
        text.one("writer_lock_held", GAUGE, "1 if the writer lock is held.", u8::from(locks.writer_held));
        text.one("checkpoint_running", GAUGE, "1 if a checkpoint is being made.", u8::from(locks.checkpoint_held));
        text.one("writers_waiting", GAUGE, "Processes that wait for the writer lock.", locks.waiting.len());
        let help = "How long the one that waits longest has waited so far.";
        text.one("writers_waiting_longest_seconds", GAUGE, help, longest.as_secs_f64());
    }

    fn write_processes(&self, text: &mut Text) {
        type Count = fn(&ProcessStats) -> f64;
        #[allow(clippy::cast_precision_loss, reason = "the format has floats alone")]
        let counters: [(&str, &str, &str, Count); 8] = [
            ("process_lock_acquisitions_total", COUNTER, "How often the writer lock was taken.", |p| {
                p.locks.acquisitions as f64
            }),
            ("process_lock_failures_total", COUNTER, "Callers that gave up waiting for it.", |p| {
                p.locks.failures as f64
            }),
            ("process_lock_wait_seconds_total", COUNTER, "All waits for it together.", |p| {
                p.locks.total_wait.as_secs_f64()
            }),
            ("process_lock_wait_longest_seconds", GAUGE, "The longest wait for it.", |p| {
                p.locks.longest_wait.as_secs_f64()
            }),
            ("process_commits_total", COUNTER, "Transactions committed.", |p| p.locks.commits as f64),
            ("process_flushes_total", COUNTER, "Flushes that the commits shared.", |p| p.locks.flushes as f64),
            ("process_checkpoints_total", COUNTER, "Checkpoints made.", |p| p.locks.checkpoints as f64),
            ("process_stopped", GAUGE, "1 if the process is stopped.", |p| f64::from(u8::from(p.process.stopped))),
        ];
        let labels = |process: &ProcessStats| {
            let Holder { pid, host, .. } = &process.process;
            format!(",{},{}", label("pid", &pid.to_string()), label("host", host))
        };
        for (name, kind, help, count) in counters {
            text.family(name, kind, help);
            self.locks.processes.iter().for_each(|process| text.sample(name, &labels(process), count(process)));
        }
        let name = "process_oldest_state_timestamp_seconds";
        text.family(name, GAUGE, "Since when the process keeps the oldest state that it keeps, since 1970.");
        for process in &self.locks.processes {
            if let Some(since) = process.oldest_state {
                text.sample(name, &labels(process), since_1970(since));
            }
        }
    }

    fn write_contents(&self, text: &mut Text) {
        let Stats { tables, snapshots, page_size, .. } = &self.stats;
        let size = |pages: u64| pages.saturating_mul(u64::from(*page_size));
        text.each("table_entries", "Entries of the table.", ("table", tables), |t| (&t.name, t.entries));
        let help = "Bytes of the table's pages, as of the newest checkpoint.";
        text.each("table_size_bytes", help, ("table", tables), |t| (&t.name, size(t.pages)));
        let help = "Bytes of the table's keys and values, as of the newest checkpoint.";
        text.each("table_content_bytes", help, ("table", tables), |t| (&t.name, t.bytes));
        let help = "Bytes that are kept for the named snapshot alone.";
        text.each("snapshot_kept_bytes", help, ("snapshot", snapshots), |s| (&s.name, s.kept));
        let help = "When the named snapshot was made, since 1970.";
        let name = "snapshot_created_timestamp_seconds";
        text.each(name, help, ("snapshot", snapshots), |s| (&s.name, since_1970(s.time)));
    }
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// The text being written: each family once, followed by its samples.
struct Text {
    out: String,
    /// The label that all samples have.
    store: String,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.out, "# HELP memstone_{name} {help}\n# TYPE memstone_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let store = &self.store;
        let _ = writeln!(self.out, "memstone_{name}{{{store}{labels}}} {value}");
    }

    /// A gauge of each of these things, which a label names.
    fn each<'t, T, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        (of, things): (&str, &'t [T]),
        sample: impl Fn(&'t T) -> (&'t String, V),
    ) {
        self.family(name, GAUGE, help);
        for (thing, value) in things.iter().map(sample) {
            self.sample(name, &format!(",{}", label(of, thing)), value);
        }
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}

/// A label, its value escaped as the format requires.
fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"))
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
