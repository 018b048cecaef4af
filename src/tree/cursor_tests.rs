//! Reading trees: whole ones, damaged ones and hostile ones.
#![expect(clippy::cast_possible_truncation, reason = "small numbers of test data")]

use super::*;
use crate::change::Change;
use crate::disk::format::*;
use crate::tree::rank::{nth, rank};
use crate::tree::space::Room;
use crate::tree::testing::{TestStore, check};
use crate::tree::update::update;
use crate::tree::walk::{free_tree, relocatable};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const TABLE: u32 = 16;

/// A tree of every kind of node, its model, and its file.
fn small() -> (TestStore, TreeRoot, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut model = BTreeMap::new();
    for n in 0..40u32 {
        model.insert(format!("some/prefix/{n:04}").into_bytes(), vec![1; 150 + n as usize]);
    }
    model.insert(Vec::new(), vec![2; 900]);
    model.insert(vec![b't'; 8192], vec![3; 5]);
    model.insert(b"some/prefix/0007/long".to_vec(), (0..9000u32).map(|n| n as u8).collect());
    let mut store = TestStore::new(4096);
    let batch = model.iter().map(|(k, v)| Ok((k, Change::Put(v))));
    let root = update(&mut store, TABLE, TreeRoot::default(), batch).unwrap();
    assert_eq!(check(crate::tree::update::PageStore::pages(&store), TABLE, root).height, 2);
    (store, root, model)
}

/// Whether everything a reader can ask gives the model's answer; an error must be `Corrupt`.
fn read_all(pages: &Arc<Pages>, root: TreeRoot, model: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
    let mut damaged = false;
    let mut ok = |error: crate::Error| {
        assert!(error.is_corrupt(), "{error}");
        damaged = true;
    };
    for (key, value) in model {
        match get(pages, TABLE, root, key).and_then(|v| v.map(|v| v.read(pages, TABLE)).transpose()) {
            Ok(found) => assert_eq!(found.as_deref(), Some(value.as_slice())),
            Err(error) => ok(error),
        }
    }
    for direction in [Direction::Forward, Direction::Backward] {
        let mut cursor = Cursor::new(pages, TABLE, root);
        let mut expected: Vec<_> = model.iter().collect();
        if direction == Direction::Backward {
            expected.reverse();
        }
        let mut moved = cursor.seek(direction, Bound::Unbounded);
        for (key, value) in expected {
            match moved.and_then(|()| cursor.step(direction)) {
                Ok(found) => {
                    let (k, v) = found.unwrap();
                    assert_eq!(k, key.as_slice());
                    match v.read(pages, TABLE) {
                        Ok(found) => assert_eq!(found, value.as_slice()),
                        Err(error) => ok(error),
                    }
                }
                Err(error) => {
                    ok(error);
                    assert!(cursor.step(direction).unwrap().is_none(), "the walk is over");
                    break;
                }
            }
            moved = Ok(());
        }
    }
    !damaged
}

#[test]
fn every_flipped_byte_is_found() {
    let (store, root, model) = small();
    let bytes = store.disk.bytes.lock().unwrap().clone();
    let used: Vec<(u32, u32)> = store.live.iter().map(|(page, (run, _))| (*page, *run)).collect();
    for mapped in [0, usize::MAX] {
        assert!(read_all(&store.opened_on(bytes.clone(), mapped), root, &model));
    }
    for (page, run) in used {
        let (start, end) = (page as usize * 4096, (page + run) as usize * 4096);
        for at in start..end {
            // Every byte of the header and the arrays, and a sample of the rest.
            if at - start > 400 && at % 7 != 0 {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let mapped = if at % 2 == 0 { 0 } else { usize::MAX };
            assert!(!read_all(&store.opened_on(damaged, mapped), root, &model), "byte {at}");
        }
    }
}

#[test]
fn a_truncated_or_misplaced_page_is_found() {
    let (store, root, model) = small();
    let bytes = store.disk.bytes.lock().unwrap().clone();
    for cut in (8192..bytes.len()).step_by(4096) {
        assert!(!read_all(&store.opened_on(bytes[..cut].to_vec(), 0), root, &model));
    }
    let (page, _) = store.live.first_key_value().unwrap();
    let mut swapped = bytes.clone();
    swapped.copy_within(*page as usize * 4096..(*page as usize + 1) * 4096, (*page as usize + 1) * 4096);
    assert!(!read_all(&store.opened_on(swapped, usize::MAX), root, &model));
    let pages = store.opened_on(bytes, usize::MAX);
    assert!(get(&pages, TABLE + 1, root, b"a").unwrap_err().is_corrupt(), "another table");
    for ptr in [Ptr { page: 1, crc: 0 }, Ptr { page: u32::MAX, crc: 9 }, Ptr { crc: !root.ptr.crc, ..root.ptr }] {
        assert!(get(&pages, TABLE, TreeRoot { ptr, ..root }, b"a").unwrap_err().is_corrupt());
    }
    let hugest = Overflow::whole(root.ptr, u64::MAX, 1);
    assert!(pages.overflow(&hugest, TABLE).unwrap_err().is_corrupt());
}

fn rank_fails(pages: &Pages, root: TreeRoot, key: &[u8]) -> bool {
    rank(pages, TABLE, root, key).is_err_and(|error| error.is_corrupt())
}

/// The counts of a branch must add up to what is noted of it: otherwise a number would lead past the last child.
#[test]
fn a_wrong_count_is_damage() {
    let (store, root, model) = small();
    let mut bytes = store.disk.bytes.lock().unwrap().clone();
    let children = root.ptr.page as usize * 4096 + 40;
    let branch = &mut bytes[children - 40..][..4096];
    let count = usize::from(get_u16(branch, NODE_COUNT));
    let first = 40 + usize::from(get_u16(branch, NODE_PREFIX)) + 6 * (count - 1);
    // The sum is still right, but two children have other numbers of entries than is noted.
    let counts = [0, 1].map(|child| get_u16(branch, first + CHILD_SIZE * child + 8));
    put_u16(branch, first + 8, counts[0] - 1);
    put_u16(branch, first + CHILD_SIZE + 8, counts[1] + 1);
    let moved = TreeRoot { ptr: repair(&mut bytes, root.ptr, 0), ..root };
    let pages = store.opened_on(bytes, 0);
    assert!(rank_fails(&pages, moved, &[]) && nth(&pages, TABLE, moved, 0).is_err());
    assert!(!rank_fails(&pages, moved, model.last_key_value().unwrap().0));
    for count in [0, root.count - 1, root.count + 1, u64::MAX] {
        let root = TreeRoot { count, ..moved };
        assert!(rank_fails(&pages, root, b"t"));
        assert!((0..count.min(100)).all(|n| nth(&pages, TABLE, root, n).is_err_and(|e| e.is_corrupt())));
    }
}

/// Repairs all CRCs from the leaves up, as far as pointers lead, so that the damage is believed.
fn repair(bytes: &mut [u8], ptr: Ptr, depth: usize) -> Ptr {
    let start = ptr.page as usize * 4096;
    let run = get_u32(bytes.get(start..).unwrap_or_default(), PAGE_RUN) as usize;
    let end = start.saturating_add(run.saturating_mul(4096));
    if depth > 6 || start < 8192 || run == 0 || end > bytes.len() {
        return ptr;
    }
    if bytes[start + PAGE_KIND] == KIND_BRANCH {
        let count = usize::from(get_u16(bytes, start + NODE_COUNT));
        let first = start + 40 + usize::from(get_u16(bytes, start + NODE_PREFIX)) + 6 * count.saturating_sub(1);
        for at in (0..count).map(|i| first + CHILD_SIZE * i).take_while(|at| at + CHILD_SIZE <= end) {
            let child = Ptr { page: get_u32(bytes, at), crc: get_u32(bytes, at + 4) };
            let repaired = repair(bytes, child, depth + 1);
            put_u32(bytes, at + 4, repaired.crc);
        }
    }
    let crc = crc32fast::hash(&bytes[start + 4..end]);
    put_u32(bytes, start, crc);
    Ptr { crc, ..ptr }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn hostile_nodes_end_in_an_answer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..4096, any::<u8>()), 1..6),
        near in any::<bool>(),
    ) {
        let (mut store, root, model) = small();
        let mut bytes = store.disk.bytes.lock().unwrap().clone();
        let used: Vec<u32> = store.live.keys().copied().collect();
        for (page, at, value) in changes {
            let at = if near { at % 160 } else { at };
            bytes[page.get(&used).to_owned() as usize * 4096 + at] = value;
        }
        let root = TreeRoot { ptr: repair(&mut bytes, root.ptr, 0), ..root };
        for mapped in [0, usize::MAX] {
            let pages = store.opened_on(bytes.clone(), mapped);
            for key in model.keys() {
                drop(get(&pages, TABLE, root, key).and_then(|v| v.map(|v| v.read(&pages, TABLE)).transpose()));
                let mut cursor = Cursor::new(&pages, TABLE, root);
                for from in [Bound::Included(key.as_slice()), Bound::Excluded(key.as_slice())] {
                    let turned = cursor.seek(Direction::Forward, from).and_then(|()| cursor.step(Direction::Forward));
                    drop(turned.and_then(|_| cursor.step(Direction::Forward)).and_then(|_| cursor.step(Direction::Backward)));
                    drop(cursor.seek(Direction::Backward, from).and_then(|()| cursor.peek(Direction::Backward).map(drop)));
                }
                let found = rank(&pages, TABLE, root, key);
                prop_assert!(found.is_ok_and(|(found, _)| found <= root.count) || rank_fails(&pages, root, key));
            }
            (0..=root.count).for_each(|n| drop(nth(&pages, TABLE, root, n)));
            let mut cursor = Cursor::new(&pages, TABLE, root);
            let mut steps = 0;
            for direction in [Direction::Forward, Direction::Backward] {
                let _ = cursor.seek(direction, Bound::Unbounded);
                while let Ok(Some(_)) = cursor.step(direction) {
                    steps += 1;
                }
            }
            prop_assert!(steps < 20_000);
            drop(relocatable(&pages, TABLE, root, 0, &mut Room::endless(), None, 100));
        }
        // Writers too: every other key changed, then all removed.
        *store.disk.bytes.lock().unwrap() = bytes;
        store.hostile = true;
        let changes = model.keys().step_by(2).map(|key| Ok((key, Change::Put(b"x"))));
        drop(update(&mut store, TABLE, root, changes));
        let changes = model.keys().map(|key| Ok((key, Change::<Vec<u8>>::Delete)));
        drop(update(&mut store, TABLE, root, changes));
        drop(free_tree(&mut store, TABLE, root));
    }

    #[test]
    fn shared_subtrees_do_not_hang(levels in 2usize..30, descending in any::<bool>()) {
        // Each branch points twice at the one below: 2^levels ways lead to one leaf.
        let mut bytes = vec![0u8; 4096 * (levels + 5)];
        let mut below = Ptr::NONE;
        for level in 0..=levels {
            let page = level + 3;
            let out = &mut bytes[page * 4096..(page + 1) * 4096];
            let (kind, count) = if level == 0 && !descending { (KIND_LEAF, 1) } else { (KIND_BRANCH, 2) };
            let kind = if level == 0 { KIND_LEAF } else { kind };
            put_u16(out, NODE_COUNT, count);
            if level == 0 && descending {
                // Its first key comes after its last, so that it seems to follow itself.
                put_bytes(out, 40, b"\0\0\0k\0\0\0a");
                put_u16(out, 48, 52);
                put_u16(out, 50, 54);
                put_bytes(out, 52, b"\x01\0\x01\0");
                put_u16(out, NODE_PREFIX, 0);
                put_u32(out, NODE_END, 56);
            } else if level == 0 {
                put_bytes(out, 40, b"k");
                put_u16(out, 45, 47);
                put_u16(out, NODE_PREFIX, 1);
                put_u32(out, NODE_END, 49);
            } else {
                put_u16(out, NODE_PREFIX, 0);
                put_bytes(out, 40, b"\0\0\0k");
                put_u16(out, 44, 82);
                for at in [46, 64] {
                    put_bytes(out, at, &Child { ptr: below, count: 1, end: u32::MAX }.encode());
                }
                put_bytes(out, 82, b"k");
                put_u32(out, NODE_END, 83);
            }
            let header = super::super::node::Header {
                page: page as u32, store_tag: crate::tree::testing::STORE_TAG, kind, level: level as u8,
                version: 1, table: TABLE, run: 1,
            };
            below = Ptr { page: page as u32, crc: header.seal(out) };
        }
        let mut store = TestStore::new(4096);
        store.hostile = true;
        *store.disk.bytes.lock().unwrap() = bytes.clone();
        crate::tree::update::PageStore::pages(&store).set_page_count(levels as u64 + 5);
        let pages = Arc::clone(crate::tree::update::PageStore::pages(&store));
        let root = TreeRoot { ptr: below, count: 9, end: u32::MAX, ..TreeRoot::default() };
        prop_assert!(descending || get(&pages, TABLE, root, b"k").unwrap().is_some());
        let mut cursor = Cursor::new(&pages, TABLE, root);
        cursor.seek(Direction::Forward, Bound::Unbounded).unwrap();
        for _ in 0..=usize::from(descending) {
            prop_assert!(cursor.step(Direction::Forward).unwrap().is_some());
        }
        prop_assert!(cursor.step(Direction::Forward).is_err_and(|error| error.is_corrupt()));
        prop_assert!(cursor.step(Direction::Forward).unwrap().is_none());
        prop_assert!(relocatable(&pages, TABLE, root, 0, &mut Room::endless(), None, 100).is_err());
        prop_assert!(free_tree(&mut store, TABLE, root).is_err());
        let changes = [b"a", b"k", b"z"].map(|key| Ok((key, Change::<Vec<u8>>::Delete)));
        drop(update(&mut store, TABLE, root, changes.into_iter()));
    }
}
