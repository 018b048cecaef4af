//! When an idle store, or one that its last process leaves, is checkpointed.
//!
//! A checkpoint of a short log costs far more than the log: it flushes, and writes whole pages. A short log costs
//! nothing but the time to read it. So the log of an idle store stays until it is worth a checkpoint.

use crate::engine::Engine;
use crate::engine::move_down::{WORTHWHILE, is_worthwhile};
use crate::engine::view::{TreeVersion, View};
use crate::error::Result;
use crate::tree::cursor::get;
use crate::tree::node::LeafValue;

/// A log that takes, or whose checkpoint frees, so many bytes of the file is worth a checkpoint.
const WORTH_BYTES: u64 = 256 << 10;

/// When the log should be checkpointed if the store stays idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The log is empty, and short.
    Never,
    /// The log is short.
    Later,
    Now,
}

impl Engine {
    pub(crate) fn checkpoint_due(&self) -> Result<Due> {
        let newest = self.slots()?.newest;
        let end = self.sidecar().tail().map_or(newest.log_position, |tail| tail.end);
        // Without reading the log, which is long.
        if end.saturating_sub(newest.log_position) >= WORTH_BYTES
            || newest.log_capacity() > WORTH_BYTES.max(self.min_log())
        {
            return Ok(Due::Now);
        }
        let view = self.view_at_end()?;
        let root = &view.tree.root;
        // An archive gets a transaction when a checkpoint removes it from the log.
        let is_worth = view.last_commit > root.last_commit && view.archive_setting()?.is_some()
            || bytes_freed(&view)? >= WORTH_BYTES
            || could_shrink(&view.tree)?;
        Ok(match (is_worth, view.lsn > root.checkpoint_lsn) {
            (true, _) => Due::Now,
            (false, true) => Due::Later,
            (false, false) => Due::Never,
        })
    }
}

/// Whether a checkpoint would make the file notably shorter, if no process keeps snapshots.
fn could_shrink(tree: &TreeVersion) -> Result<bool> {
    let root = &tree.root;
    let space = tree.space(root.free_directory)?;
    let pending = space.pending_pages().saturating_sub(space.kept_pages(&tree.named_versions()?));
    Ok(is_worthwhile(space.free_pages() + pending, root.page_count, WORTHWHILE))
}

/// Bytes of values that a checkpoint frees: those that the log replaces or deletes in the tree, and long values that
/// only the log points at. The log is short, so this looks up few keys.
fn bytes_freed(view: &View) -> Result<u64> {
    let mut freed = view.long_bytes();
    let (tables, dropped) = view.tables_in_log();
    for table in dropped {
        // How much a tree takes is not known without reading it: a dropped one is reason enough.
        freed += if view.tree_root(table)?.ptr.is_none() { 0 } else { WORTH_BYTES };
    }
    for table in tables {
        let root = view.tree_root(table)?;
        for (key, _) in view.log_changes(table) {
            freed += match get(&view.tree.pages, table, root, &key)? {
                Some(LeafValue::Overflow(long)) => long.len(),
                Some(LeafValue::Inline(value)) => value.len() as u64,
                None => 0,
            };
        }
    }
    Ok(freed)
}
