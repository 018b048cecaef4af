//! Going back to an earlier state of the store, within a write transaction.
//!
//! The difference between the transaction's base and the earlier state is written like any other change. So other
//! processes see one ordinary transaction, and nothing in the log, the tree or the pins is special about it.

use crate::engine::stats::TableInfo;
use crate::error::{Error, Result};
use crate::txn::diff::{Diff, RowChange, TableChange, TableDiff};
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteTxn;
use std::collections::VecDeque;
use std::sync::Arc;

impl WriteTxn {
    /// Restores the content of a snapshot of this store: rows, tables, their names, types and
    /// schemas, and the user version. Tables created
    /// since are dropped; dropped ones come back. Nothing is visible outside this transaction before the commit,
    /// and the transaction may make further changes.
    ///
    /// It takes time to find and write the differences, and memory to hold them: all changes of a transaction are
    /// held until it is committed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let before = store.read()?;
    /// store.write(|tx| tx.drop_table("t").map(drop))?;
    /// store.write(|tx| tx.roll_back_to_snapshot(&before))?;
    /// assert_eq!(store.read()?.raw("t")?.get(b"k")?.unwrap(), b"v");
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the transaction has changed something already, or the snapshot is of another store;
    /// [`Error::Corrupt`], [`Error::Io`]. After an error return it, so that the transaction is rolled back.
    pub fn roll_back_to_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        if !std::ptr::eq(self.engine(), Arc::as_ptr(snapshot.engine())) {
            return Err(Error::Invalid("the snapshot was not taken from this open store".to_owned()));
        }
        // This resolves the names of assumed tables.
        let base = self.in_file(self.base())?;
        if !self.buffer.changes.borrow().is_empty() {
            let message = "a transaction that has changed something cannot go back to a snapshot";
            return Err(Error::Invalid(message.to_owned()));
        }
        let diff = self.in_file(Diff::between(self.engine(), base, snapshot.view()))?;
        let with = |change| diff.tables().iter().filter(move |table| table.change() == change);
        for table in with(TableChange::Dropped) {
            self.drop_table(table.name())?;
        }
        let renames = with(TableChange::Renamed).filter_map(|table| table.name_before().zip(table.name_after()));
        self.rename_all(renames.map(|(from, to)| (from.to_owned(), to.to_owned())).collect())?;
        for table in with(TableChange::Created) {
            let (key_type, value_type) = table.types();
            self.untyped_as(table.name(), key_type, value_type)?;
        }
        let there = diff.tables().iter().filter(|table| table.change() != TableChange::Dropped);
        there.into_iter().try_for_each(|table| self.write_rows(table))?;
        self.restore_versions(snapshot)
    }

    fn restore_versions(&self, snapshot: &Snapshot) -> Result<()> {
        for TableInfo { name, schema, schema_version, .. } in snapshot.tables()? {
            let now = self.table_schema(&name)?.unwrap_or_default();
            if (now.0.as_str(), now.1) != (schema.as_str(), schema_version) {
                self.set_schema(&name, &schema, schema_version)?;
            }
        }
        let version = snapshot.user_version()?;
        if self.user_version()? == version { Ok(()) } else { self.set_user_version(version) }
    }

    /// Tables may exchange their names: then one of them takes an unused name for a while.
    fn rename_all(&self, mut waiting: VecDeque<(String, String)>) -> Result<()> {
        let mut in_vain = 0;
        while let Some((from, to)) = waiting.pop_front() {
            if self.table_types(&to)?.is_none() {
                self.rename_table(&from, &to)?;
                in_vain = 0;
                continue;
            }
            in_vain += 1;
            if in_vain <= waiting.len() {
                waiting.push_back((from, to));
                continue;
            }
            let mut free = (0_u64..).map(|n| format!("(renamed {n})"));
            let between = loop {
                let Some(name) = free.next() else { return Err(Error::Internal("no name is free".to_owned())) };
                if self.table_types(&name)?.is_none() && !waiting.iter().any(|(_, to)| *to == name) {
                    break name;
                }
            };
            self.rename_table(&from, &between)?;
            waiting.push_back((between, to));
            in_vain = 0;
        }
        Ok(())
    }

    fn write_rows(&self, table: &TableDiff<'_>) -> Result<()> {
        let target = self.untyped(table.name())?;
        for row in table.rows()? {
            let RowChange { key, after, .. } = row?;
            match after {
                Some(value) => target.put(&key, &value)?,
                None => target.delete(&key)?,
            }
        }
        Ok(())
    }
}
