//! Sidecars that were left: another one was started, and a process still has the old one. What it says is true,
//! and too little.

use super::exclusion::{count, count_one};
use super::pause::Stage;
use super::sharing::{READER, open_as};
use super::{new_store, open_store};
use crate::Store;
use crate::disk::locks::APPEND;
use crate::disk::platform::{Disk, LockMode};
use crate::disk::sim::Call;
use crate::engine::Settings;
use std::sync::Arc;
use std::time::Duration;

const LOG_CAP: u64 = 64 << 10;

/// A writer dies while it flushes a commit: the sidecar says where the log ends, and not that the commit is durable.
/// The next one starts another sidecar, and tells there of what it recovered.
#[test]
fn a_reader_leaves_the_sidecar_of_the_dead_with_the_next_writer() {
    for copied in [false, true] {
        let stage = Arc::new(Stage::default());
        let (world, disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
        count_one(&first).unwrap();
        let early = open_as(&world, 5, READER).1.unwrap();
        assert_eq!(count(&early).unwrap(), 1);
        world.copy_sidecar();
        stage.until((0, Call::Flush, 0), move || drop(count_one(&first))).die(&disk);
        if copied {
            world.restore_sidecar(false)
        } else {
            world.remove_sidecar()
        }
        let next = open_store(&world, 1, LOG_CAP).1.unwrap();
        assert_eq!([&next, &early].map(|store| count(store).unwrap()), [2, 2], "{copied}");
    }
}

/// A writer that has started another sidecar is stopped before that one says anything. A third process flushes what
/// it finds, and shows it.
#[test]
fn what_is_shown_beside_a_silent_sidecar_is_seen_by_those_who_have_the_one_before() {
    let mut shown = 0;
    for nth in 0..40 {
        let stage = Arc::new(Stage::default());
        let (world, _disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
        let early = open_store(&world, 2, LOG_CAP).1.unwrap();
        let other = open_store(&world, 3, LOG_CAP).1.unwrap();
        assert_eq!(count(&early).unwrap(), 0);
        // Its commit is in the log, the tail is told, nobody has flushed it.
        let commits = stage.until((0, Call::Flush, 0), move || count_one(&first).map(|_| first).unwrap());
        world.remove_sidecar();
        let starts = stage.up_to((3, Call::Memory, nth), move || drop(other.engine().lock_append(None).unwrap()));
        let Some(starts) = starts else { break };
        let settings = Settings { timeout: Duration::ZERO, ..super::settings(LOG_CAP) };
        // (While the other sidecar is being started, nobody can join it.)
        if let Ok(late) = Store::on_disk(world.disk(4) as _, settings) {
            let seen = count(&late).unwrap();
            assert!(count(&early).unwrap() >= seen, "a snapshot went back, before call {nth}");
            shown += seen;
        }
        starts.go_on();
        commits.go_on();
    }
    assert!(shown > 0, "nothing was shown before it was told");
}

/// A maker of a root dies with the pages of the next one half written, and its sidecar is lost. Another process is there,
/// so the one that comes is not the first, and nobody tells it which of the two roots may be read.
#[test]
fn no_root_is_read_whose_successor_was_told_elsewhere() {
    const ROWS: u8 = 100;
    let fill = |store: &Store, round: u8| {
        store.write(|tx| (0..ROWS).try_for_each(|key| tx.raw("t")?.put(&[key], &[round; 100]))).unwrap();
    };
    for nth in 0..3 {
        let stage = Arc::new(Stage::default());
        let (world, disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
        let _bystander = open_store(&world, 2, LOG_CAP).1.unwrap();
        for round in 0..3 {
            fill(&first, round);
            first.checkpoint().unwrap();
        }
        fill(&first, 3);
        stage.until((0, Call::Flush, nth), move || drop(first.checkpoint())).die(&disk);
        world.remove_sidecar();
        let newcomer = open_store(&world, 1, LOG_CAP).1.unwrap();
        let snapshot = newcomer.read().unwrap();
        let table = snapshot.raw("t").unwrap();
        for key in 0..ROWS {
            let value = table.get(&[key]).unwrap().map(|value| value.to_vec());
            assert_eq!(value, Some(vec![3; 100]), "flush {nth}");
        }
    }
}

/// A reader finds while it pins a root that its sidecar was left, and starts another one itself. The holder of APPEND is
/// stopped: it is not about to publish there what others have shown before.
#[test]
fn a_silent_sidecar_is_not_used_for_the_words_of_the_one_before() {
    let (world, _disk, first) = new_store(Arc::new(Stage::default()), LOG_CAP);
    count_one(&first).unwrap();
    let early = open_store(&world, 1, LOG_CAP).1.unwrap();
    world.remove_sidecar();
    count_one(&first).unwrap();
    first.checkpoint().unwrap();
    count_one(&first).unwrap();
    world.remove_sidecar();
    let still = world.disk(3);
    assert!(still.try_lock(APPEND, LockMode::Exclusive).unwrap());
    assert_eq!(count(&early).unwrap(), 3);
}
