//! `memstone clone`: a store's file as a store of its own.

use std::path::PathBuf;

use clap::Args;
use memstone::{CloneOptions, Store};
use serde_json::json;

use crate::Common;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Make a clone: the store as it is now, as a store of its own, while others go on
///
/// Where the filesystem can, it shares its blocks with the store and takes neither space nor time; elsewhere it is a
/// copy. Snapshots by name come with it. It has its name only when it is whole and verified.
#[derive(Args)]
pub(crate) struct Clone {
    /// The store's file
    file: PathBuf,
    /// The file to make
    dest: PathBuf,
    /// Replace a file that has the name; not while a process has it open
    #[arg(long)]
    overwrite: bool,
    /// Do not verify the clone
    #[arg(long)]
    quick: bool,
}

impl Clone {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let progress = Progress::new()?;
        let store = Store::options().create(false).timeout(common.timeout).open(&self.file)?;
        let options = CloneOptions::new().overwrite(self.overwrite).quick(self.quick);
        let report = store.clone_with(&self.dest, options.progress(|told| progress.tell(told)))?;
        let how = if report.shares_blocks { "shared blocks" } else { "a copy" };
        if out.json() {
            return out.line(json!({
                "path": self.dest, "last_commit": report.lsn, "bytes": report.bytes,
                "shares_blocks": report.shares_blocks, "verified": !self.quick,
            }));
        }
        let (dest, checked) = (self.dest.display(), if self.quick { "not verified" } else { "verified" });
        out.line(format_args!("{dest}: {} bytes, {how}, {checked}, up to transaction {}", report.bytes, report.lsn))
    }
}
