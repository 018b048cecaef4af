//! What a crash leaves: the record followed step by step, and the images that a real disk may hold
//! after a power loss at each.

use super::{BLOCK, Block, Event, Image, Rng, SECTOR, ZERO};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A block whose newest content may not be durable.
#[derive(Clone)]
struct Dirty {
    /// What may be on disk besides the durable content, oldest first.
    versions: Vec<(Arc<Block>, u64)>,
    /// A flush of it failed: no later flush writes it, unless it is written once more.
    stuck: bool,
}

/// Follows a record, and makes the images that a power loss at this point may leave.
#[derive(Clone)]
pub(crate) struct Replay {
    durable: Image,
    hashes: Vec<u64>,
    current: Image,
    dirty: BTreeMap<usize, Dirty>,
    lens: Vec<u64>,
    /// Blocks that the last event wrote.
    last: std::ops::Range<usize>,
    pub(crate) begun: usize,
    pub(crate) acked: usize,
}

/// How many images are made at each point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Up to so many combinations of blocks are all made; of more, a sample of `sample`.
    pub(crate) all: usize,
    pub(crate) sample: usize,
    /// So many torn, and so many damaged, versions of what was just written.
    pub(crate) torn: usize,
}

fn hash_block(index: usize, block: &Block) -> u64 {
    let mut hasher = DefaultHasher::new();
    (index, &block[..]).hash(&mut hasher);
    hasher.finish()
}

impl Replay {
    pub(crate) fn new(start: Image) -> Replay {
        let hashes = start.blocks.iter().enumerate().map(|(i, b)| hash_block(i, b)).collect();
        let lens = vec![start.len];
        let dirty = BTreeMap::new();
        Replay { durable: start.clone(), hashes, current: start, dirty, lens, last: 0..0, begun: 0, acked: 0 }
    }

    fn touch(&mut self, index: usize, block: Arc<Block>) {
        let hash = hash_block(index, &block);
        let dirty = self.dirty.entry(index).or_insert_with(|| Dirty { versions: Vec::new(), stuck: false });
        dirty.stuck = false;
        if dirty.versions.last().is_none_or(|(_, last)| *last != hash) {
            dirty.versions.push((block, hash));
        }
    }

    /// Takes the next event over. `true`: the states that a crash may leave have changed.
    pub(crate) fn apply(&mut self, event: &Event) -> bool {
        match event {
            Event::Write { first, blocks, len } => {
                self.current.set_len(*len);
                self.note_len(*len);
                for (index, block) in (*first..).zip(blocks) {
                    self.current.blocks[index] = Arc::clone(block);
                    self.touch(index, Arc::clone(block));
                }
                self.last = *first..*first + blocks.len();
                true
            }
            Event::SetLen { len, cut } => {
                let old = self.current.blocks.len();
                self.current.set_len(*len);
                self.note_len(*len);
                for index in self.current.blocks.len()..old {
                    self.touch(index, ZERO.clone());
                }
                if let Some((index, block)) = cut {
                    self.touch(*index, Arc::clone(block));
                }
                self.last = 0..0;
                true
            }
            Event::Flush => {
                self.durable.set_len(self.current.len);
                self.hashes.resize(self.durable.blocks.len(), 0);
                for index in 0..self.durable.blocks.len() {
                    if self.dirty.get(&index).is_some_and(|dirty| dirty.stuck) {
                        continue;
                    }
                    let now = self.current.block(index);
                    if !Arc::ptr_eq(&self.durable.blocks[index], &now) || self.hashes[index] == 0 {
                        self.hashes[index] = hash_block(index, &now);
                        self.durable.blocks[index] = now;
                    }
                }
                self.dirty.retain(|_, dirty| dirty.stuck);
                self.lens = vec![self.current.len];
                self.last = 0..0;
                true
            }
            Event::FlushFailed => {
                self.dirty.values_mut().for_each(|dirty| dirty.stuck = true);
                true
            }
            Event::Dropped(index, block) => {
                // What is on disk stays one of the two.
                self.current.blocks[*index] = Arc::clone(block);
                false
            }
            Event::Begun(n) => {
                self.begun = *n;
                false
            }
            Event::Acked(n) => {
                self.acked = *n;
                false
            }
        }
    }

    fn note_len(&mut self, len: u64) {
        if self.lens.last() != Some(&len) {
            self.lens.push(len);
        }
    }

    /// Makes the image in which each listed block has the given content instead of its durable one.
    fn image(&self, choice: &[(usize, &Arc<Block>)], len: u64) -> Image {
        let mut image = self.durable.clone();
        image.set_len(self.current.len.max(self.durable.len).max(len));
        for (index, block) in choice {
            if let Some(place) = image.blocks.get_mut(*index) {
                *place = Arc::clone(block);
            }
        }
        image.set_len(len);
        image
    }

    fn fingerprint(&self, choice: &[(usize, u64)], len: u64) -> u64 {
        let mut hash = len.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (index, new) in choice {
            hash = hash.wrapping_sub(self.hashes.get(*index).copied().unwrap_or(0)).wrapping_add(*new);
        }
        self.hashes.iter().fold(hash, |sum, h| sum.wrapping_add(*h))
    }

    /// Calls `visit` with images that a crash at this point may leave, for which `fresh` says of the
    /// fingerprint that it is new.
    pub(crate) fn crash_states(
        &self,
        rng: &mut Rng,
        limits: Limits,
        fresh: &mut dyn FnMut(u64) -> bool,
        visit: &mut dyn FnMut(Image),
    ) {
        let dirty: Vec<_> = self.dirty.iter().map(|(index, d)| (*index, &d.versions)).collect();
        let combinations =
            dirty.iter().try_fold(1_usize, |n, (_, versions)| n.checked_mul(versions.len() + 1)).unwrap_or(usize::MAX);
        let mut emit = |picks: &[usize], len: u64, spoiled: Option<(usize, Arc<Block>)>| {
            // Pick 0 is the durable content, pick n version n - 1.
            let mut choice: Vec<(usize, &Arc<Block>)> = Vec::new();
            let mut prints = Vec::new();
            for (pick, (index, versions)) in picks.iter().zip(&dirty) {
                if spoiled.as_ref().is_some_and(|(spoiled, _)| spoiled == index) || *pick == 0 {
                    continue;
                }
                let (block, hash) = &versions[*pick - 1];
                choice.push((*index, block));
                prints.push((*index, *hash));
            }
            if let Some((index, block)) = &spoiled {
                choice.push((*index, block));
                prints.push((*index, hash_block(*index, block)));
            }
            if fresh(self.fingerprint(&prints, len)) {
                visit(self.image(&choice, len));
            }
        };
        let nothing = vec![0; dirty.len()];
        let all: Vec<usize> = dirty.iter().map(|(_, versions)| versions.len()).collect();
        for len in &self.lens {
            emit(&nothing, *len, None);
            emit(&all, *len, None);
        }
        let newest = *self.lens.last().unwrap();
        if combinations <= limits.all {
            let mut picks = nothing.clone();
            'all: loop {
                emit(&picks, newest, None);
                for (pick, most) in picks.iter_mut().zip(&all) {
                    if *pick < *most {
                        *pick += 1;
                        continue 'all;
                    }
                    *pick = 0;
                }
                break;
            }
        } else {
            for i in 0..dirty.len().min(limits.sample) {
                let (mut only, mut but) = (nothing.clone(), all.clone());
                let i = if dirty.len() <= limits.sample { i } else { rng.below(dirty.len()) };
                only[i] = all[i];
                but[i] = 0;
                emit(&only, newest, None);
                emit(&but, newest, None);
            }
            for _ in 0..limits.sample {
                let density = 1 + rng.below(7);
                let picks: Vec<_> =
                    all.iter().map(|most| if rng.below(8) < density { 1 + rng.below(*most) } else { 0 }).collect();
                emit(&picks, self.lens[rng.below(self.lens.len())], None);
            }
        }
        for _ in 0..limits.torn {
            // Blocks just written are torn first; those before them were at their own point.
            if dirty.is_empty() {
                break;
            }
            let recent: Vec<usize> = (0..dirty.len()).filter(|i| self.last.contains(&dirty[*i].0)).collect();
            let at = if recent.is_empty() || rng.one_in(4) {
                rng.below(dirty.len())
            } else {
                recent[rng.below(recent.len())]
            };
            let (index, versions) = &dirty[at];
            let old = match rng.below(versions.len()) {
                0 => self.durable.block(*index),
                n => versions[n - 1].0.clone(),
            };
            let torn = torn(*old, &versions.last().unwrap().0, rng);
            let picks: Vec<_> = match rng.below(3) {
                0 => nothing.clone(),
                1 => all.clone(),
                _ => all.iter().map(|most| rng.below(*most + 1)).collect(),
            };
            emit(&picks, newest, Some((*index, Arc::new(torn))));
        }
    }
}

/// A block of which the power loss left some sectors new, some old, and some that were being written.
fn torn(old: Block, new: &Block, rng: &mut Rng) -> Block {
    let mut torn = old;
    let (mode, cut, mask) = (rng.below(6), 1 + rng.below(7), rng.next());
    for sector in 0..BLOCK / SECTOR {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        let takes_new = match mode {
            0 | 4 => sector < cut,
            1 => sector >= cut,
            _ => mask >> sector & 1 == 1,
        };
        if takes_new {
            torn[range.clone()].copy_from_slice(&new[range]);
        } else if mode >= 4 && torn[range.clone()] != new[range.clone()] {
            // The sector was being written when the power went: it holds anything.
            let garbage = if mode == 4 { 0 } else { mask.to_le_bytes()[sector] | 1 };
            torn[range].fill(garbage);
        }
    }
    torn
}
