//! What a backup says of itself.

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BackupKind {
    #[default]
    /// All of a state: a store, or a stream of all rows.
    Full,
    /// What has changed since another backup, without which it is of no use.
    Increment,
}

/// A table in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableManifest {
    /// Its id in the store, which it keeps as long as it is not cleared or dropped.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Name of the keys' type.
    pub key_type: String,
    /// Name of the values' type.
    pub value_type: String,
    /// Rows in the state that was backed up.
    pub rows: u64,
}

/// The backup that an increment builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupBase {
    /// The `id` of its [`Manifest`].
    pub id: String,
    /// The name of its file when the increment was made; it is looked for beside the increment.
    pub file: String,
    /// Sequence of the root that it was made from.
    pub root_sequence: u64,
}

/// What a backup says of itself: which state of which store it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// When it was made, in microseconds since 1970, by the clock of that machine.
    pub time_us: u64,
    /// Bytes of a page of the store.
    pub page_size: u32,
    /// The lowest table id that was never given.
    pub next_table: u32,
    /// The tables, by name.
    pub tables: Vec<TableManifest>,
    /// Hash of the state's content ([`content_hash`](crate::content_hash)), in hexadecimal digits. An increment has one only if it
    /// was asked for, since it takes reading all of the state.
    pub content_hash: Option<String>,
}

/// What a stream says at its end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.time_us)
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Microseconds since 1970, by this machine's clock.
pub(super) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
