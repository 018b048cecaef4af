//! A directory of backups, named by time, kept by a retention rule.

use crate::archive::reader::archives;
use crate::disk::host::unix_us;
use crate::disk::rename::sync_directory;
use crate::error::{CorruptionKind, Error, LockKind, Result};
use crate::txn::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::chain::{Chain, open_backup};
use super::full::hash_of;
use super::keep::Keep;
use super::manifest::{Manifest, hex};
use super::options::{BackupOptions, Watch};
use super::utc::stamp;

/// How the names of full backups end, and those of increments.
const FULL: &str = ".full.mst";
const INCREMENT: &str = ".incr.mbk";
/// How often the directory's lock is tried, and how much longer each pause is than the one before: a second or so in all.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// An increment on top of so many others becomes a full backup: what is kept by rule keeps all that it builds on.
const LONGEST_CHAIN: usize = 30;
/// A backup that seems to be made later than this from now was made by another clock.
const FUTURE_US: u64 = 86_400_000_000;

/// Whether a backup in a directory can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupState {
    /// It is whole, and so is everything that it builds on, according to their manifests.
    Good,
    /// A backup that it builds on does not exist, or is not good.
    BaseMissing,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// A backup in a directory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackupEntry {
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its manifest, if that can be read.
    pub manifest: Option<Manifest>,
    /// Whether it can be used.
    pub state: BackupState,
}

impl BackupEntry {
    fn good(&self) -> Option<&Manifest> {
        self.manifest.as_ref().filter(|_| self.state == BackupState::Good)
    }
}

/// A directory of backups of one store, or of several.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::{BackupDir, BackupOptions, BackupState, RestoreOptions};
/// let backups = BackupDir::create(dir.path().join("backups"))?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"1"))?;
/// backups.backup(&store.read()?, false, BackupOptions::new())?;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"2"))?;
/// backups.backup(&store.read()?, true, BackupOptions::new())?; // an increment
/// assert!(backups.prune(&"7d,4w,12m".parse()?)?.is_empty()); // it needs the full one
/// for entry in backups.list()? {
///     assert_eq!(entry.state, BackupState::Good);
///     backups.verify(&entry)?; // reads all of it
/// }
/// memstone::restore(backups.path(), dir.path().join("again.mst"), RestoreOptions::new())?;
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BackupDir {
    path: PathBuf,
}

impl BackupDir {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist, or is not a directory.
    pub fn open(path: impl AsRef<Path>) -> Result<BackupDir> {
        let path = path.as_ref().to_path_buf();
        if path.is_dir() { Ok(BackupDir { path }) } else { Err(Error::NotFound { path }) }
    }

    /// The same; creates the directory, accessible to its owner only, if it does not exist.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: impl AsRef<Path>) -> Result<BackupDir> {
        let path = path.as_ref();
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_directory(path)?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("make the directory", path, e)),
        }
        BackupDir::open(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a backup, with a name that contains the time. As an `increment` it builds on the newest good backup
    /// of the same store; it is a full backup nevertheless if there is none to build on, or if there are 30
    /// increments in a row already.
    ///
    /// # Errors
    /// As [`Snapshot::backup_with`]; [`Error::Busy`] while another process makes or removes backups here.
    pub fn backup(&self, snapshot: &Snapshot, increment: bool, mut options: BackupOptions<'_>) -> Result<BackupEntry> {
        let _lock = self.lock()?;
        let base = if increment { self.base_for(&hex(&snapshot.engine().store_id))? } else { None };
        let path = |ending| self.path.join(format!("{}{ending}", stamp(unix_us())));
        let mut watch = options.watch(&self.path);
        let made = match base {
            None => None,
            Some(base) => {
                let path = path(INCREMENT);
                options.since = Some(base);
                match snapshot.backup_watched(&path, &mut options, &mut watch) {
                    // It cannot build on that one: then it is a full one.
                    Err(Error::Backup { reason, .. }) => {
                        crate::trace::info!(reason, "a full backup instead of an increment");
                        None
                    }
                    made => Some((made?, path)),
                }
            }
        };
        let (manifest, path) = match made {
            Some(made) => made,
            None => {
                let path = path(FULL);
                options.since = None;
                (snapshot.backup_watched(&path, &mut options, &mut watch)?, path)
            }
        };
        let bytes = fs::metadata(&path).map_err(|e| Error::io("stat", &path, e))?.len();
        Ok(BackupEntry { path, bytes, manifest: Some(manifest), state: BackupState::Good })
    }

    /// All backups, ordered by the time in their manifests. Files with other names are skipped.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<BackupEntry>> {
        let mut entries = Vec::new();
        let listed = fs::read_dir(&self.path).map_err(|e| Error::io("list", &self.path, e))?;
        for entry in listed {
            let path = entry.map_err(|e| Error::io("list", &self.path, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') || !(name.ends_with(FULL) || name.ends_with(INCREMENT)) {
                continue;
            }
            let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
            let (manifest, state) = match open_backup(&path) {
                Ok(Some(backup)) => (Some(backup.manifest), BackupState::Good),
                Ok(None) => (None, BackupState::Unreadable("it has no manifest, or was written to since".to_owned())),
                Err(error) => (None, BackupState::Unreadable(error.to_string())),
            };
            entries.push(BackupEntry { path, bytes, manifest, state });
        }
        entries.sort_by_key(|entry| (entry.manifest.as_ref().map(|m| (m.time_us, m.lsn)), entry.path.clone()));
        judge_chains(&mut entries);
        Ok(entries)
    }

    /// Removes the backups that the rule does not keep. The last good backup of each store stays, and so does
    /// everything that a kept backup builds on; files that cannot be read stay for inspection, and so do backups
    /// made by a clock ahead of this one. Segments of an archive are removed when all of their content lies
    /// before the oldest backup. Returns what was removed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Busy`] as with [`BackupDir::backup`].
    pub fn prune(&self, keep: &Keep) -> Result<Vec<PathBuf>> {
        self.prune_at(keep, unix_us())
    }

    fn prune_at(&self, keep: &Keep, now_us: u64) -> Result<Vec<PathBuf>> {
        let _lock = self.lock()?;
        let remove = |path: &PathBuf| fs::remove_file(path).map_err(|e| Error::io("remove", path, e));
        let mut removed = to_remove(&self.list()?, keep, now_us);
        removed.iter().try_for_each(remove)?;
        let unneeded = self.unneeded_segments()?;
        // From the first on: what a kill leaves has no hole.
        unneeded.iter().try_for_each(remove)?;
        removed.extend(unneeded);
        if let Some(last) = removed.last() {
            sync_directory(last)?;
        }
        Ok(removed)
    }

    /// Segments of archives of which no backup is led on any more.
    fn unneeded_segments(&self) -> Result<Vec<PathBuf>> {
        let entries = self.list()?;
        let mut unneeded = Vec::new();
        for archive in archives(&self.path)? {
            let store = hex(&archive.store_id());
            let of_store = entries.iter().filter_map(BackupEntry::good).filter(|manifest| manifest.store_id == store);
            if let Some(oldest) = of_store.map(|manifest| manifest.lsn).min() {
                unneeded.extend(archive.before(oldest).map(Path::to_path_buf));
            }
        }
        Ok(unneeded)
    }

    /// Reads a backup, and everything that it builds on, in full: each row, and the hash of the content if it has
    /// one.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Backup`], [`Error::Io`].
    pub fn verify(&self, entry: &BackupEntry) -> Result<()> {
        let chain = Chain::open(&entry.path)?;
        let mut silent: Watch<'_> = BackupOptions::new().watch(&entry.path);
        chain.verify_streams(&mut silent)?;
        let found = hex(&hash_of(&chain).map_err(|e| e.in_file(&entry.path))?);
        match chain.manifest().content_hash.as_ref().filter(|expected| **expected != found) {
            Some(expected) => {
                Err(Error::corrupt(CorruptionKind::Backup, 0, None, expected, found).in_file(&entry.path))
            }
            None => Ok(()),
        }
    }

    /// The newest good backup made at a time or before.
    pub(super) fn newest_at(&self, at: Option<SystemTime>) -> Result<PathBuf> {
        let at = at.map(|at| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros());
        let entries = self.list()?;
        let good = entries
            .iter()
            .filter(|entry| entry.good().is_some_and(|m| at.is_none_or(|at| u128::from(m.time_us) <= at)));
        newest(good).map(|entry| entry.path.clone()).ok_or_else(|| {
            let reason = if entries.is_empty() {
                "there is no backup in it"
            } else {
                "no backup in it is good, and early enough"
            };
            Error::Backup { path: self.path.clone(), reason: reason.to_owned() }
        })
    }

    /// The backup that an increment of a store builds on.
    fn base_for(&self, store_id: &str) -> Result<Option<PathBuf>> {
        let entries = self.list()?;
        let of_store = entries.iter().filter(|entry| entry.good().is_some_and(|m| m.store_id == store_id));
        let base = newest(of_store).filter(|entry| depth(&entries, entry) < LONGEST_CHAIN);
        Ok(base.map(|entry| entry.path.clone()))
    }

    /// The right to make and remove backups here; given back when the file is closed.
    fn lock(&self) -> Result<File> {
        let path = self.path.join(".lock");
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|e| Error::io("open", &path, e))?;
        // A child that is being started by another thread has the lock, too, until it runs its program.
        for attempt in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE * attempt),
                Err(fs::TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
            }
        }
        let waited = LOCK_PAUSE * (LOCK_TRIES * (LOCK_TRIES - 1) / 2);
        Err(Error::Busy { path, lock: LockKind::BackupDirectory, waited, holder: None })
    }
}

/// An increment is as good as what it builds on.
fn judge_chains(entries: &mut [BackupEntry]) {
    loop {
        let good: BTreeSet<String> = entries.iter().filter_map(|entry| Some(entry.good()?.id.clone())).collect();
        let mut changed = false;
        for entry in entries.iter_mut() {
            let base = entry.good().and_then(|manifest| manifest.base.as_ref());
            if base.is_some_and(|base| !good.contains(&base.id)) {
                entry.state = BackupState::BaseMissing;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// The newest of some good backups. Of one store that is the one with the newest transaction, whatever the clock
/// said; of several stores (restoring begins a new one) the latest counts.
fn newest<'e>(good: impl Iterator<Item = &'e BackupEntry>) -> Option<&'e BackupEntry> {
    let good: Vec<(&BackupEntry, &Manifest)> = good.filter_map(|entry| Some((entry, entry.good()?))).collect();
    let (_, latest) = good.iter().max_by_key(|(_, manifest)| manifest.time_us)?;
    let of_store = good.iter().filter(|(_, manifest)| manifest.store_id == latest.store_id);
    of_store.max_by_key(|(_, manifest)| (manifest.lsn, manifest.time_us)).map(|(entry, _)| *entry)
}

/// How many increments lead to a full backup.
fn depth(entries: &[BackupEntry], entry: &BackupEntry) -> usize {
    let mut at = entry.good();
    let mut depth = 0;
    while let Some(base) = at.and_then(|manifest| manifest.base.as_ref()).filter(|_| depth <= entries.len()) {
        at = entries.iter().filter_map(BackupEntry::good).find(|manifest| manifest.id == base.id);
        depth += 1;
    }
    depth
}

/// What a rule does not keep, an increment before what it builds on.
fn to_remove(entries: &[BackupEntry], keep: &Keep, now_us: u64) -> Vec<PathBuf> {
    let good: BTreeMap<&str, (&BackupEntry, &Manifest)> =
        entries.iter().filter_map(|entry| entry.good().map(|m| (m.id.as_str(), (entry, m)))).collect();
    let future = |manifest: &Manifest| manifest.time_us > now_us.saturating_add(FUTURE_US);
    let times: Vec<u64> = good.values().filter(|(_, m)| !future(m)).map(|(_, m)| m.time_us).collect();
    let kept_times = keep.kept(&times);
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    let stores: BTreeSet<&str> = good.values().map(|(_, m)| m.store_id.as_str()).collect();
    for store in stores {
        let of_store = || good.values().filter(|(_, m)| m.store_id == store);
        let last = of_store().max_by_key(|(_, m)| (m.lsn, m.time_us));
        let latest = of_store().max_by_key(|(_, m)| m.time_us);
        kept.extend(last.into_iter().chain(latest).map(|(_, m)| m.id.as_str()));
    }
    kept.extend(
        good.values().filter(|(_, m)| future(m) || kept_times.contains(&m.time_us)).map(|(_, m)| m.id.as_str()),
    );
    // And all that those build on.
    let mut open: Vec<&str> = kept.iter().copied().collect();
    while let Some(id) = open.pop() {
        let base = good.get(id).and_then(|(_, m)| m.base.as_ref());
        if let Some(base) = base.filter(|base| kept.insert(&base.id)) {
            open.push(&base.id);
        }
    }
    let mut gone: Vec<&BackupEntry> =
        good.iter().filter(|(id, _)| !kept.contains(*id)).map(|(_, (entry, _))| *entry).collect();
    gone.sort_by_key(|entry| std::cmp::Reverse(depth(entries, entry)));
    gone.into_iter().map(|entry| entry.path.clone()).collect()
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
