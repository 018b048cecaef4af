//! A few threads of a few processes do a few things, and all that a few deviations from the usual turn make of it.
//!
//! Schedules sample long runs; these scenes are short, and gone through systematically: first with
//! no thread interrupted, then with one deviation at each place where there is a choice (another thread
//! goes on, this one stands still for longer than others wait, its process is killed), then with two.
//! Most faults of concurrency need no more than that; see `Script` for where the method comes from.

use super::effort;
use super::interleaving::{LOG_CAP, beginning, put};
use super::model::Change;
use super::oracle::{Attempt, Oracle, forgive};
use super::scheduler::{Choice, NEVER, Odds, Policy, Scheduler, Script, Turn};
use crate::disk::sim::{Call, Conductor, Image, Rng, World, threads};
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::commit::Durability::{Relaxed, Sync};
use crate::txn::snapshot::Snapshot;
use crate::{Error, Store};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Commit,
    CommitRelaxed,
    /// With a value in pages of its own.
    CommitLong,
    /// Straight to the tree.
    CommitLarge,
    Checkpoint,
    /// Makes a checkpoint, gives space of the log back, moves pages down.
    Shrink,
    Flush,
    /// Takes a snapshot, looks at it, and lets it go.
    Read,
    /// Takes a snapshot, and does not look yet.
    Keep,
    /// Looks at what was kept, and lets it go.
    Look,
    /// Does nothing for so many milliseconds.
    Rest(u64),
    /// Removes the sidecar: readers may be late from now on, but never go back.
    LoseSidecar,
    /// Leaves: the other threads of the process stay.
    Leave,
}
use Act::*;

/// The second deviation comes within so many choices after the first.
const SOON: usize = 1000;

struct Scene {
    name: &'static str,
    /// What each thread of each process does.
    processes: &'static [&'static [&'static [Act]]],
}

const SCENES: &[Scene] = &[
    Scene { name: "two threads append, and another process", processes: &[&[&[Commit], &[Checkpoint]], &[&[Commit]]] },
    Scene { name: "all write", processes: &[&[&[Commit], &[CommitRelaxed]], &[&[Commit]]] },
    Scene {
        name: "two readers of a version, and roots",
        processes: &[&[&[Keep, Rest(20), Look], &[Read]], &[&[Commit, Checkpoint, Rest(10), Commit, Checkpoint]]],
    },
    Scene { name: "two read while another commits", processes: &[&[&[Read, Read], &[Read]], &[&[Commit]]] },
    Scene {
        name: "two read while the sidecar is lost",
        processes: &[&[&[Read, Read], &[Read]], &[&[CommitRelaxed, Rest(10), LoseSidecar, Commit]]],
    },
    Scene { name: "relaxed commits and flushes", processes: &[&[&[CommitRelaxed, Flush], &[Flush]], &[&[Commit]]] },
    Scene {
        name: "long values beside checkpoints",
        processes: &[&[&[CommitLong], &[Keep, Look]], &[&[Checkpoint], &[Commit]]],
    },
    Scene { name: "large transactions", processes: &[&[&[CommitLarge], &[Commit]], &[&[Keep, Commit, Look]]] },
    Scene { name: "the file shrinks", processes: &[&[&[Shrink], &[Keep, Commit, Look]], &[&[Commit, Read]]] },
    Scene { name: "all leave", processes: &[&[&[Commit, Leave]], &[&[CommitRelaxed, Leave]], &[&[Read, Leave]]] },
];

/// What a thread has in hand.
struct Actor<'a> {
    scheduler: &'a Scheduler,
    world: &'a World,
    number: usize,
    store: Option<Store>,
    oracle: &'a Oracle,
    rng: Rng,
    /// The newest commit that any thread of the process saw.
    floor: &'a AtomicUsize,
    /// With the newest commit that was acknowledged before it was taken.
    kept: Vec<(Snapshot, usize)>,
}

impl Actor<'_> {
    fn act(&mut self, act: Act) -> Result<(), String> {
        let never = |_: &Error| false;
        let text = |e: Error| format!("{act:?}: {e}");
        let Some(store) = &self.store else { return Err("it has left".to_owned()) };
        let key = u8::try_from(self.rng.below(4)).unwrap();
        let rng = &mut self.rng;
        let changes: Vec<Change> = match act {
            CommitLong => vec![put("a", key, 40_000, rng)],
            CommitLarge => (0..36).map(|key| put("b", key, 1000, rng)).collect(),
            _ => vec![put("a", key, 900, rng)],
        };
        match act {
            Commit | CommitLong | CommitLarge | CommitRelaxed => {
                let durability = if act == CommitRelaxed { Relaxed } else { Sync };
                let n = self.oracle.write(store, changes, durability, never)?;
                self.floor.fetch_max(n, SeqCst);
            }
            Checkpoint => store.checkpoint().map_err(text)?,
            Shrink => {
                let plan = CheckpointOptions { shrink: true, compact: 100, ..CheckpointOptions::default() };
                store.engine().checkpoint(&plan, store.engine().deadline()).map(drop).map_err(text)?;
            }
            Flush => {
                let least = self.floor.load(SeqCst);
                store.flush().map_err(text)?;
                self.oracle.note_flushed(least);
            }
            Read | Keep => {
                let acknowledged =
                    Some(self.oracle.known()).filter(|known| !known.hints_lost).map_or(0, |known| known.seen);
                let least = acknowledged.max(self.floor.load(SeqCst));
                let snapshot = store.read().map_err(text)?;
                self.kept.push((snapshot, least));
                if act == Read {
                    self.look()?;
                }
            }
            Look => self.look()?,
            LoseSidecar => {
                self.oracle.known().hints_lost = true;
                self.world.remove_sidecar();
            }
            Rest(ms) => self.scheduler.sleep(self.number, Duration::from_millis(ms)),
            Leave => forgive(self.store.take().map_or(Ok(()), Store::close), never, "close")?,
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        while let Some((snapshot, least)) = self.kept.pop() {
            let (number, id) = self.oracle.look(&snapshot, least)?;
            self.floor.fetch_max(number, SeqCst);
            self.oracle.note_shown(id);
        }
        Ok(())
    }
}

/// One run. Gives what there was to choose.
type Start = (Image, Vec<Attempt>);

fn run(start: &Start, scene: &Scene, deviations: &[(usize, Turn)]) -> Result<Vec<Choice>, String> {
    let processes = scene.processes.len();
    let most = scene.processes.iter().map(|threads| threads.len()).max().unwrap_or(0);
    let policy = Policy::Script(Script::new(deviations));
    let scheduler = Scheduler::new(processes, most, Rng(1), policy, Odds::NONE);
    let world = World::new(start.0.clone(), Arc::clone(&scheduler) as _);
    world.record();
    let oracle = Oracle::after(&world, start.1.clone());
    // What opens them is no call that the scheduler knows: it goes on at once.
    let stores = (0..processes).map(|process| {
        let disk = world.disk(100 + process);
        scheduler.live(process, &disk);
        Store::on_disk(disk as _, super::settings(LOG_CAP)).map_err(|e| format!("open: {e}"))
    });
    let stores = stores.collect::<Result<Vec<_>, _>>()?;
    let floors: Vec<_> = stores.iter().map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for (process, (store, acts)) in stores.into_iter().zip(scene.processes).enumerate() {
            for (thread, acts) in acts.iter().enumerate() {
                let number = process + thread * processes;
                scheduler.start(number, process);
                let (scheduler, world, oracle, floor) = (Arc::clone(&scheduler), &world, &oracle, &floors[process]);
                let (store, rng) = (Some(store.clone()), Rng(number as u64));
                scope.spawn(move || {
                    threads::play(Arc::clone(&scheduler) as _, number);
                    scheduler.enter(number);
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        let (scheduler, world, kept) = (&*scheduler, &*world, Vec::new());
                        let mut actor = Actor { scheduler, world, number, store, oracle, rng, floor, kept };
                        acts.iter().try_for_each(|act| actor.act(*act))
                    }));
                    scheduler.judge(number, outcome);
                    scheduler.leave(number);
                });
            }
        }
        scheduler.begin();
    });
    let choices = scheduler.choices();
    scheduler.end()?;
    oracle.at_the_end(LOG_CAP)?;
    let (seed, stride) = (deviations.iter().map(|(at, _)| *at).sum::<usize>(), world.history().1.len() / 3);
    if seed.is_multiple_of(4) {
        oracle.power_losses(&mut Rng(seed as u64), LOG_CAP, |rng, _| rng.one_in(1 + stride))?;
    }
    Ok(choices)
}

/// Whether a call orders threads. What they do between two of these is their own, but for the sidecar's words and the roots.
fn orders(call: Option<Call>) -> bool {
    // Where a thread begins to wait the next one is chosen without a call.
    matches!(call, None | Some(Call::Lock | Call::Unlock | Call::Mutex | Call::Write))
}

/// What else could be chosen, from a place on.
fn others(choices: &[Choice], from: usize, wanted: impl Fn(Option<Call>) -> bool) -> Vec<(usize, Turn)> {
    let mut others = Vec::new();
    for (at, choice) in choices.iter().enumerate().skip(from).filter(|(_, choice)| wanted(choice.call)) {
        let another = (0..32).filter(|player| choice.ready >> player & 1 == 1 && *player != choice.chosen);
        others.extend(another.map(|player| (at, Turn::To(player))));
        if choice.call.is_some() {
            others.extend([(at, Turn::Stall), (at, Turn::Kill)]);
        }
    }
    others
}

/// What was done, and what failed.
#[derive(Default)]
struct Tally {
    /// With so many deviations.
    runs: [AtomicUsize; 3],
    failures: Mutex<Vec<String>>,
}

impl Tally {
    /// One run; `None` if it, or enough before it, failed.
    fn run(&self, start: &Start, scene: &Scene, deviations: &[(usize, Turn)]) -> Option<Vec<Choice>> {
        if self.failures.lock().unwrap().len() >= 5 {
            return None;
        }
        self.runs[deviations.len()].fetch_add(1, SeqCst);
        let outcome = run(start, scene, deviations);
        if let Err(message) = &outcome {
            self.failures.lock().unwrap().push(format!("{}, {deviations:?}: {message}", scene.name));
        }
        outcome.ok()
    }
}

/// Every scene, with one deviation at one place in so many, and with two at one in so many of those
/// pairs of places where both can matter to others.
fn explore(ones: usize, twos: usize) {
    let start = beginning();
    let tally = Tally::default();
    let wanted = std::env::var("MEMSTONE_SCENE").unwrap_or_default();
    for scene in SCENES.iter().filter(|scene| scene.name.contains(&wanted)) {
        let began = Instant::now();
        let usual = tally.run(&start, scene, &[]).unwrap_or_default();
        let firsts: Vec<_> = others(&usual, 0, |_| true).into_iter().step_by(ones).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(first) = firsts.get(next.fetch_add(1, SeqCst)) {
                let Some(choices) = tally.run(&start, scene, &[*first]) else { continue };
                if twos == NEVER || !orders(usual[first.0].call) {
                    continue;
                }
                // (A thread that waits for one that stands still looks again and again.)
                let soon = &choices[..choices.len().min(first.0 + SOON)];
                for second in others(soon, first.0 + 1, orders).iter().skip(first.0 % twos).step_by(twos) {
                    tally.run(&start, scene, &[*first, *second]);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(work);
            }
        });
        println!("{}: {} choices, {:.1?}", scene.name, usual.len(), began.elapsed());
    }
    println!("runs with so many deviations: {:?}", tally.runs);
    let failures = tally.failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn one_deviation_breaks_nothing() {
    explore(5, NEVER);
}

/// The long run: `cargo test --release --lib simulation::deviations -- --ignored --nocapture`. `MEMSTONE_SCENE`
/// names a part of a scene's name, `MEMSTONE_STRIDE=1` leaves no pair out.
#[test]
#[ignore = "takes long"]
fn two_deviations_break_nothing() {
    explore(1, effort("MEMSTONE_STRIDE", 20));
}
