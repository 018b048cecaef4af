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
    pub(in crate::maintain) separators: Vec<Vec<u8>>,
}

/// Common parts of both kinds: entries, common prefix, end.
fn counts(node: &[u8]) -> Result<(usize, usize, usize), String> {
    let count = usize::from(get_u16(node, NODE_COUNT));
    let prefix = usize::from(get_u16(node, NODE_PREFIX));
    let end = get_u32(node, NODE_END) as usize;
    match node.get(end..) {
        Some(rest) if rest.iter().all(|byte| *byte == 0) => Ok((count, prefix, end)),
        Some(_) => Err("bytes after its end are not zero".to_owned()),
        None => Err(format!("its content ends at {end}, beyond the node")),
    }
}

fn slice(node: &[u8], range: Range<usize>, what: &str) -> Result<Range<usize>, String> {
    match node.get(range.clone()) {
        Some(_) => Ok(range),
        None => Err(format!("{what} lies outside the node")),
    }
}

/// The first four bytes, padded with zeros, as a big-endian number.
fn head(bytes: &[u8]) -> u32 {
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
fn order<K: AsRef<[u8]>>(node: &[u8], heads: usize, prefix: usize, keys: &[K], what: &str) -> Result<(), String> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(()) };
    let common = common_prefix(first.as_ref(), last.as_ref());
    if common != prefix {
        return Err(format!("its {what}s share {common} bytes, but {prefix} are noted"));
    }
    let mut before: Option<&[u8]> = None;
    for (index, key) in keys.iter().map(AsRef::as_ref).enumerate() {
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

/// The entries of a leaf.
pub(in crate::maintain) fn leaf(node: &[u8], page_size: u32) -> Result<Vec<(&[u8], Value<'_>)>, String> {
    let (count, prefix, end) = counts(node)?;
    if count == 0 {
        return Err("a leaf without entries".to_owned());
    }
    let offsets = PAGE_HEADER + 4 * count;
    let mut at = PAGE_HEADER + 6 * count;
    let mut keys = Vec::with_capacity(count);
    let mut entries = Vec::with_capacity(count);
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
        at = value.end;
        let (key, value) = (node.get(key).unwrap_or_default(), node.get(value).unwrap_or_default());
        let value = if word & LONG == 0 {
            if value_len > max_inline(page_size) {
                return Err(format!("entry {index} holds a value of {value_len} bytes, too long for a leaf"));
            }
            Value::Inline(value)
        } else {
            match Overflow::decode(value) {
                Some(long) => Value::Long(long),
                None => return Err(format!("entry {index} has {value_len} bytes for a pointer of {OVERFLOW_SIZE}")),
            }
        };
        keys.push(key);
        entries.push((key, value));
    }
    if at != end {
        return Err(format!("its entries end at {at}, but {end} is noted"));
    }
    order(node, PAGE_HEADER, prefix, &keys, "key")?;
    Ok(entries)
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
    let mut separators = Vec::with_capacity(between);
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
        separators.push([prefix, suffix].concat());
        at = next;
    }
    order(node, heads, prefix_len, &separators, "separator")?;
    Ok(Branch { children, separators })
}
