//! A file that is made under another name, and gets its own when it is whole and durable.

use crate::disk::platform::Disk;
use crate::disk::rename::rename_to_free_name;
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::options::{BackupStep, Watch, parent_of};

/// A half-made file this old, whose lock is free, was left by a process that is gone.
const LEFTOVER: Duration = Duration::from_secs(60);

/// A file under a name of its own, which goes with it unless it gets the name that it is made for.
pub(super) struct Temporary {
    path: PathBuf,
    target: PathBuf,
    file: File,
    named: bool,
}

impl Temporary {
    /// An empty file, for its owner alone, beside the one that it is to become.
    pub(super) fn create(target: &Path) -> Result<Temporary> {
        let name =
            target.file_name().ok_or_else(|| Error::Invalid(format!("{}: not a file's name", target.display())))?;
        let name = name.to_string_lossy();
        remove_leftovers(target, &name);
        let random =
            getrandom::u32().map_err(|e| Error::io("get random bytes", target, io::Error::other(e.to_string())))?;
        let path = parent_of(target).join(format!(".{name}.{random:08x}.part"));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| Error::io("create", target, e))?;
        // While it is held no process takes the file for a leftover. Where there are no such locks, age alone decides.
        let _ = file.try_lock();
        Ok(Temporary { path, target: target.to_path_buf(), file, named: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn disk(&self) -> Result<UnixDisk> {
        UnixDisk::open(&self.path, OpenMode { read_only: false, create: false })
    }

    /// Writes at the file's end.
    pub(super) fn append(&self) -> Result<(Append, u64)> {
        let disk = self.disk()?;
        let at = disk.len().map_err(|e| Error::io("read the length", &self.path, e))?;
        Ok((Append { disk, at }, at))
    }

    /// Makes all that was written durable.
    pub(super) fn flush(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("flush", &self.path, e))
    }

    /// Gives the file its name, durably; it must be flushed. Without `overwrite` a file that has the name keeps it.
    pub(super) fn give_name(mut self, overwrite: bool, watch: &mut Watch<'_>) -> Result<()> {
        watch.step(BackupStep::Name)?;
        let named =
            if overwrite { fs::rename(&self.path, &self.target) } else { rename_to_free(&self.path, &self.target) };
        named.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path: self.target.clone() },
            _ => Error::io("rename", &self.target, e),
        })?;
        self.named = true;
        // Too late to be ended: the file has its name.
        let _ = watch.step(BackupStep::Named);
        sync_directory(&self.target)
    }
}

/// A file that is written from some byte on. (Not by the file itself: the process' limit on the size of files is to
/// be an error here, too.)
pub(super) struct Append {
    disk: UnixDisk,
    at: u64,
}

impl Write for Append {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write_at(bytes, self.at)?;
        self.disk.start_writeback(self.at, bytes.len() as u64);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where no renaming spares a file that has the name, a second name does.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match rename_to_free_name(from, to) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {
            fs::hard_link(from, to)?;
            let _ = fs::remove_file(from);
            Ok(())
        }
        renamed => renamed,
    }
}

/// Makes the name of a file durable.
pub(super) fn sync_directory(file: &Path) -> Result<()> {
    let directory = parent_of(file);
    match File::open(&directory).and_then(|directory| directory.sync_all()) {
        // Some may not be read, and some file systems do not flush directories: nothing better can be done there.
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(()),
        flushed => flushed.map_err(|e| Error::io("flush the directory", directory, e)),
    }
}

/// Refuses early what naming would refuse in the end.
pub(super) fn must_be_free(target: &Path, overwrite: bool) -> Result<()> {
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() => Err(Error::Invalid(format!("{}: it is a directory", target.display()))),
        Ok(_) if !overwrite => Err(Error::Exists { path: target.to_path_buf() }),
        _ => Ok(()),
    }
}

/// Removes what processes left that were killed while they made this file.
fn remove_leftovers(target: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(parent_of(target)) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        // (A store that was used as such a file has a sidecar.)
        let part = file.strip_suffix("-shm").unwrap_or(&file).strip_suffix(".part");
        let random = part.and_then(|part| part.strip_prefix(&format!(".{name}.")));
        let ours = random.is_some_and(|random| random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit()));
        let age = || entry.metadata().and_then(|meta| meta.modified()).ok()?.elapsed().ok();
        if ours
            && age().is_some_and(|age| age > LEFTOVER)
            && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
