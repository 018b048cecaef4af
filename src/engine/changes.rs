//! The changes of one transaction before it is committed.

use crate::change::{Change, OwnedChange};
use crate::disk::format::{MAX_OVERFLOW_SIZE, Overflow};
use crate::engine::delta::Delta;
use crate::engine::gaps::Gaps;
use crate::error::Result;
use crate::log::frame::FrameBuilder;
use std::collections::{BTreeMap, BTreeSet, btree_map};

/// A transaction's changes: by table, by key.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) tables: BTreeMap<u32, BTreeMap<Vec<u8>, OwnedChange>>,
    pub(crate) dropped: BTreeSet<u32>,
    /// The table ids are those at this LSN, and are valid only if the set of tables has not changed since.
    pub(crate) catalog_lsn: Option<u64>,
    bytes: u64,
    /// The gaps of the tables with these changes, as LSN 0.
    pub(crate) gaps: Gaps,
    /// How tables with these changes differ from the state under them, for those of which that was asked.
    deltas: BTreeMap<u32, BufferedDelta>,
}

/// How a table differs from the state under the transaction.
#[derive(Debug, Default)]
struct BufferedDelta {
    delta: Delta,
    /// The keys that were changed since.
    stale: Vec<Vec<u8>>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.tables.values().all(BTreeMap::is_empty)
    }

    /// The size of a frame with all changes, in bytes: an estimate that is never too low.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.bytes + 64 + 5 * self.dropped.len() as u64
    }

    /// The number of keys put or deleted, and of tables dropped.
    #[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "only spans tell of it"))]
    pub(crate) fn operations(&self) -> usize {
        self.dropped.len() + self.tables.values().map(BTreeMap::len).sum::<usize>()
    }

    fn cost(key: &[u8], write: Option<&OwnedChange>) -> u64 {
        match write {
            Some(Change::Put(value)) => FrameBuilder::put_size(key.len(), value.len()),
            Some(Change::PutOverflow(_)) => FrameBuilder::put_size(key.len(), MAX_OVERFLOW_SIZE),
            Some(Change::Delete) => FrameBuilder::put_size(key.len(), 0),
            None => 0,
        }
    }

    pub(crate) fn get(&self, table: u32, key: &[u8]) -> Option<&OwnedChange> {
        self.tables.get(&table)?.get(key)
    }

    /// Sets (or, with `None`, removes) a change, and returns the one it replaces.
    pub(crate) fn set(&mut self, table: u32, key: &[u8], write: Option<OwnedChange>) -> Option<OwnedChange> {
        self.bytes += Changes::cost(key, write.as_ref());
        match &write {
            Some(Change::Delete) => {}
            Some(_) => self.gaps.cut(table, key, 0),
            // What lies under the change is there again.
            None => self.gaps.forget(table),
        }
        let keys = self.tables.entry(table).or_default();
        let old = match write {
            Some(write) => keys.insert(key.to_vec(), write),
            None => keys.remove(key),
        };
        self.bytes -= Changes::cost(key, old.as_ref()).min(self.bytes);
        let most = keys.len();
        if let Some(known) = self.deltas.get_mut(&table) {
            known.stale.push(key.to_vec());
            if known.stale.len() > most {
                // Beginning anew is no more work.
                self.deltas.remove(&table);
            }
        }
        old
    }

    /// How a table differs from the state under these changes. `below` gives a key's rank in that state, and whether it
    /// is there. Looks at the keys that were changed since the last call, the first time at all.
    pub(crate) fn delta(&mut self, table: u32, below: impl FnMut(&[u8]) -> Result<(u64, bool)>) -> Result<&Delta> {
        let keys = self.tables.get(&table);
        match self.deltas.entry(table) {
            btree_map::Entry::Vacant(place) => {
                let mut delta = Delta::default();
                let all = keys.into_iter().flatten().map(|(key, write)| (key, Some(write.is_put())));
                delta.take_in(all, below)?;
                Ok(&place.insert(BufferedDelta { delta, stale: Vec::new() }).delta)
            }
            btree_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                let stale =
                    known.stale.iter().map(|key| (key, keys.and_then(|keys| keys.get(key)).map(Change::is_put)));
                known.delta.take_in(stale, below)?;
                known.stale.clear();
                Ok(&known.delta)
            }
        }
    }

    /// Moves the changes of each table to another table's id, all at once.
    pub(crate) fn move_tables(&mut self, ids: &BTreeMap<u32, u32>) {
        let moved: Vec<_> = ids.iter().filter_map(|(from, to)| Some((*to, self.tables.remove(from)?))).collect();
        self.tables.extend(moved);
    }

    /// The frame's payload.
    pub(crate) fn encode(&self) -> FrameBuilder {
        let mut frame = FrameBuilder::new();
        for table in &self.dropped {
            frame.drop_table(*table);
        }
        for (table, keys) in self.kept_tables() {
            for (key, write) in keys {
                match write {
                    Change::Put(value) => frame.put(table, key, value),
                    Change::PutOverflow(overflow) => frame.put_overflow(table, key, overflow),
                    Change::Delete => frame.delete(table, key),
                }
            }
        }
        frame
    }

    /// The changes of the tables that stay.
    pub(crate) fn kept_tables(&self) -> impl Iterator<Item = (u32, &BTreeMap<Vec<u8>, OwnedChange>)> {
        let kept = self.tables.iter().filter(|(table, _)| !self.dropped.contains(table));
        kept.map(|(table, keys)| (*table, keys))
    }
}

/// The puts of values that have their pages already, of tables that stay.
pub(crate) fn placed_values(changes: &Changes) -> impl Iterator<Item = (u32, &Vec<u8>, Overflow)> {
    changes.kept_tables().flat_map(|(table, keys)| {
        keys.iter().filter_map(move |(key, change)| match change {
            Change::PutOverflow(long) => Some((table, key, **long)),
            _ => None,
        })
    })
}
