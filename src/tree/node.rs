//! The bytes of leaves and branches.
//!
//! All integers are little-endian. A node is a run of whole pages: one page, or as many as its
//! content needs, never more than `MAX_NODE_SIZE` bytes. Offsets count from the first byte of the
//! run. Nothing is aligned.
//!
//! # Header, 40 bytes, of every node
//!
//! | at | type | name | meaning |
//! |---|---|---|---|
//! | 0 | u32 | crc | CRC-32 (IEEE) of the bytes from 4 to the end of the run |
//! | 4 | u32 | page | number of the run's first page |
//! | 8 | u32 | store | first four bytes of the store id |
//! | 12 | u8 | kind | 1 leaf, 2 branch |
//! | 13 | u8 | level | 0 for a leaf; a branch is exactly one above each of its children |
//! | 14 | u16 | layout | leaf: 0 varied, 1 uniform; branch: 0 |
//! | 16 | u64 | version | sequence of the root this node was written for |
//! | 24 | u32 | table | table id |
//! | 28 | u32 | run | pages in this run |
//! | 32 | u16 | count | leaf: entries, at least 1; branch: children, at least 2 |
//! | 34 | u16 | prefix | length P of the common prefix, see below |
//! | 36 | u32 | end | offset just after the last used byte; all bytes from here to the end of the run are zero |
//!
//! # Leaf, n = count
//!
//! | at | what |
//! |---|---|
//! | 40 | P bytes: the common prefix of all keys, stored once |
//! | 40 + P | n × u32 *heads* |
//! | 40 + P + 4n | varied: n × u16 *offsets* of the entries; uniform: u16 length of each suffix, u32 `4 × length of each value + kind` |
//! | behind it | the entries, in key order, without gaps: entry 0 starts here, entry i + 1 where entry i ends, `end` is where the last one ends |
//!
//! P is the exact length of the longest common prefix of all keys of the leaf, which is that of
//! the first and the last (of a single key: its whole length). The *suffix* of a key is what follows the prefix.
//! Head i is the first four bytes of suffix i, padded with zero bytes at the end, read as a
//! big-endian number. So heads never descend, and keys with different heads order as their heads do;
//! only among equal heads must the rest be compared.
//!
//! Entry: if the leaf is varied, varint length of the suffix and varint `4 × length of the value + kind`; what follows
//! the first four bytes of the suffix; the value. Kind 0: the value itself. Kind 1: the value is long, and the bytes
//! here are the pointer to it ([`Overflow::encode`]). Kinds 2 and 3 are not in use. A varint is LEB128: seven bits in
//! each byte, the lowest first; bit 7 says that another byte follows. Keys strictly ascend (bytewise) and are at most
//! 8192 bytes long.
//!
//! A leaf is uniform if, and only if, all its suffixes have the same length, and all its values the same length and kind.
//!
//! # Branch, n = count children, m = n - 1 separators
//!
//! | at | what |
//! |---|---|
//! | 40 | P bytes: the common prefix of all separators, stored once |
//! | 40 + P | m × u32 *heads* |
//! | 40 + P + 4m | m × u16 *offsets* of the suffixes |
//! | 40 + P + 6m | n × (u32 page, u32 crc, u48 entries): the children, in key order; crc is the one in the child's header, entries are those of all leaves below it |
//! | 40 + P + 6m + 14n | the suffixes, in order, without gaps: suffix i ends where suffix i + 1 starts, the last one at `end` |
//!
//! Separator i is prefix + suffix i. P is the exact length of the longest common prefix of
//! all separators (of a single one: its whole length). Head i is the first four bytes of suffix i, as above.
//! Separators strictly ascend. Every key below child i is < separator i, and
//! every key below child i + 1 is >= separator i. A separator need not be a key.
//!
//! # Overflow run (kind 3)
//!
//! The same header up to `run`, level 0; at 32 a u64 payload length, at 40 the payload, then zeros to
//! the end of the run. `run` is exactly as many pages as 40 + length bytes need.

use crate::bytes::{Bytes, SMALL};
use crate::disk::format::{
    CHILD_SIZE, Child, KIND_BRANCH, KIND_LEAF, LAYOUT_UNIFORM, LAYOUT_VARIED, MAX_LEVEL, MAX_NODE_SIZE, NODE_COUNT,
    NODE_END, NODE_PREFIX, Overflow, PAGE_CRC, PAGE_HEADER, PAGE_KIND, PAGE_LAYOUT, PAGE_LEVEL, PAGE_NUMBER, PAGE_RUN,
    PAGE_STORE, PAGE_TABLE, PAGE_VERSION, Ptr, UNIFORM_SIZE, VALUE_INLINE, VALUE_KIND_BITS, VALUE_LONG, get_u16,
    get_u32, get_u64, get_varint, put_bytes, put_u32, put_u64,
};
use crate::error::{CorruptionKind, Error, Result};
use std::cmp::Ordering;
use std::ops::Range;

/// Bytes that an entry of a varied leaf, or a separator, takes beside its parts: head and offset.
pub(crate) const ITEM_COST: usize = 6;
/// Bytes of a suffix that its head holds.
pub(crate) const HEAD_SIZE: usize = 4;

/// Up to so many heads are compared one and all.
const COUNTED_HEADS: usize = 256;

/// A value as a leaf holds it.
#[derive(Debug, Clone)]
pub(crate) enum LeafValue<'a> {
    /// The value itself.
    Inline(Bytes<'a>),
    /// Where the value is.
    Overflow(Box<Overflow>),
}

/// Where in its leaf an entry lies.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    index: u32,
    /// Length of the key's suffix.
    pub(super) suffix: u32,
    /// Where what its head does not hold of the suffix starts; the value starts where that ends.
    rest: u32,
    value: u32,
    end: u32,
    pub(crate) long: bool,
}

impl Entry {
    /// Where its value lies.
    #[inline]
    pub(crate) fn value(&self) -> Range<usize> {
        self.value as usize..self.end as usize
    }

    #[inline]
    fn rest(&self) -> Range<usize> {
        self.rest as usize..self.value as usize
    }
}

/// A leaf or branch whose bytes were verified, and whose arrays lie inside of it.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    bytes: Bytes<'a>,
    count: usize,
    prefix: usize,
    level: u8,
}

impl<'a> Node<'a> {
    /// Takes a verified run. `None` if it is not a node of this table, and of this level if one is given.
    #[inline]
    pub(crate) fn parse(bytes: Bytes<'a>, table: u32, level: Option<u8>) -> Option<Result<Node<'a>>> {
        let raw: &[u8] = &bytes;
        let size = raw.len();
        let header = raw.first_chunk::<PAGE_HEADER>()?;
        let found = header[PAGE_LEVEL];
        let leaf = found == 0;
        if header[PAGE_KIND] != if leaf { KIND_LEAF } else { KIND_BRANCH }
            || get_u32(header, PAGE_TABLE) != table
            || level.is_some_and(|level| level != found)
            || found > MAX_LEVEL
        {
            return None;
        }
        let count = usize::from(get_u16(header, NODE_COUNT));
        let prefix = usize::from(get_u16(header, NODE_PREFIX));
        // What follows the heads of a leaf depends on its layout, which is looked at with each entry.
        let (least, arrays) = if leaf {
            (1, PAGE_HEADER + prefix + HEAD_SIZE * count)
        } else {
            (2, PAGE_HEADER + prefix + (ITEM_COST + CHILD_SIZE) * count - ITEM_COST.min(count))
        };
        let node = Node { bytes, count, prefix, level: found };
        if count < least || arrays > size || size > MAX_NODE_SIZE {
            return Some(Err(node.damage("a node whose arrays fit")));
        }
        Some(Ok(node))
    }

    #[inline]
    pub(crate) fn is_leaf(&self) -> bool {
        self.level == 0
    }

    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.level
    }

    /// Entries of a leaf, children of a branch.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn page(&self) -> u32 {
        get_u32(&self.bytes, PAGE_NUMBER)
    }

    pub(crate) fn run(&self) -> u32 {
        get_u32(&self.bytes, PAGE_RUN)
    }

    pub(crate) fn version(&self) -> u64 {
        get_u64(&self.bytes, PAGE_VERSION)
    }

    /// The heads, of `count` keys.
    #[inline]
    fn heads(&self, count: usize) -> &[[u8; HEAD_SIZE]] {
        let start = PAGE_HEADER + self.prefix;
        self.bytes.get(start..start + HEAD_SIZE * count).unwrap_or_default().as_chunks().0
    }

    /// What all keys begin with.
    #[inline]
    pub(super) fn prefix(&self) -> &[u8] {
        self.bytes.get(PAGE_HEADER..PAGE_HEADER + self.prefix).unwrap_or_default()
    }

    /// Entry `index` of a leaf.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> Result<Entry> {
        self.entry_in(&self.bytes, index)
    }

    /// Key and value of entry `index` of a leaf.
    #[inline(always)]
    pub(crate) fn read(&self, index: usize) -> Result<(Bytes<'a>, LeafValue<'a>)> {
        // What kind of bytes these are is looked up once, not for each part of the entry.
        let bytes: &[u8] = &self.bytes;
        let entry = self.entry_in(bytes, index)?;
        Ok((self.key_in(bytes, &entry), self.value(&entry)?))
    }

    /// [`Node::entry`], in the node's bytes.
    #[inline(always)]
    fn entry_in(&self, bytes: &[u8], index: usize) -> Result<Entry> {
        let lists = PAGE_HEADER + self.prefix + HEAD_SIZE * self.count;
        let layout = get_u16(bytes, PAGE_LAYOUT);
        let (suffix, word, start, behind) = if layout == LAYOUT_VARIED {
            let at = usize::from(get_u16(bytes, lists + 2 * index));
            let (suffix, word, start) = lengths(bytes, at);
            (suffix, word, start, at >= lists + 2 * self.count)
        } else {
            let (suffix, word, start) = shared_lengths(bytes, lists, index);
            (suffix, word, start, layout == LAYOUT_UNIFORM)
        };
        let value = start + suffix.saturating_sub(HEAD_SIZE);
        let end = value + (word >> VALUE_KIND_BITS);
        let kind = word % (1 << VALUE_KIND_BITS);
        let known = kind == VALUE_INLINE || kind == VALUE_LONG && Overflow::is_size(end - value);
        let within = index < self.count && behind && end <= bytes.len();
        // All lies within a node, so 32 bits are enough.
        let short = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        if !known || !within {
            return Err(
                self.damage("an entry within the leaf, of known layout and kind, and a whole pointer to a long value")
            );
        }
        let long = kind == VALUE_LONG;
        Ok(Entry {
            index: short(index),
            suffix: short(suffix),
            rest: short(start),
            value: short(value),
            end: short(end),
            long,
        })
    }

    #[inline]
    pub(crate) fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// The head of an entry, its bytes in their order.
    #[inline]
    fn head_in(&self, bytes: &[u8], entry: &Entry) -> [u8; HEAD_SIZE] {
        let at = PAGE_HEADER + self.prefix + HEAD_SIZE * entry.index as usize;
        get_u32(bytes, at).to_be_bytes()
    }

    /// The key of an entry.
    #[inline]
    pub(crate) fn key(&self, entry: &Entry) -> Bytes<'static> {
        self.key_in(&self.bytes, entry)
    }

    /// [`Node::key`], in the node's bytes.
    #[inline(always)]
    fn key_in(&self, bytes: &[u8], entry: &Entry) -> Bytes<'static> {
        // A short key is put together from blocks of a fixed size, each of which overwrites what was too much of the
        // one before: no copy depends on a length.
        const BLOCK: usize = SMALL + 2;
        let (suffix, mut joined) = (entry.suffix as usize, [0; 2 * BLOCK]);
        let block = |at: usize| bytes.get(at..).and_then(|bytes| bytes.first_chunk::<BLOCK>());
        if self.prefix + suffix <= SMALL
            && let (Some(prefix), Some(rest)) = (block(PAGE_HEADER), block(entry.rest as usize))
        {
            put_bytes(&mut joined, 0, prefix);
            put_bytes(&mut joined, self.prefix, &self.head_in(bytes, entry));
            put_bytes(&mut joined, self.prefix + suffix.min(HEAD_SIZE), rest);
            if let Some(key) = Bytes::small(self.prefix + suffix, &joined) {
                return key;
            }
        }
        let mut key = Vec::new();
        self.key_into(entry, &mut key);
        Bytes::copied(&key)
    }

    /// Puts the key of an entry into `out`.
    pub(crate) fn key_into(&self, entry: &Entry, out: &mut Vec<u8>) {
        let head = self.head_in(&self.bytes, entry);
        out.clear();
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(head.get(..entry.suffix as usize).unwrap_or(&head));
        out.extend_from_slice(self.slice(&entry.rest()));
    }

    /// The first key of a leaf, and the last one.
    pub(crate) fn ends(&self) -> Result<(Bytes<'static>, Bytes<'static>)> {
        Ok((self.first_key()?, self.last_key()?))
    }

    pub(crate) fn first_key(&self) -> Result<Bytes<'static>> {
        Ok(self.key(&self.entry(0)?))
    }

    pub(crate) fn last_key(&self) -> Result<Bytes<'static>> {
        Ok(self.key(&self.entry(self.count - 1)?))
    }

    #[inline(always)]
    pub(crate) fn value(&self, entry: &Entry) -> Result<LeafValue<'a>> {
        if entry.long {
            return Ok(LeafValue::Overflow(Box::new(self.overflow(entry)?)));
        }
        Ok(LeafValue::Inline(self.bytes.slice(entry.value())))
    }

    /// The pointer that a long entry holds.
    pub(crate) fn overflow(&self, entry: &Entry) -> Result<Overflow> {
        Overflow::decode(self.slice(&entry.value())).ok_or_else(|| self.damage("a whole pointer to a long value"))
    }

    /// How the suffix of an entry compares to `suffix`, which has the same head.
    #[inline]
    fn compare_rest(&self, entry: &Entry, suffix: &[u8]) -> Ordering {
        match suffix.get(HEAD_SIZE..) {
            Some(rest) if entry.suffix as usize >= HEAD_SIZE => self.slice(&entry.rest()).cmp(rest),
            // One of the two is shorter than a head: padded with zeros they are equal, so the shorter one comes first.
            _ => (entry.suffix as usize).cmp(&suffix.len()),
        }
    }

    /// First entry of a leaf whose key is >= `key` (the count if there is none), and the entry if it has that key.
    #[inline]
    fn search(&self, key: &[u8]) -> Result<(usize, Option<Entry>)> {
        match key.get(..self.prefix).unwrap_or(key).cmp(self.prefix()) {
            Ordering::Less => return Ok((0, None)),
            Ordering::Greater => return Ok((self.count, None)),
            Ordering::Equal => {}
        }
        let suffix = key.get(self.prefix..).unwrap_or_default();
        let head = head(suffix);
        let heads = self.heads(self.count);
        let mut low = lower_bound(heads, head);
        let mut high = low + equals(heads, low, head);
        while low < high {
            let middle = usize::midpoint(low, high);
            let entry = self.entry(middle)?;
            match self.compare_rest(&entry, suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok((middle, Some(entry))),
                Ordering::Greater => high = middle,
            }
        }
        Ok((low, None))
    }

    /// First entry of a leaf whose key is >= `key` (the count if there is none), and whether it is that key.
    #[inline]
    pub(crate) fn lower_bound(&self, key: &[u8]) -> Result<(usize, bool)> {
        self.search(key).map(|(index, entry)| (index, entry.is_some()))
    }

    /// The value of `key` in a leaf.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<LeafValue<'a>>> {
        self.search(key)?.1.map(|entry| self.value(&entry)).transpose()
    }

    /// Which child of a branch has `key` in its range.
    #[inline]
    pub(crate) fn route(&self, key: &[u8]) -> Result<usize> {
        match key.get(..self.prefix).unwrap_or(key).cmp(self.prefix()) {
            Ordering::Less => return Ok(0),
            Ordering::Greater => return Ok(self.count - 1),
            Ordering::Equal => {}
        }
        let rest = key.get(self.prefix..).unwrap_or_default();
        let head = head(rest);
        let heads = self.heads(self.count - 1);
        let mut low = lower_bound(heads, head);
        let mut high = low + equals(heads, low, head);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.suffix(middle)? <= rest {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// What follows the common prefix in separator `index`.
    #[inline]
    fn suffix(&self, index: usize) -> Result<&[u8]> {
        let bytes: &[u8] = &self.bytes;
        let separators = self.count - 1;
        let offset = |i: usize| usize::from(get_u16(bytes, PAGE_HEADER + self.prefix + 4 * separators + 2 * i));
        let end = if index + 1 < separators {
            offset(index + 1)
        } else {
            usize::try_from(get_u32(bytes, NODE_END)).unwrap_or(usize::MAX)
        };
        let least = PAGE_HEADER + self.prefix + ITEM_COST * separators + CHILD_SIZE * self.count;
        match bytes.get(offset(index)..end) {
            Some(suffix) if offset(index) >= least => Ok(suffix),
            _ => Err(self.damage("a separator within the branch")),
        }
    }

    /// Puts separator `index` of a branch, the least key that child `index + 1` may hold, into `out`.
    pub(crate) fn separator(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(self.suffix(index)?);
        Ok(())
    }

    /// Child `index` of a branch.
    #[inline]
    pub(crate) fn child(&self, index: usize) -> Ptr {
        let at = self.child_at(index);
        Ptr::get(&self.bytes, at)
    }

    /// Child `index` of a branch, and the number of entries below it.
    pub(crate) fn counted_child(&self, index: usize) -> Child {
        let at = self.child_at(index);
        Child::decode(self.slice(&(at..at + CHILD_SIZE)))
    }

    #[inline]
    pub(super) fn child_at(&self, index: usize) -> usize {
        PAGE_HEADER + self.prefix + ITEM_COST * (self.count - 1) + CHILD_SIZE * index
    }

    /// An error that says what this node should have been.
    #[cold]
    pub(crate) fn damage(&self, expected: &str) -> Error {
        let page = u64::from(self.page());
        let page_size = self.bytes.len() as u64 / u64::from(self.run()).max(1);
        let kind = if self.is_leaf() { CorruptionKind::Leaf } else { CorruptionKind::Branch };
        let found = format!("count {}, prefix {}, level {}", self.count, self.prefix, self.level);
        Error::corrupt(kind, page * page_size, Some(page), expected, found)
    }
}

/// The two lengths that a uniform leaf notes behind its heads, and where entry `index` starts.
#[inline]
fn shared_lengths(bytes: &[u8], at: usize, index: usize) -> (usize, usize, usize) {
    let noted = bytes.get(at..).and_then(|bytes| bytes.first_chunk::<UNIFORM_SIZE>()).unwrap_or(&[0; UNIFORM_SIZE]);
    // What is beyond these limits ends outside of any leaf, too; with them all numbers have 32 bits.
    let (suffix, word) = (usize::from(get_u16(noted, 0)), (get_u32(noted, 2) as usize).min(MAX_NODE_SIZE << 4));
    let size = suffix.saturating_sub(HEAD_SIZE) + (word >> VALUE_KIND_BITS);
    let start = (at + UNIFORM_SIZE).saturating_add(size.saturating_mul(index)).min(MAX_NODE_SIZE);
    (suffix, word, start)
}

/// The two lengths at the start of an entry, and where they end.
#[inline]
fn lengths(bytes: &[u8], at: usize) -> (usize, usize, usize) {
    // Nearly always the first takes one byte and the second one or two.
    if let Some([first, second, third]) = bytes.get(at..).and_then(|bytes| bytes.first_chunk::<3>())
        && *first < 0x80
        && (*second < 0x80 || *third < 0x80)
    {
        let (low, high) = (usize::from(*second), usize::from(*third));
        let long = low >= 0x80;
        let word = if long { (low & 0x7f) | high << 7 } else { low };
        return (usize::from(*first), word, at + 2 + usize::from(long));
    }
    let (suffix, next) = get_varint(bytes, at);
    let (word, start) = get_varint(bytes, next);
    (suffix, word, start)
}

/// The first four bytes, zero-padded, as a number that orders as they do.
#[inline]
pub(super) fn head(bytes: &[u8]) -> u32 {
    let mut first = [0; 4];
    match bytes.first_chunk::<4>() {
        Some(chunk) => first = *chunk,
        None => first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from),
    }
    u32::from_be_bytes(first)
}

/// How many heads are below `head`. Counting them all needs no branch that depends on what is
/// compared, runs several abreast, and lets the memory bring all of the array at once; only very
/// many are halved first.
#[inline]
fn lower_bound(heads: &[[u8; 4]], head: u32) -> usize {
    let (mut low, mut high) = (0, heads.len());
    while high - low > COUNTED_HEADS {
        let middle = usize::midpoint(low, high);
        match heads.get(middle) {
            Some(h) if u32::from_le_bytes(*h) < head => low = middle + 1,
            _ => high = middle,
        }
    }
    let rest = heads.get(low..high).unwrap_or_default();
    let below: u32 = rest.iter().map(|h| u32::from(u32::from_le_bytes(*h) < head)).sum();
    low + below as usize
}

/// How many heads from `at` on equal `head`; nearly always none or one.
#[inline]
fn equals(heads: &[[u8; 4]], at: usize, head: u32) -> usize {
    let rest = heads.get(at..).unwrap_or_default();
    let equal = |h: &[u8; 4]| u32::from_le_bytes(*h) == head;
    match rest {
        [first, ..] if !equal(first) => 0,
        [_, second, ..] if !equal(second) => 1,
        _ => rest.partition_point(equal),
    }
}

/// Length of the longest common prefix.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The shortest key that is > `below` and <= `above`, as a prefix of `above`.
pub(crate) fn separate<'k>(below: &[u8], above: &'k [u8]) -> &'k [u8] {
    above.get(..=common_prefix(below, above)).unwrap_or(above)
}

/// What the header of a run says beside its CRC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) page: u32,
    pub(crate) store_tag: u32,
    pub(crate) kind: u8,
    pub(crate) level: u8,
    pub(crate) version: u64,
    pub(crate) table: u32,
    pub(crate) run: u32,
}

impl Header {
    /// Writes everything but the CRC.
    pub(crate) fn write(&self, out: &mut [u8]) {
        put_u32(out, PAGE_NUMBER, self.page);
        put_u32(out, PAGE_STORE, self.store_tag);
        put_bytes(out, PAGE_KIND, &[self.kind]);
        put_bytes(out, PAGE_LEVEL, &[self.level]);
        put_u64(out, PAGE_VERSION, self.version);
        put_u32(out, PAGE_TABLE, self.table);
        put_u32(out, PAGE_RUN, self.run);
    }

    /// Writes the header of a complete run, whose CRC it returns.
    pub(crate) fn seal(&self, out: &mut [u8]) -> u32 {
        self.write(out);
        let crc = crc32fast::hash(out.get(PAGE_NUMBER..).unwrap_or_default());
        put_u32(out, PAGE_CRC, crc);
        crc
    }
}
