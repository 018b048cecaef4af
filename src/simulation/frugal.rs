//! What a lone commit costs: one flush, its frame, and a note in the file; also if its process opens and leaves for it
//! alone. What the note says is believed by those who come later, so it must be true.

use super::exclusion::{count, count_one};
use super::sharing::{READER, open_as};
use super::{new_store, open_store};
use crate::Store;
use crate::disk::durable_note::DurableNote;
use crate::disk::sim::{Access, Call, Conductor, Free, Verdict, World};
use crate::engine::commit::Durability;
use std::sync::{Arc, Mutex};

const LOG_CAP: u64 = 1 << 20;

/// Counts the calls of all processes.
#[derive(Default)]
struct Counted(Mutex<(usize, usize)>);

impl Conductor for Counted {
    fn before(&self, _: usize, call: Call) -> Verdict {
        let (writes, flushes) = &mut *self.0.lock().unwrap();
        match call {
            Call::Write => *writes += 1,
            Call::Flush => *flushes += 1,
            _ => {}
        }
        Verdict::Go
    }
}

impl Counted {
    fn take(&self) -> (usize, usize) {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn note_of(world: &Arc<World>, store: &Store) -> Option<DurableNote> {
    DurableNote::read(&*world.disk(9), 4096, store.engine().store_tag).unwrap()
}

#[test]
fn a_process_that_opens_commits_and_leaves_flushes_once() {
    let counted = Arc::new(Counted::default());
    let (world, _disk, store) = new_store(Arc::clone(&counted) as _, LOG_CAP);
    count_one(&store).unwrap();
    store.close().unwrap();
    for process in 1..6 {
        counted.take();
        let store = open_store(&world, process, LOG_CAP).1.unwrap();
        assert_eq!(counted.take().1, 0, "opening flushes nothing");
        count_one(&store).unwrap();
        assert_eq!(counted.take(), (1, 1), "a frame and its flush");
        store.close().unwrap();
        assert_eq!(counted.take(), (1, 0), "the note");
    }
    let store = open_store(&world, 7, LOG_CAP).1.unwrap();
    assert_eq!(count(&store).unwrap(), 6);
}

#[test]
fn a_note_says_only_what_is_durable() {
    let (world, _disk, store) = new_store(Arc::new(Free), LOG_CAP);
    let engine = store.engine();
    let note = || engine.note_durable(&engine.lock_checkpoint(None).unwrap()).unwrap();
    let relaxed = crate::WriteOptions::new().durability(Durability::Relaxed);
    store.write_with(relaxed, |tx| tx.raw("t")?.put(b"count", &[1])).unwrap();
    note();
    assert_eq!(note_of(&world, &store), None, "it is not flushed");
    store.flush().unwrap();
    note();
    assert_eq!(note_of(&world, &store).map(|note| note.lsn), store.last_commit().ok());
    engine.poison(&engine.sidecar());
    let noted = note_of(&world, &store);
    note();
    assert_eq!(note_of(&world, &store), noted);
    // The next write repairs that. A root that is begun erases the note first.
    count_one(&store).unwrap();
    note();
    assert_ne!(note_of(&world, &store), noted);
    store.checkpoint().unwrap();
    assert_eq!(note_of(&world, &store), None);
    note();
    assert_eq!(note_of(&world, &store).map(|note| note.root), Some(engine.known_root()));
}

/// No frame follows the last one, which could say that it is durable; and no checkpoint comes soon.
#[test]
fn a_reader_that_is_told_nothing_sees_the_last_commit_of_an_idle_store() {
    let (world, _disk, store) = new_store(Arc::new(Free), LOG_CAP);
    count_one(&store).unwrap();
    count_one(&store).unwrap();
    let reader = open_as(&world, 2, Access { cannot_open: true, ..READER }).1.unwrap();
    assert_eq!(count(&reader).unwrap(), 1, "the second frame says that the first one is durable");
    store.engine().note_durable(&store.engine().lock_checkpoint(None).unwrap()).unwrap();
    assert_eq!(count(&reader).unwrap(), 2);
}
