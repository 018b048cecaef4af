//! What walks and counts have found out about the states of a table, for later ones: gaps, and differences from the tree.

use crate::engine::delta::Delta;
use crate::engine::gaps::Gaps;
use crate::log::frame::Operation;
use crate::log::reader::Frame;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Facts about a succession of states: those that this process reads from the log, one after the other.
#[derive(Default)]
pub(crate) struct Facts {
    gaps: Gaps,
    /// By table: the newest state of which it is known how it differs from its tree.
    deltas: BTreeMap<u32, KnownDelta>,
}

/// How a table differs from its tree in one state.
#[derive(Clone)]
pub(crate) struct KnownDelta {
    /// The root that the tree belongs to, and the LSN of the state.
    pub(crate) state: (u64, u64),
    pub(crate) delta: Arc<Delta>,
}

impl Facts {
    pub(crate) fn starting_at(lsn: u64) -> Facts {
        Facts { gaps: Gaps::starting_at(lsn), deltas: BTreeMap::new() }
    }

    /// The next state is that after this frame.
    pub(crate) fn follow(&mut self, frame: &Frame) {
        let lsn = frame.after.lsn;
        if !self.gaps.is_empty() {
            for operation in &frame.operations {
                match operation {
                    Operation::Change { table, key, change } if change.is_put() => {
                        self.gaps.cut(*table, key.of(&frame.bytes), lsn);
                    }
                    Operation::Change { .. } => {}
                    Operation::DropTable { table } => self.gaps.forget(*table),
                }
            }
        }
        self.gaps.follow(lsn);
    }
}

/// What is known about one state.
#[derive(Default)]
pub(crate) struct Known {
    /// What is known about the succession of states that it belongs to.
    shared: Arc<RwLock<Facts>>,
    /// What was found out about this state alone, as LSN 0.
    own: RwLock<Facts>,
}

impl Known {
    pub(crate) fn new(shared: &Arc<RwLock<Facts>>) -> Known {
        Known { shared: Arc::clone(shared), own: RwLock::default() }
    }

    /// For the same state, read in another way.
    pub(crate) fn again(&self) -> Known {
        Known::new(&self.shared)
    }

    /// The gap around a key in the state `lsn`: where it starts, or, for `ahead`, the place right behind it.
    pub(crate) fn edge(&self, table: u32, key: &[u8], lsn: u64, ahead: bool) -> Option<Vec<u8>> {
        let edge = |(start, end): (&[u8], &[u8])| if ahead { end.to_vec() } else { start.to_vec() };
        let shared = read(&self.shared).gaps.around(table, key, lsn).map(edge);
        shared.or_else(|| read(&self.own).gaps.around(table, key, 0).map(edge))
    }

    pub(crate) fn note_gap(&self, table: u32, (start, end): (Vec<u8>, Vec<u8>), lsn: u64, saves: usize) {
        let (own_start, own_end) = (start.clone(), end.clone());
        if !write(&self.shared).gaps.add(table, start, end, lsn, saves) {
            write(&self.own).gaps.add(table, own_start, own_end, 0, saves);
        }
    }

    /// How a table differs from its tree: in this state or, if that is not known, in the newest of which it is.
    pub(crate) fn delta(&self, table: u32) -> Option<KnownDelta> {
        let own = read(&self.own).deltas.get(&table).cloned();
        own.or_else(|| read(&self.shared).deltas.get(&table).cloned())
    }

    pub(crate) fn note_delta(&self, table: u32, known: KnownDelta) {
        write(&self.own).deltas.insert(table, known.clone());
        let deltas = &mut write(&self.shared).deltas;
        // Differences from an earlier tree are of no use to later states.
        deltas.retain(|_, other| other.state.0 >= known.state.0);
        if deltas.get(&table).is_none_or(|newest| newest.state < known.state) {
            deltas.insert(table, known);
        }
    }
}

fn read(facts: &RwLock<Facts>) -> std::sync::RwLockReadGuard<'_, Facts> {
    facts.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(facts: &RwLock<Facts>) -> std::sync::RwLockWriteGuard<'_, Facts> {
    facts.write().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the keys that walks, and counts of entries, look at.
#[inline]
pub(crate) fn note_step() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The keys that this thread has looked at in walks and counts since the last call.
#[cfg(test)]
pub(crate) fn take_steps() -> u64 {
    STEPS.with(std::cell::Cell::take)
}
