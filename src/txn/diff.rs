//! What differs between two states of a store.
//!
//! Tables are found to be the same by their ids, which are never used twice. The rows of a table differ where its
//! trees do (`tree::diff`, which reads no node that both have), and perhaps where the log of either state speaks
//! of a key: what it says there may have been applied since, or undone.

use crate::bytes::Bytes;
use crate::direction::Direction;
use crate::disk::format::{TABLE_NAMES, TreeRoot};
use crate::engine::Engine;
use crate::engine::merge::{MergeCursor, TableSource};
use crate::engine::table_row::{TableEntry, name_of_row};
use crate::engine::view::View;
use crate::error::{Error, Result};
use crate::tree::diff::{Difference, TreeDiff, Version};
use crate::tree::node::LeafValue;
use crate::txn::catalog::check_types;
use crate::txn::snapshot::Snapshot;
use crate::txn::table_name::TableName;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_set};
use std::iter::Peekable;
use std::ops::Bound;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// What differs between two states of one store: the tables, and in them the rows.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::TableChange;
///
/// store.write(|tx| tx.raw("notes")?.put(b"a", b"1"))?;
/// store.create_snapshot("before")?;
/// store.write(|tx| {
///     tx.raw("notes")?.put(b"a", b"2")?;
///     tx.raw("more")?.put(b"b", b"3")
/// })?;
///
/// let (before, now) = (store.snapshot("before")?, store.read()?);
/// let diff = before.diff(&now)?;
/// let names: Vec<_> = diff.tables().iter().map(|table| (table.name(), table.change())).collect();
/// assert_eq!(names, [("more", TableChange::Created), ("notes", TableChange::Rows)]);
/// let row = diff.tables()[1].rows()?.next().unwrap()?;
/// assert_eq!((&row.key[..], row.before.as_deref(), row.after.as_deref()), (&b"a"[..], Some(&b"1"[..]), Some(&b"2"[..])));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug)]
pub struct Diff<'s> {
    tables: Vec<TableDiff<'s>>,
}

/// How a table changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableChange {
    /// It exists only in the later state. Its rows, if any, are all new.
    Created,
    /// It exists only in the earlier state.
    Dropped,
    /// It has another name. Its rows may differ, too.
    Renamed,
    /// Rows of it differ.
    Rows,
}

/// A table that differs.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::TableChange;
/// store.write(|tx| tx.raw("t")?.bulk_load([("a", "1"), ("b", "2")]).map(drop))?;
/// let before = store.read()?;
/// store.write(|tx| {
///     tx.rename_table("t", "letters")?;
///     tx.raw("letters")?.delete(b"b")
/// })?;
/// let now = store.read()?;
/// let diff = before.diff(&now)?;
/// let table = diff.untyped("letters").unwrap();
/// assert_eq!((table.change(), table.name()), (TableChange::Renamed, "letters"));
/// assert_eq!((table.name_before(), table.name_after()), (Some("t"), Some("letters")));
/// assert_eq!(table.types(), ("bytes", "bytes"));
/// let rows = table.rows()?.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!((&*rows[0].key, rows[0].before.as_deref(), rows[0].after.as_deref()), (&b"b"[..], Some(&b"2"[..]), None));
/// # Ok::<(), memstone::Error>(())
/// ```
pub struct TableDiff<'s> {
    engine: &'s Engine,
    before: Option<Side<'s>>,
    after: Option<Side<'s>>,
}

/// A row that differs.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"1"))?;
/// let before = store.read()?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"2"))?;
/// let now = store.read()?;
/// let row = before.diff(&now)?.untyped("t").unwrap().rows()?.next().unwrap()?;
/// assert_eq!((row.key, row.before, row.after), (b"k".into(), Some(b"1".into()), Some(b"2".into())));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowChange<'s> {
    /// Its key.
    pub key: Bytes<'s>,
    /// Its value in the earlier state; `None` if it was not there.
    pub before: Option<Bytes<'s>>,
    /// Its value in the later state; `None` if it is not there.
    pub after: Option<Bytes<'s>>,
}

/// A table in one of the states.
#[derive(Clone)]
struct Side<'s> {
    view: &'s View,
    name: String,
    types: (String, String),
    id: u32,
    root: TreeRoot,
}

impl Snapshot {
    /// The differences between this state and a `later` one of the same store. It may be an earlier one as well:
    /// then tables reported as created were dropped since.
    ///
    /// The cost is that of the differences: parts that the trees of both states share are not read. In addition
    /// it reads the names of all tables, and looks up each key that the log of either state holds, which the
    /// log's cap bounds. Rows are found while the iteration asks for them, in key order. A table that was
    /// cleared, or replaced by one with the same types, is compared row by row.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// let before = store.read()?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let now = store.read()?;
    /// assert!(now.diff(&now)?.is_empty());
    /// assert_eq!(before.diff(&now)?.tables().len(), 1);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the two were not taken from the same open store, [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`].
    pub fn diff<'s>(&'s self, later: &'s Snapshot) -> Result<Diff<'s>> {
        if !Arc::ptr_eq(self.engine(), later.engine()) {
            return Err(Error::Invalid("the two states were not taken from the same open store".to_owned()));
        }
        self.in_file(Diff::between(self.engine(), self.view(), later.view()))
    }
}

impl<'s> Diff<'s> {
    pub(crate) fn between(engine: &'s Engine, before: &'s View, after: &'s View) -> Result<Diff<'s>> {
        engine.check_process()?;
        let (mut old, mut new) = (sides(before)?, sides(after)?);
        let mut pairs = Vec::new();
        let kept: Vec<u32> = old.keys().filter(|id| new.contains_key(id)).copied().collect();
        pairs.extend(kept.iter().map(|id| (old.remove(id), new.remove(id))));
        // A table that was cleared has another id.
        for (_, after) in new {
            let same = old.values().find(|before| before.name == after.name && before.types == after.types);
            let id = same.map(|before| before.id);
            pairs.push((id.and_then(|id| old.remove(&id)), Some(after)));
        }
        pairs.extend(old.into_values().map(|before| (Some(before), None)));
        let mut tables = Vec::new();
        for (before, after) in pairs {
            let table = TableDiff { engine, before, after };
            if table.change() != TableChange::Rows || table.rows()?.next().transpose()?.is_some() {
                tables.push(table);
            }
        }
        tables.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(Diff { tables })
    }

    /// The tables that differ, by name.
    #[must_use]
    pub fn tables(&self) -> &[TableDiff<'s>] {
        &self.tables
    }

    /// The rows of a table of these types; `None` if the table does not differ.
    pub(crate) fn rows_of(&self, name: &str, key_type: &str, value_type: &str) -> Result<Option<RowChanges<'s>>> {
        let Some(table) = self.untyped(name) else { return Ok(None) };
        check_types(name, (key_type, value_type), table.types())?;
        table.rows().map(Some)
    }

    /// What differs in a table; `None` if nothing does. Tables that differ are found by the name that
    /// [`TableDiff::name`] gives.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// let before = store.read()?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let now = store.read()?;
    /// let diff = before.diff(&now)?;
    /// assert_eq!(diff.untyped("t").unwrap().rows()?.count(), 1);
    /// assert!(diff.untyped("u").is_none());
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn untyped(&self, name: impl TableName) -> Option<&TableDiff<'s>> {
        self.tables.iter().find(|table| table.name() == name.table_name())
    }

    /// Whether there are no differences.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

/// The tables of a state, by id.
fn sides(view: &View) -> Result<BTreeMap<u32, Side<'_>>> {
    let names = TableSource::committed(view, TABLE_NAMES)?;
    let mut found = BTreeMap::new();
    let mut walk = MergeCursor::new(names, Direction::Forward, Bound::Unbounded)?;
    while let Some((name, row)) = walk.next()? {
        let (name, entry) = (name_of_row(&name)?, TableEntry::of_row(&name, &names.read(row)?)?);
        entry.check_flags(&name)?;
        let id = entry.id;
        let types = (entry.key_type.into(), entry.value_type.into());
        found.insert(id, Side { view, name, types, id, root: view.tree_root(id)? });
    }
    Ok(found)
}

impl<'s> TableDiff<'s> {
    /// How the table changed.
    #[must_use]
    pub fn change(&self) -> TableChange {
        match (&self.before, &self.after) {
            (None, _) => TableChange::Created,
            (_, None) => TableChange::Dropped,
            (Some(before), Some(after)) if before.name != after.name => TableChange::Renamed,
            _ => TableChange::Rows,
        }
    }

    /// Its name: in the later state, if it exists there.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name_after().or(self.name_before()).unwrap_or_default()
    }

    /// Its name in the earlier state; `None` if it did not exist.
    #[must_use]
    pub fn name_before(&self) -> Option<&str> {
        self.before.as_ref().map(|side| side.name.as_str())
    }

    /// Its name in the later state; `None` if it does not exist.
    #[must_use]
    pub fn name_after(&self) -> Option<&str> {
        self.after.as_ref().map(|side| side.name.as_str())
    }

    /// The names of the types of its keys and its values, as [`TableInfo`](crate::TableInfo) has them.
    #[must_use]
    pub fn types(&self) -> (&str, &str) {
        let side = self.after.as_ref().or(self.before.as_ref());
        side.map_or(("", ""), |side| (&side.types.0, &side.types.1))
    }

    /// The rows that differ, in key order. For a table that is in one of the states only, these are all its rows.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`]; so have the rows themselves.
    pub fn rows(&self) -> Result<RowChanges<'s>> {
        self.engine.check_process()?;
        let (before, after) = (self.before.clone(), self.after.clone());
        let versions = version(&before, &after).zip(version(&after, &before));
        let (old, new) = versions.ok_or_else(|| Error::Internal("a table of neither state".to_owned()))?;
        let in_tree = TreeDiff::new(old, new).map_err(|e| e.in_file(self.engine.path()))?;
        let keys: BTreeSet<Vec<u8>> = before.iter().chain(&after).flat_map(Side::logged_keys).collect();
        let logged = keys.into_iter().peekable();
        Ok(RowChanges { engine: self.engine, before, after, in_tree, ahead: None, logged, done: false })
    }
}

/// A table's tree in a state; if the table does not exist there, an empty tree in the pages of the other state.
fn version<'s>(side: &Option<Side<'s>>, other: &Option<Side<'s>>) -> Option<Version<'s>> {
    let of = side.as_ref().or(other.as_ref())?;
    let root = side.as_ref().map_or_else(TreeRoot::default, |side| side.root);
    let tree = &of.view.tree;
    Some(Version { pages: &tree.pages, table: of.id, root, page_count: tree.root.page_count })
}

impl<'s> Side<'s> {
    /// The keys of this table in the log of this state.
    fn logged_keys(&self) -> impl Iterator<Item = Vec<u8>> + 's {
        self.view.log_changes(self.id).map(|(key, _)| key.to_vec())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes<'s>>> {
        self.view.value(self.id, self.root, key)
    }

    fn read(&self, value: LeafValue<'s>) -> Result<Bytes<'s>> {
        value.read(&self.view.tree.pages, self.id)
    }
}

/// The rows of a table that differ, in key order. Ends after an error.
#[must_use = "an iterator does nothing unless it is asked for its rows"]
pub struct RowChanges<'s> {
    engine: &'s Engine,
    before: Option<Side<'s>>,
    after: Option<Side<'s>>,
    in_tree: TreeDiff<'s>,
    /// The next difference between the trees.
    ahead: Option<Difference<'s>>,
    /// The keys in either log.
    logged: Peekable<btree_set::IntoIter<Vec<u8>>>,
    done: bool,
}

impl<'s> RowChanges<'s> {
    fn step(&mut self) -> Result<Option<RowChange<'s>>> {
        self.engine.check_process()?;
        loop {
            if self.ahead.is_none() {
                self.ahead = self.in_tree.next()?;
            }
            let order = match (&self.ahead, self.logged.peek()) {
                (None, None) => return Ok(None),
                (Some(ahead), Some(logged)) => (*ahead.key).cmp(logged),
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
            };
            let change = if order.is_lt() { self.by_tree()? } else { self.by_log(order.is_eq())? };
            if let Some(change) = change.filter(|change| change.before != change.after) {
                return Ok(Some(change));
            }
        }
    }

    /// What the states hold for the next key of the logs, which the trees may hold, too.
    fn by_log(&mut self, in_tree: bool) -> Result<Option<RowChange<'s>>> {
        if in_tree {
            self.ahead = None;
        }
        let Some(key) = self.logged.next() else { return Ok(None) };
        let get = |side: &Option<Side<'s>>| side.as_ref().map_or(Ok(None), |side| side.get(&key));
        let (before, after) = (get(&self.before)?, get(&self.after)?);
        let len = key.len();
        Ok(Some(RowChange { key: Bytes::shared(Arc::from(key), 0..len), before, after }))
    }

    /// What the trees hold for the next key in which their pages differ.
    fn by_tree(&mut self) -> Result<Option<RowChange<'s>>> {
        let Some(Difference { key, before, after }) = self.ahead.take() else { return Ok(None) };
        if let (Some(LeafValue::Overflow(old)), Some(LeafValue::Overflow(new))) = (&before, &after)
            && old == new
        {
            return Ok(None);
        }
        let read = |side: &Option<Side<'s>>, value: Option<LeafValue<'s>>| {
            side.as_ref().zip(value).map(|(side, value)| side.read(value)).transpose()
        };
        let (before, after) = (read(&self.before, before)?, read(&self.after, after)?);
        Ok(Some(RowChange { key, before, after }))
    }
}

// They read two unchanged states.
impl UnwindSafe for RowChanges<'_> {}
impl RefUnwindSafe for RowChanges<'_> {}
impl UnwindSafe for TableDiff<'_> {}
impl RefUnwindSafe for TableDiff<'_> {}

shows! { self: RowChanges<'_> {} }

shows! { self: TableDiff<'_> { before: self.name_before(), after: self.name_after() } }

impl<'s> Iterator for RowChanges<'s> {
    type Item = Result<RowChange<'s>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().map_err(|e| e.in_file(self.engine.path()));
        self.done = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

impl std::iter::FusedIterator for RowChanges<'_> {}
