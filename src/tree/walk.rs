//! Passes over a whole tree: freeing it, and finding pages that lie too far back in the file.

use super::node::Node;
use super::overflow::free_overflow;
use super::pages::Pages;
use super::space::Room;
use super::update::{PageStore, reaches};
use crate::bytes::Bytes;
use crate::disk::format::{Child, TreeRoot};
use crate::error::Result;
use std::sync::Arc;

/// Frees every page and every long value of a tree.
pub(crate) fn free_tree(store: &mut dyn PageStore, table: u32, root: TreeRoot) -> Result<()> {
    if root.ptr.is_none() {
        return Ok(());
    }
    let pages = Arc::clone(store.pages());
    let node = pages.node(root.ptr, table, None)?;
    free_below(store, &pages, table, &node, &mut None)
}

/// `last` is the greatest key seen. Keys must ascend: otherwise a hostile file whose pointers share subtrees
/// would keep this walk busy for ever, and have pages freed twice.
fn free_below(
    store: &mut dyn PageStore,
    pages: &Pages,
    table: u32,
    node: &Node<'_>,
    last: &mut Option<Bytes<'static>>,
) -> Result<()> {
    if node.is_leaf() {
        for index in 0..node.count() {
            let entry = node.entry(index)?;
            let key = node.key(&entry);
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(node.damage("keys that ascend"));
            }
            *last = Some(key);
            if entry.long {
                free_overflow(store, pages, &node.overflow(&entry)?)?;
            }
        }
    } else {
        for index in 0..node.count() {
            let child = pages.node(node.child(index), table, Some(node.level() - 1))?;
            free_below(store, pages, table, &child, last)?;
        }
    }
    store.free(node.page(), node.run(), node.version())
}

/// What [`relocatable`] found.
#[derive(Debug, Default)]
pub(crate) struct Relocatable {
    /// Keys, in order, whose [`Touch`](super::update::Change::Touch) moves the pages that lie too far back.
    pub(crate) keys: Vec<Vec<u8>>,
    /// The key to continue from, if the search is not complete.
    pub(crate) resume: Option<Vec<u8>>,
}

/// Finds keys whose touch moves pages of the tree at or beyond `cutoff` towards the start of the file: searches from key
/// `from` on until it has about `limit` of them (each level of the tree may add one). What finds no `room` before its
/// place is left where it is: elsewhere it would be in the way, too.
///
/// Nothing is read below which no page lies at or beyond `cutoff`, but for the way to one key below each branch that lies
/// there.
pub(crate) fn relocatable(
    pages: &Pages,
    table: u32,
    root: TreeRoot,
    cutoff: u32,
    room: &mut Room,
    from: Option<&[u8]>,
    limit: usize,
) -> Result<Relocatable> {
    let mut search = Search { pages, table, cutoff, room, limit, found: Relocatable::default(), last: None };
    if !root.ptr.is_none() && root.end > cutoff {
        let node = pages.node(root.ptr, table, None)?;
        search.visit(&node, root.end, from)?;
    }
    Ok(search.found)
}

struct Search<'p> {
    pages: &'p Pages,
    table: u32,
    cutoff: u32,
    room: &'p mut Room,
    limit: usize,
    found: Relocatable,
    /// The last key of the previous leaf. Leaves must ascend, as in [`free_below`].
    last: Option<Bytes<'static>>,
}

impl Search<'_> {
    /// Searches `node` and what is below it, from key `from` on; something of it lies at or beyond the cutoff. Returns
    /// some key there, if one was read.
    fn visit(&mut self, node: &Node<'_>, end: u32, from: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let before = self.found.keys.len();
        if before >= self.limit {
            self.found.resume = Some(self.first_key(node)?);
            return Ok(None);
        }
        let any = if node.is_leaf() { self.visit_leaf(node, from)? } else { self.visit_children(node, end, from)? };
        let stopped = any.is_none() && self.found.resume.is_some();
        if stopped || !reaches(node.page(), node.run(), self.cutoff) {
            return Ok(any);
        }
        // Read even if there is no room: a way that leads to no leaf could be taken for ever.
        let key = any.map_or_else(|| self.first_key(node), Ok)?;
        // A key found below moves this node too.
        if self.found.keys.len() == before && self.room.take_before(node.run(), node.page()) {
            self.found.keys.push(key.clone());
        }
        Ok(Some(key))
    }

    fn visit_children(&mut self, node: &Node<'_>, end: u32, from: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let below = (0..node.count()).map(|index| node.counted_child(index).end).max().unwrap_or(0);
        if below.max(node.page().saturating_add(node.run())) != end {
            return Err(node.damage(&format!("pages before page {end} in it and below it, as is noted")));
        }
        let first = from.map_or(Ok(0), |key| node.route(key))?;
        let mut any = None;
        for index in first..node.count() {
            let Child { ptr, end, .. } = node.counted_child(index);
            if end <= self.cutoff {
                continue;
            }
            let child = self.pages.node(ptr, self.table, Some(node.level() - 1))?;
            let key = self.visit(&child, end, from.filter(|_| index == first))?;
            any = any.or(key);
            if self.found.resume.is_some() {
                break;
            }
        }
        Ok(any)
    }

    /// The first key below a node.
    fn first_key(&mut self, node: &Node<'_>) -> Result<Vec<u8>> {
        let mut node = node.clone();
        while !node.is_leaf() {
            node = self.pages.node(node.child(0), self.table, Some(node.level() - 1))?;
        }
        let first = node.first_key()?;
        self.must_follow(&node, &first)?;
        let key = first.to_vec();
        self.last = Some(first);
        Ok(key)
    }

    fn must_follow(&self, leaf: &Node<'_>, first: &Bytes<'_>) -> Result<()> {
        let follows = self.last.as_ref().is_none_or(|before| **before < **first);
        if follows { Ok(()) } else { Err(leaf.damage("keys that ascend")) }
    }

    fn visit_leaf(&mut self, node: &Node<'_>, from: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let (first, last) = node.ends()?;
        if first > last {
            return Err(node.damage("keys that ascend"));
        }
        self.must_follow(node, &first)?;
        self.last = Some(last);
        let begin = from.map_or(Ok(0), |key| node.lower_bound(key).map(|(index, _)| index))?;
        for index in begin..node.count() {
            let entry = node.entry(index)?;
            if self.found.keys.len() >= self.limit {
                self.found.resume = Some(node.key(&entry).to_vec());
                break;
            }
            if entry.long {
                let long = node.overflow(&entry)?;
                let extents = self.pages.overflow_extents(&long)?;
                let pages = u32::try_from(extents.pages()).unwrap_or(u32::MAX);
                let highest = extents.iter().map(|extent| extent.page).max().unwrap_or(0);
                if extents.end() > u64::from(self.cutoff) && self.room.take_before(pages, highest) {
                    self.found.keys.push(node.key(&entry).to_vec());
                }
            }
        }
        Ok(Some(first.to_vec()))
    }
}
