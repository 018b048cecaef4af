//! How far a long verb is, on a terminal; and ending it in an orderly way.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use memstone::BackupProgress;

use crate::failure::Failure;

pub(crate) struct Progress {
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
}

impl Progress {
    /// From here on an interrupt (Ctrl-C, SIGTERM) ends the verb at its next step, and nothing of it stays.
    pub(crate) fn new() -> Result<Progress, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        #[cfg(unix)]
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of {human_len} rows") {
            bar.set_style(style);
        }
        Ok(Progress { bar, interrupted })
    }

    pub(crate) fn tell(&self, told: &BackupProgress) -> ControlFlow<()> {
        self.bar.set_length(told.total_rows);
        self.bar.set_position(told.rows);
        self.bar.set_message(format!("{:?}", told.step));
        if self.interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Progress {
    /// The same for a check, which counts bytes.
    pub(crate) fn tell_bytes(&self, told: memstone::Progress) -> ControlFlow<()> {
        if self.bar.length() != Some(told.total)
            && let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}")
        {
            self.bar.set_style(style);
        }
        self.bar.set_length(told.total);
        self.bar.set_position(told.bytes);
        self.bar.set_message("Check");
        if self.interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Progress {
    /// The same for a number of rows of which nobody knows how many there are.
    pub(crate) fn tell_rows(&self, rows: u64) -> ControlFlow<()> {
        self.bar.set_message(format!("{rows} rows"));
        self.bar.tick();
        if self.interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
