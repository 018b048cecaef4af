//! The entries of a table by their numbers: the counts in the tree's branches, under what the log and the buffer add.

use crate::bytes::Bytes;
use crate::disk::format::TreeRoot;
use crate::engine::buffer::Over;
use crate::engine::delta::{Delta, Nth};
use crate::engine::facts::{KnownDelta, note_step};
use crate::engine::merge::TableSource;
use crate::engine::view::{View, after};
use crate::error::{CorruptionKind, Error, Result};
use crate::tree::rank;
use std::collections::BTreeSet;
use std::sync::Arc;

impl View {
    /// How a table differs from its tree in this state. The newest state of which that is known is the start, and the
    /// keys that the log has changed since are looked up; without one, all keys of the table in the log.
    fn log_delta(&self, table: u32, root: TreeRoot) -> Result<Arc<Delta>> {
        let state = (self.tree.root.sequence, self.lsn);
        let inherited = |known: &KnownDelta| known.state.0 == state.0 && known.state.1 <= state.1;
        let known = self.known.delta(table).filter(inherited);
        let below = |key: &[u8]| self.tree_rank(table, root, key);
        let delta = match known {
            Some(known) if known.state == state => return Ok(known.delta),
            Some(KnownDelta { state: (_, lsn), mut delta }) => {
                let changed = self.memtables.iter().flat_map(|g| g.changed_between(table, lsn, self.lsn));
                let keys: BTreeSet<_> = changed.collect();
                if !keys.is_empty() {
                    let keys = keys.into_iter().map(|key| {
                        note_step();
                        let now = self.logged(table, &key).map(|change| change.is_put());
                        (key, now)
                    });
                    Arc::make_mut(&mut delta).take_in(keys, below)?;
                }
                delta
            }
            None => {
                let mut delta = Delta::default();
                let changes = self.log_changes(table);
                delta.take_in(changes.map(|(key, change)| (key, Some(change.is_put()))), below)?;
                Arc::new(delta)
            }
        };
        self.known.note_delta(table, KnownDelta { state, delta: Arc::clone(&delta) });
        Ok(delta)
    }

    fn tree_rank(&self, table: u32, root: TreeRoot, key: &[u8]) -> Result<(u64, bool)> {
        note_step();
        rank::rank(&self.tree.pages, table, root, key)
    }
}

impl<'s, B: Over> TableSource<'s, B> {
    fn below(&self, delta: &Delta, key: &[u8]) -> Result<(u64, bool)> {
        delta.rank(key, |key| self.view.tree_rank(self.table, self.root, key))
    }

    /// What `ask` finds out from the buffer's difference from the state, if there is a buffer.
    fn ask_buffer<T>(&self, logged: &Delta, ask: impl FnOnce(&Delta) -> T) -> Result<Option<T>> {
        let below = |key: &[u8]| self.below(logged, key);
        self.buffer.map(|buffer| buffer.as_buffer().ask_delta(self.table, below, ask)).transpose()
    }

    /// The number of entries.
    pub(crate) fn entries(&self) -> Result<u64> {
        let logged = self.view.log_delta(self.table, self.root)?;
        self.entries_over(&logged)
    }

    fn entries_over(&self, logged: &Delta) -> Result<u64> {
        let buffered = self.ask_buffer(logged, Delta::net)?.unwrap_or(0);
        Ok(self.root.count.saturating_add_signed(logged.net().saturating_add(buffered)))
    }

    /// The number of entries whose keys are below `key`.
    pub(crate) fn rank(&self, key: &[u8]) -> Result<u64> {
        let logged = self.view.log_delta(self.table, self.root)?;
        let in_state = |key: &[u8]| self.below(&logged, key);
        let buffered = self.ask_buffer(&logged, |buffered| buffered.rank(key, in_state))?;
        buffered.unwrap_or_else(|| in_state(key)).map(|(rank, _)| rank)
    }

    /// The entry with this many entries before it.
    pub(crate) fn nth(&self, n: u64) -> Result<Option<(Bytes<'s>, Bytes<'s>)>> {
        let logged = self.view.log_delta(self.table, self.root)?;
        if n >= self.entries_over(&logged)? {
            return Ok(None);
        }
        let in_state = match self.ask_buffer(&logged, |buffered| buffered.nth(n))? {
            Some(Nth::Added(key)) => return self.found_by_number(key.clone(), self.get(&key)?),
            Some(Nth::Below(n)) => n,
            None => n,
        };
        let n = match logged.nth(in_state) {
            Nth::Added(key) => return self.found_by_number(key.clone(), self.get(&key)?),
            Nth::Below(n) => n,
        };
        note_step();
        let Some((key, value)) = rank::nth(&self.view.tree.pages, self.table, self.root, n)? else {
            return self.found_by_number(Bytes::borrowed(&[]), None);
        };
        let written = self.buffer.and_then(|buffer| buffer.as_buffer().buffered(self.table, &key));
        let value = match written.or_else(|| self.view.logged(self.table, &key)) {
            Some(change) => after(change),
            None => Some(value),
        };
        self.found_by_number(key, value.map(|value| self.read(value)).transpose()?)
    }

    /// There is an entry, unless what the branches note is not so.
    fn found_by_number(&self, key: Bytes<'s>, value: Option<Bytes<'s>>) -> Result<Option<(Bytes<'s>, Bytes<'s>)>> {
        let lacking =
            || Error::corrupt(CorruptionKind::Branch, 0, None, "as many entries as the branches note", "fewer");
        value.map(|value| Some((key, value))).ok_or_else(lacking)
    }
}
