//! The change feed: what was committed after a cursor, in the order of the commits.

use crate::disk::format::get_u32;
use crate::engine::commit_record::{Entry, crc_of, entries};
use crate::engine::feed::{Reach, Records};
use crate::error::{CorruptionKind, Error, Result};
use crate::txn::snapshot::Snapshot;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A place in the history of a store: just after a transaction.
///
/// It names the transaction by the store's id, its LSN, and the checksum of its place in the log. So it is not taken
/// for a place in another history: that of another store, of a copy of the file that was put back, or after a power
/// loss that took away a [relaxed](crate::Durability::Relaxed) commit. [`Cursor::to_bytes`] makes bytes of it, to be kept
/// anywhere; [`WriteTxn::set_cursor`](crate::WriteTxn::set_cursor) keeps it in the store itself, in the transaction that
/// has the effects of what was read up to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub(crate) store_id: [u8; 16],
    pub(crate) lsn: u64,
    /// `None`: only the LSN was known.
    pub(crate) crc: Option<u32>,
}

shows! { self: Cursor { lsn: self.lsn } }

impl Cursor {
    /// How many bytes [`Cursor::to_bytes`] gives.
    pub const BYTES: usize = 32;

    /// The LSN of the transaction that it stands after.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// The cursor as bytes, for [`Cursor::from_bytes`]: 16 of the store's id; `u64` LSN; `u32` checksum; `u32` 1 if
    /// the checksum is known, or 0; all little-endian.
    ///
    /// ```
    /// use memstone::Cursor;
    /// # let store = memstone::Store::in_memory()?;
    /// let cursor = store.read()?.end()?;
    /// assert_eq!(Cursor::from_bytes(&cursor.to_bytes()), Some(cursor));
    /// assert_eq!(Cursor::from_bytes(b"something else"), None);
    /// assert_eq!(cursor.lsn(), store.last_commit()?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Cursor::BYTES] {
        let parts = [&self.store_id[..], &self.lsn.to_le_bytes(), &self.crc_bytes()].concat();
        parts.try_into().unwrap_or([0; Cursor::BYTES])
    }

    /// The cursor that [`Cursor::to_bytes`] made these bytes of; `None` if it made no such bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Cursor> {
        let (store_id, rest) = bytes.split_first_chunk::<16>()?;
        let (lsn, crc) = rest.split_first_chunk::<8>()?;
        let crc = Cursor::crc_from(crc.first_chunk().filter(|_| crc.len() == 8)?)?;
        Some(Cursor { store_id: *store_id, lsn: u64::from_le_bytes(*lsn), crc })
    }

    pub(super) fn crc_bytes(&self) -> [u8; 8] {
        (u64::from(self.crc.unwrap_or(0)) | u64::from(self.crc.is_some()) << 32).to_le_bytes()
    }

    /// `None`: no such bytes were ever made.
    pub(super) fn crc_from(bytes: &[u8; 8]) -> Option<Option<u32>> {
        match (get_u32(bytes, 0), get_u32(bytes, 4)) {
            (0, 0) => Some(None),
            (crc, 1) => Some(Some(crc)),
            _ => None,
        }
    }
}

/// The answer of [`Snapshot::changes`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Feed {
    /// All changes after the cursor, up to the snapshot.
    Changes(Changes),
    /// They are not all known: read the whole snapshot, and go on from [`Snapshot::end`].
    Gap(Gap),
}

/// Why the changes after a cursor cannot be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// They are no longer known back to it: the log was applied to the tree, and the journal does not reach as far.
    Truncated {
        /// Changes are known after this LSN.
        oldest: u64,
    },
    /// The store has no such transaction: a relaxed commit was lost, the file was put back from an older copy, or the
    /// snapshot is older than the cursor. What was read up to the cursor may not have happened.
    OtherHistory,
    /// The cursor is that of another store. (A clone and a restored backup are stores of their own.)
    OtherStore,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::Truncated { oldest } => write!(f, "changes are known after LSN {oldest} only"),
            Gap::OtherHistory => f.write_str("the store has no such transaction"),
            Gap::OtherStore => f.write_str("the cursor is that of another store"),
        }
    }
}

/// A commit, and what it changed.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::{Changed, Feed};
/// let seen = store.read()?.end()?;
/// store.write(|tx| tx.raw("notes")?.put(b"a", b"1"))?;
/// let Feed::Changes(mut commits) = store.changes(seen)? else { panic!("a gap") };
/// let commit = commits.next().expect("one commit")?;
/// assert_eq!(commit.changes().next(), Some(Changed::TableCreated { table: "notes" }));
/// assert!(commit.changes().all(|changed| changed.table() == "notes"));
/// // The cursor to go on from; and the state that has the values.
/// assert_eq!((commit.lsn(), commit.cursor()), (store.last_commit()?, store.read()?.end()?));
/// assert_eq!(commits.snapshot().raw("notes")?.get(b"a")?.unwrap(), b"1");
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Commit {
    cursor: Cursor,
    /// Its entries were all read once.
    record: Vec<u8>,
}

/// What a commit changed. Names of tables are those after the commit (of a dropped one: before).
///
/// ```
/// use memstone::Changed;
/// assert_eq!(Changed::Put { table: "notes", key: b"a" }.table(), "notes");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changed<'c> {
    /// A key got a value: it is new, or had another value, or the same.
    Put {
        /// The table.
        table: &'c str,
        /// The key, as bytes.
        key: &'c [u8],
    },
    /// A key was deleted.
    Deleted {
        /// The table.
        table: &'c str,
        /// The key, as bytes.
        key: &'c [u8],
    },
    /// A table was created.
    TableCreated {
        /// The table.
        table: &'c str,
    },
    /// A table was dropped, with all its rows.
    TableDropped {
        /// The table.
        table: &'c str,
    },
    /// All rows of a table are gone but those that this commit puts; or the table was dropped, and created anew.
    TableCleared {
        /// The table.
        table: &'c str,
    },
    /// A table has another name. All renamings of a commit happen at once: two tables may change names.
    TableRenamed {
        /// The table.
        table: &'c str,
        /// Its name before.
        from: &'c str,
    },
}

impl<'c> Changed<'c> {
    /// The table.
    #[must_use]
    pub fn table(&self) -> &'c str {
        match *self {
            Changed::Put { table, .. }
            | Changed::Deleted { table, .. }
            | Changed::TableCreated { table }
            | Changed::TableDropped { table }
            | Changed::TableCleared { table }
            | Changed::TableRenamed { table, .. } => table,
        }
    }
}

impl Commit {
    /// Its LSN.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.cursor.lsn
    }

    /// The place after it: a reader that has processed the commit goes on from there.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// What it changed: first the tables dropped, renamed, cleared and created, then the keys of each table, in the
    /// order of the keys. Of a key that the transaction changed twice, the last change.
    pub fn changes(&self) -> impl Iterator<Item = Changed<'_>> {
        let mut of = "";
        entries(&self.record).flatten().filter_map(move |entry| match entry {
            Entry::Table(table) => {
                of = table;
                None
            }
            Entry::Created(table) => Some(Changed::TableCreated { table }),
            Entry::Dropped(table) => Some(Changed::TableDropped { table }),
            Entry::Cleared(table) => Some(Changed::TableCleared { table }),
            Entry::Renamed { table, from } => Some(Changed::TableRenamed { table, from }),
            Entry::Put(key) => Some(Changed::Put { table: of, key }),
            Entry::Deleted(key) => Some(Changed::Deleted { table: of, key }),
        })
    }
}

/// The commits after a cursor, up to a snapshot, in their order; see [`Snapshot::changes`].
///
/// A commit without a change of a table or a key (of a cursor, or a setting) is passed over. After an error the
/// iteration is over.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// let memstone::Feed::Changes(none) = store.changes(store.read()?.end()?)? else { panic!("a gap") };
/// assert_eq!(none.snapshot().lsn(), store.last_commit()?);
/// assert_eq!(none.count(), 0);
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug)]
pub struct Changes {
    snapshot: Snapshot,
    records: Records,
    failed: bool,
}

impl Changes {
    /// The snapshot up to which changes are given. It has the values.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn next_commit(&mut self) -> Result<Option<Commit>> {
        self.snapshot.engine().check_process()?;
        while let Some((lsn, record)) = self.records.next_record()? {
            let Some(crc) = crc_of(&record).filter(|_| entries(&record).all(|entry| entry.is_some())) else {
                let (expected, found) = ("a record of each transaction", format!("something else for LSN {lsn}"));
                return Err(Error::corrupt(CorruptionKind::Journal, 0, None, expected, found));
            };
            if entries(&record).next().is_some() {
                let cursor = Cursor { store_id: self.snapshot.engine().store_id, lsn, crc: Some(crc) };
                return Ok(Some(Commit { cursor, record }));
            }
        }
        Ok(None)
    }
}

impl Iterator for Changes {
    type Item = Result<Commit>;

    fn next(&mut self) -> Option<Result<Commit>> {
        if self.failed {
            return None;
        }
        let next = self.next_commit();
        self.failed = next.is_err();
        self.snapshot.in_file(next).transpose()
    }
}

impl FusedIterator for Changes {}

// As the snapshot that it reads.
impl UnwindSafe for Changes {}
impl RefUnwindSafe for Changes {}

impl Snapshot {
    /// The place of this state in the history of the store: what is committed later comes after it.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn end(&self) -> Result<Cursor> {
        self.engine().check_process()?;
        let (lsn, crc) = self.in_file(self.view().newest_mark())?;
        Ok(Cursor { store_id: self.engine().store_id, lsn, crc })
    }

    /// The place just after this LSN, of which no more is known: if another transaction has got it
    /// meanwhile (see [`Gap::OtherHistory`]), that is not noticed. [`Snapshot::end`] and [`Commit::cursor`] give cursors that
    /// are compared.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// let lsn = store.last_commit()?;
    /// store.write(|tx| tx.raw("notes")?.put(b"a", b"1"))?;
    /// let now = store.read()?;
    /// let memstone::Feed::Changes(commits) = now.changes(now.cursor_at(lsn))? else { panic!("a gap") };
    /// assert_eq!(commits.count(), 1);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn cursor_at(&self, lsn: u64) -> Cursor {
        Cursor { store_id: self.engine().store_id, lsn, crc: None }
    }

    /// What was committed after `since`, up to this state, in the order of the commits: which tables and keys each
    /// commit changed. Their values are in this state.
    ///
    /// Changes are known from the log, and before it from the [journal](crate::Store::set_journal), if the store has one.
    /// Beyond that the answer is a [`Gap`]: read this whole state instead, and go on from [`Snapshot::end`]. (Without a
    /// journal, each checkpoint leaves a gap behind every reader that has not read up to the newest commit.)
    ///
    /// A relaxed commit is in the feed as soon as it is visible, before it is durable. If a power loss takes it away,
    /// a cursor that had passed it gets [`Gap::OtherHistory`]: what was done because of it may have to be undone. (Without a
    /// journal that is not noticed if another transaction got the same LSN and was the last one that a checkpoint applied.)
    /// A cursor that is kept in the store itself is taken away together with it.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::{Changed, Feed};
    ///
    /// store.write(|tx| tx.raw("notes")?.put(b"a", b"1"))?;
    /// let seen = store.read()?.end()?;
    /// store.write(|tx| {
    ///     tx.raw("notes")?.delete(b"a")?;
    ///     tx.raw("notes")?.put(b"b", b"2")
    /// })?;
    ///
    /// let now = store.read()?;
    /// let Feed::Changes(commits) = now.changes(seen)? else { panic!("nothing was applied meanwhile") };
    /// for commit in commits {
    ///     let commit = commit?;
    ///     let changes: Vec<_> = commit.changes().collect();
    ///     assert_eq!(changes, [Changed::Deleted { table: "notes", key: b"a" }, Changed::Put { table: "notes", key: b"b" }]);
    ///     assert_eq!(commit.cursor(), now.end()?);
    /// }
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn changes(&self, since: Cursor) -> Result<Feed> {
        self.engine().check_process()?;
        if since.store_id != self.engine().store_id {
            return Ok(Feed::Gap(Gap::OtherStore));
        }
        Ok(match self.in_file(self.view().knows_since(since.lsn, since.crc))? {
            Reach::Since(oldest) => Feed::Gap(Gap::Truncated { oldest }),
            Reach::Never => Feed::Gap(Gap::OtherHistory),
            Reach::All => Feed::Changes(Changes {
                snapshot: self.clone(),
                records: Records::after(self.view(), since.lsn),
                failed: false,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::format::get_u64;

    #[test]
    fn only_bytes_of_a_cursor_are_one() {
        for crc in [None, Some(0), Some(u32::MAX)] {
            let cursor = Cursor { store_id: *b"the id of a stor", lsn: 77, crc };
            let bytes = cursor.to_bytes();
            assert_eq!(Cursor::from_bytes(&bytes), Some(cursor));
            assert_eq!((get_u64(&bytes, 16), bytes[28]), (77, u8::from(crc.is_some())));
            assert_eq!([Cursor::from_bytes(&bytes[1..]), Cursor::from_bytes(&[&bytes[..], b"1"].concat())], [None; 2]);
        }
        assert_eq!(Cursor::from_bytes(&[1; 32]), None);
    }
}
