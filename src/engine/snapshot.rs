//! The newest state that readers may see.
//!
//! If nothing has changed, taking it costs a few reads of shared memory and of the file's map, and a reference
//! count.

use crate::disk::locks::lock;
use crate::engine::hints::Look;
use crate::engine::onlooker::SNAPSHOT_TRIES;
use crate::engine::view::{Until, View, Views};
use crate::error::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Views {
    /// The newest state that readers may see.
    pub(crate) fn snapshot(&self) -> Result<Arc<View>> {
        self.check_process()?;
        for _ in 0..SNAPSHOT_TRIES {
            let sidecar = self.sidecar();
            if !self.load_hints(&sidecar) {
                return self.snapshot_without_hints();
            }
            let view = match self.up_to_date(self.visible()) {
                Some(view) => view,
                None => self.catch_up()?,
            };
            if !self.file_goes_on(&sidecar, &view)? {
                return Ok(view);
            }
            match self.look_closer(&sidecar, &view)? {
                Look::Again => {}
                Look::InFlight => return Ok(view),
                Look::Untold => return self.snapshot_without_hints(),
            }
        }
        // Other processes publish faster than this loop looks: the state it saw last was current during this
        // call.
        self.catch_up()
    }

    /// Without hints the file is read.
    ///
    /// The holder of APPEND flushes everything it finds there, restores the hints, and makes processes that still
    /// use another sidecar look for this one. (A process that cannot take APPEND, because a stopped process holds
    /// it, flushes and publishes what it finds without sealing the batch: the next frame may share its last
    /// block, so this does not publish it as durable.)
    fn snapshot_without_hints(&self) -> Result<Arc<View>> {
        if !self.disk.writable() {
            return self.snapshot_of_a_reader();
        }
        if self.for_a_moment(|| Ok(self.try_lock_append()?.map(drop)))?.is_some()
            && self.load_hints(&self.known_sidecar())
        {
            return self.catch_up();
        }
        let sidecar = self.known_sidecar();
        let before = sidecar.words_before();
        self.confirm_root()?;
        let mut state = lock(&self.state);
        self.note_used();
        self.refresh(&mut state, Until::Tail)?;
        let found = state.point.lsn;
        self.flush_found()?;
        // First of all: an appender that sees the transaction must not put the next frame into its last block.
        sidecar.rise_flushed_unsealed(found);
        sidecar.publish_all(&before, self.known_root(), self.durable_lsn(), found);
        self.publish_through(&sidecar, false, |sidecar| {
            sidecar.rise_flushed_unsealed(found);
            sidecar.rise_visible(found);
        });
        self.relaxed.fetch_max(found, Ordering::AcqRel);
        self.publish_view(&mut state, found.max(self.visible()))
    }
}
