//! Batches against a model, with the whole tree checked after each.

use super::*;
use crate::direction::Direction;
use crate::disk::sim::random::mix;
use crate::tree::cursor::{Cursor, get};
use crate::tree::rank::{nth, rank};
use crate::tree::space::Room;
use crate::tree::testing::{Found, TestStore, check};
use crate::tree::walk::{Relocatable, free_tree, relocatable};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

const TABLE: u32 = 17;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Batch = BTreeMap<Vec<u8>, Edit<Vec<u8>>>;

const DELETE: Edit<Vec<u8>> = Edit::Change(Change::Delete);

/// Applies a batch to store and model, and checks everything that can be checked.
fn apply(store: &mut TestStore, root: TreeRoot, model: &mut Model, batch: &Batch) -> (TreeRoot, Found) {
    let new = edit(store, TABLE, root, batch.iter().map(|(k, c)| Ok((k, c.clone())))).unwrap();
    let old = check(&store.reopened(0), TABLE, root).entries;
    assert!(old.iter().map(|(k, v)| (k, v)).eq(model.iter()), "the old version is untouched until the commit");
    for (key, change) in batch {
        match change {
            Edit::Change(Change::Put(value)) => drop(model.insert(key.clone(), value.clone())),
            Edit::Change(Change::Delete) => drop(model.remove(key)),
            Edit::Change(Change::PutOverflow(_)) | Edit::Touch { .. } => {}
        }
    }
    store.commit();
    let found = verify(store, new, model);
    (new, found)
}

fn verify(store: &TestStore, root: TreeRoot, model: &Model) -> Found {
    let found = check(store.pages(), TABLE, root);
    assert!(found.entries.iter().map(|(k, v)| (k, v)).eq(model.iter()), "entries are as in the model");
    let live: BTreeMap<u32, u32> = store.live.iter().map(|(page, (run, _))| (*page, *run)).collect();
    assert_eq!(found.runs, live, "no page is leaked or lost");
    found
}

fn keys(range: impl Iterator<Item = u32>) -> impl Iterator<Item = Vec<u8>> {
    range.map(|n| format!("key{n:08}").into_bytes())
}

fn put(n: usize) -> Edit<Vec<u8>> {
    Edit::Change(Change::Put(vec![7; n]))
}

fn fill(found: &Found) -> f64 {
    let (used, size) = found.leaves.iter().fold((0, 0), |sum, leaf| (sum.0 + leaf.0, sum.1 + leaf.1));
    used as f64 / size as f64
}

#[test]
fn bulk_and_appends_pack_nodes_full() {
    let (mut store, mut model) = (TestStore::new(4096), Model::new());
    let batch = keys(0..20_000).map(|k| (k, put(50))).collect();
    let (mut root, found) = apply(&mut store, TreeRoot::default(), &mut model, &batch);
    assert!(fill(&found) > 0.97, "fill {}", fill(&found));
    assert_eq!(found.height, 3);
    for i in 0..12 {
        let batch = keys(20_000 + i * 100..20_100 + i * 100).map(|k| (k, put(50))).collect();
        let found;
        (root, found) = apply(&mut store, root, &mut model, &batch);
        assert!(fill(&found) > 0.97, "fill {}", fill(&found));
    }
}

#[test]
fn a_sparse_batch_writes_only_paths() {
    let (mut store, mut model) = (TestStore::new(4096), Model::new());
    let batch = keys(0..20_000).map(|k| (k, put(50))).collect();
    let (root, _) = apply(&mut store, TreeRoot::default(), &mut model, &batch);
    let other = || Edit::Change(Change::Put(vec![8; 50]));
    let batch: Batch = keys([5_000u32, 15_000].into_iter()).map(|k| (k, other())).collect();
    let before = store.live.clone();
    let (root, found) = apply(&mut store, root, &mut model, &batch);
    let new = store.live.iter().filter(|(page, life)| before.get(page) != Some(life)).count();
    assert_eq!((new, found.height), (5, 3), "two leaves, two branches, one root");
    // What changes nothing writes nothing.
    let batch: Batch = [
        (b"key".to_vec(), DELETE),
        (b"key00000007x".to_vec(), DELETE),
        (b"key00000009".to_vec(), put(50)),
        (b"no such key".to_vec(), Edit::Touch { cutoff: 0 }),
    ]
    .into();
    let same = edit(&mut store, TABLE, root, batch.iter().map(|(k, c)| Ok((k, c.clone())))).unwrap();
    assert_eq!((same, store.allocated), (root, 0));
}

#[test]
fn a_full_leaf_is_split_evenly() {
    let (mut store, mut model) = (TestStore::new(4096), Model::new());
    let batch = keys((0..2_000).map(|n| n * 10)).map(|k| (k, put(50))).collect();
    let (root, before) = apply(&mut store, TreeRoot::default(), &mut model, &batch);
    let batch = keys([10_001u32].into_iter()).map(|k| (k, put(50))).collect();
    let (_, after) = apply(&mut store, root, &mut model, &batch);
    assert_eq!(after.leaves.len(), before.leaves.len() + 1);
    let half = after.leaves.iter().filter(|(used, _)| (1800..2400).contains(used)).count();
    assert_eq!(half, 2);
}

/// How many leaves of a tree are uniform, and how many are not.
fn layouts(store: &TestStore, found: &Found) -> (usize, usize) {
    let bytes = store.disk.bytes.lock().unwrap();
    let page = |page: &u32| &bytes[*page as usize * 4096..][..4096];
    let layouts: Vec<u8> =
        found.runs.keys().map(page).filter(|page| page[12] == KIND_LEAF).map(|page| page[14]).collect();
    let uniform = layouts.iter().filter(|layout| **layout == 1).count();
    (uniform, layouts.len() - uniform)
}

/// [`check`] demands the right layout of every leaf of every tree of these tests.
#[test]
fn a_leaf_is_uniform_as_long_as_its_entries_are_alike() {
    let (mut store, mut model) = (TestStore::new(4096), Model::new());
    let batch = keys(0..5_000).map(|k| (k, put(8))).collect();
    let (root, found) = apply(&mut store, TreeRoot::default(), &mut model, &batch);
    let (leaves, varied) = layouts(&store, &found);
    assert_eq!((varied, found.leaves.len()), (0, leaves));
    let one = |change: Edit<Vec<u8>>| keys([2_500u32].into_iter()).map(|k| (k, change.clone())).collect::<Batch>();
    // Another length: four bytes more for each entry, so the leaf is split, and one half stays uniform.
    let (root, found) = apply(&mut store, root, &mut model, &one(put(9)));
    assert_eq!(layouts(&store, &found), (leaves, 1));
    // The same length again, then the entry alone is another one, then it is gone.
    let (root, found) = apply(&mut store, root, &mut model, &one(put(8)));
    assert_eq!(layouts(&store, &found), (leaves + 1, 0));
    let longer: Batch = [(b"key00002500x".to_vec(), put(8))].into();
    let (root, found) = apply(&mut store, root, &mut model, &longer);
    assert_eq!(layouts(&store, &found).1, 1);
    let (_, found) = apply(&mut store, root, &mut model, &[(b"key00002500x".to_vec(), DELETE)].into());
    assert_eq!(layouts(&store, &found).1, 0);
}

#[test]
fn small_rows_take_hardly_more_than_their_bytes() {
    let (mut store, mut model) = (TestStore::new(4096), Model::new());
    let batch = (1..30_000).map(|n| (mix(n).to_be_bytes().to_vec(), put(8))).collect();
    let (_, found) = apply(&mut store, TreeRoot::default(), &mut model, &batch);
    let (pages, payload) = (found.runs.len() * 4096, model.len() * 16);
    assert!(pages * 100 < payload * 105, "{pages} bytes for {payload}");
}

#[test]
fn mass_deletion_leaves_well_filled_pages() {
    for (step, keep) in [(2, 1), (3, 1), (10, 1), (100, 1), (1000, 1), (10, 9)] {
        let (mut store, mut model) = (TestStore::new(4096), Model::new());
        let batch = keys(0..30_000).map(|k| (k, put(50))).collect();
        let (root, _) = apply(&mut store, TreeRoot::default(), &mut model, &batch);
        let batch = keys((0..30_000).filter(|n| n % step >= keep)).map(|k| (k, DELETE)).collect();
        let (root, found) = apply(&mut store, root, &mut model, &batch);
        // Two leaves may share what is left between them, and a single one holds it.
        let floor = if found.leaves.len() > 10 {
            0.7
        } else if found.leaves.len() > 1 {
            0.5
        } else {
            0.0
        };
        assert!(fill(&found) > floor, "kept {keep} of {step}: fill {}", fill(&found));
        let batch = model.keys().map(|k| (k.clone(), DELETE)).collect();
        let (root, _) = apply(&mut store, root, &mut model, &batch);
        assert_eq!((root, store.live.len()), (TreeRoot::default(), 0));
    }
}

#[test]
fn scattered_ranges_deleted_leave_no_meagre_node() {
    let (mut store, mut model) = (TestStore::new(4096), Model::new());
    let batch = keys(0..60_000).map(|k| (k, put(20))).collect();
    let (root, _) = apply(&mut store, TreeRoot::default(), &mut model, &batch);
    // One entry is left of each stretch of some ten leaves, between untouched leaves.
    let gone = |n: &u32| n % 2000 < 900 && n % 2000 != 450;
    let batch = keys((0..60_000).filter(gone)).map(|k| (k, DELETE)).collect();
    let (root, found) = apply(&mut store, root, &mut model, &batch);
    // The last leaf is what the bulk load left over, and is not touched.
    let meagre = |found: &Found| found.leaves.iter().rev().skip(1).filter(|(used, _)| used * 3 < 4096 - 40).count();
    assert_eq!(meagre(&found), 0);
    // Single leaves emptied but for one entry, at every place under their parents.
    let batch: Batch = model
        .keys()
        .enumerate()
        .filter(|(i, _)| (i / 88) % 3 == 1 && i % 88 != 0)
        .map(|(_, k)| (k.clone(), DELETE))
        .collect();
    let (_, found) = apply(&mut store, root, &mut model, &batch);
    assert_eq!(meagre(&found), 0);
}

#[test]
fn touching_moves_everything_beyond_a_cutoff() {
    for limit in [1, 7, 1000] {
        let (mut store, mut model) = (TestStore::new(4096), Model::new());
        let batch = keys(0..3_000).map(|k| (k, put(50))).collect();
        let (root, _) = apply(&mut store, TreeRoot::default(), &mut model, &batch);
        let batch = keys((0..3_000).step_by(100)).map(|k| (k, put(9000))).collect();
        let (mut root, _) = apply(&mut store, root, &mut model, &batch);
        let cutoff = 60;
        let old: Vec<u32> =
            store.live.iter().filter(|(p, (run, _))| reaches(**p, *run, cutoff)).map(|(p, _)| *p).collect();
        let before = store.version();
        let mut from = None;
        loop {
            let Relocatable { keys: found, resume } =
                relocatable(store.pages(), TABLE, root, cutoff, &mut Room::endless(), from.as_deref(), limit).unwrap();
            let touch: Batch = found.into_iter().map(|k| (k, Edit::Touch { cutoff })).collect();
            (root, _) = apply(&mut store, root, &mut model, &touch);
            from = resume;
            if from.is_none() {
                break;
            }
        }
        let stayed = old.iter().filter(|page| store.live.get(page).is_some_and(|(_, birth)| *birth < before));
        assert_eq!(stayed.count(), 0);
    }
}

#[test]
fn adopted_runs_are_kept_and_freed() {
    let (mut store, mut model) = (TestStore::new(4096), Model::new());
    let value: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let long = write_overflow(&mut store, TABLE, &value).unwrap();
    let adopt = || [Ok((b"k", Change::<Vec<u8>>::PutOverflow(Box::new(long))))].into_iter();
    let root = update(&mut store, TABLE, TreeRoot::default(), adopt()).unwrap();
    model.insert(b"k".to_vec(), value);
    verify(&store, root, &model);
    assert_eq!(update(&mut store, TABLE, root, adopt()).unwrap(), root);
    store.commit();
    verify(&store, root, &model);
    let (root, _) = apply(&mut store, root, &mut model, &[(b"k".to_vec(), put(3))].into());
    free_tree(&mut store, TABLE, root).unwrap();
    assert_eq!(store.live.len(), 0);
}

#[test]
fn a_failure_is_returned_at_once() {
    let batch: Batch = keys(0..2_000).map(|k| (k, put(50))).chain([(b"x".to_vec(), put(5000))]).collect();
    for fail in 0.. {
        let mut store = TestStore::new(4096);
        store.fail_after = Some(fail);
        let result = edit(&mut store, TABLE, TreeRoot::default(), batch.iter().map(|(k, c)| Ok((k, c.clone()))));
        if result.is_ok() {
            assert!(fail > 50);
            break;
        }
    }
    let mut store = TestStore::new(4096);
    let broken = [Ok((b"a", put(1))), Err(Error::Savepoint)].into_iter();
    assert!(edit(&mut store, TABLE, TreeRoot::default(), broken).is_err());
    let long = [Ok((vec![0; MAX_KEY_SIZE + 1], put(1)))].into_iter();
    assert!(matches!(edit(&mut store, TABLE, TreeRoot::default(), long), Err(Error::TooLarge { .. })));
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let tail = proptest::collection::vec(0u8..4, 0..6);
    let prefix = prop_oneof![
        4 => Just(0usize),
        4 => Just(30),
        1 => Just(300),
        1 => Just(8186),
    ];
    (prefix, 0u8..3, tail, 0usize..3).prop_map(|(prefix, byte, tail, after)| {
        let mut key = vec![byte; prefix];
        key.extend(tail);
        key.extend(vec![0; after]);
        key.truncate(MAX_KEY_SIZE);
        key
    })
}

fn value(page_size: u32) -> impl Strategy<Value = Vec<u8>> {
    let inline = max_inline(page_size);
    let size = prop_oneof![
        8 => 0..100usize,
        2 => inline.saturating_sub(3)..inline + 3,
        1 => Just(page_size as usize * 2 - 40),
        1 => Just(page_size as usize * 2 - 39),
    ];
    (size, any::<u8>()).prop_map(|(size, byte)| vec![byte; size])
}

fn batch(page_size: u32) -> impl Strategy<Value = Batch> {
    let change = prop_oneof![
        5 => value(page_size).prop_map(|value| Edit::Change(Change::Put(value))),
        4 => Just(DELETE),
        1 => Just(Edit::Touch { cutoff: 0 }),
    ];
    let one = (key(), change);
    prop_oneof![
        2 => proptest::collection::btree_map(one.0, one.1, 0..200),
        // A range removed at once.
        1 => (any::<u16>(), 0u16..1500).prop_map(|(from, len)| {
            keys((u32::from(from) % 3000..).take(usize::from(len))).map(|k| (k, DELETE)).collect()
        }),
        // A stretch of regular keys.
        2 => (any::<u16>(), 1u32..40, 0u16..1500, 0usize..200).prop_map(|(from, step, len, size)| {
            keys((u32::from(from) % 3000..).step_by(step as usize).take(usize::from(len))).map(|k| (k, put(size))).collect()
        }),
    ]
}

/// Pairs that share thousands of bytes: their separators are as long, so branches have the fewest
/// children that are allowed, and trees are high.
fn long_keys() -> impl Strategy<Value = Batch> {
    let key = (0u8..80, 2000usize..8000, 0u8..4).prop_map(|(first, len, last)| {
        let mut key = vec![first; len / 2000 * 2000];
        key.push(last);
        key
    });
    let change = prop_oneof![3 => (0..900usize).prop_map(put), 2 => Just(DELETE)];
    prop_oneof![
        4 => proptest::collection::btree_map(key.clone(), change, 0..150),
        // All keys of a range go.
        1 => proptest::collection::btree_map(key, Just(DELETE), 300..500),
    ]
}

fn cursor_agrees(pages: &Pages, root: TreeRoot, model: &Model, seeks: &[Vec<u8>]) {
    let mut cursor = Cursor::new(pages, TABLE, root);
    let step = |cursor: &mut Cursor<'_>, direction| {
        let next = cursor.peek(direction).unwrap().map(<[u8]>::to_vec);
        let entry = cursor.step(direction).unwrap();
        let entry = entry.map(|(k, v)| (k.to_vec(), v.read(pages, TABLE).unwrap().to_vec()));
        assert_eq!(entry.as_ref().map(|(key, _)| key), next.as_ref());
        assert_eq!(cursor.last_key().map(<[u8]>::to_vec), next);
        entry
    };
    let own = |entry: Option<(&Vec<u8>, &Vec<u8>)>| entry.map(|(k, v)| (k.clone(), v.clone()));
    for key in seeks {
        let value = get(pages, TABLE, root, key).unwrap().map(|v| v.read(pages, TABLE).unwrap().to_vec());
        assert_eq!(value.as_ref(), model.get(key));
        for from in [Bound::Included(key), Bound::Excluded(key), Bound::Unbounded] {
            let from = from.map(Vec::as_slice);
            cursor.seek(Direction::Forward, from).unwrap();
            assert_eq!(cursor.last_key(), None, "nothing was returned");
            let mut expected = model.range::<[u8], _>((from, Bound::Unbounded));
            (0..40).for_each(|_| assert_eq!(step(&mut cursor, Direction::Forward), own(expected.next())));
            cursor.seek(Direction::Backward, from).unwrap();
            let mut expected = model.range::<[u8], _>((Bound::Unbounded, from)).rev();
            (0..40).for_each(|_| assert_eq!(step(&mut cursor, Direction::Backward), own(expected.next())));
        }
        // It turns: what was returned is not returned again.
        cursor.seek(Direction::Forward, Bound::Included(key)).unwrap();
        if step(&mut cursor, Direction::Forward).is_some() {
            assert_eq!(step(&mut cursor, Direction::Backward), own(model.range(..key.clone()).next_back()));
        }
    }
    ranks_agree(pages, root, model, seeks);
    // A walk that has come to an end is over, in both directions.
    for direction in [Direction::Forward, Direction::Backward] {
        cursor.seek(direction, Bound::Unbounded).unwrap();
        let count = std::iter::from_fn(|| cursor.step(direction).unwrap()).count();
        assert_eq!(count, model.len());
        assert!(
            cursor.step(Direction::Forward).unwrap().is_none() && cursor.step(Direction::Backward).unwrap().is_none()
        );
        assert_eq!(cursor.last_key(), None);
    }
}

fn ranks_agree(pages: &Pages, root: TreeRoot, model: &Model, seeks: &[Vec<u8>]) {
    for key in seeks {
        let below = model.range(..key.clone()).count() as u64;
        assert_eq!(rank(pages, TABLE, root, key).unwrap(), (below, model.contains_key(key)));
    }
    for (n, (key, value)) in (0..).zip(model).step_by(1 + model.len() / 50) {
        let (found, read) = nth(pages, TABLE, root, n).unwrap().unwrap();
        assert_eq!((&*found, &*read.read(pages, TABLE).unwrap()), (&**key, &**value), "entry {n}");
    }
    let last = (model.len() as u64).checked_sub(1).and_then(|last| nth(pages, TABLE, root, last).unwrap());
    assert_eq!(last.map(|(key, _)| key.to_vec()), model.last_key_value().map(|(key, _)| key.clone()));
    assert!([model.len() as u64, u64::MAX].iter().all(|n| nth(pages, TABLE, root, *n).unwrap().is_none()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 500, ..ProptestConfig::default() })]
    #[test]
    fn random_batches_agree_with_a_model(
        page_size in prop::sample::select(vec![4096u32, 8192, 16384, 32768, 65536]),
        batches in proptest::collection::vec(batch(4096), 1..12),
        seeks in proptest::collection::vec(key(), 1..12),
        mapped in 0usize..100_000,
    ) {
        let (mut store, mut model, mut root) = (TestStore::new(page_size), Model::new(), TreeRoot::default());
        for batch in &batches {
            (root, _) = apply(&mut store, root, &mut model, batch);
        }
        let mut seeks = seeks;
        seeks.extend(keys([0u32, 500, 1503, 2999].into_iter()));
        seeks.push(Vec::new());
        for mapped in [0, mapped, usize::MAX] {
            cursor_agrees(&store.reopened(mapped), root, &model, &seeks);
        }
        free_tree(&mut store, TABLE, root).unwrap();
        prop_assert_eq!(store.live.len(), 0);
    }

    #[test]
    fn high_trees_agree_with_a_model(
        page_size in prop::sample::select(vec![4096u32, 16384]),
        batches in proptest::collection::vec(long_keys(), 1..10),
    ) {
        let (mut store, mut model, mut root) = (TestStore::new(page_size), Model::new(), TreeRoot::default());
        for batch in &batches {
            let found;
            (root, found) = apply(&mut store, root, &mut model, batch);
            prop_assert!(found.height <= 7);
        }
        let seeks: Vec<Vec<u8>> = model.keys().step_by(9).cloned().collect();
        cursor_agrees(store.pages(), root, &model, &seeks);
    }
}
