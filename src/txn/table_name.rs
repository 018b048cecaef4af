//! The name of a table, as an argument.

/// What names a table: a string, or a [`Table`](crate::Table), which knows its name.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::Table;
/// const NOTES: Table<&str, String> = Table::new("notes");
///
/// store.write(|tx| {
///     tx.table(NOTES)?.put("a", "hello")?;
///     tx.rename_table(NOTES, "archive")?;
///     assert!(!tx.drop_table(NOTES)?);
///     assert!(tx.drop_table("archive")?);
///     Ok(())
/// })?;
/// # Ok::<(), memstone::Error>(())
/// ```
pub trait TableName {
    /// The table's name.
    ///
    /// ```
    /// use memstone::{Table, TableName};
    /// assert_eq!(Table::<&str, u8>::new("notes").table_name(), "notes".table_name());
    /// ```
    fn table_name(&self) -> &str;
}

impl TableName for str {
    fn table_name(&self) -> &str {
        self
    }
}

impl TableName for String {
    fn table_name(&self) -> &str {
        self
    }
}

impl<T: TableName + ?Sized> TableName for &T {
    fn table_name(&self) -> &str {
        (**self).table_name()
    }
}
