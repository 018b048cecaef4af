//! The archive of the log, and bringing any moment of it back.

use crate::common::{Child, Random};
use crate::restoring::{names_in, put};
use crate::{archive_trouble, hash_of};
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
    // Long values, one of them twice between checkpoints; a table that goes, one that is renamed, one that is cleared.
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

fn change(tx: &WriteTxn, random: &mut Random) -> memstone::Result<()> {
    let table = ["a", "b", "c"][random.below(3) as usize];
    let key = [random.below(40) as u8];
    match random.below(12) {
        0 => tx.drop_table(table).map(drop),
        1 => tx.clear_table(table),
        2 => match tx.rename_table(table, ["a", "b", "d"][random.below(3) as usize]) {
            Err(Error::NoTable { .. } | Error::TableExists { .. }) => Ok(()),
            renamed => renamed,
        },
        3 | 4 => tx.raw(table)?.remove(&key).map(drop),
        5 => tx.raw(table)?.put(&key, &vec![key[0]; 30_000 + random.below(60_000) as usize]),
        // Too large for the log.
        6 => (0..400_u32).try_for_each(|n| tx.raw(table)?.put(&n.to_be_bytes(), &[key[0]; 900])),
        _ => tx.raw(table)?.put(&key, &vec![key[0]; random.below(500) as usize]),
    }
}

#[test]
fn any_moment_of_any_history_comes_back() {
    for seed in 1..=4 {
        let mut random = Random(seed << 32 | 0x7f4a_7c15);
        let mut place = Place::new();
        let store = place.store();
        put(&store, b"k", b"v");
        store.start_archive(place.archive()).unwrap();
        place.backup(&store, false);
        let first = place.note(&store);
        for _ in 0..60 {
            let changes = 1 + random.below(4);
            place.write(&store, |tx| {
                // So that no two states are the same.
                tx.raw("n")?.put(b"n", &random.0.to_be_bytes())?;
                (0..changes).try_for_each(|_| change(tx, &mut random))
            });
            match random.below(10) {
                0 | 1 => store.checkpoint().unwrap(),
                2 => place.backup(&store, random.below(3) > 0),
                3 => {
                    let file = place.path("memory.mst").display().to_string();
                    Child::start("checkpoints", &[&file, &random.below(9)]).finish();
                    place.note(&store);
                }
                _ => {}
            }
        }
        store.archive_now().unwrap();
        let lsns: Vec<u64> = place.states.range(first..).map(|(lsn, _)| *lsn).collect();
        for _ in 0..12 {
            let lsn = lsns[random.below(lsns.len() as u64) as usize];
            let (found, hash) =
                place.restored(Moment::Lsn(lsn)).unwrap_or_else(|e| panic!("seed {seed}, LSN {lsn}: {e}"));
            assert_eq!((found, &hash), (lsn, &place.states[&lsn]), "seed {seed}");
        }
    }
}

#[test]
fn segments_go_with_the_backups_that_need_them() {
    let mut place = Place::new();
    let store = place.store();
    store.start_archive(place.archive()).unwrap();
    for n in 0..4_u8 {
        place.backup(&store, false);
        place.write(&store, |tx| tx.raw("t")?.put(&[n], b"v"));
        store.archive_now().unwrap();
        archive_trouble::spoil_end(&place.archive());
    }
    store.archive_now().unwrap();
    let count = || archive_trouble::segments(&place.archive()).len();
    assert_eq!(count(), 5);
    let backups = BackupDir::open(place.archive()).unwrap();
    let entries = backups.list().unwrap();
    // All are of one day: only the last one is kept.
    let removed = backups.prune(&"1d".parse().unwrap()).unwrap();
    assert_eq!((removed.len(), count()), (6, 2), "{removed:?}");
    let oldest = entries.last().unwrap().manifest.as_ref().unwrap().lsn;
    place.each_state_comes_back_from(oldest + 1);
    put(&store, b"k", b"goes on");
    assert_eq!(store.archive_now().unwrap().trouble, None);
}
