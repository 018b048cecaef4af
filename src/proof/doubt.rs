//! A root whose slot was written, although the write failed: others may confirm it and build on it
//! before a flush fails, and whoever mends that must follow.

use super::{new_store, open_store, settings};
use crate::disk::sim::{Call, Conductor, Verdict, World};
use crate::{Error, Store};
use std::sync::{Arc, Mutex};

const LOG_CAP: u64 = 64 << 10;

/// Counts calls of one kind by one process, and lets the n-th, counted from 0, come out otherwise.
#[derive(Default)]
struct Script(Mutex<Option<(usize, Call, usize, Verdict)>>);

impl Script {
    fn after(&self, process: usize, call: Call, nth: usize, verdict: Verdict) {
        *self.0.lock().unwrap() = Some((process, call, nth, verdict));
    }

    /// How many calls are still to be let pass.
    fn left(&self) -> usize {
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

fn put(store: &Store, key: &str) -> crate::Result<()> {
    store.write(|tx| tx.raw("t")?.put(key.as_bytes(), b"value"))
}

/// A transaction that goes straight to the tree.
fn put_much(store: &Store) -> crate::Result<()> {
    store.write(|tx| (0..40).try_for_each(|n: u8| tx.raw("t")?.put(&[n], &[n; 1000])))
}

fn keys(store: &Store) -> usize {
    store.read().unwrap().raw("t").unwrap().prefix(b"").unwrap().filter(|row| row.is_ok()).count()
}

/// Two processes; the first has put one row.
fn pair() -> (Arc<Script>, Arc<World>, Store, Store) {
    let script = Arc::new(Script::default());
    let (world, _, first) = new_store(Arc::clone(&script) as _, LOG_CAP);
    put(&first, "first").unwrap();
    let second = Store::on_disk(world.disk(1) as _, settings(LOG_CAP)).unwrap();
    assert_eq!(keys(&second), 1);
    (script, world, first, second)
}

#[test]
fn what_follows_a_doubtful_root_is_mended_with_it() {
    let (script, _, first, _) = pair();
    script.after(0, Call::Write, 1000, Verdict::Go);
    put_much(&first).unwrap();
    // The last write but one: the witness follows the root.
    let root = 1000 - script.left() - 2;

    let (script, world, first, second) = pair();
    script.after(0, Call::Write, root, Verdict::Part(40_000, libc::EIO));
    assert!(matches!(put_much(&first), Err(Error::Unconfirmed { .. })));
    // The second process confirms that root, by a flush, and goes on from it: the flush of that fails.
    script.after(1, Call::Flush, 1, Verdict::Fail(libc::EIO));
    assert!(matches!(put(&second, "second"), Err(Error::Unconfirmed { .. })));
    // The first hears of it, too, then mends both.
    for _ in 0..3 {
        match put(&first, "third") {
            Ok(()) => break,
            Err(e) => assert!(matches!(e, Error::Poisoned { .. } | Error::Unconfirmed { .. }), "{e}"),
        }
    }
    assert_eq!((keys(&first), keys(&second)), (43, 43));
    super::check::structure(&first).unwrap();
    drop((first, second));
    assert_eq!(keys(&open_store(&world, 2, LOG_CAP).1.unwrap()), 43);
}
