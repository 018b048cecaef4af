//! The result of a diagnosis: figures, and concerns with what to do about each.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::maintain::check::Finding;
use crate::{ArchiveStatus, BackupKind, Holder, LockStats, NamedSnapshot};

/// The result of [`diagnose`](crate::diagnose). Sizes are in bytes.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Diagnosis {
    /// The file.
    pub path: PathBuf,
    /// When it was looked at.
    pub time: SystemTime,
    /// What needs attention, the most urgent first, and what to do about it.
    pub concerns: Vec<Concern>,
    /// Whether the store is whole, as far as it was verified.
    pub health: Health,
    /// What identifies this store and its state; `None` if no root can be read.
    pub store: Option<StoreState>,
    /// The tables, the largest first.
    pub tables: Vec<TableSize>,
    /// What the file's pages are used for; `None` if that is unknown.
    pub space: Option<SpaceUse>,
    /// The log; `None` if its state is unknown.
    pub log: Option<LogState>,
    /// Which processes have the store open, or hold locks of it, as far as the system or the sidecar tells.
    pub processes: Vec<OpenProcess>,
    /// Which tree versions are kept, and by which process.
    pub pins: Vec<PinnedVersion>,
    /// The named snapshots; empty also where the store cannot be opened.
    pub snapshots: Vec<NamedSnapshot>,
    /// How writers fare, all processes together; `None` if the store cannot be opened.
    pub locks: Option<LockStats>,
    /// Where the file lies.
    pub place: Option<FilePlace>,
    /// Files that repairs, restores and dead processes have left beside the store.
    pub leftovers: Vec<Leftover>,
    /// The backups of this store in the directory that was given, or in that of its archive.
    pub backups: Option<BackupNews>,
    /// The archive's status; `None` without an archive, or if the store cannot be opened.
    pub archive: Option<ArchiveStatus>,
}

impl Diagnosis {
    /// The highest urgency of all concerns; `None` if there are none.
    #[must_use]
    pub fn urgency(&self) -> Option<Urgency> {
        self.concerns.iter().map(|concern| concern.urgency).max()
    }

    /// Whether anything needs attention. (A note does not.)
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.urgency() > Some(Urgency::Note)
    }
}

/// How soon something has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Urgency {
    /// Good to know. Nothing needs to be done.
    Note,
    /// Something is wrong, or will be.
    Attention,
    /// Committed data is damaged, or in danger if writing goes on.
    Damage,
}

/// What a concern is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Subject {
    /// What a check found.
    Health,
    /// The file is no store, or of a newer format, or cannot be read.
    File,
    /// The store cannot be opened, so that figures are missing.
    Opening,
    /// A process that is stopped and holds a lock, or keeps a state.
    StoppedProcess,
    /// A lock that is held, or waited for, for long.
    LongWait,
    /// Too many callers gave up waiting.
    FailedTurns,
    /// A snapshot that keeps pages from being used again.
    OldSnapshot,
    /// A flush that failed.
    Flush,
    /// The log is at its cap.
    Log,
    /// The file system cannot be trusted, or does not last.
    Filesystem,
    /// The disk is nearly full.
    Room,
    /// No sidecar can be made beside the file.
    Directory,
    /// The file has several names.
    Links,
    /// Something beside the store that may be removed.
    Leftover,
    /// No good backup, or none of late.
    Backup,
    /// The archive does not continue, or has gaps.
    Archive,
    /// Much of the file is free.
    Space,
}

/// Something that the user should know, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Concern {
    /// How soon something has to be done.
    pub urgency: Urgency,
    /// What it is about.
    pub subject: Subject,
    /// What was found.
    pub what: String,
    /// What to do, in text.
    pub remedy: String,
    /// What to do, as commands for a shell, in order; empty if there is none.
    pub commands: Vec<String>,
}

/// How much of the store was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Extent {
    /// Root slots, the log's chain, catalog and names, the branches of each table, the free map: all but leaves and long values.
    Quick,
    /// Everything, as [`check`](crate::check) does.
    Full,
}

/// The store's health.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Health {
    /// How much was verified.
    pub extent: Extent,
    /// Whether the verification was completed; if not, why.
    pub unfinished: Option<String>,
    /// How many findings are damage.
    pub damage: u64,
    /// How many findings are warnings.
    pub warnings: u64,
    /// The first of the findings.
    pub findings: Vec<Finding>,
}

/// Identifies a state of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StoreState {
    /// The store's id, in hexadecimal digits, as backups name it.
    pub id: String,
    /// Version of the file format.
    pub format_version: u32,
    /// Bytes of a page.
    pub page_size: u32,
    /// Length of the file.
    pub file_size: u64,
    /// Sequence of the newest root.
    pub root_sequence: u64,
    /// LSN up to which the log is applied to the tree.
    pub checkpoint_lsn: u64,
    /// When that root was made; `None` for a new store.
    pub checkpoint_time: Option<SystemTime>,
    /// The newest transaction that readers see; `None` where the store cannot be opened.
    pub last_commit: Option<u64>,
}

/// A table and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// Its entries: those that readers see, or, where the store cannot be opened, those in its tree.
    pub entries: u64,
    /// Name of the type of its keys.
    pub key_type: String,
    /// Name of the encoding of its values.
    pub value_type: String,
    /// Bytes of its pages, those of long values included, as the catalog notes them: without what the log adds.
    pub size: u64,
    /// Bytes of the keys and values there.
    pub content: u64,
}

/// What the file's pages are used for, by the newest root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SpaceUse {
    /// All of them.
    pub total: u64,
    /// The log's.
    pub log: u64,
    /// Free: used again by the next commits, or given back to the system by compacting.
    pub free: u64,
    /// Given up, but kept for snapshots, the named ones included.
    pub pending: u64,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LogState {
    /// Its size in the file.
    pub capacity: u64,
    /// The part of it that is not applied to the tree yet.
    pub used: u64,
    /// The size that it may grow to in a process that sets no other cap; `None` where the store cannot be opened.
    pub cap: Option<u64>,
    /// Transactions in that part; `None` if it could not be read beside writers.
    pub transactions: Option<u64>,
}

/// What a process does with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Role {
    /// Has it open for writing.
    Writing,
    /// Has it open for reading.
    Reading,
    /// Opens or leaves it.
    Opening,
    /// Holds the writer lock: it has a write transaction.
    Writer,
    /// Appends to the log.
    Appending,
    /// Flushes.
    Flushing,
    /// Makes a checkpoint, or allocates pages.
    Checkpoint,
    /// Waits for the writer lock.
    Waiting,
    /// Holds a state: a snapshot, a check, a backup.
    Pinning,
}

/// A process that has the store open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OpenProcess {
    /// The process; `since` is when it opened the store, if it published that.
    pub process: Holder,
    /// What it does.
    pub roles: Vec<Role>,
    /// For how long it has held the writer lock, or has waited for it.
    pub waiting_or_writing: Option<Duration>,
    /// Since when the process runs, if the system tells.
    pub running_since: Option<SystemTime>,
    /// Since when it keeps the oldest state that it keeps, if it published that.
    pub oldest_state: Option<SystemTime>,
}

/// A range of tree versions that a process keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PinnedVersion {
    /// The first and the last of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// Whether it is older than the newest root, so that it keeps pages that newer versions no longer use.
    pub outdated: bool,
    /// The process that keeps it; `None` if the system does not tell.
    pub process: Option<Holder>,
    /// For how long, if the process published that.
    pub age: Option<Duration>,
    /// At least for how long: there have been newer roots since.
    pub at_least: Option<Duration>,
}

/// Where the file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FilePlace {
    /// Type of the file system, where it can be told.
    pub filesystem: Option<String>,
    /// Whether it lies on another machine.
    pub remote: bool,
    /// Bytes of it.
    pub total: u64,
    /// Bytes that this user may still write.
    pub available: u64,
    /// Why this user cannot make a sidecar beside the file; `None`: it can.
    pub directory_refused: Option<String>,
    /// How many names the file has.
    pub links: u64,
    /// Its other names in the same directory.
    pub other_names: Vec<PathBuf>,
}

/// What lies beside a store, and is named after it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Leftover {
    /// Its path.
    pub path: PathBuf,
    /// What it is.
    pub what: &'static str,
    /// Its bytes; 0 for a folder.
    pub bytes: u64,
    /// When it was last changed.
    pub modified: Option<SystemTime>,
}

/// The backups of a store in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackupNews {
    /// The directory.
    pub directory: PathBuf,
    /// How many of them are good, as far as their own words tell.
    pub good: u64,
    /// How many files there cannot be used: of this store, or unreadable.
    pub bad: u64,
    /// When the newest good one was made.
    pub newest: Option<SystemTime>,
    /// Its file.
    pub newest_file: Option<PathBuf>,
    /// What it is.
    pub newest_kind: Option<BackupKind>,
    /// The newest transaction in it.
    pub newest_lsn: Option<u64>,
}
