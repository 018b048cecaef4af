//! Snapshots by name, by the library, in real files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use memstone::{
    BackupOptions, CheckOptions, Error, Options, RepairOptions, RestoreOptions, Store, Table, check, content_hash,
    repair,
};

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

/// Nobody writes on: what the name kept goes back to the system all the same.
#[test]
fn an_idle_store_gives_back_what_a_deleted_name_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store.mst")).unwrap();
    store.write(|tx| tx.raw("t")?.put(b"long", &vec![7; 8 << 20])).unwrap();
    store.create_snapshot("long").unwrap();
    store.write(|tx| tx.raw("t")?.delete(b"long")).unwrap();
    store.checkpoint().unwrap();
    assert!(store.snapshots().unwrap()[0].kept >= 8 << 20);
    store.delete_snapshot("long").unwrap();
    // A minute ends a hang; it takes a second or two.
    let small = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        store.stats().unwrap().file_size < 4 << 20
    });
    assert!(small, "{} bytes", store.stats().unwrap().file_size);
}

#[test]
fn backups_of_names_and_of_what_came_after_build_on_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let store = Store::open(at("store.mst")).unwrap();
    (0..500).for_each(|n| put(&store, &format!("{n:03}"), "first"));
    store.create_snapshot("first").unwrap();
    (200..300).for_each(|n| put(&store, &format!("{n:03}"), "second"));
    store.create_snapshot("second").unwrap();
    put(&store, "third", "third");
    let (first, second, now) =
        (store.snapshot("first").unwrap(), store.snapshot("second").unwrap(), store.read().unwrap());
    let since = |name: &str| BackupOptions::new().since(at(name));
    first.backup_to(at("first.mst")).unwrap();
    second.backup_with(at("second.incr"), since("first.mst")).unwrap();
    now.backup_with(at("now.incr"), since("second.incr")).unwrap();
    for (snapshot, name) in [(&second, "second.incr"), (&now, "now.incr")] {
        let restored = at(&format!("{name}.mst"));
        memstone::restore(at(name), &restored, RestoreOptions::new()).unwrap();
        let restored = Store::open(&restored).unwrap().read().unwrap();
        assert_eq!(content_hash(&restored).unwrap(), content_hash(snapshot).unwrap());
    }
    // A name is older than what was backed up since.
    let refused = first.backup_with(at("first.incr"), since("now.incr"));
    assert!(matches!(refused, Err(Error::Backup { .. })), "{:?}", refused.map(drop));
    assert!(!at("first.incr").exists());
}
