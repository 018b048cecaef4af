//! What lies in the file, written once more as it is, so that a flush of this process covers it.
//!
//! A flush that fails is told once, to one process, and the system may go on showing what it dropped. A later flush
//! proves nothing of that.

use crate::disk::format::{LOG_BLOCK, SLOT_SIZE};
use crate::disk::locks::lock;
use crate::disk::root::{Root, Slots, read_slots};
use crate::engine::roots::Roots;
use crate::error::Result;
use crate::log::reader::{LogReader, Point};
use crate::log::ring::{Ring, next_block};

impl Roots {
    /// Writes a root's slot once more, so that the next flush covers it. The caller holds CHECKPOINT or
    /// APPEND, or is alone: so the root after the next, which takes this slot, cannot be written meanwhile.
    /// (What the file shows at this moment may be the root before it again, after a flush that failed.)
    pub(crate) fn write_slot_once_more(&self, root: &Root) -> Result<()> {
        let mut prefix = [0; 2 * SLOT_SIZE];
        self.disk.read_at(&mut prefix, 0).map_err(self.io("read the root slots"))?;
        let found = read_slots(&prefix, self.path()).is_ok_and(|Slots { newest, older }| {
            newest.sequence == root.sequence || older.is_some_and(|older| older.sequence == root.sequence)
        });
        let offset = Root::slot_offset(root.sequence);
        // The bytes that were looked at, not those of another look: they may be the older ones by then.
        let at = usize::try_from(offset).unwrap_or(0);
        let as_found = prefix.get(at..at + SLOT_SIZE).filter(|_| found);
        let anyway = root.encode();
        self.disk.write_at(as_found.unwrap_or(&anyway), offset).map_err(self.io("write a root slot"))
    }

    /// The same with the other slot, too. A root whose flush failed may be gone from the system's cache and be on
    /// disk all the same: after a power loss it would be the newest, and its pages have been used again by then.
    pub(crate) fn write_slots_once_more(&self, newest: &Root) -> Result<()> {
        self.write_back_slot(newest.sequence + 1)?;
        self.write_slot_once_more(newest)
    }

    /// Writes the slot of a sequence as it is found.
    fn write_back_slot(&self, sequence: u64) -> Result<()> {
        let (offset, mut slot) = (Root::slot_offset(sequence), [0; SLOT_SIZE]);
        self.disk.read_at(&mut slot, offset).map_err(self.io("read the root slots"))?;
        self.disk.write_at(&slot, offset).map_err(self.io("write a root slot"))
    }

    /// Writes what is not known durable once more, in its place, and flushes it. Gives the newest root.
    pub(crate) fn write_what_is_in_doubt(&self, durable: u64) -> Result<Root> {
        let slots = self.slots()?;
        self.write_slots_once_more(&slots.newest)?;
        let Slots { newest, older } = slots;
        // A root whose flush failed may be on disk or not, and its ring may be the current one or
        // not. Written again it is durable for certain once the flush below succeeds: its pages
        // were flushed before it was first written.
        let doubtful = newest.sequence > self.known_root();
        let roots = if doubtful { [older.as_ref(), Some(&newest)] } else { [Some(&newest), None] };
        for root in roots.into_iter().flatten() {
            // (A transaction that went straight to the tree has no frame: the chain goes on from its root.)
            self.write_frames_once_more(&Ring::new(root), Point::start_of(root), durable)?;
        }
        let _alone = lock(&self.flushing);
        self.disk.flush().map_err(|e| self.poisoned_error(format!("the disk still refuses: {e}")))?;
        Ok(newest)
    }

    /// Writes the frames of the chain after `durable` once more, in their places, and what lies where the next one
    /// would: a frame that is gone from the system's cache may be on disk, and point at pages that are used again.
    pub(crate) fn write_frames_once_more(&self, ring: &Ring, mut point: Point, durable: u64) -> Result<()> {
        let mut walker = LogReader::new(&*self.disk, ring, self.store_tag, point);
        let mut block = 0;
        while let Some(frame) = walker.next()? {
            if frame.after.lsn > durable {
                // Whole blocks, for a page is what the kernel drops; none of them holds durable
                // frames, since each batch starts in a new one.
                let start = frame.header.position.max(block);
                block = next_block(frame.after.end);
                self.write_blocks_once_more(ring, start - start % LOG_BLOCK, block)?;
            }
            point = frame.after;
        }
        let next = next_block(point.end);
        if next + LOG_BLOCK <= ring.end() { self.write_blocks_once_more(ring, next, next + LOG_BLOCK) } else { Ok(()) }
    }

    fn write_blocks_once_more(&self, ring: &Ring, start: u64, end: u64) -> Result<()> {
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
        ring.read(&*self.disk, start, &mut bytes).map_err(self.io("read the log"))?;
        ring.write(&*self.disk, start, &bytes).map_err(self.io("write the log once more"))
    }
}
