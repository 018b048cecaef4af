//! Savepoints: undoing part of a write transaction.

use crate::error::{Error, Result};
use crate::txn::undo::{Savepoint, Undo};
use crate::txn::write::WriteTxn;
use std::rc::Rc;

impl WriteTxn {
    /// Marks a point to go back to. Savepoints nest: going back to one gives up the later ones.
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
        // Savepoints need tables that are known for certain: an assumed name may turn out to be another table. If
        // that cannot be found out, the savepoint is invalid, and going back to it returns the reason.
        match self.base() {
            Ok(_) => self.undo.mark(),
            Err(_) => Savepoint { token: Rc::new(()), undo: 0 },
        }
    }

    /// Undoes everything since the savepoint, which stays valid. Handles of tables stand for the tables that
    /// they stood for before: one that was dropped since is there again, one that was created since is gone,
    /// and its handles give [`Error::NoTable`].
    ///
    /// # Errors
    /// [`Error::Savepoint`] if it belongs to another transaction, or was given up by going back to an
    /// earlier one. What reading the store gave when the savepoint was taken, if that failed.
    pub fn rollback_to(&self, savepoint: &Savepoint) -> Result<()> {
        self.base()?;
        for undo in self.undo.back_to(savepoint).ok_or(Error::Savepoint)? {
            match undo {
                Undo::Write { table, key, write } => drop(self.buffer.changes.borrow_mut().set(table, &key, write)),
                Undo::Content(id) => drop(self.buffer.changes.borrow_mut().dropped.remove(&id)),
                Undo::Table { table, name, id } => drop(table.replace(name, id)),
            }
        }
        self.buffer.changed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::sim::Free;
    use crate::simulation::new_store;
    use std::sync::Arc;

    #[test]
    fn nothing_is_kept_to_be_undone_when_no_savepoint_is_left() {
        let (_world, _disk, store) = new_store(Arc::new(Free), 1 << 20);
        let tx = store.begin_write().unwrap();
        let table = tx.raw("t").unwrap();
        let kept = || tx.undo.entries.borrow().len();
        let savepoints: Vec<_> = (0..5_u8)
            .map(|n| {
                table.put(&[n], b"").unwrap();
                tx.savepoint()
            })
            .collect();
        assert_eq!(kept(), 4);
        let mut savepoints = savepoints.into_iter();
        let first = savepoints.next();
        drop(savepoints);
        table.put(b"k", b"").unwrap();
        assert_eq!(kept(), 5);
        drop(first);
        table.put(b"k", b"").unwrap();
        assert_eq!(kept(), 0);
        let again = tx.savepoint();
        table.put(b"k", b"").unwrap();
        assert_eq!(kept(), 1);
        tx.rollback_to(&again).unwrap();
        assert_eq!(table.len().unwrap(), 6);
    }
}
