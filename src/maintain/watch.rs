//! The progress of a check or a repair, and cancelling it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Steps between two calls of a progress callback: often enough, at no noticeable cost.
const STEPS: u64 = 1 << 20;

/// What a check or a repair is doing; see [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Phase {
    /// Following a root and its trees.
    Reading,
    /// Writing rows.
    Writing,
    /// Verifying: what was written or, in a check, everything.
    Verifying,
    /// Giving the result its name.
    Publishing,
}

/// The progress of a check or a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes read, or written, in this phase.
    pub bytes: u64,
    /// Total bytes of this phase, as far as known; 0 if unknown. In a check: the pages in use.
    pub total: u64,
}

/// Reports the progress to the caller's callback, which may cancel.
pub(in crate::maintain) struct Watch<'p> {
    path: PathBuf,
    now: Progress,
    told: u64,
    callback: &'p mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl<'p> Watch<'p> {
    pub(in crate::maintain) fn new(path: &Path, callback: &'p mut dyn FnMut(Progress) -> ControlFlow<()>) -> Watch<'p> {
        let now = Progress { phase: Phase::Reading, bytes: 0, total: 0 };
        Watch { path: path.to_path_buf(), now, told: 0, callback }
    }

    /// Starts another phase.
    pub(in crate::maintain) fn phase(&mut self, phase: Phase, total: u64) -> Result<()> {
        self.now = Progress { phase, bytes: 0, total };
        self.told = 0;
        self.tell()
    }

    fn tell(&mut self) -> Result<()> {
        match (self.callback)(self.now) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled { path: self.path.clone() }),
        }
    }

    /// This many more bytes have been processed.
    pub(in crate::maintain) fn more(&mut self, bytes: u64) -> Result<()> {
        self.now.bytes += bytes;
        self.told += bytes.max(1);
        if self.told < STEPS {
            return Ok(());
        }
        self.told = 0;
        self.tell()
    }

    /// A pass over the file has reached this byte.
    pub(in crate::maintain) fn step(&mut self, at: u64) -> Result<()> {
        self.now.bytes = at;
        self.more(1 << 12)
    }
}
