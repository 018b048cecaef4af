//! A cache that lets go of what it could not write.

use super::{Event, Image, Rng, State, World, trace};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A cache that lets go of what it could not write: sooner or later the older bytes are read again.
pub(super) struct Cache {
    /// What the disk holds.
    pub(super) disk: Image,
    /// Blocks that a failed flush left, and that were not written since.
    pub(super) unwritten: BTreeSet<usize>,
    pub(super) rng: Option<Rng>,
}

impl State {
    pub(super) fn after_flush(&mut self, failed: bool) {
        let Some(cache) = &mut self.cache else { return };
        cache.disk.set_len(self.image.len);
        for index in 0..self.image.blocks.len() {
            let (now, disk) = (&self.image.blocks[index], &mut cache.disk.blocks[index]);
            if Arc::ptr_eq(now, disk) {
                continue;
            }
            if failed {
                cache.unwritten.insert(index);
            } else if !cache.unwritten.contains(&index) {
                *disk = Arc::clone(now);
            }
        }
    }

    /// Lets go of the blocks that could not be written; unless `now`, of some of them, now and then.
    pub(super) fn drop_blocks(&mut self, now: bool) {
        let Some(Cache { disk, unwritten, rng }) = &mut self.cache else { return };
        let mut one_in = |n| rng.as_mut().is_some_and(|rng| rng.one_in(n));
        if unwritten.is_empty() || !now && !one_in(20) {
            return;
        }
        let (all, mut kept) = (now || one_in(2), BTreeSet::new());
        kept.extend(unwritten.iter().filter(|_| !all && one_in(2)));
        for index in std::mem::replace(unwritten, kept.clone()).difference(&kept).copied() {
            let Some(place) = self.image.blocks.get_mut(index) else { continue };
            *place = disk.block(index);
            if let Some((_, events)) = &mut self.history {
                trace!("{}: block {index} is dropped from the cache", events.len());
                events.push(Event::Dropped(index, Arc::clone(place)));
            }
        }
    }
}

impl World {
    /// From now on the cache lets go of what it could not write: at any time after, or when it is asked to. What the
    /// file holds now is durable.
    pub(crate) fn drop_unwritten(&self, rng: Option<Rng>) {
        let mut state = self.state();
        let disk = state.image.clone();
        state.cache = Some(Cache { disk, unwritten: BTreeSet::new(), rng });
    }

    /// Lets go of all that could not be written.
    pub(crate) fn drop_now(&self) {
        self.state().drop_blocks(true);
    }

    pub(crate) fn drops(&self) -> bool {
        self.state().cache.is_some()
    }
}
