//! Measuring the operations of a handle: how many, how long, by kind and namespace, in bounded memory.

use crate::memory::Memory;
use crate::memory::error::{MemoryError, Result};
use crate::memory::item::Item;
use crate::memory::namespace::Namespace;
use crate::memory::time::Timestamp;
use crate::memory::txn::MemoryTxn;
use hdrhistogram::Histogram;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Namespaces beyond these are measured together.
const TRACKED: usize = 64;
/// Latencies are told apart from here, in nanoseconds.
const SHORTEST: u64 = 256;
/// Longer ones count as this.
const LONGEST: u64 = 3_600_000_000_000;
/// Significant digits of a latency: two are an error of 1 % at most.
const DIGITS: u8 = 2;

/// The kinds of operations that [`Memory::statistics`] tells apart.
///
/// ```
/// use memstone::memory::Operation;
/// assert!(Operation::Find.is_read() && !Operation::Add.is_read());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// [`Memory::add`].
    Add,
    /// [`Memory::get`] and [`Memory::vector`]; the reading in [`Memory::edit`], too.
    Get,
    /// [`Memory::find`].
    Find,
    /// [`Memory::update`], [`Memory::put_if`] and [`Memory::patch`]; the storing in [`Memory::edit`], too.
    Update,
    /// [`Memory::remove`].
    Remove,
    /// [`Memory::clear`], from the first transaction to the last.
    Clear,
    /// [`Memory::sweep`], from the first transaction to the last.
    Sweep,
    /// [`Memory::write`]: all that its body does is one operation on the root namespace.
    Transaction,
    /// [`Memory::charge`].
    Charge,
    /// [`Memory::enter`], and [`Permit::renew`](super::Permit::renew).
    Enter,
    /// [`Memory::check`].
    Check,
}

impl Operation {
    pub(super) const ALL: [Operation; 11] = [
        Operation::Add,
        Operation::Get,
        Operation::Find,
        Operation::Update,
        Operation::Remove,
        Operation::Clear,
        Operation::Sweep,
        Operation::Transaction,
        Operation::Charge,
        Operation::Enter,
        Operation::Check,
    ];

    /// Whether it waits for no writer.
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(self, Operation::Get | Operation::Find | Operation::Check)
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    /// A limit of a namespace was in the way.
    Refused,
    Failed,
}

impl End {
    pub(super) fn of<T>(result: &Result<T>) -> End {
        match result {
            Ok(_) => End::Done,
            Err(MemoryError::Quota { .. } | MemoryError::Rate { .. } | MemoryError::AtOnce { .. }) => End::Refused,
            Err(_) => End::Failed,
        }
    }
}

/// Operations of one kind on one namespace.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) count: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) total: Duration,
    pub(super) longest: Duration,
    /// In nanoseconds.
    latencies: Histogram<u32>,
}

impl Series {
    fn new() -> Option<Series> {
        // With these bounds it cannot fail.
        let latencies = Histogram::new_with_bounds(SHORTEST, LONGEST, DIGITS).ok()?;
        let none = Duration::ZERO;
        Some(Series { count: 0, refused: 0, failed: 0, total: none, longest: none, latencies })
    }

    fn add(&mut self, took: Duration, end: End) {
        self.count += 1;
        self.refused += u64::from(end == End::Refused);
        self.failed += u64::from(end == End::Failed);
        self.total = self.total.saturating_add(took);
        self.longest = self.longest.max(took);
        self.latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// So many of a thousand were not longer.
    pub(super) fn quantile(&self, of_thousand: u16) -> Duration {
        let value = self.latencies.value_at_quantile(f64::from(of_thousand) / 1000.0);
        Duration::from_nanos(value).min(self.longest)
    }
}

/// The kinds of one namespace that occurred.
type Kinds = [Option<Box<Series>>; Operation::ALL.len()];

#[derive(Debug, Default)]
struct Measured {
    tracked: HashMap<Namespace, Kinds>,
    /// All other namespaces.
    others: Kinds,
}

/// What a handle and its clones have measured.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) since: Timestamp,
    running: AtomicU64,
    measured: Mutex<Measured>,
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter { since: Timestamp::now(), running: AtomicU64::new(0), measured: Mutex::default() }
    }

    pub(super) fn begin(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running { meter: self, started: Instant::now() }
    }

    pub(super) fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// All series, ordered by namespace and kind; `None`: the namespaces that are not tracked.
    pub(super) fn series(&self) -> Vec<(Option<Namespace>, Operation, Series)> {
        let measured = self.measured();
        let tracked = measured.tracked.iter().map(|(namespace, kinds)| (Some(namespace), kinds));
        let mut found = Vec::new();
        for (namespace, kinds) in tracked.chain([(None, &measured.others)]) {
            for (operation, series) in Operation::ALL.iter().zip(kinds) {
                found.extend(series.as_deref().map(|series| (namespace.cloned(), *operation, series.clone())));
            }
        }
        drop(measured);
        found.sort_by(|a, b| (a.0.is_none(), &a.0, a.1).cmp(&(b.0.is_none(), &b.0, b.1)));
        found
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, operation: Operation, namespace: &Namespace, took: Duration, end: End) {
        let mut measured = self.measured();
        if !measured.tracked.contains_key(namespace) && measured.tracked.len() < TRACKED {
            measured.tracked.insert(namespace.clone(), Kinds::default());
        }
        let Measured { tracked, others } = &mut *measured;
        let kinds = tracked.get_mut(namespace).unwrap_or(others);
        let Some(place) = kinds.get_mut(operation as usize) else { return };
        if place.is_none() {
            *place = Series::new().map(Box::new);
        }
        if let Some(series) = place {
            series.add(took, end);
        }
    }
}

/// An operation that runs; one that panics counts no longer as running, and is not measured.
pub(super) struct Running<'m> {
    meter: &'m Meter,
    started: Instant,
}

impl Running<'_> {
    pub(super) fn end(self, operation: Operation, namespace: &Namespace, end: End) {
        self.meter.add(operation, namespace, self.started.elapsed(), end);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.meter.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Memory {
    /// Runs an operation on a namespace, and measures it.
    pub(super) fn measure<T>(
        &self,
        operation: Operation,
        namespace: &Namespace,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let running = self.meter.begin();
        let result = body();
        running.end(operation, namespace, End::of(&result));
        result
    }

    /// The same for an operation whose result tells the namespace. Without one it counts for the root.
    pub(super) fn measure_by<T>(
        &self,
        operation: Operation,
        namespace: impl FnOnce(&T) -> Option<&Namespace>,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let running = self.meter.begin();
        let result = body();
        let root = Namespace::root();
        running.end(operation, result.as_ref().ok().and_then(namespace).unwrap_or(&root), End::of(&result));
        result
    }

    /// A transaction of one operation on a namespace.
    pub(super) fn change<T>(
        &self,
        operation: Operation,
        namespace: &Namespace,
        body: impl FnOnce(&MemoryTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        self.measure(operation, namespace, || self.transact(self.options.writing, body))
    }

    /// A transaction that changes one item.
    pub(super) fn change_item(&self, body: impl FnOnce(&MemoryTxn<'_>) -> Result<Item>) -> Result<Item> {
        let options = self.options.writing;
        self.measure_by(Operation::Update, |item: &Item| Some(&item.namespace), || self.transact(options, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn namespace(n: usize) -> Namespace {
        format!("user{n}").parse().unwrap()
    }

    #[test]
    fn quantiles_are_right_to_two_digits() {
        let meter = Meter::new();
        for n in 1..=1000 {
            meter.add(Operation::Find, &namespace(1), MS * n, End::Done);
        }
        let series = meter.series().remove(0).2;
        for (of_thousand, expected) in [(500, 500), (950, 950), (990, 990), (1000, 1000)] {
            let found = series.quantile(of_thousand).as_secs_f64() * 1000.0;
            assert!((found - f64::from(expected)).abs() <= f64::from(expected) / 100.0, "{found} for {expected}");
        }
        assert_eq!((series.longest, series.total), (MS * 1000, MS * 500_500));
        // What no histogram holds counts as the longest that it does.
        meter.add(Operation::Find, &namespace(1), MS * 3_600_000 * 50, End::Failed);
        let series = meter.series().remove(0).2;
        assert_eq!((series.count, series.failed, series.longest), (1001, 1, MS * 3_600_000 * 50));
    }

    #[test]
    fn many_namespaces_take_no_more_memory() {
        let meter = Meter::new();
        for n in 0..TRACKED * 3 {
            meter.add(Operation::Add, &namespace(n), MS, End::Done);
            meter.add(Operation::Get, &namespace(n), MS, End::Refused);
        }
        let series = meter.series();
        assert_eq!(series.len(), (TRACKED + 1) * 2);
        let (last, others) = (series.last().unwrap(), &series[series.len() - 2]);
        assert_eq!((&last.0, last.1, last.2.count, last.2.refused), (&None, Operation::Get, 128, 128));
        assert_eq!((&others.0, others.1, others.2.count), (&None, Operation::Add, 128));
    }

    #[test]
    fn what_runs_is_counted_while_it_runs() {
        let meter = Meter::new();
        let running = meter.begin();
        assert_eq!(meter.running(), 1);
        running.end(Operation::Get, &Namespace::root(), End::Done);
        let panics = std::panic::AssertUnwindSafe(|| {
            let _running = meter.begin();
            panic!("an operation panics");
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!((meter.running(), meter.series().len()), (0, 1));
    }

    #[test]
    fn each_kind_has_its_own_place() {
        assert!(Operation::ALL.iter().enumerate().all(|(at, operation)| *operation as usize == at));
    }
}
