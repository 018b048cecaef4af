//! What a store must hold: plain maps, changed by the same steps as the store.

use crate::disk::sim::Rng;
use crate::engine::commit::Durability;
use crate::error::Result;
use crate::store::Store;
use crate::txn::snapshot::Snapshot;
use crate::txn::write::{WriteOptions, WriteTxn};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

pub(super) type Value = Arc<[u8]>;
pub(super) type Rows = BTreeMap<Vec<u8>, Value>;

/// All tables. Each commit `n` writes its number into the table `meta`, so that a state is known by
/// the number it bears, and every state differs from every other.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Model(pub(super) BTreeMap<String, Arc<Rows>>);

pub(super) const META: &str = "meta";
pub(super) const NUMBER: &[u8] = b"commit";

#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(String, Vec<u8>, Value),
    Delete(String, Vec<u8>),
    Clear(String),
    Drop(String),
    Rename(String, String),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Commit(Vec<Change>, Durability),
    Checkpoint,
    Flush,
    /// Leaves the store as a process does that ends well, and opens it again.
    Reopen,
    /// Dies, and opens it again.
    Die,
}

impl Model {
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(table, key, value) => {
                    let rows = self.0.entry(table.clone()).or_default();
                    Arc::make_mut(rows).insert(key.clone(), Arc::clone(value));
                }
                Change::Delete(table, key) => {
                    Arc::make_mut(self.0.entry(table.clone()).or_default()).remove(key);
                }
                Change::Clear(table) => {
                    if let Some(rows) = self.0.get_mut(table) {
                        *rows = Arc::default();
                    }
                }
                Change::Drop(table) => {
                    self.0.remove(table);
                }
                Change::Rename(from, to) => {
                    if from != to
                        && !self.0.contains_key(to)
                        && let Some(rows) = self.0.remove(from)
                    {
                        self.0.insert(to.clone(), rows);
                    }
                }
            }
        }
    }

    /// Says how the store differs from this model.
    pub(super) fn compare(&self, snapshot: &Snapshot) -> Result<(), String> {
        let text = |e: crate::Error| e.to_string();
        let tables = snapshot.tables().map_err(text)?;
        let names: Vec<&String> = tables.iter().map(|table| &table.name).collect();
        if !names.iter().copied().eq(self.0.keys()) {
            return Err(format!("tables {names:?} instead of {:?}", self.0.keys().collect::<Vec<_>>()));
        }
        for (info, (name, rows)) in tables.iter().zip(&self.0) {
            let table = snapshot.raw(name).map_err(text)?;
            let mut expected = rows.iter();
            for entry in table.range(..).map_err(text)? {
                let (key, value) = entry.map_err(text)?;
                match expected.next() {
                    Some((k, v)) if key[..] == k[..] && value[..] == v[..] => {}
                    Some((k, v)) => {
                        return Err(format!("{name}: {:?}+{} instead of {k:?}+{}", &key[..], value.len(), v.len()));
                    }
                    None => return Err(format!("{name}: {:?} should not be there", &key[..])),
                }
            }
            if let Some((key, _)) = expected.next() {
                return Err(format!("{name}: {key:?} is missing"));
            }
            if info.entries != rows.len() as u64 {
                return Err(format!("{name}: {} entries are said to be there, not {}", info.entries, rows.len()));
            }
        }
        Ok(())
    }
}

pub(super) fn perform(tx: &WriteTxn, changes: &[Change]) -> Result<()> {
    for change in changes {
        match change {
            // Half of the long values are streamed.
            Change::Put(table, key, value) if value.len() >= 32 << 10 && value.len() % 2 == 1 => {
                let table = tx.raw(table)?;
                let mut writer = table.writer(key, value.len() as u64)?;
                let written = value.chunks(10_000).try_for_each(|part| writer.write_all(part));
                written.map_err(|error| error.downcast::<crate::Error>().unwrap())?;
                writer.finish()?;
            }
            Change::Put(table, key, value) => tx.raw(table)?.put(key, value)?,
            Change::Delete(table, key) => tx.raw(table)?.delete(key)?,
            Change::Clear(table) => tx.clear_table(table)?,
            Change::Drop(table) => {
                tx.drop_table(table)?;
            }
            Change::Rename(from, to) => match tx.rename_table(from, to) {
                Err(crate::Error::NoTable { .. } | crate::Error::TableExists { .. }) => {}
                other => other?,
            },
        }
    }
    Ok(())
}

pub(super) fn commit(store: &Store, changes: &[Change], durability: Durability) -> Result<()> {
    store.write_with(WriteOptions::new().durability(durability), |tx| perform(tx, changes))
}

/// The number of the newest commit in this state; 0 before the first.
pub(super) fn number(snapshot: &Snapshot) -> Result<usize> {
    let value = snapshot.raw(META)?.get(NUMBER)?;
    Ok(value.map_or(0, |v| usize::try_from(u64::from_be_bytes(v[..].try_into().unwrap())).unwrap()))
}

pub(super) fn numbered(mut changes: Vec<Change>, n: usize) -> Vec<Change> {
    changes.push(Change::Put(META.into(), NUMBER.to_vec(), Arc::from((n as u64).to_be_bytes())));
    changes
}

/// What a workload does most of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    Batches,
    Relaxed,
    /// Many frames through a small log: its ring is used over and over.
    Ring,
    /// Bursts that make the log grow, then rest.
    Growth,
    Long,
    Direct,
    Tables,
    Deletes,
    Mixed,
}

pub(super) const KINDS: [Kind; 10] = [
    Kind::Single,
    Kind::Batches,
    Kind::Relaxed,
    Kind::Ring,
    Kind::Growth,
    Kind::Long,
    Kind::Direct,
    Kind::Tables,
    Kind::Deletes,
    Kind::Mixed,
];

impl Kind {
    pub(super) fn log_cap(self) -> u64 {
        match self {
            Kind::Growth => 1 << 20,
            // Several long values are to lie beside the log before it is checkpointed.
            Kind::Long => 256 << 10,
            _ => 64 << 10,
        }
    }
}

fn bytes(rng: &mut Rng, len: usize) -> Value {
    let mut value = Vec::with_capacity(len + 8);
    // Long values must differ in every sector, at little cost.
    let seed = rng.next();
    for i in 0..len.div_ceil(8) as u64 {
        value.extend_from_slice(&(seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes());
    }
    value.truncate(len);
    value.into()
}

fn put(rng: &mut Rng, table: &str, keys: usize, len: usize) -> Change {
    Change::Put(table.into(), format!("key{:04}", rng.below(keys)).into_bytes(), bytes(rng, len))
}

fn delete(rng: &mut Rng, table: &str, keys: usize) -> Change {
    Change::Delete(table.into(), format!("key{:04}", rng.below(keys)).into_bytes())
}

/// So many steps of a kind.
pub(super) fn steps(kind: Kind, rng: &mut Rng, count: usize) -> Vec<Step> {
    (0..count).map(|_| step(kind, rng)).collect()
}

fn step(kind: Kind, rng: &mut Rng) -> Step {
    let tables = ["a", "b", "c", "d"];
    let mut durability = Durability::Sync;
    let mut changes = Vec::new();
    match kind {
        Kind::Single => {
            let len = rng.below(300);
            changes.push(put(rng, "a", 50, len));
        }
        Kind::Batches => {
            for _ in 0..1 + rng.below(40) {
                let len = rng.below(200);
                let table = tables[rng.below(2)];
                changes.push(put(rng, table, 300, len));
            }
        }
        Kind::Relaxed => {
            if rng.one_in(10) {
                return Step::Flush;
            }
            if !rng.one_in(8) {
                durability = Durability::Relaxed;
            }
            let len = rng.below(1500);
            changes.push(put(rng, "a", 50, len));
        }
        Kind::Ring => {
            let len = 2000 + rng.below(6000);
            changes.push(put(rng, "a", 8, len));
            if rng.one_in(3) {
                durability = Durability::Relaxed;
            }
        }
        Kind::Growth => {
            let len = 4000 + rng.below(8000);
            changes.push(put(rng, "a", 10, len));
            if !rng.one_in(4) {
                durability = Durability::Relaxed;
            }
            if rng.one_in(12) {
                return Step::Reopen;
            }
        }
        Kind::Long => {
            let len = if rng.one_in(2) { (32 << 10) - 2 + rng.below(20_000) } else { rng.below(9000) };
            changes.push(put(rng, "a", 6, len));
            if rng.one_in(4) {
                changes.push(delete(rng, "a", 6));
            }
        }
        Kind::Direct => {
            if rng.one_in(3) {
                for _ in 0..16 + rng.below(30) {
                    let len = 1000 + rng.below(500);
                    changes.push(put(rng, "a", 60, len));
                }
            } else {
                let len = rng.below(500);
                changes.push(put(rng, "a", 60, len));
            }
            if rng.one_in(6) {
                durability = Durability::Relaxed;
            }
        }
        Kind::Tables => {
            for _ in 0..1 + rng.below(3) {
                let (table, other) = (tables[rng.below(4)], tables[rng.below(4)]);
                changes.push(match rng.below(8) {
                    0 => Change::Clear(table.into()),
                    1 => Change::Drop(table.into()),
                    2 => Change::Rename(table.into(), other.into()),
                    _ => {
                        let len = rng.below(2000);
                        put(rng, table, 30, len)
                    }
                });
            }
        }
        Kind::Deletes => {
            for _ in 0..1 + rng.below(20) {
                let len = rng.below(900);
                let put = put(rng, "a", 100, len);
                changes.push(if rng.one_in(2) { put } else { delete(rng, "a", 100) });
            }
        }
        Kind::Mixed => {
            let at = rng.below(KINDS.len() - 1);
            let kind = KINDS[at];
            return step(kind, rng);
        }
    }
    match rng.below(if kind == Kind::Growth || kind == Kind::Ring { 60 } else { 24 }) {
        0 | 1 => Step::Checkpoint,
        2 => Step::Reopen,
        3 => Step::Die,
        _ => Step::Commit(changes, durability),
    }
}
