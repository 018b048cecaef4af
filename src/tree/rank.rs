//! Entries of a tree by their number, from the counts in its branches.
//!
//! On each way down the counts of a branch must add up to what its parent notes of it. So no rank is above the number of
//! entries that the tree is said to have, and every number below that one has an entry.

use super::node::{LeafValue, Node};
use super::pages::Pages;
use crate::bytes::Bytes;
use crate::disk::format::{CHILD_SIZE, Child, TreeRoot};
use crate::error::Result;

/// How many entries have keys below `key`, and whether there is an entry with this key.
pub(crate) fn rank(pages: &Pages, table: u32, root: TreeRoot, key: &[u8]) -> Result<(u64, bool)> {
    let mut below = 0;
    let leaf = descend(pages, table, root, |node| {
        let index = node.route(key)?;
        below += counts(node).take(index).sum::<u64>();
        Ok(index)
    })?;
    let Some(leaf) = leaf else { return Ok((0, false)) };
    let (index, found) = leaf.lower_bound(key)?;
    Ok((below + index as u64, found))
}

/// The entry below which `n` entries are; `None` if there are no more.
pub(crate) fn nth(
    pages: &Pages,
    table: u32,
    root: TreeRoot,
    mut n: u64,
) -> Result<Option<(Bytes<'static>, LeafValue<'_>)>> {
    if n >= root.count {
        return Ok(None);
    }
    let leaf = descend(pages, table, root, |node| {
        let passed = counts(node).position(|count| {
            n < count || {
                n -= count;
                false
            }
        });
        Ok(passed.unwrap_or(0))
    })?;
    let Some(leaf) = leaf else { return Ok(None) };
    let entry = leaf.entry(usize::try_from(n).unwrap_or(usize::MAX))?;
    Ok(Some((leaf.key(&entry), leaf.value(&entry)?)))
}

/// Goes down to a leaf by the children that `choose` names; `None` in an empty tree.
fn descend<'p>(
    pages: &'p Pages,
    table: u32,
    root: TreeRoot,
    mut choose: impl FnMut(&Node<'p>) -> Result<usize>,
) -> Result<Option<Node<'p>>> {
    if root.ptr.is_none() {
        return Ok(None);
    }
    let (mut node, mut noted) = (pages.node(root.ptr, table, None)?, root.count);
    loop {
        let found = if node.is_leaf() { node.count() as u64 } else { counts(&node).sum() };
        if found != noted {
            return Err(node.damage(&format!("as many entries below it as are noted, {noted}")));
        }
        if node.is_leaf() {
            return Ok(Some(node));
        }
        let Child { ptr, count, .. } = node.counted_child(choose(&node)?);
        (node, noted) = (pages.node(ptr, table, Some(node.level() - 1))?, count);
    }
}

/// How many entries lie below each child of a branch. Their sum is far from overflowing: 2^16 numbers below 2^48.
fn counts<'n>(node: &'n Node<'_>) -> impl Iterator<Item = u64> + 'n {
    let children = node.slice(&(node.child_at(0)..node.child_at(node.count())));
    children.as_chunks::<CHILD_SIZE>().0.iter().map(|child| Child::decode(child).count)
}
