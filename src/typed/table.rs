//! Tables whose keys and values are Rust types: thin over the raw tables of a snapshot or a
//! write transaction.

use std::ops::Bound;

use super::definition::Table;
use super::iter::{Keys, TypedRange, Values};
use super::key::{AsKey, Key};
use super::key_range::{KeyPrefix, KeyRange};
use super::value::{AsValue, Value};
use crate::error::{Error, Result};
use crate::{RawTable, RawTableMut, Snapshot, WriteTxn};

impl Snapshot {
    /// The table as it is in this snapshot. A table that is not there reads as an empty one.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table has keys or values of other types.
    pub fn table<'s, K: Key + ?Sized, V: Value>(&'s self, table: Table<'s, K, V>) -> Result<TypedTable<'s, K, V>> {
        let raw = self.open_table(table.name(), &K::type_name(), V::type_name())?;
        Ok(TypedTable { raw, table })
    }
}

impl WriteTxn {
    /// The table, to read and change it; it is created if it is not there.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table has keys or values of other types.
    pub fn table<'t, K: Key + ?Sized, V: Value>(&'t self, table: Table<'t, K, V>) -> Result<TypedTableMut<'t, K, V>> {
        let raw = self.open_table(table.name(), &K::type_name(), V::type_name())?;
        Ok(TypedTableMut { raw, table })
    }

    /// The table, to read it as this transaction sees it. If there is none it is not created: see
    /// [`WriteTxn::read_raw`].
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table has keys or values of other types.
    pub fn read_table<'t, K: Key + ?Sized, V: Value>(&'t self, table: Table<'t, K, V>) -> Result<TypedTable<'t, K, V>> {
        let raw = self.open_table_read(table.name(), &K::type_name(), V::type_name())?;
        Ok(TypedTable { raw, table })
    }
}

fn as_slices<'a>((from, to): &'a super::key_range::KeyBounds<'_>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (from.as_ref().map(|key| &**key), to.as_ref().map(|key| &**key))
}

/// A table of a snapshot, for reading; or of a write transaction, by [`WriteTxn::read_table`].
///
/// Keys are given in any form that [`AsKey`] allows, and come back as [`Key::Owned`]. What the
/// file holds is decoded at each access; bytes that are not of the table's types give
/// [`Error::Codec`], damaged ones [`Error::Corrupt`].
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
/// assert_eq!(ages.last()?, Some(("cyd".to_owned(), 51)));
/// assert_eq!(ages.len()?, 3);
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
pub struct TypedTable<'s, K: ?Sized, V> {
    raw: RawTable<'s>,
    table: Table<'s, K, V>,
}

impl<K: ?Sized, V> Clone for TypedTable<'_, K, V> {
    fn clone(&self) -> Self {
        TypedTable { raw: self.raw.clone(), table: self.table }
    }
}

/// A table of a write transaction. It reads what the transaction has written so far. It stands for the table, not
/// for its name: see [`RawTableMut`] for what renaming, clearing, dropping it and savepoints do to it.
///
/// Nothing is visible to others before the transaction commits, and if one of several changes
/// fails, returning the error undoes them all.
///
/// ```
/// use memstone::{Store, Table};
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
///     Ok::<_, memstone::Error>(())
/// })?;
/// assert_eq!(store.read()?.table(COUNTS)?.get("d")?, Some(2));
/// # Ok(())
/// # }
/// ```
pub struct TypedTableMut<'t, K: ?Sized, V> {
    raw: RawTableMut<'t>,
    table: Table<'t, K, V>,
}

/// What both kinds of table can: the raw tables under them have the same reading methods.
macro_rules! reading {
    ($table:ident) => {
        impl<'s, K: Key + ?Sized, V: Value> $table<'s, K, V> {
            /// The value of `key`.
            pub fn get(&self, key: impl AsKey<K::Owned>) -> Result<Option<V>> {
                self.table.decode_optional_value(self.raw.get(&key.to_key())?)
            }

            /// Whether there is such a key. The value is not decoded.
            pub fn contains(&self, key: impl AsKey<K::Owned>) -> Result<bool> {
                self.raw.contains(&key.to_key())
            }

            /// The smallest key and its value.
            pub fn first(&self) -> Result<Option<(K::Owned, V)>> {
                self.table.decode_optional_entry(self.raw.first()?)
            }

            /// The largest key and its value.
            pub fn last(&self) -> Result<Option<(K::Owned, V)>> {
                self.table.decode_optional_entry(self.raw.last()?)
            }

            /// The number of entries.
            pub fn len(&self) -> Result<u64> {
                self.raw.len()
            }

            /// Whether there is no entry.
            pub fn is_empty(&self) -> Result<bool> {
                self.raw.is_empty()
            }

            /// The entries of a range of keys, in order, from both ends; see [`KeyRange`].
            /// A range whose start comes after its end is empty.
            pub fn range(&self, range: impl KeyRange<K::Owned>) -> Result<TypedRange<'s, K, V>> {
                let bounds = range.bounds();
                let (from, to) = as_slices(&bounds);
                Ok(TypedRange::new(self.raw.range(from, to)?, self.table))
            }

            /// The entries whose keys begin with `prefix`, in order, from both ends; see
            /// [`KeyPrefix`].
            pub fn prefix(&self, prefix: impl KeyPrefix<K::Owned>) -> Result<TypedRange<'s, K, V>> {
                let mut bytes = Vec::new();
                prefix.encode_prefix(&mut bytes);
                Ok(TypedRange::new(self.raw.prefix(&bytes)?, self.table))
            }

            /// All keys, in order. The values are not decoded.
            pub fn keys(&self) -> Result<Keys<'s, K, V>> {
                Ok(self.range(..)?.keys())
            }

            /// All values, in the order of their keys, which are not decoded.
            pub fn values(&self) -> Result<Values<'s, K, V>> {
                Ok(self.range(..)?.values())
            }
        }
    };
}

reading!(TypedTable);
reading!(TypedTableMut);

impl<'t, K: Key + ?Sized, V: Value> TypedTableMut<'t, K, V> {
    /// Sets the value of `key`, and gives the one it had.
    ///
    /// It has to look for the old value: where that is not wanted, [`TypedTableMut::put`] is faster.
    pub fn insert(&self, key: impl AsKey<K::Owned>, value: impl AsValue<V>) -> Result<Option<V>> {
        let value = value.to_value().map_err(|error| self.table.encode_error(&error))?;
        self.table.decode_optional_value(self.raw.insert(&key.to_key(), &value)?)
    }

    /// Sets the value of `key`, without a look at what was there: the fastest way to write.
    pub fn put(&self, key: impl AsKey<K::Owned>, value: impl AsValue<V>) -> Result<()> {
        let value = value.to_value().map_err(|error| self.table.encode_error(&error))?;
        self.raw.put(&key.to_key(), &value)
    }

    /// Takes `key` out, and gives the value it had.
    pub fn remove(&self, key: impl AsKey<K::Owned>) -> Result<Option<V>> {
        self.table.decode_optional_value(self.raw.remove(&key.to_key())?)
    }

    /// Takes `key` out, without a look whether it was there.
    pub fn delete(&self, key: impl AsKey<K::Owned>) -> Result<()> {
        self.raw.delete(&key.to_key())
    }

    /// Sets the value of `key` to what `change` makes of the present one (`None`: there is none),
    /// and gives it back. When `change` returns `None`, the key is taken out.
    pub fn update(&self, key: impl AsKey<K::Owned>, change: impl FnOnce(Option<V>) -> Option<V>) -> Result<Option<V>> {
        self.try_update(key, |value| Ok(change(value)))
    }

    /// Like [`TypedTableMut::update`], with a `change` that may fail; then the entry stays as it was.
    ///
    /// # Errors
    /// Those of `change`, beside those of the store.
    pub fn try_update<E: From<Error>>(
        &self,
        key: impl AsKey<K::Owned>,
        change: impl FnOnce(Option<V>) -> Result<Option<V>, E>,
    ) -> Result<Option<V>, E> {
        let key = key.to_key();
        let old = self.raw.get(&key)?;
        let was_there = old.is_some();
        let new = change(self.table.decode_optional_value(old)?)?;
        match &new {
            Some(value) => {
                let value = value.encode().map_err(|error| self.table.encode_error(&error))?;
                self.raw.put(&key, &value)?;
            }
            None if was_there => self.raw.delete(&key)?,
            None => {}
        }
        Ok(new)
    }

    /// Takes out the entry with the smallest key.
    pub fn pop_first(&self) -> Result<Option<(K::Owned, V)>> {
        self.table.decode_optional_entry(self.raw.pop_first()?)
    }

    /// Takes out the entry with the largest key.
    pub fn pop_last(&self) -> Result<Option<(K::Owned, V)>> {
        self.table.decode_optional_entry(self.raw.pop_last()?)
    }

    /// Takes out all entries for which `keep` says no, and gives their number.
    ///
    /// # Errors
    /// An entry that cannot be decoded is kept, and its error given in the end.
    pub fn retain(&self, mut keep: impl FnMut(&K::Owned, &V) -> bool) -> Result<u64> {
        let mut undecodable = None;
        let removed = self.raw.retain(|key, value| match self.table.decode_entry(key, value) {
            Ok((key, value)) => keep(&key, &value),
            Err(error) => {
                undecodable.get_or_insert(error);
                true
            }
        })?;
        undecodable.map_or(Ok(removed), Err)
    }

    /// Takes out all entries of a range of keys, and gives their number.
    pub fn delete_range(&self, range: impl KeyRange<K::Owned>) -> Result<u64> {
        let bounds = range.bounds();
        let (from, to) = as_slices(&bounds);
        self.raw.delete_range(from, to)
    }

    /// Takes out all entries at once.
    pub fn clear(&self) -> Result<()> {
        self.raw.clear()
    }

    /// Writes entries whose keys come in ascending order: the fastest way to fill a table. Gives
    /// their number.
    ///
    /// # Errors
    /// [`Error::Unsorted`] at a key that does not come after the one before it. The entries before
    /// a failure may have been written, so return the error to undo the transaction.
    pub fn bulk_load<Q: AsKey<K::Owned>, W: AsValue<V>>(
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
