//! Snapshots by name, by the library, in real files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use memstone::{CheckOptions, Error, Options, RepairOptions, Store, Table, check, content_hash, repair};

const NOTES: Table<&str, String> = Table::new("notes");

fn put(store: &Store, key: &str, text: &str) {
    store.write(|tx| tx.table(NOTES)?.put(key, text)).unwrap();
}

#[test]
fn a_name_survives_restarts_backups_and_checks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    let store = Store::open(&path).unwrap();
    (0..500).for_each(|n| put(&store, &format!("{n:03}"), "first"));
    store.create_snapshot("first").unwrap();
    let hash = content_hash(&store.read().unwrap()).unwrap();
    store.write(|tx| tx.clear_table("notes")).unwrap();
    (0..300).for_each(|n| put(&store, &format!("{n:03}"), "second"));
    store.close().unwrap();

    let store = Options::new().read_only(true).open(&path).unwrap();
    let first = store.snapshot("first").unwrap();
    assert_eq!(first.table(NOTES).unwrap().get("499").unwrap().as_deref(), Some("first"));
    assert_eq!(content_hash(&first).unwrap(), hash);
    assert!(matches!(store.create_snapshot("second"), Err(Error::ReadOnly { .. })));
    let report = check(&path, &CheckOptions::new()).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    let copy = dir.path().join("copy.mst");
    first.backup_to(&copy).unwrap();
    let copied = Store::open(&copy).unwrap();
    assert_eq!(content_hash(&copied.read().unwrap()).unwrap(), hash);
    assert_eq!(copied.snapshots().unwrap(), []);
    drop((first, store));

    let store = Store::open(&path).unwrap();
    store.roll_back_to("first").unwrap();
    assert_eq!(content_hash(&store.read().unwrap()).unwrap(), hash);
}

#[test]
fn a_repair_tells_which_names_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    let store = Store::open(&path).unwrap();
    (0..500).for_each(|n| put(&store, &format!("{n:03}"), "first"));
    store.create_snapshot("one").unwrap();
    store.create_snapshot("two").unwrap();
    (0..300).for_each(|n| put(&store, &format!("{n:03}"), "second"));
    let hash = content_hash(&store.read().unwrap()).unwrap();
    store.close().unwrap();
    let report = repair(&path, &RepairOptions::new()).unwrap();
    assert_eq!(report.lost_snapshots, ["one", "two"]);
    assert!(!report.is_complete() && report.tables.len() == 1 && report.notes.is_empty(), "{report:?}");
    let repaired = Store::open(&report.output).unwrap();
    assert_eq!(content_hash(&repaired.read().unwrap()).unwrap(), hash);
    assert_eq!(repaired.snapshots().unwrap(), []);
}
