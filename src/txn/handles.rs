//! Opening tables, in snapshots and in write transactions, and changing the set of tables.

use crate::disk::format::TABLE_NAMES;
use crate::engine::buffer::Buffer;
use crate::engine::merge::TableSource;
use crate::engine::stats::TableInfo;
use crate::engine::table_row::TableEntry;
use crate::error::{Error, Result};
use crate::txn::catalog::{RAW_TYPES, check_schema, check_types, list_tables};
use crate::txn::owned::OwnedRawTable;
use crate::txn::snapshot::Snapshot;
use crate::txn::state::{SnapshotPlace, TxnPlace, TxnPlaceKind};
use crate::txn::table::RawTable;
use crate::txn::table_name::TableName;
use crate::txn::txn_table::ExpectedTable;
use crate::txn::write::WriteTxn;
use crate::txn::write_table::RawTableMut;
use std::rc::Rc;

fn same_schema(table: &str, expected: (&str, u64), found: Option<&TableEntry>) -> Result<bool> {
    found.map_or(Ok(false), |found| check_schema(table, expected, found).map(|()| true))
}

impl Snapshot {
    /// A table of bytes. One that does not exist reads as an empty one.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table was created with types: [`Snapshot::untyped`] reads it all the same.
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn raw(&self, name: &str) -> Result<RawTable<'_>> {
        self.untyped_as(name, RAW_TYPES.0, RAW_TYPES.1)
    }

    /// The bytes of a table that exists, whatever types it was created with: for tools that read any store.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::{Error, Table};
    /// const NOTES: Table<&str, u8> = Table::new("notes");
    ///
    /// store.write(|tx| tx.table(NOTES)?.put("k", 7))?;
    /// let snapshot = store.read()?;
    /// assert_eq!(snapshot.untyped(NOTES)?.get(b"k")?.unwrap(), b"\x07");
    /// assert!(matches!(snapshot.raw("notes"), Err(Error::TypeMismatch { .. })));
    /// assert!(matches!(snapshot.untyped("absent"), Err(Error::NoTable { .. })));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn untyped(&self, name: impl TableName) -> Result<RawTable<'_>> {
        let name = name.table_name();
        let entry = self.entry(name)?.ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        Ok(self.table_of(Some(entry)))
    }

    /// The bytes of a table that has these names of types; one that does not exist reads as an empty one. See
    /// [`WriteTxn::untyped_as`].
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// store.write(|tx| tx.table(memstone::Table::<&str, u8>::new("notes"))?.put("k", 7))?;
    /// let snapshot = store.read()?;
    /// assert_eq!(snapshot.untyped_as("notes", "str", "msgpack")?.get(b"k")?.unwrap(), b"\x07");
    /// assert!(snapshot.untyped_as("notes", "u64", "msgpack").is_err());
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::raw`].
    pub fn untyped_as(&self, name: &str, key_type: &str, value_type: &str) -> Result<RawTable<'_>> {
        let entry = self.entry(name)?;
        if let Some(entry) = &entry {
            check_types(name, (key_type, value_type), (&entry.key_type, &entry.value_type))?;
        }
        Ok(self.table_of(entry))
    }

    /// [`Snapshot::raw`] as a table that borrows nothing.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let table = store.read()?.into_raw("t")?;
    /// let reader = std::thread::spawn(move || table.contains(b"k"));
    /// assert!(reader.join().unwrap()?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::raw`].
    pub fn into_raw(self, name: &str) -> Result<OwnedRawTable> {
        let place = *self.raw(name)?.place();
        Ok(OwnedRawTable::new(self, place))
    }

    /// Refuses a table that is recorded with another schema. `false`: there is no table.
    pub(crate) fn expect_schema(&self, table: &str, schema: (&str, u64)) -> Result<bool> {
        same_schema(table, schema, self.entry(table)?.as_ref())
    }

    fn table_of(&self, entry: Option<TableEntry>) -> RawTable<'_> {
        RawTable::new(self, SnapshotPlace(entry.map(|entry| (entry.id, entry.root))))
    }
}

/// [`WriteTxn::table`], [`WriteTxn::raw`] and [`WriteTxn::untyped_as`] create a table that does not exist.
/// [`WriteTxn::read_table`], [`WriteTxn::read_raw`] and [`WriteTxn::untyped`] never do.
impl WriteTxn {
    /// A table of bytes, created if it does not exist.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table was created with types, [`Error::TooLarge`] for a name of the table, or of a
    /// type, of more than [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE) bytes.
    pub fn raw(&self, name: &str) -> Result<RawTableMut<'_>> {
        self.untyped_as(name, RAW_TYPES.0, RAW_TYPES.1)
    }

    /// A table of bytes, for reading. It is not created if it does not exist: the handle reads as an empty table
    /// while no table has that name, and afterwards as the table that has it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| {
    ///     let later = tx.read_raw("t")?;
    ///     assert!(later.is_empty()? && tx.tables()?.is_empty());
    ///     tx.raw("t")?.put(b"k", b"v")?;
    ///     assert_eq!(later.len()?, 1);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`WriteTxn::raw`].
    pub fn read_raw(&self, name: &str) -> Result<RawTable<'_, WriteTxn>> {
        self.open_table_read(name, RAW_TYPES, None)
    }

    /// The bytes of a table that exists, whatever types it was created with: for tools that change any store. What is
    /// written must be as its types encode it (see [`AsKey`](crate::AsKey), [`Codec`](crate::Codec)).
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// const COUNTS: memstone::Table<&str, u8> = memstone::Table::new("counts");
    /// store.write(|tx| {
    ///     tx.table(COUNTS)?.put("k", 7)?;
    ///     assert_eq!(tx.table_types(COUNTS)?, Some(("str".to_owned(), "msgpack".to_owned())));
    ///     tx.untyped(COUNTS)?.put(b"k", b"\x08")
    /// })?;
    /// assert_eq!(store.read()?.table(COUNTS)?.get("k")?, Some(8));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::Corrupt`], [`Error::Io`].
    pub fn untyped(&self, name: impl TableName) -> Result<RawTableMut<'_>> {
        let name = name.table_name();
        let table = self.in_file(self.find_table(name))?.ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        Ok(RawTableMut::new(self, table))
    }

    /// The bytes of a table that has these names of types; it is created if it does not exist: for tools that make any
    /// store. The names are as [`Key::type_name`](crate::Key::type_name) and
    /// [`Codec::name`](crate::Codec::name) give them.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.untyped_as("notes", "str", "msgpack")?.put(b"k", b"\x07"))?;
    /// assert_eq!(store.read()?.table(memstone::Table::<&str, u8>::new("notes"))?.get("k")?, Some(7));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`WriteTxn::raw`].
    pub fn untyped_as(&self, name: &str, key_type: &str, value_type: &str) -> Result<RawTableMut<'_>> {
        let table = match self.in_file(self.open_known(name, (key_type, value_type)))? {
            Some(table) => table,
            None => self.in_file(self.create_table(name, (key_type, value_type)))?,
        };
        Ok(RawTableMut::new(self, table))
    }

    /// Refuses a table that is recorded with another schema. `false`: there is no table.
    pub(crate) fn expect_schema(&self, table: &str, schema: (&str, u64)) -> Result<bool> {
        same_schema(table, schema, self.in_file(self.look_up(table))?.as_ref())
    }

    /// A table for reading, of these types and, if one is given, this schema: both are looked at now if it is there, and
    /// otherwise when it is.
    pub(crate) fn open_table_read(
        &self,
        name: &str,
        types: (&str, &str),
        schema: Option<(&str, u64)>,
    ) -> Result<RawTable<'_, WriteTxn>> {
        // Read now, not only at the first read: an assumed table may turn out not to exist.
        let table = self.in_file(self.base().and_then(|_| self.open_known(name, types)))?;
        let place = match table {
            Some(table) => {
                schema.map_or(Ok(true), |schema| self.expect_schema(name, schema))?;
                TxnPlaceKind::Table(table)
            }
            None => {
                let types = (types.0.into(), types.1.into());
                let schema = schema.map(|(schema, version)| (schema.into(), version));
                TxnPlaceKind::Name(Rc::new(ExpectedTable { name: name.into(), types, schema }))
            }
        };
        Ok(RawTable::new(self, TxnPlace(place)))
    }

    /// Removes a table and its content. Returns `false` if there is none. Its handles give [`Error::NoTable`]
    /// from then on, also when another table takes its name.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn drop_table(&self, name: impl TableName) -> Result<bool> {
        let Some(table) = self.in_file(self.find_table(name.table_name()))? else { return Ok(false) };
        self.remove_table(&table)?;
        Ok(true)
    }

    /// Renames a table. Its handles stay valid.
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::TableExists`], [`Error::TooLarge`] for too long a name.
    pub fn rename_table(&self, from: impl TableName, to: impl TableName) -> Result<()> {
        let (from, to) = (from.table_name(), to.table_name());
        let table = self.in_file(self.find_table(from))?.ok_or_else(|| Error::NoTable { table: from.to_owned() })?;
        if from == to {
            return Ok(());
        }
        if self.in_file(self.find_table(to))?.is_some() {
            return Err(Error::TableExists { table: to.to_owned() });
        }
        self.rename_to(&table, to)
    }

    /// Removes everything in a table at once, whatever its size. Its handles stay valid. Does nothing if there is
    /// no such table.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// store.write(|tx| {
    ///     let table = tx.raw("t")?;
    ///     table.put(b"k", b"v")?;
    ///     tx.clear_table("t")?;
    ///     assert!(table.is_empty()?);
    ///     table.put(b"k", b"w")
    /// })?;
    /// assert_eq!(store.read()?.raw("t")?.get(b"k")?.unwrap(), b"w");
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn clear_table(&self, name: impl TableName) -> Result<()> {
        let table = self.in_file(self.find_table(name.table_name()))?;
        table.map_or(Ok(()), |table| self.in_file(self.empty_table(&table)))
    }

    /// The types of a table as this transaction sees them; see [`Snapshot::table_types`](crate::Snapshot::table_types).
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn table_types(&self, name: impl TableName) -> Result<Option<(String, String)>> {
        Ok(self.in_file(self.look_up(name.table_name()))?.map(|entry| (entry.key_type.into(), entry.value_type.into())))
    }

    /// All tables, by name, as this transaction sees them.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn tables(&self) -> Result<Vec<TableInfo>> {
        self.in_file(self.names().and_then(list_tables))
    }

    fn names(&self) -> Result<TableSource<'_, Buffer>> {
        let view = self.base()?;
        Ok(TableSource { view, buffer: Some(&self.buffer), table: TABLE_NAMES, root: view.tree_root(TABLE_NAMES)? })
    }
}
