//! Backing up a snapshot: to a file that is an ordinary store, to an increment, or to a stream.

use crate::disk::host::{random, unix_us};
use crate::disk::platform::Disk;
use crate::error::{CorruptionKind, Error, Result};
use crate::maintain::check::{CheckOptions, check};
use crate::maintain::content::ContentHash;
use crate::txn::snapshot::Snapshot;
use crate::txn::versions::user_version_of;
use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use super::builder::StoreBuilder;
use super::chain::Chain;
use super::increment::write_increment;
use super::manifest::{BackupBase, BackupKind, Manifest, hex};
use super::options::{BackupOptions, BackupStep, Watch};
use super::place::{Temporary, must_be_free};
use super::rows::{Item, Source, State, copy, counted};
use super::stream::StreamWriter;

/// From so many cores on a backup uses two of them at a time; with fewer, one.
const CORES: usize = 4;
/// What a stream is called in errors.
const STREAM: &str = "the stream";

impl Snapshot {
    /// Makes a full backup: a new file, itself an ordinary, compact store, with the content of this snapshot and
    /// a [`Manifest`] behind its pages. Other processes read and write meanwhile; only the snapshot's own pages
    /// are kept from being reused. The file gets its name when it is whole, durable and verified; its mode is
    /// 0600.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let manifest = store.read()?.backup_to(dir.path().join("backup.mst"))?;
    /// assert_eq!((manifest.rows(), manifest.lsn), (1, store.last_commit()?));
    /// let backup = memstone::Store::open(dir.path().join("backup.mst"))?;
    /// assert_eq!(backup.read()?.raw("t")?.get(b"k")?.unwrap(), b"v");
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Full`], [`Error::Corrupt`] (what was read, or what was written, is damaged), [`Error::Io`],
    /// [`Error::Forked`]. Nothing is left behind.
    pub fn backup_to(&self, path: impl AsRef<Path>) -> Result<Manifest> {
        self.backup_with(path, BackupOptions::new())
    }

    /// [`Snapshot::backup_to`] with options: an increment, replacing a file, progress and cancellation.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::BackupOptions;
    /// let path = dir.path().join("backup.mst");
    /// store.read()?.backup_to(&path)?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let newer = store.read()?.backup_with(&path, BackupOptions::new().overwrite(true))?;
    /// assert_eq!(newer.rows(), 1);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::backup_to`]; [`Error::Cancelled`]; [`Error::Backup`] if an increment cannot build on the
    /// given backup.
    pub fn backup_with(&self, path: impl AsRef<Path>, mut options: BackupOptions<'_>) -> Result<Manifest> {
        let mut watch = options.watch(path.as_ref());
        self.backup_watched(path.as_ref(), &mut options, &mut watch)
    }

    pub(super) fn backup_watched(
        &self,
        path: &Path,
        options: &mut BackupOptions<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Manifest> {
        watch.step(BackupStep::Open)?;
        must_be_free(path, options.overwrite)?;
        let state = self.state()?;
        match options.since.take() {
            Some(base) => self.increment(&state, path, &base, options, watch),
            None => self.full(&state, path, options, watch),
        }
    }

    /// Writes a full backup as a stream of all rows, to be read by [`restore`](crate::restore): to a pipe, a
    /// socket, standard output. A record at its end marks it as complete. With `BackupOptions::compress`
    /// (feature `zstd`) its blocks are compressed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// # store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let mut stream = Vec::new();
    /// store.read()?.backup_into(&mut stream, memstone::BackupOptions::new())?;
    /// std::fs::write(dir.path().join("stream"), stream).unwrap();
    /// memstone::restore(dir.path().join("stream"), dir.path().join("again.mst"), memstone::RestoreOptions::new())?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::backup_with`]; [`Error::Invalid`] for an increment, which must go to a file.
    pub fn backup_into(&self, out: impl Write, mut options: BackupOptions<'_>) -> Result<Manifest> {
        if options.since.is_some() {
            return Err(Error::Invalid("an increment is written to a file, not to a stream".to_owned()));
        }
        let mut watch = options.watch(Path::new(STREAM));
        watch.step(BackupStep::Open)?;
        let state = self.state()?;
        let mut manifest = self.describe(&state)?;
        let mut stream = StreamWriter::new(out, STREAM.into(), 0, options.compress, &manifest)?;
        watch.expect(manifest.rows());
        watch.step(BackupStep::Copy)?;
        let mut hash = ContentHash::new();
        for table in state.tables() {
            stream.table(table.id)?;
            for item in counted(table, state.items(table.id)?, &mut hash, &mut watch) {
                match self.in_file(item)? {
                    Item::Row((key, value)) => stream.row(&key, &value)?,
                    Item::Leaf(leaf) => leaf.rows(|key, value| stream.row(key, value))?,
                }
            }
        }
        manifest.content_hash = Some(hex(&hash.finish()));
        stream.finish(manifest.content_hash.clone())?;
        Ok(manifest)
    }

    /// What is backed up, to be read once.
    pub(super) fn state(&self) -> Result<State> {
        let engine = self.engine();
        engine.check_process()?;
        self.in_file(engine.for_one_pass(self.view()).and_then(State::new))
    }

    pub(super) fn describe(&self, state: &State) -> Result<Manifest> {
        let id: [u8; 16] = random(self.engine().path())?;
        let (engine, view) = (self.engine(), state.view());
        let file = engine.disk.identity();
        Ok(Manifest {
            id: hex(&id),
            kind: BackupKind::Full,
            base: None,
            store_id: hex(&engine.store_id),
            store_file: (file.device, file.inode),
            root_sequence: view.tree.root.sequence,
            lsn: view.last_commit,
            time_us: unix_us(),
            page_size: engine.page_size,
            next_table: view.tree.root.next_table,
            application_id: view.tree.root.application,
            user_version: self.in_file(user_version_of(view))?,
            tables: state.tables().to_vec(),
            content_hash: None,
        })
    }

    fn full(&self, state: &State, path: &Path, options: &BackupOptions<'_>, watch: &mut Watch<'_>) -> Result<Manifest> {
        let mut manifest = self.describe(state)?;
        let file = Temporary::create(path)?;
        let hash = self.in_file(build_store(state, &file, &manifest, CORES, watch))?;
        manifest.content_hash = Some(hex(&hash));
        append_manifest(&file, state, &manifest)?;
        verify_and_flush(&file, &manifest, watch)?;
        file.give_name(options.overwrite, watch)?;
        Ok(manifest)
    }

    fn increment(
        &self,
        state: &State,
        path: &Path,
        base: &Path,
        options: &BackupOptions<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Manifest> {
        let since = Chain::base_of_increment(base)?;
        let mut manifest = self.describe(state)?;
        must_be_a_base(&since.manifest, base, &manifest)?;
        manifest.kind = BackupKind::Increment;
        manifest.base = Some(BackupBase {
            id: since.manifest.id.clone(),
            file: base.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            root_sequence: since.manifest.root_sequence,
        });
        let touched: BTreeSet<_> = since.touched()?.into_iter().collect();
        let file = Temporary::create(path)?;
        let out = BufWriter::with_capacity(1 << 20, file.append()?.0);
        let mut stream = StreamWriter::new(out, path.to_path_buf(), 0, options.compress, &manifest)?;
        watch.step(BackupStep::Copy)?;
        self.in_file(write_increment(state, &since.manifest, &touched, &mut stream, watch))?;
        if options.prove {
            manifest.content_hash = Some(hex(&self.in_file(hash_of(state))?));
        }
        stream.finish(manifest.content_hash.clone())?;
        watch.step(BackupStep::Check)?;
        Chain::verify_increment(file.path(), base, watch)?;
        watch.step(BackupStep::Flush)?;
        file.flush()?;
        file.give_name(options.overwrite, watch)?;
        Ok(manifest)
    }
}

/// Hash of a state's content.
pub(super) fn hash_of(source: &dyn Source) -> Result<[u8; 32]> {
    let mut hash = ContentHash::new();
    let mut silent = BackupOptions::new().watch(Path::new(""));
    for table in source.tables() {
        counted(table, source.items(table.id)?, &mut hash, &mut silent).try_for_each(|item| item.map(drop))?;
    }
    Ok(hash.finish())
}

/// Writes a state as a store into an empty file, which stays to be flushed. Gives the hash of its content.
pub(super) fn build_store(
    source: &dyn Source,
    file: &Temporary,
    manifest: &Manifest,
    cores: usize,
    watch: &mut Watch<'_>,
) -> Result<[u8; 32]> {
    let disk: Arc<dyn Disk> = Arc::new(file.disk()?);
    watch.step(BackupStep::Copy)?;
    let mut builder = StoreBuilder::new(disk, manifest.page_size, manifest.application_id)?;
    let hash = copy(source, &mut builder, cores, watch)?;
    builder.finish(manifest)?;
    Ok(hash)
}

/// Puts the manifest behind the store's pages, with the keys that only the log spoke of.
fn append_manifest(file: &Temporary, state: &State, manifest: &Manifest) -> Result<()> {
    let (out, start) = file.append()?;
    let mut stream = StreamWriter::new(BufWriter::new(out), file.path().to_path_buf(), start, false, manifest)?;
    state.write_touched(&mut stream)?;
    stream.finish(manifest.content_hash.clone())?;
    Ok(())
}

/// Verifies a store that was built, while it is flushed: the one takes the processors' time, the other the disk's.
pub(super) fn verify_and_flush(file: &Temporary, manifest: &Manifest, watch: &mut Watch<'_>) -> Result<()> {
    std::thread::scope(|scope| {
        let flushing = std::thread::Builder::new().spawn_scoped(scope, || file.flush());
        verify_store(file, manifest, watch)?;
        watch.step(BackupStep::Flush)?;
        match flushing {
            Ok(flushing) => {
                flushing.join().unwrap_or_else(|_| Err(Error::Internal("flushing a file panicked".to_owned())))
            }
            // No thread is to be had.
            Err(_) => file.flush(),
        }
    })
}

/// Verifies a store that was built: every page, and as many rows in each table as were meant to be there.
fn verify_store(file: &Temporary, manifest: &Manifest, watch: &mut Watch<'_>) -> Result<()> {
    watch.step(BackupStep::Check)?;
    let report = check(file.path(), &CheckOptions::new().max_findings(1))?;
    let found: BTreeSet<_> = report.tables.iter().filter(|table| !table.internal).map(|t| (t.id, t.entries)).collect();
    let meant: BTreeSet<_> = manifest.tables.iter().filter(|table| table.rows > 0).map(|t| (t.id, t.rows)).collect();
    if report.is_clean() && meant.is_subset(&found) {
        return Ok(());
    }
    let what = report.findings.first().map_or("a table with another number of rows".to_owned(), |f| f.message.clone());
    Err(Error::corrupt(CorruptionKind::NewStore, 0, None, "what was written", what).in_file(file.path()))
}

/// An increment builds on a backup of the same file, made earlier.
fn must_be_a_base(base: &Manifest, path: &Path, now: &Manifest) -> Result<()> {
    let reason = if base.store_id != now.store_id || base.store_file != now.store_file {
        "it is a backup of another store, or of another copy of this one"
    } else if base.root_sequence > now.root_sequence || base.lsn > now.lsn {
        "it is newer than the state that is to be backed up"
    } else {
        return Ok(());
    };
    let reason = format!("no increment can build on it: {reason}; make a full backup");
    Err(Error::Backup { path: path.to_path_buf(), reason })
}
