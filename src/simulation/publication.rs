//! What one process learns of another's commits: everything, and not before it is true.

use super::exclusion::{Meanwhile, count, count_one};
use super::{after_power_losses, new_store, open_store, settings};
use crate::Store;
use crate::disk::sim::{Call, Free, Killed, World, threads};
use crate::engine::Settings;
use crate::engine::commit::Durability;
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOG_CAP: u64 = 64 << 10;

#[test]
fn nobody_sees_a_commit_before_its_flush_has_returned() {
    let conductor = Arc::new(Meanwhile::default());
    let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
    count_one(&first).unwrap();
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    let seen = Arc::new(Mutex::new(None));
    let (see, store) = (Arc::clone(&seen), second.clone());
    conductor.before(Call::Flush, 0, move || *see.lock().unwrap() = Some(count(&store).unwrap()));
    count_one(&first).unwrap();
    assert_eq!(*seen.lock().unwrap(), Some(1));
    assert_eq!(count(&second).unwrap(), 2);
}

/// The holder of SYNC is stopped, for longer than others wait for it (a second), and goes on, or is killed.
#[test]
fn a_commit_that_did_not_wait_for_a_stopped_flusher_is_seen() {
    for dies in [false, true] {
        let conductor = Arc::new(Meanwhile::default());
        let (world, disk, first) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
        let second = open_store(&world, 1, LOG_CAP).1.unwrap();
        let reader = open_store(&world, 2, LOG_CAP).1.unwrap();
        let (store, onlooker) = (second.clone(), reader.clone());
        conductor.before(Call::Flush, 0, move || {
            count_one(&store).unwrap();
            assert_eq!(count(&onlooker).unwrap(), 2);
            if dies {
                disk.kill();
            }
        });
        let outcome = catch_unwind(AssertUnwindSafe(move || count_one(&first).map(|_| first)));
        assert_eq!(outcome.as_ref().is_err_and(|died| died.is::<Killed>()), dies);
        assert_eq!((count(&reader).unwrap(), count(&second).unwrap()), (2, 2));
    }
}

#[test]
fn every_commit_builds_on_those_of_others() {
    let (world, _disk, first) = new_store(Arc::new(Free), LOG_CAP);
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    for n in 0..3 {
        count_one(&first).unwrap();
        count_one(&second).unwrap();
        assert_eq!((count(&first).unwrap(), count(&second).unwrap()), (2 * n + 2, 2 * n + 2));
    }
}

#[test]
fn a_snapshot_stays_what_it_is() {
    let (world, _disk, first) = new_store(Arc::new(Free), LOG_CAP);
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    let count_in = |snapshot: &Snapshot| snapshot.raw("t").unwrap().get(b"count").unwrap().map(|n| n[0]);
    count_one(&first).unwrap();
    let (old, other) = (first.read().unwrap(), second.read().unwrap());
    count_one(&first).unwrap();
    let new = second.read().unwrap();
    assert_eq!([&old, &other, &new].map(count_in), [Some(1), Some(1), Some(2)]);
    first.checkpoint().unwrap();
    assert_eq!([&old, &other, &new].map(count_in), [Some(1), Some(1), Some(2)]);
}

/// Time stands still here, so no process looks whether there is another sidecar than the one it knows.
#[test]
fn opening_and_closing_leave_the_others_their_sidecar() {
    let (world, _disk, first) = new_store(Arc::new(Free), LOG_CAP);
    for n in 1..4 {
        let guest = open_store(&world, 1, LOG_CAP).1.unwrap();
        count_one(&guest).unwrap();
        assert_eq!(count(&first).unwrap(), n);
        guest.close().unwrap();
    }
}

/// Counts one, and does not wait until that is durable.
fn count_relaxed(store: &Store) {
    let options = WriteOptions::new().durability(Durability::Relaxed);
    store.write_with(options, |tx| tx.raw("t")?.put(b"count", &[1])).unwrap();
}

fn is_there_after_a_power_loss(world: &World) {
    after_power_losses(world, LOG_CAP, |store| assert_eq!(count(store).unwrap(), 1));
}

#[test]
fn what_recovery_found_and_calls_durable_survives_a_power_loss() {
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    for sidecar_lost in [false, true] {
        let world = World::new(empty.image(), Arc::new(Free));
        world.record();
        let (disk, store) = open_store(&world, 0, LOG_CAP);
        let store = store.unwrap();
        count_relaxed(&store);
        disk.kill();
        disk.silence();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(store)));
        if sidecar_lost {
            world.remove_sidecar();
        }
        let store = open_store(&world, 1, LOG_CAP).1.unwrap();
        store.flush().unwrap();
        assert_eq!(count(&store).unwrap(), 1);
        is_there_after_a_power_loss(&world);
    }
}

#[test]
fn closing_makes_durable_what_is_not() {
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let world = World::new(empty.image(), Arc::new(Free));
    world.record();
    let _other = open_store(&world, 1, LOG_CAP).1.unwrap();
    let store = open_store(&world, 0, LOG_CAP).1.unwrap();
    count_relaxed(&store);
    store.close().unwrap();
    is_there_after_a_power_loss(&world);
}

/// A thread looks for the newest root; another one of its process hears of the next root before the first goes on.
#[test]
fn a_root_told_of_during_a_look_is_not_taken_for_the_one_that_was_found() {
    for nth in 0..24 {
        let conductor = Arc::new(Meanwhile::default());
        let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
        let second = open_store(&world, 1, LOG_CAP).1.unwrap();
        let checkpoint = |store: &Store| count_one(store).and_then(|_| store.checkpoint()).unwrap();
        // What is counted lies in the log; this is found in the tree alone.
        second.write(|tx| tx.raw("t")?.put(b"kept", b"value")).unwrap();
        checkpoint(&second);
        let (checkpointing, hearing) = (second.clone(), Arc::clone(first.engine()));
        conductor.before(Call::Done, nth, move || {
            checkpoint(&checkpointing);
            hearing.load_hints(&hearing.known_sidecar());
        });
        // Only a thread with a number is interrupted behind a call, too.
        let (looking, player) = (first.clone(), Arc::clone(&conductor) as _);
        let look = move || {
            threads::play(player, 0);
            looking.read().unwrap()
        };
        let snapshot = std::thread::spawn(look).join().unwrap();
        (0..3).for_each(|_| checkpoint(&second));
        let kept = snapshot.raw("t").and_then(|table| table.get(b"kept").map(|value| value.unwrap().to_vec()));
        assert_eq!(kept.unwrap(), *b"value", "interrupted behind read {nth}");
    }
}

/// A process that is told nothing flushes what it finds, and shows it, while the holder of APPEND, which has started
/// another sidecar, stands still behind its write: those who have joined that one see it, too.
#[test]
fn what_is_shown_without_hints_is_seen_through_the_sidecar_of_others() {
    let mut shown_early = 0;
    for nth in 0..24 {
        let conductor = Arc::new(Meanwhile::default());
        let (world, _disk, appending) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
        // The process that stands still cannot be waited for here.
        let open = |world: &Arc<World>, process| {
            let settings = Settings { timeout: Duration::ZERO, ..settings(LOG_CAP) };
            Store::on_disk(world.disk(process) as _, settings)
        };
        let told_nothing = open(&world, 1).unwrap();
        world.remove_sidecar();
        told_nothing.engine().known_sidecar().spoil_visible();
        let counts = Arc::new(Mutex::new((0, 0)));
        let (seen, others) = (Arc::clone(&counts), Arc::clone(&world));
        conductor.before(Call::Done, nth, move || {
            // (While the other sidecar is being started, nobody can join it.)
            let Ok(beside) = open(&others, 2) else { return };
            let first = count(&told_nothing).unwrap();
            *seen.lock().unwrap() = (first, count(&beside).unwrap());
        });
        let player = Arc::clone(&conductor) as _;
        let append = move || {
            threads::play(player, 0);
            count_one(&appending).unwrap()
        };
        std::thread::spawn(append).join().unwrap();
        let (first, then) = *counts.lock().unwrap();
        assert!(then >= first, "a snapshot went back, behind call {nth}");
        shown_early += first;
    }
    assert!(shown_early > 0, "nothing was shown before it was told");
}
