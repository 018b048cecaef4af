//! Making a new root: trees updated copy-on-write over a base, then the root slot.
//!
//! The holder of CHECKPOINT makes it. Pages are flushed before the slot is written, and the slot before the root is
//! published, so a failure at any step before the slot leaves the base in force.

use crate::change::Change;
use crate::disk::durable_note::DurableNote;
use crate::disk::format::{TABLE_CATALOG, TABLE_NAMES, TREE_ROOT_SIZE, TreeRoot};
use crate::disk::host::unix_us;
use crate::disk::locks::Deadline;
use crate::disk::root::{Root, Segment};
use crate::engine::Engine;
use crate::engine::append::AppendGuard;
use crate::engine::archive::Batch;
use crate::engine::changes::Changes;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::move_down::{WORTHWHILE, is_worthwhile, move_catalog_down};
use crate::engine::page_writer::PageWriter;
use crate::engine::ring_plan::RingPlan;
use crate::engine::table_row::TableEntry;
use crate::engine::view::View;
use crate::error::Result;
use crate::log::reader::Point;
use crate::tree::update::{PageStore, update};
use crate::tree::walk::free_tree;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a root holds that no frame of the log leads to. If its slot were damaged, the older root would count, and
/// nothing would show the loss: so such a root is written into both slots.
#[derive(Clone, Copy)]
pub(crate) enum Unlogged<'c> {
    Nothing,
    /// A named snapshot is created or removed.
    Name,
    /// Frames are gone, whose LSNs go up to this one. The root passes over these LSNs.
    Lost(u64),
    /// A transaction, which gets the next LSN.
    Transaction(&'c Changes),
}

impl Unlogged<'_> {
    /// Whether the root has an LSN of its own, behind that of the log's end.
    fn takes_lsn(self) -> bool {
        matches!(self, Unlogged::Lost(_) | Unlogged::Transaction(_))
    }
}

/// How the new root changes the log's ring.
#[derive(Clone, Copy, Default)]
pub(crate) struct RingChange {
    pub(crate) added: Option<Segment>,
    /// Free the space of an empty log, and more of the file's free end.
    pub(crate) shrink: bool,
}

/// The result of making a root.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CheckpointResult {
    /// The newest transaction in the root.
    pub(crate) lsn: u64,
    /// Pages that only the previous root, or a snapshot of a process, still needs; those of named snapshots are not
    /// counted.
    pub(crate) pending_pages: u64,
    pub(crate) free_pages: u64,
    pub(crate) page_count: u64,
    pub(crate) pages_written: u64,
}

impl CheckpointResult {
    /// Whether another checkpoint would make the file notably smaller.
    pub(crate) fn could_shrink(&self) -> bool {
        // (If there was nothing to apply, all are 0.)
        is_worthwhile(self.free_pages + self.pending_pages, self.page_count, WORTHWHILE)
    }
}

/// A root in the making.
pub(crate) struct NewRoot<'e> {
    engine: &'e Engine,
    turn: &'e CheckpointGuard<'e>,
    /// The state that the root is built on: the base, and the log up to `end`.
    view: &'e View,
    /// The end of the log that the root includes. It is durable.
    end: Point,
    pub(crate) pages: PageWriter<'e>,
    pub(crate) root: Root,
    /// Rows of the catalog that change: a table's new tree; `None` if it has none.
    pub(crate) catalog: BTreeMap<u32, Option<TreeRoot>>,
}

impl<'e> NewRoot<'e> {
    pub(crate) fn begin(
        engine: &'e Engine,
        turn: &'e CheckpointGuard<'e>,
        view: &'e View,
        end: Point,
    ) -> Result<NewRoot<'e>> {
        let pages = PageWriter::new(engine, turn, &view.tree)?;
        let root = Root {
            sequence: view.tree.root.sequence + 1,
            checkpoint_lsn: end.lsn,
            time: unix_us(),
            last_commit: view.last_commit,
            ..Root::clone(&view.tree.root)
        };
        Ok(NewRoot { engine, turn, view, end, pages, root, catalog: BTreeMap::new() })
    }

    /// Applies changes, in the order of their keys, to a table.
    pub(crate) fn update<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        table: u32,
        changes: impl Iterator<Item = (K, Change<V>)>,
    ) -> Result<()> {
        let old = self.view.tree_root(table)?;
        let mut next_table = self.root.next_table.max(table.saturating_add(1));
        let changes = changes.inspect(|(_, change)| {
            if let Change::Put(row) = change
                && table == TABLE_NAMES
                && let Some(entry) = TableEntry::decode(row.as_ref())
            {
                next_table = next_table.max(entry.id.saturating_add(1));
            }
        });
        let new = update(&mut self.pages, table, old, changes.map(Ok))?;
        self.root.next_table = next_table;
        self.set_tree(table, old, new);
        Ok(())
    }

    /// Notes the tree that a table has now.
    pub(crate) fn set_tree(&mut self, table: u32, old: TreeRoot, new: TreeRoot) {
        if new != old {
            self.catalog.insert(table, (!new.ptr.is_none()).then_some(new));
        }
    }

    /// Frees the tree of a dropped table.
    pub(crate) fn drop_table(&mut self, table: u32) -> Result<()> {
        self.root.next_table = self.root.next_table.max(table.saturating_add(1));
        let old = self.view.tree_root(table)?;
        if !old.ptr.is_none() {
            free_tree(&mut self.pages, table, old)?;
            self.catalog.insert(table, None);
        }
        Ok(())
    }

    /// Updates the catalog. With a `cutoff`, up to `budget` of its keys are moved below that page.
    pub(crate) fn update_catalog(&mut self, cutoff: Option<u32>, budget: usize) -> Result<()> {
        let view = self.view;
        let rows = std::mem::take(&mut self.catalog).into_iter().map(|(table, tree)| {
            let Some(tree) = tree else { return Ok((table.to_be_bytes(), Change::Delete)) };
            // What a newer program has added to the row stays.
            let mut row = tree.encode().to_vec();
            let old = view.tree.catalog_row(table)?;
            row.extend_from_slice(old.as_deref().and_then(|old| old.get(TREE_ROOT_SIZE..)).unwrap_or_default());
            Ok((table.to_be_bytes(), Change::Put(row)))
        });
        self.root.catalog = update(&mut self.pages, TABLE_CATALOG, self.root.catalog, rows)?;
        if let Some(cutoff) = cutoff {
            self.root.catalog = move_catalog_down(&mut self.pages, self.root.catalog, cutoff, budget)?;
        }
        Ok(())
    }

    /// Allocates a zeroed segment for the log's ring, so that the log can hold about `wanted` bytes.
    pub(crate) fn add_segment(&mut self, wanted: u64) -> Result<Option<Segment>> {
        let page_size = u64::from(self.root.page_size);
        let bytes = wanted.saturating_sub(self.view.tree.root.log_capacity());
        let Ok(count) = u32::try_from(bytes / page_size) else { return Ok(None) };
        if count == 0 {
            return Ok(None);
        }
        let page = self.pages.allocate(count)?;
        let disk = &self.engine.disk;
        if let Err(e) = disk.allocate(u64::from(page) * page_size, u64::from(count) * page_size) {
            // The log also works at its present size.
            crate::trace::warn!(error = %e, "no room for a larger log");
            self.pages.space.release(page, count);
            return Ok(None);
        }
        Ok(Some(Segment { page, pages: count }))
    }

    /// Makes the root durable, and publishes it.
    pub(crate) fn finish(
        mut self,
        unlogged: Unlogged<'_>,
        ring: RingChange,
        archive: Option<&Batch<'_>>,
        deadline: Deadline,
    ) -> Result<CheckpointResult> {
        self.pages.write_out()?;
        // Durable before the slot is written: from then on the disk may hold this root, whatever the system shows.
        let erased = DurableNote::erase(&*self.engine.disk, self.engine.page_size, self.engine.store_tag);
        erased.map_err(self.engine.io("erase the durability note"))?;
        // From the new root on, the space of these frames may be reused.
        archive.inspect(|batch| batch.keep());
        // The ring and the LSN change only with APPEND held, so the next appender sees their current values.
        let changes_log = ring.added.is_some() || ring.shrink || unlogged.takes_lsn();
        let append = if changes_log {
            // Most of the pages are flushed before, so that the flush under APPEND is short.
            self.turn.flush_tree()?;
            Some(self.engine.lock_append(deadline)?)
        } else {
            None
        };
        let tail = append.as_ref().map(|append| append.state.tail);
        self.lay_out_log(tail, ring.added)?;
        self.set_lsn(tail.unwrap_or(self.end).lsn, unlogged);
        let old_len = self.engine.disk.len().map_err(self.engine.io("read the length"))?;
        self.save_space(ring.shrink)?;
        if let Unlogged::Transaction(changes) = unlogged {
            archive.inspect(|batch| batch.keep_large(changes, self.root.checkpoint_lsn));
        }
        self.turn.flush_tree()?;
        self.write_slot(unlogged)?;
        self.publish(append)?;
        if !matches!(unlogged, Unlogged::Nothing) {
            self.write_other_slot();
        }
        if let Unlogged::Transaction(_) = unlogged {
            archive.inspect(|batch| batch.confirm(self.root.checkpoint_lsn));
        }
        self.cut_file(old_len);
        Ok(self.result())
    }

    /// Lays out the ring: it starts behind the included end, with one more segment, or with fewer if the log is empty.
    /// `tail` is `Some` if APPEND is held, so that the ring may change.
    fn lay_out_log(&mut self, tail: Option<Point>, added: Option<Segment>) -> Result<()> {
        let (base, end) = (&self.view.tree.root, self.end);
        let mut ring = RingPlan::new(base, end);
        match (added, tail) {
            (Some(segment), Some(tail)) if ring.extend(segment, tail, end) => {}
            (Some(segment), _) => self.pages.space.release(segment.page, segment.pages),
            (None, Some(tail)) if tail == end => {
                for segment in ring.shrink() {
                    self.pages.free(segment.page, segment.pages, base.sequence)?;
                }
            }
            (None, _) => {}
        }
        let root = &mut self.root;
        (root.segments, root.log_offset, root.log_position, root.log_crc) =
            (ring.segments, ring.offset, ring.position, end.crc);
        Ok(())
    }

    /// Numbers a root that has an LSN of its own. WRITER and CHECKPOINT are held, so no frame was appended since `end`
    /// was found; the tail decides all the same.
    fn set_lsn(&mut self, tail: u64, unlogged: Unlogged<'_>) {
        match unlogged {
            Unlogged::Lost(newest) => self.root.checkpoint_lsn = newest.max(tail) + 1,
            Unlogged::Transaction(_) => {
                self.root.checkpoint_lsn = tail + 1;
                self.root.last_commit = tail + 1;
            }
            Unlogged::Nothing | Unlogged::Name => {}
        }
    }

    /// Decides how much of the file's free end is truncated, and writes the free map.
    fn save_space(&mut self, shrink: bool) -> Result<()> {
        self.pages.release_own();
        let (tail, count) = (self.pages.space.free_tail(), self.pages.space.page_count());
        // Saving the free map takes some pages; a little slack avoids growing again at once.
        let slack = 16 + count / if shrink { 1024 } else { 8 };
        if tail > slack {
            self.pages.space.truncate(count - (tail - slack / 2));
        }
        let space = self.pages.save_space()?;
        let root = &mut self.root;
        (root.free_directory, root.pending, root.page_count) = (space.directory, space.pending, space.page_count);
        self.pages.write_out()
    }

    /// Writes the slot, and flushes it. All that the root refers to is durable.
    fn write_slot(&self, unlogged: Unlogged<'_>) -> Result<()> {
        let (engine, root) = (self.engine, &self.root);
        // A transaction, or a name, exists if the slot is found.
        let may_be_found = matches!(unlogged, Unlogged::Transaction(_) | Unlogged::Name);
        let unconfirmed = |e| if may_be_found { engine.unconfirmed(e) } else { e };
        // Published before the slot is written: see `settle_root`.
        engine.publish_through(&engine.known_sidecar(), true, |sidecar| sidecar.rise_making(root.sequence));
        if let Err(e) = engine.disk.write_at(&root.encode(), root.offset()) {
            let e = engine.io("write a root slot")(e);
            let found = engine.slots().map_or(true, |slots| slots.newest.sequence == root.sequence);
            return Err(if found { unconfirmed(e) } else { e });
        }
        self.turn.flush_tree().map_err(unconfirmed)
    }

    /// Publishes the root. A root that changes the ring, or has an LSN of its own, is published under APPEND, which is
    /// held since before the slot was written: the next holder of APPEND finds the root published, or knows that its
    /// maker is gone.
    fn publish(&self, append: Option<AppendGuard<'_>>) -> Result<()> {
        let (engine, root) = (self.engine, &self.root);
        let Some(mut append) = append else {
            let sidecar = engine.current_sidecar().0;
            engine.publish_durable(&sidecar, root.checkpoint_lsn);
            sidecar.rise_root(root.sequence);
            engine.raise_root(root.sequence);
            return Ok(());
        };
        append.state.take_over(Arc::new(root.clone()));
        // The sidecar may have been lost while the pages were written, and its successor may hold values already.
        append.sidecar = engine.current_sidecar().0;
        if let Some(failures) = self.turn.repairs {
            append.recovered(failures)?;
        }
        append.seal();
        append.publish_root();
        engine.raise_root(root.sequence);
        engine.publish_durable(&append.sidecar, root.checkpoint_lsn);
        Ok(())
    }

    /// Writes the root, which is durable and published, into the other slot, too. A failure loses nothing: the next
    /// writer repairs it.
    fn write_other_slot(&self) {
        let sequence = self.root.sequence + 1;
        match self.turn.write_copy().and_then(|()| self.turn.flush_tree()) {
            Ok(()) => {
                self.engine.current_sidecar().0.rise_root(sequence);
                self.engine.raise_root(sequence);
            }
            Err(error) => crate::trace::warn!(%error, "the root is durable, but only in one slot"),
        }
    }

    /// Truncates the file to the pages of the new root: the rest is free in the durable root, and no process pins
    /// it. A refusal costs space, no data.
    fn cut_file(&self, old_len: u64) {
        let len = self.root.page_count * u64::from(self.root.page_size);
        if len < old_len
            && let Err(error) = self.engine.disk.set_len(len)
        {
            crate::trace::warn!(%error, "the file could not be cut");
        }
    }

    fn result(&self) -> CheckpointResult {
        let free_pages = self.pages.space.free_pages();
        CheckpointResult {
            lsn: self.root.last_commit,
            pending_pages: self.pages.spare_pages() - free_pages,
            free_pages,
            page_count: self.root.page_count,
            pages_written: self.pages.pages_written,
        }
    }
}
