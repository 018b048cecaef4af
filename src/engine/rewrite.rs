//! Rewrites what lies in the file, unchanged, so that a flush of this process covers it.
//!
//! The system reports a failed flush once, to one process, and may go on showing the data that it dropped. A
//! later successful flush proves nothing about that data.

use crate::disk::locks::lock;
use crate::disk::root::{Root, Slots, read_slots};
use crate::engine::roots::Roots;
use crate::error::Result;
use crate::log::reader::{LogReader, Point};
use crate::log::ring::Ring;

impl Roots {
    /// Rewrites a root's slot, so that the next flush covers it. The caller holds CHECKPOINT or APPEND, or is the
    /// only process: so the root after the next, which uses the same slot, cannot be written meanwhile. (After a
    /// failed flush the file may show the slot's previous root again.)
    pub(crate) fn rewrite_slot(&self, root: &Root) -> Result<()> {
        let size = self.page_size as usize;
        let mut prefix = vec![0; 2 * size];
        self.disk.read_at(&mut prefix, 0).map_err(self.io("read the root slots"))?;
        let found = read_slots(&prefix, self.path()).is_ok_and(|Slots { newest, older }| {
            newest.sequence == root.sequence || older.is_some_and(|older| older.sequence == root.sequence)
        });
        let offset = root.offset();
        // The bytes that were examined, not those of a second read: by then they may be older ones.
        let at = usize::try_from(offset).unwrap_or(0);
        let as_found = prefix.get(at..at + size).filter(|_| found);
        let anyway = root.encode();
        self.disk.write_at(as_found.unwrap_or(&anyway), offset).map_err(self.io("write a root slot"))
    }

    /// Rewrites the other slot, too. A root whose flush failed may be gone from the system's cache and yet be on
    /// disk: after a power loss it would be the newest root, although its pages have been reused.
    pub(crate) fn rewrite_slots(&self, newest: &Root) -> Result<()> {
        self.write_back_slot(newest.sequence + 1)?;
        self.rewrite_slot(newest)
    }

    /// Rewrites the slot of a sequence as it is found.
    fn write_back_slot(&self, sequence: u64) -> Result<()> {
        let (offset, mut slot) = (Root::slot_offset(sequence, self.page_size), vec![0; self.page_size as usize]);
        self.disk.read_at(&mut slot, offset).map_err(self.io("read the root slots"))?;
        self.disk.write_at(&slot, offset).map_err(self.io("write a root slot"))
    }

    /// Rewrites, in place, what is not known to be durable, and flushes it. Returns the newest root.
    pub(crate) fn rewrite_unsynced(&self, durable: u64) -> Result<Root> {
        let slots = self.slots()?;
        self.rewrite_slots(&slots.newest)?;
        let Slots { newest, older } = slots;
        // A root whose flush failed may or may not be on disk, and its ring may or may not be the current one.
        // Rewritten, it is durable once the flush below succeeds: its pages were flushed before it was first
        // written.
        let unsettled = newest.sequence > self.known_root();
        let roots = if unsettled { [older.as_ref(), Some(&newest)] } else { [Some(&newest), None] };
        for root in roots.into_iter().flatten() {
            // (A transaction too large for the log has no frame: the chain continues from its root.)
            self.rewrite_frames(&Ring::new(root), Point::start_of(root), durable)?;
        }
        let _alone = lock(&self.flushing);
        self.disk.flush().map_err(|e| self.poisoned_error(format!("the disk still refuses: {e}")))?;
        Ok(newest)
    }

    /// Rewrites the frames of the chain after `durable` in place, and the block where the next frame would lie: a
    /// frame that is gone from the system's cache may be on disk, and refer to pages that are reused.
    pub(crate) fn rewrite_frames(&self, ring: &Ring, mut point: Point, durable: u64) -> Result<()> {
        let mut reader = LogReader::new(&*self.disk, ring, self.store_tag, point);
        let mut block = 0;
        while let Some(frame) = reader.next()? {
            if frame.after.lsn > durable {
                // Whole blocks, since the kernel drops whole pages; none of them holds durable frames, since each
                // batch starts in a new block.
                let start = frame.header.position.max(block);
                block = ring.next_block(frame.after.end);
                self.rewrite_blocks(ring, start - start % ring.block(), block)?;
            }
            point = frame.after;
        }
        let next = ring.next_block(point.end);
        let end = next + ring.block();
        if end <= ring.end() { self.rewrite_blocks(ring, next, end) } else { Ok(()) }
    }

    fn rewrite_blocks(&self, ring: &Ring, start: u64, end: u64) -> Result<()> {
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
        ring.read(&*self.disk, start, &mut bytes).map_err(self.io("read the log"))?;
        ring.write(&*self.disk, start, &bytes).map_err(self.io("write the log once more"))
    }
}
