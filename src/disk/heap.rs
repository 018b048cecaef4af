//! A data file in the memory of this process: nothing outlives it, and no other process reaches it. (`memory.rs` and
//! `sim.rs` are for tests of the library itself: they record and refuse calls.)

use super::locks::lock;
use super::platform::{Disk, LockMode, Mapping, SharedMemory};
use super::private_memory::PrivateMemory;
use super::{fork, host};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// What stands for the path in errors.
const NAME: &str = "(in memory)";

pub(crate) struct HeapFile {
    bytes: RwLock<Vec<u8>>,
    sidecar: Mutex<Option<Arc<PrivateMemory>>>,
    generation: u32,
}

fn place(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl HeapFile {
    /// An empty file.
    pub(crate) fn new() -> io::Result<HeapFile> {
        let generation = fork::watched_fork_generation()?;
        Ok(HeapFile { bytes: RwLock::default(), sidecar: Mutex::default(), generation })
    }

    /// In a forked child the memory is a copy of the parent's, which may have been in the middle of a change.
    fn live(&self) -> io::Result<&RwLock<Vec<u8>>> {
        if self.generation == fork::fork_generation() {
            Ok(&self.bytes)
        } else {
            Err(io::Error::other("the store lies in the memory of the parent process"))
        }
    }

    fn change<T>(&self, end: u64, change: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        let end = place(end)?;
        let mut bytes = self.live()?.write().unwrap_or_else(PoisonError::into_inner);
        if end > bytes.len() {
            let more = end - bytes.len();
            bytes.try_reserve(more).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
            bytes.resize(end, 0);
        }
        Ok(change(&mut bytes))
    }
}

impl Disk for HeapFile {
    fn path(&self) -> &Path {
        Path::new(NAME)
    }

    fn is_file(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        true
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.live()?.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.live()?.read().unwrap_or_else(PoisonError::into_inner);
        let there = bytes.get(place(offset)?..).unwrap_or_default();
        let len = there.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), there.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let (start, end) = (place(offset)?, offset.saturating_add(buf.len() as u64));
        self.change(end, |bytes| {
            if let Some(to) = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..buf.len())) {
                to.copy_from_slice(buf);
            }
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len_here = place(len)?;
        self.change(len, |bytes| {
            bytes.truncate(len_here);
            if bytes.capacity() / 4 > bytes.len() {
                bytes.shrink_to_fit();
            }
        })
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let (start, end) = (place(offset)?, offset.saturating_add(len));
        let end_here = place(end)?;
        self.change(end, |bytes| bytes.get_mut(start..end_here).unwrap_or_default().fill(0))
    }

    fn flush(&self) -> io::Result<()> {
        self.live().map(drop)
    }

    fn start_writeback(&self, _: u64, _: u64) {}

    fn try_lock(&self, _: u64, _: LockMode) -> io::Result<bool> {
        self.live().map(|_| true)
    }

    fn unlock(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn probe(&self, _: u64, _: u64) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }

    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Mapping>>> {
        Ok(None)
    }

    fn sidecar(&self, site: usize, _: usize, create: bool) -> io::Result<Arc<dyn SharedMemory>> {
        let mut sidecar = lock(&self.sidecar);
        if create && site == 0 {
            *sidecar = Some(Arc::new(PrivateMemory::sidecar()));
        }
        match &*sidecar {
            Some(memory) if site == 0 => Ok(Arc::<PrivateMemory>::clone(memory)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn now_ms(&self) -> u64 {
        host::now_ms()
    }

    fn now_us(&self) -> u64 {
        host::now_us()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
