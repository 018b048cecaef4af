//! A store in use by many threads, verified in full beside them and after them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a test may fail")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memstone::{CheckOptions, Durability, Error, Report, Result, Store, WriteOptions};

#[path = "common/random.rs"]
mod random;

use random::Random;

/// The store is checked, at least so often, until others have written so often.
const CHECKS: usize = 20;
const STEPS: usize = 2500;

fn sound(path: &Path) -> Report {
    let report = memstone::check(path, &CheckOptions::new()).unwrap();
    assert_eq!(report.findings, [], "LSN {} of root {}", report.lsn, report.root_sequence);
    report
}

fn step(store: &Store, random: &mut Random) -> Result<()> {
    let durability = if random.below(4) == 0 { Durability::Sync } else { Durability::Relaxed };
    let options = WriteOptions::new().durability(durability);
    let name = format!("table {}", random.below(5));
    store.write_with(options, |tx| {
        match random.below(60) {
            0 => drop(tx.drop_table(&name)?),
            1 => tx.clear_table(&name)?,
            2 => match tx.rename_table(&name, format!("table {}", random.below(9))) {
                Ok(()) | Err(Error::NoTable { .. } | Error::TableExists { .. }) => {}
                Err(error) => return Err(error),
            },
            3 => store.checkpoint()?,
            _ => {
                let table = tx.raw(&name)?;
                for _ in 0..random.below(30) {
                    let key = format!("{:04}", random.below(3000)).repeat(1 + random.below(6) as usize);
                    match random.below(20) {
                        0..6 => table.delete(key.as_bytes())?,
                        6 => table.put(key.as_bytes(), &vec![1; random.below(40_000) as usize])?,
                        _ => table.put(key.as_bytes(), &vec![2; random.below(300) as usize])?,
                    }
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_store_in_use_is_sound_at_any_time() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path)?;
    sound(&path);
    let (done, steps) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for seed in 1..4 {
            let (store, done, steps) = (store.clone(), &done, &steps);
            threads.spawn(move || {
                let mut random = Random(seed);
                let mut held = None;
                while !done.load(Ordering::Relaxed) {
                    steps.fetch_add(1, Ordering::Relaxed);
                    match step(&store, &mut random) {
                        Ok(()) | Err(Error::Nested { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    if random.below(50) == 0 {
                        held = Some(store.read().unwrap());
                    }
                    if random.below(50) == 0 {
                        store.checkpoint().unwrap();
                    }
                }
                drop(held);
            });
        }
        let mut verdict = Ok(0_usize);
        while let Ok(checks) = verdict
            && (checks < CHECKS || steps.load(Ordering::Relaxed) < STEPS)
        {
            // Not an assertion yet: the writers must hear of it and end.
            verdict = std::panic::catch_unwind(|| sound(&path)).map(|_| checks + 1);
        }
        done.store(true, Ordering::Relaxed);
        assert!(verdict.is_ok());
    });
    sound(&path);
    drop(store);
    sound(&path);
    let store = Store::open(&path)?;
    store.checkpoint()?;
    let report = sound(&path);
    for table in store.read()?.tables()? {
        let found = report.tables.iter().find(|t| t.name == table.name).unwrap();
        assert_eq!(found.entries, table.entries);
    }
    Ok(())
}
