//! Opening typed tables, in snapshots and in write transactions: types and schema are checked.

use super::codec::Codec;
use super::definition::Table;
use super::key::Key;
use super::table::{TypedTable, TypedTableMut};
use crate::error::{Error, Result};
use crate::{Snapshot, WriteTxn};

impl Snapshot {
    /// The table as it is in this snapshot. A table that does not exist reads as an empty one.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table has keys of another type, values of another codec, or another schema.
    pub fn table<'s, K: Key + ?Sized, V: ?Sized, C: Codec<V>>(
        &'s self,
        table: Table<'s, K, V, C>,
    ) -> Result<TypedTable<'s, K, V, C>> {
        let raw = self.untyped_as(table.name(), &K::type_name(), &C::name())?;
        check_schema(table, |name| self.table_schema(name))?;
        Ok(TypedTable::new(raw, table))
    }
}

impl WriteTxn {
    /// The table, for reading and writing; created if it does not exist.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table has keys of another type, values of another codec, or another schema.
    pub fn table<'t, K: Key + ?Sized, V: ?Sized, C: Codec<V>>(
        &'t self,
        table: Table<'t, K, V, C>,
    ) -> Result<TypedTableMut<'t, K, V, C>> {
        let unrecorded = check_schema(table, |name| self.table_schema(name))?;
        let raw = self.untyped_as(table.name(), &K::type_name(), &C::name())?;
        if let Some((schema, version)) = unrecorded {
            self.set_schema(table.name(), schema, version)?;
        }
        Ok(TypedTableMut::new(raw, table))
    }

    /// The table, for reading as this transaction sees it. It is not created if it does not exist: see
    /// [`WriteTxn::read_raw`].
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table has keys of another type, values of another codec, or another schema.
    pub fn read_table<'t, K: Key + ?Sized, V: ?Sized, C: Codec<V>>(
        &'t self,
        table: Table<'t, K, V, C>,
    ) -> Result<TypedTable<'t, K, V, C, WriteTxn>> {
        let raw = self.open_table_read(table.name(), &K::type_name(), &C::name())?;
        check_schema(table, |name| self.table_schema(name))?;
        Ok(TypedTable::new(raw, table))
    }
}

/// Compares the schema that the program wants with the recorded one, which is looked up only if it wants one. Returns
/// the schema to record if there is no such table.
fn check_schema<'n, K: ?Sized, V: ?Sized, C>(
    table: Table<'n, K, V, C>,
    look_up: impl FnOnce(&str) -> Result<Option<(String, u64)>>,
) -> Result<Option<(&'n str, u64)>> {
    let Some(wanted) = table.wanted_schema()? else { return Ok(None) };
    let Some((name, version)) = look_up(table.name())? else { return Ok(Some(wanted)) };
    let found = (name.as_str(), version);
    if found == wanted {
        return Ok(None);
    }
    let show = |schema| match schema {
        ("", 0) => "no schema".to_owned(),
        (name, version) => format!("schema {name:?} version {version}"),
    };
    Err(Error::TypeMismatch { table: table.name().to_owned(), expected: show(wanted), found: show(found) })
}
