//! Which table a handle of a write transaction stands for.
//!
//! A table is one [`TxnTable`] for as long as the transaction runs, and a handle holds that, not a name. The
//! names table, with the transaction's own changes over it, says what a name stands for; the id found there leads
//! to the `TxnTable`. An id belongs to one table for ever, so that nothing here has to be undone but what
//! a `TxnTable` itself says.

use crate::disk::format::{FIRST_USER_TABLE, MAX_NAME_SIZE, TABLE_NAMES, TreeRoot};
use crate::engine::changes::Write;
use crate::engine::known_tables::KnownTable;
use crate::engine::view::{TableEntry, View, decode_name, encode_name};
use crate::error::{Error, Result};
use crate::log::memtable::Change;
use crate::txn::merge::TableSource;
use crate::txn::savepoint::Undo;
use crate::txn::table::check_types;
use crate::txn::write::WriteTxn;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A table as this transaction sees it, shared by all handles of it.
pub(crate) struct TxnTable {
    name: RefCell<Rc<str>>,
    types: (Box<str>, Box<str>),
    /// Where its content is, another one after it was cleared. None: there is no such table (any more).
    id: Cell<Option<u32>>,
    /// Its tree in the base; looked up when something is read.
    root: Cell<Option<TreeRoot>>,
}

impl TxnTable {
    pub(super) fn name(&self) -> Rc<str> {
        Rc::clone(&self.name.borrow())
    }

    fn id(&self) -> Result<u32> {
        self.id.get().ok_or_else(|| Error::NoTable { table: self.name().to_string() })
    }

    fn has_name(&self, name: &str) -> bool {
        self.id.get().is_some() && **self.name.borrow() == *name
    }

    fn check_types(&self, expected: (&str, &str)) -> Result<()> {
        check_types(&self.name.borrow(), expected, (&self.types.0, &self.types.1))
    }

    /// Takes a name and an id, and gives those it had.
    pub(super) fn replace(&self, name: Rc<str>, id: Option<u32>) -> (Rc<str>, Option<u32>) {
        self.root.set(None);
        (self.name.replace(name), self.id.replace(id))
    }
}

/// The tables that this transaction has come across. None is ever forgotten.
#[derive(Default)]
pub(super) struct Tables {
    by_id: RefCell<BTreeMap<u32, Rc<TxnTable>>>,
    /// Where a name led last. It still does if that table still has the name.
    by_name: RefCell<HashMap<Rc<str>, Rc<TxnTable>>>,
    /// The id that the next new table gets.
    next_id: Cell<Option<u32>>,
}

impl Tables {
    fn named(&self, name: &str) -> Option<Rc<TxnTable>> {
        self.by_name.borrow().get(name).filter(|table| table.has_name(name)).cloned()
    }

    /// The table of this id, which has this name.
    fn of(&self, name: &str, id: u32, types: (&str, &str)) -> Rc<TxnTable> {
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

impl WriteTxn {
    // Finding tables.

    /// What a name stands for in this transaction.
    pub(super) fn look_up(&self, name: &str) -> Result<Option<TableEntry>> {
        let view = self.base()?;
        let row = match self.buffered(TABLE_NAMES, name.as_bytes()) {
            None => return view.table(name),
            Some(Write::Delete) => return Ok(None),
            Some(Write::Put(row)) => decode_name(&row),
            Some(Write::PutOverflow(_)) => None,
        };
        let mut entry = row.ok_or_else(|| Error::Internal(format!("no row of the names table for {name:?}")))?;
        entry.root = view.tree_root(entry.id)?;
        Ok(Some(entry))
    }

    /// The table that has this name, whatever its types.
    pub(super) fn find(&self, name: &str) -> Result<Option<Rc<TxnTable>>> {
        let entry = self.look_up(name)?;
        Ok(entry.map(|entry| self.tables.of(name, entry.id, (&entry.key_type, &entry.value_type))))
    }

    /// The table that has this name, of these types. One that this process knows is not looked up: a transaction
    /// that only writes to such tables need not read what others have committed, unless that
    /// changed the set of tables.
    pub(super) fn open(&self, name: &str, types: (&str, &str)) -> Result<Option<Rc<TxnTable>>> {
        self.engine().check_process()?;
        check_name(name)?;
        let table = match self.tables.named(name) {
            Some(table) => Some(table),
            None => match self.assume(name) {
                Some(table) => Some(table),
                None => self.find_and_remember(name)?,
            },
        };
        table.as_ref().map_or(Ok(()), |table| table.check_types(types))?;
        Ok(table)
    }

    fn assume(&self, name: &str) -> Option<Rc<TxnTable>> {
        if self.has_base() {
            return None;
        }
        let (known, as_of) = self.engine().known_table(name)?;
        let catalog_lsn = &mut self.changes.borrow_mut().catalog_lsn;
        if catalog_lsn.is_some_and(|lsn| lsn != as_of) {
            return None;
        }
        *catalog_lsn = Some(as_of);
        Some(self.tables.of(name, known.id, (&known.key_type, &known.value_type)))
    }

    /// Only what was committed is remembered: before anything was read, this transaction cannot have made a table.
    fn find_and_remember(&self, name: &str) -> Result<Option<Rc<TxnTable>>> {
        let is_committed = !self.has_base();
        let entry = self.look_up(name)?;
        if is_committed && let Some(entry) = &entry {
            let (key_type, value_type) = (entry.key_type.clone(), entry.value_type.clone());
            self.engine().remember_table(name, &KnownTable { id: entry.id, key_type, value_type });
        }
        Ok(entry.map(|entry| self.tables.of(name, entry.id, (&entry.key_type, &entry.value_type))))
    }

    /// Sees what the names of the tables that were assumed stand for in the state that this transaction builds on.
    /// Where a name stands for another table, what was written goes to that one: nothing was read so far, so
    /// it would have gone there had that been known. An error changes nothing, and the caller that next asks for the
    /// state, the commit at the latest, gets it again.
    ///
    /// All that there is of this transaction so far is tables opened by their names for writing, and what was put
    /// into them or taken out of them: everything else, a savepoint too, begins with the state.
    pub(super) fn settle_names(&self, view: &View) -> Result<()> {
        let mut found = Vec::new();
        for table in self.tables.by_id.borrow().values() {
            let name = table.name();
            let (id, is_new) = match view.table(&name)? {
                Some(entry) => {
                    check_types(&name, (&table.types.0, &table.types.1), (&entry.key_type, &entry.value_type))?;
                    (entry.id, false)
                }
                None => (self.next_id(view)?, true),
            };
            found.push((Rc::clone(table), id, is_new));
        }
        let (mut moved, mut by_id) = (BTreeMap::new(), BTreeMap::new());
        for (table, id, is_new) in found {
            if is_new {
                self.set_name(&table.name(), id, &table.types);
            }
            moved.extend(table.id.replace(Some(id)).map(|assumed| (assumed, id)));
            by_id.insert(id, table);
        }
        let mut changes = self.changes.borrow_mut();
        changes.move_tables(&moved);
        changes.catalog_lsn = None;
        drop(self.tables.by_id.replace(by_id));
        Ok(())
    }

    // What handles of a table ask.

    /// Where the table is read.
    pub(super) fn ground(&self, table: &TxnTable) -> Result<TableSource<'_>> {
        // First, since it may show that the name stands for another table than was assumed.
        let view = self.base()?;
        let id = table.id()?;
        let root = match table.root.get() {
            Some(root) => root,
            None => view.tree_root(id)?,
        };
        table.root.set(Some(root));
        Ok(TableSource { view, txn: Some(self), table: id, root })
    }

    /// Where the table is read that has this name now; `None` if there is none.
    pub(super) fn ground_of_name(&self, name: &str, types: (&str, &str)) -> Result<Option<TableSource<'_>>> {
        let Some(TableEntry { id, key_type, value_type, root }) = self.look_up(name)? else { return Ok(None) };
        check_types(name, types, (&key_type, &value_type))?;
        Ok(Some(TableSource { view: self.base()?, txn: Some(self), table: id, root }))
    }

    /// Where the table is written.
    pub(super) fn id_of(&self, table: &TxnTable) -> Result<u32> {
        self.engine().check_process()?;
        table.id()
    }

    // Changing the set of tables. Whatever may fail comes before the first change.

    pub(super) fn create(&self, name: &str, types: (&str, &str)) -> Result<Rc<TxnTable>> {
        check_name(name)?;
        [types.0, types.1].into_iter().try_for_each(|name| check_size("type name", name))?;
        let id = self.next_id(self.base()?)?;
        let table = self.tables.of(name, id, types);
        self.undo.note(|| Undo::Table { table: Rc::clone(&table), name: table.name(), id: None });
        self.set_name(name, id, &table.types);
        Ok(table)
    }

    pub(super) fn remove(&self, table: &Rc<TxnTable>) -> Result<()> {
        let id = self.id_of(table)?;
        self.set(TABLE_NAMES, table.name().as_bytes(), Some(Write::Delete));
        self.drop_content(id);
        self.change(table, table.name(), None);
        Ok(())
    }

    pub(super) fn clear(&self, table: &Rc<TxnTable>) -> Result<()> {
        let view = self.base()?;
        let (old, new) = (self.id_of(table)?, self.next_id(view)?);
        self.set_name(&table.name(), new, &table.types);
        self.drop_content(old);
        self.change(table, table.name(), Some(new));
        self.tables.by_id.borrow_mut().insert(new, Rc::clone(table));
        Ok(())
    }

    /// The new name is free.
    pub(super) fn rename(&self, table: &Rc<TxnTable>, to: &str) -> Result<()> {
        check_name(to)?;
        let id = self.id_of(table)?;
        self.set(TABLE_NAMES, table.name().as_bytes(), Some(Write::Delete));
        self.set_name(to, id, &table.types);
        self.change(table, to.into(), Some(id));
        Ok(())
    }

    fn change(&self, table: &Rc<TxnTable>, name: Rc<str>, id: Option<u32>) {
        let (name, id) = table.replace(name, id);
        self.undo.note(|| Undo::Table { table: Rc::clone(table), name, id });
    }

    fn drop_content(&self, id: u32) {
        if self.changes.borrow_mut().dropped.insert(id) {
            self.undo.note(|| Undo::Content(id));
        }
    }

    fn set_name(&self, name: &str, id: u32, types: &(Box<str>, Box<str>)) {
        let row = encode_name(id, &types.0, &types.1);
        self.set(TABLE_NAMES, name.as_bytes(), Some(Write::Put(row.into())));
    }

    /// An id that no table ever had: neither in the tree, nor in the log, nor here. Going back to a savepoint
    /// does not give it to another one.
    fn next_id(&self, view: &View) -> Result<u32> {
        let id = self.tables.next_id.get().unwrap_or_else(|| first_free_id(view));
        if id == u32::MAX {
            return Err(Error::TooLarge { what: "number of tables", size: id.into(), limit: (id - 1).into() });
        }
        self.tables.next_id.set(Some(id + 1));
        Ok(id)
    }
}

fn first_free_id(view: &View) -> u32 {
    let mut next = view.tree.root.next_table.max(FIRST_USER_TABLE);
    for memtable in &view.memtables {
        let (touched, dropped) = memtable.tables();
        let most = touched.last().max(dropped.last()).copied().unwrap_or(0);
        next = next.max(most.saturating_add(1));
        for version in memtable.newest(TABLE_NAMES, view.lsn) {
            if let Change::Put(row) = &version.change
                && let Some(entry) = decode_name(row)
            {
                next = next.max(entry.id.saturating_add(1));
            }
        }
    }
    next
}

fn check_name(name: &str) -> Result<()> {
    check_size("table name", name)
}

/// Names that a row of the names table has room for.
fn check_size(what: &'static str, name: &str) -> Result<()> {
    if name.len() <= MAX_NAME_SIZE {
        return Ok(());
    }
    Err(Error::TooLarge { what, size: name.len() as u64, limit: MAX_NAME_SIZE as u64 })
}
