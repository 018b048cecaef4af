//! Laying items out as a node.

use super::node::{HEAD_SIZE, common_prefix, head};
use crate::disk::format::{
    KIND_BRANCH, MAX_NODE_SIZE, NODE_COUNT, NODE_END, NODE_PREFIX, Overflow, PAGE_HEADER, VALUE_INLINE,
    VALUE_KIND_BITS, VALUE_LONG, put_u16, put_u32, put_varint,
};
use crate::error::{Error, LimitKind, Result};

/// One item to be put into a node: key and value, or separator and encoded child.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeItem<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// The payload is a pointer to pages, and the tail of their value ([`Overflow::with_tail`]).
    pub(crate) long: bool,
}

impl NodeItem<'_> {
    /// What comes before the value in an entry of a leaf, beside the key's length.
    pub(super) fn value_word(&self) -> usize {
        (self.payload.len() << VALUE_KIND_BITS) + if self.long { VALUE_LONG } else { VALUE_INLINE }
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
    let keys = count - usize::from(branch);
    let prefix = keyed.clone().next().map_or(0, |first| common_prefix(first.key, last));
    out.clear();
    out.resize(PAGE_HEADER, 0);
    out.extend_from_slice(last.get(..prefix).unwrap_or_default());
    for item in keyed.clone() {
        out.extend_from_slice(&head(item.key.get(prefix..).unwrap_or_default()).to_le_bytes());
    }
    let offsets = out.len();
    out.resize(offsets + 2 * keys, 0);
    if branch {
        items.for_each(|item| out.extend_from_slice(item.payload));
    }
    let mut offset_at = offsets;
    for item in keyed {
        let offset = u16::try_from(out.len()).map_err(|_| too_large(out.len()))?;
        put_u16(out, offset_at, offset);
        offset_at += 2;
        let suffix = item.key.get(prefix..).unwrap_or_default();
        if branch {
            out.extend_from_slice(suffix);
            continue;
        }
        debug_assert!(!item.long || Overflow::size_in(item.payload).is_some());
        put_varint(out, suffix.len());
        put_varint(out, item.value_word());
        out.extend_from_slice(suffix.get(HEAD_SIZE..).unwrap_or_default());
        out.extend_from_slice(item.payload);
    }
    let small = |n: usize| u16::try_from(n).map_err(|_| too_large(n));
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

#[cold]
fn too_large(size: usize) -> Error {
    Error::TooLarge { what: LimitKind::Node, size: size as u64, limit: MAX_NODE_SIZE as u64 }
}
