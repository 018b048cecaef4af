//! Whatever came from a store keeps it open, and the last to go leaves it.

use crate::common::TestStore;
use memstone::{Error, Options, Snapshot, Store, WriteTxn};
use std::time::Duration;

/// A handle for reading only, which the process has beside the one for writing: to it the other is a stranger.
fn stranger(test: &TestStore) -> Store {
    Options::new().read_only(true).create(false).open(&test.path).unwrap()
}

/// How many handles for writing a stranger sees.
fn writable_handles(stranger: &Store) -> usize {
    stranger.locks().unwrap().processes.len()
}

fn is_open(test: &TestStore) -> bool {
    test.sidecar().exists()
}

#[test]
fn a_write_transaction_keeps_the_store_open() {
    let test = TestStore::new();
    let tx = Store::open(&test.path).unwrap().begin_write().unwrap();
    assert!(is_open(&test), "the store was left");
    let again = Options::new().timeout(Duration::ZERO).open(&test.path).unwrap();
    assert!(matches!(again.begin_write(), Err(Error::Nested { .. })), "it is opened as another store");
    drop(again);
    let stranger = stranger(&test);
    assert_eq!(writable_handles(&stranger), 1);
    assert!(stranger.locks().unwrap().writer.is_some());
    tx.raw("t").unwrap().put(b"k", b"v").unwrap();
    drop(stranger);
    tx.commit().unwrap();
    assert!(!is_open(&test), "the last to go leaves");
    assert_eq!(test.open().read().unwrap().raw("t").unwrap().get(b"k").unwrap().unwrap(), b"v");
}

#[test]
fn a_snapshot_keeps_the_store_open() {
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    let first: Snapshot = store.read().unwrap();
    let second = first.clone();
    store.close().unwrap();
    let stranger = stranger(&test);
    assert_eq!(writable_handles(&stranger), 1);
    drop(stranger);
    drop(first);
    assert!(is_open(&test), "a clone of the snapshot is there");
    assert_eq!(second.raw("t").unwrap().get(b"k").unwrap().unwrap(), b"v");
    // Opened again it is the same store: no second set of locks in one process.
    let again = test.open();
    again.write(|tx| tx.raw("t")?.put(b"k", b"w")).unwrap();
    drop(second);
    assert_eq!(again.locks().unwrap().processes.len(), 1);
    again.close().unwrap();
    assert!(!is_open(&test), "the last to go leaves");
}

#[test]
fn whatever_goes_last_leaves_the_store_tidily() {
    type Last = fn(WriteTxn);
    let ways: [Last; 3] = [|tx| drop(tx), WriteTxn::rollback, |tx| assert!(tx.commit().unwrap() > 1)];
    for last in ways {
        let test = TestStore::new();
        let store = test.open();
        store.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
        let tx = store.begin_write().unwrap();
        tx.raw("t").unwrap().put(b"l", b"w").unwrap();
        store.close().unwrap();
        assert!(is_open(&test));
        last(tx);
        assert!(!is_open(&test), "the last to go leaves");
    }
}

#[test]
fn handles_closed_at_once_leave_the_store_once() {
    for _ in 0..50 {
        let test = TestStore::new();
        let stores = [test.open(), test.open(), test.open()];
        let snapshot = stores[0].read().unwrap();
        std::thread::scope(|scope| {
            for store in stores {
                scope.spawn(|| store.close().unwrap());
            }
            scope.spawn(|| drop(snapshot));
        });
        assert!(!is_open(&test));
    }
}
