//! The log: the chain of frames from the checkpoint to the tail, and what may lie behind it.

use super::file::File;
use super::slots::Root;
use super::uses::Use;
use super::{Place, Walk};
use crate::disk::format::{
    LOG_BLOCK, MAX_FRAME_PAYLOAD, MAX_KEY_SIZE, MAX_VALUE_SIZE, OVERFLOW_SIZE, Overflow, get_u16, get_u32, get_u64,
};

const FRAME_MAGIC: [u8; 4] = *b"mlf1";
const FRAME_HEADER: usize = 64;
const COVERED: usize = 8;
const KIND_COMMIT: u8 = 1;
const KIND_ROTATE: u8 = 2;
/// Relaxed durability, and a change of the set of tables.
const FLAGS: u8 = 3;
const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;
const OP_PUT_LONG: u8 = 3;
const OP_DROP: u8 = 4;

/// The log's segments, one after the other and round again.
struct Ring {
    /// First byte in the file, length.
    segments: Vec<(u64, u64)>,
    total: u64,
    /// Position at which the live part starts, and where in the ring that is.
    start: u64,
    offset: u64,
}

struct Frame {
    bytes: Vec<u8>,
    position: u64,
}

impl Frame {
    fn crc(&self) -> u32 {
        get_u32(&self.bytes, 4)
    }
    fn previous_crc(&self) -> u32 {
        get_u32(&self.bytes, 8)
    }
    fn lsn(&self) -> u64 {
        get_u64(&self.bytes, 16)
    }
    fn claimed_position(&self) -> u64 {
        get_u64(&self.bytes, 24)
    }
    fn root_sequence(&self) -> u64 {
        get_u64(&self.bytes, 32)
    }
    fn durable_lsn(&self) -> u64 {
        get_u64(&self.bytes, 40)
    }
    fn commit_time(&self) -> u64 {
        get_u64(&self.bytes, 48)
    }
    fn payload(&self) -> &[u8] {
        self.bytes.get(FRAME_HEADER..).unwrap_or_default()
    }
    fn operations(&self) -> u32 {
        get_u32(&self.bytes, 60)
    }
    fn end(&self) -> u64 {
        (self.position + self.bytes.len() as u64).next_multiple_of(8)
    }
}

impl Ring {
    fn new(root: &Root) -> Result<Ring, String> {
        let page_size = u64::from(root.page_size);
        let segments: Vec<(u64, u64)> = root
            .segments
            .iter()
            .map(|(page, pages)| (u64::from(*page) * page_size, u64::from(*pages) * page_size))
            .collect();
        let total = segments.iter().map(|(_, len)| len).sum::<u64>();
        let ring = Ring { total, start: root.log_position, offset: root.log_offset, segments };
        if !ring.start.is_multiple_of(8) || ring.start > u64::MAX / 2 {
            return Err(format!("a log position of {}", ring.start));
        }
        // Or else frames of different batches, which are kept apart by blocks of the position,
        // would share a block of the disk.
        if ring.offset % LOG_BLOCK != ring.start % LOG_BLOCK {
            return Err(format!("log position {} at byte {} of its segment", ring.start, ring.offset));
        }
        if ring.segments.first().is_some_and(|(_, len)| ring.offset >= *len) {
            return Err(format!("the log starts at byte {}, beyond its first segment", ring.offset));
        }
        Ok(ring)
    }

    /// The position just after the last one that a live frame may take.
    fn limit(&self) -> u64 {
        self.start + self.total
    }

    /// The byte of the file at which a position lies, and how many bytes follow in its segment.
    fn locate(&self, position: u64) -> (u64, u64) {
        let mut at = (self.offset + (position - self.start)) % self.total.max(1);
        for (first, len) in &self.segments {
            if at < *len {
                return (first + at, len - at);
            }
            at -= len;
        }
        (0, 0)
    }

    fn read(&self, file: &File<'_>, buf: &mut [u8], position: u64) -> Result<(), String> {
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
    fn frame(
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
        let mut crc = crc32fast::Hasher::new();
        crc.update(&file.store_tag.to_le_bytes());
        crc.update(frame.bytes.get(COVERED..).unwrap_or_default());
        Ok((crc.finalize() == frame.crc() && wanted(&frame)).then_some(frame))
    }

    /// The next frame of the chain: where the last one ended or, after a seal, at the next block.
    fn next(&self, file: &File<'_>, position: u64, lsn: u64, previous_crc: u32) -> Result<Option<Frame>, String> {
        let sealed = position.next_multiple_of(LOG_BLOCK);
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

impl Walk<'_> {
    /// Marks the log's pages; `false` if its segments make no sense.
    pub(super) fn claim_log(&mut self) -> bool {
        let mut sound = true;
        for (page, pages) in self.root.segments.clone() {
            match self.file.within(page, u64::from(pages)) {
                Ok(()) => sound &= self.claim(page, pages, Use::Log, None),
                Err(why) => {
                    self.findings.damage(Place::byte(self.root.offset), format!("a log segment: {why}"));
                    sound = false;
                }
            }
        }
        sound
    }

    pub(super) fn log(&mut self) {
        if !self.claim_log() {
            return;
        }
        let ring = match Ring::new(&self.root) {
            Ok(ring) => ring,
            Err(why) => return self.findings.damage(Place::byte(self.root.offset), why),
        };
        self.findings.report.log_capacity = ring.total;
        let (mut position, mut lsn, mut crc) = (self.root.log_position, self.root.checkpoint_lsn, self.root.log_crc);
        let mut suspected = None;
        let mut newer_root = None;
        loop {
            let next = match ring.next(&self.file, position, lsn.saturating_add(1), crc) {
                Ok(next) => next,
                Err(why) => {
                    self.findings.damage(Place::byte(ring.locate(position).0), format!("the log: {why}"));
                    break;
                }
            };
            if let Some(frame) = next {
                self.frame(&ring, &frame);
                // One more may be a twin that never became durable: it said what this root says.
                if frame.root_sequence() > self.root.sequence + 1 {
                    newer_root.get_or_insert((frame.position, frame.lsn(), frame.root_sequence()));
                }
                (position, lsn, crc) = (frame.end(), frame.lsn(), frame.crc());
                continue;
            }
            // A writer may have appended between the look at the end and the look behind it, so
            // what is found there counts only if the end stays where it is.
            let proof = self.behind(&ring, position, lsn);
            if proof.is_none() || suspected == Some(position) {
                if let Some(why) = proof {
                    let place = Place::byte(ring.locate(position).0);
                    self.findings.damage(place, format!("the log breaks off after LSN {lsn}: {why}"));
                }
                break;
            }
            suspected = Some(position);
        }
        if let Some((at, lsn, newer)) = newer_root {
            let here = self.root.sequence;
            self.findings.damage(
                Place::byte(ring.locate(at).0),
                format!("when LSN {lsn} was written root {newer} was durable, but the slots hold only root {here}"),
            );
        }
        self.findings.report.lsn = lsn;
        self.findings.report.log_bytes = position - self.root.log_position;
    }

    /// Looks behind the end of the chain, where a torn append leaves nothing of worth, for a frame
    /// which proves that committed data stood before it.
    fn behind(&mut self, ring: &Ring, position: u64, last: u64) -> Option<String> {
        let (mut spent, newest) = (0, self.root.sequence);
        let mut at = position.next_multiple_of(LOG_BLOCK);
        while at < ring.limit() {
            // It may name a position of the ring as a newer root, now lost, laid it out.
            let wanted = |frame: &Frame| {
                let later = frame.lsn() > last && frame.claimed_position() >= position;
                later && (frame.durable_lsn() > last || frame.root_sequence() > newest + 1)
            };
            match ring.frame(&self.file, at, &mut spent, wanted) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    let (lsn, durable) = (frame.lsn(), frame.durable_lsn());
                    return Some(format!(
                        "LSN {lsn} follows at log position {at}, written when LSN {durable} was durable"
                    ));
                }
                Err(why) => return Some(format!("at log position {at}, {why}")),
            }
            // Real frames do not overlap, so together they are no longer than the ring.
            if spent > 2 * ring.total {
                return Some("so many overlapping frames follow that they cannot be genuine".to_owned());
            }
            at += LOG_BLOCK;
        }
        None
    }

    /// One frame of the chain.
    fn frame(&mut self, ring: &Ring, frame: &Frame) {
        self.findings.report.log_frames += 1;
        self.findings.report.commit_time_us = frame.commit_time();
        let place = Place::byte(ring.locate(frame.position).0);
        let (kind, flags) = (frame.bytes.get(12).copied().unwrap_or(0), frame.bytes.get(13).copied().unwrap_or(0));
        let content = match kind {
            _ if flags & !FLAGS != 0 || get_u16(&frame.bytes, 14) != 0 => {
                Err("reserved bits of its header are set".to_owned())
            }
            KIND_COMMIT => operations(frame.payload(), frame.operations()),
            KIND_ROTATE if frame.payload().is_empty() && frame.operations() == 0 => Ok(Vec::new()),
            KIND_ROTATE => Err("a mark with operations".to_owned()),
            _ => Err(format!("its kind is {kind}")),
        };
        match content {
            Ok(values) => {
                for (table, long) in values {
                    self.long_value(long, table, Use::LogValue, place);
                }
            }
            Err(why) => self.findings.damage(place, format!("the frame of LSN {}: {why}", frame.lsn())),
        }
    }
}

/// Takes a payload apart; gives the long values that it names.
fn operations(mut rest: &[u8], count: u32) -> Result<Vec<(u32, Overflow)>, String> {
    fn take<'p>(rest: &mut &'p [u8], len: usize, what: &str) -> Result<&'p [u8], String> {
        let (taken, left) = rest.split_at_checked(len).ok_or_else(|| format!("{what} is cut off"))?;
        *rest = left;
        Ok(taken)
    }
    let mut values = Vec::new();
    let mut last: Option<(u32, &[u8])> = None;
    for index in 0..count {
        let start = take(&mut rest, 5, "an operation")?;
        let (code, table) = (start.first().copied().unwrap_or(0), get_u32(start, 1));
        if last.is_some_and(|(before, _)| before > table) {
            return Err(format!("operation {index}: table {table} comes too late"));
        }
        if code == OP_DROP {
            // What follows for the same table starts again with an empty one.
            last = None;
            continue;
        }
        let key_len = usize::from(get_u16(take(&mut rest, 2, "a key's length")?, 0));
        let value_len = match code {
            OP_PUT => get_u32(take(&mut rest, 4, "a value's length")?, 0),
            OP_DELETE | OP_PUT_LONG => 0,
            _ => return Err(format!("operation {index} has the code {code}")),
        };
        if key_len > MAX_KEY_SIZE || u64::from(value_len) > MAX_VALUE_SIZE {
            return Err(format!("operation {index}: a key of {key_len} bytes, a value of {value_len}"));
        }
        let key = take(&mut rest, key_len, "a key")?;
        if last.is_some_and(|(before, last)| before == table && last >= key) {
            return Err(format!("operation {index}: its key does not come after the one before it"));
        }
        last = Some((table, key));
        take(&mut rest, value_len as usize, "a value")?;
        if code == OP_PUT_LONG
            && let Some(long) = Overflow::decode(take(&mut rest, OVERFLOW_SIZE, "a pointer")?)
        {
            values.push((table, long));
        }
    }
    if rest.is_empty() { Ok(values) } else { Err(format!("{} bytes follow its last operation", rest.len())) }
}
