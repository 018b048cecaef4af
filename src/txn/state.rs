//! What a table is read in: a snapshot or a write transaction.

use crate::disk::format::TreeRoot;
use crate::engine::buffer::{Buffer, NoBuffer, Over};
use crate::engine::merge::TableSource;
use crate::error::Result;
use crate::txn::snapshot::Snapshot;
use crate::txn::txn_table::{ExpectedTable, TxnTable};
use crate::txn::write::WriteTxn;
use std::rc::Rc;

/// What a table is read in: a [`Snapshot`]; or a [`WriteTxn`], which sees its own changes, too.
///
/// It is the last parameter of the types that read, such as [`RawTable`](crate::RawTable), and a snapshot by default.
/// A function that has it as a parameter reads both. No other type implements it.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::{RawTable, Result, ReadState};
///
/// fn total<S: ReadState>(table: &RawTable<'_, S>) -> Result<usize> {
///     table.values()?.map(|value| Ok(value?.len())).sum()
/// }
///
/// store.write(|tx| {
///     let table = tx.raw("t")?;
///     table.put(b"a", b"four")?;
///     assert_eq!(total(&table)?, 4);
///     Ok(())
/// })?;
/// assert_eq!(total(&store.read()?.raw("t")?)?, 4);
/// # Ok::<(), memstone::Error>(())
/// ```
pub trait ReadState: Ground {}

impl ReadState for Snapshot {}

impl ReadState for WriteTxn {}

/// What reading needs to know of a state. Its name is not public, so no other type can be a [`ReadState`].
pub trait Ground {
    /// Which of its tables a handle stands for.
    type Place: Clone;
    /// What lies over the committed state.
    type Buffer: Over + 'static;

    /// Where a table is read; `None`: there is no such table, which reads as empty.
    fn ground_of(&self, place: &Self::Place) -> Result<Option<TableSource<'_, Self::Buffer>>>;

    /// Whether a place that led to the table of this id still does.
    fn leads_to(&self, place: &Self::Place, table: u32) -> Result<bool>;

    /// Adds the data file to an error.
    fn named_file<T>(&self, result: Result<T>) -> Result<T>;
}

/// A table of a snapshot, if it exists.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotPlace(pub(super) Option<(u32, TreeRoot)>);

impl Ground for Snapshot {
    type Place = SnapshotPlace;
    type Buffer = NoBuffer;

    #[inline]
    fn ground_of(&self, place: &SnapshotPlace) -> Result<Option<TableSource<'_>>> {
        // In a forked child the pin is the parent's, and what it protects may be gone.
        self.engine().check_process()?;
        Ok(place.0.map(|(table, root)| TableSource { view: self.view(), buffer: None, table, root }))
    }

    /// Nothing changes in a snapshot.
    #[inline]
    fn leads_to(&self, _: &SnapshotPlace, _: u32) -> Result<bool> {
        self.engine().check_process().map(|()| true)
    }

    #[inline]
    fn named_file<T>(&self, result: Result<T>) -> Result<T> {
        self.in_file(result)
    }
}

/// A table of a write transaction.
#[derive(Clone)]
pub struct TxnPlace(pub(super) TxnPlaceKind);

shows! { self: TxnPlace {} }

#[derive(Clone)]
pub(super) enum TxnPlaceKind {
    Table(Rc<TxnTable>),
    /// The table that has this name now.
    Name(Rc<ExpectedTable>),
}

impl Ground for WriteTxn {
    type Place = TxnPlace;
    type Buffer = Buffer;

    fn ground_of(&self, place: &TxnPlace) -> Result<Option<TableSource<'_, Buffer>>> {
        self.in_file(match &place.0 {
            TxnPlaceKind::Table(table) => self.ground_of_table(table).map(Some),
            TxnPlaceKind::Name(expected) => self.ground_of_name(expected),
        })
    }

    fn leads_to(&self, place: &TxnPlace, table: u32) -> Result<bool> {
        Ok(self.ground_of(place)?.is_some_and(|ground| ground.table == table))
    }

    fn named_file<T>(&self, result: Result<T>) -> Result<T> {
        self.in_file(result)
    }
}
