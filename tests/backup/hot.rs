//! A backup made while others write is one committed state.

use crate::common::{Child, Random, Role, TestStore, stop_flag, tell};
use crate::{hash_in, hash_of};
use memstone::{BackupOptions, RestoreOptions, Store, Table, restore};
use std::sync::atomic::Ordering;

pub const ROLES: &[Role] = &[("transfers", transfers)];

const ACCOUNTS: Table<u32, i64> = Table::new("accounts");
const NUMBER: u32 = 400;
const EACH: i64 = 1000;

/// Moves amounts between accounts until it is told to end.
fn transfers(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let mut random = Random(words[1].parse().unwrap());
    let stop = stop_flag();
    let mut done = 0_u64;
    while !stop.load(Ordering::Acquire) {
        let mut next = || random.below(NUMBER);
        let (from, to, amount) = (next(), next(), i64::from(next()));
        let transfer = |tx: &memstone::WriteTxn| {
            let accounts = tx.table(ACCOUNTS)?;
            let left = accounts.get(from)?.unwrap() - amount;
            accounts.insert(from, left)?;
            let right = accounts.get(to)?.unwrap() + amount;
            accounts.insert(to, right)
        };
        store.write(transfer).unwrap();
        done += 1;
        if done == 3 {
            tell("busy");
        }
    }
    tell(done);
}

fn total(store: &Store) -> i64 {
    let snapshot = store.read().unwrap();
    let rows = snapshot.table(ACCOUNTS).unwrap();
    rows.range(..).unwrap().map(|row| row.unwrap().1).sum()
}

#[test]
fn what_only_the_log_says_counts_in_full_leaves_too() {
    let test = TestStore::alone();
    let store = test.open();
    let key = |n: u32| format!("{n:06}").into_bytes();
    let table = "rows";
    store.write(|tx| (0..3000).try_for_each(|n| tx.raw(table)?.put(&key(2 * n), &[1; 90]))).unwrap();
    store.checkpoint().unwrap();
    // From here on the log alone knows: before all leaves, at the ends of some, within some, and behind all of them.
    let changes: [&dyn Fn(&memstone::WriteTxn) -> memstone::Result<()>; 6] = [
        &|tx| tx.raw(table)?.put(b"", b"first"),
        &|tx| (40..90).step_by(9).try_for_each(|n| tx.raw(table)?.delete(&key(2 * n))),
        &|tx| (500..530).try_for_each(|n| tx.raw(table)?.put(&key(2 * n + 1), b"between")),
        &|tx| (1000..1001).try_for_each(|n| tx.raw(table)?.put(&key(2 * n), b"instead")),
        &|tx| tx.raw(table)?.put(&key(5998), &vec![7; 20_000]),
        &|tx| tx.raw(table)?.put(&key(6001), b"last"),
    ];
    for (round, change) in changes.into_iter().enumerate() {
        store.write(change).unwrap();
        let (backup, again) = (test.dir.path().join(format!("b{round}")), test.dir.path().join(format!("r{round}")));
        let snapshot = store.read().unwrap();
        let manifest = snapshot.backup_to(&backup).unwrap();
        let expected = hash_of(&snapshot);
        assert_eq!(manifest.content_hash.as_deref(), Some(expected.as_str()), "round {round}");
        assert_eq!(hash_in(&backup), expected);
        restore(&backup, &again, RestoreOptions::new()).unwrap();
        assert_eq!(hash_in(&again), expected);
        let mut stream = Vec::new();
        snapshot.backup_into(&mut stream, BackupOptions::new()).unwrap();
        std::fs::write(&backup, stream).unwrap();
        restore(&backup, &again, RestoreOptions::new().overwrite(true)).unwrap();
        assert_eq!(hash_in(&again), expected);
    }
}

#[test]
fn a_backup_beside_eight_writers_is_one_state() {
    let test = TestStore::alone();
    let store = test.open();
    store.write(|tx| (0..NUMBER).try_for_each(|n| tx.table(ACCOUNTS)?.insert(n, EACH).map(drop))).unwrap();
    let mut children: Vec<Child> =
        (0..8).map(|n| Child::start("transfers", &[&test.path.display(), &(n + 7)])).collect();
    children.iter().for_each(|child| assert_eq!(child.hear(), "busy"));
    let mut made = Vec::new();
    for n in 0..12 {
        let snapshot = store.read().unwrap();
        let path = test.dir.path().join(format!("{n}.backup"));
        let mut options = BackupOptions::new();
        if n % 4 != 0 {
            options = options.since(test.dir.path().join(format!("{}.backup", n - 1)));
        }
        let manifest = snapshot.backup_with(&path, options).unwrap();
        let hash = hash_of(&snapshot);
        assert_eq!(manifest.content_hash.unwrap_or(hash.clone()), hash);
        made.push((path, hash, snapshot.lsn()));
    }
    children.iter_mut().for_each(|child| child.say("end"));
    let done: u64 = children.into_iter().map(|child| child.finish()[0].parse::<u64>().unwrap()).sum();
    println!("{done} transfers, {} between the first backup and the last", made[11].2 - made[0].2);
    assert!(made[11].2 > made[0].2, "nothing was committed meanwhile");
    for (path, hash, lsn) in made {
        let again = test.dir.path().join("again.mst");
        restore(path, &again, RestoreOptions::new()).unwrap();
        assert_eq!(hash_in(&again), hash);
        let store = Store::open(&again).unwrap();
        assert_eq!((total(&store), store.last_commit().unwrap()), (EACH * i64::from(NUMBER), lsn));
        store.close().unwrap();
        std::fs::remove_file(again).unwrap();
    }
}
