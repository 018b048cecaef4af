//! Typed tables of a snapshot that borrow nothing, and their ranges.

use std::marker::PhantomData;
use std::sync::Arc;

use super::codec::{Codec, MessagePack};
use super::definition::{Entry, Table};
use super::iter::{Keys, TypedRange, Values};
use super::key::{AsKey, Key};
use super::key_range::{KeyPrefix, KeyRange};
use super::table::{TypedTable, as_slices};
use crate::bytes::Bytes;
use crate::error::Result;
use crate::{OwnedRawRange, OwnedRawTable, Snapshot};

/// A table of a snapshot, with the snapshot: it borrows nothing, is `Send` and `Sync`, and cheap to clone. So it may
/// stand in a struct, cross threads, and live over an `.await`. Like a [`Snapshot`] it keeps pages from being reused,
/// and the store open.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::{OwnedTypedTable, Table};
/// const AGES: Table<&str, u32> = Table::new("ages");
///
/// struct People {
///     ages: OwnedTypedTable<&'static str, u32>,
/// }
///
/// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bob", 7)]).map(drop))?;
/// let people = People { ages: store.read()?.into_table(AGES)? };
/// drop(store);
/// let reader = std::thread::spawn(move || {
///     let age = people.ages.get("bob")?;
///     let all = people.ages.range_owned("a"..)?; // outlives the table
///     drop(people);
///     Ok::<_, memstone::Error>((age, all.rev().collect::<Result<Vec<_>, _>>()?))
/// });
/// let (age, all) = reader.join().unwrap()?;
/// assert_eq!((age, all), (Some(7), vec![("bob".to_owned(), 7), ("ada".to_owned(), 36)]));
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// It has the methods of a [`TypedTable`]:
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::Table;
/// const AGES: Table<&str, u32> = Table::new("ages");
/// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bea", 9), ("bob", 7)]).map(drop))?;
/// let ages = store.read()?.into_table(AGES)?;
/// assert!(ages.contains("ada")? && !ages.is_empty()?);
/// assert_eq!((ages.first()?, ages.last()?), (Some(("ada".to_owned(), 36)), Some(("bob".to_owned(), 7))));
/// assert_eq!((ages.len()?, ages.count("b"..)?, ages.rank("bob")?), (3, 2, 2));
/// assert_eq!(ages.nth(1)?, Some(("bea".to_owned(), 9)));
/// assert_eq!((ages.range("b"..)?.count(), ages.prefix("b")?.count()), (2, 2));
/// assert_eq!((ages.keys()?.count(), ages.values()?.count()), (3, 3));
/// assert_eq!(ages.snapshot().lsn(), store.last_commit()?);
/// let (age, below) = (ages.get_owned("ada")?, ages.prefix_owned("b")?);
/// drop(ages); // these two keep what they need
/// assert_eq!((age, below.count()), (Some(36), 2));
/// # Ok::<(), memstone::Error>(())
/// ```
pub struct OwnedTypedTable<K: ?Sized, V: ?Sized, C = MessagePack> {
    raw: OwnedRawTable,
    name: Arc<str>,
    types: PhantomData<fn(&K, C) -> *const V>,
}

/// The entries of a range of keys, in order, from both ends, as keys and values that borrow nothing; with the snapshot
/// that they are in. See [`OwnedRawRange`] for what it reads ahead: where a [`TypedRange`] can be used, it is faster.
///
/// An entry that cannot be decoded gives an error, and the iterator continues after it.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// const AGES: memstone::Table<&str, u32> = memstone::Table::new("ages");
/// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bob", 7)]).map(drop))?;
/// let mut range = store.read()?.into_table(AGES)?.range_owned(..)?;
/// drop(store);
/// assert_eq!(range.next_back().transpose()?, Some(("bob".to_owned(), 7)));
/// assert_eq!(range.last_key()?.as_deref(), Some("bob"));
/// assert_eq!(range.next().transpose()?, Some(("ada".to_owned(), 36)));
/// # Ok::<(), memstone::Error>(())
/// ```
#[must_use = "an iterator does nothing unless it is asked for its entries"]
pub struct OwnedTypedRange<K: ?Sized, V: ?Sized, C = MessagePack> {
    raw: OwnedRawRange,
    name: Arc<str>,
    last: Option<Bytes<'static>>,
    types: PhantomData<fn(&K, C) -> *const V>,
}

impl Snapshot {
    /// [`Snapshot::table`] as a table that borrows nothing.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// const AGES: memstone::Table<&str, u32> = memstone::Table::new("ages");
    /// store.write(|tx| tx.table(AGES)?.put("ada", 36))?;
    /// let ages = store.read()?.into_table(AGES)?;
    /// let reader = std::thread::spawn(move || ages.get("ada"));
    /// assert_eq!(reader.join().unwrap()?, Some(36));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::table`].
    pub fn into_table<K: Key + ?Sized, V: ?Sized, C: Codec<V>>(
        self,
        table: Table<'_, K, V, C>,
    ) -> Result<OwnedTypedTable<K, V, C>> {
        Ok(self.table(table)?.into_owned())
    }
}

impl<K: Key + ?Sized, V: ?Sized, C: Codec<V>> TypedTable<'_, K, V, C> {
    /// The same table as one that borrows nothing.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// const AGES: memstone::Table<&str, u32> = memstone::Table::new("ages");
    /// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bob", 7)]).map(drop))?;
    /// let snapshot = store.read()?;
    /// let ages = snapshot.table(AGES)?;
    /// let (owned, mut range) = (ages.clone().into_owned(), ages.range_owned("b"..)?);
    /// drop(snapshot);
    /// assert_eq!((owned.len()?, range.next().transpose()?), (2, Some(("bob".to_owned(), 7))));
    /// assert_eq!(range.last_key()?.as_deref(), Some("bob"));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn into_owned(self) -> OwnedTypedTable<K, V, C> {
        let (raw, table) = self.into_parts();
        OwnedTypedTable { raw: raw.into_owned(), name: table.name().into(), types: PhantomData }
    }

    /// [`TypedTable::range`] as an iterator that borrows nothing.
    ///
    /// # Errors
    /// As [`TypedTable::range`].
    pub fn range_owned(&self, range: impl KeyRange<K::Owned>) -> Result<OwnedTypedRange<K, V, C>> {
        self.clone().into_owned().range_owned(range)
    }
}

impl<K: Key + ?Sized, V: ?Sized, C: Codec<V>> OwnedTypedTable<K, V, C> {
    /// The snapshot that it belongs to.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.raw.snapshot()
    }

    /// The table as [`Snapshot::table`] gives it, with all methods. Costs nothing.
    #[must_use]
    pub fn table(&self) -> TypedTable<'_, K, V, C> {
        TypedTable::new(self.raw.table(), Table::new(&self.name))
    }

    /// The value of `key`.
    pub fn get(&self, key: impl AsKey<K::Owned>) -> Result<Option<C::Value<'_>>> {
        self.table().get(key)
    }

    /// The value of `key`. One that borrows keeps the snapshot instead of borrowing from this table.
    pub fn get_owned(&self, key: impl AsKey<K::Owned>) -> Result<Option<C::Value<'static>>> {
        let table = Table::<K, V, C>::new(&self.name);
        table.decode_optional_value(self.raw.get_owned(&key.to_key())?)
    }

    /// Whether there is such a key. The value is not decoded.
    pub fn contains(&self, key: impl AsKey<K::Owned>) -> Result<bool> {
        self.table().contains(key)
    }

    /// The smallest key and its value.
    pub fn first(&self) -> Result<Option<Entry<'_, K, V, C>>> {
        self.table().first()
    }

    /// The largest key and its value.
    pub fn last(&self) -> Result<Option<Entry<'_, K, V, C>>> {
        self.table().last()
    }

    /// The number of entries.
    pub fn len(&self) -> Result<u64> {
        self.table().len()
    }

    /// The number of entries of a range of keys; see [`TypedTable::count`].
    pub fn count(&self, range: impl KeyRange<K::Owned>) -> Result<u64> {
        self.table().count(range)
    }

    /// The number of entries whose keys are smaller than `key`, which need not be there.
    pub fn rank(&self, key: impl AsKey<K::Owned>) -> Result<u64> {
        self.table().rank(key)
    }

    /// The entry of this number, counted from 0 in the order of the keys; `None` if there are no more.
    pub fn nth(&self, n: u64) -> Result<Option<Entry<'_, K, V, C>>> {
        self.table().nth(n)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> Result<bool> {
        self.table().is_empty()
    }

    /// The entries of a range of keys, in order, from both ends; see [`KeyRange`].
    pub fn range(&self, range: impl KeyRange<K::Owned>) -> Result<TypedRange<'_, K, V, C>> {
        self.table().range(range)
    }

    /// The entries whose keys start with `prefix`, in order, from both ends; see [`KeyPrefix`].
    pub fn prefix(&self, prefix: impl KeyPrefix<K::Owned>) -> Result<TypedRange<'_, K, V, C>> {
        self.table().prefix(prefix)
    }

    /// All keys, in order.
    pub fn keys(&self) -> Result<Keys<'_, K, V, C>> {
        self.table().keys()
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> Result<Values<'_, K, V, C>> {
        self.table().values()
    }

    /// [`OwnedTypedTable::range`] as an iterator that borrows nothing.
    pub fn range_owned(&self, range: impl KeyRange<K::Owned>) -> Result<OwnedTypedRange<K, V, C>> {
        let bounds = range.bounds();
        Ok(self.owned_range(self.raw.range_owned(as_slices(&bounds))?))
    }

    /// [`OwnedTypedTable::prefix`] as an iterator that borrows nothing.
    pub fn prefix_owned(&self, prefix: impl KeyPrefix<K::Owned>) -> Result<OwnedTypedRange<K, V, C>> {
        let mut bytes = Vec::new();
        prefix.encode_prefix(&mut bytes);
        Ok(self.owned_range(self.raw.prefix_owned(&bytes)?))
    }

    fn owned_range(&self, raw: OwnedRawRange) -> OwnedTypedRange<K, V, C> {
        OwnedTypedRange { raw, name: Arc::clone(&self.name), last: None, types: PhantomData }
    }
}

impl<K: Key + ?Sized, V: ?Sized, C: Codec<V>> OwnedTypedRange<K, V, C> {
    /// The key of the entry returned last, from either end; `None` before the first one. See
    /// [`TypedRange::last_key`].
    pub fn last_key(&self) -> Result<Option<K::Owned>> {
        let table = Table::<K, V, C>::new(&self.name);
        self.last.as_ref().map(|key| table.decode_key(key)).transpose()
    }

    fn give(&mut self, entry: Result<(Bytes<'static>, Bytes<'static>)>) -> Result<Entry<'static, K, V, C>> {
        let (key, value) = entry?;
        let decoded = Table::<K, V, C>::new(&self.name).decode_entry(&key, value);
        self.last = Some(key);
        decoded
    }
}

both_ends! {
    self: [K: Key + ?Sized, V: ?Sized, C: Codec<V>] OwnedTypedRange<K, V, C> => Result<Entry<'static, K, V, C>> {
        next: self.raw.next().map(|entry| self.give(entry)),
        back: self.raw.next_back().map(|entry| self.give(entry))
    }
}

impl<K: ?Sized, V: ?Sized, C> Clone for OwnedTypedTable<K, V, C> {
    fn clone(&self) -> Self {
        OwnedTypedTable { raw: self.raw.clone(), name: Arc::clone(&self.name), types: PhantomData }
    }
}

shows! { self: [K: ?Sized, V: ?Sized, C] OwnedTypedTable<K, V, C> { name: self.name } }

shows! { self: [K: ?Sized, V: ?Sized, C] OwnedTypedRange<K, V, C> { table: self.name } }
