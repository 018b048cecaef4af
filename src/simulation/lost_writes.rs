//! Frames, and roots, that were written and are gone: a flush failed, and the system shows older bytes again.

use super::unsynced_root::{keys, pair, put, put_and_repair};
use super::{new_store, open_store};
use crate::Error;
use crate::disk::sim::{Call, Event, Free, Verdict, World};
use crate::engine::commit::Durability;
use crate::txn::write::WriteOptions;
use std::sync::Arc;

#[test]
fn frames_that_are_gone_are_passed_over_by_all() {
    let (script, world, first, second) = pair();
    world.drop_unwritten(None);
    let engine = second.engine();
    let before = engine.failures(&engine.known_sidecar());
    script.after(1, Call::Flush, 0, Verdict::Fail(libc::EIO));
    let lost = put(&second, "lost");
    assert!(matches!(lost, Err(Error::Unconfirmed { .. })), "{lost:?}");
    let given = engine.sidecar().tail().unwrap().lsn;
    world.drop_now();
    // One that came after it, and heard of nothing.
    let (_, third) = open_store(&world, 2, super::unsynced_root::LOG_CAP);
    let third = third.unwrap();
    put_and_repair(&third, "next");
    assert!(third.engine().sidecar().tail().unwrap().lsn > given + 1);
    for store in [&first, &second, &third] {
        assert_eq!(keys(store), 2);
        assert!(store.read().unwrap().raw("t").unwrap().get(b"lost").unwrap().is_none());
    }
    // Each hears of the failure once, by its own description.
    for store in [&first, &second, &third] {
        put_and_repair(store, "again");
    }
    assert_eq!((keys(&first), keys(&second), keys(&third)), (3, 3, 3));
    // A thread that slept all the while must not take the root that passes over its commit for an answer.
    let answer = engine.wait_durable_since(given, &before);
    assert!(matches!(answer, Err(Error::Poisoned { .. })), "{answer:?}");
}

#[test]
fn the_process_of_a_relaxed_commit_hears_that_it_may_be_lost() {
    for dropped in [false, true] {
        let (script, world, first, second) = pair();
        world.drop_unwritten(None);
        let relaxed = WriteOptions::new().durability(Durability::Relaxed);
        first.write_with(relaxed, |tx| tx.raw("t")?.put(b"kept", b"v")).unwrap();
        first.flush().unwrap();
        second.write_with(relaxed, |tx| tx.raw("t")?.put(b"lost", b"v")).unwrap();
        script.after(1, Call::Flush, 0, Verdict::Fail(libc::EIO));
        assert!(matches!(second.flush(), Err(Error::Poisoned { .. })));
        if dropped {
            world.drop_now();
        }
        put_and_repair(&first, "next");
        let heard = second.flush();
        assert!(matches!(heard, Err(Error::Unconfirmed { .. })), "{heard:?}");
        assert_eq!(second.read().unwrap().raw("t").unwrap().get(b"lost").unwrap().is_none(), dropped);
        // Once; and the other process has lost nothing.
        put_and_repair(&second, "again");
        second.flush().unwrap();
        first.flush().unwrap();
    }
}

#[test]
fn a_failure_that_is_told_through_another_sidecar_is_heard_of() {
    let (script, world, first, second) = pair();
    world.drop_unwritten(None);
    let engine = first.engine();
    put(&first, "waits").unwrap();
    let before = engine.failures(&engine.known_sidecar());
    world.remove_sidecar();
    put(&second, "kept").unwrap();
    assert!(engine.rejoin_sidecar(false).is_ok() && !engine.has_failed_since(&before));
    script.after(1, Call::Flush, 0, Verdict::Fail(libc::EIO));
    assert!(put(&second, "lost").is_err());
    world.drop_now();
    put_and_repair(&second, "next");
    assert!(engine.has_failed_since(&before));
}

#[test]
fn frames_that_are_told_and_gone_are_passed_over_without_a_word_of_the_failure() {
    let (script, world, first, second) = pair();
    world.drop_unwritten(None);
    script.after(1, Call::Flush, 0, Verdict::Fail(libc::EIO));
    assert!(put(&second, "lost").is_err());
    let sidecar = second.engine().sidecar();
    let given = sidecar.tail().unwrap().lsn;
    // As if its process had been killed before it told of the failure. The first has not read the frame.
    assert!(sidecar.publish_repaired(sidecar.failures()));
    world.drop_now();
    let (_, third) = open_store(&world, 2, super::unsynced_root::LOG_CAP);
    let third = third.unwrap();
    put_and_repair(&third, "next");
    assert!(third.engine().sidecar().tail().unwrap().lsn > given + 1);
    assert_eq!((keys(&first), keys(&third)), (2, 2));
}

/// With the sidecar what it told of the log's end is lost, and that a flush has failed.
#[test]
fn no_lsn_is_given_twice_when_the_sidecar_is_lost_with_the_frame() {
    for repairs in 0..2 {
        let (script, world, first, second) = pair();
        world.drop_unwritten(None);
        script.after(1, Call::Flush, 0, Verdict::Fail(libc::EIO));
        assert!(put(&second, "lost").is_err());
        let given = second.engine().sidecar().tail().unwrap().lsn;
        world.drop_now();
        world.remove_sidecar();
        // The process whose flush has failed, or one that only knows it from the sidecar.
        let next = [&second, &first][repairs];
        next.engine().rejoin_sidecar(true).unwrap();
        put_and_repair(next, "next");
        assert!(next.engine().sidecar().tail().unwrap().lsn > given + 1, "process {}", 1 - repairs);
        assert_eq!((keys(&first), keys(&second)), (2, 2));
    }
}

/// The process that starts the next sidecar has not heard of the failure itself.
#[test]
fn a_failure_that_only_the_lost_sidecar_told_of_is_repaired() {
    let (script, world, first, second) = pair();
    world.drop_unwritten(None);
    script.after(1, Call::Flush, 0, Verdict::Fail(libc::EIO));
    assert!(put(&second, "lost").is_err());
    world.remove_sidecar();
    first.engine().rejoin_sidecar(true).unwrap();
    put_and_repair(&first, "next");
    // The system lets go only now of what it could not write.
    world.drop_now();
    let (_, third) = open_store(&world, 2, super::unsynced_root::LOG_CAP);
    assert!(third.unwrap().read().unwrap().raw("t").unwrap().get(b"next").unwrap().is_some());
}

#[test]
fn a_root_that_is_gone_is_overwritten_before_its_pages_are() {
    let (script, world, first, second) = pair();
    world.record();
    world.drop_unwritten(None);
    put(&second, "more").unwrap();
    // The log, the pages, then the root.
    script.after(1, Call::Flush, 2, Verdict::Fail(libc::EIO));
    let checkpoint = second.checkpoint();
    assert!(checkpoint.is_ok() || script.left() == 0, "{checkpoint:?}");
    world.drop_now();
    put_and_repair(&first, "next");
    first.checkpoint().unwrap();
    let (_, events) = world.history();
    let failed = events.iter().rposition(|event| matches!(event, Event::FlushFailed)).expect("no flush has failed");
    let after = events[failed..].iter().take_while(|event| !matches!(event, Event::Flush));
    let written: Vec<usize> =
        after.filter_map(|event| if let Event::Write { first, .. } = event { Some(*first) } else { None }).collect();
    assert!(written.contains(&0) && written.contains(&1), "{written:?}");
    assert_eq!(keys(&second), 3);
}

#[test]
fn a_log_that_goes_on_beyond_the_older_root_s_ring_is_found_to_its_end() {
    for rows in 0..24 {
        let (world, _disk, store) = new_store(Arc::new(Free), 64 << 10);
        let fill = |from: usize, to: usize| {
            (from..to).for_each(|n| store.write(|tx| tx.raw("t")?.put(&[n as u8], &[7; 2500])).unwrap());
        };
        fill(0, rows);
        store.checkpoint().unwrap();
        fill(rows, 24);
        // Nothing tells of the newer root any more.
        world.remove_sidecar();
        let (_, other) = open_store(&world, 1, 64 << 10);
        let other = other.unwrap();
        put(&other, "one more").unwrap();
        let (_, found) = open_store(&World::new(world.image(), Arc::new(Free)), 2, 64 << 10);
        for store in [&found.unwrap(), &store, &other] {
            assert_eq!(keys(store), 25, "after {rows} rows");
        }
    }
}
