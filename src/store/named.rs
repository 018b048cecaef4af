//! Snapshots by name.

use super::Store;
use crate::engine::names::NamedSnapshot;
use crate::error::Result;
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteTxn;

impl Store {
    /// Keeps the newest committed state under a name until it is deleted: across restarts, for all processes.
    /// Costs a checkpoint; other commits continue meanwhile. From then on the file grows by what later changes
    /// replace, see [`NamedSnapshot::kept`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
    /// store.create_snapshot("before-migration")?;
    /// store.write(|tx| tx.clear_table("t"))?;
    ///
    /// assert_eq!(store.snapshot("before-migration")?.raw("t")?.get(b"k")?.unwrap(), b"v");
    /// store.roll_back_to("before-migration")?;
    /// assert_eq!(store.read()?.raw("t")?.get(b"k")?.unwrap(), b"v");
    /// store.delete_snapshot("before-migration")?;
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::SnapshotExists`](crate::Error::SnapshotExists), [`Error::Invalid`](crate::Error::Invalid) for an empty name, [`Error::TooLarge`](crate::Error::TooLarge) for one of more than
    /// [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE) bytes; as [`Store::checkpoint`]. [`Error::Unconfirmed`](crate::Error::Unconfirmed): a flush
    /// failed, and whether the name will be found later is not known.
    pub fn create_snapshot(&self, name: &str) -> Result<NamedSnapshot> {
        let row = self.in_file(self.engine().create_named(name, self.timeout))?;
        Ok(row.describe(name.to_owned(), 0))
    }

    /// The named snapshots, by name, with the space that each of them keeps.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
    /// store.write(|tx| tx.raw("t")?.put(b"k", &[7; 100_000]))?;
    /// let made = store.create_snapshot("monday")?;
    /// assert_eq!((made.lsn, made.kept), (store.last_commit()?, 0));
    /// store.write(|tx| tx.raw("t")?.delete(b"k"))?;
    /// store.checkpoint()?;
    /// let listed = store.snapshots()?;
    /// assert_eq!((listed[0].name.as_str(), listed[0].lsn), ("monday", made.lsn));
    /// assert!(listed[0].kept >= 100_000);
    /// # Ok::<(), memstone::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn snapshots(&self) -> Result<Vec<NamedSnapshot>> {
        self.in_file(self.engine().named_snapshots())
    }

    /// The state of a named snapshot. It stays readable as long as this handle is held, even if a process deletes
    /// the name.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`](crate::Error::NoSnapshot); as [`Store::read`].
    pub fn snapshot(&self, name: &str) -> Result<Snapshot> {
        Snapshot::named(&self.open, name)
    }

    /// Restores the store's content as of the named snapshot, in one write transaction, and returns its LSN. The
    /// snapshot stays. [`WriteTxn::roll_back_to_snapshot`] says what it costs, and does the same as part of a
    /// transaction.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`](crate::Error::NoSnapshot); as [`Store::write`].
    pub fn roll_back_to(&self, name: &str) -> Result<u64> {
        let tx: WriteTxn = self.begin_write()?;
        tx.roll_back_to_snapshot(&self.snapshot(name)?)?;
        tx.commit()
    }

    /// Deletes a named snapshot. The space that only it kept is reused after the next checkpoint.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`](crate::Error::NoSnapshot); as [`Store::checkpoint`]. [`Error::Unconfirmed`](crate::Error::Unconfirmed): a flush failed, and whether the name
    /// will be found later is not known.
    pub fn delete_snapshot(&self, name: &str) -> Result<()> {
        self.in_file(self.engine().delete_named(name, self.timeout))
    }
}
