//! A clone: the file of a store, as it is, as a store of its own, made while other processes write.

use crate::disk::format::put_bytes;
use crate::disk::host::random;
use crate::disk::platform::Disk;
use crate::disk::reflink::share_blocks;
use crate::disk::root::{Root, Slots, read_head, read_slots};
use crate::engine::Engine;
use crate::error::{CorruptionKind, Error, Result};
use crate::maintain::check::{CheckOptions, check};
use crate::{Snapshot, Store};
use std::fs::File;
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::options::{BackupProgress, BackupStep, Callback, Watch};
use super::place::{Temporary, must_be_free};
use super::restore::Alone;

/// A copy reads and writes so much at a time.
const PIECE: u64 = 1 << 20;

/// How [`Store::clone_with`] works.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use std::ops::ControlFlow;
/// let options = || memstone::CloneOptions::new().quick(true);
/// store.clone_with(dir.path().join("clone.mst"), options())?;
/// let mut steps = 0;
/// let counting = options().overwrite(true).progress(|_| {
///     steps += 1;
///     ControlFlow::Continue(())
/// });
/// store.clone_with(dir.path().join("clone.mst"), counting)?;
/// assert!(steps > 0);
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Default)]
pub struct CloneOptions<'p> {
    overwrite: bool,
    quick: bool,
    callback: Option<Callback<'p>>,
}

shows! { self: CloneOptions<'_> { overwrite: self.overwrite, quick: self.quick } }

impl<'p> CloneOptions<'p> {
    /// The defaults: nothing is replaced, and the clone is verified.
    #[must_use]
    pub fn new() -> CloneOptions<'p> {
        CloneOptions::default()
    }

    /// Whether an existing file of that name is replaced, in one step; not while a process has it open. Default:
    /// no.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> CloneOptions<'p> {
        self.overwrite = overwrite;
        self
    }

    /// Whether the verification of the clone is skipped. Default: no.
    #[must_use]
    pub fn quick(mut self, quick: bool) -> CloneOptions<'p> {
        self.quick = quick;
        self
    }

    /// Called at every step, and every few megabytes while pages are copied (`bytes`); `ControlFlow::Break` ends
    /// the call with [`Error::Cancelled`], and nothing is left behind. While pages are copied no checkpoint can
    /// run, so the callback should be quick then.
    #[must_use]
    pub fn progress(mut self, callback: impl FnMut(&BackupProgress) -> ControlFlow<()> + 'p) -> CloneOptions<'p> {
        self.callback = Some(Box::new(callback));
        self
    }
}

/// What [`Store::clone_to`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloneReport {
    /// The newest transaction at the time of the call. The clone contains it, and may contain newer ones.
    pub lsn: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Whether the clone shares its blocks with the store's file, and so needs no space until either changes.
    /// Otherwise it is a copy.
    pub shares_blocks: bool,
}

impl Store {
    /// Makes a clone: the store's file, as it is at one moment, as a store of its own, with tables, free space
    /// and named snapshots. It is one committed state that includes every commit acknowledged before the call;
    /// other processes continue. Where the filesystem supports it (btrfs, XFS), the clone shares its blocks with
    /// the store's file, which takes no space and almost no time. Otherwise the file is copied: meanwhile other
    /// processes can commit as long as the log has room, and at the end they wait while the log is copied.
    ///
    /// The clone has its own id, so the first backup of it in a series of increments is a full one, and it does
    /// not continue the store's archive. It is verified, flushed, and then gets its name; its mode is 0600. For a
    /// compact file, or to another machine, see [`Snapshot::backup_to`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let report = store.clone_to(dir.path().join("clone.mst"))?;
    /// assert_eq!(report.lsn, store.last_commit()?);
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"other"))?;
    /// let clone = memstone::Store::open(dir.path().join("clone.mst"))?;
    /// assert_eq!(clone.read()?.raw("t")?.get(b"k")?.unwrap(), b"v");
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::ReadOnly`] on a read-only handle, since a clone takes locks that keep writers
    /// out; [`Error::Busy`] if these were not free before the timeout; [`Error::Full`], [`Error::Corrupt`] (the
    /// store is damaged), [`Error::Io`], [`Error::Forked`]. Nothing is left behind.
    pub fn clone_to(&self, path: impl AsRef<Path>) -> Result<CloneReport> {
        self.clone_with(path, CloneOptions::new())
    }

    /// [`Store::clone_to`] with options: replacing a file, not verifying, progress and cancellation.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::{CloneOptions, Error};
    /// use std::ops::ControlFlow;
    /// let clone = dir.path().join("clone.mst");
    /// let cancelled = store.clone_with(&clone, CloneOptions::new().progress(|_| ControlFlow::Break(())));
    /// assert!(matches!(cancelled, Err(Error::Cancelled { .. })) && !clone.exists());
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::clone_to`]; [`Error::Cancelled`]; [`Error::InUse`] while a process has the store to be
    /// replaced open.
    pub fn clone_with(&self, path: impl AsRef<Path>, options: CloneOptions<'_>) -> Result<CloneReport> {
        let path = path.as_ref();
        let CloneOptions { overwrite, quick, callback } = options;
        let mut watch = Watch::new(callback, path);
        watch.step(BackupStep::Open)?;
        must_be_free(path, overwrite)?;
        let alone = || if overwrite { Alone::with(path) } else { Ok(None) };
        drop(alone()?);
        let lsn = self.read().map(|snapshot: Snapshot| snapshot.lsn())?;
        // So that writers do not wait while what is dirty now is written.
        self.flush()?;
        let file = Temporary::create(path)?;
        let shares_blocks =
            image(self.engine(), self.timeout(), &file, &mut watch).map_err(|e| e.in_file(self.path()))?;
        let disk = file.disk()?;
        give_id(&disk, file.path())?;
        if !quick {
            watch.step(BackupStep::Check)?;
            verify(file.path(), self.path())?;
        }
        watch.step(BackupStep::Flush)?;
        file.flush()?;
        let bytes = disk.len().map_err(|e| Error::io("read the length", file.path(), e))?;
        let replaced = alone()?;
        file.give_name(overwrite, &mut watch)?;
        drop(replaced);
        Ok(CloneReport { lsn, bytes, shares_blocks })
    }
}

/// Fills a file with the store's bytes of one moment. Tells whether they share their blocks.
fn image(engine: &Arc<Engine>, timeout: Duration, file: &Temporary, watch: &mut Watch<'_>) -> Result<bool> {
    let pages = engine.hold_pages(timeout)?;
    if let Some(from) = same_file(engine) {
        let _still = pages.hold_log()?;
        match share_blocks(&from, file.file()) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(e) => return Err(Error::io("share the blocks of", file.path(), e)),
        }
    }
    watch.step(BackupStep::Copy)?;
    let (log, to) = (pages.log()?, file.disk()?);
    let len = engine.disk.len().map_err(|e| Error::io("read the length", engine.path(), e))?;
    to.set_len(len).map_err(|e| Error::io("set the length", file.path(), e))?;
    copy(engine, &to, 0..len, &mut |bytes| watch.rows(0, bytes))?;
    // The log has gone on; what was copied of it may not fit together.
    let _still = pages.hold_log()?;
    // (The caller is not asked under APPEND: what it may do in its answer would wait for that.)
    log.into_iter()
        .try_for_each(|range| copy(engine, &to, range.start.min(len)..range.end.min(len), &mut |_| Ok(())))?;
    Ok(false)
}

/// The store's file, if its path still leads to it.
fn same_file(engine: &Engine) -> Option<File> {
    let file = File::open(engine.path()).ok()?;
    let (meta, identity) = (file.metadata().ok()?, engine.disk.identity());
    ((meta.dev(), meta.ino()) == (identity.device, identity.inode)).then_some(file)
}

fn copy(engine: &Engine, to: &dyn Disk, range: Range<u64>, copied: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; usize::try_from(PIECE).unwrap_or(0)];
    let mut at = range.start;
    while at < range.end {
        let size = usize::try_from((range.end - at).min(PIECE)).unwrap_or(0);
        let piece = buffer.get_mut(..size).unwrap_or_default();
        let read = engine.disk.read_at(piece, at).map_err(|e| Error::io("read", engine.path(), e))?;
        if read == 0 {
            break;
        }
        let piece = piece.get(..read).unwrap_or_default();
        to.write_at(piece, at).map_err(|e| Error::io("write", to.path(), e))?;
        at += read as u64;
        copied(read)?;
    }
    Ok(())
}

/// Makes a store of its own out of the image. All pages bear the first four bytes of the id, so those stay.
fn give_id(disk: &dyn Disk, path: &Path) -> Result<()> {
    let head = read_head(|bytes, at| disk.read_at(bytes, at)).map_err(|e| Error::io("read", path, e))?;
    let Slots { newest, older } = read_slots(&head, path)?;
    let mut id: [u8; 16] = random(path)?;
    put_bytes(&mut id, 0, &newest.store_tag().to_le_bytes());
    for root in older.into_iter().chain([newest]) {
        let root = Root { store_id: id, ..root };
        disk.write_at(&root.encode(), root.offset()).map_err(|e| Error::io("write", path, e))?;
    }
    Ok(())
}

fn verify(clone: &Path, source: &Path) -> Result<()> {
    let report = check(clone, &CheckOptions::new().max_findings(1))?;
    match report.findings.first() {
        Some(finding) if !report.is_clean() => {
            let found = format!("{}; the store itself may be damaged: check it", finding.message);
            Err(Error::corrupt(CorruptionKind::Clone, 0, None, "a sound store", found).in_file(source))
        }
        _ => Ok(()),
    }
}
