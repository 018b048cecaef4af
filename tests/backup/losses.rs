//! Power lost at each step of a backup, a restore and a repair, by the calls that they make: what is found then under a final
//! name is whole, nothing that was there is gone, and what was acknowledged is there.

use crate::common::{Child, Role, skip};
use crate::replay::{Files, Survives, record};
use crate::restoring::put;
use crate::{hash_in, hash_of, restored};
use memstone::{BackupDir, BackupOptions, Keep, Moment, RepairOptions, RestoreOptions, Store, repair, restore};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const ROLES: &[Role] = &[("work_that_loses_power", work)];

/// By default so many cuts of each work are tried, each in three ways; `MEMSTONE_STATES` says how many.
const CUTS: usize = 12;

const WORKS: [&str; 8] = ["full", "replaced", "increment", "directory", "restored", "repaired", "in place", "archive"];

/// The rows of a store of several pages, which differ from one version to the next.
fn fill(store: &Store, version: u8) {
    store.write(|tx| (0..60u8).try_for_each(|n| tx.raw("t")?.put(&[n], &[n ^ version; 300]))).unwrap();
    put(store, b"long", &[version; 9000]);
}

/// What there is before: a store, a full backup of its state before, a directory of backups, and a store with damage that a repair
/// gets the better of.
fn prepare(dir: &Path, archive: bool) -> [String; 2] {
    let store = Store::open(dir.join("memory.mst")).unwrap();
    fill(&store, 1);
    let old = hash_of(&store.read().unwrap());
    store.read().unwrap().backup_to(dir.join("full.mst")).unwrap();
    let backups = BackupDir::create(dir.join("backups")).unwrap();
    if archive {
        store.start_archive(backups.path()).unwrap();
    }
    backups.backup(&store.read().unwrap(), false, BackupOptions::new()).unwrap();
    fill(&store, 2);
    let new = hash_of(&store.read().unwrap());
    store.close().unwrap();
    let mut damaged = fs::read(dir.join("memory.mst")).unwrap();
    // The newest root: the older one and the log lead to the same state, or to that before.
    damaged[4096..4096 + 64].fill(0xa5);
    fs::write(dir.join("damaged.mst"), damaged).unwrap();
    [old, new]
}

fn work(words: &[String]) {
    let path = |name: &str| Path::new(&words[0]).join(name);
    let snapshot = || Store::open(path("memory.mst")).unwrap().read().unwrap();
    match &*words[1] {
        "full" => drop(snapshot().backup_to(path("made.mst")).unwrap()),
        "replaced" => drop(snapshot().backup_with(path("full.mst"), BackupOptions::new().overwrite(true)).unwrap()),
        "increment" => {
            let options = BackupOptions::new().since(path("full.mst"));
            snapshot().backup_with(path("made.inc"), options).unwrap();
        }
        "directory" => {
            let backups = BackupDir::open(path("backups")).unwrap();
            backups.backup(&snapshot(), false, BackupOptions::new()).unwrap();
            backups.prune(&"1d".parse::<Keep>().unwrap()).unwrap();
        }
        "restored" => {
            let options = RestoreOptions::new().overwrite(true);
            restore(path("full.mst"), path("memory.mst"), options).unwrap();
        }
        "archive" => {
            // Makes a checkpoint, whose marks the archive has before their space is used again.
            let store = Store::open(path("memory.mst")).unwrap();
            for version in [3, 4, 2] {
                fill(&store, version);
                store.checkpoint().unwrap();
            }
            store.archive_now().unwrap();
        }
        "named" => {
            let store = Store::open(path("memory.mst")).unwrap();
            store.create_snapshot("kept").unwrap();
            fill(&store, 3);
            store.create_snapshot("deleted").unwrap();
            store.roll_back_to("kept").unwrap();
            store.delete_snapshot("deleted").unwrap();
        }
        "repaired" => drop(repair(path("damaged.mst"), &RepairOptions::new()).unwrap()),
        _ => drop(repair(path("damaged.mst"), &RepairOptions::new().in_place(true)).unwrap()),
    }
}

/// What must be true of any state; `made` says whether what the work makes must be there, too.
struct Judge<'a> {
    hashes: &'a [String; 2],
    damaged: Vec<u8>,
    repaired: String,
}

impl Judge<'_> {
    fn judge(&self, dir: &Path, work: &str, made: bool) {
        let path = |name: &str| dir.join(name);
        let [old, new] = self.hashes;
        let there = |name: &str| {
            assert!(!made || path(name).exists(), "{name} is gone");
            path(name).exists()
        };
        let either = |found: &str| assert!(found == new || !made && found == old, "an older state");
        match work {
            "named" => return self.judge_named(dir, made),
            "archive" => return self.judge_archive(dir, made),
            "full" => assert!(!there("made.mst") || hash_in(&path("made.mst")) == *new),
            "replaced" => either(&hash_in(&path("full.mst"))),
            "increment" => assert!(!there("made.inc") || restored(&path("made.inc"), &path("from it")) == *new),
            "directory" => {
                either(&restored(&path("backups"), &path("from it")));
            }
            "restored" => {
                let found = hash_in(&path("memory.mst"));
                assert!(found == *old || !made && found == *new, "neither of the two");
                let kept = beside(dir, "memory.mst.before-restore-");
                assert!(found == *new || kept.is_some_and(|kept| hash_in(&kept) == *new), "the old store is gone");
                return;
            }
            "repaired" => {
                assert!(!there("damaged.mst.repaired") || hash_in(&path("damaged.mst.repaired")) == self.repaired)
            }
            _ => {
                if fs::read(path("damaged.mst")).unwrap() != self.damaged {
                    assert_eq!(hash_in(&path("damaged.mst")), self.repaired);
                    let kept = beside(dir, "damaged.mst.damaged-").expect("the damaged store is gone");
                    assert_eq!(fs::read(kept).unwrap(), self.damaged);
                } else {
                    assert!(!made, "not repaired");
                }
            }
        }
        assert_eq!(hash_in(&path("memory.mst")), *new, "the store itself");
        assert!(work == "in place" || fs::read(path("damaged.mst")).unwrap() == self.damaged);
    }
}

impl Judge<'_> {
    /// The store goes on, and so does its archive, without a gap.
    fn judge_archive(&self, dir: &Path, made: bool) {
        let (backups, to) = (dir.join("backups"), dir.join("from it"));
        let newest = || {
            let report = restore(&backups, &to, RestoreOptions::new().to(Moment::Newest)).unwrap();
            let hash = hash_in(&to);
            fs::remove_file(&to).unwrap();
            (report.manifest.lsn, hash)
        };
        assert!(!made || newest().1 == self.hashes[1], "what was acknowledged as archived is gone");
        let store = Store::open(dir.join("memory.mst")).unwrap();
        put(&store, b"after", b"the power loss");
        let status = store.archive_now().unwrap();
        assert!(status.gaps.is_empty(), "{status:?}");
        let snapshot = store.read().unwrap();
        assert_eq!(newest(), (snapshot.lsn(), hash_of(&snapshot)));
    }
}

impl Judge<'_> {
    /// A name that is there leads to what it was given for.
    fn judge_named(&self, dir: &Path, made: bool) {
        let path = dir.join("memory.mst");
        let found = hash_in(&path);
        let store = Store::open(&path).unwrap();
        let [_, new] = self.hashes;
        let names = store.snapshots().unwrap();
        for named in &names {
            let hash = hash_of(&store.snapshot(&named.name).unwrap());
            assert_eq!(hash == *new, named.name == "kept", "{named:?}");
        }
        let kept = names.iter().any(|named| named.name == "kept");
        assert!(kept || found == *new, "changed before the name was there");
        assert!(!made || kept && names.len() == 1 && found == *new, "{names:?}");
    }
}

fn beside(dir: &Path, start: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let found = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name.starts_with(start) && !name.ends_with("-shm")).then(|| entry.path())
    };
    entries.into_iter().find_map(found)
}

#[test]
fn a_power_loss_at_any_step_leaves_the_old_or_the_new() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|out| out.status.success()) {
        return skip("strace, and the right to trace a child (ptrace)");
    }
    let cuts = std::env::var("MEMSTONE_STATES").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let mut states = 0;
    for work in WORKS {
        let before = tempfile::tempdir().unwrap();
        let dir = before.path().canonicalize().unwrap();
        let hashes = prepare(&dir, work == "archive");
        let repaired = dir.join("to compare");
        repair(dir.join("damaged.mst"), &RepairOptions::new().output(&repaired)).unwrap();
        let judge = Judge {
            hashes: &hashes,
            damaged: fs::read(dir.join("damaged.mst")).unwrap(),
            repaired: hash_in(&repaired),
        };
        fs::remove_file(repaired).unwrap();
        let mut files = Files::of(&dir);
        let calls = record(&dir, |mut strace| {
            strace.arg(std::env::current_exe().unwrap());
            Child::start_by(strace, "work_that_loses_power", &[&dir.display(), &work]).finish();
        });
        assert!(calls.len() > 5, "{work}: {calls:?}");
        let count = calls.len();
        // The last calls, in which names are given, and a sample of those before.
        let is_cut = |n: usize| n == count || count - n < 12 || n.is_multiple_of((count / cuts).max(1));
        for (n, call) in calls.into_iter().map(Some).chain([None]).enumerate() {
            let what = format!("{work}, before call {n} of {count}: {:.60}", format!("{call:?}"));
            for survives in [Survives::Nothing, Survives::All, Survives::Some(n as u64)] {
                if is_cut(n) {
                    files.lose_power(&dir, survives);
                    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        judge.judge(&dir, work, n == count);
                    }));
                    assert!(judged.is_ok(), "{what}, of the unflushed {survives:?}");
                    states += 1;
                }
            }
            call.into_iter().for_each(|call| files.apply(call));
        }
    }
    println!("{states} states");
}
