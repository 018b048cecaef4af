//! Passes over a whole tree: freeing it, and finding pages that lie too far back in the file.

use super::node::Node;
use super::overflow::free_overflow;
use super::pages::Pages;
use super::space::Room;
use super::update::{PageStore, reaches};
use crate::bytes::Bytes;
use crate::disk::format::TreeRoot;
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
    if !root.ptr.is_none() {
        search.visit(&pages.node(root.ptr, table, None)?, from)?;
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
    /// Searches `node` and what is below it, from key `from` on. Returns some key there.
    fn visit(&mut self, node: &Node<'_>, from: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let before = self.found.keys.len();
        let any = if node.is_leaf() { self.visit_leaf(node, from)? } else { self.visit_children(node, from)? };
        // A key found below moves this node too.
        let reaches = reaches(node.page(), node.run(), self.cutoff);
        if self.found.keys.len() == before && reaches && self.room.take_before(node.run(), node.page()) {
            any.clone().into_iter().for_each(|key| self.found.keys.push(key));
        }
        Ok(any)
    }

    fn visit_children(&mut self, node: &Node<'_>, from: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let first = from.map_or(Ok(0), |key| node.route(key))?;
        let mut any = None;
        for index in first..node.count() {
            let child = self.pages.node(node.child(index), self.table, Some(node.level() - 1))?;
            let key = self.visit(&child, from.filter(|_| index == first))?;
            any = any.or(key);
            if self.found.resume.is_some() {
                break;
            }
        }
        Ok(any)
    }

    fn visit_leaf(&mut self, node: &Node<'_>, from: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let (first, last) = node.ends()?;
        if first > last || self.last.as_ref().is_some_and(|before| *before >= first) {
            return Err(node.damage("keys that ascend"));
        }
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
