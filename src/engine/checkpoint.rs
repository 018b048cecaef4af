//! Checkpoints: applying the log to the tree.
//!
//! The checkpointer holds CHECKPOINT. It appends a checkpoint record at LSN C; makes C durable; applies everything up
//! to C, in key order, to a copy-on-write tree; and makes a new root. Commits continue meanwhile behind the record.
//!
//! A transaction too large for the log is committed by a second root, on top of the checkpoint's.

use crate::change::Change;
use crate::disk::format::{Extents, TABLE_SNAPSHOTS};
use crate::disk::host::unix_us;
use crate::disk::locks::Deadline;
use crate::disk::slot::Counter;
use crate::engine::Engine;
use crate::engine::append::Appended;
use crate::engine::archive::Batch;
use crate::engine::changes::{Changes, placed_values};
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::journal::keep_journal;
use crate::engine::move_down::{WORTHWHILE, WORTHWHILE_IF_ASKED, begin_moving_down, is_worthwhile};
use crate::engine::names::Naming;
use crate::engine::new_root::{CheckpointResult, NewRoot, RingChange, Unlogged};
use crate::engine::page_writer::PageWriter;
use crate::engine::view::View;
use crate::engine::writer_queue::WriterGuard;
use crate::error::{CorruptionKind, Error, Result};
use crate::log::frame::{FRAME_HEADER, FrameBuilder, FrameHeader, FrameKind};
use crate::log::memtable::Pointed;
use crate::log::reader::Point;
use crate::tree::update::PageStore;
use std::collections::BTreeMap;
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
    /// A caller asks for that: a few free pages are reason enough.
    pub(crate) thorough: bool,
    /// Frames that were never durable are gone.
    pub(crate) lost: Option<Lost>,
    /// A named snapshot of the base to create, or one to remove.
    pub(crate) naming: Option<Naming<'p>>,
    /// Pages of values that the holder of WRITER and CHECKPOINT has streamed: they are not allocated.
    pub(crate) streamed: &'p [Extents],
}

/// What a failed flush leaves of the log.
#[derive(Clone, Copy)]
pub(crate) struct Lost {
    /// Its end, which is durable.
    pub(crate) end: Point,
    /// The newest LSN that was assigned.
    pub(crate) newest: u64,
}

impl CheckpointOptions<'_> {
    /// Free pages are worth moving others if they are one in this many.
    fn worthwhile(&self) -> u64 {
        if self.thorough { WORTHWHILE_IF_ASKED } else { WORTHWHILE }
    }
}

impl Engine {
    pub(crate) fn checkpoint(&self, plan: &CheckpointOptions<'_>, deadline: Deadline) -> Result<CheckpointResult> {
        let turn = self.lock_checkpoint(deadline)?;
        self.run_checkpoint(&turn, plan, deadline)
    }

    /// Applies the log to the tree; does nothing if there is nothing to apply.
    pub(crate) fn run_checkpoint(
        &self,
        turn: &CheckpointGuard<'_>,
        plan: &CheckpointOptions<'_>,
        deadline: Deadline,
    ) -> Result<CheckpointResult> {
        let started = Instant::now();
        self.check_writable()?;
        let span = crate::trace::debug_span!(
            "checkpoint",
            lsn = crate::trace::field::Empty,
            pages = crate::trace::field::Empty,
        );
        let _in_span = span.enter();
        let result = self.make_checkpoint(turn, plan, deadline);
        match &result {
            Ok(Some(done)) => {
                let pages = done.pages_written;
                span.record("lsn", done.lsn).record("pages", pages);
                let sidecar = self.sidecar();
                self.note_in_slot(&sidecar, |slot| slot.count(Counter::Checkpoints, 1));
                let took_ms = started.elapsed().as_millis();
                crate::trace::debug!(
                    took_ms,
                    pages,
                    free = done.free_pages,
                    pending = done.pending_pages,
                    "checkpoint done"
                );
            }
            Ok(None) => {}
            Err(error) => crate::trace::warn!(%error, "checkpoint failed"),
        }
        Ok(result?.unwrap_or_default())
    }

    /// Whether another such checkpoint would make the file notably smaller.
    pub(crate) fn could_shrink(&self, turn: &CheckpointGuard<'_>, plan: &CheckpointOptions<'_>) -> Result<bool> {
        let writer = self.newest_space(turn)?;
        Ok(is_worthwhile(writer.spare_pages(), writer.space.page_count(), plan.worthwhile()))
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

    /// Appends a checkpoint record, unless the last frame is one already. Returns the point after it, and the size
    /// that the log should have.
    fn append_checkpoint_record(
        &self,
        plan: &CheckpointOptions<'_>,
        deadline: Deadline,
    ) -> Result<Option<(Point, u64)>> {
        let mut append = self.lock_append(deadline)?;
        if self.is_poisoned(&append.sidecar) {
            return Err(self.not_repaired());
        }
        let (used, capacity) = (append.state.used(), append.state.ring.capacity());
        let mut wanted = capacity.max(plan.room_for * 4);
        if used * 3 > capacity {
            let since = unix_us().saturating_sub(append.state.root.time).max(1);
            let pace = u128::from(used) * u128::from(HOLDS_US) / u128::from(since);
            wanted = wanted.max(capacity * 4).max(u64::try_from(pace).unwrap_or(u64::MAX));
        }
        let wanted = wanted.min(self.settings.log_cap);
        let empty = append.state.tail.lsn == append.state.root.checkpoint_lsn;
        let resize = plan.shrink && capacity > self.min_log() || plan.room_for > capacity / 4;
        if empty {
            let needed = plan.force || resize;
            return Ok(needed.then_some((append.state.tail, wanted)));
        }
        let mut header = [0; FRAME_HEADER];
        let start = append.state.start;
        append.state.ring.read(&*self.disk, start, &mut header).map_err(self.io("read the log"))?;
        let recorded = FrameHeader::decode(&header).is_some_and(|(h, _)| {
            h.kind == FrameKind::Checkpoint && h.lsn == append.state.tail.lsn && h.position == start
        });
        if !recorded {
            match append.append(&mut FrameBuilder::new(), FrameKind::Checkpoint, false) {
                Ok(Appended::At(_)) => {}
                // The frame was a checkpoint record, so the fate of no commit is open.
                Err(Error::Unconfirmed { reason, .. }) => return Err(self.poisoned_error(reason)),
                Err(e) => return Err(e),
                Ok(Appended::NoRoom) => {
                    // Commits leave room for the record. They have filled it behind a newer root, with another ring.
                    let (expected, found) = ("the root that the last frames were written for", "an older root");
                    return Err(
                        Error::corrupt(CorruptionKind::RootSlots, 0, None, expected, found).in_file(self.path())
                    );
                }
            }
        }
        Ok(Some((append.state.tail, wanted)))
    }

    fn make_checkpoint(
        &self,
        turn: &CheckpointGuard<'_>,
        plan: &CheckpointOptions<'_>,
        deadline: Deadline,
    ) -> Result<Option<CheckpointResult>> {
        let begun = unix_us();
        turn.settle_root()?;
        let Some((end, wanted)) = self.durable_end(plan, deadline)? else { return Ok(None) };
        let view = self.view_at_end_of_log(turn, end)?;
        let mut new = NewRoot::begin(self, turn, &view, end)?;
        new.pages.keep_apart(plan.streamed)?;
        let archive = Batch::new(self, &view, end, &new.root, begun, plan.force)?;
        apply_log(&view, &mut new)?;
        keep_journal(&view, &mut new, None)?;
        let cutoff = (plan.compact > 0).then(|| begin_moving_down(&mut new.pages, plan.worthwhile())).flatten();
        if let Some(cutoff) = cutoff {
            self.move_tables_down(&view, &mut new.pages, &mut new.catalog, cutoff, plan.compact)?;
        }
        let mut unlogged = plan.lost.map_or(Unlogged::Nothing, |lost| Unlogged::Lost(lost.newest));
        if let Some(naming) = plan.naming {
            let mut versions = std::mem::take(&mut new.pages.named);
            let (old, tree) = naming.apply(&view.tree, &mut new.pages, &mut versions)?;
            new.pages.named = versions;
            new.set_tree(TABLE_SNAPSHOTS, old, tree);
            unlogged = Unlogged::Name;
        }
        new.update_catalog(cutoff, plan.compact)?;
        let added = if plan.shrink { None } else { new.add_segment(wanted)? };
        let ring = RingChange { added, shrink: plan.shrink };
        new.finish(unlogged, ring, archive.as_ref(), deadline).map(Some)
    }

    /// Commits a transaction that is too large for the log, and returns its LSN: makes a root that adds the transaction.
    /// A checkpoint has just applied the log, and the caller holds WRITER, so nothing was committed in between.
    pub(crate) fn commit_to_tree(
        &self,
        _writer: &WriterGuard,
        turn: &CheckpointGuard<'_>,
        changes: &Changes,
        deadline: Deadline,
    ) -> Result<u64> {
        let (begun, any) = (unix_us(), CheckpointOptions { force: true, ..CheckpointOptions::default() });
        let Some((end, _)) = self.durable_end(&any, deadline)? else {
            return Err(Error::Internal("a root cannot be made of an empty log".to_owned()));
        };
        let view = self.view_at_end_of_log(turn, end)?;
        if view.last_commit > view.tree.root.last_commit {
            return Err(Error::Internal(format!("LSN {} was committed without WRITER", view.last_commit)));
        }
        let mut new = NewRoot::begin(self, turn, &view, end)?;
        placed_values(changes).try_for_each(|(_, _, long)| new.pages.keep_overflow(&long))?;
        let archive = Batch::new(self, &view, end, &new.root, begun, true)?;
        for (table, keys) in changes.kept_tables() {
            new.update(table, keys.iter().map(|(key, change)| (key, change.as_slice())))?;
        }
        changes.dropped.iter().try_for_each(|table| new.drop_table(*table))?;
        keep_journal(&view, &mut new, Some((end, changes)))?;
        new.update_catalog(None, 0)?;
        let done = new.finish(Unlogged::Transaction(changes), RingChange::default(), archive.as_ref(), deadline)?;
        Ok(done.lsn)
    }

    /// Appends a checkpoint record, and makes the log durable up to it. `None`: there is nothing to apply. After a
    /// failed flush, the log ends where what is left of it does. Also returns the size that the log should have.
    ///
    /// The flush ends the batch, so that the next frame starts in a new block: the ring of the new root may start there.
    fn durable_end(&self, plan: &CheckpointOptions<'_>, deadline: Deadline) -> Result<Option<(Point, u64)>> {
        if let Some(lost) = plan.lost {
            return Ok(Some((lost.end, 0)));
        }
        let Some(end) = self.append_checkpoint_record(plan, deadline)? else { return Ok(None) };
        self.wait_durable(end.0.lsn)?;
        Ok(Some(end))
    }

    /// The state at the checkpoint record, over the newest root.
    fn view_at_end_of_log(&self, turn: &CheckpointGuard<'_>, end: Point) -> Result<View> {
        let view = self.view_at(turn, end.lsn)?;
        let (root, lsn) = (view.tree.root.sequence, view.lsn);
        if root != self.known_root() || lsn != end.lsn {
            return Err(Error::Internal(format!("root {root} and LSN {lsn} are not the newest")));
        }
        Ok(view)
    }
}

/// Applies the log's newest versions, table by table.
fn apply_log(view: &View, new: &mut NewRoot<'_>) -> Result<()> {
    let (tables, dropped) = view.tables_in_log();
    let mut loose = logged_values(view, &mut new.pages)?;
    for table in tables {
        let changes = view.log_changes(table).inspect(|(_, change)| {
            // A value that ends up in a tree is no longer loose.
            if let Change::PutOverflow(overflow) = change {
                loose.remove(&overflow.ptr.page);
            }
        });
        new.update(table, changes)?;
    }
    dropped.into_iter().try_for_each(|table| new.drop_table(table))?;
    for Pointed { value, birth, .. } in loose.into_values() {
        let birth = birth.min(view.tree.root.sequence);
        for extent in new.pages.pages().overflow_extents(&value)?.iter() {
            new.pages.free(extent.page, extent.pages, birth)?;
        }
    }
    Ok(())
}

/// The long values that the log points at, by their first page, marked as used. Those that do not end up in a tree are
/// needed only by snapshots of the previous version.
fn logged_values(view: &View, writer: &mut PageWriter<'_>) -> Result<BTreeMap<u32, Pointed>> {
    let mut values = BTreeMap::new();
    for pointed in view.memtables.iter().flat_map(|memtable| memtable.overflows()) {
        writer.keep_overflow(&pointed.value)?;
        values.insert(pointed.value.ptr.page, pointed);
    }
    Ok(values)
}

/// How long a checkpoint for which no thread waits may wait for its locks.
pub(crate) const BACKGROUND_LOCK_WAIT: Duration = Duration::from_secs(30);
