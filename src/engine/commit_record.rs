//! What one transaction changed, without the values, as bytes: what the journal keeps, and the feed gives.
//!
//! `u32` CRC of the transaction's frame, then entries: a table and what became of it, or a key of the table before it.
//! A table is named as it was called after the transaction (a dropped one, before it).

use crate::change::Change;
use crate::direction::Direction;
use crate::disk::format::{FIRST_USER_TABLE, TABLE_NAMES, get_u32, put_sized, take, take_all, take_sized};
use crate::engine::table_row::{TableEntry, name_of_row};
use crate::engine::view::View;
use crate::error::Result;
use crate::log::frame::{Operation, Operations};
use crate::tree::cursor::Cursor;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The following keys are of this table: `u32` id, `u16` length of its name, its name.
const TABLE: u8 = 1;
/// `u16` length of the key, key.
const PUT: u8 = 2;
const DELETED: u8 = 3;
/// As [`TABLE`]; the table is new.
const CREATED: u8 = 4;
/// As [`TABLE`]; the table is gone.
const DROPPED: u8 = 5;
/// As [`TABLE`]; all its rows are gone.
const CLEARED: u8 = 6;
/// As [`TABLE`], then `u16` length of the name that it had before, and that name.
const RENAMED: u8 = 7;

/// Bytes of the CRC before the entries.
const HEAD: usize = 4;

/// One entry of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry<'r> {
    Table(&'r str),
    Created(&'r str),
    Dropped(&'r str),
    Cleared(&'r str),
    Renamed { table: &'r str, from: &'r str },
    Put(&'r [u8]),
    Deleted(&'r [u8]),
}

/// A change of a transaction, whatever it is read from. (That a table is dropped shows in the names.)
#[derive(Debug, Clone, Copy)]
pub(crate) enum Touch<'a> {
    /// The value is that of a row of the names table; it may be absent for other tables.
    Put {
        table: u32,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        table: u32,
        key: &'a [u8],
    },
}

impl<'a> Touch<'a> {
    /// The changes of a frame that was read before, and is sound.
    pub(crate) fn all_of(frame: &'a [u8]) -> impl Iterator<Item = Touch<'a>> {
        Operations::of(frame).flatten().filter_map(move |operation| match operation {
            Operation::Change { table, key, change: Change::Delete } => {
                Some(Touch::Delete { table, key: key.of(frame) })
            }
            Operation::Change { table, key, change } => {
                let value = if let Change::Put(value) = change { value.of(frame) } else { &[] };
                Some(Touch::Put { table, key: key.of(frame), value })
            }
            Operation::DropTable { .. } => None,
        })
    }
}

/// The names of the tables of one state, by their ids. It follows the log, transaction by transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableNames(BTreeMap<u32, Box<str>>);

impl TableNames {
    /// The tables of a view as they were after the transaction `lsn`, which the view's tree has, or its log.
    pub(crate) fn at(view: &View, lsn: u64) -> Result<TableNames> {
        let mut by_name = BTreeMap::new();
        let pages = &view.tree.pages;
        let mut cursor = Cursor::new(pages, TABLE_NAMES, view.tree_root(TABLE_NAMES)?);
        cursor.seek(Direction::Forward, Bound::Unbounded)?;
        while let Some((name, row)) = cursor.step(Direction::Forward)? {
            note(&mut by_name, &name, Some(&row.read(pages, TABLE_NAMES)?))?;
        }
        for memtable in view.memtables.iter().rev().filter(|memtable| memtable.touches(TABLE_NAMES)) {
            for (name, change) in memtable.versions(TABLE_NAMES, lsn) {
                let row = match &change {
                    Change::Put(row) => Some(&row[..]),
                    _ => None,
                };
                note(&mut by_name, &name, row)?;
            }
        }
        Ok(TableNames(by_name.into_iter().map(|(name, id)| (id, name)).collect()))
    }

    /// The record of the next transaction. `None` if it would be longer than `limit`.
    pub(crate) fn record<'a, I: Iterator<Item = Touch<'a>>>(
        &mut self,
        crc: u32,
        limit: u64,
        touches: impl Fn() -> I,
    ) -> Result<Option<Vec<u8>>> {
        let mut record = crc.to_le_bytes().to_vec();
        self.follow(&mut record, touches())?;
        let mut current = None;
        for touch in touches() {
            let (table, code, key) = match touch {
                Touch::Put { table, key, .. } => (table, PUT, key),
                Touch::Delete { table, key } => (table, DELETED, key),
            };
            // (A table without a name is one that no transaction can open.)
            let Some(name) = self.0.get(&table).filter(|_| table >= FIRST_USER_TABLE) else { continue };
            if current.replace(table) != Some(table) {
                put_table(&mut record, TABLE, table, name);
            }
            record.push(code);
            put_sized(&mut record, key);
            if record.len() as u64 > limit {
                return Ok(None);
            }
        }
        Ok((record.len() as u64 <= limit).then_some(record))
    }

    /// Takes in what the transaction does to tables, and records it.
    fn follow<'a>(&mut self, record: &mut Vec<u8>, touches: impl Iterator<Item = Touch<'a>>) -> Result<()> {
        let mut by_name = None;
        for touch in touches {
            let (name, row) = match touch {
                Touch::Put { table: TABLE_NAMES, key, value } => (key, Some(value)),
                Touch::Delete { table: TABLE_NAMES, key } => (key, None),
                _ => continue,
            };
            let of = || self.0.iter().map(|(id, name)| (name.clone(), *id)).collect();
            note(by_name.get_or_insert_with(of), name, row)?;
        }
        let Some(by_name) = by_name else { return Ok(()) };
        let after = by_name.iter().map(|(name, id)| (*id, name.clone())).collect();
        let before = std::mem::replace(&mut self.0, after);
        let mut cleared = BTreeSet::new();
        for (id, name) in before.iter().filter(|(id, _)| !self.0.contains_key(id)) {
            // A table that is cleared goes on under another id.
            match by_name.get(name).filter(|id| !before.contains_key(id)) {
                Some(id) => _ = cleared.insert(*id),
                None => put_table(record, DROPPED, *id, name),
            }
        }
        for (id, name) in &self.0 {
            if let Some(from) = before.get(id).filter(|from| *from != name) {
                put_table(record, RENAMED, *id, name);
                put_sized(record, from.as_bytes());
            }
        }
        for (id, name) in self.0.iter().filter(|(id, _)| !before.contains_key(id)) {
            put_table(record, if cleared.contains(id) { CLEARED } else { CREATED }, *id, name);
        }
        Ok(())
    }
}

/// Takes in a row of the names table; `None`: it is deleted.
fn note(by_name: &mut BTreeMap<Box<str>, u32>, name: &[u8], row: Option<&[u8]>) -> Result<()> {
    let text = name_of_row(name)?.into_boxed_str();
    match row {
        Some(row) => _ = by_name.insert(text, TableEntry::of_row(name, row)?.id),
        None => _ = by_name.remove(&text),
    }
    Ok(())
}

fn put_table(record: &mut Vec<u8>, code: u8, id: u32, name: &str) {
    record.push(code);
    record.extend_from_slice(&id.to_le_bytes());
    put_sized(record, name.as_bytes());
}

/// The CRC that a record begins with.
pub(crate) fn crc_of(record: &[u8]) -> Option<u32> {
    record.first_chunk::<HEAD>().map(|crc| u32::from_le_bytes(*crc))
}

/// The entries of a record. An item of `None` means that the rest is no record.
pub(crate) fn entries(record: &[u8]) -> impl Iterator<Item = Option<Entry<'_>>> {
    take_all(record.get(HEAD..).unwrap_or_default(), take_entry)
}

fn take_entry<'r>(rest: &mut &'r [u8]) -> Option<Entry<'r>> {
    Some(match *take(rest, 1)?.first()? {
        TABLE => Entry::Table(take_table(rest)?),
        CREATED => Entry::Created(take_table(rest)?),
        DROPPED => Entry::Dropped(take_table(rest)?),
        CLEARED => Entry::Cleared(take_table(rest)?),
        RENAMED => Entry::Renamed { table: take_table(rest)?, from: take_text(rest)? },
        PUT => Entry::Put(take_sized(rest)?),
        DELETED => Entry::Deleted(take_sized(rest)?),
        _ => return None,
    })
}

fn take_table<'r>(rest: &mut &'r [u8]) -> Option<&'r str> {
    let id = get_u32(take(rest, 4)?, 0);
    take_text(rest).filter(|_| id >= FIRST_USER_TABLE)
}

fn take_text<'r>(rest: &mut &'r [u8]) -> Option<&'r str> {
    std::str::from_utf8(take_sized(rest)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(tables: &[(u32, &str)]) -> TableNames {
        TableNames(tables.iter().map(|(id, name)| (*id, (*name).into())).collect())
    }

    fn row(id: u32) -> Vec<u8> {
        TableEntry::new(id, "bytes", "bytes").encode()
    }

    /// The entries of the record of one transaction, and the names after it.
    fn follow(before: &[(u32, &str)], touches: &[Touch<'_>]) -> (Vec<String>, TableNames) {
        let mut names = names(before);
        let record = names.record(7, u64::MAX, || touches.iter().copied()).unwrap().unwrap();
        assert_eq!(crc_of(&record), Some(7));
        let less = record.len() as u64 - 1;
        assert_eq!(super::tests::names(before).record(7, less, || touches.iter().copied()).unwrap(), None);
        (entries(&record).map(|entry| format!("{:?}", entry.unwrap())).collect(), names)
    }

    fn put<'a>(table: u32, key: &'a [u8], value: &'a [u8]) -> Touch<'a> {
        Touch::Put { table, key, value }
    }

    #[test]
    fn what_becomes_of_tables_is_told_by_names() {
        let (r16, r17, r18) = (row(16), row(17), row(18));
        let gone = |key: &'static [u8]| Touch::Delete { table: TABLE_NAMES, key };
        let name = |key: &'static [u8], row| put(TABLE_NAMES, key, row);
        let (found, after) = follow(&[], &[name(b"a", &r16), put(16, b"k", b"v")]);
        assert_eq!(found, ["Created(\"a\")", "Table(\"a\")", "Put([107])"]);
        assert_eq!(after, names(&[(16, "a")]));
        // Cleared, and written to.
        let (found, after) = follow(&[(16, "a")], &[name(b"a", &r17), put(17, b"k", b"v")]);
        assert_eq!(found, ["Cleared(\"a\")", "Table(\"a\")", "Put([107])"]);
        assert_eq!(after, names(&[(17, "a")]));
        // Two that change their names with each other; a third that gets a new one; keys of each, by the new names.
        let swap = [name(b"a", &r17), name(b"b", &r16), gone(b"c"), name(b"d", &r18)];
        let keys = [Touch::Delete { table: 16, key: b"k" }, put(18, b"l", b"v")];
        let (found, after) = follow(&[(16, "a"), (17, "b"), (18, "c")], &[&swap[..], &keys[..]].concat());
        let renamed = [("b", "a"), ("a", "b"), ("d", "c")]
            .map(|(table, from)| format!("{:?}", Entry::Renamed { table, from }))
            .to_vec();
        let rows = ["Table(\"b\")", "Deleted([107])", "Table(\"d\")", "Put([108])"].map(str::to_owned).to_vec();
        assert_eq!(found, [renamed, rows].concat());
        assert_eq!(after, names(&[(16, "b"), (17, "a"), (18, "d")]));
        // Dropped; and one that gets the name of a dropped one.
        let drop = [gone(b"b"), name(b"a", &r17)];
        let (found, after) = follow(&[(16, "a"), (17, "b")], &drop);
        assert_eq!(found, ["Dropped(\"a\")".to_owned(), format!("{:?}", Entry::Renamed { table: "a", from: "b" })]);
        assert_eq!(after, names(&[(17, "a")]));
        // The store's own tables, and one without a name, are not told of.
        let (found, _) = follow(&[], &[put(4, b"archive", b"v"), put(20, b"k", b"v")]);
        assert!(found.is_empty());
    }

    proptest! {
        #[test]
        fn any_record_is_read_without_panic(record in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut sound = true;
            for entry in entries(&record) {
                prop_assert!(sound, "nothing comes after a broken entry");
                sound = entry.is_some();
            }
            let _ = crc_of(&record);
        }
    }
}
