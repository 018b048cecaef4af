//! The cost of opening: as much as for an empty store, whatever the size; after a kill the log's cap bounds it.
//! How long it takes is measured by `benches/field` (`single`, the row "reopen and read").

use crate::common::{Child, Role, TestStore, cost::read_by_this_thread, listen, skip, tell};
use memstone::{Durability, Options, Store, WriteOptions};

pub const ROLES: &[Role] = &[("fill_log", fill_log), ("opens", opens)];

/// Opens the store, reads a row, and tells what was read for it: bytes, calls, pages of a map.
fn opens(words: &[String]) {
    let before = cost();
    let store = Store::open(&words[0]).unwrap();
    assert_eq!(store.read().unwrap().raw("rows").unwrap().get(b"a").unwrap().unwrap(), b"1");
    let after = cost();
    if let (Some(before), Some(after)) = (before, after) {
        let [bytes, calls, pages] = [after.0 - before.0, after.1 - before.1, after.2 - before.2];
        tell(format!("{bytes} {calls} {pages}"));
    } else {
        tell("unknown");
    }
}

/// Bytes that this thread has read by calls, such calls, and faults of pages.
fn cost() -> Option<(u64, u64, u64)> {
    let (bytes, calls) = read_by_this_thread()?;
    // SAFETY: all zeros is a value of it, which the call fills in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` outlives the call.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    Some((bytes, calls, (usage.ru_minflt + usage.ru_majflt) as u64))
}

#[test]
#[cfg(target_os = "linux")]
fn opening_reads_as_little_of_a_large_store_as_of_a_small_one() {
    let test = TestStore::new();
    let costs = || {
        let child = Child::start("opens", &[&test.path.display()]);
        let line = child.hear();
        child.finish();
        let figures = line.split(' ').map(|figure| figure.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some([figures[0], figures[1], figures[2]])
    };
    let store = test.open();
    store.write(|tx| tx.raw("rows")?.put(b"a", b"1")).unwrap();
    store.close().unwrap();
    let small = costs();
    let store = test.open();
    store.write(|tx| tx.raw("more")?.bulk_load((0..64_000_u64).map(|i| (i.to_be_bytes(), [i as u8; 1000])))).unwrap();
    store.close().unwrap();
    let Some((small, large)) = small.zip(costs()) else {
        skip("/proc/thread-self/io");
        return;
    };
    let size = std::fs::metadata(&test.path).unwrap().len() >> 20;
    println!("bytes read, calls, page faults: {small:?} for a small store, {large:?} for one of {size} MiB");
    // Some more of the free map, the catalog and a second table; 16,000 pages are there.
    assert!(large[0] <= small[0] + (128 << 10), "{large:?}, {small:?}");
    assert!(large[1] <= small[1] + 40, "{large:?}, {small:?}");
    assert!(large[2] <= small[2] + 400, "{large:?}, {small:?}");
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
    const CAP: u64 = 4 << 20;
    let test = TestStore::new();
    let mut child = Child::start("fill_log", &[&test.path.display(), &CAP]);
    let rows: u64 = child.hear().parse().unwrap();
    child.kill();
    let before = read_by_this_thread();
    let store = test.open();
    assert_eq!(store.read().unwrap().raw("rows").unwrap().len().unwrap(), rows);
    let after = read_by_this_thread();
    let log = store.stats().unwrap().log;
    store.write(|tx| tx.raw("t")?.put(b"a", b"1")).unwrap();
    let Some((before, after)) = before.zip(after) else {
        skip("/proc/thread-self/io");
        return;
    };
    println!("{} bytes read by {} calls after a kill, log {log:?}", after.0 - before.0, after.1 - before.1);
    assert!(after.0 - before.0 <= 3 * CAP, "{} bytes", after.0 - before.0);
}
