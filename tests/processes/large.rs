//! Much at once: long values, many tables, transactions larger than the log, and getting rid of it all.

use crate::common::{Random, TestStore, long_run};
use memstone::{Error, Options};

#[test]
fn a_long_value() {
    let test = TestStore::new();
    let store = test.open();
    let size = if long_run() { 256 << 20 } else { 40 << 20 };
    let value = Random(5).bytes(size);
    store.write(|tx| tx.raw("t")?.put(b"long", &value)).unwrap();
    let before = store.read().unwrap();
    assert!(before.raw("t").unwrap().get(b"long").unwrap().unwrap() == value[..]);
    store.checkpoint().unwrap();
    assert!(store.read().unwrap().raw("t").unwrap().get(b"long").unwrap().unwrap() == value[..]);
    store.write(|tx| tx.raw("t")?.put(b"long", b"short")).unwrap();
    store.checkpoint().unwrap();
    // Still there for the snapshot that has seen it.
    assert!(before.raw("t").unwrap().get(b"long").unwrap().unwrap() == value[..]);
    drop(before);
    store.close().unwrap();
    let len = std::fs::metadata(&test.path).unwrap().len();
    assert!(len < 2 << 20, "{len} bytes are left of it");
}

#[test]
fn a_long_value_is_read_by_processes_that_opened_before_the_file_grew() {
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| tx.raw("t")?.put(b"short", b"value")).unwrap();
    // Another handle, of which the first one's pages know nothing.
    let reader = Options::new().read_only(true).open(&test.path).unwrap();
    assert!(reader.read().unwrap().raw("t").unwrap().contains(b"short").unwrap());
    for i in 0..5_u8 {
        let value = vec![i; 300_000];
        store.write(|tx| tx.raw("t")?.put(&[i], &value)).unwrap();
        assert!(reader.read().unwrap().raw("t").unwrap().get(&[i]).unwrap().unwrap() == value[..]);
    }
}

#[test]
fn a_checkpoint_reads_back_what_it_has_just_written() {
    let test = TestStore::new();
    let store = test.open();
    for gone in 1..80_u64 {
        let all = |value: u8, keys: std::ops::Range<u64>| {
            store.write(|tx| keys.clone().try_for_each(|key| tx.raw("t")?.put(&key.to_be_bytes(), &[value; 100])))
        };
        all(1, 0..300).unwrap();
        store.checkpoint().unwrap();
        // The last leaf becomes too small, and is joined with one that was written a moment before.
        all(2, 0..300 - gone).unwrap();
        store.write(|tx| (300 - gone..300).try_for_each(|key| tx.raw("t")?.delete(&key.to_be_bytes()))).unwrap();
        store.checkpoint().unwrap();
        let snap = store.read().unwrap();
        let rows: Vec<_> = snap.raw("t").unwrap().prefix(b"").unwrap().map(|row| row.unwrap().1[0]).collect();
        assert_eq!(rows, vec![2; 300 - gone as usize]);
    }
}

#[test]
fn many_tables() {
    let test = TestStore::new();
    let store = Options::new().log_cap(256 << 10).open(&test.path).unwrap();
    let tables = if long_run() { 5000 } else { 500 };
    for i in 0..tables / 10 {
        store
            .write(|tx| {
                (i * 10..i * 10 + 10)
                    .try_for_each(|i| tx.raw(&format!("table {i}"))?.put(b"key", format!("{i}").as_bytes()))
            })
            .unwrap();
    }
    let all = |store: &memstone::Store| {
        let snap = store.read().unwrap();
        assert_eq!(snap.tables().unwrap().len(), tables);
        for i in 0..tables {
            let value = snap.raw(&format!("table {i}")).unwrap().get(b"key").unwrap().unwrap().to_vec();
            assert_eq!(value, format!("{i}").into_bytes());
        }
    };
    all(&store);
    store.close().unwrap();
    let store = test.open();
    all(&store);
    store.write(|tx| (0..tables).try_for_each(|i| tx.drop_table(format!("table {i}")).map(drop))).unwrap();
    assert!(store.read().unwrap().tables().unwrap().is_empty());
}

#[test]
fn a_transaction_larger_than_the_log_and_then_nothing() {
    let test = TestStore::new();
    let store = Options::new().log_cap(256 << 10).open(&test.path).unwrap();
    const ROWS: u64 = 8000;
    store.write(|tx| tx.raw("rows")?.put(b"first", b"in the log")).unwrap();
    store
        .write(|tx| {
            let table = tx.raw("rows")?;
            (0..ROWS).try_for_each(|i| table.put(&i.to_be_bytes(), &[i as u8; 1000]))
        })
        .unwrap();
    let snap = store.read().unwrap();
    let table = snap.raw("rows").unwrap();
    assert_eq!(table.len().unwrap(), ROWS + 1);
    for i in 0..ROWS {
        assert_eq!(table.get(&i.to_be_bytes()).unwrap().unwrap()[..], [i as u8; 1000]);
    }
    assert_eq!(store.write(|tx| tx.raw("rows")?.delete_range(..)).unwrap(), ROWS + 1);
    assert!(store.read().unwrap().raw("rows").unwrap().is_empty().unwrap());
    assert_eq!(table.len().unwrap(), ROWS + 1);
    drop(snap);
    store.write(|tx| tx.raw("rows")?.put(b"last", b"row")).unwrap();
    store.close().unwrap();
    let len = std::fs::metadata(&test.path).unwrap().len();
    assert!(len < 1 << 20, "{len} bytes for one row");
}

#[test]
fn a_transaction_given_up_leaves_nothing() {
    let test = TestStore::new();
    let store = Options::new().log_cap(256 << 10).open(&test.path).unwrap();
    let error = store.write(|tx| {
        tx.raw("t")?.put(b"long", &vec![1; 1 << 20])?;
        (0..2000_u64).try_for_each(|i| tx.raw("t")?.put(&i.to_be_bytes(), &[1; 1000]))?;
        Err::<(), _>(Error::Invalid("enough".to_owned()))
    });
    assert!(matches!(error, Err(Error::Invalid(_))));
    assert!(store.read().unwrap().tables().unwrap().is_empty());
}
