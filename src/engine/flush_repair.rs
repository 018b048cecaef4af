//! Repair after a failed flush, before the next write.
//!
//! The system may have dropped the pages that it could not write. It may go on showing them, or show older bytes,
//! now or later. So everything that was not known to be durable is rewritten as it is found. If frames are gone
//! whose LSNs were given, a new root passes over all LSNs that were given.

use crate::disk::locks::Deadline;
use crate::engine::Engine;
use crate::engine::checkpoint::{CheckpointOptions, Lost};
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::writer_queue::WriterGuard;
use crate::error::{Error, Result};
use crate::log::reader::Point;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl Engine {
    /// Waits for this caller's turn to write, and repairs a failed flush first.
    pub(crate) fn begin(self: &Arc<Self>, deadline: Deadline) -> Result<WriterGuard> {
        let turn = self.take_writer(deadline)?;
        self.check_name()?;
        if self.is_poisoned(&self.sidecar()) {
            let mut checkpoint = self.lock_checkpoint(deadline)?;
            self.repair_failed_flush(&turn, &mut checkpoint, deadline)?;
        }
        Ok(turn)
    }

    /// Does something that a poisoned store refuses; if it does, the failed flush is repaired first. Each of them waits
    /// for locks as long as the caller's handle says.
    pub(crate) fn repaired<T>(
        self: &Arc<Self>,
        timeout: Duration,
        attempt: impl Fn(Deadline) -> Result<T>,
    ) -> Result<T> {
        let deadline = || Instant::now().checked_add(timeout);
        match attempt(deadline()) {
            Err(Error::Poisoned { .. }) => self.begin(deadline()).map(drop).and_then(|()| attempt(deadline())),
            done => done,
        }
    }

    /// Repairs a poisoned store.
    ///
    /// Everything found in the file that was not known to be durable is rewritten and flushed. Frames keep their
    /// bytes and places, so a frame that did reach the disk is overwritten by itself, and a torn write changes
    /// nothing. But where the system could not write, it may show older bytes again: then frames are gone that
    /// other processes have read. A new root passes over every LSN given since, so that none is given twice, and
    /// every process starts again from that root.
    fn repair_failed_flush(
        &self,
        _writer: &WriterGuard,
        turn: &mut CheckpointGuard<'_>,
        deadline: Deadline,
    ) -> Result<()> {
        let sync = self.lock_sync(deadline)?;
        let mut append = self.lock_append(deadline)?;
        if !self.is_poisoned(&append.sidecar) {
            return Ok(());
        }
        let (failures, newest) = (append.failures.published, append.newest_published());
        let root = self.rewrite_unsynced(self.durable_lsn())?;
        // Read only now: the frames rewritten a moment ago may have been older bytes already.
        append.start_over(root)?;
        let end = append.state.tail;
        self.publish_durable(&append.sidecar, end.lsn);
        if newest <= end.lsn {
            append.recovered(failures)?;
        } else {
            // (Making the root includes a flush of the log, which takes SYNC itself.)
            drop((append, sync));
            self.pass_over(turn, end, newest, failures, deadline)?;
        }
        self.proven.store(true, Ordering::Release);
        self.proven_roots.store(true, Ordering::Release);
        crate::trace::warn!(lsn = end.lsn, lost = newest.saturating_sub(end.lsn), "a failed flush was repaired");
        Ok(())
    }

    /// Makes a checkpoint of what is left of the log, with a root that passes over every LSN that was given.
    fn pass_over(
        &self,
        turn: &mut CheckpointGuard<'_>,
        end: Point,
        newest: u64,
        failures: u64,
        deadline: Deadline,
    ) -> Result<()> {
        turn.repairs = Some(failures);
        let options = CheckpointOptions { lost: Some(Lost { end, newest }), ..CheckpointOptions::default() };
        let done = self.run_checkpoint(turn, &options, deadline);
        turn.repairs = None;
        done.map(drop)
    }
}
