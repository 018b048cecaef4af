//! Walking a tree around what is destroyed.

use super::bits::Bits;
use crate::disk::format::{KIND_BRANCH, KIND_LEAF, KIND_OVERFLOW, MAX_LEVEL, MAX_PAGE_SIZE, Overflow, PAGE_LEVEL, Ptr};
use crate::error::Result;
use crate::maintain::format::file::{Expect, File};
use crate::maintain::format::node::{self, Value};

/// Keys that a destroyed part of a tree may have held: from `low` on, up to just before `high`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) low: Option<Vec<u8>>,
    pub(super) high: Option<Vec<u8>>,
    /// The destroyed node, and what is wrong with it.
    pub(super) page: u32,
    pub(super) why: String,
    /// It is a leaf that is destroyed: then no other page can have its rows as they are now.
    pub(super) is_leaf: bool,
}

impl Gap {
    /// A table of which nothing is known but that it is there.
    pub(super) fn all(page: u32, why: &str) -> Gap {
        Gap { low: None, high: None, page, why: why.to_owned(), is_leaf: false }
    }

    pub(super) fn holds(&self, key: &[u8]) -> bool {
        self.low.as_deref().is_none_or(|low| low <= key) && self.high.as_deref().is_none_or(|high| key < high)
    }

    /// Whether keys from `first` to `last` and this range meet.
    pub(super) fn meets(&self, first: &[u8], last: &[u8]) -> bool {
        self.low.as_deref().is_none_or(|low| low <= last) && self.high.as_deref().is_none_or(|high| first < high)
    }
}

/// What is met on the way through a tree, in key order.
pub(super) enum Met<'x> {
    Leaf(&'x [(Vec<u8>, Value<'x>)]),
    Gap(Gap),
}

pub(super) struct TreeWalk<'a, 'd> {
    pub(super) file: File<'d>,
    pub(super) table: u32,
    /// Pages that were walked.
    pub(super) used: &'a mut Bits,
}

impl TreeWalk<'_, '_> {
    pub(super) fn walk(&mut self, root: Ptr, each: &mut dyn FnMut(Met<'_>) -> Result<()>) -> Result<()> {
        if root.is_none() { Ok(()) } else { self.node(root, None, None, None, each) }
    }

    /// Levels fall by one at each step, so the recursion is never deeper than `MAX_LEVEL`.
    fn node(
        &mut self,
        ptr: Ptr,
        above: Option<u8>,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
        each: &mut dyn FnMut(Met<'_>) -> Result<()>,
    ) -> Result<()> {
        let gap = |why: String| {
            let (low, high) = (low.map(<[u8]>::to_vec), high.map(<[u8]>::to_vec));
            Met::Gap(Gap { low, high, page: ptr.page, why, is_leaf: above == Some(1) })
        };
        let (run, level) = match self.read(ptr, above) {
            Ok(read) => read,
            Err(why) => return each(gap(why)),
        };
        if level == 0 {
            return match leaf(&run, low, high) {
                Ok(entries) => each(Met::Leaf(&entries)),
                Err(why) => each(gap(why)),
            };
        }
        let node = match node::branch(&run) {
            Ok(node) => node,
            Err(why) => return each(gap(why)),
        };
        let (first, last) = (node.separators.first(), node.separators.last());
        if low.is_some_and(|low| first.is_some_and(|first| low >= first))
            || high.is_some_and(|high| last.is_some_and(|last| last >= high))
        {
            return each(gap("its separators are outside of the range that its parents give it".to_owned()));
        }
        for (index, child) in node.children.iter().enumerate() {
            let left = index.checked_sub(1).and_then(|at| node.separators.get(at));
            let right = node.separators.get(index);
            self.node(child.ptr, Some(level), left.or(low), right.or(high), each)?;
        }
        Ok(())
    }

    fn read(&mut self, ptr: Ptr, above: Option<u8>) -> Result<(Vec<u8>, u8), String> {
        // A page is walked once: that bounds the time.
        if self.used.has(ptr.page) {
            return Err("two branches lead to it".to_owned());
        }
        let expect = Expect { kinds: &[KIND_LEAF, KIND_BRANCH], table: self.table, version: self.file.version };
        let run = self.file.run(ptr, expect, MAX_PAGE_SIZE / self.file.page_size)?;
        self.used.add(ptr.page, u32::try_from(run.len() / self.file.page_size as usize).unwrap_or(1));
        let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        if level > MAX_LEVEL || above.is_some_and(|above| level + 1 != above) {
            return Err(format!("level {level} below level {}", above.unwrap_or(MAX_LEVEL + 1)));
        }
        Ok((run, level))
    }
}

fn leaf<'r>(run: &'r [u8], low: Option<&[u8]>, high: Option<&[u8]>) -> Result<Vec<(Vec<u8>, Value<'r>)>, String> {
    let entries = node::leaf(run)?;
    let (first, last) = (entries.first().map(|e| &*e.0), entries.last().map(|e| &*e.0));
    if low > first || high.is_some_and(|high| last >= Some(high)) {
        return Err("its keys are outside of the range that its parents give it".to_owned());
    }
    Ok(entries)
}

/// A value, whole: a long one is read and verified. (Its tail was verified with the leaf.)
pub(super) fn value_of(file: &File<'_>, table: u32, value: &Value<'_>) -> Result<Vec<u8>, (u32, String)> {
    match value {
        Value::Inline(bytes) => Ok(bytes.to_vec()),
        Value::Long(long) => {
            let mut value = long_value(file, table, long.pages)?;
            value.extend_from_slice(long.tail);
            Ok(value)
        }
    }
}

/// What the pages of a long value have of it.
pub(super) fn long_value(file: &File<'_>, table: u32, long: Overflow) -> Result<Vec<u8>, (u32, String)> {
    let at = |why: String| (long.ptr.page, why);
    file.extents_within(&long).map_err(at)?;
    let expect = Expect { kinds: &[KIND_OVERFLOW], table, version: u64::MAX };
    file.long_value(&long, expect).map_err(at)
}
