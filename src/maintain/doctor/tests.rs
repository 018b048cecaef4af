//! When a figure becomes a concern, and stores that cannot be opened.

use std::io::{Read, Write};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::diagnosis::{OpenProcess, PinnedVersion, Role, Subject, Urgency};
use super::*;
use crate::disk::fork::tests::{in_child, kill, stop, wait_for};
use crate::disk::locks::{CHECKPOINT, OPEN, WRITER};
use crate::disk::platform::LockMode;
use crate::{Holder, LockStats, Store};

/// What is found of a small store, and what is told of it before it is judged.
fn found(path: &Path) -> (Found, Diagnosis) {
    let disk: Arc<dyn Disk> = Arc::new(UnixDisk::open(path, OpenMode { read_only: true, create: false }).unwrap());
    let found = Found {
        path: path.to_path_buf(),
        now: SystemTime::now(),
        look: quick::look(disk.deref()),
        full: None,
        told: ask_engine(path),
        holders: holders::Held::default(),
        place: beside::place(path),
    };
    (found, diagnose(path, &DiagnoseOptions::new()).unwrap())
}

fn holder(pid: u32, stopped: bool) -> Holder {
    Holder { pid, host: "here".to_owned(), command: "agent".to_owned(), since: None, stopped }
}

#[test]
fn figures_become_concerns_at_their_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a store.mst");
    Store::open(&path).unwrap().close().unwrap();
    let (found, sound) = found(&path);
    let concerns = |subject, told: &Diagnosis| {
        let all = judge::concerns(&found, told, None);
        all.into_iter().filter(|c| c.subject == subject && c.urgency > Urgency::Note).collect::<Vec<_>>()
    };
    let judged = |subject, change: &dyn Fn(&mut Diagnosis)| {
        let mut told = sound.clone();
        change(&mut told);
        concerns(subject, &told)
    };
    let locks = |acquisitions, failures, wait| LockStats {
        acquisitions,
        failures,
        longest_wait: Duration::from_millis(wait),
        ..LockStats::default()
    };
    for (subject, stats, count) in [
        (Subject::FailedTurns, locks(0, 0, 0), 0),
        (Subject::FailedTurns, locks(95, 5, 0), 0),
        (Subject::FailedTurns, locks(94, 6, 0), 1),
        (Subject::FailedTurns, locks(0, 1, 0), 1),
        (Subject::LongWait, locks(1, 0, 5000), 0),
        (Subject::LongWait, locks(1, 0, 5001), 1),
    ] {
        assert_eq!(judged(subject, &|told| told.locks = Some(stats.clone())).len(), count, "{stats:?}");
    }
    let pin = |outdated, age: Option<u64>, at_least: Option<u64>| PinnedVersion {
        from: 1,
        to: 1,
        outdated,
        process: Some(holder(77, false)),
        age: age.map(Duration::from_secs),
        at_least: at_least.map(Duration::from_secs),
    };
    for (pin, count) in [
        (pin(true, Some(3600), None), 0),
        (pin(true, Some(3601), None), 1),
        (pin(false, Some(360_000), None), 0),
        (pin(true, None, Some(3601)), 1),
        (pin(true, None, None), 0),
    ] {
        let concerns = judged(Subject::OldSnapshot, &|told| told.pins = vec![pin.clone()]);
        assert_eq!(concerns.len(), count, "{pin:?}");
        assert!(concerns.iter().all(|concern| concern.commands == ["kill 77"]));
    }
    let waiter = |role, seconds| OpenProcess {
        process: holder(78, false),
        roles: vec![Role::Writing, role],
        waiting_or_writing: Some(Duration::from_secs(seconds)),
        running_since: None,
        oldest_state: None,
    };
    for (waiter, count) in
        [(waiter(Role::Waiting, 5), 0), (waiter(Role::Waiting, 6), 1), (waiter(Role::Writer, 600), 0)]
    {
        assert_eq!(judged(Subject::LongWait, &|told| told.processes = vec![waiter.clone()]).len(), count, "{waiter:?}");
    }
    let place = |change: fn(&mut FilePlace)| {
        move |told: &mut Diagnosis| {
            let place = told.place.as_mut().unwrap();
            (place.filesystem, place.available) = (Some("ext4".to_owned()), 1 << 40);
            change(place);
        }
    };
    assert_eq!(judged(Subject::Room, &place(|place| place.available = 64 << 20)).len(), 0);
    assert_eq!(judged(Subject::Room, &place(|place| place.available = (64 << 20) - 1)).len(), 1);
    assert_eq!(judged(Subject::Filesystem, &place(|_| {})).len(), 0);
    for kind in ["tmpfs", "overlay"] {
        let concerns =
            judged(Subject::Filesystem, &|told| told.place.as_mut().unwrap().filesystem = Some(kind.to_owned()));
        assert!(concerns.len() == 1 && concerns[0].commands[0].contains("a store.mst'"), "{concerns:?}");
    }
    assert_eq!(judged(Subject::Filesystem, &place(|place| place.remote = true)).len(), 1);
    let log = |used| {
        move |told: &mut Diagnosis| {
            let (capacity, cap) = (1 << 20, Some(1 << 20));
            told.log = Some(LogState { capacity, used, cap, transactions: None });
        }
    };
    assert_eq!((judged(Subject::Log, &log(1 << 19)).len(), judged(Subject::Log, &log(1 << 20)).len()), (0, 1));
}

/// The urgencies of what is said about a subject.
fn said(subject: Subject, found: &Found, told: &Diagnosis, no_backups: Option<&Error>) -> Vec<Urgency> {
    let all = judge::concerns(found, told, no_backups).into_iter();
    all.filter(|concern| concern.subject == subject).map(|concern| concern.urgency).collect()
}

#[test]
fn what_a_look_met_with_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    Store::open(&path).unwrap().close().unwrap();
    let (mut found, sound) = found(&path);
    let failed = || Error::Io { op: "read", path: path.clone(), cause: std::io::Error::other("the disk") };
    let change = |change: &dyn Fn(&mut Diagnosis)| {
        let mut told = sound.clone();
        change(&mut told);
        told
    };
    let warning = change(&|told| {
        let (offset, message) = (0, "this copy holds root 4".to_owned());
        told.health.findings =
            vec![crate::Finding { severity: crate::Severity::Warning, offset, page: None, table: None, message }];
    });
    assert_eq!(said(Subject::Health, &found, &warning, None), [Urgency::Attention]);
    let unfinished = change(&|told| told.health.unfinished = Some("writers were too fast".to_owned()));
    assert_eq!(said(Subject::Health, &found, &unfinished, None), [Urgency::Note]);
    assert_eq!(said(Subject::Health, &found, &sound, None), []);
    assert_eq!(said(Subject::Flush, &found, &sound, None), []);
    found.told.as_mut().unwrap().stats.flush_failed = true;
    assert_eq!(said(Subject::Flush, &found, &sound, None), [Urgency::Attention]);
    // A lock whose holder the system does not show, and that the sidecar does not tell of.
    assert_eq!(said(Subject::LongWait, &found, &sound, None), []);
    found.holders.nameless = [Role::Writer].into();
    assert_eq!(said(Subject::LongWait, &found, &sound, None), [Urgency::Note]);
    assert_eq!(said(Subject::Opening, &found, &sound, None), []);
    found.told = Err(failed());
    assert_eq!(said(Subject::Opening, &found, &sound, None), [Urgency::Attention]);
    found.place = Err(std::io::Error::other("no"));
    assert_eq!(said(Subject::Filesystem, &found, &change(&|told| told.place = None), None), [Urgency::Note]);
    found.look = Err(failed());
    assert_eq!(said(Subject::File, &found, &sound, None), [Urgency::Attention]);
}

#[test]
fn archives_backups_and_leftovers_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    Store::open(&path).unwrap().close().unwrap();
    let (mut found, mut told) = found(&path);
    let archive = |trouble: Option<&str>, gaps| ArchiveStatus {
        directory: dir.path().to_path_buf(),
        id: String::new(),
        first: Some(1),
        last: 9,
        covered: None,
        gaps,
        trouble: trouble.map(str::to_owned),
    };
    let gap = |found| crate::ArchiveGap { from: 3, to: 5, found, reason: "no room".to_owned() };
    let news = |good, bad, age: u64, newest_lsn| diagnosis::BackupNews {
        directory: dir.path().to_path_buf(),
        good,
        bad,
        newest: Some(found.now - Duration::from_secs(age)),
        newest_file: None,
        newest_kind: None,
        newest_lsn,
    };
    told.time = found.now;
    (told.archive, told.backups) = (Some(archive(None, Vec::new())), Some(news(1, 0, 2 * 86_400, Some(4))));
    let of = |subject, found: &Found, told: &Diagnosis| said(subject, found, told, None);
    assert_eq!((of(Subject::Archive, &found, &told), of(Subject::Backup, &found, &told)), (vec![], vec![]));
    told.archive = Some(archive(Some("no room"), Vec::new()));
    assert_eq!(of(Subject::Archive, &found, &told), [Urgency::Attention]);
    // A gap needs a backup after it.
    told.archive = Some(archive(None, vec![gap(Some(found.now))]));
    assert_eq!(of(Subject::Archive, &found, &told), [Urgency::Attention]);
    told.backups = Some(news(1, 0, 2 * 86_400, Some(5)));
    assert_eq!(of(Subject::Archive, &found, &told), [Urgency::Note]);
    told.backups = Some(news(1, 0, 2 * 86_400 + 60, Some(5)));
    assert_eq!(of(Subject::Backup, &found, &told), [Urgency::Attention], "overdue");
    told.backups = Some(news(0, 0, 0, None));
    assert_eq!(of(Subject::Backup, &found, &told), [Urgency::Attention], "none");
    told.backups = Some(news(1, 2, 0, Some(5)));
    assert_eq!(of(Subject::Backup, &found, &told), [Urgency::Attention], "bad ones");
    told.backups = None;
    assert_eq!(of(Subject::Backup, &found, &told), [Urgency::Note], "nothing is known");
    let unreadable = Error::Invalid("no directory".to_owned());
    assert_eq!(said(Subject::Backup, &found, &told, Some(&unreadable)), [Urgency::Attention]);
    told.archive = None;
    found.told.as_mut().unwrap().archive = Err(unreadable);
    assert_eq!(of(Subject::Archive, &found, &told), [Urgency::Attention], "it cannot be told");
    assert_eq!(of(Subject::Leftover, &found, &told), []);
    let what = "a store from before a restore";
    told.leftovers = vec![diagnosis::Leftover { path: path.clone(), what, bytes: 1, modified: None }];
    assert_eq!(of(Subject::Leftover, &found, &told), [Urgency::Note]);
}

#[test]
fn space_and_old_readers_are_worth_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    Store::open(&path).unwrap().close().unwrap();
    let (found, mut told) = found(&path);
    let mut space = |total: u64, free: u64, kept: u64| {
        told.space = Some(SpaceUse { total: total << 20, log: 0, free: free << 20, pending: 0 });
        let name = "before".to_owned();
        told.snapshots = vec![crate::NamedSnapshot { name, lsn: 1, time: found.now, kept: kept << 20 }];
        said(Subject::Space, &found, &told, None).len()
    };
    // At least 64 MiB, and half of the file; what one snapshot keeps: and a quarter of it.
    assert_eq!([space(128, 63, 0), space(128, 64, 0), space(130, 64, 0)], [0, 1, 0]);
    assert_eq!([space(256, 0, 63), space(256, 0, 64), space(300, 0, 64)], [0, 1, 0]);
    let reader = |hours: u64| OpenProcess {
        process: holder(77, false),
        roles: vec![Role::Reading, Role::Pinning],
        waiting_or_writing: None,
        running_since: Some(found.now - Duration::from_secs(hours * 3600)),
        oldest_state: None,
    };
    told.time = found.now;
    let at_least = Some(Duration::from_secs(1));
    told.pins =
        vec![PinnedVersion { from: 1, to: 1, outdated: true, process: Some(holder(77, false)), age: None, at_least }];
    for (hours, count) in [(1, 0), (2, 1)] {
        told.processes = vec![reader(hours)];
        assert_eq!(said(Subject::OldSnapshot, &found, &told, None).len(), count);
    }
}

/// A child that holds a lock of the file and stands still.
fn stopped_holder(path: &Path, byte: u64) -> libc::pid_t {
    let (mut ready, signal) = std::io::pipe().unwrap();
    let child = in_child(|| {
        let own = UnixDisk::open(path, OpenMode::default()).unwrap();
        assert!(own.try_lock(byte, LockMode::Exclusive).unwrap());
        (&signal).write_all(b"x").unwrap();
        loop {
            std::thread::park();
        }
    });
    ready.read_exact(&mut [0]).unwrap();
    stop(child);
    child
}

#[test]
#[cfg(target_os = "linux")]
fn a_stopped_process_keeps_nobody_from_looking_whatever_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    Store::open(&path).unwrap().close().unwrap();
    for (byte, role) in [(OPEN, Role::Opening), (WRITER, Role::Writer), (CHECKPOINT, Role::Checkpoint)] {
        let child = stopped_holder(&path, byte);
        let told = diagnose(&path, &DiagnoseOptions::new()).unwrap();
        if told.processes.is_empty() {
            println!("/proc does not tell of locks here: skipped");
        } else {
            let stopped = told.concerns.iter().find(|concern| concern.subject == Subject::StoppedProcess).unwrap();
            assert_eq!(stopped.commands[0], format!("kill -CONT {child}"));
            assert_eq!(told.processes[0].roles, [role]);
        }
        assert_eq!((told.health.damage, told.store.is_some()), (0, true), "{role:?}");
        // The store cannot be opened past OPEN; all else is told.
        assert_eq!(told.locks.is_none(), byte == OPEN);
        kill(child);
        assert_eq!(wait_for(child), -libc::SIGKILL);
    }
}
