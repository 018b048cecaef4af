//! Walking the chain of frames. The tail of the log is where this walk ends: it is derived from the file's bytes
//! alone, not from what a process remembers or a hint says.

use crate::disk::format::{get_u32, get_u64};
use crate::disk::platform::Disk;
use crate::disk::root::Root;
use crate::error::{CorruptionKind, Error, Result};
use crate::log::frame::{
    FRAME_HEADER, FRAME_LSN, FRAME_PREVIOUS_CRC, FRAMES_KNOWN, FrameHeader, Operation, Unread, frame_crc,
    read_operations,
};
use crate::log::ring::{Ring, continues};
use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A place in the chain: just after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Point {
    /// Where the next frame starts, unless the batch was sealed: then it starts at the next block.
    pub(crate) end: u64,
    /// CRC of the frame that ends here.
    pub(crate) crc: u32,
    /// LSN of the frame that ends here.
    pub(crate) lsn: u64,
}

impl Point {
    /// Where the chain of frames after a root starts.
    pub(crate) fn start_of(root: &Root) -> Point {
        Point { end: root.log_position, crc: root.log_crc, lsn: root.checkpoint_lsn }
    }
}

/// A whole, verified frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    /// The frame's bytes, header included.
    pub(crate) bytes: Arc<[u8]>,
    /// What they say, read once for all uses.
    pub(crate) operations: Vec<Operation>,
    /// The place after it.
    pub(crate) after: Point,
}

/// Reads frames one after the other.
pub(crate) struct LogReader<'a> {
    disk: &'a dyn Disk,
    ring: &'a Ring,
    store_tag: u32,
    point: Point,
    window: Vec<u8>,
    window_start: u64,
    read_ahead: usize,
}

/// Reads ahead this much once frames are found; usually none is.
const READ_AHEAD: usize = 256 * 1024;

impl<'a> LogReader<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, ring: &'a Ring, store_tag: u32, point: Point) -> LogReader<'a> {
        LogReader { disk, ring, store_tag, point, window: Vec::new(), window_start: 0, read_ahead: 0 }
    }

    pub(crate) fn point(&self) -> Point {
        self.point
    }

    /// Loads `[position, position + len)` into the window, and returns its place there.
    fn load(&mut self, position: u64, len: usize) -> Result<Option<Range<usize>>> {
        // (With 32-bit addresses the ring may still be longer.)
        let room = usize::try_from(self.ring.end().saturating_sub(position)).unwrap_or(usize::MAX);
        if len > room {
            return Ok(None);
        }
        let within = |this: &Self| -> Option<Range<usize>> {
            let start = usize::try_from(position.checked_sub(this.window_start)?).ok()?;
            let range = start..start.checked_add(len)?;
            this.window.get(range.clone())?;
            Some(range)
        };
        if let Some(range) = within(self) {
            return Ok(Some(range));
        }
        // The first read covers both places where the next frame may start, and no more.
        let first = usize::try_from(self.ring.next_block(position) - position).unwrap_or(0) + FRAME_HEADER;
        let size = len.max(self.read_ahead.max(first)).min(room);
        self.window.resize(size, 0);
        self.window_start = position;
        self.ring
            .read(self.disk, position, &mut self.window)
            .map_err(|e| Error::io("read the log", self.disk.path(), e))?;
        Ok(within(self))
    }

    /// A frame that starts at `position`, whole by its own CRC, with a header that `plausible` accepts.
    fn whole_frame(&mut self, position: u64, plausible: impl Fn(&FrameHeader) -> bool) -> Result<Option<Frame>> {
        if position < self.ring.start() {
            return Ok(None);
        }
        let Some(range) = self.load(position, FRAME_HEADER)? else { return Ok(None) };
        let Some((header, crc)) = FrameHeader::decode(self.window.get(range).unwrap_or_default()) else {
            return Ok(None);
        };
        if !plausible(&header) {
            return Ok(None);
        }
        let len = FRAME_HEADER + header.payload_len as usize;
        let Some(range) = self.load(position, len)? else { return Ok(None) };
        let bytes = self.window.get(range).unwrap_or_default();
        if frame_crc(self.store_tag, bytes.get(8..).unwrap_or_default()) != crc {
            return Ok(None);
        }
        // Only now: bytes that are no frame say nothing of a newer program.
        let operations = read_operations(bytes).map_err(|unread| self.not_understood(position, header.lsn, unread))?;
        let after = Point { end: position + header.frame_len(), crc, lsn: header.lsn };
        Ok(Some(Frame { header, bytes: Arc::from(bytes), operations, after }))
    }

    fn not_understood(&self, position: u64, lsn: u64, unread: Unread) -> Error {
        let at = self.ring.file_offset(position);
        match unread {
            Unread::Newer(found) => {
                let found = format!("{found} at byte {at} (LSN {lsn})");
                Error::newer(self.disk.path(), found, FRAMES_KNOWN)
            }
            Unread::Invalid => {
                let (expected, found) = ("operations that make sense", "a payload that does not");
                Error::corrupt(CorruptionKind::Frame, at, None, expected, found).in_file(self.disk.path())
            }
        }
    }

    /// The next frame of the chain; `None` at its end. May be called again when the log may have grown.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        let Point { end, crc, lsn } = self.point;
        let follows = |position| {
            move |header: &FrameHeader| {
                header.position == position && header.lsn == lsn + 1 && header.previous_crc == crc
            }
        };
        let mut frame = self.whole_frame(end, follows(end))?;
        let block = self.ring.next_block(end);
        if frame.is_none() && block != end {
            frame = self.whole_frame(block, follows(block))?;
        }
        match &frame {
            Some(frame) => {
                self.point = frame.after;
                self.read_ahead = READ_AHEAD;
            }
            // What was read ahead may be older than what is appended next.
            None => self.window.clear(),
        }
        Ok(frame)
    }

    /// Distinguishes a torn end from damage: searches beyond the chain's end for a frame that was written when
    /// this one, or what follows it, was known to be durable. Batches start at blocks, so only starts of blocks
    /// are examined. A newer root that was lost may have laid out its ring differently, so the frame may give
    /// another position, but none before the end.
    pub(crate) fn verify_end(&mut self, root_sequence: u64) -> Result<()> {
        let Point { end, lsn, .. } = self.point;
        self.read_ahead = READ_AHEAD;
        let mut position = self.ring.next_block(end);
        // Frames that were ever written do not overlap, so together they are no longer than the ring. Forged
        // frames may overlap; the budget keeps them from being read at every block.
        let budget = Cell::new(2 * self.ring.capacity());
        while position < self.ring.end() && budget.get() > 0 {
            let proof = |header: &FrameHeader| {
                // A root newer by one proves nothing: a copy may be built on before it is durable itself, since
                // it holds what its original holds.
                let later = header.lsn > lsn && header.position >= end;
                let proves = later && (header.durable_lsn > lsn || header.root_sequence > root_sequence + 1);
                if proves {
                    budget.set(budget.get().saturating_sub(header.frame_len()));
                }
                proves && budget.get() > 0
            };
            if let Some(frame) = self.whole_frame(position, proof)? {
                return Err(Error::corrupt(
                    CorruptionKind::Frame,
                    self.ring.file_offset(self.lost_frame()?),
                    None,
                    format!(
                        "transaction {} which was durable when transaction {} was written",
                        lsn + 1,
                        frame.header.lsn
                    ),
                    "bytes that are no valid frame",
                )
                .in_file(self.disk.path()));
            }
            position += self.ring.block();
        }
        Ok(())
    }

    /// Where the frame behind the chain's end lies if it is damaged. The two places where it may start can be far
    /// apart in the file, so an error names the one whose bytes still contain its LSN or its link.
    fn lost_frame(&mut self) -> Result<u64> {
        let Point { end, crc, lsn } = self.point;
        let block = self.ring.next_block(end);
        let Some(range) = self.load(block, FRAME_HEADER)? else { return Ok(end) };
        let header = self.window.get(range).unwrap_or_default();
        let is_it = get_u64(header, FRAME_LSN) == lsn + 1 || get_u32(header, FRAME_PREVIOUS_CRC) == crc;
        Ok(if is_it { block } else { end })
    }
}

/// Whether a frame that continues the chain seems to lie behind `point`. It reads two words that another process
/// may be writing, so the answer may be wrong for a moment.
pub(crate) fn seems_to_go_on(disk: &dyn Disk, ring: &Ring, point: Point) -> io::Result<bool> {
    let Point { end, crc, lsn } = point;
    let block = ring.next_block(end);
    for position in [end, block].into_iter().take(if block == end { 1 } else { 2 }) {
        if position < ring.start() || position + FRAME_HEADER as u64 > ring.end() {
            continue;
        }
        let (mut found, mut before) = ([0], [0]);
        disk.peek(&mut found, ring.file_offset(position + FRAME_LSN as u64))?;
        if found == [lsn + 1] {
            disk.peek(&mut before, ring.file_offset(position + FRAME_PREVIOUS_CRC as u64))?;
            if before.map(|word| word & u64::from(u32::MAX)) == [u64::from(crc)] {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a chain that ends at `end` under `older` continues under `newer` only: the ring may be another one,
/// the newer root may hold a transaction that the chain does not have, or frames may lie where the older root's
/// ring has ended.
pub(crate) fn goes_on_elsewhere(disk: &dyn Disk, older: &Root, newer: &Root, end: Point) -> io::Result<bool> {
    Ok(!continues(older, newer, end.lsn) || seems_to_go_on(disk, &Ring::new(newer), end)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::root::read_slots;
    use crate::disk::sim::{Free, Image, SimDisk, World};
    use crate::engine::open::create;
    use crate::log::frame::{FrameBuilder, FrameKind};

    const TAG: u32 = 7;

    /// A log, and the place where its chain starts.
    fn log() -> (Arc<SimDisk>, Ring, Point) {
        let disk = World::new(Image::default(), Arc::new(Free)).disk(0);
        create(&*disk, 4096, [7; 16]).unwrap();
        let mut slots = vec![0; 8192];
        disk.read_at(&mut slots, 0).unwrap();
        let root = read_slots(&slots, disk.path()).unwrap().newest;
        (disk, Ring::new(&root), Point::start_of(&root))
    }

    /// Writes a frame behind `before`, sealed or not, when `durable` was known durable under root `root`.
    fn write(log: &(Arc<SimDisk>, Ring, Point), before: Point, sealed: bool, known: (u64, u64), key: &[u8]) -> Point {
        let mut frame = FrameBuilder::new();
        frame.put(1, key, b"value");
        let position = if sealed { log.1.next_block(before.end) } else { before.end };
        let header = FrameHeader {
            previous_crc: before.crc,
            kind: FrameKind::Commit,
            relaxed: false,
            changes_tables: false,
            lsn: before.lsn + 1,
            position,
            root_sequence: known.1,
            durable_lsn: known.0,
            time: 0,
            payload_len: frame.payload_len().unwrap(),
            operations: frame.operations(),
        };
        let (bytes, crc) = frame.finish(TAG, &header);
        log.1.write(&*log.0, position, bytes).unwrap();
        Point { end: position + bytes.len() as u64, crc, lsn: header.lsn }
    }

    /// Where the chain ends, and whether what follows is no damage, by a root of this sequence.
    fn end(log: &(Arc<SimDisk>, Ring, Point), root: u64) -> (Point, bool) {
        let mut reader = LogReader::new(&*log.0, &log.1, TAG, log.2);
        while reader.next().unwrap().is_some() {}
        (reader.point(), reader.verify_end(root).is_ok())
    }

    /// A power loss took the first of two frames, and what was committed next has its place and length.
    #[test]
    fn a_frame_of_another_chain_does_not_follow() {
        for sealed in [false, true] {
            let log = log();
            let lost = write(&log, log.2, false, (0, 1), b"lost");
            let left = write(&log, lost, sealed, (0, 1), b"left");
            assert_eq!(end(&log, 1), (left, true));
            let next = write(&log, log.2, false, (0, 1), b"next");
            assert_eq!(next.end, lost.end);
            assert_eq!(end(&log, 1), (next, true));
        }
    }

    #[test]
    fn a_torn_end_is_told_from_damage() {
        // What the third frame knew when the second one, which then is torn, was in the log.
        for (durable, root, whole) in [(0, 5, true), (1, 5, true), (1, 6, true), (2, 5, false), (1, 7, false)] {
            let log = log();
            let first = write(&log, log.2, true, (0, 5), b"first");
            let second = write(&log, first, true, (0, 5), b"second");
            let third = write(&log, second, true, (durable, root), b"third");
            assert_eq!(end(&log, 5), (third, true));
            log.1.write(&*log.0, second.end - 8, &[0; 8]).unwrap();
            assert_eq!(end(&log, 5), (first, whole), "{durable} was durable, and root {root}");
        }
    }

    /// A frame that is whole was written by a process: if it is not understood, the log does not end before it, or it
    /// would be overwritten. Bytes that are no frame say nothing.
    #[test]
    fn a_whole_frame_that_is_not_understood_is_no_end() {
        for (at, byte, what) in [(12, 9, "kind 9"), (13, 0x80, "flags 0x80"), (15, 1, "0x100"), (64, 9, "code 9")] {
            for sealed in [false, true] {
                let log = log();
                let first = write(&log, log.2, true, (0, 5), b"first");
                let second = write(&log, first, sealed, (0, 5), b"second");
                let start = if sealed { log.1.next_block(first.end) } else { first.end };
                let mut bytes = vec![0; (second.end - start) as usize];
                log.1.read(&*log.0, start, &mut bytes).unwrap();
                bytes[at] = byte;
                log.1.write(&*log.0, start, &bytes).unwrap();
                assert_eq!(end(&log, 5), (first, true), "a CRC that is wrong");
                let len = FRAME_HEADER + get_u32(&bytes, 56) as usize;
                let crc = frame_crc(TAG, &bytes[8..len]);
                bytes[4..8].copy_from_slice(&crc.to_le_bytes());
                log.1.write(&*log.0, start, &bytes).unwrap();
                let mut reader = LogReader::new(&*log.0, &log.1, TAG, first);
                let error = reader.next().unwrap_err();
                assert!(matches!(&error, Error::Format { found, .. } if found.contains(what)), "{error}");
            }
        }
    }

    #[test]
    fn the_error_names_the_damaged_frame_behind_a_seal_or_without_one() {
        for (sealed, damaged) in [(false, 0), (false, 16), (true, 0), (true, 16), (true, 24), (true, 64)] {
            let log = log();
            let first = write(&log, log.2, true, (0, 5), b"first");
            let second = write(&log, first, sealed, (0, 5), b"second");
            write(&log, second, true, (2, 5), b"third");
            let start = if sealed { log.1.next_block(first.end) } else { first.end };
            log.1.write(&*log.0, start + damaged, &[0xa5; 8]).unwrap();
            let mut reader = LogReader::new(&*log.0, &log.1, TAG, first);
            assert!(reader.next().unwrap().is_none());
            let error = reader.verify_end(5).unwrap_err();
            let Error::Corrupt(place) = &error else { panic!("{error}") };
            assert_eq!(place.offset, log.1.file_offset(start), "sealed: {sealed}, damaged at {damaged}: {error}");
        }
    }
}
