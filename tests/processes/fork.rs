//! A forked child must not use its parent's handles, and keeps none of its parent's locks alive.

use crate::common::{Child, Role, TestStore, skip, tell};
use crate::counter::{counter, increment};
use memstone::{Error, Store, Table};
use std::process::Command;
use std::time::Duration;

pub const ROLES: &[Role] = &[
    ("forks", forks),
    ("forks_amid", forks_amid),
    ("forks_away", forks_away),
    ("holder_forks", holder_forks),
    ("pid_one", pid_one),
];

const NUMBERS: Table<&str, u64> = Table::new("numbers");

/// Runs `body` in a forked child, and gives its pid.
fn in_child(body: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `body` and leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_ok();
            // SAFETY: ends this process.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        pid => {
            assert!(pid > 0);
            pid
        }
    }
}

fn wait(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the forked child failed");
}

fn is_forked<T>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Forked { .. })), "{:?}", result.err());
}

/// Everything that reads or writes through what came from a store before the fork.
fn forks_amid(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    store.write(|tx| (0..9_u8).try_for_each(|n| tx.raw("t")?.put(&[n], b"1"))).unwrap();
    let snap = store.read().unwrap();
    let (table, absent, typed) = (snap.raw("t").unwrap(), snap.raw("absent").unwrap(), snap.table(NUMBERS).unwrap());
    let mut range = table.range(..).unwrap();
    let mut keys = typed.keys().unwrap();
    assert!(range.next().is_some() && range.next_back().is_some());
    let tx = store.begin_write().unwrap();
    let (written, read) = (tx.raw("t").unwrap(), tx.read_raw("absent").unwrap());
    written.put(b"k", b"v").unwrap();
    let savepoint = tx.savepoint();
    let mut rows = written.range(..).unwrap();
    assert!(rows.next().is_some());
    let child = in_child(|| {
        is_forked(table.get(&[1]));
        is_forked(table.contains(&[1]));
        is_forked(table.len());
        is_forked(table.is_empty());
        is_forked(table.first());
        is_forked(table.prefix(&[1]).unwrap().next().unwrap());
        is_forked(absent.get(&[1]));
        is_forked(typed.get("x"));
        is_forked(range.next().unwrap());
        is_forked(keys.next_back().unwrap());
        is_forked(snap.raw("t"));
        is_forked(snap.raw("t, not looked up before"));
        is_forked(snap.table(NUMBERS));
        is_forked(snap.tables());
        is_forked(snap.clone().tables());
        is_forked(written.get(b"k"));
        is_forked(written.put(b"k", b"v"));
        is_forked(written.delete(b"k"));
        is_forked(written.clear());
        is_forked(read.get(b"k"));
        is_forked(rows.next().unwrap());
        is_forked(tx.raw("t"));
        is_forked(tx.read_raw("t"));
        is_forked(tx.table(NUMBERS));
        is_forked(tx.tables());
        is_forked(tx.drop_table("t"));
        is_forked(tx.clear_table("t"));
        is_forked(tx.rename_table("t", "u"));
        is_forked(tx.rollback_to(&savepoint));
    });
    wait(child);
    drop(rows);
    wait(in_child(|| is_forked(tx.commit())));
}

#[test]
fn a_forked_child_reads_nothing_by_its_parents_handles() {
    let test = TestStore::new();
    Child::start("forks_amid", &[&test.path.display()]).finish();
}

fn forks(words: &[String]) {
    let path = &words[0];
    let store = Store::open(path).unwrap();
    store.write(|tx| tx.raw("t")?.put(b"a", b"1")).unwrap();
    let snap = store.read().unwrap();
    let mine = store.clone();
    let child = in_child(|| {
        let forked = |error: Error| assert!(matches!(error, Error::Forked { .. }), "{error:?}");
        forked(mine.read().err().unwrap());
        forked(mine.begin_write().err().unwrap());
        forked(mine.try_write(|_| Ok::<_, Error>(())).unwrap_err());
        forked(mine.checkpoint().unwrap_err());
        forked(mine.flush().unwrap_err());
        forked(mine.wait_for_change(0, Duration::ZERO).unwrap_err());
        forked(mine.stats().err().unwrap());
        forked(mine.locks().err().unwrap());
        drop(snap);
        drop(mine);
        // Opened once more it is a store like that of any other process.
        let own = Store::open(path).unwrap();
        own.write(|tx| tx.raw("t")?.put(b"b", b"2")).unwrap();
        assert_eq!(own.read().unwrap().raw("t").unwrap().len().unwrap(), 2);
        own.close().unwrap();
    });
    wait(child);
    store.write(|tx| tx.raw("t")?.put(b"c", b"3")).unwrap();
    assert_eq!(store.read().unwrap().raw("t").unwrap().len().unwrap(), 3);
}

#[test]
fn a_forked_child_is_told_to_open_anew() {
    let test = TestStore::new();
    Child::start("forks", &[&test.path.display()]).finish();
    assert_eq!(test.open().read().unwrap().raw("t").unwrap().len().unwrap(), 3);
}

/// Its child drops all there is of the parent's store, which has a thread at work.
fn forks_away(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    store.write(|tx| tx.raw("t")?.put(b"a", b"1")).unwrap();
    let (snap, tx) = (store.read().unwrap(), store.begin_write().unwrap());
    wait(in_child(move || drop((tx, snap, store))));
}

#[test]
fn a_forked_child_may_drop_the_last_handle() {
    let test = TestStore::new();
    Child::start("forks_away", &[&test.path.display()]).finish();
}

fn until_end_of_input() {
    let mut byte = 0_u8;
    // SAFETY: `byte` outlives the call.
    while unsafe { libc::read(0, (&raw mut byte).cast(), 1) } > 0 {}
}

/// Dies while it holds the writer lock and a snapshot, and leaves a child behind.
fn holder_forks(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let snap = store.read().unwrap();
    let tx = store.begin_write().unwrap();
    tx.raw("t").unwrap().put(b"never", b"").unwrap();
    // Both live until the test lets go of their input.
    let child = in_child(until_end_of_input);
    tell(child);
    until_end_of_input();
    drop((tx, snap));
}

#[test]
fn a_dead_parents_locks_are_not_kept_alive_by_its_child() {
    let test = TestStore::new();
    let store = test.open();
    let mut holder = Child::start("holder_forks", &[&test.path.display()]);
    let orphan: i32 = holder.hear().parse().unwrap();
    assert!(matches!(store.try_write(|_| Ok::<_, Error>(())), Err(Error::Busy { .. })));
    holder.kill();
    // Otherwise refused after its deadline: the orphan lives on.
    store.write(|tx| tx.raw("t")?.put(b"a", b"")).unwrap();
    let pins = store.stats().unwrap().pins;
    assert!(pins.iter().cloned().flatten().count() <= 2, "{pins:?}");
    // SAFETY: the orphan was started by this test's child, and lives as long as its input.
    assert_eq!(unsafe { libc::kill(orphan, libc::SIGKILL) }, 0, "the orphan was to be alive all the time");
}

/// Counts up, as process 1 of a pid namespace.
fn pid_one(words: &[String]) {
    assert_eq!(std::process::id(), 1);
    increment(&[words[0].clone(), "60".to_owned()]);
}

#[test]
fn two_processes_that_are_both_number_one_do_not_matter() {
    let test = TestStore::new();
    let works = Command::new("unshare").args(["--pid", "--fork", "true"]).status().is_ok_and(|status| status.success());
    if !works {
        return skip("the right to make a pid namespace");
    }
    let children: Vec<_> = (0..3)
        .map(|_| {
            let mut command = Command::new("unshare");
            command.args(["--pid", "--fork"]).arg(std::env::current_exe().unwrap());
            Child::start_by(command, "pid_one", &[&test.path.display()])
        })
        .collect();
    children.into_iter().for_each(|child| drop(child.finish()));
    assert_eq!(counter(&test.open()), 180);
}
