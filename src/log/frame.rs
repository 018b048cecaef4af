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

use crate::disk::format::{
    MAX_FRAME_PAYLOAD, MAX_KEY_SIZE, Overflow, TABLE_NAMES, get_u16, get_u32, get_u64, put_u32, put_u64,
};
use crate::error::{Error, LimitKind, Result};

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
    /// a newer program: see [`newer_in`].
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

/// What a newer program has written into a frame, which is whole: its kind, a flag, or an operation that this one does
/// not know.
pub(crate) fn newer_in(frame: &[u8]) -> Option<String> {
    let [kind, flags, reserved @ ..] = get_u32(frame, 12).to_le_bytes();
    if ![KIND_COMMIT, KIND_CHECKPOINT].contains(&kind) {
        return Some(format!("a log frame of kind {kind}"));
    }
    if flags & !(FLAG_RELAXED | FLAG_TABLES) != 0 || reserved != [0, 0] {
        return Some(format!("a log frame with the flags {flags:#x} and {:#x}", u16::from_le_bytes(reserved)));
    }
    let mut operations = Operations::new(frame.get(FRAME_HEADER..).unwrap_or_default());
    while operations.next().flatten().is_some() {}
    operations.unknown.map(|code| format!("an operation with the code {code}"))
}

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
    pub(crate) fn payload_len(&self) -> Result<u32> {
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

/// One operation of a frame's payload. Keys and values are ranges of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Put { table: u32, key: std::ops::Range<usize>, value: std::ops::Range<usize> },
    PutOverflow { table: u32, key: std::ops::Range<usize>, value: Box<Overflow> },
    Delete { table: u32, key: std::ops::Range<usize> },
    DropTable { table: u32 },
}

/// The operations of a payload. An item of `None` means that the rest is invalid.
pub(crate) struct Operations<'a> {
    payload: &'a [u8],
    at: usize,
    /// The code of an operation that this program does not know, which ended it.
    unknown: Option<u8>,
}

impl<'a> Operations<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Operations<'a> {
        Operations { payload, at: 0, unknown: None }
    }

    fn take(&mut self, len: usize) -> Option<std::ops::Range<usize>> {
        let range = self.at..self.at.checked_add(len)?;
        self.payload.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }

    fn operation(&mut self) -> Option<Operation> {
        let head = self.take(5)?;
        let head = self.payload.get(head)?;
        let (code, table) = (*head.first()?, get_u32(head, 1));
        if code == OP_DROP_TABLE {
            return Some(Operation::DropTable { table });
        }
        if ![OP_PUT, OP_DELETE, OP_PUT_OVERFLOW].contains(&code) {
            self.unknown = Some(code);
            return None;
        }
        let key_len = usize::from(get_u16(self.payload.get(self.take(2)?)?, 0));
        if key_len > MAX_KEY_SIZE {
            return None;
        }
        match code {
            OP_PUT => {
                let value_len = get_u32(self.payload.get(self.take(4)?)?, 0) as usize;
                let key = self.take(key_len)?;
                Some(Operation::Put { table, key, value: self.take(value_len)? })
            }
            OP_DELETE => Some(Operation::Delete { table, key: self.take(key_len)? }),
            OP_PUT_OVERFLOW => {
                let pointer_len = usize::from(get_u16(self.payload.get(self.take(2)?)?, 0));
                let key = self.take(key_len)?;
                let value = Overflow::decode(self.payload.get(self.take(pointer_len)?)?)?;
                Some(Operation::PutOverflow { table, key, value: Box::new(value) })
            }
            _ => None,
        }
    }
}

impl Iterator for Operations<'_> {
    type Item = Option<Operation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.payload.len() {
            return None;
        }
        let operation = self.operation();
        if operation.is_none() {
            self.at = self.payload.len();
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
        let payload = &bytes[FRAME_HEADER..end];
        let operations: Vec<_> = Operations::new(payload).map(Option::unwrap).collect();
        assert_eq!(operations.len(), 4);
        assert!(matches!(&operations[0], Operation::Put { table: 17, key, value }
            if &payload[key.clone()] == b"key" && &payload[value.clone()] == b"value"));
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
        fn any_payload_is_read_without_panic(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut last = true;
            for operation in Operations::new(&payload) {
                prop_assert!(last, "nothing comes after a broken operation");
                last = operation.is_some();
            }
            let _ = FrameHeader::decode(&payload);
        }
    }
}
