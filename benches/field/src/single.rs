//! One process alone: the workloads of the first table, in their order, on one growing store.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::data::{Key, Model, Random, Value, digest, key, value};
use crate::disk::allocated;
use crate::engine::{Access, Engine, Reader};

const BATCH: usize = 1000;
const SCAN: usize = 10;

/// How much of each workload: everything in proportion to the rows, 500,000 being the full size.
pub struct Plan {
    rows: usize,
    commits: usize,
    batches: usize,
    relaxed: usize,
    reads: usize,
    scans: usize,
    snapshots: usize,
    overwrites: usize,
}

impl Plan {
    pub fn new(rows: usize) -> Plan {
        let scaled = |full: usize| (full * rows).div_ceil(500_000).max(1);
        Plan {
            rows,
            commits: scaled(1000),
            batches: scaled(100),
            relaxed: scaled(50_000),
            reads: scaled(1_000_000),
            scans: scaled(500_000),
            snapshots: scaled(200_000),
            overwrites: scaled(50),
        }
    }

    /// The names of the figures that [`run`] returns, each in milliseconds but the last.
    pub fn labels(&self) -> Vec<String> {
        vec![
            format!("bulk load of {}, one transaction", self.rows),
            format!("{} durable one-row commits", self.commits),
            format!("{} durable batches of {BATCH}", self.batches),
            format!("{} one-row commits, not flushed", self.relaxed),
            format!("{} random reads, one snapshot", self.reads),
            format!("{} scans of {SCAN}", self.scans),
            format!("{} random reads, a snapshot each", self.snapshots),
            format!("{} durable batches overwriting {BATCH}", self.overwrites),
            "remove half, one transaction".to_owned(),
            "reopen and read".to_owned(),
            "disk after (MB)".to_owned(),
        ]
    }
}

/// Runs every workload once; each answer of the store is checked against a model.
pub fn run<E: Engine>(dir: &Path, rows: usize) -> Result<Vec<f64>> {
    let plan = Plan::new(rows);
    let mut store = E::open(dir, Access::Alone)?;
    let mut model = Model::default();
    let mut figures = Vec::new();
    let mut figure = |started: Instant| figures.push(started.elapsed().as_secs_f64() * 1e3);

    let started = Instant::now();
    store.write((0..plan.rows).map(put))?;
    figure(started);
    note(&mut model, 0..plan.rows);

    let one_row = |store: &E, rows: Range<usize>| -> Result<()> {
        rows.map(|row| row as u64).try_for_each(|row| store.put(&key(row), &value(row, 0)))
    };
    let new = model.len()..model.len() + plan.commits;
    let started = Instant::now();
    one_row(&store, new.clone())?;
    figure(started);
    note(&mut model, new);

    let new = model.len()..model.len() + plan.batches * BATCH;
    let started = Instant::now();
    for first in new.clone().step_by(BATCH) {
        store.write((first..first + BATCH).map(put))?;
    }
    figure(started);
    note(&mut model, new);

    let new = model.len()..model.len() + plan.relaxed;
    store.relax(true)?;
    let started = Instant::now();
    one_row(&store, new.clone())?;
    figure(started);
    store.relax(false)?;
    note(&mut model, new);

    let digests: Vec<u64> = (0..model.len()).map(|row| model.digest(row)).collect();
    let mut random = Random(1);
    let picks: Vec<usize> = (0..plan.reads).map(|_| random.below(digests.len())).collect();
    let started = Instant::now();
    let found = store.read(|reader| {
        let mut sum = 0u64;
        for &row in &picks {
            reader.get(&key(row as u64), |value| sum = sum.wrapping_add(digest(value)))?;
        }
        Ok(sum)
    })?;
    figure(started);
    ensure!(found == total(picks.iter().map(|&row| digests[row])), "random reads gave wrong values");

    let sorted = model.sorted();
    let row_digests: Vec<u64> = sorted.iter().map(|&row| digest(&key(row as u64)).wrapping_add(digests[row])).collect();
    let picks: Vec<usize> = (0..plan.scans).map(|_| random.below(sorted.len())).collect();
    let started = Instant::now();
    let found = store.read(|reader| {
        let mut sum = 0u64;
        for &rank in &picks {
            reader.scan(&key(sorted[rank] as u64), SCAN, |key, value| {
                sum = sum.wrapping_add(digest(key)).wrapping_add(digest(value));
            })?;
        }
        Ok(sum)
    })?;
    figure(started);
    let windows = picks.iter().flat_map(|&rank| row_digests[rank..].iter().take(SCAN).copied());
    ensure!(found == total(windows), "scans gave wrong rows");

    let picks: Vec<usize> = (0..plan.snapshots).map(|_| random.below(digests.len())).collect();
    let started = Instant::now();
    let mut sum = 0u64;
    for &row in &picks {
        store.get(&key(row as u64), |value| sum = sum.wrapping_add(digest(value)))?;
    }
    figure(started);
    ensure!(sum == total(picks.iter().map(|&row| digests[row])), "reads with a snapshot each gave wrong values");

    let picks: Vec<usize> = (0..plan.overwrites * BATCH).map(|_| random.below(model.len())).collect();
    let started = Instant::now();
    for batch in picks.chunks(BATCH) {
        store.write(batch.iter().map(|&row| (key(row as u64), Some(value(row as u64, 1)))))?;
    }
    figure(started);
    picks.iter().for_each(|&row| model.set(row, Some(1)));

    let odd = || (1..digests.len()).step_by(2);
    let started = Instant::now();
    store.write(odd().map(|row| (key(row as u64), None::<Value>)))?;
    figure(started);
    odd().for_each(|row| model.set(row, None));

    store.close()?;
    let started = Instant::now();
    let store = E::open(dir, Access::Alone)?;
    let mut found = 0;
    store.get(&key(0), |value| found = digest(value))?;
    figure(started);
    ensure!(found == model.digest(0), "the first read after reopening gave a wrong value");

    let kept = model.sorted();
    let mut count = 0;
    let mut sum = 0u64;
    store.read(|reader| {
        reader.scan(&[0; 24], usize::MAX >> 1, |key, value| {
            count += 1;
            sum = sum.wrapping_add(digest(key)).wrapping_add(digest(value));
        })
    })?;
    let expected = total(kept.iter().map(|&row| digest(&key(row as u64)).wrapping_add(model.digest(row))));
    ensure!(count == kept.len() && sum == expected, "the store holds other rows than were left in it");
    store.close()?;

    figures.push(allocated(dir)? as f64 / 1e6);
    Ok(figures)
}

fn put(row: usize) -> (Key, Option<Value>) {
    (key(row as u64), Some(value(row as u64, 0)))
}

fn note(model: &mut Model, rows: Range<usize>) {
    rows.for_each(|row| model.set(row, Some(0)));
}

fn total(digests: impl Iterator<Item = u64>) -> u64 {
    digests.fold(0, u64::wrapping_add)
}
