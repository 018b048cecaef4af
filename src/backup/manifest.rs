//! The manifest of a backup.

use crate::disk::format::{FIRST_USER_TABLE, MAX_NAME_SIZE, MAX_PAGE_SIZE, MIN_PAGE_SIZE};
use crate::disk::host::time_of;
use std::time::SystemTime;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum BackupKind {
    #[default]
    /// A whole state: a store, or a stream of all rows.
    Full,
    /// The changes since another backup, without which it is useless.
    Increment,
}

/// A table in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TableManifest {
    /// Its id in the store, which stays the same until it is cleared or dropped.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Name of the keys' type.
    pub key_type: String,
    /// Name of the values' type.
    pub value_type: String,
    /// Rows in the state that was backed up.
    pub rows: u64,
    /// Name of its schema; empty: none.
    pub schema: String,
    /// Version of its schema.
    pub schema_version: u64,
    /// Its flags.
    pub flags: u32,
}

/// The backup that an increment builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BackupBase {
    /// The `id` of its [`Manifest`].
    pub id: String,
    /// The name of its file when the increment was made; restoring looks for it beside the increment.
    pub file: String,
    /// Sequence of the root that it was made from.
    pub root_sequence: u64,
}

/// A backup's description of itself: which state of which store it holds.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::BackupKind;
/// use std::time::{Duration, UNIX_EPOCH};
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let manifest = store.read()?.backup_to(dir.path().join("backup.mst"))?;
/// assert_eq!((manifest.kind, manifest.rows(), manifest.tables[0].name.as_str()), (BackupKind::Full, 1, "t"));
/// assert_eq!(manifest.time(), UNIX_EPOCH + Duration::from_micros(manifest.time_us));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Manifest {
    /// A random number of this backup, in hexadecimal digits.
    pub id: String,
    /// Full, or an increment.
    pub kind: BackupKind,
    /// What the increment builds on.
    pub base: Option<BackupBase>,
    /// Id of the store, in hexadecimal digits.
    pub store_id: String,
    /// Device and inode of its file.
    pub store_file: (u64, u64),
    /// Sequence of the root that the snapshot rested on.
    pub root_sequence: u64,
    /// The newest transaction in it.
    pub lsn: u64,
    /// When it was made, in microseconds since 1970, by the clock of the machine that made it.
    pub time_us: u64,
    /// Bytes of a page of the store.
    pub page_size: u32,
    /// The lowest table id that was never used.
    pub next_table: u32,
    /// The application that the store is for; 0: none.
    pub application_id: u32,
    /// The user's version of the content.
    pub user_version: u64,
    /// The tables, by name.
    pub tables: Vec<TableManifest>,
    /// Hash of the state's content ([`content_hash`](crate::content_hash)), in hexadecimal digits. An increment
    /// has one only if it was requested, since it requires reading the whole state.
    pub content_hash: Option<String>,
}

/// What a stream says at its end.
#[derive(Debug, Clone, Default)]
#[cfg_attr(all(test, feature = "msgpack"), derive(serde::Serialize))]
pub(super) struct End {
    /// Hash of the content, if it was computed.
    pub(super) content_hash: Option<String>,
    /// Where each table begins: id, place of its first block in the stream, number of that block.
    pub(super) tables: Vec<(u32, u64, u64)>,
    /// Where the keys begin that only the log spoke of: place and number of the first block.
    pub(super) touched: Option<(u64, u64)>,
}

impl Manifest {
    /// When it was made.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        time_of(self.time_us)
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(table.rows))
    }

    /// Whether a store can be made of what it says. A forged one is believed no further than that.
    pub(super) fn is_sane(&self) -> bool {
        let mut ids: Vec<u32> = self.tables.iter().map(|table| table.id).collect();
        ids.sort_unstable();
        let short = |name: &String| name.len() <= MAX_NAME_SIZE;
        self.page_size.is_power_of_two()
            && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&self.page_size)
            && self.lsn < 1 << 62
            && ids.first().is_none_or(|id| *id >= FIRST_USER_TABLE)
            && ids.windows(2).all(|pair| pair.first() != pair.last())
            && self.tables.windows(2).all(|pair| pair.first().map(|t| &t.name) < pair.last().map(|t| &t.name))
            && self.tables.iter().all(|table| {
                short(&table.name) && short(&table.key_type) && short(&table.value_type) && short(&table.schema)
            })
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_which_no_store_can_be_made_is_not_believed() {
        let table = |id, name: &str| TableManifest {
            id,
            name: name.to_owned(),
            key_type: "bytes".to_owned(),
            value_type: "bytes".to_owned(),
            rows: u64::MAX,
            schema: "s".to_owned(),
            schema_version: 1,
            flags: 0,
        };
        let sane =
            Manifest { page_size: 4096, lsn: 7, tables: vec![table(17, "a"), table(16, "b")], ..Manifest::default() };
        assert!(sane.is_sane());
        assert_eq!(sane.rows(), u64::MAX);
        let with = |change: fn(&mut Manifest)| {
            let mut manifest = sane.clone();
            change(&mut manifest);
            manifest.is_sane()
        };
        for page_size in [0, 1, 2048, 4097, 131_072, u32::MAX] {
            assert!(!Manifest { page_size, ..sane.clone() }.is_sane(), "{page_size}");
        }
        assert!(!with(|m| m.lsn = u64::MAX));
        assert!(!with(|m| m.tables.reverse()), "not in the order of names");
        assert!(!with(|m| m.tables.iter_mut().for_each(|table| table.id = 20)), "one id twice");
        assert!(!with(|m| m.tables.iter_mut().for_each(|table| table.id -= 15)), "the store's own tables");
        assert!(!with(|m| m.tables.iter_mut().for_each(|table| table.key_type = "x".repeat(70_000))));
    }
}
