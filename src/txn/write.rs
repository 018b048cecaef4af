//! Write transactions: a buffer of changes over the newest state, committed as one.

use crate::disk::format::{FIRST_USER_TABLE, MAX_NAME_SIZE, MAX_VALUE_SIZE, TABLE_NAMES, TreeRoot};
use crate::engine::Engine;
use crate::engine::changes::{Changes, Write};
use crate::engine::commit::Durability;
use crate::engine::queue::WriterTurn;
use crate::engine::stats::TableInfo;
use crate::engine::view::{KnownTable, TableEntry, View, decode_name, encode_name};
use crate::error::{Error, Result};
use crate::txn::merge::{Direction, Ground};
use crate::txn::savepoint::Undo;
use crate::txn::snapshot::{RAW_TYPES, list_tables};
use crate::txn::table::{RawTable, check_types};
use crate::txn::write_table::RawTableMut;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::ops::Bound;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a write transaction waits and commits.
///
/// ```
/// # use std::time::Duration;
/// use memstone::{Durability, WriteOptions};
/// let options = WriteOptions::new().timeout(Duration::from_secs(5)).durability(Durability::Relaxed);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) durability: Durability,
}

impl WriteOptions {
    /// The store's timeout, and full durability.
    #[must_use]
    pub fn new() -> WriteOptions {
        WriteOptions::default()
    }

    /// How long to wait for the turn to write.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> WriteOptions {
        self.timeout = Some(timeout);
        self
    }

    /// How durable the commit is when it returns.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> WriteOptions {
        self.durability = durability;
        self
    }
}

/// One write transaction.
///
/// It sees everything that was committed before it began, by any process, and its own changes; no
/// other transaction runs meanwhile. Dropped without [`WriteTxn::commit`] it leaves no trace. It stays
/// on the thread that began it.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// let tx = store.begin_write()?;
/// let table = tx.raw("counters")?;
/// let n: u64 = table.get(b"n")?.map_or(0, |v| u64::from_be_bytes(v[..].try_into().unwrap()));
/// table.put(b"n", &(n + 1).to_be_bytes())?;
/// tx.commit()?;
/// # Ok::<(), memstone::Error>(())
/// ```
pub struct WriteTxn {
    engine: Arc<Engine>,
    turn: Option<WriterTurn>,
    durability: Durability,
    base: OnceCell<Arc<View>>,
    pub(super) changes: RefCell<Changes>,
    /// Grows with each change of the buffer.
    pub(super) stamp: Cell<u64>,
    pub(super) tables: RefCell<HashMap<String, Rc<TxnTable>>>,
    /// The ids of tables that nothing was read of to find them; see [`Changes::assumes`].
    assumed: RefCell<HashMap<String, u32>>,
    next_table: Cell<Option<u32>>,
    /// What to undo, newest last; kept only while there is a savepoint.
    pub(super) undo: RefCell<Vec<Undo>>,
    pub(super) savepoints: RefCell<Vec<Weak<()>>>,
    _this_thread: PhantomData<*const ()>,
}

/// A table as this transaction sees it, shared by all handles of it.
pub(crate) struct TxnTable {
    pub(super) name: RefCell<String>,
    types: (String, String),
    /// Looked up when needed; forgotten when the transaction changes the set of tables.
    found: Cell<Option<Option<u32>>>,
    /// Its tree in the base; looked up when something is read.
    root: Cell<Option<TreeRoot>>,
    /// Whether the table is created if it is not there.
    pub(super) creates: Cell<bool>,
}

impl TxnTable {
    pub(super) fn forget(&self) {
        self.found.set(None);
        self.root.set(None);
    }
}

impl WriteTxn {
    pub(crate) fn begin(engine: &Arc<Engine>, options: WriteOptions) -> Result<WriteTxn> {
        let timeout = options.timeout.unwrap_or(engine.settings.timeout);
        let turn = engine.begin(Instant::now().checked_add(timeout)).map_err(|e| e.in_file(engine.path()))?;
        Ok(WriteTxn {
            engine: Arc::clone(engine),
            turn: Some(turn),
            durability: options.durability,
            base: OnceCell::new(),
            changes: RefCell::default(),
            stamp: Cell::new(0),
            tables: RefCell::default(),
            assumed: RefCell::default(),
            next_table: Cell::new(None),
            undo: RefCell::default(),
            savepoints: RefCell::default(),
            _this_thread: PhantomData,
        })
    }

    /// Makes all changes durable and visible, as one. Returns the transaction's LSN (that of the
    /// newest durable transaction, if nothing was changed).
    ///
    /// # Errors
    /// [`Error::Full`] if the disk is full, [`Error::Io`], [`Error::Corrupt`]: nothing was changed.
    /// [`Error::Unconfirmed`]: a flush failed, and whether this transaction will be found later is not known.
    pub fn commit(mut self) -> Result<u64> {
        let engine = Arc::clone(&self.engine);
        loop {
            let done = engine.commit(&mut self.turn, self.changes.get_mut(), self.durability);
            if let Some(lsn) = self.in_file(done)? {
                return Ok(lsn);
            }
            // Reads what the names stand for now.
            self.in_file(self.base().map(drop))?;
        }
    }

    /// Gives all changes up, as dropping does.
    pub fn rollback(self) {}

    // Tables.

    /// A table of bytes; it is created if it does not exist.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table was created with types, [`Error::TooLarge`] for too long
    /// a name.
    pub fn raw(&self, name: &str) -> Result<RawTableMut<'_>> {
        self.open_table(name, RAW_TYPES.0, RAW_TYPES.1)
    }

    /// A table of bytes, for reading. One that does not exist reads as an empty one and is not created.
    ///
    /// # Errors
    /// As [`WriteTxn::raw`].
    pub fn read_raw(&self, name: &str) -> Result<RawTable<'_>> {
        self.open_table_read(name, RAW_TYPES.0, RAW_TYPES.1)
    }

    pub(crate) fn open_table(&self, name: &str, key_type: &str, value_type: &str) -> Result<RawTableMut<'_>> {
        let table = self.handle(name, (key_type, value_type))?;
        table.creates.set(true);
        self.in_file(self.find(&table))?;
        Ok(RawTableMut::new(self, table))
    }

    pub(crate) fn open_table_read(&self, name: &str, key_type: &str, value_type: &str) -> Result<RawTable<'_>> {
        let table = self.handle(name, (key_type, value_type))?;
        self.in_file(self.find(&table))?;
        Ok(RawTable::of_txn(&self.engine, self, table))
    }

    /// Removes a table and all that is in it. `false` if there is none. Handles of it give
    /// [`Error::NoTable`] from then on.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn drop_table(&self, name: &str) -> Result<bool> {
        let Some(entry) = self.in_file(self.look_up(name))? else { return Ok(false) };
        self.set(TABLE_NAMES, name.as_bytes(), Some(Write::Delete));
        self.changes.borrow_mut().dropped.insert(entry.id);
        if let Some(table) = self.tables.borrow_mut().remove(name) {
            table.creates.set(false);
            table.forget();
        }
        self.forget_found();
        Ok(true)
    }

    /// Gives a table another name. Handles of it go on working.
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::TableExists`], [`Error::TooLarge`] for too long a name.
    pub fn rename_table(&self, from: &str, to: &str) -> Result<()> {
        check_name(to)?;
        let no_table = || Error::NoTable { table: from.to_owned() };
        let entry = self.in_file(self.look_up(from))?.ok_or_else(no_table)?;
        if from == to {
            return Ok(());
        }
        if self.in_file(self.look_up(to))?.is_some() {
            return Err(Error::TableExists { table: to.to_owned() });
        }
        let row = encode_name(entry.id, &entry.key_type, &entry.value_type);
        self.set(TABLE_NAMES, from.as_bytes(), Some(Write::Delete));
        self.set(TABLE_NAMES, to.as_bytes(), Some(Write::Put(row.into())));
        let mut tables = self.tables.borrow_mut();
        if let Some(table) = tables.remove(from) {
            to.clone_into(&mut table.name.borrow_mut());
            tables.insert(to.to_owned(), table);
        }
        drop(tables);
        self.forget_found();
        Ok(())
    }

    /// Removes everything in a table, at once, whatever its size. Nothing happens if there is no such table.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn clear_table(&self, name: &str) -> Result<()> {
        let Some(entry) = self.in_file(self.look_up(name))? else { return Ok(()) };
        self.changes.borrow_mut().dropped.insert(entry.id);
        self.create(name, &entry.key_type, &entry.value_type)?;
        self.forget_found();
        Ok(())
    }

    /// A table's bytes, whatever types it was created with: for tools that change any store. What is
    /// written must be as its types encode it (see [`AsKey`](crate::AsKey), [`Value`](crate::Value)).
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::Corrupt`], [`Error::Io`].
    pub fn bytes_of(&self, name: &str) -> Result<RawTableMut<'_>> {
        let entry = self.in_file(self.look_up(name))?.ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        self.open_table(name, &entry.key_type, &entry.value_type)
    }

    /// The types of a table as this transaction sees them; see [`Snapshot::table_types`](crate::Snapshot::table_types).
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn table_types(&self, name: &str) -> Result<Option<(String, String)>> {
        Ok(self.in_file(self.look_up(name))?.map(|entry| (entry.key_type.into(), entry.value_type.into())))
    }

    /// All tables, by name, as this transaction sees them.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn tables(&self) -> Result<Vec<TableInfo>> {
        let names = self.in_file(self.names())?;
        self.in_file(list_tables(names, |id, root| {
            let (name, types, creates) = (RefCell::default(), Default::default(), Cell::new(false));
            let (found, root) = (Cell::new(Some(Some(id))), Cell::new(Some(root)));
            let table = TxnTable { name, types, found, root, creates };
            RawTable::of_txn(&self.engine, self, Rc::new(table)).len()
        }))
    }

    // What the parts of this module use.

    pub(crate) fn in_file<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.in_file(self.engine.path()))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The state that this transaction builds on.
    fn base(&self) -> Result<&View> {
        if let Some(view) = self.base.get() {
            return Ok(view);
        }
        self.engine.check_process()?;
        let view = self.engine.newest_view()?;
        let view = self.base.get_or_init(|| view);
        if self.changes.borrow_mut().assumes.take().is_some() {
            self.check_assumed()?;
        }
        Ok(view)
    }

    /// Sees what the names of tables stand for in the state that this transaction builds on. Where a
    /// name stood for another table, what was written goes to the right one: nothing was read so far,
    /// so it would have gone there had that been known.
    fn check_assumed(&self) -> Result<()> {
        let mut moved = BTreeMap::new();
        // No savepoint undoes this.
        let undo = self.undo.borrow().len();
        for (name, assumed) in self.assumed.take() {
            // (One that is no longer here was given up with a savepoint, and all that was written to it.)
            let Some(table) = self.tables.borrow().get(&name).cloned() else { continue };
            table.forget();
            let is_written = self.changes.borrow().tables.get(&assumed).is_some_and(|keys| !keys.is_empty());
            let id = match self.look_up(&name)? {
                Some(entry) => {
                    check_types(&name, (&table.types.0, &table.types.1), (&entry.key_type, &entry.value_type))?;
                    entry.id
                }
                None if is_written => self.create(&name, &table.types.0, &table.types.1)?,
                None => continue,
            };
            if id != assumed {
                moved.insert(assumed, id);
            }
        }
        self.undo.borrow_mut().truncate(undo);
        self.changes.borrow_mut().move_tables(&moved);
        for undo in self.undo.borrow_mut().iter_mut() {
            undo.table = moved.get(&undo.table).copied().unwrap_or(undo.table);
        }
        Ok(())
    }

    fn names(&self) -> Result<Ground<'_>> {
        let view = self.base()?;
        Ok(Ground { view, txn: Some(self), table: TABLE_NAMES, root: view.tree_root(TABLE_NAMES)? })
    }

    fn look_up(&self, name: &str) -> Result<Option<TableEntry>> {
        let Some(row) = self.names()?.get(name.as_bytes())? else { return Ok(None) };
        let mut entry = decode_name(&row).ok_or_else(|| {
            Error::corrupt("names table", 0, None, "an id and two type names", format!("something else for {name:?}"))
        })?;
        entry.root = self.base()?.tree_root(entry.id)?;
        Ok(Some(entry))
    }

    /// A table's id and types. A transaction that only writes to tables that this process knows
    /// need not read what others have committed, unless that changed the set of tables.
    fn look_up_id(&self, name: &str) -> Result<Option<KnownTable>> {
        let may_be_known = self.base.get().is_none() && !self.changes.borrow().changes_tables();
        if may_be_known && let Some((known, as_of)) = self.engine.known_table(name) {
            let assumes = &mut self.changes.borrow_mut().assumes;
            if assumes.is_none_or(|lsn| lsn == as_of) {
                *assumes = Some(as_of);
                self.assumed.borrow_mut().insert(name.to_owned(), known.id);
                return Ok(Some(known));
            }
        }
        let entry = self.look_up(name)?;
        let known =
            entry.map(|entry| KnownTable { id: entry.id, key_type: entry.key_type, value_type: entry.value_type });
        if may_be_known && let Some(known) = &known {
            self.engine.remember_table(name, known);
        }
        Ok(known)
    }

    fn handle(&self, name: &str, types: (&str, &str)) -> Result<Rc<TxnTable>> {
        check_name(name)?;
        if let Some(table) = self.tables.borrow().get(name) {
            check_types(name, types, (&table.types.0, &table.types.1))?;
            return Ok(Rc::clone(table));
        }
        let known = self.in_file(self.look_up_id(name))?;
        if let Some(entry) = &known {
            check_types(name, types, (&entry.key_type, &entry.value_type))?;
        }
        let table = Rc::new(TxnTable {
            name: RefCell::new(name.to_owned()),
            types: (types.0.to_owned(), types.1.to_owned()),
            found: Cell::new(Some(known.map(|known| known.id))),
            root: Cell::new(None),
            creates: Cell::new(false),
        });
        self.tables.borrow_mut().insert(name.to_owned(), Rc::clone(&table));
        Ok(table)
    }

    fn find(&self, table: &TxnTable) -> Result<Option<u32>> {
        if let Some(found) = table.found.get()
            && (found.is_some() || !table.creates.get())
        {
            return Ok(found);
        }
        let name = table.name.borrow().clone();
        let mut found = self.look_up_id(&name)?.map(|known| known.id);
        if found.is_none() && table.creates.get() {
            found = Some(self.create(&name, &table.types.0, &table.types.1)?);
        }
        table.found.set(Some(found));
        Ok(found)
    }

    pub(crate) fn ground(&self, table: &TxnTable) -> Result<Option<Ground<'_>>> {
        // First, since it may show that the name stands for another table than was assumed.
        let view = self.base()?;
        let Some(id) = self.in_file(self.find(table))? else { return Ok(None) };
        let root = match table.root.get() {
            Some(root) => root,
            None => self.in_file(view.tree_root(id))?,
        };
        table.root.set(Some(root));
        Ok(Some(Ground { view, txn: Some(self), table: id, root }))
    }

    /// The table's id, for writing.
    pub(crate) fn id_of(&self, table: &TxnTable) -> Result<u32> {
        let found = self.in_file(self.find(table))?;
        found.ok_or_else(|| Error::NoTable { table: table.name.borrow().clone() })
    }

    pub(crate) fn name_of(&self, table: &TxnTable) -> String {
        table.name.borrow().clone()
    }

    fn forget_found(&self) {
        for table in self.tables.borrow().values() {
            table.forget();
        }
    }

    fn create(&self, name: &str, key_type: &str, value_type: &str) -> Result<u32> {
        let id = self.next_id()?;
        let row = encode_name(id, key_type, value_type);
        self.set(TABLE_NAMES, name.as_bytes(), Some(Write::Put(row.into())));
        Ok(id)
    }

    /// An id that no table ever had: neither in the tree, nor in the log, nor here.
    fn next_id(&self) -> Result<u32> {
        let id = match self.next_table.get() {
            Some(id) => id,
            None => {
                let view = self.base()?;
                let mut next = view.tree.root.next_table.max(FIRST_USER_TABLE);
                for generation in &view.generations {
                    let (touched, dropped) = generation.tables();
                    let most = touched.last().max(dropped.last()).copied().unwrap_or(0);
                    next = next.max(most.saturating_add(1));
                    for version in generation.newest(TABLE_NAMES, view.lsn) {
                        if let crate::log::index::Change::Put(row) = &version.change
                            && let Some(entry) = decode_name(row)
                        {
                            next = next.max(entry.id.saturating_add(1));
                        }
                    }
                }
                next
            }
        };
        if id == u32::MAX {
            return Err(Error::TooLarge { what: "number of tables", size: id.into(), limit: (id - 1).into() });
        }
        self.next_table.set(Some(id + 1));
        Ok(id)
    }

    // The buffer.

    pub(crate) fn stamp(&self) -> u64 {
        self.stamp.get()
    }

    pub(crate) fn set(&self, table: u32, key: &[u8], write: Option<Write>) {
        self.stamp.set(self.stamp.get() + 1);
        let old = self.changes.borrow_mut().set(table, key, write);
        if self.savepoints.borrow().iter().any(|savepoint| savepoint.strong_count() > 0) {
            self.undo.borrow_mut().push(Undo { table, key: key.to_vec(), write: old });
        }
    }

    pub(crate) fn put_bytes(&self, table: &TxnTable, key: &[u8], value: &[u8]) -> Result<()> {
        Engine::check_key(key)?;
        if value.len() as u64 > MAX_VALUE_SIZE {
            return Err(Error::TooLarge { what: "value", size: value.len() as u64, limit: MAX_VALUE_SIZE });
        }
        let id = self.id_of(table)?;
        self.set(id, key, Some(Write::Put(value.into())));
        Ok(())
    }

    pub(crate) fn buffered(&self, table: u32, key: &[u8]) -> Option<Write> {
        self.changes.borrow().get(table, key).cloned()
    }

    pub(crate) fn buffered_next(
        &self,
        table: u32,
        direction: Direction,
        from: Bound<&[u8]>,
    ) -> Option<(Vec<u8>, Write)> {
        let changes = self.changes.borrow();
        let keys = changes.tables.get(&table)?;
        let found = match direction {
            Direction::Forward => keys.range::<[u8], _>((from, Bound::Unbounded)).next(),
            Direction::Backward => keys.range::<[u8], _>((Bound::Unbounded, from)).next_back(),
        };
        found.map(|(key, write)| (key.clone(), write.clone()))
    }

    /// The keys in the buffer, and whether they are there after this transaction.
    pub(crate) fn buffered_keys(&self, table: u32) -> Vec<(Vec<u8>, bool)> {
        let changes = self.changes.borrow();
        let keys = changes.tables.get(&table).into_iter().flatten();
        keys.map(|(key, write)| (key.clone(), !matches!(write, Write::Delete))).collect()
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.len() <= MAX_NAME_SIZE {
        return Ok(());
    }
    Err(Error::TooLarge { what: "table name", size: name.len() as u64, limit: MAX_NAME_SIZE as u64 })
}
