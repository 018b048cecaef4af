//! Which file a name leads to.
//!
//! This is checked at each write. When a file's times are queried, Linux notes that, and from then on each write
//! gives the inode a new time, which the next flush has to journal (multigrain timestamps, since Linux 6.13: 40
//! µs for a durable commit on ext4). So the times are not queried.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::platform::FileId;

/// The file that this name leads to, symbolic links followed.
pub(crate) fn file_id(path: &Path) -> io::Result<FileId> {
    #[cfg(target_os = "linux")]
    match statx(path) {
        // The system does not have the call, or a sandbox forbids it.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {}
        found => return found,
    }
    let meta = fs::metadata(path)?;
    Ok(FileId { device: meta.dev(), inode: meta.ino() })
}

#[cfg(target_os = "linux")]
fn statx(path: &Path) -> io::Result<FileId> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends with a zero byte, and the memory is large enough for what the call writes.
    let done = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_INO, found.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all of its bytes were set, to zero or by the call, and any of them make numbers.
    let found = unsafe { found.assume_init() };
    Ok(FileId { device: libc::makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_file_that_others_find() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        assert_eq!(file_id(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, b"x").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let meta = fs::metadata(&path).unwrap();
        let expected = FileId { device: meta.dev(), inode: meta.ino() };
        assert_eq!((file_id(&path).unwrap(), file_id(&link).unwrap()), (expected, expected));
        fs::rename(&path, dir.path().join("other")).unwrap();
        assert_eq!(file_id(&link).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
