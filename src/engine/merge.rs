//! The merging cursor: walks a table in one direction through the transaction's own buffer, over the memtables,
//! newest first, over the tree.

use crate::bytes::Bytes;
use crate::change::OwnedChange;
use crate::direction::Direction;
use crate::disk::format::TreeRoot;
use crate::engine::buffer::{NoBuffer, Over};
use crate::engine::facts::note_step;
use crate::engine::gaps::{behind, end_of_keys};
use crate::engine::view::{View, after};
use crate::error::Result;
use crate::log::memtable::Versions;
use crate::tree::cursor::Cursor;
use crate::tree::long_value::LongValue;
use crate::tree::node::{LeafValue, Long, Node};
use std::ops::Bound;

/// What is walked: a table in a state, under a transaction's buffer if there is one.
pub struct TableSource<'s, B = NoBuffer> {
    pub(crate) view: &'s View,
    pub(crate) buffer: Option<&'s B>,
    pub(crate) table: u32,
    pub(crate) root: TreeRoot,
}

impl<'s> TableSource<'s> {
    /// A table of a committed state.
    pub(crate) fn committed(view: &'s View, table: u32) -> Result<TableSource<'s>> {
        Ok(TableSource { view, buffer: None, table, root: view.tree_root(table)? })
    }
}

impl<B> Clone for TableSource<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for TableSource<'_, B> {}

shows! { self: [B] TableSource<'_, B> { table: self.table } }

impl<'s, B: Over> TableSource<'s, B> {
    #[inline]
    pub(crate) fn read(&self, found: LeafValue<'s>) -> Result<Bytes<'s>> {
        found.read(&self.view.tree.pages, self.table)
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes<'s>>> {
        if let Some(buffer) = self.buffer
            && let Some(write) = buffer.as_buffer().buffered(self.table, key)
        {
            return after(write).map(|found| self.read(found)).transpose();
        }
        self.view.value(self.table, self.root, key)
    }

    /// The value of a key, or where it is.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<LeafValue<'s>>> {
        match self.buffer.and_then(|buffer| buffer.as_buffer().buffered(self.table, key)) {
            Some(write) => Ok(after(write)),
            None => self.view.leaf_value(self.table, self.root, key),
        }
    }

    /// A long value of this table, to be read in parts.
    pub(crate) fn long_value(&self, long: &Long<'s>) -> Result<LongValue<'s>> {
        self.view.tree.pages.long_value(long, self.table)
    }

    /// Whether the key exists. Does not read long values.
    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.find(key)?.is_some())
    }
}

/// A walk in one direction.
pub(crate) struct MergeCursor<'s, B = NoBuffer> {
    ground: TableSource<'s, B>,
    direction: Direction,
    cursor: Cursor<'s>,
    log: LogChanges<'s>,
    /// The key that was returned last, where not only the tree has entries.
    last: Option<Bytes<'s>>,
    buffer: Option<Buffered<'s, B>>,
}

/// The buffer's next entry. It is looked up again if the buffer changed since the last step.
struct Buffered<'s, B> {
    changes: &'s B,
    head: Option<(Vec<u8>, OwnedChange)>,
    stamp: u64,
    /// Where the lookup starts.
    from: Bound<Vec<u8>>,
}

/// A key that a walk has come to.
struct Merged<'s> {
    key: Bytes<'s>,
    /// Its newest value; `None`: it is deleted.
    value: Option<LeafValue<'s>>,
    /// Whether the buffer changes it.
    buffered: bool,
    /// Whether it exists in the state under the buffer.
    in_base: bool,
}

/// Where the next key of a walk is.
enum Least<'s> {
    /// In the tree, and perhaps elsewhere, too.
    Tree,
    /// Not in the tree.
    Beside(Bytes<'s>),
}

/// The deleted keys that a walk has come to since the last entry.
struct Run<'s> {
    first: Bytes<'s>,
    /// What passing those cost that the buffer deletes, and the others.
    buffered: usize,
    logged: usize,
    /// Whether none of them exists in the state under the buffer.
    dead_in_base: bool,
    /// The end of the state's gap that was stepped over last.
    edge: Option<Vec<u8>>,
}

/// A gap that saves fewer steps is not worth noting.
const WORTHWHILE: usize = 8;
/// What stepping over a gap counts for: with one step more, the longer gap is noted.
const JUMP: usize = WORTHWHILE - 1;

pub(crate) fn as_slices(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

impl<'s, B: Over> MergeCursor<'s, B> {
    /// Starts at a bound: forward from there up, backward from there down.
    pub(crate) fn new(ground: TableSource<'s, B>, direction: Direction, from: Bound<&[u8]>) -> Result<Self> {
        let cursor = Cursor::new(&ground.view.tree.pages, ground.table, ground.root);
        let log = LogChanges::new(ground.view, ground.table, direction);
        let buffer = ground.buffer.map(|changes| {
            let from = from.map(<[u8]>::to_vec);
            Buffered { changes, head: None, stamp: u64::MAX, from }
        });
        let mut walk = MergeCursor { ground, direction, cursor, log, last: None, buffer };
        walk.seek(from)?;
        Ok(walk)
    }

    /// Goes to a bound, in all that lies under the buffer.
    fn seek(&mut self, from: Bound<&[u8]>) -> Result<()> {
        self.log.seek(from);
        self.cursor.seek(self.direction, from)
    }

    /// Whether only the tree has entries.
    #[inline]
    fn is_tree_alone(&self) -> bool {
        self.log.is_empty() && self.buffer.is_none()
    }

    /// For a forward walk without a transaction: the leaf of the tree with the next rows, if the walk is at the leaf's
    /// beginning and the log changes no key up to its last one.
    pub(crate) fn leaf_ahead(&mut self) -> Result<Option<&Node<'s>>> {
        if self.buffer.is_some() || self.direction == Direction::Backward {
            return Ok(None);
        }
        let Some(leaf) = self.cursor.leaf_ahead()? else { return Ok(None) };
        let last = leaf.last_key()?;
        Ok(Some(leaf).filter(|_| self.log.key().is_none_or(|logged| *logged > *last)))
    }

    /// Continues behind that leaf.
    pub(crate) fn skip_leaf(&mut self) -> Result<()> {
        self.cursor.skip_leaf()
    }

    /// What is walked.
    #[inline]
    pub(crate) fn ground(&self) -> &TableSource<'s, B> {
        &self.ground
    }

    /// The key that was returned last; `None` before the first entry, and behind the last one.
    pub(crate) fn last_key(&mut self) -> Option<&[u8]> {
        if self.is_tree_alone() { self.cursor.last_key() } else { self.last.as_deref() }
    }

    /// The next entry.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes<'s>, LeafValue<'s>)>> {
        // The common case is the tree alone.
        if self.is_tree_alone() { self.cursor.step(self.direction) } else { self.next_merged() }
    }

    fn next_merged(&mut self) -> Result<Option<(Bytes<'s>, LeafValue<'s>)>> {
        let mut run = None;
        while let Some(Merged { key, value, buffered, in_base }) = self.merged()? {
            if let Some(value) = value {
                self.end_run(run, Some(&key));
                self.last = Some(key.clone());
                return Ok(Some((key, value)));
            }
            let run = run.get_or_insert_with(|| Run::new(&key));
            run.pass(buffered, in_base);
            self.step_over(run, &key)?;
        }
        self.end_run(run, None);
        Ok(None)
    }

    /// If a deleted key lies in a gap, goes on behind that.
    ///
    /// A gap of the state under the buffer says nothing of what the buffer puts there: the buffer's side of the walk
    /// stays where it is.
    fn step_over(&mut self, run: &mut Run<'s>, key: &Bytes<'s>) -> Result<()> {
        let (table, view, ahead) = (self.ground.table, self.ground.view, self.direction == Direction::Forward);
        let to = if ahead { Bound::Included } else { Bound::Excluded };
        if let Some(buffer) = &mut self.buffer
            && let Some(edge) = buffer.changes.as_buffer().gap_edge(table, key, ahead)
        {
            let to = to(edge);
            buffer.from.clone_from(&to);
            buffer.stamp = u64::MAX;
            run.buffered += JUMP;
            (run.dead_in_base, run.edge) = (false, None);
            return self.seek(as_slices(&to));
        }
        let known = run.edge.as_ref().is_some_and(|edge| if ahead { **key < **edge } else { **key >= **edge });
        if !known && let Some(edge) = view.known.edge(table, key, view.lsn, ahead) {
            run.edge = Some(edge.clone());
            run.logged += JUMP;
            self.seek(as_slices(&to(edge)))?;
        }
        Ok(())
    }

    /// Notes the gap that the walk has seen, which ends at an entry, or at the table's end.
    fn end_run(&self, run: Option<Run<'s>>, entry: Option<&Bytes<'s>>) {
        let Some(run) = run else { return };
        let gap = || match self.direction {
            Direction::Forward => (run.first.to_vec(), entry.map_or_else(end_of_keys, |entry| entry.to_vec())),
            Direction::Backward => (entry.map_or_else(Vec::new, |entry| behind(entry)), behind(&run.first)),
        };
        let (table, view, cost) = (self.ground.table, self.ground.view, run.buffered + run.logged);
        if run.dead_in_base && run.logged >= WORTHWHILE {
            view.known.note_gap(table, gap(), view.lsn, run.logged);
        }
        if let Some(buffer) = &self.buffer
            && run.buffered > 0
            && cost >= WORTHWHILE
        {
            buffer.changes.as_buffer().note_gap(table, gap(), cost);
        }
    }

    /// The next key in any source. Nothing is copied before it is known which one that is.
    fn least(&mut self) -> Result<Option<Least<'s>>> {
        let direction = self.direction;
        let in_tree = self.cursor.peek(direction)?;
        let logged = self.log.key().filter(|key| in_tree.is_none_or(|best| direction.before(key, best)));
        if let Some(Buffered { head: Some((key, _)), .. }) = &self.buffer
            && logged.or(in_tree).is_none_or(|best| direction.before(key, best))
        {
            return Ok(Some(Least::Beside(Bytes::copied(key))));
        }
        let beside = logged.and_then(|_| self.log.shared_key()).map(Least::Beside);
        Ok(beside.or(in_tree.map(|_| Least::Tree)))
    }

    /// The next key in any source.
    fn merged(&mut self) -> Result<Option<Merged<'s>>> {
        self.look_at_buffer();
        let Some(least) = self.least()? else { return Ok(None) };
        note_step();
        let (key, in_tree) = match least {
            Least::Beside(key) => (key, None),
            Least::Tree => {
                let Some((key, value)) = self.cursor.step(self.direction)? else { return Ok(None) };
                (key, Some(value))
            }
        };
        // For equal keys the newest source counts; all of them advance.
        let mut own: Option<Option<LeafValue<'s>>> = None;
        if let Some(buffer) = &mut self.buffer
            && let Some((_, write)) = buffer.head.take_if(|(found, _)| **found == *key)
        {
            own = Some(after(write));
        }
        if let Some(buffer) = &mut self.buffer {
            buffer.from = Bound::Excluded(key.to_vec());
            if own.is_some() {
                buffer.stamp = u64::MAX;
            }
        }
        let base = match self.log.pass(&key) {
            Some(change) => after(change),
            None => in_tree,
        };
        let (buffered, in_base) = (own.is_some(), base.is_some());
        Ok(Some(Merged { key, value: own.unwrap_or(base), buffered, in_base }))
    }

    fn look_at_buffer(&mut self) {
        let Some(buffer) = &mut self.buffer else { return };
        let stamp = buffer.changes.as_buffer().stamp();
        if stamp != buffer.stamp {
            buffer.stamp = stamp;
            buffer.head =
                buffer.changes.as_buffer().buffered_next(self.ground.table, self.direction, as_slices(&buffer.from));
        }
    }
}

impl<'s> Run<'s> {
    fn new(first: &Bytes<'s>) -> Run<'s> {
        Run { first: first.clone(), buffered: 0, logged: 0, dead_in_base: true, edge: None }
    }

    fn pass(&mut self, buffered: bool, in_base: bool) {
        *(if buffered { &mut self.buffered } else { &mut self.logged }) += 1;
        self.dead_in_base &= !in_base;
    }
}

/// The changes that the log makes to a table in a state, in one direction: of each key the newest. The change of a single
/// key needs no walk: [`View::logged`] asks the memtables in the same order.
pub(crate) struct LogChanges<'v> {
    /// Those that have changes of the table, newest first: of equal keys, the version of the first one counts.
    memtables: Vec<Versions<'v>>,
    direction: Direction,
}

impl<'v> LogChanges<'v> {
    fn new(view: &'v View, table: u32, direction: Direction) -> LogChanges<'v> {
        let touching = view.memtables.iter().filter(|memtable| memtable.touches(table));
        LogChanges {
            memtables: touching.map(|memtable| memtable.walk(table, view.lsn, direction)).collect(),
            direction,
        }
    }

    /// To the first key from a bound on.
    fn seek(&mut self, from: Bound<&[u8]>) {
        self.memtables.iter_mut().for_each(|versions| versions.seek(from));
    }

    /// Whether the log has no changes of the table.
    #[inline]
    fn is_empty(&self) -> bool {
        self.memtables.is_empty()
    }

    /// The memtable with the next key.
    fn next_memtable(&self) -> Option<&Versions<'v>> {
        let is_behind = |a: &Versions<'_>, b: &Versions<'_>| match (a.key(), b.key()) {
            (Some(a), Some(b)) => self.direction.before(b, a),
            (a, _) => a.is_none(),
        };
        self.memtables.iter().reduce(|best, other| if is_behind(best, other) { other } else { best })
    }

    /// The next key.
    fn key(&self) -> Option<&[u8]> {
        self.next_memtable()?.key()
    }

    fn shared_key(&self) -> Option<Bytes<'static>> {
        self.next_memtable()?.shared_key()
    }

    /// Goes on behind this key, if it is the next one, and returns its change.
    fn pass(&mut self, key: &[u8]) -> Option<OwnedChange> {
        let mut newest = None;
        for versions in &mut self.memtables {
            if versions.key() == Some(key) {
                newest = newest.or_else(|| versions.change());
                versions.advance();
            }
        }
        newest
    }
}

impl Iterator for LogChanges<'_> {
    type Item = (Bytes<'static>, OwnedChange);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.shared_key()?;
        let change = self.pass(&key)?;
        Some((key, change))
    }
}

impl View {
    /// Bytes of the long values that the log points at.
    pub(crate) fn long_bytes(&self) -> u64 {
        self.memtables.iter().map(|memtable| memtable.long_bytes()).sum()
    }

    /// The log's newest change of each key of a table, in the order of the keys.
    pub(crate) fn log_changes(&self, table: u32) -> LogChanges<'_> {
        let mut changes = LogChanges::new(self, table, Direction::Forward);
        changes.seek(Bound::Unbounded);
        changes
    }
}
