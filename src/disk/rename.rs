//! Giving a file a name that no other file has taken meanwhile.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Renames `from`, unless something has the name `to`: then it returns an error of the kind `AlreadyExists`, and
/// nothing has changed. If the kernel or the filesystem cannot do that in one step, an error of the kind
/// `Unsupported`.
pub(crate) fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (from, to) = (name(from)?, name(to)?);
    // SAFETY: both names live until the call returns. (By number on Linux: not each libc has the function.)
    #[cfg(target_os = "linux")]
    let result = unsafe {
        let (here, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
        libc::syscall(libc::SYS_renameat2, here, from.as_ptr(), here, to.as_ptr(), flags)
    };
    // SAFETY: as above.
    #[cfg(target_os = "macos")]
    let result = unsafe { libc::renamex_np(from.as_ptr(), to.as_ptr(), libc::RENAME_EXCL) };
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    let result = {
        let _ = (from, to);
        return Err(io::ErrorKind::Unsupported.into());
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let unknown = [libc::EINVAL, libc::ENOSYS, libc::ENOTSUP];
    Err(if error.raw_os_error().is_some_and(|code| unknown.contains(&code)) {
        io::Error::new(io::ErrorKind::Unsupported, error)
    } else {
        error
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_name_that_is_taken_stays_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let refused = rename_to_free_name(&from, &to).unwrap_err();
        assert!([io::ErrorKind::AlreadyExists, io::ErrorKind::Unsupported].contains(&refused.kind()), "{refused}");
        assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"new".to_vec(), b"old".to_vec()));
        if refused.kind() == io::ErrorKind::Unsupported {
            println!("not possible on this filesystem: skipped");
            return;
        }
        fs::remove_file(&to).unwrap();
        rename_to_free_name(&from, &to).unwrap();
        assert!(!from.exists() && fs::read(&to).unwrap() == b"new");
    }
}
