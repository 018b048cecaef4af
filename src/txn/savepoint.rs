//! Savepoints: undoing part of a write transaction.

use crate::engine::changes::Write;
use crate::error::{Error, Result};
use crate::txn::tables::TxnTable;
use crate::txn::write::WriteTxn;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// A point within a write transaction that it can go back to; see [`WriteTxn::savepoint`].
pub struct Savepoint {
    token: Rc<()>,
    /// How much there was to undo.
    undo: usize,
}

/// What a change of the transaction replaced.
pub(super) enum Undo {
    /// What the buffer said of a key.
    Write { table: u32, key: Vec<u8>, write: Option<Write> },
    /// The content under this id was there.
    Content(u32),
    /// The table had this name, and its content under this id; none: there was no such table.
    Table { table: Rc<TxnTable>, name: Rc<str>, id: Option<u32> },
}

/// What to undo, newest last; noted only while there is a savepoint.
#[derive(Default)]
pub(super) struct UndoLog {
    entries: RefCell<Vec<Undo>>,
    savepoints: RefCell<Vec<Weak<()>>>,
    /// Whether somebody may hold a savepoint.
    kept: Cell<bool>,
}

impl UndoLog {
    pub(super) fn note(&self, undo: impl FnOnce() -> Undo) {
        if self.kept.get() {
            self.entries.borrow_mut().push(undo());
        }
    }

    fn mark(&self) -> Savepoint {
        let token = Rc::new(());
        let mut savepoints = self.savepoints.borrow_mut();
        savepoints.retain(|other| other.strong_count() > 0);
        if savepoints.is_empty() {
            // Nobody can go back to what came before.
            self.entries.borrow_mut().clear();
        }
        savepoints.push(Rc::downgrade(&token));
        self.kept.set(true);
        Savepoint { token, undo: self.entries.borrow().len() }
    }

    /// Gives up the savepoints after this one, and gives what is to be undone, newest first. `None`: it is not,
    /// or no longer, one of this transaction.
    fn back_to(&self, savepoint: &Savepoint) -> Option<Vec<Undo>> {
        let mut savepoints = self.savepoints.borrow_mut();
        let ours = |other: &Weak<()>| std::ptr::eq(other.as_ptr(), Rc::as_ptr(&savepoint.token));
        let position = savepoints.iter().position(ours)?;
        savepoints.truncate(position + 1);
        let mut entries = self.entries.borrow_mut();
        let first = savepoint.undo.min(entries.len());
        Some(entries.drain(first..).rev().collect())
    }
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
        // What is undone lies in tables that are known for certain: those that are assumed may turn out to be
        // others. Where that cannot be found out, the savepoint is none, and going back to it says why.
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
                Undo::Write { table, key, write } => drop(self.changes.borrow_mut().set(table, &key, write)),
                Undo::Content(id) => drop(self.changes.borrow_mut().dropped.remove(&id)),
                Undo::Table { table, name, id } => drop(table.replace(name, id)),
            }
        }
        self.stamp.set(self.stamp.get() + 1);
        Ok(())
    }
}
