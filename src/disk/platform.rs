//! The interface to the operating system.
//!
//! The engine sees a [`Disk`] (one open file description of the data file) and a [`SharedMemory`] (the sidecar).
//! `unix.rs` implements both for Linux and macOS; the simulated disk implements both in memory, so that tests can
//! play every crash and fault through the unchanged engine.

use crate::error::Holder;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Any number of holders.
    Shared,
    /// One holder.
    Exclusive,
}

/// Which file a path names: the device and the inode on Unix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A lock that a process holds on bytes of the data file, as the system reports it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Its first and last byte, which may lie outside the range asked for.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) holder: Holder,
}

/// A read-only view of the first bytes of the data file. It may reach beyond the end of the file: those bytes
/// must not be touched until the file has grown over them. Bytes that a foreign truncation takes away read as
/// zeros, and never fault, for a reader that has a reference to them already.
pub(crate) trait Mapping: Send + Sync {
    /// The mapped bytes; empty once a part of them is known to be lost. Only bytes of pages that no process
    /// rewrites may be read through it.
    fn bytes(&self) -> &[u8];

    /// All mapped bytes, the lost ones as zeros: for bytes that were read before, and are lent again. The same at
    /// every call.
    fn kept(&self) -> &[u8] {
        self.bytes()
    }
}

/// One open file description of the data file.
///
/// Byte-range locks belong to the description, so a second acquisition of the same byte through the same `Disk`
/// converts the first: callers use an in-process owner in front of each lock.
pub(crate) trait Disk: Send + Sync {
    /// The path it was opened by.
    fn path(&self) -> &Path;
    /// The file itself, whatever path led to it.
    fn identity(&self) -> FileId {
        FileId { device: 0, inode: 0 }
    }
    /// Whether it lies in a file, which other processes can open.
    fn is_file(&self) -> bool {
        true
    }
    /// A number of 48 bits for the directory entry by which the file was reached. Two processes that
    /// reach one file by different entries look for its sidecar in different directories, or by other names.
    fn place(&self) -> u64 {
        0
    }
    /// What the directory entry leads to, if no longer to this file (one `stat`).
    fn lost_name(&self) -> Option<&'static str> {
        None
    }
    /// Whether writing is possible.
    fn writable(&self) -> bool;
    /// Length of the file in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Loads little-endian words that other processes may be writing at this moment: each may be old,
    /// new, or torn, so they only say where to look. Bytes beyond the end of the file read as zeros.
    /// Cheap: no system call where the file can be mapped.
    fn peek(&self, words: &mut [u64], offset: u64) -> io::Result<()> {
        for (word, at) in words.iter_mut().zip((offset..).step_by(8)) {
            let mut bytes = [0; 8];
            self.read_at(&mut bytes, at)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(())
    }
    /// Writes all of `buf` at `offset`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Sets the length; new bytes read as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Fills the range with zeros that have real space, growing the file if necessary: after the next flush,
    /// writing into the range cannot fail for lack of space, and flushing that needs no metadata. What the range
    /// held is lost. After an error the file may have grown.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Makes everything written so far, by any process, durable (`fdatasync`, `F_FULLFSYNC`).
    fn flush(&self) -> io::Result<()>;
    /// Starts writing the range out without waiting for it. A hint.
    fn start_writeback(&self, offset: u64, len: u64);
    /// Starts reading the range without waiting for it. A hint.
    fn start_reading(&self, _offset: u64, _len: u64) {}
    /// Takes or converts the lock on one byte if that needs no waiting.
    /// Exclusive locks need a disk that is writable.
    fn try_lock(&self, byte: u64, mode: LockMode) -> io::Result<bool>;
    /// Releases the lock on one byte.
    fn unlock(&self, byte: u64) -> io::Result<()>;
    /// Some range of bytes, within `[first, first + len)`, that another description has locked in
    /// any mode: its first byte and length. `None` when no other holds any. Not always the
    /// lowest such range.
    fn probe(&self, first: u64, len: u64) -> io::Result<Option<(u64, u64)>>;
    /// The processes that hold locks, through other descriptions, on bytes of `[first, first + len)`, as far as
    /// the system reports them. For errors and lists: it takes milliseconds, and may name a process that has
    /// exited since.
    fn holders(&self, _first: u64, _len: u64) -> Vec<Held> {
        Vec::new()
    }
    /// Maps the first `len` bytes for reading; `None` where there is no map (32-bit hosts, or the simulated
    /// disk), in which case pages are read into private memory.
    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Mapping>>>;
    /// Opens the sidecar at one of the [`SITES`]: the existing one or, with `create`, a new, zero-filled one that
    /// takes over the name atomically (the old one lives on, without a name, for processes that have it mapped).
    /// An existing one is refused if its owner may not write the data file.
    fn sidecar(&self, site: usize, size: usize, create: bool) -> io::Result<Arc<dyn SharedMemory>>;
    /// Milliseconds of a monotonic clock, from an origin that all processes of this boot share. Cheap: no system
    /// call where the platform can avoid it.
    fn now_ms(&self) -> u64;
    /// Microseconds of such a clock: as fine as the platform has it.
    fn now_us(&self) -> u64 {
        self.now_ms().saturating_mul(1000)
    }
    /// Sleeps. The simulated disk turns it into a scheduling point.
    fn sleep(&self, time: Duration);
}

/// Where a sidecar may lie, in the order of the search: beside the data file or, where that directory cannot be
/// written, in the system's directory of shared memory.
pub(crate) const SITES: usize = 2;

/// Memory shared by all processes that have the store open. It may hold anything at any time; a process that
/// reads it checks what it reads.
pub(crate) trait SharedMemory: Send + Sync {
    /// Its words.
    fn words(&self) -> &[AtomicU64];
    /// A number of 48 bits for this sidecar; a copy of it, or its successor of the same name, has another.
    fn id(&self) -> u64;
    /// Whether the words may be written; a process that may only read the sidecar must not write them.
    fn is_writable(&self) -> bool;
    /// Whether the sidecar's name still leads to this memory, at full length (one `stat`).
    fn is_current(&self) -> bool;
    /// Removes the sidecar's name, if it still leads to this memory.
    fn remove(&self) -> io::Result<()>;
    /// Sleeps until the low 32 bits of word `index` are no longer `expected`, a process calls
    /// [`SharedMemory::wake_all`] on it, or the time is over. May wake spuriously.
    fn wait(&self, index: usize, expected: u32, timeout: Duration);
    /// Wakes all that wait on word `index`, in every process.
    fn wake_all(&self, index: usize);
}
