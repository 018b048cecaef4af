//! Holding CHECKPOINT: the right to allocate and free pages, and to write root slots.

use crate::disk::locks::{ByteLock, CHECKPOINT, Deadline, FairGuard, Waited};
use crate::disk::platform::LockMode;
use crate::disk::root::Root;
use crate::disk::slot::State;
use crate::engine::roots::Roots;
use crate::error::{Error, LockKind, Result};
use std::time::Instant;

/// The right to allocate and free pages, until dropped.
pub(crate) struct CheckpointGuard<'e> {
    pub(crate) roots: &'e Roots,
    /// `None`: it is parked.
    kernel: Option<ByteLock>,
    /// Set if the holder repairs failed flushes: how many. Only the holder flushes meanwhile.
    pub(crate) repairs: Option<u64>,
    process: Option<FairGuard>,
}

/// CHECKPOINT, held by a transaction between two of its calls.
pub(crate) struct ParkedCheckpoint {
    kernel: Option<ByteLock>,
    process: Option<FairGuard>,
}

impl Drop for CheckpointGuard<'_> {
    fn drop(&mut self) {
        if self.kernel.is_none() || self.roots.check_process().is_err() {
            return;
        }
        let sidecar = self.roots.sidecar();
        self.roots.note_in_slot(&sidecar, |slot| slot.set_state(State::Checkpointing, false));
        self.kernel = None;
    }
}

impl Roots {
    pub(crate) fn lock_checkpoint(&self, deadline: Deadline) -> Result<CheckpointGuard<'_>> {
        let started = Instant::now();
        let sidecar = self.sidecar();
        let process = match self.checkpointing.take(deadline) {
            Waited::Held(guard) => guard,
            Waited::TooLate => return Err(self.busy(LockKind::Checkpoint, &sidecar, started)),
            Waited::Nested => return Err(Error::Nested { path: self.path().to_path_buf() }),
        };
        let kernel = ByteLock::take(&self.disk, CHECKPOINT, LockMode::Exclusive, LockKind::Checkpoint, deadline);
        let kernel = kernel.map_err(|e| match e {
            Error::Busy { .. } => self.busy(LockKind::Checkpoint, &sidecar, started),
            e => e,
        })?;
        Ok(self.checkpoint_turn(Some(process), Some(kernel)))
    }

    /// Takes CHECKPOINT only if it is free.
    pub(crate) fn try_lock_checkpoint(&self) -> Result<Option<CheckpointGuard<'_>>> {
        let Some(process) = self.checkpointing.try_take() else { return Ok(None) };
        let kernel = ByteLock::try_take(&self.disk, CHECKPOINT, LockMode::Exclusive)?;
        Ok(kernel.map(|kernel| self.checkpoint_turn(Some(process), Some(kernel))))
    }

    /// CHECKPOINT, which the transaction that calls held all along.
    pub(crate) fn take_up_checkpoint(&self, parked: ParkedCheckpoint) -> CheckpointGuard<'_> {
        self.checkpoint_turn(parked.process, parked.kernel)
    }

    fn checkpoint_turn(&self, process: Option<FairGuard>, kernel: Option<ByteLock>) -> CheckpointGuard<'_> {
        let sidecar = self.sidecar();
        self.note_in_slot(&sidecar, |slot| slot.set_state(State::Checkpointing, true));
        CheckpointGuard { roots: self, kernel, repairs: None, process }
    }
}

impl CheckpointGuard<'_> {
    /// Keeps CHECKPOINT held. Lists of processes go on to show that.
    pub(crate) fn park(mut self) -> ParkedCheckpoint {
        ParkedCheckpoint { kernel: self.kernel.take(), process: self.process.take() }
    }

    pub(crate) fn flush_tree(&self) -> Result<()> {
        let roots = self.roots;
        let sidecar = roots.current_sidecar().0;
        roots
            .flush_alone(&sidecar, self.repairs.is_some())
            .map_err(|e| roots.poisoned_error(format!("a checkpoint's flush failed: {e}")))
    }

    /// Writes the newest root, which is durable, into the other slot; see [`Slots::are_copies`].
    pub(crate) fn write_copy(&self) -> Result<()> {
        let roots = self.roots;
        let slots = roots.slots()?;
        if slots.newest.sequence > roots.known_root() || slots.are_copies() {
            return Ok(());
        }
        let copy = Root { sequence: slots.newest.sequence + 1, ..slots.newest };
        roots.disk.write_at(&copy.encode(), copy.offset()).map_err(roots.io("write a root slot"))?;
        roots.raise_root(copy.sequence);
        Ok(())
    }
}
