//! Reading a table of bytes, in a snapshot or in a write transaction.

use crate::bytes::Bytes;
use crate::disk::format::TreeRoot;
use crate::engine::Engine;
use crate::engine::file::check_key;
use crate::engine::view::View;
use crate::error::{Error, Result};
use crate::log::memtable::Change;
use crate::txn::merge::TableSource;
use crate::txn::range::{Entry, RawRange};
use crate::txn::tables::TxnTable;
use crate::txn::write::WriteTxn;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::rc::Rc;

/// A table of bytes, for reading.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     let table = tx.raw("notes")?;
///     table.put(b"a", b"1")?;
///     table.put(b"b", b"2")
/// })?;
/// let snapshot = store.read()?;
/// let notes = snapshot.raw("notes")?;
/// assert_eq!(notes.get(b"a")?.unwrap(), b"1");
/// assert_eq!(notes.len()?, 2);
/// let (key, _) = notes.last()?.unwrap();
/// assert_eq!(key, b"b");
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Clone)]
pub struct RawTable<'s> {
    engine: &'s Engine,
    source: Source<'s>,
}

#[derive(Clone)]
enum Source<'s> {
    /// A table that there is in a snapshot, or none.
    Snapshot {
        view: &'s View,
        table: Option<(u32, TreeRoot)>,
    },
    Txn {
        txn: &'s WriteTxn,
        table: Rc<TxnTable>,
    },
    /// Whatever table has this name.
    Name {
        txn: &'s WriteTxn,
        name: Rc<Name>,
    },
}

struct Name {
    name: Box<str>,
    types: (Box<str>, Box<str>),
}

impl<'s> RawTable<'s> {
    pub(super) fn of_snapshot(engine: &'s Engine, view: &'s View, table: Option<(u32, TreeRoot)>) -> RawTable<'s> {
        RawTable { engine, source: Source::Snapshot { view, table } }
    }

    pub(super) fn of_txn(txn: &'s WriteTxn, table: Rc<TxnTable>) -> RawTable<'s> {
        RawTable { engine: txn.engine(), source: Source::Txn { txn, table } }
    }

    pub(super) fn of_name(txn: &'s WriteTxn, name: &str, types: (&str, &str)) -> RawTable<'s> {
        let name = Rc::new(Name { name: name.into(), types: (types.0.into(), types.1.into()) });
        RawTable { engine: txn.engine(), source: Source::Name { txn, name } }
    }

    /// Where it is read; `None`: it is empty, since there is no such table. Every read comes by here.
    pub(super) fn ground(&self) -> Result<Option<TableSource<'s>>> {
        let ground = match &self.source {
            Source::Snapshot { view, table } => {
                // In a forked child the pin is the parent's, and what it protects may be gone.
                self.engine.check_process()?;
                return Ok(table.map(|(table, root)| TableSource { view, txn: None, table, root }));
            }
            Source::Txn { txn, table } => txn.ground(table).map(Some),
            Source::Name { txn, name } => txn.ground_of_name(&name.name, (&name.types.0, &name.types.1)),
        };
        self.in_file(ground)
    }

    pub(super) fn in_file<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.in_file(self.engine.path()))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a key beyond the limit, [`Error::Corrupt`] for damage, [`Error::Io`],
    /// [`Error::NoTable`] if this transaction dropped the table, [`Error::Forked`] in a forked child.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes<'s>>> {
        check_key(key)?;
        let Some(ground) = self.ground()? else { return Ok(None) };
        self.in_file(ground.get(key))
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        check_key(key)?;
        let Some(ground) = self.ground()? else { return Ok(false) };
        self.in_file(ground.contains(key))
    }

    /// The number of entries. Takes as long as there are keys of this table in the log, which its
    /// cap bounds.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn len(&self) -> Result<u64> {
        let Some(ground) = self.ground()? else { return Ok(0) };
        self.in_file(count(&ground))
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// As [`RawTable::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.first()?.is_none())
    }

    /// The entry with the least key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn first(&self) -> Result<Option<Entry<'s>>> {
        self.range(Bound::Unbounded, Bound::Unbounded)?.next().transpose()
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn last(&self) -> Result<Option<Entry<'s>>> {
        self.range(Bound::Unbounded, Bound::Unbounded)?.next_back().transpose()
    }

    /// The entries between two bounds, in key order.
    ///
    /// # Errors
    /// None so far: those of [`RawTable::get`] come with the entries.
    pub fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<RawRange<'s>> {
        Ok(RawRange::new(self.clone(), from, to))
    }

    /// The entries whose keys start with `prefix`, in key order.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn prefix(&self, prefix: &[u8]) -> Result<RawRange<'s>> {
        let end = after_prefix(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.range(Bound::Included(prefix), to)
    }
}

/// The least key greater than all that start with `prefix`; `None` if there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// The number of entries. The tree knows its own count; each key that the log or the buffer speaks of is looked at.
pub(super) fn count(ground: &TableSource<'_>) -> Result<u64> {
    let mut count = ground.root.count;
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut adjust = |key: &[u8], present: bool| -> Result<()> {
        match (present, ground.in_tree(key)?) {
            (true, false) => count += 1,
            (false, true) => count = count.saturating_sub(1),
            _ => {}
        }
        Ok(())
    };
    if let Some(txn) = ground.txn {
        for (key, present) in txn.buffered_keys(ground.table) {
            adjust(&key, present)?;
            seen.insert(key);
        }
    }
    let memtables: Vec<_> = ground.view.memtables.iter().filter(|g| g.touches(ground.table)).collect();
    for (i, memtable) in memtables.iter().enumerate() {
        for version in memtable.newest(ground.table, ground.view.lsn) {
            if seen.contains(&*version.key) {
                continue;
            }
            adjust(&version.key, !matches!(version.change, Change::Delete))?;
            // Older memtables may speak of it, too.
            if i + 1 < memtables.len() {
                seen.insert(version.key.to_vec());
            }
        }
    }
    Ok(count)
}

/// A table's types, as recorded when it was created.
pub(crate) fn check_types(name: &str, expected: (&str, &str), found: (&str, &str)) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let show = |(key, value): (&str, &str)| format!("{key} → {value}");
    Err(Error::TypeMismatch { table: name.to_owned(), expected: show(expected), found: show(found) })
}
