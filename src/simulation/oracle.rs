//! What is known of all transactions of several processes, and what must hold for each of them.
//!
//! Transactions are serial, so each knows by the number it reads which state it builds on. No
//! acknowledged commit is missed by anything that begins later, no number is given twice, each
//! snapshot is one committed state for as long as it is held, and what was acknowledged, or shown,
//! as durable is there after a power loss.

use super::model::{Change, META, Model, NUMBER, number, numbered, perform};
use super::{check, open_store};
use crate::disk::sim::{Event, Free, Limits, Replay, Rng, World};
use crate::engine::commit::Durability;
use crate::txn::snapshot::Snapshot;
use crate::txn::write::{WriteOptions, WriteTxn};
use crate::{Cursor, Error, Store};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const ID: &[u8] = b"id";

/// A transaction that was tried, whatever came of it.
#[derive(Clone)]
pub(super) struct Attempt {
    /// How many commits there are with this one.
    pub(super) number: usize,
    pub(super) state: Model,
    /// The attempt that it builds on, and what it changes.
    pub(super) base: usize,
    pub(super) changes: Arc<Vec<Change>>,
    /// Whether it is acknowledged, and shown, only when it is durable.
    pub(super) sync: bool,
}

#[derive(Default)]
pub(super) struct Known {
    /// By their ids; the first is the empty store.
    pub(super) attempts: Vec<Attempt>,
    /// The newest acknowledged number, durable or not, and the newest known to be durable.
    pub(super) seen: usize,
    acked: usize,
    acks: HashSet<usize>,
    /// Attempts that gave an error which says that nothing was changed.
    refused: HashSet<usize>,
    /// The sidecar was damaged or removed.
    pub(super) hints_lost: bool,
    /// How often an older copy was written over the sidecar, in place; and how often when the newest commit began
    /// that was acknowledged as durable: its flush was told to all after that.
    pub(super) set_back: usize,
    caught_up: usize,
    /// Where readers of the change feed stand: the attempt that they have seen last.
    pub(super) followed: Vec<(Cursor, usize)>,
}

impl Known {
    /// Whether a process that did not see the newest commits yet may miss them, until the next flush of any process.
    pub(super) fn is_set_back(&self) -> bool {
        self.set_back > self.caught_up
    }
}

pub(super) struct Oracle {
    world: Arc<World>,
    known: Mutex<Known>,
}

pub(super) fn id_of(snapshot: &Snapshot) -> crate::Result<usize> {
    let value = snapshot.raw(META)?.get(ID)?;
    Ok(value.map_or(0, |v| usize::try_from(u64::from_be_bytes(v[..].try_into().unwrap())).unwrap()))
}

/// Lets pass what a caller may be told here.
pub(super) fn forgive(result: crate::Result<()>, forgiven: fn(&Error) -> bool, what: &str) -> Result<(), String> {
    match result {
        Err(e) if !forgiven(&e) => Err(format!("{what}: {e}")),
        _ => Ok(()),
    }
}

impl Oracle {
    pub(super) fn new(world: &Arc<World>) -> Oracle {
        let empty = Attempt { number: 0, state: Model::default(), base: 0, changes: Arc::default(), sync: true };
        let known = Known { attempts: vec![empty], ..Known::default() };
        Oracle { world: Arc::clone(world), known: Mutex::new(known) }
    }

    /// Of a store that was used before.
    pub(super) fn after(world: &Arc<World>, attempts: Vec<Attempt>) -> Oracle {
        let newest = attempts.last().map_or(0, |attempt| attempt.number);
        let known = Known { attempts, seen: newest, acked: newest, ..Known::default() };
        world.remark(Event::Begun(known.attempts.len() - 1));
        world.remark(Event::Acked(newest));
        Oracle { world: Arc::clone(world), known: Mutex::new(known) }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn commits(&self) -> usize {
        self.known().acks.len()
    }

    /// Whether a snapshot is one committed state, not older than `least`. Gives its number and its id.
    pub(super) fn look(&self, snapshot: &Snapshot, least: usize) -> Result<(usize, usize), String> {
        let text = |e: Error| e.to_string();
        let (found, id) = (number(snapshot).map_err(text)?, id_of(snapshot).map_err(text)?);
        let Attempt { number: n, state, .. } =
            self.known().attempts.get(id).cloned().ok_or("an id that nobody gave")?;
        if found < least || found != n {
            return Err(format!("a snapshot of commit {found} ({n}), although {least} was acknowledged before"));
        }
        if self.known().refused.contains(&id) {
            return Err(format!("a snapshot of commit {found}, which was refused"));
        }
        state.compare(snapshot).map_err(|e| format!("a snapshot of commit {found}: {e}"))?;
        Ok((found, id))
    }

    /// A snapshot of commit `n` was handed out: every one that is taken later, by any process, has it.
    pub(super) fn note_seen(&self, n: usize) {
        let mut known = self.known();
        known.seen = known.seen.max(n);
    }

    /// An attempt was shown to a reader. Unless it is a relaxed one that means that it is durable. (A process
    /// without hints flushes what it finds, but seals nothing: a torn write may still take it.)
    pub(super) fn note_shown(&self, id: usize) {
        let mut known = self.known();
        let Attempt { number, sync, .. } = known.attempts[id];
        if sync && !known.hints_lost {
            known.acked = known.acked.max(number);
            self.world.remark(Event::Acked(known.acked));
        }
    }

    /// A relaxed commit came that is no attempt of its own. It is shown at once, and with it what precedes it.
    pub(super) fn note_relaxed(&self) {
        self.known().attempts.iter_mut().for_each(|attempt| attempt.sync = false);
    }

    /// A flush came back to a process that saw commit `n`.
    pub(super) fn note_flushed(&self, n: usize) {
        let mut known = self.known();
        known.acked = known.acked.max(n);
        self.world.remark(Event::Acked(known.acked));
    }

    /// Whether a snapshot still is what it was.
    pub(super) fn is_still(&self, snapshot: &Snapshot, id: usize) -> Result<(), String> {
        let state = self.known().attempts[id].state.clone();
        state.compare(snapshot).map_err(|e| format!("a snapshot that was kept: {e}"))
    }

    /// Tries a transaction. Gives its number, or 0 if it was refused for a reason that is forgiven.
    pub(super) fn write(
        &self,
        store: &Store,
        changes: Vec<Change>,
        durability: Durability,
        forgiven: fn(&Error) -> bool,
    ) -> Result<usize, String> {
        self.write_and(store, durability, forgiven, |_| Ok(Ok(changes)))
    }

    /// The same, with changes that depend on what the transaction finds; what else it does, no model has. An inner
    /// error is a fault that was found.
    pub(super) fn write_and(
        &self,
        store: &Store,
        durability: Durability,
        forgiven: fn(&Error) -> bool,
        body: impl FnOnce(&WriteTxn) -> crate::Result<Result<Vec<Change>, String>>,
    ) -> Result<usize, String> {
        let tx = match store.begin_write_with(WriteOptions::new().durability(durability)) {
            Ok(tx) => tx,
            Err(e) => return forgive(Err(e), forgiven, "begin").map(|()| 0),
        };
        let get = |key: &[u8]| -> crate::Result<usize> {
            let value = tx.read_raw(META)?.get(key)?;
            Ok(value.map_or(0, |v| usize::try_from(u64::from_be_bytes(v[..].try_into().unwrap())).unwrap()))
        };
        let (least, set_back) = {
            let known = self.known();
            (known.seen, known.set_back)
        };
        let (base, base_id) = match get(NUMBER).and_then(|base| Ok((base, get(ID)?))) {
            Ok(found) => found,
            Err(e) => return forgive(Err(e), forgiven, "read in a transaction").map(|()| 0),
        };
        if base < least {
            return Err(format!("a transaction builds on commit {base}, although {least} was acknowledged"));
        }
        let n = base + 1;
        let mut changes = match body(&tx) {
            Ok(changes) => numbered(changes?, n),
            Err(e) => return forgive(Err(e), forgiven, "prepare a transaction").map(|()| 0),
        };
        let id = {
            let mut known = self.known();
            let id = known.attempts.len();
            changes.push(Change::Put(META.into(), ID.to_vec(), Arc::from((id as u64).to_be_bytes())));
            let Attempt { number, mut state, .. } =
                known.attempts.get(base_id).cloned().ok_or("a base that nobody made")?;
            if number != base {
                return Err(format!("commit {base} has the id of commit {number}"));
            }
            state.apply(&changes);
            let (base, of, sync) = (base_id, Arc::new(changes.clone()), durability == Durability::Sync);
            known.attempts.push(Attempt { number: n, state, base, changes: of, sync });
            id
        };
        self.world.remark(Event::Begun(id));
        // Streamed values go to the disk before the commit, so a change may fail; then there is no commit.
        if let Err(e) = perform(&tx, &changes) {
            self.known().refused.insert(id);
            return forgive(Err(e), forgiven, "change").map(|()| 0);
        }
        if let Err(e) = tx.commit() {
            // Whether it is there shows later, unless the error says that it is not.
            if !matches!(e, Error::Unconfirmed { .. }) {
                self.known().refused.insert(id);
            }
            return forgive(Err(e), forgiven, "commit").map(|()| 0);
        }
        let mut known = self.known();
        if !known.acks.insert(n) {
            return Err(format!("commit {n} was acknowledged twice"));
        }
        known.seen = known.seen.max(n);
        if durability == Durability::Sync {
            known.caught_up = known.caught_up.max(set_back);
            known.acked = known.acked.max(n);
            self.world.remark(Event::Acked(known.acked));
        }
        Ok(n)
    }

    /// No process is left: the next one finds everything.
    pub(super) fn at_the_end(&self, log_cap: u64) -> Result<(), String> {
        let text = |e: Error| format!("at the end: {e}");
        self.world.give_names_back();
        let (disk, store) = open_store(&self.world, 99, log_cap);
        let store = store.map_err(text)?;
        let snapshot = store.read().map_err(text)?;
        let seen = self.known().seen;
        let (_, id) = self.look(&snapshot, seen).map_err(|e| format!("at the end: {e}"))?;
        store.checkpoint().map_err(text)?;
        self.is_still(&store.read().map_err(text)?, id).map_err(|e| format!("at the end, checkpointed: {e}"))?;
        check::structure(&store).map_err(|e| format!("at the end: {e}"))?;
        drop(snapshot);
        disk.silence();
        Ok(())
    }

    /// Power losses after those changes, or answers, that `chosen` picks by their places in the record.
    pub(super) fn power_losses(
        &self,
        rng: &mut Rng,
        log_cap: u64,
        mut chosen: impl FnMut(&mut Rng, usize) -> bool,
    ) -> Result<usize, String> {
        let (start, events) = self.world.history();
        let known = self.known();
        let attempts = &known.attempts;
        let mut replay = Replay::new(start);
        let mut seen = HashSet::new();
        let mut count = 0;
        for (at, event) in events.iter().enumerate() {
            let change = replay.apply(event);
            if !change && !matches!(event, Event::Acked(_)) || !chosen(rng, at) {
                continue;
            }
            let mut images = Vec::new();
            let limits = Limits { all: 4, sample: 2, torn: 2 };
            replay.crash_states(rng, limits, &mut |print| seen.insert((print, replay.acked)), &mut |image| {
                images.push(image)
            });
            for image in images {
                count += 1;
                let floor = replay.acked;
                let look = || -> Result<(), String> {
                    let text = |e: Error| e.to_string();
                    let world = World::new(image, Arc::new(Free));
                    let (disk, store) = open_store(&world, 1, log_cap);
                    let store = store.map_err(text)?;
                    let snapshot = store.read().map_err(text)?;
                    let (found, id) = (number(&snapshot).map_err(text)?, id_of(&snapshot).map_err(text)?);
                    let refused = known.refused.contains(&id);
                    if found < floor || id > replay.begun || attempts[id].number != found || refused {
                        return Err(format!(
                            "commit {found}, id {id}; {floor} was acknowledged, id {} begun",
                            replay.begun
                        ));
                    }
                    attempts[id].state.compare(&snapshot)?;
                    store.checkpoint().map_err(text)?;
                    attempts[id].state.compare(&store.read().map_err(text)?)?;
                    check::structure(&store)?;
                    disk.silence();
                    Ok(())
                };
                look().map_err(|e| format!("a power loss at event {at} of {}: {e}", events.len()))?;
            }
        }
        Ok(count)
    }
}
