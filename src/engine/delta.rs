//! Delta: which keys a state has beyond what lies below it, and which of those below it lacks.
//!
//! The log changes many keys, and most of them stay keys. A delta has only those that came or went, in order, each with
//! its rank in what lies below: the number of lesser keys there. So a rank in the state is that below plus what came
//! before the key, less what went; and since the ranks that the entries have in the state ascend, too, a number is found
//! by halving, as a key is. What lies below does not change, and so neither do the ranks.
//!
//! The entries lie in blocks, which the deltas of later states share as long as they are the same.

use crate::bytes::Bytes;
use crate::error::Result;
use std::sync::Arc;

/// The most entries of a block: a change copies a block, and adds up the blocks.
const MOST: usize = 256;

/// A key by which the state differs.
#[derive(Debug, Clone)]
struct Entry {
    key: Bytes<'static>,
    /// Keys below with a lesser key.
    rank: u64,
    /// Whether the state has it, and what lies below does not; otherwise it is the other way round.
    added: bool,
    /// What the entries before it in its block add.
    before: i64,
}

impl Entry {
    /// What it adds to the number of keys.
    fn net(&self) -> i64 {
        if self.added { 1 } else { -1 }
    }
}

#[derive(Debug, Clone, Default)]
struct Block {
    /// Never empty, except while it is made.
    entries: Vec<Entry>,
}

impl Block {
    /// What its entries add to the number of keys.
    fn net(&self) -> i64 {
        self.entries.last().map_or(0, |last| last.before + last.net())
    }

    fn lies_before(&self, key: &[u8]) -> bool {
        self.entries.last().is_some_and(|last| *last.key < *key)
    }

    /// Adds up the entries from this one on.
    fn add_up(&mut self, from: usize) {
        let mut sum =
            from.checked_sub(1).and_then(|last| self.entries.get(last)).map_or(0, |last| last.before + last.net());
        for entry in self.entries.iter_mut().skip(from) {
            entry.before = sum;
            sum += entry.net();
        }
    }
}

#[derive(Debug, Clone)]
struct Placed {
    block: Arc<Block>,
    /// What the blocks before it add.
    before: i64,
}

/// A state's difference from what lies below it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delta {
    blocks: Vec<Placed>,
}

/// Where an entry of the state is.
#[derive(Debug)]
pub(crate) enum Nth {
    /// What lies below has it: the entry of this number there.
    Below(u64),
    /// It was added.
    Added(Bytes<'static>),
}

impl Delta {
    /// What it adds to the number of keys.
    pub(crate) fn net(&self) -> i64 {
        self.blocks.last().map_or(0, |last| last.before + last.block.net())
    }

    /// Takes in what became of some keys: whether the state has each of them now; `None`: as it is below. `below` gives a
    /// key's rank there, and whether it is there.
    ///
    /// After an error it has taken in some of them; all of them may be passed again.
    pub(crate) fn take_in<K: AsRef<[u8]>>(
        &mut self,
        keys: impl Iterator<Item = (K, Option<bool>)>,
        mut below: impl FnMut(&[u8]) -> Result<(u64, bool)>,
    ) -> Result<()> {
        let mut result = Ok(());
        for (key, now) in keys {
            result = self.take_in_key(key.as_ref(), now, &mut below);
            if result.is_err() {
                break;
            }
        }
        let mut sum = 0;
        for placed in &mut self.blocks {
            placed.before = sum;
            sum += placed.block.net();
        }
        result
    }

    fn take_in_key(
        &mut self,
        key: &[u8],
        now: Option<bool>,
        below: &mut impl FnMut(&[u8]) -> Result<(u64, bool)>,
    ) -> Result<()> {
        let (block, index) = self.place(key);
        match (self.entry_at(block, index).filter(|entry| *entry.key == *key), now) {
            (Some(entry), _) if now != Some(entry.added) => self.remove(block, index),
            (None, Some(added)) => {
                let (rank, is_below) = below(key)?;
                if is_below != added {
                    self.insert(block, index, Entry { key: Bytes::copied(key), rank, added, before: 0 });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The block and the index of the first entry whose key is not less.
    fn place(&self, key: &[u8]) -> (usize, usize) {
        let block = self.blocks.partition_point(|placed| placed.block.lies_before(key));
        let index = self.blocks.get(block).map_or(0, |placed| placed.block.entries.partition_point(|e| *e.key < *key));
        (block, index)
    }

    fn entry_at(&self, block: usize, index: usize) -> Option<&Entry> {
        self.blocks.get(block)?.block.entries.get(index)
    }

    fn insert(&mut self, block: usize, index: usize, entry: Entry) {
        if block < self.blocks.len() {
            return self.insert_into(block, index, entry);
        }
        // Behind all others. There a full block stays as it is: keys that ascend fill the blocks.
        match self.blocks.last() {
            Some(last) if last.block.entries.len() < MOST => {
                self.insert_into(block - 1, last.block.entries.len(), entry);
            }
            _ => self.blocks.push(Placed { block: Arc::new(Block { entries: vec![entry] }), before: 0 }),
        }
    }

    fn insert_into(&mut self, at: usize, index: usize, entry: Entry) {
        let Some(placed) = self.blocks.get_mut(at) else { return };
        let block = Arc::make_mut(&mut placed.block);
        block.entries.insert(index, entry);
        if block.entries.len() > MOST {
            let mut second = Block { entries: block.entries.split_off(MOST / 2) };
            second.add_up(0);
            block.add_up(index.min(MOST / 2));
            self.blocks.insert(at + 1, Placed { block: Arc::new(second), before: 0 });
        } else {
            block.add_up(index);
        }
    }

    fn remove(&mut self, at: usize, index: usize) {
        let Some(placed) = self.blocks.get_mut(at) else { return };
        let block = Arc::make_mut(&mut placed.block);
        block.entries.remove(index);
        block.add_up(index);
        if block.entries.is_empty() {
            self.blocks.remove(at);
        }
    }

    /// How many keys of the state are less, and whether it has this one. `below` gives the same of what lies below.
    pub(crate) fn rank(&self, key: &[u8], below: impl FnOnce(&[u8]) -> Result<(u64, bool)>) -> Result<(u64, bool)> {
        let (block, index) = self.place(key);
        let Some((placed, entry)) = self.blocks.get(block).and_then(|p| Some((p, p.block.entries.get(index)?))) else {
            let (rank, found) = below(key)?;
            return Ok((rank.saturating_add_signed(self.net()), found));
        };
        let (rank, found) = if *entry.key == *key { (entry.rank, entry.added) } else { below(key)? };
        Ok((rank.saturating_add_signed(placed.before + entry.before), found))
    }

    /// Where the state's entry of this number is, if there is one.
    pub(crate) fn nth(&self, n: u64) -> Nth {
        // An entry's rank in the state; where a key is gone, that of the next one.
        let rank = |placed: &Placed, entry: &Entry| entry.rank.saturating_add_signed(placed.before + entry.before);
        let starts_by = |placed: &Placed| placed.block.entries.first().is_none_or(|first| rank(placed, first) <= n);
        let last = self.blocks.partition_point(starts_by).checked_sub(1).and_then(|last| self.blocks.get(last));
        let Some(placed) = last else { return Nth::Below(n) };
        let entries = &placed.block.entries;
        let last = entries.partition_point(|entry| rank(placed, entry) <= n).checked_sub(1);
        let Some(entry) = last.and_then(|last| entries.get(last)) else { return Nth::Below(n) };
        if entry.added && rank(placed, entry) == n {
            return Nth::Added(entry.key.clone());
        }
        Nth::Below(n.saturating_add_signed(-(placed.before + entry.before + entry.net())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Keys = BTreeSet<Vec<u8>>;

    fn rank_in(keys: &Keys, key: &[u8]) -> (u64, bool) {
        (keys.range(..key.to_vec()).count() as u64, keys.contains(key))
    }

    fn agrees(delta: &Delta, below: &Keys, now: &Keys) {
        assert_eq!(below.len() as i64 + delta.net(), now.len() as i64);
        for key in below.union(now) {
            for key in [key.clone(), [key, &[0][..]].concat()] {
                let found = delta.rank(&key, |key| Ok(rank_in(below, key))).unwrap();
                assert_eq!(found, rank_in(now, &key), "{key:?}");
            }
        }
        for (n, key) in (0..).zip(now) {
            let found = match delta.nth(n) {
                Nth::Below(n) => below.iter().nth(usize::try_from(n).unwrap()).unwrap().clone(),
                Nth::Added(key) => key.to_vec(),
            };
            assert_eq!(found, *key, "entry {n}");
        }
        for placed in &delta.blocks {
            assert!((1..=MOST).contains(&placed.block.entries.len()));
        }
    }

    fn key(n: u16) -> Vec<u8> {
        format!("{n:05}").into_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn ranks_and_numbers_are_those_of_a_set(
            below in proptest::collection::btree_set(0_u16..2000, 0..400),
            batches in proptest::collection::vec(
                (0_u16..2000, proptest::collection::vec((0_u16..1500, 0_u8..5), 1..600)), 1..5),
        ) {
            let below: Keys = below.into_iter().map(key).collect();
            let (mut delta, mut now, mut before) = (Delta::default(), below.clone(), Vec::new());
            for (start, batch) in batches {
                for (n, what) in &batch {
                    let key = key(n + start / 2);
                    match what {
                        0 | 1 => _ = now.insert(key),
                        2 | 3 => _ = now.remove(&key),
                        _ if below.contains(&key) => _ = now.insert(key),
                        _ => _ = now.remove(&key),
                    }
                }
                before.push((delta.clone(), now.clone()));
                // Each key once, with what became of it; that it is as below may be said in both ways.
                let keys: BTreeSet<_> = batch.iter().map(|(n, what)| (key(n + start / 2), *what == 4)).collect();
                let keys = keys.into_iter().map(|(key, as_below)| {
                    let is = now.contains(&key);
                    let now = (!as_below || is != below.contains(&key)).then_some(is);
                    (key, now)
                });
                delta.take_in(keys, |key| Ok(rank_in(&below, key))).unwrap();
                agrees(&delta, &below, &now);
            }
            // Earlier deltas share blocks with this one, and are still what they were.
            let mut state = below.clone();
            for (delta, next) in before {
                agrees(&delta, &below, &state);
                state = next;
            }
            let all: Vec<_> = now.symmetric_difference(&below).cloned().map(|key| (key, None)).collect();
            delta.take_in(all.into_iter(), |_| unreachable!("a key that differs has its entry")).unwrap();
            prop_assert!(delta.blocks.is_empty());
        }
    }

    #[test]
    fn a_later_delta_shares_the_blocks_that_stay_the_same() {
        let mut delta = Delta::default();
        delta.take_in((0..20_000).map(|n| (key(n), Some(true))), |_| Ok((0, false))).unwrap();
        let before = delta.clone();
        delta.take_in([(key(9_000), Some(false))].into_iter(), |_| unreachable!()).unwrap();
        let pairs = || before.blocks.iter().zip(&delta.blocks);
        assert_eq!(pairs().filter(|(a, b)| !Arc::ptr_eq(&a.block, &b.block)).count(), 1);
        assert_eq!((before.net(), delta.net(), before.blocks.len()), (20_000, 19_999, delta.blocks.len()));
    }

    #[test]
    fn keys_that_ascend_fill_the_blocks() {
        let mut delta = Delta::default();
        for n in 0..5_000 {
            delta.take_in(std::iter::once((key(n), Some(true))), |_| Ok((0, false))).unwrap();
        }
        assert_eq!(delta.blocks.len(), 5_000_usize.div_ceil(MOST));
    }
}
