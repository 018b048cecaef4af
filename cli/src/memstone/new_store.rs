//! A store that is filled beside its place and gets its name when it is whole, and rows on their way into a store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use memstone::{Durability, Error, RawTableMut, Store, WriteOptions, WriteTxn};

use crate::failure::Failure;

/// A new store is filled by transactions of about so many bytes.
pub(crate) const BATCH: usize = 8 << 20;

/// A store in a folder of its own, which goes with it unless it gets its name.
pub(crate) struct NewStore {
    // Dropped first: a store leaves its file before the folder is removed.
    store: Store,
    unfinished: tempfile::TempDir,
    target: PathBuf,
}

impl NewStore {
    /// An empty store beside `target`, in a folder `.memstone-VERB-…`.
    pub(crate) fn beside(target: &Path, verb: &str) -> Result<NewStore, Failure> {
        must_be_free(target)?;
        let unfinished =
            tempfile::Builder::new().prefix(&format!(".memstone-{verb}-")).tempdir_in(folder_of(target))?;
        let store = Store::options().single_process(true).open(unfinished.path().join("store"))?;
        Ok(NewStore { store, unfinished, target: target.to_path_buf() })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// A transaction of a batch. Nothing of the store is kept before all is, so nothing needs a flush of its own.
    pub(crate) fn begin(&self) -> Result<WriteTxn, Failure> {
        Ok(self.store.begin_write_with(WriteOptions::new().durability(Durability::Relaxed))?)
    }

    /// Makes all of it durable, and gives it its name; never over a file that was made meanwhile.
    pub(crate) fn give_name(self) -> Result<(), Failure> {
        self.store.flush()?;
        self.store.close()?;
        // Closing writes the second copy of the root, and leaves it to a later flush.
        File::open(self.unfinished.path().join("store"))?.sync_all()?;
        std::fs::hard_link(self.unfinished.path().join("store"), &self.target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::Store(Error::Exists { path: self.target.clone() }),
            _ => Failure::Other(format!("cannot give the store its name: {error}")),
        })?;
        File::open(folder_of(&self.target))?.sync_all()?;
        Ok(())
    }
}

/// Refuses early what naming would refuse in the end.
pub(crate) fn must_be_free(target: &Path) -> Result<(), Failure> {
    match std::fs::symlink_metadata(target) {
        Ok(_) => Err(Failure::Store(Error::Exists { path: target.to_path_buf() })),
        Err(_) => Ok(()),
    }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What becomes of a row whose key is there already.
#[derive(Clone, Copy, ValueEnum, PartialEq, Debug)]
pub(crate) enum Duplicates {
    /// It takes the place of the one that is there
    Replace,
    /// The one that is there stays
    Keep,
    /// It is wrong
    Fail,
}

/// Rows on their way into one table.
pub(crate) struct Incoming {
    duplicates: Duplicates,
    /// The greatest key of the table, which nothing else writes to: there is none after it.
    last: Option<Vec<u8>>,
    pub(crate) rows: u64,
    pub(crate) replaced: u64,
    pub(crate) kept: u64,
}

impl Incoming {
    pub(crate) fn new(duplicates: Duplicates) -> Incoming {
        Incoming { duplicates, last: None, rows: 0, replaced: 0, kept: 0 }
    }

    /// The rows that come now go to another table; the figures go on.
    pub(crate) fn next_table(&mut self) {
        self.last = None;
    }

    /// Puts a row; its key is looked for only where it may be there.
    pub(crate) fn put(&mut self, table: &RawTableMut<'_>, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let last = match self.last.take() {
            None => table.last()?.map(|(last, _)| last.to_vec()),
            last => last,
        };
        let is_next = last.as_deref().is_none_or(|last| last < key);
        self.last = if is_next { Some(key.to_vec()) } else { last };
        let is_there = !is_next && table.contains(key)?;
        match self.duplicates {
            Duplicates::Keep if is_there => self.kept += 1,
            Duplicates::Fail if is_there => return Err(Failure::Usage("its key is there already".to_owned())),
            _ => {
                table.put(key, value)?;
                self.rows += 1;
                self.replaced += u64::from(is_there);
            }
        }
        Ok(())
    }
}
