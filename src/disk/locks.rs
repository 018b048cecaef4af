//! The lock bytes, and an in-process owner in front of each.
//!
//! Kernel locks belong to the open file description, which all threads of a process share: a
//! second acquisition would convert the first. So a thread first becomes the owner within its
//! process, and only then asks the kernel. `docs/LOCKING.md` gives the order in which locks are
//! taken: WRITER, CHECKPOINT, SYNC, APPEND.

use crate::disk::fork::fork_generation;
use crate::disk::platform::{Disk, LockMode};
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

const BASE: u64 = 1 << 62;
/// Joining, recovering and leaving.
pub(crate) const OPEN: u64 = BASE;
/// Shared by everybody who has the store open.
pub(crate) const PRESENCE: u64 = BASE + 1;
/// Shared by everybody who may write.
pub(crate) const WRITABLE: u64 = BASE + 2;
/// One write transaction.
pub(crate) const WRITER: u64 = BASE + 3;
/// Appending to the log, sealing a batch, changing the ring.
pub(crate) const APPEND: u64 = BASE + 4;
/// Flushing.
pub(crate) const SYNC: u64 = BASE + 5;
/// Folding the log into the tree, and everything else that takes or gives back pages.
pub(crate) const CHECKPOINT: u64 = BASE + 6;
/// Sidecar slot `i` is taken: `SLOT + i`.
pub(crate) const SLOT: u64 = BASE + 0x1000;
/// Some process holds a snapshot of tree version `v`: `PIN + v`.
pub(crate) const PIN: u64 = BASE + (1 << 61);

/// What a deadline says: `None` waits for ever.
pub(crate) type Deadline = Option<Instant>;

/// A mutex that a panicking thread does not spoil: what it guards is checked against the file anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(test)]
    crate::disk::sim::threads::before_lock(|| !matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    // For a thread sanitizer that does not see into the standard library, where a thread waits.
    #[cfg(memstone_spin)]
    loop {
        match try_lock(mutex) {
            Some(guard) => return guard,
            None => std::thread::yield_now(),
        }
    }
    #[cfg(not(memstone_spin))]
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same, unless another thread has it. (The standard one calls a spoilt mutex taken, for ever.)
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    #[cfg(test)]
    crate::disk::sim::threads::before_lock(|| true);
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(spoilt)) => Some(spoilt.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// A kernel lock, given back on drop.
pub(crate) struct ByteLock {
    disk: Arc<dyn Disk>,
    byte: u64,
}

impl ByteLock {
    pub(crate) fn try_take(disk: &Arc<dyn Disk>, byte: u64, mode: LockMode) -> Result<Option<ByteLock>> {
        let taken = disk.try_lock(byte, mode).map_err(|e| Error::io("lock", disk.path(), e))?;
        Ok(taken.then(|| ByteLock { disk: Arc::clone(disk), byte }))
    }

    /// Waits for a lock that is held for microseconds, by asking again and again.
    pub(crate) fn take(
        disk: &Arc<dyn Disk>,
        byte: u64,
        mode: LockMode,
        name: &'static str,
        deadline: Deadline,
    ) -> Result<ByteLock> {
        let started = Instant::now();
        let mut pause = Duration::from_micros(10);
        loop {
            if let Some(guard) = ByteLock::try_take(disk, byte, mode)? {
                return Ok(guard);
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                let (path, waited) = (disk.path().to_path_buf(), started.elapsed());
                return Err(Error::Busy { path, lock: name, waited, holder: None });
            }
            disk.sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }
}

impl Drop for ByteLock {
    fn drop(&mut self) {
        // Nothing can be done about a refusal; the kernel drops the lock with the descriptor at the latest.
        let _ = self.disk.unlock(self.byte);
    }
}

/// A mutex within the process that is handed on in order of arrival, with a deadline.
#[derive(Default)]
pub(crate) struct FairLock {
    state: Mutex<FairState>,
}

#[derive(Default)]
struct FairState {
    held: bool,
    /// The holder's thread; unknown for the moment in which the lock is handed on.
    owner: Option<ThreadId>,
    queue: VecDeque<Arc<Turn>>,
}

#[derive(Default)]
struct Turn {
    mine: Mutex<bool>,
    changed: Condvar,
}

impl Turn {
    /// Sleeps until the turn may have come, or the time is over.
    fn wait<'t>(&'t self, mine: MutexGuard<'t, bool>, time: Option<Duration>) -> MutexGuard<'t, bool> {
        #[cfg(test)]
        if crate::disk::sim::threads::is_played() {
            drop(mine);
            crate::disk::sim::threads::wait(&self.changed, time);
            return lock(&self.mine);
        }
        if cfg!(memstone_spin) {
            drop(mine);
            std::thread::yield_now();
            return lock(&self.mine);
        }
        match time {
            None => self.changed.wait(mine).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.changed.wait_timeout(mine, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    fn give(&self) {
        *lock(&self.mine) = true;
        self.changed.notify_one();
        #[cfg(test)]
        crate::disk::sim::threads::wake(&self.changed);
    }
}

/// What came of waiting for a [`FairLock`].
pub(crate) enum Waited {
    /// The lock is held.
    Held(FairGuard),
    /// The deadline passed.
    TooLate,
    /// This very thread holds it already.
    Nested,
}

/// A held [`FairLock`].
pub(crate) struct FairGuard {
    lock: Arc<FairLock>,
    generation: u32,
}

impl FairLock {
    fn own(self: &Arc<Self>, state: &mut FairState) -> FairGuard {
        state.held = true;
        state.owner = Some(std::thread::current().id());
        FairGuard { lock: Arc::clone(self), generation: fork_generation() }
    }

    pub(crate) fn try_take(self: &Arc<Self>) -> Option<FairGuard> {
        let mut state = lock(&self.state);
        (!state.held).then(|| self.own(&mut state))
    }

    pub(crate) fn take(self: &Arc<Self>, deadline: Deadline) -> Waited {
        let turn = {
            let mut state = lock(&self.state);
            if !state.held {
                return Waited::Held(self.own(&mut state));
            }
            if state.owner == Some(std::thread::current().id()) {
                return Waited::Nested;
            }
            let turn = Arc::new(Turn::default());
            state.queue.push_back(Arc::clone(&turn));
            turn
        };
        let mut mine = lock(&turn.mine);
        while !*mine {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                drop(mine);
                return self.give_up(&turn);
            }
            mine = turn.wait(mine, left);
        }
        drop(mine);
        Waited::Held(self.own(&mut lock(&self.state)))
    }

    fn give_up(self: &Arc<Self>, turn: &Arc<Turn>) -> Waited {
        let mut state = lock(&self.state);
        if *lock(&turn.mine) {
            // It was handed over in this very moment: it must not be lost.
            return Waited::Held(self.own(&mut state));
        }
        state.queue.retain(|other| !Arc::ptr_eq(other, turn));
        Waited::TooLate
    }
}

impl Drop for FairGuard {
    fn drop(&mut self) {
        // In a forked child nobody waits for it, and whoever had the mutex would never give it back.
        if self.generation != fork_generation() {
            return;
        }
        let mut state = lock(&self.lock.state);
        state.owner = None;
        match state.queue.pop_front() {
            Some(next) => next.give(),
            None => state.held = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_handed_to_a_waiter_who_gives_up_is_not_lost() {
        let owned = Arc::new(FairLock::default());
        let guard = owned.try_take().unwrap();
        let turn = Arc::new(Turn::default());
        lock(&owned.state).queue.push_back(Arc::clone(&turn));
        drop(guard);
        let Waited::Held(guard) = owned.give_up(&turn) else { panic!("nobody has it, and nobody can take it") };
        assert!(owned.try_take().is_none());
        drop(guard);
        assert!(owned.try_take().is_some());
    }
}
