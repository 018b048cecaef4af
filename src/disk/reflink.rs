//! A file that shares its blocks with another one, until either is written to.

use std::fs::File;
use std::io;

/// Makes `to`, which is empty, share all blocks of `from`, in one step. Gives an error of the kind `Unsupported`
/// if the filesystem cannot do that, or the two lie on different ones; nothing has changed then.
pub(crate) fn share_blocks(from: &File, to: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: both descriptors are borrowed from open files; no memory is passed.
        let result = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        let cannot = [libc::EOPNOTSUPP, libc::EXDEV, libc::EINVAL, libc::ENOTTY, libc::ENOSYS, libc::EPERM];
        let cannot = error.raw_os_error().is_some_and(|code| cannot.contains(&code));
        Err(if cannot { io::Error::new(io::ErrorKind::Unsupported, error) } else { error })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
}
