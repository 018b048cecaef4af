//! Keeping the file unchanged while it is copied and other processes have it open.
//!
//! Everything in a store's file is written under CHECKPOINT (pages, roots, the file's length) or under APPEND
//! (the log). With both held, the file is what remains if all its processes die at this moment: recovery makes
//! one committed state of it that includes every acknowledged commit.

use crate::disk::locks::Deadline;
use crate::disk::root::Slots;
use crate::engine::Engine;
use crate::engine::append::AppendGuard;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::error::Result;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// CHECKPOINT is held: commits continue in the log while it has room, and nothing else in the file changes.
pub(crate) struct StillPages<'e> {
    engine: &'e Engine,
    timeout: Duration,
    _turn: CheckpointGuard<'e>,
}

/// APPEND is held, too: nothing in the file changes.
pub(crate) struct StillFile<'e> {
    _append: AppendGuard<'e>,
}

impl Engine {
    /// Keeps pages and roots as they are. Repairs a failed flush first.
    pub(crate) fn hold_pages(self: &Arc<Self>, timeout: Duration) -> Result<StillPages<'_>> {
        self.check_writable()?;
        self.repaired(timeout, |deadline| self.try_hold_pages(deadline, timeout))
    }

    fn try_hold_pages(&self, deadline: Deadline, timeout: Duration) -> Result<StillPages<'_>> {
        let turn = self.lock_checkpoint(deadline)?;
        turn.settle_root()?;
        let held = StillPages { engine: self, timeout, _turn: turn };
        held.hold_log().map(drop)?;
        Ok(held)
    }
}

impl StillPages<'_> {
    /// Where the log lies by either root, in bytes of the file: only the log still changes.
    pub(crate) fn log(&self) -> Result<Vec<Range<u64>>> {
        let Slots { newest, older } = self.engine.slots()?;
        let page_size = u64::from(newest.page_size);
        let segments = older.into_iter().chain([newest]).flat_map(|root| root.segments);
        let place = |page: u32| u64::from(page) * page_size;
        Ok(segments.map(|segment| place(segment.page)..place(segment.page) + place(segment.pages)).collect())
    }

    /// Keeps the log as it is, too. Waits for APPEND up to the handle's timeout, however long copying the pages
    /// took.
    pub(crate) fn hold_log(&self) -> Result<StillFile<'_>> {
        let append = self.engine.lock_append(Instant::now().checked_add(self.timeout))?;
        if append.unsettled || self.engine.is_poisoned(&append.sidecar) {
            return Err(self.engine.not_repaired());
        }
        Ok(StillFile { _append: append })
    }
}
