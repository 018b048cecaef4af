//! Processes that reach one file in different ways, sidecars that come and go, and what is seen meanwhile.

use super::exclusion::{Meanwhile, count, count_one};
use super::pause::Stage;
use super::{new_store, open_store, settings};
use crate::disk::locks::{APPEND, SYNC};
use crate::disk::platform::{Disk, LockMode};
use crate::disk::root::{Features, Root};
use crate::disk::sim::{Access, Call, Free, Rng, SimDisk, World};
use crate::engine::Settings;
use crate::engine::commit::Durability;
use crate::txn::write::WriteOptions;
use crate::{Error, LockKind, Result, Store};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOG_CAP: u64 = 64 << 10;

pub(super) fn world() -> Arc<World> {
    World::new(new_store(Arc::new(Free), LOG_CAP).0.image(), Arc::new(Free))
}

pub(super) fn open_as(world: &Arc<World>, process: usize, access: Access) -> (Arc<SimDisk>, Result<Store>) {
    let disk = world.disk_of(process, access);
    let store = Store::on_disk(Arc::clone(&disk) as _, settings(LOG_CAP));
    (disk, store)
}

const BY_ANOTHER_NAME: Access = Access { name: 1, ..PLAIN };
pub(super) const READER: Access = Access { read_only: true, ..PLAIN };
/// It can neither make nor find a sidecar.
pub(super) const NOWHERE: Access =
    Access { cannot_make: true, cannot_make_elsewhere: true, cannot_open: true, ..PLAIN };
const PLAIN: Access = Access {
    name: 0,
    read_only: false,
    cannot_make: false,
    cannot_make_elsewhere: false,
    cannot_open: false,
    cannot_write: false,
};

fn is_not_shared(result: Result<Store>) -> bool {
    matches!(result, Err(Error::NotShared { .. }))
}

pub(super) fn count_relaxed(store: &Store) {
    let options = WriteOptions::new().durability(Durability::Relaxed);
    let counted = store.write_with(options, |tx| {
        let n = tx.raw("t")?.get(b"count")?.map_or(0, |n| n[0]);
        tx.raw("t")?.put(b"count", &[n + 1])
    });
    counted.unwrap();
}

#[test]
fn who_came_by_another_name_is_refused() {
    for access in [BY_ANOTHER_NAME, Access { read_only: true, ..BY_ANOTHER_NAME }] {
        let world = world();
        let first = open_store(&world, 0, LOG_CAP).1.unwrap();
        count_one(&first).unwrap();
        assert!(is_not_shared(open_as(&world, 1, access).1));
        first.close().unwrap();
        let second = open_as(&world, 1, access).1.unwrap();
        assert_eq!(count(&second).unwrap(), 1);
        // A writer cannot tell a reader that looks elsewhere what it commits.
        assert!(is_not_shared(open_store(&world, 0, LOG_CAP).1));
    }
    // Readers alone need nothing from each other.
    let world = world();
    let _readers = [0, 1].map(|name| open_as(&world, name, Access { name, ..READER }).1.unwrap());
}

#[test]
fn a_file_that_lost_its_name_is_read_but_not_written() {
    let world = world();
    let store = open_store(&world, 0, LOG_CAP).1.unwrap();
    let other = open_store(&world, 1, LOG_CAP).1.unwrap();
    count_one(&store).unwrap();
    let tx = other.begin_write().unwrap();
    world.lose_name(0);
    tx.raw("t").unwrap().put(b"count", &[2]).unwrap();
    tx.commit().unwrap();
    for store in [&store, &other] {
        assert!(matches!(count_one(store), Err(Error::Moved { .. })));
        assert_eq!(count(store).unwrap(), 2);
    }
    store.close().unwrap();
    // The sidecar of the file that has the name now is not the business of this one.
    assert!(world.sidecar().is_some() && other.close().is_ok());
}

/// Another sidecar has that name now, or none: the one of the file that took this one's place.
#[test]
fn a_file_that_lost_its_name_leaves_the_sidecars_name_alone() {
    let world = world();
    let [store, other] = [0, 1].map(|process| open_store(&world, process, LOG_CAP).1.unwrap());
    count_one(&store).unwrap();
    let tx = other.begin_write().unwrap();
    world.lose_name(0);
    world.remove_sidecar();
    tx.raw("t").unwrap().put(b"count", &[2]).unwrap();
    tx.commit().unwrap();
    assert_eq!([&store, &other].map(|store| count(store).unwrap()), [2, 2]);
    store.checkpoint().unwrap();
    for store in [store, other] {
        store.close().unwrap();
        assert!(world.sidecar().is_none());
    }
}

/// Another one opens the store while this one leaves it: at each lock that it takes for that.
#[test]
fn only_the_last_process_that_leaves_takes_the_sidecar_away() {
    for nth in 0.. {
        let stage = Arc::new(Stage::default());
        let (world, _disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
        count_one(&first).unwrap();
        let Some(leaves) = stage.up_to((0, Call::Lock, nth), move || first.close().unwrap()) else {
            assert!(nth > 2);
            break;
        };
        let newcomer = open_store(&world, 1, LOG_CAP).1.unwrap();
        leaves.go_on();
        assert!(newcomer.engine().has_hints());
        count_one(&newcomer).unwrap();
        let reader = open_as(&world, 2, READER).1.unwrap();
        newcomer.close().unwrap();
        assert!(world.sidecar().is_some(), "the reader goes on with it");
        assert_eq!(count(&reader).unwrap(), 2);
    }
}

#[test]
fn a_process_that_cannot_use_the_sidecar_of_another_writer_does_not_write() {
    let world = world();
    let alone = open_as(&world, 0, NOWHERE).1.unwrap();
    count_one(&alone).unwrap();
    let other = open_store(&world, 1, LOG_CAP).1.unwrap();
    assert!(matches!(count_one(&alone), Err(Error::NotShared { .. })));
    count_one(&other).unwrap();
    assert_eq!(count(&other).unwrap(), 2);
    other.close().unwrap();
    count_one(&alone).unwrap();
    assert_eq!(count(&alone).unwrap(), 3);
}

/// A process reads, with no process there that may write. Then a writer comes, and its commit, which lies in the log
/// by now, stands still before its flush.
#[test]
fn a_reader_asks_once_more_for_writers_after_it_has_read() {
    let stage = Arc::new(Stage::default());
    let (world, _disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
    count_one(&first).unwrap();
    first.close().unwrap();
    let reader = open_as(&world, 1, READER).1.unwrap();
    let reads = stage.until((1, Call::Read, 0), move || count(&reader).unwrap());
    let writer = open_store(&world, 0, LOG_CAP).1.unwrap();
    let writes = stage.until((0, Call::Flush, 0), move || count_one(&writer).unwrap());
    assert_eq!(reads.go_on(), 1);
    writes.go_on();
}

#[test]
fn a_process_without_a_sidecar_must_be_the_only_writer() {
    let none = Access { cannot_make: true, cannot_make_elsewhere: true, ..PLAIN };
    let world = world();
    let alone = open_as(&world, 0, none).1.unwrap();
    assert_eq!(count_one(&alone).unwrap(), 1);
    assert!(is_not_shared(open_as(&world, 1, none).1), "it would not hear of the first");
    // One that can make a sidecar lets the first in.
    let other = open_store(&world, 2, LOG_CAP).1.unwrap();
    for n in 1..4 {
        count_one(&alone).unwrap();
        assert_eq!((count(&other).unwrap(), count(&alone).unwrap()), (2 * n, 2 * n));
        count_one(&other).unwrap();
        assert_eq!((count(&alone).unwrap(), count(&other).unwrap()), (2 * n + 1, 2 * n + 1));
    }
    // One that cannot open it does not come in.
    assert!(is_not_shared(open_as(&world, 3, Access { cannot_open: true, ..none }).1));
    // Readers are in no writer's way. They see what the file proves.
    drop((alone, other));
    let reader = open_as(&world, 4, READER).1.unwrap();
    let alone = open_as(&world, 5, none).1.unwrap();
    count_one(&alone).unwrap();
    let late = open_as(&world, 6, READER).1.unwrap();
    assert_eq!([&reader, &late].map(|store| count(store).unwrap()), [7, 7]);
    alone.checkpoint().unwrap();
    assert_eq!([&reader, &late].map(|store| count(store).unwrap()), [8, 8]);
}

#[test]
fn where_the_directory_cannot_be_written_the_sidecar_lies_elsewhere() {
    let cannot = Access { cannot_make: true, ..PLAIN };
    let world = world();
    let stores = [0, 1].map(|process| open_as(&world, process, cannot).1.unwrap());
    // One that may write it finds that sidecar, too.
    let third = open_store(&world, 2, LOG_CAP).1.unwrap();
    for n in 1..4 {
        count_one(&stores[n % 2]).unwrap();
        assert_eq!(count(&third).unwrap(), n as u64);
    }
}

/// Time stands still in these worlds: no look is due but those that the file itself gives reason for.
#[test]
fn what_was_acknowledged_is_seen_at_once_whatever_became_of_the_sidecar() {
    let changes: [(&str, fn(&World)); 4] = [
        ("deleted", World::remove_sidecar),
        ("an older copy, renamed", |world| world.restore_sidecar(false)),
        ("an older copy, in place", |world| world.restore_sidecar(true)),
        ("garbage", |world| world.sidecar().unwrap().spoil(&mut Rng(7))),
    ];
    for (what, change) in changes {
        for (reads_only, relaxed) in [(false, false), (false, true), (true, false)] {
            let world = world();
            let writer = open_store(&world, 0, LOG_CAP).1.unwrap();
            let reader = open_as(&world, 1, Access { read_only: reads_only, ..PLAIN }).1.unwrap();
            count_one(&writer).unwrap();
            assert_eq!(count(&reader).unwrap(), 1);
            world.copy_sidecar();
            count_one(&writer).unwrap();
            for n in 3..6 {
                change(&world);
                if relaxed {
                    count_relaxed(&writer)
                } else {
                    assert_eq!(count_one(&writer).unwrap(), 1)
                }
                assert_eq!(count(&reader).unwrap(), n, "{what}, {reads_only}, {relaxed}");
                let late = open_as(&world, 2, Access { read_only: reads_only, ..PLAIN }).1.unwrap();
                assert_eq!(count(&late).unwrap(), n, "{what}: a newcomer");
            }
        }
    }
}

#[test]
fn a_reader_that_stays_sees_what_writers_that_come_and_go_acknowledge() {
    let world = world();
    let reader = open_as(&world, 9, READER).1.unwrap();
    for n in 1..5 {
        let (disk, writer) = open_store(&world, n, LOG_CAP);
        let writer = writer.unwrap();
        count_one(&writer).unwrap();
        assert_eq!(count(&reader).unwrap(), n as u64);
        if n % 2 == 0 {
            // Killed: its sidecar stays.
            disk.kill();
            disk.silence();
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(writer)));
        assert_eq!(count(&reader).unwrap(), n as u64);
    }
}

/// A reader opened while no process wrote. What a writer has in flight is shown by neither, then by both.
#[test]
fn no_reader_shows_a_commit_before_all_do() {
    let conductor = Arc::new(Meanwhile::default());
    let (world, _disk, _) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
    let early = open_as(&world, 5, READER).1.unwrap();
    assert_eq!(count(&early).unwrap(), 0);
    let writer = open_store(&world, 0, LOG_CAP).1.unwrap();
    let member = open_store(&world, 6, LOG_CAP).1.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (see, look) = (Arc::clone(&seen), [early.clone(), member.clone()]);
    let late = Arc::clone(&world);
    conductor.before(Call::Flush, 0, move || {
        let late = open_as(&late, 7, READER).1.unwrap();
        *see.lock().unwrap() = look.iter().chain([&late]).map(|store| count(store).unwrap()).collect();
    });
    count_one(&writer).unwrap();
    assert_eq!(*seen.lock().unwrap(), [0, 0, 0]);
    assert_eq!([&early, &member, &writer].map(|store| count(store).unwrap()), [1, 1, 1]);
}

/// A transaction reads the log to its end, beyond what readers see. Whether it is committed with nothing
/// written, given up, or fails: what it told its caller is seen by all who look then.
#[test]
fn what_a_transaction_has_read_is_seen_by_all_who_look_later() {
    let ends: [fn(&Store); 3] = [
        |store| store.write(|tx| tx.raw("t")?.get(b"count").map(drop)).unwrap(),
        |store| {
            let failed: Result<()> = store.write(|tx| {
                tx.raw("t")?.get(b"count")?;
                Err(Error::Savepoint)
            });
            assert!(failed.is_err());
        },
        |store| {
            let tx = store.begin_write().unwrap();
            assert!(tx.raw("t").unwrap().get(b"count").unwrap().is_some());
            tx.rollback();
        },
    ];
    for end in ends {
        let conductor = Arc::new(Meanwhile::default());
        let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
        let (second, third) = (open_store(&world, 1, LOG_CAP).1.unwrap(), open_store(&world, 2, LOG_CAP).1.unwrap());
        count_one(&first).unwrap();
        let (store, reader) = (second.clone(), third.clone());
        let seen = Arc::new(Mutex::new(None));
        let see = Arc::clone(&seen);
        // The commit is in the log; its flush stands still.
        conductor.before(Call::Flush, 0, move || {
            assert_eq!(count(&reader).unwrap(), 1);
            end(&store);
            *see.lock().unwrap() = Some(count(&reader).unwrap());
        });
        count_one(&first).unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(2), "the transaction had read 2");
    }
}

/// A process stands still with APPEND, or with SYNC: another one opens the store, for writing too, and reads.
#[test]
fn opening_waits_for_no_commit() {
    let impatient = Settings { timeout: Duration::ZERO, ..settings(LOG_CAP) };
    for byte in [APPEND, SYNC] {
        let world = world();
        let first = open_store(&world, 0, LOG_CAP).1.unwrap();
        count_relaxed(&first);
        let still = world.disk(1);
        assert!(still.try_lock(byte, LockMode::Exclusive).unwrap());
        let second = Store::on_disk(world.disk(2) as _, impatient.clone()).unwrap();
        assert_eq!(count(&second).unwrap(), 1);
        still.unlock(byte).unwrap();
        assert_eq!(count_one(&second).unwrap(), 1);
        assert_eq!(count(&first).unwrap(), 2);
    }
}

/// The sidecar says in plain which version it has: a process that would join it and does not know that version is refused.
/// One that nobody uses says nothing.
#[test]
fn a_sidecar_of_another_protocol_is_not_joined() {
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Format { found, .. } if found.contains("protocol 2")), "{error}");
    };
    for access in [PLAIN, READER] {
        let world = world();
        let first = open_store(&world, 0, LOG_CAP).1.unwrap();
        let early = open_store(&world, 1, LOG_CAP).1.unwrap();
        count_one(&first).unwrap();
        first.engine().known_sidecar().set_protocol(2);
        refused(open_as(&world, 2, access).1.map(drop));
        refused(early.engine().join_sidecar().map(drop));
        count_one(&first).unwrap();
        drop((first, early));
        assert_eq!(count(&open_store(&world, 3, LOG_CAP).1.unwrap()).unwrap(), 2);
    }
}

/// A newer program gives the store a feature while it is open: who does not know it reads on, and writes no more.
#[test]
fn a_feature_that_came_meanwhile_stops_writers() {
    let (world, disk, first) = new_store(Arc::new(Free), LOG_CAP);
    count_one(&first).unwrap();
    let reader = open_as(&world, 1, READER).1.unwrap();
    let root = first.engine().slots().unwrap().newest;
    let features = Features { read_only: 1, ..root.features };
    let next = Root { sequence: root.sequence + 1, features, ..root };
    disk.write_at(&next.encode(), next.offset()).unwrap();
    disk.flush().unwrap();
    let error = count_one(&first).unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error}");
    assert_eq!(count(&reader).unwrap(), 1);
    assert_eq!(count(&open_as(&world, 2, READER).1.unwrap()).unwrap(), 1);
}

/// The deadline is for the turn. What is in the log has a fate that its caller is told, however little time is left.
#[test]
fn a_short_timeout_leaves_no_commit_in_doubt() {
    let world = world();
    let hasty = Settings { timeout: Duration::ZERO, ..settings(LOG_CAP) };
    let store = Store::on_disk(world.disk(0) as _, hasty).unwrap();
    for n in 1..100 {
        count_one(&store).unwrap();
        assert_eq!(count(&store).unwrap(), n);
    }
}

/// The holder of SYNC is stopped. No commit waits for it more than once, and those of several processes go on.
#[test]
fn a_stopped_flusher_is_waited_for_once() {
    let conductor = Arc::new(Meanwhile::default());
    let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    count_one(&first).unwrap();
    let still = world.disk(2);
    assert!(still.try_lock(SYNC, LockMode::Exclusive).unwrap());
    let mut waited = Vec::new();
    for n in 1..5 {
        let before = conductor.passed();
        count_one(&first).unwrap();
        waited.push(conductor.passed() - before);
        assert_eq!(count(&second).unwrap(), 1 + n);
    }
    assert!(waited[0] > 0 && waited[1..].iter().all(|time| *time == 0), "{waited:?} ms");
    still.unlock(SYNC).unwrap();
    count_one(&second).unwrap();
    assert_eq!(count(&first).unwrap(), 6);
}

/// A transaction too large for the log is in a root alone, whose maker stands still before it tells of it. A reader that is told
/// nothing, and can tell nobody, shows it only if those who are told show it later.
#[test]
fn a_reader_that_is_told_nothing_is_not_ahead_of_the_maker_of_a_root() {
    let mut busy = 0;
    for (call, nth) in (0..9).map(|nth| (Call::Flush, nth)).chain((0..16).map(|nth| (Call::Write, nth))) {
        let conductor = Arc::new(Meanwhile::default());
        let (world, _disk, maker) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
        count_one(&maker).unwrap();
        let beside = open_as(&world, 1, READER).1.unwrap();
        let shown = Arc::new(Mutex::new((0, 0, 0)));
        let (seen, others, onlooker) = (Arc::clone(&shown), Arc::clone(&world), beside.clone());
        conductor.before(call, nth, move || {
            let told_nothing = open_as(&others, 2, Access { cannot_open: true, ..READER }).1.unwrap();
            let first = match count(&told_nothing) {
                Ok(n) => n,
                Err(Error::Busy { lock: LockKind::Checkpoint, holder, .. }) => {
                    assert!(holder.is_some());
                    0
                }
                Err(e) => panic!("{e}"),
            };
            *seen.lock().unwrap() = (first, count(&onlooker).unwrap(), u32::from(first == 0));
        });
        maker
            .write(|tx| {
                (0..100_u8)
                    .try_for_each(|n| tx.raw("large")?.put(&[n], &[n; 2000]))
                    .and_then(|()| tx.raw("t")?.put(b"count", &[2]))
            })
            .unwrap();
        let (first, then, was_busy) = *shown.lock().unwrap();
        assert!(then >= first, "before {call:?} {nth}: {first} was shown, then {then}");
        busy += was_busy;
        assert_eq!((count(&beside).unwrap(), count(&maker).unwrap()), (2, 2));
    }
    assert!(busy > 0, "it never met a root in the making");
}
