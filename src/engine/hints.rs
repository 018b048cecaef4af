//! What the sidecar says, and when the file knows better.
//!
//! A reader goes by the sidecar's words: they say what is durable, and what may be seen. That is right as
//! long as all who write publish there. So each snapshot also looks at the file, without a system call:
//! does the log go on behind the told tail, or is there a newer root than the told one? Mostly a writer is
//! between its write and its words. If not, the words are old: the sidecar was deleted or replaced, an
//! older copy was written over it, or the writer died before it published.
//!
//! *Publish before you show*: a process that shows a transaction which the words do not cover yet raises
//! the words first, so that every snapshot taken later has it, in whatever process.

use crate::disk::locks::{APPEND, try_lock};
use crate::disk::root::peek_sequence;
use crate::disk::sidecar::Sidecar;
use crate::engine::view::View;
use crate::engine::view::Views;
use crate::error::{Error, Result};
use crate::log::reader::{Point, seems_to_go_on};

/// How often the words are looked at again before a writer is taken for one that will not publish.
const GLANCES: usize = 16;
/// A batch that nobody has flushed for so long is flushed by who reads.
const UNFLUSHED_MS: u64 = 1000;

/// What a closer look at the file has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The words say something else now.
    Again,
    /// A writer has not published yet: nobody was told of what it wrote.
    InFlight,
    /// The words do not cover what lies in the file, and nobody is about to publish.
    Untold,
}

impl Views {
    /// Whether the file holds more than the words tell of, as far as one look shows.
    pub(crate) fn file_goes_on(&self, sidecar: &Sidecar, view: &View) -> Result<bool> {
        if self.was_left(sidecar)? {
            return Ok(true);
        }
        let Some(tail) = sidecar.tail() else { return Ok(true) };
        if tail.lsn > view.lsn {
            if !self.disk.writable() && !self.has_writers()? {
                // Words of the dead: nobody is about to tell what is durable, so all that lies in the file counts.
                return Ok(true);
            }
            self.flush_what_is_left(tail.lsn)?;
        }
        if tail.lsn < view.tree.root.checkpoint_lsn {
            // Words of a sidecar that was left: where its tail lies, the ring may hold anything by now.
            return Ok(true);
        }
        let point = Point { end: tail.end, crc: tail.crc, lsn: tail.lsn };
        let look =
            || Ok(seems_to_go_on(&*self.disk, &view.ring, point)? || peek_sequence(&*self.disk)? > self.known_root());
        look().map_err(self.io("look at the file"))
    }

    /// Finds out why the file holds more than the words tell of. Waits for nobody. The words are those of the sidecar that
    /// the view was made by: of another one, joined meanwhile, nobody need be about to publish what was shown before.
    pub(crate) fn look_closer(&self, sidecar: &Sidecar, view: &View) -> Result<Look> {
        for _ in 0..GLANCES {
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
                // Those who share a moved file may have left this sidecar before it was moved.
                Err(Error::Moved { .. }) => moved = true,
                // Others may have published to a sidecar that this process never saw.
                Err(Error::Busy { .. }) => return Ok(Look::Untold),
                Err(_) if !self.disk.writable() => return Ok(Look::Untold),
                Err(why) => {
                    self.may_do_without_sidecar()?.then_some(()).ok_or(why)?;
                    if self.is_poisoned(sidecar) {
                        // Others have written since, and told nothing here of what became of that.
                        return Err(self.unmended());
                    }
                }
            }
        }
        if !self.disk.writable() {
            return self.look_for_writers(sidecar, view);
        }
        if self.is_poisoned(sidecar) {
            // Nothing can be told for certain before the failed flush is mended, and nothing new is acknowledged.
            return Ok(Look::InFlight);
        }
        // Where the disk refuses, nothing new can be acknowledged: what is known goes on being shown.
        match self.settle_what_is_left() {
            // The holder of a lock need not be about to publish here.
            Ok(Look::InFlight) if moved => Ok(Look::Untold),
            look => Ok(look.unwrap_or(Look::InFlight)),
        }
    }

    /// Joins the sidecar that others have started, or starts one. It is gone, so what this process knows may be
    /// old: it waits a moment for one that starts another.
    fn rejoin_patiently(&self) -> Result<()> {
        self.for_a_moment(|| match self.rejoin_sidecar(false) {
            Err(Error::Busy { .. }) => Ok(None),
            joined => joined.map(Some),
        })
        .and_then(|joined| joined.ok_or_else(|| self.busy_opening()))
    }

    /// Sees to a root, or to frames, whose writer is gone, or of which the words have gone back.
    fn settle_what_is_left(&self) -> Result<Look> {
        if peek_sequence(&*self.disk).map_err(self.io("look at the file"))? > self.known_root()
            && let Some(turn) = self.try_lock_checkpoint()?
        {
            turn.settle_root()?;
            return Ok(Look::Again);
        }
        if !self.try_lock_append()?.is_some_and(|append| append.walked) {
            return Ok(Look::InFlight);
        }
        // It died before it published, or the words went back: then it may have been acknowledged.
        self.flush_beside()?;
        Ok(Look::Again)
    }

    /// For a process that may only read, and so can neither publish nor take a lock that would tell.
    fn look_for_writers(&self, sidecar: &Sidecar, view: &View) -> Result<Look> {
        if !self.is_in_use(sidecar)? {
            return Ok(Look::Untold);
        }
        // A writer that came since clears the words before it shows that it is there.
        self.load_hints(sidecar);
        if self.visible() > view.lsn {
            return Ok(Look::Again);
        }
        // Without an appender nobody is about to publish: the words went back, or one died.
        let appends = self.disk.probe(APPEND, 1).map_err(self.io("look for others"))?.is_some();
        Ok(if appends { Look::InFlight } else { Look::Untold })
    }

    /// Flushes a batch that its writers have left: one whose end is the same as at the last look. A bound on
    /// how long an old copy of the sidecar, put back in its place, can hide what was acknowledged.
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
