//! Keeping the file from being changed while it is copied, and all others have it open.
//!
//! All that is written to a store's file is written under CHECKPOINT (pages, roots, the file's length) or under APPEND (the
//! log). With both held the file is what the death of all its processes at this moment would leave: recovery
//! makes one committed state of it, with all that was acknowledged.

use crate::disk::root::Slots;
use crate::engine::Engine;
use crate::engine::append::AppendGuard;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// CHECKPOINT is held: commits go on in the log, as long as it has room, and nothing else of the file changes.
pub(crate) struct StillPages<'e> {
    engine: &'e Engine,
    _turn: CheckpointGuard<'e>,
}

/// APPEND is held, too: nothing of the file changes.
pub(crate) struct StillFile<'e> {
    _append: AppendGuard<'e>,
}

impl Engine {
    /// Keeps pages and roots as they are. A store whose last flush failed is repaired first.
    pub(crate) fn hold_pages(self: &Arc<Self>) -> Result<StillPages<'_>> {
        self.check_writable()?;
        match self.try_hold_pages() {
            Err(Error::Poisoned { .. }) => self.begin(self.deadline()).map(drop).and_then(|()| self.try_hold_pages()),
            held => held,
        }
    }

    fn try_hold_pages(&self) -> Result<StillPages<'_>> {
        let turn = self.lock_checkpoint(self.deadline())?;
        turn.settle_root()?;
        let held = StillPages { engine: self, _turn: turn };
        held.hold_log().map(drop)?;
        Ok(held)
    }
}

impl StillPages<'_> {
    /// Where the log lies, in bytes of the file, by both roots: it alone changes yet.
    pub(crate) fn log(&self) -> Result<Vec<Range<u64>>> {
        let Slots { newest, older } = self.engine.slots()?;
        let page_size = u64::from(newest.page_size);
        let segments = older.into_iter().chain([newest]).flat_map(|root| root.segments);
        let place = |page: u32| u64::from(page) * page_size;
        Ok(segments.map(|segment| place(segment.page)..place(segment.page) + place(segment.pages)).collect())
    }

    /// Keeps the log as it is, too; waits for APPEND up to the store's timeout, however long the pages took.
    pub(crate) fn hold_log(&self) -> Result<StillFile<'_>> {
        let append = self.engine.lock_append(self.engine.deadline())?;
        if append.in_doubt || self.engine.is_poisoned(&append.sidecar) {
            return Err(self.engine.unmended());
        }
        Ok(StillFile { _append: append })
    }
}
