//! What a power loss may leave of real files: a process' calls are recorded by strace, with their bytes, and carried
//! out again on a model of a file system that holds back what nobody has flushed.
//!
//! A file keeps what was written before its last flush, and of what came later any part, by sectors. A directory keeps
//! the names that it had when it was flushed, and of later changes the first so many: file systems keep their order.

use crate::random::Random;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SECTOR: usize = 512;
const CALLS: &str = "trace=openat,pwrite64,write,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat";

/// A call that changes what a power loss may leave.
#[derive(Debug, Clone)]
pub enum Call {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Append(PathBuf, Vec<u8>),
    SetLen(PathBuf, u64),
    /// At least so long.
    Allocate(PathBuf, u64),
    Flush(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Has `run` run a program under the command that it is given, and gives the program's calls on the files below a
/// directory, in their order.
pub fn record(dir: &Path, run: impl FnOnce(Command)) -> Vec<Call> {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-xx", "-s", "100000000", "-e", CALLS, "-o"]).arg(out.path());
    run(strace);
    calls(&fs::read_to_string(out.path()).unwrap(), dir)
}

/// Lines of threads that were interrupted by each other's are put together where the call ended.
fn whole_lines(text: &str) -> Vec<String> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start.to_owned());
        } else if let Some((_, end)) = call.split_once(" resumed>") {
            lines.push(begun.remove(thread).unwrap_or_default() + end);
        } else {
            lines.push(call.to_owned());
        }
    }
    lines
}

/// The bytes that `-xx` has printed as hex digits.
fn bytes(hex: &str) -> Vec<u8> {
    hex.split("\\x").skip(1).map(|byte| u8::from_str_radix(&byte[..2], 16).unwrap()).collect()
}

fn path(hex: &str) -> PathBuf {
    PathBuf::from(String::from_utf8(bytes(hex)).unwrap().trim_end_matches(" (deleted)"))
}

fn calls(text: &str, dir: &Path) -> Vec<Call> {
    let mut calls = Vec::new();
    for line in whole_lines(text) {
        let Some((call, result)) = line.rsplit_once(" = ") else { continue };
        let Some((name, rest)) = call.split_once('(').filter(|_| !result.starts_with('-')) else { continue };
        let described = || path(rest.split_once('<').unwrap().1.split_once('>').unwrap().0);
        let quoted: Vec<&str> = rest.split('"').skip(1).step_by(2).collect();
        let number = |nth: usize| -> u64 {
            let word = rest.trim_end().trim_end_matches(')').rsplit(", ").nth(nth).unwrap();
            word.parse().unwrap()
        };
        let found = match name {
            "openat" if rest.contains("O_CREAT") => Call::Create(path(quoted[0])),
            "pwrite64" => Call::Write(described(), number(0), bytes(quoted[0])),
            "write" => Call::Append(described(), quoted.first().map_or(Vec::new(), |hex| bytes(hex))),
            "ftruncate" => Call::SetLen(described(), number(0)),
            "fallocate" => Call::Allocate(described(), number(0) + number(1)),
            "fsync" | "fdatasync" => Call::Flush(described()),
            "rename" | "renameat" | "renameat2" => Call::Rename(path(quoted[0]), path(quoted[1])),
            "link" | "linkat" => Call::Link(path(quoted[0]), path(quoted[1])),
            "unlink" | "unlinkat" => Call::Remove(path(quoted[0])),
            _ => continue,
        };
        let (Call::Create(about)
        | Call::Write(about, ..)
        | Call::Append(about, _)
        | Call::SetLen(about, _)
        | Call::Allocate(about, _)
        | Call::Flush(about)
        | Call::Rename(_, about)
        | Call::Link(_, about)
        | Call::Remove(about)) = &found;
        if about.starts_with(dir) {
            calls.push(found);
        }
    }
    calls
}

/// A change to a file that no flush has covered.
#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    len: usize,
    pending: Vec<Change>,
}

/// A name that is given, or taken away.
#[derive(Clone)]
struct Naming {
    /// The name that goes in the same step.
    from: Option<PathBuf>,
    name: PathBuf,
    file: Option<usize>,
}

/// What of the unflushed survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    Nothing,
    All,
    Some(u64),
}

/// Files as a process sees them, and as they are on the disk.
pub struct Files {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: BTreeMap<PathBuf, Vec<Naming>>,
}

impl Files {
    /// What lies below a directory, all of it durable.
    pub fn of(dir: &Path) -> Files {
        let mut files =
            Files { files: Vec::new(), names: BTreeMap::new(), durable: BTreeMap::new(), pending: BTreeMap::new() };
        for path in paths(dir) {
            let durable = fs::read(&path).unwrap();
            files.names.insert(path, files.files.len());
            files.files.push(Content { len: durable.len(), durable, pending: Vec::new() });
        }
        files.durable = files.names.clone();
        files
    }

    fn name(&mut self, from: Option<PathBuf>, name: PathBuf, file: Option<usize>) {
        from.iter().for_each(|from| _ = self.names.remove(from));
        match file {
            Some(file) => _ = self.names.insert(name.clone(), file),
            None => _ = self.names.remove(&name),
        }
        let directory = name.parent().unwrap().to_path_buf();
        self.pending.entry(directory).or_default().push(Naming { from, name, file });
    }

    fn change(&mut self, path: &Path, change: impl FnOnce(usize) -> Change) {
        // (A file without a name is gone after a power loss, whatever is in it.)
        let Some(file) = self.names.get(path).map(|file| &mut self.files[*file]) else { return };
        let change = change(file.len);
        file.len = match &change {
            Change::Write(at, bytes) => file.len.max(at + bytes.len()),
            Change::SetLen(len) => *len,
        };
        file.pending.push(change);
    }

    pub fn apply(&mut self, call: Call) {
        match call {
            Call::Create(path) if self.names.contains_key(&path) => {}
            Call::Create(path) => {
                self.files.push(Content::default());
                self.name(None, path, Some(self.files.len() - 1));
            }
            Call::Write(path, at, bytes) => self.change(&path, |_| Change::Write(at as usize, bytes)),
            Call::Append(path, bytes) => self.change(&path, |len| Change::Write(len, bytes)),
            Call::SetLen(path, len) => self.change(&path, |_| Change::SetLen(len as usize)),
            Call::Allocate(path, len) => self.change(&path, |old| Change::SetLen(old.max(len as usize))),
            Call::Flush(path) => self.flush(&path),
            Call::Rename(from, to) => {
                let file = self.names[&from];
                self.name(Some(from), to, Some(file));
            }
            Call::Link(from, to) => self.name(None, to, Some(self.names[&from])),
            Call::Remove(path) => self.name(None, path, None),
        }
    }

    fn flush(&mut self, path: &Path) {
        if let Some(file) = self.names.get(path).map(|file| &mut self.files[*file]) {
            file.durable = left(file, Survives::All);
            file.pending.clear();
        }
        let names = self.pending.remove(path).unwrap_or_default();
        names.iter().for_each(|naming| carry_out(&mut self.durable, naming));
    }

    /// Makes the directory what a power loss now may leave of it. (Files stay the same ones: their numbers tell copies apart.)
    pub fn lose_power(&self, dir: &Path, survives: Survives) {
        let mut names = self.durable.clone();
        for (nth, pending) in self.pending.values().enumerate() {
            let kept = match survives {
                Survives::Nothing => 0,
                Survives::All => pending.len(),
                Survives::Some(seed) => Random(seed ^ nth as u64).below(pending.len() + 1),
            };
            pending[..kept].iter().for_each(|naming| carry_out(&mut names, naming));
        }
        paths(dir).iter().filter(|path| !names.contains_key(*path)).for_each(|path| fs::remove_file(path).unwrap());
        for (name, file) in names {
            fs::create_dir_all(name.parent().unwrap()).unwrap();
            fs::write(name, left(&self.files[file], survives)).unwrap();
        }
    }
}

/// All files below a directory.
fn paths(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|entry| if entry.is_dir() { paths(&entry) } else { vec![entry] }).collect()
}

fn carry_out(names: &mut BTreeMap<PathBuf, usize>, naming: &Naming) {
    naming.from.iter().for_each(|from| _ = names.remove(from));
    match naming.file {
        Some(file) => _ = names.insert(naming.name.clone(), file),
        None => _ = names.remove(&naming.name),
    }
}

fn left(file: &Content, survives: Survives) -> Vec<u8> {
    let mut bytes = file.durable.clone();
    for (nth, change) in file.pending.iter().enumerate() {
        let lives = |part: usize| match survives {
            Survives::Nothing => false,
            Survives::All => true,
            Survives::Some(seed) => Random(seed ^ (nth as u64) << 20 ^ part as u64).one_in(2),
        };
        match change {
            Change::SetLen(len) if lives(0) => bytes.resize(*len, 0),
            Change::SetLen(_) => {}
            Change::Write(at, written) => {
                // By sectors of the file: what one write begins in the middle of a sector is torn at its end.
                let mut start = 0;
                while start < written.len() {
                    let end = written.len().min(start + SECTOR - (at + start) % SECTOR);
                    if lives((at + start) / SECTOR) {
                        if bytes.len() < at + end {
                            bytes.resize(at + end, 0);
                        }
                        bytes[at + start..at + end].copy_from_slice(&written[start..end]);
                    }
                    start = end;
                }
            }
        }
    }
    bytes
}
