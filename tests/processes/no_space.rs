//! A full disk: the commit fails cleanly, reading goes on, nothing is lost, and writing resumes
//! once there is room.

use crate::common::{Child, Role, TestStore, check, skip, tell};
use memstone::{Error, Options, Store};
use std::ffi::CString;
use std::path::Path;

pub const ROLES: &[Role] = &[
    ("small_disk", small_disk),
    ("file_limit", file_limit),
    ("repair_in_little_room", repair_in_little_room),
    ("beyond_limit", beyond_limit),
];

fn mount(kind: &str, at: &Path, flags: libc::c_ulong, data: &str) -> bool {
    let text = |s: &str| CString::new(s).unwrap();
    let (kind, at, data) = (text(kind), text(at.to_str().unwrap()), text(data));
    // SAFETY: all arguments are strings that outlive the call.
    unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) == 0 }
}

/// Commits until nothing more fits; the number of rows that were acknowledged, and the error.
fn fill(store: &Store, from: u64) -> (u64, Error) {
    for i in from.. {
        if let Err(error) = store.write(|tx| tx.raw("rows")?.put(&i.to_be_bytes(), &[i as u8; 3000])) {
            return (i, error);
        }
        assert!(i < 20_000, "the disk is never full");
    }
    unreachable!()
}

fn all_there(store: &Store, rows: u64) {
    let snap = store.read().unwrap();
    let table = snap.raw("rows").unwrap();
    assert_eq!(table.len().unwrap(), rows);
    for (i, row) in (0..).zip(table.prefix(b"").unwrap()) {
        assert_eq!(row.unwrap().1[..], [i as u8; 3000]);
    }
}

/// In a mount namespace of its own, on a small tmpfs.
fn small_disk(words: &[String]) {
    let at = Path::new(&words[0]);
    // SAFETY: concerns this process alone.
    let own = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    if !own || !mount("none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, "") || !mount("tmpfs", at, 0, "size=4m")
    {
        tell("skipped");
        return;
    }
    let path = at.join("memory.mst");
    let store = Options::new().log_cap(1 << 20).open(&path).unwrap();
    let mut rows = 0;
    for attempt in 0..3 {
        let (reached, error) = fill(&store, rows);
        assert!(matches!(error, Error::Full { .. }), "{error:?}");
        assert!(error.is_retryable());
        assert!(attempt > 0 || reached > 300, "{reached} rows only fit");
        rows = reached;
        all_there(&store, rows);
    }
    let full = rows;
    // The same for a process that opens it now, and for a transaction that does not fit the log.
    let large = store.write(|tx| (0..4000_u64).try_for_each(|i| tx.raw("large")?.put(&i.to_be_bytes(), &[1; 1000])));
    assert!(matches!(large, Err(Error::Full { .. })), "{large:?}");
    let long = store.write(|tx| tx.raw("large")?.put(b"long", &vec![1; 4 << 20]));
    assert!(matches!(long, Err(Error::Full { .. })), "{long:?}");
    all_there(&store, rows);
    assert!(mount("tmpfs", at, libc::MS_REMOUNT, "size=16m"));
    for i in rows..rows + 500 {
        store.write(|tx| tx.raw("rows")?.put(&i.to_be_bytes(), &[i as u8; 3000])).unwrap();
    }
    all_there(&store, rows + 500);
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    all_there(&store, rows + 500);
    assert!(store.read().unwrap().raw("large").unwrap().is_empty().unwrap());
    store.close().unwrap();
    check(&path);
    tell(format!("full at {full} rows"));
}

#[test]
fn a_full_disk_loses_nothing() {
    let test = TestStore::new();
    let at = test.dir.path().join("small");
    std::fs::create_dir(&at).unwrap();
    let heard = Child::start("small_disk", &[&at.display()]).finish();
    println!("small disk: {heard:?}");
    if heard == ["skipped"] {
        skip("the right to mount a small disk");
    }
    assert_eq!(heard.len(), 1);
}

/// Sets the limit on the size of this process' files. A process that writes beyond it is killed by the system, by
/// SIGXFSZ, which no test ignores.
fn limit(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

/// Under a limit on the size of files.
fn file_limit(words: &[String]) {
    let store = Options::new().log_cap(1 << 20).open(&words[0]).unwrap();
    limit(3 << 20);
    let (rows, error) = fill(&store, 0);
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    let long = store.write(|tx| tx.raw("rows")?.put(b"long", &vec![1; 4 << 20]));
    assert!(matches!(long, Err(Error::Full { .. })), "{long:?}");
    all_there(&store, rows);
    let (again, _) = fill(&store, rows);
    all_there(&store, again);
    limit(64 << 20);
    for i in again..again + 500 {
        store.write(|tx| tx.raw("rows")?.put(&i.to_be_bytes(), &[i as u8; 3000])).unwrap();
    }
    all_there(&store, again + 500);
    tell(format!("limit met at {rows} rows: {error}"));
}

#[test]
fn a_limit_on_the_size_of_files_loses_nothing() {
    let test = TestStore::new();
    println!("{:?}", Child::start("file_limit", &[&test.path.display()]).finish());
}

/// A process that was started with a limit opens a store that is larger, and makes a new one.
fn beyond_limit(words: &[String]) {
    limit(256 << 10);
    let store = Store::open(&words[0]).unwrap();
    all_there(&store, 500);
    let (rows, error) = fill(&store, 500);
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    all_there(&store, rows);
    drop(store);
    let store = Store::open(&words[1]).unwrap();
    let (rows, error) = fill(&store, 0);
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    all_there(&store, rows);
    drop(store);
    // Not even a new store fits.
    limit(16 << 10);
    let refused = Store::open(&words[2]).err().unwrap();
    assert!(matches!(refused, Error::Full { .. }), "{refused:?}");
    assert!(!Path::new(&words[2]).exists());
    tell("refused, and alive");
}

#[test]
fn a_process_is_not_killed_by_its_limit_on_the_size_of_files() {
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| (0..500_u64).try_for_each(|i| tx.raw("rows")?.put(&i.to_be_bytes(), &[i as u8; 3000]))).unwrap();
    store.close().unwrap();
    let (new, none) = (test.dir.path().join("new.mst"), test.dir.path().join("none.mst"));
    let heard = Child::start("beyond_limit", &[&test.path.display(), &new.display(), &none.display()]).finish();
    assert_eq!(heard.len(), 1);
    check(&new);
}

/// Repairs a store of some megabytes where no file may grow beyond a size.
fn repair_in_little_room(words: &[String]) {
    for room in [4096, 100 << 10, 700 << 10, 1 << 20] {
        limit(room);
        let error = memstone::repair(&words[0], &memstone::RepairOptions::new()).unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{room}: {error}");
    }
    tell("refused");
}

#[test]
fn a_repair_without_room_leaves_nothing() {
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| (0..500_u64).try_for_each(|i| tx.raw("rows")?.put(&i.to_be_bytes(), &[i as u8; 3000]))).unwrap();
    store.close().unwrap();
    let before = std::fs::read(&test.path).unwrap();
    assert_eq!(Child::start("repair_in_little_room", &[&test.path.display()]).finish(), ["refused"]);
    assert_eq!(std::fs::read_dir(test.dir.path()).unwrap().count(), 1);
    assert!(std::fs::read(&test.path).unwrap() == before);
}
