//! Damage of every kind, and what reading says then: the right answer, or an error that names the
//! place. Never a wrong answer, a panic or a hang, and the file is left as it was.
//!
//! By default a sample of the damages is tried. `MEMSTONE_FULL=1 cargo test --release --test corruption
//! -- --nocapture` flips every byte and takes about an hour.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "common/random.rs"]
mod random;

mod damage;

use damage::{Outcome, Recorder, Sample, put, read_all, sample, scratch};
use memstone::{Corruption, Durability, Error, Options};
use random::Random;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn full() -> bool {
    std::env::var_os("MEMSTONE_FULL").is_some()
}

/// Without optimisation so many times fewer damages are tried.
const SPARSE: usize = if cfg!(debug_assertions) { 5 } else { 1 };

/// Ends the process if one damage keeps a reader busy for long: a hang must not look like slowness.
struct Watchdog(Arc<AtomicU64>);

impl Watchdog {
    fn start() -> Watchdog {
        let beats = Arc::new(AtomicU64::new(0));
        let weak = Arc::downgrade(&beats);
        std::thread::spawn(move || {
            let mut seen = (0, Instant::now());
            while let Some(beats) = weak.upgrade() {
                let now = beats.load(Ordering::Relaxed);
                if now != seen.0 {
                    seen = (now, Instant::now());
                } else if seen.1.elapsed() > Duration::from_secs(60) {
                    eprintln!("hung: damage number {now}");
                    std::process::abort();
                }
                drop(beats);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Watchdog(beats)
    }

    fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Counts {
    right: u64,
    reported: u64,
    /// The newest batch is gone, and nothing else: from the file alone it is one that was torn.
    torn_tail: u64,
    /// What was destroyed is all that told of newer transactions (only where whole blocks are).
    older: u64,
    /// Of every sixteenth byte whose damage no reader met: where the checker found it.
    checker_only: u64,
    kinds: BTreeMap<&'static str, u64>,
}

fn variant(error: &Error) -> &'static str {
    match error {
        Error::Corrupt(place) => place.kind.as_str(),
        Error::NotAStore { .. } => "not a store",
        Error::Format { .. } => "newer format",
        other => panic!("not an error for damage: {other}"),
    }
}

/// The ways to open a store: they share most of the code, so the damages are dealt out among them.
fn ways() -> [Options; 4] {
    let options = Options::new().create(false);
    [
        options.clone().read_only(true).memory_map(false),
        options.clone().memory_map(false),
        options.clone().read_only(true),
        options,
    ]
}

/// A store that rests for a second may checkpoint its log. Quicker than that, an opening that changes the file is a fault.
const AT_REST: Duration = Duration::from_secs(1);

/// Writes the damaged bytes, reads everything, and makes sure that the file was not touched.
fn try_damage(path: &Path, bytes: &[u8], way: usize, sample: &Sample, what: &str) -> Outcome {
    let options = &ways()[way % 4];
    let once = || {
        // A damaged store may not be left tidily, and what lies beside it then speaks of another file.
        let _ = std::fs::remove_file(path.with_extension("mst-shm"));
        std::fs::write(path, bytes).unwrap();
        let began = Instant::now();
        let store = options.open(path);
        let outcome = read_all(path, options, sample);
        // Before the last handle closes the store, which may checkpoint the log.
        let untouched = std::fs::read(path).unwrap() == bytes;
        let slow = began.elapsed() >= AT_REST;
        drop(store);
        assert!(untouched || slow, "{what}: opening changed the file");
        untouched.then_some(outcome)
    };
    // On a busy machine reading may take longer than that: once more. (The watchdog ends what has no end.)
    let outcome = catch_unwind(AssertUnwindSafe(|| std::iter::repeat_with(once).flatten().next().unwrap()));
    let _ = std::fs::remove_file(path);
    match outcome {
        Ok(Outcome::Wrong(wrong)) => panic!("{what}: WRONG: {wrong}"),
        Ok(outcome) => outcome,
        Err(panic) => {
            eprintln!("{what}: panicked");
            std::panic::resume_unwind(panic)
        }
    }
}

/// Whether the checker finds nothing in these bytes.
fn is_clean(path: &Path, bytes: &[u8]) -> bool {
    std::fs::write(path, bytes).unwrap();
    let report = memstone::check(path, &memstone::CheckOptions::new());
    std::fs::remove_file(path).unwrap();
    report.is_ok_and(|report| report.is_clean())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// File offset of the block that the newest batch of the log starts in.
fn last_batch(sample: &Sample) -> Option<usize> {
    let frames = (12288..sample.bytes.len()).step_by(4096).filter(|at| &sample.bytes[*at..at + 4] == b"mlf1");
    frames.max_by_key(|at| u64_at(&sample.bytes, at + 16)).filter(|at| {
        // In a closed store the log is empty: its frames are older than the newest root says.
        let checkpoint = [0, sample.page_size].map(|slot| u64_at(&sample.bytes, slot + 104)).into_iter().max().unwrap();
        u64_at(&sample.bytes, at + 16) > checkpoint
    })
}

/// Whether the error speaks of the page or frame that holds the damaged byte.
fn names_the_place(place: &Corruption, flipped: usize, sample: &Sample) -> bool {
    let start = place.offset as usize;
    let size = match place.page {
        // A frame may follow at once or in the next block. A long value is in it if a checkpoint ran meanwhile.
        None => {
            let frames = [start, start.next_multiple_of(4096)]
                .into_iter()
                .filter(|at| sample.bytes.get(*at..at + 64).is_some_and(|header| header.starts_with(b"mlf1")));
            frames.map(|at| u32_at(&sample.bytes, at + 56) as usize).max().unwrap_or(0) + 2 * 4096
        }
        Some(page) => {
            assert_eq!(page as usize * sample.page_size, start);
            u32_at(&sample.bytes, start + 28) as usize * sample.page_size
        }
    };
    (start..start + size).contains(&flipped)
}

fn flip_bytes(name: &str, sample: &Sample, places: impl Iterator<Item = (usize, u8)>) -> Counts {
    let dir = scratch();
    let path = dir.path().join("flipped.mst");
    let watchdog = Watchdog::start();
    let mut counts = Counts::default();
    let last_batch = last_batch(sample);
    let mut bytes = sample.bytes.clone();
    for (at, mask) in places {
        watchdog.beat();
        let what = format!("{name}: byte {at} ^ {mask:#04x}");
        bytes[at] ^= mask;
        match try_damage(&path, &bytes, at + usize::from(mask), sample, &what) {
            Outcome::Right => {
                counts.right += 1;
                // Where nothing is read: the free map and the pending list are the checker's, too.
                if at % 16 == 0 && !is_clean(&path, &bytes) {
                    counts.checker_only += 1;
                }
            }
            Outcome::Reported(errors) => {
                counts.reported += 1;
                assert!(!is_clean(&path, &bytes), "{what}: the checker finds nothing");
                for error in &errors {
                    let Error::Corrupt(place) = error else { panic!("{what}: {error}") };
                    assert!(names_the_place(place, at, sample), "{what}: the wrong place is named: {error}");
                    assert_eq!(place.path, path, "{what}: {error}");
                }
                *counts.kinds.entry(variant(&errors[0])).or_default() += 1;
            }
            Outcome::Older(lsn, errors) => {
                let in_last = last_batch.is_some_and(|start| (start..start + 4096).contains(&at));
                // (A mark has an LSN, and is no transaction.)
                let gone = sample.states.range(lsn + 1..).count();
                assert!(in_last && gone <= 2, "{what}: {gone} transactions after {lsn} are gone unnoticed");
                assert!(errors.is_empty());
                counts.torn_tail += 1;
            }
            Outcome::Wrong(_) => unreachable!("panics at once"),
        }
        bytes[at] ^= mask;
    }
    println!("{name}: {} bytes; wrong 0, panicked 0, hung 0; {counts:?}", bytes.len());
    counts
}

#[test]
fn one_flipped_bit_gives_the_truth_or_an_error() {
    let dir = scratch();
    for (page_size, tail) in [(4096, true), (4096, false), (16384, true)] {
        let sample = sample(dir.path(), page_size, tail);
        let path = dir.path().join("whole.mst");
        for way in 0..4 {
            let outcome = try_damage(&path, &sample.bytes, way, &sample, "undamaged");
            assert!(matches!(outcome, Outcome::Right), "undamaged: {outcome:?}");
        }
        let len = sample.bytes.len();
        // Two bits of each byte (with large pages, of every eighth). Of blocks that were never written (the log's room) every 64th byte, and by
        // default a sample of all, denser where headers are.
        let empty: Vec<bool> = sample.bytes.chunks(4096).map(|block| block.iter().all(|byte| *byte == 0)).collect();
        let places = (0..len).flat_map(|at| [(at, 1 << (at % 8)), (at, 1 << ((at + 3) % 8))]);
        let picked = places.enumerate().filter(|(i, (at, _))| {
            let chosen = i % (997 * SPARSE) == 0 || at % 4096 < 80 && (i + at / 4096) % (97 * SPARSE) == 0;
            let in_full = if empty[at / 4096] { at % 64 == 0 } else { page_size == 4096 || at % 8 == 3 };
            if full() { in_full } else { chosen }
        });
        let name = format!("page size {page_size}, {}", if tail { "as after a crash" } else { "closed" });
        let counts = flip_bytes(&name, &sample, picked.map(|(_, place)| place));
        assert!(counts.right > 0 && counts.reported > 0 && (tail || counts.torn_tail == 0));
    }
}

/// One damage of several bytes; `stale` is an earlier copy of the store.
fn damage_more(bytes: &mut Vec<u8>, stale: &[u8], random: &mut Random) -> String {
    let len = bytes.len();
    let blocks = len / 4096;
    let at = random.below(len);
    match random.below(8) {
        0 => {
            let most = 1 << random.below(16);
            let n = (1 + random.below(most)).min(len - at);
            bytes[at..at + n].fill(0);
            format!("{n} zeros at {at}")
        }
        1 => {
            let (a, b) = (random.below(blocks) * 4096, random.below(blocks) * 4096);
            let block = bytes[a..a + 4096].to_vec();
            bytes.copy_within(b..b + 4096, a);
            bytes[b..b + 4096].copy_from_slice(&block);
            format!("blocks at {a} and {b} swapped")
        }
        2 => {
            // A lost write: what was there before. The slots are dealt with apart.
            let both = blocks.min(stale.len() / 4096);
            let first = 2 + random.below(both - 2);
            let n = (1 + random.below(4)).min(both - first);
            let range = first * 4096..(first + n) * 4096;
            bytes[range.clone()].copy_from_slice(&stale[range]);
            format!("{n} stale blocks at {}", first * 4096)
        }
        3 => {
            let slot = random.below(2) * 4096;
            bytes[slot..slot + 4096].copy_from_slice(&stale[slot..slot + 4096]);
            format!("a stale slot at {slot}")
        }
        4 => {
            bytes.truncate(at);
            format!("cut to {at}")
        }
        5 => {
            let n = (1 + random.below(200)).min(len - at);
            bytes[at..at + n].iter_mut().for_each(|byte| *byte = random.next() as u8);
            format!("{n} random bytes at {at}")
        }
        6 => {
            let block = random.below(blocks) * 4096;
            bytes[block..block + 4096].fill(0xff);
            format!("a block of ones at {block}")
        }
        _ => {
            let n = 1 + random.below(20);
            for _ in 0..n {
                bytes[random.below(len)] ^= 1 << random.below(8);
            }
            format!("{n} flipped bits")
        }
    }
}

/// Whether a root slot, or the log from the batch of `lsn` on, was touched: what is destroyed
/// there, both copies of it, cannot be told from what was never written.
fn explains_older(sample: &Sample, damaged: &[u8], lsn: u64) -> bool {
    let differs = |range: std::ops::Range<usize>| sample.bytes.get(range.clone()) != damaged.get(range);
    if differs(0..sample.page_size) || differs(sample.page_size..2 * sample.page_size) {
        return true;
    }
    let mut lost = (12288..sample.bytes.len())
        .step_by(4096)
        .filter(|at| &sample.bytes[*at..at + 4] == b"mlf1" && u64_at(&sample.bytes, at + 16) >= lsn);
    lost.any(|at| differs(at..at + 4096))
}

#[test]
fn damage_of_many_bytes_gives_the_truth_or_an_error() {
    let dir = scratch();
    let watchdog = Watchdog::start();
    let mut counts = Counts::default();
    for (seed, page_size, tail) in [(1, 4096, true), (2, 4096, false), (3, 16384, true), (4, 65536, false)] {
        let sample = sample(dir.path(), page_size, tail);
        let path = dir.path().join("damaged.mst");
        let mut random = Random(seed);
        for round in 0..if full() { 20_000 } else { 300 / SPARSE } {
            watchdog.beat();
            let mut bytes = sample.bytes.clone();
            let mut what = format!("seed {seed}, page size {page_size}, tail {tail}, round {round}: ");
            for _ in 0..1 + random.below(3) {
                if bytes.len() > 3 * 4096 {
                    what += &damage_more(&mut bytes, &sample.earlier, &mut random);
                    what += "; ";
                }
            }
            match try_damage(&path, &bytes, round, &sample, &what) {
                Outcome::Right => counts.right += 1,
                Outcome::Reported(errors) => {
                    counts.reported += 1;
                    *counts.kinds.entry(variant(&errors[0])).or_default() += 1;
                }
                Outcome::Older(lsn, errors) => {
                    assert!(explains_older(&sample, &bytes, lsn), "{what} transactions after {lsn} are gone unnoticed");
                    if errors.is_empty() { counts.older += 1 } else { counts.reported += 1 }
                }
                Outcome::Wrong(_) => unreachable!("panics at once"),
            }
        }
    }
    println!("many bytes: wrong 0, panicked 0, hung 0; {counts:?}");
}

/// Writing to a damaged store must not make right answers wrong: the damage is reported, or it lay
/// where nothing was.
#[test]
fn writing_to_a_damaged_store_spreads_nothing() {
    let dir = scratch();
    let sample = sample(dir.path(), 4096, true);
    let path = dir.path().join("written.mst");
    let watchdog = Watchdog::start();
    let mut random = Random(9);
    let (mut right, mut reported, mut refused) = (0, 0, 0);
    for _ in 0..if full() { 20_000 } else { 300 / SPARSE } {
        watchdog.beat();
        let mut bytes = sample.bytes.clone();
        let at = random.below(bytes.len());
        let what = format!("byte {at}");
        bytes[at] ^= 1 << random.below(8);
        std::fs::write(&path, &bytes).unwrap();
        let Ok(store) = Options::new().open(&path) else {
            reported += 1;
            continue;
        };
        let before = store.read().unwrap().lsn();
        let mut states = sample.states.clone();
        let mut now = damage::Recorder::state_at(&states, before).clone();
        for n in 0..3_u8 {
            let written = store.write(|tx| tx.raw("added")?.put(&[n], &[n; 5000])).and_then(|()| store.checkpoint());
            if let Err(error) = &written {
                assert!(error.is_corrupt(), "{what}: {error}");
                refused += 1;
            }
            let lsn = store.read().unwrap().lsn();
            // The commit may stand although the checkpoint after it was refused.
            if store.read().unwrap().raw("added").is_ok_and(|t| t.get(&[n]).is_ok_and(|v| v.is_some())) {
                now.entry("added".to_owned()).or_default().insert(vec![n], vec![n; 5000]);
                states.retain(|older, _| *older < lsn);
                states.insert(lsn, now.clone());
            }
        }
        let newest = store.read().unwrap().lsn();
        drop(store);
        let after = Sample { bytes, states, newest, page_size: 4096, earlier: Vec::new() };
        match read_all(&path, &Options::new(), &after) {
            Outcome::Right => right += 1,
            Outcome::Reported(errors) => {
                errors.iter().for_each(|error| assert!(error.is_corrupt(), "{what}: {error}"));
                reported += 1;
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    println!("written to: right {right}, reported {reported}, checkpoints refused {refused}");
}

/// No frame leads to a transaction that is too large for the log, so its root is in both slots: one of them may be lost
/// as a whole.
#[test]
fn a_large_transaction_survives_the_loss_of_a_slot() {
    let dir = scratch();
    let path = dir.path().join("large.mst");
    // With many frames before it the log grows first.
    for frames in [1, 20] {
        let sample = large_transaction(&path, frames);
        for slot in [0, 4096] {
            let mut lost = sample.bytes.clone();
            lost[slot..slot + 4096].fill(0);
            for way in 0..4 {
                let outcome = try_damage(&path, &lost, way, &sample, "a lost root");
                assert!(matches!(outcome, Outcome::Right), "{frames} frames, slot {slot}, way {way}: {outcome:?}");
            }
        }
    }
}

/// A store whose newest root is that of a large transaction after some frames.
fn large_transaction(path: &Path, frames: usize) -> Sample {
    let mut store = Recorder::create(path, &Options::new().page_size(4096).log_cap(1 << 20));
    for n in 0..frames {
        store.commit(Durability::Sync, &[put("notes", format!("{n}"), n, 2000)]);
    }
    let large: Vec<_> = (0..300).map(|n| put("notes", format!("large/{n}"), n, 1000)).collect();
    store.commit(Durability::Sync, &large);
    let Recorder { store, states, .. } = store;
    let bytes = std::fs::read(path).unwrap();
    drop(store);
    let newest = *states.keys().next_back().unwrap();
    Sample { bytes, states, newest, page_size: 4096, earlier: Vec::new() }
}
