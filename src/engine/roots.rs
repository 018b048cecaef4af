//! Which root is the newest, and whether it is certainly durable.

use crate::disk::locks::FairLock;
use crate::disk::root::{Root, Slots, read_slots};
use crate::engine::board::Board;
use crate::error::{CorruptionKind, Error, Result};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// How often the root slots are read again while their content contradicts what is known.
const SLOT_READS: usize = 8;

/// The root slots, and the right to change them.
pub(crate) struct Roots {
    board: Board,
    pub(crate) checkpointing: Arc<FairLock>,
    /// Held while the file is flushed.
    pub(super) flushing: Mutex<()>,
    /// A flush of this process covers the root slots that other processes wrote before it opened the file.
    pub(super) proven_roots: AtomicBool,
}

floor!(Roots on Board, in board);

impl Roots {
    pub(crate) fn new(board: Board) -> Roots {
        let (checkpointing, flushing, proven_roots) = (Arc::default(), Mutex::new(()), AtomicBool::new(false));
        Roots { board, checkpointing, flushing, proven_roots }
    }

    /// Both root slots as the file shows them now. The newest may not be durable yet.
    pub(crate) fn slots(&self) -> Result<Slots> {
        let slots = self.found_slots()?;
        if self.disk.writable() {
            // A newer program may have given the store a feature since this process opened it.
            slots.newest.check_writable(self.path())?;
        }
        Ok(slots)
    }

    fn found_slots(&self) -> Result<Slots> {
        let mut prefix = vec![0; 2 * self.page_size as usize];
        let mut last = None;
        // Read before the slots: a root that is published meanwhile need not be in them.
        let known = self.known_root();
        // A slot may read torn while it is written; the other slot is never written at that time.
        for look in 0..SLOT_READS {
            let n = self.disk.read_at(&mut prefix, 0).map_err(self.io("read the root slots"))?;
            match read_slots(prefix.get(..n).unwrap_or_default(), self.path()) {
                Ok(slots) if slots.newest.store_id != self.store_id => {
                    let found = "another store took this file's place";
                    return Err(Error::corrupt(CorruptionKind::RootSlots, 0, None, "the store that was opened", found)
                        .in_file(self.path()));
                }
                // One slot may have been read before the known root was written, and the other one torn.
                Ok(slots) if slots.newest.sequence < known && look + 1 < SLOT_READS => {}
                // The root of the missing sequence may be a copy, which is known without a flush of its own. If
                // its flush failed, the slot may show an older root again.
                Ok(Slots { newest, .. }) if newest.sequence + 1 == known => {
                    let copy = Root { sequence: newest.sequence + 1, ..newest.clone() };
                    return Ok(Slots { newest: copy, older: Some(newest) });
                }
                Ok(slots) => return Ok(slots),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| Error::Internal("the root slots were not read".to_owned())))
    }

    /// The newest root in the slots that is certainly durable; `None` if that cannot be decided.
    ///
    /// The newest slot is durable if a process that flushed it has published so. Otherwise its predecessor is: a
    /// root is written only once the one before it is durable.
    pub(crate) fn certain_root(&self, slots: &Slots) -> Option<Root> {
        if slots.newest.sequence <= self.known_root() || slots.are_copies() {
            return Some(slots.newest.clone());
        }
        slots.older.clone().filter(|older| older.sequence + 1 == slots.newest.sequence)
    }
}
