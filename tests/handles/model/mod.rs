//! Sequences of operations on a store and on maps in memory, which must agree: transactions that commit, roll
//! back or go back to savepoints, old snapshots, several tables, checkpoints, reopening, and copies of the file
//! as a crash would leave it. Handles of all kinds are kept over everything that happens to what they stand for.

mod follower;
mod handle;
mod input;
mod tables;
mod txn;

use follower::Follower;
use handle::OpenRange;
use input::Input;
use memstone::{CheckOptions, Durability, Options, RawTable, Snapshot, Store, WriteOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tables::{Kind, Rows, Stands, Tables};
use txn::{Txn, is_refused};

fn same_table(table: &RawTable<'_>, model: &Rows, what: &str) {
    assert_eq!(table.len().expect(what), model.len() as u64, "{what}: len");
    let range = || table.range(..).expect(what);
    let mut expected = model.iter();
    for item in range() {
        let (key, value) = item.expect(what);
        let (k, v) = expected.next().expect(what);
        assert!(*key == **k && *value == **v, "{what}: {key:?} in a scan");
    }
    assert!(expected.next().is_none(), "{what}: entries missing in a scan");
    let keys: Vec<_> = range().rev().map(|item| item.expect(what).0.to_vec()).collect();
    assert!(keys.iter().eq(model.keys().rev()), "{what}: backwards");
    for (key, value) in model {
        assert_eq!(table.get(key).expect(what).as_deref(), Some(value.as_slice()), "{what}");
    }
}

fn same(snapshot: &Snapshot, model: &Tables, what: &str) {
    let model = model.by_name();
    let found: Vec<_> = snapshot.tables().expect(what).into_iter().map(|t| (t.name, t.entries)).collect();
    let expected: Vec<_> = model.iter().map(|(name, t)| ((*name).to_owned(), t.rows.len() as u64)).collect();
    assert_eq!(found, expected, "{what}");
    for (name, table) in model {
        same_table(&snapshot.untyped(name).expect(what), &table.rows, what);
    }
}

/// Checks a file, which must not be damaged.
fn sound(path: &Path, what: &str) {
    let report = memstone::check(path, &CheckOptions::new()).expect(what);
    assert!(report.is_clean(), "{what}: {:?}", report.findings);
}

fn options(map: bool) -> Options {
    Options::new().log_cap(64 << 10).memory_map(map)
}

/// A store, all that the process has of it outside of a transaction, and what it must hold.
struct World {
    path: PathBuf,
    /// None at times: then a transaction or a snapshot keeps the store open, or it is closed.
    stores: Vec<Store>,
    committed: Tables,
    /// How many tables were ever made.
    made: usize,
    snapshots: Vec<(Snapshot, Tables)>,
    /// Whether a write transaction is open.
    writing: bool,
    follower: Follower,
}

impl World {
    /// One of the handles, or another one.
    fn store(&mut self, input: &mut Input<'_>) -> Store {
        let byte = input.byte();
        if self.stores.is_empty() || (byte >= 0xc0 && self.stores.len() < 3) {
            self.stores.push(options(byte & 1 == 0).open(&self.path).expect("a store that can be opened"));
        }
        self.stores[usize::from(byte) % self.stores.len()].clone()
    }

    /// An operation on the store, with or without an open transaction.
    fn beside(&mut self, input: &mut Input<'_>) {
        match input.byte() % 8 {
            0 => self.store(input).checkpoint().expect("a checkpoint"),
            1 => {
                let store = self.store(input);
                store.flush().expect("a flush");
                self.follower.follow(&store.read().expect("a snapshot"), &self.committed);
            }
            2 | 3 => {
                if let Some(at) = input.place(self.stores.len()) {
                    self.stores.swap_remove(at).close().expect("closing a handle");
                }
            }
            4 | 5 => {
                self.stores.clear();
                // A snapshot or a transaction keeps the store open: the last process that leaves takes the sidecar away.
                let held = self.writing || !self.snapshots.is_empty();
                assert!(!held || self.path.with_extension("mst-shm").exists(), "the store was left");
            }
            6 => {
                let snapshot = self.store(input).read().expect("a snapshot");
                self.snapshots.push((snapshot, self.committed.clone()));
            }
            _ => {
                let store = self.store(input);
                if self.writing {
                    is_refused(store.begin_write_with(WriteOptions::new().timeout(Duration::ZERO)));
                }
                same(&store.read().expect("a snapshot"), &self.committed, "beside a transaction");
            }
        }
    }

    fn transaction(&mut self, input: &mut Input<'_>) {
        let flags = input.byte();
        let durability = if flags & 1 == 0 { Durability::Sync } else { Durability::Relaxed };
        let store = self.store(input);
        let tx = store.begin_write_with(WriteOptions::new().durability(durability)).expect("the turn to write");
        drop(store);
        self.writing = true;
        let mut txn = Txn::new(&tx, self.committed.clone());
        for _ in 0..1 + input.below(64) {
            txn.step(self, input);
        }
        let tables = txn.end();
        if flags & 6 == 6 {
            tx.rollback();
        } else {
            tx.commit().expect("a commit");
            self.committed = tables;
        }
        self.writing = false;
    }

    /// Some transactions, with ranges of old snapshots kept open meanwhile.
    fn transactions(&mut self, input: &mut Input<'_>) {
        let old = std::mem::take(&mut self.snapshots);
        let mut ranges = Vec::new();
        for (snapshot, tables) in &old {
            let name = input.name();
            let stands = tables.named(name).map_or(Stands::ForName(name, Kind::Raw), Stands::For);
            let there = tables.named(name).is_some();
            let table = if there { snapshot.untyped(name) } else { snapshot.raw(name) };
            let table = table.expect("a table of a snapshot");
            ranges.push((OpenRange::of(&table, stands, input.bounds(Kind::Raw)), tables));
        }
        for _ in 0..1 + input.below(3) {
            self.transaction(input);
            if let Some(at) = input.place(ranges.len()) {
                let (range, tables) = &mut ranges[at];
                range.step(tables, input.byte() & 1 == 1);
            }
        }
        drop(ranges);
        self.snapshots.splice(0..0, old);
        let most = 3.min(self.snapshots.len());
        self.snapshots.drain(..self.snapshots.len() - most);
    }

    /// A copy of the file is what a crash of the process would leave.
    fn crash(&self, input: &mut Input<'_>) {
        let copy = self.path.with_extension("copy");
        std::fs::copy(&self.path, &copy).expect("room for a copy");
        sound(&copy, "after a crash");
        let crashed = options(input.byte() & 1 == 0).read_only(input.byte() & 1 == 0).open(&copy).expect("a crash");
        same(&crashed.read().expect("a snapshot"), &self.committed, "after a crash");
        crashed.close().expect("closing");
        let again = options(true).open(&copy).expect("after a crash, opened again");
        same(&again.read().expect("a snapshot"), &self.committed, "after a crash, opened again");
        again.close().expect("closing");
        sound(&copy, "after a crash, closed");
        std::fs::remove_file(&copy).expect("the copy is ours");
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => self.crash(input),
            1 => {
                self.snapshots.clear();
                self.stores.clear();
            }
            2 => {
                for (snapshot, model) in &self.snapshots {
                    same(snapshot, model, "an old snapshot");
                }
            }
            3..7 => self.beside(input),
            _ => self.transactions(input),
        }
    }
}

/// The first byte says the page size, and how long the journal is; then operations. The store is made at `path`.
pub fn operations(data: &[u8], path: &Path) {
    let remove = || ["mst", "copy", "mst-shm", "copy-shm"].map(|end| std::fs::remove_file(path.with_extension(end)));
    let _ = remove();
    let mut input = Input(data);
    let first = input.byte();
    let store = options(first & 0x80 == 0).page_size(4096 << (first % 5)).open(path).expect("a new store");
    // (By default the feed has the log alone.)
    if let Some(bytes) = [None, Some(0), Some(900), Some(1 << 20)][usize::from(first >> 5 & 3)] {
        store.set_journal(Some(bytes)).expect("a journal");
    }
    let follower = Follower::new(&store.read().expect("a snapshot"), &Tables::default());
    let (path, stores, committed) = (path.to_path_buf(), vec![store], Tables::default());
    let mut world = World { path, stores, committed, made: 0, snapshots: Vec::new(), writing: false, follower };
    let mut steps = 0;
    while !input.is_empty() && steps < 100 {
        world.step(&mut input);
        steps += 1;
    }
    for (snapshot, model) in world.snapshots.drain(..) {
        same(&snapshot, &model, "an old snapshot, at the end");
    }
    let end = world.store(&mut input).read().expect("a snapshot");
    same(&end, &world.committed, "at the end");
    world.follower.follow(&end, &world.committed);
    drop(end);
    world.stores.drain(..).for_each(|store| store.close().expect("closing"));
    sound(&world.path, "closed");
    let store = options(true).open(&world.path).expect("opening again");
    same(&store.read().expect("a snapshot"), &world.committed, "opened again");
    store.close().expect("closing again");
    let _ = remove();
}
