//! Frames that share a block of the log: only until a flush may have covered it. A torn write of the later one could
//! take the earlier one, which was shown, or acknowledged, by then.

use super::exclusion::{count, count_one};
use super::pause::Stage;
use super::sharing::{NOWHERE, count_relaxed, open_as};
use super::{new_store, open_store, settings};
use crate::disk::locks::APPEND;
use crate::disk::platform::{Disk, LockMode};
use crate::disk::sidecar::TailHint;
use crate::disk::sim::{Call, Free};
use crate::engine::Settings;
use crate::{Error, LockKind, Store};
use std::sync::Arc;
use std::time::Duration;

const LOG_CAP: u64 = 64 << 10;

fn tail(store: &Store) -> TailHint {
    store.engine().known_sidecar().tail().unwrap()
}

fn starts_a_block(store: &Store, before: TailHint) {
    let after = tail(store);
    assert_eq!((after.lsn, after.start), (before.lsn + 1, before.end.next_multiple_of(4096)));
}

/// A process without hints that cannot have APPEND: it flushes, and does not seal.
#[test]
fn what_was_flushed_unsealed_is_left_alone_and_not_called_durable() {
    let (world, _disk, store) = new_store(Arc::new(Free), LOG_CAP);
    let reader = open_store(&world, 1, LOG_CAP).1.unwrap();
    count_relaxed(&store);
    let before = tail(&store);
    count_relaxed(&store);
    assert_eq!(tail(&store).start, before.end, "they share a block, so there is something to look at");
    let before = tail(&store);
    let impatient = Settings { timeout: Duration::ZERO, ..settings(LOG_CAP) };
    let hasty = Store::on_disk(world.disk(2) as _, impatient).unwrap();
    let still = world.disk(3);
    assert!(still.try_lock(APPEND, LockMode::Exclusive).unwrap());
    store.engine().known_sidecar().spoil_visible();
    assert_eq!(count(&reader).unwrap(), 2);
    // For that, the batch must be sealed.
    assert!(matches!(hasty.flush(), Err(Error::Busy { lock: LockKind::Append, .. })));
    still.unlock(APPEND).unwrap();
    count_relaxed(&store);
    starts_a_block(&store, before);
}

/// A flush stands still: it may have covered the last block already, and be told of later.
#[test]
fn what_is_being_flushed_shares_no_block() {
    let stage = Arc::new(Stage::default());
    let (world, _disk, first) = new_store(Arc::clone(&stage) as _, LOG_CAP);
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    let counts = first.clone();
    let still = stage.until((0, Call::Flush, 0), move || count_one(&counts).unwrap());
    let before = tail(&second);
    count_relaxed(&second);
    starts_a_block(&second, before);
    still.go_on();
    assert_eq!(count(&first).unwrap(), 2);
}

/// Another process seals and flushes, and has no way to say so.
#[test]
fn what_was_written_without_a_sidecar_shares_no_block() {
    let world = super::sharing::world();
    let alone = open_as(&world, 0, NOWHERE).1.unwrap();
    count_relaxed(&alone);
    let before = tail(&alone);
    let other = open_store(&world, 1, LOG_CAP).1.unwrap();
    other.flush().unwrap();
    other.close().unwrap();
    count_relaxed(&alone);
    starts_a_block(&alone, before);
}

/// An older copy of the sidecar, put back in place, tells of a batch that is still open. A commit behind it was
/// flushed since.
#[test]
fn frames_behind_the_published_tail_share_no_block() {
    let (world, _disk, first) = new_store(Arc::new(Free), LOG_CAP);
    let second = open_store(&world, 1, LOG_CAP).1.unwrap();
    count_relaxed(&first);
    assert!(tail(&first).open);
    world.copy_sidecar();
    count_one(&first).unwrap();
    let before = tail(&first);
    world.restore_sidecar(true);
    count_relaxed(&second);
    starts_a_block(&second, before);
    assert_eq!(count(&first).unwrap(), 3);
}
