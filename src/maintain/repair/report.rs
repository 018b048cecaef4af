//! The report of a repair.

use std::path::PathBuf;

/// Where the root that a repair starts from comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum RootSource {
    /// The newest root slot.
    #[default]
    Newest,
    /// The other root slot: the newest one is broken, or its trees are, while the other ones hold.
    Older,
    /// No root slot is whole: the newest catalog that was found among the pages.
    Rebuilt,
}

/// How certain it is that rows from pages to which nothing leads are the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Certainty {
    /// The page is in use by the root: its rows are current.
    Proven,
    /// The newest page found for these keys; whether it is in use cannot be told.
    Likely,
    /// The page was given up, or belongs to a root that is lost: its rows may be outdated, or deleted since.
    Unproven,
}

/// A page that rows were taken from, though nothing leads to it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SalvagedPage {
    /// The page.
    pub page: u64,
    /// Sequence of the root that it was written for.
    pub version: u64,
    /// How far its rows are to be trusted.
    pub certainty: Certainty,
    /// Its rows that no newer page has.
    pub rows: u64,
    /// Whether they are in the result.
    pub taken: bool,
}

/// Keys of which rows are missing. Keys are given with bytes that are not printable ASCII as `\xNN`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LostRange {
    /// The first key that may be missing; `None`: from the first key of the table on.
    pub from: Option<String>,
    /// The first key behind the range; `None`: to the end of the table.
    pub to: Option<String>,
    /// The page whose loss this is.
    pub page: u64,
    /// What is wrong with it.
    pub why: String,
}

/// A row whose key is known, but whose value is destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LostValue {
    /// The key, as in [`LostRange`].
    pub key: String,
    /// The first page of the value.
    pub page: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What became of one table.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// # memstone::Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let report = memstone::repair(&path, &memstone::RepairOptions::new())?;
/// for table in &report.tables {
///     assert!(table.is_complete(), "{}: {:?} are lost", table.name, table.lost_ranges);
/// }
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RepairedTable {
    /// Its name in the result.
    pub name: String,
    /// Its id in the damaged store.
    pub id: u32,
    /// Name of the keys' type.
    pub key_type: String,
    /// Name of the values' type.
    pub value_type: String,
    /// Where the name or the types come from, if not from the names table of the root.
    pub named_by: Option<String>,
    /// Entries in the result.
    pub entries: u64,
    /// Entries of the tree, as the root notes them, if that can be told.
    pub expected: Option<u64>,
    /// Entries of the tree that are gone, as far as they can be counted: `None` if they cannot.
    pub lost_rows: Option<u64>,
    /// Where they lay. The log may have set some of their keys since: see `rewritten`.
    pub lost_ranges: Vec<LostRange>,
    /// Rows that lie in lost ranges, and which the log has set or deleted since: they are right.
    pub rewritten: u64,
    /// Rows without their value; they are not in the result.
    pub lost_values: Vec<LostValue>,
    /// Pages that rows were taken from, or could be, to which nothing leads.
    pub salvaged: Vec<SalvagedPage>,
}

impl RepairedTable {
    /// Whether all of it is there, and certain.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let uncertain = |page: &SalvagedPage| page.taken && page.certainty != Certainty::Proven;
        self.lost_rows == Some(0)
            && self.lost_ranges.is_empty()
            && self.lost_values.is_empty()
            && self.named_by.is_none()
            && !self.salvaged.iter().any(uncertain)
    }
}

/// A frame of the log behind a damaged one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BeyondFrame {
    /// Its LSN.
    pub lsn: u64,
    /// Where it lies in the file.
    pub offset: u64,
    /// Its operations.
    pub operations: u32,
    /// Whether they are in the result.
    pub taken: bool,
}

/// What [`repair`](crate::repair) did.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::{RepairOptions, RootSource, Store};
/// Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let report = memstone::repair(&path, &RepairOptions::new())?;
/// assert!(report.is_complete() && report.root == RootSource::Newest);
/// let store = Store::open(&report.output)?;
/// assert_eq!(store.read()?.raw("t")?.get(b"k")?.unwrap(), b"v");
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RepairReport {
    /// The damaged store. It was not changed, unless `kept` tells where it is now.
    pub path: PathBuf,
    /// The repaired store.
    pub output: PathBuf,
    /// Where the damaged file is now, if the repaired one took its name.
    pub kept: Option<PathBuf>,
    /// Bytes of a page.
    pub page_size: u32,
    /// Which root it started from.
    pub root: RootSource,
    /// The sequence of that root.
    pub root_sequence: u64,
    /// The newest transaction in the result.
    pub lsn: u64,
    /// If newer transactions are known to be lost: the newest of which there is a trace.
    pub lost_to_lsn: Option<u64>,
    /// Frames of the log that were applied.
    pub frames: u64,
    /// Frames behind a damaged one.
    pub frames_beyond: Vec<BeyondFrame>,
    /// The tables.
    pub tables: Vec<RepairedTable>,
    /// Names of the named snapshots that the damaged store had, as far as they can be read: the result has none. As
    /// long as the damaged file is kept, they may be read there.
    pub lost_snapshots: Vec<String>,
    /// Whether a part of what the store says of its tables is destroyed, so that some may be missing altogether.
    pub tables_may_be_missing: bool,
    /// The result's [`content_hash`](crate::content_hash), as hex digits.
    pub content_hash: String,
    /// What else was found out.
    pub notes: Vec<String>,
}

impl RepairReport {
    /// Whether the result has everything that the damaged store held, and nothing uncertain.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let beyond = self.frames_beyond.iter().any(|frame| frame.taken);
        let lost = self.lost_to_lsn.is_some() || self.tables_may_be_missing || !self.lost_snapshots.is_empty();
        !lost && !beyond && self.tables.iter().all(RepairedTable::is_complete)
    }
}
