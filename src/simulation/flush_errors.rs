//! Who is told of a failed flush: the system tells each description once, and none that was opened later.

use super::{after_power_losses, new_store, open_store};
use crate::Store;
use crate::disk::sim::{Call, Conductor, Free, SimDisk, Verdict, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOG_CAP: u64 = 1 << 20;

fn put(store: &Store, key: &[u8]) -> crate::Result<()> {
    store.write(|tx| tx.raw("t")?.insert(key, b"value").map(drop))
}

fn holds(store: &Store, key: &[u8]) -> bool {
    store.read().unwrap().raw("t").unwrap().get(key).unwrap().is_some()
}

/// Lets the next flush of process 0 fail, and kills it before it can do anything more.
#[derive(Default)]
struct Dying {
    victim: Mutex<Option<Arc<SimDisk>>>,
    failed: AtomicBool,
}

impl Conductor for Dying {
    fn before(&self, process: usize, call: Call) -> Verdict {
        let victim = self.victim.lock().unwrap();
        let Some(victim) = victim.as_ref().filter(|_| process == 0) else { return Verdict::Go };
        if self.failed.load(Ordering::SeqCst) {
            victim.kill();
            return Verdict::Fail(0);
        } else if call == Call::Flush {
            self.failed.store(true, Ordering::SeqCst);
            return Verdict::Fail(libc::EIO);
        }
        Verdict::Go
    }
}

/// With another process there that has nothing to do with it, or none.
fn after_a_death(bystander: bool) {
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let dying = Arc::new(Dying::default());
    let world = World::new(empty.image(), Arc::clone(&dying) as _);
    world.record();
    let (disk, store) = open_store(&world, 0, LOG_CAP);
    let store = store.unwrap();
    let _bystander = bystander.then(|| open_store(&world, 2, LOG_CAP).1.unwrap());
    put(&store, b"first").unwrap();
    *dying.victim.lock().unwrap() = Some(disk);
    let died = catch_unwind(AssertUnwindSafe(move || put(&store, b"second")));
    assert!(
        died.is_err() && dying.failed.load(Ordering::SeqCst),
        "{:?}",
        died.map(|result| result.map_err(|e| e.to_string()))
    );

    // The system shows what it dropped, and a flush succeeds.
    let store = open_store(&world, 1, LOG_CAP).1.unwrap();
    let shown = holds(&store, b"second");
    put(&store, b"third").unwrap();
    let second = holds(&store, b"second");
    assert!(second || !shown);
    after_power_losses(&world, LOG_CAP, |store| {
        assert!(holds(store, b"first") && holds(store, b"third") && holds(store, b"second") == second);
    });
}

#[test]
fn a_flush_fails_and_all_processes_die() {
    after_a_death(false);
    after_a_death(true);
}

/// Makes flushes slow, and counts how many are under way.
#[derive(Default)]
struct Slow {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Conductor for Slow {
    fn before(&self, _: usize, call: Call) -> Verdict {
        if call == Call::Flush {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
        Verdict::Go
    }
}

#[test]
fn threads_of_one_process_flush_one_after_the_other() {
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let slow = Arc::new(Slow::default());
    let world = World::new(empty.image(), Arc::clone(&slow) as _);
    let store = open_store(&world, 0, LOG_CAP).1.unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..20_u8).for_each(|n| put(&store, &[n]).unwrap()));
        scope.spawn(|| (0..5).for_each(|_| store.checkpoint().unwrap()));
    });
    assert_eq!(slow.most.load(Ordering::SeqCst), 1);
}
