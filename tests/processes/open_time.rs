//! Opening is quick, whatever the size; after a kill the log's cap bounds it.

use crate::common::{Child, Role, TestStore, listen, measured, tell};
use memstone::{Durability, Options, Store, WriteOptions};
use std::time::{Duration, Instant};

/// The promise is about what users run; unoptimised code takes some times as long.
const BOUND: Duration = Duration::from_millis(if cfg!(debug_assertions) { 4 } else { 1 });

pub const ROLES: &[Role] = &[("fill_log", fill_log)];

/// The median time that opening takes.
fn median_open(test: &TestStore, times: usize) -> Duration {
    let mut took = Vec::new();
    for _ in 0..times {
        let started = Instant::now();
        let store = Store::open(&test.path).unwrap();
        took.push(started.elapsed());
        store.close().unwrap();
    }
    took.sort();
    took[times / 2]
}

#[test]
fn an_existing_store_opens_within_a_millisecond_whatever_its_size() {
    let test = TestStore::alone();
    let store = test.open();
    store.write(|tx| tx.raw("rows")?.put(b"a", b"1")).unwrap();
    store.close().unwrap();
    let mut small = Duration::MAX;
    measured(5, || {
        small = median_open(&test, 51);
        println!("a small store opens in {small:?}");
        if small < BOUND { Ok(()) } else { Err(format!("{small:?}")) }
    });
    let store = test.open();
    store.write(|tx| tx.raw("more")?.bulk_load((0..64_000_u64).map(|i| (i.to_be_bytes(), [i as u8; 1000])))).unwrap();
    store.close().unwrap();
    measured(5, || {
        let large = median_open(&test, 51);
        println!("a store of {} MiB opens in {large:?}", std::fs::metadata(&test.path).unwrap().len() >> 20);
        if large < BOUND { Ok(()) } else { Err(format!("{large:?}")) }
    });
}

/// Commits until the log holds much, then waits to be killed.
fn fill_log(words: &[String]) {
    let store = Options::new().log_cap(words[1].parse().unwrap()).open(&words[0]).unwrap();
    let relaxed = WriteOptions::new().durability(Durability::Relaxed);
    let mut most = 0;
    for i in 0..u64::MAX {
        store.write_with(relaxed, |tx| tx.raw("rows")?.put(&i.to_be_bytes(), &[7; 1000])).unwrap();
        if i % 100 == 0 {
            let used = store.stats().unwrap().log.used;
            if i > 2000 && used > 400_000 && used >= most {
                break;
            }
            most = most.max(used * 9 / 10);
        }
    }
    store.flush().unwrap();
    tell(store.read().unwrap().raw("rows").unwrap().len().unwrap());
    listen();
}

#[test]
fn after_a_kill_the_log_bounds_it() {
    let test = TestStore::alone();
    measured(3, || {
        let _ = std::fs::remove_file(&test.path);
        let mut child = Child::start("fill_log", &[&test.path.display(), &(4 << 20)]);
        let rows: u64 = child.hear().parse().unwrap();
        child.kill();
        let started = Instant::now();
        let store = test.open();
        assert_eq!(store.read().unwrap().raw("rows").unwrap().len().unwrap(), rows);
        let took = started.elapsed();
        println!("opened and read in {took:?} after a kill, log {:?}", store.stats().unwrap().log);
        store.write(|tx| tx.raw("t")?.put(b"a", b"1")).unwrap();
        if took < Duration::from_millis(500) { Ok(()) } else { Err(format!("{took:?}")) }
    });
}
