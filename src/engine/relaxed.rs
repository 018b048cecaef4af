//! The relaxed commits of this process that are not known durable yet: its caller hears of a flush that failed since.

use crate::disk::locks::lock;
use crate::engine::Engine;
use crate::engine::flush::Failures;
use crate::error::Result;
use std::sync::Mutex;

/// The newest such commit, and what was known of failed flushes when the oldest of them was in the log.
#[derive(Default)]
pub(crate) struct Unflushed(Mutex<Option<(u64, Failures)>>);

impl Engine {
    pub(crate) fn note_relaxed(&self, lsn: u64, failures: Failures) {
        let mut unflushed = lock(&self.unflushed_commits.0);
        *unflushed = match unflushed.take() {
            Some((before, oldest)) if !self.is_flushed(before, &oldest) => Some((lsn.max(before), oldest)),
            _ => Some((lsn, failures)),
        };
    }

    /// Whether a commit is durable, and no failed flush can have taken it out of the log: a root that passes over
    /// an LSN makes that durable, too.
    fn is_flushed(&self, lsn: u64, since: &Failures) -> bool {
        self.durable_lsn() >= lsn && !self.has_failed_since(since)
    }

    /// Makes the relaxed commits of all processes durable. An error says, once, that some of this process may be lost.
    pub(crate) fn flush_all(&self) -> Result<()> {
        self.check_writable()?;
        self.learn(&self.sidecar());
        self.wait_durable(self.visible())?;
        match lock(&self.unflushed_commits.0).take() {
            Some((lsn, oldest)) if !self.is_flushed(lsn, &oldest) => {
                let reason = format!("a flush failed; relaxed commits up to LSN {lsn} may be lost");
                Err(self.unconfirmed(self.poisoned_error(reason)))
            }
            _ => Ok(()),
        }
    }
}
