//! The changes of a running write transaction, which it reads over the log and the tree.

use crate::change::OwnedChange;
use crate::direction::Direction;
use crate::engine::changes::Changes;
use crate::engine::delta::Delta;
use crate::error::Result;
use std::cell::{Cell, RefCell};
use std::ops::Bound;

/// What a state is read under: the [`Buffer`] of a transaction or, if nothing lies over the state, [`NoBuffer`].
pub trait Over {
    fn as_buffer(&self) -> &Buffer;
}

/// The buffer of a snapshot, of which there is none: unlike a [`Buffer`], it may be sent to another thread.
#[derive(Debug)]
pub enum NoBuffer {}

impl Over for NoBuffer {
    #[inline]
    fn as_buffer(&self) -> &Buffer {
        match *self {}
    }
}

impl Over for Buffer {
    #[inline]
    fn as_buffer(&self) -> &Buffer {
        self
    }
}

/// What the transaction has changed so far.
#[derive(Default)]
pub struct Buffer {
    pub(crate) changes: RefCell<Changes>,
    /// Incremented by each change.
    stamp: Cell<u64>,
}

shows! { self: Buffer {} }

impl Buffer {
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp.get()
    }

    /// Notes a change: cursors look up their next entry again.
    pub(crate) fn changed(&self) {
        self.stamp.set(self.stamp.get() + 1);
    }

    /// Sets (or, with `None`, removes) a change, and returns the one it replaces.
    pub(crate) fn set(&self, table: u32, key: &[u8], write: Option<OwnedChange>) -> Option<OwnedChange> {
        self.changed();
        self.changes.borrow_mut().set(table, key, write)
    }

    /// The gap around a key: where it starts, or, for `ahead`, the place right behind it.
    pub(crate) fn gap_edge(&self, table: u32, key: &[u8], ahead: bool) -> Option<Vec<u8>> {
        let changes = self.changes.borrow();
        let (start, end) = changes.gaps.around(table, key, 0)?;
        Some(if ahead { end.to_vec() } else { start.to_vec() })
    }

    pub(crate) fn note_gap(&self, table: u32, (start, end): (Vec<u8>, Vec<u8>), saves: usize) {
        self.changes.borrow_mut().gaps.add(table, start, end, 0, saves);
    }

    pub(crate) fn buffered(&self, table: u32, key: &[u8]) -> Option<OwnedChange> {
        self.changes.borrow().get(table, key).cloned()
    }

    pub(crate) fn buffered_next(
        &self,
        table: u32,
        direction: Direction,
        from: Bound<&[u8]>,
    ) -> Option<(Vec<u8>, OwnedChange)> {
        let changes = self.changes.borrow();
        let keys = changes.tables.get(&table)?;
        let found = match direction {
            Direction::Forward => keys.range::<[u8], _>((from, Bound::Unbounded)).next(),
            Direction::Backward => keys.range::<[u8], _>((Bound::Unbounded, from)).next_back(),
        };
        found.map(|(key, write)| (key.clone(), write.clone()))
    }

    /// What `ask` finds out from a table's difference from the state under the transaction: see [`Changes::delta`].
    pub(crate) fn ask_delta<T>(
        &self,
        table: u32,
        below: impl FnMut(&[u8]) -> Result<(u64, bool)>,
        ask: impl FnOnce(&Delta) -> T,
    ) -> Result<T> {
        self.changes.borrow_mut().delta(table, below).map(ask)
    }
}
