//! Hints that are wrong although their seal is right, and hints that are gone.

use super::model::{Model, commit, numbered};
use super::oracle::Oracle;
use super::{new_store, open_store};
use crate::disk::sidecar::TailHint;
use crate::disk::sim::{Call, Conductor, Event, Free, Rng, Verdict, World};
use crate::engine::Settings;
use crate::engine::commit::Durability;
use crate::{Error, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const LOG_CAP: u64 = 64 << 10;

#[test]
fn a_tail_that_is_not_in_the_file_is_passed_over() {
    for open in [false, true] {
        let (world, _disk, store) = new_store(Arc::new(Free), LOG_CAP);
        let (_, other) = open_store(&world, 1, LOG_CAP);
        let (other, mut state) = (other.unwrap(), Model::default());
        let mut write = |store: &crate::Store, n: usize| {
            let changes = numbered(Vec::new(), n);
            let done = commit(store, &changes, Durability::Sync);
            // What is told and not there counts as lost in a failed flush: no LSN up to it is given again.
            if let Err(e) = done {
                assert!(matches!(e, crate::Error::Poisoned { .. }), "{e}");
                commit(store, &changes, Durability::Sync).unwrap();
            }
            state.apply(&changes);
            state.clone()
        };
        write(&store, 1);
        let mut told = store.engine().sidecar().tail().unwrap();
        // Of a frame that never was, at the log's end and beyond it.
        for beyond in [0, 4096] {
            let start = told.end.next_multiple_of(4096) + beyond;
            let lie = TailHint { end: start + 128, start, lsn: told.lsn + 9, crc: 77, open };
            store.engine().sidecar().set_tail(lie);
            write(&other, 2);
            told = store.engine().sidecar().tail().unwrap();
            assert!(told.lsn > lie.lsn);
        }
        let state = write(&store, 3);
        state.compare(&other.read().unwrap()).unwrap();
        let (_, found) = open_store(&World::new(world.image(), Arc::new(Free)), 2, LOG_CAP);
        state.compare(&found.unwrap().read().unwrap()).unwrap();
    }
}

/// Time flies: each process looks at once whether the sidecar is still there.
#[derive(Default)]
struct Hurry(AtomicU64);

impl Conductor for Hurry {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1000, Ordering::SeqCst)
    }
}

#[test]
fn a_flush_is_told_only_of_what_was_sealed() {
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let world = World::new(empty.image(), Arc::new(Hurry::default()));
    world.record();
    let oracle = Oracle::new(&world);
    let settings = Settings { timeout: Duration::from_millis(1), ..super::settings(LOG_CAP) };
    let store = Store::on_disk(world.disk(0) as _, settings).unwrap();
    let other = open_store(&world, 1, LOG_CAP).1.unwrap();
    let write = |durability, forgiven: fn(&Error) -> bool| oracle.write(&store, Vec::new(), durability, forgiven);
    write(Durability::Sync, |_| false).unwrap();
    world.remove_sidecar();
    // This commit is there, and not durable. Its frame's block is open: the next frame goes into it, too.
    write(Durability::Relaxed, |_| false).unwrap();
    world.remove_sidecar();
    // This reader is told nothing, and flushes what it finds. Asked for durability it must do more.
    oracle.look(&other.read().unwrap(), 2).unwrap();
    other.flush().unwrap();
    oracle.note_flushed(2);
    let flushed = world.history().1.len();
    write(Durability::Relaxed, |_| false).unwrap();
    for seed in 0..60 {
        oracle.power_losses(&mut Rng(seed), LOG_CAP, |_, event| event >= flushed).unwrap();
    }
}

/// There is no sidecar, and none can be made.
struct Bare;

impl Conductor for Bare {
    fn before(&self, _: usize, call: Call) -> Verdict {
        if call == Call::Sidecar { Verdict::Fail(libc::EACCES) } else { Verdict::Go }
    }
}

/// A process seals and flushes what another wrote, and cannot tell it: the next frame starts a block of its own.
#[test]
fn after_a_sidecar_was_lost_no_frame_shares_a_block() {
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let world = World::new(empty.image(), Arc::new(Free));
    world.record();
    let oracle = Oracle::new(&world);
    let store = open_store(&world, 0, LOG_CAP).1.unwrap();
    oracle.write(&store, Vec::new(), Durability::Relaxed, |_| false).unwrap();
    world.remove_sidecar();
    // It starts another sidecar.
    let other = open_store(&world, 1, LOG_CAP).1.unwrap();
    oracle.look(&other.read().unwrap(), 1).unwrap();
    other.flush().unwrap();
    oracle.note_flushed(1);
    oracle.write(&store, Vec::new(), Durability::Relaxed, |_| false).unwrap();
    for seed in 0..20 {
        oracle.power_losses(&mut Rng(seed), LOG_CAP, |_, _| true).unwrap();
    }
}

#[test]
fn two_processes_do_not_share_a_store_without_a_sidecar() {
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let world = World::new(empty.image(), Arc::new(Bare));
    world.record();
    let oracle = Oracle::new(&world);
    let store = open_store(&world, 0, LOG_CAP).1.unwrap();
    for durability in [Durability::Relaxed, Durability::Sync, Durability::Relaxed] {
        oracle.write(&store, Vec::new(), durability, |_| false).unwrap();
    }
    // A second one would build on what it does not see.
    assert!(matches!(open_store(&world, 1, LOG_CAP).1, Err(Error::NotShared { .. })));
    oracle.look(&store.read().unwrap(), 3).unwrap();
    for seed in 0..20 {
        oracle.power_losses(&mut Rng(seed), LOG_CAP, |_, _| true).unwrap();
    }
    store.close().unwrap();
    open_store(&world, 1, LOG_CAP).1.unwrap();
}

/// A system may report a failed flush to one process alone. The others must take its word for it.
#[test]
fn a_failed_flush_that_the_sidecar_tells_of_is_mended() {
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let world = World::new(empty.image(), Arc::new(Free));
    world.record();
    let oracle = Oracle::new(&world);
    let (store, other) = (open_store(&world, 0, LOG_CAP).1.unwrap(), open_store(&world, 1, LOG_CAP).1.unwrap());
    // A flush of its own has proved all there is, and proves what comes.
    oracle.write(&other, Vec::new(), Durability::Sync, |_| false).unwrap();
    oracle.write(&store, Vec::new(), Durability::Relaxed, |_| false).unwrap();
    // The flush that fails has sealed its batch: what comes next does not write this block again.
    let sealed = store.engine().lock_append(None).unwrap().seal();
    world.remark(Event::FlushFailed);
    store.engine().poison(&sealed.sidecar);
    oracle.write(&other, Vec::new(), Durability::Sync, |_| false).unwrap();
    oracle.power_losses(&mut Rng(1), LOG_CAP, |_, _| true).unwrap();
}
