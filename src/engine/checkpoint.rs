//! Folding the log into the tree.
//!
//! Holding CHECKPOINT: mark the log with `Rotate` at LSN C; make C durable; apply everything up to
//! C, in key order, to a copy-on-write tree; flush; write the other root slot; flush; publish.
//! Commits go on meanwhile behind the mark. Any failure before the root slot leaves the old state
//! whole.
//!
//! A transaction too large for the log takes the same way: applied on top of it, visible with the durable root.

use crate::bytes::Bytes;
use crate::disk::format::{TABLE_CATALOG, TABLE_NAMES, TABLE_SNAPSHOTS, TreeRoot};
use crate::disk::locks::{ByteLock, CHECKPOINT, Deadline, FairGuard, Waited};
use crate::disk::platform::LockMode;
use crate::disk::root::{Root, Segment};
use crate::disk::slot::{Counter, State};
use crate::engine::append::{AppendGuard, Appended, now_us};
use crate::engine::archive::Batch;
use crate::engine::changes::{Changes, Write};
use crate::engine::compact::{SLACK_PAGES, WORTHWHILE, begin_moving_down, move_catalog_down};
use crate::engine::fold::Folding;
use crate::engine::named::Naming;
use crate::engine::ring_plan::RingPlan;
use crate::engine::view::{View, decode_name};
use crate::engine::{Engine, MIN_LOG};
use crate::error::{Error, Result};
use crate::log::frame::{FRAME_HEADER, FrameBuilder, FrameHeader, FrameKind};
use crate::log::index::{self, Pointed};
use crate::log::walk::Point;
use crate::tree::update::{Change, PageStore, update};
use crate::tree::walk::free_tree;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A log that fills up is made to hold what is written in this time, in microseconds, at the pace of
/// the last fold: a fold writes most leaves of a tree that is changed all over, so few large folds
/// cost far less than many small ones. (A clock that jumps makes the log too large or too small for a while.)
const HOLDS_US: u64 = 4_000_000;

/// What a checkpoint is to do besides folding.
#[derive(Default)]
pub(crate) struct Plan<'p> {
    /// The log should be able to hold a frame of this size.
    pub(crate) room_for: u64,
    /// Nobody is writing: give the log's space back.
    pub(crate) shrink: bool,
    /// Make a new root even if the log is empty.
    pub(crate) force: bool,
    /// How many keys may be touched to move pages down.
    pub(crate) compact: usize,
    /// A transaction to apply on top.
    pub(crate) direct: Option<&'p Changes>,
    /// Frames are gone that were never durable.
    pub(crate) lost: Option<Lost>,
    /// A name to give to the base, or to take away.
    pub(crate) naming: Option<Naming<'p>>,
}

/// What a failed flush has left of the log.
#[derive(Clone, Copy)]
pub(crate) struct Lost {
    /// Its end, which is durable.
    pub(crate) end: Point,
    /// The newest LSN that was given.
    pub(crate) newest: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    /// LSN of the transaction that was applied on top.
    pub(crate) lsn: u64,
    /// Pages that only the previous root, or a snapshot of a process, still needs; those of named snapshots are not counted.
    pub(crate) pending_pages: u64,
    pub(crate) free_pages: u64,
    pub(crate) page_count: u64,
}

impl Done {
    /// Whether another checkpoint would make the file notably smaller.
    pub(crate) fn could_shrink(&self) -> bool {
        // (When there was nothing to fold, all are 0.)
        is_worthwhile(self.free_pages + self.pending_pages, self.page_count)
    }
}

/// Whether so many spare pages are worth a checkpoint that gives them back.
pub(crate) fn is_worthwhile(spare: u64, page_count: u64) -> bool {
    spare >= SLACK_PAGES && spare * WORTHWHILE >= page_count
}

/// The right to take and give back pages, until dropped.
pub(crate) struct CheckpointTurn<'e> {
    pub(crate) engine: &'e Engine,
    kernel: Option<ByteLock>,
    /// The turn is that of a process that mends so many failed flushes: nothing else may flush meanwhile.
    pub(crate) mends: Option<u64>,
    _process: FairGuard,
}

impl Drop for CheckpointTurn<'_> {
    fn drop(&mut self) {
        if self.engine.check_process().is_err() {
            return;
        }
        let sidecar = self.engine.sidecar();
        if let Some(slot) = self.engine.slot(&sidecar) {
            slot.set_state(State::Checkpointing, false);
        }
        self.kernel = None;
    }
}

impl Engine {
    pub(crate) fn lock_checkpoint(&self, deadline: Deadline) -> Result<CheckpointTurn<'_>> {
        let started = Instant::now();
        let sidecar = self.sidecar();
        let process = match self.checkpointing.take(deadline) {
            Waited::Held(guard) => guard,
            Waited::TooLate => return Err(self.busy("checkpoint", &sidecar, started)),
            Waited::Nested => return Err(Error::Nested { path: self.path().to_path_buf() }),
        };
        let kernel = ByteLock::take(&self.disk, CHECKPOINT, LockMode::Exclusive, "checkpoint", deadline);
        let kernel = kernel.map_err(|e| match e {
            Error::Busy { .. } => self.busy("checkpoint", &sidecar, started),
            e => e,
        })?;
        Ok(self.checkpoint_turn(process, kernel))
    }

    /// Takes CHECKPOINT only if nobody has it.
    pub(crate) fn try_lock_checkpoint(&self) -> Result<Option<CheckpointTurn<'_>>> {
        let Some(process) = self.checkpointing.try_take() else { return Ok(None) };
        let kernel = ByteLock::try_take(&self.disk, CHECKPOINT, LockMode::Exclusive)?;
        Ok(kernel.map(|kernel| self.checkpoint_turn(process, kernel)))
    }

    fn checkpoint_turn(&self, process: FairGuard, kernel: ByteLock) -> CheckpointTurn<'_> {
        let sidecar = self.sidecar();
        if let Some(slot) = self.slot(&sidecar) {
            slot.set_state(State::Checkpointing, true);
        }
        CheckpointTurn { engine: self, kernel: Some(kernel), mends: None, _process: process }
    }

    /// Folds what is there, also when a failed flush must be mended first.
    pub(crate) fn checkpoint_now(self: &Arc<Self>, plan: &Plan<'_>) -> Result<()> {
        self.check_writable()?;
        let fold = || self.checkpoint(plan, self.deadline()).map(drop);
        match fold() {
            Err(Error::Poisoned { .. }) => self.begin(self.deadline()).map(drop).and_then(|()| fold()),
            done => done,
        }
    }

    pub(crate) fn checkpoint(&self, plan: &Plan<'_>, deadline: Deadline) -> Result<Done> {
        let turn = self.lock_checkpoint(deadline)?;
        turn.run(plan, deadline)
    }
}

impl CheckpointTurn<'_> {
    /// Folds the log into the tree; does nothing if there is nothing to fold.
    pub(crate) fn run(&self, plan: &Plan<'_>, deadline: Deadline) -> Result<Done> {
        let started = Instant::now();
        let engine = self.engine;
        engine.check_writable()?;
        let span = tracing::debug_span!(
            "checkpoint",
            direct = plan.direct.is_some(),
            lsn = tracing::field::Empty,
            pages = tracing::field::Empty,
        );
        let _in_span = span.enter();
        let result = self.fold(plan, deadline);
        match &result {
            Ok(Some((done, pages))) => {
                span.record("lsn", done.lsn).record("pages", pages);
                let sidecar = engine.sidecar();
                if let Some(slot) = engine.slot(&sidecar) {
                    slot.count(Counter::Checkpoints, 1);
                }
                let took_ms = started.elapsed().as_millis();
                tracing::debug!(
                    took_ms,
                    pages,
                    free = done.free_pages,
                    pending = done.pending_pages,
                    "checkpoint done"
                );
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "checkpoint failed"),
        }
        Ok(result?.map(|(done, _)| done).unwrap_or_default())
    }

    /// Whether another checkpoint would make the file notably smaller.
    pub(crate) fn could_shrink(&self) -> Result<bool> {
        let fold = self.newest_space()?;
        Ok(is_worthwhile(fold.spare_pages(), fold.space.page_count()))
    }

    /// Pages that nothing needs now, pins of all processes considered, and all pages.
    pub(crate) fn free_pages(&self) -> Result<(u64, u64)> {
        let Folding { space, .. } = self.newest_space()?;
        Ok((space.free_pages(), space.page_count()))
    }

    fn newest_space(&self) -> Result<Folding<'_>> {
        let engine = self.engine;
        self.settle_root()?;
        let base = engine.open_tree(Arc::new(engine.slots()?.newest), None)?;
        Folding::new(engine, &base, &engine.pins)
    }

    /// Writes the newest root, which is durable, a second time; see [`Slots::are_twins`].
    pub(crate) fn write_twin(&self) -> Result<()> {
        let engine = self.engine;
        let slots = engine.slots()?;
        if slots.newest.sequence > engine.known_root() || slots.are_twins() {
            return Ok(());
        }
        let twin = Root { sequence: slots.newest.sequence + 1, ..slots.newest };
        engine.disk.write_at(&twin.encode(), Root::slot_offset(twin.sequence)).map_err(engine.io("write a root slot"))
    }

    pub(crate) fn flush(&self) -> Result<()> {
        let engine = self.engine;
        let sidecar = engine.current_sidecar().0;
        engine
            .flush_alone(&sidecar, self.mends.is_some())
            .map_err(|e| engine.poisoned_error(format!("a checkpoint's flush failed: {e}")))
    }

    /// Marks the log, unless its last frame is such a mark already. Gives the point after it, and how
    /// large the log should be.
    fn rotate(&self, plan: &Plan<'_>, deadline: Deadline) -> Result<Option<(Point, u64)>> {
        let engine = self.engine;
        let mut append = engine.lock_append(deadline)?;
        if engine.is_poisoned(&append.sidecar) {
            return Err(engine.unmended());
        }
        let (used, capacity) = (append.state.used(), append.state.ring.capacity());
        let mut wanted = capacity.max(plan.room_for * 4);
        if used * 3 > capacity {
            let since = now_us().saturating_sub(append.state.root.time).max(1);
            let pace = u128::from(used) * u128::from(HOLDS_US) / u128::from(since);
            wanted = wanted.max(capacity * 4).max(u64::try_from(pace).unwrap_or(u64::MAX));
        }
        let wanted = wanted.min(engine.settings.log_cap);
        let empty = append.state.tail.lsn == append.state.root.checkpoint_lsn;
        let resize = plan.shrink && capacity > MIN_LOG || plan.room_for > capacity / 4;
        if empty {
            let needed = plan.force || plan.direct.is_some() || resize;
            return Ok(needed.then_some((append.state.tail, wanted)));
        }
        let mut header = [0; FRAME_HEADER];
        let start = append.state.start;
        append.state.ring.read(&*engine.disk, start, &mut header).map_err(engine.io("read the log"))?;
        let marked = FrameHeader::decode(&header)
            .is_some_and(|(h, _)| h.kind == FrameKind::Rotate && h.lsn == append.state.tail.lsn && h.position == start);
        if !marked {
            match append.append(&mut FrameBuilder::new(), FrameKind::Rotate, false) {
                Ok(Appended::At(_)) => {}
                // It was a mark: no commit's fate is open.
                Err(Error::Unconfirmed { reason, .. }) => return Err(engine.poisoned_error(reason)),
                Err(e) => return Err(e),
                Ok(Appended::NoRoom) => {
                    return Err(Error::Internal("the log has no room for a checkpoint's mark".into()));
                }
            }
        }
        Ok(Some((append.state.tail, wanted)))
    }

    fn fold(&self, plan: &Plan<'_>, deadline: Deadline) -> Result<Option<(Done, u64)>> {
        let (engine, begun) = (self.engine, now_us());
        self.settle_root()?;
        let (mark, wanted) = match plan.lost {
            Some(lost) => (lost.end, 0),
            None => {
                let Some(rotated) = self.rotate(plan, deadline)? else { return Ok(None) };
                engine.wait_durable(rotated.0.lsn)?;
                rotated
            }
        };
        let view = engine.view_at(mark.lsn)?;
        let base = Arc::clone(&view.tree);
        if base.root.sequence != engine.known_root() || view.lsn != mark.lsn {
            let (root, lsn) = (base.root.sequence, view.lsn);
            return Err(Error::Internal(format!("root {root} and LSN {lsn} are not the newest")));
        }
        let mut fold = Folding::new(engine, &base, &engine.pins)?;
        let mut root = Root::clone(&base.root);
        root.sequence += 1;
        root.checkpoint_lsn = mark.lsn;
        root.time = now_us();
        root.last_commit = view.last_commit;
        let archive = Batch::new(engine, &view, mark, &root, begun)?.map(|batch| batch.with(plan.direct, plan.force));
        self.apply(&view, plan, &mut fold, &mut root)?;

        let mut ring = RingPlan::new(&base.root, mark);
        let capacity = base.root.log_capacity();
        let added =
            if wanted > capacity && !plan.shrink { self.add_segment(&mut fold, wanted - capacity)? } else { None };
        fold.write_out()?;
        // From the new root on the space of these frames may be used again.
        archive.iter().for_each(Batch::keep);
        self.flush()?;

        // The ring and the LSN change under APPEND alone, so that the next appender sees them as they then are.
        let passes_on = plan.direct.is_some() || plan.lost.is_some();
        let changes_log = added.is_some() || plan.shrink || passes_on;
        let append = if changes_log { Some(engine.lock_append(deadline)?) } else { None };
        if let Some(append) = &append {
            let tail = append.state.tail;
            match added {
                Some(segment) if ring.extend(segment, tail, mark) => {}
                Some(segment) => fold.space.release(segment.page, segment.pages),
                None if tail == mark => {
                    for segment in ring.shrink() {
                        fold.free(segment.page, segment.pages, base.root.sequence)?;
                    }
                }
                None => {}
            }
        }
        (root.segments, root.log_offset, root.log_position, root.log_crc) =
            (ring.segments, ring.offset, ring.position, mark.crc);
        let old_len = engine.disk.len().map_err(engine.io("read the length"))?;
        self.trim(&mut fold, plan.shrink);
        let space = fold.save_space()?;
        (root.free_directory, root.pending, root.page_count) = (space.directory, space.pending, space.page_count);
        if passes_on {
            // WRITER is held, so only marks can have come since: a process that lost its sidecar leaves one.
            let tail = append.as_ref().map_or(mark.lsn, |append| append.state.tail.lsn);
            root.checkpoint_lsn = plan.lost.map_or(tail, |lost| lost.newest.max(tail)) + 1;
        }
        if plan.direct.is_some() {
            root.last_commit = root.checkpoint_lsn;
        }
        archive.iter().for_each(|batch| batch.keep_direct(root.checkpoint_lsn));
        fold.write_out()?;
        self.flush()?;
        self.write_root(&root, plan.direct.is_some() || plan.naming.is_some())?;

        let root = Arc::new(root);
        match append {
            None => {
                engine.current_sidecar().0.rise_root(root.sequence);
                engine.raise_root(root.sequence);
            }
            Some(append) => self.tell_of_new_log(append, &root, passes_on)?,
        }
        archive.iter().for_each(|batch| batch.confirm(root.checkpoint_lsn));
        let len = root.page_count * u64::from(root.page_size);
        if len < old_len {
            // Nothing refers to what is cut off: it is free in the durable root, and pinned by nobody.
            // A refusal costs space, no data.
            if let Err(error) = engine.disk.set_len(len) {
                tracing::warn!(%error, "the file could not be cut");
            }
        }
        let done = Done {
            lsn: root.last_commit,
            pending_pages: fold.spare_pages() - fold.space.free_pages(),
            free_pages: fold.space.free_pages(),
            page_count: root.page_count,
        };
        Ok(Some((done, fold.pages_written)))
    }

    /// Writes the slot of a new root, all that it refers to being durable, and flushes it. `may_be_found`: it holds a
    /// transaction of its own, or a name, which is there if the slot is.
    fn write_root(&self, root: &Root, may_be_found: bool) -> Result<()> {
        let engine = self.engine;
        let unconfirmed = |e| if may_be_found { engine.unconfirmed(e) } else { e };
        // Before the slot is: see `settle_root`.
        engine.tell_by(&engine.known_sidecar(), true, |sidecar| sidecar.rise_making(root.sequence));
        if let Err(e) = engine.disk.write_at(&root.encode(), Root::slot_offset(root.sequence)) {
            let e = engine.io("write a root slot")(e);
            let found = engine.slots().map_or(true, |slots| slots.newest.sequence == root.sequence);
            return Err(if found { unconfirmed(e) } else { e });
        }
        self.flush().map_err(unconfirmed)
    }

    /// Tells of a root that changes the ring, or holds a transaction of its own. APPEND is held since before its
    /// slot was written: a process that takes it finds this root told, or knows that its writer is gone.
    fn tell_of_new_log(&self, mut append: AppendGuard<'_>, root: &Arc<Root>, passes_on: bool) -> Result<()> {
        let engine = self.engine;
        append.state.adopt(Arc::clone(root));
        // The sidecar may have been lost while the pages were written, and the next one have spoken already.
        append.sidecar = engine.current_sidecar().0;
        if let Some(failures) = self.mends {
            append.recovered(failures)?;
        }
        append.seal();
        append.tell_of_root();
        engine.raise_root(root.sequence);
        if !passes_on {
            return Ok(());
        }
        let sidecar = Arc::clone(&append.sidecar);
        engine.publish_durable(&sidecar, root.checkpoint_lsn);
        // No frame leads to this transaction. If its root were lost, the older one would count without
        // a word: so the log tells, from behind the root, that there is more. A missing witness means nothing.
        let witness = append.append(&mut FrameBuilder::new(), FrameKind::Rotate, false).ok();
        append.seal();
        drop(append);
        if let Some(Appended::At(lsn)) = witness
            && let Err(error) = engine.wait_durable(lsn)
        {
            tracing::warn!(%error, "the transaction is durable, but the log does not tell of it");
        }
        Ok(())
    }

    /// Applies the log's newest versions, and a transaction on top of them, table by table.
    fn apply(&self, view: &View, plan: &Plan<'_>, fold: &mut Folding<'_>, root: &mut Root) -> Result<()> {
        let direct = plan.direct;
        let mut tables = BTreeSet::new();
        let mut dropped = BTreeSet::new();
        // Runs of long values that the log points at: those that do not end up in a tree are
        // only needed by snapshots of the version before.
        let mut loose: BTreeMap<u32, Pointed> = BTreeMap::new();
        for generation in &view.generations {
            let (touched, gone) = generation.tables();
            tables.extend(touched);
            dropped.extend(gone);
            for pointed in generation.overflows() {
                fold.keep_overflow(pointed.value)?;
                loose.insert(pointed.value.ptr.page, pointed);
            }
        }
        if let Some(direct) = direct {
            tables.extend(direct.tables.keys());
            dropped.extend(&direct.dropped);
        }
        let mut catalog: BTreeMap<u32, Option<TreeRoot>> = BTreeMap::new();
        for table in tables {
            if dropped.contains(&table) {
                continue;
            }
            let old = view.tree_root(table)?;
            let mut next_table = root.next_table;
            let changes = Merged::new(view, direct, table).map(|(key, change)| {
                if let Change::PutOverflow(overflow) = &change {
                    loose.remove(&overflow.ptr.page);
                }
                if let Change::Put(row) = &change
                    && table == TABLE_NAMES
                    && let Some(entry) = decode_name(row)
                {
                    next_table = next_table.max(entry.id.saturating_add(1));
                }
                Ok((key, change))
            });
            let new = update(fold, table, old, changes)?;
            root.next_table = next_table.max(table.saturating_add(1));
            if new != old {
                catalog.insert(table, (!new.ptr.is_none()).then_some(new));
            }
        }
        for table in dropped {
            root.next_table = root.next_table.max(table.saturating_add(1));
            let old = view.tree_root(table)?;
            if !old.ptr.is_none() {
                free_tree(fold, table, old)?;
                catalog.insert(table, None);
            }
        }
        for Pointed { value, birth, .. } in loose.into_values() {
            let run = fold.pages().overflow_run(value)?;
            fold.free(value.ptr.page, run, birth.min(view.tree.root.sequence))?;
        }
        let cutoff = (plan.compact > 0).then(|| begin_moving_down(fold)).flatten();
        if let Some(cutoff) = cutoff {
            self.engine.move_tables_down(view, fold, &mut catalog, cutoff, plan.compact)?;
        }
        if let Some(naming) = plan.naming {
            let (old, new) = naming.apply(&view.tree, fold)?;
            if new != old {
                catalog.insert(TABLE_SNAPSHOTS, (!new.ptr.is_none()).then_some(new));
            }
        }
        let rows = catalog.into_iter().map(|(table, row)| {
            let change = row.map_or(Change::Delete, |row| Change::Put(row.encode()));
            Ok((table.to_be_bytes(), change))
        });
        root.catalog = update(fold, TABLE_CATALOG, root.catalog, rows)?;
        if let Some(cutoff) = cutoff {
            root.catalog = move_catalog_down(fold, root.catalog, cutoff, plan.compact)?;
        }
        Ok(())
    }

    /// A new, zeroed segment of about so many bytes for the log's ring.
    fn add_segment(&self, fold: &mut Folding<'_>, bytes: u64) -> Result<Option<Segment>> {
        let page_size = u64::from(fold.pages().page_size());
        let Ok(pages) = u32::try_from(bytes / page_size) else { return Ok(None) };
        if pages == 0 {
            return Ok(None);
        }
        let page = fold.allocate(pages)?;
        let disk = &self.engine.disk;
        if let Err(e) = disk.allocate(u64::from(page) * page_size, u64::from(pages) * page_size) {
            // The log works at its present size, too.
            tracing::warn!(error = %e, "no room for a larger log");
            fold.space.release(page, pages);
            return Ok(None);
        }
        Ok(Some(Segment { page, pages }))
    }

    /// Decides how much of the file's free end is cut off.
    fn trim(&self, fold: &mut Folding<'_>, all: bool) {
        fold.release_own();
        let (tail, count) = (fold.space.free_tail(), fold.space.page_count());
        // Saving the free map takes some pages; a little slack saves growing again at once.
        let slack = 16 + count / if all { 64 } else { 8 };
        if tail > slack {
            fold.space.truncate(count - (tail - slack / 2));
        }
    }
}

type Item = (Bytes<'static>, Change<Bytes<'static>>);

/// The changes to one table: the transaction's over the log's newest versions, in key order.
struct Merged<'a> {
    sources: Vec<std::iter::Peekable<Box<dyn Iterator<Item = Item> + 'a>>>,
}

impl<'a> Merged<'a> {
    /// Sources come newest first: of equal keys the first one's change counts.
    fn new(view: &'a View, direct: Option<&'a Changes>, table: u32) -> Merged<'a> {
        let mut sources: Vec<Box<dyn Iterator<Item = Item> + 'a>> = Vec::new();
        if let Some(keys) = direct.and_then(|direct| direct.tables.get(&table)) {
            sources.push(Box::new(keys.iter().map(|(key, write)| {
                let change = match write {
                    Write::Put(value) => Change::Put(Bytes::shared(Arc::clone(value), 0..value.len())),
                    Write::PutOverflow(overflow) => Change::PutOverflow(*overflow),
                    Write::Delete => Change::Delete,
                };
                (Bytes::shared(Arc::from(key.as_slice()), 0..key.len()), change)
            })));
        }
        for generation in view.generations.iter().filter(|g| g.touches(table)) {
            sources.push(Box::new(generation.newest(table, view.lsn).map(|version| {
                let change = match version.change {
                    index::Change::Put(value) => Change::Put(value),
                    index::Change::PutOverflow(overflow) => Change::PutOverflow(overflow),
                    index::Change::Delete => Change::Delete,
                };
                (version.key, change)
            })));
        }
        Merged { sources: sources.into_iter().map(Iterator::peekable).collect() }
    }
}

impl Iterator for Merged<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if let [only] = self.sources.as_mut_slice() {
            return only.next();
        }
        let least =
            self.sources.iter_mut().filter_map(|s| s.peek()).map(|(key, _)| key).min_by(|a, b| a.cmp(b))?.clone();
        let mut newest = None;
        for source in &mut self.sources {
            if let Some(item) = source.next_if(|(key, _)| *key == least) {
                newest = newest.or(Some(item));
            }
        }
        newest
    }
}

/// How long a checkpoint that nobody waits for may wait for its locks.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
