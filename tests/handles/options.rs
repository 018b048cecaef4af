//! What belongs to a handle, and stores without a file.

use crate::common::TestStore;
use memstone::{Durability, Error, LockKind, Options, Store, Table, WriteOptions};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// After this time without a result, a call that must return at once waits for the lock.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Results until all senders are gone, or until one takes too long. The caller then releases the lock: the call that waits
/// succeeds, and the test fails by that instead of hanging.
fn results<T>(receiver: &Receiver<T>) -> Vec<T> {
    std::iter::from_fn(|| receiver.recv_timeout(TOO_LONG).ok()).collect()
}

#[test]
fn the_timeout_belongs_to_the_handle() {
    let test = TestStore::new();
    let patient = Options::new().timeout(Duration::from_secs(36_000)).open(&test.path).unwrap();
    let hasty = Options::new().timeout(Duration::ZERO).open(&test.path).unwrap();
    let never = WriteOptions::new().timeout(Duration::ZERO);
    let (sender, receiver) = mpsc::channel();
    let tx = patient.begin_write().unwrap();
    for (store, options) in [(hasty, WriteOptions::new()), (patient.clone(), never)] {
        let sender = sender.clone();
        std::thread::spawn(move || sender.send(store.clone().write_with(options, |_| Ok(()))));
    }
    drop(sender);
    let mut refused = results(&receiver);
    tx.commit().unwrap();
    refused.extend(receiver);
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::Busy { .. }))), "{refused:?}");
    patient.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
}

/// A value that is streamed to its pages holds CHECKPOINT. With a longer timeout than its own, each of the calls would wait
/// for the transaction.
#[test]
fn checkpoints_wait_as_long_as_their_handle_says() {
    let test = TestStore::new();
    let patient = Options::new().timeout(Duration::from_secs(36_000)).open(&test.path).unwrap();
    patient.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    patient.create_snapshot("kept").unwrap();
    patient.start_archive(test.dir.path().join("archive")).unwrap();
    let hasty = Options::new().timeout(Duration::ZERO).open(&test.path).unwrap();
    type Call<'a> = &'a (dyn Fn(&Store) -> Result<(), Error> + Sync);
    let calls: [(&str, Call<'_>); 6] = [
        ("checkpoint", &|store| store.checkpoint()),
        ("compact", &|store| store.compact().map(drop)),
        ("create_snapshot", &|store| store.create_snapshot("new").map(drop)),
        ("delete_snapshot", &|store| store.delete_snapshot("kept")),
        ("clone_to", &|store| store.clone_to(test.dir.path().join("clone.mst")).map(drop)),
        ("archive_now", &|store| store.archive_now().map(drop)),
    ];
    let (sender, receiver) = mpsc::channel();
    let refused = std::thread::scope(|scope| {
        let tx = patient.begin_write().unwrap();
        let writer = tx.raw("t").unwrap().writer(b"long", 1 << 20).unwrap();
        // From another thread: this one would be told that it holds the transaction itself.
        scope.spawn(move || calls.map(|(name, call)| sender.send((name, call(&hasty)))));
        let mut refused = results(&receiver);
        drop(writer);
        tx.rollback();
        refused.extend(receiver);
        refused
    });
    assert_eq!(refused.len(), calls.len());
    for (name, refused) in refused {
        assert!(matches!(refused, Err(Error::Busy { lock: LockKind::Checkpoint, .. })), "{name}: {refused:?}");
    }
    for (name, call) in calls {
        call(&patient).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn the_durability_belongs_to_the_handle() {
    let test = TestStore::new();
    let relaxed = Options::new().durability(Durability::Relaxed).open(&test.path).unwrap();
    let full = test.open();
    let of = |store: &Store, options: WriteOptions| format!("{:?}", store.begin_write_with(options).unwrap());
    assert!(of(&relaxed.clone(), WriteOptions::new()).contains("Relaxed"));
    assert!(of(&full, WriteOptions::new()).contains("Sync"));
    assert!(of(&relaxed, WriteOptions::new().durability(Durability::Sync)).contains("Sync"));
    relaxed.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
    let done = full.transact(WriteOptions::new(), |tx| tx.raw("t")?.put(b"k", b"w")).unwrap();
    assert_eq!(full.stats().unwrap().durable, done.lsn);
}

#[test]
fn a_new_file_has_the_permissions_asked_for() {
    let test = TestStore::new();
    let mode = || std::fs::metadata(&test.path).unwrap().permissions().mode() & 0o777;
    Options::new().mode(0o600).open(&test.path).unwrap().close().unwrap();
    assert_eq!(mode(), 0o600);
    // One that is there keeps its own.
    let store = Options::new().mode(0o644).open(&test.path).unwrap();
    assert_eq!(mode(), 0o600);
    assert_eq!(std::fs::metadata(test.sidecar()).unwrap().permissions().mode() & 0o077, 0);
    drop(store);
}

const ROWS: Table<u64, String> = Table::new("rows");

/// Enough for checkpoints, a longer log, long values and a file that is cut again; by several threads.
#[test]
fn a_store_in_memory_does_what_one_in_a_file_does() {
    let store = Options::new().log_cap(1 << 20).in_memory().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..300_u64 {
                    let text = "x".repeat([10, 300, 20_000][n as usize % 3]);
                    store.write(|tx| tx.table(ROWS)?.put(thread << 32 | n, &text)).unwrap();
                    let snapshot = store.read().unwrap();
                    assert_eq!(snapshot.table(ROWS).unwrap().get(thread << 32 | n).unwrap().unwrap(), text);
                }
            });
        }
    });
    let before = store.read().unwrap();
    store.create_snapshot("all").unwrap();
    store.write(|tx| tx.drop_table(ROWS)).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(before.table(ROWS).unwrap().len().unwrap(), 1200);
    assert_eq!(before.table(ROWS).unwrap().range(..).unwrap().map(Result::unwrap).count(), 1200);
    store.roll_back_to("all").unwrap();
    drop(before);
    store.delete_snapshot("all").unwrap();
    assert_eq!(store.read().unwrap().table(ROWS).unwrap().len().unwrap(), 1200);
    store.write(|tx| tx.clear_table(ROWS)).unwrap();
    let (long, short) = store.compact().unwrap();
    assert!(short < long && short < 1 << 20, "{long} to {short}");
    store.close().unwrap();
}

#[test]
fn a_store_in_memory_has_no_other_and_is_kept_by_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::in_memory().unwrap();
    let seen = store.last_commit().unwrap();
    let waiter = std::thread::spawn({
        let store = store.clone();
        move || store.wait_for_change(seen, Duration::from_secs(600))
    });
    store.write(|tx| tx.table(ROWS)?.put(7, "kept")).unwrap();
    assert!(waiter.join().unwrap().unwrap() > seen);
    assert!(Store::in_memory().unwrap().read().unwrap().tables().unwrap().is_empty());
    let path = dir.path().join("kept.mst");
    store.read().unwrap().backup_to(&path).unwrap();
    drop(store);
    let kept = Store::open(&path).unwrap();
    assert_eq!(kept.read().unwrap().table(ROWS).unwrap().get(7).unwrap().unwrap(), "kept");
    let archive = Options::new().archive(dir.path().join("archive")).in_memory();
    assert!(matches!(archive, Err(Error::Invalid(_))));
    let store = Store::in_memory().unwrap();
    assert!(matches!(store.start_archive(dir.path()), Err(Error::Invalid(_))));
    store.write(|tx| tx.table(ROWS)?.put(8, "cloned")).unwrap();
    store.clone_to(dir.path().join("clone.mst")).unwrap();
    let clone = Store::open(dir.path().join("clone.mst")).unwrap();
    assert_eq!(clone.read().unwrap().table(ROWS).unwrap().get(8).unwrap().unwrap(), "cloned");
    assert!(!std::path::Path::new("(in memory)").exists());
}

#[test]
fn a_transaction_tells_its_lsn_and_takes_errors_of_any_kind() {
    #[derive(Debug)]
    enum Mine {
        Refused(u32),
        Store(Error),
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Mine {
            Mine::Store(error)
        }
    }
    let store = Store::in_memory().unwrap();
    let refused = store.transact(WriteOptions::new(), |tx| {
        tx.raw("t")?.put(b"k", b"v")?;
        Err::<(), _>(Mine::Refused(7))
    });
    assert!(matches!(refused, Err(Mine::Refused(7))) && store.read().unwrap().tables().unwrap().is_empty());
    let failed: Result<_, Mine> = store.transact(WriteOptions::new(), |tx| Ok(tx.rename_table("absent", "t")?));
    assert!(matches!(failed, Err(Mine::Store(Error::NoTable { .. }))));
    let done = store.transact(WriteOptions::new(), |tx| tx.raw("t")?.put(b"k", b"v").map(|()| 7)).unwrap();
    assert_eq!((done.value, done.lsn), (7, store.last_commit().unwrap()));
}
