//! What differs between two versions, held against two maps; and what finding it costs.

use super::*;
use crate::change::Change;
use crate::tree::testing::TestStore;
use crate::tree::update::update;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const TABLE: u32 = 16;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
/// A key, and its value before and after.
type Row = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// A tree that grows by batches, each a version of its own.
struct Grown {
    store: TestStore,
    root: TreeRoot,
    map: Map,
}

impl Grown {
    fn new() -> Grown {
        Grown { store: TestStore::new(4096), root: TreeRoot::default(), map: Map::new() }
    }

    fn apply(&mut self, batch: &Batch) {
        self.store.keep();
        let changes = batch.iter().map(|(key, value)| Ok((key, value.as_ref().map_or(Change::Delete, Change::Put))));
        self.root = update(&mut self.store, TABLE, self.root, changes).unwrap();
        for (key, value) in batch {
            match value {
                Some(value) => self.map.insert(key.clone(), value.clone()),
                None => self.map.remove(key),
            };
        }
    }

    /// The rows that differ between two roots, and how many nodes were read to find them.
    fn diff(&self, before: TreeRoot, after: TreeRoot) -> (Vec<Row>, u64) {
        let pages = self.store.reopened(0);
        let version = |root| Version { pages: &pages, table: TABLE, root, page_count: self.store.page_count() };
        let mut diff = TreeDiff::new(version(before), version(after)).unwrap();
        let mut rows = Vec::new();
        while let Some(Difference { key, before, after }) = diff.next().unwrap() {
            let read = |value: Option<LeafValue<'_>>| value.map(|value| value.read(&pages, TABLE).unwrap().to_vec());
            let (before, after) = (read(before), read(after));
            if before != after {
                rows.push((key.to_vec(), before, after));
            }
        }
        (rows, diff.visited())
    }
}

fn expected(before: &Map, after: &Map) -> Vec<Row> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let rows = keys.into_iter().map(|key| (key.clone(), before.get(key).cloned(), after.get(key).cloned()));
    rows.filter(|(_, before, after)| before != after).collect()
}

fn number(n: u32, value: u8) -> (Vec<u8>, Option<Vec<u8>>) {
    (format!("{n:08}").into_bytes(), Some(vec![value; 40]))
}

#[test]
fn a_change_costs_its_paths_and_not_the_tree() {
    let mut tree = Grown::new();
    tree.apply(&(0..60_000).map(|n| number(2 * n, 1)).collect());
    assert_eq!(tree.diff(tree.root, tree.root), (Vec::new(), 0));
    // Changed, added, removed.
    for change in [number(20_000, 2), number(33_333, 2), (number(7_000, 0).0, None)] {
        let (before, map) = (tree.root, tree.map.clone());
        tree.apply(&Batch::from([change]));
        let (rows, visited) = tree.diff(before, tree.root);
        assert_eq!((rows.len(), &rows), (1, &expected(&map, &tree.map)));
        // Three levels on both sides, and a path more on each if leaves were split or joined.
        assert!(visited <= 12, "{visited} nodes");
    }
}

#[test]
fn many_neighbours_cost_their_leaves_once() {
    let mut tree = Grown::new();
    tree.apply(&(0..60_000).map(|n| number(2 * n, 1)).collect());
    let (before, map) = (tree.root, tree.map.clone());
    let mut batch: Batch = (50_000..50_600).map(|n| number(2 * n + 1, 2)).collect();
    batch.extend((8_000..8_400).map(|n| (number(2 * n, 0).0, None)));
    tree.apply(&batch);
    let (rows, visited) = tree.diff(before, tree.root);
    assert_eq!(rows, expected(&map, &tree.map));
    assert_eq!(rows.len(), 1000);
    // About 60 rows in a leaf: some 40 leaves in all on both sides, and the paths to them.
    assert!(visited < 100, "{visited} nodes");
}

#[test]
fn one_tree_may_be_empty_or_have_another_height() {
    let mut tree = Grown::new();
    tree.apply(&(0..3).map(|n| number(n, 1)).collect());
    let (low, map) = (tree.root, tree.map.clone());
    tree.apply(&(1..30_000).map(|n| number(n, 2)).collect());
    let none = TreeRoot::default();
    for (before, after, old, new) in [
        (none, low, &Map::new(), &map),
        (low, tree.root, &map, &tree.map),
        (tree.root, low, &tree.map, &map),
        (tree.root, none, &tree.map, &Map::new()),
    ] {
        assert_eq!(tree.diff(before, after).0, expected(old, new));
    }
}

#[test]
fn shared_subtrees_come_to_an_end() {
    let mut tree = Grown::new();
    tree.apply(&(0..30_000).map(|n| number(n, 1)).collect());
    let pages = tree.store.reopened(0);
    let version = |page_count| Version { pages: &pages, table: TABLE, root: tree.root, page_count };
    let none = Version { root: TreeRoot::default(), ..version(0) };
    let mut diff = TreeDiff::new(version(3), none).unwrap();
    let error = loop {
        match diff.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("more nodes than pages"),
            Err(error) => break error,
        }
    };
    assert!(error.is_corrupt(), "{error}");
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let key = prop_oneof![
        (0..400_u32).prop_map(|n| format!("{n:04}").into_bytes()),
        (0..40_u32).prop_map(|n| [vec![b'x'; 300], n.to_be_bytes().to_vec()].concat()),
    ];
    let value = prop_oneof![
        2 => Just(None),
        6 => (any::<u8>(), 0..300_usize).prop_map(|(byte, len)| Some(vec![byte; len])),
        1 => (any::<u8>(), 2000..9000_usize).prop_map(|(byte, len)| Some(vec![byte; len])),
    ];
    let batch = proptest::collection::btree_map(key, value, 0..60);
    proptest::collection::vec(batch, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_two_versions_differ_as_their_maps_do(batches in batches()) {
        let mut tree = Grown::new();
        let mut versions = vec![(tree.root, tree.map.clone())];
        for batch in &batches {
            tree.apply(batch);
            versions.push((tree.root, tree.map.clone()));
        }
        for (before, old) in &versions {
            for (after, new) in &versions {
                prop_assert_eq!(tree.diff(*before, *after).0, expected(old, new));
            }
        }
    }
}
