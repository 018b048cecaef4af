//! A file in memory, for tests of what reads it, and for the fuzz targets: no other process, no lock that is refused,
//! no flush. (What many processes do to one file, and what a power loss leaves, is `sim`.)

use super::platform::{Disk, LockMode, Mapping, SharedMemory};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What sees a call, by its number, before it is carried out, and may change the file.
pub(crate) type Hook = Box<dyn Fn(u32, &mut Vec<u8>) + Send + Sync>;

/// The file, and what was asked of it.
pub(crate) struct MemoryDisk {
    pub(crate) bytes: Mutex<Vec<u8>>,
    /// If this is more than the bytes, the rest is zeros.
    pub(crate) len: u64,
    /// Whether it may be written to. What only reads the file must not even try.
    pub(crate) writable: AtomicBool,
    /// How often each byte was locked.
    pub(crate) locked: Mutex<BTreeMap<u64, u32>>,
    pub(crate) reads: AtomicU32,
    /// Offset and length of each read.
    pub(crate) read: Mutex<Vec<(u64, usize)>>,
    /// The disk cannot read this byte.
    pub(crate) bad: Option<u64>,
    /// Sees each read.
    pub(crate) hook: Hook,
    /// Sees each lock that is taken.
    pub(crate) lock_hook: Hook,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl MemoryDisk {
    /// A file that is only read.
    pub(crate) fn new(bytes: Vec<u8>) -> MemoryDisk {
        MemoryDisk {
            bytes: Mutex::new(bytes),
            len: 0,
            writable: AtomicBool::new(false),
            locked: Mutex::default(),
            reads: AtomicU32::new(0),
            read: Mutex::default(),
            bad: None,
            hook: Box::new(|_, _| {}),
            lock_hook: Box::new(|_, _| {}),
        }
    }

    /// A file that may be written to.
    #[cfg(test)]
    pub(crate) fn for_writing(bytes: Vec<u8>) -> MemoryDisk {
        MemoryDisk { writable: AtomicBool::new(true), ..MemoryDisk::new(bytes) }
    }

    fn must_be_writable(&self, call: &str) {
        assert!(self.writable(), "a file that is only to be read: {call}");
    }
}

impl Disk for MemoryDisk {
    fn path(&self) -> &Path {
        Path::new("memory")
    }

    fn writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len.max(lock(&self.bytes).len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut bytes = lock(&self.bytes);
        (self.hook)(self.reads.fetch_add(1, Ordering::Relaxed), &mut bytes);
        lock(&self.read).push((offset, buf.len()));
        if self.bad.is_some_and(|bad| (offset..offset + buf.len() as u64).contains(&bad)) {
            return Err(io::Error::other("a bad sector"));
        }
        let end = self.len.max(bytes.len() as u64);
        let len = buf.len().min(size(end.saturating_sub(offset)));
        let there = bytes.get(size(offset)..).unwrap_or_default().iter().chain(std::iter::repeat(&0));
        buf.iter_mut().take(len).zip(there).for_each(|(to, from)| *to = *from);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.must_be_writable("write");
        let (mut bytes, start) = (lock(&self.bytes), size(offset));
        let end = bytes.len().max(start + buf.len());
        bytes.resize(end, 0);
        bytes.iter_mut().skip(start).zip(buf).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.must_be_writable("set the length");
        lock(&self.bytes).resize(size(len), 0);
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        self.must_be_writable("allocate");
        refused()
    }

    fn flush(&self) -> io::Result<()> {
        self.must_be_writable("flush");
        refused()
    }

    fn start_writeback(&self, _: u64, _: u64) {}

    fn try_lock(&self, byte: u64, mode: LockMode) -> io::Result<bool> {
        assert_eq!(mode, LockMode::Shared, "there is no other process to keep out");
        *lock(&self.locked).entry(byte).or_default() += 1;
        (self.lock_hook)(0, &mut lock(&self.bytes));
        Ok(true)
    }

    fn unlock(&self, byte: u64) -> io::Result<()> {
        assert!(lock(&self.locked).remove(&byte).is_some(), "byte {byte} was not locked");
        Ok(())
    }

    fn probe(&self, _: u64, _: u64) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }

    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Mapping>>> {
        Ok(None)
    }

    fn sidecar(&self, _: usize, _: usize, _: bool) -> io::Result<Arc<dyn SharedMemory>> {
        self.must_be_writable("open the sidecar");
        refused()
    }

    fn now_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, _: Duration) {}
}
