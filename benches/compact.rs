//! What a compaction costs the commits of other processes: one and two of them commit one row after the other, each
//! durable, before, during and after another process compacts the store. Medians of rounds.
//!
//! `cargo bench --bench compact -- [ROWS [DIRECTORY [ROUNDS]]]`; by default 1,000,000 rows, of which two thirds are deleted.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program that measures")]

use memstone::{Durability, Options, Store, WriteOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long is measured before and after each compaction.
const WINDOW: Duration = Duration::from_millis(1500);

fn key(n: u64) -> [u8; 16] {
    ((u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64) | u128::from(n)).to_be_bytes()
}

/// A store with two thirds of its rows deleted, all over.
fn prepare(path: &Path, rows: u64) {
    let store = Store::open(path).unwrap();
    let relaxed = WriteOptions::new().durability(Durability::Relaxed);
    for batch in (0..rows).collect::<Vec<_>>().chunks(20_000) {
        store.write_with(relaxed, |tx| batch.iter().try_for_each(|n| tx.raw("t")?.put(&key(*n), &[7; 150]))).unwrap();
    }
    store.checkpoint().unwrap();
    let gone: Vec<u64> = (0..rows).filter(|n| n % 3 != 0).collect();
    store.write(|tx| gone.iter().try_for_each(|n| tx.raw("t")?.delete(&key(*n)).map(drop))).unwrap();
    store.checkpoint().unwrap();
    store.close().unwrap();
}

/// Commits until its input ends; for each line of that it says how many commits there were, and the longest since the
/// line before in microseconds.
fn commits(path: &str, me: u64) {
    static DONE: AtomicU64 = AtomicU64::new(0);
    static LONGEST: AtomicU64 = AtomicU64::new(0);
    std::thread::spawn(|| {
        for _ in std::io::stdin().lines() {
            println!("{} {}", DONE.load(Relaxed), LONGEST.swap(0, Relaxed));
        }
        std::process::exit(0);
    });
    let store = Options::new().timeout(Duration::from_secs(60)).open(path).unwrap();
    for n in 0_u64.. {
        let started = Instant::now();
        store.write(|tx| tx.raw("t")?.put(&key((me << 40) | (n % 100_000)), &[1; 150])).unwrap();
        LONGEST.fetch_max(u64::try_from(started.elapsed().as_micros()).unwrap(), Relaxed);
        DONE.fetch_add(1, Relaxed);
    }
}

struct Committer(Child, BufReader<std::process::ChildStdout>);

fn start(role: &str, path: &Path, me: usize) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--role", role]).arg(path).arg(me.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Commits of all so far, and the longest since last asked.
fn ask(committers: &mut [Committer]) -> (Instant, u64, u64) {
    committers.iter_mut().for_each(|child| child.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap());
    let (mut count, mut longest) = (0, 0);
    for Committer(_, out) in committers {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        count += words.next().unwrap();
        longest = longest.max(words.next().unwrap());
    }
    (Instant::now(), count, longest)
}

struct Figures {
    alone: f64,
    during: f64,
    ratio: f64,
    took: f64,
    longest_alone: f64,
    longest: f64,
    bytes: [u64; 2],
}

fn round(store: &Path, processes: usize) -> Figures {
    let dir = tempfile::tempdir_in(store.parent().unwrap()).unwrap();
    let path = dir.path().join("memory.mst");
    std::fs::copy(store, &path).unwrap();
    std::fs::File::open(&path).unwrap().sync_all().unwrap();
    let mut committers: Vec<_> = (1..=processes)
        .map(|me| {
            let mut child = start("commits", &path, me);
            let out = BufReader::new(child.stdout.take().unwrap());
            Committer(child, out)
        })
        .collect();
    std::thread::sleep(Duration::from_millis(800));
    let mut rates = Vec::new();
    let mut last = ask(&mut committers);
    let mut took = 0.0;
    let mut bytes = [0, 0];
    for compacts in [false, true, false] {
        if compacts {
            let out = start("compact", &path, 0).wait_with_output().unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            let told: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
            bytes = [told[0], told[1]];
        } else {
            std::thread::sleep(WINDOW);
        }
        let now = ask(&mut committers);
        let seconds = (now.0 - last.0).as_secs_f64();
        if compacts {
            took = seconds;
        }
        rates.push(((now.1 - last.1) as f64 / seconds, now.2 as f64 / 1e3));
        last = now;
    }
    for Committer(mut child, _) in committers {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    let alone = (rates[0].0 + rates[2].0) / 2.0;
    Figures {
        alone,
        during: rates[1].0,
        ratio: rates[1].0 / alone,
        took,
        longest_alone: rates[0].1.max(rates[2].1),
        longest: rates[1].1,
        bytes,
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "--role") {
        match &*words[1] {
            "commits" => commits(&words[2], words[3].parse().unwrap()),
            _ => {
                let store = Options::new().timeout(Duration::from_secs(60)).open(&words[2]).unwrap();
                let (before, after) = store.compact().unwrap();
                store.close().unwrap();
                println!("{before} {after}");
            }
        }
        return;
    }
    let rows = words.first().map_or(1_000_000, |word| word.parse().unwrap());
    let dir = words.get(1).map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
    let rounds = words.get(2).map_or(7, |word| word.parse().unwrap());
    let store = dir.path().join("prepared.mst");
    prepare(&store, rows);
    let mut found = [Vec::new(), Vec::new()];
    for n in 0..rounds {
        for (processes, found) in (1..).zip(&mut found) {
            let figures = round(&store, processes);
            eprintln!(
                "round {n}, {processes}: {:.0} alone, {:.0} during {:.2} s ({:.2}); longest {:.1} and {:.1} ms; {:?}",
                figures.alone,
                figures.during,
                figures.took,
                figures.ratio,
                figures.longest_alone,
                figures.longest,
                figures.bytes
            );
            found.push(figures);
        }
    }
    println!(
        "| processes that commit | commits a second alone | during a compaction | ratio | longest commit alone | during | it took |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (processes, found) in (1..).zip(&found) {
        let of = |part: fn(&Figures) -> f64| median(found.iter().map(part).collect());
        println!(
            "| {processes} | {:.0} | {:.0} | {:.2} | {:.1} ms | {:.1} ms | {:.2} s |",
            of(|f| f.alone),
            of(|f| f.during),
            of(|f| f.ratio),
            of(|f| f.longest_alone),
            of(|f| f.longest),
            of(|f| f.took)
        );
    }
}
