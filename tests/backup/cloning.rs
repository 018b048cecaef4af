//! A clone made while others write is one committed state, with all that was acknowledged.

use crate::common::{Child, Random, Role, TestStore, stop_flag, tell};
use crate::{hash_in, hash_of};
use memstone::{BackupOptions, BackupStep, CloneOptions, Durability, Error, Options, Store, Table, WriteOptions};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;

pub const ROLES: &[Role] = &[("clone transfers", transfers)];

const ACCOUNTS: Table<u32, i64> = Table::new("accounts");
const COUNTS: Table<u32, u64> = Table::new("counts");
const NUMBER: u32 = 2000;
const EACH: i64 = 1000;

/// Moves amounts between accounts, and counts what it has done in the same transaction: every other time relaxed, and now
/// and then with a long value. Says how far it is when asked.
fn transfers(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let me: u32 = words[1].parse().unwrap();
    let mut random = Random(me.into());
    let stop = stop_flag();
    let mut done = 0_u64;
    while !stop.load(Ordering::Acquire) {
        let mut next = || random.below(NUMBER);
        let (from, to, amount) = (next(), next(), i64::from(next()));
        let durability = if done.is_multiple_of(2) { Durability::Sync } else { Durability::Relaxed };
        let transfer = |tx: &memstone::WriteTxn| {
            let accounts = tx.table(ACCOUNTS)?;
            let left = accounts.get(from)?.unwrap() - amount;
            accounts.insert(from, left)?;
            let right = accounts.get(to)?.unwrap() + amount;
            accounts.insert(to, right)?;
            if done % 50 == 7 {
                tx.raw("long")?.put(&me.to_be_bytes(), &vec![7; 100_000])?;
            }
            tx.table(COUNTS)?.insert(me, done + 1).map(drop)
        };
        store.write_with(WriteOptions::new().durability(durability), transfer).unwrap();
        done += 1;
        if done.is_multiple_of(10) {
            tell(done);
        }
    }
    tell("end");
}

fn total(store: &Store) -> i64 {
    let snapshot = store.read().unwrap();
    snapshot.table(ACCOUNTS).unwrap().range(..).unwrap().map(|row| row.unwrap().1).sum()
}

#[test]
fn a_clone_beside_four_writers_is_one_state() {
    let test = TestStore::alone();
    let store = test.open();
    store
        .write(|tx| {
            tx.table(COUNTS)?;
            (0..NUMBER).try_for_each(|n| tx.table(ACCOUNTS)?.insert(n, EACH).map(drop))
        })
        .unwrap();
    let mut children: Vec<Child> =
        (0..4).map(|n| Child::start("clone transfers", &[&test.path.display(), &(n + 3)])).collect();
    let mut acknowledged = [0_u64; 4];
    let mut states = Vec::new();
    for round in 0..20 {
        for (child, done) in children.iter_mut().zip(&mut acknowledged) {
            *done = child.hear().parse().unwrap();
        }
        let path = test.dir.path().join(format!("clone-{round}"));
        let report = store.clone_to(&path).unwrap();
        hash_in(&path);
        let clone = Store::open(&path).unwrap();
        assert_eq!(total(&clone), i64::from(NUMBER) * EACH, "round {round}");
        let snapshot = clone.read().unwrap();
        assert!(snapshot.lsn() >= report.lsn);
        for (n, done) in (3..).zip(&acknowledged) {
            let found = snapshot.table(COUNTS).unwrap().get(n).unwrap().unwrap_or_default();
            assert!(found >= *done, "round {round}: {found} of {done} acknowledged");
        }
        states.push(report.lsn);
        // It can be written to, and the store does not see that.
        clone.write(|tx| tx.raw("mine")?.put(b"k", b"v")).unwrap();
        drop((snapshot, clone));
        std::fs::remove_file(path).unwrap();
    }
    assert!(store.read().unwrap().tables().unwrap().iter().all(|table| table.name != "mine"));
    assert!(states[19] > states[0], "nothing was committed meanwhile");
    children.iter_mut().for_each(|child| child.say("end"));
    children.into_iter().for_each(|child| drop(child.finish()));
}

/// A store of some size, and what commits to it while it is copied, piece by piece, from another thread.
#[test]
fn what_is_committed_while_pages_are_copied_is_there_whole() {
    let test = TestStore::alone();
    let store = test.open();
    store.write(|tx| (0..40_u8).try_for_each(|n| tx.raw("t")?.put(&[n], &vec![n; 200_000]))).unwrap();
    store.checkpoint().unwrap();
    let mut last = 0_u64;
    let path = test.dir.path().join("clone");
    let options = CloneOptions::new().progress(|told| {
        if told.step == BackupStep::Copy && told.bytes > 0 {
            last += 1;
            let (other, n) = (store.clone(), last);
            // Another thread: this one holds CHECKPOINT.
            let commit = move || other.write(|tx| tx.raw("during")?.put(&n.to_be_bytes(), &[7; 3000])).unwrap();
            std::thread::spawn(commit).join().unwrap();
        }
        ControlFlow::Continue(())
    });
    let report = store.clone_with(&path, options).unwrap();
    let clone = Store::open(&path).unwrap();
    let during = clone.read().unwrap().raw("during").map(|table| table.len().unwrap()).unwrap_or_default();
    assert!(report.shares_blocks || (last > 0 && during == last), "{during} of {last} commits");
}

#[test]
fn it_is_a_store_of_its_own() {
    let test = TestStore::alone();
    let store = test.open();
    let (path, again) = (test.dir.path().join("clone"), test.dir.path().join("clone of the clone"));
    store.write(|tx| tx.raw("t")?.put(b"k", b"before")).unwrap();
    store.create_snapshot("kept").unwrap();
    store.write(|tx| tx.raw("t")?.put(b"k", b"now")).unwrap();
    let backup = test.dir.path().join("backup");
    store.read().unwrap().backup_to(&backup).unwrap();
    store.clone_to(&path).unwrap();
    let ids: Vec<_> =
        [&test.path, &path].map(|path| memstone::check(path, &memstone::CheckOptions::new()).unwrap().store_id).into();
    assert_ne!(ids[0], ids[1]);
    let clone = Store::open(&path).unwrap();
    assert_eq!(hash_of(&clone.read().unwrap()), hash_of(&store.read().unwrap()));
    assert_eq!(clone.snapshot("kept").unwrap().raw("t").unwrap().get(b"k").unwrap().unwrap(), b"before");
    // No increment of it builds on a backup of the store.
    let increment = clone.read().unwrap().backup_with(&again, BackupOptions::new().since(&backup));
    assert!(matches!(increment, Err(Error::Backup { .. })), "{increment:?}");
    clone.clone_to(&again).unwrap();
    let expected = hash_of(&clone.read().unwrap());
    assert_eq!(hash_in(&again), expected);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_refused_or_ended_leaves_nothing() {
    let test = TestStore::alone();
    let store = test.open();
    store.write(|tx| tx.raw("t")?.put(b"k", &vec![7; 3 << 20])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clone");
    for end in 0.. {
        let mut step = 0;
        let options = CloneOptions::new().progress(|_| {
            step += 1;
            if step > end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match store.clone_with(&path, options) {
            Err(Error::Cancelled { .. }) => assert!(names(dir.path()).is_empty(), "ended at step {end}"),
            done => {
                done.unwrap();
                break;
            }
        }
    }
    assert_eq!(names(dir.path()), ["clone"]);
    assert!(matches!(store.clone_to(&path), Err(Error::Exists { .. })));
    let open = Store::open(&path).unwrap();
    let replaced = store.clone_with(&path, CloneOptions::new().overwrite(true));
    assert!(matches!(replaced, Err(Error::InUse { .. })), "{replaced:?}");
    open.write(|tx| tx.raw("t")?.put(b"k", b"other")).unwrap();
    open.close().unwrap();
    let itself = store.clone_with(&test.path, CloneOptions::new().overwrite(true));
    assert!(matches!(itself, Err(Error::InUse { .. })), "{itself:?}");
    store.clone_with(&path, CloneOptions::new().overwrite(true).quick(true)).unwrap();
    assert_eq!(hash_in(&path), hash_of(&store.read().unwrap()));
    let reader = Options::new().read_only(true).open(&path).unwrap();
    assert!(matches!(reader.clone_to(dir.path().join("x")), Err(Error::ReadOnly { .. })));
    drop(reader);
    assert_eq!(names(dir.path()), ["clone"]);
}
