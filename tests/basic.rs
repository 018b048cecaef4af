//! The plain case: one process, one thread.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use memstone::{Result, Store};

#[test]
fn what_is_written_is_read() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path)?;
    store.write(|tx| tx.raw("t")?.put(b"a", b"1"))?;
    let snap = store.read()?;
    assert_eq!(snap.raw("t")?.get(b"a")?.unwrap(), b"1");
    assert_eq!(snap.raw("t")?.len()?, 1);
    store.checkpoint()?;
    let after = store.read()?;
    assert_eq!(after.raw("t")?.get(b"a")?.unwrap(), b"1");
    store.write(|tx| tx.raw("t")?.put(b"b", b"2"))?;
    assert_eq!(snap.raw("t")?.len()?, 1);
    assert_eq!(store.read()?.raw("t")?.len()?, 2);
    drop((snap, after));
    drop(store);
    let store = Store::open(&path)?;
    assert_eq!(store.read()?.raw("t")?.len()?, 2);
    for i in 0..20_000_u32 {
        store.write_with(memstone::WriteOptions::new().durability(memstone::Durability::Relaxed), |tx| {
            tx.raw("t")?.put(&i.to_be_bytes(), &[7; 150])
        })?;
    }
    assert_eq!(store.read()?.raw("t")?.len()?, 20_002);
    println!("{:?}", store.stats()?);
    drop(store);
    let store = Store::open(&path)?;
    assert_eq!(store.read()?.raw("t")?.len()?, 20_002);
    println!("{:?}", store.stats()?);
    store.write(|tx| {
        let t = tx.raw("t")?;
        for i in 0..200_000_u32 {
            t.put(&i.to_be_bytes(), &[8; 150])?;
        }
        Ok::<_, memstone::Error>(())
    })?;
    assert_eq!(store.read()?.raw("t")?.len()?, 200_002);
    store.write(|tx| tx.raw("t")?.put(b"long", &vec![3; 300_000]))?;
    assert_eq!(store.read()?.raw("t")?.get(b"long")?.unwrap().len(), 300_000);
    println!("{:?}", store.stats()?);
    drop(store);
    println!("closed: {}", std::fs::metadata(&path).unwrap().len());
    let store = Store::open(&path)?;
    assert_eq!(store.read()?.raw("t")?.len()?, 200_003);
    store.write(|tx| tx.drop_table("t"))?;
    drop(store);
    println!("emptied: {}", std::fs::metadata(&path).unwrap().len());
    Ok(())
}
