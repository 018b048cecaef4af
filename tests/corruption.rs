//! Damage of every kind, and what reading says then: the right answer, or an error that names the
//! place. Never a wrong answer, a panic or a hang, and the file is left as it was.
//!
//! By default a sample of the damages is tried. `MEMSTONE_FULL=1 cargo test --release --test corruption
//! -- --nocapture` flips every byte and takes about half an hour.

mod damage;

use damage::{Outcome, Sample, read_all, sample, scratch};
use memstone::{Corruption, Error, Options};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn full() -> bool {
    std::env::var_os("MEMSTONE_FULL").is_some()
}

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
    kinds: BTreeMap<&'static str, u64>,
}

fn variant(error: &Error) -> &'static str {
    match error {
        Error::Corrupt(place) => place.kind,
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

/// Writes the damaged bytes, reads everything, and makes sure that the file was not touched.
fn try_damage(path: &Path, bytes: &[u8], way: usize, sample: &Sample, what: &str) -> Outcome {
    std::fs::write(path, bytes).unwrap();
    let options = &ways()[way % 4];
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let store = options.open(path);
        let outcome = read_all(path, options, sample);
        // Before the last handle closes the store, which may fold the log.
        assert!(std::fs::read(path).unwrap() == bytes, "{what}: opening changed the file");
        drop(store);
        outcome
    }));
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

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// File offset of the block that the newest batch of the log starts in.
fn last_batch(sample: &Sample) -> Option<usize> {
    let frames = (8192..sample.bytes.len()).step_by(4096).filter(|at| &sample.bytes[*at..at + 4] == b"mlf1");
    frames.max_by_key(|at| u64_at(&sample.bytes, at + 16)).filter(|at| {
        // In a closed store the log is empty: its frames are older than the newest root says.
        let checkpoint = [0, 4096].map(|slot| u64_at(&sample.bytes, slot + 56)).into_iter().max().unwrap();
        u64_at(&sample.bytes, at + 16) > checkpoint
    })
}

/// Whether the error speaks of the page or frame that holds the damaged byte.
fn names_the_place(place: &Corruption, flipped: usize, sample: &Sample) -> bool {
    let start = place.offset as usize;
    let size = match place.page {
        // A frame may follow at once or in the next block; those of the samples are short.
        None => 2 * 4096,
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
            Outcome::Right => counts.right += 1,
            Outcome::Reported(errors) => {
                counts.reported += 1;
                for error in &errors {
                    let Error::Corrupt(place) = error else { panic!("{what}: {error}") };
                    assert!(names_the_place(place, at, sample), "{what}: the wrong place is named: {error}");
                    assert_eq!(place.path, path, "{what}: {error}");
                }
                *counts.kinds.entry(variant(&errors[0])).or_default() += 1;
            }
            Outcome::Older(lsn, errors) => {
                let in_last = last_batch.is_some_and(|start| (start..start + 4096).contains(&at));
                assert!(in_last && lsn + 2 >= sample.newest, "{what}: transactions after {lsn} are gone unnoticed");
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
        // Two bits of each byte; of the sample, more of them where headers are.
        let places = (0..len).flat_map(|at| [(at, 1 << (at % 8)), (at, 1 << ((at + 3) % 8))]);
        let picked = places
            .enumerate()
            .filter(|(i, (at, _))| full() || i % 97 == 0 || at % 4096 < 80 && (i + at / 4096) % 13 == 0);
        let name = format!("page size {page_size}, {}", if tail { "as after a crash" } else { "closed" });
        let counts = flip_bytes(&name, &sample, picked.map(|(_, place)| place));
        assert!(counts.right > 0 && counts.reported > 0 && tail == (counts.torn_tail > 0));
    }
}
