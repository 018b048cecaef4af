//! The order in which writers take WRITER.
//!
//! The kernel lock on WRITER is what excludes. In front of it stands a queue in the sidecar: each waiting process
//! draws a ticket, and the process that releases the lock wakes the waiter with the lowest ticket. A running
//! process may take a free lock past the queue while the first waiter has waited for less than a bound; after
//! that only the first waiter asks the kernel. So no waiter starves, and a turn does not cost a sleep and a
//! wake-up. The queue is a hint: a waiter that is dead, stopped, or garbage is passed over after a moment.

use crate::disk::locks::{ByteLock, Deadline, FairGuard, PASSED_BY, WRITER, Waited};
use crate::disk::platform::LockMode;
use crate::disk::sidecar::Sidecar;
use crate::disk::slot::{Counter, State};
use crate::engine::Engine;
use crate::engine::view::View;
use crate::error::{Error, LockKind, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a waiter sleeps before it checks the lock itself. The release of the lock wakes the next waiter at
/// once; this bound is for a process that died before it could do so.
const QUEUE_CHECK: Duration = Duration::from_millis(10);

/// The right to write, until dropped.
pub(crate) struct WriterGuard {
    engine: Arc<Engine>,
    kernel: Option<ByteLock>,
    _process: FairGuard,
}

impl Engine {
    /// The state at the end of the log, durable or not: the transaction of this writer builds on it. While WRITER is
    /// held, nothing else is committed.
    pub(crate) fn newest_view(&self, _writer: &WriterGuard) -> Result<Arc<View>> {
        self.view_at_end()
    }

    /// Waits for this caller's turn. If the deadline has passed already, takes the lock only if it is free.
    pub(crate) fn take_writer(self: &Arc<Self>, deadline: Deadline) -> Result<WriterGuard> {
        self.check_writable()?;
        let started = Instant::now();
        let sidecar = self.sidecar();
        let outcome = self.wait_for_writer(&sidecar, deadline, started);
        match &outcome {
            Ok(_) => {
                let waited = started.elapsed();
                self.note_in_slot(&sidecar, |slot| {
                    slot.count_wait(waited);
                    slot.set_state(State::Writing, true);
                });
                crate::trace::trace!(waited_us = waited.as_micros(), "writer lock taken");
            }
            Err(error) => {
                self.note_in_slot(&sidecar, |slot| slot.count(Counter::Failures, 1));
                crate::trace::debug!(%error, "writer lock not taken");
            }
        }
        outcome
    }

    fn wait_for_writer(
        self: &Arc<Self>,
        sidecar: &Sidecar,
        deadline: Deadline,
        started: Instant,
    ) -> Result<WriterGuard> {
        let process = match self.writer.take(deadline) {
            Waited::Held(guard) => guard,
            Waited::TooLate => return Err(self.busy(LockKind::Writer, sidecar, started)),
            Waited::Nested => return Err(Error::Nested { path: self.path().to_path_buf() }),
        };
        let turn = |kernel| WriterGuard { engine: Arc::clone(self), kernel: Some(kernel), _process: process };
        if self.may_take(sidecar, sidecar.first_waiter())
            && let Some(kernel) = ByteLock::try_take(&self.disk, WRITER, LockMode::Exclusive)?
        {
            return Ok(turn(kernel));
        }
        match self.queue_for_writer(sidecar, deadline)? {
            Some(kernel) => Ok(turn(kernel)),
            None => Err(self.busy(LockKind::Writer, sidecar, started)),
        }
    }

    fn queue_for_writer(&self, sidecar: &Sidecar, deadline: Deadline) -> Result<Option<ByteLock>> {
        let Some((own, _)) = &self.slot else { return self.poll_for_writer(deadline) };
        let slot = sidecar.slot(*own);
        let mut ticket = sidecar.draw_ticket();
        sidecar.raise_slot_bound(own + 1);
        slot.set_since(self.disk.now_us());
        slot.set_ticket(ticket);
        slot.set_state(State::Waiting, true);
        // The waiter in front, if the lock was free and it did not take it: it is dead, stopped, or garbage.
        let mut absent: Option<(usize, u64)> = None;
        let result = loop {
            let seen = slot.wake_word();
            let first = sidecar.first_waiter();
            let mine = first.is_some_and(|(index, _)| index == *own) || first == absent;
            if mine || self.may_take(sidecar, first) {
                match ByteLock::try_take(&self.disk, WRITER, LockMode::Exclusive) {
                    Ok(Some(kernel)) => {
                        if let Some((index, stale)) = absent.filter(|_| first == absent) {
                            sidecar.slot(index).clear_ticket(stale);
                        }
                        break Ok(Some(kernel));
                    }
                    Ok(None) => {}
                    Err(e) => break Err(e),
                }
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break Ok(None);
            }
            let look = if absent.is_some() { QUEUE_CHECK / 5 } else { QUEUE_CHECK };
            let since = self.disk.now_ms();
            let pause = left.unwrap_or(look).min(look);
            // Simulated time passes only in calls of the platform, and private memory makes none.
            if cfg!(test) && sidecar.memory().id() == 0 {
                self.disk.sleep(pause);
            } else {
                slot.wait(seen, pause);
            }
            let waited = Duration::from_millis(self.disk.now_ms().saturating_sub(since));
            let free = waited >= look / 2 && matches!(self.disk.probe(WRITER, 1), Ok(None));
            absent = if free { sidecar.first_waiter().filter(|(index, _)| index != own) } else { None };
            // Another process passed this waiter over, or garbage did: it draws a new ticket.
            if slot.ticket() != ticket {
                ticket = sidecar.draw_ticket();
                slot.set_ticket(ticket);
            }
        };
        slot.set_ticket(0);
        slot.set_state(State::Waiting, false);
        if !matches!(result, Ok(Some(_))) {
            // A wake-up that was meant for us must not end here.
            wake_next(sidecar);
        }
        result
    }

    /// Whether a running process may take a free lock before the first waiter. A time that does not fit the clock
    /// counts as a wait that is too long.
    fn may_take(&self, sidecar: &Sidecar, first: Option<(usize, u64)>) -> bool {
        first.is_none_or(|(index, _)| {
            let waited = self.disk.now_us().checked_sub(sidecar.slot(index).since());
            waited.is_some_and(|waited| Duration::from_micros(waited) < PASSED_BY)
        })
    }

    /// Without a slot there is no queue: polls the lock.
    fn poll_for_writer(&self, deadline: Deadline) -> Result<Option<ByteLock>> {
        let mut pause = Duration::from_micros(50);
        loop {
            if let Some(kernel) = ByteLock::try_take(&self.disk, WRITER, LockMode::Exclusive)? {
                return Ok(Some(kernel));
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(None);
            }
            self.disk.sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

pub(crate) fn wake_next(sidecar: &Sidecar) {
    if let Some((index, _)) = sidecar.first_waiter() {
        sidecar.slot(index).wake();
    }
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        if self.engine.check_process().is_err() {
            // In a forked child neither the lock nor the sidecar is this process' own.
            return;
        }
        let sidecar = self.engine.sidecar();
        self.engine.note_in_slot(&sidecar, |slot| slot.set_state(State::Writing, false));
        // The order matters: the waiter that is woken must find the lock free.
        self.kernel = None;
        wake_next(&sidecar);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::platform::Disk;
    use crate::disk::sim::{Conductor, SimDisk, World};
    use crate::simulation::new_store;
    use crate::store::Store;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Time passes while a process waits, and none waits for ever. A waiter that is woken finds the lock free.
    #[derive(Default)]
    struct Waits {
        now: AtomicU64,
        woken: Mutex<Option<Arc<SimDisk>>>,
    }

    impl Conductor for Waits {
        fn sleep(&self, _: usize, time: Duration) {
            let now = self.now.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
            assert!(now < 1000, "nobody comes, and nobody is passed over");
        }

        fn wake(&self, _: usize, _: (usize, usize)) {
            if let Some(woken) = &*self.woken.lock().unwrap() {
                assert_eq!(woken.probe(WRITER, 1).unwrap(), None);
            }
        }

        fn now_ms(&self) -> u64 {
            self.now.load(Ordering::SeqCst)
        }
    }

    fn world() -> (Arc<Waits>, Arc<World>, Store) {
        let conductor = Arc::new(Waits::default());
        let (world, _, store) = new_store(Arc::clone(&conductor) as _, 1 << 20);
        (conductor, world, store)
    }

    #[test]
    fn a_waiter_that_is_gone_is_passed_over() {
        let (conductor, _, store) = world();
        let sidecar = store.engine().sidecar();
        // They have waited for long: a running process no longer passes them.
        conductor.now.store(100, Ordering::SeqCst);
        for gone in [9, 5] {
            sidecar.slot(gone).set_ticket(sidecar.draw_ticket());
            sidecar.raise_slot_bound(gone + 1);
        }
        store.write(|tx| tx.raw("t")?.put(b"key", b"value")).unwrap();
        assert!(sidecar.slot(9).ticket() == 0, "it keeps others waiting");
        store.write(|tx| tx.raw("t")?.put(b"key", b"value")).unwrap();
        assert_eq!(sidecar.first_waiter(), None);
    }

    /// Whenever process 1 waits, process 0, which runs all the time, gives its turn back, and takes the next.
    #[derive(Default)]
    struct Runner {
        now_us: AtomicU64,
        store: Mutex<Option<Store>>,
        turn: Mutex<Option<WriterGuard>>,
        /// How often it got the turn while the other one waited, and how often it was refused.
        took: AtomicU64,
        refused: AtomicU64,
    }

    impl Runner {
        /// So many turns take as long as the bound.
        const TURNS: u64 = 20;

        fn take(&self) -> Result<()> {
            let engine = self.store.lock().unwrap().as_ref().map(|store| Arc::clone(store.engine())).unwrap();
            drop(self.turn.lock().unwrap().take());
            *self.turn.lock().unwrap() = Some(engine.take_writer(Some(Instant::now()))?);
            Ok(())
        }
    }

    impl Conductor for Runner {
        fn wait(&self, process: usize, _: (usize, usize), _: Duration) {
            assert_eq!(process, 1, "a deadline that has passed is not waited for");
            let took = self.took.load(Ordering::SeqCst);
            assert!(took < 10 * Self::TURNS, "the first in line starves");
            let turn = u64::try_from(PASSED_BY.as_micros()).unwrap() / Self::TURNS;
            self.now_us.fetch_add(turn, Ordering::SeqCst);
            match self.take() {
                Ok(()) => self.took.fetch_add(1, Ordering::SeqCst),
                Err(_) => self.refused.fetch_add(1, Ordering::SeqCst),
            };
        }

        fn now_us(&self) -> u64 {
            self.now_us.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn a_running_writer_overtakes_the_first_waiter_until_that_is_due() {
        let runner = Arc::new(Runner::default());
        let (world, _, store) = new_store(Arc::clone(&runner) as _, 1 << 20);
        let other = Store::on_disk(world.disk(1), store.engine().settings.clone()).unwrap();
        *runner.store.lock().unwrap() = Some(store.clone());
        for round in 1..4 {
            runner.take().unwrap();
            let turn = other.engine().take_writer(None).unwrap();
            // All turns before the bound, and not one after it.
            let took = runner.took.swap(0, Ordering::SeqCst);
            assert_eq!((took, runner.refused.load(Ordering::SeqCst)), (Runner::TURNS - 1, round));
            drop(turn);
        }
        assert_eq!(other.engine().sidecar().first_waiter(), None);
        *runner.store.lock().unwrap() = None;
    }

    #[test]
    fn a_release_or_a_timeout_wakes_the_next_writer() {
        let (conductor, world, store) = world();
        let (engine, sidecar) = (store.engine(), store.engine().sidecar());
        let turn = engine.take_writer(None).unwrap();
        let next = sidecar.slot(9);
        next.set_ticket(sidecar.draw_ticket());
        sidecar.raise_slot_bound(10);
        let asleep = next.wake_word();
        *conductor.woken.lock().unwrap() = Some(world.disk(1));
        drop(turn);
        assert_eq!(next.wake_word(), asleep + 1);
        *conductor.woken.lock().unwrap() = None;
        // Another one is woken, and has no time left.
        let holder = world.disk(1);
        assert!(holder.try_lock(WRITER, LockMode::Exclusive).unwrap());
        assert!(matches!(engine.take_writer(Some(Instant::now())), Err(Error::Busy { .. })));
        assert_eq!(next.wake_word(), asleep + 2);
    }

    #[test]
    fn a_slot_names_its_owner_even_if_the_process_id_is_used_again() {
        let (_, world, store) = world();
        let dying = world.disk(1);
        let open = |disk| Store::on_disk(disk, store.engine().settings.clone()).unwrap();
        let dead = open(Arc::clone(&dying) as _);
        let sidecar = store.engine().sidecar();
        let slot = dead.engine().slot(&sidecar).unwrap();
        slot.set_ticket(sidecar.draw_ticket());
        slot.set_state(State::Writing, true);
        dying.kill();
        let next = open(world.disk(2) as _);
        let index = |store: &Store| store.engine().slot.as_ref().map(|(index, _)| *index);
        assert_eq!(index(&next), index(&dead));
        assert_eq!((sidecar.first_waiter(), store.locks().unwrap().writer), (None, None));
        let slot = next.engine().slot(&sidecar).unwrap();
        slot.count(Counter::Failures, 3);
        next.engine().rejoin_sidecar(true).unwrap();
        assert_eq!(slot.counter(Counter::Failures), 3, "it is the same owner");
        std::mem::forget(dead);
    }

    #[test]
    fn every_process_has_a_slot_of_its_own() {
        let (_, world, store) = world();
        let other = Store::on_disk(world.disk(1), store.engine().settings.clone()).unwrap();
        let slot = |store: &Store| store.engine().slot.as_ref().map(|(index, _)| *index);
        assert_eq!((slot(&store), slot(&other)), (Some(0), Some(1)));
    }
}
