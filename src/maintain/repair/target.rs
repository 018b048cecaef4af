//! The store that a repair writes: under a name of its own until it is whole, durable and verified.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::copy::Sink;
use crate::disk::platform::Disk;
use crate::disk::rename::rename_to_free_name;
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
/// A half-made store this old has been given up by its maker.
const LEFTOVER: Duration = Duration::from_secs(60);

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
        remove_leftovers(output);
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), output);
        let temporary = parent_of(output).join(format!(".{}.{:08x}.repair", name_of(output), random >> 32));
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
        let named = match rename_to_free_name(&self.temporary, output) {
            // Where that is not known: a second name, which is refused too if it is taken.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => fs::hard_link(&self.temporary, output),
            named => named,
        };
        named.map_err(|e| Error::io("name the repaired store", output, e))?;
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
        remove(&self.temporary);
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    let mut sidecar = path.as_os_str().to_owned();
    sidecar.push("-shm");
    let _ = fs::remove_file(sidecar);
}

/// Removes what repairs left that were killed: old, and open nowhere.
fn remove_leftovers(output: &Path) {
    let start = format!(".{}.", name_of(output));
    let Ok(entries) = fs::read_dir(parent_of(output)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let rest = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".repair"));
        let ours = rest.is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
        let changed = entry.metadata().and_then(|meta| meta.modified());
        let old = changed.is_ok_and(|t| SystemTime::now().duration_since(t).is_ok_and(|age| age > LEFTOVER));
        if ours && old && is_closed(&entry.path()) {
            remove(&entry.path());
        }
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

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn sync_directory(file: &Path) -> Result<()> {
    let parent = parent_of(file);
    let synced = fs::File::open(&parent).and_then(|directory| directory.sync_all());
    synced.map_err(|e| Error::io("flush the directory", parent, e))
}
