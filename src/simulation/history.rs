//! Work does not grow with what was deleted or changed before: the keys that walks and counts look at are counted.

use super::{new_store, open_store, settings};
use crate::disk::platform::Disk;
use crate::disk::sim::{Free, Image, Rng, World};
use crate::engine::facts::take_steps;
use crate::engine::open;
use crate::{
    Bytes, Durability, Error, RawTable, RawTableMut, ReadState, Savepoint, Snapshot, Store, Table, WriteOptions,
    WriteTxn,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const CAP: u64 = 32 << 20;

/// A new store, of whose disk nothing is recorded.
fn quiet_store() -> (Arc<World>, Store) {
    let world = World::new(Image::default(), Arc::new(Free));
    let disk = world.disk(0);
    open::create(&*disk, 4096, *b"simulated store!").unwrap();
    let store = Store::on_disk(disk as _, settings(CAP)).unwrap();
    (world, store)
}

fn begin(store: &Store) -> WriteTxn {
    store.begin_write_with(WriteOptions::new().durability(Durability::Relaxed)).unwrap()
}

fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn write(store: &Store, change: impl FnOnce(&RawTableMut<'_>)) {
    let tx = begin(store);
    change(&tx.raw("t").unwrap());
    tx.commit().unwrap();
}

fn fill(store: &Store, keys: std::ops::Range<u64>) {
    write(store, |table| keys.for_each(|n| table.put(&key(n), b"v").unwrap()));
}

/// The steps of something that is done `n` times: at most `most` each.
fn steps_of(what: &str, n: u64, most: u64, work: impl FnOnce()) {
    take_steps();
    work();
    let steps = take_steps();
    println!("{what}: {steps} steps for {n}");
    assert!(steps <= most * n, "{what}: {steps} steps for {n}");
}

#[test]
fn ten_thousand_pops_of_a_transaction_take_a_few_steps_each() {
    let n = 10_000;
    for place in ["tree", "log", "buffer"] {
        for first in [true, false] {
            let (_world, store) = quiet_store();
            if place != "buffer" {
                fill(&store, 0..n);
            }
            if place == "tree" {
                store.checkpoint().unwrap();
            }
            write(&store, |table| {
                if place == "buffer" {
                    (0..n).for_each(|n| table.put(&key(n), b"v").unwrap());
                }
                steps_of(&format!("pops over the {place}, first: {first}"), n, 4, || {
                    for i in 0..n {
                        let popped = if first { table.pop_first() } else { table.pop_last() };
                        assert_eq!(popped.unwrap().unwrap().0, &key(if first { i } else { n - 1 - i }));
                    }
                });
                steps_of("is_empty at the end", 100, 2, || {
                    (0..100).for_each(|_| assert!(table.is_empty().unwrap()));
                });
            });
            steps_of("is_empty in the next transaction, once", 1, n + 2, || {
                write(&store, |t| assert!(t.is_empty().unwrap()))
            });
            let snapshot = store.read().unwrap();
            steps_of("then", 100, 2, || {
                (0..100).for_each(|_| assert!(snapshot.raw("t").unwrap().is_empty().unwrap()));
            });
        }
    }
}

/// A queue whose entries come at one end and leave at the other one, each in a transaction of its own, over the log.
#[test]
fn a_queue_of_small_transactions_takes_a_few_steps_each() {
    let n = 10_000;
    for forward in [true, false] {
        let (_world, store) = quiet_store();
        let at = |i: u64| key(if forward { i } else { u64::MAX / 2 - i });
        write(&store, |table| (0..10).for_each(|i| table.put(&at(i), b"v").unwrap()));
        steps_of(&format!("push and pop, forward: {forward}"), n, 6, || {
            for i in 0..n {
                write(&store, |table| table.put(&at(i + 10), b"v").unwrap());
                write(&store, |table| {
                    let popped = if forward { table.pop_first() } else { table.pop_last() };
                    assert_eq!(popped.unwrap().unwrap().0, &at(i));
                });
            }
        });
        let snapshot = store.read().unwrap();
        let table = snapshot.raw("t").unwrap();
        steps_of("the ends, for a reader", 100, 6, || {
            for _ in 0..100 {
                let ends = [table.first().unwrap().unwrap().0, table.last().unwrap().unwrap().0];
                assert_eq!(ends.iter().min().unwrap(), &&at(if forward { n } else { n + 9 })[..]);
                assert_eq!(table.prefix(&[]).unwrap().next().unwrap().unwrap().0, ends[0]);
            }
        });
    }
}

/// Entries are put into the range from which others were popped: the stack, and the requests that come back.
#[test]
fn what_is_put_back_among_deletions_is_found_in_a_few_steps() {
    let n = 2000;
    let (_world, store) = quiet_store();
    fill(&store, 0..2 * n);
    write(&store, |table| (0..n).for_each(|_| drop(table.pop_first().unwrap())));
    steps_of("the first walk", 1, n + 10, || write(&store, |table| drop(table.first().unwrap())));
    let mut random = Rng(3);
    steps_of("put back", n, 12, || {
        for _ in 0..n {
            let back = key(random.next() % n);
            write(&store, |table| table.put(&back, b"again").unwrap());
            write(&store, |table| assert_eq!(table.pop_first().unwrap().unwrap().0, &back));
        }
    });
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Looks at a table from both ends, from places inside, and by the numbers of its entries.
fn agrees<S: ReadState>(table: &RawTable<'_, S>, rows: &Rows, random: &mut Rng, what: &str) {
    let own = |entry: Option<(Bytes<'_>, Bytes<'_>)>| entry.map(|(k, v)| (k.to_vec(), v.to_vec()));
    let of = |entry: Option<(&Vec<u8>, &Vec<u8>)>| entry.map(|(k, v)| (k.clone(), v.clone()));
    assert_eq!(own(table.first().unwrap()), of(rows.first_key_value()), "{what}: first");
    assert_eq!(own(table.last().unwrap()), of(rows.last_key_value()), "{what}: last");
    assert_eq!(table.is_empty().unwrap(), rows.is_empty(), "{what}: is_empty");
    assert_eq!(table.len().unwrap(), rows.len() as u64, "{what}: len");
    let (a, b) = (place(random), place(random));
    let (a, b) = (a.clone().min(b.clone()), a.max(b));
    let range = || table.range((Included(&a), Excluded(&b))).unwrap();
    let model = || rows.range(a.clone()..b.clone());
    assert_eq!(own(range().next().transpose().unwrap()), of(model().next()), "{what}: range from {a:?}");
    assert_eq!(own(range().next_back().transpose().unwrap()), of(model().next_back()), "{what}: range to {b:?}");
    assert_eq!(table.rank(&a).unwrap(), rows.range(..a.clone()).count() as u64, "{what}: rank of {a:?}");
    let (low, high) = (&a[..], &b[..]);
    for (from, to) in [
        (Included(low), Excluded(high)),
        (Excluded(low), Included(high)),
        (Unbounded, Included(high)),
        (Excluded(low), Unbounded),
    ] {
        let expected = rows.range::<[u8], _>((from, to)).count() as u64;
        assert_eq!(table.count((from, to)).unwrap(), expected, "{what}: count of {from:?}, {to:?}");
    }
    assert_eq!(table.count([9]..[3]).unwrap(), 0, "{what}: what ends before it starts");
    let len = rows.len() as u64;
    for n in [0, random.next() % (len + 1), len.saturating_sub(1), len] {
        let expected = of(rows.iter().nth(usize::try_from(n).unwrap()));
        assert_eq!(own(table.nth(n).unwrap()), expected, "{what}: entry {n}");
    }
    if random.one_in(4_u64) {
        assert!(range().map(|entry| own(Some(entry.unwrap()))).eq(model().map(|e| of(Some(e)))), "{what}: a range");
        let all = table.range(..).unwrap().rev();
        assert!(all.map(|entry| own(Some(entry.unwrap()))).eq(rows.iter().rev().map(|e| of(Some(e)))), "{what}: all");
    }
}

/// A key: of one or two bytes, so that keys come back and lie right behind one another.
fn place(random: &mut Rng) -> Vec<u8> {
    let bytes = random.next().to_be_bytes();
    if random.one_in(4_u64) { vec![bytes[0] % 64, bytes[1] % 3] } else { vec![bytes[0] % 64] }
}

/// One change of the table, and of the model.
fn change(table: &RawTableMut<'_>, rows: &mut Rows, random: &mut Rng) {
    let at = place(random);
    match random.next() % 10 {
        0..3 => {
            table.put(&at, &[1, at[0]]).unwrap();
            rows.insert(at.clone(), vec![1, at[0]]);
        }
        3..5 => {
            table.delete(&at).unwrap();
            rows.remove(&at);
        }
        5 => {
            let to = [at[0].saturating_add(20)];
            let there = rows.range(at.clone()..to.to_vec()).map(|(key, _)| key.clone()).collect::<Vec<_>>();
            assert_eq!(table.delete_range((Included(&at[..]), Excluded(&to[..]))).unwrap(), there.len() as u64);
            there.iter().for_each(|key| drop(rows.remove(key)));
        }
        6 => {
            for n in 0..8 {
                table.put(&[at[0], n], b"many").unwrap();
                rows.insert(vec![at[0], n], b"many".to_vec());
            }
        }
        last => {
            for _ in 0..random.next() % 12 {
                let popped = if last < 8 { table.pop_first() } else { table.pop_last() };
                let expected = if last < 8 { rows.pop_first() } else { rows.pop_last() };
                assert_eq!(popped.unwrap().map(|(k, v)| (k.to_vec(), v.to_vec())), expected);
            }
        }
    }
}

/// A transaction with savepoints, which commits or does not.
fn transaction(store: &Store, rows: &mut Rows, random: &mut Rng) {
    let tx = begin(store);
    let mut table = tx.raw("t").unwrap();
    let before = rows.clone();
    let mut savepoints: Vec<(Savepoint, Rows)> = Vec::new();
    for _ in 0..random.next() % 8 {
        match random.next() % 20 {
            0..3 => savepoints.push((tx.savepoint(), rows.clone())),
            3..6 => {
                if let Some((savepoint, then)) = savepoints.last() {
                    tx.rollback_to(savepoint).unwrap();
                    rows.clone_from(then);
                    table = tx.raw("t").unwrap();
                }
            }
            6 => {
                table.clear().unwrap();
                rows.clear();
            }
            7 => {
                // Another table gets the name, or this one after a detour.
                if random.one_in(2_u64) {
                    tx.drop_table("t").unwrap();
                    rows.clear();
                } else {
                    tx.rename_table("t", "u").unwrap();
                    tx.rename_table("u", "t").unwrap();
                }
                table = tx.raw("t").unwrap();
            }
            _ => change(&table, rows, random),
        }
        // What was asked before is changed again, or first asked for now.
        if !random.one_in(3_u64) {
            agrees(&tx.read_raw("t").unwrap(), rows, random, "a transaction");
        }
    }
    if !random.one_in(4_u64) {
        tx.commit().unwrap();
    } else {
        tx.rollback();
        *rows = before;
    }
}

#[test]
fn walks_and_counts_agree_with_a_model_over_everything_that_changes_a_state() {
    for seed in 0..super::effort("MEMSTONE_HISTORIES", 60) as u64 {
        let random = &mut Rng(seed + 1);
        let (world, _disk, store) = new_store(Arc::new(Free), 1 << 20);
        let mut beside = (1, open_store(&world, 1, 1 << 20).1.unwrap());
        let (mut process, mut store) = (0, store);
        write(&store, |_| {});
        let (mut rows, mut snapshots) = (Rows::new(), Vec::<(Snapshot, Rows)>::new());
        for round in 0..60 {
            match random.next() % 12 {
                0 => store.checkpoint().unwrap(),
                1 => {
                    let next = std::mem::replace(&mut beside, (process, store));
                    (process, store) = next;
                }
                2 if snapshots.len() > 3 => drop(snapshots.remove(0)),
                3 => {
                    snapshots.clear();
                    store.close().unwrap();
                    store = open_store(&world, process, 1 << 20).1.unwrap();
                }
                4 => drop(store.engine().relax_view(0)),
                _ => transaction(&store, &mut rows, random),
            }
            if random.one_in(3_u64) {
                snapshots.push((store.read().unwrap(), rows.clone()));
            }
            for (at, (snapshot, then)) in snapshots.iter().enumerate() {
                agrees(
                    &snapshot.raw("t").unwrap(),
                    then,
                    random,
                    &format!("seed {seed}, round {round}, snapshot {at}"),
                );
            }
        }
    }
}

#[test]
fn a_count_looks_only_at_what_has_changed_since_the_last_one() {
    let n = 5000;
    let (_world, store) = quiet_store();
    fill(&store, 0..n);
    let len = || store.read().unwrap().raw("t").unwrap().len().unwrap();
    steps_of("the first count", 1, n, || assert_eq!(len(), n));
    steps_of("again", 100, 0, || (0..100).for_each(|_| assert_eq!(len(), n)));
    steps_of("after small transactions", 100, 2 * 3, || {
        for i in 0..100 {
            // One is new, one was there, one is taken away.
            write(&store, |t| {
                t.put(&key(n + i), b"new").unwrap();
                t.put(&key(2 * i + 1), b"w").unwrap();
                t.delete(&key(2 * i)).unwrap();
            });
            assert_eq!(len(), n);
        }
    });
    write(&store, |t| t.put(&key(u64::MAX), b"v").unwrap());
    steps_of("tables", 1, 3, || assert_eq!(store.read().unwrap().tables().unwrap()[0].entries, n + 1));
    steps_of("stats", 10, 2, || (0..10).for_each(|_| assert_eq!(store.stats().unwrap().tables[0].entries, n + 1)));
    write(&store, |t| {
        steps_of("in a transaction", 9, 5, || {
            for i in 1..10 {
                t.put(&key(u64::MAX - i), b"v").unwrap();
                assert_eq!(t.len().unwrap(), n + 1 + i);
            }
        });
    });
}

#[test]
fn ten_thousand_ranks_between_puts_take_a_few_steps_each() {
    let n = 10_000;
    let (_world, store) = quiet_store();
    write(&store, |table| (0..n).for_each(|i| table.put(&key(2 * i), b"v").unwrap()));
    store.checkpoint().unwrap();
    let mut odd = BTreeSet::new();
    write(&store, |table| {
        steps_of("put and rank in turn", n, 3, || {
            for i in 0..n {
                let at = i * 7919 % n;
                table.put(&key(2 * at + 1), b"w").unwrap();
                odd.insert(at);
                let rank = table.rank(&key(2 * at + 1)).unwrap();
                if i % 500 == 0 {
                    assert_eq!(rank, at + 1 + odd.range(..at).count() as u64);
                    assert_eq!(table.nth(rank).unwrap().unwrap().0, &key(2 * at + 1));
                    assert_eq!(table.nth(rank - 1).unwrap().unwrap().0, &key(2 * at));
                    assert_eq!(table.len().unwrap(), n + i + 1);
                }
            }
        });
    });
}

#[test]
fn a_rank_looks_only_at_what_has_changed_since_the_last_one() {
    let n = 5000;
    let (_world, store) = quiet_store();
    fill(&store, 0..n);
    store.checkpoint().unwrap();
    write(&store, |table| (0..n).for_each(|i| table.put(&key(10 * n + i), b"v").unwrap()));
    let rank = |of: u64| store.read().unwrap().raw("t").unwrap().rank(&key(of)).unwrap();
    steps_of("the first rank", 1, n + 1, || assert_eq!(rank(u64::MAX), 2 * n));
    steps_of("ranks after small transactions", 100, 8, || {
        for i in 0..100 {
            write(&store, |t| {
                t.put(&key(5 * n + i), b"new").unwrap();
                t.put(&key(2 * i + 1), b"w").unwrap();
                t.delete(&key(10 * n + i)).unwrap();
            });
            assert_eq!((rank(u64::MAX), rank(6 * n)), (2 * n, n + i + 1));
        }
    });
    write(&store, |t| {
        steps_of("ranks and numbers in a transaction", 100, 4, || {
            for i in 0..100 {
                assert_eq!(t.rank(&key(5 * n + i)).unwrap(), n + i);
                assert_eq!(t.nth(n + i).unwrap().unwrap().0, &key(5 * n + i));
            }
        });
    });
    store.checkpoint().unwrap();
    steps_of("ranks after a checkpoint", 100, 2, || (0..100).for_each(|i| assert_eq!(rank(i), i)));
}

/// The long value is destroyed in the file, so a walk that reads it gets an error.
#[test]
fn what_asks_for_keys_reads_no_long_value() {
    let (world, disk, store) = new_store(Arc::new(Free), 1 << 20);
    const TYPED: Table<u64, String> = Table::new("typed");
    let long = |tx: &WriteTxn| {
        tx.raw("t")?.put(b"long", &[b'x'; 70_000])?;
        tx.table(TYPED)?.put(7, "x".repeat(70_000))
    };
    store.write(long).unwrap();
    store.checkpoint().unwrap();
    store.close().unwrap();
    let mut file = vec![0; usize::try_from(disk.len().unwrap()).unwrap()];
    disk.read_at(&mut file, 0).unwrap();
    let mut destroyed = 0;
    for (page, bytes) in file.chunks(4096).enumerate().filter(|(_, bytes)| **bytes == [b'x'; 4096]) {
        disk.write_at(&vec![0; bytes.len()], page as u64 * 4096).unwrap();
        destroyed += 1;
    }
    assert!(destroyed > 30, "{destroyed} pages");
    let store = open_store(&world, 1, 1 << 20).1.unwrap();
    let snapshot = store.read().unwrap();
    let table = snapshot.raw("t").unwrap();
    assert!(table.get(b"long").is_err() && table.first().is_err() && snapshot.table(TYPED).unwrap().first().is_err());
    assert!(!table.is_empty().unwrap() && table.contains(b"long").unwrap());
    assert_eq!((table.len().unwrap(), snapshot.tables().unwrap().len()), (1, 2));
    let keys = || snapshot.table(TYPED).unwrap().keys().unwrap();
    assert_eq!((keys().next().unwrap().unwrap(), keys().next_back().unwrap().unwrap()), (7, 7));
    store
        .write(|tx| {
            assert_eq!(tx.raw("t")?.delete_range(..)?, 1);
            assert_eq!(tx.table(TYPED)?.delete_range(..)?, 1);
            assert!(tx.raw("t")?.is_empty()?);
            Ok::<_, Error>(())
        })
        .unwrap();
    assert!(store.read().unwrap().raw("t").unwrap().is_empty().unwrap());
}

/// Two processes put long values into one log in turn. Each loads the space of a root once.
#[test]
fn the_free_map_is_loaded_once_for_the_long_values_of_a_log() {
    let (world, _disk, store) = new_store(Arc::new(Free), CAP);
    let stores = [store, open_store(&world, 1, CAP).1.unwrap()];
    let value = |n: u8| vec![n; 40_000 + 5000 * usize::from(n % 7)];
    let get = |store: &Store, n: u8| store.read().unwrap().raw("t").unwrap().get(&[n]).unwrap().unwrap().to_vec();
    let (mut snapshots, mut roots, mut commits) = (Vec::new(), [const { BTreeSet::new() }; 2], 0);
    for round in 1..=3 {
        for n in 0..20 {
            let process = usize::from(n % 3) % 2;
            let store = &stores[process];
            if n % 8 == 3 {
                // Nothing of this one stays in use.
                let tx = store.begin_write().unwrap();
                tx.raw("t").unwrap().put(&[n], &value(99)).unwrap();
                tx.rollback();
                snapshots.push(store.read().unwrap());
            }
            roots[process].insert(store.engine().slots().unwrap().newest.sequence);
            store.write(|tx| tx.raw("t")?.put(&[n], &value(n + round))).unwrap();
            commits += 1;
            assert!(stores.iter().all(|store| get(store, n) == value(n + round)));
        }
        stores[usize::from(round % 2)].checkpoint().unwrap();
        snapshots.truncate(2);
    }
    let loaded = stores.each_ref().map(|store| store.engine().spaces_loaded.load(Ordering::Relaxed));
    println!("{loaded:?} spaces loaded for {commits} commits");
    assert_eq!(loaded, roots.each_ref().map(|roots| roots.len() as u64));
    assert!(loaded.iter().sum::<u64>() < commits / 3);
    assert!((0..20).all(|n| get(&stores[0], n) == value(n + 3)));
    drop(snapshots);
    let [store, _] = stores;
    super::check::structure(&store).unwrap();
}
