//! After a failed flush: the store is made fit for writing.
//!
//! The system may have dropped what it could not write. It goes on showing it, or shows older bytes, now or later. So
//! all that was not known durable is written once more, as it is found. Where frames are gone that were given an LSN,
//! a new root passes over all LSNs that were given.

use crate::disk::format::LOG_BLOCK;
use crate::disk::locks::{Deadline, lock};
use crate::disk::root::{Root, Slots};
use crate::engine::Engine;
use crate::engine::append::{AppendGuard, Appender};
use crate::engine::checkpoint::{CheckpointTurn, Lost, Plan};
use crate::error::Result;
use crate::log::ring::{Ring, next_block};
use crate::log::walk::{Point, Walker};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// Makes a poisoned store fit for writing. The caller holds WRITER, too.
    ///
    /// All that is found of what was not known durable is written once more, and flushed. Frames keep their
    /// bytes and places, so whatever of them did reach the disk is overwritten by itself, and a torn write
    /// changes nothing. But the system may show older bytes again where it could not write: then frames are
    /// gone that other processes have read. A new root passes over every LSN that was given since, so that none
    /// is given twice, and all begin again from that root.
    pub(crate) fn heal(&self, turn: &mut CheckpointTurn<'_>, deadline: Deadline) -> Result<()> {
        let sync = self.lock_sync(deadline)?;
        let mut append = self.lock_append(deadline)?;
        if !self.is_poisoned(&append.sidecar) {
            return Ok(());
        }
        let (failures, told) = (append.failures.told, append.newest_told());
        let root = self.write_what_is_in_doubt(self.durable_lsn())?;
        // Read only now: what was written a moment ago may have been older bytes already.
        append.start_over(root)?;
        let end = append.state.tail;
        self.publish_durable(&append.sidecar, end.lsn);
        if told <= end.lsn {
            append.recovered(failures)?;
        } else {
            // (The new root waits for a flush of the log, which takes SYNC itself.)
            drop((append, sync));
            turn.pass_over(end, told, failures, deadline)?;
        }
        self.proven.store(true, Ordering::Release);
        self.proven_roots.store(true, Ordering::Release);
        tracing::warn!(lsn = end.lsn, lost = told.saturating_sub(end.lsn), "a failed flush was mended");
        Ok(())
    }

    /// Writes what is not known durable once more, in its place, and flushes it. Gives the newest root.
    fn write_what_is_in_doubt(&self, durable: u64) -> Result<Root> {
        let slots = self.slots()?;
        self.write_slots_once_more(&slots.newest)?;
        let Slots { newest, older } = slots;
        // A root whose flush failed may be on disk or not, and its ring may be the current one or
        // not. Written again it is durable for certain once the flush below succeeds: its pages
        // were flushed before it was first written.
        let doubtful = newest.sequence > self.known_root();
        let roots = if doubtful { [older.as_ref(), Some(&newest)] } else { [Some(&newest), None] };
        for root in roots.into_iter().flatten() {
            // (A transaction that went straight to the tree has no frame: the chain goes on from its root.)
            self.write_frames_once_more(&Ring::new(root), Point::start_of(root), durable)?;
        }
        let _alone = lock(&self.flushing);
        self.disk.flush().map_err(|e| self.poisoned_error(format!("the disk still refuses: {e}")))?;
        Ok(newest)
    }

    /// Writes the frames of the chain after `durable` once more, in their places, and what lies where the next one
    /// would: a frame that is gone from the system's cache may be on disk, and point at pages that are used again.
    pub(crate) fn write_frames_once_more(&self, ring: &Ring, mut point: Point, durable: u64) -> Result<()> {
        let mut walker = Walker::new(&*self.disk, ring, self.store_tag, point);
        let mut block = 0;
        while let Some(frame) = walker.next()? {
            if frame.after.lsn > durable {
                // Whole blocks, for a page is what the kernel drops; none of them holds durable
                // frames, since each batch starts in a new one.
                let start = frame.header.position.max(block);
                block = next_block(frame.after.end);
                self.write_blocks_once_more(ring, start - start % LOG_BLOCK, block)?;
            }
            point = frame.after;
        }
        let next = next_block(point.end);
        if next + LOG_BLOCK <= ring.end() { self.write_blocks_once_more(ring, next, next + LOG_BLOCK) } else { Ok(()) }
    }

    fn write_blocks_once_more(&self, ring: &Ring, start: u64, end: u64) -> Result<()> {
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
        ring.read(&*self.disk, start, &mut bytes).map_err(self.io("read the log"))?;
        ring.write(&*self.disk, start, &bytes).map_err(self.io("write the log once more"))
    }
}

impl AppendGuard<'_> {
    /// The newest LSN that was given, as far as is known here.
    pub(crate) fn newest_told(&self) -> u64 {
        let hint = self.sidecar.tail().map_or(0, |tail| tail.lsn);
        let seen = self.sidecar.visible().unwrap_or(0).max(self.engine.visible());
        self.state.tail.lsn.max(hint).max(seen)
    }

    /// Forgets the tail, which may never have been durable, and looks for the chain's end from a durable root on.
    pub(crate) fn start_over(&mut self, root: Root) -> Result<()> {
        let engine = self.engine;
        engine.forget_log();
        let forgotten = engine.forgotten.load(Ordering::Acquire);
        let tables = self.state.tables;
        *self.state = Appender { forgotten, tables, ..Appender::new(Arc::new(root)) };
        self.walk_on()?;
        self.sidecar.rise_root(self.state.root.sequence);
        self.sidecar.rise_tables(self.state.root.checkpoint_lsn);
        engine.raise_root(self.state.root.sequence);
        Ok(())
    }

    /// Tells that what so many failed flushes have left is mended, up to the tail.
    pub(crate) fn recovered(&mut self, failures: u64) -> Result<()> {
        self.in_doubt = false;
        self.seal();
        self.engine.poisoned.store(false, Ordering::Release);
        if self.sidecar.heal(failures) {
            return Ok(());
        }
        Err(self.engine.poisoned_error("another flush failed meanwhile"))
    }
}

impl CheckpointTurn<'_> {
    /// Folds what is left of the log into a root that passes over every LSN that was given.
    pub(crate) fn pass_over(&mut self, end: Point, newest: u64, failures: u64, deadline: Deadline) -> Result<()> {
        self.mends = Some(failures);
        let done = self.run(&Plan { lost: Some(Lost { end, newest }), ..Plan::default() }, deadline);
        self.mends = None;
        done.map(drop)
    }
}
