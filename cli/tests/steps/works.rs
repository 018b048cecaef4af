//! The commands that are ended, what there is before, and what must be true afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use memstone::{CheckOptions, Store, content_hash};

pub const WORKS: [&str; 6] = ["load", "load into", "import", "clone", "clone over", "compact"];

/// A folder with what all works need, and the folder in which one is done.
pub struct Before {
    dir: tempfile::TempDir,
    /// What `memory.mst` holds, `other.mst`, what loading adds to that, and what is imported.
    memory: String,
    other: String,
    both: String,
    imported: String,
}

fn rows(path: &Path, table: &str, rows: std::ops::Range<u32>, size: usize) {
    let store = Store::open(path).unwrap();
    let value = |n: u32| -> Vec<u8> { (0..size).map(|at| (at as u32 * 7 + n) as u8).collect() };
    store.write(|tx| rows.clone().try_for_each(|n| tx.raw(table)?.put(&n.to_be_bytes(), &value(n)))).unwrap();
    store.close().unwrap();
}

/// The hash of a sound store's content.
pub fn hash_in(path: &Path) -> String {
    let report = memstone::check(path, &CheckOptions::new()).unwrap();
    // (The second copy of the newest root, which closing writes and need not flush, is a warning at most.)
    assert_eq!(report.damage, 0, "{}: {:#?}", path.display(), report.findings);
    let store = Store::options().create(false).open(path).unwrap();
    let hash = content_hash(&store.read().unwrap()).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    store.close().unwrap();
    hash
}

/// The same for a store that is new under its name: nothing of it is left to a later flush.
fn new_hash_in(path: &Path) -> String {
    let report = memstone::check(path, &CheckOptions::new()).unwrap();
    assert!(report.is_clean(), "{}: {:#?}", path.display(), report.findings);
    hash_in(path)
}

fn memstone(words: &[&str], dir: &Path) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memstone"));
    let out = command.args(words).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{words:?}: {out:?}");
    out.stdout
}

impl Before {
    /// A store with free space at its lower end, another one, a dump of the first, and lines to import.
    pub fn new() -> Before {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (table, size) in [("a", 300), ("gone", 4000), ("b", 500), ("c", 1000)] {
            rows(&path("memory.mst"), table, 0..150, size);
            memstone(&["checkpoint", "memory.mst"], dir.path());
        }
        rows(&path("memory.mst"), "c", 200..202, 20_000);
        memstone(&["checkpoint", "memory.mst"], dir.path());
        memstone(&["drop", "memory.mst", "--table", "gone"], dir.path());
        memstone(&["checkpoint", "memory.mst"], dir.path());
        rows(&path("other.mst"), "a", 100..300, 60);
        fs::write(path("memory.jsonl"), memstone(&["dump", "memory.mst"], dir.path())).unwrap();
        let lines = (0..400).map(|n| format!("{{\"id\":{n},\"text\":\"{}\"}}\n", "x".repeat(100 + n % 900)));
        fs::write(path("lines.jsonl"), lines.collect::<String>()).unwrap();
        fs::copy(path("other.mst"), path("both.mst")).unwrap();
        memstone(&["load", "both.mst", "memory.jsonl"], dir.path());
        memstone(&["import", "--from", "jsonl", "lines.jsonl", "made.mst", "--key", "id"], dir.path());
        let [memory, other, both, imported] =
            ["memory.mst", "other.mst", "both.mst", "made.mst"].map(|name| hash_in(&path(name)));
        ["both.mst", "made.mst"].iter().for_each(|name| fs::remove_file(path(name)).unwrap());
        Before { dir, memory, other, both, imported }
    }

    /// A copy of what there is before, in a folder of its own.
    pub fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// What must be true in the folder of a work, whatever has ended it; `done` says that nothing has. Gives whether its
    /// work is done.
    pub fn judge(&self, dir: &Path, work: &str, done: bool) -> bool {
        let path = |name: &str| dir.join(name);
        let made = path("made.mst").exists().then(|| new_hash_in(&path("made.mst")));
        let other = self.now(dir, "other.mst", &self.other);
        assert_eq!(self.now(dir, "memory.mst", &self.memory), self.memory, "the store itself");
        let is_done = match work {
            "load" | "clone" => {
                assert!(made.as_ref().is_none_or(|made| *made == self.memory), "the new store is not whole");
                made.is_some()
            }
            "import" => {
                assert!(made.as_ref().is_none_or(|made| *made == self.imported), "the new store is not whole");
                made.is_some()
            }
            "load into" => {
                assert!(other == self.both || other == self.other, "a part was loaded");
                other == self.both
            }
            "clone over" => {
                assert!(other == self.memory || other == self.other, "neither the old store nor the new one");
                other == self.memory
            }
            _ => done,
        };
        assert!(is_done || !done, "it is not there");
        assert!(other == self.other || work.contains("into") || work.contains("over"));
        is_done
    }

    /// The hash of a store that was there before, with that content.
    fn now(&self, dir: &Path, name: &str, content: &str) -> String {
        let is_same = fs::read(dir.join(name)).unwrap() == fs::read(self.dir.path().join(name)).unwrap();
        if is_same { content.to_owned() } else { hash_in(&dir.join(name)) }
    }

    /// What stands in the folder beside what was there, with its sidecars, and what is made.
    pub fn strays(&self, dir: &Path) -> Vec<PathBuf> {
        let is_known = |path: &PathBuf| {
            let name = path.file_name().unwrap();
            let store = Path::new(name.to_str().unwrap().trim_end_matches("-shm"));
            name == "made.mst" || self.dir.path().join(store).exists()
        };
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| !is_known(path)).collect()
    }
}

/// Adds the command that does a work in a folder.
pub fn add_work(command: &mut Command, work: &str, dir: &Path) {
    command.arg(env!("CARGO_BIN_EXE_memstone"));
    let words: &[&str] = match work {
        "load" => &["load", "made.mst", "memory.jsonl"],
        "load into" => &["load", "other.mst", "memory.jsonl"],
        "import" => &["import", "--from", "jsonl", "lines.jsonl", "made.mst", "--key", "id"],
        "clone" => &["clone", "memory.mst", "made.mst"],
        "clone over" => &["clone", "memory.mst", "other.mst", "--overwrite"],
        _ => &["compact", "memory.mst"],
    };
    // (Whole paths, by which the calls are told that concern the folder.)
    for word in words {
        let is_file = word.contains(".mst") || word.contains(".jsonl");
        if is_file {
            command.arg(dir.join(word))
        } else {
            command.arg(word)
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Does a work that nothing ends any more.
pub fn do_work(work: &str, dir: &Path) {
    let mut command = Command::new("env");
    add_work(&mut command, work, dir);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{work}: {out:?}");
}
