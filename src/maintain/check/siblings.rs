//! Adjacent nodes of one level of a tree, and the keys that lie between them.

use super::pieces::Piece;
use crate::disk::format::{Child, Ptr};

/// Nothing to follow.
pub(super) const NONE: Child = Child { ptr: Ptr::NONE, count: 0, end: 0 };

/// Nodes of one level, in key order. The keys of node i lie from fence i on up to just before fence i + 1.
#[derive(Default)]
pub(super) struct Siblings {
    /// By the notes of their parents. A node that cannot be followed is a null pointer, so that its neighbours keep their fences.
    nodes: Vec<Child>,
    /// The fences, one behind the other, but for the last if nothing bounds the last node.
    bytes: Vec<u8>,
    /// Where each of them ends: the first one's is that of fence 0.
    ends: Vec<usize>,
}

impl Siblings {
    /// None yet; the keys of the first will lie from `low` on.
    pub(super) fn from(low: &[u8]) -> Siblings {
        Siblings { nodes: Vec::new(), bytes: low.to_vec(), ends: vec![low.len()] }
    }

    /// Adds the next node, whose keys lie below `high`.
    pub(super) fn push(&mut self, node: Child, high: Option<&[u8]>) {
        self.nodes.push(node);
        if let Some(high) = high {
            self.bytes.extend_from_slice(high);
            self.ends.push(self.bytes.len());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn node(&self, index: usize) -> Ptr {
        self.noted(index).ptr
    }

    /// What its parent notes of a node.
    pub(super) fn noted(&self, index: usize) -> Child {
        self.nodes.get(index).copied().unwrap_or(NONE)
    }

    /// The least key that a node may have.
    pub(super) fn low(&self, index: usize) -> &[u8] {
        self.fence(index).unwrap_or_default()
    }

    /// What all keys of a node must be less than.
    pub(super) fn high(&self, index: usize) -> Option<&[u8]> {
        self.fence(index + 1)
    }

    fn fence(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(start..*self.ends.get(index)?)
    }

    /// Bytes of memory that they take, and what is needed to read them.
    pub(super) fn size(&self) -> usize {
        let each = size_of::<Child>() + size_of::<usize>() + size_of::<u32>() + size_of::<Piece>();
        self.bytes.len() + self.nodes.len() * each
    }

    /// Some of the nodes, in the order in which they lie in the file.
    pub(super) fn in_page_order(&self, range: std::ops::Range<usize>) -> Vec<u32> {
        let mut order: Vec<u32> =
            range.filter(|index| !self.node(*index).is_none()).filter_map(|index| u32::try_from(index).ok()).collect();
        order.sort_unstable_by_key(|index| self.node(*index as usize).page);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_the_fences_beside_it() {
        let child = |page| Child { ptr: Ptr { page, crc: 1 }, ..NONE };
        let mut siblings = Siblings::from(b"");
        assert!(siblings.is_empty());
        siblings.push(child(9), Some(b"b"));
        siblings.push(NONE, Some(b"cc"));
        siblings.push(child(7), Some(b"cc"));
        siblings.push(child(8), None);
        let fences: Vec<_> = (0..4).map(|index| (siblings.low(index), siblings.high(index))).collect();
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"", Some(b"b")), (b"b", Some(b"cc")), (b"cc", Some(b"cc")), (b"cc", None)];
        assert_eq!(fences, expected);
        assert_eq!(siblings.in_page_order(0..4), [2, 3, 0]);
        assert_eq!((siblings.len(), siblings.node(4)), (4, Ptr::NONE));
    }
}
