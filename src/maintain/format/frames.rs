//! The log: where a position of the ring lies in the file, the bytes of a frame, and of its operations.

use std::collections::BTreeSet;

use super::file::File;
use super::slots::Root;
use crate::disk::format::{MAX_FRAME_PAYLOAD, MAX_KEY_SIZE, MAX_VALUE_SIZE, Overflow, get_u16, get_u32, get_u64};

pub(in crate::maintain) const FRAME_MAGIC: [u8; 4] = *b"mlf1";
pub(in crate::maintain) const FRAME_HEADER: usize = 64;
const COVERED: usize = 8;
pub(in crate::maintain) const KIND_COMMIT: u8 = 1;
pub(in crate::maintain) const KIND_CHECKPOINT: u8 = 2;
/// Relaxed durability, and a change of the set of tables.
const FLAGS: u8 = 3;
const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;
const OP_PUT_LONG: u8 = 3;
const OP_DROP: u8 = 4;
const OPERATIONS: [u8; 4] = [OP_PUT, OP_DELETE, OP_PUT_LONG, OP_DROP];
/// What this program knows of frames.
pub(in crate::maintain) const FRAMES_KNOWN: &str =
    "frames of the kinds 1 and 2 with the flags 0x3 and operations 1 to 4";

/// The log's segments, one after the other and round again.
pub(in crate::maintain) struct Ring {
    /// First byte in the file, length.
    segments: Vec<(u64, u64)>,
    pub(in crate::maintain) total: u64,
    /// The unit in which batches are kept apart: a page.
    pub(in crate::maintain) block: u64,
    /// Position at which the live part starts, and where in the ring that is.
    start: u64,
    offset: u64,
}

pub(in crate::maintain) struct Frame {
    pub(in crate::maintain) bytes: Vec<u8>,
    /// Where it was found.
    pub(in crate::maintain) position: u64,
}

impl Frame {
    pub(in crate::maintain) fn crc(&self) -> u32 {
        get_u32(&self.bytes, 4)
    }
    pub(in crate::maintain) fn previous_crc(&self) -> u32 {
        get_u32(&self.bytes, 8)
    }
    pub(in crate::maintain) fn lsn(&self) -> u64 {
        get_u64(&self.bytes, 16)
    }
    pub(in crate::maintain) fn claimed_position(&self) -> u64 {
        get_u64(&self.bytes, 24)
    }
    pub(in crate::maintain) fn root_sequence(&self) -> u64 {
        get_u64(&self.bytes, 32)
    }
    pub(in crate::maintain) fn durable_lsn(&self) -> u64 {
        get_u64(&self.bytes, 40)
    }
    pub(in crate::maintain) fn commit_time(&self) -> u64 {
        get_u64(&self.bytes, 48)
    }
    pub(in crate::maintain) fn kind(&self) -> u8 {
        self.bytes.get(12).copied().unwrap_or(0)
    }
    fn is_whole(&self, file: &File<'_>) -> bool {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&file.store_tag.to_le_bytes());
        crc.update(self.bytes.get(COVERED..).unwrap_or_default());
        crc.finalize() == self.crc()
    }
    /// What a newer program has written into this frame, which is whole: its kind, a flag, or an operation.
    pub(in crate::maintain) fn newer(&self) -> Option<String> {
        let (lsn, flags) = (self.lsn(), self.bytes.get(13).copied().unwrap_or(0));
        if ![KIND_COMMIT, KIND_CHECKPOINT].contains(&self.kind()) {
            return Some(format!("a log frame of kind {} (LSN {lsn})", self.kind()));
        }
        if flags & !FLAGS != 0 || get_u16(&self.bytes, 14) != 0 {
            let reserved = get_u16(&self.bytes, 14);
            return Some(format!("a log frame with the flags {flags:#x} and {reserved:#x} (LSN {lsn})"));
        }
        let (mut rest, mut count) = (self.payload(), 0);
        while count < self.operations() {
            let code = rest.first().copied().filter(|code| !OPERATIONS.contains(code) && rest.len() >= 5);
            if let Some(code) = code {
                return Some(format!("an operation with the code {code} (LSN {lsn})"));
            }
            operation(&mut rest).ok()?;
            count += 1;
        }
        None
    }
    pub(in crate::maintain) fn payload(&self) -> &[u8] {
        self.bytes.get(FRAME_HEADER..).unwrap_or_default()
    }
    pub(in crate::maintain) fn operations(&self) -> u32 {
        get_u32(&self.bytes, 60)
    }
    pub(in crate::maintain) fn end(&self) -> u64 {
        (self.position + self.bytes.len() as u64).next_multiple_of(8)
    }
}

impl Ring {
    pub(in crate::maintain) fn new(root: &Root) -> Result<Ring, String> {
        let page_size = u64::from(root.page_size);
        let segments: Vec<(u64, u64)> = root
            .segments
            .iter()
            .map(|(page, pages)| (u64::from(*page) * page_size, u64::from(*pages) * page_size))
            .collect();
        let total = segments.iter().map(|(_, len)| len).sum::<u64>();
        let ring = Ring { total, block: page_size, start: root.log_position, offset: root.log_offset, segments };
        if !ring.start.is_multiple_of(8) || ring.start > u64::MAX / 2 {
            return Err(format!("a log position of {}", ring.start));
        }
        // Or else frames of different batches, which are kept apart by blocks of the position,
        // would share a block of the disk.
        if ring.offset % ring.block != ring.start % ring.block {
            return Err(format!("log position {} at byte {} of its segment", ring.start, ring.offset));
        }
        if ring.segments.first().is_some_and(|(_, len)| ring.offset >= *len) {
            return Err(format!("the log starts at byte {}, beyond its first segment", ring.offset));
        }
        Ok(ring)
    }

    /// The position just after the last one that a live frame may take.
    pub(in crate::maintain) fn limit(&self) -> u64 {
        self.start + self.total
    }

    /// The byte of the file at which a position lies, and how many bytes follow in its segment.
    pub(in crate::maintain) fn locate(&self, position: u64) -> (u64, u64) {
        let mut at = (self.offset + (position - self.start)) % self.total.max(1);
        for (first, len) in &self.segments {
            if at < *len {
                return (first + at, len - at);
            }
            at -= len;
        }
        (0, 0)
    }

    pub(in crate::maintain) fn read(&self, file: &File<'_>, buf: &mut [u8], position: u64) -> Result<(), String> {
        let mut done = 0;
        while done < buf.len() {
            let (offset, here) = self.locate(position + done as u64);
            let here = usize::try_from(here).unwrap_or(usize::MAX).min(buf.len() - done);
            if here == 0 {
                return Err("it lies outside the log".to_owned());
            }
            file.read(buf.get_mut(done..done + here).unwrap_or_default(), offset)?;
            done += here;
        }
        Ok(())
    }

    /// The frame that starts where a position lies, if one does that is whole and of which `wanted`
    /// approves by the header; `spent` counts the bytes read.
    pub(in crate::maintain) fn frame(
        &self,
        file: &File<'_>,
        position: u64,
        spent: &mut u64,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Option<Frame>, String> {
        let room = self.limit().saturating_sub(position);
        if room < FRAME_HEADER as u64 {
            return Ok(None);
        }
        let mut frame = Frame { bytes: vec![0; FRAME_HEADER], position };
        self.read(file, &mut frame.bytes, position)?;
        let payload = get_u32(&frame.bytes, 56);
        let len = FRAME_HEADER as u64 + u64::from(payload);
        let possible = payload <= MAX_FRAME_PAYLOAD && len <= room;
        if !frame.bytes.starts_with(&FRAME_MAGIC) || !possible || !wanted(&frame) {
            return Ok(None);
        }
        frame.bytes.resize(usize::try_from(len).unwrap_or(FRAME_HEADER), 0);
        self.read(file, &mut frame.bytes, position)?;
        *spent += len;
        Ok((frame.is_whole(file) && wanted(&frame)).then_some(frame))
    }

    /// The next frame of the chain: where the last one ended or, after a seal, at the next block.
    pub(in crate::maintain) fn next(
        &self,
        file: &File<'_>,
        position: u64,
        lsn: u64,
        previous_crc: u32,
    ) -> Result<Option<Frame>, String> {
        let sealed = position.next_multiple_of(self.block);
        let candidates = [Some(position), Some(sealed).filter(|sealed| *sealed != position)];
        for at in candidates.into_iter().flatten() {
            let wanted = |frame: &Frame| {
                frame.claimed_position() == at && frame.lsn() == lsn && frame.previous_crc() == previous_crc
            };
            if let Some(frame) = self.frame(file, at, &mut 0, wanted)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

/// The frame that starts at a byte of the file, wherever a root says the log is, if it is whole and lies in one piece.
/// `spent` counts the bytes read.
pub(in crate::maintain) fn frame_at(file: &File<'_>, offset: u64, spent: &mut u64) -> Option<Frame> {
    let mut frame = Frame { bytes: vec![0; FRAME_HEADER], position: 0 };
    file.read(&mut frame.bytes, offset).ok()?;
    let len = FRAME_HEADER as u64 + u64::from(get_u32(&frame.bytes, 56));
    let end = file.offset(file.pages);
    if !frame.bytes.starts_with(&FRAME_MAGIC) || offset + len > end || len > u64::from(MAX_FRAME_PAYLOAD) {
        return None;
    }
    frame.position = frame.claimed_position();
    frame.bytes.resize(usize::try_from(len).ok()?, 0);
    *spent += len;
    file.read(&mut frame.bytes, offset).ok()?;
    frame.is_whole(file).then_some(frame)
}

/// What one operation of a frame does, and to which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::maintain) enum Op<'p> {
    Put { key: &'p [u8], value: &'p [u8] },
    PutLong { key: &'p [u8], value: Overflow },
    Delete { key: &'p [u8] },
    Drop,
}

/// Takes a payload apart and tells of its operations one by one, with their tables, in the order that the format asks for: drops,
/// then changes by table and key, none of a table that was dropped.
pub(in crate::maintain) fn operations<'p>(
    mut rest: &'p [u8],
    count: u32,
    mut each: impl FnMut(u32, Op<'p>) -> Result<(), String>,
) -> Result<(), String> {
    let mut dropped = BTreeSet::new();
    let mut last: Option<(u32, &[u8])> = None;
    for index in 0..count {
        let wrong = |why: String| format!("operation {index}: {why}");
        let (table, op) = operation(&mut rest).map_err(wrong)?;
        let key = match op {
            Op::Drop if last.is_some() => return Err(wrong(format!("table {table} is dropped after a change"))),
            Op::Drop if !dropped.insert(table) => return Err(wrong(format!("table {table} is dropped twice"))),
            Op::Drop => &[],
            Op::Put { key, .. } | Op::PutLong { key, .. } | Op::Delete { key } => {
                if last.is_some_and(|(before, _)| before > table) {
                    return Err(wrong(format!("table {table} comes too late")));
                }
                if last.is_some_and(|(before, last)| before == table && last >= key) {
                    return Err(wrong("its key does not come after the one before it".to_owned()));
                }
                if dropped.contains(&table) {
                    return Err(wrong(format!("it changes table {table}, which this frame drops")));
                }
                last = Some((table, key));
                key
            }
        };
        if key.len() > MAX_KEY_SIZE {
            return Err(wrong(format!("a key of {} bytes", key.len())));
        }
        each(table, op)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes follow its last operation", rest.len())) }
}

/// Takes the next operation off the front.
fn operation<'p>(rest: &mut &'p [u8]) -> Result<(u32, Op<'p>), String> {
    fn take<'p>(rest: &mut &'p [u8], len: usize, what: &str) -> Result<&'p [u8], String> {
        let (taken, left) = rest.split_at_checked(len).ok_or_else(|| format!("{what} is cut off"))?;
        *rest = left;
        Ok(taken)
    }
    let start = take(rest, 5, "it")?;
    let (code, table) = (start.first().copied().unwrap_or(0), get_u32(start, 1));
    if code == OP_DROP {
        return Ok((table, Op::Drop));
    }
    if !OPERATIONS.contains(&code) {
        return Err(format!("it has the code {code}"));
    }
    let key_len = usize::from(get_u16(take(rest, 2, "a key's length")?, 0));
    let value_len = if code == OP_PUT { get_u32(take(rest, 4, "a value's length")?, 0) } else { 0 };
    if u64::from(value_len) > MAX_VALUE_SIZE {
        return Err(format!("a value of {value_len} bytes"));
    }
    let pointer_len = if code == OP_PUT_LONG { get_u16(take(rest, 2, "a pointer's length")?, 0) } else { 0 };
    let key = take(rest, key_len, "a key")?;
    let op = match code {
        OP_PUT => Op::Put { key, value: take(rest, value_len as usize, "a value")? },
        OP_DELETE => Op::Delete { key },
        _ => match Overflow::decode(take(rest, pointer_len.into(), "a pointer")?) {
            Some(value) => Op::PutLong { key, value },
            None => return Err("a pointer that cannot be".to_owned()),
        },
    };
    Ok((table, op))
}
