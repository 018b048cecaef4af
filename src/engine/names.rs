//! Snapshots by name: states that the store keeps until they are deleted.
//!
//! A table of the store itself maps each name to a root that was durable: its sequence, which pins the pages of
//! that version as a PIN byte does, and its catalog. Every checkpoint reads the table of its base (see
//! `PageWriter::new`). So a deleted name pins its version until the root without the name is durable, and a new
//! name needs no other protection: it is given to the checkpoint's own base, whose pages no checkpoint reuses.

use crate::change::Change;
use crate::direction::Direction;
use crate::disk::format::{Ptr, TABLE_SNAPSHOTS, TREE_ROOT_SIZE, TreeRoot, get_u64, put_bytes, put_u64};
use crate::disk::host::{time_of, unix_us};
use crate::disk::pins::Pin;
use crate::disk::root::Root;
use crate::engine::view::{TreeVersion, View, Views};
use crate::error::{CorruptionKind, Error, Result};
use crate::log::ring::Ring;
use crate::tree::cursor::{Cursor, get};
use crate::tree::update::{PageStore, update};
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

/// A row of the table: `u64 sequence, u64 last commit, u64 checkpoint LSN, u64 time`, the catalog's tree. What follows is
/// of a newer program.
const CATALOG: usize = 32;
const ROW: usize = CATALOG + TREE_ROOT_SIZE;

/// The state that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedRow {
    /// Sequence of the root.
    pub(crate) sequence: u64,
    pub(crate) catalog: TreeRoot,
    /// LSN of its newest transaction.
    pub(crate) last_commit: u64,
    pub(crate) checkpoint_lsn: u64,
    /// When the name was given, in µs since 1970.
    pub(crate) time: u64,
}

impl NamedRow {
    pub(crate) fn of(root: &Root) -> NamedRow {
        let Root { sequence, catalog, last_commit, checkpoint_lsn, .. } = *root;
        NamedRow { sequence, catalog, last_commit, checkpoint_lsn, time: unix_us() }
    }

    pub(crate) fn describe(&self, name: String, kept: u64) -> NamedSnapshot {
        NamedSnapshot { name, lsn: self.last_commit, time: time_of(self.time), kept }
    }

    fn encode(&self) -> [u8; ROW] {
        let mut out = [0; ROW];
        put_u64(&mut out, 0, self.sequence);
        put_u64(&mut out, 8, self.last_commit);
        put_u64(&mut out, 16, self.checkpoint_lsn);
        put_u64(&mut out, 24, self.time);
        put_bytes(&mut out, CATALOG, &self.catalog.encode());
        out
    }

    fn decode(row: &[u8]) -> Option<NamedRow> {
        let catalog = row.get(CATALOG..).and_then(TreeRoot::of_row)?;
        Some(NamedRow {
            sequence: get_u64(row, 0),
            catalog,
            last_commit: get_u64(row, 8),
            checkpoint_lsn: get_u64(row, 16),
            time: get_u64(row, 24),
        })
    }
}

/// A named snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NamedSnapshot {
    /// Its name.
    pub name: String,
    /// LSN of the newest transaction in it.
    pub lsn: u64,
    /// When it was made.
    pub time: SystemTime,
    /// Bytes of the file that are kept for this snapshot alone: what deleting it frees, unless an open snapshot
    /// still needs them. Pages that several named snapshots keep together count for none of them.
    pub kept: u64,
}

/// What a checkpoint does to the table of names.
#[derive(Clone, Copy)]
pub(crate) enum Naming<'p> {
    /// Gives a name to the checkpoint's base, which the row describes.
    Give(&'p str, NamedRow),
    /// Deletes a name.
    Take(&'p str),
}

impl Naming<'_> {
    /// Returns the table's tree before and after, and updates the set of versions that names keep.
    pub(crate) fn apply(
        self,
        base: &TreeVersion,
        pages: &mut impl PageStore,
        versions: &mut Vec<u64>,
    ) -> Result<(TreeRoot, TreeRoot)> {
        let old = base.table(TABLE_SNAPSHOTS)?;
        let (name, change) = match self {
            Naming::Give(name, row) => {
                if row.sequence != base.root.sequence {
                    return Err(Error::Internal(format!("root {} is to be named, not the base", row.sequence)));
                }
                versions.push(row.sequence);
                (name, Change::Put(row.encode()))
            }
            Naming::Take(name) => {
                let sequence = base.named(name)?.map(|row| row.sequence);
                versions.retain(|version| Some(*version) != sequence);
                (name, Change::Delete)
            }
        };
        let new = update(pages, TABLE_SNAPSHOTS, old, std::iter::once(Ok((name.as_bytes(), change))))?;
        Ok((old, new))
    }
}

impl TreeVersion {
    /// What a name stands for in this version.
    pub(crate) fn named(&self, name: &str) -> Result<Option<NamedRow>> {
        let table = self.table(TABLE_SNAPSHOTS)?;
        let Some(row) = get(&self.pages, TABLE_SNAPSHOTS, table, name.as_bytes())? else { return Ok(None) };
        self.decode_named(&row.read(&self.pages, TABLE_SNAPSHOTS)?).map(Some)
    }

    /// All names of this version, in order.
    pub(crate) fn all_named(&self) -> Result<Vec<(String, NamedRow)>> {
        let table = self.table(TABLE_SNAPSHOTS)?;
        let mut found = Vec::new();
        let mut cursor = Cursor::new(&self.pages, TABLE_SNAPSHOTS, table);
        cursor.seek(Direction::Forward, Bound::Unbounded)?;
        while let Some((name, row)) = cursor.step(Direction::Forward)? {
            // Copied before it is called a string: see `ReadMap`.
            let name = String::from_utf8(name.to_vec()).map_err(|_| corrupt("a name in UTF-8"))?;
            found.push((name, self.decode_named(&row.read(&self.pages, TABLE_SNAPSHOTS)?)?));
        }
        Ok(found)
    }

    /// The versions that names keep, ascending.
    pub(crate) fn named_versions(&self) -> Result<Vec<u64>> {
        let mut versions: Vec<u64> = self.all_named()?.into_iter().map(|(_, row)| row.sequence).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// A name is given to a root by the root after it.
    fn decode_named(&self, row: &[u8]) -> Result<NamedRow> {
        let row = NamedRow::decode(row).filter(|row| row.sequence < self.root.sequence);
        row.ok_or_else(|| corrupt("a root older than this one, and its catalog"))
    }
}

fn corrupt(expected: &str) -> Error {
    Error::corrupt(CorruptionKind::NamedSnapshots, 0, None, expected, "something else")
}

impl Views {
    /// The state that a name stands for; `None` if there is no such name.
    ///
    /// Pin, then look again, as with a root: a checkpoint that could reuse the state's pages has a base without
    /// the name. If the newest root still has the name, that base is yet to be made, and its checkpoint looks for
    /// pins later.
    pub(crate) fn named_view(&self, name: &str) -> Result<Option<Arc<View>>> {
        loop {
            let newest = self.newest_pinned()?;
            let Some(row) = newest.named(name)? else { return Ok(None) };
            let pin = self.pins.pin(row.sequence)?;
            let again = self.newest_pinned()?;
            if again.named(name)? == Some(row) {
                return self.view_of(&again.root, &row, pin).map(|view| Some(Arc::new(view)));
            }
        }
    }

    /// The state of a row in the table of `newest`, with no log over it.
    fn view_of(&self, newest: &Root, row: &NamedRow, pin: Pin) -> Result<View> {
        let NamedRow { sequence, catalog, last_commit, checkpoint_lsn, .. } = *row;
        let ring = Arc::new(Ring::new(newest));
        // The pages of this state lie before the end of the newer root's file, which never ends before a pending
        // page.
        let root = Root { sequence, catalog, last_commit, checkpoint_lsn, ..newest.clone() };
        let tree = Arc::new(self.open_tree(Arc::new(root), Some(pin))?);
        let (tables, known) = Default::default();
        Ok(View { tree, ring, memtables: Vec::new(), lsn: checkpoint_lsn, last_commit, tables, known })
    }

    /// The newest root that can be proved durable. A new name is found by every process that looks later, even if
    /// its root was not published.
    fn newest_pinned(&self) -> Result<TreeVersion> {
        self.check_process()?;
        self.load_hints(&self.sidecar());
        match self.confirm_root() {
            // Until the failed flush is repaired, only the older root, which is certainly durable, can be shown.
            Ok(_) | Err(Error::Poisoned { .. }) => self.pinned_root(),
            Err(error) => Err(error),
        }
    }

    /// All named snapshots, by name, with what each of them alone keeps.
    pub(crate) fn named_snapshots(&self) -> Result<Vec<NamedSnapshot>> {
        let newest = self.newest_pinned()?;
        let named = newest.all_named()?;
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let mut versions: Vec<u64> = named.iter().map(|(_, row)| row.sequence).collect();
        versions.sort_unstable();
        let kept = newest.space(Ptr::NONE)?.kept_alone(&versions);
        let described = named.into_iter().map(|(name, row)| {
            let at = versions.partition_point(|version| *version < row.sequence);
            let pages = kept.get(at).copied().unwrap_or(0);
            row.describe(name, pages * u64::from(self.page_size))
        });
        Ok(described.collect())
    }
}
