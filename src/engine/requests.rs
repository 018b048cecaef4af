//! Checkpoints that a caller asks for.

use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointOptions;
use crate::error::Result;
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Makes a checkpoint; repairs a failed flush first.
    pub(crate) fn checkpoint_now(self: &Arc<Self>, plan: &CheckpointOptions<'_>, timeout: Duration) -> Result<()> {
        self.check_writable()?;
        self.repaired(timeout, |deadline| self.checkpoint(plan, deadline).map(drop))
    }

    /// Makes a checkpoint, with a new root even if the log is empty: so the archive knows that it has all that is
    /// committed.
    pub(crate) fn archive_now(self: &Arc<Self>, timeout: Duration) -> Result<()> {
        self.checkpoint_now(&CheckpointOptions { force: true, ..CheckpointOptions::default() }, timeout)
    }
}
