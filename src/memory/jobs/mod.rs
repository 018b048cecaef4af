//! Jobs in the background: enqueued in the caller's transaction, done by workers in any process.
//!
//! A worker *claims* a job: for the time of a lease no other worker gets it. If the worker dies, the job is another's when
//! the lease has ended, so each job is done at least once. Each claim has a fencing token, and a claim whose job another
//! worker has got since is refused: what a job changes in the store itself, in the transaction that finishes it, is
//! therefore done exactly once. `docs/MEMORY.md` has concepts, recipes and promises.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! use memstone::memory::jobs::{Job, JobError, Jobs};
//! use std::time::Duration;
//!
//! let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
//! jobs.enqueue("ada", Job::new("count words", "green tea"))?;
//!
//! while let Some(claim) = jobs.claim("worker 1", &["count words"], Duration::from_secs(30))? {
//!     let words = claim.payload.split(|byte| *byte == b' ').count();
//!     // What the job is for, and that it is done: both, or neither.
//!     jobs.complete(&claim, |tx| Ok::<_, JobError>(tx.raw("counts")?.put(&claim.payload, words.to_string().as_bytes())?))?;
//! }
//! assert_eq!(jobs.store().read()?.raw("counts")?.get(b"green tea")?.as_deref(), Some(&b"2"[..]));
//! # Ok::<(), JobError>(())
//! ```

mod agenda;
mod change;
mod check;
mod error;
mod job;
mod parts;
mod rows;
mod snapshot;
mod txn;
mod wait;

pub use error::{JobError, Result};
pub use job::{Backoff, Job, MAX_PAYLOAD, Priority};
pub use parts::{Claim, Enqueued, Failed, JobCounts, JobId, JobInfo, JobState, LaneInfo};
pub use snapshot::JobsSnapshot;
pub use txn::JobsTxn;

use crate::memory::check::CheckReport;
use crate::memory::error::MemoryError;
use crate::memory::namespace::Namespace;
use crate::memory::time::Timestamp;
use crate::memory::{Memory, MemoryOptions, Work};
use crate::{Snapshot, Store, WriteTxn};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// What the jobs of a state lead one to expect, compared with what is there.
pub(super) fn check_at(snapshot: Snapshot) -> Result<CheckReport, MemoryError> {
    let found = JobsSnapshot::new(snapshot, &std::sync::Arc::default()).and_then(|snapshot| check::check(&snapshot));
    found.map_err(|error| match error {
        JobError::Memory(error) => error,
        error => MemoryError::Store(error.into()),
    })
}

/// The jobs of a store. Cloning the handle is cheap; handles may be used from any thread, and any number of processes may
/// use the same file.
///
/// Methods that change something run one write transaction each; [`Jobs::write`] and [`Jobs::on`] are for several changes
/// at once, and for changes together with other tables.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::jobs::{Job, JobError, JobState, Jobs};
/// use memstone::memory::{Memory, MemoryOptions};
/// use memstone::Store;
/// use std::time::Duration;
/// let lease = Duration::from_secs(30);
/// let jobs = Jobs::with(Store::open(dir.path().join("jobs.mst"))?, MemoryOptions::new());
/// // A handle on the jobs of a memory is the same.
/// let same = Jobs::of(&Memory::new(jobs.store().clone()));
///
/// // Several changes at once; and one in a transaction of the caller.
/// let (first, second) = jobs.write(|tx| {
///     Ok::<_, JobError>((tx.enqueue("ada", Job::new("mail", "1"))?.id, tx.enqueue("ada", Job::new("mail", "2"))?.id))
/// })?;
/// let tx = jobs.store().begin_write()?;
/// let third = jobs.on(&tx)?.enqueue("bob", Job::new("mail", "3"))?.id;
/// tx.commit()?;
/// assert_eq!(jobs.snapshot()?.list(None, 10)?.len(), 3);
///
/// // A worker: it tells that it is alive, and how far it is.
/// let claim = jobs.claim("worker 1", &["mail"], lease)?.unwrap();
/// assert_eq!(claim.id, first);
/// assert!(jobs.heartbeat(&claim, lease)? >= claim.until);
/// jobs.progress(&claim, "half of it")?;
/// assert_eq!(same.get(first)?.unwrap().progress, "half of it");
/// jobs.release(&claim)?; // as if it had not been claimed
/// let claim = jobs.claim("worker 1", &["mail"], lease)?.unwrap();
/// jobs.finish(&claim)?;
///
/// // One that cannot be done, and one that need not be.
/// let claim = jobs.claim("worker 1", &["mail"], lease)?.unwrap();
/// jobs.give_up(&claim, "no such address")?;
/// assert_eq!(jobs.get(claim.id)?.unwrap().state, JobState::Dead);
/// let other = if claim.id == second { third } else { second };
/// assert!(jobs.cancel(other)?);
/// let of_claim = jobs.counts("mail", claim.namespace.clone())?;
/// assert_eq!((of_claim.dead, jobs.lanes()?.iter().map(|lane| lane.counts.waiting).sum::<u64>()), (1, 0));
/// jobs.remove(claim.id)?;
/// assert!(jobs.work().rows_written > 0);
/// # Ok::<(), JobError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Jobs {
    memory: Memory,
}

impl Jobs {
    /// Opens the store with this path, or creates it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Jobs> {
        Ok(Jobs::new(Store::open(path)?))
    }

    /// The jobs in an open store.
    #[must_use]
    pub fn new(store: Store) -> Jobs {
        Jobs::with(store, MemoryOptions::default())
    }

    /// The same with other options: how write transactions wait and commit, and where the time comes from.
    #[must_use]
    pub fn with(store: Store, options: MemoryOptions) -> Jobs {
        Jobs { memory: Memory::with(store, options) }
    }

    /// The jobs in the store of a memory, with its options.
    #[must_use]
    pub fn of(memory: &Memory) -> Jobs {
        Jobs { memory: memory.clone() }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.memory.store()
    }

    /// Rows that this handle and its clones have read and written so far: see [`Memory::work`].
    #[must_use]
    pub fn work(&self) -> Work {
        self.memory.work()
    }

    fn now(&self) -> Timestamp {
        self.memory.options.clock.now()
    }

    /// The newest state, for several reads that agree. Waits for no writer.
    ///
    /// # Errors
    /// As [`Store::read`], [`MemoryError::Layout`], [`MemoryError::Damaged`].
    pub fn snapshot(&self) -> Result<JobsSnapshot> {
        JobsSnapshot::new(self.store().read()?, self.memory.meter.counters())
    }

    /// Runs `body` in one write transaction: commits if it returns `Ok`, and rolls everything back if it returns `Err` or
    /// panics. Blocks all other writers meanwhile.
    ///
    /// # Errors
    /// What `body` returns; as [`Store::write`]; [`MemoryError::Layout`], [`MemoryError::Damaged`].
    pub fn write<T, E: From<JobError>>(&self, body: impl FnOnce(&JobsTxn<'_>) -> Result<T, E>) -> Result<T, E> {
        self.transact(|tx| body(&self.on(tx)?))
    }

    fn transact<T, E: From<JobError>>(&self, body: impl FnOnce(&WriteTxn) -> Result<T, E>) -> Result<T, E> {
        let tx = self.store().begin_write_with(self.memory.options.writing).map_err(JobError::Store)?;
        let result = body(&tx)?;
        tx.commit().map_err(JobError::Store)?;
        Ok(result)
    }

    /// The jobs inside a transaction of their store that the caller has begun, and commits.
    ///
    /// # Errors
    /// [`JobError::Store`], [`MemoryError::Layout`], [`MemoryError::Damaged`].
    pub fn on<'t>(&'t self, tx: &'t WriteTxn) -> Result<JobsTxn<'t>> {
        JobsTxn::new(tx, self.memory.meter.counters(), self.now())
    }

    /// Enqueues a job for a namespace: see [`JobsTxn::enqueue`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::jobs::{Job, JobError, Jobs};
    /// # let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
    /// let first = jobs.enqueue("ada", Job::new("index", "note 7").key("note 7"))?;
    /// let again = jobs.enqueue("ada", Job::new("index", "note 7").key("note 7"))?;
    /// assert!(again.id == first.id && again.duplicate);
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`JobsTxn::enqueue`] and [`Store::write`].
    pub fn enqueue<N>(&self, namespace: N, job: Job) -> Result<Enqueued>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        self.write(|tx| tx.enqueue(namespace, job))
    }

    /// Gives a job of these queues to a worker, for the time of a lease; `None` if there is none to be had. The worker's
    /// name is for those who look: it need not be unique. See [`JobsTxn::claim`]. A claim that finds no job takes no lock.
    ///
    /// # Errors
    /// As [`JobsTxn::claim`] and [`Store::write`].
    pub fn claim<Q: AsRef<str>>(&self, worker: &str, queues: &[Q], lease: Duration) -> Result<Option<Claim>> {
        self.claim_under(Namespace::root(), worker, queues, lease)
    }

    /// The same, of the jobs of a namespace and of those below it alone: see [`JobsTxn::claim_under`].
    ///
    /// ```
    /// # let jobs = memstone::memory::jobs::Jobs::new(memstone::Store::in_memory()?);
    /// # use memstone::memory::jobs::{Job, JobError};
    /// # use std::time::Duration;
    /// jobs.enqueue("bob", Job::new("embed", "note 1"))?;
    /// jobs.enqueue("ada/chat", Job::new("embed", "note 2"))?;
    /// let lease = Duration::from_secs(30);
    /// assert_eq!(jobs.claim_under("ada", "worker 1", &["embed"], lease)?.unwrap().payload, b"note 2");
    /// assert!(jobs.claim_under("ada", "worker 1", &["embed"], lease)?.is_none());
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`JobsTxn::claim_under`] and [`Store::write`].
    pub fn claim_under<N, Q: AsRef<str>>(
        &self,
        under: N,
        worker: &str,
        queues: &[Q],
        lease: Duration,
    ) -> Result<Option<Claim>>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let under = under.try_into().map_err(Into::into)?;
        let due = self.snapshot()?.due_under(&under, queues)?;
        if due.is_none_or(|due| due > self.now()) {
            return Ok(None);
        }
        self.write(|tx| tx.claim_under(&under, worker, queues, lease))
    }

    /// The same, and waits for a job if there is none: for one that any process enqueues, one whose time comes, or one
    /// whose lease ends. `None` after the timeout.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::jobs::{Job, JobError, Jobs};
    /// # use std::time::Duration;
    /// # let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
    /// let other = jobs.clone();
    /// let thread = std::thread::spawn(move || other.enqueue("ada", Job::new("embed", "note 1")));
    /// let claim = jobs.claim_wait("worker 1", &["embed"], Duration::from_secs(30), Duration::from_secs(60))?;
    /// assert_eq!(claim.unwrap().payload, b"note 1");
    /// # thread.join().unwrap()?;
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Jobs::claim`].
    pub fn claim_wait<Q: AsRef<str>>(
        &self,
        worker: &str,
        queues: &[Q],
        lease: Duration,
        timeout: Duration,
    ) -> Result<Option<Claim>> {
        let started = Instant::now();
        loop {
            // Before it looks: it looks once more when the time is over.
            let left = timeout.saturating_sub(started.elapsed());
            let snapshot = self.snapshot()?;
            let wait = snapshot.due(queues)?.map_or(Duration::MAX, |due| due.since(self.now()));
            if wait.is_zero()
                && let Some(claim) = self.write(|tx| tx.claim(worker, queues, lease))?
            {
                return Ok(Some(claim));
            }
            if left.is_zero() {
                return Ok(None);
            }
            // If another worker was faster, its commit ends the wait at once.
            let wait = if wait.is_zero() { wait::LONGEST } else { wait };
            wait::for_commit(self.store(), snapshot.store_snapshot().lsn(), wait.min(left))?;
        }
    }

    /// Begins the lease of a claim anew: see [`JobsTxn::heartbeat`].
    ///
    /// # Errors
    /// As [`JobsTxn::heartbeat`] and [`Store::write`].
    pub fn heartbeat(&self, claim: &Claim, lease: Duration) -> Result<Timestamp> {
        self.write(|tx| tx.heartbeat(claim, lease))
    }

    /// States how far a worker has come: see [`JobsTxn::progress`].
    ///
    /// # Errors
    /// As [`JobsTxn::progress`] and [`Store::write`].
    pub fn progress(&self, claim: &Claim, progress: impl Into<Value>) -> Result<()> {
        self.write(|tx| tx.progress(claim, progress))
    }

    /// Ends a job that is done: see [`JobsTxn::finish`].
    ///
    /// # Errors
    /// As [`JobsTxn::finish`] and [`Store::write`].
    pub fn finish(&self, claim: &Claim) -> Result<()> {
        self.write(|tx| tx.finish(claim))
    }

    /// Ends a job together with what it is for: `body` changes the store in the transaction that finishes the job. Both
    /// are committed, or neither, and no claim does it twice: if the claim is lost, `body` does not run. If `body` returns
    /// an error, everything is rolled back, and the worker still has the job.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::jobs::{Job, JobError, Jobs};
    /// # use std::time::Duration;
    /// # let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
    /// jobs.enqueue("ada", Job::new("count", "7"))?;
    /// let claim = jobs.claim("worker 1", &["count"], Duration::from_secs(30))?.unwrap();
    /// let count = || jobs.complete(&claim, |tx| Ok::<_, JobError>(tx.raw("counts")?.put(b"ada", &claim.payload)?));
    /// count()?;
    /// assert!(matches!(count(), Err(JobError::Lost { .. })), "it was done, and is done once");
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// What `body` returns; as [`JobsTxn::finish`] and [`Store::write`].
    pub fn complete<T, E: From<JobError>>(
        &self,
        claim: &Claim,
        body: impl FnOnce(&WriteTxn) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transact(|tx| {
            self.on(tx)?.finish(claim)?;
            body(tx)
        })
    }

    /// States that an attempt failed, and why: see [`JobsTxn::fail`].
    ///
    /// # Errors
    /// As [`JobsTxn::fail`] and [`Store::write`].
    pub fn fail(&self, claim: &Claim, error: &str) -> Result<Failed> {
        self.write(|tx| tx.fail(claim, error))
    }

    /// States that no attempt can succeed: see [`JobsTxn::give_up`].
    ///
    /// # Errors
    /// As [`JobsTxn::give_up`] and [`Store::write`].
    pub fn give_up(&self, claim: &Claim, error: &str) -> Result<()> {
        self.write(|tx| tx.give_up(claim, error))
    }

    /// Gives a job back that was not done: see [`JobsTxn::release`].
    ///
    /// # Errors
    /// As [`JobsTxn::release`] and [`Store::write`].
    pub fn release(&self, claim: &Claim) -> Result<()> {
        self.write(|tx| tx.release(claim))
    }

    /// Cancels a job: see [`JobsTxn::cancel`].
    ///
    /// # Errors
    /// As [`JobsTxn::cancel`] and [`Store::write`].
    pub fn cancel(&self, id: JobId) -> Result<bool> {
        self.write(|tx| tx.cancel(id))
    }

    /// Tries a dead letter again: see [`JobsTxn::retry`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::jobs::{Failed, Job, JobError, Jobs};
    /// # use std::time::Duration;
    /// # let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
    /// jobs.enqueue("ada", Job::new("mail", "to: bob").attempts(1))?;
    /// let claim = jobs.claim("worker 1", &["mail"], Duration::from_secs(30))?.unwrap();
    /// assert_eq!(jobs.fail(&claim, "no such address")?, Failed::Dead);
    /// for dead in jobs.dead("mail", "ada", None, 100)? {
    ///     assert_eq!(dead.error.as_deref(), Some("no such address"));
    ///     jobs.retry(dead.id)?;
    /// }
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`JobsTxn::retry`] and [`Store::write`].
    pub fn retry(&self, id: JobId) -> Result<()> {
        self.write(|tx| tx.retry(id))
    }

    /// Removes a job that has ended: see [`JobsTxn::remove`].
    ///
    /// # Errors
    /// As [`JobsTxn::remove`] and [`Store::write`].
    pub fn remove(&self, id: JobId) -> Result<()> {
        self.write(|tx| tx.remove(id))
    }

    /// What is known of a job; `None` if there is none, or if it has ended and is not kept.
    ///
    /// # Errors
    /// As [`Jobs::snapshot`].
    pub fn get(&self, id: JobId) -> Result<Option<JobInfo>> {
        self.snapshot()?.get(id)
    }

    /// How many jobs count for the quota of a namespace ([`Limits::jobs`](super::Limits::jobs)): its own and those of all
    /// namespaces below it that have not ended, and dead letters. Nothing is counted.
    ///
    /// ```
    /// # let jobs = memstone::memory::jobs::Jobs::new(memstone::Store::in_memory()?);
    /// # use memstone::memory::jobs::{Job, JobError};
    /// jobs.enqueue("ada/chat", Job::new("embed", "note 1"))?;
    /// assert_eq!((jobs.held("ada")?, jobs.held("bob")?), (1, 0));
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], and as [`Jobs::snapshot`].
    pub fn held<N>(&self, namespace: N) -> Result<u64>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        self.snapshot()?.held(namespace)
    }

    /// How many jobs a namespace has in a queue, by its counters: nothing is counted.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], and as [`Jobs::snapshot`].
    pub fn counts<N>(&self, queue: &str, namespace: N) -> Result<JobCounts>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        self.snapshot()?.counts(queue, namespace)
    }

    /// All queues with the namespaces that have jobs there, and how many.
    ///
    /// # Errors
    /// As [`Jobs::snapshot`].
    pub fn lanes(&self) -> Result<Vec<LaneInfo>> {
        self.snapshot()?.lanes()
    }

    /// The dead letters that a namespace has in a queue, in the order in which they were enqueued, behind one of them, at
    /// most so many.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], and as [`Jobs::snapshot`].
    pub fn dead<N>(&self, queue: &str, namespace: N, after: Option<JobId>, limit: usize) -> Result<Vec<JobInfo>>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        self.snapshot()?.dead(queue, namespace, after, limit)
    }

    /// Verifies that all indexes and counters agree with the jobs, in one state.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use memstone::memory::jobs::{Job, JobError, Jobs};
    /// # let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
    /// jobs.enqueue("ada", Job::new("embed", "note 1"))?;
    /// let report = jobs.check()?;
    /// assert!(report.is_clean() && report.jobs == 1);
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Jobs::snapshot`]. What disagrees is no error: the report has it.
    pub fn check(&self) -> Result<CheckReport> {
        check::check(&self.snapshot()?)
    }
}
