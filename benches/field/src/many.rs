//! Many processes on one store: what each of them does. The parent starts them together.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::child;
use crate::data::{Random, digest, key, value};
use crate::engine::{Access, Engine, Reader};

/// What one committing process achieved.
#[derive(Clone, Serialize, Deserialize)]
pub struct Commits {
    /// Commits that returned before the time was over.
    pub in_time: u64,
    /// All commits that returned without an error.
    pub acknowledged: u64,
    /// Commits that gave an error, such as a timeout.
    pub failed: u64,
    /// The longest single commit.
    pub worst_ms: f64,
    /// What the process gave the disk to write.
    pub bytes: u64,
}

/// The rows of one process, apart from those of all others and from the rows loaded before.
fn own_row(process: u64, commit: u64) -> u64 {
    ((process + 1) << 32) | commit
}

/// Fills a store before the processes come.
pub fn load<E: Engine>(dir: &Path, rows: u64) -> Result<()> {
    let store = E::open(dir, Access::Shared)?;
    store.write((0..rows).map(|row| (key(row), Some(value(row, 0)))))?;
    store.close()
}

/// Commits one row after the other, each durable, until the time is over.
pub fn commits<E: Engine>(dir: &Path, process: u64, time: Duration) -> Result<Commits> {
    let store = E::open(dir, Access::Shared)?;
    child::ready()?;
    let mut done = Commits { in_time: 0, acknowledged: 0, failed: 0, worst_ms: 0.0, bytes: 0 };
    let bytes = written()?;
    let started = Instant::now();
    while started.elapsed() < time {
        let row = own_row(process, done.acknowledged);
        let (key, value) = (key(row), value(row, 0));
        let before = Instant::now();
        match store.put(&key, &value) {
            Ok(()) => done.acknowledged += 1,
            Err(_) => done.failed += 1,
        }
        done.worst_ms = done.worst_ms.max(before.elapsed().as_secs_f64() * 1e3);
        if started.elapsed() < time {
            done.in_time = done.acknowledged;
        }
    }
    done.bytes = written()? - bytes;
    store.close()?;
    Ok(done)
}

/// Reads random rows, each with a snapshot of its own, until the time is over; returns how many.
pub fn reads<E: Engine>(dir: &Path, rows: u64, time: Duration) -> Result<u64> {
    let digests: Vec<u64> = (0..rows).map(|row| digest(&value(row, 0))).collect();
    let store = E::open(dir, Access::Shared)?;
    child::ready()?;
    let mut random = Random(2);
    let mut count = 0;
    let started = Instant::now();
    while started.elapsed() < time {
        for _ in 0..16 {
            let row = random.below(digests.len());
            let mut found = 0;
            store.get(&key(row as u64), |value| found = digest(value))?;
            ensure!(found == digests[row], "a read beside a writer gave a wrong value");
            count += 1;
        }
    }
    store.close()?;
    Ok(count)
}

/// Looks for every row that was loaded or whose commit was acknowledged, and that there is no other.
pub fn verify<E: Engine>(dir: &Path, rows: u64, acknowledged: &[u64]) -> Result<()> {
    let store = E::open(dir, Access::Shared)?;
    let committed =
        (0u64..).zip(acknowledged).flat_map(|(process, &count)| (0..count).map(move |commit| own_row(process, commit)));
    let mut wanted = 0;
    store.read(|reader| {
        for row in (0..rows).chain(committed) {
            let mut found = 0;
            reader.get(&key(row), |value| found = digest(value))?;
            ensure!(found == digest(&value(row, 0)), "an acknowledged row is missing or wrong");
            wanted += 1;
        }
        let mut there = 0u64;
        reader.scan(&[0; 24], usize::MAX >> 1, |_, _| there += 1)?;
        ensure!(there == wanted, "the store holds {there} rows instead of {wanted}");
        Ok(())
    })?;
    store.close()
}

/// The bytes this process has dirtied or written so far, as the kernel accounts them.
fn written() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let field = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(field.unwrap_or("0").trim().parse()?)
}
