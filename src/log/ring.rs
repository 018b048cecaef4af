//! Where a log position lies in the file.
//!
//! The log's segments, in the root's order, form a ring. The mapping of a position does not change while the
//! position is live: a checkpoint only moves the start, and the ring grows or shrinks only where no live frame
//! lies.

use crate::disk::platform::Disk;
use crate::disk::root::{Root, Segment};
use std::io;

/// The ring of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ring {
    start: u64,
    start_offset: u64,
    total: u64,
    page_size: u64,
    segments: Vec<Segment>,
}

impl Ring {
    pub(crate) fn new(root: &Root) -> Ring {
        Ring {
            start: root.log_position,
            start_offset: root.log_offset,
            total: root.log_capacity(),
            page_size: u64::from(root.page_size),
            segments: root.segments.clone(),
        }
    }

    /// The first live position.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The position beyond which no frame may reach before the next checkpoint.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.total
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.total
    }

    /// The unit in which batches are kept apart: no two of them share one. It is as large as a page.
    pub(crate) fn block(&self) -> u64 {
        self.page_size
    }

    /// The first block boundary at or after a position.
    pub(crate) fn next_block(&self, position: u64) -> u64 {
        position.next_multiple_of(self.page_size)
    }

    /// The ring offset of a position: its place in the concatenated segments.
    pub(crate) fn offset(&self, position: u64) -> u64 {
        (self.start_offset + (position - self.start.min(position))) % self.total.max(1)
    }

    /// The segment in which a byte of the log lies, and where in it.
    fn place(&self, position: u64) -> Option<(usize, u64)> {
        let mut offset = self.offset(position);
        let at = self.segments.iter().position(|segment| {
            let bytes = u64::from(segment.pages) * self.page_size;
            let is_in = offset < bytes;
            offset -= if is_in { 0 } else { bytes };
            is_in
        });
        at.map(|at| (at, offset))
    }

    /// Calls `f` with file offset and range of each contiguous piece.
    fn pieces(
        &self,
        position: u64,
        len: usize,
        mut f: impl FnMut(u64, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let place = self.place(position + done as u64);
            let place = place.and_then(|(at, offset)| Some((self.segments.get(at)?, offset)));
            let Some((segment, offset)) = place else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a log position outside of the log"));
            };
            let file_offset = u64::from(segment.page) * self.page_size + offset;
            let room = u64::from(segment.pages) * self.page_size - offset;
            let n = (len - done).min(usize::try_from(room).unwrap_or(usize::MAX));
            f(file_offset, done..done + n)?;
            done += n;
        }
        Ok(())
    }

    /// Fills `buf` from `position` on. Bytes beyond the end of the file read as zeros.
    pub(crate) fn read(&self, disk: &dyn Disk, position: u64, buf: &mut [u8]) -> io::Result<()> {
        self.pieces(position, buf.len(), |offset, range| {
            let Some(part) = buf.get_mut(range) else { return Ok(()) };
            let n = disk.read_at(part, offset)?;
            part.get_mut(n..).unwrap_or_default().fill(0);
            Ok(())
        })
    }

    /// Writes `bytes` at `position`.
    pub(crate) fn write(&self, disk: &dyn Disk, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.pieces(position, bytes.len(), |offset, range| disk.write_at(bytes.get(range).unwrap_or_default(), offset))
    }

    /// The file offset of a position, for messages.
    pub(crate) fn file_offset(&self, position: u64) -> u64 {
        let mut at = 0;
        let _ = self.pieces(position, 1, |offset, _| {
            at = offset;
            Ok(())
        });
        at
    }

    /// The segments in ring order from the one that holds `position`, and the position's offset in it.
    pub(crate) fn rotated(&self, position: u64) -> (Vec<Segment>, u64) {
        let mut segments = self.segments.clone();
        let (at, offset) = self.place(position).unwrap_or_default();
        segments.rotate_left(at);
        (segments, offset)
    }
}

/// Whether the chain of frames continues under `newer` as it does under `older`: the log's ring is the same, and
/// the newer root holds no transaction that is missing in the chain, which ends at `end`.
pub(crate) fn continues(older: &Root, newer: &Root, end: u64) -> bool {
    let place = Ring::new(older).rotated(newer.log_position);
    newer.checkpoint_lsn <= end && place == (newer.segments.clone(), newer.log_offset)
}
