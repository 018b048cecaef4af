//! A root whose slot was written, although the write failed: others may confirm it and build on it
//! before a flush fails, and the process that repairs that must follow.

use super::{new_store, open_store, settings};
use crate::disk::sim::{Call, Conductor, Killed, Verdict, World};
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::commit::Durability;
use crate::txn::write::WriteOptions;
use crate::{Error, Store};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

pub(super) const LOG_CAP: u64 = 128 << 10;

/// Counts calls of one kind by one process, and lets the n-th, counted from 0, come out otherwise.
#[derive(Default)]
pub(super) struct Script(Mutex<Option<(usize, Call, usize, Verdict)>>);

impl Script {
    pub(super) fn after(&self, process: usize, call: Call, nth: usize, verdict: Verdict) {
        *self.0.lock().unwrap() = Some((process, call, nth, verdict));
    }

    /// How many calls are still to be let pass.
    pub(super) fn left(&self) -> usize {
        self.0.lock().unwrap().take().unwrap().2
    }
}

impl Conductor for Script {
    fn before(&self, process: usize, call: Call) -> Verdict {
        let mut script = self.0.lock().unwrap();
        let Some((who, what, left, verdict)) = &mut *script else { return Verdict::Go };
        if (process, call) != (*who, *what) {
            return Verdict::Go;
        }
        if *left > 0 {
            *left -= 1;
            return Verdict::Go;
        }
        let verdict = *verdict;
        *script = None;
        verdict
    }
}

pub(super) fn put(store: &Store, key: &str) -> crate::Result<()> {
    store.write(|tx| tx.raw("t")?.put(key.as_bytes(), b"value"))
}

/// The process that repairs a failed flush may hear of it once more.
pub(super) fn put_and_repair(store: &Store, key: &str) {
    for _ in 0..3 {
        match put(store, key) {
            Ok(()) => break,
            Err(e) => assert!(matches!(e, Error::Poisoned { .. } | Error::Unconfirmed { .. }), "{e}"),
        }
    }
}

/// A transaction that goes straight to the tree.
pub(super) fn put_much(store: &Store) -> crate::Result<()> {
    store.write(|tx| (0..40).try_for_each(|n: u8| tx.raw("t")?.put(&[n], &[n; 1000])))
}

pub(super) fn keys(store: &Store) -> usize {
    store.read().unwrap().raw("t").unwrap().prefix(b"").unwrap().filter(|row| row.is_ok()).count()
}

/// Two processes; the first has put one row.
pub(super) fn pair() -> (Arc<Script>, Arc<World>, Store, Store) {
    let script = Arc::new(Script::default());
    let (world, _, first) = new_store(Arc::clone(&script) as _, LOG_CAP);
    put(&first, "first").unwrap();
    let second = Store::on_disk(world.disk(1) as _, settings(LOG_CAP)).unwrap();
    assert_eq!(keys(&second), 1);
    (script, world, first, second)
}

/// Which write of that transaction is its root.
fn root_of_much() -> usize {
    let (script, _, first, _) = pair();
    script.after(0, Call::Write, 1000, Verdict::Go);
    put_much(&first).unwrap();
    // The last write but one: the root is written into the other slot, too.
    1000 - script.left() - 2
}

#[test]
fn what_follows_an_unconfirmed_root_is_rewritten_with_it() {
    let root = root_of_much();
    let (script, world, first, second) = pair();
    script.after(0, Call::Write, root, Verdict::Part(40_000, libc::EIO));
    assert!(matches!(put_much(&first), Err(Error::Unconfirmed { .. })));
    // The second process confirms that root, by a flush, and goes on from it: the flush of that fails.
    script.after(1, Call::Flush, 1, Verdict::Fail(libc::EIO));
    assert!(matches!(put(&second, "second"), Err(Error::Unconfirmed { .. })));
    // The first hears of it, too, then repairs both.
    put_and_repair(&first, "third");
    assert_eq!((keys(&first), keys(&second)), (43, 43));
    super::check::structure(&first).unwrap();
    drop((first, second));
    assert_eq!(keys(&open_store(&world, 2, LOG_CAP).1.unwrap()), 43);
}

/// The newest root changes the log's ring, perhaps: a frame must fit it, even one that need not be durable.
#[test]
fn nothing_is_appended_while_a_root_is_in_doubt() {
    let (script, _, first, second) = pair();
    // A log that has grown, so that the next root makes it smaller.
    let plan = CheckpointOptions { room_for: 40 << 10, ..CheckpointOptions::default() };
    first.engine().checkpoint(&plan, None).unwrap();
    assert!(first.engine().slots().unwrap().newest.segments.len() > 1);
    put(&first, "more").unwrap();
    let tx = second.begin_write_with(WriteOptions::new().durability(Durability::Relaxed)).unwrap();
    tx.raw("t").unwrap().put(b"second", b"value").unwrap();
    // The one after the root is written.
    script.after(0, Call::Flush, 3, Verdict::Fail(libc::EIO));
    let plan = CheckpointOptions { shrink: true, ..CheckpointOptions::default() };
    assert!(matches!(first.engine().checkpoint(&plan, None), Err(Error::Poisoned { .. })));
    assert_eq!(second.engine().slots().unwrap().newest.sequence, first.engine().known_root() + 1);
    assert!(matches!(tx.commit(), Err(Error::Poisoned { .. })));
    put_and_repair(&second, "third");
    assert_eq!((keys(&first), keys(&second)), (3, 3));
}

/// The maker of a root with a transaction in it is killed before it can tell. A frame by a process that
/// knows the older root alone would take that transaction's place.
#[test]
fn a_root_that_was_not_published_is_found_before_anything_is_appended() {
    let root = root_of_much();
    let (script, world, first, second) = pair();
    // It knows the table, and has nothing to read.
    put(&second, "second").unwrap();
    script.after(0, Call::Write, root, Verdict::Part(65536, 0));
    assert!(catch_unwind(AssertUnwindSafe(move || put_much(&first))).is_err_and(|died| died.is::<Killed>()));
    put(&second, "third").unwrap();
    assert_eq!(keys(&second), 43);
    super::check::structure(&second).unwrap();
    drop(second);
    assert_eq!(keys(&open_store(&world, 2, LOG_CAP).1.unwrap()), 43);
}
