//! What the dead have left: a flush that failed while no process lived to tell, roots and frames of which no sidecar tells,
//! words that no process stands behind.

use super::exclusion::{count, count_one};
use super::oracle::Oracle;
use super::pause::Stage;
use super::sharing::{READER, open_as};
use super::unsynced_root::{keys, put, put_much};
use super::{after_power_losses, check, new_store, open_store};
use crate::Store;
use crate::disk::locks::{APPEND, CHECKPOINT, PLACES, WRITERS};
use crate::disk::platform::{Disk, LockMode};
use crate::disk::sim::{Call, Free, Rng, Verdict, World};
use crate::engine::commit::Durability;
use std::sync::Arc;

const LOG_CAP: u64 = 64 << 10;
const FAILS: Verdict = Verdict::Fail(libc::EIO);

/// Each flush of a checkpoint, the root's at last, and no process is left; with the sidecar or without.
#[test]
fn the_first_to_come_writes_frames_and_root_of_a_failed_flush_once_more() {
    for (nth, lost, drops) in
        (0..3).flat_map(|nth| [(nth, false, false), (nth, true, false), (nth, false, true), (nth, true, true)])
    {
        let stage = Arc::new(Stage::default());
        let (world, mut disk, mut store) = new_store(Arc::clone(&stage) as _, LOG_CAP);
        if drops {
            world.drop_unwritten(None);
        }
        if lost && drops {
            // Copies of a root in both slots do not say that no newer one was begun.
            store.close().unwrap();
            let (again, opened) = open_store(&world, 0, LOG_CAP);
            (disk, store) = (again, opened.unwrap());
        }
        let oracle = Oracle::new(&world);
        let write = |store: &Store| oracle.write(store, Vec::new(), Durability::Sync, |_| false).unwrap();
        (0..5).for_each(|n| assert_eq!(write(&store), n + 1));
        // (A relaxed commit goes with what the cache lets go of.)
        let durability = if drops { Durability::Sync } else { Durability::Relaxed };
        oracle.write(&store, Vec::new(), durability, |_| false).unwrap();
        let checkpoints = stage.until((0, Call::Flush, nth), move || drop(store.checkpoint()));
        // The flush fails; the process dies before it can say so.
        checkpoints.then(FAILS, Call::Memory, 0).die(&disk);
        if lost {
            world.remove_sidecar();
        }
        if drops {
            world.drop_now();
        }
        let died = world.history().1.len();
        let store = open_store(&world, 1, LOG_CAP).1.unwrap();
        (0..12).for_each(|_| assert!(write(&store) > 5));
        store.checkpoint().unwrap();
        // The root that was lost is missed when the next one but one, in the place of its elder, is torn.
        for seed in 0..if nth == 2 { 20 } else { 1 } {
            let lost = oracle.power_losses(&mut Rng(seed), LOG_CAP, |_, at| at > died);
            lost.unwrap_or_else(|e| panic!("flush {nth}: {e}"));
        }
    }
}

const LARGE_CAP: u64 = 128 << 10;

/// Which flush of `put_much` is that of its own root: the log is flushed, its checkpoint flushes twice, and so do the
/// pages of the new root.
const FLUSH_OF_MUCH: usize = 5;

/// The flush of a root that holds a transaction fails, and its process dies before it can say so. Another process
/// is there, and has nothing to do with it; so a newcomer is not the first, and was told of no failure.
fn after_the_death_of_a_root(act: impl FnOnce(&Arc<World>)) {
    let stage = Arc::new(Stage::default());
    let (world, disk, first) = new_store(Arc::clone(&stage) as _, LARGE_CAP);
    put(&first, "first").unwrap();
    let bystander = open_store(&world, 2, LARGE_CAP).1.unwrap();
    let before = bystander.engine().slots().unwrap().newest.sequence;
    let commits = stage.until((0, Call::Flush, FLUSH_OF_MUCH), move || drop(put_much(&first)));
    commits.then(FAILS, Call::Memory, 0).die(&disk);
    // A checkpoint of the log comes first.
    assert_eq!(bystander.engine().slots().unwrap().newest.sequence, before + 2);
    act(&world);
}

type Act<'a> = &'a dyn Fn(&Arc<World>, &Store);

#[test]
fn a_new_process_does_not_trust_its_own_flush_of_a_root_that_was_not_published() {
    let newcomer = |world: &Arc<World>| open_store(world, 1, LARGE_CAP).1.unwrap();
    let kept_from = |byte, world: &Arc<World>, act: &dyn Fn()| {
        let still = world.disk(3);
        assert!(still.try_lock(byte, LockMode::Exclusive).unwrap());
        act();
        still.unlock(byte).unwrap();
    };
    let acts: [(&str, Act<'_>); 5] = [
        ("reads", &|_, store| drop(store.read().unwrap())),
        ("reads, kept from APPEND", &|world, store| kept_from(APPEND, world, &|| drop(store.read().unwrap()))),
        ("takes APPEND", &|_, store| drop(store.engine().lock_append(None).unwrap())),
        ("writes", &|_, store| put(store, "second").unwrap()),
        ("writes, kept from CHECKPOINT", &|world, store| {
            kept_from(CHECKPOINT, world, &|| put(store, "second").unwrap());
        }),
    ];
    for (what, act) in acts {
        for lost in [false, true] {
            after_the_death_of_a_root(|world| {
                if lost {
                    world.remove_sidecar();
                }
                let store = newcomer(world);
                act(world, &store);
                let shown = keys(&store);
                after_power_losses(world, LARGE_CAP, |store| {
                    assert!(keys(store) >= shown, "{what}, {lost}: {} of {shown}", keys(store));
                });
            });
        }
    }
}

/// A reader may believe what it finds: it can do nothing else. The first writer must not take its word for it.
#[test]
fn what_a_reader_takes_for_durable_it_does_not_tell() {
    let stage = Arc::new(Stage::default());
    let (world, disk, first) = new_store(Arc::clone(&stage) as _, LARGE_CAP);
    put(&first, "first").unwrap();
    let reader = open_as(&world, 5, READER).1.unwrap();
    assert_eq!(keys(&reader), 1);
    let commits = stage.until((0, Call::Flush, FLUSH_OF_MUCH), move || drop(put_much(&first)));
    commits.then(FAILS, Call::Memory, 0).die(&disk);
    // The system tells it of the failure, once.
    assert!(reader.read().is_err());
    assert_eq!(keys(&reader), 41);
    let store = open_store(&world, 1, LARGE_CAP).1.unwrap();
    put(&store, "second").unwrap();
    after_power_losses(&world, LARGE_CAP, |store| assert_eq!(keys(store), 42));
}

/// A root that holds a transaction, and frames behind it: all were told to a sidecar that is gone.
#[test]
fn frames_behind_a_root_of_which_no_sidecar_tells_are_found() {
    let (world, _disk, first) = new_store(Arc::new(Free), LARGE_CAP);
    put(&first, "first").unwrap();
    put_much(&first).unwrap();
    put(&first, "second").unwrap();
    put(&first, "third").unwrap();
    world.remove_sidecar();
    let newcomer = open_store(&world, 1, LARGE_CAP).1.unwrap();
    assert_eq!(keys(&newcomer), 43);
    put(&newcomer, "fourth").unwrap();
    assert_eq!([&first, &newcomer].map(keys), [44, 44]);
    check::structure(&newcomer).unwrap();
}

/// The newest root goes on with the log of the one before; a frame that lies across the end of the older one's ring is
/// found by the newer one alone. A process that had looked for the log's end just before that root was told of comes
/// back when the sidecar that told of it is gone.
#[test]
fn frames_behind_the_older_ring_are_found() {
    let stage = Arc::new(Stage::default());
    let (world, _disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
    let [second, third] = [1, 2].map(|process| open_store(&world, process, LOG_CAP).1.unwrap());
    // Two blocks each, so that one lies across that end.
    let put = |store: &Store, n: u8| store.write(|tx| tx.raw("t")?.put(b"count", &[n; 5000])).unwrap();
    (0..6).for_each(|_| assert!(count_one(&first).is_ok()));
    let checkpointing = first.clone();
    // The root's slot is written next.
    let checkpoints = stage.until((0, Call::Flush, 1), move || checkpointing.checkpoint().unwrap());
    (7..10).for_each(|n| put(&third, n));
    drop(second.engine().lock_append(None).unwrap());
    checkpoints.go_on();
    let still = world.disk(3);
    assert!(still.try_lock(CHECKPOINT, LockMode::Exclusive).unwrap());
    (10..12).for_each(|n| put(&third, n));
    still.unlock(CHECKPOINT).unwrap();
    world.remove_sidecar();
    second.engine().rejoin_sidecar(true).unwrap();
    assert_eq!(count(&second).unwrap(), 11);
    put(&second, 12);
    assert_eq!([&first, &second, &third].map(|store| count(store).unwrap()), [12; 3]);
}

/// A writer dies, its commit in the log and not told of. One reader was there before, and goes by the sidecar that
/// the dead have left; another one comes later, and finds no writer that could be about to tell.
#[test]
fn readers_of_what_a_dead_writer_left_see_the_same() {
    let stage = Arc::new(Stage::default());
    let (world, disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
    count_one(&first).unwrap();
    let early = open_as(&world, 5, READER).1.unwrap();
    assert_eq!(count(&early).unwrap(), 1);
    stage.until((0, Call::Flush, 0), move || drop(count_one(&first))).die(&disk);
    let late = open_as(&world, 6, READER).1.unwrap();
    assert_eq!([&late, &early].map(|store| count(store).unwrap()), [2, 2]);
}

/// At each use of the shared memory by the first writer that comes then.
#[test]
fn no_writer_waits_behind_the_words_of_dead_processes() {
    let mut appeared = false;
    for nth in 0.. {
        let stage = Arc::new(Stage::default());
        let (world, disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
        count_one(&first).unwrap();
        let durable = first.engine().durable_lsn();
        let early = open_as(&world, 5, READER).1.unwrap();
        assert_eq!(count(&early).unwrap(), 1);
        stage.until((0, Call::Flush, 0), move || drop(count_one(&first))).die(&disk);
        let place = Arc::clone(&world);
        let opens = stage.up_to((1, Call::Memory, nth), move || drop(open_store(&place, 1, LOG_CAP).1.unwrap()));
        let Some(opens) = opens else { break };
        if world.disk(7).probe(WRITERS, PLACES).unwrap().is_none() {
            assert_eq!(count(&early).unwrap(), 2, "nobody else can know more");
        } else {
            assert_ne!(early.engine().known_sidecar().durable(), Some(durable));
            appeared = true;
        }
        opens.go_on();
        if appeared {
            break;
        }
    }
    assert!(appeared);
}
