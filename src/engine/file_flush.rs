//! Flushing the file. A failed flush poisons the store until it is repaired.

use crate::disk::locks::lock;
use crate::disk::sidecar::Sidecar;
use crate::engine::board::NOT_REPAIRED;
use crate::engine::roots::Roots;
use crate::error::{Error, Result};
use std::io;

impl Roots {
    /// Flushes what other processes wrote. The system reports a failure once: the caller that gets the error must
    /// ensure that nothing counts as durable because a later flush succeeds.
    pub(crate) fn flush_found(&self) -> Result<()> {
        let sidecar = self.sidecar();
        if self.is_poisoned(&sidecar) {
            return Err(self.not_repaired());
        }
        self.flush_file(&sidecar).map_err(|e| Error::io("flush", self.path(), e))
    }

    /// Flushes the file, unless a failed flush is not repaired yet; poisons the store if this flush fails.
    pub(crate) fn flush_file(&self, sidecar: &Sidecar) -> io::Result<()> {
        self.flush_alone(sidecar, false)
    }

    /// One thread at a time: all threads of a process share a file description, and the system reports dropped
    /// pages to only one of the threads that flush through it.
    pub(crate) fn flush_alone(&self, sidecar: &Sidecar, repairs: bool) -> io::Result<()> {
        let _alone = lock(&self.flushing);
        if !repairs && self.is_poisoned(sidecar) {
            return Err(io::Error::other(NOT_REPAIRED));
        }
        let flushed = self.disk.flush();
        if flushed.is_err() {
            if self.disk.writable() {
                self.poison(sidecar);
            }
            // The frames that this process has read may be gone from the file.
            self.forget_log();
        }
        flushed
    }
}
