//! Memory of this process alone, used when no sidecar is available: threads still wake each other, and what other
//! processes do is found in the file. It is the sidecar of a store that lies in the memory of this process.

use crate::disk::locks::lock;
use crate::disk::platform::SharedMemory;
use crate::disk::sidecar::SIDECAR_SIZE;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

pub(crate) struct PrivateMemory {
    words: Vec<AtomicU64>,
    lock: Mutex<()>,
    changed: Condvar,
    /// Whether it is the sidecar of a store that only this process has.
    is_sidecar: bool,
}

impl PrivateMemory {
    pub(crate) fn new() -> PrivateMemory {
        let words = (0..SIDECAR_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        PrivateMemory { words, lock: Mutex::new(()), changed: Condvar::new(), is_sidecar: false }
    }

    /// The sidecar of a store in the memory of this process: its threads share it.
    pub(crate) fn sidecar() -> PrivateMemory {
        PrivateMemory { is_sidecar: true, ..PrivateMemory::new() }
    }
}

impl SharedMemory for PrivateMemory {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn id(&self) -> u64 {
        0
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn remove(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_current(&self) -> bool {
        // In place of a sidecar it is none: so a real one is looked for each time this is asked.
        self.is_sidecar
    }

    fn wait(&self, index: usize, expected: u32, timeout: Duration) {
        let guard = lock(&self.lock);
        if self.words.get(index).is_some_and(|w| w.load(Ordering::Acquire) & 0xffff_ffff == u64::from(expected)) {
            let _ = self.changed.wait_timeout(guard, timeout);
        }
    }

    fn wake_all(&self, _index: usize) {
        let _guard = lock(&self.lock);
        self.changed.notify_all();
    }
}
