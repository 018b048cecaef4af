//! A process stands still before a chosen call, for as long as a test wants it to, while others act.

use crate::disk::sim::{Call, Conductor, Killed, SimDisk, Verdict};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where a process stands still.
struct Gate {
    call: Call,
    /// So many calls of the kind are let pass before.
    left: usize,
    reached: bool,
    /// What becomes of that call, once the process may go on, and where it stands still next.
    verdict: Option<Verdict>,
    next: Option<Box<Gate>>,
}

impl Gate {
    fn new(call: Call, nth: usize) -> Gate {
        Gate { call, left: nth, reached: false, verdict: None, next: None }
    }
}

/// By process.
#[derive(Default)]
struct Gates {
    gates: HashMap<usize, Gate>,
    ended: HashSet<usize>,
    dead: HashSet<usize>,
}

/// Processes that may stand still. Time passes only in waiting.
#[derive(Default)]
pub(super) struct Stage {
    gates: Mutex<Gates>,
    changed: Condvar,
    now: AtomicU64,
}

impl Stage {
    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the act on a thread until its process is about to make such a call: the n-th, counted from 0.
    pub(super) fn until<T: Send + 'static>(
        self: &Arc<Self>,
        at: (usize, Call, usize),
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Still<T> {
        self.up_to(at, act).expect("there is no such call")
    }

    /// The same; `None` if the act has ended without such a call.
    pub(super) fn up_to<T: Send + 'static>(
        self: &Arc<Self>,
        (process, call, nth): (usize, Call, usize),
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Option<Still<T>> {
        let mut gates = self.gates();
        gates.gates.insert(process, Gate::new(call, nth));
        gates.ended.remove(&process);
        drop(gates);
        let stage = Arc::clone(self);
        let thread = std::thread::spawn(move || {
            let _end = End(stage, process);
            act()
        });
        let still = Still { stage: Arc::clone(self), process, thread };
        still.is_reached().then_some(still)
    }
}

/// Tells that the act of a process has ended, by a panic perhaps.
struct End(Arc<Stage>, usize);

impl Drop for End {
    fn drop(&mut self) {
        let mut gates = self.0.gates();
        gates.ended.insert(self.1);
        gates.gates.remove(&self.1);
        drop(gates);
        self.0.changed.notify_all();
    }
}

impl Conductor for Stage {
    fn before(&self, process: usize, call: Call) -> Verdict {
        let mut gates = self.gates();
        if gates.dead.contains(&process) {
            return Verdict::Fail(0);
        }
        match gates.gates.get_mut(&process) {
            Some(gate) if gate.call == call && !gate.reached => {
                if gate.left > 0 {
                    gate.left -= 1;
                    return Verdict::Go;
                }
                gate.reached = true;
            }
            _ => return Verdict::Go,
        }
        self.changed.notify_all();
        loop {
            gates = self.changed.wait(gates).unwrap_or_else(PoisonError::into_inner);
            let gate = gates.gates.remove(&process).unwrap();
            let Some(verdict) = gate.verdict else {
                gates.gates.insert(process, gate);
                continue;
            };
            gate.next.and_then(|next| gates.gates.insert(process, *next));
            return verdict;
        }
    }

    fn sleep(&self, _: usize, time: Duration) {
        self.now.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn now_ms(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }
}

/// An act whose process stands still.
pub(super) struct Still<T> {
    stage: Arc<Stage>,
    process: usize,
    thread: JoinHandle<T>,
}

impl<T> Still<T> {
    /// Waits until the process stands still; `false` if its act ends before.
    fn is_reached(&self) -> bool {
        let mut gates = self.stage.gates();
        loop {
            if gates.gates.get(&self.process).is_some_and(|gate| gate.reached && gate.verdict.is_none()) {
                return true;
            }
            if gates.ended.contains(&self.process) {
                return false;
            }
            gates = self.stage.changed.wait(gates).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the call come out like this. The next gate, if there is one, is set before the process moves on.
    fn open(&self, verdict: Verdict, next: Option<Gate>) {
        let mut gates = self.stage.gates();
        let gate = gates.gates.get_mut(&self.process).unwrap();
        (gate.verdict, gate.next) = (Some(verdict), next.map(Box::new));
        drop(gates);
        self.stage.changed.notify_all();
    }

    /// Lets the process go on to its end.
    pub(super) fn go_on(self) -> T {
        self.open(Verdict::Go, None);
        self.thread.join().unwrap()
    }

    /// Lets the process go on, and stand still once more.
    pub(super) fn until(self, call: Call, nth: usize) -> Self {
        self.then(Verdict::Go, call, nth)
    }

    /// The same, with a verdict on the call before which it stands.
    pub(super) fn then(self, verdict: Verdict, call: Call, nth: usize) -> Self {
        self.open(verdict, Some(Gate::new(call, nth)));
        assert!(self.is_reached(), "there is no such call");
        self
    }

    /// The process is killed where it stands.
    pub(super) fn die(self, disk: &SimDisk) {
        disk.kill();
        self.stage.gates().dead.insert(self.process);
        self.open(Verdict::Fail(0), None);
        assert!(self.thread.join().is_err_and(|died| died.is::<Killed>()));
    }
}
