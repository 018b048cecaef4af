//! A file that is made under another name, and gets its own when it is whole and durable.

use crate::disk::platform::Disk;
use crate::disk::rename::{give_free_name, remove_leftovers, sync_directory, temporary_name};
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::options::{BackupStep, Watch};

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
        if target.file_name().is_none() {
            return Err(Error::Invalid(format!("{}: not a file's name", target.display())));
        }
        remove_leftovers(target, "part", |path| File::open(path).is_ok_and(|file| file.try_lock().is_ok()));
        let path = temporary_name(target, "part")?;
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
            if overwrite { fs::rename(&self.path, &self.target) } else { give_free_name(&self.path, &self.target) };
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

/// Refuses early what naming would refuse in the end.
pub(super) fn must_be_free(target: &Path, overwrite: bool) -> Result<()> {
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() => Err(Error::Invalid(format!("{}: it is a directory", target.display()))),
        Ok(_) if !overwrite => Err(Error::Exists { path: target.to_path_buf() }),
        _ => Ok(()),
    }
}
