//! The sums that the catalog keeps of a tree, brought up to date along with it.

use super::node::{Entry, Long};
use super::pages::Pages;
use super::update::{Edit, PageStore};
use crate::change::Change;
use crate::disk::format::{Child, Extents, TreeRoot};
use crate::error::Result;
use std::sync::Arc;

/// A page store that belongs to one tree for the time being, and so knows how many pages the tree has.
///
/// The sums of a hostile file may be anything, so none of them panics or wraps around.
pub(super) struct Counted<'s> {
    store: &'s mut dyn PageStore,
    /// Pages of the tree.
    pages: u64,
    /// Bytes of its keys and values.
    bytes: u64,
}

impl<'s> Counted<'s> {
    /// The pages of this tree, from now on.
    pub(super) fn of(store: &'s mut dyn PageStore, tree: TreeRoot) -> Counted<'s> {
        Counted { store, pages: tree.pages, bytes: tree.bytes }
    }

    /// Pages that belong to the tree from now on.
    fn adopt(&mut self, pages: u64) {
        self.pages = self.pages.saturating_add(pages);
    }

    /// Takes a changed entry into the sums. Pages that are allocated and freed for it count by themselves.
    pub(super) fn account(
        &mut self,
        key: &[u8],
        change: &Edit<&[u8]>,
        old: Option<&Entry>,
        old_long: Option<&Long<'_>>,
    ) -> Result<()> {
        let size = |value: u64| value.saturating_add(key.len() as u64);
        let new = match change {
            Edit::Change(Change::Put(value)) => size(value.len() as u64),
            // (It comes from the log, so it has no tail.)
            Edit::Change(Change::PutOverflow(long)) => {
                self.adopt(self.pages().overflow_extents(long)?.pages());
                size(long.len)
            }
            Edit::Change(Change::Delete) => 0,
            Edit::Touch { .. } => return Ok(()),
        };
        let old = old.map_or(0, |entry| size(old_long.map_or(entry.value().len() as u64, Long::len)));
        self.bytes = self.bytes.saturating_sub(old).saturating_add(new);
        Ok(())
    }

    /// The tree with this root node.
    pub(super) fn root(&self, Child { ptr, count, end }: Child) -> TreeRoot {
        TreeRoot { ptr, count, pages: self.pages, bytes: self.bytes, end }
    }
}

impl PageStore for Counted<'_> {
    fn pages(&self) -> &Arc<Pages> {
        self.store.pages()
    }

    fn version(&self) -> u64 {
        self.store.version()
    }

    fn allocate(&mut self, run: u32) -> Result<u32> {
        self.adopt(run.into());
        self.store.allocate(run)
    }

    fn free(&mut self, page: u32, run: u32, version: u64) -> Result<()> {
        self.pages = self.pages.saturating_sub(run.into());
        self.store.free(page, run, version)
    }

    fn allocate_extents(&mut self, pages: u32) -> Result<Extents> {
        self.adopt(pages.into());
        self.store.allocate_extents(pages)
    }

    fn allocate_before(&mut self, pages: u32, page: u32) -> Result<Option<Extents>> {
        let extents = self.store.allocate_before(pages, page)?;
        self.adopt(if extents.is_some() { pages.into() } else { 0 });
        Ok(extents)
    }

    fn write(&mut self, page: u32, bytes: &[u8]) -> Result<()> {
        self.store.write(page, bytes)
    }

    fn settle(&mut self) -> Result<()> {
        self.store.settle()
    }
}
