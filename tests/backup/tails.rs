//! Values whose last bytes lie in their leaf come through everything that copies, checks or repairs a store.

use crate::{hash_in, hash_of, restored};
use memstone::{BackupOptions, CheckOptions, CloneOptions, RepairOptions, Store};
use std::path::Path;

/// Lengths at which the number of pages or the tail changes, in pages of 4096 bytes, and some in between.
const LENGTHS: [usize; 16] =
    [3072, 3073, 4032, 4033, 6150, 7104, 7105, 8128, 8129, 8192, 12_288, 20_000, 32_704, 32_767, 32_768, 100_000];

fn value(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + len + seed * 101) as u8).collect()
}

fn filled(path: &Path) -> Store {
    let store = Store::options().page_size(4096).open(path).unwrap();
    store.write(|tx| LENGTHS.iter().try_for_each(|len| tx.raw("t")?.put(&len.to_be_bytes(), &value(*len, 0)))).unwrap();
    store.checkpoint().unwrap();
    store
}

/// Whether each key has the value that its length and this seed give.
fn has_all(store: &Store, keys: &[(usize, usize, usize)]) {
    let snapshot = store.read().unwrap();
    let table = snapshot.raw("t").unwrap();
    assert_eq!(table.len().unwrap(), keys.len() as u64);
    for (key, len, seed) in keys {
        assert!(table.get(&key.to_be_bytes()).unwrap().unwrap() == value(*len, *seed), "{len} bytes");
        assert_eq!(table.value_len(&key.to_be_bytes()).unwrap(), Some(*len as u64));
    }
}

#[test]
fn they_are_copied_whole() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let store = filled(&place("memory.mst"));
    store.create_snapshot("before").unwrap();
    let before = store.read().unwrap();
    before.backup_to(place("full")).unwrap();
    assert_eq!(restored(&place("full"), &place("again.mst")), hash_of(&before));

    // From each length to the next but one, and the same length with other bytes.
    let mut keys = Vec::new();
    for (index, key) in LENGTHS.iter().enumerate().filter(|(index, _)| index % 7 != 6) {
        let new = if index % 3 == 0 { *key } else { LENGTHS[(index + 2) % LENGTHS.len()] };
        store.write(|tx| tx.raw("t")?.put(&key.to_be_bytes(), &value(new, 1))).unwrap();
        keys.push((*key, new, 1));
    }
    for (index, key) in LENGTHS.iter().enumerate().filter(|(index, _)| index % 7 == 6) {
        if index == 6 {
            store.write(|tx| tx.raw("t")?.delete(&key.to_be_bytes()).map(drop)).unwrap();
        } else {
            keys.push((*key, *key, 0));
        }
    }
    store.checkpoint().unwrap();
    has_all(&store, &keys);
    let now = store.read().unwrap();
    now.backup_with(place("increment"), BackupOptions::new().since(place("full")).prove(true)).unwrap();
    assert_eq!(restored(&place("increment"), &place("again.mst")), hash_of(&now));
    store.clone_with(place("clone.mst"), CloneOptions::new()).unwrap();
    assert_eq!(hash_in(&place("clone.mst")), hash_of(&now));
    assert_eq!(hash_of(&store.snapshot("before").unwrap()), hash_of(&before));

    let hash = hash_of(&now);
    drop((before, now));
    store.delete_snapshot("before").unwrap();
    store.compact().unwrap();
    has_all(&store, &keys);
    store.close().unwrap();
    assert_eq!(hash_in(&place("memory.mst")), hash);
}

#[test]
fn a_tail_that_only_differs_at_its_end_is_told_by_increments_and_differences() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("memory.mst"));
    (0..2).for_each(|n| {
        store.write(|tx| tx.raw("other")?.put(b"k", &[n])).unwrap();
        store.checkpoint().unwrap();
    });
    let (base, increment) = (dir.path().join("base"), dir.path().join("increment"));
    let before = store.read().unwrap();
    before.backup_to(&base).unwrap();
    let mut changed = value(6150, 0);
    changed[6149] ^= 1;
    store.write(|tx| tx.raw("t")?.put(&6150_usize.to_be_bytes(), &changed)).unwrap();
    store.checkpoint().unwrap();
    let now = store.read().unwrap();
    let differences = before.diff(&now).unwrap();
    let rows = differences.untyped("t").unwrap().rows().unwrap();
    assert_eq!(rows.map(|row| row.unwrap().key.to_vec()).collect::<Vec<_>>(), [6150_usize.to_be_bytes()]);
    now.backup_with(&increment, BackupOptions::new().since(&base).prove(true)).unwrap();
    assert_eq!(restored(&increment, &dir.path().join("again.mst")), hash_of(&now));
    // The leaf is new, but the pages of its other values are not: they are not written again.
    assert!(std::fs::metadata(&increment).unwrap().len() < 20_000);
}

#[test]
fn a_damaged_tail_is_found_and_costs_its_leaf_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = filled(&path);
    let leaves = |store: &Store| {
        let value = |n: u32| [&n.to_be_bytes()[..], &[7; 6142], &n.to_be_bytes()].concat();
        store.write(|tx| (0..100_u32).try_for_each(|n| tx.raw("t")?.put(&n.to_be_bytes(), &value(n)))).unwrap();
        store.checkpoint().unwrap();
    };
    leaves(&store);
    store.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The end of a value, with its tail before it.
    let end = [&[7; 2000][..], &50_u32.to_be_bytes()].concat();
    let at = bytes.windows(end.len()).rposition(|part| part == end).unwrap();
    bytes[at + 1000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let report = memstone::check(&path, &CheckOptions::new()).unwrap();
    assert!(report.damage > 0);
    let store = Store::open(&path).unwrap();
    let get = |n: u32| store.read().unwrap().raw("t").unwrap().get(&n.to_be_bytes()).map(|found| found.unwrap().len());
    assert!(get(50).unwrap_err().is_corrupt());
    assert_eq!(get(0).unwrap(), 6150);
    drop(store);
    let report = memstone::repair(&path, &RepairOptions::new()).unwrap();
    let repaired = Store::open(&report.output).unwrap();
    let snapshot = repaired.read().unwrap();
    let left = (0..100_u32).filter(|n| snapshot.raw("t").unwrap().get(&n.to_be_bytes()).unwrap().is_some()).count();
    assert!((90..100).contains(&left), "{left} of 100 are left");
    let kept = snapshot.raw("t").unwrap().get(&6150_usize.to_be_bytes()).unwrap();
    assert!(kept.is_some_and(|found| found == value(6150, 0)));
}
