//! Whether everything that was written down fits one order of commits.

use super::history::{Intent, JOURNAL, Line, State, look, number, read};
use super::worker::{ACCOUNTS, MONEY};
use memstone::Store;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub struct Verdict {
    pub violations: Vec<String>,
    commits: usize,
    acknowledged: usize,
    failed: usize,
    unknown: usize,
    snapshots: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { violations, commits, acknowledged, failed, unknown, snapshots } = self;
        write!(
            f,
            "{commits} commits ({acknowledged} acknowledged, {unknown} not told of, {failed} refused), \
            {snapshots} snapshots checked: {} violations",
            violations.len()
        )
    }
}

impl Verdict {
    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    /// Reads all histories, and the store as it is now.
    pub fn judge(&mut self, store: &Path, histories: &[PathBuf]) {
        let histories: Vec<Vec<Line>> = histories.iter().map(|path| read(path)).collect();
        let mut intents: HashMap<u64, &Intent> = HashMap::new();
        let mut failed = HashSet::new();
        let mut lsns: HashMap<u64, u64> = HashMap::new();
        for line in histories.iter().flatten() {
            match line {
                Line::Intent(txn, intent) => drop(intents.insert(*txn, intent)),
                Line::Acknowledged(txn, lsn) => drop(lsns.insert(*txn, *lsn)),
                Line::Failed(txn) => drop(failed.insert(*txn)),
                Line::Snapshot { .. } => self.snapshots += 1,
            }
        }
        let (order, last) = match whole(store) {
            Ok(whole) => whole,
            Err(error) => {
                self.violations.push(format!("the store cannot be read: {error}"));
                return;
            }
        };
        (self.commits, self.acknowledged, self.failed) = (order.len(), lsns.len(), failed.len());
        self.unknown = order.iter().filter(|txn| !lsns.contains_key(txn)).count();

        let mut places: HashMap<u64, u64> = HashMap::new();
        let mut state = State::default();
        let mut digests = vec![state.digest];
        let mut newest = 0;
        for (index, txn) in (0..).zip(&order) {
            let twice = places.insert(*txn, index);
            self.must(twice.is_none(), || format!("transaction {txn:x} is there twice, at {twice:?} and {index}"));
            self.must(!failed.contains(txn), || format!("transaction {txn:x} was refused, and is there"));
            let Some(intent) = intents.get(txn) else {
                self.violations.push(format!("transaction {txn:x} at {index} was never written by anybody"));
                continue;
            };
            self.must(intent.index == index, || {
                format!("transaction {txn:x} is at {index}, and was made for {}", intent.index)
            });
            for (table, key, seen) in &intent.reads {
                let there = state.get(*table, *key);
                self.must(*seen == there, || {
                    format!("transaction {txn:x} at {index} read {seen:x} in {table}:{key} where {there:x} was")
                });
            }
            for (table, key, value) in &intent.writes {
                state.set(*table, *key, *value);
            }
            digests.push(state.digest);
            if let Some(lsn) = lsns.get(txn) {
                self.must(*lsn > newest, || format!("transaction {txn:x} at {index} has LSN {lsn} after {newest}"));
                newest = *lsn;
            }
        }
        for txn in lsns.keys() {
            self.must(places.contains_key(txn), || format!("transaction {txn:x} was acknowledged, and is lost"));
        }
        self.must(digests.last() == Some(&last), || "the store holds something else than its transactions".to_owned());
        self.snapshots_fit(&histories, &digests, &order, &lsns, &places);
    }

    fn snapshots_fit(
        &mut self,
        histories: &[Vec<Line>],
        digests: &[u64],
        order: &[u64],
        lsns: &HashMap<u64, u64>,
        places: &HashMap<u64, u64>,
    ) {
        // The newest acknowledged LSN before, and the oldest after, each length of the journal.
        let mut before = vec![0; order.len() + 1];
        let mut after = vec![u64::MAX; order.len() + 1];
        for (i, txn) in order.iter().enumerate() {
            before[i + 1] = lsns.get(txn).copied().unwrap_or(0).max(before[i]);
        }
        for (i, txn) in order.iter().enumerate().rev() {
            after[i] = lsns.get(txn).copied().unwrap_or(u64::MAX).min(after[i + 1]);
        }
        for history in histories {
            // What each thread has seen or done must stay.
            let mut floor: HashMap<u64, u64> = HashMap::new();
            for line in history {
                match line {
                    Line::Acknowledged(txn, _) => {
                        if let Some(index) = places.get(txn) {
                            let floor = floor.entry(*txn >> 32).or_default();
                            *floor = (*floor).max(index + 1);
                        }
                    }
                    Line::Snapshot { thread, lsn, length, digest } => {
                        let Some(at) = usize::try_from(*length).ok().filter(|at| *at < digests.len()) else {
                            self.violations.push(format!("a snapshot at {lsn} had {length} transactions"));
                            continue;
                        };
                        self.must(digests[at] == *digest, || {
                            format!("a snapshot at {lsn} with {length} transactions shows no committed state")
                        });
                        self.must(before[at] <= *lsn && *lsn < after[at], || {
                            format!("a snapshot at {lsn} has {length} transactions, by LSN it should not")
                        });
                        let floor = floor.entry(*thread).or_default();
                        self.must(*floor <= *length, || {
                            format!("thread {thread:x} knew of {floor} transactions, and then saw {length}")
                        });
                        *floor = (*floor).max(*length);
                    }
                    Line::Intent(..) | Line::Failed(_) => {}
                }
            }
        }
    }
}

/// The order of the transactions in the store, and the digest of all rows; everything is read, as it
/// is and after the log was folded.
fn whole(path: &Path) -> memstone::Result<(Vec<u64>, u64)> {
    let store = Store::open(path)?;
    let read = || -> memstone::Result<(Vec<u64>, u64)> {
        let snap = store.read()?;
        let (_, digest) = look(&snap)?;
        let journal = snap.raw(JOURNAL)?;
        let mut order = Vec::new();
        for item in journal.prefix(b"")? {
            order.push(number(&item?.1));
        }
        let mut backward = Vec::new();
        for item in journal.prefix(b"")?.rev() {
            backward.push(number(&item?.1));
        }
        backward.reverse();
        assert!(order == backward, "the journal reads otherwise backwards");
        let (mut sum, mut touched) = (0, 0);
        for item in snap.raw("accounts")?.prefix(b"")? {
            sum += number(&item?.1);
            touched += 1;
        }
        assert_eq!(sum + (ACCOUNTS - touched) * MONEY, ACCOUNTS * MONEY, "money came or went");
        Ok((order, digest))
    };
    let first = read()?;
    store.checkpoint()?;
    assert!(read()? == first, "folding the log has changed something");
    store.close()?;
    let report = memstone::check(path, &memstone::CheckOptions::new())?;
    assert!(report.is_clean(), "{report:#?}");
    let store = Store::open(path)?;
    assert_eq!(look(&store.read()?)?.1, first.1, "closing has changed something");
    Ok(first)
}
