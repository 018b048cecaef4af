//! Processes whose system calls take as long as they like, and are interrupted: see `tools/slowly`. They count, checkpoint
//! the log, look, leave and come again; nothing is lost, no snapshot goes back in time, no error surfaces.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, unreachable_pub)]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../slowly/tracer.rs"]
mod tracer;

use common::{Child, Random, Role, TestStore, number, random, setting, skip, tell};
use memstone::{Durability, Error, Options, Result, Snapshot, Store, WriteOptions};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PROCESSES: u64 = 4;
const LIVES: u64 = 2;
/// Threads of each process that count.
const COUNTERS: u64 = 2;
/// Each of them, in each life.
const TIMES: u64 = 16;
const ROWS: u64 = 64;

const ROLES: &[Role] = &[("traceable", traceable), ("slowed", slowed), ("crowd", crowd), ("count", count)];

/// Whether this machine lets a process trace its child.
fn traceable(_: &[String]) {
    let mut command = Command::new("true");
    command.stdin(std::process::Stdio::null());
    match tracer::run(&command, &tracer::Slowness::default()) {
        Ok(_) => tell("yes"),
        Err(error) => tell(error),
    }
}

/// Runs a crowd, slowly.
fn slowed(words: &[String]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_entry", "--nocapture", "--test-threads=1"]);
    command.env(common::ROLE, format!("crowd\u{1f}{}", words[0]));
    let seed: u64 = words[1].parse().unwrap();
    // Every other one is interrupted, too.
    let interrupt_one_in = if cfg!(target_arch = "x86_64") && seed.is_multiple_of(2) { 8 } else { 0 };
    let slowness = tracer::Slowness { seed, interrupt_one_in, ..tracer::Slowness::default() };
    let account = tracer::run(&command, &slowness).unwrap();
    tell(&account);
    // A process that failed has said so.
    std::process::exit(account.code);
}

fn crowd(words: &[String]) {
    let children: Vec<_> = (0..PROCESSES).map(|_| Child::start("count", &[&words[0]])).collect();
    children.into_iter().for_each(|child| drop(child.finish()));
}

fn count(words: &[String]) {
    for _ in 0..LIVES {
        let store = Options::new().log_cap(128 << 10).timeout(Duration::from_secs(60)).open(&words[0]).unwrap();
        let counting = AtomicU64::new(COUNTERS);
        std::thread::scope(|scope| {
            for _ in 0..COUNTERS {
                scope.spawn(|| {
                    let _done = Done(&counting);
                    (0..TIMES).for_each(|i| increment(&store, i % 4 == 0).unwrap());
                });
            }
            scope.spawn(|| {
                while counting.load(Ordering::Acquire) > 0 {
                    store.checkpoint().unwrap();
                    (0..4).for_each(|_| store.flush().unwrap());
                }
            });
            scope.spawn(|| {
                let mut last = 0;
                while counting.load(Ordering::Acquire) > 0 {
                    let snap = store.read().unwrap();
                    for _ in 0..2 {
                        let now = counted(&snap).unwrap();
                        assert!(last <= now, "{now} after {last}");
                        last = now;
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        });
    }
}

/// A counter that is finished, or has failed.
struct Done<'c>(&'c AtomicU64);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn increment(store: &Store, durable: bool) -> Result<()> {
    let durability = if durable { Durability::Sync } else { Durability::Relaxed };
    let n = store.write_with(WriteOptions::new().durability(durability), |tx| {
        let table = tx.raw("counters")?;
        let n = table.get(b"n")?.map_or(0, |n| number(&n)) + 1;
        table.put(b"n", &n.to_be_bytes())?;
        tx.raw("rows")?.put(&(n % ROWS).to_be_bytes(), &row(n))?;
        Ok::<_, Error>(n)
    })?;
    let after = counted(&store.read()?)?;
    assert!(after >= n, "{after} after it was made {n}");
    Ok(())
}

/// The row of the `n`th increment: mostly little, sometimes too much for the log.
fn row(n: u64) -> Vec<u8> {
    Random(n).bytes(if n.is_multiple_of(16) { 20_000 } else { n as usize * 37 % 700 })
}

/// The number; everything else in the store follows from it.
fn counted(snap: &Snapshot) -> Result<u64> {
    let tables = snap.tables()?;
    if tables.is_empty() {
        return Ok(0);
    }
    let n = snap.raw("counters")?.get(b"n")?.map_or(0, |n| number(&n));
    let rows = snap.raw("rows")?;
    for i in n.saturating_sub(ROWS - 1).max(1)..=n {
        assert!(rows.get(&(i % ROWS).to_be_bytes())?.is_some_and(|found| *found == *row(i)), "row {i} at {n}");
    }
    assert_eq!(rows.prefix(b"")?.count() as u64, n.min(ROWS));
    Ok(n)
}

#[test]
fn child_entry() {
    common::play(&[ROLES]);
}

#[test]
fn slow_calls_lose_nothing() {
    if Child::start("traceable", &[]).finish() != ["yes"] {
        return skip("the right to trace a child (ptrace)");
    }
    let first = setting("MEMSTONE_SEED", 1);
    for seed in first..first + setting("MEMSTONE_SLOW", 8) {
        let test = TestStore::new();
        let child = Child::start("slowed", &[&test.path.display(), &seed]);
        println!("seed {seed}: {:?}", child.finish());
        assert_eq!(counted(&test.open().read().unwrap()).unwrap(), PROCESSES * LIVES * COUNTERS * TIMES, "seed {seed}");
    }
}
