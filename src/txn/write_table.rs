//! Writing a table of bytes.

use crate::bytes::Bytes;
use crate::change::Change;
use crate::engine::file::check_key;
use crate::error::{Error, Result};
use crate::txn::bounds::ByteRange;
use crate::txn::range::Entry;
use crate::txn::state::{TxnPlace, TxnPlaceKind};
use crate::txn::table::RawTable;
use crate::txn::txn_table::TxnTable;
use crate::txn::write::WriteTxn;
use std::ops::Deref;
use std::rc::Rc;

/// A table of bytes in a write transaction, for writing, and for reading as a [`RawTable`], which it derefs to. Several
/// handles may be open at once, also of the same table.
///
/// A handle stands for the table, not for its name: the table that had the name when the handle was opened, or
/// that was created then. What is done through one handle of a table is seen through all of them.
/// - Renaming or clearing the table keeps its handles valid.
/// - When the table is dropped, its handles give [`Error::NoTable`] for every read and write, also when another
///   table takes the name.
/// - [`WriteTxn::rollback_to`] makes a table what it was at the savepoint, for all its handles, whenever they were
///   opened: with its former name, dropped or not, and gone if it was created later.
/// - A range continues after the entry that it returned last, in the table's content at that time.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     let queue = tx.raw("queue")?;
///     queue.put(b"1", b"first")?;
///     queue.put(b"2", b"second")?;
///     let (key, value) = queue.pop_first()?.unwrap();
///     assert_eq!((&key[..], &value[..]), (&b"1"[..], &b"first"[..]));
///     assert_eq!(queue.insert(b"2", b"other")?.unwrap(), b"second");
///     assert_eq!(queue.remove(b"2")?.unwrap(), b"other");
///
///     // Many at once.
///     queue.bulk_load([("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")])?;
///     assert_eq!(queue.retain(|key, _| key != b"a")?, 1);
///     assert_eq!(queue.delete_range("d"..)?, 2);
///     queue.delete(b"b")?;
///     assert_eq!(queue.pop_last()?.unwrap().1, b"3");
///     queue.clear()?;
///     assert!(queue.is_empty()?);
///     Ok::<_, memstone::Error>(())
/// })?;
/// # Ok::<(), memstone::Error>(())
/// ```
pub struct RawTableMut<'t> {
    table: Rc<TxnTable>,
    reading: RawTable<'t, WriteTxn>,
}

impl<'t> Deref for RawTableMut<'t> {
    type Target = RawTable<'t, WriteTxn>;

    fn deref(&self) -> &RawTable<'t, WriteTxn> {
        &self.reading
    }
}

shows! { self: RawTableMut<'_> { name: self.table.name() } }

impl<'t> RawTableMut<'t> {
    pub(crate) fn new(txn: &'t WriteTxn, table: Rc<TxnTable>) -> RawTableMut<'t> {
        let place = TxnPlace(TxnPlaceKind::Table(Rc::clone(&table)));
        RawTableMut { table, reading: RawTable::new(txn, place) }
    }

    pub(super) fn txn(&self) -> &'t WriteTxn {
        self.reading.state()
    }

    pub(super) fn table(&self) -> &Rc<TxnTable> {
        &self.table
    }

    /// Sets a value without looking up whether there was one: the fastest way to write.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a key or value beyond the limits, [`Error::NoTable`] if this transaction
    /// dropped the table, [`Error::Forked`] in a forked child.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.txn().put_bytes(&self.table, key, value)
    }

    /// Sets a value, and returns the one that it replaces.
    ///
    /// # Errors
    /// As [`RawTableMut::put`] and [`RawTable::get`].
    pub fn insert(&self, key: &[u8], value: &[u8]) -> Result<Option<Bytes<'t>>> {
        let old = self.get(key)?;
        self.put(key, value)?;
        Ok(old)
    }

    /// Removes a key without looking up whether there is one.
    ///
    /// # Errors
    /// As [`RawTableMut::put`].
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        check_key(key)?;
        let id = self.txn().id_of(&self.table)?;
        self.txn().change_row(id, key, Some(Change::Delete));
        Ok(())
    }

    /// Removes a key, and returns its value.
    ///
    /// # Errors
    /// As [`RawTableMut::put`] and [`RawTable::get`].
    pub fn remove(&self, key: &[u8]) -> Result<Option<Bytes<'t>>> {
        let old = self.get(key)?;
        if old.is_some() {
            self.delete(key)?;
        }
        Ok(old)
    }

    /// Sets the value of a key to what `change` returns for the present one (`None`: there is none), and returns the
    /// new value. If `change` returns `None`, the key is removed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| {
    ///     let table = tx.raw("t")?;
    ///     let longer = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"!"].concat());
    ///     table.update(b"k", longer)?;
    ///     assert_eq!(table.update(b"k", longer)?.unwrap(), b"!!");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`RawTableMut::put`] and [`RawTable::get`].
    pub fn update(&self, key: &[u8], change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        self.try_update(key, |old| Ok(change(old)))
    }

    /// Like [`RawTableMut::update`], with a `change` that may fail; then the entry stays as it was.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::Error;
    /// let taken = store.write(|tx| {
    ///     let stock = tx.raw("stock")?;
    ///     stock.put(b"nails", &[3])?;
    ///     stock.try_update(b"nails", |count| match count {
    ///         Some([count]) if *count >= 5 => Ok(Some(vec![count - 5])),
    ///         _ => Err(Error::abort("fewer than five nails")),
    ///     })
    /// });
    /// assert!(matches!(taken, Err(Error::Aborted(_))));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `change` returns, and as [`RawTableMut::update`].
    pub fn try_update<E: From<Error>>(
        &self,
        key: &[u8],
        change: impl FnOnce(Option<&[u8]>) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let old = self.get(key)?;
        let new = change(old.as_deref())?;
        match &new {
            Some(new) => self.put(key, new)?,
            None if old.is_some() => self.delete(key)?,
            None => {}
        }
        Ok(new)
    }

    /// Removes the entry with the least key, and returns it.
    ///
    /// # Errors
    /// As [`RawTableMut::remove`].
    pub fn pop_first(&self) -> Result<Option<Entry<'t>>> {
        self.pop(self.first()?)
    }

    /// Removes the entry with the greatest key, and returns it.
    ///
    /// # Errors
    /// As [`RawTableMut::remove`].
    pub fn pop_last(&self) -> Result<Option<Entry<'t>>> {
        self.pop(self.last()?)
    }

    fn pop(&self, entry: Option<Entry<'t>>) -> Result<Option<Entry<'t>>> {
        if let Some((key, _)) = &entry {
            self.delete(key)?;
        }
        Ok(entry)
    }

    /// Keeps the entries for which `keep` returns `true`, removes the rest, and returns the number removed. If an
    /// error ends it, the entries before have been removed from the transaction.
    ///
    /// # Errors
    /// As [`RawTableMut::remove`].
    pub fn retain(&self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Result<u64> {
        let mut removed = 0;
        for entry in self.range(..)? {
            let (key, value) = entry?;
            if !keep(&key, &value) {
                self.delete(&key)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes everything in the table at once, whatever its size.
    ///
    /// # Errors
    /// As [`RawTableMut::put`], [`Error::Corrupt`], [`Error::Io`].
    pub fn clear(&self) -> Result<()> {
        self.txn().in_file(self.txn().empty_table(&self.table))
    }

    /// Removes the entries of a range of keys, and returns their number; see [`ByteRange`]. If an error ends it, the entries before
    /// have been removed from the transaction.
    ///
    /// # Errors
    /// As [`RawTableMut::remove`].
    pub fn delete_range(&self, range: impl ByteRange) -> Result<u64> {
        self.txn().id_of(&self.table)?;
        let (mut removed, mut keys) = (0, self.range(range)?);
        while let Some(key) = keys.next_key() {
            self.delete(&key?)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Adds many entries whose keys strictly ascend, and returns their number. They need not come after the
    /// table's keys; keys that exist are replaced.
    ///
    /// # Errors
    /// [`Error::Unsorted`] for a key that does not come after the one before it; those before it have
    /// been added to the transaction. Otherwise as [`RawTableMut::put`].
    pub fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, items: impl IntoIterator<Item = (K, V)>) -> Result<u64> {
        self.txn().id_of(&self.table)?;
        let mut count = 0;
        let mut last: Option<K> = None;
        for (key, value) in items {
            if last.as_ref().is_some_and(|last| last.as_ref() >= key.as_ref()) {
                return Err(Error::Unsorted { table: self.table.name().to_string(), position: count });
            }
            self.put(key.as_ref(), value.as_ref())?;
            last = Some(key);
            count += 1;
        }
        Ok(count)
    }
}
