//! Tables of a snapshot that borrow nothing.
//!
//! An owned table holds the snapshot itself, and lends it to a [`RawTable`] at each call. An owned range cannot hold a
//! walk, which borrows the pages that it stands in: it reads entries ahead, in batches, and each batch starts where
//! the last one has ended.

use crate::bytes::{Bytes, Keeper};
use crate::engine::merge::as_slices;
use crate::error::Result;
use crate::txn::bounds::ByteRange;
use crate::txn::range::{Entry, RawKeys, RawRange, RawValues, after_prefix};
use crate::txn::snapshot::Snapshot;
use crate::txn::state::SnapshotPlace;
use crate::txn::table::RawTable;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

/// The most entries that a batch has.
const BATCH: usize = 64;
/// A batch ends with the entry that brings it to so many bytes.
const BATCH_BYTES: usize = 64 << 10;

/// The snapshot whose pages bytes lie in.
struct Kept(Snapshot);

impl Keeper for Kept {
    fn kept(&self) -> &[u8] {
        self.0.view().tree.pages.kept()
    }
}

/// A table of bytes of a snapshot, with the snapshot: it borrows nothing, is `Send` and `Sync`, and cheap to clone. So it
/// may stand in a struct, cross threads, and live over an `.await`. Like a [`Snapshot`] it keeps pages from being
/// reused, and the store open.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::{OwnedRawTable, Store};
///
/// struct Index {
///     words: OwnedRawTable,
/// }
///
/// store.write(|tx| tx.raw("words")?.bulk_load([("a", "1"), ("b", "2")]).map(drop))?;
/// let index = Index { words: store.read()?.into_raw("words")? };
/// drop(store);
/// let reader = std::thread::spawn(move || {
///     let found = index.words.get(b"b")?.map(|value| value.to_vec());
///     let all = index.words.range_owned(..)?; // outlives the table
///     drop(index);
///     Ok::<_, memstone::Error>((found, all.count()))
/// });
/// assert_eq!(reader.join().unwrap()?, (Some(b"2".to_vec()), 2));
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// It has the methods of a [`RawTable`] that are used most; [`OwnedRawTable::table`] gives the others.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// store.write(|tx| tx.raw("t")?.bulk_load([("a/1", "x"), ("a/2", "y"), ("b/1", "z")]).map(drop))?;
/// let table = store.read()?.into_raw("t")?;
/// assert!(table.contains(b"a/1")? && !table.is_empty()?);
/// assert_eq!((table.first()?.unwrap().0, table.last()?.unwrap().1), (b"a/1"[..].into(), b"z"[..].into()));
/// assert_eq!((table.len()?, table.count("a/2"..)?, table.rank(b"b/1")?), (3, 2, 2));
/// assert_eq!(table.nth(1)?.unwrap().1, b"y");
/// assert_eq!((table.range("b"..)?.count(), table.prefix(b"a/")?.count()), (1, 2));
/// assert_eq!((table.keys()?.count(), table.values()?.count()), (3, 3));
/// assert_eq!(table.table().value_len(b"a/1")?, Some(1));
/// assert_eq!(table.snapshot().lsn(), store.last_commit()?);
/// let (value, below) = (table.get_owned(b"a/1")?, table.prefix_owned(b"a/")?);
/// drop(table); // these two keep what they need
/// assert_eq!((value.unwrap(), below.count()), (b"x"[..].into(), 2));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Clone)]
pub struct OwnedRawTable {
    kept: Arc<Kept>,
    place: SnapshotPlace,
}

shows! { self: OwnedRawTable { snapshot: self.snapshot() } }

impl RawTable<'_> {
    /// The same table as one that borrows nothing.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// store.write(|tx| tx.raw("t")?.bulk_load([("a", "1"), ("b", "2")]).map(drop))?;
    /// let snapshot = store.read()?;
    /// let table = snapshot.raw("t")?;
    /// let (owned, range) = (table.clone().into_owned(), table.range_owned("b"..)?);
    /// drop(snapshot);
    /// assert_eq!((owned.len()?, range.count()), (2, 1));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn into_owned(self) -> OwnedRawTable {
        OwnedRawTable::new(self.state().clone(), *self.place())
    }

    /// [`RawTable::range`] as an iterator that borrows nothing.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn range_owned(&self, range: impl ByteRange) -> Result<OwnedRawRange> {
        self.clone().into_owned().range_owned(range)
    }
}

impl OwnedRawTable {
    pub(super) fn new(snapshot: Snapshot, place: SnapshotPlace) -> OwnedRawTable {
        OwnedRawTable { kept: Arc::new(Kept(snapshot)), place }
    }

    /// The snapshot that it belongs to.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.kept.0
    }

    /// The table as [`Snapshot::raw`] gives it, with all methods. Costs nothing.
    #[must_use]
    pub fn table(&self) -> RawTable<'_> {
        RawTable::new(self.snapshot(), self.place)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes<'_>>> {
        self.table().get(key)
    }

    /// The value of a key, as bytes that keep the snapshot instead of borrowing from this table. They are copied only
    /// if they are few.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn get_owned(&self, key: &[u8]) -> Result<Option<Bytes<'static>>> {
        Ok(self.table().get(key)?.map(|value| value.keep(&self.kept)))
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        self.table().contains(key)
    }

    /// The number of entries.
    ///
    /// # Errors
    /// As [`RawTable::len`].
    pub fn len(&self) -> Result<u64> {
        self.table().len()
    }

    /// The number of entries of a range of keys.
    ///
    /// # Errors
    /// As [`RawTable::count`].
    pub fn count(&self, range: impl ByteRange) -> Result<u64> {
        self.table().count(range)
    }

    /// The number of entries whose keys are below `key`, which need not be there.
    ///
    /// # Errors
    /// As [`RawTable::rank`].
    pub fn rank(&self, key: &[u8]) -> Result<u64> {
        self.table().rank(key)
    }

    /// The entry of this number, counted from 0 in the order of the keys; `None` if there are no more.
    ///
    /// # Errors
    /// As [`RawTable::nth`].
    pub fn nth(&self, n: u64) -> Result<Option<Entry<'_>>> {
        self.table().nth(n)
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// As [`RawTable::len`].
    pub fn is_empty(&self) -> Result<bool> {
        self.table().is_empty()
    }

    /// The entry with the least key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn first(&self) -> Result<Option<Entry<'_>>> {
        self.table().first()
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn last(&self) -> Result<Option<Entry<'_>>> {
        self.table().last()
    }

    /// The entries of a range of keys, in order, from both ends; see [`ByteRange`].
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn range(&self, range: impl ByteRange) -> Result<RawRange<'_>> {
        self.table().range(range)
    }

    /// The entries whose keys start with `prefix`, in order, from both ends.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn prefix(&self, prefix: &[u8]) -> Result<RawRange<'_>> {
        self.table().prefix(prefix)
    }

    /// All keys, in order, from both ends. Long values are not read.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn keys(&self) -> Result<RawKeys<'_>> {
        self.table().keys()
    }

    /// All values, in the order of their keys, from both ends.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn values(&self) -> Result<RawValues<'_>> {
        self.table().values()
    }

    /// [`OwnedRawTable::range`] as an iterator that borrows nothing.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn range_owned(&self, range: impl ByteRange) -> Result<OwnedRawRange> {
        let (from, to) = range.bounds();
        let (lower, upper) = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
        let (front, back) = (VecDeque::new(), VecDeque::new());
        Ok(OwnedRawRange { table: self.clone(), lower, upper, front, back, batch: 1, done: false })
    }

    /// [`OwnedRawTable::prefix`] as an iterator that borrows nothing.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn prefix_owned(&self, prefix: &[u8]) -> Result<OwnedRawRange> {
        let end = after_prefix(prefix);
        self.range_owned((Bound::Included(prefix), end.as_deref().map_or(Bound::Unbounded, Bound::Excluded)))
    }
}

/// The entries of a range, in key order and from both ends, as bytes that borrow nothing; with the snapshot that they
/// are in. After an error it ends.
///
/// Some entries are read ahead: at first one, later up to 64 or about 64 KiB. Where a [`RawRange`] can be used, it is
/// the faster one.
#[must_use = "an iterator does nothing unless it is asked for its entries"]
pub struct OwnedRawRange {
    table: OwnedRawTable,
    /// What was not read so far.
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    /// Read ahead: ascending.
    front: VecDeque<Entry<'static>>,
    /// Read ahead from the back: descending.
    back: VecDeque<Entry<'static>>,
    /// The size of the next batch.
    batch: usize,
    /// Whether all was read.
    done: bool,
}

shows! { self: OwnedRawRange { from: self.lower, to: self.upper } }

impl OwnedRawRange {
    /// Reads the next batch from one end. An entry that cannot be read ends the batch before it, and is met again as
    /// the first one of the next.
    fn read_ahead(&mut self, backward: bool) -> Result<VecDeque<Entry<'static>>> {
        let mut entries = self.table.range((as_slices(&self.lower), as_slices(&self.upper)))?;
        let (mut batch, mut bytes) = (VecDeque::new(), 0);
        while batch.len() < self.batch && bytes < BATCH_BYTES {
            match if backward { entries.next_back() } else { entries.next() } {
                Some(Ok((key, value))) => {
                    bytes += key.len() + value.len();
                    batch.push_back((key.keep(&self.table.kept), value.keep(&self.table.kept)));
                }
                Some(Err(error)) if batch.is_empty() => return Err(error),
                Some(Err(_)) => break,
                None => {
                    self.done = true;
                    break;
                }
            }
        }
        drop(entries);
        self.batch = (self.batch * 2).min(BATCH);
        if let Some((key, _)) = batch.back() {
            let end = if backward { &mut self.upper } else { &mut self.lower };
            *end = Bound::Excluded(key.to_vec());
        }
        Ok(batch)
    }

    fn step(&mut self, backward: bool) -> Option<Result<Entry<'static>>> {
        if !self.done && if backward { self.back.is_empty() } else { self.front.is_empty() } {
            match self.read_ahead(backward) {
                Ok(batch) if backward => self.back = batch,
                Ok(batch) => self.front = batch,
                Err(error) => {
                    self.done = true;
                    self.front.clear();
                    self.back.clear();
                    return Some(Err(error));
                }
            }
        }
        let (near, far) = if backward { (&mut self.back, &mut self.front) } else { (&mut self.front, &mut self.back) };
        near.pop_front().or_else(|| far.pop_back()).map(Ok)
    }
}

both_ends! {
    self: [] OwnedRawRange => Result<Entry<'static>> { next: self.step(false), back: self.step(true) }
}
