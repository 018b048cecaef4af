//! What one process does alone. It stands still in the middle of it, while another tries something
//! that must not be done at the same time, and is refused.

use super::{check, new_store, open_store, settings};
use crate::disk::locks::{CHECKPOINT, WRITER};
use crate::disk::platform::{Disk, LockMode};
use crate::disk::sim::{Call, Conductor, Free, Verdict, World};
use crate::engine::Settings;
use crate::{Error, LockKind, Result, Store};
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOG_CAP: u64 = 64 << 10;

/// Lets something happen before a call of process 0: the n-th of its kind, counted from 0.
#[derive(Default)]
pub(super) struct Meanwhile(Mutex<Option<(Call, usize, Event)>>, AtomicU64);

type Event = Box<dyn FnOnce() + Send>;

impl Meanwhile {
    pub(super) fn before(&self, call: Call, nth: usize, event: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some((call, nth, Box::new(event)));
    }

    /// The time, in ms, that has passed in waiting.
    pub(super) fn passed(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }
}

impl Conductor for Meanwhile {
    fn before(&self, process: usize, call: Call) -> Verdict {
        let mut waiting = self.0.lock().unwrap();
        match &mut *waiting {
            Some((kind, left @ 1.., _)) if (process, call) == (0, *kind) => *left -= 1,
            Some((kind, 0, _)) if (process, call) == (0, *kind) => {
                let event = take(&mut *waiting);
                drop(waiting);
                event.unwrap().2();
            }
            _ => {}
        }
        Verdict::Go
    }

    /// Time passes only in waiting.
    fn sleep(&self, _: usize, time: Duration) {
        self.1.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn now_ms(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }
}

pub(super) fn count(store: &Store) -> Result<u64> {
    let snapshot = store.read()?;
    Ok(snapshot.raw("t")?.get(b"count")?.map_or(0, |n| u64::from(n[0])))
}

/// Counts one more, with a value of that length. Gives 1: so much is acknowledged.
fn count_on(store: &Store, len: usize) -> Result<u64> {
    store.write(|tx| {
        let table = tx.raw("t")?;
        let n = table.get(b"count")?.map_or(0, |n| n[0]);
        table.put(b"count", &vec![n + 1; len])
    })?;
    Ok(1)
}

pub(super) fn count_one(store: &Store) -> Result<u64> {
    count_on(store, 8)
}

fn count_long(store: &Store) -> Result<u64> {
    count_on(store, 40_000)
}

fn checkpoint(store: &Store) -> Result<u64> {
    store.checkpoint().map(|()| 0)
}

type Act = fn(&Store) -> Result<u64>;

/// One process stands still before such a call of its act, while another one acts: gives what that one is told.
/// What was acknowledged must be there, for others as well.
fn meanwhile(call: Call, nth: usize, act: Act, other: Act) -> Result<u64> {
    let conductor = Arc::new(Meanwhile::default());
    let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
    let reader = open_store(&world, 2, LOG_CAP).1.unwrap();
    let mut acknowledged = count_one(&first).unwrap();
    // The process that stands still cannot be waited for here.
    let settings = Settings { timeout: Duration::ZERO, ..settings(LOG_CAP) };
    let second = Store::on_disk(world.disk(1) as _, settings).unwrap();
    let told = Arc::new(Mutex::new(None));
    let (tell, store) = (Arc::clone(&told), second.clone());
    conductor.before(call, nth, move || *tell.lock().unwrap() = Some(other(&store)));
    acknowledged += act(&first).unwrap();
    let told = told.lock().unwrap().take().expect("there is no such call");
    acknowledged += told.as_ref().map_or(0, |n| *n);
    let all_there = |acknowledged| {
        for store in [&reader, &second, &first] {
            assert!(count(store).unwrap() >= acknowledged, "a commit is lost");
        }
    };
    all_there(acknowledged);
    acknowledged += count_one(&second).unwrap();
    first.checkpoint().unwrap();
    check::structure(&second).unwrap();
    all_there(acknowledged);
    told
}

#[test]
fn one_process_at_a_time() {
    let busy = |told: Result<u64>, name| assert!(matches!(told, Err(Error::Busy { lock, .. }) if lock == name));
    // Between reading and appending.
    busy(meanwhile(Call::Lock, 1, count_one, count_one), LockKind::Writer);
    // While the frame is written: the other one would put the mark of its checkpoint there.
    busy(meanwhile(Call::Write, 0, count_one, checkpoint), LockKind::Append);
    // While the pages of a long value are written.
    busy(meanwhile(Call::Write, 0, count_long, checkpoint), LockKind::Checkpoint);
    // Before the frame that points at them is written: without it they are free.
    busy(meanwhile(Call::Lock, 3, count_long, checkpoint), LockKind::Checkpoint);
    // While the disk flushes, and the flusher does not move on: the other one flushes beside it.
    assert_eq!(meanwhile(Call::Flush, 0, count_one, count_one).unwrap(), 1);
}

#[test]
fn one_process_at_a_time_flushes_for_all() {
    let (world, _disk, first) = new_store(Arc::new(Free), LOG_CAP);
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    let flushing = |store: &Store| store.engine().try_lock_sync().unwrap().map(drop).is_some();
    let turn = first.engine().try_lock_sync().unwrap();
    assert!(turn.is_some() && !flushing(&second));
    drop(turn);
    assert!(flushing(&second));
}

#[test]
fn one_process_at_a_time_opens_the_store() {
    let conductor = Arc::new(Meanwhile::default());
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let world = World::new(empty.image(), Arc::clone(&conductor) as _);
    let impatient = Settings { timeout: Duration::ZERO, ..settings(LOG_CAP) };
    let (told, disk) = (Arc::new(Mutex::new(None)), world.disk(1));
    let tell = Arc::clone(&told);
    // No other process is there: the first one starts a sidecar.
    conductor.before(Call::Sidecar, 1, move || *tell.lock().unwrap() = Some(Store::on_disk(disk as _, impatient)));
    let first = open_store(&world, 0, LOG_CAP).1.unwrap();
    let told = told.lock().unwrap().take().unwrap();
    let is_refused = matches!(told, Err(Error::Busy { lock: LockKind::Open, .. }));
    let second = told.unwrap_or_else(|_| open_store(&world, 1, LOG_CAP).1.unwrap());
    for n in 1..4 {
        count_one(&second).unwrap();
        assert_eq!(count(&first).unwrap(), n, "they do not hear of each other");
    }
    assert!(is_refused);
}

/// Where the system does not tell who holds it, either, it tells that it is held.
#[test]
fn a_lock_whose_holder_left_no_name_is_held_all_the_same() {
    let (world, _disk, store) = new_store(Arc::new(Free), LOG_CAP);
    let (nameless, engine) = (world.disk(3), store.engine());
    for (byte, own) in [(WRITER, &engine.writer), (CHECKPOINT, &engine.checkpointing)] {
        assert!(!engine.is_held(own, byte).unwrap());
        assert!(nameless.try_lock(byte, LockMode::Exclusive).unwrap() && engine.is_held(own, byte).unwrap());
        nameless.unlock(byte).unwrap();
    }
}
