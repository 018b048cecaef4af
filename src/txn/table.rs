//! Reading a table of bytes, in a snapshot or in a write transaction.

use crate::bytes::Bytes;
use crate::engine::file::check_key;
use crate::engine::merge::TableSource;
use crate::error::Result;
use crate::txn::snapshot::Snapshot;
use crate::txn::state::ReadState;

/// A table of bytes, for reading: in a [`Snapshot`], by [`Snapshot::raw`]; or in a write transaction, as
/// `RawTable<'_, WriteTxn>`, by [`WriteTxn::read_raw`](crate::WriteTxn::read_raw).
///
/// A table of a snapshot may be shared between threads, and sent to them. [`RawTable::into_owned`] makes a form of it
/// that borrows nothing.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     let table = tx.raw("notes")?;
///     table.put(b"a", b"1")?;
///     table.put(b"b", b"2")
/// })?;
/// let snapshot = store.read()?;
/// let notes = snapshot.raw("notes")?;
/// assert_eq!(notes.get(b"a")?.unwrap(), b"1");
/// assert_eq!(notes.len()?, 2);
/// let (key, _) = notes.last()?.unwrap();
/// assert_eq!(key, b"b");
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// store.write(|tx| tx.raw("paths")?.bulk_load([("a", "1"), ("home/b", "2"), ("home/c", "3")]).map(drop))?;
/// let snapshot = store.read()?;
/// let paths = snapshot.raw("paths")?;
/// assert!(paths.contains(b"a")? && !paths.is_empty()?);
/// assert_eq!(paths.first()?.unwrap().0, b"a");
/// assert_eq!(paths.prefix(b"home/")?.count(), 2);
/// let keys = paths.keys()?.rev().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(keys, ["home/c", "home/b", "a"]);
/// let values = paths.range("b"..)?.values().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(values, ["2", "3"]);
/// assert_eq!(paths.values()?.count(), paths.range(..)?.keys().count());
/// let owned = paths.into_owned(); // borrows nothing: see there
/// assert_eq!(owned.len()?, 3);
/// # Ok::<(), memstone::Error>(())
/// ```
pub struct RawTable<'s, S: ReadState = Snapshot> {
    state: &'s S,
    place: S::Place,
}

impl<S: ReadState> Clone for RawTable<'_, S> {
    fn clone(&self) -> Self {
        RawTable { state: self.state, place: self.place.clone() }
    }
}

shows! { self: [S: ReadState] RawTable<'_, S> {} }

impl<'s, S: ReadState> RawTable<'s, S> {
    pub(super) fn new(state: &'s S, place: S::Place) -> RawTable<'s, S> {
        RawTable { state, place }
    }

    /// What it is read in.
    pub(super) fn state(&self) -> &'s S {
        self.state
    }

    pub(super) fn place(&self) -> &S::Place {
        &self.place
    }

    /// Where it is read; `None`: there is no such table, which reads as empty. Every read starts here.
    #[inline]
    pub(super) fn ground(&self) -> Result<Option<TableSource<'s, S::Buffer>>> {
        self.state.ground_of(&self.place)
    }

    /// Whether it still stands for the table of this id.
    #[inline]
    pub(super) fn leads_to(&self, table: u32) -> Result<bool> {
        self.state.leads_to(&self.place, table)
    }

    #[inline]
    pub(super) fn in_file<T>(&self, result: Result<T>) -> Result<T> {
        self.state.named_file(result)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) for a key beyond the limit, [`Error::Corrupt`](crate::Error::Corrupt) for damage, [`Error::Io`](crate::Error::Io),
    /// [`Error::NoTable`](crate::Error::NoTable) if this transaction dropped the table, [`Error::Forked`](crate::Error::Forked) in a forked child.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes<'s>>> {
        check_key(key)?;
        let Some(ground) = self.ground()? else { return Ok(None) };
        self.in_file(ground.get(key))
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        check_key(key)?;
        let Some(ground) = self.ground()? else { return Ok(false) };
        self.in_file(ground.contains(key))
    }

    /// The number of entries. Takes time in proportion to the keys of this table that were changed since it was counted
    /// last: those of the log since this process did so, and in a write transaction its own since it did. At first, and
    /// after a checkpoint, these are all keys of the table in the log, which the log's cap bounds.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn len(&self) -> Result<u64> {
        let Some(ground) = self.ground()? else { return Ok(0) };
        self.in_file(ground.entries())
    }
}
