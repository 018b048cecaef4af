//! Killed, cancelled, without space, over damage: nothing half-made under a final name, nothing lost, nothing left behind.

use crate::common::{Child, Role, skip, tell};
use crate::restoring::{names_in, put};
use crate::{hash_in, hash_of, restored};
use memstone::{BackupDir, BackupOptions, BackupProgress, BackupStep, Error, Moment, RestoreOptions, Store, restore};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub const ROLES: &[Role] = &[("until_killed", until_killed), ("small_disk", small_disk), ("file_limit", file_limit)];

/// A store of some megabytes with backups, closed; and what there is to be done with it.
struct Place {
    dir: tempfile::TempDir,
}

/// All but restoring a moment, for which there is no archive everywhere.
const WORKS: [&str; 5] = ["full", "increment", "directory", "restore", "overwrite"];

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { dir };
        let store = place.open();
        fill(&store, 0, 3000);
        store.start_archive(place.backups().path()).unwrap();
        store.read().unwrap().backup_to(place.path("base.mst")).unwrap();
        fill(&store, 500, 60);
        place.backups().backup(&store.read().unwrap(), false, BackupOptions::new()).unwrap();
        fill(&store, 900, 60);
        store.close().unwrap();
        fs::copy(place.path("memory.mst"), place.path("target.mst")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self) -> Store {
        Store::open(self.path("memory.mst")).unwrap()
    }

    fn backups(&self) -> BackupDir {
        BackupDir::create(self.path("backups")).unwrap()
    }
}

fn fill(store: &Store, from: u32, count: u32) {
    let rows = |tx: &memstone::WriteTxn| {
        let table = tx.raw("t")?;
        (from..from + count).try_for_each(|n| table.put(&n.to_be_bytes(), &[n as u8 ^ count as u8; 900]))
    };
    store.write(rows).unwrap();
    put(store, b"long", &vec![count as u8; 300_000]);
}

/// Does one of the works in a directory, as far as the callback lets it.
fn work(dir: &Path, what: &str, callback: impl FnMut(&BackupProgress) -> ControlFlow<()>) -> memstone::Result<()> {
    let path = |name: &str| dir.join(name);
    let backup = |callback| BackupOptions::new().progress(callback);
    let store = Store::open(path("memory.mst")).unwrap();
    match what {
        "full" => store.read()?.backup_with(path("made.mst"), backup(callback)).map(drop),
        "increment" => {
            store.read()?.backup_with(path("made.mst"), backup(callback).since(path("base.mst")).prove(true)).map(drop)
        }
        "directory" => BackupDir::open(path("backups"))?.backup(&store.read()?, true, backup(callback)).map(drop),
        "moment" => {
            let options = RestoreOptions::new().to(Moment::Newest).progress(callback);
            restore(path("backups"), path("made.mst"), options).map(drop)
        }
        "restore" => restore(path("base.mst"), path("made.mst"), RestoreOptions::new().progress(callback)).map(drop),
        _ => {
            let options = RestoreOptions::new().overwrite(true).progress(callback);
            restore(path("base.mst"), path("target.mst"), options).map(drop)
        }
    }
}

/// Does one of the works, and is killed when its callback was asked so often.
fn until_killed(words: &[String]) {
    let mut left: u32 = words[2].parse().unwrap();
    let done = work(Path::new(&words[0]), &words[1], |progress| {
        if left == 0 {
            tell(format!("{:?}", progress.step));
            // SAFETY: ends this very process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        left -= 1;
        ControlFlow::Continue(())
    });
    done.unwrap();
    tell("done");
}

/// Names of the directory, without those that no process counts as anything.
fn final_names(dir: &Path) -> Vec<String> {
    names_in(dir).into_iter().filter(|name| !name.starts_with('.') && !name.ends_with("-shm")).collect()
}

#[test]
fn killed_at_every_step_nothing_is_half_made_and_nothing_lost() {
    for what in WORKS.into_iter().chain(["moment"]) {
        let mut steps = Vec::new();
        for count in 0.. {
            let place = Place::new();
            let (state, base) = (hash_in(&place.path("memory.mst")), hash_in_copy(&place, "base.mst"));
            let before = final_names(place.dir.path());
            let mut child = Child::start("until_killed", &[&place.dir.path().display(), &what, &count]);
            let heard = child.hear();
            child.process.wait().unwrap();
            child.kill();
            let listed = place.backups().list().unwrap();
            assert_eq!(hash_in(&place.path("memory.mst")), state, "{what} {heard}");
            let made = place.path("made.mst");
            if made.exists() {
                assert!(["Named", "done"].contains(&&*heard), "{what} {heard}");
                let expected = if what == "restore" { &base } else { &state };
                assert_eq!(&restored(&made, &place.path("again.mst")), expected);
            }
            for entry in listed {
                place.backups().verify(&entry).unwrap();
            }
            let target = hash_in(&place.path("target.mst"));
            assert!(target == state || what == "overwrite" && target == base, "{what} {heard}");
            if heard == "done" {
                assert_eq!(target == base, what == "overwrite");
                break;
            }
            // What the dead have left keeps nobody from doing it.
            let kept = final_names(place.dir.path()).len() - before.len();
            assert!(kept <= 1, "{what} {heard}: {:?}", names_in(place.dir.path()));
            if !made.exists() {
                work(place.dir.path(), what, |_| ControlFlow::Continue(())).unwrap();
            }
            steps.push(heard);
        }
        println!("{what}: killed at {steps:?}");
        for step in ["Open", "Copy", "Flush", "Check", "Name", "Named"] {
            assert!(steps.iter().any(|heard| heard == step), "{what} was not killed at {step}");
        }
        assert_eq!(steps.iter().any(|heard| heard == "Replace"), what == "overwrite");
    }
}

/// A backup is looked at by a copy: opening it for writing would make it a store like any other.
fn hash_in_copy(place: &Place, name: &str) -> String {
    fs::copy(place.path(name), place.path("copy")).unwrap();
    let hash = hash_in(&place.path("copy"));
    fs::remove_file(place.path("copy")).unwrap();
    hash
}

#[test]
fn cancelled_at_every_step_nothing_is_left() {
    for what in WORKS.into_iter().chain(["moment"]) {
        let place = Place::new();
        let state = hash_in(&place.path("memory.mst"));
        let (before, backups) = (names_in(place.dir.path()), names_in(place.backups().path()));
        let mut ended = 0;
        for count in 0.. {
            let (mut left, mut last) = (count, None);
            let done = work(place.dir.path(), what, |progress| {
                last = Some(progress.step);
                left -= 1;
                if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            match done {
                Err(Error::Cancelled { .. }) => {
                    assert_eq!(names_in(place.dir.path()), before, "{what} {last:?}");
                    let lock = |name: &String| name != ".lock";
                    let now: Vec<_> = names_in(place.backups().path()).into_iter().filter(lock).collect();
                    assert_eq!(now, backups.iter().filter(|name| lock(name)).cloned().collect::<Vec<_>>());
                    ended += 1;
                }
                done => {
                    done.unwrap();
                    // Too late to be ended.
                    assert_eq!(last, Some(BackupStep::Named));
                    break;
                }
            }
        }
        assert!(ended > 4, "{what}");
        assert_eq!(hash_in(&place.path("memory.mst")), state);
    }
}

#[test]
fn a_damaged_source_is_refused() {
    let place = Place::new();
    let store = place.open();
    fill(&store, 0, 3000);
    store.checkpoint().unwrap();
    fs::remove_file(place.path("base.mst")).unwrap();
    store.read().unwrap().backup_to(place.path("base.mst")).unwrap();
    fill(&store, 100, 30);
    store.checkpoint().unwrap();
    let increment = place.path("increment");
    store.read().unwrap().backup_with(&increment, BackupOptions::new().since(place.path("base.mst"))).unwrap();
    let mut stream = Vec::new();
    store.read().unwrap().backup_into(&mut stream, BackupOptions::new()).unwrap();
    fs::write(place.path("stream"), stream).unwrap();
    let hash = hash_of(&store.read().unwrap());
    store.close().unwrap();
    let again = place.path("again.mst");
    fs::copy(place.path("memory.mst"), place.path("target.mst")).unwrap();
    let before = hash_in(&place.path("target.mst"));
    for (name, source) in
        [("increment", "increment"), ("stream", "stream"), ("base.mst", "increment"), ("base.mst", "base.mst")]
    {
        let whole = fs::read(place.path(name)).unwrap();
        let mut refused = 0;
        for part in 0..23 {
            let mut bytes = whole.clone();
            let at = bytes.len() * part / 23 + 77;
            bytes[at] ^= 0x10;
            fs::write(place.path(name), &bytes).unwrap();
            let options = RestoreOptions::new().overwrite(true);
            match restore(place.path(source), place.path("target.mst"), options) {
                Ok(report) => {
                    // The byte meant nothing: the rest of a page, or of the empty log.
                    fs::remove_file(report.replaced.unwrap()).unwrap();
                    let found = hash_in(&place.path("target.mst"));
                    assert!(name == "base.mst" && (found == hash || source == "base.mst"), "{name} byte {at}");
                    fs::copy(place.path("memory.mst"), place.path("target.mst")).unwrap();
                }
                Err(error) => {
                    assert!(
                        matches!(error, Error::Corrupt(_) | Error::Backup { .. } | Error::NotAStore { .. }),
                        "{error:?}"
                    );
                    assert_eq!(hash_in(&place.path("target.mst")), before);
                    refused += 1;
                }
            }
        }
        assert!(refused >= if name == "base.mst" { 12 } else { 23 }, "{name} for {source}: {refused}");
        for cut in [0, 10, whole.len() / 2, whole.len() - 1] {
            fs::write(place.path(name), &whole[..cut]).unwrap();
            let refused = restore(place.path(source), &again, RestoreOptions::new());
            // A store that lost its manifest alone is still a store.
            assert!(refused.is_err() || name == "base.mst" && source == name && cut == whole.len() - 1, "{name} {cut}");
            let _ = fs::remove_file(&again);
        }
        fs::write(place.path(name), &whole).unwrap();
    }
    assert_eq!(restored(&increment, &again), hash);
}

#[test]
fn a_damaged_store_is_not_backed_up() {
    let place = Place::new();
    let path = place.path("memory.mst");
    let whole = fs::read(&path).unwrap();
    let before = names_in(place.dir.path());
    let mut refused = 0;
    for part in 4..20 {
        let mut bytes = whole.clone();
        let at = bytes.len() * part / 20 + 99;
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let store = Store::options().read_only(true).open(&path).unwrap();
        match store.read().unwrap().backup_to(place.path("made.mst")) {
            Ok(_) => fs::remove_file(place.path("made.mst")).unwrap(),
            Err(error) => {
                assert!(error.is_corrupt(), "{error:?}");
                refused += 1;
            }
        }
        assert_eq!(names_in(place.dir.path()), before);
    }
    assert!(refused > 8, "{refused}");
}

/// Tries all works where there is no room for them.
fn no_room(at: &Path) {
    for what in WORKS {
        let (before, backups) = (names_in(at), names_in(&at.join("backups")));
        let full = work(at, what, |_| ControlFlow::Continue(()));
        if full.is_ok() {
            // An increment may be small enough.
            assert!(what == "increment" || what == "directory", "{what} fits");
            let _ = fs::remove_file(at.join("made.mst"));
            continue;
        }
        assert!(matches!(full, Err(Error::Full { .. })), "{what}: {full:?}");
        assert_eq!((names_in(at), names_in(&at.join("backups"))), (before, backups), "{what}");
        if what != "increment" && what != "directory" {
            tell(what);
        }
    }
}

fn file_limit(words: &[String]) {
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    no_room(Path::new(&words[0]));
}

/// In a mount namespace of its own, on a small tmpfs.
fn small_disk(words: &[String]) {
    let (from, at) = (Path::new(&words[0]), Path::new(&words[1]));
    let mount = |kind: &str, at: &Path, flags: libc::c_ulong, data: &str| {
        let text = |s: &str| std::ffi::CString::new(s).unwrap();
        let (kind, at, data) = (text(kind), text(at.to_str().unwrap()), text(data));
        // SAFETY: all arguments are strings that outlive the call.
        unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) == 0 }
    };
    // SAFETY: concerns this process alone.
    let own = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    let size = fs::metadata(from.join("memory.mst")).unwrap().len() * 5;
    let size = format!("size={}k", size >> 10);
    if !own || !mount("none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, "") || !mount("tmpfs", at, 0, &size) {
        tell("skipped");
        return;
    }
    for name in ["memory.mst", "target.mst"] {
        fs::copy(from.join(name), at.join(name)).unwrap();
    }
    let store = Store::open(at.join("memory.mst")).unwrap();
    store.read().unwrap().backup_to(at.join("base.mst")).unwrap();
    let backups = BackupDir::create(at.join("backups")).unwrap();
    backups.backup(&store.read().unwrap(), false, BackupOptions::new()).unwrap();
    // What is left over is less than a whole backup takes.
    let mut rest = fs::File::create(at.join("rest")).unwrap();
    while std::io::Write::write_all(&mut rest, &[1; 65536]).is_ok() {}
    let len = rest.metadata().unwrap().len();
    rest.set_len(len - (1 << 20)).unwrap();
    drop(store);
    no_room(at);
}

#[test]
fn without_room_nothing_is_left_behind() {
    let place = Place::new();
    let at = place.path("small");
    fs::create_dir(&at).unwrap();
    let heard = Child::start("small_disk", &[&place.dir.path().display(), &at.display()]).finish();
    if heard == ["skipped"] {
        skip("the right to mount a small disk");
    } else {
        assert_eq!(heard, ["full", "restore", "overwrite"]);
    }
    fs::remove_dir(&at).unwrap();
    let heard = Child::start("file_limit", &[&place.dir.path().display()]).finish();
    assert_eq!(heard, ["full", "restore", "overwrite"]);
}
