//! Iterating over a range of a table, from both ends.

use crate::bytes::Bytes;
use crate::direction::Direction;
use crate::engine::merge::{MergeCursor, TableSource, as_slices};
use crate::error::Result;
use crate::tree::node::LeafValue;
use crate::txn::bounds::ByteRange;
use crate::txn::snapshot::Snapshot;
use crate::txn::state::ReadState;
use crate::txn::table::RawTable;
use std::ops::Bound;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// The entries of a range, in key order; [`Iterator::rev`] gives them backwards, and entries may be taken from
/// both ends in turn.
///
/// In a write transaction the iterator sees changes made while it runs, if they lie ahead of it: also those made
/// by clearing the table or by going back to a savepoint. After an error it ends.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// store.write(|tx| tx.raw("t")?.bulk_load([("a", "1"), ("b", "2"), ("c", "3")]).map(drop))?;
/// let snapshot = store.read()?;
/// let mut range = snapshot.raw("t")?.range("a"..)?;
/// let (first, last) = (range.next().unwrap()?, range.next_back().unwrap()?);
/// assert_eq!((first.0, last.1), (b"a"[..].into(), b"3"[..].into()));
/// assert_eq!(range.keys().next().unwrap()?, b"b");
/// assert_eq!(snapshot.raw("t")?.range("b"..)?.values().count(), 2);
/// # Ok::<(), memstone::Error>(())
/// ```
#[must_use = "an iterator does nothing unless it is asked for its entries"]
pub struct RawRange<'s, S: ReadState = Snapshot> {
    table: RawTable<'s, S>,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    front: End<'s, S>,
    back: End<'s, S>,
    done: bool,
}

/// One end of a range.
struct End<'s, S: ReadState> {
    /// A walk, and the id of the table it walks.
    walk: Option<(MergeCursor<'s, S::Buffer>, u32)>,
    /// The last key that the walk before this one has returned.
    before: Option<Vec<u8>>,
}

impl<'s, S: ReadState> End<'s, S> {
    /// The last key that this end has returned: the ends must not pass each other.
    fn last_key(&mut self) -> Option<&[u8]> {
        self.walk.as_mut().and_then(|(walk, _)| walk.last_key()).or(self.before.as_deref())
    }

    /// The walk, of the table that the handle stands for now; `None`: there is no such table.
    #[inline]
    fn walk(
        &mut self,
        table: &RawTable<'s, S>,
        direction: Direction,
        from: &Bound<Vec<u8>>,
    ) -> Result<Option<&mut MergeCursor<'s, S::Buffer>>> {
        // The content of a table that was cleared meanwhile, or restored, has another id.
        if let Some((_, walked)) = &self.walk
            && !table.leads_to(*walked)?
        {
            self.before = self.last_key().map(<[u8]>::to_vec);
            self.walk = None;
        }
        if self.walk.is_none() {
            let Some(ground) = table.ground()? else { return Ok(None) };
            let from = self.before.as_deref().map_or(as_slices(from), Bound::Excluded);
            self.walk = Some((MergeCursor::new(ground, direction, from)?, ground.table));
        }
        Ok(self.walk.as_mut().map(|(walk, _)| walk))
    }
}

/// Key and value.
pub(crate) type Entry<'s> = (Bytes<'s>, Bytes<'s>);

impl<'s, S: ReadState> RawRange<'s, S> {
    pub(super) fn new(table: RawTable<'s, S>, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> RawRange<'s, S> {
        let owned = |bound: Bound<&[u8]>| bound.map(<[u8]>::to_vec);
        let (lower, upper) = (owned(lower), owned(upper));
        // A range that ends before it starts is empty.
        let done = match (&lower, &upper) {
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
            _ => false,
        };
        let [front, back] = [(); 2].map(|()| End { walk: None, before: None });
        RawRange { table, lower, upper, front, back, done }
    }

    /// Whether a key that one end has come to lies in the range, and not beyond the other end.
    #[inline(always)]
    fn within(&mut self, direction: Direction, key: &[u8]) -> bool {
        match direction {
            Direction::Forward => {
                let below = match &self.upper {
                    Bound::Included(end) => key <= end.as_slice(),
                    Bound::Excluded(end) => key < end.as_slice(),
                    Bound::Unbounded => true,
                };
                below && self.back.last_key().is_none_or(|end| key < end)
            }
            Direction::Backward => {
                let above = match &self.lower {
                    Bound::Included(start) => key >= start.as_slice(),
                    Bound::Excluded(start) => key > start.as_slice(),
                    Bound::Unbounded => true,
                };
                above && self.front.last_key().is_none_or(|start| key > start)
            }
        }
    }

    /// The next key, and what `read` makes of its value.
    #[inline(always)]
    fn step<T>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(&TableSource<'s, S::Buffer>, LeafValue<'s>) -> Result<T>,
    ) -> Result<Option<(Bytes<'s>, T)>> {
        let (end, from) = match direction {
            Direction::Forward => (&mut self.front, &self.lower),
            Direction::Backward => (&mut self.back, &self.upper),
        };
        let Some(walk) = end.walk(&self.table, direction, from)? else { return Ok(None) };
        let Some((key, found)) = walk.next()? else { return Ok(None) };
        let ground = *walk.ground();
        if !self.within(direction, &key) {
            return Ok(None);
        }
        Ok(Some((key, read(&ground, found)?)))
    }

    #[inline(always)]
    fn advance<T>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(&TableSource<'s, S::Buffer>, LeafValue<'s>) -> Result<T>,
    ) -> Option<Result<(Bytes<'s>, T)>> {
        if self.done {
            return None;
        }
        match self.step(direction, read) {
            Ok(Some(entry)) => return Some(Ok(entry)),
            Ok(None) => self.done = true,
            Err(error) => {
                self.done = true;
                return Some(self.table.in_file(Err(error)));
            }
        }
        None
    }

    /// The next key. Its value is not read: a long one lies in pages of its own.
    pub(crate) fn next_key(&mut self) -> Option<Result<Bytes<'s>>> {
        self.advance(Direction::Forward, |_, _| Ok(())).map(|step| step.map(|(key, ())| key))
    }

    /// The same from the back.
    pub(crate) fn next_key_back(&mut self) -> Option<Result<Bytes<'s>>> {
        self.advance(Direction::Backward, |_, _| Ok(())).map(|step| step.map(|(key, ())| key))
    }
}

// A walk that a panic has interrupted stands somewhere in an unchanged state.
impl UnwindSafe for RawRange<'_> {}
impl RefUnwindSafe for RawRange<'_> {}

shows! { self: [S: ReadState] RawRange<'_, S> { from: self.lower, to: self.upper } }

both_ends! {
    self: ['s, S: ReadState] RawRange<'s, S> => Result<Entry<'s>> {
        next: self.advance(Direction::Forward, TableSource::read),
        back: self.advance(Direction::Backward, TableSource::read)
    }
}

/// The keys of a range, in order, from both ends. Long values are not read.
#[derive(Debug)]
#[must_use = "an iterator does nothing unless it is asked for its keys"]
pub struct RawKeys<'s, S: ReadState = Snapshot>(RawRange<'s, S>);

both_ends! {
    self: ['s, S: ReadState] RawKeys<'s, S> => Result<Bytes<'s>> { next: self.0.next_key(), back: self.0.next_key_back() }
}

/// The values of a range, in the order of their keys, from both ends.
#[derive(Debug)]
#[must_use = "an iterator does nothing unless it is asked for its values"]
pub struct RawValues<'s, S: ReadState = Snapshot>(RawRange<'s, S>);

both_ends! {
    self: ['s, S: ReadState] RawValues<'s, S> => Result<Bytes<'s>> {
        next: Some(self.0.next()?.map(|(_, value)| value)),
        back: Some(self.0.next_back()?.map(|(_, value)| value))
    }
}

impl<'s, S: ReadState> RawRange<'s, S> {
    /// Only the keys of the remaining entries. Long values are not read.
    pub fn keys(self) -> RawKeys<'s, S> {
        RawKeys(self)
    }

    /// Only the values of the remaining entries.
    pub fn values(self) -> RawValues<'s, S> {
        RawValues(self)
    }
}

impl<'s, S: ReadState> RawTable<'s, S> {
    /// Whether there is no entry.
    ///
    /// # Errors
    /// As [`RawTable::len`].
    pub fn is_empty(&self) -> Result<bool> {
        let first = self.range(..)?.next_key();
        Ok(first.transpose()?.is_none())
    }

    /// The entry with the least key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn first(&self) -> Result<Option<Entry<'s>>> {
        self.range(..)?.next().transpose()
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    /// As [`RawTable::get`].
    pub fn last(&self) -> Result<Option<Entry<'s>>> {
        self.range(..)?.next_back().transpose()
    }

    /// The entries of a range of keys, in order, from both ends; see [`ByteRange`].
    ///
    /// # Errors
    /// None so far: those of [`RawTable::get`] come with the entries.
    pub fn range(&self, range: impl ByteRange) -> Result<RawRange<'s, S>> {
        let (from, to) = range.bounds();
        Ok(RawRange::new(self.clone(), from, to))
    }

    /// The entries whose keys start with `prefix`, in order, from both ends.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn prefix(&self, prefix: &[u8]) -> Result<RawRange<'s, S>> {
        let end = after_prefix(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.range((Bound::Included(prefix), to))
    }

    /// All keys, in order, from both ends. Long values are not read.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn keys(&self) -> Result<RawKeys<'s, S>> {
        Ok(self.range(..)?.keys())
    }

    /// All values, in the order of their keys, from both ends.
    ///
    /// # Errors
    /// As [`RawTable::range`].
    pub fn values(&self) -> Result<RawValues<'s, S>> {
        Ok(self.range(..)?.values())
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
