//! The log's ring fills up, grows and shrinks, while others commit.

use super::exclusion::{Meanwhile, count, count_one};
use super::pause::Stage;
use super::{check, new_store, open_store, settings};
use crate::disk::sim::{Call, Free};
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::{MIN_LOG, Settings};
use crate::{Error, LockKind, Store};
use std::sync::Arc;
use std::time::Duration;

const LOG_CAP: u64 = 2 * MIN_LOG;

fn capacity(store: &Store) -> u64 {
    store.engine().slots().unwrap().newest.log_capacity()
}

fn count_times(store: &Store, n: usize) {
    for _ in 0..n {
        count_one(store).unwrap();
    }
}

#[test]
fn the_ring_changes_only_where_nothing_is_live() {
    let mut grown = 0;
    for rounds in 0..8 {
        let conductor = Arc::new(Meanwhile::default());
        let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, LOG_CAP);
        let second = open_store(&world, 1, LOG_CAP).1.unwrap();
        // After the mark is written the other one goes on: perhaps beyond the ring's end, to its start.
        let commits_meanwhile = |n: usize| {
            let second = second.clone();
            conductor.before(Call::Write, 1, move || count_times(&second, n));
        };
        for _ in 0..rounds {
            count_one(&first).unwrap();
            first.checkpoint().unwrap();
        }
        // A third of the log is used, so it is to grow.
        count_times(&first, 7);
        commits_meanwhile(5);
        first.checkpoint().unwrap();
        let all_there = |n| {
            let third = open_store(&world, 2, LOG_CAP).1.unwrap();
            assert_eq!([&first, &second, &third].map(|store| count(store).unwrap()), [n; 3]);
        };
        all_there(rounds + 12);
        if capacity(&first) == MIN_LOG {
            continue;
        }
        grown += 1;
        let engine = first.engine();
        let shrink = || {
            engine.checkpoint(&CheckpointOptions { shrink: true, ..CheckpointOptions::default() }, None).unwrap();
        };
        commits_meanwhile(1);
        shrink();
        all_there(rounds + 13);
        assert_eq!(capacity(&first), LOG_CAP);
        shrink();
        all_there(rounds + 13);
        assert_eq!(capacity(&first), MIN_LOG);
    }
    assert!((1..8).contains(&grown));
}

#[test]
fn a_full_log_can_be_checkpointed() {
    let (world, _disk, store) = new_store(Arc::new(Free), MIN_LOG);
    let impatient = Settings { timeout: Duration::ZERO, ..settings(MIN_LOG) };
    let writer = Store::on_disk(world.disk(1) as _, impatient).unwrap();
    let checkpointing = store.engine().lock_checkpoint(None).unwrap();
    let full = (0..100).find_map(|n| count_one(&writer).err().map(|e| (n, e)));
    assert!(matches!(full, Some((10.., Error::Busy { lock: LockKind::Checkpoint, .. }))), "{full:?}");
    drop(checkpointing);
    writer.checkpoint().unwrap();
    assert_eq!(count(&store).unwrap(), full.unwrap().0);
}

/// A checkpoint makes the ring smaller. At each of its writes and flushes another process tries to commit.
#[test]
fn no_frame_is_appended_while_the_ring_changes() {
    let mut refused = 0;
    for (call, nth) in [Call::Write, Call::Flush].into_iter().flat_map(|call| (0..8).map(move |nth| (call, nth))) {
        let stage = Arc::new(Stage::default());
        let (world, _disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
        let plan = CheckpointOptions { room_for: 40 << 10, ..CheckpointOptions::default() };
        first.engine().checkpoint(&plan, None).unwrap();
        assert_eq!(capacity(&first), LOG_CAP);
        count_one(&first).unwrap();
        let impatient = Settings { timeout: Duration::ZERO, ..settings(LOG_CAP) };
        let second = Store::on_disk(world.disk(1) as _, impatient).unwrap();
        let engine = Arc::clone(first.engine());
        let shrink = move || {
            engine.checkpoint(&CheckpointOptions { shrink: true, ..CheckpointOptions::default() }, None).unwrap()
        };
        let Some(shrinks) = stage.up_to((0, call, nth), shrink) else { continue };
        let counted = count_one(&second);
        shrinks.go_on();
        match counted {
            Ok(_) => {}
            Err(Error::Busy { lock: LockKind::Append, .. }) => refused += 1,
            Err(e) => panic!("{e}"),
        }
        let counts = if counted.is_ok() { 2 } else { 1 };
        let third = open_store(&world, 2, LOG_CAP).1.unwrap();
        assert_eq!([&first, &second, &third].map(|store| count(store).unwrap()), [counts; 3]);
        count_one(&third).unwrap();
        check::structure(&third).unwrap();
    }
    assert!(refused > 1, "the root's write, and its flush");
}
