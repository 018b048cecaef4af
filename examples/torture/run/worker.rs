//! A worker: some threads that transfer, count, append and overwrite, look at snapshots, fold the
//! log and open the store anew, until told to stop or killed.

use super::Random;
use super::history::{Intent, JOURNAL, TABLES, Writer, hash, look, number};
use memstone::{Durability, Error, Options, Result, Store, WriteOptions, WriteTxn};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ROLE: &str = "MEMSTONE_TORTURE_WORKER";
const SEPARATOR: char = '\u{1f}';
pub const ACCOUNTS: u64 = 40;
pub const MONEY: u64 = 1000;
const THREADS: u64 = 2;
/// Far beyond what anything takes here, unless it hangs: workers are stopped for a second at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts worker `number`.
pub fn start(args: &[String], path: &Path, history: &Path, number: u64, seed: u64, small_disk: bool) -> Child {
    let role = [
        path.display().to_string(),
        history.display().to_string(),
        number.to_string(),
        seed.to_string(),
        small_disk.to_string(),
    ];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args).env(ROLE, role.join(&SEPARATOR.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// If this process was started as a worker: works until the end. `false` if it was not.
pub fn play() -> bool {
    let Ok(role) = std::env::var(ROLE) else { return false };
    let words: Vec<_> = role.split(SEPARATOR).collect();
    let [path, history, number, seed, small_disk] = words[..] else { panic!("{role}") };
    let (number, seed): (u64, u64) = (number.parse().unwrap(), seed.parse().unwrap());
    let stop = AtomicBool::new(false);
    let failed = PathBuf::from(format!("{history}.failed"));
    std::panic::set_hook(Box::new(move |panic| {
        // A kill may come before the message is out: the file is there first.
        let _ = std::fs::write(&failed, panic.to_string());
        eprintln!("worker {number}: {panic}");
    }));
    let result = std::panic::catch_unwind(|| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let stop = &stop;
                scope.spawn(move || {
                    let worker = Worker {
                        path: path.into(),
                        history: Writer::new(history.as_ref()),
                        id: number << 8 | thread,
                        small_disk: small_disk == "true",
                    };
                    let random = Random(seed ^ super::history::mix(number << 8 | thread));
                    worker.work(random, stop);
                });
            }
            // Ends when the parent says so, or is gone.
            let _ = std::io::stdin().read_line(&mut String::new());
            stop.store(true, Ordering::Release);
        });
    });
    std::process::exit(i32::from(result.is_err()));
}

struct Worker {
    path: PathBuf,
    history: Writer,
    /// Process and thread.
    id: u64,
    small_disk: bool,
}

/// A transaction that writes down what it reads and writes.
struct Noted<'t> {
    tx: &'t WriteTxn,
    intent: RefCell<Intent>,
}

impl Noted<'_> {
    fn get(&self, table: usize, key: u64) -> Result<Option<Vec<u8>>> {
        let value = self.tx.raw(TABLES[table])?.get(&key.to_be_bytes())?.map(|value| value.to_vec());
        let mut intent = self.intent.borrow_mut();
        if !intent.writes.iter().any(|(t, k, _)| (*t, *k) == (table, key)) {
            intent.reads.push((table, key, value.as_deref().map_or(0, hash)));
        }
        Ok(value)
    }

    fn set(&self, table: usize, key: u64, value: Option<&[u8]>) -> Result<()> {
        let raw = self.tx.raw(TABLES[table])?;
        match value {
            Some(value) => raw.put(&key.to_be_bytes(), value)?,
            None => raw.delete(&key.to_be_bytes())?,
        }
        let mut intent = self.intent.borrow_mut();
        intent.writes.retain(|(t, k, _)| (*t, *k) != (table, key));
        intent.writes.push((table, key, value.map_or(0, hash)));
        Ok(())
    }
}

impl Worker {
    fn open(&self) -> Result<Store> {
        Options::new().log_cap(512 << 10).timeout(PATIENCE).open(&self.path)
    }

    /// A full disk is no failure where the disk is small, if it is clean.
    fn excused(&self, error: &Error) -> bool {
        let full = matches!(error, Error::Full { .. });
        assert!(self.small_disk && full, "{error}: {error:?}");
        full
    }

    fn work(&self, mut random: Random, stop: &AtomicBool) {
        let mut serial = 0;
        while !stop.load(Ordering::Acquire) {
            let store = match self.open() {
                Ok(store) => store,
                Err(error) => {
                    self.excused(&error);
                    continue;
                }
            };
            for _ in 0..random.below(300) {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                match random.below(100) {
                    0..80 => {
                        serial += 1;
                        self.transaction(&store, self.id << 32 | serial, &mut random);
                    }
                    80..90 => self.snapshot(&store, 0),
                    90..92 => self.snapshot(&store, random.below(400)),
                    92..95 => {
                        if let Err(error) = store.checkpoint() {
                            self.excused(&error);
                        }
                    }
                    95..97 => {
                        if let Err(error) = store.flush() {
                            self.excused(&error);
                        }
                    }
                    97 => drop((store.stats().unwrap(), store.locks().unwrap())),
                    98 => drop(store.wait_for_change(0, Duration::from_millis(5)).unwrap()),
                    _ => drop(store.read().unwrap().tables().unwrap()),
                }
            }
            if random.below(3) == 0 {
                let closed = store.close();
                if let Err(error) = closed {
                    self.excused(&error);
                }
            }
        }
    }

    /// Looks at a snapshot, and after some time again: it must show the same.
    fn snapshot(&self, store: &Store, hold_ms: u64) {
        let snap = store.read().unwrap();
        let seen = look(&snap).unwrap();
        self.history.snapshot(self.id, snap.lsn(), seen.0, seen.1);
        if hold_ms > 0 {
            std::thread::sleep(Duration::from_millis(hold_ms));
            assert_eq!(look(&snap).unwrap(), seen, "a snapshot at {} has changed", snap.lsn());
        }
    }

    fn transaction(&self, store: &Store, txn: u64, random: &mut Random) {
        let relaxed = random.below(10) == 0;
        let durability = if relaxed { Durability::Relaxed } else { Durability::Sync };
        let noted = match store.begin_write_with(WriteOptions::new().durability(durability)) {
            Ok(tx) => tx,
            Err(error) => {
                self.excused(&error);
                return;
            }
        };
        let result = {
            let noted = Noted { tx: &noted, intent: RefCell::default() };
            self.body(&noted, txn, random).map(|()| noted.intent.take())
        };
        let intent = match result {
            Ok(intent) => intent,
            Err(error) => {
                self.excused(&error);
                return;
            }
        };
        if random.below(30) == 0 {
            noted.rollback();
            return;
        }
        self.history.intent(txn, &intent);
        match noted.commit() {
            Ok(lsn) => self.history.acknowledged(txn, lsn),
            Err(error) => {
                if self.excused(&error) {
                    self.history.failed(txn);
                }
            }
        }
    }

    fn body(&self, noted: &Noted<'_>, txn: u64, random: &mut Random) -> Result<()> {
        let journal = noted.tx.raw(JOURNAL)?;
        let index = journal.last()?.map_or(0, |(key, _)| number(&key) + 1);
        noted.intent.borrow_mut().index = index;
        journal.put(&index.to_be_bytes(), &txn.to_be_bytes())?;
        match random.below(100) {
            0..40 => {
                let (from, to, some) = (random.below(ACCOUNTS), random.below(ACCOUNTS), random.below(50));
                let money = |key| Ok::<_, Error>(noted.get(0, key)?.map_or(MONEY, |value| number(&value)));
                if from != to && money(from)? >= some {
                    let (a, b) = (money(from)? - some, money(to)? + some);
                    noted.set(0, from, Some(&a.to_be_bytes()))?;
                    noted.set(0, to, Some(&b.to_be_bytes()))?;
                }
            }
            40..70 => {
                let key = random.below(8);
                let n = noted.get(1, key)?.map_or(0, |value| number(&value));
                noted.set(1, key, Some(&(n + 1).to_be_bytes()))?;
            }
            70..97 => {
                for _ in 0..1 + random.below(4) {
                    let key = random.below(150);
                    let old = noted.get(2, key)?;
                    match (old, random.below(5)) {
                        (Some(_), 0) => noted.set(2, key, None)?,
                        (old, _) => {
                            let seed = old.map_or(txn, |old| hash(&old));
                            noted.set(2, key, Some(&value_of(seed, random)))?;
                        }
                    }
                }
            }
            // Larger than the log.
            _ => {
                for _ in 0..30 {
                    let value = value_from(random.next(), 10_000);
                    noted.set(2, random.below(150), Some(&value))?;
                }
            }
        }
        Ok(())
    }
}

fn value_of(seed: u64, random: &mut Random) -> Vec<u8> {
    let size = match random.below(30) {
        0 => 33_000 + random.below(60_000),
        1..4 => random.below(9000),
        _ => random.below(300),
    };
    value_from(seed, size)
}

fn value_from(seed: u64, size: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut value = Vec::new();
    while (value.len() as u64) < size {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value
}
