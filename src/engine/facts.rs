//! What walks and counts have found out about the states of a table, for later ones: gaps, and numbers of entries.

use crate::engine::gaps::Gaps;
use crate::log::frame::{Operation, Operations};
use crate::log::reader::Frame;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Facts about a succession of states: those that this process reads from the log, one after the other.
#[derive(Default)]
pub(crate) struct Facts {
    gaps: Gaps,
    /// The newest number of entries of a table that is known, and the LSN of its state.
    counts: BTreeMap<u32, (u64, u64)>,
}

impl Facts {
    pub(crate) fn starting_at(lsn: u64) -> Facts {
        Facts { gaps: Gaps::starting_at(lsn), counts: BTreeMap::new() }
    }

    /// The next state is that after this frame.
    pub(crate) fn follow(&mut self, frame: &Frame) {
        let lsn = frame.after.lsn;
        if !self.gaps.is_empty() {
            let payload = frame.bytes.get(frame.payload()).unwrap_or_default();
            for operation in Operations::new(payload).flatten() {
                match operation {
                    Operation::Put { table, key, .. } | Operation::PutOverflow { table, key, .. } => {
                        self.gaps.cut(table, payload.get(key).unwrap_or_default(), lsn);
                    }
                    Operation::DropTable { table } => self.gaps.forget(table),
                    Operation::Delete { .. } => {}
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

    /// The number of entries of a table in a state, and the LSN of that state: this one, or, if its number is not
    /// known, the newest whose number is.
    pub(crate) fn count(&self, table: u32, lsn: u64) -> Option<(u64, u64)> {
        let own = read(&self.own).counts.get(&table).map(|(_, count)| (lsn, *count));
        own.or_else(|| read(&self.shared).counts.get(&table).copied())
    }

    pub(crate) fn note_count(&self, table: u32, lsn: u64, count: u64) {
        write(&self.own).counts.insert(table, (0, count));
        let counts = &mut write(&self.shared).counts;
        if counts.get(&table).is_none_or(|(newest, _)| *newest < lsn) {
            counts.insert(table, (lsn, count));
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
