//! The entries of a table by their numbers.

use crate::engine::gaps::behind;
use crate::error::Result;
use crate::txn::range::Entry;
use crate::txn::table::RawTable;
use crate::txn::write_table::RawTableMut;
use std::ops::Bound;

impl<'s> RawTable<'s> {
    /// The number of entries between two bounds. No entry is read: each bound costs a way down the tree, beside what
    /// [`RawTable::len`] costs.
    ///
    /// ```
    /// # use std::ops::Bound;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| [b"a", b"b", b"c", b"d"].iter().try_for_each(|key| tx.raw("t")?.put(*key, b"")))?;
    /// let snapshot = store.read()?;
    /// let table = snapshot.raw("t")?;
    /// assert_eq!(table.count(Bound::Excluded(b"a"), Bound::Included(b"c"))?, 2);
    /// assert_eq!(table.count(Bound::Included(b"b"), Bound::Unbounded)?, 3);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`RawTable::get`], but bounds may be longer than keys.
    pub fn count(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<u64> {
        let end = match to {
            Bound::Unbounded => self.len()?,
            Bound::Excluded(key) => self.rank(key)?,
            Bound::Included(key) => self.rank(&behind(key))?,
        };
        let start = match from {
            Bound::Unbounded => 0,
            Bound::Included(key) => self.rank(key)?,
            Bound::Excluded(key) => self.rank(&behind(key))?,
        };
        Ok(end.saturating_sub(start))
    }

    /// The number of entries whose keys are below `key`, which need not be there. Costs what [`RawTable::count`] does.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| [b"a", b"c", b"e"].iter().try_for_each(|key| tx.raw("t")?.put(*key, b"")))?;
    /// let snapshot = store.read()?;
    /// let table = snapshot.raw("t")?;
    /// assert_eq!((table.rank(b"c")?, table.rank(b"d")?, table.rank(b"x")?), (1, 2, 3));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`RawTable::get`], but the key may be longer than keys are.
    pub fn rank(&self, key: &[u8]) -> Result<u64> {
        let Some(ground) = self.ground()? else { return Ok(0) };
        self.in_file(ground.rank(key))
    }

    /// The entry of this number, counted from 0 in the order of the keys; `None` if there are no more. Costs what
    /// [`RawTable::count`] does, and reads the value.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| [b"a", b"c", b"e"].iter().try_for_each(|key| tx.raw("t")?.put(*key, b"")))?;
    /// let snapshot = store.read()?;
    /// let table = snapshot.raw("t")?;
    /// assert_eq!(table.nth(1)?.unwrap().0, b"c");
    /// assert!(table.nth(3)?.is_none());
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn nth(&self, n: u64) -> Result<Option<Entry<'s>>> {
        let Some(ground) = self.ground()? else { return Ok(None) };
        self.in_file(ground.nth(n))
    }
}

impl<'t> RawTableMut<'t> {
    /// The number of entries between two bounds.
    ///
    /// # Errors
    /// As [`RawTable::count`].
    pub fn count(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<u64> {
        self.reading.count(from, to)
    }

    /// The number of entries whose keys are below `key`.
    ///
    /// # Errors
    /// As [`RawTable::rank`].
    pub fn rank(&self, key: &[u8]) -> Result<u64> {
        self.reading.rank(key)
    }

    /// The entry of this number, counted from 0.
    ///
    /// # Errors
    /// As [`RawTable::nth`].
    pub fn nth(&self, n: u64) -> Result<Option<Entry<'t>>> {
        self.reading.nth(n)
    }
}
