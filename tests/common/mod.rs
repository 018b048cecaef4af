//! What the tests of real processes share: stores that are checked when they are dropped, and
//! children, which are this test binary run again in another role.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, unreachable_pub)]

pub mod cost;
pub mod random;
pub mod skip;

#[allow(unused_imports, reason = "some of the programs that share this module draw nothing")]
pub use random::Random;
#[allow(unused_imports, reason = "some of the programs that share this module skip nothing")]
pub use skip::skip;

use memstone::{Bytes, CheckOptions, Store};
use std::fmt::Display;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const ROLE: &str = "MEMSTONE_TEST_ROLE";
/// What separates the words of a role.
const SEPARATOR: char = '\u{1f}';
/// What a child says begins with this, so that the harness' own lines are told from it.
const MARK: &str = "@ ";
const PANIC: &str = "panic: ";
/// Nothing that a test waits for takes longer, unless a process is stuck.
pub const STUCK: Duration = Duration::from_secs(60);

/// A store in a directory of its own, opened and checked in full when the test ends.
pub struct TestStore {
    pub dir: tempfile::TempDir,
    pub path: PathBuf,
    _turn: Turn,
}

/// Tests with many processes, or that count what the whole process does, run alone, all others beside each other.
#[allow(dead_code)]
enum Turn {
    Beside(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

static TURN: RwLock<()> = RwLock::new(());

impl TestStore {
    pub fn new() -> TestStore {
        TestStore::with(Turn::Beside(TURN.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// No other test with a store of this kind runs meanwhile.
    pub fn alone() -> TestStore {
        TestStore::with(Turn::Alone(TURN.write().unwrap_or_else(PoisonError::into_inner)))
    }

    /// In a directory below `parent`, or, if there is none, where the others are.
    pub fn new_in(parent: &Path) -> TestStore {
        let turn = Turn::Beside(TURN.read().unwrap_or_else(PoisonError::into_inner));
        let dir = tempfile::tempdir_in(parent).or_else(|_| tempfile::tempdir()).unwrap();
        TestStore::at(dir, turn)
    }

    fn with(turn: Turn) -> TestStore {
        TestStore::at(tempfile::tempdir().unwrap(), turn)
    }

    fn at(dir: tempfile::TempDir, turn: Turn) -> TestStore {
        let path = dir.path().join("memory.mst");
        TestStore { dir, path, _turn: turn }
    }

    pub fn open(&self) -> Store {
        Store::open(&self.path).unwrap()
    }

    pub fn sidecar(&self) -> PathBuf {
        sidecar_of(&self.path)
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.path.exists() {
            check(&self.path);
        }
        if std::thread::panicking() {
            // What a failed test leaves is kept, to be looked into.
            let kept = std::env::temp_dir().join(format!("memstone-failed-{}", std::process::id()));
            let _ = std::fs::create_dir_all(&kept);
            let _ = std::fs::copy(&self.path, kept.join("memory.mst"));
            let _ = std::fs::copy(sidecar_of(&self.path), kept.join("memory.mst-shm"));
            eprintln!("the store was kept in {}", kept.display());
        }
    }
}

pub fn sidecar_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-shm");
    name.into()
}

/// Verifies the file as it lies there, and again after it was opened and its log was checkpointed, which
/// must change nothing that is read, forward or backward.
pub fn check(path: &Path) {
    verify(path);
    let store = Store::open(path).unwrap();
    let before = digest(&store);
    store.checkpoint().unwrap();
    assert!(digest(&store) == before, "checkpointing the log changed what is read");
    verify(path);
    store.close().unwrap();
    verify(path);
}

fn verify(path: &Path) {
    let report = memstone::check(path, &CheckOptions::new()).unwrap();
    assert!(report.is_clean(), "{report:#?}");
}

/// Each table's name, its number of rows, and a hash of them.
fn digest(store: &Store) -> Vec<(String, u64, u32)> {
    let snap = store.read().unwrap();
    let tables = snap.tables().unwrap().into_iter().map(|info| {
        let table = snap.untyped(&info.name).unwrap();
        let hash = |rows: &mut dyn Iterator<Item = memstone::Result<(Bytes<'_>, Bytes<'_>)>>| {
            let mut last: Option<Vec<u8>> = None;
            let (mut count, mut sum, mut ascends) = (0, 0_u32, 0_u64);
            for row in rows {
                let (key, value) = row.unwrap();
                let mut hasher = crc32fast::Hasher::new();
                hasher.update(&key);
                hasher.update(&value);
                sum ^= hasher.finalize();
                ascends += u64::from(last.as_deref().is_some_and(|last| last < &key[..]));
                last = Some(key.to_vec());
                count += 1;
            }
            (count, sum, ascends)
        };
        let forward = hash(&mut table.prefix(b"").unwrap());
        let backward = hash(&mut table.prefix(b"").unwrap().rev());
        assert_eq!((forward.0, forward.1), (backward.0, backward.1), "{} reads otherwise backwards", info.name);
        assert_eq!((forward.0, forward.2, backward.2), (info.entries, info.entries.saturating_sub(1), 0));
        (info.name, forward.0, forward.1)
    });
    tables.collect()
}

/// What a child can be: a name, and what it does with the words that come with it.
pub type Role = (&'static str, fn(&[String]));

/// What this process is asked to be, if it is a child.
pub fn role() -> Option<Vec<String>> {
    let role = std::env::var(ROLE).ok()?;
    Some(role.split(SEPARATOR).map(str::to_owned).collect())
}

/// To be called by a test named `child_entry`: plays the role that the parent asked for.
pub fn play(roles: &[&[Role]]) {
    let Some(words) = role() else { return };
    let (_, body) = roles
        .iter()
        .copied()
        .flatten()
        .find(|(name, _)| *name == words[0])
        .unwrap_or_else(|| panic!("role {}", words[0]));
    // Said before anything else is done about it: a parent that kills its children must hear of it.
    std::panic::set_hook(Box::new(|panic| tell(format!("{PANIC}{}", panic.to_string().replace('\n', " ")))));
    body(&words[1..]);
    std::io::stdout().flush().unwrap();
}

/// A child's word to its parent.
pub fn tell(what: impl Display) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{MARK}{what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// A parent's word to this child; empty when the parent has no more to say.
pub fn listen() -> String {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// A flag that turns true when the parent says anything, or is gone.
pub fn stop_flag() -> std::sync::Arc<std::sync::atomic::AtomicBool> {
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let setter = flag.clone();
    std::thread::spawn(move || {
        listen();
        setter.store(true, std::sync::atomic::Ordering::Release);
    });
    flag
}

/// Another process. Killed when dropped.
pub struct Child {
    pub process: std::process::Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<Option<String>>>,
    role: String,
    waited: bool,
}

impl Child {
    pub fn start(role: &str, words: &[&dyn Display]) -> Child {
        Child::start_by(Command::new(std::env::current_exe().unwrap()), role, words)
    }

    /// Starts it through another command, to which the child's own is appended.
    pub fn start_by(mut command: Command, role: &str, words: &[&dyn Display]) -> Child {
        let mut all = role.to_owned();
        for word in words {
            all.push(SEPARATOR);
            all.push_str(&word.to_string());
        }
        command.args(["--exact", "child_entry", "--nocapture", "--test-threads=1"]).env(ROLE, all);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let out = std::io::BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            let mut panic = None;
            for line in out.lines().map_while(Result::ok) {
                // The harness prints the test's name without an end of line.
                let Some(at) = line.find(MARK) else { continue };
                let word = &line[at + MARK.len()..];
                match word.strip_prefix(PANIC) {
                    // The first of a thread; what follows is its scope's.
                    Some(_) => drop(panic.get_or_insert_with(|| word.to_owned())),
                    None => drop(sender.send(word.to_owned())),
                }
            }
            panic
        });
        Child { process, lines, reader: Some(reader), role: role.to_owned(), waited: false }
    }

    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// The child's next word.
    pub fn hear(&self) -> String {
        self.lines.recv_timeout(STUCK).unwrap_or_else(|e| panic!("{} says nothing: {e}", self.role))
    }

    /// The child's next word, if it has said one.
    pub fn heard(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    pub fn say(&mut self, what: &str) {
        let stdin = self.process.stdin.as_mut().unwrap();
        stdin.write_all(format!("{what}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so its id is its own.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0, "{}", std::io::Error::last_os_error());
    }

    /// SIGSTOP, and waits until all of its threads stand still: until then a system call that is under way may end,
    /// and take a lock that was given back meanwhile.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(self.pid(), &raw mut status, libc::WUNTRACED) }, self.pid());
        assert!(libc::WIFSTOPPED(status), "{} ended: {status}", self.role);
    }

    /// Fails if the child has ended by itself, and says why.
    pub fn must_run(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            self.waited = true;
            self.no_panic();
            panic!("{} {} ended by itself: {status}", self.role, self.process.id());
        }
    }

    /// SIGKILL, and waits for the end. Fails if the child had failed by itself.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
        self.waited = true;
        self.no_panic();
    }

    fn no_panic(&mut self) {
        if let Some(reader) = self.reader.take()
            && let Some(panic) = reader.join().unwrap()
        {
            panic!("{} {}: {panic}", self.role, self.process.id());
        }
    }

    /// Waits for its good end; gives what it still had to say.
    pub fn finish(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            give_up_after(started + STUCK, &format!("{} does not end", self.role));
            std::thread::sleep(Duration::from_millis(2));
        };
        self.waited = true;
        self.no_panic();
        assert!(status.success(), "{} failed: {status}", self.role);
        let mut heard = Vec::new();
        while let Ok(line) = self.lines.try_recv() {
            heard.push(line);
        }
        heard
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.waited {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// A number from the environment, for longer runs.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

pub fn long_run() -> bool {
    std::env::var_os("MEMSTONE_LONG").is_some()
}

pub fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

/// Ends a wait for something that never comes.
#[track_caller]
pub fn give_up_after(started: Instant, what: &str) {
    assert!(started.elapsed() < STUCK, "stuck: {what}"); // a hang
}
