//! Savepoints: undoing part of a write transaction.

use crate::engine::changes::Write;
use crate::error::{Error, Result};
use crate::txn::write::{TxnTable, WriteTxn};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};

/// A point within a write transaction that it can go back to; see [`WriteTxn::savepoint`].
pub struct Savepoint {
    token: Rc<()>,
    undo: usize,
    dropped: BTreeSet<u32>,
    names: Vec<(String, Rc<TxnTable>)>,
}

/// What a change of the buffer replaced.
pub(crate) struct Undo {
    pub(crate) table: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) write: Option<Write>,
}

impl WriteTxn {
    /// Marks a point to go back to. Savepoints nest: going back to one gives up those after it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| {
    ///     let table = tx.raw("t")?;
    ///     table.put(b"a", b"1")?;
    ///     let savepoint = tx.savepoint();
    ///     table.put(b"b", b"2")?;
    ///     tx.rollback_to(&savepoint)?;
    ///     assert!(table.get(b"a")?.is_some() && table.get(b"b")?.is_none());
    ///     Ok::<_, memstone::Error>(())
    /// })?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn savepoint(&self) -> Savepoint {
        let token = Rc::new(());
        let mut savepoints = self.savepoints.borrow_mut();
        savepoints.retain(|other| other.strong_count() > 0);
        savepoints.push(Rc::downgrade(&token));
        let names = self.tables.borrow().iter().map(|(name, table)| (name.clone(), Rc::clone(table))).collect();
        Savepoint { token, undo: self.undo.borrow().len(), dropped: self.changes.borrow().dropped.clone(), names }
    }

    /// Undoes everything since the savepoint, which stays valid.
    ///
    /// # Errors
    /// [`Error::Savepoint`] if it belongs to another transaction, or was given up by going back to an
    /// earlier one.
    pub fn rollback_to(&self, savepoint: &Savepoint) -> Result<()> {
        let mut savepoints = self.savepoints.borrow_mut();
        let ours = |other: &Weak<()>| std::ptr::eq(other.as_ptr(), Rc::as_ptr(&savepoint.token));
        let position = savepoints.iter().position(ours).ok_or(Error::Savepoint)?;
        savepoints.truncate(position + 1);
        drop(savepoints);
        let mut changes = self.changes.borrow_mut();
        for Undo { table, key, write } in self.undo.borrow_mut().drain(savepoint.undo..).rev() {
            changes.set(table, &key, write);
        }
        changes.dropped.clone_from(&savepoint.dropped);
        drop(changes);
        let mut tables = self.tables.borrow_mut();
        for (_, table) in tables.drain() {
            table.creates.set(false);
            table.forget();
        }
        for (name, table) in &savepoint.names {
            name.clone_into(&mut table.name.borrow_mut());
            table.forget();
            tables.insert(name.clone(), Rc::clone(table));
        }
        self.stamp.set(self.stamp.get() + 1);
        Ok(())
    }
}
