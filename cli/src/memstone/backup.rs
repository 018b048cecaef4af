//! `memstone backup`: backs a store up while others go on.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use memstone::{BackupDir, BackupKind, BackupOptions, Keep, Manifest, Snapshot};
use serde_json::json;

use crate::access::read_at;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Back a store up while others read and write on
///
/// A full backup is itself a store: compact, verified, and found under its name only when it is whole. With
/// --since only what has changed since another backup is written; restoring needs that one, too. With --dir
/// the backup goes to a directory, under a name that tells when it was made, and --keep removes
/// what the rule does not keep (the last good one stays in any case).
#[derive(Args)]
pub(crate) struct Backup {
    /// The store's file
    file: PathBuf,
    /// The file to make; `-` writes a stream of all rows to standard output
    #[arg(required_unless_present = "dir", conflicts_with = "dir")]
    dest: Option<PathBuf>,
    /// Write only what has changed since this backup
    #[arg(long, value_name = "BACKUP")]
    since: Option<PathBuf>,
    /// Put it into this directory of backups, which is made if it is not there
    #[arg(long, value_name = "DIR", conflicts_with_all = ["since", "overwrite"])]
    dir: Option<PathBuf>,
    /// Remove from the directory what this rule does not keep: the last backup of each of 7 days, 4 weeks, 12 months
    #[arg(long, value_name = "7d,4w,12m", requires = "dir")]
    keep: Option<Keep>,
    /// In the directory: only what has changed since the newest backup there, if one can be built on
    #[arg(long, requires = "dir")]
    increment: bool,
    /// Do not prove that an increment gives, on what it builds on, the state that was backed up
    ///
    /// The proof reads all of the state and of the backups. Without it a store's file that was put back, in place, from an older copy
    /// goes unnoticed.
    #[arg(long)]
    quick: bool,
    /// Back the named snapshot up instead of the newest state
    #[arg(long, value_name = "NAME")]
    at: Option<String>,
    /// Replace a file that has the name
    #[arg(long)]
    overwrite: bool,
    /// Compress an increment or a stream with zstd
    #[arg(long)]
    compress: bool,
}

impl Backup {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        if self.compress && self.since.is_none() && !self.increment && self.dest.as_deref() != Some(Path::new("-")) {
            let message = "--compress is for increments and streams: a full backup in a file is a store".to_owned();
            return Err(Failure::Usage(message));
        }
        let snapshot = read_at(&self.file, self.at.as_deref())?;
        let progress = Progress::new()?;
        let options = BackupOptions::new().overwrite(self.overwrite).compress(self.compress).prove(!self.quick);
        let mut options = options.progress(|told| progress.tell(told));
        match (&self.dir, &self.dest) {
            (Some(dir), _) => self.to_directory(dir, &snapshot, options, out),
            (None, Some(dest)) if dest == Path::new("-") => {
                if self.since.is_some() {
                    return Err(Failure::Usage("an increment is written to a file, not to a stream".to_owned()));
                }
                snapshot.backup_into(io::stdout().lock(), options)?;
                Ok(())
            }
            (None, dest) => {
                let dest = dest.as_deref().unwrap_or(Path::new(""));
                if let Some(since) = &self.since {
                    options = options.since(since);
                }
                let manifest = snapshot.backup_with(dest, options)?;
                told(out, dest, &manifest, &[])
            }
        }
    }

    fn to_directory(
        &self,
        dir: &Path,
        snapshot: &Snapshot,
        options: BackupOptions<'_>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let backups = BackupDir::create(dir)?;
        let made = backups.backup(snapshot, self.increment, options)?;
        let removed = self.keep.as_ref().map_or(Ok(Vec::new()), |keep| backups.prune(keep))?;
        made.manifest.map_or(Ok(()), |manifest| told(out, &made.path, &manifest, &removed))
    }
}

/// What the kinds are called.
pub(crate) fn kind_name(kind: BackupKind) -> &'static str {
    if kind == BackupKind::Increment { "increment" } else { "full" }
}

fn told(out: &mut Output, path: &Path, manifest: &Manifest, removed: &[PathBuf]) -> Result<(), Failure> {
    if out.json() {
        return out.line(json!({ "path": path, "manifest": manifest, "removed": removed }));
    }
    let kind = kind_name(manifest.kind);
    out.line(format_args!("{}: {kind}, {} rows, up to transaction {}", path.display(), manifest.rows(), manifest.lsn))?;
    removed.iter().try_for_each(|path| out.line(format_args!("{}: removed", path.display())))
}
