//! What was written before this process opened the file, and was not published as durable, is rewritten before a
//! flush of this process counts for it.

use crate::disk::durable_note::DurableNote;
use crate::disk::locks::Deadline;
use crate::engine::append::{AppendGuard, Log};
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::error::Result;
use crate::log::reader::{LogReader, Point};
use crate::log::ring::Ring;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Log {
    /// Takes APPEND to seal a batch that this process will flush. The first time, it rewrites what other
    /// processes wrote and did not publish as durable: a flush may have failed before this process opened the
    /// file, and the only process that was told of it may have been killed before it could publish that. From
    /// then on the system reports failures to this process, too.
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
            self.rewrite_frames(ring, from, durable)?;
        }
        self.proven.store(true, Ordering::Release);
        Ok(append)
    }

    /// Notes in the file that the log is durable to its end, and which root is the newest, if that is known. The holder
    /// of CHECKPOINT does so: no root is being made.
    pub(crate) fn note_durable(&self, _turn: &CheckpointGuard<'_>) -> Result<()> {
        let Some(append) = self.try_lock_append()? else { return Ok(()) };
        let (tail, root) = (append.state.tail, self.slots()?.newest.sequence);
        let is_durable = !append.unsettled && !self.is_poisoned(&append.sidecar) && tail.lsn <= self.durable_lsn();
        let is_newest = root <= self.known_root() && append.sidecar.making().is_some_and(|making| making <= root);
        let note = DurableNote { lsn: tail.lsn, root, crc: tail.crc };
        if !is_durable || !is_newest || self.durable_note()? == Some(note) {
            return Ok(());
        }
        note.write(&*self.disk, self.page_size, self.store_tag).map_err(self.io("write the durability note"))
    }

    pub(crate) fn durable_note(&self) -> Result<Option<DurableNote>> {
        DurableNote::read(&*self.disk, self.page_size, self.store_tag).map_err(self.io("read the durability note"))
    }

    /// Whether the file notes that the log is durable up to this point.
    pub(crate) fn is_noted_durable(&self, point: Point) -> Result<bool> {
        Ok(self.durable_note()?.is_some_and(|note| note.is_of(point.lsn, point.crc)))
    }

    /// A position in the chain up to which everything is durable. It is found before APPEND is taken, since most
    /// of the log is durable, and other processes may append meanwhile.
    fn last_durable_point(&self) -> Result<Point> {
        let durable = self.durable_lsn();
        let root = Arc::clone(&self.appender().root);
        let ring = Ring::new(&root);
        let mut reader = LogReader::new(&*self.disk, &ring, self.store_tag, Point::start_of(&root));
        let mut known = reader.point();
        while known.lsn < durable && reader.next()?.is_some() {
            if reader.point().lsn > durable {
                break;
            }
            known = reader.point();
        }
        Ok(known)
    }
}
