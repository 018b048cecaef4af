//! What an archive costs: commits and checkpoints of a store without one, and of one with it. Medians of rounds that take turns.
//!
//! `cargo bench --bench archive`

#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures")]

use memstone::{Durability, Store, WriteOptions};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const COMMITS: u32 = 40_000;

struct Figures {
    commits: Duration,
    checkpoint: Duration,
}

/// Small relaxed commits, with the checkpoints that they make necessary; then one checkpoint of a full log.
fn round(archived: bool) -> Figures {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    if archived {
        store.start_archive(dir.path().join("archive")).unwrap();
    }
    let relaxed = WriteOptions::new().durability(Durability::Relaxed);
    let write = |n: u32| {
        let key = n.wrapping_mul(0x9e37_79b9).to_be_bytes();
        store.write_with(relaxed, |tx| tx.raw("t")?.put(&key, &[1; 200])).unwrap();
    };
    let started = Instant::now();
    (0..COMMITS).for_each(write);
    store.flush().unwrap();
    let commits = started.elapsed();
    store.checkpoint().unwrap();
    (0..10_000).for_each(write);
    store.flush().unwrap();
    let started = Instant::now();
    store.checkpoint().unwrap();
    Figures { commits, checkpoint: started.elapsed() }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
}

fn main() {
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (archived, found) in [false, true].into_iter().zip(&mut found) {
            found.push(round(archived));
        }
    }
    for (name, found) in ["no archive", "archive"].iter().zip(&found) {
        let commits = median(found.iter().map(|figures| figures.commits).collect());
        let checkpoint = median(found.iter().map(|figures| figures.checkpoint).collect());
        let rate = f64::from(COMMITS) / commits;
        println!("{name:>10}: {rate:8.0} commits a second; a checkpoint of 10,000 commits {:6.1} ms", checkpoint * 1e3);
    }
}
