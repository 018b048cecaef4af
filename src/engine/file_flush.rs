//! Flushing the file, and what a failure means: the store is poisoned until it is mended.

use crate::disk::locks::lock;
use crate::disk::sidecar::Sidecar;
use crate::engine::board::UNMENDED;
use crate::engine::roots::Roots;
use crate::error::{Error, Result};
use std::io;

impl Roots {
    /// Flushes what others wrote. A failure is reported once: the caller that hears of it must see to it
    /// that nothing is believed durable because a later flush succeeds.
    pub(crate) fn flush_found(&self) -> Result<()> {
        let sidecar = self.sidecar();
        if self.is_poisoned(&sidecar) {
            return Err(self.unmended());
        }
        self.flush_file(&sidecar).map_err(|e| Error::io("flush", self.path(), e))
    }

    /// Flushes the file, unless a failed flush waits to be mended; poisons the store if this one fails.
    pub(crate) fn flush_file(&self, sidecar: &Sidecar) -> io::Result<()> {
        self.flush_alone(sidecar, false)
    }

    /// One thread at a time: all of a process share a description, and the system tells only one of those who flush
    /// through it that something was dropped.
    pub(crate) fn flush_alone(&self, sidecar: &Sidecar, mends: bool) -> io::Result<()> {
        let _alone = lock(&self.flushing);
        if !mends && self.is_poisoned(sidecar) {
            return Err(io::Error::other(UNMENDED));
        }
        let flushed = self.disk.flush();
        if flushed.is_err() && self.disk.writable() {
            self.poison(sidecar);
        }
        flushed
    }
}
