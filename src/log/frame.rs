//! Log frames: one transaction, or one checkpoint record, as it lies in the log.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `mlf1` |
//! | 4 | 4 | CRC-32 of the store tag (first four bytes of the store id) followed by bytes 8 to the payload's end |
//! | 8 | 4 | CRC of the frame before it: the chain |
//! | 12 | 1 | kind: 1 commit, 2 checkpoint (a checkpoint starts after this frame) |
//! | 13 | 1 | flags: bit 0 = relaxed durability, bit 1 = the set of tables changes |
//! | 14 | 2 | reserved, 0 |
//! | 16 | 8 | LSN |
//! | 24 | 8 | log position of this frame |
//! | 32 | 8 | sequence of the newest root known durable when it was appended |
//! | 40 | 8 | newest LSN known durable when it was appended |
//! | 48 | 8 | commit time, µs since 1970 |
//! | 56 | 4 | payload length, at most 2^30 |
//! | 60 | 4 | number of operations |
//!
//! Frames start at positions that are multiples of 8. A frame that ends at `e` (rounded up to 8) is
//! followed by the next one at `e`, or, after a seal, at the next multiple of 4096.
//! The log position counts bytes from the birth of the log and never falls, so a frame of an
//! earlier lap of the ring is never taken for a new one.
//!
//! Operations of the payload: `u8 code, u32 table`, then
//! 1 put: `u16 key length, u32 value length, key, value`;
//! 2 delete: `u16 key length, key`;
//! 3 put of a long value: `u16 key length, u16 pointer length, key, pointer` ([`Overflow::encode`]; the value is durable
//! already);
//! 4 drop of the table: nothing more. Keys come in order within a table, tables in order of their ids.

use crate::change::Change;
use crate::disk::format::{
    MAX_FRAME_PAYLOAD, MAX_KEY_SIZE, Overflow, TABLE_NAMES, get_u16, get_u32, get_u64, put_u32, put_u64,
};
use crate::error::{Error, LimitKind};
use std::ops::Range;

/// Size of a frame's header.
pub(crate) const FRAME_HEADER: usize = 64;
/// Where the CRC of the frame before lies in a header, with the kind and the flags behind it.
pub(crate) const FRAME_PREVIOUS_CRC: usize = 8;
/// Where the LSN lies.
pub(crate) const FRAME_LSN: usize = 16;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"mlf1");
const KIND_COMMIT: u8 = 1;
const KIND_CHECKPOINT: u8 = 2;
const FLAG_RELAXED: u8 = 1;
const FLAG_TABLES: u8 = 2;

const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;
const OP_PUT_OVERFLOW: u8 = 3;
const OP_DROP_TABLE: u8 = 4;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A transaction.
    Commit,
    /// Checkpoint record: a checkpoint applies everything up to and including this frame to the tree.
    Checkpoint,
    /// One that this program does not know.
    Unknown(u8),
}

/// The header's fields, less the CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) previous_crc: u32,
    pub(crate) kind: FrameKind,
    pub(crate) relaxed: bool,
    /// Whether the frame changes the names table: if so, table ids looked up before it may be stale.
    pub(crate) changes_tables: bool,
    pub(crate) lsn: u64,
    pub(crate) position: u64,
    pub(crate) root_sequence: u64,
    pub(crate) durable_lsn: u64,
    pub(crate) time: u64,
    pub(crate) payload_len: u32,
    pub(crate) operations: u32,
}

impl FrameHeader {
    /// Reads a header; `None` if it cannot be one. Its CRC is not checked yet; only a frame that is whole can be one of
    /// a newer program: see [`read_operations`].
    pub(crate) fn decode(bytes: &[u8]) -> Option<(FrameHeader, u32)> {
        if bytes.len() < FRAME_HEADER || get_u32(bytes, 0) != FRAME_MAGIC {
            return None;
        }
        let kind = match *bytes.get(12)? {
            KIND_COMMIT => FrameKind::Commit,
            KIND_CHECKPOINT => FrameKind::Checkpoint,
            kind => FrameKind::Unknown(kind),
        };
        let flags = *bytes.get(13)?;
        if get_u32(bytes, 56) > MAX_FRAME_PAYLOAD {
            return None;
        }
        let header = FrameHeader {
            previous_crc: get_u32(bytes, 8),
            kind,
            relaxed: flags & FLAG_RELAXED != 0,
            changes_tables: flags & FLAG_TABLES != 0,
            lsn: get_u64(bytes, 16),
            position: get_u64(bytes, 24),
            root_sequence: get_u64(bytes, 32),
            durable_lsn: get_u64(bytes, 40),
            time: get_u64(bytes, 48),
            payload_len: get_u32(bytes, 56),
            operations: get_u32(bytes, 60),
        };
        Some((header, get_u32(bytes, 4)))
    }

    /// Bytes from one frame's start to the earliest start of the next.
    pub(crate) fn frame_len(&self) -> u64 {
        frame_len(self.payload_len)
    }
}

/// What this program knows of frames.
pub(crate) const FRAMES_KNOWN: &str = "frames of the kinds 1 and 2 with the flags 0x3 and operations 1 to 4";

/// Bytes that a frame with this payload length takes, rounded up to 8.
pub(crate) fn frame_len(payload_len: u32) -> u64 {
    (FRAME_HEADER as u64 + u64::from(payload_len)).next_multiple_of(8)
}

/// The CRC of a frame, given from its byte 8 to its payload's end.
pub(crate) fn frame_crc(store_tag: u32, from_byte_8: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&store_tag.to_le_bytes());
    hasher.update(from_byte_8);
    hasher.finalize()
}

/// A frame under construction: room for the header, then operations.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    operations: u32,
    changes_tables: bool,
}

impl FrameBuilder {
    pub(crate) fn new() -> FrameBuilder {
        FrameBuilder { bytes: vec![0; FRAME_HEADER], operations: 0, changes_tables: false }
    }

    /// Bytes that a put of such a key and value takes in a frame.
    pub(crate) fn put_size(key: usize, value: usize) -> u64 {
        11 + key as u64 + value as u64
    }

    fn start(&mut self, code: u8, table: u32, key: &[u8]) {
        self.operations += 1;
        self.changes_tables |= table == TABLE_NAMES;
        self.bytes.push(code);
        self.bytes.extend_from_slice(&table.to_le_bytes());
        if code != OP_DROP_TABLE {
            // Keys are checked against the limit before they get here.
            self.bytes.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
    }

    pub(crate) fn put(&mut self, table: u32, key: &[u8], value: &[u8]) {
        self.start(OP_PUT, table, key);
        self.bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn put_overflow(&mut self, table: u32, key: &[u8], value: &Overflow) {
        let pointer = value.encode();
        self.start(OP_PUT_OVERFLOW, table, key);
        self.bytes.extend_from_slice(&u16::try_from(pointer.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&pointer);
    }

    pub(crate) fn delete(&mut self, table: u32, key: &[u8]) {
        self.start(OP_DELETE, table, key);
        self.bytes.extend_from_slice(key);
    }

    pub(crate) fn drop_table(&mut self, table: u32) {
        self.start(OP_DROP_TABLE, table, &[]);
    }

    pub(crate) fn frame_len(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(8)
    }

    /// Length of the payload.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond what the header, and readers, have room for: a truncated frame would be whole
    /// by its checksum and damaged for every reader.
    pub(crate) fn payload_len(&self) -> Result<u32, Error> {
        let size = (self.bytes.len() - FRAME_HEADER) as u64;
        let len = u32::try_from(size).ok().filter(|len| *len <= MAX_FRAME_PAYLOAD);
        len.ok_or(Error::TooLarge { what: LimitKind::Frame, size, limit: MAX_FRAME_PAYLOAD.into() })
    }

    pub(crate) fn changes_tables(&self) -> bool {
        self.changes_tables
    }

    pub(crate) fn operations(&self) -> u32 {
        self.operations
    }

    /// Completes the frame: fills in the header, and pads to a multiple of 8. Returns the bytes and the CRC.
    pub(crate) fn finish(&mut self, store_tag: u32, header: &FrameHeader) -> (&[u8], u32) {
        let payload_end = FRAME_HEADER + header.payload_len as usize;
        self.bytes.truncate(payload_end);
        let bytes = &mut self.bytes;
        put_u32(bytes, 0, FRAME_MAGIC);
        put_u32(bytes, 8, header.previous_crc);
        let kind = match header.kind {
            FrameKind::Commit => KIND_COMMIT,
            FrameKind::Checkpoint => KIND_CHECKPOINT,
            FrameKind::Unknown(kind) => kind,
        };
        let flags = if header.relaxed { FLAG_RELAXED } else { 0 } | if header.changes_tables { FLAG_TABLES } else { 0 };
        put_u32(bytes, 12, u32::from_le_bytes([kind, flags, 0, 0]));
        put_u64(bytes, 16, header.lsn);
        put_u64(bytes, 24, header.position);
        put_u64(bytes, 32, header.root_sequence);
        put_u64(bytes, 40, header.durable_lsn);
        put_u64(bytes, 48, header.time);
        put_u32(bytes, 56, header.payload_len);
        put_u32(bytes, 60, header.operations);
        let crc = frame_crc(store_tag, bytes.get(8..).unwrap_or_default());
        put_u32(bytes, 4, crc);
        bytes.resize(payload_end.next_multiple_of(8), 0);
        (&self.bytes, crc)
    }
}

/// A part of a frame's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    // A frame is far smaller than 4 GiB.
    start: u32,
    end: u32,
}

impl Part {
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Its bytes in the frame.
    pub(crate) fn of(self, frame: &[u8]) -> &[u8] {
        frame.get(self.range()).unwrap_or_default()
    }
}

/// One operation of a frame.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Change { table: u32, key: Part, change: Change<Part> },
    DropTable { table: u32 },
}

/// Why a whole frame is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// A newer program has written it: its kind, a flag, or an operation that this one does not know.
    Newer(String),
    /// Its payload is no sequence of operations, which its CRC makes all but impossible.
    Invalid,
}

/// The operations of a whole frame.
pub(crate) fn read_operations(frame: &[u8]) -> Result<Vec<Operation>, Unread> {
    let [kind, flags, reserved @ ..] = get_u32(frame, 12).to_le_bytes();
    if ![KIND_COMMIT, KIND_CHECKPOINT].contains(&kind) {
        return Err(Unread::Newer(format!("a log frame of kind {kind}")));
    }
    if flags & !(FLAG_RELAXED | FLAG_TABLES) != 0 || reserved != [0, 0] {
        let reserved = u16::from_le_bytes(reserved);
        return Err(Unread::Newer(format!("a log frame with the flags {flags:#x} and {reserved:#x}")));
    }
    Operations::of(frame).collect()
}

/// Reads the operations of a frame one after the other, up to the first that is not understood.
pub(crate) struct Operations<'a> {
    frame: &'a [u8],
    at: usize,
}

impl<'a> Operations<'a> {
    pub(crate) fn of(frame: &'a [u8]) -> Operations<'a> {
        Operations { frame, at: FRAME_HEADER }
    }

    fn take(&mut self, len: usize) -> Option<Part> {
        let end = self.at.checked_add(len)?;
        self.frame.get(self.at..end)?;
        let part = Part { start: u32::try_from(self.at).ok()?, end: u32::try_from(end).ok()? };
        self.at = end;
        Some(part)
    }

    fn take_bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        self.take(len).map(|part| part.of(self.frame))
    }

    fn operation(&mut self) -> Result<Operation, Unread> {
        let head = self.take_bytes(5).ok_or(Unread::Invalid)?;
        let (code, table) = (head.first().copied().unwrap_or_default(), get_u32(head, 1));
        match code {
            OP_DROP_TABLE => Ok(Operation::DropTable { table }),
            OP_PUT | OP_DELETE | OP_PUT_OVERFLOW => {
                let (key, change) = self.change(code).ok_or(Unread::Invalid)?;
                Ok(Operation::Change { table, key, change })
            }
            _ => Err(Unread::Newer(format!("an operation with the code {code}"))),
        }
    }

    fn change(&mut self, code: u8) -> Option<(Part, Change<Part>)> {
        let key_len = usize::from(get_u16(self.take_bytes(2)?, 0));
        if key_len > MAX_KEY_SIZE {
            return None;
        }
        match code {
            OP_PUT => {
                let value_len = get_u32(self.take_bytes(4)?, 0) as usize;
                Some((self.take(key_len)?, Change::Put(self.take(value_len)?)))
            }
            OP_PUT_OVERFLOW => {
                let pointer_len = usize::from(get_u16(self.take_bytes(2)?, 0));
                let key = self.take(key_len)?;
                let value = Overflow::decode(self.take_bytes(pointer_len)?)?;
                Some((key, Change::PutOverflow(Box::new(value))))
            }
            _ => Some((self.take(key_len)?, Change::Delete)),
        }
    }
}

impl Iterator for Operations<'_> {
    type Item = Result<Operation, Unread>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.frame.len() {
            return None;
        }
        let operation = self.operation();
        if operation.is_err() {
            self.at = self.frame.len();
        }
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::format::Ptr;
    use proptest::prelude::*;

    #[test]
    fn a_frame_reads_back() {
        let mut builder = FrameBuilder::new();
        builder.put(17, b"key", b"value");
        builder.delete(17, b"other");
        builder.put_overflow(18, b"long", &Overflow::whole(Ptr { page: 9, crc: 3 }, 70000, 4));
        builder.drop_table(19);
        let header = FrameHeader {
            previous_crc: 1,
            kind: FrameKind::Commit,
            relaxed: true,
            changes_tables: true,
            lsn: 5,
            position: 4096,
            root_sequence: 2,
            durable_lsn: 4,
            time: 99,
            payload_len: builder.payload_len().unwrap(),
            operations: builder.operations(),
        };
        let (bytes, crc) = builder.finish(77, &header);
        let (read, read_crc) = FrameHeader::decode(bytes).unwrap();
        assert_eq!((read, read_crc), (header, crc));
        let end = FRAME_HEADER + header.payload_len as usize;
        assert_eq!(frame_crc(77, &bytes[8..end]), crc);
        assert_ne!(frame_crc(78, &bytes[8..end]), crc);
        let operations = read_operations(&bytes[..end]).unwrap();
        assert_eq!(operations.len(), 4);
        assert!(matches!(&operations[0], Operation::Change { table: 17, key, change: Change::Put(value) }
            if key.of(bytes) == b"key" && value.of(bytes) == b"value"));
        assert!(matches!(&operations[3], Operation::DropTable { table: 19 }));
    }

    #[test]
    fn a_frame_has_a_limit() {
        // (Zeros that nobody touches take no memory.)
        let long = |payload: u64| {
            let bytes = vec![0; usize::try_from(FRAME_HEADER as u64 + payload).unwrap()];
            FrameBuilder { bytes, operations: 1, changes_tables: false }
        };
        let most = u64::from(MAX_FRAME_PAYLOAD);
        assert_eq!(long(most).payload_len().unwrap(), MAX_FRAME_PAYLOAD);
        for size in [most + 1, (1 << 32) + 100] {
            let refused = long(size).payload_len();
            assert!(matches!(refused, Err(Error::TooLarge { size: found, .. }) if found == size), "{refused:?}");
        }
        // Nor is one read, whatever its checksum says.
        let header = |len: u32| {
            let mut bytes = [0; FRAME_HEADER];
            put_u32(&mut bytes, 0, FRAME_MAGIC);
            put_u32(&mut bytes, 12, u32::from(KIND_COMMIT));
            put_u32(&mut bytes, 56, len);
            FrameHeader::decode(&bytes).map(|(header, _)| header.frame_len())
        };
        assert_eq!(header(MAX_FRAME_PAYLOAD), Some(FRAME_HEADER as u64 + most));
        assert_eq!([header(MAX_FRAME_PAYLOAD + 1), header(u32::MAX)], [None, None]);
    }

    proptest! {
        #[test]
        fn any_frame_is_read_without_panic(frame in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut last = true;
            for operation in Operations::of(&frame) {
                prop_assert!(last, "nothing comes after a broken operation");
                last = operation.is_ok();
            }
            let _ = (FrameHeader::decode(&frame), frame.len() >= FRAME_HEADER && read_operations(&frame).is_ok());
        }
    }
}
