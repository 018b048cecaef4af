//! Whoever holds the writer lock, or waits for it, may be killed, stopped, or slow: the others go
//! on, or are told who it is.

use crate::common::{Child, Role, TestStore, listen, long_run, measured, tell};
use memstone::{Error, Store, WriteOptions};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_millis(100);

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

/// Each time it is told, commits and says how long that took.
fn commit_when_told(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    tell("ready");
    while !listen().is_empty() {
        let started = Instant::now();
        store.write(|tx| tx.raw("t")?.put(&std::process::id().to_be_bytes(), b"x")).unwrap();
        tell(started.elapsed().as_micros());
    }
}

fn start(role: &str, test: &TestStore) -> Child {
    let child = Child::start(role, &[&test.path.display()]);
    child.hear();
    child
}

fn time_of(child: &Child) -> Duration {
    Duration::from_micros(child.hear().parse().unwrap())
}

#[test]
fn a_killed_holder_blocks_nobody() {
    let test = TestStore::alone();
    let mut waiters: Vec<_> = (0..3).map(|_| start("commit_when_told", &test)).collect();
    measured(5, || {
        let mut holder = start("hold", &test);
        waiters.iter_mut().for_each(|waiter| waiter.say("go"));
        std::thread::sleep(Duration::from_millis(60));
        let killed = Instant::now();
        holder.kill();
        waiters.iter().for_each(|waiter| drop(waiter.hear()));
        let took = killed.elapsed();
        println!("three waiters were done {} µs after the holder was killed", took.as_micros());
        if took <= SOON { Ok(()) } else { Err(format!("{took:?}")) }
    });
    assert!(test.open().read().unwrap().raw("t").unwrap().get(b"half").unwrap().is_none());
}

#[test]
fn a_stopped_waiter_does_not_block_the_others() {
    let test = TestStore::alone();
    let mut other = start("commit_when_told", &test);
    measured(5, || {
        let mut holder = start("hold", &test);
        let mut stopped = start("commit_when_told", &test);
        stopped.say("go");
        std::thread::sleep(Duration::from_millis(60));
        stopped.signal(libc::SIGSTOP);
        other.say("go");
        std::thread::sleep(Duration::from_millis(30));
        let released = Instant::now();
        holder.say("release");
        time_of(&other);
        let first = released.elapsed();
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            other.say("go");
            longest = longest.max(time_of(&other));
        }
        stopped.signal(libc::SIGCONT);
        time_of(&stopped);
        holder.kill();
        let figures = format!("first commit past a stopped waiter {first:?}, longest of the next 20 {longest:?}");
        println!("{figures}");
        if first <= SOON && longest <= SOON { Ok(()) } else { Err(figures) }
    });
}

#[test]
fn a_slow_holder_is_named() {
    let test = TestStore::alone();
    let holder = start("hold", &test);
    let timeout = Duration::from_secs(if long_run() { 5 } else { 1 });
    let store = test.open();
    measured(3, || {
        let started = Instant::now();
        let error = store.write_with(WriteOptions::new().timeout(timeout), |_| Ok::<_, Error>(())).unwrap_err();
        let took = started.elapsed();
        assert!(error.is_retryable());
        let text = error.to_string();
        let Error::Busy { lock, waited, holder: Some(named), .. } = error else { panic!("{error}") };
        assert_eq!((lock, named.pid), ("writer", holder.process.id()), "{text}");
        assert!(named.command.contains("child_entry"), "{text}");
        assert!(text.contains(&holder.pid().to_string()), "{text}");
        assert!(took >= timeout && waited >= timeout, "{took:?}, {waited:?}");
        if took < timeout + SOON { Ok(()) } else { Err(format!("Busy after {took:?}")) }
    });
    let locks = store.locks().unwrap();
    assert_eq!(locks.writer.unwrap().pid, holder.process.id());
}

#[test]
fn trying_gives_busy_at_once_and_opening_and_reading_wait_for_nobody() {
    let test = TestStore::alone();
    test.open().write(|tx| tx.raw("t")?.put(b"a", b"1")).unwrap();
    let _holder = start("hold", &test);
    measured(3, || {
        let started = Instant::now();
        let store = test.open();
        assert_eq!(store.read().unwrap().raw("t").unwrap().get(b"a").unwrap().unwrap(), b"1");
        let error = store.try_write(|_| Ok::<_, Error>(())).unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error}");
        let took = started.elapsed();
        if took < SOON { Ok(()) } else { Err(format!("{took:?}")) }
    });
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
