//! The cost of a store that is open and idle, and of a reader that never lets go.

use crate::common::{Child, Role, TestStore, listen, long_run, tell};
use memstone::{Error, Options, Store};
use std::time::Duration;

pub const ROLES: &[Role] = &[("idle", idle), ("idle_reader", idle_reader)];

const MIB: u64 = 1 << 20;

/// Private memory of this process in bytes.
fn private() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Opens a store, and says what it costs: before, once a row was read, after all was read, some time later.
fn idle(words: &[String]) {
    let before = private();
    let store = Store::open(&words[0]).unwrap();
    assert_eq!(store.read().unwrap().raw("rows").unwrap().get(&7_u64.to_be_bytes()).unwrap().unwrap().len(), 1000);
    let opened = private();
    let snap = store.read().unwrap();
    let bytes: u64 = snap.raw("rows").unwrap().prefix(b"").unwrap().map(|row| row.unwrap().1.len() as u64).sum();
    drop(snap);
    let read = private();
    std::thread::sleep(Duration::from_millis(2500));
    tell(format!("{bytes} {before} {opened} {read} {}", private()));
    listen();
}

/// Holds a snapshot as long as it is left alone.
fn idle_reader(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let snap = store.read().unwrap();
    tell("pinned");
    listen();
    assert!(snap.raw("rows").unwrap().prefix(b"").unwrap().all(|row| row.unwrap().1[..] == [0; 1000]));
    tell("whole");
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_handle_on_a_large_store_costs_little() {
    let test = TestStore::new();
    let size = if long_run() { 1024 * MIB } else { 64 * MIB };
    let store = test.open();
    store.write(|tx| tx.raw("rows")?.bulk_load((0..size / 1000).map(|i| (i.to_be_bytes(), [i as u8; 1000])))).unwrap();
    store.close().unwrap();
    let child = Child::start("idle", &[&test.path.display()]);
    let line = child.hear();
    let figures: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
    let [bytes, before, opened, read, later] = figures[..] else { panic!("{line}") };
    println!(
        "{} MiB of rows; private KiB: {} before opening, {} open, {} all read, {} idle",
        bytes / MIB,
        before / 1024,
        opened / 1024,
        read / 1024,
        later / 1024
    );
    assert!(bytes >= size / 1000 * 1000);
    assert!([opened, read, later].iter().all(|n| *n < 10 * MIB), "{line}");
    child.finish();
}

#[test]
fn an_endless_reader_keeps_only_what_it_pins() {
    const ROWS: u64 = 4000;
    const ROUNDS: u8 = 30;
    let test = TestStore::new();
    let cap = MIB;
    let store = Options::new().log_cap(cap).open(&test.path).unwrap();
    let round = |n: u8| {
        for part in 0..10 {
            store
                .write(|tx| {
                    let table = tx.raw("rows")?;
                    for key in (0..ROWS).filter(|key| key % 10 == part) {
                        table.put(&key.to_be_bytes(), &[n; 1000])?;
                    }
                    Ok::<_, Error>(())
                })
                .unwrap();
        }
        let stats = store.stats().unwrap();
        assert!(stats.log.capacity <= cap && stats.log.used <= cap, "{:?}", stats.log);
        stats.file_size
    };
    round(0);
    let reader = Child::start("idle_reader", &[&test.path.display()]);
    assert_eq!(reader.hear(), "pinned");
    let own = store.read().unwrap();
    let sizes: Vec<u64> = (1..=ROUNDS).map(round).collect();
    println!(
        "{} MiB of rows overwritten {ROUNDS} times beside two snapshots: file of {:?} MiB",
        ROWS * 1000 / MIB,
        sizes.iter().map(|n| n / MIB).collect::<Vec<_>>()
    );
    let late = sizes[sizes.len() - 1];
    assert!(late < 8 * ROWS * 1000 + cap, "the file grew to {late}");
    assert!(late <= sizes[sizes.len() / 2] * 5 / 4, "the file keeps growing: {sizes:?}");
    assert!(own.raw("rows").unwrap().prefix(b"").unwrap().all(|row| row.unwrap().1[..] == [0; 1000]));
    drop(own);
    assert_eq!(reader.finish(), ["whole"]);
}
