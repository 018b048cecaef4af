//! Write transactions: a buffer of changes over the newest state, committed as one.

use crate::disk::format::{MAX_VALUE_SIZE, TABLE_NAMES};
use crate::engine::Engine;
use crate::engine::changes::{Changes, Write};
use crate::engine::commit::Durability;
use crate::engine::file::check_key;
use crate::engine::open_store::OpenStore;
use crate::engine::stats::TableInfo;
use crate::engine::view::View;
use crate::engine::writer_queue::WriterGuard;
use crate::error::{Error, Result};
use crate::txn::merge::{Direction, TableSource};
use crate::txn::savepoint::{Undo, UndoLog};
use crate::txn::snapshot::{RAW_TYPES, list_tables};
use crate::txn::table::RawTable;
use crate::txn::tables::{Tables, TxnTable};
use crate::txn::write_table::RawTableMut;
use std::cell::{Cell, OnceCell, RefCell};
use std::marker::PhantomData;
use std::ops::Bound;
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
/// on the thread that began it, and keeps the store open.
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
    // The order matters: the turn and the pin are given back before the store may be left.
    turn: Option<WriterGuard>,
    base: OnceCell<Arc<View>>,
    durability: Durability,
    pub(super) changes: RefCell<Changes>,
    /// Grows with each change of the buffer.
    pub(super) stamp: Cell<u64>,
    pub(super) tables: Tables,
    pub(super) undo: UndoLog,
    store: Arc<OpenStore>,
    _this_thread: PhantomData<*const ()>,
}

impl Drop for WriteTxn {
    fn drop(&mut self) {
        // After a commit the turn is gone. A thread that panics tells its caller nothing of what was read.
        if self.turn.is_some() && !std::thread::panicking() && self.engine().check_process().is_ok() {
            // A failure is told to the next who writes.
            let _ = self.settle_reads();
        }
    }
}

impl WriteTxn {
    pub(crate) fn begin(store: &Arc<OpenStore>, options: WriteOptions) -> Result<WriteTxn> {
        let engine = store.engine();
        let timeout = options.timeout.unwrap_or(engine.settings.timeout);
        let turn = engine.begin(Instant::now().checked_add(timeout)).map_err(|e| e.in_file(engine.path()))?;
        Ok(WriteTxn {
            turn: Some(turn),
            base: OnceCell::new(),
            durability: options.durability,
            changes: RefCell::default(),
            stamp: Cell::new(0),
            tables: Tables::default(),
            undo: UndoLog::default(),
            store: Arc::clone(store),
            _this_thread: PhantomData,
        })
    }

    /// Makes all changes durable and visible, as one. Returns the transaction's LSN (that of the
    /// newest durable transaction, if nothing was changed).
    ///
    /// # Errors
    /// [`Error::Full`] if the disk is full, [`Error::Io`], [`Error::Corrupt`], [`Error::TypeMismatch`] if a table
    /// that this transaction has written to turns out to have other types by now: nothing was changed.
    /// [`Error::Unconfirmed`]: a flush failed, and whether this transaction will be found later is not known
    /// ([`Error::is_outcome_unknown`]): look before you do it again.
    pub fn commit(mut self) -> Result<u64> {
        let engine = Arc::clone(self.store.engine());
        if self.changes.get_mut().is_empty() {
            let settled = self.settle_reads();
            return self.in_file(settled.map(|()| engine.durable_lsn()));
        }
        loop {
            let done = engine.commit(&mut self.turn, self.changes.get_mut(), self.durability);
            if let Some(lsn) = self.in_file(done)? {
                return Ok(lsn);
            }
            // Reads what the names stand for now.
            self.in_file(self.base().map(drop))?;
        }
    }

    /// Gives all changes up, as dropping does. If the transaction has read what others committed a moment
    /// ago, both wait until that is durable: what it told its caller must not be lost.
    pub fn rollback(self) {}

    /// Gives the turn back, and sees to it that what was read will be seen by all who look later.
    fn settle_reads(&mut self) -> Result<()> {
        let engine = Arc::clone(self.store.engine());
        let failures = engine.failures(&engine.known_sidecar());
        self.turn = None;
        self.base.get().map_or(Ok(()), |base| engine.settle_reads(base.lsn, self.durability, &failures))
    }

    // Tables.

    /// A table of bytes; it is created if it does not exist.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if the table was created with types, [`Error::TooLarge`] for a name of the table, or of a
    /// type, of more than [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE) bytes.
    pub fn raw(&self, name: &str) -> Result<RawTableMut<'_>> {
        self.open_table(name, RAW_TYPES.0, RAW_TYPES.1)
    }

    /// A table of bytes, for reading. If there is none it is not created: the handle reads as an empty table
    /// as long as there is none of that name, and then as the one that has the name.
    ///
    /// # Errors
    /// As [`WriteTxn::raw`].
    pub fn read_raw(&self, name: &str) -> Result<RawTable<'_>> {
        self.open_table_read(name, RAW_TYPES.0, RAW_TYPES.1)
    }

    pub(crate) fn open_table(&self, name: &str, key_type: &str, value_type: &str) -> Result<RawTableMut<'_>> {
        let table = match self.in_file(self.open(name, (key_type, value_type)))? {
            Some(table) => table,
            None => self.in_file(self.create(name, (key_type, value_type)))?,
        };
        Ok(RawTableMut::new(self, table))
    }

    pub(crate) fn open_table_read(&self, name: &str, key_type: &str, value_type: &str) -> Result<RawTable<'_>> {
        let types = (key_type, value_type);
        // Read now, and not only by the first read: a table that is assumed may turn out to be none.
        let table = self.in_file(self.base().and_then(|_| self.open(name, types)))?;
        Ok(match table {
            Some(table) => RawTable::of_txn(self, table),
            None => RawTable::of_name(self, name, types),
        })
    }

    /// Removes a table and all that is in it. `false` if there is none. Handles of it give
    /// [`Error::NoTable`] from then on, also when another table takes its name.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn drop_table(&self, name: &str) -> Result<bool> {
        let Some(table) = self.in_file(self.find(name))? else { return Ok(false) };
        self.remove(&table)?;
        Ok(true)
    }

    /// Gives a table another name. Handles of it go on working.
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::TableExists`], [`Error::TooLarge`] for too long a name.
    pub fn rename_table(&self, from: &str, to: &str) -> Result<()> {
        let table = self.in_file(self.find(from))?.ok_or_else(|| Error::NoTable { table: from.to_owned() })?;
        if from == to {
            return Ok(());
        }
        if self.in_file(self.find(to))?.is_some() {
            return Err(Error::TableExists { table: to.to_owned() });
        }
        self.rename(&table, to)
    }

    /// Removes everything in a table, at once, whatever its size. Handles of it go on working. Nothing
    /// happens if there is no such table.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn clear_table(&self, name: &str) -> Result<()> {
        self.in_file(self.find(name))?.map_or(Ok(()), |table| self.in_file(self.clear(&table)))
    }

    /// A table's bytes, whatever types it was created with: for tools that change any store. What is
    /// written must be as its types encode it (see [`AsKey`](crate::AsKey), [`Value`](crate::Value)).
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::Corrupt`], [`Error::Io`].
    pub fn bytes_of(&self, name: &str) -> Result<RawTableMut<'_>> {
        let table = self.in_file(self.find(name))?.ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        Ok(RawTableMut::new(self, table))
    }

    /// The same as a table with these names of types; it is created if it does not exist: for tools that make any
    /// store. The names are as [`Key::type_name`](crate::Key::type_name) and
    /// [`Value::type_name`](crate::Value::type_name) give them.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.bytes_as("notes", "str", "msgpack")?.put(b"k", b"\x07"))?;
    /// assert_eq!(store.read()?.table(memstone::Table::<&str, u8>::new("notes"))?.get("k")?, Some(7));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`WriteTxn::raw`].
    pub fn bytes_as(&self, name: &str, key_type: &str, value_type: &str) -> Result<RawTableMut<'_>> {
        self.open_table(name, key_type, value_type)
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
        self.in_file(self.names().and_then(list_tables))
    }

    // What the parts of this module use.

    pub(super) fn in_file<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.in_file(self.engine().path()))
    }

    pub(super) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    /// The state that this transaction builds on.
    pub(super) fn base(&self) -> Result<&View> {
        self.engine().check_process()?;
        if let Some(view) = self.base.get() {
            return Ok(view);
        }
        let view = self.engine().newest_view()?;
        if self.changes.borrow().catalog_lsn.is_some() {
            self.settle_names(&view)?;
        }
        Ok(self.base.get_or_init(|| view))
    }

    pub(super) fn has_base(&self) -> bool {
        self.base.get().is_some()
    }

    fn names(&self) -> Result<TableSource<'_>> {
        let view = self.base()?;
        Ok(TableSource { view, txn: Some(self), table: TABLE_NAMES, root: view.tree_root(TABLE_NAMES)? })
    }

    // The buffer.

    pub(crate) fn stamp(&self) -> u64 {
        self.stamp.get()
    }

    pub(crate) fn set(&self, table: u32, key: &[u8], write: Option<Write>) {
        self.stamp.set(self.stamp.get() + 1);
        let write = self.changes.borrow_mut().set(table, key, write);
        self.undo.note(|| Undo::Write { table, key: key.to_vec(), write });
    }

    pub(crate) fn put_bytes(&self, table: &TxnTable, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key)?;
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
