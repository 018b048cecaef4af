//! A worker: some threads that transfer, count, append and overwrite, look at snapshots, checkpoint the
//! log and open the store once more, until told to stop or killed.

use super::clock;
use super::history::{
    COUNTERS, How, Intent, JOURNAL, LISTS, TABLES, Whole, Writer, elements, hash, length, look, number,
};
use super::kinds::{Kind, is_refusal};
use super::peek::peek;
use crate::random::Random;
use memstone::{Durability, Error, Options, Result, Store, WriteOptions, WriteTxn};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ROLE: &str = "MEMSTONE_TORTURE_WORKER";
pub const SEPARATOR: char = '\u{1f}';
pub const ACCOUNTS: u64 = 40;
pub const MONEY: u64 = 1000;
const THREADS: u64 = 2;
/// Thread number of those that look once.
const LOOKS: u64 = 255;
/// Small, so that the log is checkpointed often, and goes to other places of the file.
const LOG_CAP: u64 = 192 << 10;
/// Far beyond what anything takes here, unless it hangs: workers are stopped for a second at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// The settings of a worker.
#[derive(Clone)]
pub struct Task {
    pub kind: Kind,
    pub path: PathBuf,
    pub history: PathBuf,
    pub number: u64,
    pub seed: u64,
    /// Its disk may be full.
    pub small_disk: bool,
    /// Workers of all kinds are there: a refusal is legal.
    pub mixed: bool,
}

impl Task {
    fn words(&self) -> String {
        let Task { kind, path, history, number, seed, small_disk, mixed } = self;
        let words = [
            "storm".to_owned(),
            format!("{kind:?}"),
            path.display().to_string(),
            history.display().to_string(),
            number.to_string(),
            seed.to_string(),
            small_disk.to_string(),
            mixed.to_string(),
        ];
        words.join(&SEPARATOR.to_string())
    }

    fn parse(words: &[&str]) -> Task {
        let [kind, path, history, number, seed, small_disk, mixed] = words else { panic!("{words:?}") };
        Task {
            kind: Kind::parse(kind),
            path: path.into(),
            history: history.into(),
            number: number.parse().unwrap(),
            seed: seed.parse().unwrap(),
            small_disk: *small_disk == "true",
            mixed: *mixed == "true",
        }
    }
}

/// Starts this program again, as what the words say.
pub fn start(args: &[String], words: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args).env(ROLE, words);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

pub fn start_worker(args: &[String], task: &Task) -> Child {
    start(args, &task.words())
}

/// If this process was started as a worker: works until the end. `false` if it was not.
pub fn play() -> bool {
    let Ok(role) = std::env::var(ROLE) else { return false };
    let words: Vec<_> = role.split(SEPARATOR).collect();
    match words[..] {
        ["storm", ref task @ ..] => storm(&Task::parse(task)),
        ["replaced", ref words @ ..] => super::replaced::work(words),
        _ => panic!("{role}"),
    }
    true
}

/// Notes why a worker fails before anything else is done about it.
pub fn note_panics(history: &Path, who: String) {
    let failed = PathBuf::from(format!("{}.failed", history.display()));
    std::panic::set_hook(Box::new(move |panic| {
        // A kill may come before the message is out: the file is there first. What fails later follows from the first.
        let first = std::fs::File::options().write(true).create_new(true).open(&failed);
        let _ = first.and_then(|mut file| std::io::Write::write_all(&mut file, panic.to_string().as_bytes()));
        eprintln!("{who}: {panic}");
    }));
}

fn storm(task: &Task) {
    let stop = AtomicBool::new(false);
    note_panics(&task.history, format!("worker {}, {:?}", task.number, task.kind));
    let worker = |thread| Worker { task, history: Writer::new(&task.history), id: task.number << 8 | thread };
    let threads = match task.kind {
        Kind::Brief | Kind::Look => 1,
        _ => THREADS,
    };
    let workers: Vec<_> = (0..threads).map(worker).collect();
    task.kind.become_it();
    let result = std::panic::catch_unwind(|| {
        std::thread::scope(|scope| {
            for worker in workers {
                let stop = &stop;
                scope.spawn(move || match task.kind {
                    Kind::Brief => worker.send_others(stop),
                    Kind::Look => worker.look_once(),
                    _ => worker.work(stop),
                });
            }
            if task.kind != Kind::Look {
                // Ends when the parent says so, or is gone.
                let _ = std::io::stdin().read_line(&mut String::new());
                stop.store(true, Ordering::Release);
            }
        });
    });
    std::process::exit(i32::from(result.is_err()));
}

struct Worker<'t> {
    task: &'t Task,
    history: Writer,
    /// Process and thread.
    id: u64,
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

    /// Reads some lists, and appends to some of them.
    fn lists(&self, txn: u64, random: &mut Random) -> Result<()> {
        let index = self.intent.borrow().index;
        for n in 0..1 + random.below(3) {
            let list = super::peek::some_list(index, random);
            if self.intent.borrow().lists.iter().any(|(known, _)| *known == list) {
                continue;
            }
            let mut value = self.get(LISTS, list)?.unwrap_or_default();
            self.intent.borrow_mut().lists.push((list, elements(Some(&value))));
            if random.below(5) < 3 {
                let element = txn << 2 | n;
                value.extend_from_slice(&element.to_be_bytes());
                self.set(LISTS, list, Some(&value))?;
                self.intent.borrow_mut().appends.push((list, element));
            }
        }
        Ok(())
    }
}

impl Worker<'_> {
    fn open(&self, kind: Kind) -> Result<Store> {
        let options = Options::new().create(!self.task.mixed).log_cap(LOG_CAP).timeout(PATIENCE);
        options.read_only(kind.reads_only()).open(kind.path(&self.task.path))
    }

    /// A full disk is no failure where the disk is small, nor a refusal where not all can share the store.
    fn excused(&self, error: &Error) {
        let full = self.task.small_disk && matches!(error, Error::Full { .. });
        assert!(full || self.task.mixed && is_refusal(error), "{error}: {error:?}");
    }

    fn work(&self, stop: &AtomicBool) {
        let mut random = Random(self.task.seed ^ crate::random::mix(self.id));
        let mut serial = 0;
        while !stop.load(Ordering::Acquire) {
            match self.open(self.task.kind) {
                Ok(store) => self.session(store, &mut serial, &mut random, stop),
                Err(error) => {
                    self.excused(&error);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    /// Works with one handle, until it has done enough or is refused.
    fn session(&self, store: Store, serial: &mut u64, random: &mut Random, stop: &AtomicBool) {
        for _ in 0..random.below(300) {
            if stop.load(Ordering::Acquire) {
                break;
            }
            let reads_only = self.task.kind.reads_only();
            let done = if reads_only { self.read(&store, random) } else { self.act(&store, serial, random) };
            if let Err(error) = done {
                self.excused(&error);
                if is_refusal(&error) {
                    break;
                }
            }
        }
        if random.below(3) == 0
            && let Err(error) = store.close()
        {
            self.excused(&error);
        }
    }

    fn act(&self, store: &Store, serial: &mut u64, random: &mut Random) -> Result<()> {
        match random.below(100) {
            0..72 => {
                *serial += 1;
                self.transaction(store, self.id << 32 | *serial, random)
            }
            72..76 => self.write_nothing(store, random),
            76..93 => self.read(store, random),
            93..95 => store.checkpoint(),
            95..97 => store.flush(),
            97 => store.stats().and(store.locks()).map(drop),
            _ => store.read()?.tables().map(drop),
        }
    }

    fn read(&self, store: &Store, random: &mut Random) -> Result<()> {
        match random.below(100) {
            0..75 => self.peek(How::Snapshot, store, random),
            75..92 => self.snapshot(store, 0),
            92..96 => self.snapshot(store, random.below(400)),
            _ => store.wait_for_change(store.last_commit()?, Duration::from_millis(5)).map(drop),
        }
    }

    fn peek(&self, how: How, store: &Store, random: &mut Random) -> Result<()> {
        let call = clock::now();
        let snap = store.read()?;
        let ret = clock::now();
        let mut seen = peek(&|table| snap.raw(table), random)?;
        (seen.how, seen.thread, seen.call, seen.ret) = (how, self.id, call, ret);
        self.history.peek(&seen);
        Ok(())
    }

    /// A write transaction that writes nothing: what it was shown counts when its commit returns.
    fn write_nothing(&self, store: &Store, random: &mut Random) -> Result<()> {
        let call = clock::now();
        let tx = store.begin_write()?;
        let mut seen = peek(&|table| tx.read_raw(table), random)?;
        tx.commit()?;
        (seen.how, seen.thread, seen.call, seen.ret) = (How::Write, self.id, call, clock::now());
        self.history.peek(&seen);
        Ok(())
    }

    /// Looks at a snapshot, and after some time again: it must show the same.
    fn snapshot(&self, store: &Store, hold_ms: u64) -> Result<()> {
        let call = clock::now();
        let snap = store.read()?;
        let ret = clock::now();
        let (length, digest) = look(&snap)?;
        self.history.whole(&Whole { thread: self.id, lsn: snap.lsn(), length, digest, call, ret });
        if hold_ms > 0 {
            std::thread::sleep(Duration::from_millis(hold_ms));
            assert_eq!(look(&snap)?, (length, digest), "a snapshot at {} has changed", snap.lsn());
        }
        Ok(())
    }

    fn transaction(&self, store: &Store, txn: u64, random: &mut Random) -> Result<()> {
        let relaxed = random.below(10) == 0;
        let durability = if relaxed { Durability::Relaxed } else { Durability::Sync };
        let call = clock::now();
        let tx = store.begin_write_with(WriteOptions::new().durability(durability))?;
        let noted = Noted { tx: &tx, intent: RefCell::new(Intent { call, ..Intent::default() }) };
        self.body(&noted, txn, random)?;
        let intent = noted.intent.take();
        if random.below(30) == 0 {
            tx.rollback();
            return Ok(());
        }
        self.history.intent(txn, &intent);
        match tx.commit() {
            Ok(lsn) => self.history.acknowledged(txn, lsn, clock::now()),
            // It may be found, then or later: nothing is written down.
            Err(Error::Unconfirmed { .. }) => {}
            Err(error) => {
                self.excused(&error);
                self.history.failed(txn);
                return Err(error);
            }
        }
        Ok(())
    }

    fn body(&self, noted: &Noted<'_>, txn: u64, random: &mut Random) -> Result<()> {
        let index = length(&noted.tx.read_raw(JOURNAL)?)?;
        noted.intent.borrow_mut().index = index;
        noted.tx.raw(JOURNAL)?.put(&index.to_be_bytes(), &txn.to_be_bytes())?;
        match random.below(100) {
            0..25 => {
                let (from, to, some) = (random.below(ACCOUNTS), random.below(ACCOUNTS), random.below(50));
                let money = |key| Ok::<_, Error>(noted.get(0, key)?.map_or(MONEY, |value| number(&value)));
                if from != to && money(from)? >= some {
                    let (a, b) = (money(from)? - some, money(to)? + some);
                    noted.set(0, from, Some(&a.to_be_bytes()))?;
                    noted.set(0, to, Some(&b.to_be_bytes()))?;
                }
            }
            25..45 => {
                let key = random.below(super::peek::COUNTED);
                let n = noted.get(COUNTERS, key)?.map_or(0, |value| number(&value)) + 1;
                noted.set(COUNTERS, key, Some(&n.to_be_bytes()))?;
                noted.intent.borrow_mut().counters.push((key, n));
            }
            45..75 => noted.lists(txn, random)?,
            75..97 => {
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

    /// Starts processes that read or write once, one after the other.
    fn send_others(&self, stop: &AtomicBool) {
        let args: Vec<String> = std::env::args().skip(1).collect();
        for round in 0_u64.. {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let seed = self.task.seed ^ crate::random::mix(self.id << 32 | round);
            let mut child = start_worker(&args, &Task { kind: Kind::Look, seed, ..self.task.clone() });
            let status = child.wait().unwrap();
            // It has said why.
            assert!(status.success() || stop.load(Ordering::Acquire), "one that looks once: {status}");
        }
    }

    fn look_once(&self) {
        let mut random = Random(self.task.seed);
        let worker = Worker { task: self.task, history: Writer::new(&self.task.history), id: self.id | LOOKS };
        let kind = Kind::of_a_look(&mut random);
        let looked = worker.open(kind).and_then(|store| {
            if !kind.reads_only() && random.below(2) == 0 {
                // Each is a process of its own.
                worker.transaction(&store, worker.id << 32 | u64::from(std::process::id()), &mut random)?;
            } else {
                worker.peek(How::Opened, &store, &mut random)?;
            }
            if random.below(2) == 0 {
                // Gone without a last word to the store.
                std::process::exit(0);
            }
            store.close()
        });
        if let Err(error) = looked {
            self.excused(&error);
        }
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
