//! Making the file as short as possible while other processes commit.

use crate::disk::locks::lock;
use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::move_down::Shortening;
use crate::error::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys touched in one round, which is one checkpoint, of a requested compaction: this many while other processes
/// commit, since their flushes write the round's pages, too; more and more while none does.
const KEYS_AT_LEAST: usize = 1 << 10;
const KEYS_AT_MOST: usize = 1 << 16;
/// While other processes commit, a round is followed by a pause of this many times its length: if a round blocks
/// commits altogether, they lose only that part of their time. (A pause takes at most `LONGEST_PAUSE`.)
const PAUSE: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// This many passes over all tables that do not shorten the file end the compaction: snapshots keep the rest.
const PASSES: u32 = 3;

impl Engine {
    /// Makes the file as short as it can be now. Returns its length before and after. Other processes may commit
    /// all the while, and make checkpoints between two rounds; if they do, most of the time is theirs.
    pub(crate) fn compact_all(self: &Arc<Self>, timeout: Duration) -> Result<(u64, u64)> {
        self.checkpoint_now(&CheckpointOptions::default(), timeout)?;
        let deadline = || Instant::now().checked_add(timeout);
        let len = || self.disk.len().map_err(self.io("read the length"));
        let before = len()?;
        let mut shortening = Shortening::new(PASSES);
        shortening.note(before);
        let mut plan =
            CheckpointOptions { shrink: true, compact: KEYS_AT_LEAST, thorough: true, ..CheckpointOptions::default() };
        let mut newest = None;
        while shortening.goes_on() {
            let turn = self.lock_checkpoint(deadline())?;
            let started = Instant::now();
            let done = self.run_checkpoint(&turn, &plan, deadline())?;
            plan.force = true;
            if !self.could_shrink(&turn, &plan)? {
                break;
            }
            drop(turn);
            let now = len()?;
            if shortening.is_shorter(now) || lock(&self.compacting).is_none() {
                shortening.note(now);
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
