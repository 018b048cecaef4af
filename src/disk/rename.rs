//! The names of a file that is being made: one of its own, `.NAME.RANDOM.ENDING`, until it is whole; then its name, which
//! no other file has taken meanwhile, durably.

use std::borrow::Cow;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host::random;
use crate::error::{Error, Result};

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

/// Gives `from` the name `to`, unless something has it. Where no renaming spares what has the name, a second name does.
pub(crate) fn give_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match rename_to_free_name(from, to) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {
            fs::hard_link(from, to)?;
            let _ = fs::remove_file(from);
            Ok(())
        }
        renamed => renamed,
    }
}

/// The directory in which a file lies.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes the name of a file durable.
pub(crate) fn sync_directory(file: &Path) -> Result<()> {
    let directory = parent_of(file);
    match File::open(&directory).and_then(|directory| directory.sync_all()) {
        // A user may be allowed to create files in a directory but not to read it, and some file systems do not
        // flush directories: nothing better can be done there.
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(()),
        flushed => flushed.map_err(|e| Error::io("flush the directory", directory, e)),
    }
}

/// A name for a file until it is whole, beside the one that it is to get.
pub(crate) fn temporary_name(target: &Path, ending: &str) -> Result<PathBuf> {
    let random = u32::from_le_bytes(random(target)?);
    Ok(target.with_file_name(format!(".{}.{random:08x}.{ending}", name_of(target))))
}

fn name_of(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Removes a file, and the sidecar that it has if it was used as a store.
pub(crate) fn remove_with_sidecar(path: &Path) {
    let mut sidecar = path.as_os_str().to_owned();
    sidecar.push("-shm");
    let _ = fs::remove_file(sidecar);
    let _ = fs::remove_file(path);
}

/// A half-made file this old was left by a process that is gone, unless that process shows that it is not.
const LEFTOVER: Duration = Duration::from_secs(60);

/// Removes what processes left that were killed while they made this file: files of such names that are old, and of which
/// `is_given_up` holds.
pub(crate) fn remove_leftovers(target: &Path, ending: &str, is_given_up: impl Fn(&Path) -> bool) {
    let (start, end) = (format!(".{}.", name_of(target)), format!(".{ending}"));
    for entry in fs::read_dir(parent_of(target)).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        let random = file.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&end));
        let ours = random.is_some_and(|random| random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit()));
        let age = || entry.metadata().and_then(|meta| meta.modified()).ok()?.elapsed().ok();
        if ours && age().is_some_and(|age| age > LEFTOVER) && is_given_up(&entry.path()) {
            remove_with_sidecar(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
