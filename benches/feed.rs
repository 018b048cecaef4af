//! How soon another process hears of a commit, and what a journal costs: `cargo bench --bench feed`.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a benchmark ends at the first error")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memstone::{Durability, Feed, Store, WriteOptions};

/// Commits whose arrival is timed.
const COMMITS: usize = 2000;
/// Commits of each measurement of costs.
const COSTS: u64 = 50_000;

fn now_us() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn put(store: &Store, durability: Durability, key: &[u8], value: &[u8]) {
    let options = WriteOptions::new().durability(durability);
    store.write_with(options, |tx| tx.raw("stamps")?.put(key, value)).unwrap();
}

/// The other process: waits, follows the feed, reads the time that the commit has, and prints how long ago that was.
fn listen(path: &Path) {
    let store = Store::open(path).unwrap();
    let mut cursor = store.read().unwrap().end().unwrap();
    println!("ready");
    let mut heard = 0;
    while heard < COMMITS {
        store.wait_for_change(cursor.lsn(), Duration::from_secs(60)).unwrap();
        let now = store.read().unwrap();
        let Feed::Changes(commits) = now.changes(cursor).unwrap() else { panic!("a gap") };
        heard += commits.map(Result::unwrap).count();
        let stamp = now.raw("stamps").unwrap().get(b"now").unwrap().unwrap();
        println!("{}", now_us().saturating_sub(u64::from_le_bytes(stamp[..].try_into().unwrap())));
        cursor = now.end().unwrap();
    }
}

fn wake_ups(durability: Durability) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("feed.mst");
    let store = Store::open(&path).unwrap();
    store.set_journal(Some(1 << 20)).unwrap();
    put(&store, Durability::Sync, b"now", &0_u64.to_le_bytes());
    let mut other =
        Command::new(std::env::current_exe().unwrap()).arg("listen").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    for _ in 0..COMMITS {
        std::thread::sleep(Duration::from_millis(2));
        put(&store, durability, b"now", &now_us().to_le_bytes());
    }
    let mut took: Vec<u64> = lines.map(|line| line.unwrap().parse().unwrap()).collect();
    assert!(other.wait().unwrap().success());
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    let (half, most, worst) = (at(50), at(99), at(100));
    println!("{durability:?}: from the start of a commit to its value in another process, {} wake-ups:", took.len());
    println!("  p50 {half} µs, p99 {most} µs, longest {worst} µs");
}

/// What a small commit takes, with its share of the checkpoints.
fn cost(journal: Option<u64>) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(dir.path().join("feed.mst")).unwrap();
    store.set_journal(journal).unwrap();
    let started = Instant::now();
    for n in 0..COSTS {
        put(&store, Durability::Relaxed, &n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), &[7; 150]);
    }
    store.checkpoint().unwrap();
    let took = started.elapsed();
    println!("journal {journal:?}: {:.2} µs for a relaxed commit of one row", took.as_secs_f64() * 1e6 / COSTS as f64);
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    if arguments.next().as_deref() == Some("listen") {
        return listen(Path::new(&arguments.next().unwrap()));
    }
    wake_ups(Durability::Relaxed);
    wake_ups(Durability::Sync);
    for journal in [None, Some(1 << 20), None, Some(64 << 20)] {
        cost(journal);
    }
}
