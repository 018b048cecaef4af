//! `memstone checkpoint` and `compact`: the log into the tree, and free space back to the file system.

use std::path::PathBuf;

use clap::Args;
use memstone::Store;
use serde_json::json;

use crate::Common;
use crate::failure::Failure;
use crate::output::Output;

/// Fold the log into the tree now
///
/// It happens by itself when the log has grown or the store rests.
#[derive(Args)]
pub(crate) struct Checkpoint {
    /// The store's file
    file: PathBuf,
}

/// Give free space back to the file system, while others go on
///
/// Space that a snapshot still needs stays until it ends: run it again then.
#[derive(Args)]
pub(crate) struct Compact {
    /// The store's file
    file: PathBuf,
}

fn open(file: &PathBuf, common: &Common) -> Result<Store, Failure> {
    Ok(Store::options().create(false).timeout(common.timeout).open(file)?)
}

impl Checkpoint {
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let store = open(&self.file, common)?;
        store.checkpoint()?;
        Ok(store.close()?)
    }
}

impl Compact {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let store = open(&self.file, common)?;
        let (before, after) = store.compact()?;
        store.close()?;
        match out.json() {
            true => out.line(json!({ "before": before, "after": after })),
            false => out.line(format_args!("{before} bytes before, {after} after")),
        }
    }
}
