//! Opened for reading only: beside writers, and of files that nobody writes.

use crate::common::{Child, TestStore, give_up_after};
use crate::counter::counter;
use memstone::{Error, Options};
use std::time::Instant;

#[test]
fn a_reader_follows_writers() {
    let test = TestStore::new();
    test.open().write(|tx| tx.raw("counters")?.put(b"n", &0_u64.to_be_bytes())).unwrap();
    let store = Options::new().read_only(true).open(&test.path).unwrap();
    let children: Vec<_> = (0..3).map(|_| Child::start("increment", &[&test.path.display(), &50])).collect();
    let (started, mut last) = (Instant::now(), 0);
    while last < 150 {
        let n = counter(&store);
        assert!(n >= last, "the counter fell from {last} to {n}");
        last = n;
        give_up_after(started, &format!("the reader sees {last}"));
    }
    children.into_iter().for_each(|child| drop(child.finish()));
    assert_eq!(counter(&store), 150);
}

#[test]
fn nothing_is_written_and_writing_is_refused() {
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| tx.raw("t")?.put(b"a", b"1")).unwrap();
    // As a kill would leave it: the log not checkpointed.
    let copy = test.dir.path().join("copy.mst");
    std::fs::copy(&test.path, &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    let reader = Options::new().read_only(true).open(&copy).unwrap();
    assert_eq!(reader.read().unwrap().raw("t").unwrap().get(b"a").unwrap().unwrap(), b"1");
    for error in [
        reader.write(|tx| tx.raw("t")?.put(b"b", b"2")).unwrap_err(),
        reader.checkpoint().unwrap_err(),
        reader.flush().unwrap_err(),
    ] {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    }
    reader.close().unwrap();
    assert!(std::fs::read(&copy).unwrap() == before);
    assert!(!crate::common::sidecar_of(&copy).exists());
}
