//! The user's own versions: of the content of a store, and of the schema of a table.

use crate::bytes::Bytes;
use crate::change::Change;
use crate::disk::format::{SETTING_USER_VERSION, TABLE_SETTINGS};
use crate::engine::view::{View, number_in};
use crate::error::{Error, Result};
use crate::txn::snapshot::Snapshot;
use crate::txn::table_name::TableName;
use crate::txn::write::WriteTxn;

/// What a row of the settings says; `None`: there is no row.
pub(crate) fn version_in(row: Option<&[u8]>) -> Result<u64> {
    row.map_or(Ok(0), |row| number_in(row, "a user version of 8 bytes"))
}

/// The user's version of the content of a state.
pub(crate) fn user_version_of(view: &View) -> Result<u64> {
    version_in(view.setting(SETTING_USER_VERSION)?.as_deref())
}

impl Snapshot {
    /// The version that the user has given to the content of the store; see [`WriteTxn::set_user_version`]. 0: none.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn user_version(&self) -> Result<u64> {
        self.engine().check_process()?;
        self.in_file(user_version_of(self.view()))
    }

    /// Name and version of the schema of a table; see [`WriteTxn::set_schema`]. `None` if there is no such table. One
    /// whose schema was never set has an empty name, and version 0.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Format`], [`Error::Io`], [`Error::Forked`].
    pub fn table_schema(&self, name: impl TableName) -> Result<Option<(String, u64)>> {
        Ok(self.entry(name.table_name())?.map(|entry| (entry.schema.into(), entry.schema_version)))
    }
}

impl WriteTxn {
    /// A row of the settings, as this transaction sees it.
    pub(super) fn setting_now(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let base = self.base()?;
        match self.buffer.buffered(TABLE_SETTINGS, key) {
            Some(Change::Put(row)) => Ok(Some(row.to_vec())),
            Some(_) => Ok(None),
            None => base.setting(key),
        }
    }

    /// Sets a row of the settings, or takes it away.
    pub(crate) fn put_setting(&self, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        // Read now, as everything that is no table opened by name: see `WriteTxn::settle_names`.
        self.in_file(self.base().map(drop))?;
        let change = row.map_or(Change::Delete, |row| Change::Put(Bytes::copied(row)));
        self.change_row(TABLE_SETTINGS, key, Some(change));
        Ok(())
    }

    /// The user's version of the content, as this transaction sees it; see [`WriteTxn::set_user_version`].
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn user_version(&self) -> Result<u64> {
        self.in_file(self.setting_now(SETTING_USER_VERSION).and_then(|row| version_in(row.as_deref())))
    }

    /// Gives the content of the store a version: a number of the user's, for example of the program that has
    /// converted it last. It is a part of the transaction like any other change. A store without one has version 0.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| {
    ///     if tx.user_version()? < 2 {
    ///         tx.rename_table("note", "notes").or_else(|error| match error {
    ///             memstone::Error::NoTable { .. } => Ok(()),
    ///             error => Err(error),
    ///         })?;
    ///         tx.set_user_version(2)?;
    ///     }
    ///     Ok::<_, memstone::Error>(())
    /// })?;
    /// assert_eq!(store.read()?.user_version()?, 2);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn set_user_version(&self, version: u64) -> Result<()> {
        let row = version.to_le_bytes();
        self.put_setting(SETTING_USER_VERSION, (version != 0).then_some(&row))
    }

    /// Describes the schema of a table, by a name and a version of the user's choice. The store attaches no meaning to
    /// them; they stay with the table when it is renamed or cleared, and in dumps and backups.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| {
    ///     tx.raw("notes")?.put(b"k", b"v")?;
    ///     tx.set_schema("notes", "example.org/note", 3)
    /// })?;
    /// assert_eq!(store.read()?.table_schema("notes")?, Some(("example.org/note".to_owned(), 3)));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::TooLarge`] for a name of more than [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE) bytes,
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn set_schema(&self, table: impl TableName, schema: &str, version: u64) -> Result<()> {
        let table = table.table_name();
        let found = self.in_file(self.find_table(table))?.ok_or_else(|| Error::NoTable { table: table.to_owned() })?;
        self.in_file(self.describe_schema(&found, schema, version))
    }

    /// The schema of a table as this transaction sees it; see [`Snapshot::table_schema`].
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Format`], [`Error::Io`].
    pub fn table_schema(&self, name: impl TableName) -> Result<Option<(String, u64)>> {
        Ok(self.in_file(self.look_up(name.table_name()))?.map(|entry| (entry.schema.into(), entry.schema_version)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::disk::format::TABLE_NAMES;
    use crate::engine::table_row::TableEntry;

    #[test]
    fn a_table_with_an_unknown_flag_is_refused_and_the_others_are_not() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.mst");
        let store = Options::new().open(&path)?;
        store.write(|tx| ["old", "new"].iter().try_for_each(|name| tx.raw(name)?.put(b"k", b"v")))?;
        store.write(|tx| {
            let row = tx.look_up("new")?.unwrap();
            tx.set_name("new", &TableEntry { flags: 4, ..row });
            Ok::<_, Error>(())
        })?;
        for checkpointed in [false, true] {
            if checkpointed {
                store.checkpoint()?;
            }
            let snapshot = store.read()?;
            let refused = |result: Result<()>| assert!(matches!(result, Err(Error::Format { .. })), "{result:?}");
            refused(snapshot.raw("new").map(drop));
            let tx = store.begin_write()?;
            refused(tx.raw("new").map(drop));
            refused(tx.read_raw("new").map(drop));
            refused(tx.drop_table("new").map(drop));
            refused(tx.clear_table("new"));
            refused(tx.rename_table("new", "other"));
            refused(tx.rename_table("old", "new"));
            refused(tx.set_schema("new", "s", 1));
            refused(snapshot.backup_to(dir.path().join("backup.mst")).map(drop));
            tx.raw("old")?.put(b"k", b"w")?;
            tx.commit()?;
            assert_eq!(store.read()?.raw("old")?.get(b"k")?.unwrap(), b"w");
            let flags: Vec<_> = snapshot.tables()?.into_iter().map(|table| (table.name, table.flags)).collect();
            assert_eq!(flags, [("new".to_owned(), 4), ("old".to_owned(), 0)]);
        }
        store.close()?;
        let report = crate::check(&path, &crate::CheckOptions::new())?;
        assert_eq!((report.damage, report.warnings), (0, 1));
        let repaired = crate::repair(&path, &crate::RepairOptions::new());
        assert!(matches!(repaired, Err(Error::Format { .. })), "{repaired:?}");
        Ok(())
    }

    /// Rows of a newer program, which are longer: the tail of a row of the names table survives a rename and a
    /// checkpoint.
    #[test]
    fn rows_longer_than_known_are_read() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.mst");
        let store = Options::new().open(&path)?;
        store.write(|tx| {
            tx.raw("t")?.put(b"k", b"v")?;
            tx.set_user_version(7)
        })?;
        let long = |tx: &WriteTxn, table, key: &[u8], row: Vec<u8>| {
            tx.change_row(table, key, Some(Change::Put(Bytes::copied(&[row, b"newer".to_vec()].concat()))));
        };
        store.write(|tx| {
            long(tx, TABLE_NAMES, b"t", tx.look_up("t")?.unwrap().encode());
            long(tx, TABLE_SETTINGS, SETTING_USER_VERSION, 8_u64.to_le_bytes().to_vec());
            Ok::<_, Error>(())
        })?;
        store.write(|tx| tx.rename_table("t", "u"))?;
        store.checkpoint()?;
        assert_eq!(store.read()?.raw("u")?.get(b"k")?.unwrap(), b"v");
        assert_eq!(store.read()?.user_version()?, 8);
        let row = store.begin_write()?.look_up("u")?.unwrap().encode();
        assert!(row.ends_with(b"newer"));
        store.close()?;
        assert!(crate::check(&path, &crate::CheckOptions::new())?.is_clean());
        Ok(())
    }

    #[test]
    fn a_user_version_that_is_too_short_is_damage() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.mst");
        let store = Options::new().open(&path)?;
        store.write(|tx| {
            tx.change_row(TABLE_SETTINGS, SETTING_USER_VERSION, Some(Change::Put(Bytes::copied(&[1; 7]))));
            Ok::<_, Error>(())
        })?;
        assert!(store.read()?.user_version().unwrap_err().is_corrupt());
        assert!(store.begin_write()?.user_version().unwrap_err().is_corrupt());
        store.checkpoint()?;
        store.close()?;
        assert_eq!(crate::check(&path, &crate::CheckOptions::new())?.damage, 1);
        Ok(())
    }
}
