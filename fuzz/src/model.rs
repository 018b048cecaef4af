//! Sequences of operations on a store and on a `BTreeMap`, which must agree: transactions that
//! commit, roll back or go back to a savepoint, old snapshots, several tables, checkpoints,
//! reopening, and copies of the file as a crash would leave it.

use crate::scratch;
use memstone::{Durability, Error, Options, RawTable, RawTableMut, Savepoint, Snapshot, Store, WriteOptions, WriteTxn};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

type Table = BTreeMap<Vec<u8>, Vec<u8>>;
type Content = BTreeMap<&'static str, Table>;

const NAMES: [&str; 4] = ["a", "b", "tables may have long names", ""];
const SIZES: [usize; 8] = [0, 3, 100, 1000, 1025, 5000, 20_000, 40_000];

/// The input, byte by byte; zeros after its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn name(&mut self) -> &'static str {
        NAMES[usize::from(self.byte()) % NAMES.len()]
    }

    /// Few distinct keys, some of which begin others, some long.
    fn key(&mut self) -> Vec<u8> {
        let byte = self.byte();
        match byte >> 6 {
            0 => vec![b'k', byte],
            1 => vec![b'k'; usize::from(byte & 0x3f)],
            2 => [b"prefix/".as_slice(), &[byte & 7, self.byte()]].concat(),
            _ => [vec![byte & 3; 1 << (byte & 15).min(12)], vec![self.byte()]].concat(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let (size, fill) = (self.byte(), self.byte());
        let len = SIZES[usize::from(size) % SIZES.len()] + usize::from(size >> 3);
        (0..len).map(|i| fill.wrapping_add((i / 7) as u8)).collect()
    }
}

fn same_table(table: &RawTable<'_>, model: &Table, what: &str) {
    assert_eq!(table.len().expect(what), model.len() as u64, "{what}: len");
    let range = || table.range(Bound::Unbounded, Bound::Unbounded).expect(what);
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

fn same(snapshot: &Snapshot, model: &Content, what: &str) {
    let found: Vec<_> = snapshot.tables().expect(what).into_iter().map(|t| (t.name, t.entries)).collect();
    let expected: Vec<_> = model.iter().map(|(name, t)| ((*name).to_owned(), t.len() as u64)).collect();
    assert_eq!(found, expected, "{what}");
    for (name, table) in model {
        same_table(&snapshot.raw(name).expect(what), table, what);
    }
}

fn bounds(input: &mut Input<'_>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let kind = input.byte();
    let mut bound = |bits: u8| match bits % 3 {
        0 => Bound::Unbounded,
        1 => Bound::Included(input.key()),
        _ => Bound::Excluded(input.key()),
    };
    (bound(kind), bound(kind >> 4))
}

fn slices(bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (bounds.0.as_ref().map(Vec::as_slice), bounds.1.as_ref().map(Vec::as_slice))
}

fn within(bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>), key: &[u8]) -> bool {
    use std::ops::RangeBounds;
    slices(bounds).contains(key)
}

fn change(table: &RawTableMut<'_>, model: &mut Table, input: &mut Input<'_>) -> Result<(), Error> {
    match input.byte() % 12 {
        0..=2 => {
            let (key, value) = (input.key(), input.value());
            table.put(&key, &value)?;
            model.insert(key, value);
        }
        3 => {
            let (key, value) = (input.key(), input.value());
            let old = table.insert(&key, &value)?;
            assert_eq!(old.as_deref(), model.insert(key, value).as_deref());
        }
        4 => {
            let key = input.key();
            assert_eq!(table.remove(&key)?.as_deref(), model.remove(&key).as_deref());
        }
        5 => {
            let key = input.key();
            table.delete(&key)?;
            model.remove(&key);
        }
        6 => {
            let popped = table.pop_first()?.map(|(k, v)| (k.to_vec(), v.to_vec()));
            assert_eq!(popped, model.pop_first());
        }
        7 => {
            let popped = table.pop_last()?.map(|(k, v)| (k.to_vec(), v.to_vec()));
            assert_eq!(popped, model.pop_last());
        }
        8 => {
            let bounds = bounds(input);
            let (from, to) = slices(&bounds);
            let before = model.len();
            model.retain(|key, _| !within(&bounds, key));
            assert_eq!(table.delete_range(from, to)?, (before - model.len()) as u64);
        }
        9 => {
            let bit = input.byte() % 8;
            let keep = |key: &[u8], value: &[u8]| (key.len() + value.len()) >> bit & 1 == 0;
            let before = model.len();
            model.retain(|key, value| keep(key, value));
            assert_eq!(table.retain(keep)?, (before - model.len()) as u64);
        }
        10 => {
            let (n, fill) = (u32::from(input.byte()) * 8, input.byte());
            let items = (0..n).map(|i| ([b"bulk/".as_slice(), &i.to_be_bytes()].concat(), vec![fill; 30]));
            table.bulk_load(items.clone())?;
            model.extend(items);
        }
        _ => {
            let key = input.key();
            assert_eq!(table.get(&key)?.as_deref(), model.get(&key).map(Vec::as_slice));
            let bounds = bounds(input);
            let (from, to) = slices(&bounds);
            let mut range = table.range(from, to)?;
            let mut expected = model.iter().filter(|(key, _)| within(&bounds, key));
            // From both ends in turn.
            for _ in 0..8 {
                let back = input.byte() & 1 == 1;
                let found = if back { range.next_back() } else { range.next() };
                let found = found.transpose()?.map(|(k, v)| (k.to_vec(), v.to_vec()));
                let wanted = if back { expected.next_back() } else { expected.next() };
                assert_eq!(found, wanted.map(|(k, v)| (k.clone(), v.clone())));
            }
        }
    }
    Ok(())
}

fn in_transaction(tx: &WriteTxn, model: &mut Content, input: &mut Input<'_>) -> Result<(), Error> {
    let mut savepoints: Vec<(Savepoint, Content)> = Vec::new();
    for _ in 0..1 + input.byte() % 16 {
        match input.byte() % 16 {
            0 => {
                let name = input.name();
                assert_eq!(tx.drop_table(name)?, model.remove(name).is_some());
            }
            1 => {
                let (from, to) = (input.name(), input.name());
                let result = tx.rename_table(from, to);
                match result {
                    Ok(()) => {
                        let table = model.remove(from).expect("renamed, so it was there");
                        assert!(from == to || !model.contains_key(to));
                        model.insert(to, table);
                    }
                    Err(Error::NoTable { .. }) => assert!(!model.contains_key(from)),
                    Err(Error::TableExists { .. }) => assert!(model.contains_key(to)),
                    Err(error) => return Err(error),
                }
            }
            2 => {
                let name = input.name();
                match tx.clear_table(name) {
                    Ok(()) => {
                        if let Some(table) = model.get_mut(name) {
                            table.clear();
                        }
                    }
                    Err(Error::NoTable { .. }) => assert!(!model.contains_key(name)),
                    Err(error) => return Err(error),
                }
            }
            3 => savepoints.push((tx.savepoint(), model.clone())),
            4 => {
                if !savepoints.is_empty() {
                    let at = usize::from(input.byte()) % savepoints.len();
                    savepoints.truncate(at + 1);
                    let (savepoint, then) = &savepoints[at];
                    tx.rollback_to(savepoint)?;
                    model.clone_from(then);
                }
            }
            5 => {
                let name = input.name();
                let table = tx.read_raw(name)?;
                same_table(&table, model.get(name).unwrap_or(&Table::new()), "in the transaction");
                let found: Vec<_> = tx.tables()?.into_iter().map(|t| (t.name, t.entries)).collect();
                let expected: Vec<_> = model.iter().map(|(n, t)| ((*n).to_owned(), t.len() as u64)).collect();
                assert_eq!(found, expected);
            }
            _ => {
                let name = input.name();
                let table = tx.raw(name)?;
                change(&table, model.entry(name).or_default(), input)?;
            }
        }
    }
    Ok(())
}

/// What is told of a file that is not damaged.
fn sound(path: &Path, what: &str) {
    let report = memstone::check(path, &memstone::CheckOptions::new()).expect(what);
    assert!(report.is_clean(), "{what}: {:?}", report.findings);
}

struct World {
    path: PathBuf,
    store: Option<Store>,
    model: Content,
    old: Vec<(Snapshot, Content)>,
}

fn options(map: bool) -> Options {
    Options::new().log_cap(64 << 10).memory_map(map)
}

impl World {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    fn transaction(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let flags = input.byte();
        let durability = if flags & 1 == 0 { Durability::Sync } else { Durability::Relaxed };
        let tx = self.store().begin_write_with(WriteOptions::new().durability(durability))?;
        let mut model = self.model.clone();
        in_transaction(&tx, &mut model, input)?;
        if flags & 6 == 6 {
            tx.rollback();
        } else {
            tx.commit()?;
            self.model = model;
        }
        Ok(())
    }

    fn step(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        match input.byte() % 16 {
            0 => self.store().checkpoint()?,
            1 => {
                self.old.clear();
                self.store.take().expect("open").close()?;
                self.store = Some(options(input.byte() & 1 == 0).open(&self.path)?);
            }
            2 => {
                if self.old.len() == 3 {
                    self.old.remove(usize::from(input.byte()) % 3);
                }
                self.old.push((self.store().read()?, self.model.clone()));
            }
            3 => {
                let copy = self.path.with_extension("copy");
                std::fs::copy(&self.path, &copy).expect("room for a copy");
                sound(&copy, "after a crash");
                let crashed = options(input.byte() & 1 == 0).read_only(input.byte() & 1 == 0).open(&copy)?;
                same(&crashed.read()?, &self.model, "after a crash");
                crashed.close()?;
                let again = options(true).open(&copy)?;
                same(&again.read()?, &self.model, "after a crash, opened again");
                again.close()?;
                sound(&copy, "after a crash, closed");
                std::fs::remove_file(&copy).expect("the copy is ours");
            }
            4 => same(&self.store().read()?, &self.model, "now"),
            5 => {
                for (snapshot, model) in &self.old {
                    same(snapshot, model, "an old snapshot");
                }
            }
            6 => self.store().flush()?,
            _ => self.transaction(input)?,
        }
        Ok(())
    }
}

fn remove(path: &Path) {
    for extension in ["mst", "copy", "mst-shm", "copy-shm"] {
        let _ = std::fs::remove_file(path.with_extension(extension));
    }
}

/// The first byte says the page size; then operations.
pub fn operations(data: &[u8]) {
    let mut input = Input(data);
    let path = scratch().join(format!("model-{}.mst", std::process::id()));
    remove(&path);
    let first = input.byte();
    let page_size = 4096 << (first % 5);
    let store = options(first & 0x80 == 0).page_size(page_size).open(&path).expect("a new store");
    let mut world = World { path: path.clone(), store: Some(store), model: Content::new(), old: Vec::new() };
    let mut steps = 0;
    while !input.0.is_empty() && steps < 100 {
        world.step(&mut input).expect("no operation fails on a good disk");
        steps += 1;
    }
    for (snapshot, model) in world.old.drain(..) {
        same(&snapshot, &model, "an old snapshot, at the end");
    }
    same(&world.store().read().expect("a snapshot"), &world.model, "at the end");
    world.store.take().expect("open").close().expect("closing");
    sound(&path, "closed");
    let store = options(true).open(&path).expect("opening again");
    same(&store.read().expect("a snapshot"), &world.model, "opened again");
    store.close().expect("closing again");
    remove(&path);
}
