//! Making the file as short as it can be, while others commit.

use crate::disk::locks::lock;
use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointOptions;
use crate::error::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys that are touched in one round, by one fold, of a compaction that was asked for: this many while others
/// commit, for their flushes write the round's pages, too; more and more while nobody does.
const KEYS_AT_LEAST: usize = 1 << 10;
const KEYS_AT_MOST: usize = 1 << 16;
/// While others commit, a round is followed by a pause of so many times its length: should it keep them from
/// committing altogether, they lose that part of their time. (It is given up to no more than `LONGEST_PAUSE`.)
const PAUSE: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// So many passes over all tables without making the file shorter end it: snapshots keep the rest.
const PASSES: usize = 3;
impl Engine {
    /// Makes the file as short as it can be now. Gives its length before and after. Others may fold between two
    /// rounds, and commit all the while; most of the time is theirs if they do.
    pub(crate) fn compact_all(self: &Arc<Self>) -> Result<(u64, u64)> {
        self.checkpoint_now(&CheckpointOptions::default())?;
        let len = || self.disk.len().map_err(self.io("read the length"));
        let before = len()?;
        let (mut shortest, mut passes) = (before, 0);
        let mut plan = CheckpointOptions { shrink: true, compact: KEYS_AT_LEAST, ..CheckpointOptions::default() };
        let mut newest = None;
        // What a checkpoint sets free can be used, or cut off, only by the next one.
        while passes < PASSES {
            let turn = self.lock_checkpoint(self.deadline())?;
            let started = Instant::now();
            let done = self.run_checkpoint(&turn, &plan, self.deadline())?;
            plan.force = true;
            if !self.could_shrink(&turn)? {
                break;
            }
            drop(turn);
            let now = len()?;
            if now < shortest {
                (shortest, passes) = (now, 0);
            } else if lock(&self.compacting).is_none() {
                passes += 1;
            }
            if newest.replace(done.lsn).is_some_and(|newest| newest != done.lsn) {
                plan.compact = KEYS_AT_LEAST;
                self.disk.sleep((started.elapsed() * PAUSE).min(LONGEST_PAUSE));
            } else {
                plan.compact = (plan.compact * 4).min(KEYS_AT_MOST);
            }
        }
        Ok((before, len()?))
    }
}
