//! The entries of a table by their numbers.

use crate::engine::gaps::behind;
use crate::error::Result;
use crate::txn::bounds::ByteRange;
use crate::txn::range::Entry;
use crate::txn::state::ReadState;
use crate::txn::table::RawTable;
use std::ops::Bound;

impl<'s, S: ReadState> RawTable<'s, S> {
    /// The number of entries of a range of keys. No entry is read: each bound costs a way down the tree, beside what
    /// [`RawTable::len`] costs.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| [b"a", b"b", b"c", b"d"].iter().try_for_each(|key| tx.raw("t")?.put(*key, b"")))?;
    /// let snapshot = store.read()?;
    /// let table = snapshot.raw("t")?;
    /// assert_eq!(table.count(b"b"..=b"c")?, 2);
    /// assert_eq!(table.count(b"b"..)?, 3);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`RawTable::get`], but bounds may be longer than keys.
    pub fn count(&self, range: impl ByteRange) -> Result<u64> {
        let (from, to) = range.bounds();
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
