//! The process that holds the writer lock, or waits for it, may be killed, stopped, or slow: the others go
//! on, or are told who it is.

use crate::common::{Child, Role, STUCK, TestStore, give_up_after, listen, tell};
use memstone::{Error, LockKind, Options, Store, WriteOptions};
use std::time::{Duration, Instant};

pub const ROLES: &[Role] = &[("hold", hold), ("commit_when_told", commit_when_told)];

/// Holds the writer lock until told otherwise.
fn hold(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let tx = store.begin_write().unwrap();
    tx.raw("t").unwrap().put(b"half", b"done").unwrap();
    tell("holding");
    listen();
    tx.rollback();
    tell("released");
    listen();
}

/// Each time it is told, commits and says so.
fn commit_when_told(words: &[String]) {
    let store = patient(&words[0]);
    tell("ready");
    while !listen().is_empty() {
        store.write(|tx| tx.raw("t")?.put(&std::process::id().to_be_bytes(), b"x")).unwrap();
        tell("done");
    }
}

/// Nobody here gives up before the test does.
fn patient(path: &str) -> Store {
    Options::new().timeout(4 * STUCK).open(path).unwrap()
}

fn start(role: &str, test: &TestStore) -> Child {
    let child = Child::start(role, &[&test.path.display()]);
    child.hear();
    child
}

/// Returns when so many processes stand in line.
fn until_waiting(store: &Store, processes: usize) {
    let started = Instant::now();
    while store.locks().unwrap().waiting.len() < processes {
        give_up_after(started, "nobody waits for the writer lock");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_holder_blocks_nobody() {
    let test = TestStore::new();
    let store = test.open();
    let mut waiters: Vec<_> = (0..3).map(|_| start("commit_when_told", &test)).collect();
    for _ in 0..3 {
        let mut holder = start("hold", &test);
        waiters.iter_mut().for_each(|waiter| waiter.say("go"));
        until_waiting(&store, 3);
        holder.kill();
        waiters.iter().for_each(|waiter| drop(waiter.hear()));
    }
    assert!(store.read().unwrap().raw("t").unwrap().get(b"half").unwrap().is_none());
}

#[test]
fn a_stopped_waiter_does_not_block_the_others() {
    let test = TestStore::new();
    let store = test.open();
    let mut other = start("commit_when_told", &test);
    for _ in 0..3 {
        let mut holder = start("hold", &test);
        let mut stopped = start("commit_when_told", &test);
        stopped.say("go");
        until_waiting(&store, 1);
        stopped.stop();
        other.say("go");
        until_waiting(&store, 2);
        holder.say("release");
        other.hear();
        for _ in 0..20 {
            other.say("go");
            other.hear();
        }
        assert_eq!(stopped.heard(), None, "the others were served while it was stopped");
        stopped.signal(libc::SIGCONT);
        stopped.hear();
        holder.kill();
    }
}

#[test]
fn a_slow_holder_is_named() {
    let test = TestStore::new();
    let holder = start("hold", &test);
    let timeout = Duration::from_millis(300);
    let store = test.open();
    let error = store.write_with(WriteOptions::new().timeout(timeout), |_| Ok::<_, Error>(())).unwrap_err();
    assert!(error.is_retryable());
    let text = error.to_string();
    let Error::Busy { lock, waited, holder: Some(named), .. } = error else { panic!("{error}") };
    assert_eq!((lock, named.pid), (LockKind::Writer, holder.process.id()), "{text}");
    assert!(named.command.contains("child_entry"), "{text}");
    assert!(text.contains(&holder.pid().to_string()), "{text}");
    assert!(waited >= timeout, "{waited:?}");
    let locks = store.locks().unwrap();
    assert_eq!(locks.writer.unwrap().pid, holder.process.id());
}

#[test]
fn trying_gives_busy_and_opening_and_reading_wait_for_nobody() {
    let test = TestStore::new();
    test.open().write(|tx| tx.raw("t")?.put(b"a", b"1")).unwrap();
    // It holds the lock until the end: waiting for it would never end.
    let _holder = start("hold", &test);
    let store = patient(test.path.to_str().unwrap());
    assert_eq!(store.read().unwrap().raw("t").unwrap().get(b"a").unwrap().unwrap(), b"1");
    let error = store.try_write(|_| Ok::<_, Error>(())).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
}

#[test]
fn a_lock_whose_holder_has_no_name_is_held_all_the_same() {
    let test = TestStore::new();
    let mut holder = start("hold", &test);
    // The names go with it; the lock stays.
    std::fs::remove_file(format!("{}-shm", test.path.display())).unwrap();
    let reader = Store::options().read_only(true).open(&test.path).unwrap();
    let locks = reader.locks().unwrap();
    assert!(locks.writer_held, "{locks:?}");
    holder.say("release");
    assert_eq!(holder.hear(), "released");
    assert!(!reader.locks().unwrap().writer_held);
}
