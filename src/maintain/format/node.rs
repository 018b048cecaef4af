//! The bytes of leaves and branches, taken apart from the written format alone.

use std::ops::Range;

use crate::disk::format::{
    MAX_KEY_SIZE, NODE_COUNT, NODE_END, NODE_PREFIX, OVERFLOW_SIZE, Overflow, PAGE_HEADER, Ptr, get_u16, get_u32,
    max_inline,
};

/// In an entry's second word: the value is long.
const LONG: u16 = 0x8000;

pub(in crate::maintain) enum Value<'n> {
    Inline(&'n [u8]),
    Long(Overflow),
}

pub(in crate::maintain) struct Branch {
    pub(in crate::maintain) children: Vec<Ptr>,
    /// One less than children.
    pub(in crate::maintain) separators: Separators,
}

/// What lies between the children of a branch, in key order.
#[derive(Default)]
pub(in crate::maintain) struct Separators {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Separators {
    fn push(&mut self, prefix: &[u8], suffix: &[u8]) {
        self.bytes.extend_from_slice(prefix);
        self.bytes.extend_from_slice(suffix);
        self.ends.push(self.bytes.len());
    }

    pub(in crate::maintain) fn get(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(start..*self.ends.get(index)?)
    }

    pub(in crate::maintain) fn first(&self) -> Option<&[u8]> {
        self.get(0)
    }

    pub(in crate::maintain) fn last(&self) -> Option<&[u8]> {
        self.get(self.ends.len().checked_sub(1)?)
    }

    pub(in crate::maintain) fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        (0..self.ends.len()).filter_map(|index| self.get(index))
    }
}

/// Common parts of both kinds: entries, common prefix, end.
fn counts(node: &[u8]) -> Result<(usize, usize, usize), String> {
    let count = usize::from(get_u16(node, NODE_COUNT));
    let prefix = usize::from(get_u16(node, NODE_PREFIX));
    let end = get_u32(node, NODE_END) as usize;
    match node.get(end..) {
        Some(rest) if is_zero(rest) => Ok((count, prefix, end)),
        Some(_) => Err("bytes after its end are not zero".to_owned()),
        None => Err(format!("its content ends at {end}, beyond the node")),
    }
}

/// Whether all bytes are zero. Many are looked at together: nodes with room are largely zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

fn slice(node: &[u8], range: Range<usize>, what: &str) -> Result<Range<usize>, String> {
    match node.get(range.clone()) {
        Some(_) => Ok(range),
        None => Err(format!("{what} lies outside the node")),
    }
}

/// The first four bytes, padded with zeros, as a big-endian number.
fn head(bytes: &[u8]) -> u32 {
    if let Some(first) = bytes.first_chunk::<4>() {
        return u32::from_be_bytes(*first);
    }
    let mut out = [0; 4];
    for (place, byte) in out.iter_mut().zip(bytes) {
        *place = *byte;
    }
    u32::from_be_bytes(out)
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Keys must strictly ascend, share exactly `prefix` bytes, and have the heads that are stored.
fn order<'k>(
    node: &[u8],
    heads: usize,
    prefix: usize,
    keys: impl DoubleEndedIterator<Item = &'k [u8]> + Clone,
    what: &str,
) -> Result<(), String> {
    let (Some(first), Some(last)) = (keys.clone().next(), keys.clone().next_back()) else { return Ok(()) };
    let common = common_prefix(first, last);
    if common != prefix {
        return Err(format!("its {what}s share {common} bytes, but {prefix} are noted"));
    }
    let mut before: Option<&[u8]> = None;
    for (index, key) in keys.enumerate() {
        if key.len() > MAX_KEY_SIZE {
            return Err(format!("{what} {index} has {} bytes, more than {MAX_KEY_SIZE}", key.len()));
        }
        if before.is_some_and(|before| before >= key) {
            return Err(format!("{what} {index} does not come after the one before it"));
        }
        let (stored, right) = (get_u32(node, heads + 4 * index), head(key.get(prefix..).unwrap_or_default()));
        if stored != right {
            return Err(format!("head {index} is {stored:08x}, but its {what} begins with {right:08x}"));
        }
        before = Some(key);
    }
    Ok(())
}

/// Where an entry's parts lie in its leaf.
#[derive(Debug, Clone, Copy)]
pub(in crate::maintain) struct Entry {
    key: usize,
    value: usize,
    end: usize,
    long: bool,
}

impl Entry {
    pub(in crate::maintain) fn key<'n>(&self, leaf: &'n [u8]) -> &'n [u8] {
        leaf.get(self.key..self.value).unwrap_or_default()
    }

    pub(in crate::maintain) fn value<'n>(&self, leaf: &'n [u8]) -> Value<'n> {
        let bytes = leaf.get(self.value..self.end).unwrap_or_default();
        let long = if self.long { Overflow::decode(bytes) } else { None };
        long.map_or(Value::Inline(bytes), Value::Long)
    }
}

/// The entries of a leaf, judged; `entries` is cleared before, so that one list serves many leaves.
pub(in crate::maintain) fn leaf_entries(node: &[u8], page_size: u32, entries: &mut Vec<Entry>) -> Result<(), String> {
    let (count, prefix, end) = counts(node)?;
    if count == 0 {
        return Err("a leaf without entries".to_owned());
    }
    let offsets = PAGE_HEADER + 4 * count;
    let mut at = PAGE_HEADER + 6 * count;
    entries.clear();
    for index in 0..count {
        let offset = usize::from(get_u16(node, offsets + 2 * index));
        if offset != at {
            return Err(format!("entry {index} starts at {offset}, not at {at}"));
        }
        slice(node, at..at + 4, "an entry")?;
        let (key_len, word) = (usize::from(get_u16(node, at)), get_u16(node, at + 2));
        let value_len = usize::from(word & !LONG);
        let key = slice(node, at + 4..at + 4 + key_len, "a key")?;
        let value = slice(node, key.end..key.end + value_len, "a value")?;
        let long = word & LONG != 0;
        if !long && value_len > max_inline(page_size) {
            return Err(format!("entry {index} holds a value of {value_len} bytes, too long for a leaf"));
        }
        if long && value_len != OVERFLOW_SIZE {
            return Err(format!("entry {index} has {value_len} bytes for a pointer of {OVERFLOW_SIZE}"));
        }
        at = value.end;
        entries.push(Entry { key: key.start, value: value.start, end: value.end, long });
    }
    if at != end {
        return Err(format!("its entries end at {at}, but {end} is noted"));
    }
    order(node, PAGE_HEADER, prefix, entries.iter().map(|entry| entry.key(node)), "key")
}

/// Keys and values of a leaf, judged.
pub(in crate::maintain) fn leaf(node: &[u8], page_size: u32) -> Result<Vec<(&[u8], Value<'_>)>, String> {
    let mut entries = Vec::new();
    leaf_entries(node, page_size, &mut entries)?;
    Ok(entries.iter().map(|entry| (entry.key(node), entry.value(node))).collect())
}

/// The children of a branch and what lies between them.
pub(in crate::maintain) fn branch(node: &[u8]) -> Result<Branch, String> {
    let (count, prefix_len, end) = counts(node)?;
    if count < 2 {
        return Err(format!("a branch with {count} children"));
    }
    let between = count - 1;
    let heads = PAGE_HEADER + prefix_len;
    let offsets = heads + 4 * between;
    let pointers = offsets + 2 * between;
    let suffixes = pointers + 8 * count;
    slice(node, PAGE_HEADER..suffixes, "the list of children")?;
    let prefix = node.get(PAGE_HEADER..heads).unwrap_or_default();
    let children = (0..count)
        .map(|index| pointers + 8 * index)
        .map(|at| Ptr { page: get_u32(node, at), crc: get_u32(node, at + 4) })
        .collect();
    let mut separators = Separators::default();
    let mut at = suffixes;
    for index in 0..between {
        let offset = usize::from(get_u16(node, offsets + 2 * index));
        if offset != at {
            return Err(format!("suffix {index} starts at {offset}, not at {at}"));
        }
        let last = index + 1 == between;
        let next = if last { end } else { usize::from(get_u16(node, offsets + 2 * index + 2)) };
        if next < at {
            return Err(format!("suffix {index} ends before it starts"));
        }
        let suffix = node.get(slice(node, at..next, "a suffix")?).unwrap_or_default();
        separators.push(prefix, suffix);
        at = next;
    }
    order(node, heads, prefix_len, separators.iter(), "separator")?;
    Ok(Branch { children, separators })
}
