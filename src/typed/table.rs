//! Tables whose keys and values are Rust types: a thin layer over the raw tables of a snapshot or a write
//! transaction.

use std::borrow::Cow;
use std::ops::{Bound, Deref};

use super::codec::{AsValue, Codec, MessagePack};
use super::definition::{Entry, Table};
use super::iter::{Keys, TypedRange, Values};
use super::key::{AsKey, Key};
use super::key_range::{KeyPrefix, KeyRange};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::{RawTable, RawTableMut, ReadState, Snapshot, WriteTxn};

pub(super) fn as_slices<'a>((from, to): &'a super::key_range::KeyBounds<'_>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (from.as_ref().map(|key| &**key), to.as_ref().map(|key| &**key))
}

/// A table of a snapshot, for reading; or of a write transaction, by [`WriteTxn::read_table`].
///
/// Keys are passed in any form that [`AsKey`] allows, and returned as [`Key::Owned`]. The stored bytes are
/// decoded at each access; bytes that are not of the table's types give [`Error::Codec`], damaged ones
/// [`Error::Corrupt`].
///
/// ```
/// use memstone::{Store, Table};
/// use std::ops::Bound;
///
/// const AGES: Table<&str, u32> = Table::new("ages");
///
/// # fn main() -> memstone::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bob", 7), ("cyd", 51)]).map(drop))?;
///
/// let snap = store.read()?;
/// let ages = snap.table(AGES)?;
/// assert_eq!(ages.get("bob")?, Some(7));
/// assert_eq!((ages.first()?, ages.last()?), (Some(("ada".to_owned(), 36)), Some(("cyd".to_owned(), 51))));
/// assert!(ages.contains("ada")? && !ages.is_empty()?);
/// assert_eq!(ages.prefix("a")?.count(), 1);
/// assert_eq!(ages.values()?.collect::<Result<Vec<_>, _>>()?, [36, 7, 51]);
/// assert_eq!(ages.len()?, 3);
///
/// // By number: how many there are in a range, how many before a key, and which one is in the middle.
/// assert_eq!((ages.count("b"..)?, ages.rank("cyd")?), (2, 2));
/// assert_eq!(ages.nth(ages.len()? / 2)?, Some(("bob".to_owned(), 7)));
///
/// // Any range, in both directions.
/// let young: Vec<_> = ages.range("a".."c")?.rev().collect::<Result<_, _>>()?;
/// assert_eq!(young, [("bob".to_owned(), 7), ("ada".to_owned(), 36)]);
///
/// // A page of two; the next page, in another snapshot or another process, goes on after its last key.
/// let mut page = ages.range(..)?;
/// assert_eq!(page.by_ref().take(2).count(), 2);
/// let after = page.last_key()?.unwrap();
/// let rest = ages.range((Bound::Excluded(after), Bound::Unbounded))?.keys().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(rest, ["cyd"]);
/// # Ok(())
/// # }
/// ```
pub struct TypedTable<'s, K: ?Sized, V: ?Sized, C = MessagePack, S: ReadState = Snapshot> {
    raw: RawTable<'s, S>,
    table: Table<'s, K, V, C>,
}

shows! { self: [K: ?Sized, V: ?Sized, C, S: ReadState] TypedTable<'_, K, V, C, S> { name: self.table.name() } }

impl<K: ?Sized, V: ?Sized, C, S: ReadState> Clone for TypedTable<'_, K, V, C, S> {
    fn clone(&self) -> Self {
        TypedTable { raw: self.raw.clone(), table: self.table }
    }
}

/// A table of a write transaction, for writing, and for reading as a [`TypedTable`], which it derefs to. It reads what the transaction has written so far. It stands for the table, not
/// for its name: see [`RawTableMut`] for the effect of renaming, clearing and dropping the table, and of
/// savepoints.
///
/// Nothing is visible outside the transaction before it commits. If one of several changes fails, returning the
/// error from the closure undoes them all.
///
/// ```
/// use memstone::{Error, Store, Table};
///
/// const COUNTS: Table<&str, u64> = Table::new("counts");
///
/// # fn main() -> memstone::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     let counts = tx.table(COUNTS)?;
///     assert_eq!(counts.insert("a", 1)?, None);
///     assert_eq!(counts.insert("a", 2)?, Some(1));
///     counts.put("b", 7)?;
///     assert_eq!(counts.update("b", |count| Some(count.unwrap_or(0) + 1))?, Some(8));
///     assert_eq!(counts.remove("a")?, Some(2));
///     counts.bulk_load([("c", 1), ("d", 2), ("e", 3)])?;
///     assert_eq!(counts.retain(|_, count| *count > 1)?, 1);
///     assert_eq!(counts.pop_first()?, Some(("b".to_owned(), 8)));
///     assert_eq!(counts.delete_range("e"..)?, 1);
///     counts.bulk_load([("x", 7), ("y", 8), ("z", 9)])?;
///     counts.delete("x")?;
///     assert_eq!(counts.pop_last()?, Some(("z".to_owned(), 9)));
///     let spent = counts.try_update("y", |count| match count {
///         Some(count @ 10..) => Ok(Some(count - 10)),
///         _ => Err(Error::abort("fewer than ten")), // and "y" stays 8
///     });
///     assert!(matches!(spent, Err(Error::Aborted(_))));
///     Ok::<_, memstone::Error>(())
/// })?;
/// assert_eq!(store.read()?.table(COUNTS)?.get("d")?, Some(2));
/// # Ok(())
/// # }
/// ```
pub struct TypedTableMut<'t, K: ?Sized, V: ?Sized, C = MessagePack> {
    raw: RawTableMut<'t>,
    reading: TypedTable<'t, K, V, C, WriteTxn>,
}

impl<'t, K: ?Sized, V: ?Sized, C> Deref for TypedTableMut<'t, K, V, C> {
    type Target = TypedTable<'t, K, V, C, WriteTxn>;

    fn deref(&self) -> &TypedTable<'t, K, V, C, WriteTxn> {
        &self.reading
    }
}

shows! { self: [K: ?Sized, V: ?Sized, C] TypedTableMut<'_, K, V, C> { name: self.table.name() } }

impl<'s, K: Key + ?Sized, V: ?Sized, C: Codec<V>, S: ReadState> TypedTable<'s, K, V, C, S> {
    pub(super) fn new(raw: RawTable<'s, S>, table: Table<'s, K, V, C>) -> TypedTable<'s, K, V, C, S> {
        TypedTable { raw, table }
    }

    pub(super) fn into_parts(self) -> (RawTable<'s, S>, Table<'s, K, V, C>) {
        (self.raw, self.table)
    }

    /// The value of `key`.
    pub fn get(&self, key: impl AsKey<K::Owned>) -> Result<Option<C::Value<'s>>> {
        self.table.decode_optional_value(self.raw.get(&key.to_key())?)
    }

    /// Whether there is such a key. The value is not decoded.
    pub fn contains(&self, key: impl AsKey<K::Owned>) -> Result<bool> {
        self.raw.contains(&key.to_key())
    }

    /// The smallest key and its value.
    pub fn first(&self) -> Result<Option<Entry<'s, K, V, C>>> {
        self.table.decode_optional_entry(self.raw.first()?)
    }

    /// The largest key and its value.
    pub fn last(&self) -> Result<Option<Entry<'s, K, V, C>>> {
        self.table.decode_optional_entry(self.raw.last()?)
    }

    /// The number of entries.
    pub fn len(&self) -> Result<u64> {
        self.raw.len()
    }

    /// The number of entries of a range of keys, from the counts in the tree: no entry is read; see
    /// [`RawTable::count`].
    pub fn count(&self, range: impl KeyRange<K::Owned>) -> Result<u64> {
        self.raw.count(as_slices(&range.bounds()))
    }

    /// The number of entries whose keys are smaller than `key`, which need not be there.
    pub fn rank(&self, key: impl AsKey<K::Owned>) -> Result<u64> {
        self.raw.rank(&key.to_key())
    }

    /// The entry of this number, counted from 0 in the order of the keys; `None` if there are no more.
    pub fn nth(&self, n: u64) -> Result<Option<Entry<'s, K, V, C>>> {
        self.table.decode_optional_entry(self.raw.nth(n)?)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> Result<bool> {
        self.raw.is_empty()
    }

    /// The entries of a range of keys, in order, from both ends; see [`KeyRange`].
    /// A range whose start comes after its end is empty.
    pub fn range(&self, range: impl KeyRange<K::Owned>) -> Result<TypedRange<'s, K, V, C, S>> {
        let bounds = range.bounds();
        Ok(TypedRange::new(self.raw.range(as_slices(&bounds))?, self.table))
    }

    /// The entries whose keys start with `prefix`, in order, from both ends; see [`KeyPrefix`].
    pub fn prefix(&self, prefix: impl KeyPrefix<K::Owned>) -> Result<TypedRange<'s, K, V, C, S>> {
        let mut bytes = Vec::new();
        prefix.encode_prefix(&mut bytes);
        Ok(TypedRange::new(self.raw.prefix(&bytes)?, self.table))
    }

    /// All keys, in order. The values are not decoded, and long ones are not read.
    pub fn keys(&self) -> Result<Keys<'s, K, V, C, S>> {
        Ok(self.range(..)?.keys())
    }

    /// All values, in the order of their keys, which are not decoded.
    pub fn values(&self) -> Result<Values<'s, K, V, C, S>> {
        Ok(self.range(..)?.values())
    }
}

impl<'t, K: Key + ?Sized, V: ?Sized, C: Codec<V>> TypedTableMut<'t, K, V, C> {
    pub(super) fn new(raw: RawTableMut<'t>, table: Table<'t, K, V, C>) -> TypedTableMut<'t, K, V, C> {
        TypedTableMut { reading: TypedTable { raw: raw.clone(), table }, raw }
    }

    fn encode<'v>(&self, value: &'v impl AsValue<V, C>) -> Result<Cow<'v, [u8]>> {
        value.to_value().map_err(|error| self.table.encode_error(&error))
    }

    /// Sets the value of `key`, and returns the previous one.
    ///
    /// This has to look up the old value: if it is not needed, [`TypedTableMut::put`] is faster.
    pub fn insert(&self, key: impl AsKey<K::Owned>, value: impl AsValue<V, C>) -> Result<Option<C::Value<'t>>> {
        self.table.decode_optional_value(self.raw.insert(&key.to_key(), &self.encode(&value)?)?)
    }

    /// Sets the value of `key` without looking up the previous one: the fastest way to write.
    pub fn put(&self, key: impl AsKey<K::Owned>, value: impl AsValue<V, C>) -> Result<()> {
        self.raw.put(&key.to_key(), &self.encode(&value)?)
    }

    /// Removes `key`, and returns its value.
    pub fn remove(&self, key: impl AsKey<K::Owned>) -> Result<Option<C::Value<'t>>> {
        self.table.decode_optional_value(self.raw.remove(&key.to_key())?)
    }

    /// Removes `key` without looking up whether it exists.
    pub fn delete(&self, key: impl AsKey<K::Owned>) -> Result<()> {
        self.raw.delete(&key.to_key())
    }

    /// Sets the value of `key` to what `change` returns for the present one (`None`: there is none), and returns
    /// the new value. If `change` returns `None`, the key is removed.
    ///
    /// `change` may return any form of a value ([`AsValue`]). One that never returns a value needs a type:
    /// `None::<V>`; or use [`TypedTableMut::remove`].
    pub fn update<W: AsValue<V, C>>(
        &self,
        key: impl AsKey<K::Owned>,
        change: impl FnOnce(Option<C::Value<'t>>) -> Option<W>,
    ) -> Result<Option<W>> {
        self.try_update(key, |value| Ok(change(value)))
    }

    /// Like [`TypedTableMut::update`], with a `change` that may fail; then the entry stays as it was.
    ///
    /// # Errors
    /// Those of `change`, beside those of the store.
    pub fn try_update<W: AsValue<V, C>, E: From<Error>>(
        &self,
        key: impl AsKey<K::Owned>,
        change: impl FnOnce(Option<C::Value<'t>>) -> Result<Option<W>, E>,
    ) -> Result<Option<W>, E> {
        let key = key.to_key();
        let old = self.raw.get(&key)?;
        let was_there = old.is_some();
        let new = change(self.table.decode_optional_value(old)?)?;
        match &new {
            Some(value) => self.raw.put(&key, &self.encode(value)?)?,
            None if was_there => self.raw.delete(&key)?,
            None => {}
        }
        Ok(new)
    }

    /// Removes the entry with the smallest key, and returns it.
    pub fn pop_first(&self) -> Result<Option<Entry<'t, K, V, C>>> {
        self.table.decode_optional_entry(self.raw.pop_first()?)
    }

    /// Removes the entry with the largest key, and returns it.
    pub fn pop_last(&self) -> Result<Option<Entry<'t, K, V, C>>> {
        self.table.decode_optional_entry(self.raw.pop_last()?)
    }

    /// Removes all entries for which `keep` returns `false`, and returns their number.
    ///
    /// # Errors
    /// An entry that cannot be decoded is kept, and its error is returned at the end.
    pub fn retain(&self, mut keep: impl FnMut(&K::Owned, &C::Value<'_>) -> bool) -> Result<u64> {
        let mut undecodable = None;
        let removed = self.raw.retain(|key, value| match self.table.decode_entry(key, Bytes::borrowed(value)) {
            Ok((key, value)) => keep(&key, &value),
            Err(error) => {
                undecodable.get_or_insert(error);
                true
            }
        })?;
        undecodable.map_or(Ok(removed), Err)
    }

    /// Removes all entries of a range of keys, and returns their number.
    pub fn delete_range(&self, range: impl KeyRange<K::Owned>) -> Result<u64> {
        let bounds = range.bounds();
        self.raw.delete_range(as_slices(&bounds))
    }

    /// Removes all entries at once.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// const COUNTS: memstone::Table<&str, u64> = memstone::Table::new("counts");
    /// store.write(|tx| {
    ///     let counts = tx.table(COUNTS)?;
    ///     counts.put("a", 1)?;
    ///     counts.clear()?;
    ///     assert!(counts.is_empty()?);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.raw.clear()
    }

    /// Writes entries whose keys are in ascending order: the fastest way to fill a table. Returns their number.
    ///
    /// # Errors
    /// [`Error::Unsorted`] at a key that does not come after the one before it. The entries before
    /// a failure may have been written, so return the error to undo the transaction.
    pub fn bulk_load<Q: AsKey<K::Owned>, W: AsValue<V, C>>(
        &self,
        entries: impl IntoIterator<Item = (Q, W)>,
    ) -> Result<u64> {
        let mut failed = None;
        let encoded = entries.into_iter().map_while(|(key, value)| match value.to_value() {
            Ok(value) => Some((key.to_key().into_owned(), value.into_owned())),
            Err(error) => {
                failed = Some(self.table.encode_error(&error));
                None
            }
        });
        let loaded = self.raw.bulk_load(encoded)?;
        failed.map_or(Ok(loaded), Err)
    }
}
