//! Looks at every page that the newest root leads to, and at every page that it does not.

use crate::bytes::Bytes;
use crate::direction::Direction;
use crate::disk::format::{FIRST_PAGE, PAGE_RUN, Ptr, TABLE_CATALOG, TABLE_SPACE, TreeRoot, get_u32};
use crate::engine::merge::{MergeCursor, TableSource};
use crate::store::Store;
use crate::tree::node::{LeafValue, Node};
use crate::tree::pages::Pages;
use crate::tree::space::{Space, SpaceRoot};
use std::ops::Bound;

/// Each page of the file has one use: under the slots, log, tree, free map, free, or waiting.
pub(super) fn structure(store: &Store) -> Result<(), String> {
    let view = store.engine().snapshot().map_err(|e| e.to_string())?;
    let root = &view.tree.root;
    let pages = &view.tree.pages;
    let mut uses = Uses { used: vec![false; usize::try_from(root.page_count).unwrap()] };
    uses.take(0, FIRST_PAGE, "root slots")?;
    for segment in &root.segments {
        uses.take(segment.page, segment.pages, "log")?;
    }
    let tables = uses.tree(pages, TABLE_CATALOG, root.catalog)?;
    for (key, row) in tables {
        let table = u32::from_be_bytes(key[..].try_into().map_err(|_| "a catalog key that is no id")?);
        let tree = TreeRoot::decode(&row).ok_or("a catalog row that is no tree")?;
        uses.tree(pages, table, tree)?;
        numbers(&TableSource { view: &view, buffer: None, table, root: tree })?;
    }
    let named = view.tree.all_named().map_err(|e| e.to_string())?;
    let mut kept = Vec::new();
    for (name, row) in &named {
        let mut uses = Uses { used: vec![false; uses.used.len()] };
        let tables = uses.tree(pages, TABLE_CATALOG, row.catalog).map_err(|e| format!("the snapshot {name}: {e}"))?;
        for (key, row) in tables {
            let table = u32::from_be_bytes(key[..].try_into().map_err(|_| "a catalog key that is no id")?);
            let tree = TreeRoot::decode(&row).ok_or("a catalog row that is no tree")?;
            uses.tree(pages, table, tree).map_err(|e| format!("the snapshot {name}: {e}"))?;
        }
        kept.push((name, uses.used));
    }
    let space_root = SpaceRoot { directory: root.free_directory, pending: root.pending, page_count: root.page_count };
    let mut own = Vec::new();
    let mut read = |ptr: Ptr, kind| {
        let run: Bytes<'_> = pages.run(ptr, kind, TABLE_SPACE)?;
        own.push((ptr.page, get_u32(&run, PAGE_RUN)));
        Ok(run)
    };
    let first = FIRST_PAGE;
    let space = Space::load(root.page_size, root.store_tag(), first, space_root, &mut read);
    let mut space = space.map_err(|e| e.to_string())?;
    for (page, run) in own {
        uses.take(page, run, "free map")?;
    }
    // What the next checkpoint finds: nothing of a name is free, and nothing of it was given back.
    let mut versions: Vec<_> = named.iter().map(|(_, row)| row.sequence..row.sequence + 1).collect();
    versions.sort_unstable_by_key(|versions| versions.start);
    space.reclaim(root.sequence, &versions);
    for (name, used) in kept {
        let lost = (0..).zip(used).find(|(page, used)| *used && !space.in_use(*page, 1) && *page >= first);
        if let Some((page, _)) = lost {
            return Err(format!("page {page} of the snapshot {name} is free"));
        }
    }
    // What waits counts as free from here on.
    space.reclaim(u64::MAX, &[]);
    let free = space.free_pages();
    let used = uses.used.iter().filter(|used| **used).count() as u64;
    for page in 0..u32::try_from(uses.used.len()).unwrap() {
        let is_free = space.reserve(page, 1);
        match (uses.used[page as usize], is_free) {
            (true, true) => return Err(format!("page {page} is used, and free or waiting")),
            (false, false) => return Err(format!("page {page} is lost: neither used, nor free, nor waiting")),
            _ => {}
        }
    }
    if used + free != root.page_count {
        return Err(format!("{used} used and {free} free pages in a file of {}", root.page_count));
    }
    Ok(())
}

/// A walk through a table finds as many entries as are counted, each under its number.
fn numbers(table: &TableSource<'_>) -> Result<(), String> {
    let text = |e: crate::Error| e.to_string();
    let mut walk = MergeCursor::new(*table, Direction::Forward, Bound::Unbounded).map_err(text)?;
    let mut keys = Vec::new();
    while let Some((key, _)) = walk.next().map_err(text)? {
        keys.push(key);
    }
    let counted = table.entries().map_err(text)?;
    if counted != keys.len() as u64 {
        return Err(format!("table {}: {counted} entries are counted, {} are there", table.table, keys.len()));
    }
    for (n, key) in (0..).zip(&keys).step_by(1 + keys.len() / 8) {
        let (rank, found) = (table.rank(key).map_err(text)?, table.nth(n).map_err(text)?);
        if rank != n || found.is_none_or(|(found, _)| found != *key) {
            return Err(format!("table {}: entry {n} has the rank {rank}, or its number leads elsewhere", table.table));
        }
    }
    Ok(())
}

struct Uses {
    used: Vec<bool>,
}

impl Uses {
    fn take(&mut self, page: u32, run: u32, what: &str) -> Result<(), String> {
        for page in page..page + run {
            match self.used.get_mut(page as usize) {
                None => return Err(format!("page {page} ({what}) is beyond the end")),
                Some(true) => return Err(format!("page {page} ({what}) is used twice")),
                Some(place) => *place = true,
            }
        }
        Ok(())
    }

    /// Walks a tree and gives its entries with inline values.
    fn tree(&mut self, pages: &Pages, table: u32, root: TreeRoot) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
        let mut entries = Vec::new();
        let before = self.used.iter().filter(|used| **used).count() as u64;
        if !root.ptr.is_none() {
            let node = pages.node(root.ptr, table, None).map_err(|e| e.to_string())?;
            self.node(pages, table, &node, &mut entries)?;
        }
        if entries.len() as u64 != root.count {
            return Err(format!("table {table}: {} entries, not {}", entries.len(), root.count));
        }
        let taken = self.used.iter().filter(|used| **used).count() as u64 - before;
        if taken != root.pages {
            return Err(format!("table {table}: {taken} pages, not {}", root.pages));
        }
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(format!("table {table}: keys do not ascend"));
        }
        Ok(entries)
    }

    fn node(
        &mut self,
        pages: &Pages,
        table: u32,
        node: &Node<'_>,
        entries: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), String> {
        let text = |e: crate::Error| e.to_string();
        self.take(node.page(), node.run(), "node")?;
        for index in 0..node.count() {
            if !node.is_leaf() {
                let child = pages.node(node.child(index), table, Some(node.level() - 1)).map_err(text)?;
                self.node(pages, table, &child, entries)?;
                continue;
            }
            let entry = node.entry(index).map_err(text)?;
            let key = node.key(&entry).to_vec();
            match node.value(&entry).map_err(text)? {
                LeafValue::Inline(value) => entries.push((key, value.to_vec())),
                LeafValue::Overflow(long) => {
                    for extent in pages.overflow_extents(&long.pages).map_err(text)?.iter() {
                        self.take(extent.page, extent.pages, "long value")?;
                    }
                    LeafValue::Overflow(long).read(pages, table).map_err(text)?;
                    entries.push((key, Vec::new()));
                }
            }
        }
        Ok(())
    }
}
