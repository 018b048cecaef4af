//! Backups and bringing stores back, with real files and real processes.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod archive;
mod archive_trouble;
mod chain;
mod cloning;
mod hot;
mod losses;
mod order;
mod replay;
mod restoring;
mod tails;
mod trouble;

use common::random;
use memstone::{CheckOptions, RestoreOptions, Snapshot, Store, content_hash};
use std::path::Path;

#[test]
fn child_entry() {
    common::play(&[
        archive_trouble::ROLES,
        cloning::ROLES,
        hot::ROLES,
        losses::ROLES,
        order::ROLES,
        restoring::ROLES,
        trouble::ROLES,
    ]);
}

/// Waits until another process has opened a file.
pub fn wait_until_open(pid: i32, path: &Path) {
    let started = std::time::Instant::now();
    let fds = format!("/proc/{pid}/fd");
    // Where the system does not tell, there is nothing to wait for.
    while let Ok(entries) = std::fs::read_dir(&fds) {
        if entries.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path)) {
            return;
        }
        common::give_up_after(started + common::STUCK, "nobody opens the file");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The hash of a snapshot's content as manifests write it.
pub fn hash_of(snapshot: &Snapshot) -> String {
    content_hash(snapshot).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of a store's content. The store is opened and closed, and passes the check before and after.
pub fn hash_in(path: &Path) -> String {
    let clean = || {
        let report = memstone::check(path, &CheckOptions::new()).unwrap();
        assert!(report.is_clean(), "{}: {report:#?}", path.display());
    };
    clean();
    let store = Store::options().create(false).open(path).unwrap();
    let hash = hash_of(&store.read().unwrap());
    store.close().unwrap();
    clean();
    hash
}

/// Restores a backup to a new file; the hash of what it holds.
pub fn restored(source: &Path, target: &Path) -> String {
    memstone::restore(source, target, RestoreOptions::new()).unwrap();
    let hash = hash_in(target);
    std::fs::remove_file(target).unwrap();
    hash
}
