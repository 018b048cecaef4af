//! Finding a key, and walking a tree in key order, both ways.

use super::node::{LeafValue, Long, Node};
use super::pages::Pages;
use crate::bytes::Bytes;
use crate::direction::Direction;
use crate::disk::format::{Ptr, TreeRoot};
use crate::error::Result;
use std::ops::Bound;

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
    /// The value's bytes, inline or in pages of their own.
    #[inline]
    pub(crate) fn read(self, pages: &'a Pages, table: u32) -> Result<Bytes<'a>> {
        match self {
            LeafValue::Inline(bytes) => Ok(bytes),
            LeafValue::Overflow(long) => long.read(pages, table),
        }
    }
}

impl<'a> Long<'a> {
    /// Apart, so that a step over a short value is no call.
    #[inline(never)]
    fn read(self: Box<Self>, pages: &'a Pages, table: u32) -> Result<Bytes<'a>> {
        pages.long_value(&self, table)?.slice(0..self.len())
    }
}

/// A walk over a tree in key order. It may turn at any entry.
///
/// An entry is read, and checked, when it is asked for. After an error, and at the end, the walk is over: only
/// [`Cursor::seek`] goes on.
pub(crate) struct Cursor<'a> {
    pages: &'a Pages,
    table: u32,
    root: Ptr,
    /// The branches above the leaf, each with the index of the child taken.
    path: Vec<(Node<'a>, usize)>,
    /// The leaf, with the index of the entry it is at.
    leaf: Option<(Node<'a>, usize)>,
    /// That entry, once it was looked at: putting a key together is most of the cost of a step.
    peeked: Option<(Bytes<'a>, LeafValue<'a>)>,
    /// Whether [`Cursor::step`] has returned that entry.
    returned: bool,
}

impl<'a> Cursor<'a> {
    /// A walk that starts when it is sent to an entry.
    pub(crate) fn new(pages: &'a Pages, table: u32, root: TreeRoot) -> Cursor<'a> {
        Cursor { pages, table, root: root.ptr, path: Vec::new(), leaf: None, peeked: None, returned: false }
    }

    /// To the first entry from a bound on, in the direction of the walk.
    pub(crate) fn seek(&mut self, direction: Direction, from: Bound<&[u8]>) -> Result<()> {
        self.off();
        let (key, included) = match from {
            Bound::Unbounded => return self.edge(self.root, None, direction),
            Bound::Included(key) => (key, true),
            Bound::Excluded(key) => (key, false),
        };
        let Some((before, found)) = self.descend(key)? else { return Ok(()) };
        let index = match direction {
            Direction::Forward => before + usize::from(found && !included),
            Direction::Backward => (before + usize::from(found && included)).wrapping_sub(1),
        };
        self.settle(direction, index)
    }

    /// The entry it is at, or, if that was returned already, the next one in this direction; the cursor stays there.
    pub(crate) fn step(&mut self, direction: Direction) -> Result<Option<(Bytes<'a>, LeafValue<'a>)>> {
        self.catch_up(direction)?;
        self.returned = self.leaf.is_some();
        if self.peeked.is_some() {
            return Ok(self.peeked.take());
        }
        self.read()
    }

    /// The key of the entry that [`Cursor::step`] returns next.
    #[inline]
    pub(crate) fn peek(&mut self, direction: Direction) -> Result<Option<&[u8]>> {
        self.catch_up(direction)?;
        self.key()
    }

    /// The key of the entry that [`Cursor::step`] has returned last.
    pub(crate) fn last_key(&mut self) -> Option<&[u8]> {
        if self.returned { self.key().ok().flatten() } else { None }
    }

    /// For a forward walk: the leaf whose first entry [`Cursor::step`] returns next.
    pub(crate) fn leaf_ahead(&mut self) -> Result<Option<&Node<'a>>> {
        self.catch_up(Direction::Forward)?;
        Ok(self.leaf.as_ref().filter(|(_, index)| *index == 0).map(|(leaf, _)| leaf))
    }

    /// Goes on behind that leaf.
    pub(crate) fn skip_leaf(&mut self) -> Result<()> {
        self.peeked = None;
        self.cross(Direction::Forward)
    }

    /// Moves on from an entry that [`Cursor::step`] has returned.
    #[inline(always)]
    fn catch_up(&mut self, direction: Direction) -> Result<()> {
        if !self.returned {
            return Ok(());
        }
        self.returned = false;
        // (Looking is less than dropping what is seldom there.)
        if self.peeked.is_some() {
            self.peeked = None;
        }
        let Some((_, index)) = &self.leaf else { return Ok(()) };
        let next = direction.next(*index);
        self.settle(direction, next)
    }

    /// To entry `index` of the leaf or, if it has none, to the next leaf.
    #[inline(always)]
    fn settle(&mut self, direction: Direction, index: usize) -> Result<()> {
        match &mut self.leaf {
            Some((leaf, at)) if index < leaf.count() => {
                *at = index;
                Ok(())
            }
            _ => self.cross(direction),
        }
    }

    #[inline(always)]
    fn read(&mut self) -> Result<Option<(Bytes<'a>, LeafValue<'a>)>> {
        let Some((leaf, index)) = &self.leaf else { return Ok(None) };
        let entry = leaf.read(*index);
        if entry.is_err() {
            self.off();
        }
        entry.map(Some)
    }

    /// The key of the entry it is at.
    #[inline]
    fn key(&mut self) -> Result<Option<&[u8]>> {
        if self.peeked.is_none() {
            self.peeked = self.read()?;
        }
        Ok(self.peeked.as_ref().map(|(key, _)| &**key))
    }

    /// Leaves the tree.
    fn off(&mut self) {
        self.path.clear();
        self.leaf = None;
        self.peeked = None;
        self.returned = false;
    }

    /// Descends to the leaf whose range contains `key`. Returns how many of its entries have lesser keys, and whether it
    /// has this one; `None` if the tree is empty.
    fn descend(&mut self, key: &[u8]) -> Result<Option<(usize, bool)>> {
        if self.root.is_none() {
            return Ok(None);
        }
        let mut node = self.pages.node(self.root, self.table, None)?;
        while !node.is_leaf() {
            let index = node.route(key)?;
            let child = self.pages.node(node.child(index), self.table, Some(node.level() - 1))?;
            self.path.push((std::mem::replace(&mut node, child), index));
        }
        let place = node.lower_bound(key)?;
        self.leaf = Some((node, 0));
        Ok(Some(place))
    }

    /// Descends from `ptr` along the edge where a walk in this direction starts, to the first entry there.
    fn edge(&mut self, ptr: Ptr, level: Option<u8>, direction: Direction) -> Result<()> {
        if ptr.is_none() && level.is_none() {
            return Ok(());
        }
        let first = |node: &Node<'_>| match direction {
            Direction::Forward => 0,
            Direction::Backward => node.count() - 1,
        };
        let mut node = self.pages.node(ptr, self.table, level)?;
        while !node.is_leaf() {
            self.pages.expect_leaves(&node);
            let index = first(&node);
            let child = self.pages.node(node.child(index), self.table, Some(node.level() - 1))?;
            self.path.push((std::mem::replace(&mut node, child), index));
        }
        let index = first(&node);
        self.leaf = Some((node, index));
        Ok(())
    }

    /// Moves from the leaf to the next one in this direction.
    fn cross(&mut self, direction: Direction) -> Result<()> {
        let moved = self.cross_to(direction);
        if moved.is_err() {
            self.off();
        }
        moved
    }

    fn cross_to(&mut self, direction: Direction) -> Result<()> {
        let Some((from, _)) = self.leaf.take() else { return Ok(()) };
        while let Some((node, index)) = self.path.last_mut() {
            let next = direction.next(*index);
            if next >= node.count() {
                self.path.pop();
                continue;
            }
            *index = next;
            let (child, level) = (node.child(next), node.level() - 1);
            self.edge(child, Some(level), direction)?;
            // Leaves must ascend, by their first and last keys, and each from its first to its last: otherwise a
            // hostile file whose pointers share subtrees would return the same few pages for ever.
            if let Some((new, _)) = &self.leaf {
                let (below, above) = if direction == Direction::Forward { (&from, new) } else { (new, &from) };
                let (last, first) = (below.last_key()?, above.first_key()?);
                let ascends =
                    if direction == Direction::Forward { first <= new.last_key()? } else { new.first_key()? <= last };
                if last >= first || !ascends {
                    return Err(new.damage("a leaf in key order with its neighbour"));
                }
            }
            return Ok(());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
