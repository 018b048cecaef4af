//! A forked child must not use its parent's handles, and keeps none of its parent's locks alive.

use crate::common::{Child, Role, TestStore, tell};
use crate::counter::{counter, increment};
use memstone::{Error, Store};
use std::process::Command;
use std::time::{Duration, Instant};

pub const ROLES: &[Role] =
    &[("forks", forks), ("forks_away", forks_away), ("holder_forks", holder_forks), ("pid_one", pid_one)];

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
        // Opened anew it is as good as anybody's.
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

/// Dies while it holds the writer lock and a snapshot, and leaves a child behind.
fn holder_forks(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let snap = store.read().unwrap();
    let tx = store.begin_write().unwrap();
    tx.raw("t").unwrap().put(b"never", b"").unwrap();
    let child = in_child(|| std::thread::sleep(Duration::from_secs(8)));
    tell(child);
    std::thread::sleep(Duration::from_secs(60));
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
    let started = Instant::now();
    store.write(|tx| tx.raw("t")?.put(b"a", b"")).unwrap();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let pins = store.stats().unwrap().pins;
    assert!(pins.iter().cloned().flatten().count() <= 2, "{pins:?}");
    // SAFETY: the orphan was started by this test's child, and lives for some seconds more.
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
        println!("pid namespaces cannot be made here: skipped");
        return;
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
