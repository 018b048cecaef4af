//! Opening typed tables, in snapshots and in write transactions: types and schema are checked.

use super::codec::Codec;
use super::definition::Table;
use super::key::Key;
use super::table::{TypedTable, TypedTableMut};
use crate::error::Result;
use crate::{Snapshot, WriteTxn};

impl Snapshot {
    /// The table as it is in this snapshot. A table that does not exist reads as an empty one.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) if the table has keys of another type, values of another codec, or another schema.
    pub fn table<'s, K: Key + ?Sized, V: ?Sized, C: Codec<V>>(
        &'s self,
        table: Table<'s, K, V, C>,
    ) -> Result<TypedTable<'s, K, V, C>> {
        let schema = table.wanted_schema()?;
        let raw = self.untyped_as(table.name(), &K::type_name(), &C::name())?;
        schema.map_or(Ok(true), |schema| self.expect_schema(table.name(), schema))?;
        Ok(TypedTable::new(raw, table))
    }
}

impl WriteTxn {
    /// The table, for reading and writing; created if it does not exist.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) if the table has keys of another type, values of another codec, or another schema.
    pub fn table<'t, K: Key + ?Sized, V: ?Sized, C: Codec<V>>(
        &'t self,
        table: Table<'t, K, V, C>,
    ) -> Result<TypedTableMut<'t, K, V, C>> {
        let schema = table.wanted_schema()?;
        let is_there = schema.map_or(Ok(true), |schema| self.expect_schema(table.name(), schema))?;
        let raw = self.untyped_as(table.name(), &K::type_name(), &C::name())?;
        if let (Some((schema, version)), false) = (schema, is_there) {
            self.set_schema(table.name(), schema, version)?;
        }
        Ok(TypedTableMut::new(raw, table))
    }

    /// The table, for reading as this transaction sees it. It is not created if it does not exist: see
    /// [`WriteTxn::read_raw`].
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::{Error, Table};
    /// const NOTES: Table<&str, String> = Table::new("notes").schema("note", 1);
    /// store.write(|tx| {
    ///     let later = tx.read_table(NOTES)?;
    ///     assert!(later.is_empty()? && tx.tables()?.is_empty());
    ///     tx.table(NOTES)?.put("a", "hello")?;
    ///     assert_eq!(later.get("a")?.as_deref(), Some("hello"));
    ///     let other = tx.read_table(Table::<&str, String>::new("notes").schema("note", 2));
    ///     assert!(matches!(other, Err(Error::TypeMismatch { .. })));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) if the table has keys of another type, values of another codec, or another schema; for a
    /// table that is created later, when it is read.
    pub fn read_table<'t, K: Key + ?Sized, V: ?Sized, C: Codec<V>>(
        &'t self,
        table: Table<'t, K, V, C>,
    ) -> Result<TypedTable<'t, K, V, C, WriteTxn>> {
        let schema = table.wanted_schema()?;
        let raw = self.open_table_read(table.name(), (&K::type_name(), &C::name()), schema)?;
        Ok(TypedTable::new(raw, table))
    }
}
