//! Finding a key, and walking a tree in key order, both ways.

use super::node::{Entry, LeafValue, Node};
use super::pages::Pages;
use crate::bytes::Bytes;
use crate::disk::format::{Ptr, TreeRoot};
use crate::error::Result;

/// The value of `key`, if the tree has it.
#[inline]
pub(crate) fn get<'a>(pages: &'a Pages, table: u32, root: TreeRoot, key: &[u8]) -> Result<Option<LeafValue<'a>>> {
    if root.ptr.is_none() {
        return Ok(None);
    }
    let mut node = pages.node(root.ptr, table, None)?;
    while !node.is_leaf() {
        let child = node.child(node.route(key)?);
        node = pages.node(child, table, Some(node.level() - 1))?;
    }
    node.find(key)
}

impl<'a> LeafValue<'a> {
    /// The value's bytes, inline or in pages of its own.
    pub(crate) fn read(self, pages: &'a Pages, table: u32) -> Result<Bytes<'a>> {
        match self {
            LeafValue::Inline(bytes) => Ok(bytes),
            LeafValue::Overflow(long) => pages.overflow(&long, table),
        }
    }
}

/// A position in a tree: at an entry, before the first one, or after the last one.
///
/// A new cursor stands before the first entry. Moving off an end leaves it there: `next` from before the first
/// entry goes to the first, `prev` from after the last to the last, and moving further outwards changes nothing.
/// Every move returns whether the cursor is at an entry afterwards. After an error the cursor stands before the
/// first entry.
pub(crate) struct Cursor<'a> {
    pages: &'a Pages,
    table: u32,
    root: Ptr,
    /// The branches above the leaf, each with the index of the child taken.
    path: Vec<(Node<'a>, usize)>,
    leaf: Option<(Node<'a>, usize)>,
    /// The entry it is at.
    entry: Option<Entry>,
    /// Its key, once it was asked for: putting one together is most of the cost of a step.
    key: Option<Bytes<'static>>,
    /// Whether [`Cursor::step`] has returned that entry.
    returned: bool,
    after_last: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(pages: &'a Pages, table: u32, root: TreeRoot) -> Cursor<'a> {
        let (path, leaf, entry, key) = Default::default();
        Cursor { pages, table, root: root.ptr, path, leaf, entry, key, returned: false, after_last: false }
    }

    /// Whether the cursor is at an entry.
    #[cfg(test)]
    pub(crate) fn valid(&self) -> bool {
        self.entry.is_some()
    }

    /// Key and value of the entry it is at.
    #[inline(always)]
    pub(crate) fn entry(&self) -> Option<(Bytes<'a>, LeafValue<'a>)> {
        let (leaf, _) = self.leaf.as_ref()?;
        let entry = self.entry.as_ref()?;
        Some((leaf.key(entry), leaf.value(entry).ok()?))
    }

    /// Key of the entry it is at.
    pub(crate) fn key(&mut self) -> Option<&[u8]> {
        if self.key.is_none() {
            let (leaf, index) = self.leaf.as_ref()?;
            self.key = match &self.entry {
                Some(entry) => Some(leaf.key(entry)),
                None => Some(leaf.key(&leaf.entry(*index).ok()?)),
            };
        }
        self.key.as_deref()
    }

    /// The entry it is at, or, if that was returned already, the next one in this direction; the cursor stays there.
    ///
    /// The same as moving and reading, for long walks: what one step costs beside the copy of a key decides how fast
    /// a scan is.
    pub(crate) fn step(&mut self, forward: bool) -> Result<Option<(Bytes<'a>, LeafValue<'a>)>> {
        if !self.returned {
            self.returned = self.leaf.is_some();
            return Ok(self.entry());
        }
        let Some((leaf, index)) = &mut self.leaf else { return Ok(None) };
        let next = if forward { *index + 1 } else { index.wrapping_sub(1) };
        if next < leaf.count() {
            *index = next;
            (self.entry, self.key) = (None, None);
            let read = leaf.read(next).map(Some);
            if read.is_err() {
                self.off(false);
            }
            return read;
        }
        self.cross(forward)?;
        self.returned = self.leaf.is_some();
        Ok(self.entry())
    }

    /// Moves on from an entry that [`Cursor::step`] has returned.
    pub(crate) fn catch_up(&mut self, forward: bool) -> Result<()> {
        if !std::mem::take(&mut self.returned) {
            return Ok(());
        }
        if forward { self.next().map(drop) } else { self.prev().map(drop) }
    }

    /// The key of the entry that [`Cursor::step`] has returned last.
    pub(crate) fn last_key(&mut self) -> Option<&[u8]> {
        if self.returned { self.key() } else { None }
    }

    /// Like [`Cursor::entry`], after [`Cursor::key`] and for the last time: the cursor is to be moved next.
    pub(crate) fn take(&mut self) -> Option<(Bytes<'a>, LeafValue<'a>)> {
        let (leaf, _) = self.leaf.as_ref()?;
        let entry = self.entry.take()?;
        Some((self.key.take().unwrap_or_else(|| leaf.key(&entry)), leaf.value(&entry).ok()?))
    }

    /// To the first entry whose key is >= `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool> {
        match self.descend(key)? {
            None => Ok(self.off(true)),
            Some((index, count)) if index < count => self.settle(index),
            Some(_) => self.cross(true),
        }
    }

    /// To the last entry whose key is < `key`.
    pub(crate) fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
        match self.descend(key)? {
            None => Ok(self.off(false)),
            Some((0, _)) => self.cross(false),
            Some((index, _)) => self.settle(index - 1),
        }
    }

    /// To the first entry.
    pub(crate) fn first(&mut self) -> Result<bool> {
        self.off(false);
        self.edge(self.root, None, true)
    }

    /// To the last entry.
    pub(crate) fn last(&mut self) -> Result<bool> {
        self.off(true);
        let moved = self.edge(self.root, None, false);
        self.after_last = matches!(moved, Ok(false));
        moved
    }

    /// The leaf whose first entry it is at.
    #[inline]
    pub(crate) fn leaf_ahead(&self) -> Option<&Node<'a>> {
        self.leaf.as_ref().filter(|(_, index)| *index == 0).map(|(leaf, _)| leaf)
    }

    /// To the first entry of the next leaf.
    pub(crate) fn skip_leaf(&mut self) -> Result<bool> {
        if self.leaf.is_none() { Ok(false) } else { self.cross(true) }
    }

    /// To the following entry.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<bool> {
        match &self.leaf {
            Some((leaf, index)) if index + 1 < leaf.count() => self.settle(index + 1),
            Some(_) => self.cross(true),
            None if self.after_last => Ok(false),
            None => self.first(),
        }
    }

    /// To the entry before.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<bool> {
        match &self.leaf {
            Some((_, index)) if *index > 0 => self.settle(index - 1),
            Some(_) => self.cross(false),
            None if self.after_last => self.last(),
            None => Ok(false),
        }
    }

    /// Leaves the tree at one of its ends.
    fn off(&mut self, after_last: bool) -> bool {
        self.path.clear();
        self.leaf = None;
        self.entry = None;
        self.key = None;
        self.returned = false;
        self.after_last = after_last;
        false
    }

    /// Makes entry `index` of the leaf the current one. All of the entry is checked here, so that
    /// [`Cursor::entry`] cannot fail.
    #[inline]
    fn settle(&mut self, index: usize) -> Result<bool> {
        let Some((leaf, at)) = &mut self.leaf else { return Ok(false) };
        let checked = leaf.entry(index).and_then(|entry| match entry.long {
            true => leaf.overflow(&entry).map(|_| entry),
            false => Ok(entry),
        });
        *at = index;
        self.key = None;
        self.returned = false;
        match checked {
            Ok(entry) => self.entry = Some(entry),
            Err(error) => {
                self.off(false);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Descends to the leaf whose range contains `key`. Returns the index of its first entry >= `key`, and its
    /// count; `None` if the tree is empty.
    fn descend(&mut self, key: &[u8]) -> Result<Option<(usize, usize)>> {
        self.off(false);
        if self.root.is_none() {
            return Ok(None);
        }
        let mut node = self.pages.node(self.root, self.table, None)?;
        while !node.is_leaf() {
            let index = node.route(key)?;
            let child = self.pages.node(node.child(index), self.table, Some(node.level() - 1))?;
            self.path.push((std::mem::replace(&mut node, child), index));
        }
        let place = (node.lower_bound(key)?.0, node.count());
        self.leaf = Some((node, 0));
        Ok(Some(place))
    }

    /// Descends from `ptr` along the left or the right edge, to the first or the last entry there.
    fn edge(&mut self, ptr: Ptr, level: Option<u8>, left: bool) -> Result<bool> {
        if ptr.is_none() && level.is_none() {
            return Ok(false);
        }
        let mut node = self.pages.node(ptr, self.table, level)?;
        while !node.is_leaf() {
            self.pages.expect_leaves(&node);
            let index = if left { 0 } else { node.count() - 1 };
            let child = self.pages.node(node.child(index), self.table, Some(node.level() - 1))?;
            self.path.push((std::mem::replace(&mut node, child), index));
        }
        let index = if left { 0 } else { node.count() - 1 };
        self.leaf = Some((node, index));
        self.settle(index)
    }

    /// Moves from the leaf to the next or the previous one.
    fn cross(&mut self, forward: bool) -> Result<bool> {
        let moved = self.cross_to(forward);
        if moved.is_err() {
            self.off(false);
        }
        moved
    }

    fn cross_to(&mut self, forward: bool) -> Result<bool> {
        let from = self.leaf.take();
        self.entry = None;
        self.key = None;
        while let Some((node, index)) = self.path.last_mut() {
            let next = if forward { *index + 1 } else { index.wrapping_sub(1) };
            if next >= node.count() {
                self.path.pop();
                continue;
            }
            *index = next;
            let (child, level) = (node.child(next), node.level() - 1);
            self.edge(child, Some(level), forward)?;
            // Leaves must ascend, by their first and last keys, and each from its first to its last: otherwise a
            // hostile file whose pointers share subtrees would return the same few pages for ever.
            if let (Some((old, _)), Some((new, _))) = (&from, &self.leaf) {
                let (below, above) = if forward { (old, new) } else { (new, old) };
                let (last, first) = (below.last_key()?, above.first_key()?);
                let ascends = if forward { first <= new.last_key()? } else { new.first_key()? <= last };
                if last >= first || !ascends {
                    return Err(new.damage("a leaf in key order with its neighbour"));
                }
            }
            return Ok(true);
        }
        Ok(self.off(forward))
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
