//! What surrounds a data file: its file system, its names, and whether a sidecar can be made beside it. For users
//! who diagnose a problem: the store itself does not depend on any of this.

use super::host::now_us;
use super::netfs;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file system, as a store on it sees it.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// Its type, where it can be told.
    pub(crate) kind: Option<String>,
    /// Its name, if it lies on another machine.
    pub(crate) remote: Option<String>,
    /// Bytes of it in all, and those that this user may still write.
    pub(crate) total: u64,
    pub(crate) available: u64,
    /// Whether this user may make files beside the data file; otherwise why not.
    pub(crate) directory: Result<(), String>,
    /// How many names the file has.
    pub(crate) links: u64,
    /// Those of its other names that lie in the same directory.
    pub(crate) other_names: Vec<PathBuf>,
}

/// Examines the surroundings of a data file.
pub(crate) fn look_around(path: &Path) -> io::Result<Surroundings> {
    let path = path.canonicalize()?;
    let named = netfs::filesystem(&path)?;
    let (total, available) = room(&path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let meta = fs::metadata(&path)?;
    let other_names = if meta.nlink() > 1 { other_names(&path, directory, &meta) } else { Vec::new() };
    Ok(Surroundings {
        kind: named.kind,
        remote: named.remote,
        total,
        available,
        directory: may_write(directory).map_err(|error| error.to_string()),
        links: meta.nlink(),
        other_names,
    })
}

fn other_names(path: &Path, directory: &Path, meta: &fs::Metadata) -> Vec<PathBuf> {
    let same = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()));
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter(same).map(|entry| entry.path()).filter(|name| name != path).collect();
    names.sort();
    names
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Bytes of the file system, and those of them that this user may still write.
fn room(path: &Path) -> io::Result<(u64, u64)> {
    let path = c_string(path)?;
    // SAFETY: the path ends with a zero byte and outlives the call; `statvfs` is plain data, for which zeros are valid, and the
    // system fills it in.
    let (result, status) = unsafe {
        let mut status: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut status), status)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::useless_conversion, reason = "of other types on other hosts")]
    let (unit, total, available) = (status.f_frsize.into(), status.f_blocks.into(), status.f_bavail.into());
    Ok((u64::saturating_mul(total, unit), u64::saturating_mul(available, unit)))
}

/// Whether files can be made in a directory; the error says why not.
fn may_write(directory: &Path) -> io::Result<()> {
    let directory = c_string(directory)?;
    // SAFETY: the path ends with a zero byte and outlives the call.
    match unsafe { libc::access(directory.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Since when a process of this system runs, if the system tells.
pub(crate) fn running_since(pid: u32) -> Option<SystemTime> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let ticks = started(&stat)?;
    // SAFETY: takes a number and gives one.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok().filter(|ticks| *ticks > 0)?;
    // Both count from the system's start, this one without the time in which the machine slept: the process looks
    // younger by that time.
    let age = now_us().checked_sub(ticks.saturating_mul(1_000_000) / per_second)?;
    SystemTime::now().checked_sub(Duration::from_micros(age))
}

/// The 22nd field of `/proc/PID/stat`. The process name before it stands in parentheses, and may contain any
/// characters.
fn started(stat: &[u8]) -> Option<u64> {
    let rest = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 1..)?;
    std::str::from_utf8(rest).ok()?.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_other_name() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&file, b"x").unwrap();
        fs::write(directory.path().join("c"), b"x").unwrap();
        let alone = look_around(&file).unwrap();
        assert_eq!((alone.links, alone.other_names.len(), alone.remote), (1, 0, None));
        assert!(alone.total >= alone.available && alone.total > 0 && alone.directory.is_ok());
        fs::hard_link(&file, &other).unwrap();
        let two = look_around(&file).unwrap();
        assert_eq!((two.links, two.other_names), (2, vec![other.canonicalize().unwrap()]));
        assert!(look_around(&directory.path().join("d")).is_err());
    }

    #[test]
    fn where_nothing_can_be_written() {
        let read_only = Path::new("/proc/self");
        if read_only.exists() {
            assert!(may_write(read_only).is_err());
        }
        assert!(may_write(Path::new("/no/such")).is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn since_when_a_process_runs() {
        let since = running_since(std::process::id()).unwrap();
        assert!(since <= SystemTime::now() && since > SystemTime::UNIX_EPOCH);
        assert_eq!(running_since(0), None);
        let mut fields = b"7 (a) b) S".to_vec();
        (4..=22).for_each(|n| fields.extend_from_slice(format!(" {n}").as_bytes()));
        assert_eq!(started(&fields), Some(22));
        assert_eq!((started(b""), started(b"7 (a)"), started(b"7 (a) S x")), (None, None, None));
    }
}
