//! The lock bytes, and an in-process owner in front of each.
//!
//! Kernel locks belong to the open file description, which all threads of a process share: a
//! second acquisition would convert the first. So a thread first becomes the owner within its
//! process, and only then asks the kernel. `docs/LOCKING.md` gives the order in which locks are
//! taken: WRITER, CHECKPOINT, SYNC, APPEND.

use crate::disk::fork::fork_generation;
use crate::disk::holders::holder_of;
use crate::disk::platform::{Disk, LockMode};
use crate::error::{Error, LockKind, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

const BASE: u64 = 1 << 62;
/// Joining, recovering and leaving.
pub(crate) const OPEN: u64 = BASE;
/// One write transaction.
pub(crate) const WRITER: u64 = BASE + 3;
/// Appending to the log, sealing a batch, changing the ring.
pub(crate) const APPEND: u64 = BASE + 4;
/// Flushing.
pub(crate) const SYNC: u64 = BASE + 5;
/// Checkpoints, and everything else that allocates or frees pages.
pub(crate) const CHECKPOINT: u64 = BASE + 6;
/// Sidecar slot `i` is taken: `SLOT + i`.
pub(crate) const SLOT: u64 = BASE + 0x1000;
/// A process that came by the place `p` has the store open for writing: `WRITERS + p`.
pub(crate) const WRITERS: u64 = BASE + (1 << 60);
/// The same for reading only.
pub(crate) const READERS: u64 = WRITERS + (1 << 50);
/// A process that may write uses the sidecar with the number `s`: `MEMBERS + s`.
pub(crate) const MEMBERS: u64 = WRITERS + (1 << 51);
/// Places and sidecars have numbers below this.
pub(crate) const PLACES: u64 = 1 << 48;
/// A process holds a snapshot of tree version `v`: `PIN + v`.
pub(crate) const PIN: u64 = BASE + (1 << 61);

/// `None` waits for ever.
pub(crate) type Deadline = Option<Instant>;

/// Locks a mutex whether or not it is poisoned: what it guards is checked against the file anyway.
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

/// The same, unless another thread holds it. (The standard `try_lock` reports a poisoned mutex as an error for
/// ever.)
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    #[cfg(test)]
    crate::disk::sim::threads::before_lock(|| true);
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(spoilt)) => Some(spoilt.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// A kernel lock, released on drop.
pub(crate) struct ByteLock {
    disk: Arc<dyn Disk>,
    byte: u64,
}

impl ByteLock {
    pub(crate) fn try_take(disk: &Arc<dyn Disk>, byte: u64, mode: LockMode) -> Result<Option<ByteLock>> {
        let taken = disk.try_lock(byte, mode).map_err(|e| Error::io("lock", disk.path(), e))?;
        Ok(taken.then(|| ByteLock { disk: Arc::clone(disk), byte }))
    }

    /// Waits for a lock that is held for microseconds, by polling.
    pub(crate) fn take(
        disk: &Arc<dyn Disk>,
        byte: u64,
        mode: LockMode,
        name: LockKind,
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
                return Err(Error::Busy { path, lock: name, waited, holder: holder_of(&**disk, byte, 1) });
            }
            disk.sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }
}

impl Drop for ByteLock {
    fn drop(&mut self) {
        // A refusal cannot be handled; at the latest the kernel drops the lock with the descriptor.
        let _ = self.disk.unlock(self.byte);
    }
}

/// How long running threads may pass the first waiter of a queue. Handing a lock over at each release costs a
/// sleep and a wake-up; after this long it is handed over, so that no thread starves. It is a little longer than
/// a woken thread waits for a processor when all of them are busy.
pub(crate) const PASSED_BY: Duration = Duration::from_millis(3);

/// A mutex within the process, with a queue in order of arrival and a deadline. A free one may be taken past the
/// queue as long as the first waiter has waited for less than [`PASSED_BY`]; then it is handed to that waiter.
#[derive(Default)]
pub(crate) struct FairLock {
    state: Mutex<FairState>,
}

#[derive(Default)]
struct FairState {
    held: bool,
    /// The holder's thread; `None` while the lock is handed over.
    owner: Option<ThreadId>,
    queue: VecDeque<Arc<Turn>>,
}

impl FairState {
    /// Whether a thread outside the queue may take the lock.
    fn is_free(&self) -> bool {
        !self.held && !self.queue.front().is_some_and(|first| first.is_due())
    }

    /// Tells the first in the queue that the lock is free.
    fn wake_first(&self) {
        if let Some(first) = self.queue.front() {
            first.send(News::Free);
        }
    }
}

/// What a waiter is told.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum News {
    #[default]
    None,
    /// The lock is free, for this thread as for any other.
    Free,
    /// The lock was handed to this thread.
    Given,
}

struct Turn {
    since_us: u64,
    news: Mutex<News>,
    changed: Condvar,
}

impl Turn {
    fn new() -> Turn {
        Turn { since_us: now_us(), news: Mutex::default(), changed: Condvar::new() }
    }

    fn is_due(&self) -> bool {
        Duration::from_micros(now_us().saturating_sub(self.since_us)) >= PASSED_BY
    }

    /// Sleeps until there may be news, or the time is over.
    fn wait<'t>(&'t self, news: MutexGuard<'t, News>, time: Option<Duration>) -> MutexGuard<'t, News> {
        #[cfg(test)]
        if crate::disk::sim::threads::is_played() {
            drop(news);
            crate::disk::sim::threads::wait(&self.changed, time);
            return lock(&self.news);
        }
        if cfg!(memstone_spin) {
            drop(news);
            std::thread::yield_now();
            return lock(&self.news);
        }
        match time {
            None => self.changed.wait(news).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.changed.wait_timeout(news, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Waits for news; `None` once the deadline has passed.
    fn hear(&self, deadline: Deadline) -> News {
        let mut news = lock(&self.news);
        while *news == News::None {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            news = self.wait(news, left);
        }
        std::mem::take(&mut *news)
    }

    fn send(&self, news: News) {
        *lock(&self.news) = news;
        self.changed.notify_one();
        #[cfg(test)]
        crate::disk::sim::threads::wake(&self.changed);
    }
}

/// The result of waiting for a [`FairLock`].
pub(crate) enum Waited {
    /// The lock is held.
    Held(FairGuard),
    /// The deadline passed.
    TooLate,
    /// This thread holds it already.
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

    pub(crate) fn is_held(&self) -> bool {
        lock(&self.state).held
    }

    pub(crate) fn try_take(self: &Arc<Self>) -> Option<FairGuard> {
        let mut state = lock(&self.state);
        state.is_free().then(|| self.own(&mut state))
    }

    pub(crate) fn take(self: &Arc<Self>, deadline: Deadline) -> Waited {
        let turn = {
            let mut state = lock(&self.state);
            if state.is_free() {
                return Waited::Held(self.own(&mut state));
            }
            if state.owner == Some(std::thread::current().id()) {
                return Waited::Nested;
            }
            let turn = Arc::new(Turn::new());
            state.queue.push_back(Arc::clone(&turn));
            turn
        };
        loop {
            let news = turn.hear(deadline);
            if news == News::None {
                return self.give_up(&turn);
            }
            let mut state = lock(&self.state);
            if news == News::Given {
                return Waited::Held(self.own(&mut state));
            }
            // Another thread may have taken it; then its release wakes this one again.
            if !state.held {
                state.leave(&turn);
                return Waited::Held(self.own(&mut state));
            }
        }
    }

    fn give_up(self: &Arc<Self>, turn: &Arc<Turn>) -> Waited {
        let mut state = lock(&self.state);
        if *lock(&turn.news) == News::Given {
            // It was handed over in this very moment: it must not be lost.
            return Waited::Held(self.own(&mut state));
        }
        state.leave(turn);
        if !state.held {
            // That it is free was told to this one, perhaps, and to no other.
            state.wake_first();
        }
        Waited::TooLate
    }
}

impl FairState {
    fn leave(&mut self, turn: &Arc<Turn>) {
        self.queue.retain(|other| !Arc::ptr_eq(other, turn));
    }
}

impl Drop for FairGuard {
    fn drop(&mut self) {
        // In a forked child no thread waits for it, and the mutex may be held by a thread that does not exist
        // there.
        if self.generation != fork_generation() {
            return;
        }
        let mut state = lock(&self.lock.state);
        state.owner = None;
        if state.queue.front().is_some_and(|first| first.is_due()) {
            if let Some(first) = state.queue.pop_front() {
                first.send(News::Given);
            }
            return;
        }
        state.held = false;
        state.wake_first();
    }
}

/// Microseconds of a monotonic clock; in the simulation its own.
fn now_us() -> u64 {
    #[cfg(test)]
    if let Some(now) = crate::disk::sim::threads::now_us() {
        return now;
    }
    crate::disk::host::now_us()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that has waited for so long, and is not running just now.
    fn waiting(owned: &Arc<FairLock>, since_us: u64) -> Arc<Turn> {
        let turn = Arc::new(Turn { since_us, ..Turn::new() });
        lock(&owned.state).queue.push_back(Arc::clone(&turn));
        turn
    }

    #[test]
    fn a_lock_that_is_handed_to_a_waiter_who_gives_up_is_not_lost() {
        let owned = Arc::new(FairLock::default());
        let guard = owned.try_take().unwrap();
        let turn = waiting(&owned, 0);
        drop(guard);
        let Waited::Held(guard) = owned.give_up(&turn) else { panic!("nobody has it, and nobody can take it") };
        assert!(owned.try_take().is_none());
        drop(guard);
        assert!(owned.try_take().is_some());
    }

    #[test]
    fn a_running_thread_overtakes_the_first_waiter_until_that_is_due() {
        let owned = Arc::new(FairLock::default());
        let mut guard = owned.try_take().unwrap();
        let turn = waiting(&owned, u64::MAX);
        for _ in 0..100 {
            drop(guard);
            assert!(*lock(&turn.news) == News::Free, "it is told each time");
            guard = owned.try_take().unwrap();
        }
        drop(guard);
        lock(&owned.state).leave(&turn);
        // It becomes due: while another one has it, or while it is free and this one does not run.
        let guard = owned.try_take().unwrap();
        let due = waiting(&owned, 0);
        drop(guard);
        assert!(*lock(&due.news) == News::Given && owned.try_take().is_none());
        let guard = owned.own(&mut lock(&owned.state));
        drop(guard);
        let _due = waiting(&owned, 0);
        assert!(owned.try_take().is_none());
        assert!(matches!(owned.take(Some(Instant::now())), Waited::TooLate));
    }

    #[test]
    fn a_timeout_on_a_free_lock_wakes_the_next_waiter() {
        let owned = Arc::new(FairLock::default());
        let guard = owned.try_take().unwrap();
        let (first, second) = (waiting(&owned, u64::MAX), waiting(&owned, u64::MAX));
        drop(guard);
        assert!(*lock(&second.news) == News::None);
        assert!(matches!(owned.give_up(&first), Waited::TooLate));
        assert!(*lock(&second.news) == News::Free);
    }
}
