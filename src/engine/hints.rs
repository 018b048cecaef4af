//! The sidecar's hints, and when the file overrules them.
//!
//! A reader relies on the sidecar's hints: they say what is durable, and what is visible. They are right as long
//! as every writer publishes there. So each snapshot also checks the file, without a system call: does the log
//! continue behind the published tail, or is there a newer root than the published one? Usually a writer is
//! between its write and its publication. Otherwise the hints are out of date: the sidecar was deleted or
//! replaced, an older copy was written over it, or the writer died before it published.
//!
//! *Publish before you show*: a process that shows a transaction which the hints do not cover yet raises the
//! hints first, so that every later snapshot in any process includes it.

use crate::disk::locks::{APPEND, try_lock};
use crate::disk::root::peek_sequence;
use crate::disk::sidecar::Sidecar;
use crate::engine::view::{View, Views};
use crate::error::{Error, Result};
use crate::log::reader::{Point, seems_to_go_on};

/// How often the hints are read again before a writer counts as one that will not publish.
const HINT_READS: usize = 16;
/// A reader flushes a batch that no process has flushed for this long.
const UNFLUSHED_MS: u64 = 1000;

/// What a closer look at the file has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The hints have changed.
    Again,
    /// A writer has not published yet: what it wrote is acknowledged to no caller.
    InFlight,
    /// The hints do not cover what lies in the file, and no process is about to publish it.
    Untold,
}

impl Views {
    /// Whether the file holds more than the hints cover, as far as one look shows.
    pub(crate) fn file_goes_on(&self, sidecar: &Sidecar, view: &View) -> Result<bool> {
        if self.was_left(sidecar)? {
            return Ok(true);
        }
        let Some(tail) = sidecar.tail() else { return Ok(true) };
        if tail.lsn > view.lsn {
            if !self.disk.writable() && !self.has_writers()? {
                // Hints of dead processes: no process is about to publish what is durable, so all that lies in
                // the file counts.
                return Ok(true);
            }
            self.flush_what_is_left(tail.lsn)?;
        }
        if tail.lsn < view.tree.root.checkpoint_lsn {
            // Hints of an abandoned sidecar: where its tail lies, the ring may hold anything by now.
            return Ok(true);
        }
        let point = Point { end: tail.end, crc: tail.crc, lsn: tail.lsn };
        let look = || {
            Ok(seems_to_go_on(&*self.disk, &view.ring, point)?
                || peek_sequence(&*self.disk, self.page_size)? > self.known_root())
        };
        look().map_err(self.io("look at the file"))
    }

    /// Finds out why the file holds more than the hints cover. Waits for no lock. The hints are those of the
    /// sidecar by which the view was made: a process that uses another one, joined meanwhile, need not be about
    /// to publish what was shown before.
    pub(crate) fn look_closer(&self, sidecar: &Sidecar, view: &View) -> Result<Look> {
        for _ in 0..HINT_READS {
            self.load_hints(sidecar);
            if self.visible() > view.lsn || !self.file_goes_on(sidecar, view)? {
                return Ok(Look::Again);
            }
            std::hint::spin_loop();
        }
        let mut moved = false;
        if !self.is_found(sidecar)? {
            match self.rejoin_patiently() {
                Ok(()) => return Ok(Look::Again),
                // Processes that share a moved file may have left this sidecar before it was moved.
                Err(Error::Moved { .. }) => moved = true,
                // Other processes may have published to a sidecar that this one never saw.
                Err(Error::Busy { .. }) => return Ok(Look::Untold),
                Err(_) if !self.disk.writable() => return Ok(Look::Untold),
                Err(why) => {
                    self.may_do_without_sidecar()?.then_some(()).ok_or(why)?;
                    if self.is_poisoned(sidecar) {
                        // Other processes have written since, and did not publish here what became of it.
                        return Err(self.not_repaired());
                    }
                }
            }
        }
        if !self.disk.writable() {
            return self.look_for_writers(sidecar, view);
        }
        if self.is_poisoned(sidecar) {
            // Nothing can be published for certain before the failed flush is repaired, and no new commit is
            // acknowledged.
            return Ok(Look::InFlight);
        }
        // If the disk refuses, no new commit can be acknowledged: what is known stays visible.
        match self.settle_what_is_left() {
            // The holder of a lock need not be about to publish to this sidecar.
            Ok(Look::InFlight) if moved => Ok(Look::Untold),
            look => Ok(look.unwrap_or(Look::InFlight)),
        }
    }

    /// Joins the sidecar that another process started, or starts one. The sidecar is gone, so what this process
    /// knows may be out of date: it waits a moment for a process that starts another one.
    fn rejoin_patiently(&self) -> Result<()> {
        self.for_a_moment(|| match self.rejoin_sidecar(false) {
            Err(Error::Busy { .. }) => Ok(None),
            joined => joined.map(Some),
        })
        .and_then(|joined| joined.ok_or_else(|| self.busy_opening()))
    }

    /// Handles a root, or frames, whose writer is dead, or that are hidden by hints that have gone back.
    fn settle_what_is_left(&self) -> Result<Look> {
        if peek_sequence(&*self.disk, self.page_size).map_err(self.io("look at the file"))? > self.known_root()
            && let Some(turn) = self.try_lock_checkpoint()?
        {
            turn.settle_root()?;
            return Ok(Look::Again);
        }
        if !self.try_lock_append()?.is_some_and(|append| append.walked) {
            return Ok(Look::InFlight);
        }
        // The writer died before it published, or the hints went back: in that case it may have been
        // acknowledged.
        self.flush_beside()?;
        Ok(Look::Again)
    }

    /// For a read-only process, which can neither publish nor take a lock to find out.
    fn look_for_writers(&self, sidecar: &Sidecar, view: &View) -> Result<Look> {
        if !self.is_in_use(sidecar)? {
            return Ok(Look::Untold);
        }
        // A writer that opened since then clears the hints before its lock bytes show it.
        self.load_hints(sidecar);
        if self.visible() > view.lsn {
            return Ok(Look::Again);
        }
        // Without a holder of APPEND no process is about to publish: the hints went back, or a writer died.
        let appends = self.disk.probe(APPEND, 1).map_err(self.io("look for others"))?.is_some();
        Ok(if appends { Look::InFlight } else { Look::Untold })
    }

    /// Flushes a batch that its writers did not flush: one whose end is the same as at the last look. This bounds
    /// how long an old copy of the sidecar, put back in place, can hide acknowledged commits.
    fn flush_what_is_left(&self, end: u64) -> Result<()> {
        let now = self.disk.now_ms();
        let Some(mut unflushed) = try_lock(&self.unflushed) else { return Ok(()) };
        let (lsn, since) = *unflushed;
        if lsn != end {
            *unflushed = (end, now);
        } else if now.saturating_sub(since) >= UNFLUSHED_MS && self.disk.writable() {
            *unflushed = (end, now);
            drop(unflushed);
            self.flush_if_free()?;
        }
        Ok(())
    }
}
