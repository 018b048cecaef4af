//! The differences between two versions of a tree.
//!
//! The tree is copied on write, so two equal pointers lead to the same bytes, and what lies below both is skipped
//! unread. Both trees are walked side by side: of two nodes the higher one is opened first, two of the same level
//! at once, so that equal pointers meet again beside any change. A change costs the nodes above it in both
//! versions, and at most one more path where nodes were split or joined.

use super::node::{LeafValue, Node};
use super::pages::Pages;
use crate::bytes::Bytes;
use crate::disk::format::{Ptr, TreeRoot};
use crate::error::{Error, Result};
use std::cmp::Ordering;

/// A key, and what each of the two trees has for it. The values may be equal: a page that was moved, or rewritten
/// because of a neighbour, has other pointers.
pub(crate) struct Difference<'v> {
    pub(crate) key: Bytes<'v>,
    pub(crate) before: Option<LeafValue<'v>>,
    pub(crate) after: Option<LeafValue<'v>>,
}

/// One version of a tree, in a file of this many pages.
#[derive(Clone, Copy)]
pub(crate) struct Version<'v> {
    pub(crate) pages: &'v Pages,
    pub(crate) table: u32,
    pub(crate) root: TreeRoot,
    pub(crate) page_count: u64,
}

/// A walk through two trees at once, in key order.
pub(crate) struct TreeDiff<'v> {
    before: Side<'v>,
    after: Side<'v>,
}

impl<'v> TreeDiff<'v> {
    pub(crate) fn new(before: Version<'v>, after: Version<'v>) -> Result<TreeDiff<'v>> {
        let same = before.root.ptr == after.root.ptr;
        let side = |tree: Version<'v>| {
            let mut side = Side { tree, path: Vec::new(), last: None, visited: 0 };
            if !same && !tree.root.ptr.is_none() {
                side.visit(tree.root.ptr, None)?;
            }
            Ok::<_, Error>(side)
        };
        Ok(TreeDiff { before: side(before)?, after: side(after)? })
    }

    /// Nodes read so far, of both trees.
    #[cfg(test)]
    pub(crate) fn visited(&self) -> u64 {
        self.before.visited + self.after.visited
    }

    pub(crate) fn next(&mut self) -> Result<Option<Difference<'v>>> {
        loop {
            let (before, after) = (self.before.here(), self.after.here());
            match (before, after) {
                (Here::Below(old, level), Here::Below(new, other)) => match level.cmp(&other) {
                    Ordering::Equal if old == new => {
                        self.before.step();
                        self.after.step();
                    }
                    Ordering::Greater => self.before.open(old, level)?,
                    Ordering::Less => self.after.open(new, other)?,
                    Ordering::Equal => {
                        self.before.open(old, level)?;
                        self.after.open(new, other)?;
                    }
                },
                (Here::Below(old, level), _) => self.before.open(old, level)?,
                (_, Here::Below(new, level)) => self.after.open(new, level)?,
                (Here::Row, _) | (_, Here::Row) => return self.row().map(Some),
                (Here::End, Here::End) => return Ok(None),
            }
        }
    }

    /// The row that comes first in either tree; both walks are at a row or at their end.
    fn row(&mut self) -> Result<Difference<'v>> {
        let (before, after) = (self.before.entry()?, self.after.entry()?);
        let order = match (&before, &after) {
            (Some((old, _)), Some((new, _))) => old.cmp(new),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        let before = before.filter(|_| order != Ordering::Greater);
        let after = after.filter(|_| order != Ordering::Less);
        if let Some((key, _)) = &before {
            self.before.pass(key)?;
        }
        if let Some((key, _)) = &after {
            self.after.pass(key)?;
        }
        let key = before.as_ref().or(after.as_ref()).map(|(key, _)| key.clone());
        let key = key.ok_or_else(|| Error::Internal("a row of neither tree".to_owned()))?;
        Ok(Difference { key, before: before.map(|(_, value)| value), after: after.map(|(_, value)| value) })
    }
}

/// What comes next in a walk.
enum Here {
    /// A node that was not opened yet, and its level.
    Below(Ptr, u8),
    Row,
    End,
}

/// One of the two trees.
struct Side<'v> {
    tree: Version<'v>,
    /// From the root to the current position: each node, and its child or row that comes next.
    path: Vec<(Node<'v>, usize)>,
    /// The last key returned.
    last: Option<Bytes<'v>>,
    visited: u64,
}

impl<'v> Side<'v> {
    fn here(&mut self) -> Here {
        while self.path.last().is_some_and(|(node, at)| *at >= node.count()) {
            self.path.pop();
        }
        match self.path.last() {
            None => Here::End,
            Some((node, _)) if node.is_leaf() => Here::Row,
            Some((node, at)) => Here::Below(node.child(*at), node.level() - 1),
        }
    }

    /// Skips the child or row that comes next.
    fn step(&mut self) {
        if let Some((_, at)) = self.path.last_mut() {
            *at += 1;
        }
    }

    fn open(&mut self, ptr: Ptr, level: u8) -> Result<()> {
        self.step();
        self.visit(ptr, Some(level))
    }

    /// Reads a node. A sound tree contains each page once; a tree whose pointers share subtrees would keep this
    /// walk busy for ever.
    fn visit(&mut self, ptr: Ptr, level: Option<u8>) -> Result<()> {
        let node = self.tree.pages.node(ptr, self.tree.table, level)?;
        self.visited += 1;
        if self.visited > self.tree.page_count {
            return Err(node.damage("a tree that has each page once"));
        }
        self.path.push((node, 0));
        Ok(())
    }

    /// The row that comes next.
    fn entry(&self) -> Result<Option<(Bytes<'v>, LeafValue<'v>)>> {
        let Some((leaf, at)) = self.path.last() else { return Ok(None) };
        let entry = leaf.entry(*at)?;
        Ok(Some((leaf.key(&entry), leaf.value(&entry)?)))
    }

    fn pass(&mut self, key: &Bytes<'v>) -> Result<()> {
        if let Some((leaf, _)) = self.path.last()
            && self.last.as_ref().is_some_and(|last| last >= key)
        {
            return Err(leaf.damage("keys that ascend"));
        }
        self.last = Some(key.clone());
        self.step();
        Ok(())
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
