//! Checkpoints that a caller asks for.

use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointOptions;
use crate::error::{Error, Result};
use std::sync::Arc;

impl Engine {
    /// Folds what is there, also when a failed flush must be mended first.
    pub(crate) fn checkpoint_now(self: &Arc<Self>, plan: &CheckpointOptions<'_>) -> Result<()> {
        self.check_writable()?;
        let fold = || self.checkpoint(plan, self.deadline()).map(drop);
        match fold() {
            Err(Error::Poisoned { .. }) => self.begin(self.deadline()).map(drop).and_then(|()| fold()),
            done => done,
        }
    }

    /// Folds, with a root made even if there is nothing to fold: so the archive knows that it has all that is committed.
    pub(crate) fn archive_now(self: &Arc<Self>) -> Result<()> {
        self.checkpoint_now(&CheckpointOptions { force: true, ..CheckpointOptions::default() })
    }
}
