//! fjall: a table for each of its keyspaces, of bytes.
//!
//! fjall has no opening for reading alone: it writes to its journals and cleans up when it opens. So the import holds
//! fjall's lock, copies the directory beside the new store, and opens the copy. The copy shares its blocks with the source where
//! the filesystem can do that, and goes with the folder in which the new store is made.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use fjall::{Database, KeyspaceCreateOptions, Readable, Snapshot};

use crate::failure::Failure;

use super::intake::{At, Intake};
use super::source::{Found, Source, unreadable};

/// What lies in each fjall database: a file that says its version, and one that is locked by the process that has it open.
const MARKS: [&str; 2] = ["version", "lock"];
const CACHE: u64 = 32 << 20;

pub(super) struct Fjall {
    path: PathBuf,
    // In the order in which they are to go.
    snapshot: Snapshot,
    database: Database,
    _copy: tempfile::TempDir,
}

impl Fjall {
    pub(super) fn open(path: &Path, beside: &Path) -> Result<Fjall, Failure> {
        if MARKS.iter().any(|mark| !path.join(mark).is_file()) {
            return Err(unreadable(path, "it is no directory of a fjall database of version 3"));
        }
        let lock = File::open(path.join("lock")).map_err(|error| unreadable(path, error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                unreadable(path, "another process has it open, and fjall lets no second one read it")
            }
            TryLockError::Error(error) => unreadable(path, error),
        })?;
        let folder = beside.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let copy = tempfile::Builder::new().prefix(".memstone-import-").tempdir_in(folder)?;
        copy_all(path, copy.path()).map_err(|error| unreadable(path, format_args!("it cannot be copied: {error}")))?;
        let database =
            Database::builder(copy.path()).cache_size(CACHE).open().map_err(|error| unreadable(path, error))?;
        let snapshot = database.snapshot();
        Ok(Fjall { path: path.to_path_buf(), snapshot, database, _copy: copy })
    }

    fn keyspace(&self, name: &str) -> Result<fjall::Keyspace, Failure> {
        let keyspace = self.database.keyspace(name, KeyspaceCreateOptions::default);
        keyspace.map_err(|error| self.unreadable(name, error))
    }

    fn unreadable(&self, keyspace: &str, error: impl std::fmt::Display) -> Failure {
        unreadable(&self.path, format_args!("keyspace {keyspace:?}: {error}"))
    }
}

impl Source for Fjall {
    fn tables(&mut self) -> Result<Vec<Found>, Failure> {
        let mut names: Vec<_> = self.database.list_keyspace_names().iter().map(|name| name.to_string()).collect();
        names.sort();
        let types = || Ok(("bytes".to_owned(), "bytes".to_owned()));
        Ok(names.into_iter().map(|name| Found { name, types: types() }).collect())
    }

    fn read(&mut self, name: &str, intake: &mut Intake) -> Result<(), Failure> {
        for (number, row) in (1..).zip(self.snapshot.iter(&self.keyspace(name)?)) {
            let (key, value) = row.into_inner().map_err(|error| self.unreadable(name, error))?;
            intake.row(name, At::Row(number), Ok((key.to_vec(), value.to_vec())))?;
        }
        Ok(())
    }

    /// fjall counts by going over all keys: here from the last to the first, which is another way than they were read.
    fn count(&mut self, name: &str) -> Result<u64, Failure> {
        let mut rows = 0;
        for row in self.snapshot.iter(&self.keyspace(name)?).rev() {
            row.key().map_err(|error| self.unreadable(name, error))?;
            rows += 1;
        }
        Ok(rows)
    }
}

/// Copies a directory with all that is in it.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (entry, file) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let target = to.join(file);
        if entry.is_dir() {
            fs::create_dir(&target)?;
            copy_all(&entry, &target)?;
        } else {
            // The kernel shares blocks or copies within itself where it can.
            fs::copy(&entry, &target)?;
        }
    }
    Ok(())
}
