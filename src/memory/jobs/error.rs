//! The error type of jobs.

use super::parts::JobId;
use crate::Error;
use crate::memory::error::MemoryError;

/// The result of an operation on jobs.
pub type Result<T, E = JobError> = std::result::Result<T, E>;

/// Everything that can go wrong with jobs. An operation that is refused has changed nothing; after an error of the store,
/// or [`MemoryError::Damaged`], roll the transaction back.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::memory::jobs::{Job, JobError, Jobs};
/// use std::time::Duration;
/// let jobs = Jobs::open(dir.path().join("jobs.mst"))?;
/// let id = jobs.enqueue("ada", Job::new("embed", "note 1"))?.id;
/// let claim = jobs.claim("worker 1", &["embed"], Duration::from_secs(30))?.unwrap();
/// jobs.cancel(id)?;
/// assert!(matches!(jobs.finish(&claim), Err(JobError::Cancelled { .. })));
/// # Ok::<(), JobError>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(Error),
    /// An argument cannot be used ([`MemoryError::Invalid`]), a table of the jobs is damaged
    /// ([`MemoryError::Damaged`]; [`Jobs::check`](super::Jobs::check) lists all that disagrees) or of a newer layout
    /// ([`MemoryError::Layout`]); or the memory layer refused something else in the same transaction.
    #[error(transparent)]
    Memory(MemoryError),
    /// There is no such job.
    #[error("there is no job {id}: it never was, or it has ended and is kept no longer")]
    NotFound {
        /// The id asked for.
        id: JobId,
    },
    /// The claim is worth nothing any more: its lease ended and the job was claimed again, or the worker gave the job
    /// back or finished it. Roll back what was done for it in the store, and claim another job.
    #[error("the claim of job {id} with token {token} is lost: {}; roll back, and claim another job",
        found.map_or_else(|| "the job was given back, or has ended".to_owned(),
            |found| format!("its lease ended, and a claim with token {found} has the job")))]
    Lost {
        /// The job.
        id: JobId,
        /// The fencing token of the claim.
        token: u64,
        /// The token of the claim that has the job; `None`: there is no such claim.
        found: Option<u64>,
    },
    /// The job was cancelled while this claim had it. Roll back what was done for it in the store, and claim another job.
    #[error("job {id} was cancelled; roll back, and claim another job")]
    Cancelled {
        /// The job.
        id: JobId,
    },
    /// The job is in a state in which this cannot be done.
    #[error("job {id} is {state}, and only one that is {wanted} can be {what}")]
    WrongState {
        /// The job.
        id: JobId,
        /// What it is.
        state: &'static str,
        /// What it would have to be.
        wanted: &'static str,
        /// What was asked for.
        what: &'static str,
    },
}

impl JobError {
    /// Whether the same call may succeed later without any other change: as [`Error::is_retryable`].
    ///
    /// ```
    /// # use memstone::memory::jobs::{JobError, JobId};
    /// assert!(!JobError::Cancelled { id: JobId::from_u64(1) }.is_retryable());
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            JobError::Store(error) => error.is_retryable(),
            JobError::Memory(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<Error> for JobError {
    fn from(error: Error) -> JobError {
        JobError::Store(error)
    }
}

impl From<MemoryError> for JobError {
    fn from(error: MemoryError) -> JobError {
        match error {
            MemoryError::Store(error) => JobError::Store(error),
            error => JobError::Memory(error),
        }
    }
}

/// In a body of [`Store::write`](crate::Store::write): see [`Error::into_abort`].
impl From<JobError> for Error {
    fn from(error: JobError) -> Error {
        match error {
            JobError::Store(error) => error,
            error => Error::abort(error),
        }
    }
}
