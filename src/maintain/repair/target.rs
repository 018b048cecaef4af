//! The store that a repair writes: under a name of its own until it is whole, durable and verified.

use std::fs;
use std::path::{Path, PathBuf};

use super::copy::Sink;
use crate::disk::platform::Disk;
use crate::disk::rename::{give_free_name, remove_leftovers, remove_with_sidecar, sync_directory, temporary_name};
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::error::{Error, Result};
use crate::maintain::content::content_hash;
use crate::maintain::format::rows::NameRow;
use crate::maintain::format::slots::Root;
use crate::maintain::format::{READERS, WRITERS};
use crate::{Durability, Options, Store, TableInfo, WriteOptions};

/// So many bytes of rows go into one transaction: it is too large for the log, so that nothing is
/// written twice.
const BATCH: usize = 16 << 20;
/// What a change takes beside its bytes.
const CHANGE: usize = 64;
/// A change to a table of the plan: a value, or none.
type Change = (usize, Vec<u8>, Option<Vec<u8>>);

pub(super) struct Target {
    temporary: PathBuf,
    store: Option<Store>,
    tables: Vec<NameRow>,
    batch: Vec<Change>,
    bytes: usize,
}

impl Target {
    /// Makes an empty store beside `output`, with the permissions of `patient`.
    pub(super) fn create(
        patient: &Path,
        output: &Path,
        root: &Root,
        tables: Vec<NameRow>,
        user_version: u64,
    ) -> Result<Target> {
        remove_leftovers(output, "repair", is_closed);
        let temporary = temporary_name(output, "repair")?;
        let mut target = Target { temporary, store: None, tables, batch: Vec::new(), bytes: 0 };
        let path = &target.temporary;
        let options = Options::new().page_size(root.page_size).application_id(root.application).memory_map(false);
        let store = options.open(path).map_err(|error| in_file(error, output))?;
        let meta = fs::metadata(patient).map_err(|e| Error::io("stat", patient, e))?;
        fs::set_permissions(path, meta.permissions()).map_err(|e| Error::io("set the permissions of", path, e))?;
        store.write(|tx| {
            for row in &target.tables {
                tx.untyped_as(&row.name, &row.key_type, &row.value_type)?;
                if (row.schema.as_str(), row.schema_version) != ("", 0) {
                    tx.set_schema(&row.name, &row.schema, row.schema_version)?;
                }
            }
            if user_version != 0 {
                tx.set_user_version(user_version)?;
            }
            Ok::<_, Error>(())
        })?;
        target.store = Some(store);
        Ok(target)
    }

    /// Commits what has been set so far.
    fn write(&mut self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let options = WriteOptions::new().durability(Durability::Relaxed);
        store.write_with(options, |tx| {
            let mut open = None;
            for (table, key, value) in self.batch.drain(..) {
                if open.as_ref().is_none_or(|(index, _)| *index != table) {
                    let Some(row) = self.tables.get(table) else { continue };
                    open = Some((table, tx.untyped_as(&row.name, &row.key_type, &row.value_type)?));
                }
                match (&open, value) {
                    (Some((_, handle)), Some(value)) => handle.put(&key, &value)?,
                    (Some((_, handle)), None) => handle.delete(&key)?,
                    (None, _) => {}
                }
            }
            Ok::<_, Error>(())
        })?;
        self.bytes = 0;
        Ok(())
    }

    /// Makes all of it durable and closes it. Gives its content hash and its tables.
    pub(super) fn finish(&mut self) -> Result<([u8; 32], Vec<TableInfo>)> {
        self.write()?;
        let Some(store) = self.store.take() else { return Ok(([0; 32], Vec::new())) };
        store.flush()?;
        let snapshot = store.read()?;
        let (hash, tables) = (content_hash(&snapshot)?, snapshot.tables()?);
        drop(snapshot);
        store.close()?;
        let report = crate::maintain::check::check(&self.temporary, &crate::CheckOptions::new())?;
        // A key that is none of its type, as a program may write it by its bytes, is a warning, and kept as it is.
        if report.damage > 0 {
            return Err(Error::Internal(format!("the repaired store is not sound: {:?}", report.findings.first())));
        }
        let sync = fs::File::open(&self.temporary).and_then(|file| file.sync_all());
        sync.map_err(|e| Error::io("flush", &self.temporary, e))?;
        Ok((hash, tables))
    }

    /// Gives it the name `output`, which must be free.
    pub(super) fn publish(&self, output: &Path) -> Result<()> {
        give_free_name(&self.temporary, output).map_err(|e| Error::io("name the repaired store", output, e))?;
        sync_directory(output)
    }

    /// Gives it the name of `patient`, whose file is kept by another name: at each moment there is one of them by that name.
    pub(super) fn replace(&self, patient: &Path, kept: &Path) -> Result<()> {
        fs::hard_link(patient, kept).map_err(|e| Error::io("keep the damaged store", kept, e))?;
        sync_directory(kept)?;
        fs::rename(&self.temporary, patient).map_err(|e| Error::io("name the repaired store", patient, e))?;
        sync_directory(patient)
    }
}

impl Sink for Target {
    fn set(&mut self, table: usize, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
        self.bytes += CHANGE + key.len() + value.as_ref().map_or(0, Vec::len);
        self.batch.push((table, key.to_vec(), value));
        if self.bytes >= BATCH { self.write() } else { Ok(()) }
    }
}

impl Drop for Target {
    /// What was not published is removed.
    fn drop(&mut self) {
        drop(self.store.take());
        remove_with_sidecar(&self.temporary);
    }
}

fn is_closed(path: &Path) -> bool {
    let disk = UnixDisk::open(path, OpenMode { read_only: true, create: false });
    disk.is_ok_and(|disk| matches!(disk.probe(WRITERS, 2 * (READERS - WRITERS)), Ok(None)))
}

/// A full disk is told of by the name that the user knows.
fn in_file(error: Error, output: &Path) -> Error {
    match error {
        Error::Io { op, cause, .. } => Error::io(op, output, cause),
        other => other,
    }
}
