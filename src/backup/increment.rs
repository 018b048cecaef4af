//! What has changed in a state since another backup was made.
//!
//! The tree is copied on write, so a node whose version is not newer than the root that the base was made from is
//! the very node that the base's tree had: its rows are those of the base, from its first key to its last. What lies
//! between two such nodes need not be: a leaf of the base that has gone had its keys there.
//!
//! The log speaks of keys beyond the tree. Those of this state are said one by one, over what the tree says.
//! Those of the *base's* log, too: what it said may have been undone before a checkpoint applied it, and then the tree
//! does not tell.

use crate::bytes::Bytes;
use crate::disk::format::TreeRoot;
use crate::engine::view::View;
use crate::error::Result;
use crate::tree::node::{LeafValue, Node};
use std::collections::{BTreeSet, btree_set};
use std::io::Write;
use std::iter::Peekable;
use std::ops::Bound;

use super::manifest::{Manifest, TableManifest};
use super::options::Watch;
use super::rows::{Source, State};
use super::stream::StreamWriter;

/// Writes what changed since the base, table by table.
pub(super) fn write_increment<W: Write>(
    state: &State,
    base: &Manifest,
    touched: &BTreeSet<(u32, Vec<u8>)>,
    stream: &mut StreamWriter<W>,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let view = state.view();
    for table in state.tables() {
        stream.table(table.id)?;
        let of_base = touched.range((table.id, Vec::new())..).take_while(|(id, _)| *id == table.id);
        let of_base = of_base.map(|(_, key)| key.clone());
        let explicit: BTreeSet<Vec<u8>> = of_base.chain(state.logged_keys(table.id)).collect();
        let known = base.tables.iter().any(|old| old.id == table.id);
        // A table that the base does not have is new: nothing of it can be kept.
        let since = if known { base.root_sequence } else { 0 };
        write_table(view, table, since, explicit, stream, watch)?;
    }
    state.write_touched(stream)
}

impl State {
    /// The keys of a table that the log speaks of.
    fn logged_keys(&self, table: u32) -> impl Iterator<Item = Vec<u8>> {
        self.view().log_changes(table).map(|(key, _)| key.to_vec())
    }

    /// Tells the next increment which keys only the log spoke of.
    pub(super) fn write_touched<W: Write>(&self, stream: &mut StreamWriter<W>) -> Result<()> {
        let ids: BTreeSet<u32> = self.tables().iter().map(|table| table.id).collect();
        for id in ids {
            let keys: BTreeSet<Vec<u8>> = self.logged_keys(id).collect();
            keys.iter().try_for_each(|key| stream.touched(id, key))?;
        }
        Ok(())
    }
}

/// The keys that are said one by one.
type Explicit = Peekable<btree_set::IntoIter<Vec<u8>>>;

fn write_table<W: Write>(
    view: &View,
    table: &TableManifest,
    since: u64,
    explicit: BTreeSet<Vec<u8>>,
    stream: &mut StreamWriter<W>,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let root = view.tree_root(table.id)?;
    let mut out = TableWriter { view, table: table.id, root, explicit: explicit.into_iter().peekable(), stream, watch };
    let mut pruned = Pruned::new(view, table.id, root, since)?;
    while let Some(part) = pruned.next()? {
        match part {
            Part::Row(key, value) => {
                out.before(&key)?;
                if out.explicit.peek().is_none_or(|next| **next != *key) {
                    out.row(&key, &value.read(&view.tree.pages, table.id)?)?;
                }
            }
            Part::Keep(first, last) => out.keep(&first, &last)?,
        }
    }
    out.rest()
}

struct TableWriter<'a, 'v, 'w, W: Write> {
    view: &'v View,
    table: u32,
    root: TreeRoot,
    explicit: Explicit,
    stream: &'a mut StreamWriter<W>,
    watch: &'a mut Watch<'w>,
}

impl<W: Write> TableWriter<'_, '_, '_, W> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.watch.rows(1, key.len() + value.len())?;
        self.stream.row(key, value)
    }

    /// Says what the state has for the next of the explicit keys: a row, or nothing.
    fn say_next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(key) = self.explicit.next() else { return Ok(None) };
        let view = self.view;
        if let Some(value) = view.value(self.table, self.root, &key)? {
            self.row(&key, &value)?;
        }
        Ok(Some(key))
    }

    /// Says the explicit keys before this one.
    fn before(&mut self, key: &[u8]) -> Result<()> {
        while self.explicit.peek().is_some_and(|next| next.as_slice() < key) {
            self.say_next()?;
        }
        Ok(())
    }

    /// Keeps the base's rows from one key to another, but for the explicit ones.
    fn keep(&mut self, first: &[u8], last: &[u8]) -> Result<()> {
        self.before(first)?;
        let mut from = Bound::Included(first.to_vec());
        while self.explicit.peek().is_some_and(|next| next.as_slice() <= last) {
            let next = self.explicit.peek().cloned().unwrap_or_default();
            if from != Bound::Included(next.clone()) {
                self.stream.keep(from.as_ref().map(Vec::as_slice), Bound::Excluded(&next))?;
            }
            self.say_next()?;
            from = Bound::Excluded(next);
        }
        if from == Bound::Excluded(last.to_vec()) {
            return Ok(());
        }
        self.stream.keep(from.as_ref().map(Vec::as_slice), Bound::Included(last))
    }

    fn rest(&mut self) -> Result<()> {
        while self.say_next()?.is_some() {}
        Ok(())
    }
}

/// What the tree says, in key order.
enum Part<'v> {
    Row(Bytes<'v>, LeafValue<'v>),
    /// All from the first key to the last is as it was.
    Keep(Bytes<'v>, Bytes<'v>),
}

/// A walk that does not go into what is not newer than a version.
struct Pruned<'v> {
    view: &'v View,
    table: u32,
    since: u64,
    path: Vec<(Node<'v>, usize)>,
    root: Option<Node<'v>>,
    last: Option<Bytes<'v>>,
}

impl<'v> Pruned<'v> {
    fn new(view: &'v View, table: u32, root: TreeRoot, since: u64) -> Result<Pruned<'v>> {
        let root = if root.ptr.is_none() { None } else { Some(view.tree.pages.node(root.ptr, table, None)?) };
        Ok(Pruned { view, table, since, path: Vec::new(), root, last: None })
    }

    fn next(&mut self) -> Result<Option<Part<'v>>> {
        if let Some(root) = self.root.take()
            && let Some(kept) = self.enter(root)?
        {
            return Ok(Some(kept));
        }
        while let Some((node, index)) = self.path.last_mut() {
            if *index >= node.count() {
                self.path.pop();
                continue;
            }
            let at = *index;
            *index += 1;
            if node.is_leaf() {
                let node = node.clone();
                return self.row(&node, at).map(Some);
            }
            let child = self.view.tree.pages.node(node.child(at), self.table, Some(node.level() - 1))?;
            if let Some(kept) = self.enter(child)? {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    }

    /// Goes into a node, unless it is an old one.
    fn enter(&mut self, node: Node<'v>) -> Result<Option<Part<'v>>> {
        if node.version() > self.since {
            self.view.tree.pages.expect_leaves(&node);
            self.path.push((node, 0));
            return Ok(None);
        }
        let (first, last) = (self.edge(node.clone(), true)?, self.edge(node.clone(), false)?);
        if first > last {
            return Err(node.damage("keys that ascend"));
        }
        self.ascend(&node, &first, &last)?;
        Ok(Some(Part::Keep(first, last)))
    }

    fn row(&mut self, leaf: &Node<'v>, index: usize) -> Result<Part<'v>> {
        let entry = leaf.entry(index)?;
        let key = leaf.key(&entry);
        self.ascend(leaf, &key, &key)?;
        let value = leaf.value(&entry)?;
        // A long value moves with no change of its neighbours. One written for the base's very root may have come
        // after the base; an older one was in its tree, under this key.
        if let LeafValue::Overflow(long) = &value
            && long.pages.version < self.since
        {
            return Ok(Part::Keep(key.clone(), key));
        }
        Ok(Part::Row(key, value))
    }

    /// The first or last key below a node.
    fn edge(&self, mut node: Node<'v>, first: bool) -> Result<Bytes<'v>> {
        while !node.is_leaf() {
            let index = if first { 0 } else { node.count() - 1 };
            node = self.view.tree.pages.node(node.child(index), self.table, Some(node.level() - 1))?;
        }
        let entry = node.entry(if first { 0 } else { node.count() - 1 })?;
        Ok(node.key(&entry))
    }

    /// Keys must ascend: else a hostile file whose pointers share subtrees would keep this busy for ever.
    fn ascend(&mut self, node: &Node<'v>, first: &Bytes<'v>, last: &Bytes<'v>) -> Result<()> {
        if self.last.as_ref().is_some_and(|before| before >= first) {
            return Err(node.damage("keys that ascend"));
        }
        self.last = Some(last.clone());
        Ok(())
    }
}
