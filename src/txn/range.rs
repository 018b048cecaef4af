//! Iterating over a range of a table, from both ends.

use crate::bytes::Bytes;
use crate::engine::buffer::Direction;
use crate::engine::merge::{MergeCursor, TableSource, as_slices};
use crate::error::Result;
use crate::tree::node::LeafValue;
use crate::txn::bounds::ByteRange;
use crate::txn::snapshot::Snapshot;
use crate::txn::state::{Ground, ReadState};
use crate::txn::table::RawTable;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// The entries of a range, in key order; [`Iterator::rev`] gives them backwards, and entries may be taken from
/// both ends in turn.
///
/// In a write transaction the iterator sees changes made while it runs, if they lie ahead of it: also those made
/// by clearing the table or by going back to a savepoint. After an error it ends.
#[must_use = "an iterator does nothing unless it is asked for its entries"]
pub struct RawRange<'s, S: ReadState = Snapshot> {
    table: RawTable<'s, S>,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    front: Walk<'s, S>,
    back: Walk<'s, S>,
    /// The last key that each end has returned: the ends must not pass each other.
    front_key: Option<Bytes<'s>>,
    back_key: Option<Bytes<'s>>,
    done: bool,
}

/// A walk, and the id of the table it walks.
type Walk<'s, S> = Option<(MergeCursor<'s, <S as Ground>::Buffer>, u32)>;

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
        RawRange { table, lower, upper, front: None, back: None, front_key: None, back_key: None, done }
    }

    #[inline(always)]
    fn within(&self, direction: Direction, key: &[u8]) -> bool {
        match direction {
            Direction::Forward => {
                let below = match &self.upper {
                    Bound::Included(end) => key <= end.as_slice(),
                    Bound::Excluded(end) => key < end.as_slice(),
                    Bound::Unbounded => true,
                };
                below && self.back_key.as_ref().is_none_or(|end| *key < **end)
            }
            Direction::Backward => {
                let above = match &self.lower {
                    Bound::Included(start) => key >= start.as_slice(),
                    Bound::Excluded(start) => key > start.as_slice(),
                    Bound::Unbounded => true,
                };
                above && self.front_key.as_ref().is_none_or(|start| *key > **start)
            }
        }
    }

    /// The next key, and what `read` makes of its value.
    #[inline]
    fn step<T>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(&TableSource<'s, S::Buffer>, LeafValue<'s>) -> Result<T>,
    ) -> Result<Option<(Bytes<'s>, T)>> {
        let Some(ground) = self.table.ground()? else { return Ok(None) };
        let (walk, from, last) = match direction {
            Direction::Forward => (&mut self.front, &self.lower, &self.front_key),
            Direction::Backward => (&mut self.back, &self.upper, &self.back_key),
        };
        // The content of a table that was cleared meanwhile, or restored, has another id.
        if walk.as_ref().is_some_and(|(_, table)| *table != ground.table) {
            *walk = None;
        }
        let walk = match walk {
            Some((walk, _)) => walk,
            None => {
                let from = last.as_deref().map_or(as_slices(from), Bound::Excluded);
                let started = MergeCursor::new(ground, direction, from)?;
                &mut walk.insert((started, ground.table)).0
            }
        };
        let Some((key, found)) = walk.next()? else { return Ok(None) };
        if !self.within(direction, &key) {
            return Ok(None);
        }
        let value = read(&ground, found)?;
        match direction {
            Direction::Forward => self.front_key = Some(key.clone()),
            Direction::Backward => self.back_key = Some(key.clone()),
        }
        Ok(Some((key, value)))
    }

    #[inline]
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

impl<S: ReadState> fmt::Debug for RawRange<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRange").field("from", &self.lower).field("to", &self.upper).finish_non_exhaustive()
    }
}

impl<'s, S: ReadState> Iterator for RawRange<'s, S> {
    type Item = Result<Entry<'s>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(Direction::Forward, TableSource::read)
    }
}

impl<S: ReadState> DoubleEndedIterator for RawRange<'_, S> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.advance(Direction::Backward, TableSource::read)
    }
}

impl<S: ReadState> FusedIterator for RawRange<'_, S> {}

/// The keys of a range, in order, from both ends. Long values are not read.
#[derive(Debug)]
#[must_use = "an iterator does nothing unless it is asked for its keys"]
pub struct RawKeys<'s, S: ReadState = Snapshot>(RawRange<'s, S>);

impl<'s, S: ReadState> Iterator for RawKeys<'s, S> {
    type Item = Result<Bytes<'s>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_key()
    }
}

impl<S: ReadState> DoubleEndedIterator for RawKeys<'_, S> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_key_back()
    }
}

impl<S: ReadState> FusedIterator for RawKeys<'_, S> {}

/// The values of a range, in the order of their keys, from both ends.
#[derive(Debug)]
#[must_use = "an iterator does nothing unless it is asked for its values"]
pub struct RawValues<'s, S: ReadState = Snapshot>(RawRange<'s, S>);

impl<'s, S: ReadState> Iterator for RawValues<'s, S> {
    type Item = Result<Bytes<'s>>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(_, value)| value))
    }
}

impl<S: ReadState> DoubleEndedIterator for RawValues<'_, S> {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(self.0.next_back()?.map(|(_, value)| value))
    }
}

impl<S: ReadState> FusedIterator for RawValues<'_, S> {}

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
