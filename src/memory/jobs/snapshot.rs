//! Reading one state.

use super::agenda;
use super::error::Result;
use super::parts::{JobCounts, JobId, JobInfo, LaneInfo};
use super::rows::{Head, Lane, Queue, Row, parse};
use crate::Snapshot;
use crate::memory::error::MemoryError;
use crate::memory::job_counts;
use crate::memory::namespace::Namespace;
use crate::memory::tables::{Counters, Reader, Table};
use crate::memory::time::Timestamp;
use std::sync::Arc;

/// One state of the jobs: everything that is read from it agrees, whatever is written meanwhile.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::jobs::{Job, JobError, JobState, Jobs};
/// let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
/// let id = jobs.enqueue("ada", Job::new("embed", "note 1"))?.id;
/// let before = jobs.snapshot()?;
/// jobs.cancel(id)?;
/// assert_eq!(before.get(id)?.unwrap().state, JobState::Waiting);
/// assert_eq!((before.counts("embed", "ada")?.waiting, jobs.counts("embed", "ada")?.waiting), (1, 0));
/// assert_eq!(before.payload(id)?.as_deref(), Some(&b"note 1"[..]));
/// assert_eq!((before.list(None, 10)?.len(), before.lanes()?.len(), before.dead("embed", "ada", None, 10)?.len()), (1, 1, 0));
/// assert_eq!((before.held("ada")?, jobs.snapshot()?.held("ada")?), (1, 0));
/// assert!(before.due(&["embed"])?.is_some() && jobs.snapshot()?.due(&["embed"])?.is_none());
/// assert!(jobs.snapshot()?.store_snapshot().lsn() > before.store_snapshot().lsn());
/// # Ok::<(), JobError>(())
/// ```
#[derive(Clone)]
pub struct JobsSnapshot {
    snapshot: Snapshot,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for JobsSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobsSnapshot").field("lsn", &self.snapshot.lsn()).finish()
    }
}

impl JobsSnapshot {
    pub(super) fn new(snapshot: Snapshot, counters: &Arc<Counters>) -> Result<JobsSnapshot> {
        let new = JobsSnapshot { snapshot, counters: Arc::clone(counters) };
        Head::read(&new.reader())?;
        Ok(new)
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader::of_snapshot(&self.snapshot, &self.counters)
    }

    /// The state of the store.
    #[must_use]
    pub fn store_snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// See [`Jobs::get`](super::Jobs::get).
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, id: JobId) -> Result<Option<JobInfo>> {
        self.info(&self.reader(), id.as_u64())
    }

    fn info(&self, reader: &Reader<'_>, id: u64) -> Result<Option<JobInfo>> {
        Row::read(reader, id)?.map(|row| row.info(reader, id)).transpose()
    }

    /// The payload of a job.
    ///
    /// # Errors
    /// [`MemoryError::Damaged`]; [`JobError::Store`](super::JobError::Store).
    pub fn payload(&self, id: JobId) -> Result<Option<Vec<u8>>> {
        let reader = self.reader();
        Ok(reader.get(Table::JobPayloads, &id.as_u64().to_be_bytes())?.map(|payload| payload.to_vec()))
    }

    /// Jobs in the order in which they were enqueued, behind one of them, at most so many.
    ///
    /// # Errors
    /// [`MemoryError::Damaged`]; [`JobError::Store`](super::JobError::Store).
    pub fn list(&self, after: Option<JobId>, limit: usize) -> Result<Vec<JobInfo>> {
        let reader = self.reader();
        self.infos(&reader, agenda::after(&reader, Table::Jobs, b"", after.map(JobId::as_u64), limit)?)
    }

    fn infos(&self, reader: &Reader<'_>, ids: Vec<u64>) -> Result<Vec<JobInfo>> {
        ids.into_iter().filter_map(|id| self.info(reader, id).transpose()).collect()
    }

    /// See [`Jobs::dead`](super::Jobs::dead).
    ///
    /// # Errors
    /// As there.
    pub fn dead<N>(&self, queue: &str, namespace: N, after: Option<JobId>, limit: usize) -> Result<Vec<JobInfo>>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let namespace = namespace.try_into().map_err(Into::into)?;
        let reader = self.reader();
        let Some(lane) = self.lane(&reader, queue, &namespace)? else { return Ok(Vec::new()) };
        let ids = agenda::after(&reader, Table::JobsDead, &lane.to_be_bytes(), after.map(JobId::as_u64), limit)?;
        self.infos(&reader, ids)
    }

    fn lane(&self, reader: &Reader<'_>, queue: &str, namespace: &Namespace) -> Result<Option<u64>> {
        let Some(queue) = Queue::read(reader, queue)? else { return Ok(None) };
        Lane::number(reader, &queue, namespace)
    }

    /// See [`Jobs::counts`](super::Jobs::counts).
    ///
    /// # Errors
    /// As there.
    pub fn counts<N>(&self, queue: &str, namespace: N) -> Result<JobCounts>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let (reader, namespace) = (self.reader(), namespace.try_into().map_err(Into::into)?);
        let lane = self.lane(&reader, queue, &namespace)?;
        let lane = lane.map(|number| Lane::read(&reader, number)).transpose()?;
        Ok(lane.map(|lane| lane.counts).unwrap_or_default())
    }

    /// See [`Jobs::held`](super::Jobs::held).
    ///
    /// # Errors
    /// As there.
    pub fn held<N>(&self, namespace: N) -> Result<u64>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        Ok(job_counts::read(&self.reader(), &namespace.try_into().map_err(Into::into)?)?)
    }

    /// See [`Jobs::lanes`](super::Jobs::lanes).
    ///
    /// # Errors
    /// As there.
    pub fn lanes(&self) -> Result<Vec<LaneInfo>> {
        let reader = self.reader();
        let lanes = reader.prefix(Table::JobLanes, b"")?.map(|row| {
            let (key, row) = row?;
            let Lane { name, namespace, counts, .. } = parse(Table::JobLanes, &key, &row)?;
            Ok(LaneInfo { queue: name, namespace, counts })
        });
        let mut lanes = lanes.collect::<Result<Vec<_>>>()?;
        lanes.sort_by(|a, b| (&a.queue, &a.namespace).cmp(&(&b.queue, &b.namespace)));
        Ok(lanes)
    }

    /// From when on a claim of these queues can find a job, by what is known in this state: [`Timestamp::MIN`] if it can
    /// at once, `None` if nothing but a new job would change that.
    ///
    /// # Errors
    /// [`MemoryError::Damaged`]; [`JobError::Store`](super::JobError::Store).
    pub fn due<Q: AsRef<str>>(&self, queues: &[Q]) -> Result<Option<Timestamp>> {
        self.due_under(Namespace::root(), queues)
    }

    /// The same for a claim of the jobs of a namespace and of those below it. If it has none to claim now, the time is
    /// that of the first delayed job or lease of any namespace: a claim may find nothing then.
    ///
    /// ```
    /// # let jobs = memstone::memory::jobs::Jobs::new(memstone::Store::in_memory()?);
    /// # use memstone::memory::jobs::{Job, JobError};
    /// jobs.enqueue("ada", Job::new("embed", "note 1"))?;
    /// let now = jobs.snapshot()?;
    /// assert!(now.due_under("ada", &["embed"])?.is_some() && now.due_under("bob", &["embed"])?.is_none());
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// As [`JobsSnapshot::due`]; [`MemoryError::Invalid`].
    pub fn due_under<N, Q: AsRef<str>>(&self, under: N, queues: &[Q]) -> Result<Option<Timestamp>>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let (reader, under) = (self.reader(), under.try_into().map_err(Into::into)?);
        let due = queues.iter().map(|name| agenda::due(&reader, name.as_ref(), &under)).collect::<Result<Vec<_>>>()?;
        Ok(due.into_iter().flatten().min())
    }
}
