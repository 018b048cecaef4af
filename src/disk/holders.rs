//! Which processes hold a lock on bytes of a file, as the system reports it. For errors and lists only: it looks
//! through all processes, and what it found may have changed by then.
//!
//! Linux lists the locks of each open description in `/proc/PID/fdinfo/FD`, for the processes that this one may
//! inspect. On other systems, and for other processes, nothing is found.

use super::platform::{Disk, FileId, Held};
use crate::error::Holder;

/// The process that holds a lock on one of these bytes, for an error: preferably one that is stopped.
pub(crate) fn holder_of(disk: &dyn Disk, first: u64, len: u64) -> Option<Box<Holder>> {
    disk.holders(first, len).into_iter().map(|held| held.holder).min_by_key(|holder| !holder.stopped).map(Box::new)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn holders_of(_: FileId, _: u64, _: u64, _: std::os::fd::RawFd) -> Vec<Held> {
    Vec::new()
}

#[cfg(target_os = "linux")]
pub(super) use linux::holders_of;

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use crate::disk::host::{cut, host_name};
    use std::fs;
    use std::os::fd::RawFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    /// The locks on the bytes from `first` on, of all descriptions of the file except `asker`.
    pub(in crate::disk) fn holders_of(file: FileId, first: u64, len: u64, asker: RawFd) -> Vec<Held> {
        let Some(last) = len.checked_sub(1).map(|more| first.saturating_add(more)) else { return Vec::new() };
        let mut found = Vec::new();
        for pid in numbers(Path::new("/proc")) {
            let fds = numbers(&Path::new("/proc").join(pid.to_string()).join("fdinfo"));
            for fd in fds.into_iter().filter(|fd| pid != std::process::id() || i64::from(*fd) != i64::from(asker)) {
                found.extend(locks_of(pid, fd, file, first, last));
            }
        }
        found
    }

    /// The entries of a folder that are numbers.
    fn numbers(folder: &Path) -> Vec<u32> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn locks_of(pid: u32, fd: u32, file: FileId, first: u64, last: u64) -> Vec<Held> {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")) else { return Vec::new() };
        let locks = text.lines().filter_map(parse).filter(|lock| lock.inode == file.inode);
        let mut locks = locks.filter(|lock| lock.first <= last && lock.last >= first).peekable();
        // The device in that line is the filesystem's, which is not always the one that `stat` returns. (Only
        // files with the right inode are queried: a file on a server that does not respond would block the call.)
        let same_file = |pid, fd| {
            let meta = fs::metadata(format!("/proc/{pid}/fd/{fd}")).ok()?;
            Some(FileId { device: meta.dev(), inode: meta.ino() } == file)
        };
        if locks.peek().is_none() || same_file(pid, fd) == Some(false) {
            return Vec::new();
        }
        let holder = name(pid);
        locks.map(|lock| Held { first: lock.first, last: lock.last, holder: holder.clone() }).collect()
    }

    /// A lock as `fdinfo` lists it.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Lock {
        pub(super) inode: u64,
        pub(super) first: u64,
        pub(super) last: u64,
    }

    /// `lock:  1: OFDLCK  ADVISORY  WRITE -1 fe:00:1234 4611686018427387904 EOF`
    pub(super) fn parse(line: &str) -> Option<Lock> {
        let mut words = line.strip_prefix("lock:")?.split_whitespace().skip(5);
        let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
        let first = words.next()?.parse().ok()?;
        let last = match words.next()? {
            "EOF" => u64::MAX,
            number => number.parse().ok()?,
        };
        Some(Lock { inode, first, last })
    }

    fn name(pid: u32) -> Holder {
        let read = |what| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let words = read("cmdline");
        let words: Vec<_> = words.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        let command = match words.join(" ").trim_end() {
            "" => String::from_utf8_lossy(&read("comm")).trim_end().to_owned(),
            command => command.to_owned(),
        };
        let stat = read("stat");
        // The process name before the state stands in parentheses, and may contain any characters.
        let state = stat.iter().rposition(|b| *b == b')').and_then(|at| stat.get(at + 2));
        let stopped = matches!(state, Some(b'T' | b't'));
        Holder { pid, host: host_name(), command: cut(&command), since: None, stopped }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::linux::{Lock, parse};
    use super::*;
    use crate::disk::fork::tests::{in_child, kill, stop, wait_for};
    use crate::disk::locks::{APPEND, CHECKPOINT, OPEN, WRITER};
    use crate::disk::platform::LockMode;
    use crate::disk::unix::{OpenMode, UnixDisk};
    use crate::{Error, LockKind, Options, Result};
    use std::io::{Read, Write};
    use std::time::Duration;

    const BYTE: u64 = 1 << 62;

    #[test]
    fn lines_of_fdinfo() {
        let line = "lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:10018842 4611686018427387904 4611686018427387905";
        assert_eq!(parse(line), Some(Lock { inode: 10_018_842, first: BYTE, last: BYTE + 1 }));
        let whole = parse("lock:\t2: POSIX  ADVISORY  READ  77 00:2d:5 0 EOF");
        assert_eq!(whole, Some(Lock { inode: 5, first: 0, last: u64::MAX }));
        for other in ["pos:\t0", "lock:", "lock:\t1: OFDLCK ADVISORY WRITE -1 fe:00:x 1 2", "lock: \u{fe} a b c d e"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    /// A child that holds a lock of the file and stands still.
    fn stopped_holder(path: &std::path::Path, byte: u64) -> libc::pid_t {
        let (mut ready, signal) = std::io::pipe().unwrap();
        let child = in_child(|| {
            let own = UnixDisk::open(path, OpenMode::default()).unwrap();
            assert!(own.try_lock(byte, LockMode::Exclusive).unwrap());
            (&signal).write_all(b"x").unwrap();
            loop {
                std::thread::park();
            }
        });
        ready.read_exact(&mut [0]).unwrap();
        stop(child);
        child
    }

    #[test]
    fn every_lock_that_is_not_free_in_time_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("store.mst"), dir.path().join("other.mst"));
        let soon = || Options::new().timeout(Duration::from_millis(20));
        let store = soon().open(&path).unwrap();
        soon().open(&other).unwrap().close().unwrap();
        type Act<'a> = &'a dyn Fn() -> Result<()>;
        let acts: [(LockKind, u64, Act<'_>); 4] = [
            (LockKind::Open, OPEN, &|| soon().open(&other).map(drop)),
            (LockKind::Writer, WRITER, &|| store.write(|_| Ok(()))),
            (LockKind::Append, APPEND, &|| store.write(|tx| tx.raw("t")?.put(b"k", b"v"))),
            (LockKind::Checkpoint, CHECKPOINT, &|| store.checkpoint()),
        ];
        for (name, byte, act) in acts {
            let child = stopped_holder(if name == LockKind::Open { &other } else { &path }, byte);
            if UnixDisk::open(&path, OpenMode::default()).unwrap().holders(0, u64::MAX).is_empty() {
                println!("/proc does not tell of locks here: skipped");
            } else {
                let error = act().unwrap_err();
                let text = error.to_string();
                let Error::Busy { lock, holder: Some(holder), .. } = error else { panic!("{name}: {text}") };
                assert_eq!((lock, holder.pid, holder.stopped), (name, child.unsigned_abs(), true), "{text}");
            }
            kill(child);
            assert_eq!(wait_for(child), -libc::SIGKILL);
        }
    }

    #[test]
    fn the_holder_of_a_byte_is_found_running_and_stopped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut ready, signal) = std::io::pipe().unwrap();
        let child = in_child(|| {
            let own = UnixDisk::open(file.path(), OpenMode::default()).unwrap();
            assert!(own.try_lock(BYTE + 7, LockMode::Exclusive).unwrap());
            (&signal).write_all(b"x").unwrap();
            loop {
                std::thread::park();
            }
        });
        ready.read_exact(&mut [0]).unwrap();
        let disk = UnixDisk::open(file.path(), OpenMode::default()).unwrap();
        assert!(disk.try_lock(BYTE, LockMode::Exclusive).unwrap());
        let found = disk.holders(BYTE, 100);
        if found.is_empty() {
            println!("/proc does not tell of locks here: skipped");
        } else {
            let [held] = &found[..] else { panic!("our own lock is in nobody's way: {found:?}") };
            assert_eq!((held.first, held.last, held.holder.pid), (BYTE + 7, BYTE + 7, child.unsigned_abs()));
            assert!(!held.holder.command.is_empty() && !held.holder.stopped);
            assert!(disk.holders(BYTE + 8, 100).is_empty() && disk.holders(BYTE, 0).is_empty());
            stop(child);
            assert!(holder_of(&disk, BYTE + 7, 1).unwrap().stopped);
        }
        kill(child);
        assert_eq!(wait_for(child), -libc::SIGKILL);
        assert!(disk.holders(BYTE, 100).is_empty());
    }
}
