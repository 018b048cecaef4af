//! What a power loss may leave is decided by the order of a few calls: a file is flushed before it gets its name, after the
//! last byte was written to it, and the directory after that.

use crate::common::{Child, Role, skip};
use crate::restoring::put;
use memstone::{BackupDir, BackupOptions, RestoreOptions, Store, restore};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

pub const ROLES: &[Role] = &[("all_works", all_works), ("one_full", one_full)];

fn one_full(words: &[String]) {
    let dir = Path::new(&words[0]);
    Store::open(dir.join("memory.mst")).unwrap().read().unwrap().backup_to(dir.join("full")).unwrap();
}

/// Makes each kind of backup, and restores.
fn all_works(words: &[String]) {
    let dir = Path::new(&words[0]);
    let path = |name: &str| dir.join(name);
    let store = Store::open(path("memory.mst")).unwrap();
    store.read().unwrap().backup_to(path("final-full")).unwrap();
    put(&store, b"k", b"later");
    let since = || BackupOptions::new().since(path("final-full"));
    store.read().unwrap().backup_with(path("final-increment"), since()).unwrap();
    store.read().unwrap().backup_with(path("final-full"), BackupOptions::new().overwrite(true)).unwrap();
    let backups = BackupDir::create(path("backups")).unwrap();
    backups.backup(&store.read().unwrap(), true, BackupOptions::new()).unwrap();
    store.close().unwrap();
    restore(path("final-full"), path("final-restored"), RestoreOptions::new()).unwrap();
    restore(path("final-full"), path("memory.mst"), RestoreOptions::new().overwrite(true)).unwrap();
}

/// A call that matters, and the file it was about.
#[derive(Debug)]
enum Call {
    Write(String),
    Flush(String),
    Rename(String, String),
    Link(String),
}

/// The calls of `strace -y`, which shows descriptors as `3</path>`, on files in a directory.
fn calls(text: &str, dir: &str) -> Vec<Call> {
    let parse = |line: &str| {
        let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
        let (name, rest) = call.split_once('(')?;
        let described = || Some(rest.split_once('<')?.1.split_once('>')?.0.to_owned());
        let mut quoted = rest.split('"').skip(1).step_by(2).map(str::to_owned);
        let found = match name {
            "pwrite64" | "write" | "ftruncate" => Call::Write(described()?),
            "fsync" => Call::Flush(described()?),
            "rename" | "renameat" | "renameat2" => Call::Rename(quoted.next()?, quoted.next()?),
            "link" | "linkat" => Call::Link(quoted.nth(1)?),
            _ => return None,
        };
        let about = match &found {
            Call::Write(file) | Call::Flush(file) | Call::Rename(_, file) | Call::Link(file) => file,
        };
        about.starts_with(dir).then_some(found)
    };
    text.lines().filter_map(parse).collect()
}

#[test]
fn a_file_is_flushed_before_it_gets_its_name_and_the_directory_after() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|out| out.status.success()) {
        return skip("strace, and the right to trace a child (ptrace)");
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap();
    let store = Store::open(at.join("memory.mst")).unwrap();
    put(&store, b"k", b"v");
    store.close().unwrap();
    let out = at.join("calls");
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-y",
        "-s",
        "4096",
        "-e",
        "trace=pwrite64,write,ftruncate,fsync,rename,renameat,renameat2,link,linkat",
    ]);
    strace.arg("-o").arg(&out).arg(std::env::current_exe().unwrap());
    Child::start_by(strace, "all_works", &[&at.display()]).finish();
    let calls = calls(&std::fs::read_to_string(&out).unwrap(), at.to_str().unwrap());
    // What was written to each file since it was flushed, and which names wait for their directory.
    let (mut dirty, mut unsaid): (BTreeMap<String, bool>, Vec<String>) = Default::default();
    let mut named = 0;
    for call in &calls {
        match call {
            Call::Write(file) => drop(dirty.insert(file.clone(), true)),
            Call::Flush(file) => {
                dirty.insert(file.clone(), false);
                unsaid.retain(|name| Path::new(name).parent() != Some(Path::new(file)));
            }
            Call::Rename(from, to) if from.ends_with(".part") => {
                assert_eq!(dirty.get(from), Some(&false), "{from} is renamed before it is flushed: {calls:#?}");
                assert!(unsaid.is_empty(), "{unsaid:?} before {to}: {calls:#?}");
                unsaid.push(to.clone());
                named += 1;
            }
            Call::Rename(..) => {}
            Call::Link(name) => unsaid.push(name.clone()),
        }
    }
    assert!(unsaid.is_empty(), "{unsaid:?} may be lost: {calls:#?}");
    assert_eq!(named, 6, "{calls:#?}");
}

#[test]
fn leaves_are_asked_for_many_at_once_and_in_the_order_of_the_file() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|out| out.status.success()) {
        return skip("strace, and the right to trace a child (ptrace)");
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    // In no order, so that the leaves lie in none.
    for round in 0..20_u32 {
        let rows = |tx: &memstone::WriteTxn| {
            (0..500_u32).try_for_each(|n| tx.raw("t")?.put(&(n * 20 + round * 7 % 20).to_be_bytes(), &[1; 400]))
        };
        store.write(rows).unwrap();
        store.checkpoint().unwrap();
    }
    store.close().unwrap();
    let leaves = memstone::check(dir.path().join("memory.mst"), &memstone::CheckOptions::new()).unwrap();
    let leaves = leaves.tables.iter().map(|table| table.leaves).max().unwrap();
    let out = dir.path().join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=fadvise64", "-o"]).arg(&out).arg(std::env::current_exe().unwrap());
    Child::start_by(strace, "one_full", &[&dir.path().display()]).finish();
    let text = std::fs::read_to_string(&out).unwrap();
    let asked: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_once("fadvise64(")?.1.split(", ").skip(1);
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect();
    if !cfg!(target_os = "linux") {
        return;
    }
    let bytes: u64 = asked.iter().map(|(_, len)| len).sum();
    println!("{} calls for {bytes} bytes, {leaves} leaves", asked.len());
    assert!(bytes >= leaves * 4096, "each leaf is asked for");
    assert!((asked.len() as u64) < leaves / 8, "{} calls for {leaves} leaves", asked.len());
}
