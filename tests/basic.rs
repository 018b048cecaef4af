//! The plain case: one process, one thread.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use memstone::{CheckOptions, Durability, Error, LimitKind, Result, Store, WriteOptions, check};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn is_clean(path: &Path) {
    let report = check(path, &CheckOptions::default()).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[test]
fn what_is_written_is_read() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path)?;
    store.write(|tx| tx.raw("t")?.put(b"a", b"1"))?;
    let before = store.read()?;
    store.checkpoint()?;
    store.write(|tx| tx.raw("t")?.put(b"b", b"2"))?;
    assert_eq!(before.raw("t")?.len()?, 1);
    assert_eq!(store.read()?.raw("t")?.get(b"a")?.unwrap(), b"1");
    assert_eq!(store.read()?.raw("t")?.len()?, 2);
    drop((before, store));
    assert_eq!(Store::open(&path)?.read()?.raw("t")?.len()?, 2);
    is_clean(&path);
    Ok(())
}

#[test]
fn a_store_grows_and_gives_its_space_back() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path)?;
    // Through the log, which grows; then larger than the log.
    let relaxed = WriteOptions::new().durability(Durability::Relaxed);
    for i in 0..20_000_u32 {
        store.write_with(relaxed, |tx| tx.raw("t")?.put(&i.to_be_bytes(), &[7; 150]))?;
    }
    assert_eq!(store.read()?.raw("t")?.len()?, 20_000);
    store.write(|tx| {
        let table = tx.raw("t")?;
        (0..100_000_u32).try_for_each(|i| table.put(&i.to_be_bytes(), &[8; 150]))
    })?;
    assert_eq!(store.read()?.raw("t")?.len()?, 100_000);
    store.write(|tx| tx.raw("t")?.put(b"long", &vec![3; 300_000]))?;
    assert_eq!(store.read()?.raw("t")?.get(b"long")?.unwrap().len(), 300_000);
    drop(store);
    is_clean(&path);
    let full = std::fs::metadata(&path).unwrap().len();
    let store = Store::open(&path)?;
    assert_eq!(store.read()?.raw("t")?.len()?, 100_001);
    store.write(|tx| tx.drop_table("t"))?;
    drop(store);
    let empty = std::fs::metadata(&path).unwrap().len();
    assert!(full > 15_000_000 && empty < 1_000_000, "{full} bytes, then {empty}");
    is_clean(&path);
    Ok(())
}

#[test]
fn a_new_store_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    // The sidecar, which is there as long as a process has the store open, counts too.
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    let bytes: u64 = files.map(|file| file.blocks() * 512).sum();
    assert!(bytes <= 256 << 10, "{bytes} bytes");
    drop(store);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the sidecar goes with the last process");
}

#[test]
fn a_failed_body_changes_nothing() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst"))?;
    let failed = store.write(|tx| {
        tx.raw("t")?.put(b"a", b"1")?;
        Err::<(), _>(Error::Invalid("no".to_owned()))
    });
    assert!(matches!(failed, Err(Error::Invalid(_))));
    assert_eq!(store.read()?.tables()?, []);
    Ok(())
}

/// A row of the names table has 16 bits for the length of each: what does not fit is refused, not cut.
#[test]
fn names_of_types_have_a_limit() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path)?;
    let fits = "é".repeat(memstone::MAX_NAME_SIZE / 2);
    store.write(|tx| tx.untyped_as("t", &fits, &fits)?.put(b"k", b"v"))?;
    for (keys, values) in [("é".repeat(40_000), fits.clone()), (fits.clone(), format!("{fits}x"))] {
        let refused = store.write(|tx| tx.untyped_as("other", &keys, &values).map(drop));
        assert!(matches!(refused, Err(Error::TooLarge { what: LimitKind::TypeName, .. })), "{refused:?}");
    }
    assert_eq!(store.read()?.table_types("t")?, Some((fits.clone(), fits)));
    assert_eq!(store.read()?.tables()?.len(), 1);
    drop(store);
    is_clean(&path);
    Ok(())
}
