//! One file, opened more than once by one process, is one store.

use crate::common::{TestStore, number};
use memstone::{Error, Store};

#[test]
fn opening_twice_shares_the_store() {
    let test = TestStore::new();
    let (link, hard) = (test.dir.path().join("link.mst"), test.dir.path().join("hard.mst"));
    let store = test.open();
    std::os::unix::fs::symlink(&test.path, &link).unwrap();
    std::fs::hard_link(&test.path, &hard).unwrap();
    for path in [&test.path, &link, &hard] {
        let again = Store::open(path).unwrap();
        again.write(|tx| tx.raw("t")?.put(path.to_str().unwrap().as_bytes(), b"")).unwrap();
        assert_eq!(again.path(), store.path());
        // Closing one closes none of the others, and drops none of their locks.
        again.close().unwrap();
    }
    assert_eq!(store.read().unwrap().raw("t").unwrap().len().unwrap(), 3);
    assert_eq!(store.locks().unwrap().processes.len(), 1);
}

#[test]
fn a_write_within_a_write_is_told_instead_of_waiting() {
    let test = TestStore::new();
    let (store, other) = (test.open(), test.open());
    let _tx = store.begin_write().unwrap();
    for store in [&store, &other] {
        assert!(matches!(store.begin_write().err().unwrap(), Error::Nested { .. }));
        assert!(matches!(store.try_write(|_| Ok::<_, Error>(())).unwrap_err(), Error::Nested { .. }));
    }
}

#[test]
fn threads_count_together() {
    let test = TestStore::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = test.open();
                for _ in 0..100 {
                    store
                        .write(|tx| {
                            let table = tx.raw("t")?;
                            let n = table.get(b"n")?.map_or(0, |n| number(&n));
                            table.put(b"n", &(n + 1).to_be_bytes())
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(number(&test.open().read().unwrap().raw("t").unwrap().get(b"n").unwrap().unwrap()), 400);
}

#[test]
fn threads_open_and_close_at_once() {
    let test = TestStore::new();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let path = &test.path;
            scope.spawn(move || {
                for round in 0..25_u64 {
                    let store = Store::open(path).unwrap();
                    let key = (thread << 8 | round).to_be_bytes();
                    store.write(|tx| tx.raw("t")?.put(&key, b"")).unwrap();
                    store.close().unwrap();
                }
            });
        }
    });
    assert_eq!(test.open().read().unwrap().raw("t").unwrap().len().unwrap(), 100);
}
