//! Commits of transactions.
//!
//! A small transaction becomes one frame of the log. Long values are first written to pages of their own, and the
//! frame points at them. While a checkpoint runs, which those pages would have to wait for, they stay in the frame
//! if they fit. A transaction too large for the log is written directly to the tree.

use crate::change::{Change, OwnedChange};
use crate::disk::format::{MAX_FRAME_PAYLOAD, MAX_OVERFLOW_SIZE, Overflow};
use crate::disk::locks::{Deadline, lock};
use crate::disk::slot::Counter;
use crate::engine::Engine;
use crate::engine::append::{AppendGuard, Appended, Sealed};
use crate::engine::board::Failures;
use crate::engine::changes::{Changes, placed_values};
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::chores::Chore;
use crate::engine::group_commit::SyncGuard;
use crate::engine::page_writer::SpaceOfLog;
use crate::engine::streams::{LONG_VALUE, StreamedPages, Streams};
use crate::engine::writer_queue::WriterGuard;
use crate::error::{Error, Result};
use crate::log::frame::{FrameBuilder, FrameKind};
use crate::tree::overflow::write_overflow;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The most checkpoints that are run to make room for one frame.
const CHECKPOINTS_FOR_ROOM: usize = 2;

/// A transaction whose frame would be larger than this is written directly to the tree.
fn frame_limit(log_cap: u64) -> u64 {
    (log_cap / 4).min(MAX_FRAME_PAYLOAD.into())
}

/// Long values in pages of their own, with CHECKPOINT, the right to allocate pages. It is held until the frame that
/// points at the values is in the log: only then does the next checkpointer know that these pages are used.
struct Placed<'e> {
    _turn: CheckpointGuard<'e>,
    /// The log points at so many bytes of long values that a checkpoint should run soon.
    crowded: bool,
    /// For the next long values, if the frame gets into the log. `None`: pages that were streamed to are not in use.
    space: Option<Box<SpaceOfLog>>,
}

/// What became of a commit's long values.
enum Placing<'e> {
    Done(Box<Placed<'e>>),
    /// Nothing was changed, since the log cannot grow enough for the pointers.
    NoRoom(CheckpointGuard<'e>),
}

/// How durable a commit is when it returns.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::{Durability, WriteOptions};
/// let relaxed = WriteOptions::new().durability(Durability::Relaxed);
/// store.write_with(relaxed, |tx| tx.raw("visits")?.put(b"k", b"1"))?; // every process sees it
/// store.flush()?;
/// assert!(store.stats()?.durable >= store.last_commit()?); // and now it survives a power loss
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// The commit survives a power loss.
    #[default]
    Sync,
    /// The commit is visible to all processes at once and flushed soon after. A power loss may lose the newest such
    /// commits, in order, and nothing else; the death of a process loses none. A failed flush may lose them, too, and
    /// then `Store::flush` returns an error.
    Relaxed,
}

/// A transaction that the holder of WRITER commits.
struct Commit<'c> {
    writer: &'c WriterGuard,
    changes: &'c mut Changes,
    durability: Durability,
    /// Bytes of long values that have no pages yet.
    long: u64,
    /// The pages of those that were streamed. If there are any, CHECKPOINT is held.
    streamed: StreamedPages,
    deadline: Deadline,
}

/// The result of putting a transaction into the log or the tree.
enum Outcome<'e> {
    InLog(InLog<'e>),
    /// The transaction was committed without the log.
    InTree(u64),
    /// The set of tables may differ from the one that the changes assume.
    NamesChanged,
}

/// A commit that is in the log, and not acknowledged yet.
struct InLog<'e> {
    lsn: u64,
    /// A checkpoint should run soon.
    crowded: bool,
    /// The sealed batch, if it is flushed at once.
    flush: Option<(SyncGuard<'e>, Sealed)>,
    /// The failed flushes known when the frame was appended.
    failures: Failures,
}

impl Engine {
    /// Commits, and returns the transaction's LSN. `turn` is released as soon as the next writer may start.
    /// `None`: nothing was done, since the set of tables may differ from the one that the changes assume.
    pub(crate) fn commit(
        &self,
        turn: &mut Option<WriterGuard>,
        streams: Option<Streams>,
        changes: &mut Changes,
        durability: Durability,
    ) -> Result<Option<u64>> {
        let span = crate::trace::debug_span!(
            "commit",
            durability = ?durability,
            bytes = changes.frame_bytes(),
            operations = changes.operations(),
            lsn = crate::trace::field::Empty,
            waited_us = crate::trace::field::Empty,
        );
        let _in_span = span.enter();
        let committed = self.commit_now(turn, streams, changes, durability, &span)?;
        if let Some(lsn) = committed {
            span.record("lsn", lsn);
        }
        Ok(committed)
    }

    fn commit_now(
        &self,
        turn: &mut Option<WriterGuard>,
        streams: Option<Streams>,
        changes: &mut Changes,
        durability: Durability,
        span: &crate::trace::Span,
    ) -> Result<Option<u64>> {
        self.check_process()?;
        let writer = turn.as_ref().ok_or_else(|| Error::Internal("WRITER is not held".to_owned()))?;
        let (held, streamed) = self.take_up_streams(streams);
        let long = long_values(changes).map(value_len).sum();
        let commit = Commit { writer, changes, durability, long, streamed, deadline: self.deadline() };
        let in_log = match self.put_in_place(commit, held)? {
            Outcome::InLog(in_log) => in_log,
            Outcome::InTree(lsn) => return Ok(Some(lsn)),
            Outcome::NamesChanged => return Ok(None),
        };
        *turn = None;
        let appended = (!span.is_disabled()).then(Instant::now);
        let lsn = self.settle_commit(in_log, durability)?;
        appended.inspect(|appended| _ = span.record("waited_us", appended.elapsed().as_micros()));
        Ok(Some(lsn))
    }

    /// Puts the transaction into the log, or, if it is too large for the log, directly into the tree. CHECKPOINT is `held`
    /// if values were streamed.
    fn put_in_place<'e>(&'e self, mut commit: Commit<'_>, held: Option<CheckpointGuard<'e>>) -> Result<Outcome<'e>> {
        let (bytes, long) = (commit.changes.frame_bytes(), commit.long);
        let limit = frame_limit(self.settings.log_cap);
        let direct = bytes.saturating_sub(long) > limit;
        if commit.changes.catalog_lsn.is_some() && (direct || long > 0) {
            return Ok(Outcome::NamesChanged);
        }
        if direct {
            return self.commit_without_log(&mut commit, held);
        }
        if commit.durability == Durability::Sync {
            // Beside a flush, the check that the sidecar still has its name costs nothing. (Without a flush it is made
            // once a second.)
            let _ = self.current_sidecar();
        }
        let turn = match held {
            None if long > 0 => self.turn_for_pages(bytes <= limit, commit.deadline)?,
            held => held,
        };
        let placed = match turn.map(|turn| self.write_long_values(turn, &mut commit)).transpose()? {
            Some(Placing::NoRoom(turn)) => return self.commit_without_log(&mut commit, Some(turn)),
            Some(Placing::Done(placed)) => Some(*placed),
            None => None,
        };
        // `None`: the log cannot grow as far as its cap allows, since the disk is full or no segment is left.
        match self.append_changes(&mut commit, placed)? {
            Some(outcome) => Ok(outcome),
            None => self.commit_without_log(&mut commit, None),
        }
    }

    /// Makes room for the frame and appends it to the log. CHECKPOINT is held for long values until the frame is in
    /// the log. `None`: the log has no room for the frame, and cannot grow enough.
    fn append_changes<'e>(
        &'e self,
        commit: &mut Commit<'_>,
        mut placed: Option<Placed<'e>>,
    ) -> Result<Option<Outcome<'e>>> {
        let mut frame = commit.changes.encode();
        let mut tries = 0;
        loop {
            let mut append = self.lock_append(commit.deadline)?;
            // The tail just found is the true one, and the process that walked there published all changes of tables.
            if commit.changes.catalog_lsn.is_some_and(|lsn| append.tables() != Some(lsn)) {
                return Ok(Some(Outcome::NamesChanged));
            }
            match append.append(&mut frame, FrameKind::Commit, commit.durability == Durability::Relaxed)? {
                Appended::At(lsn) => return self.in_log(append, lsn, commit.durability, placed).map(Some),
                Appended::NoRoom => {}
            }
            drop(append);
            tries += 1;
            // For long values room was made before: a checkpoint now would treat their pages as free.
            if placed.is_some() {
                return Err(Error::Internal("the room that was made in the log is gone".to_owned()));
            }
            if tries > CHECKPOINTS_FOR_ROOM || !self.make_way(commit, &mut frame, &mut placed)? {
                return Ok(None);
            }
        }
    }

    /// The frame is in the log: decides whether this commit is flushed at once. It is if no other process is busy;
    /// otherwise other processes append first, so that the flush covers more commits.
    fn in_log<'e>(
        &'e self,
        mut append: AppendGuard<'e>,
        lsn: u64,
        durability: Durability,
        placed: Option<Placed<'e>>,
    ) -> Result<Outcome<'e>> {
        let log_is_half_full = append.state.used() * 2 > append.state.ring.capacity();
        let crowded = log_is_half_full || placed.as_ref().is_some_and(|placed| placed.crowded);
        if let Some(Placed { space, _turn, .. }) = placed {
            *lock(&self.space_of_log) = space;
        }
        let proven = self.proven.load(Ordering::Acquire);
        let alone = durability == Durability::Sync && proven && !append.sidecar.is_busy();
        let sync = if alone { self.try_lock_sync().map_err(|e| self.unconfirmed(e))? } else { None };
        let flush = sync.map(|sync| (sync, append.seal()));
        Ok(Outcome::InLog(InLog { lsn, crowded, flush, failures: append.into_failures() }))
    }

    /// Completes and acknowledges a commit that is in the log, after WRITER was released. Returns its LSN.
    fn settle_commit(&self, in_log: InLog<'_>, durability: Durability) -> Result<u64> {
        let InLog { lsn, crowded, flush, failures } = in_log;
        if let Some((sync, sealed)) = flush {
            self.flush_batch(&sync, &sealed).map_err(|e| self.unconfirmed(e))?;
        }
        let sidecar = self.sidecar();
        self.note_in_slot(&sidecar, |slot| slot.count(Counter::Commits, 1));
        if crowded {
            self.checkpoint_soon();
        }
        match durability {
            Durability::Sync => self.wait_durable_since(lsn, &failures).map_err(|e| self.unconfirmed(e))?,
            Durability::Relaxed => {
                self.note_relaxed(lsn, failures);
                sidecar.wake_changed();
                if self.settings.threads {
                    self.background.call(Chore::Flush);
                }
            }
        }
        if self.settings.threads {
            self.background.call(Chore::Watch);
        }
        Ok(lsn)
    }

    /// Returns when what a transaction has read, up to `lsn`, is as safe as what it writes would be. It read the log to
    /// its end, beyond what readers see: what it returns to its caller must be visible to every later reader.
    /// `failures` were counted while the transaction still held WRITER, so the log still had its frames.
    pub(crate) fn settle_reads(&self, lsn: u64, durability: Durability, failures: &Failures) -> Result<()> {
        let safe = match durability {
            Durability::Sync => self.durable_lsn(),
            Durability::Relaxed => self.visible(),
        };
        if lsn <= safe && !self.has_failed_since(failures) { Ok(()) } else { self.wait_durable_since(lsn, failures) }
    }

    fn checkpoint_soon(&self) {
        if self.settings.threads {
            self.background.call(Chore::Checkpoint);
        } else if let Ok(Some(turn)) = self.try_lock_checkpoint() {
            // The commit is valid even if this fails; a failure appears again when the log is full.
            let _ = self.run_checkpoint(
                &turn,
                &CheckpointOptions::default(),
                Instant::now().checked_add(self.settings.timeout),
            );
        }
    }

    /// Like [`Engine::commit`], without the log. CHECKPOINT is `held` if values were streamed.
    fn commit_without_log(&self, commit: &mut Commit<'_>, held: Option<CheckpointGuard<'_>>) -> Result<Outcome<'_>> {
        if commit.changes.catalog_lsn.is_some() {
            return Ok(Outcome::NamesChanged);
        }
        let turn = held.map_or_else(|| self.lock_checkpoint(commit.deadline), Ok)?;
        let options = CheckpointOptions { streamed: &commit.streamed.extents, ..CheckpointOptions::default() };
        self.run_checkpoint(&turn, &options, commit.deadline)?;
        self.renew_streamed(&*self.newest_view(commit.writer)?, commit.changes)?;
        let lsn = self.commit_to_tree(commit.writer, &turn, commit.changes, commit.deadline)?;
        drop(turn);
        let sidecar = self.sidecar();
        self.note_in_slot(&sidecar, |slot| slot.count(Counter::Commits, 1));
        Ok(Outcome::InTree(lsn))
    }

    /// The log had no room for the frame: runs a checkpoint, which may grow the log; or writes long values in the frame
    /// to pages after all. `false`: the log cannot grow enough for the frame.
    fn make_way<'e>(
        &'e self,
        commit: &mut Commit<'_>,
        frame: &mut FrameBuilder,
        placed: &mut Option<Placed<'e>>,
    ) -> Result<bool> {
        let turn = self.lock_checkpoint(commit.deadline)?;
        if commit.long == 0 {
            let options = CheckpointOptions { room_for: frame.frame_len(), ..CheckpointOptions::default() };
            self.run_checkpoint(&turn, &options, commit.deadline)?;
            return Ok(true);
        }
        if let Placing::Done(done) = self.write_long_values(turn, commit)? {
            *placed = Some(*done);
        }
        *frame = commit.changes.encode();
        Ok(placed.is_some())
    }

    /// Makes room in the log for the commit's frame, if possible. While WRITER is held, the room stays.
    fn make_room(&self, turn: &CheckpointGuard<'_>, commit: &Commit<'_>, room_for: u64) -> Result<bool> {
        for _ in 0..CHECKPOINTS_FOR_ROOM {
            if self.lock_append(commit.deadline)?.has_room(room_for) {
                return Ok(true);
            }
            let streamed = &commit.streamed.extents;
            let options = CheckpointOptions { room_for, streamed, ..CheckpointOptions::default() };
            self.run_checkpoint(turn, &options, commit.deadline)?;
        }
        Ok(self.lock_append(commit.deadline)?.has_room(room_for))
    }

    /// Takes CHECKPOINT, the right to allocate pages for long values. `None`: a checkpoint is running, and the values
    /// `fit` into the frame. A checkpoint may take long, and all other writers would wait for it with this one.
    fn turn_for_pages(&self, fit: bool, deadline: Deadline) -> Result<Option<CheckpointGuard<'_>>> {
        match self.try_lock_checkpoint()? {
            None if !fit => self.lock_checkpoint(deadline).map(Some),
            turn => Ok(turn),
        }
    }

    /// Writes the long values to pages of their own, durably, and replaces them with pointers.
    fn write_long_values<'e>(&'e self, turn: CheckpointGuard<'e>, commit: &mut Commit<'_>) -> Result<Placing<'e>> {
        // What the log points at stays in use until the next checkpoint, overwritten or not. The log's cap bounds
        // its frames, and also these bytes beside it.
        let (allowed, long) = (self.settings.log_cap, commit.long + commit.streamed.bytes(self.page_size));
        let in_log = self.newest_view(commit.writer)?.long_bytes();
        if in_log > 0 && in_log.saturating_add(long) > allowed {
            let options = CheckpointOptions { streamed: &commit.streamed.extents, ..CheckpointOptions::default() };
            self.run_checkpoint(&turn, &options, commit.deadline)?;
        }
        let pointers = (long_values(commit.changes).count() * MAX_OVERFLOW_SIZE) as u64;
        let room_for = commit.changes.frame_bytes().saturating_sub(commit.long) + pointers;
        if !self.make_room(&turn, commit, room_for)? {
            return Ok(Placing::NoRoom(turn));
        }
        turn.settle_root()?;
        let view = self.newest_view(commit.writer)?;
        let crowded = view.long_bytes().saturating_add(long) > allowed / 2;
        self.renew_streamed(&view, commit.changes)?;
        let mut pages = self.space_beside(&turn, &view, &mut commit.streamed)?;
        let mut written = Vec::new();
        for (table, keys) in &commit.changes.tables {
            for (key, change) in keys {
                if let Change::Put(value) = change
                    && value.len() as u64 >= LONG_VALUE
                {
                    written.push((*table, key.clone(), write_overflow(&mut pages, *table, value)?));
                }
            }
        }
        pages.write_out()?;
        // The frame must never be found without what it points at.
        turn.flush_tree()?;
        for (table, key, overflow) in written {
            commit.changes.set(table, &key, Some(Change::PutOverflow(Box::new(overflow))));
        }
        let values: Vec<Overflow> = placed_values(commit.changes).map(|(_, _, long)| long).collect();
        let space = commit.streamed.are_all_put(commit.changes).then(|| pages.with_values(values.into_iter()));
        Ok(Placing::Done(Box::new(Placed { _turn: turn, crowded, space })))
    }

    /// Gives up the memory for what is free beside the long values of the log.
    pub(crate) fn forget_space(&self) {
        *lock(&self.space_of_log) = None;
    }
}

fn value_len(write: &OwnedChange) -> u64 {
    if let Change::Put(value) = write { value.len() as u64 } else { 0 }
}

fn long_values(changes: &Changes) -> impl Iterator<Item = &OwnedChange> {
    changes.tables.values().flat_map(|keys| keys.values()).filter(|write| value_len(write) >= LONG_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MAX_LOG_CAP;

    #[test]
    fn no_transaction_has_a_frame_larger_than_frames_can_be() {
        assert_eq!(frame_limit(64 << 10), 16 << 10);
        for cap in [MAX_LOG_CAP, 20 << 30, u64::MAX] {
            assert_eq!(frame_limit(cap), u64::from(MAX_FRAME_PAYLOAD));
        }
    }
}
