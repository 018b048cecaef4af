//! The report of a check.

use std::path::PathBuf;

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Severity {
    /// Something is not as it should be, but no committed data is lost or in danger.
    Warning,
    /// Committed data is damaged, or will be if writing continues.
    Damage,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is, in bytes from the start of the file.
    pub offset: u64,
    /// The page that starts there; `None` in the root slots and in the log.
    pub page: Option<u64>,
    /// The table it belongs to.
    pub table: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// The pages of a store by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PageCounts {
    /// All pages, those under the root slots included.
    pub total: u64,
    /// Under the root slots and the epoch's block.
    pub slots: u64,
    /// In the log's segments.
    pub log: u64,
    /// Leaves and branches.
    pub tree: u64,
    /// Long values, those that only the log names included.
    pub values: u64,
    /// The free map and the pending list.
    pub free_map: u64,
    /// Free.
    pub free: u64,
    /// Waiting for snapshots to end.
    pub pending: u64,
    /// Used by nothing, yet not free.
    pub lost: u64,
}

/// One table, as the tree holds it: what the log adds is not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// One of the two that the store keeps for itself.
    pub internal: bool,
    /// Name of the keys' type.
    pub key_type: String,
    /// Name of the values' type.
    pub value_type: String,
    /// Entries found.
    pub entries: u64,
    /// Levels of the tree; 0 for an empty one.
    pub levels: u8,
    /// Leaves.
    pub leaves: u64,
    /// Branches.
    pub branches: u64,
    /// Bytes that the nodes' entries take, headers included.
    pub node_bytes: u64,
    /// Pages of the nodes.
    pub node_pages: u64,
    /// Values kept outside the leaves.
    pub long_values: u64,
    /// Pages of those.
    pub long_value_pages: u64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
}

impl TableReport {
    /// Pages of nodes and long values.
    pub(super) fn pages(&self) -> u64 {
        self.node_pages + self.long_value_pages
    }

    /// Adds what was counted in a part of the tree.
    pub(super) fn add(&mut self, part: &TableReport) {
        self.levels = self.levels.max(part.levels);
        for (sum, part) in [
            (&mut self.entries, part.entries),
            (&mut self.leaves, part.leaves),
            (&mut self.branches, part.branches),
            (&mut self.node_bytes, part.node_bytes),
            (&mut self.node_pages, part.node_pages),
            (&mut self.long_values, part.long_values),
            (&mut self.long_value_pages, part.long_value_pages),
            (&mut self.key_bytes, part.key_bytes),
            (&mut self.value_bytes, part.value_bytes),
        ] {
            *sum += part;
        }
    }
}

/// What [`crate::check`] found.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub file_bytes: u64,
    /// The store's id, as a UUID.
    pub store_id: String,
    /// Version of the file format.
    pub format_version: u32,
    /// Bytes of a page.
    pub page_size: u32,
    /// Sequence of the root that was checked.
    pub root_sequence: u64,
    /// Sequence of the root before it, if its tree was checked as well, as far as its pages are its own: the
    /// other slot holds it, and no process had the store open for writing.
    pub other_root: Option<u64>,
    /// The newest transaction that is in the tree.
    pub checkpoint_lsn: u64,
    /// The newest transaction of all.
    pub lsn: u64,
    /// When that was committed, in microseconds since 1970.
    pub commit_time_us: u64,
    /// Frames in the log that the tree does not hold yet.
    pub log_frames: u64,
    /// Bytes from the checkpoint to the log's tail.
    pub log_bytes: u64,
    /// Bytes of the log's segments.
    pub log_capacity: u64,
    /// Pages by use.
    pub pages: PageCounts,
    /// The tables, by id; those of the store itself come first.
    pub tables: Vec<TableReport>,
    /// How many findings are damage.
    pub damage: u64,
    /// How many findings are warnings.
    pub warnings: u64,
    /// The findings, up to the number asked for.
    pub findings: Vec<Finding>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether there is no finding at all.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage == 0 && self.warnings == 0
    }
}
