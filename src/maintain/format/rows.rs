//! The rows of the store's own tables.

use crate::disk::format::{MAX_NAME_SIZE, TABLE_FLAGS, TreeRoot, get_u16, get_u32, get_u64};

/// A row of the names table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::maintain) struct NameRow {
    pub(in crate::maintain) name: String,
    pub(in crate::maintain) id: u32,
    pub(in crate::maintain) key_type: String,
    pub(in crate::maintain) value_type: String,
    pub(in crate::maintain) flags: u32,
    pub(in crate::maintain) schema: String,
    pub(in crate::maintain) schema_version: u64,
}

impl NameRow {
    /// The flags that this program does not know.
    pub(in crate::maintain) fn unknown_flags(&self) -> u32 {
        self.flags & !TABLE_FLAGS
    }
}

// A row may be longer than these functions know, and not shorter.

/// Takes a row of the names table apart; `None` if it is none.
pub(in crate::maintain) fn name_row(key: &[u8], value: &[u8]) -> Option<NameRow> {
    let name = std::str::from_utf8(key).ok().filter(|name| name.len() <= MAX_NAME_SIZE)?;
    let (head, rest) = value.split_at_checked(8)?;
    let (key_type, rest) = text(rest)?;
    let (value_type, rest) = text(rest)?;
    let (version, rest) = rest.split_at_checked(8)?;
    let (schema, _) = text(rest)?;
    Some(NameRow {
        name: name.to_owned(),
        id: get_u32(head, 0),
        key_type,
        value_type,
        flags: get_u32(head, 4),
        schema,
        schema_version: get_u64(version, 0),
    })
}

/// A text with its length before it, and what follows.
fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (len, rest) = bytes.split_at_checked(2)?;
    let (text, rest) = rest.split_at_checked(usize::from(get_u16(len, 0)))?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), rest))
}

/// A row of the table of named snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::maintain) struct SnapshotRow {
    pub(in crate::maintain) name: String,
    /// Sequence of the root that it is.
    pub(in crate::maintain) sequence: u64,
    pub(in crate::maintain) catalog: TreeRoot,
}

/// Takes a row of the table of named snapshots apart; `None` if it is none.
pub(in crate::maintain) fn snapshot_row(key: &[u8], value: &[u8]) -> Option<SnapshotRow> {
    let name = std::str::from_utf8(key).ok().filter(|name| !name.is_empty() && name.len() <= MAX_NAME_SIZE)?;
    let catalog = value.get(32..).and_then(TreeRoot::of_row)?;
    // Its newest transaction is in its tree.
    (get_u64(value, 8) <= get_u64(value, 16)).then_some(())?;
    Some(SnapshotRow { name: name.to_owned(), sequence: get_u64(value, 0), catalog })
}

/// Takes a row of the catalog apart: the table's id and its tree.
pub(in crate::maintain) fn catalog_row(key: &[u8], value: &[u8]) -> Option<(u32, TreeRoot)> {
    let id = key.first_chunk::<4>().filter(|_| key.len() == 4)?;
    Some((u32::from_be_bytes(*id), TreeRoot::of_row(value)?))
}
