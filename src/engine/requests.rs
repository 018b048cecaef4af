//! Checkpoints that a caller asks for.

use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointOptions;
use crate::error::Result;
use std::sync::Arc;

impl Engine {
    /// Makes a checkpoint; repairs a failed flush first.
    pub(crate) fn checkpoint_now(self: &Arc<Self>, plan: &CheckpointOptions<'_>) -> Result<()> {
        self.check_writable()?;
        self.repaired(|| self.checkpoint(plan, self.deadline()).map(drop))
    }

    /// Makes a checkpoint, with a new root even if the log is empty: so the archive knows that it has all that is
    /// committed.
    pub(crate) fn archive_now(self: &Arc<Self>) -> Result<()> {
        self.checkpoint_now(&CheckpointOptions { force: true, ..CheckpointOptions::default() })
    }
}
