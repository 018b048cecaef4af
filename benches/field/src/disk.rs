//! The disk below: where the stores lie, and what it can do by itself.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const BLOCK: usize = 4096;
const BLOCKS: usize = 4096;

/// Refuses a directory in memory, where a flush costs nothing.
pub fn require_disk(dir: &Path) -> Result<()> {
    let directory = File::open(dir)?;
    // SAFETY: statfs is plain data, and fstatfs fills it or fails.
    let filesystem = unsafe {
        let mut filesystem: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(directory.as_raw_fd(), &mut filesystem) != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        filesystem
    };
    if filesystem.f_type == libc::TMPFS_MAGIC {
        bail!("{} is in memory: its figures would mean nothing; give a directory on a disk with --dir", dir.display());
    }
    Ok(())
}

/// Lets the filesystem finish what the run before has left, so that the next one does not pay for it.
pub fn settle(dir: &Path) -> Result<()> {
    let directory = File::open(dir)?;
    // SAFETY: the descriptor is open.
    if unsafe { libc::syncfs(directory.as_raw_fd()) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

/// The bytes that the device below has written since the machine started, for any process; nothing if the
/// filesystem has no device of its own.
pub fn device_written(dir: &Path) -> Option<u64> {
    let device = std::fs::metadata(dir).ok()?.dev();
    let path = format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device));
    let text = std::fs::read_to_string(path).ok()?;
    let sectors: u64 = text.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * 512)
}

/// How often per second the disk takes 4 KiB and flushes them, in a preallocated file: the noise of the machine.
pub fn raw_flushes(dir: &Path, time: Duration) -> Result<f64> {
    let file = tempfile::tempfile_in(dir)?;
    let block = [0x5a; BLOCK];
    for number in 0..BLOCKS {
        file.write_all_at(&block, (number * BLOCK) as u64)?;
    }
    file.sync_all()?;
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < time {
        file.write_all_at(&block, (count % BLOCKS * BLOCK) as u64)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// The bytes of all blocks that the files of a directory occupy.
pub fn allocated(dir: &Path) -> Result<u64> {
    std::fs::read_dir(dir)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let below = if metadata.is_dir() { allocated(&entry.path())? } else { metadata.blocks() * 512 };
        Ok(sum + below)
    })
}
