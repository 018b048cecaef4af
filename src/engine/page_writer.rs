//! Allocates and writes the pages of a new version of the tree.
//!
//! Only pages that are free in the durable root and that no process pins are written. Until the new root is durable
//! nothing refers to them, so a crash leaves them free.

use crate::disk::format::{Extent, Extents, FIRST_PAGE, Overflow};
use crate::disk::pins::joined;
use crate::engine::Engine;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::view::{TreeVersion, View};
use crate::error::{CorruptionKind, Error, Result};
use crate::tree::pages::Pages;
use crate::tree::space::{Space, SpaceRoot};
use crate::tree::update::PageStore;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Adjacent pages are written together, up to this many bytes.
const RUN_BYTES: usize = 256 << 10;
/// The file grows by a sixteenth, within these bounds.
const GROWTH_PAGES: std::ops::RangeInclusive<u64> = 16..=16384;

/// The pages that are free while the log is read on over one root, as the last long value of this process left them.
pub(crate) struct SpaceOfLog {
    root: u64,
    space: Space,
    /// The first page of each long value that is marked as used.
    values: BTreeSet<u32>,
}

pub(crate) struct PageWriter<'e> {
    engine: &'e Engine,
    pages: Arc<Pages>,
    pub(crate) space: Space,
    version: u64,
    /// The versions that named snapshots keep, ascending: at first those of the base, then those of the new root.
    pub(crate) named: Vec<u64>,
    /// Adjacent pages not yet written: the number of the first, and their bytes.
    waiting: (u32, Vec<u8>),
    /// Pages of the new version that are no longer needed.
    own: Vec<(u32, u32)>,
    /// The first page of each long value of the log that is marked as used.
    values: BTreeSet<u32>,
    /// Pages of long values that a running transaction has streamed: pending in the new root, so that they are free if
    /// that transaction ends without a frame.
    apart: Vec<Extents>,
    pub(crate) pages_written: u64,
}

impl<'e> PageWriter<'e> {
    /// Starts from a durable root.
    pub(crate) fn new(engine: &'e Engine, turn: &CheckpointGuard<'_>, base: &TreeVersion) -> Result<PageWriter<'e>> {
        let space = base.space(base.root.free_directory)?;
        PageWriter::over(engine, turn, base, space)
    }

    /// Starts from a durable root whose space is known.
    fn over(
        engine: &'e Engine,
        _turn: &CheckpointGuard<'_>,
        base: &TreeVersion,
        mut space: Space,
    ) -> Result<PageWriter<'e>> {
        let root = &base.root;
        // The named snapshots of the base, even if the new root removes them: until that root is durable, recovery
        // finds the base.
        let named = base.named_versions()?;
        let mut pinned = engine.pins.all(root.sequence)?;
        pinned.extend(named.iter().map(|version| *version..*version + 1));
        space.reclaim(root.sequence, &joined(pinned));
        let mut writer = PageWriter {
            engine,
            pages: Arc::clone(&base.pages),
            space,
            version: root.sequence + 1,
            named,
            waiting: (0, Vec::new()),
            own: Vec::new(),
            values: BTreeSet::new(),
            apart: Vec::new(),
            pages_written: 0,
        };
        // A file longer than its root says was grown by a checkpoint that did not finish.
        let len = engine.disk.len().map_err(engine.io("read the length"))?;
        let count = len / u64::from(root.page_size);
        if count > writer.space.page_count() {
            writer.space.grow(count);
        }
        writer.pages.set_page_count(writer.space.page_count());
        Ok(writer)
    }

    /// For the pages of long values that a log frame will point at. Their version is that of the root which the frame
    /// builds on, since snapshots of that root may read them.
    ///
    /// The space of the root is loaded for the first of these frames that this process appends, and `kept` for the next
    /// ones. The pages that the transaction has `streamed` values to are used, too.
    pub(crate) fn for_log(
        engine: &'e Engine,
        turn: &CheckpointGuard<'_>,
        view: &View,
        kept: Option<Box<SpaceOfLog>>,
        streamed: &[Extents],
    ) -> Result<PageWriter<'e>> {
        let root = view.tree.root.sequence;
        let (space, mut values, streamed) = match kept.filter(|kept| kept.root == root) {
            Some(kept) => (kept.space, kept.values, &[][..]),
            None => {
                #[cfg(test)]
                engine.spaces_loaded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                (view.tree.space(view.tree.root.free_directory)?, BTreeSet::new(), streamed)
            }
        };
        let mut writer = PageWriter::over(engine, turn, &view.tree, space)?;
        writer.version = root;
        let pointed = view.memtables.iter().flat_map(|memtable| memtable.overflows());
        let unknown: Vec<_> = pointed.map(|p| p.value).filter(|value| !values.contains(&value.ptr.page)).collect();
        unknown.iter().try_for_each(|value| writer.keep_overflow(value))?;
        streamed.iter().try_for_each(|extents| writer.keep_extents(extents))?;
        values.extend(unknown.iter().map(|value| value.ptr.page));
        writer.values = values;
        Ok(writer)
    }

    /// The space of the root, with these values. They must be those of a frame that is in the log, or the pages stay in
    /// use until there is another root.
    pub(crate) fn with_values(self, written: impl Iterator<Item = Overflow>) -> Box<SpaceOfLog> {
        let PageWriter { space, version: root, mut values, .. } = self;
        values.extend(written.map(|value| value.ptr.page));
        Box::new(SpaceOfLog { root, space, values })
    }

    /// Pages that are free, or will be once the new root is durable and no snapshot of a process keeps them.
    pub(crate) fn spare_pages(&self) -> u64 {
        let pending = self.space.pending_pages().saturating_sub(self.space.kept_pages(&self.named));
        self.space.free_pages() + pending
    }

    /// Grows the file by at least `pages` pages.
    pub(crate) fn grow(&mut self, pages: u64) -> Result<()> {
        let old = self.space.page_count();
        let step = (old / 16).clamp(*GROWTH_PAGES.start(), *GROWTH_PAGES.end());
        let page_size = u64::from(self.pages.page_size());
        let disk = &self.engine.disk;
        let mut count = old + pages.max(step);
        if disk.set_len(count * page_size).is_err() {
            count = old + pages;
            disk.set_len(count * page_size).map_err(self.engine.io("grow the file"))?;
        }
        self.space.grow(count);
        if self.space.page_count() < count {
            let source = std::io::Error::new(std::io::ErrorKind::StorageFull, "the store has as many pages as it can");
            return Err(Error::io("grow the file", self.engine.path(), source));
        }
        self.pages.set_page_count(count);
        Ok(())
    }

    /// Marks the pages of a long value that a log frame points at as used.
    pub(crate) fn keep_overflow(&mut self, overflow: &Overflow) -> Result<()> {
        let extents = self.pages.overflow_extents(overflow)?;
        self.keep_extents(&extents)
    }

    /// Keeps pages of a running transaction from being allocated: they will be pending in the new root.
    pub(crate) fn keep_apart(&mut self, streamed: &[Extents]) -> Result<()> {
        streamed.iter().try_for_each(|extents| self.keep_extents(extents))?;
        self.apart.extend_from_slice(streamed);
        Ok(())
    }

    fn keep_extents(&mut self, extents: &Extents) -> Result<()> {
        let Some(used) = extents.iter().find(|extent| !self.space.reserve(extent.page, extent.pages)) else {
            return Ok(());
        };
        let offset = u64::from(used.page) * u64::from(self.pages.page_size());
        let page = Some(u64::from(used.page));
        Err(Error::corrupt(CorruptionKind::LongValue, offset, page, "pages that no tree uses", "pages in use")
            .in_file(self.engine.path()))
    }

    /// Writes the waiting pages.
    pub(crate) fn write_out(&mut self) -> Result<()> {
        let (page, bytes) = &mut self.waiting;
        if bytes.is_empty() {
            return Ok(());
        }
        let offset = u64::from(*page) * u64::from(self.pages.page_size());
        debug_assert!(*page >= FIRST_PAGE);
        let disk = &self.engine.disk;
        disk.write_at(bytes, offset).map_err(self.engine.io("write a page"))?;
        // A commit's flush writes all dirty pages of the file: it should not have to write a whole checkpoint's.
        disk.start_writeback(offset, bytes.len() as u64);
        bytes.clear();
        Ok(())
    }

    /// Frees the pages of the new version that no tree needs any more. No update may be running.
    pub(crate) fn release_own(&mut self) {
        for (page, run) in self.own.drain(..) {
            self.space.release(page, run);
        }
    }

    /// Writes the free map, and returns what the root stores about it.
    pub(crate) fn save_space(&mut self) -> Result<SpaceRoot> {
        self.release_own();
        for extent in self.apart.drain(..).flat_map(|extents| extents.iter().collect::<Vec<_>>()) {
            self.space.retire(extent.page, extent.pages, self.version - 1, self.version);
        }
        loop {
            match self.space.growth_needed(self.version) {
                0 => break,
                pages => self.grow(pages)?,
            }
        }
        self.write_out()?;
        let (engine, page_size) = (self.engine, u64::from(self.pages.page_size()));
        let mut written = 0;
        let root = self.space.save(self.version, &mut |page, bytes| {
            written += bytes.len() as u64 / page_size;
            engine.disk.write_at(bytes, u64::from(page) * page_size).map_err(engine.io("write the free map"))
        })?;
        self.pages_written += written;
        Ok(root)
    }
}

impl PageStore for PageWriter<'_> {
    fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn allocate(&mut self, run: u32) -> Result<u32> {
        if let Some(page) = self.space.allocate(run) {
            return Ok(page);
        }
        self.grow(u64::from(run))?;
        self.space.allocate(run).ok_or_else(|| {
            let source = std::io::Error::new(std::io::ErrorKind::StorageFull, "no run of free pages after growing");
            Error::io("allocate", self.engine.path(), source)
        })
    }

    fn allocate_extents(&mut self, pages: u32) -> Result<Extents> {
        let (mut extents, missing) = self.space.allocate_extents(pages, u32::MAX);
        if missing > 0 {
            extents.push(Extent { page: self.allocate(missing)?, pages: missing });
        }
        Ok(extents)
    }

    fn allocate_before(&mut self, pages: u32, page: u32) -> Result<Option<Extents>> {
        let (extents, missing) = self.space.allocate_extents(pages, page);
        if missing == 0 {
            return Ok(Some(extents));
        }
        extents.iter().for_each(|extent| self.space.release(extent.page, extent.pages));
        Ok(None)
    }

    fn settle(&mut self) -> Result<()> {
        self.write_out()
    }

    fn free(&mut self, page: u32, run: u32, version: u64) -> Result<()> {
        // In a forged file, a tree may use pages that are free in the free map, or that belong to another tree.
        if !self.space.in_use(page, run) || version > self.version {
            let offset = u64::from(page) * u64::from(self.pages.page_size());
            let found = format!("free ones, or of version {version}");
            let expected = format!("{run} pages in use, of a version up to {}", self.version);
            return Err(Error::corrupt(CorruptionKind::FreeMap, offset, Some(u64::from(page)), expected, found)
                .in_file(self.engine.path()));
        }
        if version == self.version {
            // Written by this writer, and perhaps still being read by the caller: must not be written again yet.
            self.own.push((page, run));
        } else {
            self.space.retire(page, run, version, self.version);
        }
        Ok(())
    }

    fn write(&mut self, page: u32, bytes: &[u8]) -> Result<()> {
        let page_size = self.pages.page_size() as usize;
        let (first, waiting) = &self.waiting;
        let next = u64::from(*first) + (waiting.len() / page_size) as u64;
        if u64::from(page) != next || waiting.len() + bytes.len() > RUN_BYTES {
            self.write_out()?;
            self.waiting.0 = page;
        }
        self.waiting.1.extend_from_slice(bytes);
        self.pages_written += (bytes.len() / page_size) as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Free;
    use crate::simulation::new_store;

    /// A checkpoint reads pages in place, in the map of the file: it may still be reading a page that it frees.
    #[test]
    fn a_page_that_a_checkpoint_wrote_and_freed_is_not_used_again_by_it() {
        let (_world, _disk, store) = new_store(Arc::new(Free), 1 << 20);
        let engine = store.engine();
        let turn = engine.lock_checkpoint(None).unwrap();
        let base = engine.open_tree(Arc::new(engine.slots().unwrap().newest), None).unwrap();
        let mut writer = PageWriter::new(engine, &turn, &base).unwrap();
        let page = writer.allocate(1).unwrap();
        writer.free(page, 1, writer.version()).unwrap();
        let next = writer.allocate(1).unwrap();
        assert_ne!(next, page);
        writer.release_own();
        assert_eq!(writer.allocate(1).unwrap(), page);
    }
}
