//! Stores to be damaged, the truth about what they hold, and a reader that compares with it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use memstone::{Durability, Error, Options, Snapshot, Store, WriteOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tables by name, each with its entries.
pub type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// One change, as the store and as the truth have it.
#[derive(Debug, Clone)]
pub enum Op {
    Put(&'static str, Vec<u8>, Vec<u8>),
    Delete(&'static str, Vec<u8>),
    Drop(&'static str),
    Rename(&'static str, &'static str),
}

/// A store whose every committed state is written down.
pub struct Recorder {
    pub store: Store,
    pub now: Content,
    /// The content after each transaction, by its LSN.
    pub states: BTreeMap<u64, Content>,
}

impl Recorder {
    pub fn create(path: &Path, options: &Options) -> Recorder {
        let store = options.open(path).unwrap();
        Recorder { store, now: Content::new(), states: BTreeMap::from([(0, Content::new())]) }
    }

    pub fn commit(&mut self, durability: Durability, ops: &[Op]) {
        let tx = self.store.begin_write_with(WriteOptions::new().durability(durability)).unwrap();
        for op in ops {
            match op {
                Op::Put(table, key, value) => {
                    tx.raw(table).unwrap().put(key, value).unwrap();
                    self.now.entry((*table).to_owned()).or_default().insert(key.clone(), value.clone());
                }
                Op::Delete(table, key) => {
                    tx.raw(table).unwrap().delete(key).unwrap();
                    self.now.entry((*table).to_owned()).or_default().remove(key);
                }
                Op::Drop(table) => {
                    assert!(tx.drop_table(table).unwrap());
                    self.now.remove(*table);
                }
                Op::Rename(from, to) => {
                    tx.rename_table(from, to).unwrap();
                    let table = self.now.remove(*from).unwrap();
                    self.now.insert((*to).to_owned(), table);
                }
            }
        }
        let lsn = tx.commit().unwrap();
        self.states.insert(lsn, self.now.clone());
    }

    /// The state with the newest transaction up to `lsn`.
    pub fn state_at(states: &BTreeMap<u64, Content>, lsn: u64) -> &Content {
        states.range(..=lsn).next_back().unwrap().1
    }
}

/// Bytes that look like nothing else in the store.
pub fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((seed * 131 + i * 7 + i / 251) % 251) as u8).collect()
}

pub fn put(table: &'static str, key: impl AsRef<[u8]>, seed: usize, len: usize) -> Op {
    Op::Put(table, key.as_ref().to_vec(), value(seed, len))
}

/// A store's bytes and everything that is true about them.
pub struct Sample {
    pub bytes: Vec<u8>,
    pub states: BTreeMap<u64, Content>,
    pub newest: u64,
    pub page_size: usize,
    /// The same store two checkpoints before.
    pub earlier: Vec<u8>,
}

impl Sample {
    pub fn truth(&self) -> &Content {
        Recorder::state_at(&self.states, self.newest)
    }
}

/// A store with every kind of page. `tail`: copied while it is open, with transactions in its log,
/// the last two of them in one batch; else closed first.
pub fn sample(dir: &Path, page_size: u32, tail: bool) -> Sample {
    let path = dir.join(format!("sample-{page_size}-{tail}.mst"));
    let options = Options::new().page_size(page_size);
    let mut store = Recorder::create(&path, &options);
    let inline = page_size as usize / 4;
    let mut ops = vec![put("one", "only", 1, 10), put("gone", "k", 2, 2 * inline), put("old name", "x", 3, 3)];
    ops.extend((0..60).map(|n| put("notes", format!("note/{n:03}"), n, 60 + n * inline / 64)));
    ops.extend([put("notes", "", 61, inline), put("notes", vec![b'z'; 3000], 62, 9)]);
    ops.extend([put("long", "a", 70, inline + 1), put("long", "b", 71, 40_000), put("long", "c", 72, 3 * inline)]);
    store.commit(Durability::Sync, &ops);
    store.store.checkpoint().unwrap();
    // What is freed now is free only two roots later, or when the snapshot goes: some of each.
    let ops: Vec<Op> = (0..60).step_by(3).map(|n| put("notes", format!("note/{n:03}"), 100 + n, 90)).collect();
    store.commit(Durability::Sync, &ops);
    store.commit(Durability::Sync, &[Op::Drop("gone"), Op::Rename("old name", "new name")]);
    let earlier = std::fs::read(&path).unwrap();
    store.store.checkpoint().unwrap();
    let snapshot = store.store.read().unwrap();
    store.commit(Durability::Sync, &[Op::Delete("long", b"c".to_vec()), put("notes", "note/007", 200, 33)]);
    store.store.checkpoint().unwrap();
    if tail {
        store.commit(Durability::Sync, &[put("notes", "note/005", 300, 44), Op::Delete("notes", b"note/006".to_vec())]);
        store.commit(Durability::Sync, &[put("long", "d", 301, 34_000), put("new table", "k", 302, 5)]);
        store.commit(Durability::Sync, &[Op::Drop("one"), put("notes", "note/999", 303, 100)]);
        store.commit(Durability::Relaxed, &[put("notes", "note/998", 304, 10)]);
        store.commit(Durability::Relaxed, &[put("notes", "note/997", 305, 20), put("notes", "note/998", 306, 11)]);
        store.store.flush().unwrap();
    }
    let Recorder { store, states, .. } = store;
    let newest = *states.keys().next_back().unwrap();
    let bytes = if tail {
        std::fs::read(&path).unwrap()
    } else {
        drop(snapshot);
        store.close().unwrap();
        std::fs::read(&path).unwrap()
    };
    Sample { bytes, states, newest, page_size: page_size as usize, earlier }
}

/// What reading everything came to.
#[derive(Debug)]
pub enum Outcome {
    /// Every answer is the newest state's.
    Right,
    /// Some questions were answered with errors, all others with the newest state's answers.
    Reported(Vec<Error>),
    /// Every answer, and every error, fits this earlier state.
    Older(u64, Vec<Error>),
    /// An answer that fits no state.
    Wrong(String),
}

/// Opens the file and asks everything there is to ask.
pub fn read_all(path: &Path, options: &Options, sample: &Sample) -> Outcome {
    let store = match options.open(path) {
        Ok(store) => store,
        Err(error) => return Outcome::Reported(vec![error]),
    };
    let snapshot = match store.read() {
        Ok(snapshot) => snapshot,
        Err(error) => return Outcome::Reported(vec![error]),
    };
    let mut errors = Vec::new();
    let truth = Recorder::state_at(&sample.states, snapshot.lsn());
    match compare(&snapshot, truth, &mut errors) {
        Err(wrong) => Outcome::Wrong(format!("at LSN {}: {wrong}", snapshot.lsn())),
        Ok(()) if snapshot.lsn() < sample.newest => Outcome::Older(snapshot.lsn(), errors),
        Ok(()) if errors.is_empty() => Outcome::Right,
        Ok(()) => Outcome::Reported(errors),
    }
}

/// Asks a snapshot everything; the error says which answer was wrong.
pub fn compare(snapshot: &Snapshot, truth: &Content, errors: &mut Vec<Error>) -> Result<(), String> {
    match snapshot.tables() {
        Ok(tables) => {
            let found: Vec<_> = tables.iter().map(|t| (t.name.clone(), t.entries)).collect();
            let expected: Vec<_> = truth.iter().map(|(name, t)| (name.clone(), t.len() as u64)).collect();
            if found != expected {
                return Err(format!("tables {found:?} instead of {expected:?}"));
            }
        }
        Err(error) => errors.push(error),
    }
    for (name, entries) in truth {
        let table = match snapshot.raw(name) {
            Ok(table) => table,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        match table.len() {
            Ok(len) if len != entries.len() as u64 => return Err(format!("{len} entries in {name:?}")),
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        for (key, value) in entries {
            match table.get(key) {
                Ok(found) if found.as_deref() != Some(value.as_slice()) => {
                    return Err(format!("{name:?}: {:?} reads as {found:?}", key.escape_ascii().to_string()));
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
            for absent in [[key.as_slice(), b"\0"].concat(), key.get(..key.len().saturating_sub(1)).unwrap().to_vec()] {
                match table.get(&absent) {
                    Ok(Some(_)) if !entries.contains_key(&absent) => {
                        return Err(format!("{name:?}: a key from nowhere"));
                    }
                    Ok(_) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        for forward in [true, false] {
            if let Err(wrong) = scan(&table, entries, forward, errors) {
                return Err(format!("{name:?}, forward {forward}: {wrong}"));
            }
        }
    }
    Ok(())
}

fn scan(
    table: &memstone::RawTable<'_>,
    entries: &BTreeMap<Vec<u8>, Vec<u8>>,
    forward: bool,
    errors: &mut Vec<Error>,
) -> Result<(), String> {
    let mut range = match table.range(..) {
        Ok(range) => range,
        Err(error) => {
            errors.push(error);
            return Ok(());
        }
    };
    let mut expected: Vec<_> = entries.iter().collect();
    if !forward {
        expected.reverse();
    }
    let mut expected = expected.into_iter();
    loop {
        let found = if forward { range.next() } else { range.next_back() };
        match (found, expected.next()) {
            (None, None) => return Ok(()),
            (Some(Ok((k, v))), Some((key, value))) if *k == **key && *v == **value => {}
            (Some(Err(error)), _) => {
                errors.push(error);
                // After an error an iterator ends: it must not go on as if nothing had happened.
                let after = if forward { range.next() } else { range.next_back() };
                return if after.is_none() { Ok(()) } else { Err("it goes on after an error".to_owned()) };
            }
            (found, expected) => {
                let key = |k: &[u8]| k.escape_ascii().to_string();
                return Err(format!(
                    "{:?} instead of {:?}",
                    found.map(|f| f.map(|(k, _)| key(&k))),
                    expected.map(|(k, _)| key(k))
                ));
            }
        }
    }
}

/// A directory in memory where there is one: these tests write a file for each damage.
pub fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(&memory)
    {
        return dir;
    }
    tempfile::tempdir().unwrap()
}
