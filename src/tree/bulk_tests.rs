//! New trees from rows and whole leaves, checked against what they were made from.

use super::*;
use crate::change::Change;
use crate::direction::Direction;
use crate::tree::cursor::Cursor;
use crate::tree::testing::{Found, TestStore, check};
use crate::tree::update::update;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

const TABLE: u32 = 17;
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A tree made by these batches, one after the other.
fn source(page_size: u32, batches: &[Rows]) -> (TestStore, TreeRoot, Rows) {
    let (mut store, mut root, mut all) = (TestStore::new(page_size), TreeRoot::default(), Rows::new());
    for batch in batches {
        root = update(&mut store, TABLE, root, batch.iter().map(|(k, v)| Ok((k, Change::Put(v))))).unwrap();
        store.commit();
        all.extend(batch.clone());
    }
    (store, root, all)
}

/// Copies it, full leaves as a whole where `whole` says so. Gives what was made, and how many leaves were handed over whole.
fn copy(store: &TestStore, root: TreeRoot, page_size: u32, whole: bool) -> (TestStore, TreeRoot, usize) {
    let mut target = TestStore::new(page_size);
    let mut bulk = Bulk::new(TABLE, page_size);
    let mut cursor = Cursor::new(store.pages(), TABLE, root);
    let mut leaves = 0;
    cursor.seek(Direction::Forward, Bound::Unbounded).unwrap();
    loop {
        let ahead = cursor.leaf_ahead().unwrap().filter(|_| whole).cloned();
        let full = ahead.and_then(|leaf| FullLeaf::of(&leaf, store.pages().page_size()).unwrap());
        if let Some(leaf) = full {
            bulk.leaf(&mut target, &leaf).unwrap();
            leaves += 1;
            cursor.skip_leaf().unwrap();
            continue;
        }
        let Some((key, value)) = cursor.step(Direction::Forward).unwrap() else { break };
        bulk.row(&mut target, &key, &value.read(store.pages(), TABLE).unwrap()).unwrap();
    }
    let made = bulk.finish(&mut target).unwrap();
    (target, made, leaves)
}

fn verify(store: &TestStore, root: TreeRoot, rows: &Rows) -> Found {
    let found = check(store.pages(), TABLE, root);
    assert!(found.entries.iter().map(|(k, v)| (k, v)).eq(rows.iter()), "the rows are those that were copied");
    let live: BTreeMap<u32, u32> = store.live.iter().map(|(page, (run, _))| (*page, *run)).collect();
    assert_eq!(found.runs, live, "no page is leaked");
    found
}

fn rows(range: impl Iterator<Item = u32>, len: usize) -> Rows {
    range.map(|n| (format!("key{n:08}").into_bytes(), vec![n as u8; len])).collect()
}

fn fill(found: &Found) -> f64 {
    let (used, size) = found.leaves.iter().fold((0, 0), |sum, leaf| (sum.0 + leaf.0, sum.1 + leaf.1));
    used as f64 / size as f64
}

/// The leaves of a store, without their headers.
fn bodies(store: &TestStore) -> BTreeSet<Vec<u8>> {
    let bytes = store.disk.bytes.lock().unwrap();
    bytes.chunks(4096).filter(|page| page[12] == KIND_LEAF).map(|page| page[32..].to_vec()).collect()
}

#[test]
fn full_leaves_are_taken_over_as_they_are() {
    let (store, root, all) = source(4096, &[rows(0..20_000, 50)]);
    let (target, made, leaves) = copy(&store, root, 4096, true);
    let found = verify(&target, made, &all);
    assert!(leaves > 250 && leaves + 1 >= found.leaves.len(), "{leaves} of {} leaves", found.leaves.len());
    assert!(bodies(&target).is_subset(&bodies(&store)) && fill(&found) > 0.97);
}

#[test]
fn rows_alone_pack_nodes_full() {
    // Of each leaf that the first batch makes, the second splits one and leaves three.
    let more = (0..20_000).step_by(200).flat_map(|n| rows(n + 1..n + 2, 50)).collect();
    let (store, root, all) = source(4096, &[rows((0..20_000).step_by(2), 50), more]);
    assert!(fill(&check(store.pages(), TABLE, root)) < 0.9);
    for whole in [true, false] {
        let (target, made, _) = copy(&store, root, 4096, whole);
        assert!(fill(&verify(&target, made, &all)) > 0.9);
    }
}

#[test]
fn whole_leaves_leave_little_room_before_them() {
    // Stretches of full leaves, and between them single leaves that are a third full.
    let mut batches = vec![rows(0..20_000, 50)];
    let thin: Rows = (0..20_000).step_by(230).flat_map(|n| rows(n..n + 40, 8)).collect();
    batches.push(thin);
    let (store, root, all) = source(4096, &batches);
    let before = fill(&check(store.pages(), TABLE, root));
    let (target, made, leaves) = copy(&store, root, 4096, true);
    let after = fill(&verify(&target, made, &all));
    assert!(leaves > 50 && after > 0.88 && after >= before, "{leaves} leaves, {before} full before, {after} after");
}

#[test]
fn leaves_for_another_page_size_are_taken_apart() {
    let (store, root, all) = source(4096, &[rows(0..3000, 50)]);
    let (target, made, leaves) = copy(&store, root, 16384, true);
    assert!(leaves > 10 && fill(&verify(&target, made, &all)) > 0.9);
}

#[test]
fn keys_that_do_not_ascend_are_refused() {
    let (store, root, _) = source(4096, &[rows(0..1000, 50)]);
    let mut cursor = Cursor::new(store.pages(), TABLE, root);
    cursor.seek(Direction::Forward, Bound::Unbounded).unwrap();
    let leaf = FullLeaf::of(cursor.leaf_ahead().unwrap().unwrap(), 4096).unwrap().unwrap();
    let first = leaf.ends().unwrap().0.to_vec();
    let mut target = TestStore::new(4096);
    let mut bulk = Bulk::new(TABLE, 4096);
    bulk.row(&mut target, &first, b"").unwrap();
    assert!(matches!(bulk.row(&mut target, &first, b""), Err(Error::Corrupt(_))));
    assert!(matches!(bulk.leaf(&mut target, &leaf), Err(Error::Corrupt(_))));
    assert!(matches!(bulk.row(&mut target, &[9; MAX_KEY_SIZE + 1], b""), Err(Error::TooLarge { .. })));
    let empty = Bulk::new(TABLE, 4096).finish(&mut target).unwrap();
    assert_eq!(empty, TreeRoot::default());
}

fn batch() -> impl Strategy<Value = Rows> {
    let len = prop_oneof![20 => 0usize..120, 2 => 900usize..1024, 1 => 1025usize..9000];
    let key = (0u32..4000, prop_oneof![30 => Just(0usize), 1 => 1usize..3000]);
    prop::collection::vec((key, len), 1..400).prop_map(|rows| {
        let row = |((n, long), len): ((u32, usize), usize)| {
            let key = [format!("{n:06}").into_bytes(), vec![b'x'; long]].concat();
            (key, vec![n as u8; len])
        };
        rows.into_iter().map(row).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_tree_is_copied_row_by_row_or_by_leaves(batches in prop::collection::vec(batch(), 1..6), dense in any::<bool>(), whole in any::<bool>()) {
        let mut batches = batches;
        if dense {
            batches.insert(0, rows(0..3000, 30));
        }
        let (store, root, all) = source(4096, &batches);
        let before = check(store.pages(), TABLE, root).leaves.len();
        let (target, made, _) = copy(&store, root, 4096, whole);
        let after = verify(&target, made, &all).leaves.len();
        prop_assert!(after <= before + before / 8 + 2, "{} leaves became {}", before, after);
    }
}
