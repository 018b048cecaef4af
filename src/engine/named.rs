//! Creating and deleting named snapshots.

use crate::disk::locks::Deadline;
use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::chores::Chore;
use crate::engine::file::check_name_size;
use crate::engine::names::{NamedRow, Naming};
use crate::engine::view::TreeVersion;
use crate::error::{Error, LimitKind, Result};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn check_snapshot_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::Invalid("a snapshot's name cannot be empty".to_owned()));
    }
    check_name_size(LimitKind::SnapshotName, name)
}

fn renaming(naming: Naming<'_>) -> CheckpointOptions<'_> {
    CheckpointOptions { force: true, naming: Some(naming), ..CheckpointOptions::default() }
}

impl Engine {
    /// Gives a name to the newest state, which includes all commits before this call. Commits continue meanwhile;
    /// those after the first checkpoint are not included.
    pub(crate) fn create_named(self: &Arc<Self>, name: &str, timeout: Duration) -> Result<NamedRow> {
        check_snapshot_name(name)?;
        self.rename_states(timeout, |turn, deadline| {
            if self.newest_tree(turn)?.named(name)?.is_some() {
                return Err(Error::SnapshotExists { name: name.to_owned() });
            }
            self.run_checkpoint(turn, &CheckpointOptions::default(), deadline)?;
            let row = NamedRow::of(&self.newest_tree(turn)?.root);
            self.run_checkpoint(turn, &renaming(Naming::Give(name, row)), deadline)?;
            Ok(row)
        })
    }

    /// Deletes a name. Later checkpoints free what only this name kept.
    pub(crate) fn delete_named(self: &Arc<Self>, name: &str, timeout: Duration) -> Result<()> {
        self.rename_states(timeout, |turn, deadline| {
            if self.newest_tree(turn)?.named(name)?.is_none() {
                return Err(Error::NoSnapshot { name: name.to_owned() });
            }
            self.run_checkpoint(turn, &renaming(Naming::Take(name)), deadline).map(drop)
        })?;
        if self.settings.threads {
            self.background.call(Chore::Release);
        }
        Ok(())
    }

    /// Runs `change` under CHECKPOINT, and repairs a failed flush first.
    fn rename_states<T>(
        self: &Arc<Self>,
        timeout: Duration,
        change: impl Fn(&CheckpointGuard<'_>, Deadline) -> Result<T>,
    ) -> Result<T> {
        self.check_writable()?;
        self.check_name()?;
        self.repaired(timeout, |deadline| change(&self.lock_checkpoint(deadline)?, deadline))
    }

    /// The newest root, made durable. Holding CHECKPOINT keeps other processes from making another one meanwhile.
    fn newest_tree(&self, turn: &CheckpointGuard<'_>) -> Result<TreeVersion> {
        turn.settle_root()?;
        self.open_tree(Arc::new(self.slots()?.newest), None)
    }
}
