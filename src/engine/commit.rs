//! A transaction becomes durable.
//!
//! Small ones become one frame of the log. Long values go to pages of their own first, and the
//! frame points at them. What is too large for the log goes straight to the tree.

use crate::disk::format::OVERFLOW_SIZE;
use crate::disk::locks::Deadline;
use crate::disk::sidecar::Counter;
use crate::engine::Engine;
use crate::engine::append::Appended;
use crate::engine::changes::{Changes, Write};
use crate::engine::checkpoint::{CheckpointTurn, Plan};
use crate::engine::fold::Folding;
use crate::engine::janitor::Chore;
use crate::engine::queue::WriterTurn;
use crate::error::{Error, Result};
use crate::log::frame::FrameKind;
use crate::tree::update::write_overflow;
use std::sync::Arc;
use std::time::Instant;

/// Values from this size on are not written to the log.
const LONG_VALUE: usize = 32 << 10;

/// How often the log is folded to make room for one frame.
const TRIES: usize = 4;

/// How durable a commit is when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It survives a power loss.
    #[default]
    Sync,
    /// It is visible to everybody at once and flushed soon after. A power loss may lose the newest
    /// such commits, in order, and nothing else; the death of a process loses none.
    Relaxed,
}

impl Engine {
    /// Waits for this caller's turn to write, with a store that is fit for writing.
    pub(crate) fn begin(self: &Arc<Self>, deadline: Deadline) -> Result<WriterTurn> {
        let turn = self.take_writer(deadline)?;
        if self.is_poisoned(&self.sidecar()) {
            let _folding = self.lock_checkpoint(deadline)?;
            self.heal(deadline)?;
        }
        Ok(turn)
    }

    /// Commits and gives the transaction's LSN. `turn` is given back as soon as the next writer may go on.
    /// `None`: nothing was done, since the set of tables may not be what the changes assume.
    pub(crate) fn commit(
        &self,
        turn: &mut Option<WriterTurn>,
        changes: &mut Changes,
        durability: Durability,
    ) -> Result<Option<u64>> {
        self.check_process()?;
        let deadline = self.deadline();
        if changes.is_empty() {
            return Ok(Some(self.durable_lsn()));
        }
        let long: u64 = long_values(changes).map(|write| value_len(write) as u64).sum();
        let direct = changes.frame_bytes().saturating_sub(long) > self.settings.log_cap / 4;
        if changes.assumes.is_some() && (direct || long > 0) {
            return Ok(None);
        }
        if direct {
            return self.commit_to_tree(changes, deadline).map(Some);
        }
        // Held until the frame is in the log: only then do others know that these pages are used.
        let folding = if long > 0 { Some(self.write_long_values(changes, long, deadline)?) } else { None };
        let mut frame = changes.encode();
        let mut tries = 0;
        let (lsn, crowded, flush) = loop {
            let mut append = self.lock_append(deadline)?;
            // The tail that was just found is the true one, and who walked there has told of every change.
            if changes.assumes.is_some_and(|lsn| append.sidecar.tables() != Some(lsn)) {
                return Ok(None);
            }
            match append.append(&mut frame, FrameKind::Commit, durability == Durability::Relaxed)? {
                Appended::At(lsn) => {
                    let crowded = append.state.used() * 2 > append.state.ring.capacity();
                    // If nobody else is about, this commit is flushed at once. Otherwise the others
                    // get to append first, so that the flush carries more of them.
                    let alone = durability == Durability::Sync && !append.sidecar.is_busy();
                    let sync = if alone { self.try_lock_sync().map_err(|e| self.unconfirmed(e))? } else { None };
                    break (lsn, crowded, sync.map(|sync| (sync, append.seal())));
                }
                Appended::NoRoom => {}
            }
            drop(append);
            tries += 1;
            // For long values room was made before: to a fold that runs now their pages would be free.
            if folding.is_some() || tries > TRIES {
                return Err(log_stays_full());
            }
            // The log must be folded, and may have to grow.
            self.checkpoint(&Plan { room_for: frame.frame_len(), ..Plan::default() }, deadline)?;
        };
        drop(folding);
        *turn = None;
        if let Some((sync, sealed)) = flush {
            self.flush_batch(&sync, &sealed).map_err(|e| self.unconfirmed(e))?;
        }
        let sidecar = self.sidecar();
        if let Some(slot) = self.slot(&sidecar) {
            slot.count(Counter::Commits, 1);
        }
        if crowded {
            self.fold_soon();
        }
        match durability {
            Durability::Sync => self.wait_durable(lsn, deadline).map_err(|e| self.unconfirmed(e))?,
            Durability::Relaxed => {
                sidecar.wake_changed();
                if self.settings.threads {
                    self.janitor.call(Chore::Flush);
                }
            }
        }
        if self.settings.threads {
            self.janitor.call(Chore::Watch);
        }
        Ok(Some(lsn))
    }

    fn fold_soon(&self) {
        if self.settings.threads {
            self.janitor.call(Chore::Fold);
        } else if let Ok(Some(turn)) = self.try_lock_checkpoint() {
            // The commit stands whatever comes of this; a failure shows again when the log is full.
            let _ = turn.run(&Plan::default(), Instant::now().checked_add(self.settings.timeout));
        }
    }

    fn commit_to_tree(&self, changes: &Changes, deadline: Deadline) -> Result<u64> {
        let turn = self.lock_checkpoint(deadline)?;
        let done = turn.run(&Plan { direct: Some(changes), ..Plan::default() }, deadline)?;
        let sidecar = self.sidecar();
        if let Some(slot) = self.slot(&sidecar) {
            slot.count(Counter::Commits, 1);
        }
        Ok(done.lsn)
    }

    /// Sees to it that the log has room for a frame. The caller holds WRITER, too, so that it stays.
    fn make_room(&self, turn: &CheckpointTurn<'_>, room_for: u64, deadline: Deadline) -> Result<()> {
        for _ in 0..TRIES {
            if self.lock_append(deadline)?.has_room(room_for) {
                return Ok(());
            }
            turn.run(&Plan { room_for, ..Plan::default() }, deadline)?;
        }
        Err(log_stays_full())
    }

    /// Writes the long values, of `long` bytes in all, to runs of their own, durably, and puts pointers
    /// in their place.
    fn write_long_values(&self, changes: &mut Changes, long: u64, deadline: Deadline) -> Result<CheckpointTurn<'_>> {
        let turn = self.lock_checkpoint(deadline)?;
        let pointers = (long_values(changes).count() * OVERFLOW_SIZE) as u64;
        self.make_room(&turn, changes.frame_bytes().saturating_sub(long) + pointers, deadline)?;
        turn.settle_root()?;
        let view = self.newest_view()?;
        let mut fold = Folding::for_log(self, &view)?;
        let mut written = Vec::new();
        for (table, keys) in &changes.tables {
            for (key, write) in keys {
                if let Write::Put(value) = write
                    && value.len() >= LONG_VALUE
                {
                    written.push((*table, key.clone(), write_overflow(&mut fold, *table, value)?));
                }
            }
        }
        fold.write_out()?;
        // The frame must never be found without what it points at.
        turn.flush()?;
        for (table, key, overflow) in written {
            changes.set(table, &key, Some(Write::PutOverflow(overflow)));
        }
        Ok(turn)
    }
}

fn log_stays_full() -> Error {
    Error::Invalid("the log stays full although it was folded".to_owned())
}

fn value_len(write: &Write) -> usize {
    if let Write::Put(value) = write { value.len() } else { 0 }
}

fn long_values(changes: &Changes) -> impl Iterator<Item = &Write> {
    changes.tables.values().flat_map(|keys| keys.values()).filter(|write| value_len(write) >= LONG_VALUE)
}
