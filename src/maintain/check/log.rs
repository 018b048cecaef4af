//! The log: the chain of frames from the checkpoint to the tail, and what may lie behind it.

use super::uses::Use;
use super::{Place, Walk};
use crate::error::{Error, Result};
use crate::maintain::format::frames::{FRAMES_KNOWN, Frame, KIND_CHECKPOINT, KIND_COMMIT, Op, Ring, operations};

impl Walk<'_, '_> {
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

    /// A frame that a newer program has written is an error: whatever follows cannot be judged.
    pub(super) fn log(&mut self) -> Result<()> {
        if !self.claim_log() {
            return Ok(());
        }
        let ring = match Ring::new(&self.root) {
            Ok(ring) => ring,
            Err(why) => {
                self.findings.damage(Place::byte(self.root.offset), why);
                return Ok(());
            }
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
                if let Some(found) = frame.newer() {
                    let path = self.file.disk.path();
                    return Err(Error::newer(path, found, FRAMES_KNOWN));
                }
                self.frame(&ring, &frame);
                // A root newer by one may be a copy that never became durable: it has the content of this root.
                if frame.root_sequence() > self.root.sequence + 1 {
                    newer_root.get_or_insert((frame.position, frame.lsn(), frame.root_sequence()));
                }
                (position, lsn, crc) = (frame.end(), frame.lsn(), frame.crc());
                continue;
            }
            // A writer may have appended between the two reads, so what is found behind the end counts only if
            // the end is unchanged.
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
        Ok(())
    }

    /// Searches behind the end of the chain, where a torn append leaves nothing of value, for a frame that proves
    /// that committed data preceded it.
    fn behind(&mut self, ring: &Ring, position: u64, last: u64) -> Option<String> {
        let (mut spent, newest) = (0, self.root.sequence);
        let mut at = position.next_multiple_of(ring.block);
        while at < ring.limit() {
            // The frame may give a position in the ring as a newer root, now lost, laid it out.
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
            at += ring.block;
        }
        None
    }

    /// One frame of the chain.
    fn frame(&mut self, ring: &Ring, frame: &Frame) {
        self.findings.report.log_frames += 1;
        self.findings.report.commit_time_us = frame.commit_time();
        let place = Place::byte(ring.locate(frame.position).0);
        let mut values = Vec::new();
        let logged = &mut self.logged;
        let content = match frame.kind() {
            _ if frame.durable_lsn() >= frame.lsn() => {
                Err(format!("it says that LSN {} was durable before it was written", frame.durable_lsn()))
            }
            KIND_COMMIT => operations(frame.payload(), frame.operations(), |table, op| {
                if let Op::PutLong { value, .. } = op {
                    values.push((table, value));
                }
                logged.see(place.offset, frame.lsn(), table, op)
            }),
            KIND_CHECKPOINT if frame.payload().is_empty() && frame.operations() == 0 => Ok(()),
            _ => Err("a checkpoint record with operations".to_owned()),
        };
        match content {
            Ok(()) => {
                for (table, long) in values {
                    self.logged_value(long, table, place);
                }
            }
            Err(why) => self.findings.damage(place, format!("the frame of LSN {}: {why}", frame.lsn())),
        }
    }
}
