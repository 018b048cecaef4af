//! What was written before this process opened the file, and nobody called durable: it is written anew
//! before a flush of this process is believed.

use crate::disk::root::Root;
use crate::disk::sidecar::{SIDECAR_SIZE, Sidecar};
use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointTurn;
use crate::error::Result;
use crate::log::ring::Ring;
use crate::log::walk::{Point, Walker};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a sidecar says of the file.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    pub(crate) durable: u64,
    pub(crate) root: u64,
    pub(crate) poisoned: bool,
}

impl Engine {
    /// What those who went away without leaving tidily told last: how far the log, and which root, is
    /// durable. A flush may have failed that only they heard of, even if they did not live to say so:
    /// the system then still shows what it dropped, and has forgotten that it did. A flush by somebody
    /// who opened the file later would succeed and prove nothing, so what is not known durable is
    /// written anew first. (After a start of the system its cache shows what is on disk.)
    pub(crate) fn left_behind(&self) -> Option<Told> {
        if !self.disk.writable() {
            return None;
        }
        let sidecar = Sidecar::new(self.disk.sidecar(SIDECAR_SIZE, false).ok()?, &self.store_id);
        let of_use = sidecar.is_ours() && sidecar.is_of_this_boot();
        let (poisoned, durable) = (sidecar.poisoned(), sidecar.durable());
        let told = Told { durable: durable.unwrap_or(0), root: sidecar.root().unwrap_or(0), poisoned };
        (of_use && (durable.is_some() || poisoned)).then_some(told)
    }

    /// The same for whoever joins others: none of them need have heard of a flush that failed before,
    /// if the one who did was killed before telling. From here on this process hears for itself.
    /// Where it cannot be done nothing is confirmed, as after a flush of our own that failed.
    pub(crate) fn write_doubtful_anew(&self) {
        let sidecar = self.sidecar();
        let Some(durable) = sidecar.durable().filter(|_| !self.is_poisoned(&sidecar)) else { return };
        let written = || -> Result<()> {
            if self.slots()?.newest.sequence > self.known_root()
                && let Some(turn) = self.try_lock_checkpoint()?
            {
                turn.settle_root()?;
            }
            // Most of the log is durable: it is passed over before others are kept from appending.
            let root = Arc::clone(&self.appender().root);
            let ring = Ring::new(&root);
            let mut walker = Walker::new(&*self.disk, &ring, self.store_tag, Point::start_of(&root));
            let mut known = walker.point();
            let in_flight = sidecar.tail().is_none_or(|tail| tail.lsn > durable);
            while in_flight && known.lsn < durable && walker.next()?.is_some() {
                known = walker.point();
            }
            let append = self.lock_append(self.deadline())?;
            if append.state.tail.lsn <= durable {
                return Ok(());
            }
            let (root, ring) = (&append.state.root, &append.state.ring);
            let from = if known.lsn > root.checkpoint_lsn { known } else { Point::start_of(root) };
            self.write_frames_anew(ring, from, durable).map(drop)
        };
        if let Err(error) = written() {
            tracing::warn!(%error, "what is not known durable could not be written anew");
            self.poisoned.store(true, Ordering::Release);
        }
    }
}

impl CheckpointTurn<'_> {
    /// Makes sure that the newest root slot is durable: its writer may have died before its flush,
    /// or that flush may have failed. Written again it is, once a flush succeeds.
    pub(crate) fn settle_root(&self) -> Result<()> {
        let engine = self.engine;
        let (sidecar, _) = engine.current_sidecar();
        engine.learn(&sidecar);
        let slots = engine.slots()?;
        let (twins, newest) = (slots.are_twins(), slots.newest);
        if newest.sequence > engine.known_root() || twins {
            let offset = Root::slot_offset(newest.sequence);
            engine.disk.write_at(&newest.encode(), offset).map_err(engine.io("write a root slot"))?;
        }
        if newest.sequence > engine.known_root() {
            self.flush()?;
            engine.raise_root(newest.sequence);
        }
        // A twin needs no flush of its own: the next root, which takes its elder's slot, is written after one.
        if sidecar.root() != Some(newest.sequence) {
            sidecar.set_root(newest.sequence);
        }
        Ok(())
    }
}
