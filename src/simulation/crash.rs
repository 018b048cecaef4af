//! Every state that a power loss may leave is opened, and must hold what was acknowledged.
//!
//! A workload runs once over a disk that records. Then, after each event of the record, the store
//! is opened from the images that a crash at that point may leave. What is found must be the state
//! after some commit, no older than the newest acknowledged one and no newer than the one begun.
//! The opened store must pass the check of all its pages, take a commit, and make a checkpoint; of
//! some of these second lives a record is taken, too, and crashed again, and once more.

use super::model::{Change, KINDS, Kind, Model, NUMBER, Step, commit, number, numbered, steps};
use super::{check, effort, new_store, open_store};
use crate::disk::root::Root;
use crate::disk::sim::{Event, Free, Image, Limits, Replay, Rng, World, with_a_lying_disk};
use crate::engine::commit::Durability;
use crate::log::frame::{FRAME_HEADER, FrameBuilder};
use crate::store::Store;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// A record, and the state after each commit.
struct Recording {
    start: Image,
    events: Vec<Event>,
    states: Vec<Model>,
}

/// Commits the next numbered changes, and remarks in the record what was begun and acknowledged.
pub(super) fn commit_next(
    world: &World,
    open: &Store,
    states: &mut Vec<Model>,
    changes: &[Change],
    durability: Durability,
) {
    let n = states.len();
    let changes = numbered(changes.to_vec(), n);
    let mut next = states.last().unwrap().clone();
    next.apply(&changes);
    states.push(next);
    world.remark(Event::Begun(n));
    commit(open, &changes, durability).unwrap();
    if durability == Durability::Sync {
        world.remark(Event::Acked(n));
    }
}

/// Runs the steps and records what they do to the disk. `states` are those before them.
fn record(kind: Kind, steps: &[Step]) -> Recording {
    let (world, mut disk, store) = new_store(Arc::new(Free), kind.log_cap());
    let mut store = Some(store);
    let mut states = vec![Model::default()];
    for step in steps {
        let open = store.as_ref().unwrap();
        let newest = states.len() - 1;
        match step {
            Step::Commit(changes, durability) => commit_next(&world, open, &mut states, changes, *durability),
            Step::Checkpoint => {
                open.checkpoint().unwrap();
                world.remark(Event::Acked(newest));
            }
            Step::Flush => {
                open.flush().unwrap();
                world.remark(Event::Acked(newest));
            }
            Step::Reopen => {
                store.take().unwrap().close().unwrap();
                world.remark(Event::Acked(newest));
            }
            Step::Die => {
                disk.kill();
                disk.silence();
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(store.take())));
            }
        }
        if store.is_none() {
            let (next_disk, next_store) = open_store(&world, 0, kind.log_cap());
            (disk, store) = (next_disk, Some(next_store.unwrap()));
            world.remark(Event::Acked(newest));
        }
        states.last().unwrap().compare(&store.as_ref().unwrap().read().unwrap()).unwrap();
    }
    check::structure(store.as_ref().unwrap()).unwrap();
    drop(store);
    let (start, events) = world.history();
    Recording { start, events, states }
}

/// Opens an image and looks at everything. Gives the number of the state found.
fn verify(image: Image, log_cap: u64, floor: usize, ceiling: usize, states: &[Model]) -> Result<usize, String> {
    let world = World::new(image, Arc::new(Free));
    let (disk, store) = open_store(&world, 1, log_cap);
    let store = store.map_err(|e| format!("opening: {e}"))?;
    let result = look(&store, floor, ceiling, states);
    disk.silence();
    result
}

fn look(store: &crate::Store, floor: usize, ceiling: usize, states: &[Model]) -> Result<usize, String> {
    let text = |e: crate::Error| e.to_string();
    let snapshot = store.read().map_err(text)?;
    let found = number(&snapshot).map_err(text)?;
    if found < floor || found > ceiling {
        return Err(format!("found commit {found}; {floor} was acknowledged and {ceiling} begun"));
    }
    let mut state = states[found].clone();
    state.compare(&snapshot).map_err(|e| format!("state {found}: {e}"))?;
    check::structure(store)?;
    let changes = numbered(Vec::new(), 1_000_000);
    commit(store, &changes, Durability::Sync).map_err(|e| format!("the next commit: {e}"))?;
    state.apply(&changes);
    store.checkpoint().map_err(|e| format!("the next checkpoint: {e}"))?;
    state.compare(&store.read().map_err(text)?).map_err(|e| format!("after the next checkpoint: {e}"))?;
    check::structure(store).map_err(|e| format!("after the next checkpoint: {e}"))?;
    // The snapshot of before must still be what it was.
    states[found].compare(&snapshot).map_err(|e| format!("the old snapshot: {e}"))?;
    Ok(found)
}

/// A second life: opened from an image, used for a while, all of it recorded.
fn live_again(image: &Image, kind: Kind, found: usize, states: &[Model], rng: &mut Rng) -> Result<Recording, String> {
    let world = World::new(image.clone(), Arc::new(Free));
    world.record();
    let mut states = states[..=found].to_vec();
    world.remark(Event::Begun(found));
    world.remark(Event::Acked(found));
    let (disk, store) = open_store(&world, 1, kind.log_cap());
    let store = store.map_err(|e| format!("opening: {e}"))?;
    let mut act = |step: &Step| -> crate::Result<()> {
        match step {
            Step::Commit(changes, durability) => {
                let n = states.len();
                let changes = numbered(changes.clone(), n);
                let mut next = states.last().unwrap().clone();
                next.apply(&changes);
                states.push(next);
                world.remark(Event::Begun(n));
                commit(&store, &changes, *durability)?;
                if *durability == Durability::Sync {
                    world.remark(Event::Acked(n));
                }
            }
            _ => {
                store.checkpoint()?;
                world.remark(Event::Acked(states.len() - 1));
            }
        }
        Ok(())
    };
    let order = rng.below(3);
    let mut todo = if order == 0 { Vec::new() } else { vec![Step::Checkpoint] };
    let count = 1 + rng.below(3);
    todo.extend(steps(kind, rng, count));
    if order != 1 {
        todo.push(Step::Checkpoint);
    }
    for (at, step) in todo.iter().enumerate() {
        act(step).map_err(|e| format!("step {at} of {todo:.200?}: {e}"))?;
    }
    if rng.one_in(2) {
        drop(store);
    } else {
        disk.silence();
    }
    let (start, events) = world.history();
    Ok(Recording { start, events, states })
}

/// What was done.
#[derive(Default)]
struct Tally {
    points: usize,
    states: usize,
    lives: usize,
}

struct Explorer {
    kind: Kind,
    seed: u64,
    rng: Rng,
    tally: Tally,
    /// No more than so many states.
    budget: usize,
}

impl Explorer {
    fn explore(&mut self, recording: &Recording, depth: usize, limits: Limits) {
        let mut seen = HashSet::new();
        let mut replay = Replay::new(recording.start.clone());
        for (at, event) in recording.events.iter().enumerate() {
            if !replay.apply(event) && !matches!(event, Event::Acked(_)) {
                continue;
            }
            if self.tally.states >= self.budget {
                return;
            }
            self.tally.points += 1;
            let (floor, ceiling) = (replay.acked, replay.begun.max(replay.acked));
            let mut images = Vec::new();
            let mut fresh = |print: u64| seen.insert((print, floor));
            replay.crash_states(&mut self.rng, limits, &mut fresh, &mut |image| images.push(image));
            for image in images {
                self.tally.states += 1;
                let again = image.clone();
                let (kind, seed) = (self.kind, self.seed);
                let place =
                    || format!("{kind:?}, seed {seed}, depth {depth}, event {at} of {}", recording.events.len());
                let found = verify(image, kind.log_cap(), floor, ceiling, &recording.states)
                    .unwrap_or_else(|e| panic!("{}: {e}", place()));
                if depth < 3 && self.rng.one_in(if depth == 1 { 60 } else { 120 }) {
                    self.tally.lives += 1;
                    let mut rng = Rng(self.rng.next());
                    let second = live_again(&again, kind, found, &recording.states, &mut rng)
                        .unwrap_or_else(|e| panic!("{}, second life: {e}", place()));
                    self.explore(&second, depth + 1, Limits { all: 16, sample: 4, torn: 4 });
                }
            }
        }
    }
}

fn explore(kind: Kind, seed: u64, count: usize, limits: Limits, budget: usize) -> Tally {
    let mut rng = Rng(seed);
    let recording = record(kind, &steps(kind, &mut rng, count));
    let mut explorer = Explorer { kind, seed, rng, tally: Tally::default(), budget };
    explorer.explore(&recording, 1, limits);
    explorer.tally
}

#[test]
fn what_a_power_loss_leaves_holds_what_was_acknowledged() {
    let mut total = Tally::default();
    for seed in 0..10 {
        for kind in KINDS {
            let tally = explore(kind, seed, 25, Limits { all: 32, sample: 6, torn: 6 }, 400);
            total.states += tally.states;
            total.points += tally.points;
            total.lives += tally.lives;
        }
    }
    println!("{} states at {} points, {} second lives", total.states, total.points, total.lives);
    assert!(total.states > 1000);
}

/// A process that leaves writes the last root twice, and the second writing may be lost although what was
/// built on it is there: a frame that begins a block of its own while the one before it is lost, too.
#[test]
fn a_copy_that_was_lost_is_no_damage() {
    let key = b"key".to_vec();
    let rest = FrameBuilder::put_size(key.len(), 0) + FrameBuilder::put_size(NUMBER.len(), 8) + FRAME_HEADER as u64;
    let block = usize::try_from(4096 - rest).unwrap();
    let put = |len: usize, durability| {
        Step::Commit(vec![Change::Put("a".into(), key.clone(), vec![7; len].into())], durability)
    };
    let steps = [
        put(1, Durability::Sync),
        Step::Reopen,
        put(block, Durability::Relaxed),
        put(block, Durability::Relaxed),
        put(1, Durability::Sync),
    ];
    let kind = Kind::Single;
    let recording = record(kind, &steps);
    let mut explorer = Explorer { kind, seed: 0, rng: Rng(0), tally: Tally::default(), budget: usize::MAX };
    explorer.explore(&recording, 3, Limits { all: 512, sample: 40, torn: 24 });
}

/// No frame leads to what only a root holds: a transaction too large for the log, or a name. If one slot is lost,
/// the other one holds it.
#[test]
fn what_only_a_root_holds_is_in_both_slots() {
    let (world, _disk, store) = new_store(Arc::new(Free), 64 << 10);
    let much = |n: u8| store.write(|tx| (0..40).try_for_each(|key: u8| tx.raw("t")?.put(&[key], &[n; 1000])));
    let acts: [&dyn Fn(); 4] =
        [&|| much(1).unwrap(), &|| much(2).unwrap(), &|| store.create_snapshot("kept").map(drop).unwrap(), &|| {
            store.delete_snapshot("kept").unwrap()
        }];
    for (n, act) in acts.into_iter().enumerate() {
        act();
        let newest = store.engine().slots().unwrap().newest.sequence;
        let (lsn, names) = (store.read().unwrap().lsn(), store.snapshots().unwrap().len());
        for lost in [newest, newest + 1] {
            let mut image = world.image();
            image.write(&[0; 4096], Root::slot_offset(lost, 4096));
            let found = open_store(&World::new(image, Arc::new(Free)), 1, 64 << 10).1.unwrap();
            let there = (found.read().unwrap().lsn(), found.snapshots().unwrap().len());
            assert_eq!(there, (lsn, names), "act {n}, slot of root {lost}");
        }
    }
}

/// A disk that loses or misdirects a write, and says that all is well, may cost the newest commits:
/// no process could know of them. It must never give a value that was not committed with all the others.
fn lies(kind: Kind, seed: u64, count: usize) -> (usize, usize) {
    let mut rng = Rng(seed);
    let recording = record(kind, &steps(kind, &mut rng, 40));
    let (mut sound, mut corrupt) = (0, 0);
    for at in 0..count {
        let end = recording.events.len() - rng.below(recording.events.len() / 2);
        let image = with_a_lying_disk(&recording.start, &recording.events[..end], &mut rng);
        let world = World::new(image, Arc::new(Free));
        let (disk, store) = open_store(&world, 1, kind.log_cap());
        let look = || -> Result<(), crate::Error> {
            let store = store?;
            let snapshot = store.read()?;
            let found = number(&snapshot)?;
            let mut state = recording.states[found].clone();
            let outcome = state.compare(&snapshot);
            let check = |outcome: Result<(), String>, what: &str| match outcome {
                Err(e) if !e.contains("is damaged") => panic!("{kind:?}, seed {seed}, lie {at}, {what}: {e}"),
                Err(_) => false,
                Ok(()) => true,
            };
            if !check(outcome, "opened") {
                return Err(crate::Error::Savepoint);
            }
            let changes = numbered(Vec::new(), 1_000_000);
            commit(&store, &changes, Durability::Sync)?;
            state.apply(&changes);
            store.checkpoint()?;
            let outcome = state.compare(&store.read()?);
            if check(outcome, "after a checkpoint") { Ok(()) } else { Err(crate::Error::Savepoint) }
        };
        match look() {
            Ok(()) => sound += 1,
            Err(crate::Error::Savepoint) => corrupt += 1,
            // A new store has one root: another block in its place leaves none.
            Err(e) if e.is_corrupt() || matches!(e, crate::Error::NotAStore { .. }) => corrupt += 1,
            Err(e) => panic!("{kind:?}, seed {seed}, lie {at}: {e}"),
        }
        disk.silence();
    }
    (sound, corrupt)
}

#[test]
fn a_lying_disk_never_gives_a_wrong_value() {
    let (mut sound, mut corrupt) = (0, 0);
    let first = effort("MEMSTONE_SEED", 0);
    for seed in first..first + effort("MEMSTONE_LIES", 600) {
        let (a, b) = lies(KINDS[seed % KINDS.len()], seed as u64, 20);
        (sound, corrupt) = (sound + a, corrupt + b);
    }
    println!("{} lost or misdirected writes: {sound} did no harm, {corrupt} were found", sound + corrupt);
}

/// The long run: `MEMSTONE_STATES=1_000_000 cargo test --release --lib simulation::crash -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn many_power_losses() {
    let (wanted, seeds) = (effort("MEMSTONE_STATES", 1_000_000), effort("MEMSTONE_SEED", 1000) as u64);
    let started = Instant::now();
    let next = std::sync::atomic::AtomicU64::new(seeds);
    let states = std::sync::atomic::AtomicUsize::new(0);
    let totals = std::sync::Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while states.load(std::sync::atomic::Ordering::Relaxed) < wanted {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let kind = KINDS[usize::try_from(seed).unwrap() % KINDS.len()];
                    let limits = Limits { all: 512, sample: 40, torn: 24 };
                    let tally = explore(kind, seed, 60, limits, 20_000);
                    states.fetch_add(tally.states, std::sync::atomic::Ordering::Relaxed);
                    let mut totals = totals.lock().unwrap();
                    totals.states += tally.states;
                    totals.points += tally.points;
                    totals.lives += tally.lives;
                }
            });
        }
    });
    let total = totals.lock().unwrap();
    println!(
        "{} states at {} points of {} workloads, {} second and third lives, in {:.0?}",
        total.states,
        total.points,
        next.load(std::sync::atomic::Ordering::Relaxed) - seeds,
        total.lives,
        started.elapsed()
    );
}
