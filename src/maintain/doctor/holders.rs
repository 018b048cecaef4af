//! The holders of a store's locks, as the system reports them, joined with what processes publish about
//! themselves in the sidecar.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::diagnosis::{OpenProcess, PinnedVersion, Role};
use super::quick::Look;
use crate::disk::host::time_of;
use crate::disk::locks::{APPEND, CHECKPOINT, OPEN, PIN, READERS, SYNC, WRITER, WRITERS};
use crate::disk::pins::{Pins, joined};
use crate::disk::platform::{self, Disk};
use crate::disk::surroundings::running_since;
use crate::{Holder, Locks, ProcessStats};

/// Versions have lock bytes below this many.
const VERSIONS: u64 = (1 << 61) - 1;
/// What a lock on a byte, or on one of this many that follow, says about its holder.
const ROLES: [(u64, u64, Role); 8] = [
    (OPEN, 1, Role::Opening),
    (WRITER, 1, Role::Writer),
    (APPEND, 1, Role::Appending),
    (SYNC, 1, Role::Flushing),
    (CHECKPOINT, 1, Role::Checkpoint),
    (WRITERS, READERS - WRITERS, Role::Writing),
    (READERS, READERS - WRITERS, Role::Reading),
    (PIN, VERSIONS, Role::Pinning),
];

/// The locks on a data file at one moment.
#[derive(Default)]
pub(super) struct Held {
    seen: Vec<platform::Held>,
    /// The pinned versions of all processes.
    pins: Vec<Range<u64>>,
    /// Locks held by processes that this one cannot see.
    pub(super) nameless: BTreeSet<Role>,
}

/// Queries the system, through a description that holds no lock.
pub(super) fn look(disk: &Arc<dyn Disk>) -> Held {
    let seen = disk.holders(OPEN, u64::MAX - OPEN);
    let is_seen = |first, len| seen.iter().any(|held| overlap(held, first, len).is_some());
    let is_held = |first, len| disk.probe(first, len).is_ok_and(|held| held.is_some());
    let nameless = ROLES.iter().filter(|(first, len, _)| !is_seen(*first, *len) && is_held(*first, *len));
    let nameless = nameless.map(|(_, _, role)| *role).collect();
    let pins = Pins::new(Arc::clone(disk)).all(VERSIONS).unwrap_or_default();
    Held { seen, pins, nameless }
}

/// The part of a lock that lies on these bytes, counted from the first of them.
fn overlap(held: &platform::Held, first: u64, len: u64) -> Option<Range<u64>> {
    let (from, to) = (held.first.max(first), held.last.min(first + (len - 1)));
    (from <= to).then(|| from - first..to - first + 1)
}

/// Whether a process is the one that published its identity. (A process id alone may belong to another process in
/// another container.)
fn is_same(seen: &Holder, told: &Holder) -> bool {
    seen.pid == told.pid && seen.host == told.host
}

fn told_by<'l>(locks: Option<&'l Locks>, holder: &Holder) -> Option<&'l ProcessStats> {
    locks?.processes.iter().find(|told| is_same(holder, &told.process))
}

impl Held {
    /// Each process that holds a lock, and each that has published in the sidecar that it has the store open.
    pub(super) fn processes(&self, locks: Option<&Locks>, now: SystemTime) -> Vec<OpenProcess> {
        let mut roles: BTreeMap<u32, (&Holder, BTreeSet<Role>)> = BTreeMap::new();
        for held in &self.seen {
            let (_, of_process) = roles.entry(held.holder.pid).or_insert((&held.holder, BTreeSet::new()));
            let overlapping = ROLES.iter().filter(|(first, len, _)| overlap(held, *first, *len).is_some());
            of_process.extend(overlapping.map(|(_, _, role)| *role));
        }
        let mut processes: Vec<OpenProcess> = Vec::new();
        for (holder, roles) in roles.into_values().filter(|(_, roles)| !roles.is_empty()) {
            let told = told_by(locks, holder);
            let process = Holder { since: told.and_then(|told| told.process.since), ..holder.clone() };
            processes.push(OpenProcess {
                running_since: running_since(process.pid),
                process,
                roles: roles.into_iter().collect(),
                waiting_or_writing: None,
                oldest_state: told.and_then(|told| told.oldest_state),
            });
        }
        for told in locks.into_iter().flat_map(|locks| &locks.processes) {
            if !processes.iter().any(|open| is_same(&open.process, &told.process)) {
                processes.push(OpenProcess {
                    process: told.process.clone(),
                    roles: vec![Role::Writing],
                    waiting_or_writing: None,
                    running_since: None,
                    oldest_state: told.oldest_state,
                });
            }
        }
        note_turns(&mut processes, locks, now);
        processes
    }

    /// Each range of versions that is kept: by a visible process, or by another.
    pub(super) fn pins(&self, look: Option<&Look>, locks: Option<&Locks>, now: SystemTime) -> Vec<PinnedVersion> {
        let newest = look.and_then(|look| look.root.as_ref()).map_or(u64::MAX, |root| root.sequence);
        let of = |range: Range<u64>, process: Option<Holder>, age| {
            let outdated = range.end <= newest && newest != u64::MAX;
            let at_least = look.filter(|_| outdated).and_then(|look| superseded(look, range.end, now));
            PinnedVersion { from: range.start, to: range.end - 1, outdated, process, age, at_least }
        };
        let mut pins = Vec::new();
        let mut by_process: BTreeMap<u32, (&Holder, Vec<Range<u64>>)> = BTreeMap::new();
        for held in &self.seen {
            if let Some(range) = overlap(held, PIN, VERSIONS) {
                by_process.entry(held.holder.pid).or_insert((&held.holder, Vec::new())).1.push(range);
            }
        }
        for (holder, ranges) in by_process.values() {
            let since = told_by(locks, holder).and_then(|told| told.oldest_state);
            for (index, range) in joined(ranges.clone()).into_iter().enumerate() {
                // A process publishes the age of the oldest version only.
                let age = since.filter(|_| index == 0).and_then(|since| now.duration_since(since).ok());
                pins.push(of(range, Some((*holder).clone()), age));
            }
        }
        let seen = joined(by_process.into_values().flat_map(|(_, ranges)| ranges).collect());
        let unseen = self.pins.iter().filter(|range| !seen.iter().any(|s| s.start < range.end && range.start < s.end));
        pins.extend(unseen.map(|range| of(range.clone(), None, None)));
        pins.sort_by_key(|pin| (pin.from, pin.to));
        pins
    }
}

/// Notes which processes write and which wait, as they have published it.
fn note_turns(processes: &mut [OpenProcess], locks: Option<&Locks>, now: SystemTime) {
    let Some(locks) = locks else { return };
    let waiting = locks.waiting.iter().map(|holder| (holder, Some(Role::Waiting)));
    for (holder, role) in locks.writer.iter().map(|holder| (holder, None)).chain(waiting) {
        if let Some(open) = processes.iter_mut().find(|open| is_same(&open.process, holder)) {
            open.waiting_or_writing = holder.since.and_then(|since| now.duration_since(since).ok());
            open.roles.extend(role);
        }
    }
}

/// For how long there has been a root from `version` on.
fn superseded(look: &Look, version: u64, now: SystemTime) -> Option<Duration> {
    let (_, time) = look.times.iter().filter(|(sequence, time)| *sequence >= version && *time > 0).min()?;
    now.duration_since(time_of(*time)).ok()
}
