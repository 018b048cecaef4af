//! Measuring operations: how many, how long, by kind and namespace, in bounded memory.

use crate::memory::Memory;
use crate::memory::error::{MemoryError, Result};
use crate::memory::item::Item;
use crate::memory::namespace::Namespace;
use crate::memory::tables::Counters;
use crate::memory::time::Timestamp;
use crate::memory::txn::MemoryTxn;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many kinds on a namespace are told apart; those that come later are measured by their kinds alone.
const TRACKED: usize = 704;
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
/// assert_eq!(Operation::Find.to_string(), "find");
/// assert_eq!(Operation::Reading("summarise").to_string(), "summarise");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// An operation of the program's own, by its name, that waits for no writer: see [`Meter::begin`].
    Reading(&'static str),
    /// An operation of the program's own, by its name, that may wait for writers.
    Writing(&'static str),
    /// An operation of the program's own, by its name, that takes as long as there is much to do: no threshold warns of it.
    Lengthy(&'static str),
}

impl Operation {
    /// Whether it waits for no writer.
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(self, Operation::Get | Operation::Find | Operation::Check | Operation::Reading(_))
    }

    const fn name(self) -> &'static str {
        match self {
            Operation::Add => "add",
            Operation::Get => "get",
            Operation::Find => "find",
            Operation::Update => "update",
            Operation::Remove => "remove",
            Operation::Clear => "clear",
            Operation::Sweep => "sweep",
            Operation::Transaction => "transaction",
            Operation::Charge => "charge",
            Operation::Enter => "enter",
            Operation::Check => "check",
            Operation::Reading(name) | Operation::Writing(name) | Operation::Lengthy(name) => name,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Its name.
impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How an operation ended.
///
/// ```
/// use memstone::memory::{Meter, Namespace, Operation, Outcome};
/// let meter = Meter::new();
/// for outcome in [Outcome::Done, Outcome::Refused, Outcome::Failed] {
///     meter.begin().end(Operation::Writing("import"), &Namespace::root(), outcome);
/// }
/// assert_eq!(meter.reset(), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was to do.
    Done,
    /// A limit of a namespace was in the way.
    Refused,
    /// It failed for another reason.
    Failed,
}

impl Outcome {
    /// That of a method of [`Memory`].
    pub(super) fn of<T>(result: &Result<T>) -> Outcome {
        match result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::of_error(error),
        }
    }

    /// That of an operation which ends with this error.
    ///
    /// ```
    /// use memstone::memory::{Limits, Memory, Outcome};
    /// let memory = Memory::new(memstone::Store::in_memory()?);
    /// memory.set_limits("ada", Limits::new().items(0))?;
    /// assert_eq!(Outcome::of_error(&memory.add("ada", "likes tea").unwrap_err()), Outcome::Refused);
    /// # Ok::<(), memstone::memory::MemoryError>(())
    /// ```
    #[must_use]
    pub const fn of_error(error: &MemoryError) -> Outcome {
        match error {
            MemoryError::Quota { .. } | MemoryError::Rate { .. } | MemoryError::AtOnce { .. } => Outcome::Refused,
            _ => Outcome::Failed,
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

    fn add(&mut self, took: Duration, outcome: Outcome) {
        self.count += 1;
        self.refused += u64::from(outcome == Outcome::Refused);
        self.failed += u64::from(outcome == Outcome::Failed);
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
type Kinds = BTreeMap<Operation, Series>;

#[derive(Debug)]
struct Measured {
    since: Timestamp,
    by_namespace: HashMap<Namespace, Kinds>,
    /// How many series are in there.
    tracked: usize,
    /// What is not told apart by namespaces.
    others: Kinds,
}

impl Measured {
    fn new() -> Measured {
        Measured { since: Timestamp::now(), by_namespace: HashMap::new(), tracked: 0, others: Kinds::new() }
    }

    /// Where an operation is counted.
    fn place(&mut self, operation: Operation, namespace: &Namespace) -> Option<&mut Series> {
        let is_known = self.by_namespace.get(namespace).is_some_and(|kinds| kinds.contains_key(&operation));
        let kinds = if is_known {
            self.by_namespace.get_mut(namespace)?
        } else if self.tracked < TRACKED {
            self.tracked += 1;
            self.by_namespace.entry(namespace.clone()).or_default()
        } else {
            &mut self.others
        };
        match kinds.entry(operation) {
            std::collections::btree_map::Entry::Occupied(known) => Some(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => Some(place.insert(Series::new()?)),
        }
    }
}

/// Where operations are measured: each handle has one of its own, unless
/// [`MemoryOptions::meter`](super::MemoryOptions::meter) gives several handles the same. Clones are the same meter. A
/// program can measure operations of its own with it, and finds them in [`Memory::statistics`] beside the others.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::memory::{Memory, MemoryError, MemoryOptions, Meter, Operation, Outcome};
/// let meter = Meter::new();
/// let handle = || Memory::with(store.clone(), MemoryOptions::new().meter(meter.clone()));
/// handle().add("ada", "likes tea")?;
/// let measuring = meter.begin();
/// // (what is measured)
/// measuring.end(Operation::Reading("summarise"), &"ada".parse()?, Outcome::Done);
/// let measured: Vec<String> = handle().statistics()?.operations.iter().map(|of| of.operation.to_string()).collect();
/// assert_eq!(measured, ["add", "summarise"]);
/// assert_eq!(meter.reset(), 2);
/// assert!(handle().statistics()?.operations.is_empty());
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Meter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counters: Arc<Counters>,
    running: AtomicU64,
    measured: Mutex<Measured>,
}

impl Default for Meter {
    fn default() -> Meter {
        let (counters, running) = (Arc::default(), AtomicU64::new(0));
        Meter(Arc::new(Shared { counters, running, measured: Mutex::new(Measured::new()) }))
    }
}

impl Meter {
    /// A meter that has measured nothing.
    #[must_use]
    pub fn new() -> Meter {
        Meter::default()
    }

    /// Begins to measure an operation. One whose [`Measuring`] is dropped, because it panics, is not measured.
    #[must_use]
    pub fn begin(&self) -> Measuring<'_> {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Measuring { meter: self, started: Instant::now() }
    }

    /// Forgets all operations that have ended and the rows that were read and written, and measures anew from now on.
    /// Returns how many operations were forgotten.
    pub fn reset(&self) -> u64 {
        let before = std::mem::replace(&mut *self.measured(), Measured::new());
        let Counters { read, written } = &*self.0.counters;
        [read, written].iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        let kinds = before.by_namespace.values().chain([&before.others]);
        kinds.flat_map(BTreeMap::values).map(|series| series.count).sum()
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    pub(super) fn since(&self) -> Timestamp {
        self.measured().since
    }

    pub(super) fn running(&self) -> u64 {
        self.0.running.load(Ordering::Relaxed)
    }

    /// All series, ordered by namespace and kind; `None`: the namespaces that are not told apart.
    pub(super) fn series(&self) -> Vec<(Option<Namespace>, Operation, Series)> {
        let measured = self.measured();
        let tracked = measured.by_namespace.iter().map(|(namespace, kinds)| (Some(namespace), kinds));
        let mut found = Vec::new();
        for (namespace, kinds) in tracked.chain([(None, &measured.others)]) {
            found.extend(kinds.iter().map(|(operation, series)| (namespace.cloned(), *operation, series.clone())));
        }
        drop(measured);
        found.sort_by(|a, b| (a.0.is_none(), &a.0, a.1).cmp(&(b.0.is_none(), &b.0, b.1)));
        found
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.0.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, operation: Operation, namespace: &Namespace, took: Duration, outcome: Outcome) {
        if let Some(series) = self.measured().place(operation, namespace) {
            series.add(took, outcome);
        }
    }
}

/// An operation that runs; one that is dropped counts no longer as running, and is not measured.
///
/// ```
/// use memstone::memory::{Measuring, Meter, Namespace, Operation, Outcome};
/// let meter = Meter::new();
/// let measuring: Measuring<'_> = meter.begin();
/// // (what is measured)
/// measuring.end(Operation::Lengthy("import"), &Namespace::root(), Outcome::Done);
/// drop(meter.begin()); // not measured
/// assert_eq!(meter.reset(), 1);
/// ```
#[derive(Debug)]
pub struct Measuring<'m> {
    meter: &'m Meter,
    started: Instant,
}

impl Measuring<'_> {
    /// The operation has ended.
    pub fn end(self, operation: Operation, namespace: &Namespace, outcome: Outcome) {
        self.meter.add(operation, namespace, self.started.elapsed(), outcome);
    }
}

impl Drop for Measuring<'_> {
    fn drop(&mut self) {
        self.meter.0.running.fetch_sub(1, Ordering::Relaxed);
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
        running.end(operation, namespace, Outcome::of(&result));
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
        running.end(operation, result.as_ref().ok().and_then(namespace).unwrap_or(&root), Outcome::of(&result));
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
            meter.add(Operation::Find, &namespace(1), MS * n, Outcome::Done);
        }
        let series = meter.series().remove(0).2;
        for (of_thousand, expected) in [(500, 500), (950, 950), (990, 990), (1000, 1000)] {
            let found = series.quantile(of_thousand).as_secs_f64() * 1000.0;
            assert!((found - f64::from(expected)).abs() <= f64::from(expected) / 100.0, "{found} for {expected}");
        }
        assert_eq!((series.longest, series.total), (MS * 1000, MS * 500_500));
        // What no histogram holds counts as the longest that it does.
        meter.add(Operation::Find, &namespace(1), MS * 3_600_000 * 50, Outcome::Failed);
        let series = meter.series().remove(0).2;
        assert_eq!((series.count, series.failed, series.longest), (1001, 1, MS * 3_600_000 * 50));
    }

    #[test]
    fn many_namespaces_take_no_more_memory() {
        let meter = Meter::new();
        for n in 0..TRACKED {
            meter.add(Operation::Add, &namespace(n), MS, Outcome::Done);
            meter.add(Operation::Get, &namespace(n), MS, Outcome::Refused);
        }
        let series = meter.series();
        assert_eq!(series.len(), TRACKED + 2);
        let (last, others) = (series.last().unwrap(), &series[series.len() - 2]);
        let half = TRACKED as u64 / 2;
        assert_eq!((&last.0, last.1, last.2.count, last.2.refused), (&None, Operation::Get, half, half));
        assert_eq!((&others.0, others.1, others.2.count), (&None, Operation::Add, half));
        // What is known goes on.
        meter.add(Operation::Add, &namespace(0), MS, Outcome::Done);
        assert_eq!((meter.series().len(), meter.reset()), (TRACKED + 2, TRACKED as u64 * 2 + 1));
        assert!(meter.series().is_empty());
    }

    #[test]
    fn what_runs_is_counted_while_it_runs() {
        let meter = Meter::new();
        let running = meter.begin();
        assert_eq!(meter.running(), 1);
        running.end(Operation::Get, &Namespace::root(), Outcome::Done);
        let panics = std::panic::AssertUnwindSafe(|| {
            let _running = meter.begin();
            panic!("an operation panics");
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!((meter.running(), meter.series().len()), (0, 1));
    }
}
