//! The archive when something goes wrong: it cannot be written, is damaged, or is not that of the store.

use crate::archive::{Place, refused};
use crate::common::{Child, Role, skip, tell};
use crate::restoring::put;
use memstone::{ArchiveStatus, BackupDir, Error, Moment, RestoreOptions, Store, restore};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub const ROLES: &[Role] =
    &[("checkpoints", checkpoints), ("commits_for_ever", commits_for_ever), ("small_archive", small_archive)];

/// The archive's files, by number.
pub fn segments(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = all.filter(|path| path.extension().is_some_and(|ending| ending == "mlog")).collect();
    found.sort();
    found
}

/// Leaves something at the end of the newest segment, as one that was killed does: the next batch begins another.
pub fn spoil_end(directory: &Path) {
    let last = segments(directory).pop().unwrap();
    File::options().append(true).open(last).unwrap().write_all(b"torn").unwrap();
}

/// A store with a backup and an archive.
fn begun() -> (Place, Store) {
    let mut place = Place::new();
    let store = place.store();
    put(&store, b"k", b"first");
    store.start_archive(place.archive()).unwrap();
    place.backup(&store, false);
    place.note(&store);
    (place, store)
}

fn write(place: &mut Place, store: &Store, n: u8) -> u64 {
    place.write(store, |tx| tx.raw("t")?.put(&[n], &[n; 300]))
}

fn gaps(status: &ArchiveStatus) -> Vec<(u64, u64)> {
    status.gaps.iter().map(|gap| (gap.from, gap.to)).collect()
}

#[test]
fn a_gap_is_told_and_nothing_is_restored_into_or_across_it() {
    let (mut place, store) = begun();
    let kept = write(&mut place, &store, 1);
    store.checkpoint().unwrap();
    let away = place.path("away");
    fs::rename(place.archive(), &away).unwrap();
    // An empty directory in its place, as when something is not mounted, is not taken for it.
    fs::create_dir(place.archive()).unwrap();
    let lost: Vec<u64> = (2..5).map(|n| write(&mut place, &store, n)).collect();
    store.checkpoint().unwrap();
    let status = store.archive_status().unwrap().unwrap();
    assert!(status.trouble.as_ref().is_some_and(|why| why.contains("there")), "{status:?}");
    assert_eq!(fs::read_dir(place.archive()).unwrap().count(), 0);
    fs::remove_dir(place.archive()).unwrap();
    fs::rename(&away, place.archive()).unwrap();
    let status = store.archive_status().unwrap().unwrap();
    assert_eq!(gaps(&status), [(kept, lost[2])], "before the archive itself says it: {status:?}");
    let next = write(&mut place, &store, 6);
    let status = store.archive_now().unwrap();
    assert_eq!((gaps(&status), &status.trouble, status.last), (vec![(kept, lost[2])], &None, next));
    assert!(status.gaps[0].reason.contains("not there"), "{status:?}");
    let behind = SystemTime::now();
    assert_eq!(place.restored(Moment::Lsn(kept)).unwrap().1, place.states[&kept]);
    for lsn in [lost[0], lost[2], next] {
        let reason = refused(place.restored(Moment::Lsn(lsn)));
        assert!(reason.contains(&format!("after {kept}, up to {}", lost[2])), "{reason}");
    }
    for moment in [Moment::Newest, Moment::Time(behind - Duration::from_nanos(1))] {
        assert!(refused(place.restored(moment)).contains("gap") || moment != Moment::Newest);
    }
    // Another backup begins behind it.
    place.backup(&store, false);
    let later = write(&mut place, &store, 7);
    store.archive_now().unwrap();
    for lsn in [kept, next, later] {
        assert_eq!(place.restored(Moment::Lsn(lsn)).unwrap().1, place.states[&lsn]);
    }
    assert!(refused(place.restored(Moment::Lsn(lost[1]))).contains("gap"));
}

#[test]
fn a_moment_is_found_by_its_time() {
    let (mut place, store) = begun();
    let pause = || std::thread::sleep(Duration::from_millis(3));
    let mut times = Vec::new();
    for n in 0..6 {
        pause();
        let lsn = write(&mut place, &store, n);
        pause();
        times.push((SystemTime::now(), lsn));
        if n == 3 {
            store.checkpoint().unwrap();
            spoil_end(&place.archive());
        }
    }
    let uncovered = SystemTime::now();
    store.archive_now().unwrap();
    for (time, lsn) in &times {
        assert_eq!(place.restored(Moment::Time(*time)).unwrap(), (*lsn, place.states[lsn].clone()));
    }
    // Nothing was committed since, and the archive knows it.
    assert_eq!(place.restored(Moment::Time(uncovered)).unwrap().0, times[5].1);
    let reason = refused(place.restored(Moment::Time(SystemTime::now() + Duration::from_secs(60))));
    assert!(reason.contains("reaches to"), "{reason}");
    let reason = refused(place.restored(Moment::Time(SystemTime::UNIX_EPOCH)));
    assert!(reason.contains("begins later"), "{reason}");
}

#[test]
fn damage_is_never_taken_for_the_end() {
    let (mut place, store) = begun();
    let mut ends = Vec::new();
    for n in 0..4 {
        let lsn = write(&mut place, &store, n);
        store.archive_now().unwrap();
        ends.push(lsn);
        spoil_end(&place.archive());
    }
    store.archive_now().unwrap();
    let files = segments(&place.archive());
    assert_eq!(files.len(), 5);
    place.each_state_comes_back_from(ends[0]);
    let whole: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let (mut refusals, mut restored) = (0, 0);
    for (at, file) in files.iter().enumerate().take(4) {
        for place_in in (0..whole[at].len()).step_by(61) {
            let mut bytes = whole[at].clone();
            bytes[place_in] ^= 0x40;
            fs::write(file, &bytes).unwrap();
            for lsn in &ends {
                match place.restored(Moment::Lsn(*lsn)) {
                    Ok((found, hash)) => {
                        assert_eq!((found, &hash), (*lsn, &place.states[lsn]), "{file:?} at {place_in}");
                        restored += 1;
                    }
                    Err(Error::Backup { .. } | Error::Corrupt(_) | Error::Format { .. }) => refusals += 1,
                    Err(other) => panic!("{file:?} at {place_in}: {other:?}"),
                }
            }
        }
        fs::remove_file(file).unwrap();
        if at > 0 {
            let reason = refused(place.restored(Moment::Lsn(*ends.last().unwrap())));
            assert!(reason.contains("missing"), "{reason}");
        }
        fs::write(file, &whole[at]).unwrap();
    }
    assert!(refusals > 20 && restored > 20, "{refusals} refused, {restored} restored");
    place.each_state_comes_back_from(ends[0]);
}

#[test]
fn an_end_that_was_cut_is_a_gap_or_archived_once_more() {
    let (mut place, store) = begun();
    let first = write(&mut place, &store, 1);
    store.archive_now().unwrap();
    let before = fs::metadata(segments(&place.archive()).pop().unwrap()).unwrap().len();
    let second = write(&mut place, &store, 2);
    store.archive_now().unwrap();
    store.close().unwrap();
    let last = segments(&place.archive()).pop().unwrap();
    let (whole, file) = (fs::read(&last).unwrap(), fs::read(place.path("memory.mst")).unwrap());
    for len in (before..whole.len() as u64).step_by(37) {
        for path in segments(&place.archive()) {
            fs::remove_file(path).unwrap();
        }
        fs::write(&last, &whole[..len as usize]).unwrap();
        fs::write(place.path("memory.mst"), &file).unwrap();
        let store = place.store();
        let third = write(&mut place, &store, 3);
        let status = store.archive_now().unwrap();
        assert_eq!((gaps(&status), status.trouble), (vec![(first, second)], None), "{len}");
        assert_eq!(place.restored(Moment::Lsn(first)).unwrap().1, place.states[&first]);
        assert!(refused(place.restored(Moment::Lsn(third))).contains("gap"));
        store.close().unwrap();
    }
}

#[test]
fn another_history_ends_the_archive() {
    let (mut place, store) = begun();
    write(&mut place, &store, 1);
    store.close().unwrap();
    let older = fs::read(place.path("memory.mst")).unwrap();
    let store = place.store();
    write(&mut place, &store, 2);
    write(&mut place, &store, 3);
    let last = write(&mut place, &store, 4);
    store.archive_now().unwrap();
    store.close().unwrap();
    // The same file, by its inode.
    fs::write(place.path("memory.mst"), &older).unwrap();
    let store = place.store();
    put(&store, b"other", b"history");
    let status = store.archive_now().unwrap();
    assert!(status.trouble.as_ref().is_some_and(|why| why.contains("older copy")), "{status:?}");
    place.backup(&store, false);
    assert!(store.last_commit().unwrap() <= last);
    for n in 10..14 {
        put(&store, &[n], b"more than there was");
    }
    let status = store.archive_now().unwrap();
    assert!(status.trouble.is_some() && status.last == last, "it is not gone on with: {status:?}");
    assert_eq!(place.restored(Moment::Lsn(last)).unwrap().1, place.states[&last]);
    // A backup of the other history does not lead to this one.
    assert_eq!(place.restored(Moment::Newest).unwrap().1, place.states[&last]);
    let status = store.start_archive(place.archive()).unwrap();
    assert_eq!((status.trouble, status.gaps.len()), (None, 0));
    place.backup(&store, false);
    let next = write(&mut place, &store, 20);
    store.archive_now().unwrap();
    assert_eq!(place.restored(Moment::Lsn(next)).unwrap(), (next, place.states[&next].clone()));
}

#[test]
fn a_copy_and_a_restored_store_do_not_go_on_with_the_archive() {
    let (mut place, store) = begun();
    let last = write(&mut place, &store, 1);
    store.close().unwrap();
    let copy = place.path("copy.mst");
    fs::copy(place.path("memory.mst"), &copy).unwrap();
    let store = Store::open(&copy).unwrap();
    put(&store, b"k", b"in the copy");
    let status = store.archive_now().unwrap();
    assert!(status.trouble.as_ref().is_some_and(|why| why.contains("copy")), "{status:?}");
    assert_eq!(status.last, last);
    let again = place.path("again.mst");
    restore(place.archive(), &again, RestoreOptions::new().to(Moment::Newest)).unwrap();
    assert!(Store::open(&again).unwrap().archive_status().unwrap().is_none());
}

/// Opens the store, commits, and leaves, which checkpoints the log.
fn checkpoints(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    put(&store, words[1].as_bytes(), &[1; 500]);
    store.checkpoint().unwrap();
    store.close().unwrap();
}

#[test]
fn every_process_that_makes_a_checkpoint_archives() {
    let (mut place, store) = begun();
    let file = place.path("memory.mst");
    for n in 0..4 {
        write(&mut place, &store, n);
        Child::start("checkpoints", &[&file.display(), &n]).finish();
        place.note(&store);
        if n == 1 {
            store.checkpoint().unwrap();
        }
    }
    let status = store.archive_now().unwrap();
    assert_eq!((gaps(&status), status.trouble), (vec![], None));
    let first = *place.states.first_key_value().unwrap().0;
    place.each_state_comes_back_from(first);
}

/// Commits numbers, and tells of each, until it is killed.
fn commits_for_ever(words: &[String]) {
    let store = Store::options().log_cap(64 << 10).open(&words[0]).unwrap();
    let from: u64 = words[1].parse().unwrap();
    for n in from.. {
        let len = if n % 7 == 0 { 40_000 } else { 700 };
        store
            .write(|tx| tx.raw("t")?.put(&(n % 5).to_be_bytes(), &[&n.to_be_bytes()[..], &vec![1; len]].concat()))
            .unwrap();
        tell(n);
    }
}

#[test]
fn killed_at_any_time_nothing_is_missing() {
    let place = Place::new();
    let file = place.path("memory.mst");
    let store = place.store();
    put(&store, b"k", b"v");
    store.start_archive(place.archive()).unwrap();
    place.backup(&store, false);
    store.close().unwrap();
    let mut next = 0;
    for round in 0..12 {
        let mut child = Child::start("commits_for_ever", &[&file.display(), &next]);
        for _ in 0..5 + 3 * round {
            next = child.hear().parse::<u64>().unwrap() + 1;
        }
        child.kill();
    }
    let store = Store::open(&file).unwrap();
    let status = store.archive_now().unwrap();
    assert_eq!((gaps(&status), &status.trouble, status.last), (vec![], &None, store.last_commit().unwrap()));
    let newest = crate::hash_of(&store.read().unwrap());
    assert_eq!(place.restored(Moment::Newest).unwrap(), (status.last, newest));
    // What was acknowledged is there, in the archive as in the store.
    let again = place.path("again.mst");
    restore(place.archive(), &again, RestoreOptions::new().to(Moment::Newest)).unwrap();
    let again = Store::open(&again).unwrap().read().unwrap();
    let newest = (0..5_u64).filter_map(|key| again.raw("t").unwrap().get(&key.to_be_bytes()).unwrap());
    let newest = newest.map(|value| u64::from_be_bytes(value[..8].try_into().unwrap())).max().unwrap();
    assert!(newest + 1 >= next, "{newest}, and {next} was about to come");
}

/// An archive on a disk of its own, which is full soon: commits go on, the log stays within its cap, and all is well
/// again when there is room.
fn small_archive(words: &[String]) {
    let at = Path::new(&words[0]);
    let text = |s: &str| std::ffi::CString::new(s).unwrap();
    let mount = |kind: &str, at: &Path, flags: libc::c_ulong, data: &str| {
        let (kind, at, data) = (text(kind), text(at.to_str().unwrap()), text(data));
        // SAFETY: all arguments are strings that outlive the call.
        unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) == 0 }
    };
    // SAFETY: concerns this process alone.
    let own = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    let small = at.join("backups");
    fs::create_dir(&small).unwrap();
    let mounted = own
        && mount("none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, "")
        && mount("tmpfs", &small, 0, "size=512k");
    if !mounted {
        tell("skipped");
        return;
    }
    let cap = 256 << 10;
    let store = Store::options().log_cap(cap).open(at.join("memory.mst")).unwrap();
    store.start_archive(&small).unwrap();
    let mut kept = store.last_commit().unwrap();
    for n in 0..400_u32 {
        put(&store, &(n % 10).to_be_bytes(), &[n as u8; 5000]);
        assert!(store.stats().unwrap().log.capacity <= cap);
    }
    let status = store.archive_now().unwrap();
    // When checkpoints happen decides whether the last batch is small enough to fit, and tells of the gap before it.
    let found = status.trouble.is_none();
    let reasons: Vec<_> = status.gaps.iter().map(|gap| &gap.reason).chain(&status.trouble).collect();
    assert!(reasons.iter().any(|why| why.contains("space")), "{status:?}");
    assert!(status.last >= kept && status.gaps.last().is_some_and(|gap| gap.found.is_some() == found), "{status:?}");
    // What does not fit is not tried in one segment after the other.
    assert_eq!(segments(&small).len(), 1);
    kept = if found { status.gaps.last().unwrap().from } else { status.last };
    // What was half written is cut off: what is there is whole, to its end.
    for path in segments(&small) {
        File::open(path).unwrap().sync_all().unwrap();
    }
    assert!(mount("none", &small, libc::MS_REMOUNT, "size=64m"));
    put(&store, b"more", b"room");
    let status = store.archive_now().unwrap();
    assert_eq!((&status.trouble, gaps(&status).last().unwrap().0), (&None, kept), "{status:?}");
    assert!(status.gaps.iter().all(|gap| gap.found.is_some() && gap.reason.contains("space")), "{status:?}");
    assert!(BackupDir::open(&small).unwrap().list().unwrap().is_empty());
    tell("done");
}

#[test]
fn a_full_archive_stops_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Child::start("small_archive", &[&dir.path().display()]).finish();
    if heard == ["skipped"] {
        skip("the right to mount a small disk");
    } else {
        assert_eq!(heard, ["done"]);
    }
}
