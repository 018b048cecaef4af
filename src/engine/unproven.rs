//! What was written before this process opened the file, and nobody called durable: it is written once
//! more before a flush of this process is believed.

use crate::disk::locks::Deadline;
use crate::engine::append::AppendGuard;
use crate::engine::append::Log;
use crate::error::Result;
use crate::log::reader::{LogReader, Point};
use crate::log::ring::Ring;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Log {
    /// Takes APPEND to seal a batch that this process is to flush. The first time, what others wrote and
    /// nobody called durable is written once more: none of them need have heard of a flush that failed
    /// before this process opened the file, if the one who did was killed before telling. From then on this
    /// process hears for itself.
    pub(crate) fn lock_append_to_seal(&self, deadline: Deadline) -> Result<AppendGuard<'_>> {
        if self.proven.load(Ordering::Acquire) {
            return self.lock_append(deadline);
        }
        let known = self.last_durable_point()?;
        let append = self.lock_append(deadline)?;
        let durable = self.durable_lsn();
        if append.state.tail.lsn > durable {
            let (root, ring) = (&append.state.root, &append.state.ring);
            let from = if known.lsn > root.checkpoint_lsn { known } else { Point::start_of(root) };
            self.write_frames_once_more(ring, from, durable)?;
        }
        self.proven.store(true, Ordering::Release);
        Ok(append)
    }

    /// A place in the chain up to which everything is durable. Most of the log is: it is passed over before
    /// others are kept from appending.
    fn last_durable_point(&self) -> Result<Point> {
        let durable = self.durable_lsn();
        let root = Arc::clone(&self.appender().root);
        let ring = Ring::new(&root);
        let mut walker = LogReader::new(&*self.disk, &ring, self.store_tag, Point::start_of(&root));
        let mut known = walker.point();
        while known.lsn < durable && walker.next()?.is_some() {
            if walker.point().lsn > durable {
                break;
            }
            known = walker.point();
        }
        Ok(known)
    }
}
