//! The rows of the store's own tables.

use crate::disk::format::{MAX_NAME_SIZE, TreeRoot, get_u16, get_u32, get_u64};

/// A row of the names table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::maintain) struct NameRow {
    pub(in crate::maintain) name: String,
    pub(in crate::maintain) id: u32,
    pub(in crate::maintain) key_type: String,
    pub(in crate::maintain) value_type: String,
}

/// Takes a row of the names table apart; `None` if it is none.
pub(in crate::maintain) fn name_row(key: &[u8], value: &[u8]) -> Option<NameRow> {
    let name = std::str::from_utf8(key).ok().filter(|name| name.len() <= MAX_NAME_SIZE)?;
    let (head, rest) = value.split_at_checked(6)?;
    let (key_type, rest) = rest.split_at_checked(usize::from(get_u16(head, 4)))?;
    let (len, value_type) = rest.split_at_checked(2)?;
    (value_type.len() == usize::from(get_u16(len, 0))).then_some(())?;
    Some(NameRow {
        name: name.to_owned(),
        id: get_u32(head, 0),
        key_type: std::str::from_utf8(key_type).ok()?.to_owned(),
        value_type: std::str::from_utf8(value_type).ok()?.to_owned(),
    })
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
    let catalog = TreeRoot::decode(value.get(8..24).filter(|_| value.len() == 48)?)?;
    // Its newest transaction is in its tree.
    (get_u64(value, 24) <= get_u64(value, 32)).then_some(())?;
    Some(SnapshotRow { name: name.to_owned(), sequence: get_u64(value, 0), catalog })
}

/// Takes a row of the catalog apart: the table's id and its tree.
pub(in crate::maintain) fn catalog_row(key: &[u8], value: &[u8]) -> Option<(u32, TreeRoot)> {
    let id = key.first_chunk::<4>().filter(|_| key.len() == 4)?;
    Some((u32::from_be_bytes(*id), TreeRoot::decode(value)?))
}
