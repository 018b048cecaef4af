//! Bringing a store back: what it replaces, when it refuses, and who notices.

use crate::common::{Child, Role, listen, tell};
use crate::{hash_in, hash_of, restored};
use memstone::{BackupDir, BackupOptions, Error, Options, RestoreOptions, Store, restore};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub const ROLES: &[Role] = &[("holder", holder), ("opener", opener)];

pub fn put(store: &Store, key: &[u8], value: &[u8]) {
    store.write(|tx| tx.raw("t")?.put(key, value)).unwrap();
}

/// All files in a directory, by name.
pub fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

struct Place {
    dir: tempfile::TempDir,
    store: PathBuf,
    backup: PathBuf,
}

/// A store with one row, backed up, and then changed and closed.
fn place() -> (Place, String) {
    let dir = tempfile::tempdir().unwrap();
    let (path, backup) = (dir.path().join("memory.mst"), dir.path().join("backup.mst"));
    let store = Store::open(&path).unwrap();
    put(&store, b"k", b"then");
    let snapshot = store.read().unwrap();
    snapshot.backup_to(&backup).unwrap();
    let hash = hash_of(&snapshot);
    drop(snapshot);
    put(&store, b"k", b"now");
    store.close().unwrap();
    (Place { dir, store: path, backup }, hash)
}

#[test]
fn a_store_that_is_replaced_is_kept() {
    let (place, hash) = place();
    let now = hash_in(&place.store);
    fs::set_permissions(&place.store, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = restore(&place.backup, &place.store, RestoreOptions::new());
    assert!(matches!(refused, Err(Error::Exists { .. })), "{refused:?}");
    assert_eq!(hash_in(&place.store), now);
    let before = names_in(place.dir.path());
    let report = restore(&place.backup, &place.store, RestoreOptions::new().overwrite(true)).unwrap();
    let kept = report.replaced.unwrap();
    assert!(kept.file_name().unwrap().to_str().unwrap().starts_with("memory.mst.before-restore-2"), "{kept:?}");
    assert_eq!((hash_in(&place.store), hash_in(&kept)), (hash, now));
    assert_eq!(names_in(place.dir.path()).len(), before.len() + 1);
    assert_eq!(fs::metadata(&place.store).unwrap().permissions().mode() & 0o777, 0o640, "as it was");
    assert_eq!(fs::metadata(&place.backup).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_restored_store_has_an_id_of_its_own_and_begins_a_new_chain() {
    let (place, _) = place();
    restore(&place.backup, &place.store, RestoreOptions::new().overwrite(true)).unwrap();
    let id = |path: &Path| memstone::check(path, &memstone::CheckOptions::new()).unwrap().store_id;
    assert_ne!(id(&place.store), id(&place.backup));
    let store = Store::open(&place.store).unwrap();
    assert_eq!(store.last_commit().unwrap(), 1, "transactions go on counting");
    let options = BackupOptions::new().since(&place.backup);
    let refused = store.read().unwrap().backup_with(place.dir.path().join("increment"), options);
    assert!(matches!(refused, Err(Error::Backup { .. })), "{refused:?}");
}

/// Has a store open until it is told otherwise.
fn holder(words: &[String]) {
    let store = Options::new().read_only(words[1] == "read").open(&words[0]).unwrap();
    tell("open");
    listen();
    drop(store);
}

#[test]
fn a_store_that_is_open_is_not_replaced() {
    let (place, hash) = place();
    let overwrite = || restore(&place.backup, &place.store, RestoreOptions::new().overwrite(true));
    for way in ["read", "write"] {
        let mut child = Child::start("holder", &[&place.store.display(), &way]);
        child.hear();
        let refused = overwrite();
        let Err(Error::InUse { holders, .. }) = &refused else { panic!("{refused:?}") };
        if cfg!(target_os = "linux") {
            assert_eq!(holders.iter().map(|holder| holder.pid as i32).collect::<Vec<_>>(), [child.pid()]);
            assert!(refused.as_ref().unwrap_err().to_string().contains(&child.pid().to_string()));
        }
        child.say("close");
        child.finish();
    }
    let own = Store::open(&place.store).unwrap();
    assert!(matches!(overwrite(), Err(Error::InUse { .. })), "this very process has it open");
    own.close().unwrap();
    overwrite().unwrap();
    assert_eq!(hash_in(&place.store), hash);
}

/// Opens a store, and says what it finds there, and what becomes of a write.
fn opener(words: &[String]) {
    tell("ready");
    listen();
    let store = Options::new().read_only(words[1] == "read").open(&words[0]).unwrap();
    let value = store.read().unwrap().raw("t").unwrap().get(b"k").unwrap().unwrap().to_vec();
    tell(String::from_utf8(value).unwrap());
}

#[test]
fn an_opening_during_a_replacement_gets_the_new_store() {
    for way in ["read", "write"] {
        let (place, hash) = place();
        let mut child = Child::start("opener", &[&place.store.display(), &way]);
        child.hear();
        // It opens the old file, and waits for the lock until that has lost its name.
        let mut started = false;
        let options = RestoreOptions::new().overwrite(true).progress(|progress| {
            if progress.step == memstone::BackupStep::Replace && !std::mem::replace(&mut started, true) {
                child.say("open");
                crate::wait_until_open(child.pid(), &place.store);
            }
            ControlFlow::Continue(())
        });
        restore(&place.backup, &place.store, options).unwrap();
        assert!(started);
        assert_eq!(child.hear(), "then", "{way}");
        child.finish();
        assert_eq!(hash_in(&place.store), hash);
    }
}

#[test]
fn any_closed_store_is_a_source_and_a_link_is_followed() {
    let (place, _) = place();
    let link = place.dir.path().join("link.mst");
    std::os::unix::fs::symlink(&place.store, &link).unwrap();
    let other = place.dir.path().join("other.mst");
    let store = Store::open(&other).unwrap();
    put(&store, b"k", b"other");
    let hash = hash_of(&store.read().unwrap());
    store.close().unwrap();
    let report = restore(&other, &link, RestoreOptions::new().overwrite(true)).unwrap();
    assert!(report.manifest.base.is_none());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(hash_in(&place.store), hash);
}

/// Two backups of one size: the manifest of one behind the store of the other.
#[test]
fn a_manifest_of_another_content_is_not_believed() {
    let place = place();
    let path = |name: &str| place.0.dir.path().join(name);
    let [one, two] = ["one", "two"].map(|value| {
        let store = Store::open(path(&format!("{value}.store"))).unwrap();
        put(&store, b"k", value.as_bytes());
        store.read().unwrap().backup_to(path(value)).unwrap();
        fs::read(path(value)).unwrap()
    });
    let number =
        |at: usize, len: usize| one[at..at + len].iter().rev().fold(0_usize, |n, byte| n << 8 | usize::from(*byte));
    let store = number(152, 8) * number(52, 4);
    assert_eq!(one.len(), two.len());
    fs::write(path("mixed"), [&one[..store], &two[store..]].concat()).unwrap();
    let refused = restore(path("mixed"), path("again.mst"), RestoreOptions::new());
    assert!(matches!(&refused, Err(Error::Corrupt(_))), "{refused:?}");
}

#[test]
fn a_backup_that_was_written_to_is_a_store_and_no_backup() {
    let (place, hash) = place();
    let store = Store::open(&place.backup).unwrap();
    assert_eq!(hash_of(&store.read().unwrap()), hash);
    put(&store, b"k", b"changed");
    let changed = hash_of(&store.read().unwrap());
    // The change is in the log alone: of the open store, and of the closed one.
    let copy = place.dir.path().join("copy.mst");
    fs::copy(&place.backup, &copy).unwrap();
    assert_eq!(restored(&copy, &place.dir.path().join("copied.mst")), changed);
    store.close().unwrap();
    let source = Store::open(&place.store).unwrap();
    let options = BackupOptions::new().since(&place.backup);
    let refused = source.read().unwrap().backup_with(place.dir.path().join("increment"), options);
    assert!(matches!(refused, Err(Error::Backup { .. })), "{refused:?}");
    assert_eq!(restored(&place.backup, &place.dir.path().join("again.mst")), changed);
}

#[test]
fn a_manifest_that_outlived_its_store_is_not_believed() {
    let (place, _) = place();
    let old = fs::read(&place.backup).unwrap();
    let footer = old.len() - 32;
    let start = u64::from_le_bytes(old[footer + 8..footer + 16].try_into().unwrap());
    let store = Store::open(&place.backup).unwrap();
    put(&store, b"k", b"later");
    let hash = hash_of(&store.read().unwrap());
    store.close().unwrap();
    // As if the file had neither been cut nor grown over it.
    let mut bytes = fs::read(&place.backup).unwrap();
    let now = bytes.len() as u64;
    bytes.extend_from_slice(&old[start as usize..]);
    let footer = bytes.len() - 32;
    bytes[footer + 8..footer + 16].copy_from_slice(&now.to_le_bytes());
    let crc = crc32fast::hash(&bytes[footer + 4..]);
    bytes[footer..footer + 4].copy_from_slice(&crc.to_le_bytes());
    fs::write(&place.backup, bytes).unwrap();
    assert_eq!(restored(&place.backup, &place.dir.path().join("again.mst")), hash);
}

#[test]
fn a_file_put_back_from_an_older_copy_cannot_fool_an_increment_that_is_proved() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("memory.mst"), dir.path().join("copy"));
    let open = || Store::open(&path).unwrap();
    let checkpoint = |store: &Store, key: u32, count: u32, value: u8| {
        let rows = |tx: &memstone::WriteTxn| {
            (key..key + count).try_for_each(|key| tx.raw("t")?.put(&key.to_be_bytes(), &[value; 200]))
        };
        store.write(rows).unwrap();
        store.checkpoint().unwrap();
    };
    let store = open();
    checkpoint(&store, 0, 2000, 1);
    store.close().unwrap();
    fs::copy(&path, &copy).unwrap();
    let store = open();
    checkpoint(&store, 500, 1, 2);
    let base = dir.path().join("base.mst");
    let newest = store.read().unwrap().backup_to(&base).unwrap().root_sequence;
    store.close().unwrap();
    // In place: the file, its id and its inode are the same, and the roots are numbered as they were.
    fs::write(&path, fs::read(&copy).unwrap()).unwrap();
    let store = open();
    checkpoint(&store, 500, 1, 3);
    (0..=newest as u32).for_each(|n| checkpoint(&store, 1900, 1, n as u8));
    let (quick, proved) = (dir.path().join("quick"), dir.path().join("proved"));
    let options = || BackupOptions::new().since(&base);
    store.read().unwrap().backup_with(&quick, options()).unwrap();
    assert_ne!(restored(&quick, &dir.path().join("again.mst")), hash_of(&store.read().unwrap()), "it was not fooled");
    let refused = store.read().unwrap().backup_with(&proved, options().prove(true));
    assert!(matches!(refused, Err(Error::Backup { .. })) && !proved.exists(), "{refused:?}");
    fs::remove_file(&quick).unwrap();
    let backups = BackupDir::create(dir.path().join("backups")).unwrap();
    fs::rename(&base, backups.path().join("19700101T000000.000000Z.full.mst")).unwrap();
    let made = backups.backup(&store.read().unwrap(), true, BackupOptions::new().prove(true)).unwrap();
    assert!(made.manifest.unwrap().base.is_none(), "a full one instead");
    assert_eq!(restored(backups.path(), &dir.path().join("again.mst")), hash_of(&store.read().unwrap()));
}

#[test]
fn a_directory_restores_to_any_of_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    let backups = BackupDir::create(dir.path().join("backups")).unwrap();
    let mut made = Vec::new();
    for n in 0..6_u8 {
        put(&store, &[n], &[n; 100]);
        let snapshot = store.read().unwrap();
        let entry = backups.backup(&snapshot, n % 3 != 0, BackupOptions::new().prove(n == 4)).unwrap();
        assert_eq!(entry.manifest.as_ref().unwrap().base.is_some(), n % 3 != 0);
        backups.verify(&entry).unwrap();
        made.push((entry.manifest.unwrap().time(), hash_of(&snapshot)));
        std::thread::sleep(Duration::from_millis(2));
    }
    let again = dir.path().join("again.mst");
    for (time, hash) in &made {
        let options = RestoreOptions::new().at(*time + Duration::from_millis(1));
        restore(backups.path(), &again, options).unwrap();
        assert_eq!(&hash_in(&again), hash);
        fs::remove_file(&again).unwrap();
    }
    assert_eq!(restored(backups.path(), &again), made[5].1);
    let early = restore(backups.path(), &again, RestoreOptions::new().at(SystemTime::UNIX_EPOCH));
    assert!(matches!(early, Err(Error::Backup { .. })) && !again.exists());
    let lock = fs::File::open(backups.path().join(".lock")).unwrap();
    lock.try_lock().unwrap();
    let busy = backups.backup(&store.read().unwrap(), false, BackupOptions::new());
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
}

#[test]
fn what_an_increment_builds_on_is_found_beside_it_or_named_in_the_error() {
    let (place, _) = place();
    let store = Store::open(&place.store).unwrap();
    let increment = place.dir.path().join("increment");
    store.read().unwrap().backup_with(&increment, BackupOptions::new().since(&place.backup)).unwrap();
    let (hash, again) = (hash_of(&store.read().unwrap()), place.dir.path().join("again.mst"));
    fs::rename(&place.backup, place.dir.path().join("renamed")).unwrap();
    assert_eq!(restored(&increment, &again), hash);
    fs::remove_file(place.dir.path().join("renamed")).unwrap();
    let missing = restore(&increment, &again, RestoreOptions::new()).unwrap_err();
    assert!(matches!(missing, Error::Backup { .. }) && missing.to_string().contains("backup.mst"), "{missing}");
    assert!(!again.exists());
}

#[cfg(feature = "zstd")]
#[test]
fn streams_and_increments_may_be_compressed() {
    let (place, _) = place();
    let store = Store::open(&place.store).unwrap();
    let rows = |tx: &memstone::WriteTxn| (0..3000_u32).try_for_each(|n| tx.raw("t")?.put(&n.to_be_bytes(), &[1; 500]));
    store.write(rows).unwrap();
    put(&store, b"long", &vec![3; 700_000]);
    let snapshot = store.read().unwrap();
    let (stream, again) = (place.dir.path().join("stream"), place.dir.path().join("again.mst"));
    let options = || BackupOptions::new().compress(true);
    snapshot.backup_into(fs::File::create(&stream).unwrap(), options()).unwrap();
    let increment = place.dir.path().join("increment");
    snapshot.backup_with(&increment, options().since(&place.backup)).unwrap();
    for file in [stream, increment] {
        let size = fs::metadata(&file).unwrap().len();
        assert!(size < 200_000, "{size} bytes of two million that are all alike");
        assert_eq!(restored(&file, &again), hash_of(&snapshot));
    }
}
