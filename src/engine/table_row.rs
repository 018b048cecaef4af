//! The row of the names table for a table: its id, its types, its flags and its schema.
//!
//! `u32 id, u32 flags`, then the names of the types of its keys and of its values, each with a `u16` length before it,
//! `u64` version of its schema, `u16` length and name of its schema. What follows is of a newer program, and stays.

use crate::disk::format::{TABLE_FLAGS, TreeRoot, get_u32, get_u64, put_sized, take_sized};
use crate::error::{CorruptionKind, Error, Result};

/// A table in one state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TableEntry {
    pub(crate) id: u32,
    pub(crate) flags: u32,
    pub(crate) key_type: Box<str>,
    pub(crate) value_type: Box<str>,
    pub(crate) schema_version: u64,
    pub(crate) schema: Box<str>,
    /// What a newer program has added.
    pub(crate) rest: Box<[u8]>,
    /// The table's tree, without the log's changes; not in the row.
    pub(crate) root: TreeRoot,
}

impl TableEntry {
    /// A table of these types, as it is created.
    pub(crate) fn new(id: u32, key_type: &str, value_type: &str) -> TableEntry {
        TableEntry { id, key_type: key_type.into(), value_type: value_type.into(), ..TableEntry::default() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = self.id.to_le_bytes().to_vec();
        row.extend_from_slice(&self.flags.to_le_bytes());
        put_sized(&mut row, self.key_type.as_bytes());
        put_sized(&mut row, self.value_type.as_bytes());
        row.extend_from_slice(&self.schema_version.to_le_bytes());
        put_sized(&mut row, self.schema.as_bytes());
        row.extend_from_slice(&self.rest);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<TableEntry> {
        let (head, mut rest) = row.split_first_chunk::<8>()?;
        let (key_type, value_type) = (take_text(&mut rest)?, take_text(&mut rest)?);
        let (version, mut rest) = rest.split_first_chunk::<8>()?;
        let schema = take_text(&mut rest)?;
        Some(TableEntry {
            id: get_u32(head, 0),
            flags: get_u32(head, 4),
            key_type,
            value_type,
            schema_version: get_u64(version, 0),
            schema,
            rest: rest.into(),
            root: TreeRoot::default(),
        })
    }

    /// The row that the names table has for a name.
    pub(crate) fn of_row(name: &[u8], row: &[u8]) -> Result<TableEntry> {
        TableEntry::decode(row).ok_or_else(|| no_name_row(name))
    }

    /// Refuses a table with flags that say something about it which this program does not know.
    pub(crate) fn check_flags(&self, name: &str) -> Result<()> {
        let unknown = self.flags & !TABLE_FLAGS;
        if unknown == 0 {
            return Ok(());
        }
        Err(Error::newer("", format!("the table {name:?} with the flags {unknown:#x}"), "none of these"))
    }
}

/// The name of a table, by the key of its row.
pub(crate) fn name_of_row(name: &[u8]) -> Result<String> {
    // Copied before it is called a string: see `ReadMap`.
    String::from_utf8(name.to_vec()).map_err(|_| no_name_row(name))
}

fn no_name_row(name: &[u8]) -> Error {
    let found = format!("something else for {:?}", String::from_utf8_lossy(name));
    Error::corrupt(CorruptionKind::Names, 0, None, "a name, an id and two type names", found)
}

/// Takes a text off the front.
fn take_text(rest: &mut &[u8]) -> Option<Box<str>> {
    let text = take_sized(rest)?;
    // Copied before it is checked as UTF-8: see `ReadMap`.
    String::from_utf8(text.to_vec()).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_may_be_longer_than_known_and_not_shorter() {
        let entry = TableEntry {
            flags: 6,
            schema_version: 9,
            schema: "notes".into(),
            rest: (*b"newer").into(),
            ..TableEntry::new(17, "str", "msgpack")
        };
        let row = entry.encode();
        assert_eq!(TableEntry::decode(&row), Some(entry.clone()), "what is unknown stays");
        let known = row.len() - 5;
        assert_eq!(TableEntry::decode(&row[..known]), Some(TableEntry { rest: Box::default(), ..entry.clone() }));
        assert!((0..known).all(|len| TableEntry::decode(&row[..len]).is_none()));
        assert!(matches!(entry.check_flags("t"), Err(Error::Format { .. })));
        TableEntry { flags: 0, ..entry }.check_flags("t").unwrap();
    }
}
