//! The open store for the tools that look after it, and the watch over a call that takes long.

use crate::failure::Failure;
use crate::pace::Pace;
use crate::scope::Scope;
use memstone::memory::{Memory, Meter};
use memstone::{BackupDir, BackupOptions, Store, WriteTxn};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How far a call is: done, and in all, or 0 if that is unknown.
pub(crate) type Progress = (u64, u64);

/// Hears of the progress of a call, and says whether it goes on.
pub(crate) struct Watch {
    is_cancelled: Box<dyn Fn() -> bool + Send>,
    progress: Option<UnboundedSender<Progress>>,
}

impl Watch {
    /// A watch that asks `is_cancelled`, and tells `progress` if the client wants to hear of it.
    pub(crate) fn new(
        is_cancelled: impl Fn() -> bool + Send + 'static,
        progress: Option<UnboundedSender<Progress>>,
    ) -> Watch {
        Watch { is_cancelled: Box::new(is_cancelled), progress }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        (self.is_cancelled)()
    }

    fn tell(&self, progress: Progress) {
        // A client that is gone hears nothing.
        let _ = self.progress.as_ref().map(|listener| listener.send(progress));
    }
}

/// The open store, for a call.
pub(crate) struct Care<'c> {
    pub(crate) store: &'c Store,
    /// The memory in it, which measures with all others of this process.
    pub(crate) items: &'c Memory,
    /// Where they measure.
    pub(crate) meter: &'c Meter,
    pub(crate) scope: &'c Scope,
    pub(crate) pace: &'c Pace,
    pub(crate) watch: &'c Watch,
    pub(crate) deadline: Instant,
}

impl Care<'_> {
    /// Notes how far the call is; it is broken off if it was cancelled, or its time is up.
    pub(crate) fn step(&self, done: u64, total: u64) -> ControlFlow<()> {
        self.watch.tell((done, total));
        if self.watch.is_cancelled() || self.left().is_zero() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Why a call ends that was told to break off.
    pub(crate) fn broken_off(&self) -> Failure {
        memstone::Error::Cancelled { path: self.store.path().to_path_buf() }.into()
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Where the backups are: beside the store.
    pub(crate) fn backups(&self) -> PathBuf {
        let mut path = self.store.path().as_os_str().to_owned();
        path.push(".backups");
        path.into()
    }

    /// How a backup is made.
    pub(crate) fn backup_options(&self) -> BackupOptions<'_> {
        BackupOptions::new().progress(|progress| self.step(progress.rows, progress.total_rows))
    }

    /// A full backup of the present state; its name, its bytes and its rows.
    pub(crate) fn back_up(&self) -> Result<(String, u64, u64), Failure> {
        let backups = BackupDir::create(self.backups())?;
        let made = backups.backup(&self.store.read()?, false, self.backup_options())?;
        let rows = made.manifest.map_or(0, |manifest| manifest.rows());
        Ok((name_of(&made.path), made.bytes, rows))
    }

    /// A write transaction of a few rows.
    pub(crate) fn write<T>(&self, body: impl FnOnce(&WriteTxn) -> Result<T, Failure>) -> Result<T, Failure> {
        self.pace.change(self.store, false, self.left(), body)
    }

    /// One of many rows, after the pause behind the one before: others go on meanwhile.
    pub(crate) fn write_bulk<T>(&self, body: impl FnOnce(&WriteTxn) -> Result<T, Failure>) -> Result<T, Failure> {
        std::thread::sleep(self.pace.due().saturating_duration_since(Instant::now()).min(self.left()));
        self.pace.change(self.store, true, self.left(), body)
    }
}

/// The last part of a path, as text.
pub(crate) fn name_of(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
