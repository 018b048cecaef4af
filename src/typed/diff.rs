//! The differences between two states, in the types of a table.

use super::codec::{Codec, MessagePack};
use super::definition::Table;
use super::key::Key;
use crate::error::Result;
use crate::{Diff, RowChange, RowChanges};
use std::iter::FusedIterator;

/// A row that differs, in the types of its table.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::{Table, TypedChange};
/// const AGES: Table<u8, u32> = Table::new("ages");
/// let before = store.read()?;
/// store.write(|tx| tx.table(AGES)?.put(1, 36))?;
/// let now = store.read()?;
/// let change = before.diff(&now)?.table(AGES)?.next().unwrap()?;
/// assert_eq!(change, TypedChange { key: 1, before: None, after: Some(36) });
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedChange<K, V> {
    /// Its key.
    pub key: K,
    /// Its value in the earlier state; `None` if it did not exist.
    pub before: Option<V>,
    /// Its value in the later state; `None` if it does not exist.
    pub after: Option<V>,
}

/// The rows of a table that differ, in key order. A row that cannot be decoded gives an error, and the iterator
/// continues after it.
#[must_use = "an iterator does nothing unless it is asked for its rows"]
pub struct TypedChanges<'s, K: ?Sized, V: ?Sized, C = MessagePack> {
    rows: Option<RowChanges<'s>>,
    table: Table<'s, K, V, C>,
}

impl<'s> Diff<'s> {
    /// The rows of a table that differ; none if the table does not differ, or is in neither state. The table is
    /// the one that has the name in the later state or, if it was dropped, had it in the earlier one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::{Table, TypedChange};
    /// const AGES: Table<&str, u32> = Table::new("ages");
    ///
    /// store.write(|tx| tx.table(AGES)?.bulk_load([("ada", 36), ("bob", 7)]).map(drop))?;
    /// let before = store.read()?;
    /// store.write(|tx| tx.table(AGES)?.put("bob", 8))?;
    /// let now = store.read()?;
    /// let changes = before.diff(&now)?.table(AGES)?.collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(changes, [TypedChange { key: "bob".to_owned(), before: Some(7), after: Some(8) }]);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) if the table has keys of another type or values of another
    /// codec; its schema may differ between the two states, and is not looked at. As
    /// [`TableDiff::rows`](crate::TableDiff::rows).
    pub fn table<K: Key + ?Sized, V: ?Sized, C: Codec<V>>(
        &self,
        table: Table<'s, K, V, C>,
    ) -> Result<TypedChanges<'s, K, V, C>> {
        let rows = self.rows_of(table.name(), &K::type_name(), &C::name())?;
        Ok(TypedChanges { rows, table })
    }
}

impl<'s, K: Key + ?Sized, V: ?Sized, C: Codec<V>> TypedChanges<'s, K, V, C> {
    fn decode(&self, row: RowChange<'s>) -> Result<TypedChange<K::Owned, C::Value<'s>>> {
        let RowChange { key, before, after } = row;
        let value = |bytes| self.table.decode_optional_value(bytes);
        Ok(TypedChange { key: self.table.decode_key(&key)?, before: value(before)?, after: value(after)? })
    }
}

impl<'s, K: Key + ?Sized, V: ?Sized, C: Codec<V>> Iterator for TypedChanges<'s, K, V, C> {
    type Item = Result<TypedChange<K::Owned, C::Value<'s>>>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.as_mut()?.next()?;
        Some(row.and_then(|row| self.decode(row)))
    }
}

impl<K: Key + ?Sized, V: ?Sized, C: Codec<V>> FusedIterator for TypedChanges<'_, K, V, C> {}

shows! { self: [K: ?Sized, V: ?Sized, C] TypedChanges<'_, K, V, C> { table: self.table.name() } }
