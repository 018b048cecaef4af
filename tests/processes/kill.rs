//! SIGKILL at any instant, of writers, checkpointers and openers: nothing acknowledged is lost,
//! nothing is half there, no process is stuck.

use crate::common::{Child, Random, Role, STUCK, TestStore, give_up_after, number, setting, tell};
use memstone::{Error, Options, Result, Snapshot, Store, WriteTxn};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

pub const ROLES: &[Role] = &[("related_rows", related_rows)];

const PROCESSES: usize = 6;

fn open(path: &str) -> Result<Store> {
    // Small, so that it is full often.
    Options::new().log_cap(256 << 10).timeout(4 * STUCK).open(path)
}

/// The rows that belong together: the same row in two tables, a count of all rows, and the newest of each process.
fn add(tx: &WriteTxn, process: u64, serial: u64, random: &mut Random) -> Result<()> {
    let key = [process.to_be_bytes(), serial.to_be_bytes()].concat();
    let len = match random.below(40) {
        0 => 40_000 + random.below(100_000),
        1 => 4000,
        _ => random.below(300),
    };
    let value = random.bytes(len as usize);
    let sum = crc32fast::hash(&value);
    tx.raw("left")?.put(&key, &value)?;
    tx.raw("right")?.put(&key, &sum.to_be_bytes())?;
    let totals = tx.raw("totals")?;
    let rows = totals.get(b"rows")?.map_or(0, |n| number(&n));
    totals.put(b"rows", &(rows + 1).to_be_bytes())?;
    tx.raw("newest")?.put(&process.to_be_bytes(), &serial.to_be_bytes())
}

/// Commits until it is killed; each commit it was told of, it writes down.
fn related_rows(words: &[String]) {
    let (path, process, mut serial): (_, u64, u64) = (&words[0], words[1].parse().unwrap(), words[2].parse().unwrap());
    let mut acks = std::fs::File::options().append(true).create(true).open(&words[3]).unwrap();
    let stop = crate::common::stop_flag();
    let mut random = Random(process << 32 | serial);
    tell("ready");
    while !stop.load(std::sync::atomic::Ordering::Acquire) {
        let store = open(path).unwrap();
        for _ in 0..random.below(60) {
            let started = Instant::now();
            serial += 1;
            match random.below(30) {
                // Larger than the log: it goes straight to the tree.
                0 => {
                    let count = 2 + random.below(4);
                    let result = store.write(|tx| {
                        for i in 0..count {
                            add(tx, process, serial + i, &mut random)?;
                        }
                        tx.raw("bulk")?.put(&process.to_be_bytes(), &random.bytes(30_000))?;
                        for i in 0..20_u64 {
                            tx.raw("bulk")?.put(&(process << 8 | i).to_be_bytes(), &random.bytes(20_000))?;
                        }
                        Ok::<_, Error>(())
                    });
                    result.unwrap();
                    serial += count - 1;
                }
                _ => store.write(|tx| add(tx, process, serial, &mut random)).unwrap(),
            }
            acks.write_all(format!("{serial}\n").as_bytes()).unwrap();
            match random.below(25) {
                0 => store.checkpoint().unwrap(),
                1 => related(&store.read().unwrap()),
                _ => {}
            }
            give_up_after(started, "a commit and what follows it");
        }
    }
}

/// One state holds all of each transaction or nothing.
fn related(snap: &Snapshot) {
    let (left, right) = (snap.raw("left").unwrap(), snap.raw("right").unwrap());
    let rows = snap.raw("totals").unwrap().get(b"rows").unwrap().map_or(0, |n| number(&n));
    assert_eq!((left.len().unwrap(), right.len().unwrap()), (rows, rows), "rows at {}", snap.lsn());
    let pairs = left.prefix(b"").unwrap().zip(right.prefix(b"").unwrap());
    let mut count = 0;
    for (a, b) in pairs {
        let ((key, value), (other, sum)) = (a.unwrap(), b.unwrap());
        assert_eq!(&key[..], &other[..]);
        assert_eq!(crc32fast::hash(&value).to_be_bytes(), sum[..], "row {:?}", &key[..]);
        count += 1;
    }
    assert_eq!(count, rows);
}

fn newest_ack(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().last().map_or(0, |line| line.parse().unwrap())
}

#[test]
fn nothing_is_lost_whichever_process_is_killed() {
    let test = TestStore::new();
    let kills = setting("MEMSTONE_KILLS", 60);
    let seed = setting("MEMSTONE_SEED", 1);
    println!("{kills} kills, seed {seed}");
    let mut random = Random(seed);
    let acks = |process: u64| test.dir.path().join(format!("acks-{process}"));
    let start = |process: u64, serial: u64| {
        Child::start("related_rows", &[&test.path.display(), &process, &serial, &acks(process).display()])
    };
    let mut children: Vec<_> = (0..PROCESSES as u64).map(|process| start(process, 0)).collect();
    let mut lost = HashMap::new();
    let (started, mut progress) = (Instant::now(), (Instant::now(), 0));
    for kill in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        let victim = random.below(PROCESSES as u64);
        children.iter_mut().for_each(Child::must_run);
        children[victim as usize].kill();
        let acked = newest_ack(&acks(victim));
        // It may have died between a commit and its acknowledgement, or before its frame was flushed:
        // then the next writer builds on it all the same.
        let store = open(test.path.to_str().unwrap()).unwrap();
        let found = store
            .write(|tx| Ok::<_, Error>(tx.read_raw("newest")?.get(&victim.to_be_bytes())?.map_or(0, |n| number(&n))))
            .unwrap();
        assert!(
            found >= acked,
            "process {victim}: {acked} was acknowledged, {found} is there; kill {kill}, seed {seed}"
        );
        if found > acked {
            *lost.entry(victim).or_insert(0) += 1;
        }
        if kill % 8 == 0 {
            related(&store.read().unwrap());
        }
        drop(store);
        children[victim as usize] = start(victim, found);
        let all: u64 = (0..PROCESSES as u64).map(|process| newest_ack(&acks(process))).sum();
        if all > progress.1 {
            progress = (Instant::now(), all);
        }
        give_up_after(progress.0, &format!("nobody commits any more; kill {kill}, seed {seed}"));
    }
    for mut child in children {
        child.say("stop");
        child.finish();
    }
    let store = test.open();
    let snap = store.read().unwrap();
    related(&snap);
    for process in 0..PROCESSES as u64 {
        let text = std::fs::read_to_string(acks(process)).unwrap();
        let left = snap.raw("left").unwrap();
        for line in text.lines() {
            let Ok(serial) = line.parse::<u64>() else { continue };
            let key = [process.to_be_bytes(), serial.to_be_bytes()].concat();
            assert!(left.contains(&key).unwrap(), "process {process}: row {serial} was acknowledged and is lost");
        }
    }
    let rows = snap.raw("left").unwrap().len().unwrap();
    println!("{kills} kills in {:?}: {rows} rows, {lost:?} committed but not acknowledged", started.elapsed());
}
