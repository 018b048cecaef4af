//! Checkpoints: applying the log to the tree.
//!
//! The checkpointer holds CHECKPOINT. It appends a `Rotate` frame, the checkpoint mark, at LSN C; makes C durable;
//! applies everything up to C, in key order, to a copy-on-write tree; flushes; writes the other root slot; flushes;
//! publishes. Commits continue meanwhile behind the mark. Any failure before the root slot is written leaves the
//! old state intact.
//!
//! A transaction too large for the log is committed by a checkpoint: applied on top of the log, and visible with
//! the durable root.

use crate::bytes::Bytes;
use crate::change::{Change, OwnedChange};
use crate::disk::format::{TABLE_CATALOG, TABLE_NAMES, TABLE_SNAPSHOTS, TreeRoot};
use crate::disk::locks::Deadline;
use crate::disk::root::{Root, Segment};
use crate::disk::slot::Counter;
use crate::engine::append::{AppendGuard, Appended, now_us};
use crate::engine::archive::Batch;
use crate::engine::changes::Changes;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::move_down::{SLACK_PAGES, WORTHWHILE, begin_moving_down, move_catalog_down};
use crate::engine::names::Naming;
use crate::engine::page_writer::PageWriter;
use crate::engine::ring_plan::RingPlan;
use crate::engine::view::{View, decode_name};
use crate::engine::{Engine, MIN_LOG};
use crate::error::{Error, Result};
use crate::log::frame::{FRAME_HEADER, FrameBuilder, FrameHeader, FrameKind};
use crate::log::memtable::Pointed;
use crate::log::reader::Point;
use crate::tree::update::{PageStore, update};
use crate::tree::walk::free_tree;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A log that fills up is resized to hold what is written in this time, in microseconds, at the rate since the last
/// checkpoint: if changes are spread over the whole tree, a checkpoint writes most of its leaves, so few large
/// checkpoints cost far less than many small ones. (A clock that jumps makes the log too large or too small for a
/// while.)
const HOLDS_US: u64 = 4_000_000;

/// What a checkpoint does besides applying the log.
#[derive(Default)]
pub(crate) struct CheckpointOptions<'p> {
    /// The log should be able to hold a frame of this size.
    pub(crate) room_for: u64,
    /// No process is writing: free the log's space.
    pub(crate) shrink: bool,
    /// Make a new root even if the log is empty.
    pub(crate) force: bool,
    /// The most keys that may be touched to move pages down.
    pub(crate) compact: usize,
    /// A transaction to apply on top of the log.
    pub(crate) direct: Option<&'p Changes>,
    /// Frames that were never durable are gone.
    pub(crate) lost: Option<Lost>,
    /// A named snapshot of the base to create, or one to remove.
    pub(crate) naming: Option<Naming<'p>>,
}

/// What a failed flush leaves of the log.
#[derive(Clone, Copy)]
pub(crate) struct Lost {
    /// Its end, which is durable.
    pub(crate) end: Point,
    /// The newest LSN that was assigned.
    pub(crate) newest: u64,
}

/// The result of a checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CheckpointResult {
    /// LSN of the transaction that was applied on top.
    pub(crate) lsn: u64,
    /// Pages that only the previous root, or a snapshot of a process, still needs; those of named snapshots are not
    /// counted.
    pub(crate) pending_pages: u64,
    pub(crate) free_pages: u64,
    pub(crate) page_count: u64,
}

impl CheckpointResult {
    /// Whether another checkpoint would make the file notably smaller.
    pub(crate) fn could_shrink(&self) -> bool {
        // (If there was nothing to apply, all are 0.)
        is_worthwhile(self.free_pages + self.pending_pages, self.page_count)
    }
}

/// Whether `spare` pages are worth a checkpoint that frees them.
pub(crate) fn is_worthwhile(spare: u64, page_count: u64) -> bool {
    spare >= SLACK_PAGES && spare * WORTHWHILE >= page_count
}

impl Engine {
    pub(crate) fn checkpoint(&self, plan: &CheckpointOptions<'_>, deadline: Deadline) -> Result<CheckpointResult> {
        let turn = self.lock_checkpoint(deadline)?;
        self.run_checkpoint(&turn, plan, deadline)
    }
}

impl Engine {
    /// Applies the log to the tree; does nothing if there is nothing to apply.
    pub(crate) fn run_checkpoint(
        &self,
        turn: &CheckpointGuard<'_>,
        plan: &CheckpointOptions<'_>,
        deadline: Deadline,
    ) -> Result<CheckpointResult> {
        let started = Instant::now();
        self.check_writable()?;
        let span = tracing::debug_span!(
            "checkpoint",
            direct = plan.direct.is_some(),
            lsn = tracing::field::Empty,
            pages = tracing::field::Empty,
        );
        let _in_span = span.enter();
        let result = self.fold_log(turn, plan, deadline);
        match &result {
            Ok(Some((done, pages))) => {
                span.record("lsn", done.lsn).record("pages", pages);
                let sidecar = self.sidecar();
                if let Some(slot) = self.slot(&sidecar) {
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
    pub(crate) fn could_shrink(&self, turn: &CheckpointGuard<'_>) -> Result<bool> {
        let fold = self.newest_space(turn)?;
        Ok(is_worthwhile(fold.spare_pages(), fold.space.page_count()))
    }

    /// The number of pages that nothing needs now, with the pins of all processes considered, and of all pages.
    pub(crate) fn free_and_all_pages(&self, turn: &CheckpointGuard<'_>) -> Result<(u64, u64)> {
        let PageWriter { space, .. } = self.newest_space(turn)?;
        Ok((space.free_pages(), space.page_count()))
    }

    fn newest_space(&self, turn: &CheckpointGuard<'_>) -> Result<PageWriter<'_>> {
        turn.settle_root()?;
        let base = self.open_tree(Arc::new(self.slots()?.newest), None)?;
        PageWriter::new(self, turn, &base)
    }

    /// Appends a checkpoint mark, unless the last frame is one already. Returns the point after it, and the size
    /// that the log should have.
    fn rotate(&self, plan: &CheckpointOptions<'_>, deadline: Deadline) -> Result<Option<(Point, u64)>> {
        let mut append = self.lock_append(deadline)?;
        if self.is_poisoned(&append.sidecar) {
            return Err(self.unmended());
        }
        let (used, capacity) = (append.state.used(), append.state.ring.capacity());
        let mut wanted = capacity.max(plan.room_for * 4);
        if used * 3 > capacity {
            let since = now_us().saturating_sub(append.state.root.time).max(1);
            let pace = u128::from(used) * u128::from(HOLDS_US) / u128::from(since);
            wanted = wanted.max(capacity * 4).max(u64::try_from(pace).unwrap_or(u64::MAX));
        }
        let wanted = wanted.min(self.settings.log_cap);
        let empty = append.state.tail.lsn == append.state.root.checkpoint_lsn;
        let resize = plan.shrink && capacity > MIN_LOG || plan.room_for > capacity / 4;
        if empty {
            let needed = plan.force || plan.direct.is_some() || resize;
            return Ok(needed.then_some((append.state.tail, wanted)));
        }
        let mut header = [0; FRAME_HEADER];
        let start = append.state.start;
        append.state.ring.read(&*self.disk, start, &mut header).map_err(self.io("read the log"))?;
        let marked = FrameHeader::decode(&header)
            .is_some_and(|(h, _)| h.kind == FrameKind::Rotate && h.lsn == append.state.tail.lsn && h.position == start);
        if !marked {
            match append.append(&mut FrameBuilder::new(), FrameKind::Rotate, false) {
                Ok(Appended::At(_)) => {}
                // The frame was a mark, so the fate of no commit is open.
                Err(Error::Unconfirmed { reason, .. }) => return Err(self.poisoned_error(reason)),
                Err(e) => return Err(e),
                Ok(Appended::NoRoom) => {
                    return Err(Error::Internal("the log has no room for a checkpoint's mark".into()));
                }
            }
        }
        Ok(Some((append.state.tail, wanted)))
    }

    fn fold_log(
        &self,
        turn: &CheckpointGuard<'_>,
        plan: &CheckpointOptions<'_>,
        deadline: Deadline,
    ) -> Result<Option<(CheckpointResult, u64)>> {
        let begun = now_us();
        turn.settle_root()?;
        let Some((mark, wanted)) = self.durable_mark(plan, deadline)? else { return Ok(None) };
        let view = self.view_of_mark(turn, mark)?;
        let base = Arc::clone(&view.tree);
        let mut fold = PageWriter::new(self, turn, &base)?;
        let mut root = next_root(&view, mark);
        let archive = Batch::new(self, &view, mark, &root, begun)?.map(|batch| batch.with(plan.direct, plan.force));
        self.apply(&view, plan, &mut fold, &mut root)?;
        let wanted = wanted.saturating_sub(base.root.log_capacity());
        let added = if plan.shrink { None } else { self.add_segment(&mut fold, wanted)? };
        fold.write_out()?;
        // From the new root on, the space of these frames may be reused.
        archive.iter().for_each(Batch::keep);
        turn.flush_tree()?;

        // The ring and the LSN change only with APPEND held, so the next appender sees their current values.
        let passes_on = plan.direct.is_some() || plan.lost.is_some();
        let changes_log = added.is_some() || plan.shrink || passes_on;
        let append = if changes_log { Some(self.lock_append(deadline)?) } else { None };
        let tail = append.as_ref().map(|append| append.state.tail);
        lay_out_log(&mut fold, &base.root, &mut root, (mark, tail), added)?;
        if passes_on {
            // WRITER is held, so only marks can have been appended since: a process that lost its sidecar leaves one.
            let tail = tail.unwrap_or(mark).lsn;
            root.checkpoint_lsn = plan.lost.map_or(tail, |lost| lost.newest.max(tail)) + 1;
        }
        if plan.direct.is_some() {
            root.last_commit = root.checkpoint_lsn;
        }
        let old_len = self.disk.len().map_err(self.io("read the length"))?;
        trim(&mut fold, plan.shrink);
        let space = fold.save_space()?;
        (root.free_directory, root.pending, root.page_count) = (space.directory, space.pending, space.page_count);
        archive.iter().for_each(|batch| batch.keep_direct(root.checkpoint_lsn));
        fold.write_out()?;
        turn.flush_tree()?;
        self.write_root(turn, &root, plan.direct.is_some() || plan.naming.is_some())?;

        let root = Arc::new(root);
        match append {
            None => {
                self.current_sidecar().0.rise_root(root.sequence);
                self.raise_root(root.sequence);
            }
            Some(append) => self.tell_of_new_log(turn, append, &root, passes_on)?,
        }
        archive.iter().for_each(|batch| batch.confirm(root.checkpoint_lsn));
        self.cut_file(&root, old_len);
        let free_pages = fold.space.free_pages();
        let pending_pages = fold.spare_pages() - free_pages;
        let done = CheckpointResult { lsn: root.last_commit, pending_pages, free_pages, page_count: root.page_count };
        Ok(Some((done, fold.pages_written)))
    }

    /// Appends a checkpoint mark, and makes the log durable up to it. `None`: there is nothing to apply. After a
    /// failed flush, the durable end of what is left of the log replaces the mark. Also returns the size that the
    /// log should have.
    fn durable_mark(&self, plan: &CheckpointOptions<'_>, deadline: Deadline) -> Result<Option<(Point, u64)>> {
        if let Some(lost) = plan.lost {
            return Ok(Some((lost.end, 0)));
        }
        let Some(rotated) = self.rotate(plan, deadline)? else { return Ok(None) };
        self.wait_durable(rotated.0.lsn)?;
        Ok(Some(rotated))
    }

    /// The state at the checkpoint mark, over the newest root.
    fn view_of_mark(&self, turn: &CheckpointGuard<'_>, mark: Point) -> Result<View> {
        let view = self.view_at(turn, mark.lsn)?;
        let (root, lsn) = (view.tree.root.sequence, view.lsn);
        if root != self.known_root() || lsn != mark.lsn {
            return Err(Error::Internal(format!("root {root} and LSN {lsn} are not the newest")));
        }
        Ok(view)
    }

    /// Truncates the file to the pages of the new root: the rest is free in the durable root, and no process pins
    /// it. A refusal costs space, no data.
    fn cut_file(&self, root: &Root, old_len: u64) {
        let len = root.page_count * u64::from(root.page_size);
        if len < old_len
            && let Err(error) = self.disk.set_len(len)
        {
            tracing::warn!(%error, "the file could not be cut");
        }
    }

    /// Writes the slot of a new root, and flushes it. All that the root refers to is durable. `may_be_found`: the root
    /// holds a transaction of its own, or a named snapshot, which exists if the slot is found.
    fn write_root(&self, turn: &CheckpointGuard<'_>, root: &Root, may_be_found: bool) -> Result<()> {
        let unconfirmed = |e| if may_be_found { self.unconfirmed(e) } else { e };
        // Published before the slot is written: see `settle_root`.
        self.tell_by(&self.known_sidecar(), true, |sidecar| sidecar.rise_making(root.sequence));
        if let Err(e) = self.disk.write_at(&root.encode(), Root::slot_offset(root.sequence)) {
            let e = self.io("write a root slot")(e);
            let found = self.slots().map_or(true, |slots| slots.newest.sequence == root.sequence);
            return Err(if found { unconfirmed(e) } else { e });
        }
        turn.flush_tree().map_err(unconfirmed)
    }

    /// Publishes a root that changes the ring, or holds a transaction of its own. APPEND is held since before the
    /// slot was written: the next holder of APPEND finds this root published, or knows that its writer is gone.
    fn tell_of_new_log(
        &self,
        turn: &CheckpointGuard<'_>,
        mut append: AppendGuard<'_>,
        root: &Arc<Root>,
        passes_on: bool,
    ) -> Result<()> {
        append.state.take_over(Arc::clone(root));
        // The sidecar may have been lost while the pages were written, and its successor may hold values already.
        append.sidecar = self.current_sidecar().0;
        if let Some(failures) = turn.mends {
            append.recovered(failures)?;
        }
        append.seal();
        append.tell_of_root();
        self.raise_root(root.sequence);
        if !passes_on {
            return Ok(());
        }
        let sidecar = Arc::clone(&append.sidecar);
        self.publish_durable(&sidecar, root.checkpoint_lsn);
        // No frame leads to this transaction. If its root were lost, recovery would silently use the older root: so
        // a frame behind the root, the witness, says that there is more. A missing witness means nothing.
        let witness = append.append(&mut FrameBuilder::new(), FrameKind::Rotate, false).ok();
        append.seal();
        drop(append);
        if let Some(Appended::At(lsn)) = witness
            && let Err(error) = self.wait_durable(lsn)
        {
            tracing::warn!(%error, "the transaction is durable, but the log does not tell of it");
        }
        Ok(())
    }

    /// Applies the log's newest versions, and a transaction on top of them, table by table.
    fn apply(
        &self,
        view: &View,
        plan: &CheckpointOptions<'_>,
        fold: &mut PageWriter<'_>,
        root: &mut Root,
    ) -> Result<()> {
        let mut touched = Touched::new(view, plan.direct, fold)?;
        let mut catalog: BTreeMap<u32, Option<TreeRoot>> = BTreeMap::new();
        for table in std::mem::take(&mut touched.tables) {
            let old = view.tree_root(table)?;
            let new = update_table(view, plan.direct, fold, root, (table, old), &mut touched.loose)?;
            if new != old {
                catalog.insert(table, (!new.ptr.is_none()).then_some(new));
            }
        }
        for table in touched.dropped {
            root.next_table = root.next_table.max(table.saturating_add(1));
            let old = view.tree_root(table)?;
            if !old.ptr.is_none() {
                free_tree(fold, table, old)?;
                catalog.insert(table, None);
            }
        }
        for Pointed { value, birth, .. } in touched.loose.into_values() {
            let run = fold.pages().overflow_run(value)?;
            fold.free(value.ptr.page, run, birth.min(view.tree.root.sequence))?;
        }
        let cutoff = (plan.compact > 0).then(|| begin_moving_down(fold)).flatten();
        if let Some(cutoff) = cutoff {
            self.move_tables_down(view, fold, &mut catalog, cutoff, plan.compact)?;
        }
        if let Some(naming) = plan.naming {
            let mut versions = std::mem::take(&mut fold.named);
            let (old, new) = naming.apply(&view.tree, fold, &mut versions)?;
            fold.named = versions;
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

    /// Allocates a zeroed segment of about `bytes` bytes for the log's ring.
    fn add_segment(&self, fold: &mut PageWriter<'_>, bytes: u64) -> Result<Option<Segment>> {
        let page_size = u64::from(fold.pages().page_size());
        let Ok(pages) = u32::try_from(bytes / page_size) else { return Ok(None) };
        if pages == 0 {
            return Ok(None);
        }
        let page = fold.allocate(pages)?;
        let disk = &self.disk;
        if let Err(e) = disk.allocate(u64::from(page) * page_size, u64::from(pages) * page_size) {
            // The log also works at its present size.
            tracing::warn!(error = %e, "no room for a larger log");
            fold.space.release(page, pages);
            return Ok(None);
        }
        Ok(Some(Segment { page, pages }))
    }
}

/// The root that a checkpoint of everything up to the mark makes, before its trees are updated.
fn next_root(view: &View, mark: Point) -> Root {
    let mut root = Root::clone(&view.tree.root);
    root.sequence += 1;
    root.checkpoint_lsn = mark.lsn;
    root.time = now_us();
    root.last_commit = view.last_commit;
    root
}

/// Lays out the ring of the new root: it starts behind the mark, with one more segment, or with fewer if the log is
/// empty. `tail` is `Some` if APPEND is held, so that the ring may change.
fn lay_out_log(
    fold: &mut PageWriter<'_>,
    base: &Root,
    root: &mut Root,
    (mark, tail): (Point, Option<Point>),
    added: Option<Segment>,
) -> Result<()> {
    let mut ring = RingPlan::new(base, mark);
    match (added, tail) {
        (Some(segment), Some(tail)) if ring.extend(segment, tail, mark) => {}
        (Some(segment), _) => fold.space.release(segment.page, segment.pages),
        (None, Some(tail)) if tail == mark => {
            for segment in ring.shrink() {
                fold.free(segment.page, segment.pages, base.sequence)?;
            }
        }
        (None, _) => {}
    }
    (root.segments, root.log_offset, root.log_position, root.log_crc) =
        (ring.segments, ring.offset, ring.position, mark.crc);
    Ok(())
}

/// Decides how much of the file's free end is truncated.
fn trim(fold: &mut PageWriter<'_>, all: bool) {
    fold.release_own();
    let (tail, count) = (fold.space.free_tail(), fold.space.page_count());
    // Saving the free map takes some pages; a little slack avoids growing again at once.
    let slack = 16 + count / if all { 64 } else { 8 };
    if tail > slack {
        fold.space.truncate(count - (tail - slack / 2));
    }
}

/// The tables that a checkpoint touches.
#[derive(Default)]
struct Touched {
    tables: BTreeSet<u32>,
    dropped: BTreeSet<u32>,
    /// Runs of long values that the log points at. Those that do not end up in a tree are needed only by snapshots of
    /// the previous version.
    loose: BTreeMap<u32, Pointed>,
}

impl Touched {
    /// Collects the tables touched by the log, and by a transaction on top of it. Marks runs that the log points at
    /// as used.
    fn new(view: &View, direct: Option<&Changes>, fold: &mut PageWriter<'_>) -> Result<Touched> {
        let mut touched = Touched::default();
        for memtable in &view.memtables {
            let (tables, dropped) = memtable.touched_tables();
            touched.tables.extend(tables);
            touched.dropped.extend(dropped);
            for pointed in memtable.overflows() {
                fold.keep_overflow(pointed.value)?;
                touched.loose.insert(pointed.value.ptr.page, pointed);
            }
        }
        if let Some(direct) = direct {
            touched.tables.extend(direct.tables.keys());
            touched.dropped.extend(&direct.dropped);
        }
        touched.tables.retain(|table| !touched.dropped.contains(table));
        Ok(touched)
    }
}

/// Returns the table's new tree. Runs that end up in it are no longer loose.
fn update_table(
    view: &View,
    direct: Option<&Changes>,
    fold: &mut PageWriter<'_>,
    root: &mut Root,
    (table, old): (u32, TreeRoot),
    loose: &mut BTreeMap<u32, Pointed>,
) -> Result<TreeRoot> {
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
    Ok(new)
}

type Item = (Bytes<'static>, OwnedChange);

/// The changes to one table: the transaction's over the log's newest versions, in key order.
struct Merged<'a> {
    sources: Vec<std::iter::Peekable<Box<dyn Iterator<Item = Item> + 'a>>>,
}

impl<'a> Merged<'a> {
    /// Sources are in order, newest first: for equal keys, the change of the first source counts.
    fn new(view: &'a View, direct: Option<&'a Changes>, table: u32) -> Merged<'a> {
        let mut sources: Vec<Box<dyn Iterator<Item = Item> + 'a>> = Vec::new();
        if let Some(keys) = direct.and_then(|direct| direct.tables.get(&table)) {
            let change = |(key, change): (&Vec<u8>, &OwnedChange)| (Bytes::copied(key), change.clone());
            sources.push(Box::new(keys.iter().map(change)));
        }
        for memtable in view.memtables.iter().filter(|g| g.touches(table)) {
            let newest = memtable.newest(table, view.lsn).map(|version| (version.key, version.change));
            sources.push(Box::new(newest));
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

/// How long a checkpoint for which no thread waits may wait for its locks.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
