//! The single operations of a store, each by itself: `cargo bench --bench micro`.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

use std::hint::black_box;
use std::ops::Bound;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use memstone::{Durability, Store, WriteOptions};
use tempfile::TempDir;

const ROWS: u64 = 100_000;
const MANY: u64 = 1_000_000;
const TABLE: &str = "rows";
const VALUE: [u8; 150] = [0x5a; 150];

/// A key without order: the same for the same row, spread evenly over all keys.
fn key(row: u64) -> [u8; 24] {
    let mut key = [0; 24];
    for (part, bytes) in (0u64..).zip(key.chunks_exact_mut(8)) {
        let mut word = (row ^ (part << 60)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        bytes.copy_from_slice(&(word ^ (word >> 32)).to_le_bytes());
    }
    key
}

/// Row numbers that jump about.
fn rows() -> impl FnMut() -> u64 {
    let mut row = 0u64;
    move || {
        row = row.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (row >> 32) % ROWS
    }
}

/// A store of `ROWS` rows, all of them in the tree. It lies in the target directory: on a disk, where a flush costs
/// what it costs.
fn filled() -> (TempDir, Store) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(dir.path().join("micro.mst")).unwrap();
    put(&store, 0..ROWS, Durability::Sync);
    store.checkpoint().unwrap();
    (dir, store)
}

fn put(store: &Store, rows: impl Iterator<Item = u64>, durability: Durability) {
    let options = WriteOptions::new().durability(durability);
    store
        .write_with(options, |transaction| {
            let table = transaction.raw(TABLE)?;
            rows.map(key).try_for_each(|key| table.put(&key, &VALUE))
        })
        .unwrap();
}

fn reading(criterion: &mut Criterion) {
    let (_dir, store) = filled();
    let mut group = criterion.benchmark_group("read");
    let snapshot = store.read().unwrap();
    let table = snapshot.raw(TABLE).unwrap();
    let mut row = rows();
    group.bench_function("get", |bencher| bencher.iter(|| black_box(table.get(&key(row())).unwrap().unwrap().len())));
    group.bench_function("get, absent", |bencher| {
        bencher.iter(|| black_box(table.get(&key(ROWS + row())).unwrap().is_none()));
    });
    group.bench_function("snapshot", |bencher| bencher.iter(|| black_box(store.read().unwrap().lsn())));
    group.bench_function("snapshot and get", |bencher| {
        bencher.iter(|| {
            let snapshot = store.read().unwrap();
            black_box(snapshot.raw(TABLE).unwrap().get(&key(row())).unwrap().unwrap().len())
        });
    });
    group.throughput(Throughput::Elements(10));
    group.bench_function("scan 10", |bencher| {
        bencher.iter(|| {
            let range = table.range((Bound::Included(&key(row())), Bound::Unbounded)).unwrap();
            range.take(10).map(|entry| entry.unwrap().1.len()).sum::<usize>()
        });
    });
    group.finish();
}

fn writing(criterion: &mut Criterion) {
    let (_dir, store) = filled();
    let mut group = criterion.benchmark_group("write");
    let mut row = rows();
    group.bench_function("relaxed commit", |bencher| {
        bencher.iter(|| put(&store, std::iter::once(row()), Durability::Relaxed));
    });
    store.flush().unwrap();
    group.bench_function("durable commit", |bencher| {
        bencher.iter(|| put(&store, std::iter::once(row()), Durability::Sync));
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("durable commit of 1000", |bencher| {
        bencher.iter_batched(
            || (0..1000).map(|_| row()).collect::<Vec<_>>(),
            |rows| put(&store, rows.into_iter(), Durability::Sync),
            BatchSize::SmallInput,
        );
    });
    // Only the checkpoint is timed, not the commits that give it something to do.
    group.bench_function("checkpoint of 1000", |bencher| {
        bencher.iter_custom(|times| {
            store.checkpoint().unwrap();
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                put(&store, (0..1000).map(|_| row()), Durability::Sync);
                let started = Instant::now();
                store.checkpoint().unwrap();
                spent += started.elapsed();
            }
            spent
        });
    });
    group.finish();
}

/// A million rows in the tree; the log has none of them, or has added 25,000 and deleted as many.
fn ranking(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(dir.path().join("ranks.mst")).unwrap();
    let change = |added: std::ops::Range<u64>, deleted: std::ops::Range<u64>| {
        store
            .write_with(WriteOptions::new().durability(Durability::Relaxed), |transaction| {
                let table = transaction.raw(TABLE)?;
                added.map(key).try_for_each(|key| table.put(&key, &key[..8]))?;
                deleted.map(key).try_for_each(|key| table.delete(&key))
            })
            .unwrap();
    };
    change(0..MANY, 0..0);
    store.checkpoint().unwrap();
    for logged in [0, 50_000] {
        change(MANY..MANY + logged / 2, 0..logged / 2);
        // What the log adds is found out by the first call; a checkpoint meanwhile changes nothing for a snapshot.
        let snapshot = store.read().unwrap();
        let table = snapshot.raw(TABLE).unwrap();
        assert_eq!(table.len().unwrap(), MANY);
        let mut group = criterion.benchmark_group(format!("ranks, {logged} keys in the log"));
        let mut row = rows();
        let mut any = || row() * (MANY / ROWS);
        group.bench_function("rank", |bencher| bencher.iter(|| black_box(table.rank(&key(any())).unwrap())));
        group.bench_function("nth", |bencher| bencher.iter(|| black_box(table.nth(any()).unwrap().unwrap().0.len())));
        group.bench_function("count of a range", |bencher| {
            bencher.iter(|| {
                black_box(table.count((Bound::Included(&key(any())[..]), Bound::Excluded(&[0xf0][..]))).unwrap())
            });
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    reading(&mut criterion);
    ranking(&mut criterion);
    writing(&mut criterion);
    criterion.final_summary();
}
