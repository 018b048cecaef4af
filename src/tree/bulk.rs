//! A new tree in one pass, from rows in key order and from whole leaves of another tree.
//!
//! A leaf that is full enough is taken over byte for byte, under a new header: its rows are neither decoded nor
//! packed again.

use super::build::{Level, Packing, max_inline};
use super::encode::NodeItem;
use super::node::{Header, Node, separate};
use super::overflow::write_long;
use super::update::PageStore;
use crate::bytes::Bytes;
use crate::disk::format::{
    Child, KIND_BRANCH, KIND_LEAF, MAX_KEY_SIZE, MAX_LEVEL, NODE_END, PAGE_HEADER, Ptr, TreeRoot, get_u32,
};
use crate::error::{CorruptionKind, Error, LimitKind, Result};

/// At most one in this many bytes of the leaves may stay unused because a whole leaf follows one that is not
/// full.
const WASTE: usize = 16;

/// A leaf that a new tree takes over as it is: without long values, and so full that one more row of its average size
/// would not fit, or at least nine tenths full.
pub(crate) struct FullLeaf<'a> {
    node: Node<'a>,
    page_size: u32,
    size: usize,
    /// Bytes of its keys and values.
    content: u64,
}

impl<'a> FullLeaf<'a> {
    /// `None` if the leaf cannot be taken over. Its keys and values lie within it; whether they ascend is not
    /// checked.
    pub(crate) fn of(node: &Node<'a>, page_size: u32) -> Result<Option<FullLeaf<'a>>> {
        let size = node.run() as usize * page_size as usize;
        let end = get_u32(node.slice(&(0..size)), NODE_END) as usize;
        let average = end.saturating_sub(PAGE_HEADER) / node.count().max(1);
        if end > size || (end + average <= size && end * 10 < size * 9) {
            return Ok(None);
        }
        let mut content: u64 = 0;
        for index in 0..node.count() {
            let entry = node.entry(index)?;
            if entry.long {
                return Ok(None);
            }
            content += (node.prefix().len() + entry.suffix as usize + entry.value().len()) as u64;
        }
        Ok(Some(FullLeaf { node: node.clone(), page_size, size, content }))
    }

    /// Passes its rows to `each`, in the order in which they lie.
    pub(crate) fn rows(&self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut key = Vec::new();
        (0..self.node.count()).try_for_each(|index| {
            let entry = self.node.entry(index)?;
            self.node.key_into(&entry, &mut key);
            each(&key, self.node.slice(&entry.value()))
        })
    }

    /// Bytes of it.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The keys of its first and its last row.
    pub(crate) fn ends(&self) -> Result<(Bytes<'static>, Bytes<'static>)> {
        self.node.ends()
    }
}

/// A tree under construction.
pub(crate) struct Bulk {
    table: u32,
    page_size: u32,
    levels: Vec<Level>,
    /// Whether there is a row.
    any: bool,
    /// The key of the last row.
    last: Vec<u8>,
    /// Bytes of the leaves, and how many of them stay unused before whole leaves.
    written: usize,
    wasted: usize,
    /// Its sums so far.
    sums: TreeRoot,
    page: Vec<u8>,
}

impl Bulk {
    /// Begins the tree of a table.
    pub(crate) fn new(table: u32, page_size: u32) -> Bulk {
        let (levels, last, sums, page) = Default::default();
        Bulk { table, page_size, levels, any: false, last, written: 0, wasted: 0, sums, page }
    }

    /// Adds a row behind all others.
    pub(crate) fn row(&mut self, store: &mut dyn PageStore, key: &[u8], value: &[u8]) -> Result<()> {
        if key.len() > MAX_KEY_SIZE {
            let (size, limit) = (key.len() as u64, MAX_KEY_SIZE as u64);
            return Err(Error::TooLarge { what: LimitKind::Key, size, limit });
        }
        self.must_follow(key)?;
        let low = self.low_of(key);
        let entries = self.level(0)?;
        if entries.is_empty() {
            entries.set_low(&low);
        }
        if value.len() <= max_inline(self.page_size) {
            self.push(store, 0, NodeItem { key, payload: value, long: false })?;
        } else {
            let (long, tail) = write_long(store, self.table, value)?;
            self.sums.pages += store.pages().overflow_extents(&long)?.pages();
            self.push(store, 0, NodeItem { key, payload: &long.with_tail(tail), long: true })?;
        }
        self.sums.bytes += (key.len() + value.len()) as u64;
        self.any = true;
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// Adds the rows of a leaf behind all others: as a whole leaf, unless that would leave the leaf before it too
    /// empty.
    pub(crate) fn leaf(&mut self, store: &mut dyn PageStore, leaf: &FullLeaf<'_>) -> Result<()> {
        let (first, last) = leaf.ends()?;
        self.must_follow(&first)?;
        if leaf.page_size != self.page_size || !self.close_leaf(store)? {
            return leaf.rows(|key, value| self.row(store, key, value));
        }
        let low = self.low_of(&first);
        let mut bytes = std::mem::take(&mut self.page);
        bytes.clear();
        bytes.extend_from_slice(leaf.node.slice(&(0..leaf.size)));
        let run = leaf.node.run();
        let ptr = self.write(store, 0, run, &mut bytes)?;
        self.page = bytes;
        self.sums.bytes += leaf.content;
        self.any = true;
        self.last.clear();
        self.last.extend_from_slice(&last);
        let end = ptr.page.saturating_add(run);
        self.push_child(store, 1, &low, Child { ptr, count: leaf.node.count() as u64, end })
    }

    /// Writes the rest, and returns the tree.
    pub(crate) fn finish(mut self, store: &mut dyn PageStore) -> Result<TreeRoot> {
        let mut level = 0;
        loop {
            let top = self.levels.iter().skip(level + 1).all(Level::is_empty);
            let held = self.level(level)?;
            if top && held.is_empty() {
                return Ok(TreeRoot::default());
            }
            if top && level > 0 && held.len() == 1 {
                let Child { ptr, count, end } = Child::decode(held.item(0).payload);
                return Ok(TreeRoot { ptr, count, end, ..self.sums });
            }
            // A level holds back two nodes' worth, so no node is left with a single child.
            self.close(store, level)?;
            level += 1;
        }
    }

    fn must_follow(&self, key: &[u8]) -> Result<()> {
        if self.any && key <= self.last.as_slice() {
            return Err(Error::corrupt(
                CorruptionKind::Keys,
                0,
                None,
                "keys that ascend",
                "a key that is not above the one before it",
            ));
        }
        Ok(())
    }

    /// The least key that a leaf which begins with this one may hold.
    fn low_of(&self, key: &[u8]) -> Vec<u8> {
        if !self.any || !self.levels.first().is_none_or(Level::is_empty) {
            return Vec::new();
        }
        separate(&self.last, key).to_vec()
    }

    /// Closes the current leaf before a whole one; `false` if too much of it would stay unused.
    fn close_leaf(&mut self, store: &mut dyn PageStore) -> Result<bool> {
        if self.level(0)?.overflows() {
            self.give_front(store, 0)?;
        }
        let entries = self.level(0)?;
        if entries.is_empty() {
            return Ok(true);
        }
        let room = entries.room();
        if self.wasted + room > self.written / WASTE {
            return Ok(false);
        }
        self.wasted += room;
        self.close(store, 0)?;
        Ok(true)
    }

    fn push(&mut self, store: &mut dyn PageStore, level: usize, item: NodeItem<'_>) -> Result<()> {
        if self.level(level)?.push(item) {
            self.give_front(store, level)?;
        }
        Ok(())
    }

    fn give_front(&mut self, store: &mut dyn PageStore, level: usize) -> Result<()> {
        let front = self.level(level)?.front();
        self.write_node(store, level, 0, front)?;
        self.level(level)?.drop_front();
        Ok(())
    }

    /// Makes nodes of everything that a level holds back.
    fn close(&mut self, store: &mut dyn PageStore, level: usize) -> Result<()> {
        let mut from = 0;
        for end in self.level(level)?.plan(Packing::Full) {
            self.write_node(store, level, from, end)?;
            self.level(level)?.advance_low(end);
            from = end;
        }
        self.level(level)?.clear();
        Ok(())
    }

    /// Writes a level's items `from..to` as a node, and passes its pointer to the level above.
    fn write_node(&mut self, store: &mut dyn PageStore, level: usize, from: usize, to: usize) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.page);
        let run = self.level(level)?.encode(from, to, &mut bytes)?;
        let ptr = self.write(store, level, run, &mut bytes)?;
        self.page = bytes;
        let child = self.level(level)?.child(from, to, ptr, run);
        let low = self.level(level)?.low(from).to_vec();
        self.push_child(store, level + 1, &low, child)
    }

    fn write(&mut self, store: &mut dyn PageStore, level: usize, run: u32, bytes: &mut [u8]) -> Result<Ptr> {
        let page = store.allocate(run)?;
        self.sums.pages += u64::from(run);
        let header = Header {
            page,
            store_tag: store.pages().store_tag(),
            kind: if level == 0 { KIND_LEAF } else { KIND_BRANCH },
            level: u8::try_from(level).unwrap_or(u8::MAX),
            version: store.version(),
            table: self.table,
            run,
        };
        let crc = header.seal(bytes);
        store.write(page, bytes)?;
        if level == 0 {
            self.written += bytes.len();
        }
        Ok(Ptr { page, crc })
    }

    fn push_child(&mut self, store: &mut dyn PageStore, level: usize, low: &[u8], child: Child) -> Result<()> {
        self.push(store, level, NodeItem { key: low, payload: &child.encode(), long: false })
    }

    #[expect(clippy::indexing_slicing, reason = "the line above makes the level")]
    fn level(&mut self, level: usize) -> Result<&mut Level> {
        if level > usize::from(MAX_LEVEL) {
            return Err(Error::corrupt(
                CorruptionKind::Branch,
                0,
                None,
                format!("a level up to {MAX_LEVEL}"),
                level.to_string(),
            ));
        }
        while self.levels.len() <= level {
            self.levels.push(Level::new(self.levels.is_empty(), self.page_size as usize));
        }
        Ok(&mut self.levels[level])
    }
}

#[cfg(test)]
#[path = "bulk_tests.rs"]
mod tests;
