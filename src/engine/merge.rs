//! The merging cursor: walks a table in one direction through the transaction's own buffer, over the memtables,
//! newest first, over the tree.

use crate::bytes::Bytes;
use crate::change::{Change, OwnedChange};
use crate::disk::format::TreeRoot;
use crate::engine::buffer::{Buffer, Direction};
use crate::engine::view::{View, after};
use crate::error::Result;
use crate::log::memtable::{Memtable, Version};
use crate::tree::cursor::Cursor;
use crate::tree::node::{LeafValue, Node};
use std::iter::Peekable;
use std::ops::Bound;

/// What is walked: a table in a state, under a transaction's buffer if there is one.
#[derive(Clone, Copy)]
pub(crate) struct TableSource<'s> {
    pub(crate) view: &'s View,
    pub(crate) buffer: Option<&'s Buffer>,
    pub(crate) table: u32,
    pub(crate) root: TreeRoot,
}

impl<'s> TableSource<'s> {
    #[inline]
    pub(crate) fn read(&self, found: LeafValue<'s>) -> Result<Bytes<'s>> {
        found.read(&self.view.tree.pages, self.table)
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes<'s>>> {
        if let Some(buffer) = self.buffer
            && let Some(write) = buffer.buffered(self.table, key)
        {
            return after(write).map(|found| self.read(found)).transpose();
        }
        self.view.value(self.table, self.root, key)
    }

    /// Whether the key exists. Does not read long values.
    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool> {
        if let Some(buffer) = self.buffer
            && let Some(write) = buffer.buffered(self.table, key)
        {
            return Ok(!matches!(write, Change::Delete));
        }
        match self.view.logged(self.table, key) {
            Some(change) => Ok(!matches!(change, Change::Delete)),
            None => self.in_tree(key),
        }
    }

    pub(crate) fn in_tree(&self, key: &[u8]) -> Result<bool> {
        Ok(crate::tree::cursor::get(&self.view.tree.pages, self.table, self.root, key)?.is_some())
    }
}

/// A walk in one direction.
pub(crate) struct MergeCursor<'s> {
    ground: TableSource<'s>,
    direction: Direction,
    cursor: Cursor<'s>,
    memtables: Vec<(&'s Memtable, Option<Version>)>,
    buffer: Option<Buffered<'s>>,
}

/// The buffer's next entry. It is looked up again if the buffer changed since the last step.
struct Buffered<'s> {
    changes: &'s Buffer,
    head: Option<(Vec<u8>, OwnedChange)>,
    stamp: u64,
    /// Where the lookup starts.
    from: Bound<Vec<u8>>,
}

pub(crate) fn as_slices(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

impl<'s> MergeCursor<'s> {
    /// Starts at a bound: forward from there up, backward from there down.
    pub(crate) fn new(ground: TableSource<'s>, direction: Direction, from: Bound<&[u8]>) -> Result<MergeCursor<'s>> {
        let mut cursor = Cursor::new(&ground.view.tree.pages, ground.table, ground.root);
        match (direction, from) {
            (Direction::Forward, Bound::Unbounded) => cursor.first()?,
            (Direction::Forward, Bound::Included(key)) => cursor.seek(key)?,
            (Direction::Forward, Bound::Excluded(key)) => {
                cursor.seek(key)? && (cursor.entry().is_none_or(|(found, _)| *found != *key) || cursor.next()?)
            }
            (Direction::Backward, Bound::Unbounded) => cursor.last()?,
            (Direction::Backward, Bound::Excluded(key)) => cursor.seek_before(key)?,
            (Direction::Backward, Bound::Included(key)) => {
                cursor.seek(key)? && cursor.entry().is_some_and(|(found, _)| *found == *key)
                    || cursor.seek_before(key)?
            }
        };
        let lsn = ground.view.lsn;
        let touching = ground.view.memtables.iter().filter(|g| g.touches(ground.table));
        let memtables = touching.map(|g| (&**g, step(g, ground.table, direction, from, lsn))).collect();
        let buffer = ground.buffer.map(|changes| {
            let from = match from {
                Bound::Included(key) => Bound::Included(key.to_vec()),
                Bound::Excluded(key) => Bound::Excluded(key.to_vec()),
                Bound::Unbounded => Bound::Unbounded,
            };
            Buffered { changes, head: None, stamp: u64::MAX, from }
        });
        Ok(MergeCursor { ground, direction, cursor, memtables, buffer })
    }

    fn before(&self, a: &[u8], b: &[u8]) -> bool {
        match self.direction {
            Direction::Forward => a < b,
            Direction::Backward => a > b,
        }
    }

    #[inline]
    fn advance_tree(&mut self) -> Result<()> {
        match self.direction {
            Direction::Forward => self.cursor.next()?,
            Direction::Backward => self.cursor.prev()?,
        };
        Ok(())
    }

    /// For a forward walk without a transaction: the leaf of the tree with the next rows, if the walk is at the leaf's
    /// beginning and the log changes no key up to its last one.
    pub(crate) fn leaf_ahead(&self) -> Result<Option<&Node<'s>>> {
        let Some(leaf) = self.cursor.leaf_ahead() else { return Ok(None) };
        let last = leaf.ends()?.1;
        let untouched = |head: &Option<Version>| head.as_ref().is_none_or(|head| head.key > last);
        let alone = self.buffer.is_none() && self.direction == Direction::Forward;
        Ok(Some(leaf).filter(|_| alone && self.memtables.iter().all(|(_, head)| untouched(head))))
    }

    /// Continues behind that leaf.
    pub(crate) fn skip_leaf(&mut self) -> Result<()> {
        self.cursor.skip_leaf().map(drop)
    }

    /// The next entry.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes<'s>, LeafValue<'s>)>> {
        if self.memtables.is_empty() && self.buffer.is_none() {
            // The common case: only the tree has entries.
            let Some((key, value)) = self.cursor.entry() else { return Ok(None) };
            self.advance_tree()?;
            return Ok(Some((key, value)));
        }
        while let Some((key, found)) = self.merged()? {
            if let Some(found) = found {
                return Ok(Some((key, found)));
            }
        }
        Ok(None)
    }

    /// The next key in any source, with its newest value; `None` as its value: deleted.
    fn merged(&mut self) -> Result<Option<(Bytes<'s>, Option<LeafValue<'s>>)>> {
        self.look_at_buffer();
        let mut best: Option<Bytes<'s>> = self.cursor.entry().map(|(key, _)| key);
        for (_, head) in &self.memtables {
            if let Some(version) = head
                && best.as_ref().is_none_or(|best| self.before(&version.key, best))
            {
                best = Some(version.key.clone());
            }
        }
        if let Some(Buffered { head: Some((key, _)), .. }) = &self.buffer
            && best.as_ref().is_none_or(|best| self.before(key, best))
        {
            best = Some(Bytes::copied(key));
        }
        let Some(key) = best else { return Ok(None) };
        // For equal keys the newest source counts; all of them advance.
        let mut word: Option<Option<LeafValue<'s>>> = None;
        if let Some(buffer) = &mut self.buffer
            && let Some((_, write)) = buffer.head.take_if(|(found, _)| **found == *key)
        {
            word = Some(after(write));
        }
        if let Some(buffer) = &mut self.buffer {
            buffer.from = Bound::Excluded(key.to_vec());
            if word.is_some() {
                buffer.stamp = u64::MAX;
            }
        }
        let (table, lsn, direction) = (self.ground.table, self.ground.view.lsn, self.direction);
        for (memtable, head) in &mut self.memtables {
            if let Some(version) = head.take_if(|version| version.key == key) {
                word.get_or_insert(after(version.change));
                *head = step(memtable, table, direction, Bound::Excluded(&version.key), lsn);
            }
        }
        if let Some((found, value)) = self.cursor.entry()
            && found == key
        {
            word.get_or_insert(Some(value));
            self.advance_tree()?;
        }
        Ok(Some((key, word.flatten())))
    }

    fn look_at_buffer(&mut self) {
        let Some(buffer) = &mut self.buffer else { return };
        let stamp = buffer.changes.stamp();
        if stamp != buffer.stamp {
            buffer.stamp = stamp;
            buffer.head = buffer.changes.buffered_next(self.ground.table, self.direction, as_slices(&buffer.from));
        }
    }
}

fn step(memtable: &Memtable, table: u32, direction: Direction, from: Bound<&[u8]>, lsn: u64) -> Option<Version> {
    match direction {
        Direction::Forward => memtable.next(table, from, lsn),
        Direction::Backward => memtable.previous(table, from, lsn),
    }
}

type LogChange = (Bytes<'static>, OwnedChange);

/// The newest change that the log makes to each key of a table, in key order.
pub(crate) struct LogChanges<'v> {
    /// The memtables, newest first: for equal keys, the change of the first one counts.
    sources: Vec<Peekable<Box<dyn Iterator<Item = LogChange> + 'v>>>,
}

impl View {
    /// Bytes of the long values that the log points at.
    pub(crate) fn long_bytes(&self) -> u64 {
        self.memtables.iter().map(|memtable| memtable.long_bytes()).sum()
    }

    pub(crate) fn log_changes(&self, table: u32) -> LogChanges<'_> {
        let sources = self.memtables.iter().filter(|memtable| memtable.touches(table)).map(|memtable| {
            let newest = memtable.newest(table, self.lsn).map(|version| (version.key, version.change));
            (Box::new(newest) as Box<dyn Iterator<Item = LogChange>>).peekable()
        });
        LogChanges { sources: sources.collect() }
    }
}

impl Iterator for LogChanges<'_> {
    type Item = LogChange;

    fn next(&mut self) -> Option<LogChange> {
        if let [only] = self.sources.as_mut_slice() {
            return only.next();
        }
        let heads = self.sources.iter_mut().filter_map(|source| source.peek());
        let least = heads.map(|(key, _)| key).min()?.clone();
        let mut newest = None;
        for source in &mut self.sources {
            if let Some(change) = source.next_if(|(key, _)| *key == least) {
                newest = newest.or(Some(change));
            }
        }
        newest
    }
}

/// The number of entries: the tree's own count, corrected for each key that the log or the buffer changes.
pub(crate) fn count(ground: &TableSource<'_>) -> Result<u64> {
    let mut count = ground.root.count;
    let mut adjust = |key: &[u8], present: bool| -> Result<()> {
        match (present, ground.in_tree(key)?) {
            (true, false) => count += 1,
            (false, true) => count = count.saturating_sub(1),
            _ => {}
        }
        Ok(())
    };
    if let Some(buffer) = ground.buffer {
        for (key, present) in buffer.buffered_keys(ground.table) {
            adjust(&key, present)?;
        }
    }
    let is_buffered = |key: &[u8]| ground.buffer.is_some_and(|buffer| buffer.buffered(ground.table, key).is_some());
    for (key, change) in ground.view.log_changes(ground.table).filter(|(key, _)| !is_buffered(key)) {
        adjust(&key, !matches!(change, Change::Delete))?;
    }
    Ok(count)
}
