//! Moving pages down, so that the file's end becomes free and can be cut off.
//!
//! Part of a checkpoint. It touches some keys of the pages that lie beyond where everything would fit, so that
//! the paths to these keys are rewritten at the lowest free pages. Their number is bounded; the next checkpoint
//! continues where this one stopped.

use crate::direction::Direction;
use crate::disk::format::{TABLE_CATALOG, TreeRoot};
use crate::disk::locks::lock;
use crate::engine::Engine;
use crate::engine::page_writer::PageWriter;
use crate::engine::view::View;
use crate::error::{CorruptionKind, Error, Result};
use crate::tree::cursor::Cursor;
use crate::tree::update::{Edit, PageStore, edit};
use crate::tree::walk::{Relocatable, relocatable};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Compaction pays if at least one page in this many is free. A page that was freed has at most one other page moved,
/// so the work is in proportion to what was freed, and the file is never much longer than its content.
pub(crate) const WORTHWHILE: u64 = 16;
/// The same for a compaction that a caller asks for.
pub(crate) const WORTHWHILE_IF_ASKED: u64 = 256;
/// Fewer free pages than this are never worth a compaction.
pub(crate) const SLACK_PAGES: u64 = 64;

/// Rounds that are repeated until the file gets no shorter. What a checkpoint frees can be reused, or cut off, only by
/// the next one.
pub(crate) struct Shortening {
    shortest: u64,
    /// Rounds in a row that did not shorten it, and how many of them end it.
    vain: u32,
    limit: u32,
}

impl Shortening {
    pub(crate) fn new(limit: u32) -> Shortening {
        Shortening { shortest: u64::MAX, vain: 0, limit }
    }

    /// By checkpoints: the pages at the end of the file may first have to make room for each other.
    pub(crate) fn by_checkpoints() -> Shortening {
        Shortening::new(6)
    }

    /// Whether this length is a new shortest one.
    pub(crate) fn is_shorter(&self, len: u64) -> bool {
        len < self.shortest
    }

    /// Notes how long the file is after a round. The first one counts as having shortened it.
    pub(crate) fn note(&mut self, len: u64) {
        self.vain = if self.is_shorter(len) { 0 } else { self.vain + 1 };
        self.shortest = self.shortest.min(len);
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.vain < self.limit
    }
}

/// Whether `spare` pages are worth a checkpoint that frees them: if they are at least one in `worthwhile`.
pub(crate) fn is_worthwhile(spare: u64, page_count: u64, worthwhile: u64) -> bool {
    spare >= SLACK_PAGES && spare * worthwhile >= page_count
}

/// The page below which everything would fit, if moving pages down pays: from here on pages are allocated below
/// it.
pub(crate) fn begin_moving_down(writer: &mut PageWriter<'_>, worthwhile: u64) -> Option<u32> {
    let (free, count) = (writer.space.free_pages(), writer.space.page_count());
    if !is_worthwhile(free, count, worthwhile) {
        return None;
    }
    let cutoff = u32::try_from(count - free).unwrap_or(u32::MAX);
    writer.space.move_below(cutoff);
    Some(cutoff)
}

/// Touches up to `budget` keys of the catalog. Its pages are otherwise written only when a table's tree has
/// moved; the last of them, left in place, would keep the file from getting shorter.
pub(crate) fn move_catalog_down(
    writer: &mut PageWriter<'_>,
    root: TreeRoot,
    cutoff: u32,
    budget: usize,
) -> Result<TreeRoot> {
    if root.ptr.is_none() {
        return Ok(root);
    }
    // What was written for this version is read again here.
    writer.write_out()?;
    let pages = Arc::clone(writer.pages());
    let mut room = writer.space.room();
    let found = relocatable(&pages, TABLE_CATALOG, root, cutoff, &mut room, None, budget)?;
    let touches = found.keys.iter().map(|key| Ok((key.as_slice(), Edit::<&[u8]>::Touch { cutoff })));
    edit(writer, TABLE_CATALOG, root, touches)
}

impl Engine {
    /// Touches up to `budget` keys, and puts the tables' new trees into `catalog`, which holds the trees that the
    /// checkpoint changed.
    pub(crate) fn move_tables_down(
        &self,
        view: &View,
        writer: &mut PageWriter<'_>,
        catalog: &mut BTreeMap<u32, Option<TreeRoot>>,
        cutoff: u32,
        mut budget: usize,
    ) -> Result<()> {
        // What was written for this version is read again here.
        writer.write_out()?;
        let mut resume = lock(&self.compacting);
        let mut room = writer.space.room();
        let (mut table, mut key) = resume.take().unwrap_or_default();
        while budget > 0 {
            // No such table is left: the pass over all of them is complete, and `resume` says so.
            let Some((next, root)) = next_tree(view, catalog, table, cutoff)? else {
                *resume = None;
                return Ok(());
            };
            if next != table {
                (table, key) = (next, None);
            }
            let pages = Arc::clone(writer.pages());
            let Relocatable { keys, resume: rest } =
                relocatable(&pages, table, root, cutoff, &mut room, key.as_deref(), budget)?;
            budget -= keys.len().min(budget);
            let touches = keys.iter().map(|key| Ok((key.as_slice(), Edit::<&[u8]>::Touch { cutoff })));
            let moved = edit(writer, table, root, touches)?;
            if moved != root {
                catalog.insert(table, Some(moved));
            }
            writer.write_out()?;
            match rest {
                Some(rest) => {
                    *resume = Some((table, Some(rest.clone())));
                    key = Some(rest);
                }
                None => {
                    let Some(following) = table.checked_add(1) else { return Ok(()) };
                    (table, key) = (following, None);
                    *resume = Some((table, None));
                }
            }
        }
        Ok(())
    }
}

/// The first table from `from` on of whose tree some page lies at or beyond `cutoff`, and that tree as this checkpoint
/// leaves it.
fn next_tree(
    view: &View,
    catalog: &BTreeMap<u32, Option<TreeRoot>>,
    from: u32,
    cutoff: u32,
) -> Result<Option<(u32, TreeRoot)>> {
    let base = view.tree.root.catalog;
    let mut cursor = Cursor::new(&view.tree.pages, TABLE_CATALOG, base);
    cursor.seek(Direction::Forward, Bound::Included(&from.to_be_bytes()))?;
    let changed =
        catalog.range(from..).filter_map(|(table, root)| Some((*table, (*root)?))).find(|(_, root)| root.end > cutoff);
    while let Some((key, value)) = cursor.step(Direction::Forward)? {
        let row = value.read(&view.tree.pages, TABLE_CATALOG)?;
        let damaged = || Error::corrupt(CorruptionKind::Catalog, 0, None, "a table id and a tree", "something else");
        let table = u32::from_be_bytes(*key.first_chunk().ok_or_else(damaged)?);
        if table < from {
            // The catalog is forged: a search in it may lead anywhere, and continuing would never end.
            return Err(damaged());
        }
        let root = TreeRoot::of_row(&row).ok_or_else(damaged)?;
        if root.end > cutoff && !catalog.contains_key(&table) {
            return Ok(Some(changed.filter(|(other, _)| *other < table).unwrap_or((table, root))));
        }
    }
    Ok(changed)
}
