//! The archive of the log, and bringing any moment of it back.

use crate::hash_of;
use crate::restoring::{names_in, put};
use memstone::{BackupDir, BackupOptions, Error, Moment, RestoreOptions, Store, WriteTxn, restore};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A store with an archive, and a hash of each state.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub states: BTreeMap<u64, String>,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap(), states: BTreeMap::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> Store {
        Store::options().log_cap(1 << 20).open(self.path("memory.mst")).unwrap()
    }

    pub fn archive(&self) -> PathBuf {
        self.path("backups")
    }

    pub fn backup(&self, store: &Store, increment: bool) {
        let made =
            BackupDir::create(self.archive()).unwrap().backup(&store.read().unwrap(), increment, BackupOptions::new());
        made.unwrap();
    }

    /// Notes the newest state.
    pub fn note(&mut self, store: &Store) -> u64 {
        let snapshot = store.read().unwrap();
        self.states.insert(snapshot.lsn(), hash_of(&snapshot));
        snapshot.lsn()
    }

    pub fn write(&mut self, store: &Store, body: impl FnOnce(&WriteTxn) -> memstone::Result<()>) -> u64 {
        store.write(body).unwrap();
        self.note(store)
    }

    pub fn restored(&self, moment: Moment) -> memstone::Result<(u64, String)> {
        let target = self.path("restored.mst");
        let report = restore(self.archive(), &target, RestoreOptions::new().to(moment))?;
        let hash = crate::hash_in(&target);
        std::fs::remove_file(&target).unwrap();
        Ok((report.manifest.lsn, hash))
    }

    pub fn each_state_comes_back_from(&self, first: u64) {
        for (lsn, hash) in self.states.range(first..) {
            let (found, content) = self.restored(Moment::Lsn(*lsn)).unwrap_or_else(|e| panic!("LSN {lsn}: {e}"));
            assert_eq!((found, &content), (*lsn, hash));
        }
        let left: Vec<_> = names_in(self.dir.path()).into_iter().filter(|name| name.starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

pub fn refused(result: memstone::Result<(u64, String)>) -> String {
    match result {
        Err(Error::Backup { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_state_comes_back() {
    let mut place = Place::new();
    let store = place.store();
    put(&store, b"before", b"the archive");
    store.start_archive(place.archive()).unwrap();
    place.backup(&store, false);
    let first = place.note(&store);
    for n in 0..6_u8 {
        place.write(&store, |tx| tx.raw("t")?.put(&[n], &[n; 100]));
    }
    store.checkpoint().unwrap();
    // Long values, one of them twice between folds; a table that goes, one that is renamed, one that is cleared.
    place.write(&store, |tx| tx.raw("long")?.put(b"k", &vec![1; 100_000]));
    place.write(&store, |tx| tx.raw("long")?.put(b"k", &vec![2; 200_000]));
    place.write(&store, |tx| tx.raw("gone")?.put(b"k", b"v"));
    place.write(&store, |tx| tx.drop_table("gone").map(drop));
    place.backup(&store, true);
    place.write(&store, |tx| tx.rename_table("long", "renamed"));
    place.write(&store, |tx| tx.raw("gone")?.put(b"other", b"table"));
    store.checkpoint().unwrap();
    place.write(&store, |tx| {
        tx.clear_table("t")?;
        tx.raw("t")?.put(b"new", b"row")
    });
    // Too large for the log.
    place.write(&store, |tx| (0..3000_u32).try_for_each(|n| tx.raw("large")?.put(&n.to_be_bytes(), &[7; 900])));
    place.write(&store, |tx| tx.raw("large")?.remove(&7_u32.to_be_bytes()).map(drop));
    let status = store.archive_now().unwrap();
    assert_eq!((status.last, &status.trouble), (store.last_commit().unwrap(), &None));
    assert!(status.gaps.is_empty() && status.first.unwrap() <= first, "{status:?}");
    place.each_state_comes_back_from(first);
    let (newest, hash) = place.states.last_key_value().map(|(lsn, hash)| (*lsn, hash.clone())).unwrap();
    assert_eq!(place.restored(Moment::Newest).unwrap(), (newest, hash));
    let reason = refused(place.restored(Moment::Lsn(newest + 1)));
    assert!(reason.contains("ends with transaction"), "{reason}");
    store.close().unwrap();
    let report = memstone::check(place.path("memory.mst"), &memstone::CheckOptions::new()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let options = memstone::RepairOptions::new().output(place.path("repaired.mst"));
    let repaired = memstone::repair(place.path("memory.mst"), &options).unwrap();
    assert!(repaired.is_complete(), "{repaired:?}");
    assert_eq!(crate::hash_in(&place.path("repaired.mst")), place.states[&newest]);
}
