//! Threads of one simulated process: the locks between them are points at which the conductor may
//! let another go on, and a thread that waits for one lets the conductor know, instead of the system.

use super::{Call, Conductor};
use std::cell::RefCell;
use std::sync::{Arc, Condvar};
use std::time::Duration;

thread_local! {
    static PLAYER: RefCell<Option<(Arc<dyn Conductor>, usize)>> = const { RefCell::new(None) };
}

/// From now on this thread goes by that number, and waits for others as the conductor says.
pub(crate) fn play(conductor: Arc<dyn Conductor>, number: usize) {
    PLAYER.set(Some((conductor, number)));
}

fn player() -> Option<(Arc<dyn Conductor>, usize)> {
    PLAYER.try_with(|player| player.borrow().clone()).ok().flatten()
}

/// The number of this thread, if it has one.
pub(crate) fn number() -> Option<usize> {
    PLAYER.try_with(|player| player.borrow().as_ref().map(|(_, number)| *number)).ok().flatten()
}

/// The conductor's time, if this thread has a number.
pub(crate) fn now_us() -> Option<u64> {
    player().map(|(conductor, _)| conductor.now_us())
}

pub(crate) fn is_played() -> bool {
    number().is_some()
}

/// Returns when the lock is free. It stays so: no other thread runs until the next call.
pub(crate) fn before_lock(is_free: impl Fn() -> bool) {
    let Some((conductor, number)) = player() else { return };
    let _ = conductor.before(number, Call::Mutex);
    for times in 0.. {
        if is_free() {
            return;
        }
        conductor.contend(number, times);
    }
}

fn word(changed: &Condvar) -> (usize, usize) {
    (std::ptr::from_ref(changed).addr(), usize::MAX)
}

pub(crate) fn wait(changed: &Condvar, time: Option<Duration>) {
    let Some((conductor, number)) = player() else { return };
    conductor.wait(number, word(changed), time.unwrap_or(Duration::from_secs(1_000_000)));
}

pub(crate) fn wake(changed: &Condvar) {
    let Some((conductor, number)) = player() else { return };
    conductor.wake(number, word(changed));
}
