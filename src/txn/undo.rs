//! What a write transaction needs to go back to a savepoint.

use crate::change::OwnedChange;
use crate::txn::txn_table::TxnTable;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// A point within a write transaction that it can go back to; see [`WriteTxn::savepoint`](crate::WriteTxn::savepoint).
#[derive(Debug)]
pub struct Savepoint {
    pub(super) token: Rc<()>,
    /// The number of entries in the undo log at that point.
    pub(super) undo: usize,
}

/// What a change of the transaction replaced.
pub(super) enum Undo {
    /// What the buffer held for a key.
    Write { table: u32, key: Vec<u8>, write: Option<OwnedChange> },
    /// The content under this id was there.
    Content(u32),
    /// The table had this name, and its content this id; `None`: there was no such table.
    Table { table: Rc<TxnTable>, name: Rc<str>, id: Option<u32> },
}

/// What to undo, newest last; recorded only while there is a savepoint.
#[derive(Default)]
pub(super) struct UndoLog {
    pub(super) entries: RefCell<Vec<Undo>>,
    savepoints: RefCell<Vec<Weak<()>>>,
}

impl UndoLog {
    pub(super) fn note(&self, undo: impl FnOnce() -> Undo) {
        if self.is_kept() {
            self.entries.borrow_mut().push(undo());
        }
    }

    /// Whether a savepoint is held. If none is, nothing is recorded.
    fn is_kept(&self) -> bool {
        let mut savepoints = self.savepoints.borrow_mut();
        if savepoints.is_empty() {
            return false;
        }
        while savepoints.pop_if(|newest| newest.strong_count() == 0).is_some() {}
        if savepoints.is_empty() {
            self.entries.borrow_mut().clear();
        }
        !savepoints.is_empty()
    }

    pub(super) fn mark(&self) -> Savepoint {
        self.is_kept();
        let token = Rc::new(());
        self.savepoints.borrow_mut().push(Rc::downgrade(&token));
        Savepoint { token, undo: self.entries.borrow().len() }
    }

    /// Gives up the savepoints after this one, and returns what to undo, newest first. `None`: the savepoint is
    /// not, or no longer, one of this transaction.
    pub(super) fn back_to(&self, savepoint: &Savepoint) -> Option<Vec<Undo>> {
        let mut savepoints = self.savepoints.borrow_mut();
        let ours = |other: &Weak<()>| std::ptr::eq(other.as_ptr(), Rc::as_ptr(&savepoint.token));
        let position = savepoints.iter().position(ours)?;
        savepoints.truncate(position + 1);
        let mut entries = self.entries.borrow_mut();
        let first = savepoint.undo.min(entries.len());
        Some(entries.drain(first..).rev().collect())
    }
}
