//! Tables, ranges and bytes that borrow nothing.

use crate::common::TestStore;
use crate::common::random::Random;
use memstone::{Bytes, OwnedRawRange, OwnedRawTable, Snapshot, Store};
use std::sync::mpsc;
use std::thread;

fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

/// Rows of which some are short, some take a part of a page, and some take pages of their own; half of them in the
/// tree, half in the log.
fn filled(test: &TestStore) -> Store {
    let store = test.open();
    let value = |n: u64| vec![n as u8; [3, 200, 20_000][n as usize % 3]];
    for half in 0..2 {
        store.write(|tx| (0..300).try_for_each(|n| tx.raw("t")?.put(&key(2 * n + half), &value(n)))).unwrap();
        if half == 0 {
            store.checkpoint().unwrap();
        }
    }
    store
}

type Row = (Vec<u8>, Vec<u8>);

fn rows<'s>(entries: impl Iterator<Item = memstone::Result<(Bytes<'s>, Bytes<'s>)>>) -> Vec<Row> {
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

#[test]
fn what_is_owned_keeps_pages_and_store() {
    let test = TestStore::new();
    let store = filled(&test);
    let table = store.read().unwrap().into_raw("t").unwrap();
    let long = table.get_owned(&key(4)).unwrap().unwrap();
    let mut range = table.range_owned(..).unwrap();
    let first = range.next().unwrap().unwrap();
    // Pages that these need would be written over soon.
    for _ in 0..3 {
        store.write(|tx| tx.clear_table("t")).unwrap();
        store.write(|tx| tx.raw("t")?.put(b"k", &[1; 100_000])).unwrap();
        store.checkpoint().unwrap();
    }
    store.close().unwrap();
    drop(table);
    assert!(test.sidecar().exists(), "the store was left");
    assert_eq!((&first.0[..], range.map(Result::unwrap).count()), (&key(0)[..], 599));
    drop(first);
    assert!(test.sidecar().exists(), "the store was left");
    // The last of all are the bytes, which lie in the map of the file.
    assert!(long.iter().all(|byte| *byte == 2) && long.len() == 20_000);
    drop(long);
    assert!(!test.sidecar().exists(), "the last to go leaves");
}

#[test]
fn long_values_are_not_copied() {
    let test = TestStore::new();
    let store = filled(&test);
    let table = store.read().unwrap().into_raw("t").unwrap();
    let lent = table.get(&key(4)).unwrap().unwrap();
    let kept = table.get_owned(&key(4)).unwrap().unwrap();
    assert!(std::ptr::eq(&*lent, &*kept) && std::ptr::eq(&*kept.clone(), &*lent));
    let (_, ranged) = table.range_owned(&key(4)[..]..).unwrap().next().unwrap().unwrap();
    assert!(std::ptr::eq(&*lent, &*ranged));
    let without = memstone::Options::new().memory_map(false).read_only(true).open(&test.path).unwrap();
    let table = without.read().unwrap().into_raw("t").unwrap();
    assert_eq!(table.get_owned(&key(4)).unwrap().unwrap(), kept);
}

#[test]
fn an_owned_range_gives_what_a_range_gives_from_both_ends() {
    let test = TestStore::new();
    let table = filled(&test).read().unwrap().into_raw("t").unwrap();
    let mut random = Random(7);
    for _ in 0..200 {
        let (from, to) = (key(random.below(610)), key(random.below(610)));
        let (mut owned, mut lent) = (table.range_owned(from..to).unwrap(), table.range(from..to).unwrap());
        let from_the_back = random.below(4);
        loop {
            let back = random.below(4) < from_the_back;
            let (found, expected) =
                if back { (owned.next_back(), lent.next_back()) } else { (owned.next(), lent.next()) };
            let (found, expected) = (found.transpose().unwrap(), expected.transpose().unwrap());
            assert_eq!(found, expected);
            if found.is_none() {
                break;
            }
        }
        assert!(owned.next().is_none() && owned.next_back().is_none(), "fused");
    }
    let prefix = &key(256)[..7];
    assert_eq!(rows(table.prefix_owned(prefix).unwrap()), rows(table.prefix(prefix).unwrap()));
    assert_eq!(table.range_owned(key(5)..=key(5)).unwrap().count(), 1);
    assert_eq!(table.range_owned(key(6)..key(5)).unwrap().count(), 0);
}

#[test]
fn tables_and_iterators_cross_threads() {
    let test = TestStore::new();
    let store = filled(&test);
    let snapshot: Snapshot = store.read().unwrap();
    // Lent to threads that end in time, an iterator too: it was begun by another thread.
    let table = snapshot.raw("t").unwrap();
    let mut begun = table.range(..).unwrap();
    assert!(begun.next().is_some());
    let counts = thread::scope(|scope| {
        let rest = scope.spawn(move || begun.map(Result::unwrap).count());
        let all = scope.spawn(|| table.range(..).unwrap().map(Result::unwrap).count());
        (rest.join().unwrap(), all.join().unwrap())
    });
    assert_eq!(counts, (599, 600));
    // Owned, through a channel, in a struct, into a thread that outlives the handles here.
    struct Index {
        table: OwnedRawTable,
        rows: OwnedRawRange,
    }
    let table = snapshot.raw("t").unwrap().into_owned();
    let index = Index { rows: snapshot.raw("t").unwrap().range_owned(..).unwrap(), table };
    let (sender, receiver) = mpsc::channel::<Index>();
    let reader = thread::spawn(move || {
        let Index { table, rows } = receiver.recv().unwrap();
        (table.len().unwrap(), rows.rev().map(Result::unwrap).count(), table.contains(&key(599)).unwrap())
    });
    drop(snapshot);
    store.close().unwrap();
    sender.send(index).unwrap();
    assert_eq!(reader.join().unwrap(), (600, 600, true));
    assert!(!test.sidecar().exists(), "the last to go leaves");
}

#[test]
fn an_owned_table_may_live_over_an_await() {
    async fn read(table: OwnedRawTable) -> u64 {
        let mut range = table.range_owned(..).unwrap();
        let first = range.next();
        std::future::ready(()).await;
        u64::from(first.is_some()) + range.map(Result::unwrap).count() as u64
    }
    fn spawned<T>(task: impl Future<Output = T> + Send + 'static) -> T {
        let mut task = Box::pin(task);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(done) = task.as_mut().poll(&mut context) {
                return done;
            }
        }
    }
    let test = TestStore::new();
    let table = filled(&test).read().unwrap().into_raw("t").unwrap();
    assert_eq!(spawned(read(table)), 600);
}

#[test]
fn a_store_that_no_variable_holds_stays_open_for_its_transaction() -> memstone::Result<()> {
    let test = TestStore::new();
    let tx = Store::open(&test.path)?.begin_write()?;
    tx.raw("t")?.put(b"k", b"v")?;
    tx.commit()?;
    assert_eq!(Store::open(&test.path)?.read()?.raw("t")?.get(b"k")?.unwrap(), b"v");
    Ok(())
}
