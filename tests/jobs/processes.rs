//! Workers in several processes, some of them killed. The processes read the time from a file, which the test sets.

use crate::support::{LEASE, SECOND};
use memstone::memory::jobs::{Job, JobError, JobId, JobState, Jobs};
use memstone::memory::{MemoryOptions, Timestamp};
use memstone::{Error, Store};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const PATH: &str = "MEMSTONE_JOBS_TEST_PATH";
const ROLE: &str = "MEMSTONE_JOBS_TEST_ROLE";

fn open(dir: &Path) -> Jobs {
    let clock = dir.join("clock");
    let read = move || {
        let text = std::fs::read_to_string(&clock).unwrap();
        Timestamp::from_micros(text.parse().unwrap())
    };
    Jobs::with(Store::open(dir.join("jobs.mst")).unwrap(), MemoryOptions::new().clock(read))
}

/// The work of a child process. In the other tests' process it does nothing.
#[test]
fn child() {
    let (Ok(dir), Ok(role)) = (std::env::var(PATH), std::env::var(ROLE)) else { return };
    let jobs = open(Path::new(&dir));
    match role.split_once(' ').unwrap_or((&role, "")) {
        ("enqueue", name) => enqueue(&jobs, name),
        ("work", name) => while work(&jobs, name, || ()) {},
        ("hold", name) => {
            // Until the test says that it may go on, or kills this process.
            let wait = || assert!(std::io::stdin().read_line(&mut String::new()).is_ok());
            assert!(work(&jobs, name, wait));
        }
        (role, _) => panic!("{role}"),
    }
}

fn enqueue(jobs: &Jobs, name: &str) {
    for n in 0..40_u32 {
        // Every other one is delayed, and comes with the clock.
        let job = Job::new("first", format!("{name} {n}")).delay(SECOND * (n % 2) * 5);
        println!("\nenqueued {}", jobs.enqueue(name, job).unwrap().id);
    }
}

/// One job: adds one to what the table `effects` has of it, and makes another job of it, in the transaction that
/// finishes it.
fn work(jobs: &Jobs, name: &str, think: impl FnOnce()) -> bool {
    let Some(claim) = jobs.claim(name, &["first", "second"], LEASE).unwrap() else { return false };
    println!("\nclaimed {}", claim.id);
    think();
    let done = jobs.complete(&claim, |tx| {
        tx.raw("effects")?
            .update(&claim.id.as_u64().to_be_bytes(), |count| Some(vec![count.map_or(0, |count| count[0]) + 1]))?;
        if claim.queue == "first" {
            jobs.on(tx)?.enqueue(claim.namespace.clone(), Job::new("second", claim.payload.clone()))?;
        }
        Ok::<_, JobError>(())
    });
    match done {
        Ok(()) => println!("\ndone {}", claim.id),
        Err(JobError::Lost { .. }) => println!("\nlost {}", claim.id),
        Err(error) => panic!("{error}"),
    }
    true
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// The number in the next line that begins with this word; `None` when the process has ended.
    fn next(&mut self, word: &str) -> Option<JobId> {
        self.lines.by_ref().find_map(|line| line.unwrap().strip_prefix(word)?.trim().parse().ok())
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

struct World {
    dir: tempfile::TempDir,
    jobs: Jobs,
    now: u64,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        set_clock(dir.path(), 1_700_000_000_000_000);
        World { jobs: open(dir.path()), now: 1_700_000_000_000_000, dir }
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration.as_micros() as u64;
        set_clock(self.dir.path(), self.now);
    }

    fn start(&self, role: &str) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "processes::child", "--nocapture"]).env(PATH, self.dir.path()).env(ROLE, role);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Process { child, lines }
    }

    /// How often each job has had its effect.
    fn effects(&self) -> Vec<(JobId, u8)> {
        let snapshot = self.jobs.store().read().unwrap();
        let rows = snapshot.raw("effects").unwrap().range(..).unwrap();
        let effect = |row: Result<(memstone::Bytes<'_>, memstone::Bytes<'_>), Error>| {
            let (key, count) = row.unwrap();
            (JobId::from_u64(u64::from_be_bytes(*key.first_chunk().unwrap())), count[0])
        };
        rows.map(effect).collect()
    }

    fn is_clean(&self) {
        let report = self.jobs.check().unwrap();
        assert!(report.is_clean(), "{report:#?}");
    }
}

fn set_clock(dir: &Path, micros: u64) {
    let new: PathBuf = dir.join("clock.new");
    std::fs::write(&new, micros.to_string()).unwrap();
    std::fs::rename(&new, dir.join("clock")).unwrap();
}

#[test]
fn killed_workers_lose_no_job_and_none_has_its_effect_twice() {
    let mut world = World::new();
    let mut enqueuing: Vec<Process> = (0..3).map(|n| world.start(&format!("enqueue {n}"))).collect();
    let mut ids = BTreeSet::new();
    // One of them is killed, too: what it was told is there.
    let mut killed = enqueuing.pop().unwrap();
    ids.extend((0..10).map(|_| killed.next("enqueued").unwrap()));
    killed.kill();
    for round in 1..4 {
        let mut workers: Vec<Process> = (0..3).map(|n| world.start(&format!("work {round}.{n}"))).collect();
        for (n, mut worker) in workers.drain(..).enumerate() {
            for _ in 0..n * 5 + round {
                worker.next("claimed");
            }
            worker.kill();
        }
        world.is_clean();
        world.pass(LEASE);
    }
    for mut process in enqueuing {
        ids.extend(std::iter::from_fn(|| process.next("enqueued")));
        process.end();
    }
    assert_eq!(ids.len(), 90);
    // Two at once finish the rest, in two passes: what they make in the second queue may come after one has ended.
    for _ in 0..2 {
        world.pass(LEASE);
        let workers: Vec<Process> = (0..2).map(|n| world.start(&format!("work last.{n}"))).collect();
        for mut worker in workers {
            while worker.next("claimed").is_some() {}
            worker.end();
        }
    }
    world.is_clean();
    let effects = world.effects();
    let done: BTreeSet<JobId> = effects.iter().map(|(id, _)| *id).collect();
    assert!(effects.iter().all(|(_, count)| *count == 1), "{effects:?}");
    assert!(ids.is_subset(&done), "every acknowledged job was done");
    // What was enqueued by a process that was killed before it could say so was done, too.
    assert_eq!(world.jobs.lanes().unwrap(), []);
    assert_eq!(effects.len() % 2, 0, "each first job has made one second job");
    assert!(effects.len() >= 180, "{}", effects.len());
}

#[test]
fn a_job_of_a_killed_worker_is_taken_over_after_its_lease_and_not_before() {
    let mut world = World::new();
    let id = world.jobs.enqueue("ada", Job::new("first", "1")).unwrap().id;
    let mut holder = world.start("hold one");
    assert_eq!(holder.next("claimed"), Some(id));
    holder.kill();
    assert!(world.jobs.claim("two", &["first"], LEASE).unwrap().is_none());
    let job = world.jobs.get(id).unwrap().unwrap();
    assert!(matches!(job.state, JobState::Running { .. }) && job.worker.as_deref() == Some("one"));
    world.pass(LEASE);
    let claim = world.jobs.claim("two", &["first"], LEASE).unwrap().unwrap();
    assert_eq!((claim.id, claim.attempt), (id, 2));
    world.is_clean();
}

#[test]
fn a_worker_that_wakes_up_too_late_is_refused() {
    let mut world = World::new();
    let id = world.jobs.enqueue("ada", Job::new("first", "1")).unwrap().id;
    let mut late = world.start("hold late");
    assert_eq!(late.next("claimed"), Some(id));
    world.pass(LEASE);
    let mut other = world.start("work other");
    assert_eq!(other.next("claimed"), Some(id));
    while other.next("claimed").is_some() {}
    other.end();
    assert_eq!(world.effects().len(), 2, "the job and the one that it made");
    late.child.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    assert_eq!(late.next("lost"), Some(id));
    late.end();
    assert!(world.effects().iter().all(|(_, count)| *count == 1));
    assert_eq!(world.jobs.lanes().unwrap(), []);
    world.is_clean();
}
