//! Snapshots: one committed state, for as long as it is held.

use crate::disk::format::TABLE_NAMES;
use crate::engine::Engine;
use crate::engine::open_store::OpenStore;
use crate::engine::stats::TableInfo;
use crate::engine::view::{TableEntry, View, decode_name};
use crate::error::{Error, Result};
use crate::txn::merge::{Direction, MergeCursor, TableSource};
use crate::txn::table::{RawTable, check_types, count};
use std::ops::Bound;
use std::sync::Arc;

/// The types that a table of bytes is recorded with.
pub(crate) const RAW_TYPES: (&str, &str) = ("bytes", "bytes");

/// One committed state of the store.
///
/// It is owned, cheap to clone, and may be sent to and shared between threads. Taking, using and
/// dropping one waits for nobody. It keeps the pages it needs from being reused, so do not
/// hold one for ever. It also keeps the store open: the last handle, transaction or snapshot
/// to go leaves it (see [`Store::close`](crate::Store::close)).
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
#[derive(Clone)]
pub struct Snapshot {
    // The order matters: the pin is given back before the store may be left.
    view: Arc<View>,
    store: Arc<OpenStore>,
}

impl Snapshot {
    pub(crate) fn new(store: &Arc<OpenStore>) -> Result<Snapshot> {
        let engine = store.engine();
        let view = engine.snapshot().map_err(|e| e.in_file(engine.path()))?;
        Ok(Snapshot { view, store: Arc::clone(store) })
    }

    /// The state that a name stands for.
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

    /// What this state says of a name. A forked child's snapshot rests on a pin of its parent's.
    fn entry(&self, name: &str) -> Result<Option<TableEntry>> {
        self.store.engine().check_process()?;
        self.in_file(self.view.table(name))
    }

    fn table_of(&self, entry: Option<TableEntry>) -> RawTable<'_> {
        RawTable::of_snapshot(self.store.engine(), &self.view, entry.map(|entry| (entry.id, entry.root)))
    }

    /// The LSN of the newest transaction that this state has. LSNs grow with each transaction; they
    /// are not always consecutive.
    #[must_use]
    #[expect(clippy::misnamed_getters, reason = "the view's own LSN may be that of a checkpoint's mark")]
    pub fn lsn(&self) -> u64 {
        self.view.last_commit
    }

    /// A table's bytes, whatever types it was created with. One that does not exist reads as an empty one.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn raw(&self, name: &str) -> Result<RawTable<'_>> {
        Ok(self.table_of(self.entry(name)?))
    }

    pub(crate) fn open_table(&self, name: &str, key_type: &str, value_type: &str) -> Result<RawTable<'_>> {
        let entry = self.entry(name)?;
        if let Some(entry) = &entry {
            check_types(name, (key_type, value_type), (&entry.key_type, &entry.value_type))?;
        }
        Ok(self.table_of(entry))
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
    pub fn table_types(&self, name: &str) -> Result<Option<(String, String)>> {
        let entry = self.entry(name)?;
        Ok(entry.map(|entry| (entry.key_type.into(), entry.value_type.into())))
    }

    /// All tables, by name.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn tables(&self) -> Result<Vec<TableInfo>> {
        self.store.engine().check_process()?;
        let names = self.in_file(self.view.tree_root(TABLE_NAMES))?;
        self.in_file(list_tables(TableSource { view: &self.view, txn: None, table: TABLE_NAMES, root: names }))
    }
}

/// All tables, by the rows of the names table.
pub(crate) fn list_tables(names: TableSource<'_>) -> Result<Vec<TableInfo>> {
    let mut tables = Vec::new();
    let mut walk = MergeCursor::new(names, Direction::Forward, Bound::Unbounded)?;
    while let Some((name, found)) = walk.next()? {
        let row = names.read(found)?;
        // Copied before it is called a string: see `ReadMap`.
        let name = String::from_utf8(name.to_vec());
        let name = name.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        let Some(entry) = decode_name(&row) else {
            let found = format!("something else for {name:?}");
            return Err(Error::corrupt("names table", 0, None, "an id and two type names", found));
        };
        let entries = count(&TableSource { table: entry.id, root: names.view.tree_root(entry.id)?, ..names })?;
        let (key_type, value_type) = (entry.key_type.into(), entry.value_type.into());
        tables.push(TableInfo { name, key_type, value_type, entries });
    }
    Ok(tables)
}
