//! The newest root, made durable by this process if necessary.

use crate::disk::root::Root;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::roots::Roots;
use crate::error::Result;
use std::sync::atomic::Ordering;

impl Roots {
    /// The newest root that readers may use: certainly durable, if necessary by a flush of this process.
    pub(crate) fn durable_root(&self) -> Result<Root> {
        match self.certain_root(&self.slots()?) {
            Some(root) => Ok(root),
            None => self.confirm_root(),
        }
    }

    /// The newest root, made durable by a flush of this process unless it is known to be. It is published before
    /// it is used: every later reader then sees the transactions in it.
    ///
    /// Its maker's flush may have failed before this process opened the file, and its maker may be dead. In that
    /// case CHECKPOINT is free, and the slot is rewritten, so that this flush proves it. (A read-only process
    /// does not publish what it takes for durable.)
    pub(crate) fn confirm_root(&self) -> Result<Root> {
        let mut slots = self.slots()?;
        if slots.newest.sequence > self.known_root() {
            let writable = self.disk.writable();
            if !slots.are_copies() {
                let turn = if writable { self.try_lock_checkpoint()? } else { None };
                if turn.is_some() {
                    slots = self.slots()?;
                    self.rewrite_slot(&slots.newest)?;
                }
                self.flush_found()?;
            }
            if writable {
                self.publish_through(&self.known_sidecar(), false, |sidecar| sidecar.rise_root(slots.newest.sequence));
            }
            self.raise_root(slots.newest.sequence);
        }
        Ok(slots.newest)
    }
}

impl CheckpointGuard<'_> {
    /// Makes sure that the newest root slot is durable: its writer may have died before its flush, or the flush
    /// may have failed. Rewritten, the slot is durable once a flush succeeds.
    pub(crate) fn settle_root(&self) -> Result<()> {
        let roots = self.roots;
        let (sidecar, _) = roots.current_sidecar();
        roots.load_hints(&sidecar);
        let slots = roots.slots()?;
        let (copies, newest) = (slots.are_copies(), &slots.newest);
        // Once in each process, as with the log: see `lock_append_to_seal`.
        let proven = roots.proven_roots.load(Ordering::Acquire);
        // The slot of a newer root was written, and its maker died before it could publish whether its flush
        // failed: the disk may hold that root, with pages that are free according to this one.
        let unheard = sidecar.making().is_none_or(|making| making > newest.sequence);
        if newest.sequence > roots.known_root() || !proven || unheard {
            roots.rewrite_slots(newest)?;
            self.flush_tree()?;
            roots.raise_root(newest.sequence);
            roots.proven_roots.store(true, Ordering::Release);
            sidecar.settle_making(newest.sequence);
        } else if copies {
            roots.rewrite_slot(newest)?;
        }
        // A copy needs no flush of its own: the next root, which is written into the slot of the copy's original,
        // follows a flush.
        sidecar.rise_root(newest.sequence);
        Ok(())
    }
}
