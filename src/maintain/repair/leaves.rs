//! Leaves to which nothing leads any more, and which of their rows may be taken for those of a destroyed part of a tree.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::report::{Certainty, SalvagedPage};
use super::space::PageState;
use super::tree::Gap;
use crate::disk::format::{KIND_LEAF, Ptr};
use crate::error::Result;
use crate::maintain::format::file::{Expect, File};
use crate::maintain::format::node::{self, Value};

/// A whole leaf.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) ptr: Ptr,
    pub(super) pages: u32,
    pub(super) version: u64,
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
    pub(super) state: PageState,
}

/// What is taken for one table's gaps.
pub(super) struct Filling {
    pub(super) salvaged: Vec<SalvagedPage>,
    /// Entries that are missing still; `None` if they cannot be counted.
    pub(super) missing: Option<u64>,
    /// Where they may have been.
    pub(super) left: Vec<Gap>,
}

/// Ranges of keys, each from a first to a last one.
#[derive(Default)]
struct Covered(BTreeMap<Vec<u8>, Vec<u8>>);

impl Covered {
    fn has(&self, key: &[u8]) -> bool {
        self.0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, last)| last.as_slice() >= key)
    }

    fn add(&mut self, first: &[u8], last: &[u8]) {
        let (mut low, mut high) = (first.to_vec(), last.to_vec());
        while let Some((from, to)) =
            self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(high.as_slice()))).next_back()
        {
            if *to < low {
                break;
            }
            let (from, to) = (from.clone(), to.clone());
            self.0.remove(&from);
            low = low.min(from);
            high = high.max(to);
        }
        self.0.insert(low, high);
    }
}

/// Fills the gaps of one table from leaves: first those that the root uses, then those for which that is unknown,
/// then those that were freed; of each kind the newest first. A leaf is authoritative for all keys from its first
/// to its last one, so an older leaf adds only keys outside the ranges of newer ones: a row deleted since does
/// not come back. `take` gets the rows.
pub(super) fn fill(
    file: &File<'_>,
    table: u32,
    gaps: &[Gap],
    leaves: &mut [Leaf],
    missing: Option<u64>,
    unproven: bool,
    take: &mut dyn FnMut(&[u8], &Value<'_>) -> Result<()>,
) -> Result<Filling> {
    leaves.sort_by_key(|leaf| (certainty(leaf), std::cmp::Reverse(leaf.version)));
    let mut filling = Filling { salvaged: Vec::new(), missing, left: Vec::new() };
    let (mut covered, mut current) = (Covered::default(), Covered::default());
    for leaf in leaves.iter() {
        let certainty = certainty(leaf);
        // The root notes how many entries there are: with those in use it is complete.
        if filling.missing == Some(0) && certainty != Certainty::Likely {
            break;
        }
        let expect = Expect { kinds: &[KIND_LEAF], table, version: u64::MAX };
        let Ok(run) = file.run(leaf.ptr, expect, leaf.pages) else { continue };
        let Ok(entries) = node::leaf(&run) else { continue };
        let is_current = certainty != Certainty::Unproven;
        let taken = unproven || is_current;
        let mut rows = 0;
        for (key, value) in &entries {
            let in_gap = |gap: &Gap| gap.holds(key) && !(gap.is_leaf && is_current);
            if gaps.iter().any(in_gap) && !covered.has(key) {
                rows += 1;
                if taken {
                    take(key, value)?;
                }
            }
        }
        covered.add(&leaf.first, &leaf.last);
        if rows == 0 {
            continue;
        }
        if is_current {
            current.add(&leaf.first, &leaf.last);
            filling.missing = filling.missing.map(|missing| missing.saturating_sub(rows));
        }
        let page = u64::from(leaf.ptr.page);
        filling.salvaged.push(SalvagedPage { page, version: leaf.version, certainty, rows, taken });
    }
    filling.left = match filling.missing {
        Some(0) => Vec::new(),
        Some(_) => gaps.iter().flat_map(|gap| rest_of(gap, &current)).collect(),
        // Between any two leaves there may have been another one.
        None => gaps.to_vec(),
    };
    Ok(filling)
}

fn certainty(leaf: &Leaf) -> Certainty {
    match leaf.state {
        PageState::InUse => Certainty::Proven,
        PageState::Unknown => Certainty::Likely,
        PageState::GivenUp => Certainty::Unproven,
    }
}

/// The parts of a gap that are not covered.
fn rest_of(gap: &Gap, covered: &Covered) -> Vec<Gap> {
    let mut rest = Vec::new();
    let mut low = gap.low.clone();
    let part = |low: &Option<Vec<u8>>, high: Option<Vec<u8>>| Gap {
        low: low.clone(),
        high,
        page: gap.page,
        why: gap.why.clone(),
        is_leaf: gap.is_leaf,
    };
    for (first, last) in covered.0.iter().filter(|(first, last)| gap.meets(first, last)) {
        if low.as_ref() < Some(first) && low.as_deref() != Some(first) {
            rest.push(part(&low, Some(first.clone())));
        }
        low = Some([last.as_slice(), &[0]].concat());
    }
    if gap.high.as_ref().is_none_or(|high| low.as_ref().is_none_or(|low| low < high)) {
        rest.push(part(&low, gap.high.clone()));
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covered_ranges_join() {
        let mut covered = Covered::default();
        covered.add(b"d", b"f");
        covered.add(b"a", b"b");
        assert!(covered.has(b"a") && covered.has(b"b") && !covered.has(b"c") && covered.has(b"e"));
        assert!(!covered.has(b"ff") && !covered.has(b""));
        covered.add(b"b", b"e");
        assert_eq!(covered.0, [(b"a".to_vec(), b"f".to_vec())].into());
        covered.add(b"b", b"c");
        assert_eq!(covered.0.len(), 1);
    }

    #[test]
    fn what_is_left_of_a_gap() {
        let text = |gap: &Gap| {
            let end = |key: &Option<Vec<u8>>| key.as_ref().map_or("-".to_owned(), |key| key.escape_ascii().to_string());
            format!("{}..{}", end(&gap.low), end(&gap.high))
        };
        let left = |low: Option<&[u8]>, high: Option<&[u8]>| {
            let mut covered = Covered::default();
            covered.add(b"c", b"e");
            covered.add(b"m", b"n");
            let (low, high) = (low.map(<[u8]>::to_vec), high.map(<[u8]>::to_vec));
            let gap = Gap { low, high, ..Gap::all(1, "") };
            rest_of(&gap, &covered).iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(left(None, None), ["-..c", r"e\x00..m", r"n\x00..-"]);
        assert_eq!(left(Some(b"c"), Some(b"m")), [r"e\x00..m"]);
        assert_eq!(left(Some(b"d"), Some(b"e")), Vec::<String>::new());
        assert_eq!(left(Some(b"f"), Some(b"g")), ["f..g"]);
    }
}
