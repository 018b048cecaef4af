//! The data file is replaced by a backup, by renaming, while it is in use: a process that has the old one open is told so at
//! its next write, can read on, opens the new one, and is a process like any other there.

use super::Settings;
use super::worker::{SEPARATOR, note_panics, start};
use memstone::{Error, Options, Result, Store};
use std::fs::{File, copy, rename};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WORKERS: u64 = 3;
/// A worker's commits before, and after.
const SOME: u64 = 20;
const STUCK: Duration = Duration::from_secs(60);

/// A worker's counter.
fn count(store: &Store, number: u64) -> Result<u64> {
    store.write(|tx| {
        let table = tx.raw("counters")?;
        let n = table.get(&number.to_be_bytes())?.map_or(0, |n| super::history::number(&n)) + 1;
        table.put(&number.to_be_bytes(), &n.to_be_bytes())?;
        Ok(n)
    })
}

fn counted(store: &Store, number: u64) -> Result<u64> {
    let snap = store.read()?;
    let value = snap.raw("counters")?.get(&number.to_be_bytes())?;
    Ok(value.map_or(0, |n| super::history::number(&n)))
}

/// Counts, until it is told that the file was replaced; its next write must be refused. Then counts in the new one.
pub fn work(words: &[&str]) {
    let [path, history, number] = words else { panic!("{words:?}") };
    let number: u64 = number.parse().unwrap();
    note_panics(history.as_ref(), format!("worker {number}"));
    // 1: it was replaced, 2: enough.
    let word = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&word);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lock().lines();
        if lines.next().is_some() {
            heard.store(1, Ordering::Release);
        }
        if lines.next().is_none() {
            heard.store(2, Ordering::Release);
        }
    });
    let good = std::panic::catch_unwind(|| count_on(path.as_ref(), history.as_ref(), number, &word));
    std::process::exit(i32::from(good.is_err()));
}

fn count_on(path: &Path, history: &Path, number: u64, word: &AtomicU64) {
    let options = Options::new().create(false).timeout(STUCK);
    let mut told = File::options().append(true).create(true).open(history).unwrap();
    let mut store = options.open(path).unwrap();
    let (mut last, mut refused) = (0, false);
    while word.load(Ordering::Acquire) < 2 {
        let replaced = word.load(Ordering::Acquire) == 1;
        match count(&store, number) {
            Ok(n) => {
                assert!(!replaced || refused, "commit {n} to a file that was replaced");
                assert_eq!(n, last + 1);
                last = n;
                told.write_all(if refused { b"N" } else { b"O" }).unwrap();
            }
            Err(Error::Moved { .. }) => {
                assert!(!refused, "the new file was moved, too");
                refused = true;
                assert_eq!(counted(&store, number).unwrap(), last, "what is open is not read on");
                drop(store);
                store = options.open(path).unwrap();
                last = counted(&store, number).unwrap();
                assert_eq!(last, 0, "the new file holds commits of the old one");
            }
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
    assert_eq!(counted(&store, number).unwrap(), last);
}

/// The violations that were found.
pub fn violations(settings: &Settings, dir: &Path) -> Vec<String> {
    match replace(settings, dir) {
        Ok(wrong) => wrong,
        Err(error) => vec![format!("replaced: {error}")],
    }
}

struct Worker {
    child: Child,
    history: PathBuf,
}

impl Worker {
    /// Its commits to the old file, or to the new one.
    fn commits(&self, mark: u8) -> u64 {
        std::fs::read(&self.history).unwrap_or_default().iter().filter(|byte| **byte == mark).count() as u64
    }

    /// Waits for so many; `false` if it has ended.
    fn until(&mut self, mark: u8, commits: u64) -> bool {
        let started = Instant::now();
        while self.commits(mark) < commits {
            if !matches!(self.child.try_wait(), Ok(None)) || started.elapsed() > STUCK {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

fn replace(settings: &Settings, dir: &Path) -> std::io::Result<Vec<String>> {
    let (path, backup) = (dir.join("replaced.mst"), dir.join("backup.mst"));
    Store::open(&path).and_then(Store::close).map_err(std::io::Error::other)?;
    copy(&path, &backup)?;
    let mut workers: Vec<Worker> = (0..WORKERS)
        .map(|number| {
            let history = dir.join(format!("replaced-{number}"));
            let words = ["replaced".to_owned(), path.display().to_string(), history.display().to_string()];
            let words = [&words[..], &[number.to_string()]].concat().join(&SEPARATOR.to_string());
            Worker { child: start(&settings.worker_args, &words), history }
        })
        .collect();
    let mut wrong = Vec::new();
    for worker in &mut workers {
        worker.until(b'O', SOME);
    }
    rename(&backup, &path)?;
    for worker in &mut workers {
        if let Some(input) = &mut worker.child.stdin {
            let _ = input.write_all(b"replaced\n");
        }
    }
    for worker in &mut workers {
        worker.until(b'N', SOME);
    }
    let mut counts = Vec::new();
    for mut worker in workers {
        drop(worker.child.stdin.take());
        let status = worker.child.wait()?;
        if !status.success() {
            let why = std::fs::read_to_string(format!("{}.failed", worker.history.display())).unwrap_or_default();
            wrong.push(format!("replaced: {status}: {why}"));
        }
        counts.push((worker.commits(b'O'), worker.commits(b'N')));
    }
    println!("replaced by a backup: commits of each worker before and after: {counts:?}; {} violations", wrong.len());
    wrong.extend(judge(&path, &counts));
    Ok(wrong)
}

/// The new file holds the commits that were told of it, and is sound.
fn judge(path: &Path, counts: &[(u64, u64)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let clean = memstone::check(path, &memstone::CheckOptions::new()).is_ok_and(|report| report.is_clean());
    if !clean {
        wrong.push("replaced: the new file is unsound".to_owned());
    }
    for (number, (_, commits)) in (0..).zip(counts) {
        match Store::open(path).and_then(|store| counted(&store, number)) {
            Ok(n) if n == *commits => {}
            found => wrong.push(format!("replaced: worker {number} made {commits} commits, {found:?} are there")),
        }
    }
    wrong
}
