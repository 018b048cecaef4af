//! What callers get to know of jobs.

use super::job::Priority;
use crate::memory::error::MemoryError;
use crate::memory::namespace::Namespace;
use crate::memory::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// The id of a job: a number that no other job of the store has, or will have.
///
/// ```
/// use memstone::memory::jobs::JobId;
/// use memstone::memory::MemoryError;
/// assert_eq!("7".parse::<JobId>()?, JobId::from_u64(7));
/// assert_eq!(JobId::from_u64(7).as_u64(), 7);
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(u64);

impl JobId {
    /// The id with this number.
    #[must_use]
    pub const fn from_u64(number: u64) -> JobId {
        JobId(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for JobId {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<JobId, MemoryError> {
        let wrong = |_| MemoryError::invalid("job", format!("{text:?} is not the number of a job"));
        text.parse().map(JobId).map_err(wrong)
    }
}

/// What became of a job that was to be enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enqueued {
    /// Its id: that of the job with the same key, if there was one.
    pub id: JobId,
    /// Whether there was one. Then nothing was changed.
    pub duplicate: bool,
}

/// A job that a worker has, for the time of its lease.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Claim {
    /// The job.
    pub id: JobId,
    /// The fencing token: a number that rises with each claim of any job of the store. Another system that is told it
    /// with each request can refuse what comes with a lower one than it has seen.
    pub token: u64,
    /// The queue that the job was in.
    pub queue: String,
    /// The namespace whose job it is.
    pub namespace: Namespace,
    /// What is to be done.
    pub payload: Vec<u8>,
    /// Which attempt this is, from 1 on.
    pub attempt: u32,
    /// How many there are at most.
    pub max_attempts: u32,
    /// When the lease ends, as it was when the job was claimed.
    pub until: Timestamp,
    /// What the last worker has stated; null: nothing.
    pub progress: Value,
}

impl Claim {
    /// The payload, read as JSON: see [`Job::json`](super::Job::json).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use memstone::memory::jobs::{Job, JobError, Jobs};
    /// use std::time::Duration;
    /// let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
    /// jobs.enqueue("ada", Job::json("embed", &[1, 2, 3])?)?;
    /// let claim = jobs.claim("worker 1", &["embed"], Duration::from_secs(30))?.unwrap();
    /// assert_eq!(claim.json::<Vec<u8>>()?, [1, 2, 3]);
    /// # Ok::<(), JobError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] if it is not JSON, or that of another type.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, MemoryError> {
        serde_json::from_slice(&self.payload).map_err(|error| MemoryError::invalid("payload", error.to_string()))
    }
}

/// Where a job is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[non_exhaustive]
pub enum JobState {
    /// A worker can claim it.
    Waiting,
    /// A worker can claim it from this time on.
    Delayed {
        /// The time.
        until: Timestamp,
    },
    /// A worker has it. When the lease has ended, the next claim of its queue gives it to another one.
    Running {
        /// When the lease ends.
        until: Timestamp,
    },
    /// A worker has finished it.
    Done,
    /// It was cancelled.
    Cancelled,
    /// A dead letter: no attempt is left, or a worker has given it up.
    Dead,
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JobInfo {
    /// Its id.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// Where it is on its way.
    pub state: JobState,
    /// When it was enqueued.
    pub created: Timestamp,
    /// Its priority.
    pub priority: Priority,
    /// How often it was claimed.
    pub attempts: u32,
    /// How often it may be.
    pub max_attempts: u32,
    /// The key by which others like it are refused.
    pub key: Option<String>,
    /// The worker that claimed it last.
    pub worker: Option<String>,
    /// What workers have stated last; null: nothing.
    pub progress: Value,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// How many jobs there are, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobCounts {
    /// They can be claimed.
    pub waiting: u64,
    /// Their time has not come, or no claim has found yet that it has.
    pub delayed: u64,
    /// Workers have them, or no claim has found yet that their leases have ended.
    pub running: u64,
    /// Done, and kept.
    pub done: u64,
    /// Cancelled, and kept.
    pub cancelled: u64,
    /// Dead letters.
    pub dead: u64,
}

/// What a namespace has in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LaneInfo {
    /// The queue.
    pub queue: String,
    /// The namespace.
    pub namespace: Namespace,
    /// The numbers of its jobs.
    pub counts: JobCounts,
}

/// What becomes of a job after an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It is tried again from this time on.
    Again(Timestamp),
    /// It is a dead letter.
    Dead,
}
