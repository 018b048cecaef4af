//! Options of backups and restores, and the progress that their callers receive.

use crate::error::{Error, Result};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::moment::Moment;

/// The callback is called at least this often, in bytes of keys and values.
const TOLD_EVERY: u64 = 4 << 20;

/// What a backup or a restore is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackupStep {
    /// Opening the source.
    Open,
    /// Reading rows, and writing them to a file under a temporary name.
    Copy,
    /// Reading and verifying what was written.
    Check,
    /// Flushing what was written.
    Flush,
    /// About to give the file its name: the last moment at which it can be cancelled.
    Name,
    /// The file to be replaced has its second name, and the new file does not have its own yet.
    Replace,
    /// The file has its name, which is not flushed yet.
    Named,
}

/// The progress of a backup or a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// What it is doing.
    pub step: BackupStep,
    /// Rows copied so far.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Rows in all.
    pub total_rows: u64,
}

pub(super) type Callback<'p> = Box<dyn FnMut(&BackupProgress) -> ControlFlow<()> + 'p>;

/// How [`Snapshot::backup_with`](crate::Snapshot::backup_with) works.
///
/// ```
/// use std::ops::ControlFlow;
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// # store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
/// let mut rows = 0;
/// let options = memstone::BackupOptions::new().progress(|progress| {
///     rows = progress.rows;
///     ControlFlow::Continue(())
/// });
/// store.read()?.backup_with(dir.path().join("backup.mst"), options)?;
/// assert_eq!(rows, 1);
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Default)]
pub struct BackupOptions<'p> {
    pub(super) overwrite: bool,
    pub(super) since: Option<PathBuf>,
    pub(super) prove: bool,
    pub(super) compress: bool,
    callback: Option<Callback<'p>>,
}

shows! { self: BackupOptions<'_> { overwrite: self.overwrite, since: self.since, prove: self.prove, compress: self.compress } }

impl<'p> BackupOptions<'p> {
    /// The defaults: a full backup that replaces nothing.
    #[must_use]
    pub fn new() -> BackupOptions<'p> {
        BackupOptions::default()
    }

    /// Whether an existing file of that name is replaced, in one step. Default: no.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::{BackupOptions, Error};
    /// let path = dir.path().join("backup.mst");
    /// let backup = |overwrite| store.read()?.backup_with(&path, BackupOptions::new().overwrite(overwrite));
    /// backup(false)?;
    /// assert!(matches!(backup(false), Err(Error::Exists { .. })));
    /// backup(true)?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> BackupOptions<'p> {
        self.overwrite = overwrite;
        self
    }

    /// Makes an increment: only the changes since this other backup of the same store, which may be a full backup
    /// or an increment. Restoring needs it and everything that it builds on.
    ///
    /// The versions of the tree's nodes show what has not changed. They are wrong if the store's file was put
    /// back, in place, from a copy that is older than the base: in that case make a full backup, or use
    /// [`BackupOptions::prove`], which detects it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::{BackupKind, BackupOptions};
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"1"))?;
    /// let base = dir.path().join("base.mst");
    /// store.read()?.backup_to(&base)?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"2"))?;
    /// let options = BackupOptions::new().since(&base).prove(true);
    /// let manifest = store.read()?.backup_with(dir.path().join("change"), options)?;
    /// assert_eq!(manifest.kind, BackupKind::Increment);
    /// memstone::restore(dir.path().join("change"), dir.path().join("again.mst"), memstone::RestoreOptions::new())?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn since(mut self, base: impl Into<PathBuf>) -> BackupOptions<'p> {
        self.since = Some(base.into());
        self
    }

    /// Whether an increment is verified before it gets its name: the whole state is read for its content hash,
    /// and everything that the increment builds on, to check that it gives that content. That takes as long as
    /// reading both. (A full backup is always verified.) Default: no.
    #[must_use]
    pub fn prove(mut self, prove: bool) -> BackupOptions<'p> {
        self.prove = prove;
        self
    }

    /// Whether an increment or a stream is compressed with zstd. Default: no. Full backups in a file are
    /// stores, which are not compressed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", &[7; 100_000]))?;
    /// let length = |compress| {
    ///     let mut stream = Vec::new();
    ///     let options = memstone::BackupOptions::new().compress(compress);
    ///     store.read()?.backup_into(&mut stream, options).map(|_| stream.len())
    /// };
    /// assert!(length(true)? < length(false)?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compress(mut self, compress: bool) -> BackupOptions<'p> {
        self.compress = compress;
        self
    }

    /// Called at every step and every few megabytes; `ControlFlow::Break` ends the backup with
    /// [`Error::Cancelled`], and nothing of it is left.
    #[must_use]
    pub fn progress(mut self, callback: impl FnMut(&BackupProgress) -> ControlFlow<()> + 'p) -> BackupOptions<'p> {
        self.callback = Some(Box::new(callback));
        self
    }

    pub(super) fn watch(&mut self, path: &Path) -> Watch<'p> {
        Watch::new(self.callback.take(), path)
    }
}

/// How [`restore`](crate::restore) works.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use memstone::{BackupDir, BackupOptions, RestoreOptions, Store};
/// use std::ops::ControlFlow;
/// let backups = BackupDir::create(dir.path().join("backups"))?;
/// let backup = |value| {
///     store.write(|tx| tx.raw("t")?.put(b"k", value))?;
///     backups.backup(&store.read()?, false, BackupOptions::new())
/// };
/// let first = backup(b"1")?.manifest.unwrap();
/// backup(b"2")?;
/// let mut rows = 0;
/// let options = RestoreOptions::new().at(first.time()).overwrite(true).progress(|progress| {
///     rows = progress.rows;
///     ControlFlow::Continue(())
/// });
/// let report = memstone::restore(backups.path(), dir.path().join("again.mst"), options)?;
/// assert_eq!((report.manifest.id, rows), (first.id, 1));
/// assert_eq!(Store::open(dir.path().join("again.mst"))?.read()?.raw("t")?.get(b"k")?.unwrap(), b"1");
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Default)]
pub struct RestoreOptions<'p> {
    pub(super) overwrite: bool,
    pub(super) at: Option<SystemTime>,
    pub(super) to: Option<Moment>,
    callback: Option<Callback<'p>>,
}

shows! { self: RestoreOptions<'_> { overwrite: self.overwrite, at: self.at, to: self.to } }

impl<'p> RestoreOptions<'p> {
    /// The defaults: the newest state of the source, and no file is replaced.
    #[must_use]
    pub fn new() -> RestoreOptions<'p> {
        RestoreOptions::default()
    }

    /// Whether an existing store of that name is replaced; it is kept under another name. Default: no.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> RestoreOptions<'p> {
        self.overwrite = overwrite;
        self
    }

    /// From a directory of backups, restores the newest one that was made at this time or before. Default: the
    /// newest.
    #[must_use]
    pub fn at(mut self, time: SystemTime) -> RestoreOptions<'p> {
        self.at = Some(time);
        self
    }

    /// From a directory of backups with an archive ([`Store::start_archive`](crate::Store::start_archive)),
    /// restores this moment: the newest backup before it, and the transactions archived since. If some of these
    /// are missing, the restore is refused with [`Error::Backup`](crate::Error::Backup), which says what is
    /// missing. Default: a backup's own state.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::{BackupDir, BackupOptions, Moment, RestoreOptions, Store};
    /// let backups = dir.path().join("backups");
    /// store.start_archive(&backups)?;
    /// BackupDir::open(&backups)?.backup(&store.read()?, false, BackupOptions::new())?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// store.archive_now()?;
    /// let again = dir.path().join("again.mst");
    /// memstone::restore(&backups, &again, RestoreOptions::new().to(Moment::Newest))?;
    /// assert!(Store::open(&again)?.read()?.raw("t")?.contains(b"k")?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn to(mut self, moment: Moment) -> RestoreOptions<'p> {
        self.to = Some(moment);
        self
    }

    /// Called at every step and every few megabytes; `ControlFlow::Break` ends the restore with
    /// [`Error::Cancelled`], and nothing was changed.
    #[must_use]
    pub fn progress(mut self, callback: impl FnMut(&BackupProgress) -> ControlFlow<()> + 'p) -> RestoreOptions<'p> {
        self.callback = Some(Box::new(callback));
        self
    }

    pub(super) fn watch(&mut self, path: &Path) -> Watch<'p> {
        Watch::new(self.callback.take(), path)
    }
}

/// Reports the progress to the caller's callback, which may cancel.
pub(super) struct Watch<'p> {
    callback: Option<Callback<'p>>,
    /// What an error is about.
    path: PathBuf,
    progress: BackupProgress,
    told: u64,
}

impl<'p> Watch<'p> {
    pub(super) fn new(callback: Option<Callback<'p>>, path: &Path) -> Watch<'p> {
        let path = path.to_path_buf();
        let progress = BackupProgress { step: BackupStep::Open, rows: 0, bytes: 0, total_rows: 0 };
        Watch { callback, path, progress, told: 0 }
    }

    /// Another step begins.
    pub(super) fn step(&mut self, step: BackupStep) -> Result<()> {
        self.progress.step = step;
        self.tell()
    }

    pub(super) fn expect(&mut self, rows: u64) {
        self.progress.total_rows = rows;
    }

    /// Rows of so many bytes were copied.
    pub(super) fn rows(&mut self, rows: u64, bytes: usize) -> Result<()> {
        self.progress.rows += rows;
        self.progress.bytes += bytes as u64;
        if self.progress.bytes - self.told < TOLD_EVERY { Ok(()) } else { self.tell() }
    }

    /// Reports the progress; an error if the callback cancels.
    pub(super) fn tell(&mut self) -> Result<()> {
        self.told = self.progress.bytes;
        match self.callback.as_mut().map(|callback| callback(&self.progress)) {
            Some(ControlFlow::Break(())) => Err(Error::Cancelled { path: self.path.clone() }),
            _ => Ok(()),
        }
    }
}
