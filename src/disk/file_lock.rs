//! Byte-range locks that belong to the open file description, so that closing another descriptor
//! of the same file drops none of them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::platform::LockMode;

// On 32-bit glibc the plain `struct flock` has 32-bit offsets, far too short for our lock bytes.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32"))]
type Range = libc::flock64;
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32")))]
type Range = libc::flock;

#[allow(clippy::unnecessary_cast, clippy::cast_possible_truncation, reason = "tiny constants, `int` on some hosts")]
mod kind {
    pub(super) const SHARED: libc::c_short = libc::F_RDLCK as libc::c_short;
    pub(super) const EXCLUSIVE: libc::c_short = libc::F_WRLCK as libc::c_short;
    pub(super) const NONE: libc::c_short = libc::F_UNLCK as libc::c_short;
}

/// Takes or converts the lock on one byte, if no other description holds a conflicting one. An exclusive lock
/// needs a description that can write, a shared one a description that can read.
pub(super) fn try_lock(file: &File, byte: u64, mode: LockMode) -> io::Result<bool> {
    let wanted = match mode {
        LockMode::Shared => kind::SHARED,
        LockMode::Exclusive => kind::EXCLUSIVE,
    };
    match call(file, libc::F_OFD_SETLK, range(wanted, byte, 1)?) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Releases the lock on one byte.
pub(super) fn unlock(file: &File, byte: u64) -> io::Result<()> {
    call(file, libc::F_OFD_SETLK, range(kind::NONE, byte, 1)?).map(drop)
}

/// Releases every lock of this description.
pub(super) fn unlock_all(file: &File) -> io::Result<()> {
    call(file, libc::F_OFD_SETLK, range(kind::NONE, 0, 0)?).map(drop)
}

/// A range of bytes that another description has locked in any mode. Asking takes no lock, so it works, and
/// changes nothing, on a read-only description too.
pub(super) fn probe(file: &File, first: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    if len == 0 {
        // To the kernel a length of 0 means "to the end of the file".
        return Ok(None);
    }
    let held = call(file, libc::F_OFD_GETLK, range(kind::EXCLUSIVE, first, len)?)?;
    if held.l_type == kind::NONE {
        return Ok(None);
    }
    // The kernel joins adjacent bytes of one owner, so the answer may extend beyond the range asked for.
    let start = u64::try_from(held.l_start).unwrap_or(0).max(first);
    let end = match u64::try_from(held.l_len) {
        Ok(held_len) if held_len > 0 => {
            u64::try_from(held.l_start).unwrap_or(0).saturating_add(held_len).min(first.saturating_add(len))
        }
        _ => first.saturating_add(len),
    };
    Ok(Some((start, end.saturating_sub(start))))
}

/// Locks a range shared, which may be endless (`len` 0), as only a foreign program does.
#[cfg(test)]
pub(super) fn share_range(file: &File, first: u64, len: u64) -> io::Result<()> {
    call(file, libc::F_OFD_SETLK, range(kind::SHARED, first, len)?).map(drop)
}

fn range(kind: libc::c_short, start: u64, len: u64) -> io::Result<Range> {
    // SAFETY: `flock` is plain data of integers, for which zeros are valid. They also mean
    // "from the start of the file" and the zero pid that these locks ask for.
    let mut range: Range = unsafe { std::mem::zeroed() };
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    range.l_type = kind;
    range.l_start = start.try_into().map_err(invalid)?;
    range.l_len = len.try_into().map_err(invalid)?;
    Ok(range)
}

fn call(file: &File, command: libc::c_int, mut range: Range) -> io::Result<Range> {
    loop {
        #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32"))]
        // SAFETY: the descriptor is open, and the kernel reads and writes one `flock64`.
        let result = unsafe { libc::syscall(libc::SYS_fcntl64, file.as_raw_fd(), command, &raw mut range) };
        #[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32")))]
        // SAFETY: the descriptor is open, and the kernel reads and writes one `flock`.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut range) };
        if result != -1 {
            return Ok(range);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fork::tests::{in_child, wait_for};
    use super::LockMode::{Exclusive, Shared};
    use super::*;

    const BASE: u64 = 1 << 62;

    fn twice() -> (tempfile::NamedTempFile, File, File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let again = File::options().read(true).write(true).open(file.path()).unwrap();
        let first = File::options().read(true).write(true).open(file.path()).unwrap();
        (file, first, again)
    }

    #[test]
    fn exclusive_keeps_others_out_and_shared_does_not() {
        let (_file, a, b) = twice();
        assert!(try_lock(&a, BASE, Exclusive).unwrap());
        assert!(!try_lock(&b, BASE, Exclusive).unwrap());
        assert!(!try_lock(&b, BASE, Shared).unwrap());
        assert!(try_lock(&b, BASE + 1, Exclusive).unwrap(), "the neighbour is another lock");
        unlock(&a, BASE).unwrap();
        assert!(try_lock(&b, BASE, Shared).unwrap());
        assert!(try_lock(&a, BASE, Shared).unwrap());
        assert!(try_lock(&b, i64::MAX.unsigned_abs(), Exclusive).unwrap(), "the last byte there is");
        assert!(try_lock(&b, u64::MAX, Exclusive).is_err());
    }

    #[test]
    fn a_second_acquisition_converts_the_first() {
        let (_file, a, b) = twice();
        assert!(try_lock(&a, BASE, Shared).unwrap());
        assert!(try_lock(&a, BASE, Exclusive).unwrap());
        assert!(!try_lock(&b, BASE, Shared).unwrap());
        assert!(try_lock(&a, BASE, Shared).unwrap());
        assert!(try_lock(&b, BASE, Shared).unwrap());
        assert!(!try_lock(&a, BASE, Exclusive).unwrap(), "no conversion over another's lock");
        assert!(!try_lock(&b, BASE, Exclusive).unwrap());
        unlock(&a, BASE).unwrap();
        assert!(try_lock(&b, BASE, Exclusive).unwrap());
    }

    #[test]
    fn closing_another_descriptor_of_the_file_drops_nothing() {
        let (file, a, b) = twice();
        assert!(try_lock(&a, BASE, Exclusive).unwrap());
        drop(File::open(file.path()).unwrap());
        assert!(!try_lock(&b, BASE, Exclusive).unwrap());
        drop(a);
        assert!(try_lock(&b, BASE, Exclusive).unwrap());
    }

    #[test]
    fn probe_finds_each_foreign_lock_and_no_own_one() {
        let (file, a, b) = twice();
        let reader = File::open(file.path()).unwrap();
        assert_eq!(probe(&b, BASE, 1 << 40).unwrap(), None);
        for version in [3, 4, 5, 900] {
            assert!(try_lock(&a, BASE + version, Shared).unwrap());
        }
        assert!(try_lock(&b, BASE + 1, Shared).unwrap());
        for asker in [&b, &reader] {
            assert_eq!(probe(asker, BASE + 2, 100).unwrap(), Some((BASE + 3, 3)));
            assert_eq!(probe(asker, BASE + 4, 1).unwrap(), Some((BASE + 4, 1)), "cut to the question");
            assert_eq!(probe(asker, BASE + 6, 894).unwrap(), None);
            assert_eq!(probe(asker, BASE + 6, 895).unwrap(), Some((BASE + 900, 1)));
            assert_eq!(probe(asker, BASE + 3, 0).unwrap(), None);
        }
        assert_eq!(probe(&a, BASE, 1000).unwrap(), Some((BASE + 1, 1)));
        assert_eq!(probe(&b, BASE + 1, 1).unwrap(), None, "one's own lock is in nobody's way");
        unlock_all(&a).unwrap();
        assert_eq!(probe(&b, BASE, 1 << 40).unwrap(), None);
        assert!(try_lock(&b, BASE + 1, Exclusive).unwrap());
        assert_eq!(probe(&reader, BASE, 1000).unwrap(), Some((BASE + 1, 1)), "an exclusive lock is found too");
    }

    #[test]
    fn a_reader_may_share_but_not_exclude() {
        let (file, a, _b) = twice();
        let reader = File::open(file.path()).unwrap();
        assert!(try_lock(&reader, BASE, Shared).unwrap());
        assert!(!try_lock(&a, BASE, Exclusive).unwrap());
        assert_eq!(try_lock(&reader, BASE + 1, Exclusive).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_killed_process_leaves_no_lock() {
        let (file, a, _b) = twice();
        let (mut ready, signal) = io::pipe().unwrap();
        let child = in_child(|| {
            let own = File::options().read(true).write(true).open(file.path()).unwrap();
            assert!(try_lock(&own, BASE, Exclusive).unwrap());
            io::Write::write_all(&mut &signal, b"x").unwrap();
            loop {
                std::thread::park();
            }
        });
        io::Read::read_exact(&mut ready, &mut [0]).unwrap();
        assert!(!try_lock(&a, BASE, Exclusive).unwrap());
        assert_eq!(probe(&a, BASE, 1).unwrap(), Some((BASE, 1)));
        // SAFETY: the child is ours and not yet waited for.
        unsafe { libc::kill(child, libc::SIGKILL) };
        assert_eq!(wait_for(child), -libc::SIGKILL);
        assert!(try_lock(&a, BASE, Exclusive).unwrap());
    }
}
