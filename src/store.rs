//! The store: opening it, and what can be done with it.

pub(crate) mod archive;
mod changes;
mod named;
mod options;
mod registry;

use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::commit::Durability;
use crate::engine::metrics::Sample;
use crate::engine::open_store::OpenStore;
use crate::engine::stats::{Locks, Stats};
use crate::error::{Error, Result};
use crate::txn::snapshot::Snapshot;
use crate::txn::write::{Committed, WriteOptions, WriteTxn};
pub use options::Options;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A store. Cloning the handle is cheap; all handles of one file in a process share everything.
///
/// A [`Snapshot`] and a [`WriteTxn`] keep the store open, too. The last of them all to be dropped flushes what is
/// not durable and, if no other process has the store open, makes a checkpoint.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use memstone::{Store, Table};
/// const NOTES: Table<&str, String> = Table::new("notes");
///
/// let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| tx.table(NOTES)?.insert("a", &"hello".to_owned()))?;
/// assert_eq!(store.read()?.table(NOTES)?.get("a")?, Some("hello".to_owned()));
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Clone)]
pub struct Store {
    open: Arc<OpenStore>,
    /// How long it waits for a turn to write or to make a checkpoint, and how durable its commits are.
    timeout: Duration,
    durability: Durability,
}

// A panic leaves no lock held and no word half written; a write transaction that it passes is rolled back.
impl UnwindSafe for Store {}
impl RefUnwindSafe for Store {}

shows! { self: Store { path: self.path() } }

impl Store {
    /// A store over any disk, not shared within this process.
    #[cfg(test)]
    pub(crate) fn on_disk(
        disk: Arc<dyn crate::disk::platform::Disk>,
        settings: crate::engine::Settings,
    ) -> Result<Store> {
        let path = disk.path().to_path_buf();
        let timeout = settings.timeout;
        let engine = Engine::open(disk, settings).map_err(|e| e.in_file(&path))?;
        Ok(Store { open: OpenStore::new(engine), timeout, durability: Durability::Sync })
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.open.engine()
    }

    /// How long this handle waits for a turn to write or to make a checkpoint.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    fn in_file<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.in_file(self.path()))
    }

    /// The path that the store was first opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.engine().path()
    }

    /// A snapshot of the newest committed state. Waits for no writer.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// let before = store.read()?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// assert!(before.raw("t")?.is_empty()?);
    /// assert_eq!(store.read()?.raw("t")?.len()?, 1);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Forked`]; [`Error::NotShared`] if a process that does not
    /// share the sidecar with this one has written.
    pub fn read(&self) -> Result<Snapshot> {
        Snapshot::new(&self.open)
    }

    /// Runs `body` in a write transaction: commits if it returns `Ok`, rolls back if it returns `Err` or panics.
    /// First waits for its turn. The transaction blocks all other writers, so do nothing slow in it.
    ///
    /// [`Error::abort`] makes an error of your own an [`Error`]; [`Store::transact`] takes a `body` with another error
    /// type, and returns the LSN of the commit.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// let length = store.write(|tx| {
    ///     let table = tx.raw("t")?;
    ///     table.put(b"k", b"v")?;
    ///     Ok(table.len()?)
    /// })?;
    /// assert_eq!(length, 1);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `body` returns; [`Error::Busy`], which names the holder of the lock, if the turn did not come before
    /// the timeout; and as [`WriteTxn::commit`].
    pub fn write<T>(&self, body: impl FnOnce(&WriteTxn) -> Result<T>) -> Result<T> {
        self.write_with(WriteOptions::new(), body)
    }

    /// [`Store::write`] with other options.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::{Durability, WriteOptions};
    /// let relaxed = WriteOptions::new().durability(Durability::Relaxed);
    /// store.write_with(relaxed, |tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// assert!(store.read()?.raw("t")?.contains(b"k")?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_with<T>(&self, options: WriteOptions, body: impl FnOnce(&WriteTxn) -> Result<T>) -> Result<T> {
        self.transact(options, body).map(|committed| committed.value)
    }

    /// [`Store::write`], unless another thread or process is writing: then [`Error::Busy`] at once.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::Error;
    /// let tx = store.begin_write()?;
    /// let other = store.clone();
    /// let refused = std::thread::spawn(move || other.try_write(|tx| tx.raw("t")?.put(b"k", b"v"))).join().unwrap();
    /// assert!(matches!(refused, Err(Error::Busy { .. })));
    /// tx.commit()?;
    /// store.try_write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn try_write<T>(&self, body: impl FnOnce(&WriteTxn) -> Result<T>) -> Result<T> {
        self.write_with(WriteOptions::new().timeout(Duration::ZERO), body)
    }

    /// The general form of [`Store::write`]: with options, a `body` of any error type that is made from [`Error`], and
    /// the LSN of the commit.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::WriteOptions;
    ///
    /// #[derive(Debug)]
    /// enum Refused {
    ///     NoMoney,
    ///     Store(memstone::Error),
    /// }
    ///
    /// impl From<memstone::Error> for Refused {
    ///     fn from(error: memstone::Error) -> Refused {
    ///         Refused::Store(error)
    ///     }
    /// }
    ///
    /// let refused = store.transact(WriteOptions::new(), |tx| {
    ///     tx.raw("t")?.put(b"k", b"v")?;
    ///     Err::<(), _>(Refused::NoMoney)
    /// });
    /// assert!(matches!(refused, Err(Refused::NoMoney)));
    ///
    /// let committed = store.transact(WriteOptions::new(), |tx| tx.raw("t")?.insert(b"k", b"v").map(|old| old.is_some()))?;
    /// assert_eq!((committed.value, committed.lsn), (false, store.last_commit()?));
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `body` returns; and as [`Store::write`], made an `E`.
    pub fn transact<T, E: From<Error>>(
        &self,
        options: WriteOptions,
        body: impl FnOnce(&WriteTxn) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        let tx = self.begin_write_with(options)?;
        let value = body(&tx)?;
        let lsn = tx.commit()?;
        Ok(Committed { value, lsn })
    }

    /// Begins a write transaction that the caller commits explicitly.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// tx.raw("t")?.put(b"k", b"v")?;
    /// let lsn = tx.commit()?;
    /// assert_eq!(store.last_commit()?, lsn);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::ReadOnly`], [`Error::Nested`] if this thread has one already,
    /// [`Error::Moved`] if the file no longer has the name by which it was opened,
    /// [`Error::Poisoned`] if an earlier flush failed and the disk still refuses, [`Error::Io`].
    pub fn begin_write(&self) -> Result<WriteTxn> {
        self.begin_write_with(WriteOptions::new())
    }

    /// [`Store::begin_write`] with other options.
    ///
    /// ```
    /// # let store = memstone::Store::in_memory()?;
    /// use memstone::WriteOptions;
    /// use std::time::Duration;
    /// let tx = store.begin_write_with(WriteOptions::new().timeout(Duration::from_secs(1)))?;
    /// tx.raw("t")?.put(b"k", b"v")?;
    /// tx.commit()?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::begin_write`].
    pub fn begin_write_with(&self, options: WriteOptions) -> Result<WriteTxn> {
        let timeout = options.timeout.unwrap_or(self.timeout);
        let durability = options.durability.unwrap_or(self.durability);
        WriteTxn::begin(&self.open, timeout, durability)
    }

    /// Flushes the relaxed commits of all processes to the disk.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// use memstone::{Durability, WriteOptions};
    /// let relaxed = WriteOptions::new().durability(Durability::Relaxed);
    /// store.write_with(relaxed, |tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// store.flush()?;
    /// assert!(store.stats()?.durable >= store.last_commit()?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the flush failed; [`Error::Unconfirmed`] if another flush has failed since a
    /// relaxed commit of this process that was not known to be durable: the commit may be lost.
    pub fn flush(&self) -> Result<()> {
        self.in_file(self.engine().flush_all())
    }

    /// Makes a checkpoint now: applies the log to the tree. This happens automatically when the log has grown or
    /// the store is idle and the log is worth it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// store.checkpoint()?;
    /// assert!(store.stats()?.checkpoint_lsn >= store.last_commit()?);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Busy`] if another checkpoint did not end before the timeout, [`Error::Full`], [`Error::Io`],
    /// [`Error::Poisoned`] if an earlier flush failed and the disk still refuses.
    pub fn checkpoint(&self) -> Result<()> {
        self.in_file(self.engine().checkpoint_now(&CheckpointOptions::default(), self.timeout))
    }

    /// Moves pages towards the start of the file and cuts off its free end, while other transactions continue.
    /// Returns the file's length in bytes before and after. Pages that a snapshot still needs stay; their space
    /// can be freed once the snapshot has ended.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"long", &[7; 4 << 20]))?;
    /// store.write(|tx| tx.raw("t")?.delete(b"long"))?;
    /// let (before, after) = store.compact()?;
    /// assert!(before > 4 << 20 && after < 1 << 20);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::checkpoint`].
    pub fn compact(&self) -> Result<(u64, u64)> {
        self.in_file(self.engine().compact_all(self.timeout))
    }

    /// The LSN of the newest transaction that a snapshot taken now would contain.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn last_commit(&self) -> Result<u64> {
        Ok(self.read()?.lsn())
    }

    /// Waits until there is a transaction newer than `after`, by any process, or until the timeout; returns the
    /// newest LSN.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// # use std::time::Duration;
    /// let seen = store.last_commit()?;
    /// let other = store.clone();
    /// let writer = std::thread::spawn(move || other.write(|tx| tx.raw("t")?.put(b"k", b"v")));
    /// assert!(store.wait_for_change(seen, Duration::from_secs(10))? > seen);
    /// # writer.join().unwrap()?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn wait_for_change(&self, after: u64, timeout: Duration) -> Result<u64> {
        self.in_file(self.engine().wait_for_change(after, timeout))
    }

    /// Figures about the store as a whole, and the counters of all processes that have it open.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let stats = store.stats()?;
    /// assert_eq!((stats.last_commit, stats.tables[0].entries), (store.last_commit()?, 1));
    /// assert!(stats.log.used > 0 && stats.log.used <= stats.log.capacity);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn stats(&self) -> Result<Stats> {
        let snapshot = self.read()?;
        self.in_file(self.engine().stats(snapshot.lsn(), snapshot.user_version()?, snapshot.tables()?))
    }

    /// Which processes hold locks, which wait, and since when. Each process publishes its own name: a process
    /// that does not share the sidecar has none. Whether a lock is held is known in any case.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// assert!(!store.locks()?.writer_held);
    /// let tx = store.begin_write()?;
    /// assert!(store.locks()?.writer_held);
    /// # tx.rollback();
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Io`].
    pub fn locks(&self) -> Result<Locks> {
        self.in_file(self.engine().locks())
    }

    /// [`Store::stats`] and [`Store::locks`] in one call, for metrics and rates.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// let before = store.sample()?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// let rates = store.sample()?.rates_since(&before);
    /// assert!(rates.commits > 0.0 && rates.log_bytes > 0.0);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn sample(&self) -> Result<Sample> {
        Ok(Sample::new(self.stats()?, self.locks()?))
    }

    /// Closes this handle. The last one in the process leaves the store: it flushes, makes a checkpoint if no
    /// other process has the store open and the log is worth it, moves pages down as [`Store::compact`] does if at
    /// least a sixteenth of the file is free (for about five seconds at most), and releases all locks. While another handle, a [`Snapshot`] or a
    /// [`WriteTxn`] of this process exists, the store stays open; the last of them leaves it when it is dropped.
    /// Dropping a handle does the same as closing it, but cannot report an error.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("memory.mst");
    /// let store = memstone::Store::open(&path)?;
    /// let tx = store.begin_write()?;
    /// store.close()?; // the transaction keeps the store open
    /// tx.raw("t")?.put(b"k", b"v")?;
    /// tx.commit()?; // and leaves it
    /// assert!(memstone::Store::open(&path)?.read()?.raw("t")?.get(b"k")?.is_some());
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// For the last handle as [`Store::checkpoint`] and [`Store::flush`]. Acknowledged commits are safe in any
    /// case.
    pub fn close(self) -> Result<()> {
        let engine = Arc::clone(self.engine());
        self.open.close().map_err(|e| e.in_file(engine.path()))
    }
}
