//! The frames of the log: the chain after a root, and what lies behind a damaged frame.

use crate::error::Result;
use crate::maintain::format::file::File;
use crate::maintain::format::frames::{
    FRAME_HEADER, Frame, KIND_CHECKPOINT, KIND_COMMIT, Op, Ring, frame_at, operations,
};
use crate::maintain::format::slots::Root;

/// So many bytes are searched at once for the start of a frame.
const PIECE: u64 = 1 << 16;

/// A frame that is to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where it lies in the ring of the root; none if it was found elsewhere.
    pub(super) position: Option<u64>,
    /// Where it lies in the file.
    pub(super) offset: u64,
    pub(super) lsn: u64,
    pub(super) operations: u32,
}

/// What a log says from a root on.
#[derive(Default)]
pub(super) struct Log {
    ring: Option<Ring>,
    /// The chain, in order.
    pub(super) chain: Vec<Mark>,
    /// Frames behind the place where the chain breaks though more was committed.
    pub(super) beyond: Vec<Mark>,
    /// The newest LSN of the chain, or of the tree if it is empty.
    pub(super) lsn: u64,
    /// The CRC of the chain's newest frame.
    crc: u32,
    /// The newest LSN of which there is a trace, if it is lost.
    pub(super) lost_to: Option<u64>,
    pub(super) notes: Vec<String>,
    /// A frame of the chain that a newer program has written.
    pub(super) newer: Option<String>,
}

impl Log {
    /// Follows the chain from the root, and searches the ring behind its end.
    pub(super) fn read(file: &File<'_>, root: &Root) -> Log {
        let mut log = Log { lsn: root.checkpoint_lsn, crc: root.log_crc, ..Log::default() };
        for (page, pages) in &root.segments {
            if let Err(why) = file.within(*page, u64::from(*pages)) {
                log.notes.push(format!("a segment of the log: {why}"));
            }
        }
        let ring = match Ring::new(root) {
            Ok(ring) if ring.total > 0 => ring,
            Ok(_) => return log,
            Err(why) => {
                log.notes.push(format!("the log cannot be found: {why}"));
                return log;
            }
        };
        let end = log.follow(file, root, &ring);
        log.search(file, root, &ring, end);
        log.ring = Some(ring);
        log
    }

    /// The chain; gives the position behind it.
    fn follow(&mut self, file: &File<'_>, root: &Root, ring: &Ring) -> u64 {
        let (mut position, mut crc) = (root.log_position, root.log_crc);
        loop {
            let frame = match ring.next(file, position, self.lsn.saturating_add(1), crc) {
                Ok(Some(frame)) => frame,
                Ok(None) => return position,
                Err(why) => {
                    self.notes.push(format!("the log after LSN {}: {why}", self.lsn));
                    return position;
                }
            };
            self.newer = frame.newer();
            if self.newer.is_some() {
                return position;
            }
            if let Err(why) = check(&frame) {
                // It is whole, so its writer must have had a bug; still nothing can be taken from it.
                self.notes.push(format!("the frame of LSN {} makes no sense: {why}", frame.lsn()));
                self.lost_to = Some(frame.lsn());
                return position;
            }
            self.chain.push(mark(ring, &frame));
            (position, crc, self.lsn) = (frame.end(), frame.crc(), frame.lsn());
            self.crc = crc;
        }
    }

    /// Looks for whole frames behind the end of the chain, at any place where one could start. They count only if one of them
    /// proves that something before it was committed: otherwise the end is a torn append, which was never acknowledged.
    fn search(&mut self, file: &File<'_>, root: &Root, ring: &Ring, end: u64) {
        let (mut at, mut spent, mut proof) = (end, 0, self.lost_to);
        let mut found = Vec::new();
        while at < ring.limit() && spent <= 2 * ring.total {
            let len = PIECE.min(ring.limit() - at);
            let mut piece = vec![0; usize::try_from(len).unwrap_or(0)];
            if ring.read(file, &mut piece, at).is_err() {
                at += len;
                continue;
            }
            let starts = (at..).step_by(8).zip(piece.chunks(8)).filter(|(_, bytes)| bytes.starts_with(b"mlf1"));
            let mut next = at + len;
            for (start, _) in starts {
                let wanted = |frame: &Frame| frame.lsn() > self.lsn && frame.claimed_position() >= end;
                let Ok(Some(frame)) = ring.frame(file, start, &mut spent, wanted) else { continue };
                if frame.durable_lsn() > self.lsn || frame.root_sequence() > root.sequence + 1 {
                    proof = proof.max(Some(frame.lsn()));
                }
                if check(&frame).is_ok() {
                    found.push(mark(ring, &frame));
                }
                next = frame.end().max(start + 8);
                break;
            }
            at = next;
        }
        if proof.is_some() {
            found.sort_unstable_by_key(|mark| mark.lsn);
            found.dedup_by_key(|mark| mark.lsn);
            self.lost_to = proof.max(found.last().map(|mark| mark.lsn));
            self.beyond = found;
        }
    }

    /// Reads a frame once more, and tells of its operations.
    pub(super) fn replay(
        &self,
        file: &File<'_>,
        mark: &Mark,
        each: &mut dyn FnMut(u32, Op<'_>) -> Result<()>,
    ) -> Result<()> {
        let frame = match (&self.ring, mark.position) {
            (Some(ring), Some(at)) => ring.frame(file, at, &mut 0, |frame| frame.lsn() == mark.lsn).ok().flatten(),
            _ => frame_at(file, mark.offset, &mut 0),
        };
        let Some(frame) = frame else { return Ok(()) };
        let mut result = Ok(());
        let _ = operations(frame.payload(), frame.operations(), |table, op| {
            result = each(table, op);
            if result.is_ok() { Ok(()) } else { Err(String::new()) }
        });
        result
    }

    /// Takes frames that were found by their bytes alone, anywhere in the file, and that go on where the chain ends: each says
    /// which one it follows.
    pub(super) fn go_on(&mut self, loose: &[Loose]) {
        while let Some(next) = of_lsn(loose, self.lsn + 1).iter().find(|f| f.previous_crc == self.crc) {
            self.chain.push(next.mark);
            (self.lsn, self.crc) = (next.mark.lsn, next.crc);
        }
        self.beyond.retain(|mark| mark.lsn > self.lsn);
        let later = loose.iter().filter(|f| f.mark.lsn > self.lsn && f.durable_lsn > self.lsn).map(|f| f.mark.lsn);
        self.lost_to = self.lost_to.max(later.max()).filter(|lost| *lost > self.lsn);
        if self.lost_to.is_some() {
            self.beyond.extend(loose.iter().filter(|f| f.mark.lsn > self.lsn).map(|f| f.mark));
            self.beyond.sort_unstable_by_key(|mark| mark.lsn);
            self.beyond.dedup_by_key(|mark| mark.lsn);
        }
    }

    /// The log of a store without a root: the newest unbroken chain among the frames that were found, from the record of the
    /// checkpoint that made `version` on. The record is recognised by the root that it names, which was the newest one then.
    pub(super) fn rebuild(version: u64, loose: &[Loose]) -> Log {
        let mut log = Log::default();
        let Some(newest) = loose.iter().max_by_key(|f| f.mark.lsn) else { return log };
        let mut chain = vec![newest];
        while let Some(first) = chain.last()
            && let Some(lsn) = first.mark.lsn.checked_sub(1)
            && let Some(before) = of_lsn(loose, lsn).iter().find(|f| f.crc == first.previous_crc)
        {
            chain.push(before);
        }
        chain.reverse();
        let record = chain.iter().rposition(|f| f.is_checkpoint && f.root_sequence < version);
        if record.is_none() && newest.root_sequence < version {
            log.notes.push("the frames that were found are older than the tree".to_owned());
            return log;
        }
        let links = record.is_some_and(|at| chain.get(at).is_some_and(|f| f.root_sequence + 2 >= version));
        let after = chain.get(record.map_or(0, |at| at + 1)..).unwrap_or_default();
        log.lsn = after.last().map_or(newest.mark.lsn, |f| f.mark.lsn);
        if links {
            log.chain = after.iter().map(|f| f.mark).collect();
        } else {
            log.notes.push("frames were found, but not the checkpoint record that links them to the tree".to_owned());
            log.beyond = after.iter().map(|f| f.mark).collect();
            log.lost_to = Some(log.lsn);
        }
        log
    }
}

/// A frame that was found by its bytes alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loose {
    pub(super) mark: Mark,
    crc: u32,
    previous_crc: u32,
    root_sequence: u64,
    durable_lsn: u64,
    is_checkpoint: bool,
}

impl Loose {
    /// Reads the frame at a byte of the file, if there is one.
    pub(super) fn read(file: &File<'_>, offset: u64, spent: &mut u64) -> Option<Loose> {
        let frame = frame_at(file, offset, spent).filter(|frame| check(frame).is_ok())?;
        Some(Loose {
            mark: Mark { position: None, offset, lsn: frame.lsn(), operations: frame.operations() },
            crc: frame.crc(),
            previous_crc: frame.previous_crc(),
            root_sequence: frame.root_sequence(),
            durable_lsn: frame.durable_lsn(),
            is_checkpoint: frame.kind() == KIND_CHECKPOINT,
        })
    }
}

/// The frames with an LSN, of frames in the order of theirs.
fn of_lsn(loose: &[Loose], lsn: u64) -> &[Loose] {
    let from = loose.partition_point(|f| f.mark.lsn < lsn);
    let rest = loose.get(from..).unwrap_or_default();
    rest.get(..rest.partition_point(|f| f.mark.lsn == lsn)).unwrap_or_default()
}

fn mark(ring: &Ring, frame: &Frame) -> Mark {
    let (position, operations) = (frame.position, frame.operations());
    Mark { position: Some(position), offset: ring.locate(position).0, lsn: frame.lsn(), operations }
}

/// Whether all of a frame is understood.
fn check(frame: &Frame) -> Result<(), String> {
    debug_assert!(frame.bytes.len() >= FRAME_HEADER);
    if let Some(newer) = frame.newer() {
        return Err(newer);
    }
    if frame.kind() != KIND_COMMIT {
        return Ok(());
    }
    operations(frame.payload(), frame.operations(), |_, _| Ok(()))
}
