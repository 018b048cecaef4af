//! How long backups and restores take, beside `cat` and `cp` of the same file, and how commits of another process fare
//! meanwhile. `cargo bench --bench backup -- [ROWS] [DIRECTORY]`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation)]

use memstone::{BackupOptions, CheckOptions, RestoreOptions, Store, content_hash, restore};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const VALUE: usize = 150;
const COMMITTER: &str = "MEMSTONE_BENCH_COMMITTER";

/// Numbers without order, and each once: an odd factor is invertible.
fn key(n: u64) -> [u8; 24] {
    let mut key = [0; 24];
    for (part, chunk) in key.chunks_exact_mut(8).enumerate() {
        let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(part as u32 * 17);
        chunk.copy_from_slice(&mixed.to_be_bytes());
    }
    key
}

fn value(n: u64, round: u64) -> [u8; VALUE] {
    let mut state = n.wrapping_mul(0xd134_2543_de82_ef95) ^ round.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
}

fn timed<T>(what: &str, bytes: u64, work: impl FnOnce() -> T) -> (T, f64) {
    sync();
    let started = Instant::now();
    let result = work();
    let seconds = started.elapsed().as_secs_f64();
    println!("| {what} | {seconds:.2} s | {:.0} MB/s |", bytes as f64 / 1e6 / seconds);
    (result, seconds)
}

fn sync() {
    Command::new("sync").status().unwrap();
}

fn shell(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

/// Commits one row after the other until its parent says that it is enough; tells how many each 100 ms.
fn committer(path: &str) {
    let store = Store::open(path).unwrap();
    let stop = std::thread::spawn(|| std::io::stdin().read_line(&mut String::new()));
    let started = Instant::now();
    let mut n = 0_u64;
    while !stop.is_finished() {
        store.write(|tx| tx.raw("commits")?.put(&n.to_be_bytes(), &[7; 100])).unwrap();
        n += 1;
    }
    println!("{}", n as f64 / started.elapsed().as_secs_f64());
}

/// Commits per second of another process during some work, which is done over and over for five seconds at least.
fn commits_during(path: &Path, mut work: impl FnMut()) -> f64 {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.env(COMMITTER, path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        work();
    }
    child.stdin.take().unwrap().write_all(b"end\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.wait().unwrap();
    line.trim().parse().unwrap()
}

fn fill(store: &Store, rows: u64) {
    for first in (0..rows).step_by(100_000) {
        let batch = |tx: &memstone::WriteTxn| {
            (first..rows.min(first + 100_000)).try_for_each(|n| tx.raw("rows")?.put(&key(n), &value(n, 0)))
        };
        store.write(batch).unwrap();
    }
    store.checkpoint().unwrap();
}

/// Changes one row in a hundred: neighbours, or all over.
fn change(store: &Store, rows: u64, neighbours: bool, round: u64) {
    let snapshot = store.read().unwrap();
    let table = snapshot.raw("rows").unwrap();
    let keys: Vec<Vec<u8>> = if neighbours {
        table
            .prefix(b"")
            .unwrap()
            .skip(rows as usize / 2)
            .take(rows as usize / 100)
            .map(|row| row.unwrap().0.to_vec())
            .collect()
    } else {
        (0..rows / 100).map(|n| key(n * 100).to_vec()).collect()
    };
    drop(snapshot);
    store.write(|tx| keys.iter().try_for_each(|key| tx.raw("rows")?.put(key, &value(1, round)))).unwrap();
    store.checkpoint().unwrap();
}

fn main() {
    if let Ok(path) = std::env::var(COMMITTER) {
        return committer(&path);
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let rows: u64 = words.first().map_or(4_000_000, |word| word.parse().unwrap());
    let place = tempfile::tempdir_in(words.get(1).map_or("target", |word| word)).unwrap();
    let path = place.path().join("memory.mst");
    let file = |name: &str| place.path().join(name);
    // A store as it is after its first restore: compact, so that nothing moves its pages down meanwhile.
    let store = Store::open(file("filled")).unwrap();
    fill(&store, rows);
    store.read().unwrap().backup_to(file("filled.backup")).unwrap();
    store.close().unwrap();
    restore(file("filled.backup"), &path, RestoreOptions::new()).unwrap();
    ["filled", "filled.backup"].iter().for_each(|name| fs::remove_file(file(name)).unwrap());
    let store = Store::open(&path).unwrap();
    let size = fs::metadata(&path).unwrap().len();
    println!(
        "{rows} rows in a store of {:.0} MB\n\n| | time | of the store's size |\n|---|---|---|",
        size as f64 / 1e6
    );
    let shown = |name: &str| format!("'{}'", file(name).display());
    shell(&format!("cat {} > /dev/null", shown("memory.mst")));
    let (_, cat) = timed("`cat FILE > /dev/null`, from the cache", size, || {
        shell(&format!("cat {} > /dev/null", shown("memory.mst")))
    });
    timed("`content_hash`", size, || content_hash(&store.read().unwrap()).unwrap());
    timed("`check`", size, || memstone::check(&path, &CheckOptions::new()).unwrap());
    let (_, copy) =
        timed("`cp`, and `sync`", size, || shell(&format!("cp {} {0}.cp && sync {0}.cp", shown("memory.mst"))));
    let (_, full) = timed("full backup", size, || store.read().unwrap().backup_to(file("base")).unwrap());
    let (_, back) =
        timed("restore of it", size, || restore(file("base"), file("again"), RestoreOptions::new()).unwrap());
    println!("\nbackup / cat {:.2}, backup / cp {:.2}, restore / cp {:.2}\n", cat / full, copy / full, copy / back);
    let full_size = fs::metadata(file("base")).unwrap().len();
    for (round, neighbours) in [(1, true), (2, false)] {
        change(&store, rows, neighbours, round);
        let (base, name) = (if round == 1 { "base" } else { "increment 1" }, format!("increment {round}"));
        let what = if neighbours {
            "increment, 1 % of the rows changed, neighbours"
        } else {
            "increment, 1 % changed, all over"
        };
        let options = BackupOptions::new().since(file(base));
        let (_, seconds) = timed(what, size, || store.read().unwrap().backup_with(file(&name), options).unwrap());
        let bytes = fs::metadata(file(&name)).unwrap().len();
        println!(
            "| … of a full one | {:.1} % | {:.1} % of its bytes |",
            seconds / full * 100.0,
            bytes as f64 / full_size as f64 * 100.0
        );
    }
    timed("restore of full and both increments", size, || {
        restore(file("increment 2"), file("again2"), RestoreOptions::new()).unwrap()
    });
    println!();
    for round in 0..3 {
        let alone = commits_during(&path, || std::thread::sleep(Duration::from_secs(5)));
        let cats = commits_during(&path, || shell(&format!("cp {} {0}.cp && sync {0}.cp", shown("memory.mst"))));
        let meanwhile = commits_during(&path, || {
            store.read().unwrap().backup_with(file("base"), BackupOptions::new().overwrite(true)).unwrap();
        });
        println!(
            "round {round}: {alone:.0} commits a second alone, {meanwhile:.0} during backups ({:.2}), {cats:.0} during `cp`",
            meanwhile / alone
        );
    }
}
