//! What is done when nobody asks for it: flushing relaxed commits, folding a log that has grown or
//! that lies idle, letting go of a tree version that nobody reads.
//!
//! A thread does it, started when there is something to do and gone when there is not, so an idle
//! process has none.

use crate::disk::locks::lock;
use crate::engine::Engine;
use crate::engine::checkpoint::{Done, PATIENCE, Plan};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a relaxed commit may wait for its flush.
const RELAXED: Duration = Duration::from_millis(20);
/// How often the thread looks for something to do.
const LOOK: Duration = Duration::from_millis(250);
/// After this long without a commit the log is folded; after this long without a read the tree is let go.
const IDLE: Duration = Duration::from_secs(1);
/// Pages moved down at most in one go.
const COMPACT_WHEN_IDLE: usize = 4096;

pub(crate) struct Janitor {
    engine: Weak<Engine>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    stop: bool,
    fold: bool,
    flush: bool,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chore {
    /// The log has grown.
    Fold,
    /// A relaxed commit waits for its flush.
    Flush,
    /// Something was used that must be let go of later.
    Watch,
}

impl Janitor {
    pub(crate) fn new(engine: Weak<Engine>) -> Janitor {
        Janitor { engine, state: Mutex::default(), wake: Condvar::new() }
    }

    /// Sees to it that the chore is done soon.
    pub(crate) fn call(&self, chore: Chore) {
        let mut state = lock(&self.state);
        if state.stop {
            return;
        }
        let news = match chore {
            Chore::Fold => !std::mem::replace(&mut state.fold, true),
            Chore::Flush => !std::mem::replace(&mut state.flush, true),
            Chore::Watch => false,
        };
        if state.running {
            if news {
                self.wake.notify_all();
            }
            return;
        }
        let engine = self.engine.clone();
        let spawned = std::thread::Builder::new().name("memstone".to_owned()).spawn(move || run(&engine));
        // Without a thread the log is folded when it is full, and relaxed commits are flushed with the next flush.
        state.running = spawned.is_ok();
    }

    /// Ends the thread, and waits until it has ended.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stop = true;
        self.wake.notify_all();
        while state.running {
            state = self.wake.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sleeps until called, and takes the chores. `None`: stop.
    fn next(&self) -> Option<(bool, bool)> {
        let mut state = lock(&self.state);
        if !state.stop && !state.fold && !state.flush {
            state = self.wake.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.flush && !state.stop && !state.fold {
            // Relaxed commits that come in quick succession share a flush.
            state = self.wake.wait_timeout(state, RELAXED).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.stop {
            return None;
        }
        Some((std::mem::take(&mut state.fold), std::mem::take(&mut state.flush)))
    }

    fn ended(&self) {
        lock(&self.state).running = false;
        self.wake.notify_all();
    }
}

fn run(engine: &Weak<Engine>) {
    let mut idle_since = Instant::now();
    let mut last_lsn = 0;
    let mut folded_lsn = 0;
    let (mut compacting, mut rounds, mut smallest) = (false, 0, u64::MAX);
    loop {
        // Held only while something is done: the last handle must be able to go.
        let Some(engine) = engine.upgrade() else { return };
        let Some((fold, flush)) = engine.janitor.next() else {
            engine.janitor.ended();
            return;
        };
        if flush {
            let relaxed = engine.relaxed.load(Ordering::Acquire);
            if let Err(error) = engine.wait_durable(relaxed, engine.deadline()) {
                tracing::warn!(%error, "relaxed commits could not be flushed");
            }
        }
        let sidecar = engine.sidecar();
        let lsn = sidecar.tail().map_or(0, |tail| tail.lsn);
        if lsn != last_lsn {
            last_lsn = lsn;
            idle_since = Instant::now();
        }
        let idle = idle_since.elapsed() >= IDLE;
        let rest = idle && engine.disk.writable() && (lsn != folded_lsn || compacting);
        if fold || rest {
            let done = fold_now(&engine, rest && !fold, compacting);
            if rest {
                folded_lsn = sidecar.tail().map_or(0, |tail| tail.lsn);
                last_lsn = folded_lsn;
                // As long as the file gets smaller; a held snapshot may keep it from that.
                rounds = if done.page_count < smallest { 0 } else { rounds + 1 };
                smallest = smallest.min(done.page_count);
                compacting = done.could_shrink() && rounds < 4;
            }
        }
        if !idle {
            (rounds, smallest) = (0, u64::MAX);
        }
        engine.relax_view(u64::try_from(IDLE.as_millis()).unwrap_or(1000));
        if idle && !compacting && !engine.view_is_pinned() && !engine.janitor.is_called() {
            let mut state = lock(&engine.janitor.state);
            if !state.fold && !state.flush {
                state.running = false;
                drop(state);
                engine.janitor.wake.notify_all();
                return;
            }
        }
    }
}

impl Janitor {
    fn is_called(&self) -> bool {
        let state = lock(&self.state);
        state.fold || state.flush
    }
}

fn fold_now(engine: &Engine, idle: bool, force: bool) -> Done {
    let deadline = Instant::now().checked_add(PATIENCE);
    let plan = Plan { shrink: idle, force, compact: if idle { COMPACT_WHEN_IDLE } else { 0 }, ..Plan::default() };
    // Whoever is folding already does it for all.
    let turn = engine.try_lock_checkpoint().ok().flatten();
    turn.and_then(|turn| turn.run(&plan, deadline).ok()).unwrap_or_default()
}
