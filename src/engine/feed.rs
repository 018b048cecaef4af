//! The transactions after a given one, in their order: first those of the journal, then those of the log.
//!
//! The journal is a table of the tree. It covers the transactions after its floor, up to its end. A checkpoint adds
//! what it applies, in the same root; so the journal of a root goes on where the log starts. A journal whose end is
//! not the newest transaction of its root was not kept by the maker of that root, and counts as absent.

use crate::direction::Direction;
use crate::disk::format::{
    JOURNAL_COVERS, SETTING_JOURNAL, TABLE_JOURNAL, get_u32, get_u64, put_bytes, put_u32, put_u64,
};
use crate::engine::commit_record::{TableNames, Touch, crc_of};
use crate::engine::view::{TreeVersion, View, number_in};
use crate::error::{CorruptionKind, Error, Result};
use crate::log::memtable::LoggedFrame;
use crate::tree::cursor::{Cursor, get};
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

/// A transaction, as a cursor names it. The CRC of its frame tells it from another one that got the same LSN: after a
/// power loss took away a relaxed commit, or in a file that was put back from a copy. (Of a transaction too large for
/// the log, which has no frame, it is that of the frame before it.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) lsn: u64,
    pub(crate) crc: u32,
}

/// What a journal covers: the transactions after `floor`, up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) floor: Mark,
    pub(crate) end: Mark,
}

const COVERED_SIZE: usize = 24;

impl Covered {
    pub(crate) fn encode(&self) -> [u8; COVERED_SIZE] {
        let mut row = [0; COVERED_SIZE];
        for (at, mark) in [(0, self.floor), (12, self.end)] {
            put_u64(&mut row, at, mark.lsn);
            put_u32(&mut row, at + 8, mark.crc);
        }
        row
    }

    fn decode(row: &[u8]) -> Option<Covered> {
        let row = row.first_chunk::<COVERED_SIZE>()?;
        let [floor, end] = [0, 12].map(|at| Mark { lsn: get_u64(row, at), crc: get_u32(row, at + 8) });
        (floor.lsn <= end.lsn).then_some(Covered { floor, end })
    }
}

/// The key of a part of the record of a transaction.
pub(crate) fn part_key(lsn: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    put_bytes(&mut key, 0, &lsn.to_be_bytes());
    put_bytes(&mut key, 8, &part.to_be_bytes());
    key
}

/// The transaction and the number of the part that a key stands for.
pub(crate) fn part_of(key: &[u8]) -> Option<(u64, u32)> {
    let (lsn, part) = key.split_first_chunk::<8>()?;
    let part = part.first_chunk::<4>().filter(|_| part.len() == 4)?;
    Some((u64::from_be_bytes(*lsn), u32::from_be_bytes(*part)))
}

fn damaged(found: String) -> Error {
    Error::corrupt(CorruptionKind::Journal, 0, None, "the records of transactions, one after the other", found)
}

/// Whether the changes after a transaction are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    All,
    /// Only those after this newer transaction.
    Since(u64),
    /// This history has no such transaction.
    Never,
}

impl TreeVersion {
    /// What the journal covers; `None` if it does not end where the log begins, or there is none.
    pub(crate) fn journal(&self) -> Result<Option<Covered>> {
        let table = self.table(TABLE_JOURNAL)?;
        let Some(row) = get(&self.pages, TABLE_JOURNAL, table, JOURNAL_COVERS)? else { return Ok(None) };
        let row = row.read(&self.pages, TABLE_JOURNAL)?;
        let covered =
            Covered::decode(&row).ok_or_else(|| damaged("a first row that says something else".to_owned()))?;
        Ok((covered.end.lsn == self.root.last_commit).then_some(covered))
    }

    /// Whole records after a transaction, until they have this many bytes; none if there are no more.
    pub(crate) fn journaled(&self, after: u64, bytes: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut cursor = Cursor::new(&self.pages, TABLE_JOURNAL, self.table(TABLE_JOURNAL)?);
        let (mut found, mut size): (Vec<(u64, Vec<u8>)>, _) = (Vec::new(), 0);
        let mut next = 0;
        cursor.seek(Direction::Forward, Bound::Included(&part_key(after.saturating_add(1), 0)))?;
        while let Some((key, row)) = cursor.step(Direction::Forward)? {
            if *key == *JOURNAL_COVERS {
                break;
            }
            let (lsn, part) = part_of(&key).ok_or_else(|| damaged(format!("the key {}", key.escape_ascii())))?;
            let row = row.read(&self.pages, TABLE_JOURNAL)?;
            match found.last_mut().filter(|(last, _)| *last == lsn) {
                Some((_, record)) if part == next => record.extend_from_slice(&row),
                None if part == 0 => {
                    if size >= bytes {
                        break;
                    }
                    next = 0;
                    found.push((lsn, row.to_vec()));
                }
                _ => return Err(damaged(format!("part {part} of LSN {lsn} without the one before it"))),
            }
            next += 1;
            size += row.len();
        }
        Ok(found)
    }

    /// The CRC that the journal has for a transaction.
    fn journaled_crc(&self, lsn: u64) -> Result<Option<u32>> {
        let table = self.table(TABLE_JOURNAL)?;
        let Some(row) = get(&self.pages, TABLE_JOURNAL, table, &part_key(lsn, 0))? else { return Ok(None) };
        let row = row.read(&self.pages, TABLE_JOURNAL)?;
        crc_of(&row).map(Some).ok_or_else(|| damaged(format!("a record of {} bytes", row.len())))
    }
}

impl View {
    /// How many bytes the journal may have; `None`: the store has none.
    pub(crate) fn journal_bound(&self) -> Result<Option<u64>> {
        self.setting(SETTING_JOURNAL)?.map(|row| number_in(&row, "a journal's bound of 8 bytes")).transpose()
    }

    /// The newest transaction, and its CRC, unless it is in the tree and no journal tells.
    pub(crate) fn newest_mark(&self) -> Result<(u64, Option<u32>)> {
        let lsn = self.last_commit;
        let crc = match self.transactions_after(lsn.saturating_sub(1)).first() {
            Some(frame) => Some(frame.crc),
            None => self.tree.journal()?.map(|covered| covered.end.crc),
        };
        Ok((lsn, crc))
    }

    /// Whether all changes after a transaction are known; with `crc` `None`, those after an LSN, which may be that of a
    /// checkpoint record.
    ///
    /// Without a journal, the newest transaction of the tree is known by its LSN alone.
    pub(crate) fn knows_since(&self, lsn: u64, crc: Option<u32>) -> Result<Reach> {
        if lsn > self.lsn {
            return Ok(Reach::Never);
        }
        let newest = self.tree.root.last_commit;
        let is_it = |found: Option<u32>| if crc.is_none() || crc == found { Reach::All } else { Reach::Never };
        if lsn > newest {
            let frame = self.transactions_after(lsn - 1).into_iter().next().filter(|frame| frame.lsn == lsn);
            return Ok(is_it(frame.map(|frame| frame.crc)));
        }
        let Some(Covered { floor, .. }) = self.tree.journal()? else {
            return Ok(if lsn == newest { Reach::All } else { Reach::Since(newest) });
        };
        if lsn < floor.lsn {
            return Ok(Reach::Since(floor.lsn));
        }
        Ok(is_it(if lsn == floor.lsn { Some(floor.crc) } else { self.tree.journaled_crc(lsn)? }))
    }

    /// The transactions of the log after this one.
    pub(crate) fn transactions_after(&self, lsn: u64) -> Vec<LoggedFrame> {
        let after = lsn.max(self.tree.root.checkpoint_lsn);
        let memtables = self.memtables.iter().rev().filter(|memtable| !memtable.is_empty());
        memtables.flat_map(|memtable| memtable.transactions(after, self.lsn)).collect()
    }
}

/// The records of the transactions after one that the view knows all changes since.
pub(crate) struct Records {
    view: Arc<View>,
    /// The newest transaction that was read.
    at: u64,
    journaled: VecDeque<(u64, Vec<u8>)>,
    /// The rest of the log, once the journal was read, and the tables as they were before it.
    log: Option<(std::vec::IntoIter<LoggedFrame>, TableNames)>,
}

shows! { self: Records { at: self.at } }

/// Bytes of records that are read from the journal at a time.
const AT_ONCE: usize = 64 << 10;

impl Records {
    pub(crate) fn after(view: &Arc<View>, lsn: u64) -> Records {
        Records { view: Arc::clone(view), at: lsn, journaled: VecDeque::new(), log: None }
    }

    /// The next transaction's LSN and record.
    pub(crate) fn next_record(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let tree = &self.view.tree;
        if self.journaled.is_empty() && self.at < tree.root.last_commit {
            self.journaled = tree.journaled(self.at, AT_ONCE)?.into();
            if self.journaled.is_empty() {
                return Err(damaged(format!("no record after LSN {}", self.at)));
            }
        }
        if let Some((lsn, record)) = self.journaled.pop_front() {
            self.at = lsn;
            return Ok(Some((lsn, record)));
        }
        let (frames, names) = match &mut self.log {
            Some(log) => log,
            log => {
                log.insert((self.view.transactions_after(self.at).into_iter(), TableNames::at(&self.view, self.at)?))
            }
        };
        let Some(LoggedFrame { lsn, crc, bytes }) = frames.next() else { return Ok(None) };
        self.at = lsn;
        let record = names.record(crc, u64::MAX, || Touch::all_of(&bytes))?;
        Ok(record.map(|record| (lsn, record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_and_a_key_read_back() {
        let covered = Covered { floor: Mark { lsn: 3, crc: 4 }, end: Mark { lsn: 5, crc: u32::MAX } };
        let row = covered.encode();
        assert_eq!(Covered::decode(&row), Some(covered));
        assert_eq!(Covered::decode(&[&row[..], b"newer"].concat()), Some(covered));
        assert!((0..row.len()).all(|len| Covered::decode(&row[..len]).is_none()));
        assert_eq!(Covered::decode(&Covered { floor: covered.end, end: covered.floor }.encode()), None);
        assert_eq!(part_of(&part_key(7, 9)), Some((7, 9)));
        assert!(part_key(u64::MAX >> 8, u32::MAX)[..] < *JOURNAL_COVERS);
        assert_eq!([part_of(&[0; 11]), part_of(&[0; 13]), part_of(JOURNAL_COVERS)], [None; 3]);
    }
}
