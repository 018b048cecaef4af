//! Restoring a store.

use crate::disk::host::unix_us;
use crate::disk::locks::{Deadline, PLACES, READERS, WRITERS};
use crate::disk::platform::{Disk, LockMode};
use crate::disk::rename::sync_directory;
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::engine::sharing::OpenGuard;
use crate::error::{CorruptionKind, Error, Holder, Result};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::directory::BackupDir;
use super::full::{build_store, verify_and_flush};
use super::manifest::{Manifest, hex};
use super::moment::Way;
use super::options::{BackupStep, RestoreOptions, Watch};
use super::place::{Temporary, must_be_free};
use super::replay::Replayed;
use super::rows::Source;
use super::utc::stamp;

/// How long another process may take to open or leave the store that is replaced.
const OPEN_WAIT: Duration = Duration::from_secs(5);

/// What [`restore`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The state that was restored.
    pub manifest: Manifest,
    /// The backup that it was restored from.
    pub source: PathBuf,
    /// Where the store that was replaced is kept.
    pub replaced: Option<PathBuf>,
}

/// Restores a store: from a full backup, a stream, an increment (what it builds on is looked for beside it), a
/// directory of backups ([`BackupDir`]), or from any store that no process is writing to.
///
/// All of the source is verified before anything is changed at the target. The new store is made under another
/// name beside the target, checked in full, flushed, and then takes the target's name in one step; a store that
/// had the name is kept as `TARGET.before-restore-TIME`. The new store has its own id, so the first backup of it
/// in a series of increments is a full one.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use memstone::RestoreOptions;
/// let store = memstone::Store::open(&path)?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// store.read()?.backup_to(dir.path().join("backup.mst"))?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"oops"))?;
/// store.close()?;
/// let report = memstone::restore(dir.path().join("backup.mst"), &path, RestoreOptions::new().overwrite(true))?;
/// assert!(report.replaced.is_some());
/// assert_eq!(memstone::Store::open(&path)?.read()?.raw("t")?.get(b"k")?.unwrap(), b"v");
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// # Errors
/// [`Error::Exists`] without [`RestoreOptions::overwrite`]; [`Error::InUse`] while a process has the target open;
/// [`Error::Corrupt`] if the source is damaged, [`Error::Backup`] if something that it builds on is missing; [`Error::NotFound`],
/// [`Error::Full`], [`Error::Cancelled`], [`Error::Io`]. Nothing was changed.
pub fn restore(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    mut options: RestoreOptions<'_>,
) -> Result<RestoreReport> {
    let mut watch = options.watch(target.as_ref());
    watch.step(BackupStep::Open)?;
    // What a symbolic link leads to is replaced, not the link.
    let target = fs::canonicalize(target.as_ref()).unwrap_or_else(|_| target.as_ref().to_path_buf());
    must_be_free(&target, options.overwrite)?;
    drop(Alone::with(&target)?);
    let Way { backup: source, stretch } = way(source.as_ref(), &options)?;
    let chain = Chain::open(&source)?;
    chain.verify_streams(&mut watch)?;
    let (state, manifest): (Box<dyn Source>, _) = match stretch {
        None => {
            let manifest = chain.manifest().clone();
            (Box::new(chain), manifest)
        }
        Some(stretch) => {
            let replayed = Replayed::new(chain, &stretch, &target, &mut watch)?;
            let manifest = replayed.manifest().clone();
            (Box::new(replayed), manifest)
        }
    };
    let file = Temporary::create(&target)?;
    let hash = hex(&build_store(&*state, &file, &manifest, 2, &mut watch).map_err(|e| e.in_file(&source))?);
    if let Some(expected) = manifest.content_hash.as_ref().filter(|expected| **expected != hash) {
        let found = format!("{hash} (it was written to after it was made, or is damaged)");
        return Err(
            Error::corrupt(CorruptionKind::Backup, 0, None, format!("content hash {expected}"), found).in_file(&source)
        );
    }
    verify_and_flush(&file, &manifest, &mut watch)?;
    let replaced = take_place(file, &target, options.overwrite, &mut watch)?;
    Ok(RestoreReport { manifest, source, replaced })
}

/// What is to be read: a backup, and what follows it.
fn way(source: &Path, options: &RestoreOptions<'_>) -> Result<Way> {
    let backup = match (source.is_dir(), options.to) {
        (true, Some(moment)) => return Way::find(&BackupDir::open(source)?, moment),
        (true, None) => BackupDir::open(source)?.newest_at(options.at)?,
        (false, None) => source.to_path_buf(),
        (false, Some(_)) => {
            let reason = "a moment is restored from a directory with backups and an archive, not from one backup";
            return Err(Error::Backup { path: source.to_path_buf(), reason: reason.to_owned() });
        }
    };
    Ok(Way { backup, stretch: None })
}

/// Gives the new store, which is flushed, the target's name. A store that has it gets a second name first, so that at
/// every moment one of the two is found by the target's.
fn take_place(file: Temporary, target: &Path, overwrite: bool, watch: &mut Watch<'_>) -> Result<Option<PathBuf>> {
    let Some(alone) = Alone::with(target)? else {
        return file.give_name(false, watch).map(|()| None);
    };
    if !overwrite {
        return Err(Error::Exists { path: target.to_path_buf() });
    }
    like(&file, target)?;
    file.flush()?;
    let kept = keep(target)?;
    let replaced = watch.step(BackupStep::Replace).and_then(|()| file.give_name(true, watch));
    // A process that waited for OPEN of the old file finds, when it gets the lock, that the file has lost its
    // name.
    drop(alone);
    replaced.inspect_err(|_| take_back(&kept, target))?;
    Ok(Some(kept))
}

/// Removes the second name, unless it is the old store's only one by now.
fn take_back(kept: &Path, target: &Path) {
    let file = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    if file(kept).is_some() && file(kept) == file(target) {
        let _ = fs::remove_file(kept);
    }
}

/// Gives the file at `target` a second name, under which it is kept.
fn keep(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    for attempt in 0..1000 {
        let number = if attempt == 0 { String::new() } else { format!("-{attempt}") };
        let kept = target.with_file_name(format!("{name}.before-restore-{}{number}", stamp(unix_us())));
        match fs::hard_link(target, &kept) {
            Ok(()) => {
                sync_directory(&kept).inspect_err(|_| take_back(&kept, target))?;
                return Ok(kept);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("keep the old store under a second name", kept, e)),
        }
    }
    Err(Error::Exists { path: target.to_path_buf() })
}

/// Gives the new store the owner, group and permissions of the old one.
fn like(file: &Temporary, old: &Path) -> Result<()> {
    let meta = fs::metadata(old).map_err(|e| Error::io("stat", old, e))?;
    // Only the superuser may give files away; to keep one's own is no failure.
    let _ = chown(file.path(), Some(meta.uid()), Some(meta.gid()));
    let mode = fs::Permissions::from_mode(meta.permissions().mode() & 0o777);
    file.file().set_permissions(mode).map_err(|e| Error::io("set the permissions", file.path(), e))
}

/// A store that no other handle has open, and none can open as long as this is held.
pub(super) struct Alone {
    _open: OpenGuard,
}

impl Alone {
    /// `None`: there is no such file.
    pub(super) fn with(path: &Path) -> Result<Option<Alone>> {
        let disk = match UnixDisk::open(path, OpenMode { read_only: false, create: false }) {
            Err(Error::NotFound { .. }) => return Ok(None),
            disk => Arc::new(disk?) as Arc<dyn Disk>,
        };
        let deadline: Deadline = Instant::now().checked_add(OPEN_WAIT);
        let open = OpenGuard::take(&disk, LockMode::Exclusive, deadline)?;
        let held = |base| disk.probe(base, PLACES).map_err(|e| Error::io("look for others", path, e));
        if held(WRITERS)?.is_none() && held(READERS)?.is_none() {
            return Ok(Some(Alone { _open: open }));
        }
        let mut holders: Vec<Holder> = Vec::new();
        for held in [WRITERS, READERS].into_iter().flat_map(|base| disk.holders(base, PLACES)) {
            if holders.iter().all(|known| known.pid != held.holder.pid) {
                holders.push(held.holder);
            }
        }
        Err(Error::InUse { path: path.to_path_buf(), holders })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_store_never_loses_its_last_name() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("memory.mst");
        fs::write(&target, "old").unwrap();
        let kept = keep(&target).unwrap();
        take_back(&kept, &target);
        assert!(!kept.exists() && target.exists());
        let kept = keep(&target).unwrap();
        let other = keep(&target).unwrap();
        assert_ne!(kept, other);
        // It was replaced before what followed failed.
        fs::write(dir.path().join("new"), "new").unwrap();
        fs::rename(dir.path().join("new"), &target).unwrap();
        take_back(&kept, &target);
        fs::remove_file(&target).unwrap();
        take_back(&kept, &target);
        assert_eq!(fs::read(&kept).unwrap(), b"old");
    }
}
