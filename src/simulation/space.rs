//! How much room the file takes: what is overwritten and deleted comes back, in few checkpoints, and
//! a commit with long values does not wait for a checkpoint.

use super::{after_power_losses, check, new_store, open_store, settings};
use crate::disk::platform::Disk;
use crate::disk::sim::{Call, Conductor, Free, Image, SimDisk, Verdict, World};
use crate::engine::Settings;
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::new_root::CheckpointResult;
use crate::engine::open;
use crate::tree::node::LeafValue;
use crate::{Error, LockKind, Store};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CAP: u64 = 1 << 20;

/// A new store without a record of what is written, which would keep every byte.
fn unrecorded(conductor: Arc<dyn Conductor>, log_cap: u64) -> (Arc<World>, Arc<SimDisk>, Store) {
    let world = World::new(Image::default(), conductor);
    open::create(&*world.disk(0), 4096, *b"simulated store!").unwrap();
    let (disk, store) = open_store(&world, 0, log_cap);
    (world, disk, store.unwrap())
}

fn put(store: &Store, key: &[u8], len: usize) {
    store.write(|tx| tx.raw("t")?.put(key, &vec![7; len])).unwrap();
}

fn delete(store: &Store, key: &[u8]) {
    store.write(|tx| tx.raw("t")?.delete(key)).unwrap();
}

fn value_len(store: &Store, key: &[u8]) -> usize {
    store.read().unwrap().raw("t").unwrap().get(key).unwrap().map_or(0, |value| value.len())
}

/// A checkpoint as an idle store makes it.
fn idle_checkpoint(store: &Store) -> CheckpointResult {
    store.engine().relax_view(0);
    let plan = CheckpointOptions { shrink: true, force: true, compact: 4096, ..CheckpointOptions::default() };
    store.engine().checkpoint(&plan, None).unwrap()
}

/// How many idle checkpoints it takes until the file cannot shrink any more; and its length then.
fn rest(store: &Store, disk: &SimDisk) -> (usize, u64) {
    let checkpoints = (1..20).find(|_| !idle_checkpoint(store).could_shrink());
    (checkpoints.expect("it never comes to rest"), disk.len().unwrap())
}

#[test]
fn an_overwritten_long_value_takes_no_more_room_than_the_log_may() {
    const LEN: u64 = 100_000;
    for held in [false, true] {
        let (_world, disk, store) = unrecorded(Arc::new(Free), CAP);
        put(&store, b"another", 10);
        // It sees none of what comes, and keeps none of it.
        let snapshot = held.then(|| store.read().unwrap());
        let mut peak = 0;
        for _ in 0..2000 {
            put(&store, b"key", LEN as usize);
            peak = peak.max(disk.len().unwrap());
        }
        assert!(peak <= 3 * (CAP + LEN), "{peak} bytes at the peak, a snapshot held: {held}");
        drop(snapshot);
    }
}

#[test]
fn a_compaction_ends_while_a_snapshot_keeps_the_file_long() {
    let (_world, disk, store) = unrecorded(Arc::new(Free), CAP);
    put(&store, b"long", 4 << 20);
    put(&store, b"another", 10);
    store.checkpoint().unwrap();
    let snapshot = store.read().unwrap();
    delete(&store, b"long");
    let root = store.engine().known_root();
    let (_, after) = store.compact().unwrap();
    let made = store.engine().known_root() - root;
    assert!(after > 4 << 20 && made < 12, "{after} bytes after {made} checkpoints");
    drop(snapshot);
    store.compact().unwrap();
    assert!(disk.len().unwrap() < 1 << 20);
}

#[test]
fn a_snapshot_keeps_no_value_of_the_tree_that_it_cannot_see() {
    const LEN: u64 = 200_000;
    let (_world, disk, store) = unrecorded(Arc::new(Free), CAP);
    put(&store, b"another", 10);
    let snapshot = store.read().unwrap();
    for _ in 0..100 {
        put(&store, b"key", LEN as usize);
        store.checkpoint().unwrap();
    }
    let len = disk.len().unwrap();
    assert!(len <= 3 * (CAP + LEN), "{len} bytes");
    drop(snapshot);
}

#[test]
fn a_value_larger_than_the_log_has_room_for_itself_twice_beside_it() {
    let (_world, disk, store) = unrecorded(Arc::new(Free), 64 << 10);
    let mut peak = 0;
    for _ in 0..20 {
        put(&store, b"key", 4 << 20);
        peak = peak.max(disk.len().unwrap());
    }
    assert!(peak <= 3 * ((4 << 20) + (64 << 10)), "{peak} bytes at the peak");
}

#[test]
fn a_deleted_long_value_is_given_back_at_once() {
    let (_world, disk, store) = unrecorded(Arc::new(Free), CAP);
    let few = |len| (0..100_u8).for_each(|n| put(&store, &[n], len));
    // Nothing of use behind it: checkpointed, then cut.
    few(500);
    put(&store, b"long", 16 << 20);
    let (_, small) = (rest(&store, &disk), disk.len().unwrap());
    assert!(small > 16 << 20);
    delete(&store, b"long");
    let (checkpoints, len) = rest(&store, &disk);
    assert!(len < 1 << 20 && checkpoints <= 3, "{len} bytes after {checkpoints} checkpoints");
    // Pages of use behind it: checkpointed, moved, cut.
    put(&store, b"long", 16 << 20);
    few(600);
    store.checkpoint().unwrap();
    delete(&store, b"long");
    let (checkpoints, len) = rest(&store, &disk);
    assert!(len < 1 << 20 && checkpoints <= 4, "{len} bytes after {checkpoints} checkpoints");
}

#[test]
fn a_long_value_is_moved_only_to_where_it_fits() {
    let (_world, disk, store) = unrecorded(Arc::new(Free), CAP);
    // Half of the file is free, in gaps that are too short for the long value at its end.
    for n in 0..40 {
        put(&store, &[n], 60_000);
        store.checkpoint().unwrap();
    }
    put(&store, b"long", 2_000_000);
    store.checkpoint().unwrap();
    (0..40).filter(|n| n % 2 == 0).for_each(|n| delete(&store, &[n]));
    store.checkpoint().unwrap();
    let before = disk.len().unwrap();
    for _ in 0..6 {
        idle_checkpoint(&store);
        let len = disk.len().unwrap();
        assert!(len <= before, "{len} bytes instead of {before}");
    }
    assert_eq!(value_len(&store, b"long"), 2_000_000);
    check::structure(&store).unwrap();
}

#[test]
fn leaves_that_find_no_room_before_them_are_left_where_they_are() {
    let (_world, _disk, store) = unrecorded(Arc::new(Free), CAP);
    const N: u32 = 12000;
    // Leaves of four pages among holes of one to three.
    let key = |n: u32| n.wrapping_mul(0x9e37_79b1).to_be_bytes();
    for n in 0..N {
        put(&store, &key(n), 500 + (n as usize * 7919) % 2500);
    }
    let mut keys: Vec<_> = (0..N).map(key).collect();
    keys.sort_unstable();
    keys.iter().step_by(2).for_each(|key| delete(&store, key));
    let written: Vec<u64> = (0..12).map(|_| idle_checkpoint(&store).pages_written).collect();
    assert!(written[1] > 100 && written[11] < 10, "pages written: {written:?}");
    check::structure(&store).unwrap();
}

/// A file with `count` free holes of a megabyte.
fn with_holes(count: u8) -> (Arc<World>, Arc<SimDisk>, Store) {
    let (world, disk, store) = unrecorded(Arc::new(Free), CAP);
    for n in 0..2 * count {
        put(&store, &[n], (1 << 20) - 2000);
        store.checkpoint().unwrap();
    }
    (0..2 * count).filter(|n| n % 2 == 0).for_each(|n| delete(&store, &[n]));
    store.checkpoint().unwrap();
    put(&store, b"other", 1);
    store.checkpoint().unwrap();
    (world, disk, store)
}

fn extents(store: &Store, key: &[u8]) -> Vec<(u32, u32)> {
    let view = store.engine().view_at_end().unwrap();
    let entry = view.table("t").unwrap().unwrap();
    match view.leaf_value(entry.id, entry.root, key).unwrap() {
        Some(LeafValue::Overflow(long)) => {
            let extents = view.tree.pages.overflow_extents(&long.pages).unwrap();
            extents.iter().map(|extent| (extent.page, extent.pages)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_long_value_fills_holes_before_the_file_grows() {
    let (_world, disk, store) = with_holes(8);
    let before = disk.len().unwrap();
    let value: Vec<u8> = (0..6 << 20_u32).map(|n| (n % 251) as u8).collect();
    store.write(|tx| tx.raw("t")?.put(b"long", &value)).unwrap();
    assert_eq!(disk.len().unwrap(), before, "the file has grown");
    let found = extents(&store, b"long");
    assert!((6..=8).contains(&found.len()), "{found:?}");
    assert!(found.iter().rev().skip(1).all(|(_, pages)| pages % 16 == 0), "{found:?}");
    let read = |store: &Store| {
        let snapshot = store.read().unwrap();
        let table = snapshot.raw("t").unwrap();
        assert!(table.get(b"long").unwrap().unwrap() == value[..]);
        let (from, to) = ((1 << 20) - 5000, (3 << 20) + 77);
        assert!(table.get_slice(b"long", from as u64..to as u64).unwrap().unwrap() == value[from..to]);
    };
    read(&store);
    check::structure(&store).unwrap();
    store.checkpoint().unwrap();
    read(&store);
    check::structure(&store).unwrap();
    // Every page of it comes back.
    let free = |store: &Store| {
        let engine = store.engine();
        engine.free_and_all_pages(&engine.lock_checkpoint(None).unwrap()).unwrap().0
    };
    let before = free(&store);
    delete(&store, b"long");
    (0..2).for_each(|_| _ = idle_checkpoint_in_place(&store));
    assert!(free(&store) >= before + 6 * 256 - 16, "{} after {before}", free(&store));
    check::structure(&store).unwrap();
}

fn idle_checkpoint_in_place(store: &Store) -> CheckpointResult {
    store.engine().relax_view(0);
    let plan = CheckpointOptions { force: true, ..CheckpointOptions::default() };
    store.engine().checkpoint(&plan, None).unwrap()
}

#[test]
fn a_long_value_is_moved_down_in_parts() {
    let (_world, disk, store) = unrecorded(Arc::new(Free), CAP);
    for n in 0..16 {
        put(&store, &[n], (1 << 20) - 2000);
        store.checkpoint().unwrap();
    }
    let value: Vec<u8> = (0..6 << 20_u32).map(|n| (n % 241) as u8).collect();
    store.write(|tx| tx.raw("t")?.put(b"long", &value)).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(extents(&store, b"long").len(), 1);
    // No hole before it is long enough for all of it, but together they are.
    (0..16).filter(|n| n % 2 == 0).for_each(|n| delete(&store, &[n]));
    store.checkpoint().unwrap();
    let before = disk.len().unwrap();
    (0..6).for_each(|_| _ = idle_checkpoint(&store));
    let len = disk.len().unwrap();
    assert!(len + (5 << 20) < before, "{len} after {before}");
    assert!(extents(&store, b"long").len() > 5);
    assert!(store.read().unwrap().raw("t").unwrap().get(b"long").unwrap().unwrap() == value[..]);
    check::structure(&store).unwrap();
}

/// Counts one kind of call, and refuses some.
#[derive(Default)]
struct Watch(Mutex<(Option<Call>, usize, Vec<Call>)>);

impl Watch {
    fn count(&self, call: Call, act: impl FnOnce()) -> usize {
        (self.0.lock().unwrap().0, self.0.lock().unwrap().1) = (Some(call), 0);
        act();
        self.0.lock().unwrap().1
    }

    fn refuse(&self, calls: &[Call]) {
        self.0.lock().unwrap().2 = calls.to_vec();
    }
}

impl Conductor for Watch {
    fn before(&self, _: usize, call: Call) -> Verdict {
        let (counted, count, refused) = &mut *self.0.lock().unwrap();
        *count += usize::from(*counted == Some(call));
        if refused.contains(&call) { Verdict::Fail(libc::ENOSPC) } else { Verdict::Go }
    }
}

#[test]
fn a_long_value_is_not_read_to_free_it() {
    let reads = |deleted: u8| {
        let watch = Arc::new(Watch::default());
        let (_world, _disk, store) = unrecorded(Arc::clone(&watch) as _, CAP);
        (0..20).for_each(|n| put(&store, &[n], 50_000));
        store.checkpoint().unwrap();
        store.write(|tx| (0..deleted).try_for_each(|n| tx.raw("t")?.delete(&[n]))).unwrap();
        watch.count(Call::Read, || store.checkpoint().unwrap())
    };
    assert_eq!(reads(19), reads(1));
}

#[test]
fn a_long_value_does_not_wait_for_a_checkpoint() {
    let (world, _disk, first) = new_store(Arc::new(Free), CAP);
    let impatient = Settings { timeout: Duration::ZERO, ..settings(CAP) };
    let second = Store::on_disk(world.disk(1) as _, impatient).unwrap();
    let long = |store: &Store| store.engine().view_at_end().unwrap().long_bytes();
    put(&first, b"short", 10);
    // The log is to have room for more than one.
    put(&first, b"pages", 100_000);
    first.engine().checkpoint(&CheckpointOptions { room_for: CAP / 4, ..CheckpointOptions::default() }, None).unwrap();

    let checkpointing = first.engine().lock_checkpoint(None).unwrap();
    put(&second, b"log", 100_000);
    assert_eq!(long(&second), 0, "it is in the log");
    for store in [&first, &second] {
        assert_eq!(value_len(store, b"log"), 100_000);
    }
    // What does not fit waits; and so does what finds the log full.
    let refused = second.write(|tx| tx.raw("t")?.put(b"large", &vec![7; 300_000]));
    assert!(matches!(refused, Err(Error::Busy { lock: LockKind::Checkpoint, .. })), "{refused:?}");
    let full =
        (0..100_u8).find_map(|n| second.write(|tx| tx.raw("t")?.put(&[n], &vec![7; 100_000])).err().zip(Some(n)));
    let (error, reached) = full.expect("the log is never full");
    assert!(matches!(error, Error::Busy { lock: LockKind::Checkpoint, .. }) && reached > 2, "{error} after {reached}");
    drop(checkpointing);

    let all_there = |store: &Store| {
        assert_eq!(value_len(store, b"log"), 100_000);
        assert_eq!(value_len(store, b"pages"), 100_000);
        assert!((0..reached).all(|n| value_len(store, &[n]) == 100_000));
    };
    all_there(&first);
    after_power_losses(&world, CAP, all_there);
    first.checkpoint().unwrap();
    // With CHECKPOINT free it goes to pages again.
    put(&second, b"again", 100_000);
    assert_eq!(long(&second), 100_000);
    first.checkpoint().unwrap();
    check::structure(&second).unwrap();
    all_there(&second);
    after_power_losses(&world, CAP, all_there);
}

#[test]
fn a_log_that_cannot_grow_is_not_needed() {
    let watch = Arc::new(Watch::default());
    let (_world, disk, store) = unrecorded(Arc::clone(&watch) as _, CAP);
    put(&store, b"key", 10);
    let batch = |len: usize| store.write(|tx| (0..200_u8).try_for_each(|n| tx.raw("t")?.put(&[n], &vec![n; len])));
    // No room for a larger log, but for pages.
    watch.refuse(&[Call::Allocate]);
    batch(900).unwrap();
    put(&store, b"long", 100_000);
    assert_eq!((value_len(&store, &[199]), value_len(&store, b"long")), (900, 100_000));
    // No room for anything.
    watch.refuse(&[Call::Allocate, Call::SetLen]);
    let len = disk.len().unwrap();
    let refused = (0..50).find_map(|n| batch(901 + n).err());
    assert!(matches!(refused, Some(Error::Full { .. })), "{refused:?}");
    let refused = store.write(|tx| tx.raw("t")?.put(b"long", &vec![7; 2_000_000]));
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    assert_eq!((disk.len().unwrap(), value_len(&store, b"long")), (len, 100_000));
    watch.refuse(&[]);
    batch(1000).unwrap();
    check::structure(&store).unwrap();
}
