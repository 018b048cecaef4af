//! The demo's processes, as their parent sees them.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::worker::{Message, Role};
use crate::failure::Failure;

/// How long the processes may take to start, and to end after their time is over.
const WORKER_WAIT: Duration = Duration::from_secs(60);

/// What a process told.
#[derive(Default)]
pub(super) struct Told {
    /// Commits that returned, which are the notes 0 to this number.
    pub(super) acknowledged: u64,
    /// Snapshots read or commits seen.
    pub(super) seen: u64,
    pub(super) waited: Duration,
    pub(super) longest_wait: Duration,
    pub(super) longest_commit: Duration,
    pub(super) broken: Vec<String>,
}

impl Told {
    fn note(&mut self, message: Message) {
        match message {
            Message::Ready => {}
            Message::Committed { number, waited, took } => {
                if number != self.acknowledged {
                    self.broken.push(format!("commit {number} was acknowledged after {} others", self.acknowledged));
                }
                self.acknowledged += 1;
                self.waited += waited;
                self.longest_wait = self.longest_wait.max(waited);
                self.longest_commit = self.longest_commit.max(took);
            }
            Message::Seen(count) => self.seen = count,
            Message::Broken(what) => self.broken.push(what),
        }
    }
}

/// A process that has ended.
pub(super) struct Member {
    pub(super) role: Role,
    pub(super) id: u32,
    pub(super) pid: u32,
    pub(super) killed: bool,
    pub(super) told: Told,
}

struct Running {
    role: Role,
    id: u32,
    killed: bool,
    child: Child,
    told: Arc<Mutex<Told>>,
    listener: JoinHandle<()>,
}

/// All processes of a demo. Dropped before its end, it takes them along.
pub(super) struct Team(Vec<Running>);

impl Team {
    /// Starts all, and lets them go at once when all have opened the store.
    pub(super) fn start(file: &Path, writers: u32, time: Duration, docs: Option<&Path>) -> Result<Team, Failure> {
        let roles = (1..=writers).map(|id| (Role::Writer, id)).chain([(Role::Reader, 0), (Role::Watcher, 0)]);
        let (ready, readiness) = channel();
        let mut team = Team(Vec::new());
        for (role, id) in roles {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("demo-worker").arg("--file").arg(file).args(["--id", &id.to_string()]);
            command.args([
                "--role",
                role.to_possible_value().map_or(String::new(), |name| name.get_name().to_owned()).as_str(),
            ]);
            command.args(["--seconds", &time.as_secs_f64().to_string()]);
            if let Some(docs) = docs {
                command.arg("--docs").arg(docs);
            }
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let output = child.stdout.take().ok_or(Failure::Other("a process without output".to_owned()))?;
            let told = Arc::new(Mutex::new(Told::default()));
            let (ready, notes) = (ready.clone(), Arc::clone(&told));
            let listener = thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    match Message::parse(&line) {
                        Some(Message::Ready) => drop(ready.send(())),
                        // A line that a kill has cut off tells nothing.
                        Some(message) => lock(&notes).note(message),
                        None => {}
                    }
                }
            });
            team.0.push(Running { role, id, killed: false, child, told, listener });
        }
        drop(ready);
        team.wait_until_ready(&readiness)?;
        for member in &mut team.0 {
            let mut input = member.child.stdin.take().ok_or(io::Error::from(io::ErrorKind::BrokenPipe))?;
            input.write_all(b"go\n")?;
        }
        Ok(team)
    }

    fn wait_until_ready(&self, readiness: &Receiver<()>) -> Result<(), Failure> {
        let late = || Failure::Other("a process of the demo did not start".to_owned());
        self.0.iter().try_for_each(|_| readiness.recv_timeout(WORKER_WAIT).map_err(|_| late()))
    }

    /// Kills the first writer (SIGKILL), wherever it is.
    pub(super) fn kill_first(&mut self) -> Result<(), Failure> {
        if let Some(member) = self.0.first_mut() {
            member.child.kill()?;
            member.killed = true;
        }
        Ok(())
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.0.iter().map(|member| lock(&member.told).acknowledged).sum()
    }

    /// Waits for the end of all.
    pub(super) fn finish(mut self) -> Vec<Member> {
        let end = Instant::now() + WORKER_WAIT;
        let members = std::mem::take(&mut self.0).into_iter().map(|mut running| {
            let ended = wait(&mut running.child, end);
            // The output ends with the process, and so does its listener.
            let _ = running.listener.join();
            let mut told = std::mem::take(&mut *lock(&running.told));
            match ended {
                Ok(Some(status)) if status.success() || running.killed => {}
                Ok(Some(status)) => told.broken.push(format!("ended with {status}")),
                Ok(None) => told.broken.push("did not end in time".to_owned()),
                Err(error) => told.broken.push(error.to_string()),
            }
            let Running { role, id, killed, child, .. } = running;
            Member { role, id, pid: child.id(), killed, told }
        });
        members.collect()
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        for running in &mut self.0 {
            // It may have ended by itself.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// The process' exit status; if it has not ended by `end` it is killed.
fn wait(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A listener that panicked has told what it told.
fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
