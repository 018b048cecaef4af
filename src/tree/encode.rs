//! Laying items out as a node.

use super::node::{HEAD_SIZE, common_prefix, head};
use crate::disk::format::{
    KIND_BRANCH, LAYOUT_UNIFORM, MAX_NODE_SIZE, NODE_COUNT, NODE_END, NODE_PREFIX, Overflow, PAGE_HEADER, PAGE_LAYOUT,
    VALUE_INLINE, VALUE_KIND_BITS, VALUE_LONG, put_u16, put_u32, put_varint,
};
use crate::error::{Error, LimitKind, Result};

/// One item to be put into a node: key and value, or separator and encoded child.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeItem<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// The payload is an encoded [`Overflow`].
    pub(crate) long: bool,
}

impl NodeItem<'_> {
    /// What comes before the value in an entry of a leaf, beside the key's length.
    pub(super) fn value_word(&self) -> usize {
        (self.payload.len() << VALUE_KIND_BITS) + if self.long { VALUE_LONG } else { VALUE_INLINE }
    }

    /// What follows the prefix in its key.
    fn suffix(&self, prefix: usize) -> &[u8] {
        self.key.get(prefix..).unwrap_or_default()
    }
}

/// Lays items out as a node of `kind`, in as few pages as it needs; the header stays to be sealed.
/// Of a branch's first item only the child is kept. Returns the length of the run in pages.
pub(crate) fn encode<'i>(
    kind: u8,
    items: impl ExactSizeIterator<Item = NodeItem<'i>> + Clone,
    last: &[u8],
    page_size: usize,
    out: &mut Vec<u8>,
) -> Result<u32> {
    let branch = kind == KIND_BRANCH;
    let count = items.len();
    let keyed = items.clone().skip(usize::from(branch));
    let prefix = keyed.clone().next().map_or(0, |first| common_prefix(first.key, last));
    out.clear();
    out.resize(PAGE_HEADER, 0);
    out.extend_from_slice(last.get(..prefix).unwrap_or_default());
    for item in keyed.clone() {
        out.extend_from_slice(&head(item.suffix(prefix)).to_le_bytes());
    }
    if branch {
        put_children(items, prefix, out)?;
    } else if let Some((key, word)) = shared_lengths(items.clone()) {
        put_uniform(items, key - prefix, word, prefix, out)?;
    } else {
        put_varied(items, prefix, out)?;
    }
    let end = out.len();
    put_u16(out, NODE_COUNT, small(count)?);
    put_u16(out, NODE_PREFIX, small(prefix)?);
    put_u32(out, NODE_END, u32::try_from(end).map_err(|_| too_large(end))?);
    let run = end.div_ceil(page_size);
    if run * page_size > MAX_NODE_SIZE {
        return Err(too_large(end));
    }
    out.resize(run * page_size, 0);
    u32::try_from(run).map_err(|_| too_large(end))
}

/// The length of the keys and the word before the values, if all entries have the same.
fn shared_lengths<'i>(mut items: impl Iterator<Item = NodeItem<'i>>) -> Option<(usize, usize)> {
    let lengths = |item: NodeItem<'_>| (item.key.len(), item.value_word());
    let first = lengths(items.next()?);
    items.all(|item| lengths(item) == first).then_some(first)
}

/// Puts what follows the heads of a branch: offsets, children, suffixes.
fn put_children<'i>(
    items: impl ExactSizeIterator<Item = NodeItem<'i>> + Clone,
    prefix: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let offsets = out.len();
    let separators = items.clone().skip(1);
    out.resize(offsets + 2 * separators.len(), 0);
    items.for_each(|item| out.extend_from_slice(item.payload));
    for (at, item) in (offsets..).step_by(2).zip(separators) {
        let offset = small(out.len())?;
        put_u16(out, at, offset);
        out.extend_from_slice(item.suffix(prefix));
    }
    Ok(())
}

/// Puts what follows the heads of a leaf whose entries are alike: their lengths, once, and the entries.
fn put_uniform<'i>(
    items: impl Iterator<Item = NodeItem<'i>>,
    suffix: usize,
    word: usize,
    prefix: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    put_u16(out, PAGE_LAYOUT, LAYOUT_UNIFORM);
    out.extend_from_slice(&small(suffix)?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(word).map_err(|_| too_large(word))?.to_le_bytes());
    items.for_each(|item| put_entry(item, prefix, out));
    Ok(())
}

/// Puts what follows the heads of any other leaf: offsets, and the entries, each behind its lengths.
fn put_varied<'i>(items: impl ExactSizeIterator<Item = NodeItem<'i>>, prefix: usize, out: &mut Vec<u8>) -> Result<()> {
    let offsets = out.len();
    out.resize(offsets + 2 * items.len(), 0);
    for (at, item) in (offsets..).step_by(2).zip(items) {
        let offset = small(out.len())?;
        put_u16(out, at, offset);
        put_varint(out, item.suffix(prefix).len());
        put_varint(out, item.value_word());
        put_entry(item, prefix, out);
    }
    Ok(())
}

/// Puts what the head does not hold of a key, and the value.
fn put_entry(item: NodeItem<'_>, prefix: usize, out: &mut Vec<u8>) {
    debug_assert!(!item.long || Overflow::is_size(item.payload.len()));
    out.extend_from_slice(item.suffix(prefix).get(HEAD_SIZE..).unwrap_or_default());
    out.extend_from_slice(item.payload);
}

fn small(size: usize) -> Result<u16> {
    u16::try_from(size).map_err(|_| too_large(size))
}

#[cold]
fn too_large(size: usize) -> Error {
    Error::TooLarge { what: LimitKind::Node, size: size as u64, limit: MAX_NODE_SIZE as u64 }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
