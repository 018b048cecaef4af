//! The process' limit on the size of files (`ulimit -f`, RLIMIT_FSIZE).
//!
//! The system kills a process that writes beyond it, by SIGXFSZ, unless the process handles that signal; a
//! library must not install a handler for its host. So a write that would pass the limit is refused before.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// The limit as last read: when the file was opened, when it was to grow, and when something was refused. (A
/// process that lowers its own limit below the size of an open store gets the error at the next growth.)
pub(super) struct SizeLimit(AtomicU64);

impl SizeLimit {
    pub(super) fn new() -> SizeLimit {
        SizeLimit(AtomicU64::new(current()))
    }

    /// Whether bytes may be written up to `end`.
    pub(super) fn allows(&self, end: u64) -> io::Result<()> {
        if end <= self.0.load(Ordering::Relaxed) { Ok(()) } else { self.allows_growth(end) }
    }

    /// Whether a file may grow to `end` bytes.
    pub(super) fn allows_growth(&self, end: u64) -> io::Result<()> {
        let limit = current();
        self.0.store(limit, Ordering::Relaxed);
        if end > limit {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        Ok(())
    }

    /// Whether the file may get this length, which may also be less than it has.
    pub(super) fn allows_length(&self, file: &File, len: u64) -> io::Result<()> {
        if len > file.metadata()?.len() { self.allows_growth(len) } else { Ok(()) }
    }
}

fn current() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` outlives the call; if that fails it says that there is no limit.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    limit.rlim_cur
}
