//! A table in a write transaction: one for as long as the transaction runs, whatever its name.
//!
//! The names table, with the transaction's own changes over it, says which table id a name stands for; the id
//! leads to the `TxnTable`. An id belongs to one table for ever, so a savepoint has nothing to undo here except
//! the fields of a `TxnTable`.

use crate::disk::format::TreeRoot;
use crate::error::{Error, Result};
use crate::txn::catalog::check_types;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A table as this transaction sees it, shared by all handles of it.
pub(crate) struct TxnTable {
    name: RefCell<Rc<str>>,
    pub(super) types: (Box<str>, Box<str>),
    /// The id of its content, which changes when the table is cleared. `None`: there is no such table, or no
    /// longer.
    pub(super) id: Cell<Option<u32>>,
    /// Its tree in the base; looked up when something is read.
    pub(super) root: Cell<Option<TreeRoot>>,
}

impl TxnTable {
    pub(super) fn name(&self) -> Rc<str> {
        Rc::clone(&self.name.borrow())
    }

    pub(super) fn id(&self) -> Result<u32> {
        self.id.get().ok_or_else(|| Error::NoTable { table: self.name().to_string() })
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.id.get().is_some() && **self.name.borrow() == *name
    }

    pub(super) fn check_types(&self, expected: (&str, &str)) -> Result<()> {
        check_types(&self.name.borrow(), expected, (&self.types.0, &self.types.1))
    }

    /// Sets name and id, and returns the previous ones.
    pub(super) fn replace(&self, name: Rc<str>, id: Option<u32>) -> (Rc<str>, Option<u32>) {
        self.root.set(None);
        (self.name.replace(name), self.id.replace(id))
    }
}

/// A table that may come later: a name, and the types and the schema that the table must have.
pub(super) struct ExpectedTable {
    pub(super) name: Box<str>,
    pub(super) types: (Box<str>, Box<str>),
    /// `None`: any.
    pub(super) schema: Option<(Box<str>, u64)>,
}

/// The tables that this transaction has used. None is ever removed.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) by_id: RefCell<BTreeMap<u32, Rc<TxnTable>>>,
    /// The table that a name led to last. It still does if that table still has the name.
    by_name: RefCell<HashMap<Rc<str>, Rc<TxnTable>>>,
    /// The id that the next new table gets.
    pub(super) next_id: Cell<Option<u32>>,
}

impl Tables {
    pub(super) fn named(&self, name: &str) -> Option<Rc<TxnTable>> {
        self.by_name.borrow().get(name).filter(|table| table.has_name(name)).cloned()
    }

    /// The table of this id, which has this name.
    pub(super) fn of(&self, name: &str, id: u32, types: (&str, &str)) -> Rc<TxnTable> {
        let name: Rc<str> = name.into();
        let mut by_id = self.by_id.borrow_mut();
        let table = by_id.entry(id).or_insert_with(|| {
            let types = (types.0.into(), types.1.into());
            let (name, id) = (RefCell::new(Rc::clone(&name)), Cell::new(Some(id)));
            Rc::new(TxnTable { name, types, id, root: Cell::new(None) })
        });
        self.by_name.borrow_mut().insert(name, Rc::clone(table));
        Rc::clone(table)
    }
}
