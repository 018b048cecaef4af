//! Every call of the platform fails, one after the other: once, or from then on until it is repaired.
//!
//! A workload is run without faults, to count the calls of each kind; then again and again, with the
//! n-th call of a kind failing. Nothing acknowledged may be lost, an error must be clean, and the
//! store must be of use again once the fault is gone: through the same handle, and opened once more. A
//! commit whose fate was called unknown may be there or not, wholly; the next one that succeeds settles it; one
//! that gave another error is not there. After that, power losses must leave what was acknowledged: a failed flush dropped what it was to write.

use super::model::{Kind, Model, Step, commit, number, numbered, steps};
use super::{check, effort, new_store, open_store};
use crate::disk::sim::{Call, Conductor, Event, Free, Limits, Replay, Rng, Verdict, World};
use crate::engine::commit::Durability;
use crate::{Error, Store};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Which calls fail.
#[derive(Clone, Copy, Debug)]
struct Fault {
    call: Call,
    /// Counted from 0.
    nth: usize,
    lasting: bool,
    code: i32,
    /// A write that fails has written so much of 65536.
    part: usize,
}

#[derive(Default)]
struct Trouble {
    counts: Mutex<HashMap<Call, usize>>,
    fault: Mutex<Option<Fault>>,
}

impl Conductor for Trouble {
    fn before(&self, _process: usize, call: Call) -> Verdict {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(call).or_default();
        *count += 1;
        let at = *count - 1;
        drop(counts);
        match *self.fault.lock().unwrap() {
            Some(fault) if fault.call == call && (at == fault.nth || fault.lasting && at > fault.nth) => match call {
                Call::Memory | Call::Unlock => Verdict::Go,
                Call::Write if fault.part > 0 => Verdict::Part(fault.part, fault.code),
                _ => Verdict::Fail(fault.code),
            },
            _ => Verdict::Go,
        }
    }
}

/// What may be in the store: the commits that were tried, each with the state it was to make.
struct Oracle {
    /// The newest state known to be there.
    sure: (usize, Model),
    /// States of commits whose fate is unknown, each on top of the one before, or of `sure`.
    maybe: Vec<(usize, Model)>,
    /// Every state that was ever tried.
    tried: HashMap<usize, Model>,
    next: usize,
}

impl Oracle {
    /// What is found must be one of those that may be there.
    fn look(&self, store: &Store) -> Result<(usize, Model), String> {
        let snapshot = store.read().map_err(|e| e.to_string())?;
        let found = number(&snapshot).map_err(|e| e.to_string())?;
        let candidates = self.maybe.iter().chain([&self.sure]);
        let Some((_, state)) = candidates.into_iter().find(|(n, _)| *n == found) else {
            let maybe: Vec<_> = self.maybe.iter().map(|(n, _)| *n).collect();
            return Err(format!("found commit {found} instead of {} or one of {maybe:?}", self.sure.0));
        };
        state.compare(&snapshot).map_err(|e| format!("commit {found}: {e}"))?;
        Ok((found, state.clone()))
    }
}

/// Whether an error says what a caller may be told of a failing disk.
pub(super) fn is_clean(error: &Error) -> bool {
    matches!(
        error,
        Error::Io { .. } | Error::Full { .. } | Error::Poisoned { .. } | Error::Unconfirmed { .. } | Error::Busy { .. }
    )
}

/// Runs a workload with one fault. Gives the number of power losses looked at.
fn run(kind: Kind, seed: u64, count: usize, fault: Option<Fault>) -> Result<(HashMap<Call, usize>, usize), String> {
    let log_cap = kind.log_cap();
    let (empty, _, _) = new_store(Arc::new(Free), log_cap);
    let trouble = Arc::new(Trouble::default());
    let world = World::new(empty.image(), Arc::clone(&trouble) as _);
    world.record();
    let mut rng = Rng(seed);
    let steps = steps(kind, &mut rng, count);
    *trouble.fault.lock().unwrap() = fault;
    let mut oracle = Oracle { sure: (0, Model::default()), maybe: Vec::new(), tried: HashMap::new(), next: 1 };
    oracle.tried.insert(0, Model::default());
    let mut store: Option<Store> = None;
    for (at, step) in steps.iter().enumerate() {
        let failed = |e: Error| -> Result<(), String> {
            if is_clean(&e) { Ok(()) } else { Err(format!("step {at} of {steps:.100?}: {e}")) }
        };
        if store.is_none() {
            match open_store(&world, 0, log_cap).1 {
                Ok(opened) => store = Some(opened),
                Err(e) => {
                    failed(e)?;
                    continue;
                }
            }
        }
        let open = store.as_ref().unwrap();
        match step {
            Step::Commit(changes, durability) => attempt(open, &world, &mut oracle, changes, *durability)?,
            Step::Checkpoint => open.checkpoint().or_else(failed)?,
            Step::Flush => match open.flush() {
                Ok(()) => world.remark(Event::Acked(oracle.sure.0)),
                Err(e) => failed(e)?,
            },
            Step::Reopen | Step::Die => store.take().unwrap().close().or_else(failed)?,
        }
        // Reading goes on whatever fails, unless it is reading that fails.
        if let (Some(open), Some(Fault { call: Call::Write | Call::SetLen | Call::Allocate, .. })) = (&store, fault) {
            oracle.look(open).map_err(|e| format!("step {at}, reading during the fault: {e}"))?;
        }
    }
    // The fault is gone. The same handle, then a new one.
    let counts = trouble.counts.lock().unwrap().clone();
    *trouble.fault.lock().unwrap() = None;
    for round in 0..2 {
        let open = match store.take() {
            Some(open) => open,
            None => open_store(&world, 0, log_cap).1.map_err(|e| format!("opening when all is well: {e}"))?,
        };
        let place = |e: String| format!("round {round} after the fault: {e}");
        let text = |e: Error| format!("round {round} after the fault: {e}");
        oracle.look(&open).map_err(place)?;
        let before = oracle.next;
        attempt(&open, &world, &mut oracle, &[], Durability::Sync).map_err(place)?;
        if oracle.sure.0 != before {
            return Err(format!("round {round}: a commit failed although all is well"));
        }
        oracle.look(&open).map_err(place)?;
        open.checkpoint().map_err(text)?;
        oracle.look(&open).map_err(place)?;
        check::structure(&open).map_err(place)?;
        match open.close() {
            // It hears of the failed flush that may have taken relaxed commits.
            Err(e) if round == 0 && e.is_outcome_unknown() => {}
            closed => closed.map_err(text)?,
        }
    }
    let losses = if fault.is_some_and(|fault| matches!(fault.call, Call::Flush | Call::Write)) {
        power_losses(&world, &oracle, &mut rng, log_cap)?
    } else {
        0
    };
    Ok((counts, losses))
}

/// Tries a commit, and notes what is known of it.
fn attempt(
    store: &Store,
    world: &World,
    oracle: &mut Oracle,
    changes: &[super::model::Change],
    durability: Durability,
) -> Result<(), String> {
    let n = oracle.next;
    oracle.next += 1;
    let changes = numbered(changes.to_vec(), n);
    world.remark(Event::Begun(n));
    let base = std::cell::Cell::new(None);
    let result = store.write_with(crate::WriteOptions::new().durability(durability), |tx| {
        let value = tx.read_raw(super::model::META)?.get(super::model::NUMBER)?;
        let number = value.map_or(0, |v| usize::try_from(u64::from_be_bytes(v[..].try_into().unwrap())).unwrap());
        base.set(Some(number));
        super::model::perform(tx, &changes)
    });
    let Some(base) = base.get() else {
        // It did not even begin.
        return match result {
            Err(e) if is_clean(&e) => Ok(()),
            Err(e) => Err(format!("begin {n}: {e}")),
            Ok(()) => Err("a transaction without a body".to_owned()),
        };
    };
    let on = oracle.maybe.iter().chain([&oracle.sure]).find(|(n, _)| *n == base).map(|(_, state)| state.clone());
    let Some(mut state) = on else {
        return Err(format!("commit {n} builds on {base}, which should not be there"));
    };
    state.apply(&changes);
    oracle.tried.insert(n, state.clone());
    match result {
        Ok(()) => {
            // What it builds on is settled by it.
            oracle.sure = (n, state);
            oracle.maybe.clear();
            if durability == Durability::Sync {
                world.remark(Event::Acked(n));
            }
            Ok(())
        }
        Err(Error::Unconfirmed { .. }) => {
            oracle.maybe.push((n, state));
            Ok(())
        }
        // Nothing was changed.
        Err(e) if is_clean(&e) => Ok(()),
        Err(e) => Err(format!("commit {n}: {e}")),
    }
}

/// Power losses at some points of the run.
fn power_losses(world: &Arc<World>, oracle: &Oracle, rng: &mut Rng, log_cap: u64) -> Result<usize, String> {
    let (start, events) = world.history();
    let mut replay = Replay::new(start);
    let mut seen = HashSet::new();
    let mut count = 0;
    for (at, event) in events.iter().enumerate() {
        if !replay.apply(event) || !rng.one_in(1 + events.len() / 6) {
            continue;
        }
        let mut images = Vec::new();
        let limits = Limits { all: 4, sample: 2, torn: 1 };
        replay.crash_states(rng, limits, &mut |print| seen.insert(print), &mut |image| images.push(image));
        for image in images {
            count += 1;
            let look = || -> Result<(), String> {
                let text = |e: Error| e.to_string();
                let world = World::new(image, Arc::new(Free));
                let (disk, store) = open_store(&world, 1, log_cap);
                let store = store.map_err(text)?;
                let snapshot = store.read().map_err(text)?;
                let found = number(&snapshot).map_err(text)?;
                let (acked, begun) = (replay.acked, replay.begun);
                if found < acked || found > begun {
                    return Err(format!("found commit {found}; {acked} was acknowledged and {begun} begun"));
                }
                let mut state = oracle.tried[&found].clone();
                state.compare(&snapshot)?;
                let changes = numbered(Vec::new(), 1_000_000);
                commit(&store, &changes, Durability::Sync).map_err(text)?;
                state.apply(&changes);
                store.checkpoint().map_err(text)?;
                state.compare(&store.read().map_err(text)?)?;
                check::structure(&store)?;
                disk.silence();
                Ok(())
            };
            look().map_err(|e| format!("a power loss at event {at} of {}: {e}", events.len()))?;
        }
    }
    Ok(count)
}

const CALLS: [(Call, i32); 10] = [
    (Call::Write, libc::EIO),
    (Call::Write, libc::ENOSPC),
    (Call::Flush, libc::EIO),
    (Call::SetLen, libc::ENOSPC),
    (Call::Allocate, libc::EDQUOT),
    (Call::Read, libc::EIO),
    (Call::Lock, libc::ENOLCK),
    (Call::Probe, libc::EIO),
    (Call::Len, libc::EIO),
    (Call::Sidecar, libc::EACCES),
];

/// Up to `most` faults of each kind, spread over a workload.
fn sweep(kind: Kind, seed: u64, count: usize, most: usize, failures: &mut Vec<String>) -> (usize, usize) {
    let (counts, _) = run(kind, seed, count, None).unwrap();
    let (mut faults, mut losses) = (0, 0);
    for (call, code) in CALLS {
        let total = counts.get(&call).copied().unwrap_or(0);
        let stride = total.div_ceil(most).max(1);
        for nth in (usize::try_from(seed).unwrap() % stride..total).step_by(stride) {
            for lasting in [false, true] {
                if failures.len() >= 12 {
                    return (faults, losses);
                }
                let part = [0, 20_000, 65_536][nth % 3];
                let fault = Fault { call, nth, lasting, code, part };
                faults += 1;
                match run(kind, seed, count, Some(fault)) {
                    Ok((_, looked)) => losses += looked,
                    Err(e) => failures.push(format!("{kind:?}, seed {seed}, {count} steps, {fault:?}: {e}")),
                }
            }
        }
    }
    (faults, losses)
}

fn sweep_all(rounds: u64, count: usize, most: usize) {
    let started = Instant::now();
    let (mut faults, mut losses) = (0, 0);
    let mut failures = Vec::new();
    for seed in 0..rounds {
        for kind in super::model::KINDS {
            let (some, looked) = sweep(kind, seed, count, most, &mut failures);
            faults += some;
            losses += looked;
        }
    }
    println!("{faults} faults, {losses} power losses after them, in {:.0?}", started.elapsed());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_failing_call_loses_nothing() {
    sweep_all(1, 10, 8);
}

/// Faults that once lost something: workload, seed, call that fails.
const FAILED: [(Kind, u64, Call, usize, i32, usize); 1] = [(Kind::Mixed, 2, Call::Write, 20, libc::EIO, 65_536)];

#[test]
fn faults_that_once_lost_something() {
    for (kind, seed, call, nth, code, part) in FAILED {
        let fault = Fault { call, nth, lasting: false, code, part };
        run(kind, seed, 30, Some(fault)).map_err(|e| format!("{kind:?}, seed {seed}, {fault:?}: {e}")).unwrap();
    }
}

/// The long run: `MEMSTONE_FAULTS=10 cargo test --release --lib simulation::fault -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn many_failing_calls() {
    sweep_all(effort("MEMSTONE_FAULTS", 3) as u64, 30, 200);
}
