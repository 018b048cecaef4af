//! The one error type of the store.
//!
//! Every variant says what the caller can do about it; [`Error::is_retryable`] answers the
//! question most callers have.

mod kinds;

pub use kinds::{CodecOp, CorruptionKind, LimitKind, LockKind};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The result of a store operation.
///
/// ```
/// fn count(store: &memstone::Store) -> memstone::Result<u64> {
///     store.read()?.raw("t")?.len()
/// }
/// assert_eq!(count(&memstone::Store::in_memory()?)?, 0);
/// # Ok::<(), memstone::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where damage was found, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Corruption {
    /// The data file, when known.
    pub path: PathBuf,
    /// Byte offset in the file of the damaged page, frame or slot.
    pub offset: u64,
    /// The number of the damaged page; `None` for the log and the root slots.
    pub page: Option<u64>,
    /// The kind of thing that is damaged.
    pub kind: CorruptionKind,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at byte {}", self.path.display(), self.kind, self.offset)?;
        if let Some(page) = self.page {
            write!(f, " (page {page})")?;
        }
        write!(f, " is damaged: expected {}, found {}", self.expected, self.found)
    }
}

/// The process that holds a lock, as far as it is known; see [`Error::Busy`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holder {
    /// Process id: as this process sees it if the system reports the holder; otherwise as the holder published
    /// it, in its own pid namespace.
    pub pid: u32,
    /// Host name, or container name, of that process.
    pub host: String,
    /// Its command line, cut to some hundred bytes.
    pub command: String,
    /// Since when it holds the lock, by its own clock, if it published that.
    pub since: Option<SystemTime>,
    /// Whether the system says that it is stopped (SIGSTOP, a debugger); `false` if that is unknown.
    pub stopped: bool,
}

impl Holder {
    /// For how long it has held the lock; `None` if that is unknown or implausible: a clock that is off by years,
    /// or was set meanwhile, gives a time in the future, or years ago.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// # let tx = store.begin_write()?;
    /// # let Some(mut holder) = store.locks()?.writer else { return Ok(()) };
    /// holder.since = Some(SystemTime::now() - Duration::from_secs(60));
    /// assert!(holder.held_for() >= Some(Duration::from_secs(60)));
    /// holder.since = Some(SystemTime::UNIX_EPOCH);
    /// assert_eq!(holder.held_for(), None);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn held_for(&self) -> Option<Duration> {
        const LONGEST: Duration = Duration::from_secs(5 * 365 * 86_400);
        self.since?.elapsed().ok().filter(|time| *time < LONGEST)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {} ({})", self.pid, self.host, self.command)?;
        match self.held_for() {
            Some(time) => write!(f, ", for {:.1} s", time.as_secs_f64())?,
            None => f.write_str(", since when is unknown")?,
        }
        if self.stopped { f.write_str("; it is stopped") } else { Ok(()) }
    }
}

/// A list of processes, for an error.
fn names(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "a process that cannot be named".to_owned();
    }
    holders.iter().map(|holder| format!("process {} ({})", holder.pid, holder.command)).collect::<Vec<_>>().join(", ")
}

/// Everything that can go wrong.
///
/// A text says all of an error, with the error of the system or the caller that is its cause: [`Error::source`] goes
/// on behind that, so a report of the whole chain says nothing twice.
///
/// [`Error::source`]: std::error::Error::source
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::{Error, LockKind};
/// let tx = store.begin_write()?;
/// let other = store.clone();
/// let writer = std::thread::spawn(move || other.try_write(|tx| tx.raw("t")?.put(b"k", b"v")));
/// match writer.join().unwrap() {
///     Err(Error::Busy { lock, holder, .. }) => {
///         assert_eq!(lock, LockKind::Writer);
///         assert!(holder.is_none_or(|holder| holder.pid == std::process::id()));
///     }
///     other => panic!("not busy: {other:?}"),
/// }
/// # tx.rollback();
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    #[error("{}: {op} failed: {cause}", path.display())]
    #[non_exhaustive]
    Io {
        /// What was being done: `"read"`, `"write"`, `"flush"`, …
        op: &'static str,
        /// The file it was done to.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Bytes on disk are not what was written. Nothing was changed.
    #[error("{0}")]
    Corrupt(Box<Corruption>),
    /// The lock was not free before the deadline. Nothing was changed.
    #[error("{}: the {lock} lock was not free within {:.1} s; held by {}", path.display(), waited.as_secs_f64(),
        holder.as_ref().map_or_else(|| "a process that cannot be named".to_owned(), |h| h.to_string()))]
    #[non_exhaustive]
    Busy {
        /// The data file.
        path: PathBuf,
        /// Which lock.
        lock: LockKind,
        /// How long this caller waited.
        waited: Duration,
        /// The holder, if known.
        holder: Option<Box<Holder>>,
    },
    /// No space is left for the data. Nothing was changed; writing works again once there is space.
    #[error("{}: no space left: {cause}", path.display())]
    #[non_exhaustive]
    Full {
        /// The data file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A key, value or name is beyond its limit. Nothing was written.
    #[error("{what} of {size} bytes is larger than the limit of {limit}")]
    #[non_exhaustive]
    TooLarge {
        /// What is too large.
        what: LimitKind,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not a store of this program. It was not touched.
    #[error("{}: not a memstone store: {found}", path.display())]
    #[non_exhaustive]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it looks like instead.
        found: String,
    },
    /// A newer program has written the file, or a part of it that this one does not know. It is not damaged, and
    /// was not touched.
    #[error("{}: a newer program has made this: it has {found}; this one supports {supported}", path.display())]
    #[non_exhaustive]
    Format {
        /// The file.
        path: PathBuf,
        /// What this program does not know: a format version, a feature, a kind of record.
        found: String,
        /// What it knows instead.
        supported: String,
    },
    /// The store was made for another application ([`Options::application_id`](crate::Options::application_id)). It
    /// was not touched.
    #[error("{}: the store is of application {found}, not of application {expected}", path.display())]
    #[non_exhaustive]
    OtherApplication {
        /// The data file.
        path: PathBuf,
        /// The application that the options name.
        expected: u32,
        /// The application that the store names; 0: none.
        found: u32,
    },
    /// The file lies on a filesystem whose locks cannot be trusted between hosts.
    #[error("{}: the filesystem ({kind}) does not give locks that can be trusted; copy the store to a local disk, \
        or open it for one process alone", path.display())]
    #[non_exhaustive]
    UnsupportedFilesystem {
        /// The file.
        path: PathBuf,
        /// The filesystem's name.
        kind: String,
    },
    /// The store is open for reading only. Nothing was written.
    #[error("{}: the store is open for reading only", path.display())]
    ReadOnly {
        /// The data file.
        path: PathBuf,
    },
    /// The store does not exist, and the options say not to create it.
    #[error("{}: no such store", path.display())]
    NotFound {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The fate of this commit is unknown: it was written, but the flush that was to make it durable failed, or
    /// did not end before the deadline. It will be found in full or not at all; other data is safe.
    #[error("{}: the fate of this commit is unknown: {reason}", path.display())]
    Unconfirmed {
        /// The data file.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// An earlier flush failed, and the data that it was to write is in doubt until it is rewritten. This call
    /// changed nothing. The next write transaction repairs the store, once the disk accepts writes.
    #[error("{}: a flush failed, and is not repaired yet: {reason}", path.display())]
    Poisoned {
        /// The data file.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// The table holds other types of keys or values.
    #[error("table {table:?} holds {found}, not {expected}")]
    #[non_exhaustive]
    TypeMismatch {
        /// The table's name.
        table: String,
        /// The types asked for.
        expected: String,
        /// The types it holds.
        found: String,
    },
    /// There is no table with that name.
    #[error("there is no table {table:?}")]
    NoTable {
        /// The table's name.
        table: String,
    },
    /// There is a table with that name already.
    #[error("there is a table {table:?} already")]
    TableExists {
        /// The table's name.
        table: String,
    },
    /// There is no named snapshot with that name.
    #[error("there is no snapshot named {name:?}")]
    NoSnapshot {
        /// The snapshot's name.
        name: String,
    },
    /// There is a named snapshot with that name already. Nothing was changed.
    #[error("there is a snapshot named {name:?} already; delete it first, or choose another name")]
    SnapshotExists {
        /// The snapshot's name.
        name: String,
    },
    /// A value or key could not be encoded or decoded as the type asked for.
    #[error("table {table:?}: cannot {op} as {type_name}: {reason}")]
    #[non_exhaustive]
    Codec {
        /// The table's name.
        table: String,
        /// What the codec was asked for.
        op: CodecOp,
        /// The type asked for.
        type_name: &'static str,
        /// What the codec says.
        reason: String,
    },
    /// Bulk load was given keys that do not ascend.
    #[error("bulk load into table {table:?}: key {position} does not come after the one before it")]
    #[non_exhaustive]
    Unsorted {
        /// The table's name.
        table: String,
        /// Which item, counted from 0.
        position: u64,
    },
    /// A savepoint of another transaction, or one already undone.
    #[error("the savepoint is no longer valid")]
    Savepoint,
    /// The store was opened before a `fork`; the child must open it itself.
    #[error("{}: this handle belongs to the parent process; open the store anew after a fork", path.display())]
    Forked {
        /// The data file.
        path: PathBuf,
    },
    /// Another process has the store open and does not share a sidecar with this one: it came by another path or
    /// name of the file, or the sidecar cannot be created or opened. Nothing was changed.
    #[error("{}: another process has this store open and cannot be worked with: {reason}; held by {}", path.display(),
        holder.as_ref().map_or_else(|| "a process that cannot be named".to_owned(), |h| h.to_string()))]
    NotShared {
        /// The data file, as this process reached it.
        path: PathBuf,
        /// Why the two cannot share the store, and what to do.
        reason: String,
        /// The other process, if known.
        holder: Option<Box<Holder>>,
    },
    /// The name by which the data file was opened no longer leads to it. Open snapshots can still be read; close
    /// the handle and open the store again to write to the file that has the name now.
    #[error("{}: this file is no longer the one that was opened: {found}; close the store and open it again", path.display())]
    Moved {
        /// The path by which it was opened.
        path: PathBuf,
        /// What the name leads to now: nothing, or another file.
        found: String,
    },
    /// A file with this name exists, and replacing it was not requested. Nothing was changed.
    #[error("{}: there is a file by this name already", path.display())]
    Exists {
        /// The path that was to be written.
        path: PathBuf,
    },
    /// The store cannot be replaced while it is open. Nothing was changed.
    #[error("{}: the store is open and cannot be replaced; close it first in: {}", path.display(), names(holders))]
    InUse {
        /// The data file.
        path: PathBuf,
        /// The processes that have it open, as far as the system reports them.
        holders: Vec<Holder>,
    },
    /// A backup is not suitable for the request. Nothing was changed.
    #[error("{}: {reason}", path.display())]
    Backup {
        /// The backup, or the directory of backups.
        path: PathBuf,
        /// What is missing or does not fit, and what to do.
        reason: String,
    },
    /// A state that should be impossible. Nothing was changed; please report it.
    #[error("internal error, please report it: {0}")]
    Internal(String),
    /// The same thread asked for a second write transaction while it holds one.
    #[error("{}: this thread holds a write transaction already", path.display())]
    Nested {
        /// The data file.
        path: PathBuf,
    },
    /// The caller's progress callback cancelled the operation. Nothing of it is left.
    #[error("{}: broken off", path.display())]
    Cancelled {
        /// The data file.
        path: PathBuf,
    },
    /// An invalid argument.
    #[error("{0}")]
    Invalid(String),
    /// The caller's own reason to give up, made by [`Error::abort`]. The transaction was rolled back.
    #[error(transparent)]
    Aborted(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An error of the caller's own, so that [`Store::write`](crate::Store::write) rolls back and returns it. A text does,
    /// too. [`Error::into_abort`] gives it back.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::Error;
    ///
    /// let refused = store.write(|tx| {
    ///     tx.raw("t")?.put(b"k", b"v")?;
    ///     let stars: u8 = "many".parse().map_err(Error::abort)?;
    ///     tx.raw("t")?.put(b"k", &[stars])
    /// });
    /// let reason: std::num::ParseIntError = refused.unwrap_err().into_abort().unwrap();
    /// assert_eq!(reason.to_string(), "invalid digit found in string");
    /// assert_eq!(store.write(|_| Err::<(), _>(Error::abort("changed my mind"))).unwrap_err().to_string(), "changed my mind");
    /// # Ok::<(), memstone::Error>(())
    /// ```
    pub fn abort(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Aborted(reason.into())
    }

    /// The caller's own error, if this is one and of that type; see [`Error::abort`].
    ///
    /// # Errors
    /// This error itself, if it is another.
    pub fn into_abort<E: std::error::Error + 'static>(self) -> Result<E> {
        match self {
            Error::Aborted(reason) => reason.downcast().map(|reason| *reason).map_err(Error::Aborted),
            other => Err(other),
        }
    }

    /// Whether the same call may succeed later without other changes.
    ///
    /// True for [`Error::Busy`], [`Error::Full`] and [`Error::Poisoned`], and for interrupted system calls. Not
    /// for [`Error::Unconfirmed`]: repeating the call could apply the change twice; see
    /// [`Error::is_outcome_unknown`].
    ///
    /// ```
    /// let error = memstone::Error::Savepoint;
    /// assert!(!error.is_retryable());
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Busy { .. } | Error::Full { .. } | Error::Poisoned { .. } => true,
            Error::Io { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
            }
            _ => false,
        }
    }

    /// Whether the transaction may have taken effect: read the store before repeating it.
    ///
    /// ```
    /// assert!(!memstone::Error::Savepoint.is_outcome_unknown());
    /// ```
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Error::Unconfirmed { .. })
    }

    /// Whether the error reports damaged data in the file.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// use memstone::{Error, Store};
    /// let store = Store::open(&path)?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// store.checkpoint()?;
    /// store.close()?;
    /// let mut bytes = std::fs::read(&path).unwrap();
    /// bytes[12_288..].fill(0xAA); // all but the roots
    /// std::fs::write(&path, bytes).unwrap();
    /// let damaged = Store::open(&path).and_then(|store| store.read()?.raw("t")?.get(b"k").map(drop)).unwrap_err();
    /// assert!(damaged.is_corrupt());
    /// let Error::Corrupt(corruption) = damaged else { panic!("{damaged}") };
    /// assert!(corruption.path == path && corruption.offset >= 12_288);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Error::Corrupt(_))
    }

    /// An I/O error with its operation and path; a full disk, a quota or a limit on the size of files becomes
    /// [`Error::Full`].
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, cause: io::Error) -> Error {
        let path = path.into();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Error::Full { path, cause }
            }
            _ => Error::Io { op, path, cause },
        }
    }

    /// What a newer program has written.
    pub(crate) fn newer(path: impl Into<PathBuf>, found: impl Into<String>, supported: impl Into<String>) -> Error {
        Error::Format { path: path.into(), found: found.into(), supported: supported.into() }
    }

    /// The same, of a format version.
    pub(crate) fn newer_version(path: impl Into<PathBuf>, found: u32, supported: u32) -> Error {
        Error::newer(path, format!("format version {found}"), format!("format version {supported}"))
    }

    pub(crate) fn corrupt(
        kind: CorruptionKind,
        offset: u64,
        page: Option<u64>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::Corrupt(Box::new(Corruption {
            path: PathBuf::new(),
            offset,
            page,
            kind,
            expected: expected.into(),
            found: found.into(),
        }))
    }

    /// Fills in the file's path if a lower layer, which does not know it, left it out.
    pub(crate) fn in_file(mut self, file: &std::path::Path) -> Error {
        let path = match &mut self {
            Error::Corrupt(place) => &mut place.path,
            Error::Format { path, .. } => path,
            _ => return self,
        };
        if path.as_os_str().is_empty() {
            *path = file.to_path_buf();
        }
        self
    }
}

#[cfg(test)]
mod tests;
