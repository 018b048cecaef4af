//! How a store is opened, and created if it does not exist.

use super::Store;
use super::registry::{Subject, Turn};
use crate::archive::keeper::Keeper;
use crate::disk::format::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, MIN_PAGE_SIZE};
use crate::disk::heap::HeapFile;
use crate::disk::host::random;
use crate::disk::netfs::remote_filesystem;
use crate::disk::platform::Disk as _;
use crate::disk::rename::{parent_of, remove_leftovers, rename_to_free_name, temporary_name};
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::engine::commit::Durability;
use crate::engine::open_store::OpenStore;
use crate::engine::{DEFAULT_LOG_CAP, DEFAULT_TIMEOUT, Engine, MAX_LOG_CAP, MIN_LOG, Settings, open};
use crate::error::{Error, Result};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a file may be replaced while it is being opened.
const OPENINGS: usize = 3;

/// How to open a store. The defaults suit most programs: create if missing, read and write, wait up to 30 s for a
/// lock.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// use std::time::Duration;
/// let store = memstone::Options::new().timeout(Duration::from_secs(5)).open(&path)?;
/// assert!(memstone::Options::new().create(false).open(dir.path().join("absent.mst")).is_err());
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("memory.mst");
/// let store = memstone::Options::new()
///     .page_size(16 << 10)
///     .log_cap(8 << 20)
///     .memory_map(false)
///     .single_process(true)
///     .open(&path)?;
/// let stats = store.stats()?;
/// assert_eq!((stats.page_size, stats.log.cap), (16 << 10, 8 << 20));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    create: bool,
    read_only: bool,
    timeout: Duration,
    page_size: u32,
    log_cap: u64,
    single_process: bool,
    memory_map: bool,
    application: u32,
    archive: Option<PathBuf>,
    mode: Option<u32>,
    durability: Durability,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            create: true,
            read_only: false,
            timeout: Duration::from_secs(30),
            page_size: DEFAULT_PAGE_SIZE,
            log_cap: DEFAULT_LOG_CAP,
            single_process: false,
            memory_map: cfg!(target_pointer_width = "64"),
            application: 0,
            archive: None,
            mode: None,
            durability: Durability::Sync,
        }
    }
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new() -> Options {
        Options::default()
    }

    /// Whether a store that does not exist is created. Default: yes.
    #[must_use]
    pub fn create(mut self, create: bool) -> Options {
        self.create = create;
        self
    }

    /// Whether the store is only read. If so, nothing is ever written to the file. Default: no.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// use memstone::{Error, Options, Store};
    /// Store::open(&path)?.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let store = Options::new().read_only(true).open(&path)?;
    /// assert_eq!(store.read()?.raw("t")?.len()?, 1);
    /// assert!(matches!(store.begin_write(), Err(Error::ReadOnly { .. })));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Options {
        self.read_only = read_only;
        self
    }

    /// How long this handle, and its clones, wait before [`Error::Busy`] for a turn to write, unless the
    /// [`WriteOptions`](crate::WriteOptions) say otherwise, and for the locks of the calls that make checkpoints:
    /// [`Store::checkpoint`], [`Store::compact`], [`Store::clone_to`], those that create and delete named snapshots, and
    /// those of the archive. Default: 30 s.
    ///
    /// The handle that opens the store in this process sets it for everything else: opening, reading without the sidecar's
    /// hints, flushing, and a transaction that has its turn, which waits for a running checkpoint if the log has no room
    /// for it, or for the pages of a [`ValueWriter`](crate::ValueWriter).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// use memstone::{Error, Options};
    /// use std::time::Duration;
    /// let patient = Options::new().open(&path)?;
    /// let hasty = Options::new().timeout(Duration::ZERO).open(&path)?;
    /// let tx = patient.begin_write()?;
    /// let refused = std::thread::spawn(move || hasty.write(|_| Ok(())));
    /// assert!(matches!(refused.join().unwrap(), Err(Error::Busy { .. })));
    /// # tx.rollback();
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Options {
        self.timeout = timeout;
        self
    }

    /// Page size in bytes of a new store: a power of two from 4096 to 65536. Default: 4096.
    #[must_use]
    pub fn page_size(mut self, page_size: u32) -> Options {
        self.page_size = page_size;
        self
    }

    /// The log never grows beyond this many bytes, or 16 pages if these are more; from 64 KiB to 4 GiB. It starts small, grows under load, and
    /// shrinks when the store is idle. A larger log means fewer checkpoints and a longer recovery. Default: 32
    /// MiB.
    #[must_use]
    pub fn log_cap(mut self, bytes: u64) -> Options {
        self.log_cap = bytes;
        self
    }

    /// Opens a store on a network or cluster filesystem, whose locks cannot be trusted. The caller
    /// promises that no other process opens it at the same time. Default: no.
    #[must_use]
    pub fn single_process(mut self, single_process: bool) -> Options {
        self.single_process = single_process;
        self
    }

    /// Whether pages are read through a map of the file or into private memory. Default: yes, on 64-bit hosts.
    #[must_use]
    pub fn memory_map(mut self, memory_map: bool) -> Options {
        self.memory_map = memory_map;
        self
    }

    /// Which application the store is for: a number of your choice, which a new store keeps for ever. Opening a store
    /// of another one, or of none, is [`Error::OtherApplication`]. Default: 0, which opens any store, and makes one of
    /// no application.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// use memstone::{Error, Options};
    /// let notes = Options::new().application_id(0x6e6f_7465);
    /// assert_eq!(notes.open(&path)?.stats()?.application_id, 0x6e6f_7465);
    /// let other = Options::new().application_id(7).open(&path);
    /// assert!(matches!(other, Err(Error::OtherApplication { .. })));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn application_id(mut self, application: u32) -> Options {
        self.application = application;
        self
    }

    /// The permissions of the file of a new store, as `chmod` takes them: `0o600` keeps it from other users. The sidecar
    /// follows it. Default: `0o666`, less what the process' umask takes away.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// use std::os::unix::fs::PermissionsExt;
    /// memstone::Options::new().mode(0o600).open(&path)?;
    /// assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Options {
        self.mode = Some(mode);
        self
    }

    /// How durable a commit of this handle, and its clones, is when it returns, unless its
    /// [`WriteOptions`](crate::WriteOptions) say otherwise. Default: [`Durability::Sync`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// use memstone::{Durability, Options};
    /// let store = Options::new().durability(Durability::Relaxed).open(&path)?;
    /// store.write(|tx| tx.raw("log")?.put(b"k", b"v"))?; // is flushed soon after
    /// store.flush()?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// Archives the log in this directory, as [`Store::start_archive`] does, unless the store has an archive
    /// there already. Default: the store's own setting.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// let store = memstone::Options::new().archive(dir.path().join("backups")).open(dir.path().join("memory.mst"))?;
    /// assert_eq!(store.archive_status()?.unwrap().trouble, None);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn archive(mut self, directory: impl Into<PathBuf>) -> Options {
        self.archive = Some(directory.into());
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAStore`] (a foreign or empty file, a directory: untouched),
    /// [`Error::Format`] (a newer version), [`Error::OtherApplication`], [`Error::Corrupt`], [`Error::UnsupportedFilesystem`],
    /// [`Error::NotShared`] (another process has it open, and the two would not find one sidecar),
    /// [`Error::Busy`] (another process that opens it has stopped),
    /// [`Error::Invalid`] (a page size or log cap that cannot be), [`Error::Io`]; with [`Options::archive`] as
    /// [`Store::start_archive`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        self.must_be_possible()?;
        let again = |_| match self.open_once(path) {
            // Another file has the name now: that file is the one to open.
            Err(Error::Moved { .. }) => None,
            opened => Some(opened),
        };
        let store = (1..OPENINGS).find_map(again).unwrap_or_else(|| self.open_once(path))?;
        self.archive.as_deref().map_or(Ok(()), |directory| store.archive_in(directory))?;
        Ok(store)
    }

    /// A new store in memory: see [`Store::in_memory`].
    ///
    /// ```
    /// let store = memstone::Options::new().page_size(16_384).in_memory()?;
    /// assert_eq!(store.stats()?.page_size, 16_384);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] (a page size or log cap that cannot be, an archive), [`Error::Io`].
    pub fn in_memory(&self) -> Result<Store> {
        self.must_be_possible()?;
        let nowhere = Path::new("(in memory)");
        let disk = HeapFile::new().map_err(|e| Error::io("watch for forks", nowhere, e))?;
        open::create_for(&disk, self.page_size, random(nowhere)?, self.application)?;
        let engine = Engine::open(Arc::new(disk), self.settings()).map_err(|e| e.in_file(nowhere))?;
        let store = self.handle(OpenStore::new(engine));
        self.archive.as_deref().map_or(Ok(()), |directory| store.archive_in(directory))?;
        Ok(store)
    }

    fn must_be_possible(&self) -> Result<()> {
        if !self.page_size.is_power_of_two() || !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&self.page_size) {
            let size = self.page_size;
            return Err(Error::Invalid(format!("a page size of {size} is not a power of two from 4096 to 65536")));
        }
        if !(MIN_LOG..=MAX_LOG_CAP).contains(&self.log_cap) {
            let cap = self.log_cap;
            return Err(Error::Invalid(format!("a log cap of {cap} bytes is not from {MIN_LOG} to {MAX_LOG_CAP}")));
        }
        Ok(())
    }

    fn open_once(&self, path: &Path) -> Result<Store> {
        let there = || UnixDisk::open(path, OpenMode { read_only: self.read_only, ..OpenMode::default() });
        let disk = match there() {
            Err(Error::NotFound { .. }) if self.create && !self.read_only => {
                let _turn = Turn::take(Subject::Path(path.to_path_buf()), path, self.timeout)?;
                match there() {
                    Err(Error::NotFound { .. }) => {
                        self.refuse_remote(path)?;
                        self.create_file(path)?;
                        there()?
                    }
                    other => other?,
                }
            }
            other => other?,
        };
        // One at a time, so that two threads that open the same file share the store.
        let turn = Turn::take(Subject::File(disk.identity(), self.read_only), path, self.timeout)?;
        if let Some(open) = turn.store() {
            if self.application != 0 {
                open.engine().slots()?.newest.must_be_of(self.application, path)?;
            }
            return Ok(self.handle(open));
        }
        self.refuse_remote(path)?;
        let disk = Arc::new(disk);
        let engine = Engine::open(Arc::<UnixDisk>::clone(&disk), self.settings()).map_err(|e| e.in_file(path))?;
        if !self.read_only && engine.known_root() <= 1 {
            // Its maker may not have made the new store's name durable yet.
            disk.sync_name()?;
        }
        let open = OpenStore::new(engine);
        turn.opened(&open);
        Ok(self.handle(open))
    }

    fn settings(&self) -> Settings {
        Settings {
            timeout: self.timeout,
            patience: DEFAULT_TIMEOUT,
            log_cap: self.log_cap,
            memory_map: self.memory_map,
            threads: true,
            application: self.application,
            archive: Some(Arc::<Keeper>::default()),
        }
    }

    fn handle(&self, open: Arc<OpenStore>) -> Store {
        Store { open, timeout: self.timeout, durability: self.durability }
    }

    fn refuse_remote(&self, path: &Path) -> Result<()> {
        if self.single_process {
            return Ok(());
        }
        let place = if path.exists() { path.to_path_buf() } else { parent_of(path) };
        match remote_filesystem(&place) {
            Ok(Some(kind)) => Err(Error::UnsupportedFilesystem { path: path.to_path_buf(), kind }),
            Ok(None) => Ok(()),
            Err(e) => Err(Error::io("look at the filesystem", path, e)),
        }
    }

    /// Makes an empty store under another name, and gives it its own name once it is whole and durable: a crash
    /// leaves no half-made store, and if two processes do so at once, one wins.
    fn create_file(&self, path: &Path) -> Result<()> {
        let store_id = random(path)?;
        let temporary = temporary_name(path, "new")?;
        let disk = UnixDisk::open(&temporary, OpenMode { read_only: false, create: true })
            .map_err(|e| if let Error::Io { op, cause, .. } = e { Error::io(op, path, cause) } else { e })?;
        // It is empty so far: until its permissions are set, there is nothing in it to read.
        let permitted = self.mode.map_or(Ok(()), |mode| fs::set_permissions(&temporary, Permissions::from_mode(mode)));
        let made = permitted
            .map_err(|e| Error::io("set the permissions", path, e))
            .and_then(|()| open::create_for(&disk, self.page_size, store_id, self.application))
            .and_then(|()| give_name(&temporary, path).map_err(|e| Error::io("name the new store", path, e)));
        drop(disk);
        let _ = std::fs::remove_file(&temporary);
        remove_leftovers(path, "new", |_| true);
        made
    }
}

/// Gives a file its name unless the name is taken: then the process that took it has won.
fn give_name(temporary: &Path, path: &Path) -> std::io::Result<()> {
    // Some filesystems have no hard links, and some of those cannot rename without replacing. On the latter, if
    // two processes create the store in the same moment, one may replace the other's store, which is still empty.
    let named = std::fs::hard_link(temporary, path).or_else(|refused| match refused.kind() {
        std::io::ErrorKind::AlreadyExists => Err(refused),
        _ => rename_to_free_name(temporary, path),
    });
    match named {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported && !path.exists() => std::fs::rename(temporary, path),
        named => named,
    }
}

impl Store {
    /// Opens a store, with the default [`Options`]; creates it if it does not exist.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Options::new().open(path)
    }

    /// A new, empty store in the memory of this process, with all of the interface but what concerns its file: for
    /// tests, and for data that need not outlive the process. Its clones are the same store; when the last handle,
    /// snapshot or transaction is dropped, it is gone.
    ///
    /// It takes the same way as a store in a file, log and checkpoints included, so it takes as much memory as the
    /// file would take space, pages are copied when they are read, and no commit waits for a disk. There is no other
    /// process, and no archive. A backup ([`Snapshot::backup_to`](crate::Snapshot::backup_to)) or a clone
    /// ([`Store::clone_to`]) keeps it in a file.
    ///
    /// ```
    /// let store = memstone::Store::in_memory()?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let other = store.clone();
    /// let reader = std::thread::spawn(move || other.read()?.raw("t")?.contains(b"k"));
    /// assert!(reader.join().unwrap()?);
    /// assert!(memstone::Store::in_memory()?.read()?.tables()?.is_empty());
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses random bytes or a thread.
    pub fn in_memory() -> Result<Store> {
        Options::new().in_memory()
    }

    /// The default [`Options`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// use memstone::Store;
    /// assert!(Store::options().create(false).open(&path).is_err());
    /// let store = Store::options().mode(0o600).open(&path)?;
    /// assert_eq!(store.path(), path);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    #[must_use]
    pub fn options() -> Options {
        Options::new()
    }
}
