//! Users who may not do everything. The superuser may, so a child becomes another user.

use crate::common::{Child, Role, STUCK, TestStore, listen, number, sidecar_of, skip, tell};
use memstone::{Error, Options, Store};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

pub const ROLES: &[Role] = &[
    ("unreadable", unreadable),
    ("unwritable", unwritable),
    ("no_sidecar", no_sidecar),
    ("cannot_create", cannot_create),
];

const NOBODY: u32 = 65_534;

fn become_nobody() {
    // SAFETY: concerns this process alone, which has no need of its rights any more.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!((libc::setgid(NOBODY), libc::setuid(NOBODY)), (0, 0));
    }
}

fn superuser() -> bool {
    // SAFETY: always succeeds.
    let is = unsafe { libc::geteuid() } == 0;
    if !is {
        skip("the superuser, who can become another user");
    }
    is
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn store_with_a_row(test: &TestStore) -> Store {
    mode(test.dir.path(), 0o755);
    let store = test.open();
    store.write(|tx| tx.raw("t")?.put(b"a", &1_u64.to_be_bytes())).unwrap();
    store
}

fn denied(result: Result<Store, Error>) {
    let error = result.err().unwrap();
    assert!(
        matches!(&error, Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied),
        "{error:?}"
    );
}

fn unreadable(words: &[String]) {
    become_nobody();
    denied(Store::open(&words[0]));
    denied(Options::new().read_only(true).open(&words[0]));
}

#[test]
fn who_may_not_read_is_told_so() {
    let test = TestStore::new();
    if superuser() {
        store_with_a_row(&test).close().unwrap();
        mode(&test.path, 0o600);
        let before = std::fs::read(&test.path).unwrap();
        Child::start("unreadable", &[&test.path.display()]).finish();
        assert!(std::fs::read(&test.path).unwrap() == before);
    }
}

fn unwritable(words: &[String]) {
    become_nobody();
    denied(Store::open(&words[0]));
    let store = Options::new().read_only(true).open(&words[0]).unwrap();
    let value = || number(&store.read().unwrap().raw("t").unwrap().get(b"a").unwrap().unwrap());
    assert_eq!(value(), 1);
    assert!(matches!(store.begin_write().err().unwrap(), Error::ReadOnly { .. }));
    tell(store.last_commit().unwrap());
    let lsn: u64 = listen().parse().unwrap();
    // Another process has committed since, without a sidecar that this one may use.
    let seen = store.wait_for_change(lsn, STUCK).unwrap();
    assert!(seen > lsn);
    assert_eq!(value(), 2);
}

#[test]
fn who_may_only_read_reads_beside_a_writer() {
    let test = TestStore::new();
    if superuser() {
        let store = store_with_a_row(&test);
        mode(&test.path, 0o644);
        mode(&test.sidecar(), 0o600);
        let mut child = Child::start("unwritable", &[&test.path.display()]);
        let lsn = child.hear();
        child.say(&lsn);
        store.write(|tx| tx.raw("t")?.put(b"a", &2_u64.to_be_bytes())).unwrap();
        child.finish();
    }
}

#[test]
fn a_read_only_directory_can_be_read_and_stays_untouched() {
    let test = TestStore::new();
    if superuser() {
        let store = store_with_a_row(&test);
        store.write(|tx| tx.raw("t")?.put(b"b", b"")).unwrap();
        store.close().unwrap();
        mode(&test.path, 0o444);
        let before = std::fs::read(&test.path).unwrap();
        let mut child = Child::start("unwritable", &[&test.path.display()]);
        child.hear();
        assert!(std::fs::read(&test.path).unwrap() == before);
        assert_eq!(std::fs::read_dir(test.dir.path()).unwrap().count(), 1);
        child.kill();
    }
}

fn no_sidecar(words: &[String]) {
    become_nobody();
    let store = Store::open(&words[0]).unwrap();
    for _ in 0..50 {
        store
            .write(|tx| {
                let table = tx.raw("t")?;
                let n = number(&table.get(b"a")?.unwrap());
                table.put(b"a", &(n + 1).to_be_bytes())
            })
            .unwrap();
    }
}

#[test]
fn where_no_sidecar_can_be_made_processes_still_share_the_store() {
    let test = TestStore::new();
    if superuser() {
        store_with_a_row(&test).close().unwrap();
        chown(&test.path, Some(NOBODY), Some(NOBODY)).unwrap();
        let children: Vec<_> = (0..3).map(|_| Child::start("no_sidecar", &[&test.path.display()])).collect();
        children.into_iter().for_each(|child| drop(child.finish()));
        assert!(!sidecar_of(&test.path).exists());
        let value = test.open().read().unwrap().raw("t").unwrap().get(b"a").unwrap().map(|n| number(&n));
        assert_eq!(value, Some(151));
    }
}

fn cannot_create(words: &[String]) {
    become_nobody();
    denied(Store::open(&words[0]));
}

#[test]
fn who_may_not_create_is_told_so() {
    let test = TestStore::new();
    if superuser() {
        mode(test.dir.path(), 0o755);
        Child::start("cannot_create", &[&test.path.display()]).finish();
        assert_eq!(std::fs::read_dir(test.dir.path()).unwrap().count(), 0);
    }
}
