//! The differences between two states, in the types of a table.

use super::definition::Table;
use super::key::Key;
use super::value::Value;
use crate::error::Result;
use crate::{Diff, RowChange, RowChanges};
use std::fmt;
use std::iter::FusedIterator;

/// A row that differs, in the types of its table.
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
pub struct TypedChanges<'s, K: ?Sized, V> {
    rows: Option<RowChanges<'s>>,
    table: Table<'s, K, V>,
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
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) if the table has keys or values of other types; as
    /// [`TableDiff::rows`](crate::TableDiff::rows).
    pub fn table<K: Key + ?Sized, V: Value>(&self, table: Table<'s, K, V>) -> Result<TypedChanges<'s, K, V>> {
        let rows = self.rows_of(table.name(), &K::type_name(), V::type_name())?;
        Ok(TypedChanges { rows, table })
    }
}

impl<K: Key + ?Sized, V: Value> TypedChanges<'_, K, V> {
    fn decode(&self, row: RowChange<'_>) -> Result<TypedChange<K::Owned, V>> {
        let RowChange { key, before, after } = row;
        let value = |bytes| self.table.decode_optional_value(bytes);
        Ok(TypedChange { key: self.table.decode_key(&key)?, before: value(before)?, after: value(after)? })
    }
}

impl<K: Key + ?Sized, V: Value> Iterator for TypedChanges<'_, K, V> {
    type Item = Result<TypedChange<K::Owned, V>>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.as_mut()?.next()?;
        Some(row.and_then(|row| self.decode(row)))
    }
}

impl<K: Key + ?Sized, V: Value> FusedIterator for TypedChanges<'_, K, V> {}

impl<K: ?Sized, V> fmt::Debug for TypedChanges<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedChanges").field("table", &self.table.name()).finish_non_exhaustive()
    }
}
