//! Work that no caller asks for, and the thread that is started to do it.

use crate::disk::locks::lock;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a relaxed commit may wait for its flush.
const RELAXED: Duration = Duration::from_millis(20);
/// How often the thread looks for work.
pub(super) const CHORE_CHECK: Duration = Duration::from_millis(250);

/// The background thread, and the work it was called for.
pub(crate) struct Background {
    /// Starts the thread; `false` if it cannot be.
    start: Box<dyn Fn() -> bool + Send + Sync>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    stop: bool,
    chores: Chores,
}

/// What the thread was called for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chores {
    pub(super) checkpoint: bool,
    pub(super) flush: bool,
    pub(super) released: bool,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chore {
    /// The log has grown.
    Checkpoint,
    /// A relaxed commit waits for its flush.
    Flush,
    /// Something was used that must be released later.
    Watch,
    /// The last snapshot of a version was released: pages may have become free.
    Release,
}

impl Background {
    pub(crate) fn new(start: impl Fn() -> bool + Send + Sync + 'static) -> Background {
        Background { start: Box::new(start), state: Mutex::default(), wake: Condvar::new() }
    }

    /// Has the chore done soon.
    pub(crate) fn call(&self, chore: Chore) {
        let mut state = lock(&self.state);
        if state.stop {
            return;
        }
        let news = match chore {
            Chore::Checkpoint => !std::mem::replace(&mut state.chores.checkpoint, true),
            Chore::Flush => !std::mem::replace(&mut state.chores.flush, true),
            Chore::Watch => false,
            Chore::Release => {
                state.chores.released = true;
                false
            }
        };
        if state.running {
            if news {
                self.wake.notify_all();
            }
            return;
        }
        // Without a thread, the log is checkpointed when it is full, and relaxed commits share the next flush.
        state.running = (self.start)();
    }

    /// Ends the thread, and waits until it has ended.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stop = true;
        self.wake.notify_all();
        while state.running {
            state = self.wake.wait_timeout(state, CHORE_CHECK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sleeps until called, or so long, and takes the chores. `None`: stop.
    pub(super) fn next(&self, wait: Duration) -> Option<Chores> {
        let mut state = lock(&self.state);
        if !state.stop && !state.chores.checkpoint && !state.chores.flush {
            state = self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.chores.flush && !state.stop && !state.chores.checkpoint {
            // Relaxed commits that come in quick succession share a flush.
            state = self.wake.wait_timeout(state, RELAXED).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.stop {
            return None;
        }
        Some(std::mem::take(&mut state.chores))
    }

    /// Ends the thread, unless it was called meanwhile.
    pub(super) fn end_unless_called(&self) -> bool {
        let mut state = lock(&self.state);
        if state.chores != Chores::default() {
            return false;
        }
        state.running = false;
        drop(state);
        self.wake.notify_all();
        true
    }

    pub(super) fn ended(&self) {
        lock(&self.state).running = false;
        self.wake.notify_all();
    }
}
