//! What one process has shown, or was told, is seen by all who look later, by whichever sidecar they go: one that was
//! deleted, replaced or set back, while a process stands still in the middle of its work.

use super::exclusion::{count, count_one};
use super::pause::Stage;
use super::sharing::{READER, count_relaxed, open_as};
use super::{after_power_losses, new_store, open_store};
use crate::disk::locks::{APPEND, CHECKPOINT};
use crate::disk::platform::{Disk, LockMode};
use crate::disk::sim::{Call, Conductor, SimDisk, Verdict, World};
use crate::{Store, WriteTxn};
use std::sync::{Arc, Mutex};

const LOG_CAP: u64 = 64 << 10;

/// One process that has counted one, and others that have seen it.
fn some<const N: usize>() -> (Arc<Stage>, Arc<World>, Arc<SimDisk>, Store, [Store; N]) {
    let stage = Arc::new(Stage::default());
    let (world, disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
    count_one(&first).unwrap();
    // The first root has none before it: it is confirmed by a flush.
    first.checkpoint().unwrap();
    let others = std::array::from_fn(|n| open_store(&world, 1 + n, LOG_CAP).1.unwrap());
    assert!(others.iter().all(|store| count(store).unwrap() == 1));
    (stage, world, disk, first, others)
}

fn counting(store: &Store) -> impl FnOnce() -> u64 + Send + 'static {
    let store = store.clone();
    move || count_one(&store).unwrap()
}

/// Calls something before each call of process 0.
#[derive(Default)]
struct AtEach(Mutex<Option<Box<dyn FnMut() + Send>>>);

impl Conductor for AtEach {
    fn before(&self, process: usize, _: Call) -> Verdict {
        let taken = if process == 0 { self.0.lock().unwrap().take() } else { None };
        if let Some(mut look) = taken {
            look();
            *self.0.lock().unwrap() = Some(look);
        }
        Verdict::Go
    }
}

#[test]
fn no_thread_shows_a_flush_before_it_is_told_to_all() {
    let each = Arc::new(AtEach::default());
    let (world, _disk, first) = new_store(Arc::clone(&each) as _, LOG_CAP);
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    let before = first.engine().durable_lsn();
    let looks = Arc::new(Mutex::new(0));
    let (store, counted) = (first.clone(), Arc::clone(&looks));
    *each.0.lock().unwrap() = Some(Box::new(move || {
        // What its threads show now.
        if store.engine().durable_lsn() > before {
            *counted.lock().unwrap() += 1;
            assert_eq!(count(&second).unwrap(), 1);
        }
    }));
    count_one(&first).unwrap();
    *each.0.lock().unwrap() = None;
    assert!(*looks.lock().unwrap() > 0);
}

/// It was lost after the appender had looked at its name. A process that could not have APPEND let the next one
/// speak, and another one tells it where the log ends, but not how far it is durable.
#[test]
fn a_flush_is_told_to_the_sidecar_that_was_started_meanwhile() {
    let (stage, world, _disk, first, [second, reader]) = some();
    let still = stage.until((0, Call::Write, 0), counting(&first));
    world.remove_sidecar();
    reader.engine().rejoin_sidecar(true).unwrap();
    assert_eq!(count(&reader).unwrap(), 1);
    let still = still.until(Call::Flush, 0);
    drop(second.engine().lock_append(None).unwrap());
    still.go_on();
    assert_eq!([&reader, &second, &first].map(|store| count(store).unwrap()), [2, 2, 2]);
}

/// A commit is in the log, and its flush stands still. The sidecar is deleted; a process that opens the store starts
/// another one, flushes what lies in the file, and shows it.
#[test]
fn what_a_new_process_shows_is_durable_and_seen_by_those_who_stay() {
    let (stage, world, _disk, first, [reader]) = some();
    let still = stage.until((0, Call::Flush, 0), counting(&first));
    world.remove_sidecar();
    let newcomer = open_store(&world, 5, LOG_CAP).1.unwrap();
    assert_eq!(count(&newcomer).unwrap(), 2);
    assert_eq!(count(&reader).unwrap(), 2, "it goes by the sidecar that was lost");
    after_power_losses(&world, LOG_CAP, |store| assert_eq!(count(store).unwrap(), 2));
    still.go_on();
}

/// The same, and a process that has had the store open for long lets the new sidecar speak, by taking APPEND.
#[test]
fn what_a_new_sidecar_calls_visible_is_durable() {
    let (stage, world, _disk, first, [second, reader]) = some();
    let still = stage.until((0, Call::Flush, 0), counting(&first));
    world.remove_sidecar();
    second.engine().rejoin_sidecar(true).unwrap();
    drop(second.engine().lock_append(None).unwrap());
    assert_eq!(count(&reader).unwrap(), 2);
    after_power_losses(&world, LOG_CAP, |store| assert_eq!(count(store).unwrap(), 2));
    still.go_on();
}

/// Behind the tail that its sidecar tells of lie frames of later laps.
#[test]
fn a_log_that_has_lapped_since_the_sidecar_was_lost_is_noticed_by_its_root() {
    let (_, world, _disk, first, [reader]) = some();
    world.remove_sidecar();
    for _ in 0..58 {
        count_one(&first).unwrap();
    }
    assert_eq!(count(&reader).unwrap(), 59);
}

/// An older copy that no process uses lies where the sidecar was. (The holder of APPEND can be asked nothing.)
#[test]
fn a_copy_that_no_writer_uses_is_not_joined() {
    let (stage, world, _disk, first, []) = some();
    world.copy_sidecar();
    count_one(&first).unwrap();
    let still = stage.until((0, Call::Write, 0), counting(&first));
    world.restore_sidecar(false);
    let newcomer = open_store(&world, 5, LOG_CAP).1.unwrap();
    assert_eq!(count(&newcomer).unwrap(), 2);
    still.go_on();
    assert_eq!(count(&newcomer).unwrap(), 3);
}

/// An older copy is written over the sidecar in place: its words go back, and their seals are good. A process that comes
/// then has seen nothing yet, and looks at the file for more than it is told.
#[test]
fn an_older_copy_in_place_hides_nothing_from_a_new_process() {
    let much = |store: &Store| {
        let rows = |tx: &WriteTxn| (0..40).try_for_each(|n: u8| tx.raw("much")?.put(&[n], &[n; 1000]));
        store.write(rows).unwrap();
    };
    let acts: [(&str, &dyn Fn(&Store)); 4] = [
        ("a frame", &|store| _ = count_one(store).unwrap()),
        ("a root that holds a transaction", &much),
        ("a root, and a frame behind it", &|store| {
            store.checkpoint().unwrap();
            count_one(store).unwrap();
        }),
        ("a log that has lapped since", &|store| {
            for _ in 0..40 {
                count_one(store).unwrap();
            }
            store.checkpoint().unwrap();
            count_one(store).unwrap();
        }),
    ];
    for (name, act) in acts {
        // If the log is empty, nothing in it leads beyond the older root; nor does opening, if that was before.
        for (is_empty, was_open) in [(false, false), (true, false), (true, true)] {
            let (_, world, _disk, first, []) = some();
            if is_empty {
                first.checkpoint().unwrap();
            }
            let beside = was_open.then(|| open_store(&world, 5, LOG_CAP).1.unwrap());
            world.copy_sidecar();
            act(&first);
            world.restore_sidecar(true);
            let newcomer = beside.unwrap_or_else(|| open_store(&world, 5, LOG_CAP).1.unwrap());
            let seen = newcomer.read().unwrap();
            assert_eq!(seen.lsn(), first.read().unwrap().lsn(), "{name}, empty: {is_empty}, open: {was_open}");
        }
    }
}

/// The others have started another sidecar before the file lost its name: the process uses that one.
#[test]
fn a_process_whose_file_lost_its_name_publishes_where_the_others_look() {
    let (stage, world, _disk, first, [second]) = some();
    world.remove_sidecar();
    count_one(&second).unwrap();
    // It goes by the old sidecar still. The transaction has begun.
    let still = stage.until((0, Call::Lock, 1), counting(&first));
    world.lose_name(0);
    let still = still.until(Call::Flush, 0);
    drop(second.engine().lock_append(None).unwrap());
    still.go_on();
    assert_eq!([&second, &first].map(|store| count(store).unwrap()), [3, 3]);
}

/// The others have started another sidecar, and have gone; the file has lost its name, so it is not looked for any
/// more. What lies in the file behind the words of the old one was acknowledged.
#[test]
fn what_was_told_elsewhere_is_seen_in_a_file_that_lost_its_name() {
    let (_, world, _disk, first, [second]) = some();
    world.remove_sidecar();
    count_one(&second).unwrap();
    count_one(&second).unwrap();
    world.lose_name(0);
    second.close().unwrap();
    drop(first.engine().lock_append(None).unwrap());
    assert_eq!(count(&first).unwrap(), 3);
}

/// The same while a process holds APPEND and CHECKPOINT: that it is about to publish where this one looks is not said.
#[test]
fn no_writer_is_waited_for_at_a_sidecar_that_may_have_been_left() {
    let (_, world, _disk, first, [second]) = some();
    world.remove_sidecar();
    count_one(&second).unwrap();
    world.lose_name(0);
    let still = world.disk(3);
    for byte in [APPEND, CHECKPOINT] {
        assert!(still.try_lock(byte, LockMode::Exclusive).unwrap());
    }
    drop(second);
    assert_eq!(count(&first).unwrap(), 2);
}

/// One thread is about to join the sidecar that the others have started. Another one, meanwhile, comes upon a root
/// made since: behind it, where the left sidecar's tail cannot lie, the log has gone on.
#[test]
fn words_from_before_the_root_that_is_shown_are_old() {
    let (stage, world, _disk, first, [second]) = some();
    second.engine().relax_view(0);
    world.remove_sidecar();
    count_one(&first).unwrap();
    first.checkpoint().unwrap();
    count_one(&first).unwrap();
    let store = second.clone();
    let joins = stage.until((1, Call::Sidecar, 0), move || drop(store.engine().lock_append(None).unwrap()));
    assert_eq!(count(&second).unwrap(), 3);
    joins.go_on();
}

const ROWS: u32 = 300;

fn write_rows(store: &Store, value: u8) {
    let rows = || (0..ROWS).filter(|n| value == 0 || n % 20 == 0);
    store.write(|tx| rows().try_for_each(|n| tx.raw("rows")?.put(&n.to_be_bytes(), &[value; 100]))).unwrap();
}

/// A thread takes a snapshot by the words of a sidecar that was left, and another one joins the next sidecar just
/// before the first looks whether the file knows better. Meanwhile the log is checkpointed for the second time since:
/// pages of the root that was told of last are being used again, and its pins were looked at before. (The log has
/// lapped, so there is nothing behind the told tail.)
#[test]
fn no_root_is_pinned_by_the_words_of_a_sidecar_that_was_left() {
    let stage = Arc::new(Stage::default());
    let (world, _disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
    write_rows(&first, 0);
    first.checkpoint().unwrap();
    write_rows(&first, 1);
    first.checkpoint().unwrap();
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    assert_eq!(second.read().unwrap().raw("rows").unwrap().len().unwrap(), u64::from(ROWS));
    second.engine().relax_view(0);
    world.remove_sidecar();
    (2..7).for_each(|value| write_rows(&first, value));
    first.checkpoint().unwrap();
    let still = world.disk(3);
    assert!(still.try_lock(CHECKPOINT, LockMode::Exclusive).unwrap());
    (7..19).for_each(|value| write_rows(&first, value));
    still.unlock(CHECKPOINT).unwrap();
    let checkpointing = first.clone();
    // The mark is written; these are pages.
    let checkpoints = stage.until((0, Call::Write, 1), move || checkpointing.checkpoint().unwrap());
    let reading = second.clone();
    // Both looks at the root slots are done.
    let reads = stage.until((1, Call::Read, 2), move || reading.read().unwrap());
    second.engine().rejoin_sidecar(true).unwrap();
    second.engine().load_hints(&second.engine().known_sidecar());
    let snapshot = reads.go_on();
    checkpoints.go_on();
    let rows = snapshot.raw("rows").unwrap();
    assert_eq!(rows.prefix(b"").unwrap().map(Result::unwrap).count(), ROWS as usize);
    assert_eq!(rows.get(&0_u32.to_be_bytes()).unwrap().unwrap()[..], [18; 100]);
}

/// A frame whose root this process was not told of: the sidecar's word was set back. A long value of that frame is
/// kept for that root's snapshots, not for those of an older one. (CHECKPOINT is held, so it cannot be asked.)
#[test]
fn a_state_with_a_frame_of_a_newer_root_rests_on_that_root() {
    const LOG_CAP: u64 = 1 << 20;
    let stage = Arc::new(Stage::default());
    let (world, _disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
    let put = |n: u8| first.write(|tx| tx.raw("long")?.put(b"key", &[n; 50_000])).unwrap();
    put(1);
    first.checkpoint().unwrap();
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    let words = || first.engine().sidecar();
    let root = words().root().unwrap();
    first.checkpoint().unwrap();
    put(2);
    first.checkpoint().unwrap();
    put(3);
    words().set_root_back(root);
    let still = world.disk(3);
    assert!(still.try_lock(CHECKPOINT, LockMode::Exclusive).unwrap());
    let snapshot = second.read().unwrap();
    still.unlock(CHECKPOINT).unwrap();
    for n in 4..9 {
        put(n);
        first.checkpoint().unwrap();
    }
    let value = snapshot.raw("long").unwrap().get(b"key").unwrap().unwrap();
    assert_eq!((value.len(), value[0], value[49_999]), (50_000, 3, 3));
}

/// What the file proved to a reader that was kept from the sidecar is not forgotten when it finds one with older words.
#[test]
fn a_reader_never_goes_back_behind_what_the_file_proved() {
    let (_, world, _disk, first, [second]) = some();
    world.copy_sidecar();
    count_one(&first).unwrap();
    count_relaxed(&first);
    let hidden = world.hide_sidecar();
    let reader = open_as(&world, 5, READER).1.unwrap();
    assert_eq!(count(&reader).unwrap(), 2, "as far as the newest frame proves");
    reader.engine().relax_view(0);
    world.show_sidecar(hidden);
    world.restore_sidecar(true);
    // It finds the end of the log, and tells it.
    drop(second.engine().lock_append(None).unwrap());
    assert_eq!(count(&reader).unwrap(), 2);
}
