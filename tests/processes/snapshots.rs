//! Snapshots are free: no lock that another process can hold, and no system call where nothing is new.

use crate::common::{Child, Random, Role, STUCK, TestStore, give_up_after, listen, number, skip, stop_flag, tell};
use memstone::{Error, Store};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

pub const ROLES: &[Role] = &[
    ("snapshots", snapshots),
    ("sealed_off", sealed_off),
    ("busy_writer", busy_writer),
    ("versions_kept", versions_kept),
];

const ROWS: u64 = 2000;

fn read_some(store: &Store, key: u64) -> u64 {
    let snap = store.read().unwrap();
    let table = snap.raw("rows").unwrap();
    number(&table.get(&(key % ROWS).to_be_bytes()).unwrap().unwrap()[..8])
}

fn fill(store: &Store) {
    store
        .write(|tx| {
            let table = tx.raw("rows")?;
            for key in 0..ROWS {
                table.put(&key.to_be_bytes(), &[0; 100])?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    store.checkpoint().unwrap();
}

/// Takes so many snapshots, and reads a row from each.
fn snapshots(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    for i in 0..words[1].parse().unwrap() {
        read_some(&store, i);
    }
    tell("done");
    // Without the checkpoint that a process makes when it leaves.
    std::process::exit(0);
}

/// So many snapshots the sealed thread takes.
const SEALED: u64 = 100;

/// Takes snapshots in a thread that the kernel ends at any system call but read and write; tells how many it took.
fn sealed_off(words: &[String]) {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let store = Store::open(&words[0]).unwrap();
    let (sender, thread) = channel();
    std::thread::spawn(move || {
        for i in 0..ROWS {
            read_some(&store, i);
        }
        // SAFETY: always succeeds.
        sender.send(unsafe { libc::gettid() }).unwrap();
        // SAFETY: restricts this thread only.
        if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_STRICT)) } != 0 {
            tell("forbidden");
            std::process::exit(0);
        }
        for i in 0..SEALED {
            read_some(&store, i);
            TAKEN.store(i + 1, Ordering::Release);
        }
        loop {
            std::hint::spin_loop();
        }
    });
    let thread = format!("/proc/self/task/{}", thread.recv().unwrap());
    while TAKEN.load(Ordering::Acquire) < SEALED && std::fs::exists(&thread).unwrap() {
        std::thread::sleep(Duration::from_millis(1));
    }
    tell(TAKEN.load(Ordering::Acquire));
    std::process::exit(0);
}

/// Overwrites rows and checkpoints the log now and then, until told to stop.
fn busy_writer(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let stop = stop_flag();
    let mut random = Random(std::process::id().into());
    tell("ready");
    while !stop.load(Ordering::Acquire) {
        store
            .write(|tx| {
                let table = tx.raw("rows")?;
                let mut value = [0; 100];
                value[..8].copy_from_slice(&random.next().to_be_bytes());
                table.put(&random.below(ROWS).to_be_bytes(), &value)
            })
            .unwrap();
        if random.below(50) == 0 {
            store.checkpoint().unwrap();
        }
    }
}

/// More than any list of pins was ever cut at.
const VERSIONS: u64 = 4200;

/// Keeps a snapshot of each of many versions of the tree, in each of which the row has another value, and
/// reads them all when told that others went on.
fn versions_kept(words: &[String]) {
    let store = Store::open(&words[0]).unwrap();
    let mut kept = Vec::new();
    for n in 0..VERSIONS {
        store.write(|tx| tx.raw("rows")?.put(b"row", &n.to_be_bytes().repeat(40))).unwrap();
        store.checkpoint().unwrap();
        kept.push(store.read().unwrap());
    }
    tell("kept");
    listen();
    for (n, snap) in (0_u64..).zip(&kept) {
        let table = snap.raw("rows").unwrap();
        let row = table.get(b"row").unwrap_or_else(|e| panic!("version {n}: {e}")).unwrap();
        assert_eq!(row[..], n.to_be_bytes().repeat(40)[..], "version {n} reads otherwise");
    }
    tell("all read");
    std::process::exit(0);
}

#[test]
fn thousands_of_versions_in_a_row_are_kept_from_other_processes() {
    // In memory where there is such a place: thousands of checkpoints need no disk here.
    let test = TestStore::new_in(Path::new("/dev/shm"));
    let mut holder = Child::start("versions_kept", &[&test.path.display()]);
    assert_eq!(holder.hear(), "kept");
    let store = test.open();
    for n in 0..100_u64 {
        store.write(|tx| tx.raw("rows")?.put(b"row", &(VERSIONS + n).to_be_bytes().repeat(40))).unwrap();
        store.checkpoint().unwrap();
    }
    let pins = store.stats().unwrap().pins;
    assert!(pins.iter().cloned().flatten().count() as u64 >= VERSIONS, "{pins:?}");
    holder.say("read");
    assert_eq!(holder.hear(), "all read");
    holder.finish();
}

#[test]
fn in_the_steady_state_a_snapshot_makes_no_system_call() {
    let test = TestStore::alone();
    let store = test.open();
    fill(&store);
    // Once a second a look at the sidecar's name is allowed, and takes one. It cannot always meet these few snapshots.
    let started = Instant::now();
    loop {
        let told = Child::start("sealed_off", &[&test.path.display()]).hear();
        if told == "forbidden" {
            return skip("seccomp");
        }
        if told == SEALED.to_string() {
            return;
        }
        println!("killed for a system call after {told} snapshots");
        give_up_after(started, "each thread was killed for a system call");
    }
}

/// System calls by name, as strace counts them.
fn traced(test: &TestStore, snapshots: u64) -> Option<Vec<(String, u64)>> {
    let out = test.dir.path().join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-U", "name,calls", "-o"]).arg(&out).arg(std::env::current_exe().unwrap());
    let child = Child::start_by(strace, "snapshots", &[&test.path.display(), &snapshots]);
    child.hear();
    child.finish();
    let text = std::fs::read_to_string(&out).ok()?;
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    });
    Some(rows.filter(|(name, _)| name != "total").collect())
}

fn calls(rows: &[(String, u64)], names: &[&str]) -> u64 {
    rows.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, n)| n).sum()
}

#[test]
fn strace_counts_what_snapshots_cost() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|out| out.status.success()) {
        return skip("strace, and the right to trace a child (ptrace)");
    }
    let test = TestStore::alone();
    let store = test.open();
    fill(&store);
    let all = |rows: &[(String, u64)]| rows.iter().map(|(_, n)| n).sum::<u64>();
    // Twenty thousand snapshots more, when nothing is written. Some calls a second are allowed; if each took one,
    // there would be twenty thousand.
    let (few, many) = (traced(&test, 10).unwrap(), traced(&test, 20_010).unwrap());
    let more = all(&many).saturating_sub(all(&few));
    println!("system calls: {} for 10 snapshots, {} for 20,010", all(&few), all(&many));
    assert!(more < 2000, "{more} more: {many:?}");
    // While another process writes and checkpoints: reading the new frames, but no waiting for another process.
    let mut writer = Child::start("busy_writer", &[&test.path.display()]);
    writer.hear();
    let before = store.stats().unwrap().root_sequence;
    let rows = traced(&test, 20_000).unwrap();
    let roots = store.stats().unwrap().root_sequence - before;
    writer.say("stop");
    writer.finish();
    let (locks, flushes) = (calls(&rows, &["fcntl"]), calls(&rows, &["fdatasync", "fsync"]));
    println!("beside a writer and {roots} new roots: {locks} lock calls, {flushes} flushes; {rows:?}");
    // A pin and its end for each root that was seen, what opening takes, and some calls a second, as above.
    assert!(locks <= 4 * roots + 2000, "{rows:?}");
    assert!(flushes <= roots + 5, "{rows:?}");
    // Opening beside a writer writes the frames once more that were on their way to the disk; no snapshot writes.
    assert!(calls(&rows, &["pwrite64"]) < 10, "{rows:?}");
    assert_eq!(calls(&rows, &["ftruncate"]), 0, "{rows:?}");
}

#[test]
fn readers_do_not_wait_for_processes_stopped_anywhere() {
    let test = TestStore::alone();
    let store = test.open();
    fill(&store);
    let writers: Vec<_> = (0..3).map(|_| Child::start("busy_writer", &[&test.path.display()])).collect();
    writers.iter().for_each(|writer| drop(writer.hear()));
    let mut random = Random(11);
    // Nobody lets them go on before the reads are done: one that waits for any of them never is.
    let (wanted, wishes) = channel::<u64>();
    let (tell_read, read) = channel();
    let reader = std::thread::spawn(move || {
        for key in wishes {
            tell_read.send(read_some(&store, key)).unwrap();
        }
    });
    for _ in 0..100 {
        std::thread::sleep(Duration::from_micros(random.below(15_000)));
        writers.iter().for_each(Child::stop);
        for key in 0..20 {
            wanted.send(key).unwrap();
            read.recv_timeout(STUCK).expect("a reader waits for a process that is stopped");
        }
        writers.iter().for_each(|writer| writer.signal(libc::SIGCONT));
    }
    drop(wanted);
    reader.join().unwrap();
    for mut writer in writers {
        writer.say("stop");
        writer.finish();
    }
}
