//! Write transactions: a buffer of changes over the newest state, committed as one.

use crate::bytes::Bytes;
use crate::change::{Change, OwnedChange};
use crate::disk::format::TABLE_NAMES;
use crate::engine::Engine;
use crate::engine::buffer::Buffer;
use crate::engine::commit::Durability;
use crate::engine::open_store::OpenStore;
use crate::engine::streams::{Stream, Streams};
use crate::engine::table_row::TableEntry;
use crate::engine::view::View;
use crate::engine::writer_queue::WriterGuard;
use crate::error::{Error, LimitKind, Result};
use crate::txn::catalog::check_types;
use crate::txn::txn_table::Tables;
use crate::txn::undo::{Undo, UndoLog};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
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
    pub(crate) durability: Option<Durability>,
}

impl WriteOptions {
    /// What the handle was opened with: see [`Options::timeout`](crate::Options::timeout) and
    /// [`Options::durability`](crate::Options::durability).
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
        self.durability = Some(durability);
        self
    }
}

/// What a closure returned, and the LSN of its transaction; see [`Store::transact`](crate::Store::transact).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the closure returned.
    pub value: T,
    /// The LSN of the transaction, as [`WriteTxn::commit`] returns it.
    pub lsn: u64,
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
#[must_use = "a write transaction that is dropped is rolled back"]
pub struct WriteTxn {
    // The order matters: the turn and the pin are given back before the store may be left.
    turn: Option<WriterGuard>,
    streams: RefCell<Option<Streams>>,
    base: OnceCell<Arc<View>>,
    durability: Durability,
    pub(super) buffer: Buffer,
    pub(super) tables: Tables,
    pub(super) undo: UndoLog,
    store: Arc<OpenStore>,
    _this_thread: PhantomData<*const ()>,
}

impl Drop for WriteTxn {
    fn drop(&mut self) {
        // The pages that it streamed values to are free.
        drop(self.engine().take_up_streams(self.streams.take()));
        // After a commit the turn is gone. A panicking thread returns nothing that was read to its caller.
        if self.turn.is_some() && !std::thread::panicking() && self.engine().check_process().is_ok() {
            // The next write transaction gets the error.
            let _ = self.settle_reads();
        }
    }
}

shows! { self: WriteTxn { path: self.engine().path(), durability: self.durability } }

impl WriteTxn {
    pub(crate) fn begin(store: &Arc<OpenStore>, timeout: Duration, durability: Durability) -> Result<WriteTxn> {
        let engine = store.engine();
        let turn = engine.begin(Instant::now().checked_add(timeout)).map_err(|e| e.in_file(engine.path()))?;
        Ok(WriteTxn {
            turn: Some(turn),
            streams: RefCell::default(),
            base: OnceCell::new(),
            durability,
            buffer: Buffer::default(),
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
        if self.buffer.changes.get_mut().is_empty() {
            let settled = self.settle_reads();
            return self.in_file(settled.map(|()| engine.durable_lsn()));
        }
        loop {
            let done =
                engine.commit(&mut self.turn, self.streams.take(), self.buffer.changes.get_mut(), self.durability);
            if let Some(lsn) = self.in_file(done)? {
                return Ok(lsn);
            }
            // Reads what the names stand for now.
            self.in_file(self.base().map(drop))?;
        }
    }

    /// Discards all changes, as dropping does. If the transaction has read commits that are not durable yet, both
    /// wait until they are: what it told its caller must not be lost.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// tx.raw("t")?.put(b"k", b"v")?;
    /// tx.rollback();
    /// assert!(store.read()?.raw("t")?.is_empty()?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    pub fn rollback(self) {}

    /// Gives up the turn, and makes sure that every later reader sees what this transaction has read.
    fn settle_reads(&mut self) -> Result<()> {
        let engine = Arc::clone(self.store.engine());
        let failures = engine.failures(&engine.known_sidecar());
        self.turn = None;
        self.base.get().map_or(Ok(()), |base| engine.settle_reads(base.lsn, self.durability, &failures))
    }

    pub(super) fn in_file<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.in_file(self.engine().path()))
    }

    pub(super) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    fn turn(&self) -> Result<&WriterGuard> {
        self.turn.as_ref().ok_or_else(|| Error::Internal("the transaction has ended".to_owned()))
    }

    /// The state that this transaction builds on.
    pub(super) fn base(&self) -> Result<&View> {
        self.engine().check_process()?;
        if let Some(view) = self.base.get() {
            return Ok(view);
        }
        let view = self.engine().newest_view(self.turn()?)?;
        if self.buffer.changes.borrow().catalog_lsn.is_some() {
            self.settle_names(&view)?;
        }
        Ok(self.base.get_or_init(|| view))
    }

    /// Begins a long value that is written to its pages while this transaction runs.
    pub(super) fn stream(&self, len: u64) -> Result<Stream> {
        self.base()?;
        let engine = self.engine();
        engine.stream(self.turn()?, &mut self.streams.borrow_mut(), len, engine.deadline())
    }

    pub(super) fn has_base(&self) -> bool {
        self.base.get().is_some()
    }

    pub(crate) fn change_row(&self, table: u32, key: &[u8], write: Option<OwnedChange>) {
        let write = self.buffer.set(table, key, write);
        self.undo.note(|| Undo::Write { table, key: key.to_vec(), write });
    }

    /// Resolves the assumed names of tables in the state that this transaction builds on. If a name stands for
    /// another table, what was written goes to that table: nothing was read so far, so it would have gone there
    /// had that been known. An error changes nothing; the next call that needs the state, at the latest the
    /// commit, gets it again.
    ///
    /// So far this transaction consists only of tables opened by name for writing, and of their puts and deletes:
    /// everything else, a savepoint too, needs the state first.
    fn settle_names(&self, view: &View) -> Result<()> {
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
                self.set_name(&table.name(), &TableEntry::new(id, &table.types.0, &table.types.1));
            }
            moved.extend(table.id.replace(Some(id)).map(|assumed| (assumed, id)));
            by_id.insert(id, table);
        }
        let mut changes = self.buffer.changes.borrow_mut();
        changes.move_tables(&moved);
        changes.catalog_lsn = None;
        drop(self.tables.by_id.replace(by_id));
        Ok(())
    }

    /// An id that no table ever had, in the tree, in the log or in this transaction. It is not given again after
    /// going back to a savepoint.
    pub(super) fn next_id(&self, view: &View) -> Result<u32> {
        let id = self.tables.next_id.get().unwrap_or_else(|| view.first_free_id());
        if id == u32::MAX {
            return Err(Error::TooLarge { what: LimitKind::Tables, size: id.into(), limit: (id - 1).into() });
        }
        self.tables.next_id.set(Some(id + 1));
        Ok(id)
    }

    pub(super) fn set_name(&self, name: &str, row: &TableEntry) {
        self.change_row(TABLE_NAMES, name.as_bytes(), Some(Change::Put(Bytes::copied(&row.encode()))));
    }
}
