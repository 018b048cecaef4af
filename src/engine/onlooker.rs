//! Snapshots of a read-only process without hints: it cannot open the sidecar, or there is none.

use crate::disk::holders::holder_of;
use crate::disk::locks::{CHECKPOINT, lock};
use crate::disk::root::Root;
use crate::engine::file::MOMENT;
use crate::engine::view::{Until, View, Views};
use crate::error::{Error, LockKind, Result};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a snapshot looks again when the hints have changed meanwhile.
pub(super) const SNAPSHOT_TRIES: usize = 32;

impl Views {
    /// The snapshot of a reader that cannot publish. If no process may write, everything in the file is visible
    /// to all, since the next writer will find it. Otherwise the reader shows what the file itself proves to be
    /// durable, which idle writers bring up to date within a second or two.
    pub(super) fn snapshot_of_a_reader(&self) -> Result<Arc<View>> {
        for _ in 0..SNAPSHOT_TRIES {
            let mut state = lock(&self.state);
            self.note_used();
            if self.has_writers()? {
                drop(state);
                return self.snapshot_beside_writers();
            }
            if self.slots()?.newest.sequence > self.known_root() {
                self.confirm_root()?;
            }
            self.refresh(&mut state, Until::Tail)?;
            let found = state.point.lsn;
            if found > self.visible() {
                self.flush_found()?;
            }
            // A writer that opened meanwhile may have written what was found, and has not acknowledged it.
            if !self.has_writers()? {
                self.relaxed.fetch_max(found, Ordering::AcqRel);
                return self.publish_view(&mut state, found.max(self.visible()));
            }
        }
        self.snapshot_beside_writers()
    }

    /// Waits until another sidecar is started, as active writers do, or until everything that lies in the file
    /// now is proved to be durable: by the next frame, or by the note that an idle writer leaves. After two
    /// seconds it shows what is proved by then, except a transaction that only a root holds and that the root's
    /// maker, which may be stopped, has not published: processes that rely on hints would show an older state
    /// later.
    fn snapshot_beside_writers(&self) -> Result<Arc<View>> {
        let found = Cell::new(None);
        let found_view = self.for_a_moment(|| {
            if self.rejoin_sidecar(false).is_ok() && self.load_hints(&self.known_sidecar()) {
                let view = self.catch_up()?;
                if !self.file_goes_on(&self.known_sidecar(), &view)? {
                    return Ok(Some(view));
                }
            }
            let (end, view) = self.snapshot_of_what_is_proved()?;
            let all = found.get().unwrap_or(end);
            found.set(Some(all));
            Ok((view.lsn >= all && !self.is_in_the_making(&view.tree.root)?).then_some(view))
        })?;
        if let Some(view) = found_view {
            return Ok(view);
        }
        let (_, view) = self.snapshot_of_what_is_proved()?;
        if self.is_in_the_making(&view.tree.root)? {
            let (lock, holder) = (LockKind::Checkpoint, holder_of(&*self.disk, CHECKPOINT, 1));
            return Err(Error::Busy { path: self.path().to_path_buf(), lock, waited: MOMENT, holder });
        }
        #[cfg(test)]
        self.shown_late.fetch_add(1, Ordering::Relaxed);
        Ok(view)
    }

    /// Whether this root holds a transaction of its own that its maker may not have published. The maker holds
    /// CHECKPOINT until then; once it has published the root, it writes it into the other slot, too.
    fn is_in_the_making(&self, root: &Root) -> Result<bool> {
        // (A new store's root holds none.)
        if root.last_commit != root.checkpoint_lsn || root.checkpoint_lsn == 0 {
            return Ok(false);
        }
        let slots = self.slots()?;
        let only_once = slots.newest.sequence == root.sequence && !slots.are_copies();
        Ok(only_once && self.disk.probe(CHECKPOINT, 1).map_err(self.io("look for others"))?.is_some())
    }

    /// Returns the log's end, too.
    fn snapshot_of_what_is_proved(&self) -> Result<(u64, Arc<View>)> {
        // The pages of an older root could be reused before its pin is seen: newer roots are not published to
        // this process.
        self.confirm_root()?;
        let mut state = lock(&self.state);
        self.refresh(&mut state, Until::Tail)?;
        if self.is_noted_durable(state.point)? {
            state.proved = state.point.lsn;
        }
        self.raise_durable(state.proved);
        let view = self.publish_view(&mut state, self.visible())?;
        Ok((state.point.lsn, view))
    }
}
