//! Snapshots: one committed state, for as long as it is held.

use crate::disk::format::TABLE_NAMES;
use crate::engine::Engine;
use crate::engine::merge::TableSource;
use crate::engine::open_store::OpenStore;
use crate::engine::stats::TableInfo;
use crate::engine::table_row::TableEntry;
use crate::engine::view::View;
use crate::error::{Error, Result};
use crate::txn::catalog::list_tables;
use crate::txn::table_name::TableName;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// One committed state of the store.
///
/// It is owned, cheap to clone, and may be sent to and shared between threads. Taking, using and dropping one
/// waits for no writer. It keeps the pages it needs from being reused, so do not hold one for ever. It also keeps
/// the store open: dropping the last handle, transaction or snapshot leaves the store (see
/// [`Store::close`](crate::Store::close)).
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// let before = store.read()?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// assert!(before.raw("t")?.get(b"k")?.is_none());
/// assert!(store.read()?.raw("t")?.get(b"k")?.is_some());
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::Table;
/// const NOTES: Table<&str, String> = Table::new("notes").schema("note", 1);
/// store.write(|tx| {
///     tx.table(NOTES)?.put("a", "hello")?;
///     tx.set_user_version(3)
/// })?;
/// let snapshot = store.read()?;
/// assert_eq!((snapshot.lsn(), snapshot.user_version()?), (store.last_commit()?, 3));
/// assert_eq!(snapshot.table_schema(NOTES)?, Some(("note".to_owned(), 1)));
/// let tables = snapshot.tables()?;
/// assert_eq!((tables[0].name.as_str(), tables[0].entries), ("notes", 1));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    // The order matters: the pin is released before the store may be left.
    view: Arc<View>,
    store: Arc<OpenStore>,
}

// What is shared with other handles stays whole in a panic; see `Store`.
impl UnwindSafe for Snapshot {}
impl RefUnwindSafe for Snapshot {}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("path", &self.engine().path()).field("lsn", &self.lsn()).finish()
    }
}

impl Snapshot {
    pub(crate) fn new(store: &Arc<OpenStore>) -> Result<Snapshot> {
        let engine = store.engine();
        let view = engine.snapshot().map_err(|e| e.in_file(engine.path()))?;
        Ok(Snapshot { view, store: Arc::clone(store) })
    }

    /// The state of a named snapshot.
    pub(crate) fn named(store: &Arc<OpenStore>, name: &str) -> Result<Snapshot> {
        let view = store.engine().named_view(name).map_err(|e| e.in_file(store.engine().path()))?;
        let store = Arc::clone(store);
        view.map(|view| Snapshot { view, store }).ok_or_else(|| Error::NoSnapshot { name: name.to_owned() })
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.store.engine()
    }

    pub(crate) fn in_file<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.in_file(self.store.engine().path()))
    }

    /// What this state says about a name. A forked child's snapshot would rest on its parent's pin.
    pub(super) fn entry(&self, name: &str) -> Result<Option<TableEntry>> {
        self.store.engine().check_process()?;
        self.in_file(self.view.table(name))
    }

    /// The LSN of the newest transaction that this state has. LSNs grow with each transaction; they
    /// are not always consecutive.
    #[must_use]
    #[expect(clippy::misnamed_getters, reason = "the view's own LSN may be that of a checkpoint record")]
    pub fn lsn(&self) -> u64 {
        self.view.last_commit
    }

    /// The names of the types of a table's keys and values, as [`TableInfo`] has them; `None` if there is no
    /// such table. Nothing is counted and no other table is read, unlike with [`Snapshot::tables`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// assert_eq!(store.read()?.table_types("t")?, Some(("bytes".to_owned(), "bytes".to_owned())));
    /// assert_eq!(store.begin_write()?.table_types("u")?, None);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Io`](crate::Error::Io).
    pub fn table_types(&self, name: impl TableName) -> Result<Option<(String, String)>> {
        let entry = self.entry(name.table_name())?;
        Ok(entry.map(|entry| (entry.key_type.into(), entry.value_type.into())))
    }

    /// All tables, by name.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn tables(&self) -> Result<Vec<TableInfo>> {
        self.store.engine().check_process()?;
        self.in_file(TableSource::committed(&self.view, TABLE_NAMES).and_then(list_tables))
    }
}
