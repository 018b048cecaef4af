//! Whether everything that was written down fits one order of commits, and that order the times of calls and returns.

use super::clock;
use super::history::{
    COUNTERS, Intent, JOURNAL, LISTS, Line, Peek, State, TABLES, Whole, elements, look, number, read,
};
use super::lists::{self, Outcome, Step, Transaction};
use super::order::{Done, kind, out_of_order};
use super::worker::{ACCOUNTS, MONEY};
use memstone::Store;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub struct Verdict {
    /// Each begins with its kind and a colon.
    pub violations: Vec<String>,
    commits: usize,
    acknowledged: usize,
    failed: usize,
    unknown: usize,
    reads: usize,
    lists: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { violations, commits, acknowledged, failed, unknown, reads, lists } = self;
        write!(
            f,
            "{commits} commits ({acknowledged} acknowledged, {unknown} not told of, {failed} refused) and {reads} reads \
            in real-time order, {lists} transactions with lists: {} violations",
            violations.len()
        )?;
        for (kind, times) in self.kinds() {
            write!(f, "; {kind}: {times}")?;
        }
        Ok(())
    }
}

/// Everything that was written down.
#[derive(Default)]
struct Told {
    intents: HashMap<u64, Intent>,
    failed: HashSet<u64>,
    /// LSN and time.
    acknowledged: HashMap<u64, (u64, u64)>,
    wholes: Vec<Whole>,
    peeks: Vec<Peek>,
}

impl Told {
    fn read(histories: &[PathBuf]) -> Told {
        let mut told = Told::default();
        for line in histories.iter().flat_map(|path| read(path)) {
            match line {
                Line::Intent(txn, intent) => drop(told.intents.insert(txn, intent)),
                Line::Acknowledged { txn, lsn, time } => drop(told.acknowledged.insert(txn, (lsn, time))),
                Line::Failed(txn) => drop(told.failed.insert(txn)),
                Line::Whole(whole) => told.wholes.push(whole),
                Line::Peek(peek) => told.peeks.push(peek),
            }
        }
        told
    }
}

/// The content of the store in the end.
#[derive(PartialEq)]
struct Found {
    order: Vec<u64>,
    digest: u64,
    last: BTreeMap<u64, u64>,
    lists: BTreeMap<u64, Vec<u64>>,
}

impl Verdict {
    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    /// How many violations there are of each kind.
    fn kinds(&self) -> BTreeMap<&str, usize> {
        let mut kinds = BTreeMap::new();
        for violation in &self.violations {
            *kinds.entry(violation.split(':').next().unwrap_or_default()).or_default() += 1;
        }
        kinds
    }

    /// Some violations of each kind.
    pub fn shown(&self) -> Vec<&str> {
        let mut shown: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for violation in &self.violations {
            let kind = shown.entry(violation.split(':').next().unwrap_or_default()).or_default();
            if kind.len() < 4 {
                kind.push(violation);
            }
        }
        shown.into_values().flatten().collect()
    }

    /// Reads all histories, and the store as it is now.
    pub fn judge(&mut self, store: &Path, histories: &[PathBuf]) {
        let told = Told::read(histories);
        (self.acknowledged, self.failed) = (told.acknowledged.len(), told.failed.len());
        self.reads = told.wholes.len() + told.peeks.len();
        let call = clock::now();
        let found = std::panic::catch_unwind(|| whole(store));
        let found = match found {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                self.violations.push(format!("the store cannot be read: {error}"));
                None
            }
            Err(panic) => {
                let why = panic.downcast_ref::<String>().cloned();
                self.violations.push(format!("the store is unsound: {}", why.unwrap_or_default()));
                None
            }
        };
        if let Some(found) = &found {
            self.replay(&told, found);
            self.in_time(&told, found, call);
        }
        self.counters_in_time(&told, found.as_ref(), call);
        self.lists_in_time(&told, found.as_ref(), call);
    }

    /// One order of commits explains all that was read, and holds all that was acknowledged.
    fn replay(&mut self, told: &Told, found: &Found) {
        let order = &found.order;
        self.commits = order.len();
        self.unknown = order.iter().filter(|txn| !told.acknowledged.contains_key(txn)).count();
        let mut places: HashMap<u64, u64> = HashMap::new();
        let mut state = State::default();
        let mut states = States { digests: vec![state.digest], counted: HashMap::new() };
        let mut newest = 0;
        for (index, txn) in (0..).zip(order) {
            let twice = places.insert(*txn, index);
            self.must(twice.is_none(), || format!("twice: transaction {txn:x} is at {twice:?} and {index}"));
            self.must(!told.failed.contains(txn), || format!("refused: transaction {txn:x} is there"));
            let Some(intent) = told.intents.get(txn) else {
                self.violations.push(format!("unknown: no worker wrote transaction {txn:x} at {index}"));
                continue;
            };
            self.must(intent.index == index, || {
                format!("misplaced: transaction {txn:x} is at {index}, and was made for {}", intent.index)
            });
            for (table, key, seen) in &intent.reads {
                let there = state.get(*table, *key);
                self.must(*seen == there, || {
                    format!(
                        "wrong read: transaction {txn:x} at {index} read {seen:x} in {table}:{key} where {there:x} was"
                    )
                });
            }
            for (table, key, value) in &intent.writes {
                state.set(*table, *key, *value);
            }
            states.digests.push(state.digest);
            for (counter, _) in &intent.counters {
                states.counted.entry(*counter).or_default().push(index);
            }
            if let Some((lsn, _)) = told.acknowledged.get(txn) {
                self.must(*lsn > newest, || format!("LSN: transaction {txn:x} at {index} has {lsn} after {newest}"));
                newest = *lsn;
            }
        }
        for txn in told.acknowledged.keys() {
            self.must(places.contains_key(txn), || format!("lost: transaction {txn:x} was acknowledged"));
        }
        let same = states.digests.last() == Some(&found.digest);
        self.must(same, || "other rows: the store holds something else than its transactions".to_owned());
        self.reads_fit(told, &states, order);
    }

    /// Each read shows the state of some number of transactions.
    fn reads_fit(&mut self, told: &Told, states: &States, order: &[u64]) {
        // The newest acknowledged LSN before, and the oldest after, each length of the journal.
        let lsn = |txn| told.acknowledged.get(txn).map(|(lsn, _)| *lsn);
        let mut before = vec![0; order.len() + 1];
        let mut after = vec![u64::MAX; order.len() + 1];
        for (i, txn) in order.iter().enumerate() {
            before[i + 1] = lsn(txn).unwrap_or(0).max(before[i]);
        }
        for (i, txn) in order.iter().enumerate().rev() {
            after[i] = lsn(txn).unwrap_or(u64::MAX).min(after[i + 1]);
        }
        for Whole { lsn, length, digest, .. } in &told.wholes {
            let Some(at) = usize::try_from(*length).ok().filter(|at| *at < states.digests.len()) else {
                self.violations.push(format!("no state: a snapshot at {lsn} had {length} transactions"));
                continue;
            };
            self.must(states.digests[at] == *digest, || {
                format!("no state: a snapshot at {lsn} with {length} transactions shows no committed state")
            });
            self.must(before[at] <= *lsn && *lsn < after[at], || {
                format!("LSN: a snapshot at {lsn} has {length} transactions, by LSN it should not")
            });
        }
        for Peek { length, counters, .. } in &told.peeks {
            for (counter, value) in counters {
                let counted = states.counted(*counter, *length);
                self.must(counted == *value, || {
                    format!("no state: of {length} transactions {counted} counted {counter}, which was read as {value}")
                });
            }
        }
    }

    /// Numbers of transactions: whatever begins after something was shown or told sees at least as many.
    fn in_time(&mut self, told: &Told, found: &Found, call: u64) {
        let commits = (0..).zip(&found.order).filter_map(|(index, txn)| {
            let ret = told.acknowledged.get(txn).map(|(_, time)| *time);
            let call = told.intents.get(txn)?.call;
            Some(Done { call, ret, found: index, left: index + 1, what: format!("transaction {txn:x}") })
        });
        let seen = |call, ret, length, what| Done { call, ret: Some(ret), found: length, left: length, what };
        let wholes = told.wholes.iter().map(|w| seen(w.call, w.ret, w.length, format!("a snapshot of {:x}", w.thread)));
        let peeks = told.peeks.iter().map(|p| seen(p.call, p.ret, p.length, p.name()));
        let last = seen(call, u64::MAX, found.order.len() as u64, "the end".to_owned());
        let done: Vec<Done> = commits.chain(wholes).chain(peeks).chain([last]).collect();
        self.violations.extend(out_of_order(&done).into_iter().map(|wrong| format!("{}: {wrong}", kind(&wrong))));
    }

    /// The same for each counter, whatever the order of commits looks like.
    fn counters_in_time(&mut self, told: &Told, found: Option<&Found>, call: u64) {
        let there: HashSet<u64> = found.iter().flat_map(|found| found.order.iter().copied()).collect();
        let mut counters: BTreeMap<u64, Vec<Done>> = BTreeMap::new();
        for (txn, intent) in &told.intents {
            let ret = told.acknowledged.get(txn).map(|(_, time)| *time);
            if ret.is_some() || there.contains(txn) {
                for (counter, n) in &intent.counters {
                    let what = format!("transaction {txn:x}, counter {counter}");
                    let done = Done { call: intent.call, ret, found: n - 1, left: *n, what };
                    counters.entry(*counter).or_default().push(done);
                }
            }
        }
        let mut read = |counter, n, call, ret, what| {
            counters.entry(counter).or_default().push(Done { call, ret: Some(ret), found: n, left: n, what });
        };
        for peek @ Peek { call, ret, counters, .. } in &told.peeks {
            counters.iter().for_each(|(counter, n)| {
                read(*counter, *n, *call, *ret, format!("{}, counter {counter}", peek.name()));
            });
        }
        for (counter, n) in found.iter().flat_map(|found| &found.last) {
            read(*counter, *n, call, u64::MAX, "the end".to_owned());
        }
        let wrong = counters.values().flat_map(|done| out_of_order(done));
        self.violations.extend(wrong.map(|wrong| format!("counter: {wrong}")));
    }

    /// Lists: no order of transactions that keeps to the times explains what was read.
    fn lists_in_time(&mut self, told: &Told, found: Option<&Found>, call: u64) {
        let reads =
            |lists: &[(u64, Vec<u64>)]| lists.iter().map(|(l, e)| Step::Read(*l, e.clone())).collect::<Vec<_>>();
        let mut all = Vec::new();
        for (txn, intent) in &told.intents {
            let outcome = match told.acknowledged.get(txn) {
                Some((_, time)) => Outcome::Done(*time),
                None if told.failed.contains(txn) => Outcome::Failed,
                None => Outcome::Unknown,
            };
            let mut steps = reads(&intent.lists);
            steps.extend(intent.appends.iter().map(|(list, element)| Step::Append(*list, *element)));
            all.push(Transaction { call: intent.call, outcome, steps, name: format!("transaction {txn:x}") });
        }
        for peek in &told.peeks {
            let (outcome, name) = (Outcome::Done(peek.ret), peek.name());
            all.push(Transaction { call: peek.call, outcome, steps: reads(&peek.lists), name });
        }
        all.retain(|transaction| !transaction.steps.is_empty());
        all.sort_by_key(|transaction| transaction.call);
        if let Some(found) = found {
            let lists: Vec<_> = found.lists.iter().map(|(list, elements)| (*list, elements.clone())).collect();
            let outcome = Outcome::Done(u64::MAX - 1);
            all.push(Transaction { call, outcome, steps: reads(&lists), name: "the end".to_owned() });
        }
        self.lists = all.len();
        self.violations.extend(lists::violations(&all).into_iter().map(|wrong| format!("lists: {wrong}")));
    }
}

/// All states that there were.
struct States {
    digests: Vec<u64>,
    /// Each counter's transactions.
    counted: HashMap<u64, Vec<u64>>,
}

impl States {
    fn counted(&self, counter: u64, length: u64) -> u64 {
        self.counted.get(&counter).map_or(0, |at| at.partition_point(|index| *index < length) as u64)
    }
}

/// The content of the store; everything is read, as it is and after the log was checkpointed.
fn whole(path: &Path) -> memstone::Result<Found> {
    let store = Store::open(path)?;
    let first = contents(&store)?;
    store.checkpoint()?;
    assert!(contents(&store)? == first, "checkpointing the log has changed something");
    store.close()?;
    let report = memstone::check(path, &memstone::CheckOptions::new())?;
    assert!(report.is_clean(), "{report:#?}");
    let store = Store::open(path)?;
    assert_eq!(look(&store.read()?)?.1, first.digest, "closing has changed something");
    Ok(first)
}

fn contents(store: &Store) -> memstone::Result<Found> {
    let snap = store.read()?;
    let (_, digest) = look(&snap)?;
    let journal = snap.raw(JOURNAL)?;
    let order = journal.prefix(b"")?.map(|item| Ok(number(&item?.1))).collect::<memstone::Result<Vec<_>>>()?;
    let backward = journal.prefix(b"")?.rev().map(|item| Ok(number(&item?.1))).collect::<memstone::Result<Vec<_>>>()?;
    assert!(order.iter().rev().eq(&backward), "the journal reads otherwise backwards");
    let (mut sum, mut touched) = (0, 0);
    for item in snap.raw("accounts")?.prefix(b"")? {
        sum += number(&item?.1);
        touched += 1;
    }
    assert_eq!(sum + (ACCOUNTS - touched) * MONEY, ACCOUNTS * MONEY, "money came or went");
    let mut last = BTreeMap::new();
    for item in snap.raw(TABLES[COUNTERS])?.prefix(b"")? {
        let (key, value) = item?;
        last.insert(number(&key), number(&value));
    }
    let mut lists = BTreeMap::new();
    for item in snap.raw(TABLES[LISTS])?.prefix(b"")? {
        let (key, value) = item?;
        lists.insert(number(&key), elements(Some(&value)));
    }
    Ok(Found { order, digest, last, lists })
}
