//! The damaged store: opened, and protected from changes by other processes meanwhile.

use std::path::Path;
use std::time::Duration;

use crate::disk::platform::{Disk, LockMode};
use crate::disk::unix::{OpenMode, UnixDisk};
use crate::error::{Error, LockKind, Result};
use crate::maintain::format::{OPEN, READERS, WRITERS};

/// How often, and in which steps, OPEN is asked for: another process holds it for a moment only.
const READ_TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Opens the store and takes OPEN for as long as the disk is open: no other process can join as a writer. There
/// must be no writer yet; and if the file is to be replaced, no reader either, which would keep using a file that
/// has lost its name.
pub(super) fn open(path: &Path, replace: bool) -> Result<UnixDisk> {
    let disk = UnixDisk::open(path, OpenMode { read_only: !replace, create: false })?;
    let mode = if replace { LockMode::Exclusive } else { LockMode::Shared };
    let lock = || disk.try_lock(OPEN, mode).map_err(|source| Error::io("lock", path, source));
    let mut tries = 1;
    while !lock()? {
        if tries == READ_TRIES {
            return Err(busy(&disk, LockKind::Open, OPEN, 1, tries * PAUSE));
        }
        tries += 1;
        disk.sleep(PAUSE);
    }
    let len = READERS - WRITERS;
    let ranges = [Some((WRITERS, LockKind::Writing)), replace.then_some((READERS, LockKind::Reading))];
    for (first, lock) in ranges.into_iter().flatten() {
        if disk.probe(first, len).map_err(|source| Error::io("look for locks of", path, source))?.is_some() {
            return Err(busy(&disk, lock, first, len, Duration::ZERO));
        }
    }
    Ok(disk)
}

fn busy(disk: &UnixDisk, lock: LockKind, first: u64, len: u64, waited: Duration) -> Error {
    let holder = disk.holders(first, len).into_iter().map(|held| Box::new(held.holder)).next();
    Error::Busy { path: disk.path().to_path_buf(), lock, waited, holder }
}
