//! Applying a sorted batch of changes to a copy of the tree.
//!
//! An update is one pass from left to right. The path from the root to the current leaf is a stack of branches. A
//! branch or leaf is *opened* when the first change below it takes effect: its page is freed and its items are added
//! to [`Level`]s, one for each height, which split them into new nodes and add a pointer to each node to the next
//! level up. A subtree that no change touches is never read: its pointer is added directly to the level above, after
//! everything below has been closed, since a node cannot hold items from both sides of it. A group of items too small
//! for a node of its own is merged with a neighbour before it is closed.

use super::build::{Level, Packing, max_inline};
use super::counted::Counted;
use super::encode::NodeItem;
use super::node::{Entry, Header, Long, Node};
use super::overflow::{copy_overflow, free_overflow, write_long};
use super::pages::Pages;
use crate::change::Change;
use crate::disk::format::{Child, Extents, KIND_BRANCH, KIND_LEAF, MAX_KEY_SIZE, MAX_LEVEL, Overflow, Ptr, TreeRoot};
use crate::error::{CorruptionKind, Error, LimitKind, Result};
use std::ops::Range;
use std::sync::Arc;

/// The store in which an update reads, allocates, frees and writes pages.
pub(crate) trait PageStore {
    /// The pages of the base version, and those written through this store since: `allocate` raises their page count
    /// as needed.
    fn pages(&self) -> &Arc<Pages>;
    /// The version of the pages that are written.
    fn version(&self) -> u64;
    /// Allocates `run` adjacent pages.
    fn allocate(&mut self, run: u32) -> Result<u32>;
    /// Frees pages that the new version no longer uses. `version` is the one they were written for, 0 if unknown.
    fn free(&mut self, page: u32, run: u32, version: u64) -> Result<()>;
    /// Allocates the pages of a long value, in one run or in several.
    fn allocate_extents(&mut self, pages: u32) -> Result<Extents> {
        Ok(Extents::one(self.allocate(pages)?, pages))
    }
    /// The same, if so many pages are free before `page`: the file does not grow for them.
    fn allocate_before(&mut self, pages: u32, _page: u32) -> Result<Option<Extents>> {
        self.allocate_extents(pages).map(Some)
    }
    /// Writes whole pages.
    fn write(&mut self, page: u32, bytes: &[u8]) -> Result<()>;
    /// Makes all written pages readable.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

/// An edit of a key: a change, or what only the tree knows, since it changes no content.
#[derive(Debug, Clone)]
pub(crate) enum Edit<V> {
    /// A change. A long value that is written already belongs to the tree from now on.
    Change(Change<V>),
    /// Rewrites the path to the key, if the key exists, to other pages; also its long value, if that reaches to or
    /// beyond page `cutoff` and there is room for it further down.
    Touch { cutoff: u32 },
}

/// Applies changes, in strictly ascending order of their keys, and returns the new tree. Pages of the old tree are
/// freed, never written. After an error the new version must be discarded.
pub(crate) fn update<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    store: &mut dyn PageStore,
    table: u32,
    root: TreeRoot,
    changes: impl Iterator<Item = Result<(K, Change<V>)>>,
) -> Result<TreeRoot> {
    edit(store, table, root, changes.map(|change| change.map(|(key, change)| (key, Edit::Change(change)))))
}

/// Like [`update`], with touches.
pub(crate) fn edit<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    store: &mut dyn PageStore,
    table: u32,
    root: TreeRoot,
    edits: impl Iterator<Item = Result<(K, Edit<V>)>>,
) -> Result<TreeRoot> {
    let pages = Arc::clone(store.pages());
    let mut update = Update::new(store, &pages, table, root);
    for edit in edits {
        let (key, edit) = edit?;
        let edit = match &edit {
            Edit::Change(change) => Edit::Change(change.as_slice()),
            Edit::Touch { cutoff } => Edit::Touch { cutoff: *cutoff },
        };
        update.apply(key.as_ref(), edit)?;
    }
    update.finish()
}

/// A node in the old tree: its pointer, its level if one is expected, and the range of its keys.
struct Place {
    ptr: Ptr,
    level: Option<u8>,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

/// A branch on the path to the current leaf.
struct Frame<'p> {
    node: Node<'p>,
    /// The range of keys below it; without `high` it has no end.
    low: Vec<u8>,
    high: Option<Vec<u8>>,
    /// The child on the path.
    index: usize,
    open: bool,
    /// If open: children before this one were added to the new tree.
    done: usize,
}

/// The current leaf.
struct Leaf<'p> {
    /// `None` in an empty tree.
    node: Option<Node<'p>>,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
    open: bool,
    /// If open: entries before this one were added to the new tree.
    done: usize,
}

struct Update<'s, 'p> {
    store: Counted<'s>,
    pages: &'p Pages,
    table: u32,
    root: TreeRoot,
    path: Vec<Frame<'p>>,
    leaf: Option<Leaf<'p>>,
    levels: Vec<Level>,
    changed: bool,
    /// The last insert was behind all old entries.
    appending: bool,
    page: Vec<u8>,
    key: Vec<u8>,
}

impl<'s, 'p> Update<'s, 'p> {
    fn new(store: &'s mut dyn PageStore, pages: &'p Pages, table: u32, root: TreeRoot) -> Self {
        Update {
            store: Counted::of(store, root),
            pages,
            table,
            root,
            path: Vec::new(),
            leaf: None,
            levels: Vec::new(),
            changed: false,
            appending: false,
            page: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Applies one change.
    fn apply(&mut self, key: &[u8], change: Edit<&[u8]>) -> Result<()> {
        if key.len() > MAX_KEY_SIZE {
            let (size, limit) = (key.len() as u64, MAX_KEY_SIZE as u64);
            return Err(Error::TooLarge { what: LimitKind::Key, size, limit });
        }
        self.seek(key)?;
        // Taken out so that opening it may use the rest of `self`. An error loses it, but also the whole update.
        let Some(mut leaf) = self.leaf.take() else { return Ok(()) };
        let result = self.apply_in(&mut leaf, key, change);
        self.leaf = Some(leaf);
        result
    }

    fn apply_in(&mut self, leaf: &mut Leaf<'p>, key: &[u8], change: Edit<&[u8]>) -> Result<()> {
        let (index, old) = match &leaf.node {
            None => (0, None),
            Some(node) => match node.lower_bound(key)? {
                (index, true) => (index, Some(node.entry(index)?)),
                (index, false) => (index, None),
            },
        };
        let old_long = match (&leaf.node, &old) {
            (Some(node), Some(entry)) if entry.long => Some(node.long(entry)?),
            _ => None,
        };
        let same = match (&change, &leaf.node, &old) {
            (Edit::Change(Change::Delete) | Edit::Touch { .. }, _, None) => true,
            (Edit::Change(Change::Put(value)), Some(node), Some(entry)) => {
                !entry.long && node.slice(&entry.value()) == *value
            }
            (Edit::Change(Change::PutOverflow(long)), ..) => old_long == Some(Long::from(**long)),
            _ => false,
        };
        if same {
            return Ok(());
        }
        if index < leaf.done {
            return Err(Error::corrupt(
                CorruptionKind::Keys,
                0,
                None,
                "keys that ascend",
                "a key below the one before it",
            ));
        }
        self.open_leaf(leaf)?;
        self.feed(leaf, index)?;
        leaf.done = index + usize::from(old.is_some());
        let entry = leaf.node.as_ref().zip(old.as_ref());
        self.store.account(key, &change, old.as_ref(), old_long.as_ref())?;
        self.push_changed(key, &change, entry, old_long.as_ref())?;
        if old.is_none() {
            let behind = leaf.node.as_ref().is_none_or(|node| index == node.count());
            self.appending = leaf.high.is_none() && behind;
        }
        Ok(())
    }

    /// Adds a changed entry, if it is not deleted, to the new tree, and frees its long value if that is no longer used.
    fn push_changed(
        &mut self,
        key: &[u8],
        change: &Edit<&[u8]>,
        old: Option<(&Node<'p>, &Entry)>,
        old_long: Option<&Long<'_>>,
    ) -> Result<()> {
        match (change, old, old_long) {
            (Edit::Change(Change::Delete), ..) => {}
            (Edit::Change(Change::Put(value)), ..) if value.len() <= max_inline(self.pages.page_size()) => {
                self.push_entry(key, value, false)?
            }
            (Edit::Change(Change::Put(value)), ..) => {
                let (long, tail) = write_long(&mut self.store, self.table, value)?;
                self.push_entry(key, &long.with_tail(tail), true)?
            }
            (Edit::Change(Change::PutOverflow(long)), ..) => self.push_entry(key, &long.encode(), true)?,
            (Edit::Touch { cutoff }, Some((node, entry)), long) => {
                let place = long.map(|long| self.place_further_down(&long.pages, *cutoff)).transpose()?.flatten();
                let Some((long, place)) = long.zip(place) else {
                    return self.push_entry(key, node.slice(&entry.value()), entry.long);
                };
                let moved = copy_overflow(&mut self.store, self.pages, self.table, &long.pages, place)?;
                self.push_entry(key, &moved.with_tail(&long.tail), true)?
            }
            (Edit::Touch { .. }, None, _) => {}
        }
        if let Some(long) = old_long {
            free_overflow(&mut self.store, self.pages, &long.pages)?;
        }
        Ok(())
    }

    /// Other pages for a long value that reaches beyond `cutoff`, if it fits before its highest extent. (It is moved
    /// nowhere else: a value that fits into no gaps would make the file grow each time.)
    fn place_further_down(&mut self, long: &Overflow, cutoff: u32) -> Result<Option<Extents>> {
        let extents = self.pages.overflow_extents(long)?;
        let highest = extents.iter().map(|extent| extent.page).max().unwrap_or(0);
        if extents.end() <= u64::from(cutoff) {
            return Ok(None);
        }
        self.store.allocate_before(u32::try_from(extents.pages()).unwrap_or(u32::MAX), highest)
    }

    /// Makes the leaf whose range contains `key` the current one.
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        let below = |high: &Option<Vec<u8>>| high.as_deref().is_none_or(|high| key < high);
        if self.leaf.as_ref().is_some_and(|leaf| below(&leaf.high)) {
            return Ok(());
        }
        self.leave_leaf()?;
        while self.path.last().is_some_and(|frame| !below(&frame.high)) {
            self.leave_branch()?;
        }
        let mut place = match self.path.last_mut() {
            Some(frame) => frame.turn(key)?,
            None => Place { ptr: self.root.ptr, level: None, low: Vec::new(), high: None },
        };
        loop {
            let Place { ptr, level, low, high } = place;
            // Only an empty tree has no page here.
            let node = if self.root.ptr.is_none() { None } else { Some(self.pages.node(ptr, self.table, level)?) };
            match node {
                Some(node) if !node.is_leaf() => {
                    let mut frame = Frame { node, low, high, index: 0, open: false, done: 0 };
                    place = frame.turn(key)?;
                    self.path.push(frame);
                }
                node => {
                    self.leaf = Some(Leaf { node, low, high, open: false, done: 0 });
                    return Ok(());
                }
            }
        }
    }

    /// Opens the leaf and everything above it.
    fn open_leaf(&mut self, leaf: &mut Leaf<'p>) -> Result<()> {
        if leaf.open {
            return Ok(());
        }
        leaf.open = true;
        self.changed = true;
        // From the root down: everything before this leaf must be in the new tree before its entries are added.
        let mut path = std::mem::take(&mut self.path);
        for frame in &mut path {
            if !frame.open {
                frame.open = true;
                self.free_node(&frame.node)?;
            }
            if frame.index + 1 < frame.done {
                return Err(frame.node.damage("separators that ascend"));
            }
            self.pass_children(frame, frame.index)?;
            frame.done = frame.index + 1;
        }
        self.path = path;
        if let Some(node) = &leaf.node {
            check_range(node, &leaf.low, leaf.high.as_deref())?;
            self.free_node(node)?;
        }
        if self.level(0)?.is_empty() {
            self.level(0)?.set_low(&leaf.low);
        }
        Ok(())
    }

    /// Moves entries before `end` from an open leaf into the new tree.
    fn feed(&mut self, leaf: &mut Leaf<'p>, end: usize) -> Result<()> {
        let Some(node) = &leaf.node else { return Ok(()) };
        self.push_entries(node, leaf.done..end)?;
        leaf.done = end.max(leaf.done);
        Ok(())
    }

    fn leave_leaf(&mut self) -> Result<()> {
        let Some(mut leaf) = self.leaf.take().filter(|leaf| leaf.open) else { return Ok(()) };
        let count = leaf.node.as_ref().map_or(0, Node::count);
        // What does not fill a node is kept: if the next leaf changes too, its entries follow here, so that a dense batch
        // packs the leaves which it writes anyway. If the next leaf stays as it is, [`Update::pass`] closes this one.
        self.feed(&mut leaf, count)
    }

    fn leave_branch(&mut self) -> Result<()> {
        let Some(mut frame) = self.path.pop().filter(|frame| frame.open) else { return Ok(()) };
        let count = frame.node.count();
        self.pass_children(&mut frame, count)
    }

    /// Takes an open branch's children before `end` over unchanged.
    fn pass_children(&mut self, frame: &mut Frame<'p>, end: usize) -> Result<()> {
        let mut low = Vec::new();
        for index in frame.done..end {
            frame.low_of(index, &mut low)?;
            self.pass(frame.node.level() - 1, &low, frame.node.counted_child(index))?;
        }
        frame.done = end.max(frame.done);
        Ok(())
    }

    /// Takes an untouched node of `level` over into the new tree.
    fn pass(&mut self, level: u8, low: &[u8], child: Child) -> Result<()> {
        for below in 0..=usize::from(level) {
            // Neighbours that were passed are still held one level up: the last one is taken first.
            while self.level(below)?.is_meagre() && self.take_left(below)? {}
            if self.level(below)?.is_meagre() {
                return self.absorb(level, low, child.ptr);
            }
            self.close(below, Packing::Even)?;
        }
        self.push_child(usize::from(level) + 1, low, child)
    }

    /// Takes an untouched node's items into the new tree instead of the node itself.
    fn absorb(&mut self, level: u8, low: &[u8], ptr: Ptr) -> Result<()> {
        let node = self.pages.node(ptr, self.table, Some(level))?;
        self.free_node(&node)?;
        if node.is_leaf() {
            return self.push_leaf(&node, low);
        }
        let mut frame = Frame { low: low.to_vec(), high: None, index: 0, open: true, done: 0, node };
        let count = frame.node.count();
        self.pass_children(&mut frame, count)
    }

    /// Puts the items of the preceding node in front of the items that `level` holds back. `false` if the level above
    /// holds no such node.
    fn take_left(&mut self, level: usize) -> Result<bool> {
        let Some((low, child)) = self.level(level + 1)?.pop() else { return Ok(false) };
        let ptr = Child::decode(&child).ptr;
        let height = u8::try_from(level).unwrap_or(u8::MAX);
        // The node may be a new one, whose page is not yet written out.
        self.store.settle()?;
        let node = self.pages.node(ptr, self.table, Some(height))?;
        self.free_node(&node)?;
        let empty = Level::new(level == 0, self.pages.page_size() as usize);
        let held = std::mem::replace(self.level(level)?, empty);
        if level == 0 {
            self.push_leaf(&node, &low)?;
        } else {
            let frame = Frame { low, high: None, index: 0, open: true, done: 0, node };
            let mut low = Vec::new();
            for index in 0..frame.node.count() {
                frame.low_of(index, &mut low)?;
                self.push_child(level, &low, frame.node.counted_child(index))?;
            }
        }
        for index in 0..held.len() {
            self.push(level, held.item(index))?;
        }
        Ok(true)
    }

    /// Like [`Update::take_left`], but fetches the node from as many levels up as necessary.
    fn fetch_left(&mut self, level: usize) -> Result<bool> {
        let above = |this: &Self| this.levels.iter().skip(level + 1).position(|held| !held.is_empty());
        let Some(distance) = above(self) else { return Ok(false) };
        for from in (level..=level + distance).rev() {
            self.take_left(from)?;
        }
        Ok(true)
    }

    /// Adds all entries of a leaf whose range begins at `low`.
    fn push_leaf(&mut self, node: &Node<'_>, low: &[u8]) -> Result<()> {
        check_range(node, low, None)?;
        if self.level(0)?.is_empty() {
            self.level(0)?.set_low(low);
        }
        self.push_entries(node, 0..node.count())
    }

    fn push_entries(&mut self, node: &Node<'_>, range: Range<usize>) -> Result<()> {
        let mut key = std::mem::take(&mut self.key);
        for index in range {
            let entry = node.entry(index)?;
            node.key_into(&entry, &mut key);
            self.push_entry(&key, node.slice(&entry.value()), entry.long)?;
        }
        self.key = key;
        Ok(())
    }

    fn push_entry(&mut self, key: &[u8], value: &[u8], long: bool) -> Result<()> {
        self.push(0, NodeItem { key, payload: value, long })
    }

    fn push_child(&mut self, level: usize, low: &[u8], child: Child) -> Result<()> {
        self.push(level, NodeItem { key: low, payload: &child.encode(), long: false })
    }

    fn push(&mut self, level: usize, item: NodeItem<'_>) -> Result<()> {
        if self.level(level)?.push(item) {
            let front = self.level(level)?.front();
            self.write_node(level, 0, front)?;
            self.level(level)?.drop_front();
        }
        Ok(())
    }

    /// Writes all items that a level holds back as nodes.
    fn close(&mut self, level: usize, packing: Packing) -> Result<()> {
        let mut from = 0;
        for end in self.level(level)?.plan(packing) {
            self.write_node(level, from, end)?;
            self.level(level)?.advance_low(end);
            from = end;
        }
        self.level(level)?.clear();
        Ok(())
    }

    /// Writes a level's items `from..to` as a node, and adds its pointer to the level above.
    fn write_node(&mut self, level: usize, from: usize, to: usize) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.page);
        let run = self.level(level)?.encode(from, to, &mut bytes)?;
        let page = self.store.allocate(run)?;
        let header = Header {
            page,
            store_tag: self.pages.store_tag(),
            kind: if level == 0 { KIND_LEAF } else { KIND_BRANCH },
            level: u8::try_from(level).unwrap_or(u8::MAX),
            version: self.store.version(),
            table: self.table,
            run,
        };
        let crc = header.seal(&mut bytes);
        self.store.write(page, &bytes)?;
        self.page = bytes;
        let child = self.level(level)?.child(from, to, Ptr { page, crc }, run);
        let low = self.level(level)?.low(from).to_vec();
        self.push_child(level + 1, &low, child)
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
            self.levels.push(Level::new(self.levels.is_empty(), self.pages.page_size() as usize));
        }
        Ok(&mut self.levels[level])
    }

    fn free_node(&mut self, node: &Node<'_>) -> Result<()> {
        self.store.free(node.page(), node.run(), node.version())
    }

    /// Closes everything and finds the new root.
    fn finish(mut self) -> Result<TreeRoot> {
        self.leave_leaf()?;
        while !self.path.is_empty() {
            self.leave_branch()?;
        }
        if !self.changed {
            return Ok(self.root);
        }
        let packing = if self.appending { Packing::Full } else { Packing::Even };
        let mut level = 0;
        loop {
            // A small node at the right edge is kept while appends continue: the next one fills it.
            while !(self.appending && (level == 0 || self.level(level)?.len() > 1)) && self.level(level)?.is_meagre() {
                if !self.fetch_left(level)? {
                    break;
                }
            }
            let top = self.levels.iter().skip(level + 1).all(Level::is_empty);
            let held = self.level(level)?;
            if top && held.is_empty() {
                return Ok(TreeRoot::default());
            }
            if top && level > 0 && held.len() == 1 {
                let top = Child::decode(held.item(0).payload);
                return Ok(self.store.root(top));
            }
            self.close(level, packing)?;
            level += 1;
        }
    }
}

impl Frame<'_> {
    /// Chooses the child for `key`.
    fn turn(&mut self, key: &[u8]) -> Result<Place> {
        self.index = self.node.route(key)?;
        let mut low = Vec::new();
        self.low_of(self.index, &mut low)?;
        let high = if self.index + 1 < self.node.count() {
            let mut high = Vec::new();
            self.node.separator(self.index, &mut high)?;
            Some(high)
        } else {
            self.high.clone()
        };
        Ok(Place { ptr: self.node.child(self.index), level: Some(self.node.level() - 1), low, high })
    }

    /// The least key that child `index` may hold.
    fn low_of(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        match index.checked_sub(1) {
            Some(separator) => self.node.separator(separator, out),
            None => {
                out.clone_from(&self.low);
                Ok(())
            }
        }
    }
}

/// Checks that a leaf's keys are within the range set by its parents: otherwise new nodes would be out of order, too.
fn check_range(node: &Node<'_>, low: &[u8], high: Option<&[u8]>) -> Result<()> {
    let (first, last) = node.ends()?;
    if *first < *low || high.is_some_and(|high| *last >= *high) {
        return Err(node.damage("keys within the range that the parent gives"));
    }
    Ok(())
}

/// Whether a run uses page `cutoff` or a later one.
pub(crate) fn reaches(page: u32, run: u32, cutoff: u32) -> bool {
    u64::from(page) + u64::from(run) > u64::from(cutoff)
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
