//! `memstone doctor`: what it finds, what it says to do, its exit codes, and that it changes nothing.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use memstone::{BackupDir, BackupOptions, Store};
use serde_json::Value;
use support::{Bench, Outcome, json, outcome};

/// A store with enough rows for a branch.
fn bench() -> Bench {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    let put = |n: u32| {
        store.write(|tx| {
            (0..500).try_for_each(|m| tx.raw("rows")?.put(&(n * 500 + m).to_be_bytes(), &[n.to_le_bytes()[0]; 100]))?;
            tx.raw("few")?.put(b"k", b"v")
        })
    };
    (0..8).try_for_each(put).unwrap();
    store.close().unwrap();
    bench
}

fn doctor(bench: &Bench, rest: &[&str]) -> (Outcome, Value) {
    let told = bench.run("doctor", &[rest, &["--json"]].concat());
    assert_eq!(told.err, "", "{told:?}");
    let page = json(&told.out);
    (told, page)
}

/// The concerns about a subject.
fn about<'p>(page: &'p Value, subject: &str) -> Vec<&'p Value> {
    page["concerns"].as_array().unwrap().iter().filter(|concern| concern["subject"] == subject).collect()
}

/// The exit code that a page has to come with. (The disk that the tests run on may itself need attention.)
fn code_of(page: &Value) -> i32 {
    let urgency = |urgency: &str| page["concerns"].as_array().unwrap().iter().any(|c| c["urgency"] == urgency);
    if urgency("damage") { 4 } else { i32::from(urgency("attention")) * 6 }
}

fn commands(concern: &Value) -> String {
    concern["commands"].to_string()
}

/// Names, content and time of change of all files in a folder.
fn all(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let entry = |entry: fs::DirEntry| {
        let content = if entry.path().is_dir() { Vec::new() } else { fs::read(entry.path()).unwrap() };
        (entry.file_name().into_string().unwrap(), (content, entry.metadata().unwrap().modified().unwrap()))
    };
    entries.map(entry).collect()
}

/// Destroys a byte of each page that the test chooses by its header.
fn destroy(bench: &Bench, choose: impl Fn(&[u8]) -> bool) {
    let mut bytes = fs::read(&bench.file).unwrap();
    let mut destroyed = 0;
    for page in bytes.chunks_mut(4096).skip(2).filter(|page| choose(page)) {
        page[100] ^= 1;
        destroyed += 1;
    }
    assert!(destroyed > 0);
    fs::write(&bench.file, bytes).unwrap();
}

#[test]
fn a_sound_store_needs_nothing_and_stays_as_it_is() {
    let bench = bench();
    let before = all(bench.dir.path());
    for rest in [&[][..], &["--full"]] {
        let (told, page) = doctor(&bench, rest);
        let health = &page["health"];
        assert_eq!(
            (&health["damage"], &health["warnings"], &health["unfinished"]),
            (&0.into(), &0.into(), &Value::Null)
        );
        assert_eq!((told.code, page["needs_attention"] == true), (code_of(&page), told.code != 0));
        // What the test's own disk may be reproached with.
        let others = ["filesystem", "room", "backup"];
        for concern in page["concerns"].as_array().unwrap() {
            assert!(others.contains(&concern["subject"].as_str().unwrap()), "{concern}");
        }
        let rows = &page["tables"][0];
        assert_eq!((&rows["name"], &rows["entries"]), (&"rows".into(), &4000.into()));
        assert!(rows["size"].as_u64() > rows["content"].as_u64() && rows["content"].as_u64().unwrap() > 400_000);
        assert!(page["space"]["total"].as_u64() >= rows["size"].as_u64());
        let text = bench.run("doctor", rest);
        assert_eq!(text.code, told.code);
        assert!(text.out.contains("sound") && text.out.contains("rows") && text.out.contains("LOG"), "{}", text.out);
    }
    assert!(all(bench.dir.path()) == before, "something was changed");
}

#[test]
fn damage_is_told_with_what_to_do() {
    let bench = bench();
    // A destroyed leaf is beyond the quick look; a destroyed branch is not.
    destroy(&bench, |page| page[12] == 1 && page[16..24] != [0; 8]);
    let before = all(bench.dir.path());
    let (told, page) = doctor(&bench, &["--full"]);
    assert_eq!(told.code, 4, "{page}");
    let damage = about(&page, "health")[0];
    assert!(commands(damage).contains("store-check --repair"), "{damage}");
    assert!(bench.run("doctor", &["--full"]).out.contains("DAMAGED"));
    destroy(&bench, |page| page[12] == 2);
    let (told, page) = doctor(&bench, &[]);
    assert_eq!((told.code, page["health"]["extent"] == "quick"), (4, true), "{page}");
    assert!(page["health"]["damage"].as_u64() > Some(0));
    let after = all(bench.dir.path());
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
}

#[test]
fn without_any_root_there_still_is_a_page() {
    let bench = bench();
    let mut bytes = fs::read(&bench.file).unwrap();
    for copy in 0..4 {
        bytes[copy * 2048 + 60] ^= 1;
    }
    fs::write(&bench.file, &bytes).unwrap();
    let (told, page) = doctor(&bench, &[]);
    assert_eq!((told.code, page["store"].is_null()), (4, true), "{page}");
    // Zeros where the slots were: it may be no store at all.
    bytes[..8192].fill(0);
    fs::write(&bench.file, &bytes).unwrap();
    let (told, page) = doctor(&bench, &[]);
    assert_eq!(told.code, 6);
    assert!(commands(about(&page, "file")[0]).contains("store-check --repair"), "{page}");
    fs::write(&bench.file, b"").unwrap();
    assert_eq!(doctor(&bench, &["--full"]).0.code, 6);
    fs::remove_file(&bench.file).unwrap();
    bench.fails(1, "no such store", "doctor", &[]);
}

/// A process that holds the writer lock; what it runs ends with its standard input.
fn writer(bench: &Bench) -> Child {
    let mut command = bench.command("with-lock", &["--", "sh", "-c", "echo ready; read line"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn signal(name: &str, child: &Child) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
#[cfg(target_os = "linux")]
fn a_stopped_holder_is_named_with_how_to_end_it() {
    let bench = bench();
    let mut child = writer(&bench);
    let (_, page) = doctor(&bench, &[]);
    let process = &page["processes"][0];
    assert_eq!((&process["process"]["pid"], about(&page, "stopped_process").len()), (&child.id().into(), 0), "{page}");
    assert!(process["roles"].as_array().unwrap().contains(&"writer".into()), "{process}");
    signal("-STOP", &child);
    while !fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") T") {
        std::thread::yield_now();
    }
    let (told, page) = doctor(&bench, &[]);
    assert_eq!(told.code, 6);
    let stopped = about(&page, "stopped_process")[0];
    assert!(stopped["what"].as_str().unwrap().contains("holds the writer lock"), "{stopped}");
    assert!(commands(stopped).contains(&format!("kill -CONT {}", child.id())), "{stopped}");
    signal("-KILL", &child);
    child.wait().unwrap();
    assert_eq!(about(&doctor(&bench, &[]).1, "stopped_process").len(), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn who_keeps_an_old_state_is_named_with_its_age() {
    let bench = bench();
    let store = Store::open(&bench.file).unwrap();
    let snapshot = store.read().unwrap();
    let newest = |page: &Value| page["store"]["root_sequence"].as_u64();
    let before = newest(&doctor(&bench, &[]).1);
    store.write(|tx| tx.raw("few")?.put(b"k", b"w")).unwrap();
    store.checkpoint().unwrap();
    let (_, page) = doctor(&bench, &[]);
    assert!(newest(&page) > before);
    let pins = page["pins"].as_array().unwrap();
    let old = pins.iter().find(|pin| pin["outdated"] == true).unwrap_or_else(|| panic!("{page}"));
    assert_eq!((old["from"].as_u64(), &old["process"]["pid"]), (before, &std::process::id().into()));
    assert!(old["age_seconds"].as_f64() > Some(0.0), "{old}");
    drop(snapshot);
    // What the last snapshot started from is kept for the next one, for a while.
    drop(store.read().unwrap());
    let outdated = |page: &Value| page["pins"].as_array().unwrap().iter().filter(|pin| pin["outdated"] == true).count();
    assert_eq!(outdated(&doctor(&bench, &[]).1), 0);
}

#[test]
fn turns_that_did_not_come_are_counted() {
    let bench = bench();
    let store = Store::open(&bench.file).unwrap();
    let failed = |page: &Value| about(page, "failed_turns").len();
    // 19 turns and one that failed are one in twenty, which may be.
    (0..19).try_for_each(|_| store.write(|tx| tx.raw("few")?.put(b"k", b"v"))).unwrap();
    let give_up = || {
        let holder = writer(&bench);
        assert!(store.try_write(|_| Ok::<_, memstone::Error>(())).is_err());
        holder
    };
    let mut holders = [give_up()];
    holders[0].kill().unwrap();
    holders[0].wait().unwrap();
    let (_, page) = doctor(&bench, &[]);
    assert_eq!((&page["locks"]["failures"], failed(&page)), (&1.into(), 0), "{page}");
    let mut holder = give_up();
    let (told, page) = doctor(&bench, &[]);
    assert_eq!((told.code, failed(&page)), (6, 1), "{page}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn what_lies_around_the_store_is_told() {
    let bench = bench();
    let beside = |ending: &str| bench.dir.path().join(format!("test.mst{ending}"));
    fs::copy(&bench.file, beside(".repaired")).unwrap();
    fs::copy(&bench.file, beside(".before-restore-2026-01-01T00-00-00Z")).unwrap();
    let (_, page) = doctor(&bench, &[]);
    assert_eq!(about(&page, "leftover").len(), 2, "{page}");
    fs::hard_link(&bench.file, bench.dir.path().join("other name.mst")).unwrap();
    let (told, page) = doctor(&bench, &[]);
    assert_eq!(told.code, 6);
    assert!(commands(about(&page, "links")[0]).contains("other name.mst'"), "{page}");
}

#[test]
fn backups_and_the_archive_are_looked_at() {
    let bench = bench();
    let backups = bench.dir.path().join("backups");
    let directory = backups.to_str().unwrap();
    let about_backups = |page: &Value| about(page, "backup").into_iter().cloned().collect::<Vec<_>>();
    let (_, page) = doctor(&bench, &[]);
    assert_eq!(about_backups(&page)[0]["urgency"], "note", "nothing is known of them");
    assert_eq!(about_backups(&doctor(&bench, &["--backups", directory]).1)[0]["urgency"], "attention", "no directory");
    let store = Store::open(&bench.file).unwrap();
    let made = BackupDir::create(&backups).unwrap();
    let (told, page) = doctor(&bench, &["--backups", directory]);
    assert_eq!((told.code, about_backups(&page).len()), (6, 1), "none is there: {page}");
    made.backup(&store.read().unwrap(), false, BackupOptions::new()).unwrap();
    let (_, page) = doctor(&bench, &["--backups", directory]);
    assert_eq!((about_backups(&page), &page["backups"]["good"]), (Vec::new(), &1.into()), "{page}");
    // An archive leads to its directory, and a file of it that is gone is told.
    store.start_archive(&backups).unwrap();
    store.write(|tx| tx.raw("few")?.put(b"k", b"w")).unwrap();
    store.archive_now().unwrap();
    let (_, page) = doctor(&bench, &[]);
    assert_eq!((about(&page, "archive").len(), &page["backups"]["good"]), (0, &1.into()), "{page}");
    for entry in fs::read_dir(&backups).unwrap().map(Result::unwrap) {
        if !entry.file_name().to_string_lossy().ends_with(".full.mst") && entry.path().is_file() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let (told, page) = doctor(&bench, &[]);
    assert_eq!(told.code, 6);
    assert!(commands(about(&page, "archive")[0]).contains("memstone archive"), "{page}");
    // A file that is no backup.
    fs::write(backups.join("2026-01-01T00-00-00Z.full.mst"), b"nothing").unwrap();
    let bad = about_backups(&doctor(&bench, &["--backups", directory]).1);
    assert!(bad.iter().any(|concern| commands(concern).contains("--verify")), "{bad:?}");
}

#[test]
fn a_directory_that_cannot_be_written_keeps_nobody_from_looking() {
    use std::os::unix::process::CommandExt;
    let bench = bench();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(bench.dir.path(), 0o555);
    mode(&bench.file, 0o444);
    let before = all(bench.dir.path());
    let mut command = bench.command("doctor", &["--json"]);
    // The superuser may write everywhere.
    if fs::write(bench.dir.path().join("x"), b"").is_ok() {
        fs::remove_file(bench.dir.path().join("x")).unwrap();
        command.uid(65534).gid(65534);
    }
    match command.stdin(Stdio::null()).output() {
        Err(error) => println!("another user cannot run the command here ({error}): skipped"),
        Ok(output) => {
            let page = json(std::str::from_utf8(&output.stdout).unwrap());
            assert_eq!(output.status.code(), Some(code_of(&page)), "{page}");
            assert_eq!((about(&page, "directory").len(), &page["health"]["damage"]), (1, &0.into()), "{page}");
            assert_eq!(page["tables"][0]["entries"], 4000, "{page}");
        }
    }
    mode(bench.dir.path(), 0o755);
    let names = |files: BTreeMap<String, _>| files.into_keys().collect::<Vec<_>>();
    assert_eq!(names(all(bench.dir.path())), names(before));
}

/// The lines of the example in the reference that do not depend on the machine.
#[test]
fn the_example_in_the_reference() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    let page = bench.run("doctor", &[]).out;
    let reference = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/COMMAND_LINE.md")).unwrap();
    let (_, example) = reference.split_once("$ memstone doctor memory.mst\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let first = |line: &str| line.split("  ").next().unwrap().trim().to_owned();
    let heads: Vec<_> = page.lines().map(first).collect();
    for line in example.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())) {
        assert!(heads.contains(&first(line)), "{line}\n{page}");
    }
    for line in example.lines().filter(|line| line.starts_with("   ")) {
        assert!(page.contains(&line.replace("memory.mst", bench.file.to_str().unwrap())), "{line}\n{page}");
    }
}

#[test]
fn usage_and_closed_pipes() {
    let bench = bench();
    assert_eq!(bench.run("doctor", &["--quick"]).code, 2);
    let script = format!("\"{}\" doctor \"$1\"; echo code $? >&2", env!("CARGO_BIN_EXE_memstone"));
    let piped = format!("({script}) | true");
    let told = outcome(Command::new("sh").args(["-c", &piped, "sh"]).arg(&bench.file));
    // It may have written all of it before the pipe was closed: then the code is that of the page.
    assert!(told.err == "code 0\n" || told.err == "code 6\n", "{told:?}");
}
