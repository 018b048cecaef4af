//! The operations of a write transaction.

use super::agenda::{self, Next};
use super::change::{self, change};
use super::error::{JobError, Result};
use super::job::{Job, check_name, micros};
use super::parts::{Claim, Enqueued, Failed, JobId, JobInfo};
use super::rows::{AGAIN, Head, Lane, Queue, Row, Stage, held_key, last_number, next_number};
use crate::WriteTxn;
use crate::memory::error::MemoryError;
use crate::memory::item::check_depth;
use crate::memory::language::beginning_of;
use crate::memory::limits;
use crate::memory::namespace::Namespace;
use crate::memory::tables::{Counters, Table, Writer};
use crate::memory::time::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// Most bytes of what a worker states, as JSON.
const MAX_PROGRESS: usize = 64 << 10;
/// The rest of an error is cut off.
const MAX_ERROR: usize = 4 << 10;

/// Operations on jobs inside one write transaction: all of them take effect together, or none, and together with
/// whatever else the transaction does.
///
/// [`Jobs::write`](super::Jobs::write) makes one; [`Jobs::on`](super::Jobs::on) makes one of a transaction that the caller
/// has begun. An operation that is refused has changed nothing.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::Memory;
/// use memstone::memory::jobs::{Job, JobError, Jobs};
/// let memory = Memory::open(dir.path().join("memory.mst"))?;
/// let jobs = Jobs::of(&memory);
/// // The note and the job that is to embed it, or neither.
/// let tx = memory.store().begin_write()?;
/// let note = memory.on(&tx)?.add("ada", "likes tea")?.id;
/// jobs.on(&tx)?.enqueue("ada", Job::new("embed", note.as_bytes()))?;
/// tx.commit()?;
///
/// // All that a worker does, here in one transaction.
/// # use std::time::Duration;
/// # use memstone::memory::jobs::Failed;
/// let lease = Duration::from_secs(30);
/// jobs.write(|tx| {
///     let claim = tx.claim("worker 1", &["embed"], lease)?.unwrap();
///     assert!(tx.heartbeat(&claim, lease)? > tx.now());
///     tx.progress(&claim, 50)?;
///     tx.release(&claim)?;
///     let claim = tx.claim("worker 1", &["embed"], lease)?.unwrap();
///     tx.give_up(&claim, "no model")?;
///     tx.retry(claim.id)?; // a dead letter waits again
///     let claim = tx.claim("worker 1", &["embed"], lease)?.unwrap();
///     assert!(matches!(tx.fail(&claim, "the model is busy")?, Failed::Again(_)));
///     assert_eq!(tx.get(claim.id)?.unwrap().error.as_deref(), Some("the model is busy"));
///     assert!(tx.cancel(claim.id)?);
///     let other = tx.enqueue("ada", Job::new("embed", "another"))?.id;
///     let claim = tx.claim("worker 1", &["embed"], lease)?.unwrap();
///     assert_eq!(claim.id, other);
///     tx.give_up(&claim, "no model")?;
///     tx.remove(other)
/// })?;
/// # Ok::<(), JobError>(())
/// ```
pub struct JobsTxn<'t> {
    writer: Writer<'t>,
    now: Timestamp,
}

impl std::fmt::Debug for JobsTxn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobsTxn").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'t> JobsTxn<'t> {
    pub(super) fn new(tx: &'t WriteTxn, counters: &'t Counters, now: Timestamp) -> Result<JobsTxn<'t>> {
        let writer = Writer::new(tx, counters);
        Head::read(&writer.reader)?;
        Ok(JobsTxn { writer, now })
    }

    /// The time of this transaction.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Adds a job to the end of those that its namespace has in the queue, unless there is one with its key.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], [`MemoryError::Quota`], [`MemoryError::Damaged`]; [`JobError::Store`].
    pub fn enqueue<N>(&self, namespace: N, job: Job) -> Result<Enqueued>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace: Namespace = namespace.try_into().map_err(Into::into)?;
        job.check()?;
        if let Some(id) = self.same_key(&namespace, &job)? {
            return Ok(Enqueued { id: JobId::from_u64(id), duplicate: true });
        }
        limits::admit_job(&self.writer.reader, &namespace)?;
        agenda::forget(&self.writer, self.now)?;
        let (number, lane) = change::lane(&self.writer, &job.queue, &namespace)?;
        let id = next_number(&self.writer)?;
        let mut row = Row {
            lane: number,
            stage: Stage::Dead,
            created: self.now,
            priority: job.priority,
            attempts: 0,
            most: job.attempts,
            backoff: job.backoff,
            keep: micros(job.keep),
            key: job.key.clone(),
            token: 0,
            worker: None,
            progress: Value::Null,
            error: None,
        };
        row.stage = job.due(self.now).map_or(Stage::Waiting(row.class(), id), Stage::Delayed);
        self.writer.put(Table::JobPayloads, &id.to_be_bytes(), &job.payload)?;
        change::replace(&self.writer, number, lane, id, None, Some(&row))?;
        Ok(Enqueued { id: JobId::from_u64(id), duplicate: false })
    }

    /// The job that has the key of this one.
    fn same_key(&self, namespace: &Namespace, job: &Job) -> Result<Option<u64>> {
        let (reader, Some(key)) = (&self.writer.reader, &job.key) else { return Ok(None) };
        let Some(queue) = Queue::read(reader, &job.queue)? else { return Ok(None) };
        let Some(lane) = Lane::number(reader, &queue, namespace)? else { return Ok(None) };
        self.holder(&held_key(lane, &key.text))
    }

    fn holder(&self, key: &[u8]) -> Result<Option<u64>> {
        let id = self.writer.reader.get(Table::JobKeys, key)?;
        Ok(id.map(|id| last_number(&id)))
    }

    /// Gives a job of these queues to a worker, for the time of a lease; `None` if there is none to be had. The namespaces
    /// that have any take turns; of its own, a namespace gets those first that workers have lost, then the others by
    /// priority, in the order in which they came or became due.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for the worker's name, [`MemoryError::Damaged`]; [`JobError::Store`].
    pub fn claim<Q: AsRef<str>>(&self, worker: &str, queues: &[Q], lease: Duration) -> Result<Option<Claim>> {
        self.claim_under(Namespace::root(), worker, queues, lease)
    }

    /// The same, of the jobs of a namespace and of those below it alone, which take their turns among themselves. It looks
    /// at each of them that has jobs in the queues, and lets jobs of others wait again whose leases have ended.
    ///
    /// ```
    /// # let jobs = memstone::memory::jobs::Jobs::new(memstone::Store::in_memory()?);
    /// # use memstone::memory::jobs::{Job, JobError};
    /// # use std::time::Duration;
    /// jobs.write(|tx| {
    ///     tx.enqueue("bob", Job::new("embed", "note 1"))?;
    ///     tx.enqueue("ada/chat", Job::new("embed", "note 2"))?;
    ///     let claim = tx.claim_under("ada", "worker 1", &["embed"], Duration::from_secs(30))?.unwrap();
    ///     assert_eq!(claim.payload, b"note 2");
    ///     tx.finish(&claim)
    /// })?;
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`JobsTxn::claim`]; [`MemoryError::Invalid`] for the namespace.
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
        check_name("worker", worker)?;
        let next = loop {
            let (mut next, mut may_have_more): (Option<Next>, bool) = (None, false);
            for name in queues {
                let Some((queue, more)) = agenda::advance(&self.writer, name.as_ref(), self.now)? else { continue };
                let its_next = agenda::next(&self.writer.reader, &queue, &under)?;
                next = [next, its_next].into_iter().flatten().min_by_key(|next| next.turn);
                may_have_more |= more;
            }
            if next.is_some() || !may_have_more {
                break next;
            }
        };
        let Some(next) = next else { return Ok(None) };
        let until = self.now + lease;
        let (id, row) = agenda::serve(&self.writer, next, self.now, until, worker)?;
        Ok(Some(self.claim_of(id, row, until)?))
    }

    /// The claim that a worker has, by its job and its token: for a worker that keeps no more than these. Its `until` is
    /// when its lease ends by now; if it has ended and no other worker has the job, that is the time of this transaction.
    ///
    /// ```
    /// # let jobs = memstone::memory::jobs::Jobs::new(memstone::Store::in_memory()?);
    /// # use memstone::memory::jobs::{Job, JobError};
    /// # use std::time::Duration;
    /// jobs.enqueue("ada", Job::new("embed", "note 1"))?;
    /// let claim = jobs.claim("worker 1", &["embed"], Duration::from_secs(30))?.unwrap();
    /// let (id, token) = (claim.id, claim.token); // all that the worker notes
    /// jobs.write(|tx| {
    ///     let claim = tx.resume(id, token)?;
    ///     assert_eq!(claim.payload, b"note 1");
    ///     tx.finish(&claim)
    /// })?;
    /// assert!(matches!(jobs.write(|tx| tx.resume(id, token)), Err(JobError::Lost { .. })));
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`JobsTxn::heartbeat`].
    pub fn resume(&self, id: JobId, token: u64) -> Result<Claim> {
        let row = self.held(id, token)?;
        let until = if let Stage::Running(until) = row.stage { until } else { self.now };
        self.claim_of(id.as_u64(), row, until)
    }

    fn claim_of(&self, id: u64, row: Row, until: Timestamp) -> Result<Claim> {
        let lane = Lane::read(&self.writer.reader, row.lane)?;
        let payload = self.writer.reader.get(Table::JobPayloads, &id.to_be_bytes())?;
        let missing = || Table::JobPayloads.damaged(&id.to_be_bytes(), "missing");
        Ok(Claim {
            id: JobId::from_u64(id),
            token: row.token,
            queue: lane.name,
            namespace: lane.namespace,
            payload: payload.ok_or_else(missing)?.to_vec(),
            attempt: row.attempts,
            max_attempts: row.most,
            until,
            progress: row.progress,
        })
    }

    /// The job of a claim that is still good. That its lease has ended does not matter until another worker has the job.
    fn held(&self, id: JobId, token: u64) -> Result<Row> {
        let lost = |found| JobError::Lost { id, token, found };
        let row = Row::read(&self.writer.reader, id.as_u64())?.ok_or_else(|| lost(None))?;
        match row.stage {
            // (Jobs that no claim is good for have the token 0, which no claim has.)
            _ if row.token != token || token == 0 => Err(lost(Some(row.token).filter(|token| *token != 0))),
            Stage::Cancelled(_) => Err(JobError::Cancelled { id }),
            Stage::Waiting(..) | Stage::Running(_) => Ok(row),
            Stage::Delayed(_) | Stage::Done(_) | Stage::Dead => Err(lost(None)),
        }
    }

    /// Begins the lease of a claim anew, and gives the time at which it ends then.
    ///
    /// # Errors
    /// [`JobError::Lost`], [`JobError::Cancelled`]: the worker can stop. [`MemoryError::Damaged`]; [`JobError::Store`].
    pub fn heartbeat(&self, claim: &Claim, lease: Duration) -> Result<Timestamp> {
        let row = self.held(claim.id, claim.token)?;
        let until = self.now + lease;
        let after = Row { stage: Stage::Running(until), ..row.clone() };
        change(&self.writer, claim.id.as_u64(), &row, Some(&after))?;
        Ok(until)
    }

    /// States how far a worker has come, or, before it finishes, with what result. The last statement stays with the
    /// job: the next worker finds it in its claim, and any caller in [`JobInfo::progress`].
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for more than 64 KiB as JSON, or nested deeper than 64; as [`JobsTxn::heartbeat`].
    pub fn progress(&self, claim: &Claim, progress: impl Into<Value>) -> Result<()> {
        let (row, progress) = (self.held(claim.id, claim.token)?, progress.into());
        check_depth("progress", &progress)?;
        let size = progress.to_string().len();
        if size > MAX_PROGRESS {
            let reason = format!("{size} bytes, and {MAX_PROGRESS} are the limit");
            return Err(MemoryError::invalid("progress", reason).into());
        }
        change(&self.writer, claim.id.as_u64(), &row, Some(&Row { progress, ..row.clone() }))
    }

    /// Ends a job that is done. In the same transaction as what was done in the store, both happen together, and only
    /// once: a claim that is lost is refused, and then the transaction must not be committed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use memstone::memory::jobs::{Job, JobError, Jobs};
    /// use std::time::Duration;
    /// let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
    /// jobs.enqueue("ada", Job::new("count", "1"))?;
    /// let claim = jobs.claim("worker 1", &["count"], Duration::from_secs(30))?.unwrap();
    /// let tx = jobs.store().begin_write()?;
    /// jobs.on(&tx)?.finish(&claim)?; // if this returns, nothing of the transaction is committed
    /// tx.raw("counted")?.put(b"ada", &claim.payload)?;
    /// tx.commit()?;
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`JobsTxn::heartbeat`].
    pub fn finish(&self, claim: &Claim) -> Result<()> {
        let row = self.held(claim.id, claim.token)?;
        self.end(claim.id.as_u64(), &row, Stage::Done, Timestamp::MIN)
    }

    /// Ends a job: it is kept as long as it wants, and until a time, or goes.
    fn end(&self, id: u64, row: &Row, stage: impl Fn(Timestamp) -> Stage, least: Timestamp) -> Result<()> {
        let until = (self.now + Duration::from_micros(row.keep)).max(least);
        if until <= self.now {
            return change(&self.writer, id, row, None);
        }
        change(&self.writer, id, row, Some(&Row { stage: stage(until), ..row.clone() }))
    }

    /// States that an attempt failed, and why (4 KiB of it are kept): the job is tried again after a wait, which its
    /// [`Backoff`](super::Backoff) gives, or is a dead letter if that was the last attempt.
    ///
    /// # Errors
    /// As [`JobsTxn::heartbeat`].
    pub fn fail(&self, claim: &Claim, error: &str) -> Result<Failed> {
        let row = self.held(claim.id, claim.token)?;
        if row.attempts >= row.most {
            self.bury(claim.id.as_u64(), &row, error)?;
            return Ok(Failed::Dead);
        }
        let (id, due) = (claim.id.as_u64(), self.now + row.backoff.wait(row.attempts, row.token));
        let after = Row { token: 0, error: Some(beginning_of(error, MAX_ERROR).to_owned()), ..row.clone() };
        if due <= self.now {
            change::wait(&self.writer, id, &row, row.class(), after)?;
        } else {
            change(&self.writer, id, &row, Some(&Row { stage: Stage::Delayed(due), ..after }))?;
        }
        Ok(Failed::Again(due))
    }

    /// States that no attempt can succeed, and why: the job is a dead letter at once.
    ///
    /// # Errors
    /// As [`JobsTxn::heartbeat`].
    pub fn give_up(&self, claim: &Claim, error: &str) -> Result<()> {
        let row = self.held(claim.id, claim.token)?;
        self.bury(claim.id.as_u64(), &row, error)
    }

    fn bury(&self, id: u64, row: &Row, error: &str) -> Result<()> {
        let error = Some(beginning_of(error, MAX_ERROR).to_owned());
        change(&self.writer, id, row, Some(&Row { stage: Stage::Dead, token: 0, error, ..row.clone() }))
    }

    /// Gives a job back that was not done, as if it had not been claimed: for a worker that ends. It is the first that
    /// its namespace gets.
    ///
    /// # Errors
    /// As [`JobsTxn::heartbeat`].
    pub fn release(&self, claim: &Claim) -> Result<()> {
        let row = self.held(claim.id, claim.token)?;
        let after = Row { token: 0, attempts: row.attempts.saturating_sub(1), ..row.clone() };
        change::wait(&self.writer, claim.id.as_u64(), &row, AGAIN, after)
    }

    /// Cancels a job, whether a worker has it or not; `false` if it has ended already. The worker that has it is told at
    /// its next call, and can no longer finish it.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`MemoryError::Damaged`]; [`JobError::Store`].
    pub fn cancel(&self, id: JobId) -> Result<bool> {
        let row = self.known(id)?;
        if !row.stage.is_open() {
            return Ok(false);
        }
        // The worker is to find out why: until its lease would have ended, the job is kept in any case.
        let least = if let Stage::Running(until) = row.stage { until } else { Timestamp::MIN };
        self.end(id.as_u64(), &row, Stage::Cancelled, least)?;
        Ok(true)
    }

    /// Tries a dead letter again, with all of its attempts. If another job has its key now, it goes on without.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::WrongState`]; [`MemoryError::Damaged`]; [`JobError::Store`].
    pub fn retry(&self, id: JobId) -> Result<()> {
        let row = self.known(id)?;
        if row.stage != Stage::Dead {
            return Err(JobError::WrongState { id, state: row.stage.name(), wanted: "dead", what: "tried again" });
        }
        let mut after = Row { attempts: 0, ..row.clone() };
        if let Some(key) = &row.key
            && self.holder(&held_key(row.lane, &key.text))?.is_some()
        {
            after.key = None;
        }
        change::wait(&self.writer, id.as_u64(), &row, row.class(), after)
    }

    /// Removes a job that has ended: a dead letter, or one that is kept.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::WrongState`] if it has not ended: cancel it first; [`MemoryError::Damaged`];
    /// [`JobError::Store`].
    pub fn remove(&self, id: JobId) -> Result<()> {
        let row = self.known(id)?;
        if row.stage.is_open() {
            let wanted = "done, cancelled or dead";
            return Err(JobError::WrongState { id, state: row.stage.name(), wanted, what: "removed" });
        }
        change(&self.writer, id.as_u64(), &row, None)
    }

    fn known(&self, id: JobId) -> Result<Row> {
        Row::read(&self.writer.reader, id.as_u64())?.ok_or(JobError::NotFound { id })
    }

    /// What is known of a job.
    ///
    /// # Errors
    /// [`MemoryError::Damaged`]; [`JobError::Store`].
    pub fn get(&self, id: JobId) -> Result<Option<JobInfo>> {
        let row = Row::read(&self.writer.reader, id.as_u64())?;
        row.map(|row| row.info(&self.writer.reader, id.as_u64())).transpose()
    }
}
