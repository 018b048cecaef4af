//! Reading a table of bytes, in a snapshot or in a write transaction.

use crate::bytes::Bytes;
use crate::disk::format::TreeRoot;
use crate::engine::Engine;
use crate::engine::file::check_key;
use crate::engine::merge::TableSource;
use crate::engine::view::View;
use crate::error::Result;
use crate::txn::txn_table::TxnTable;
use crate::txn::write::WriteTxn;
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
    /// A table of a snapshot, if it exists.
    Snapshot {
        view: &'s View,
        table: Option<(u32, TreeRoot)>,
    },
    Txn {
        txn: &'s WriteTxn,
        table: Rc<TxnTable>,
    },
    /// The table that has this name now.
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

    /// Where it is read; `None`: there is no such table, which reads as empty. Every read starts here.
    pub(super) fn ground(&self) -> Result<Option<TableSource<'s>>> {
        let ground = match &self.source {
            Source::Snapshot { view, table } => {
                // In a forked child the pin is the parent's, and what it protects may be gone.
                self.engine.check_process()?;
                return Ok(table.map(|(table, root)| TableSource { view, buffer: None, table, root }));
            }
            Source::Txn { txn, table } => txn.ground(table).map(Some),
            Source::Name { txn, name } => txn.ground_of_name(&name.name, (&name.types.0, &name.types.1)),
        };
        self.in_file(ground)
    }

    #[inline]
    pub(super) fn in_file<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.in_file(self.engine.path()))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) for a key beyond the limit, [`Error::Corrupt`](crate::Error::Corrupt) for damage, [`Error::Io`](crate::Error::Io),
    /// [`Error::NoTable`](crate::Error::NoTable) if this transaction dropped the table, [`Error::Forked`](crate::Error::Forked) in a forked child.
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

    /// The number of entries. Takes time in proportion to the keys of this table that were changed since it was counted
    /// last: those of the log since this process did so, and in a write transaction its own since it did. At first, and
    /// after a checkpoint, these are all keys of the table in the log, which the log's cap bounds.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn len(&self) -> Result<u64> {
        let Some(ground) = self.ground()? else { return Ok(0) };
        self.in_file(ground.entries())
    }
}
