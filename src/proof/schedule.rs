//! Several processes on one file, in every order, killed at any call.
//!
//! Each simulated process has its own engine, and one thread or several that share it. One thread runs at a time; at each call of the
//! platform, reads and writes of shared memory among them, and where one of several threads takes a
//! lock within its process, the scheduler may let another go on. All
//! choices come from a seed, and time is simulated: it passes with each call, and leaps when all sleep.
//!
//! `oracle` says what must hold meanwhile. At the end all pages are checked, and power losses at some
//! points of the run must leave what was acknowledged before them.

use super::model::{Kind, Step, steps};
use super::oracle::{Oracle, forgive};
use super::{effort, new_store};
use crate::disk::sim::threads;
use crate::disk::sim::{Call, Conductor, Free, Killed, Rng, SimDisk, Verdict, World, is_traced, trace};
use crate::txn::snapshot::Snapshot;
use crate::{Error, Store};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A run that takes more calls than this goes round in circles.
const MOST_CALLS: usize = 300_000;
const LOG_CAP: u64 = 64 << 10;
/// If all would sleep so long, in µs, they wait for each other: nobody sleeps so long on purpose.
const FOR_EVER: u64 = 10_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    /// Until that time, or until the word is woken.
    Asleep(u64, Option<(usize, usize)>),
    Gone,
}

/// A thread, and the only one of its process, or the first, or a later one.
struct Player {
    status: Status,
    /// Its process was killed.
    dead: bool,
    /// Of the first thread of a process.
    disk: Option<Arc<SimDisk>>,
    turn: Arc<Condvar>,
}

struct Plan {
    rng: Rng,
    now_us: u64,
    running: Option<usize>,
    /// The first threads of all processes, then the second ones, and so on.
    players: Vec<Player>,
    processes: usize,
    calls: usize,
    /// One call in so many lets another process go on, puts this one to sleep, kills it.
    switch: usize,
    stall: usize,
    kill: usize,
    kills: usize,
    /// One flush, and one write, in so many fails.
    fault: usize,
    faults: usize,
    failure: Option<String>,
}

struct Scheduler {
    plan: Mutex<Plan>,
}

impl Scheduler {
    fn new(count: usize, threads: usize, mut rng: Rng, faults: bool) -> Arc<Scheduler> {
        let player = |number| {
            let status = if number < count { Status::Ready } else { Status::Gone };
            Player { status, dead: false, disk: None, turn: Arc::new(Condvar::new()) }
        };
        let switch = [2, 6, 20, 80, 400][rng.below(5)];
        let stall = [100, 1000, 1_000_000][rng.below(3)];
        let kill = [300, 3000, 1_000_000][rng.below(3)];
        // Faults are in the schedules only when they are asked for: see `docs/PROOF.md`.
        let often = [10, 60, usize::MAX, usize::MAX][rng.below(4)];
        let fault = if faults { often } else { usize::MAX };
        let plan = Plan {
            rng,
            now_us: 5_000_000,
            running: None,
            players: (0..count * threads).map(player).collect(),
            processes: count,
            calls: 0,
            switch,
            stall,
            kill,
            kills: 0,
            fault,
            faults: 0,
            failure: None,
        };
        Arc::new(Scheduler { plan: Mutex::new(plan) })
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses who goes on, and waits until it is this one's turn again. Gives whether it is dead by then.
    fn pause(&self, mut plan: MutexGuard<'_, Plan>, player: usize) -> bool {
        plan.choose();
        let turn = Arc::clone(&plan.players[player].turn);
        while plan.running != Some(player) {
            plan = turn.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        plan.players[player].status = Status::Ready;
        plan.players[player].dead
    }

    fn give_way(&self, plan: MutexGuard<'_, Plan>, player: usize) {
        if self.pause(plan, player) && !std::thread::panicking() {
            resume_unwind(Box::new(Killed));
        }
    }

    /// Another thread of a process begins.
    fn start(&self, player: usize, first: usize) {
        let mut plan = self.plan();
        plan.players[player].dead = plan.players[first].dead;
        plan.players[player].status = Status::Ready;
    }

    /// Waits until these have left.
    fn see_off(&self, player: usize, others: &[usize]) {
        for times in 0.. {
            let mut plan = self.plan();
            if others.iter().all(|other| plan.players[*other].status == Status::Gone) {
                return;
            }
            plan.players[player].status = Status::Asleep(plan.now_us + (1 << times.min(12)), None);
            self.pause(plan, player);
        }
    }

    /// The first turn of a process.
    fn enter(&self, process: usize) {
        let mut plan = self.plan();
        let turn = Arc::clone(&plan.players[process].turn);
        while plan.running != Some(process) {
            plan = turn.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A process ends.
    fn leave(&self, process: usize) {
        let mut plan = self.plan();
        plan.players[process].status = Status::Gone;
        plan.players[process].disk = None;
        plan.choose();
    }

    /// Something is wrong: all stop.
    fn fail(&self, message: String) {
        self.plan().fail(message);
    }

    fn round_in_circles(&self, player: usize) {
        let place = if is_traced() { std::backtrace::Backtrace::force_capture().to_string() } else { String::new() };
        self.fail(format!("no end in sight for process {player} {place}"));
        if !std::thread::panicking() {
            resume_unwind(Box::new(Killed));
        }
    }
}

impl Plan {
    fn fail(&mut self, message: String) {
        self.failure.get_or_insert(message);
        for player in &mut self.players {
            player.dead = true;
        }
    }

    fn choose(&mut self) {
        let ready = |plan: &Plan| -> Vec<usize> {
            let awake = |status| match status {
                Status::Ready => true,
                Status::Asleep(until, _) => until <= plan.now_us,
                Status::Gone => false,
            };
            (0..plan.players.len()).filter(|i| awake(plan.players[*i].status)).collect()
        };
        let mut candidates = ready(self);
        if candidates.is_empty() {
            let next = self.players.iter().filter_map(|p| match p.status {
                Status::Asleep(until, _) => Some(until),
                _ => None,
            });
            let Some(next) = next.min() else {
                self.running = None;
                return;
            };
            if next > self.now_us + FOR_EVER {
                self.fail("all wait for each other".to_owned());
            }
            self.now_us = self.now_us.max(next);
            candidates = ready(self);
        }
        let next = candidates[self.rng.below(candidates.len())];
        self.running = Some(next);
        self.players[next].turn.notify_one();
    }
}

impl Conductor for Scheduler {
    fn before(&self, process: usize, call: Call) -> Verdict {
        let process = threads::number().unwrap_or(process);
        let mut plan = self.plan();
        if process >= plan.players.len() {
            return Verdict::Go;
        }
        if plan.players[process].dead {
            drop(plan);
            if !std::thread::panicking() {
                resume_unwind(Box::new(Killed));
            }
            return Verdict::Fail(libc::EIO);
        }
        plan.calls += 1;
        plan.now_us += 1;
        if plan.calls > MOST_CALLS {
            drop(plan);
            self.round_in_circles(process);
            return Verdict::Fail(libc::EIO);
        }
        let (switch, stall, kill) = (plan.switch, plan.stall, plan.kill);
        if plan.rng.one_in(kill) && plan.kills < 6 && !std::thread::panicking() {
            plan.kills += 1;
            trace!("call {}: process {process} is killed at {call:?}", plan.calls);
            let first = process % plan.processes;
            for player in (first..plan.players.len()).step_by(plan.processes) {
                plan.players[player].dead = true;
                if let Status::Asleep(..) = plan.players[player].status {
                    plan.players[player].status = Status::Ready;
                }
            }
            if call == Call::Write {
                let part = plan.rng.below(65537);
                return Verdict::Part(part, 0);
            }
            let disk = plan.players[first].disk.clone();
            drop(plan);
            if let Some(disk) = disk {
                disk.kill();
            }
            resume_unwind(Box::new(Killed));
        }
        if plan.rng.one_in(stall) {
            let most = if plan.rng.one_in(30) { 2_000_000 } else { [300, 20_000][plan.rng.below(2)] };
            let until = plan.now_us + plan.rng.below(most) as u64;
            plan.players[process].status = Status::Asleep(until, None);
            self.give_way(plan, process);
        } else if plan.rng.one_in(switch) {
            self.give_way(plan, process);
        } else {
            drop(plan);
        }
        let mut plan = self.plan();
        let (fault, fine) = (plan.fault, plan.players.get(process).is_none_or(|p| p.dead));
        if fine || !matches!(call, Call::Flush | Call::Write) || !plan.rng.one_in(fault) {
            return Verdict::Go;
        }
        plan.faults += 1;
        trace!("call {}: process {process}: {call:?} fails", plan.calls);
        match call {
            Call::Flush => Verdict::Fail(libc::EIO),
            _ if plan.rng.one_in(2) => Verdict::Fail(libc::ENOSPC),
            _ => Verdict::Part(plan.rng.below(65536), libc::ENOSPC),
        }
    }

    fn sleep(&self, process: usize, time: Duration) {
        self.wait(process, (usize::MAX, 0), time);
    }

    fn wait(&self, process: usize, word: (usize, usize), time: Duration) {
        let process = threads::number().unwrap_or(process);
        let mut plan = self.plan();
        if process >= plan.players.len() || plan.players[process].dead {
            return;
        }
        plan.calls += 1;
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(1 << 40);
        plan.players[process].status = Status::Asleep(plan.now_us + 1 + micros, Some(word));
        self.give_way(plan, process);
    }

    fn wake(&self, process: usize, word: (usize, usize)) {
        let process = threads::number().unwrap_or(process);
        let mut plan = self.plan();
        if process < plan.players.len() && plan.players[process].dead {
            return;
        }
        for process in &mut plan.players {
            if matches!(process.status, Status::Asleep(_, Some(on)) if on == word) {
                process.status = Status::Ready;
            }
        }
        drop(plan);
        let _ = self.before(process, Call::Memory);
    }

    fn contend(&self, player: usize, times: u32) {
        let mut plan = self.plan();
        plan.calls += 1;
        if plan.calls > MOST_CALLS {
            drop(plan);
            self.round_in_circles(player);
            plan = self.plan();
        }
        plan.players[player].status = Status::Asleep(plan.now_us + (1 << times.min(12)), None);
        self.give_way(plan, player);
    }

    fn now_ms(&self) -> u64 {
        self.plan().now_us / 1000
    }
}

/// What a caller may be told, by a disk that fails or one that does not.
fn forgiven(faulty: bool) -> fn(&Error) -> bool {
    if faulty { super::fault::is_clean } else { |_| false }
}

struct Actor {
    world: Arc<World>,
    scheduler: Arc<Scheduler>,
    oracle: Arc<Oracle>,
    process: usize,
    /// Which of the process' threads it is: one of so many.
    thread: usize,
    threads: usize,
    rng: Rng,
    /// Whether it damages and removes the sidecar.
    spoils: bool,
}

impl Actor {
    /// The number that the scheduler knows it by.
    fn player(&self) -> usize {
        self.process + self.thread * self.scheduler.plan().processes
    }

    /// One life of the process. Ends by itself or is killed.
    fn live(&mut self, actions: usize) -> Result<(), String> {
        let disk = self.world.disk(self.process);
        self.scheduler.plan().players[self.process].disk = Some(Arc::clone(&disk));
        let faulty = self.scheduler.plan().fault < usize::MAX;
        let store = match Store::on_disk(Arc::clone(&disk) as _, super::settings(LOG_CAP)) {
            Ok(store) => store,
            Err(e) => return forgive(Err(e), forgiven(faulty), "open"),
        };
        if self.threads == 1 { self.act(store, actions, faulty) } else { self.act_in_threads(store, actions, faulty) }
    }

    fn act_in_threads(&mut self, store: Store, actions: usize, faulty: bool) -> Result<(), String> {
        let others: Vec<Actor> = (1..self.threads)
            .map(|thread| {
                let (world, scheduler) = (Arc::clone(&self.world), Arc::clone(&self.scheduler));
                let (oracle, rng) = (Arc::clone(&self.oracle), Rng(self.rng.next()));
                Actor { world, scheduler, oracle, thread, rng, ..*self }
            })
            .collect();
        let numbers: Vec<usize> = others.iter().map(Actor::player).collect();
        let first = self.player();
        std::thread::scope(|scope| {
            for mut other in others {
                let store = store.clone();
                self.scheduler.start(other.player(), first);
                scope.spawn(move || {
                    threads::play(Arc::clone(&other.scheduler) as _, other.player());
                    other.scheduler.enter(other.player());
                    let outcome = catch_unwind(AssertUnwindSafe(|| other.act(store, actions, faulty)));
                    other.judge(outcome);
                    other.scheduler.leave(other.player());
                });
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| self.act(store, actions, faulty)));
            self.scheduler.see_off(first, &numbers);
            outcome.unwrap_or_else(|killed| resume_unwind(killed))
        })
    }

    fn act(&mut self, store: Store, actions: usize, faulty: bool) -> Result<(), String> {
        let forgiven = forgiven(faulty);
        let mut floor = 0;
        let mut kept: Vec<(Snapshot, usize)> = Vec::new();
        for _ in 0..actions {
            match self.rng.below(20) {
                0 => forgive(store.checkpoint(), forgiven, "checkpoint")?,
                1 => forgive(store.flush(), forgiven, "flush")?,
                // The sidecar keeps the memory of a failed flush from one process to the next.
                2 if self.spoils && !faulty => {
                    self.oracle.known().hints_lost = true;
                    match self.world.sidecar() {
                        Some(words) if self.rng.one_in(2) => words.spoil(&mut self.rng),
                        _ => self.world.remove_sidecar(),
                    }
                }
                3..=9 => {
                    // Without hints a reader may be a second late, but never goes back.
                    let seen =
                        Some(self.oracle.known()).filter(|known| !known.hints_lost).map_or(0, |known| known.seen);
                    let least = seen.max(floor);
                    let snapshot = match store.read() {
                        Ok(snapshot) => snapshot,
                        Err(e) => {
                            forgive(Err(e), forgiven, "read")?;
                            continue;
                        }
                    };
                    let (number, found) = self.oracle.look(&snapshot, least)?;
                    floor = number;
                    if !faulty {
                        self.oracle.note_shown(found);
                    }
                    if self.rng.one_in(2) {
                        kept.push((snapshot, found));
                    }
                    if kept.len() > 3 || self.rng.one_in(4) {
                        kept.pop();
                    }
                }
                10 if !kept.is_empty() => {
                    let (snapshot, id) = &kept[self.rng.below(kept.len())];
                    self.oracle.is_still(snapshot, *id)?;
                }
                _ => floor = floor.max(self.write(&store, forgiven)?),
            }
        }
        drop(kept);
        forgive(store.close(), forgiven, "close")
    }

    fn write(&mut self, store: &Store, forgiven: fn(&Error) -> bool) -> Result<usize, String> {
        let (changes, durability) = loop {
            let kind = [Kind::Mixed, Kind::Single, Kind::Relaxed][self.rng.below(3)];
            if let Some(Step::Commit(changes, durability)) = steps(kind, &mut self.rng, 1).pop() {
                break (changes, durability);
            }
        };
        let n = self.oracle.write(store, changes, durability, forgiven)?;
        trace!("process {}: commit {n} {durability:?} acknowledged (0: it failed)", self.process);
        Ok(n)
    }

    fn run(mut self, lives: usize, actions: usize) {
        if self.threads > 1 {
            threads::play(Arc::clone(&self.scheduler) as _, self.process);
        }
        self.scheduler.enter(self.process);
        for _ in 0..lives {
            self.scheduler.plan().players[self.process].dead = false;
            if self.scheduler.plan().failure.is_some() {
                break;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| self.live(actions)));
            self.judge(outcome);
        }
        self.scheduler.leave(self.process);
    }

    fn judge(&self, outcome: std::thread::Result<Result<(), String>>) {
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(message)) => {
                // A process that was killed at the very end of a call may still get an answer.
                let player = self.player();
                if !self.scheduler.plan().players[player].dead {
                    self.scheduler.fail(format!("process {}: {message}", self.process));
                }
            }
            Err(payload) if payload.is::<Killed>() => {}
            Err(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                self.scheduler.fail(format!("process {}: panic: {text:?}", self.process));
            }
        }
    }
}

/// One run. Gives the number of commits, kills and calls, and of power losses looked at.
fn run(seed: u64, threads: usize, faults: bool) -> Result<(usize, usize, usize, usize), String> {
    let mut rng = Rng(seed);
    let count = if threads == 1 { 2 } else { 1 } + rng.below(3);
    let scheduler = Scheduler::new(count, threads, Rng(rng.next()), faults);
    let (empty, _, _) = new_store(Arc::new(Free), LOG_CAP);
    let world = World::new(empty.image(), Arc::clone(&scheduler) as _);
    world.record();
    let spoils = rng.one_in(2);
    let oracle = Arc::new(Oracle::new(&world));
    let (lives, actions) = (1 + rng.below(3), 4 + rng.below(14));
    std::thread::scope(|scope| {
        for process in 0..count {
            let (world, scheduler, oracle) = (Arc::clone(&world), Arc::clone(&scheduler), Arc::clone(&oracle));
            let actor = Actor { world, scheduler, oracle, process, thread: 0, threads, rng: Rng(rng.next()), spoils };
            scope.spawn(move || actor.run(lives, actions));
        }
        scheduler.plan().choose();
    });
    let (kills, calls) = {
        let mut plan = scheduler.plan();
        if let Some(failure) = plan.failure.take() {
            return Err(failure);
        }
        plan.players.clear();
        (plan.kills, plan.calls)
    };
    oracle.at_the_end(LOG_CAP)?;
    let (_, events) = world.history();
    let stride = 1 + events.len() / 8;
    let losses = oracle.power_losses(&mut rng, LOG_CAP, |rng, _| rng.one_in(stride))?;
    Ok((oracle.commits(), kills, calls, losses))
}

fn run_seeds(seeds: impl Iterator<Item = (u64, bool)>, threads: impl Fn(u64) -> usize, until: Option<Instant>) {
    let (mut runs, mut commits, mut kills, mut calls, mut losses) = (0, 0, 0, 0, 0);
    let started = Instant::now();
    let mut failures = Vec::new();
    for (seed, faults) in seeds {
        let began = Instant::now();
        let outcome = run(seed, threads(seed), faults);
        if began.elapsed() > Duration::from_secs(2) {
            println!("seed {seed} took {:.1?}: {:?}", began.elapsed(), outcome.as_ref().ok());
        }
        match outcome {
            Ok(done) => {
                runs += 1;
                commits += done.0;
                kills += done.1;
                calls += done.2;
                losses += done.3;
            }
            Err(failure) => {
                let disk = if faults { ", failing disk" } else { "" };
                failures.push(format!("seed {seed}{disk}: {failure}"));
            }
        }
        if until.is_some_and(|until| Instant::now() >= until) || failures.len() >= 10 {
            break;
        }
    }
    println!(
        "{runs} schedules: {commits} commits, {kills} kills, {calls} calls, {losses} power losses, in {:.0?}",
        started.elapsed()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Seeds that once found a fault.
const FAILED: [u64; 4] = [143, 30178, 33445, 38171];
/// The same on a disk that fails.
const FAILED_DISK: [u64; 14] =
    [11082, 12462, 13468, 13809, 13892, 14126, 14949, 42261, 47725, 102677, 102759, 113179, 117445, 119999];

#[test]
fn processes_in_any_order_agree() {
    let seeds = FAILED.map(|seed| (seed, false)).into_iter().chain((0..).map(|seed| (seed, seed % 3 == 2)));
    run_seeds(seeds, |_| 1, Some(Instant::now() + Duration::from_secs(10)));
}

#[test]
fn disks_that_once_failed_badly() {
    run_seeds(FAILED_DISK.into_iter().map(|seed| (seed, true)), |_| 1, None);
}

/// The long run: `MEMSTONE_SCHEDULES=100_000 cargo test --release --lib proof::schedule -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn many_schedules() {
    let first = effort("MEMSTONE_SEED", 1000) as u64;
    let faults = effort("MEMSTONE_SCHEDULE_FAULTS", 0) > 0;
    let seeds = first..first + effort("MEMSTONE_SCHEDULES", 10_000) as u64;
    run_seeds(seeds.map(|seed| (seed, faults)), |_| 1, None);
}

/// Two or three threads in each process.
fn few(seed: u64) -> usize {
    2 + usize::from(seed.is_multiple_of(3))
}

#[test]
fn threads_of_processes_in_any_order_agree() {
    run_seeds((0..).map(|seed| (seed, false)), few, Some(Instant::now() + Duration::from_secs(10)));
}

/// The long run: `MEMSTONE_SCHEDULES=100_000 cargo test --release --lib proof::schedule -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn many_schedules_of_threads() {
    let first = effort("MEMSTONE_SEED", 1000) as u64;
    let seeds = first..first + effort("MEMSTONE_SCHEDULES", 10_000) as u64;
    run_seeds(seeds.map(|seed| (seed, false)), few, None);
}
