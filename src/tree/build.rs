//! Packing items into nodes: what one level of a tree under construction holds back.
//!
//! A level collects up to two nodes' worth of items before it releases the first node, so that the last two nodes
//! of a run of items can share what is left instead of leaving a tiny node.

use super::encode::{NodeItem, encode};
use super::node::{HEAD_SIZE, ITEM_COST, common_prefix, separate};
use crate::disk::format::{Child, KIND_BRANCH, KIND_LEAF, PAGE_HEADER, UNIFORM_SIZE, VALUE_KIND_BITS};
use crate::error::Result;

/// A branch may always have this many children, however long its separators: splitting one with more gives two
/// nodes of at least [`MIN_CHILDREN`].
const ALWAYS_FITS: usize = 7;
/// No branch gets fewer children by a split.
const MIN_CHILDREN: usize = 4;
/// A leaf with fewer entries than this may take more pages, so that at most about half of one entry's bytes in this
/// many stay unused.
const PACKED_ENTRIES: usize = 8;
/// Such a leaf is no longer than this, or than one page: each change of an entry writes the whole leaf.
const MAX_PACKED_SIZE: usize = 16384;
/// So many entries away from the middle a group of large ones may be cut, if that takes fewer pages.
const NEAR_THE_MIDDLE: usize = 2;

/// Largest value that a writer keeps inside a leaf. A longer one takes an overflow run, whose last page is at most a
/// quarter empty up to the length of one page.
pub(super) const fn max_inline(page_size: u32) -> usize {
    page_size as usize / 4 * 3
}

#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    key: usize,
    payload: usize,
    long: bool,
}

/// How large the node made of some adjacent items is.
#[derive(Debug, Clone, Copy, Default)]
struct Gauge {
    first: usize,
    count: usize,
    /// Bytes of the keys (of a branch: of the separators), and the lengths of the shortest and the longest one.
    keys: usize,
    shortest: usize,
    longest: usize,
    /// Length of the common prefix of the keys.
    prefix: usize,
    /// Bytes of the values, with their lengths, or of the children.
    payload: usize,
    /// What all entries of a leaf would note of their values, if that is the same.
    word: Option<usize>,
    /// Pages that the node may take.
    pages: usize,
}

impl Gauge {
    fn from(first: usize) -> Gauge {
        Gauge { first, shortest: usize::MAX, ..Gauge::default() }
    }

    /// Bytes of a branch.
    fn branch(&self) -> usize {
        let separators = self.count.saturating_sub(1);
        let saved = self.prefix * separators.saturating_sub(1);
        PAGE_HEADER + self.payload + ITEM_COST * separators + self.keys - saved
    }

    /// Bytes of a leaf; some more if some of its keys are longer than prefix and head, and others are not.
    fn leaf(&self) -> usize {
        if let Some(word) = self.word.filter(|_| self.shortest == self.longest) {
            let entry = HEAD_SIZE.max(self.longest - self.prefix) + (word >> VALUE_KIND_BITS);
            return PAGE_HEADER + self.prefix + UNIFORM_SIZE + entry * self.count;
        }
        let in_head = self.shortest.min(self.prefix + HEAD_SIZE);
        let lengths = if self.longest - self.prefix < 0x80 { 1 } else { 2 };
        PAGE_HEADER + self.prefix + (ITEM_COST + lengths) * self.count + self.payload + self.keys - in_head * self.count
    }
}

/// How a stretch of items is cut into nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Into equal parts: room for later inserts everywhere.
    Even,
    /// As full as possible, with the rest in the last node: later inserts come behind.
    Full,
}

/// Items of one level that are not in a node yet, in key order.
pub(super) struct Level {
    leaf: bool,
    page_size: usize,
    bytes: Vec<u8>,
    items: Vec<Place>,
    /// Leaf: the least key that may go to the first node.
    low: Vec<u8>,
    front: Gauge,
    /// The items that no longer fit into the first node.
    back: Option<Gauge>,
}

impl Level {
    pub(super) fn new(leaf: bool, page_size: usize) -> Level {
        let (bytes, items, low) = Default::default();
        Level { leaf, page_size, bytes, items, low, front: Gauge::from(0), back: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the items need more than one node.
    pub(super) fn overflows(&self) -> bool {
        self.back.is_some()
    }

    /// Whether the items would make a node that is too small to be left alone: below a third of what such a node
    /// holds, or a branch of one child.
    pub(super) fn is_meagre(&self) -> bool {
        if self.overflows() || self.is_empty() {
            return false;
        }
        let content = self.used(&self.front) - PAGE_HEADER;
        let pages = if self.leaf { self.packed_pages(content / self.len() * PACKED_ENTRIES) } else { 1 };
        content * 3 < pages * self.page_size - PAGE_HEADER || (!self.leaf && self.len() < 2)
    }

    /// Pages for a leaf of this content.
    fn packed_pages(&self, content: usize) -> usize {
        (PAGE_HEADER + content).div_ceil(self.page_size).min((MAX_PACKED_SIZE / self.page_size).max(1))
    }

    /// Bytes left in the first node.
    pub(super) fn room(&self) -> usize {
        let used = self.used(&self.front);
        used.next_multiple_of(self.page_size) - used
    }

    /// Where the range of the first leaf begins; to be set when the level is empty.
    pub(super) fn set_low(&mut self, low: &[u8]) {
        debug_assert!(self.is_empty());
        self.low.clear();
        self.low.extend_from_slice(low);
    }

    /// The least key that the node which starts at `item` may hold.
    pub(super) fn low(&self, item: usize) -> &[u8] {
        if self.leaf { &self.low } else { self.item(item).key }
    }

    pub(super) fn item(&self, index: usize) -> NodeItem<'_> {
        let place = self.items.get(index).copied().unwrap_or(Place { start: 0, key: 0, payload: 0, long: false });
        let middle = place.start + place.key;
        NodeItem {
            key: self.bytes.get(place.start..middle).unwrap_or_default(),
            payload: self.bytes.get(middle..middle + place.payload).unwrap_or_default(),
            long: place.long,
        }
    }

    /// Adds an item behind the others. `true`: the first node is full and must be taken ([`Level::encode`] up to
    /// [`Level::front`], then [`Level::drop_front`]) before the next push.
    pub(super) fn push(&mut self, item: NodeItem<'_>) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(item.key);
        self.bytes.extend_from_slice(item.payload);
        self.items.push(Place { start, key: item.key.len(), payload: item.payload.len(), long: item.long });
        self.admit(self.items.len() - 1)
    }

    /// Counts item `index`, the last one, to a node; `true`: it fits into neither.
    fn admit(&mut self, index: usize) -> bool {
        let grown = self.grow(self.back.unwrap_or(self.front), index);
        if self.fits(&grown) {
            *self.back.as_mut().unwrap_or(&mut self.front) = grown;
        } else if self.back.is_some() {
            return true;
        } else {
            self.divide(index);
        }
        false
    }

    /// Cuts the items between the first node and the next one; `last` is the first one that the full first node does
    /// not hold. What the first node would hold, too, goes to the next one if that leaves less of the pages unused.
    fn divide(&mut self, last: usize) {
        let full = self.front;
        self.front = self.least_waste(full);
        let back = self.gauge(self.front.count, last + 1);
        self.back = Some(back);
        if !self.fits(&back) {
            (self.front, self.back) = (full, Some(self.gauge(full.count, last + 1)));
        }
    }

    /// Of a leaf of several pages, at least half full, the beginning that leaves the least part of its own pages unused.
    fn least_waste(&self, full: Gauge) -> Gauge {
        if !self.leaf || full.leaf() <= self.page_size {
            return full;
        }
        let (mut best, mut gauge) = (full, Gauge::from(full.first));
        let pages = |gauge: &Gauge| gauge.leaf().div_ceil(self.page_size);
        let unused = |gauge: &Gauge| pages(gauge) * self.page_size - gauge.leaf();
        for index in full.first..full.first + full.count {
            gauge = self.grow(gauge, index);
            let large = pages(&gauge) * 2 >= pages(&full);
            if large && unused(&gauge) * pages(&best) <= unused(&best) * pages(&gauge) {
                best = gauge;
            }
        }
        best
    }

    /// How large the node made of the items `from..to` is.
    fn gauge(&self, from: usize, to: usize) -> Gauge {
        (from..to).fold(Gauge::from(from), |gauge, index| self.grow(gauge, index))
    }

    /// Items of the first node.
    pub(super) fn front(&self) -> usize {
        self.front.count
    }

    /// Drops the first node's items.
    pub(super) fn drop_front(&mut self) {
        let cut = self.front.count;
        self.advance_low(cut);
        let bytes = self.items.get(cut).map_or(self.bytes.len(), |place| place.start);
        self.bytes.drain(..bytes);
        self.items.drain(..cut);
        self.items.iter_mut().for_each(|place| place.start -= bytes);
        self.front = Gauge { first: 0, ..self.back.unwrap_or(Gauge::from(0)) };
        self.back = None;
        if self.front.count < self.len() {
            self.divide(self.len() - 1);
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        self.front = Gauge::from(0);
        self.back = None;
    }

    /// Removes and returns the last item.
    pub(super) fn pop(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let last = self.len().checked_sub(1)?;
        let item = self.item(last);
        let popped = (item.key.to_vec(), item.payload.to_vec());
        let start = self.items.pop().map_or(0, |place| place.start);
        self.bytes.truncate(start);
        let items = std::mem::take(&mut self.items);
        (self.front, self.back) = (Gauge::from(0), None);
        // At most two nodes were held, so no node can become ready here.
        for (index, place) in items.into_iter().enumerate() {
            self.items.push(place);
            self.admit(index);
        }
        Some(popped)
    }

    /// The ends of the nodes into which all items are cut.
    pub(super) fn plan(&self, packing: Packing) -> Vec<usize> {
        let mut ends = Vec::new();
        self.cut(0, self.len(), packing, &mut ends);
        ends
    }

    fn cut(&self, from: usize, to: usize, packing: Packing, ends: &mut Vec<usize>) {
        let mut whole = Gauge::from(from);
        let mut fitting = from;
        for index in from..to {
            whole = self.grow(whole, index);
            if fitting == index && self.fits(&whole) {
                fitting = index + 1;
            }
        }
        if self.fits(&whole) || to - from < 2 {
            ends.push(to);
            return;
        }
        let least = if self.leaf { 1 } else { MIN_CHILDREN };
        let wanted = match packing {
            Packing::Full => fitting,
            Packing::Even if self.leaf && whole.pages > 1 => self.fewest_pages(from, to),
            Packing::Even => self.half(from, to),
        };
        let middle = wanted.min(to - least).max(from + least).min(to - 1);
        self.cut(from, middle, packing, ends);
        self.cut(middle, to, packing, ends);
    }

    /// The position that splits the items into halves of nearly equal size in bytes.
    fn half(&self, from: usize, to: usize) -> usize {
        let cost = |index: usize| {
            let item = self.item(index);
            item.key.len() + item.payload.len() + ITEM_COST
        };
        let total: usize = (from..to).map(cost).sum();
        let mut left = 0;
        for index in from..to {
            let next = left + cost(index);
            if next * 2 >= total {
                return if next * 2 - total <= total - left * 2 { index + 1 } else { index };
            }
            left = next;
        }
        to
    }

    /// Near that, the position where two leaves take the fewest pages.
    fn fewest_pages(&self, from: usize, to: usize) -> usize {
        let half = self.half(from, to);
        let near = half.saturating_sub(NEAR_THE_MIDDLE).max(from + 1)..(half + NEAR_THE_MIDDLE + 1).min(to);
        let pages = |from, to| self.gauge(from, to).leaf().div_ceil(self.page_size);
        near.min_by_key(|at| (pages(from, *at) + pages(*at, to), at.abs_diff(half))).unwrap_or(half)
    }

    fn grow(&self, gauge: Gauge, index: usize) -> Gauge {
        let item = self.item(index);
        let mut next = Gauge { count: gauge.count + 1, ..gauge };
        if self.leaf {
            let word = item.value_word();
            next.word = if gauge.count == 0 { Some(word) } else { gauge.word.filter(|all| *all == word) };
            next.payload += item.payload.len()
                + if word < 0x80 {
                    1
                } else if word < 0x4000 {
                    2
                } else {
                    3
                };
        } else {
            next.payload += item.payload.len();
        }
        if self.leaf || gauge.count > 0 {
            let first = self.item(gauge.first + usize::from(!self.leaf)).key;
            // Keys ascend, so what the first and the last one share, all of them share.
            next.prefix = common_prefix(first, item.key);
            next.keys += item.key.len();
            next.shortest = gauge.shortest.min(item.key.len());
            next.longest = gauge.longest.max(item.key.len());
        }
        if next.count <= PACKED_ENTRIES && self.leaf {
            let content = next.leaf() - PAGE_HEADER;
            next.pages = match gauge.count {
                0 => (PAGE_HEADER + content).div_ceil(self.page_size),
                _ => gauge.pages.max(self.packed_pages(content)),
            };
        }
        next
    }

    fn used(&self, gauge: &Gauge) -> usize {
        if self.leaf { gauge.leaf() } else { gauge.branch() }
    }

    fn fits(&self, gauge: &Gauge) -> bool {
        if self.leaf {
            return gauge.leaf() <= gauge.pages * self.page_size;
        }
        gauge.count <= ALWAYS_FITS || gauge.branch() <= self.page_size
    }

    /// How many entries of leaves the items `from..to` stand for.
    pub(super) fn count(&self, from: usize, to: usize) -> u64 {
        if self.leaf {
            return (to - from) as u64;
        }
        (from..to).fold(0, |sum: u64, index| sum.saturating_add(Child::decode(self.item(index).payload).count))
    }

    /// Lays the items `from..to` out as a node; returns its pages.
    pub(super) fn encode(&self, from: usize, to: usize, out: &mut Vec<u8>) -> Result<u32> {
        let kind = if self.leaf { KIND_LEAF } else { KIND_BRANCH };
        let last = to.checked_sub(1).map_or(&[][..], |last| self.item(last).key);
        encode(kind, (from..to).map(|index| self.item(index)), last, self.page_size, out)
    }

    /// Moves the beginning of the first leaf's range behind item `index - 1`, which is in a node now.
    pub(super) fn advance_low(&mut self, index: usize) {
        if self.leaf && index > 0 && index < self.len() {
            let low = separate(self.item(index - 1).key, self.item(index).key).to_vec();
            self.low = low;
        }
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
