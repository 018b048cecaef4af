//! Keeping the journal: a checkpoint adds to it what it applies, and removes the oldest records beyond the bound, in
//! the root that it makes.

use crate::change::Change;
use crate::direction::Direction;
use crate::disk::format::{JOURNAL_COVERS, JOURNAL_PART, TABLE_JOURNAL};
use crate::engine::changes::Changes;
use crate::engine::commit_record::{TableNames, Touch, crc_of};
use crate::engine::feed::{Covered, Mark, part_key, part_of};
use crate::engine::new_root::NewRoot;
use crate::engine::view::View;
use crate::error::Result;
use crate::log::reader::Point;
use crate::tree::cursor::Cursor;
use std::collections::VecDeque;
use std::ops::Bound;

/// The records that a root adds, no more bytes than the bound allows: the newest ones.
struct Added {
    bound: u64,
    bytes: u64,
    records: VecDeque<(Mark, Vec<u8>)>,
    /// The newest transaction of which there is no record, and after which there are all.
    floor: Option<Mark>,
    end: Option<Mark>,
}

/// Bytes of a record in the journal, with its keys.
fn stored_bytes(record: &[u8]) -> u64 {
    let parts = record.len().div_ceil(JOURNAL_PART);
    (record.len() + parts * part_key(0, 0).len()) as u64
}

impl Added {
    /// Adds the record of the next transaction; `None`: it would be longer than the bound.
    fn add(&mut self, mark: Mark, record: Option<Vec<u8>>) {
        self.end = Some(mark);
        let Some(record) = record else {
            (self.floor, self.bytes) = (Some(mark), 0);
            return self.records.clear();
        };
        self.bytes += stored_bytes(&record);
        self.records.push_back((mark, record));
        while self.bytes > self.bound {
            let Some((mark, record)) = self.records.pop_front() else { break };
            self.bytes -= stored_bytes(&record);
            self.floor = Some(mark);
        }
    }
}

/// Adds what the root `new` applies to the journal, if the store has one: the log of `view`, or one transaction too
/// large for the log, which follows the log's end.
pub(crate) fn keep_journal(view: &View, new: &mut NewRoot<'_>, large: Option<(Point, &Changes)>) -> Result<()> {
    #[cfg(test)]
    if KEEPS_NONE.get() {
        return Ok(());
    }
    let Some(bound) = view.journal_bound()? else {
        return new.drop_table(TABLE_JOURNAL);
    };
    let added = added(view, large, bound)?;
    let Some(end) = added.end else { return Ok(()) };
    let before = view.tree.journal()?;
    // What is not there yet begins with the first transaction of this root.
    let room = if added.floor.is_none() && before.is_some() { bound - added.bytes } else { 0 };
    let (removed, cut) = beyond(view, room)?;
    let mut records = added.records;
    let kept_from = before.map(|before| cut.unwrap_or(before.floor));
    let floor = match added.floor.or(kept_from) {
        Some(floor) => floor,
        None => records.pop_front().map_or(end, |(mark, _)| mark),
    };
    let gone = removed.into_iter().map(|key| (key, Change::Delete));
    let there = records.iter().flat_map(|(mark, record)| {
        let parts = (0..).zip(record.chunks(JOURNAL_PART));
        parts.map(|(part, bytes)| (part_key(mark.lsn, part).to_vec(), Change::Put(bytes)))
    });
    let covers = Covered { floor, end }.encode();
    let covers = std::iter::once((JOURNAL_COVERS.to_vec(), Change::Put(&covers[..])));
    new.update(TABLE_JOURNAL, gone.chain(there).chain(covers))
}

/// The records of all that a root applies.
fn added(view: &View, large: Option<(Point, &Changes)>, bound: u64) -> Result<Added> {
    let mut added = Added { bound, bytes: 0, records: VecDeque::new(), floor: None, end: None };
    let root = &view.tree.root;
    let frames = view.transactions_after(root.checkpoint_lsn);
    if frames.is_empty() && large.is_none() {
        return Ok(added);
    }
    let mut names = TableNames::at(view, root.checkpoint_lsn)?;
    for frame in frames {
        let record = names.record(frame.crc, bound, || Touch::all_of(&frame.bytes))?;
        added.add(Mark { lsn: frame.lsn, crc: frame.crc }, record);
    }
    if let Some((end, changes)) = large {
        let record = names.record(end.crc, bound, || touches(changes))?;
        added.add(Mark { lsn: end.lsn + 1, crc: end.crc }, record);
    }
    Ok(added)
}

/// What a transaction that has no frame changes.
fn touches(changes: &Changes) -> impl Iterator<Item = Touch<'_>> {
    let keys = changes.kept_tables();
    let keys = keys.flat_map(|(table, keys)| keys.iter().map(move |(key, change)| (table, key.as_slice(), change)));
    keys.map(|(table, key, change)| match change {
        Change::Put(value) => Touch::Put { table, key, value },
        Change::PutOverflow(_) => Touch::Put { table, key, value: &[] },
        Change::Delete => Touch::Delete { table, key },
    })
}

/// The keys of the oldest records, without which the journal has no more bytes than there is room for, and the newest
/// of those transactions. Without room all of it goes, whatever it holds.
fn beyond(view: &View, room: u64) -> Result<(Vec<Vec<u8>>, Option<Mark>)> {
    let table = view.tree_root(TABLE_JOURNAL)?;
    let (mut keys, mut cut) = (Vec::new(), None);
    let mut bytes = table.bytes;
    let mut cursor = Cursor::new(&view.tree.pages, TABLE_JOURNAL, table);
    cursor.seek(Direction::Forward, Bound::Unbounded)?;
    while let Some((key, row)) = cursor.step(Direction::Forward)? {
        let part = part_of(&key);
        let goes_on = part.is_some_and(|(_, part)| part > 0);
        if bytes <= room && !goes_on || *key == *JOURNAL_COVERS {
            break;
        }
        let row = row.read(&view.tree.pages, TABLE_JOURNAL)?;
        if let Some((lsn, 0)) = part {
            cut = Some(Mark { lsn, crc: crc_of(&row).unwrap_or_default() });
        }
        bytes = bytes.saturating_sub((key.len() + row.len()) as u64);
        keys.push(key.to_vec());
    }
    Ok((keys, cut))
}

#[cfg(test)]
thread_local! {
    /// This thread makes checkpoints like a program that does not know the journal.
    pub(crate) static KEEPS_NONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}
