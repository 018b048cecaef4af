//! The relaxed commits of this process that are not known to be durable: a flush that failed since is reported to
//! the caller.

use crate::disk::locks::lock;
use crate::engine::Engine;
use crate::engine::board::Failures;
use crate::error::Result;
use std::sync::Mutex;

/// The newest such commit, and the failed flushes known when the oldest of them was in the log.
#[derive(Default)]
pub(crate) struct Unflushed(Mutex<Option<(u64, Failures)>>);

impl Engine {
    pub(crate) fn note_relaxed(&self, lsn: u64, failures: Failures) {
        self.forget_flushed();
        let mut unflushed = lock(&self.unflushed_commits.0);
        let newest = unflushed.take().map_or((lsn, failures), |(before, oldest)| (lsn.max(before), oldest));
        *unflushed = Some(newest);
    }

    /// Forgets commits that are durable: a flush that fails later cannot take them. (The durable LSN alone does
    /// not prove it: a root that passes over an LSN raises it, too.)
    pub(crate) fn forget_flushed(&self) {
        let flushed =
            |(lsn, oldest): &mut (u64, Failures)| self.durable_lsn() >= *lsn && !self.has_failed_since(oldest);
        drop(lock(&self.unflushed_commits.0).take_if(flushed));
    }

    /// Flushes the relaxed commits of all processes. An error says, once, that relaxed commits of this process
    /// may be lost.
    pub(crate) fn flush_all(&self) -> Result<()> {
        self.check_writable()?;
        self.load_hints(&self.sidecar());
        self.wait_durable(self.visible())?;
        self.forget_flushed();
        let mut unflushed = lock(&self.unflushed_commits.0);
        let failed = unflushed.take_if(|(_, oldest)| self.has_failed_since(oldest));
        failed.map_or(Ok(()), |(lsn, _)| {
            let reason = format!("a flush failed; relaxed commits up to LSN {lsn} may be lost");
            Err(self.unconfirmed(self.poisoned_error(reason)))
        })
    }
}
