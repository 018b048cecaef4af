//! The durability note: a statement in the file that the log is durable up to a certain frame, and that a certain root
//! is the newest.
//!
//! A flush leaves no trace in the file, so a process that opens the store cannot know whether the last frames are
//! durable, and a reader without hints cannot know whether they may be shown. Nor can it know whether the disk holds a
//! newer root than the system shows: one whose flush failed, and whose maker died. A process that knows both writes
//! this note when the store becomes idle, or when it leaves. The note itself is not flushed: it is true whenever it is
//! read, and one that is lost costs a flush. Before a newer root is written, the note is erased, durably.
//!
//! It lies in a sector of its own in the epoch's block: `u64` LSN, `u64` sequence of the root, `u32` CRC of the frame
//! with that LSN, `u32` CRC-32 of the store tag and these twenty bytes.

use crate::disk::format::{durable_note_at, get_u32, get_u64, put_u32, put_u64};
use crate::disk::platform::Disk;
use std::io;

const SIZE: usize = 24;

/// All frames up to this one are durable, and no newer root was ever written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurableNote {
    pub(crate) lsn: u64,
    pub(crate) root: u64,
    /// The frame's CRC: after a power loss another frame may get the same LSN.
    pub(crate) crc: u32,
}

impl DurableNote {
    pub(crate) fn read(disk: &dyn Disk, page_size: u32, store_tag: u32) -> io::Result<Option<DurableNote>> {
        let mut bytes = [0; SIZE];
        let read = disk.read_at(&mut bytes, durable_note_at(page_size))?;
        let note = DurableNote { lsn: get_u64(&bytes, 0), root: get_u64(&bytes, 8), crc: get_u32(&bytes, 16) };
        Ok(Some(note).filter(|note| read == SIZE && note.encode(store_tag) == bytes))
    }

    /// Whether the frame with this LSN and CRC is the one up to which all are durable.
    pub(crate) fn is_of(self, lsn: u64, crc: u32) -> bool {
        (self.lsn, self.crc) == (lsn, crc)
    }

    pub(crate) fn write(self, disk: &dyn Disk, page_size: u32, store_tag: u32) -> io::Result<()> {
        disk.write_at(&self.encode(store_tag), durable_note_at(page_size))
    }

    /// Erases the note, if there is one. The next flush makes that durable.
    pub(crate) fn erase(disk: &dyn Disk, page_size: u32, store_tag: u32) -> io::Result<()> {
        match DurableNote::read(disk, page_size, store_tag)? {
            Some(_) => disk.write_at(&[0; SIZE], durable_note_at(page_size)),
            None => Ok(()),
        }
    }

    fn encode(self, store_tag: u32) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        put_u64(&mut bytes, 0, self.lsn);
        put_u64(&mut bytes, 8, self.root);
        put_u32(&mut bytes, 16, self.crc);
        let mut check = crc32fast::Hasher::new();
        check.update(&store_tag.to_le_bytes());
        check.update(bytes.get(..20).unwrap_or_default());
        put_u32(&mut bytes, 20, check.finalize());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Free, Image, World};
    use std::sync::Arc;

    #[test]
    fn a_note_is_read_back_and_a_damaged_or_foreign_one_is_not() {
        let disk = World::new(Image::default(), Arc::new(Free)).disk(0);
        let at_note = durable_note_at(4096);
        let read = |tag| DurableNote::read(&*disk, 4096, tag).unwrap();
        assert_eq!(read(7), None, "an empty file");
        disk.write_at(&[0; 64], at_note).unwrap();
        assert_eq!(read(7), None, "zeros");
        let note = DurableNote { lsn: 5, root: 3, crc: 9 };
        note.write(&*disk, 4096, 7).unwrap();
        assert_eq!((read(7), read(8)), (Some(note), None));
        for at in 0..SIZE as u64 {
            let mut byte = [0];
            disk.read_at(&mut byte, at_note + at).unwrap();
            disk.write_at(&[byte[0] ^ 1], at_note + at).unwrap();
            assert_eq!(read(7), None, "byte {at}");
            disk.write_at(&byte, at_note + at).unwrap();
        }
        DurableNote::erase(&*disk, 4096, 7).unwrap();
        assert_eq!(read(7), None);
    }
}
