//! Which process holds a lock that was not free in time.

use crate::disk::holders::holder_of;
use crate::disk::locks::{CHECKPOINT, WRITER};
use crate::disk::sidecar::Sidecar;
use crate::disk::slot::State;
use crate::engine::board::Board;
use crate::error::{Error, Holder, LockKind};
use std::time::Instant;

impl Board {
    /// The error for a lock that was not free in time, with its holder if that can be named.
    pub(crate) fn busy(&self, lock: LockKind, sidecar: &Sidecar, started: Instant) -> Error {
        let state = if lock == LockKind::Writer { State::Writing } else { State::Checkpointing };
        let holder = self.holder(sidecar, state).map(Box::new);
        Error::Busy { path: self.path().to_path_buf(), lock, waited: started.elapsed(), holder }
    }

    /// The process in this state: the holder of the lock according to the system or, where the system does not
    /// tell, a live process whose slot says so.
    pub(crate) fn holder(&self, sidecar: &Sidecar, state: State) -> Option<Holder> {
        let published = (0..sidecar.slot_bound()).find_map(|i| {
            let slot = sidecar.slot(i);
            slot.state(state).filter(|_| self.slot_is_alive(i)).map(|since| slot.holder(Some(since)))
        });
        let byte = if matches!(state, State::Checkpointing) { CHECKPOINT } else { WRITER };
        match (holder_of(&*self.disk, byte, 1), published) {
            (Some(seen), Some(published)) if seen.pid == published.pid => {
                Some(Holder { stopped: seen.stopped, ..published })
            }
            (Some(seen), _) => Some(*seen),
            (None, published) => published,
        }
    }
}
