//! Work that must not grow with what a store holds, or with how old it is: calls are counted.

use super::{check, new_store, open_store};
use crate::Store;
use crate::disk::sim::{Call, Conductor, Verdict};
use crate::engine::checkpoint::CheckpointOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LOG_CAP: u64 = 1 << 20;

/// Counts the reads of all processes.
#[derive(Default)]
struct Reads(AtomicU64);

impl Conductor for Reads {
    fn before(&self, _: usize, call: Call) -> Verdict {
        self.0.fetch_add(u64::from(call == Call::Read), Ordering::Relaxed);
        Verdict::Go
    }
}

/// What making a file short took, by a process that has read nothing before.
#[derive(Debug)]
struct Compaction {
    /// Calls that read: at least one for each page of a tree.
    reads: u64,
    /// Pages that were written: those that moved, and what leads to them.
    written: u64,
    checkpoints: u64,
    /// Pages of the file before and after.
    before: u64,
    after: u64,
}

/// Fills a store, applies `shorten`, and makes the file as short as it can be.
fn compaction(fill: impl FnOnce(&Store), shorten: impl FnOnce(&Store)) -> Compaction {
    let counted = Arc::new(Reads::default());
    let (world, _disk, store) = new_store(Arc::clone(&counted) as _, LOG_CAP);
    fill(&store);
    store.checkpoint().unwrap();
    shorten(&store);
    let before = store.checkpoint().map(|()| store.stats().unwrap().file_size / 4096).unwrap();
    store.engine().relax_view(0);
    let other = open_store(&world, 1, LOG_CAP).1.unwrap();
    let mut done = Compaction { reads: 0, written: 0, checkpoints: 0, before, after: before };
    let start = counted.0.load(Ordering::Relaxed);
    let plan = CheckpointOptions { shrink: true, force: true, compact: 100_000, ..CheckpointOptions::default() };
    loop {
        let result = other.engine().checkpoint(&plan, None).unwrap();
        done.checkpoints += 1;
        done.written += result.pages_written;
        done.after = result.page_count;
        if !result.could_shrink() {
            break;
        }
        assert!(done.checkpoints < 20, "it comes to no end: {done:?}");
    }
    done.reads = counted.0.load(Ordering::Relaxed) - start;
    check::structure(&other).unwrap();
    done
}

const ROWS: u32 = 40_000;

fn rows(long: bool) -> impl FnOnce(&Store) {
    move |store| {
        for from in (0..ROWS).step_by(1000) {
            let put = |n: u32| if long && n.is_multiple_of(50) { vec![7; 9000] } else { vec![7; 100] };
            let rows = from..from + 1000;
            store.write(|tx| rows.into_iter().try_for_each(|n| tx.raw("t")?.put(&n.to_be_bytes(), &put(n)))).unwrap();
            // So that the log stays short: its pages would be free in the end.
            store.checkpoint().unwrap();
        }
    }
}

fn without(deleted: impl Fn(u32) -> bool) -> impl FnOnce(&Store) {
    move |store| {
        for from in (0..ROWS).step_by(1000) {
            let mut rows = (from..from + 1000).filter(|n| deleted(*n));
            store.write(|tx| rows.try_for_each(|n| tx.raw("t")?.delete(&n.to_be_bytes()).map(drop))).unwrap();
            store.checkpoint().unwrap();
        }
    }
}

/// A checkpoint reads the root slots, the free map, the catalog and the log's end; each page that moves has been read
/// once, as has the way to it, whose pages move, too.
#[track_caller]
fn assert_in_proportion(done: &Compaction) {
    println!("{done:?}");
    let bound = 3 * done.written + 40 * done.checkpoints;
    assert!(done.reads <= bound, "more than {bound} reads: {done:?}");
    assert!(done.after < done.before, "{done:?}");
}

#[test]
fn a_compaction_reads_what_it_moves() {
    for long in [false, true] {
        // The newest half, the newest tenth: hardly any page has to move.
        for least in [ROWS / 2, ROWS / 10 * 9] {
            let done = compaction(rows(long), without(|n| n >= least));
            assert_in_proportion(&done);
            assert!(done.reads < done.after / 2, "{done:?}");
        }
        // The oldest half, and stretches everywhere: the rest has to move.
        assert_in_proportion(&compaction(rows(long), without(|n| n < ROWS / 2)));
        assert_in_proportion(&compaction(rows(long), without(|n| n / 500 % 3 == 1)));
    }
}

#[test]
fn a_compaction_reads_no_table_that_stays_where_it_is() {
    let name = |n: u32| format!("table {n}");
    let fill = |store: &Store| {
        for from in (0..600).step_by(50) {
            let value = |n: u32| vec![7; 1000 + n as usize % 2000];
            let mut tables = from..from + 50;
            store.write(|tx| tables.try_for_each(|n| tx.raw(name(n).as_str())?.put(b"key", &value(n)))).unwrap();
            store.checkpoint().unwrap();
        }
    };
    let shorten = |store: &Store| {
        store.write(|tx| (400..600).try_for_each(|n| tx.drop_table(name(n).as_str()).map(drop))).unwrap();
    };
    let done = compaction(fill, shorten);
    assert_in_proportion(&done);
    assert!(done.reads < 400, "{done:?}");
}

/// Two processes make checkpoints in turn, each of as many changes, while a snapshot of each state is held.
#[test]
fn held_snapshots_make_no_checkpoint_dearer() {
    const CHECKPOINTS: usize = 160;
    let counted = Arc::new(Reads::default());
    let (world, _disk, store) = new_store(Arc::clone(&counted) as _, LOG_CAP);
    rows(false)(&store);
    store.checkpoint().unwrap();
    let other = open_store(&world, 1, LOG_CAP).1.unwrap();
    let (mut snapshots, mut costs) = (Vec::new(), Vec::new());
    for n in 0..CHECKPOINTS {
        let store = [&store, &other][n % 2];
        snapshots.push(store.read().unwrap());
        let mut changed = (0..100).map(|i| i * (ROWS / 100) + u32::try_from(n).unwrap());
        store.write(|tx| changed.try_for_each(|row| tx.raw("t")?.put(&row.to_be_bytes(), &[8; 100]))).unwrap();
        let before = counted.0.load(Ordering::Relaxed);
        let plan = CheckpointOptions { force: true, ..CheckpointOptions::default() };
        let written = store.engine().checkpoint(&plan, None).unwrap().pages_written;
        costs.push((written, counted.0.load(Ordering::Relaxed) - before));
    }
    let sums = |costs: &[(u64, u64)]| costs.iter().fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
    let (first, last) = (sums(&costs[20..40]), sums(&costs[CHECKPOINTS - 20..]));
    println!("pages written and reads, by 20 checkpoints: {first:?}, later {last:?}");
    let engine = store.engine();
    let view = engine.view_at_end().unwrap();
    let list = view.tree.space(view.tree.root.free_directory).unwrap().pending_pages() * 8 / 4096;
    assert!(list > 20, "a list of {list} pages");
    assert!(last.0 < first.0 + 20 * 4 && last.1 < first.1 + 20 * 8, "{costs:?}");
    drop((view, snapshots));
    check::structure(&other).unwrap();
}
