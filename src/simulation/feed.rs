//! The change feed, followed through every schedule and power loss.
//!
//! A reader that stands somewhere gets exactly the commits since then, in their order, each with exactly the keys
//! and tables that it changed; or a gap. If what it had seen is not part of the history any more, it gets a gap.
//! A reader that sets its cursor in the transaction with its effects has each effect once.

use super::check;
use super::model::{Change, Kind, META, Model, NUMBER, Step, Value, commit, number, numbered, steps};
use super::oracle::{Attempt, Oracle, id_of};
use super::{new_store, open_store};
use crate::disk::format::{JOURNAL_COVERS, TABLE_JOURNAL};
use crate::disk::sim::{Event, Free, Limits, Replay, Rng, World};
use crate::engine::commit::Durability;
use crate::engine::feed::{Covered, Mark, part_key};
use crate::engine::journal::KEEPS_NONE;
use crate::txn::snapshot::Snapshot;
use crate::txn::write::WriteTxn;
use crate::{Bytes, Changed, Changes, Commit, Cursor, Error, Feed, Gap, Store};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// The journal of a simulated store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Journal {
    /// The log alone.
    None,
    /// It has room for some commits.
    Short,
    /// Of all.
    Long,
}

impl Journal {
    pub(super) fn of(seed: u64) -> Journal {
        [Journal::None, Journal::Short, Journal::Long][usize::try_from(seed % 3).unwrap()]
    }

    pub(super) fn begin(self, store: &Store) {
        match self {
            Journal::None => {}
            Journal::Short => store.set_journal(Some(900)).unwrap(),
            Journal::Long => store.set_journal(Some(1 << 20)).unwrap(),
        }
    }
}

/// What readers were told.
#[derive(Default, Debug)]
pub(super) struct Told {
    pub(super) commits: usize,
    pub(super) truncated: usize,
    pub(super) other_history: usize,
}

type Rows = BTreeMap<Vec<u8>, Option<Value>>;
type Touched = BTreeMap<String, BTreeMap<Vec<u8>, bool>>;

/// What a transaction with these changes, over `state`, does to keys: whether each is put, or deleted.
fn touched(state: &mut Model, changes: &[Change]) -> Touched {
    let mut touched = Touched::new();
    for change in changes {
        match change {
            Change::Put(table, key, _) => _ = touched.entry(table.clone()).or_default().insert(key.clone(), true),
            Change::Delete(table, key) => _ = touched.entry(table.clone()).or_default().insert(key.clone(), false),
            Change::Clear(table) | Change::Drop(table) => _ = touched.remove(table),
            Change::Rename(from, to) => {
                if from != to
                    && state.0.contains_key(from)
                    && !state.0.contains_key(to)
                    && let Some(keys) = touched.remove(from)
                {
                    touched.insert(to.clone(), keys);
                }
            }
        }
        state.apply(std::slice::from_ref(change));
    }
    touched.retain(|_, keys| !keys.is_empty());
    touched
}

/// What a commit of the feed says of keys.
fn told_of(commit: &Commit) -> Touched {
    let mut told = Touched::new();
    for change in commit.changes() {
        match change {
            Changed::Put { table, key } => _ = told.entry(table.to_owned()).or_default().insert(key.to_vec(), true),
            Changed::Deleted { table, key } => {
                _ = told.entry(table.to_owned()).or_default().insert(key.to_vec(), false)
            }
            _ => {}
        }
    }
    told
}

/// A copy of the store that a reader keeps by the feed alone; the value of a key that was put is not known yet.
struct Copy(BTreeMap<String, Rows>);

impl Copy {
    fn of(model: &Model) -> Copy {
        let row = |(key, value): (&Vec<u8>, &Value)| (key.clone(), Some(Arc::clone(value)));
        Copy(model.0.iter().map(|(name, rows)| (name.clone(), rows.iter().map(row).collect())).collect())
    }

    fn take_in(&mut self, commit: &Commit) -> Result<(), String> {
        let mut renamed = Vec::new();
        for change in commit.changes() {
            let there = self.0.contains_key(change.table());
            match change {
                Changed::TableRenamed { table, from } => {
                    let rows = self.0.remove(from).ok_or_else(|| format!("{from} is renamed, and is not there"))?;
                    renamed.push((table.to_owned(), rows));
                    continue;
                }
                Changed::TableDropped { table } if there => _ = self.0.remove(table),
                _ => {
                    self.0.extend(std::mem::take(&mut renamed));
                    self.change(change)?;
                }
            }
        }
        self.0.extend(renamed);
        Ok(())
    }

    fn change(&mut self, change: Changed<'_>) -> Result<(), String> {
        if let Changed::TableCreated { table } = change {
            let before = self.0.insert(table.to_owned(), Rows::new());
            return before.map_or(Ok(()), |_| Err(format!("{table} is created, and was there")));
        }
        let rows = self.0.get_mut(change.table()).ok_or_else(|| format!("{change:?} of a table that is not there"))?;
        match change {
            Changed::Put { key, .. } => _ = rows.insert(key.to_vec(), None),
            Changed::Deleted { key, .. } => _ = rows.remove(key),
            Changed::TableCleared { .. } => rows.clear(),
            _ => return Err(format!("{change:?}")),
        }
        Ok(())
    }

    fn compare(&self, model: &Model) -> Result<(), String> {
        let names = |of: &mut dyn Iterator<Item = &String>| of.cloned().collect::<Vec<_>>();
        let (own, others) = (names(&mut self.0.keys()), names(&mut model.0.keys()));
        if own != others {
            return Err(format!("by the feed there are the tables {own:?} instead of {others:?}"));
        }
        for ((name, rows), others) in self.0.iter().zip(model.0.values()) {
            let same = rows.len() == others.len()
                && rows.iter().zip(others.iter()).all(|((key, value), (other, there))| {
                    key == other && value.as_ref().is_none_or(|value| value == there)
                });
            if !same {
                return Err(format!(
                    "by the feed {name} has {} rows, not the {} of the store",
                    rows.len(),
                    others.len()
                ));
            }
        }
        Ok(())
    }
}

/// From where a reader stands, to a snapshot: the attempts between, oldest first, if the one is built on the other.
struct Way {
    cursor: Cursor,
    from: Attempt,
    since: Option<Vec<Attempt>>,
}

impl Way {
    fn new(attempts: &[Attempt], (cursor, from): (Cursor, usize), to: usize) -> Way {
        let (mut at, mut since) = (to, Vec::new());
        while attempts[at].number > attempts[from].number {
            since.push(attempts[at].clone());
            at = attempts[at].base;
        }
        since.reverse();
        Way { cursor, from: attempts[from].clone(), since: (at == from).then_some(since) }
    }

    /// What the feed says of this way must be right.
    fn judge(self, snapshot: &Snapshot, journal: Journal, told: &mut Told) -> crate::Result<Result<(), String>> {
        let (lsn, to) = (self.cursor.lsn(), snapshot.lsn());
        let wrong = |what: String| Ok(Err(format!("the feed from LSN {lsn} to LSN {to}: {what}")));
        match (snapshot.changes(self.cursor)?, self.since) {
            (Feed::Gap(Gap::Truncated { .. }), _) => {
                told.truncated += 1;
                if journal == Journal::Long { wrong("it is truncated".to_owned()) } else { Ok(Ok(())) }
            }
            (Feed::Gap(Gap::OtherHistory), None) => {
                told.other_history += 1;
                Ok(Ok(()))
            }
            (Feed::Gap(gap), _) => wrong(gap.to_string()),
            // Without a journal, an LSN that was lost may be taken for another transaction that got it.
            (Feed::Changes(_), None) if journal == Journal::None => Ok(Ok(())),
            (Feed::Changes(_), None) => wrong("it goes on from what is lost".to_owned()),
            (Feed::Changes(changes), Some(since)) => match replay(changes, &self.from, &since, told)? {
                Err(why) => wrong(why),
                Ok(end) if end == snapshot.end()? || since.is_empty() => Ok(Ok(())),
                Ok(end) => wrong(format!("its last cursor is {end:?}, not {:?}", snapshot.end()?)),
            },
        }
    }
}

/// Follows the feed from a state, through all attempts since. Gives the cursor of the last commit.
fn replay(
    changes: Changes,
    from: &Attempt,
    since: &[Attempt],
    told: &mut Told,
) -> crate::Result<Result<Cursor, String>> {
    let mut copy = Copy::of(&from.state);
    let mut state = from.state.clone();
    let mut expected = since.iter();
    let mut last = changes.snapshot().end()?;
    let mut before = 0;
    for commit in changes {
        let commit = commit?;
        told.commits += 1;
        let Some(attempt) = expected.next() else { return Ok(Err(format!("LSN {} is one too many", commit.lsn()))) };
        if commit.lsn() <= before {
            return Ok(Err(format!("LSN {} after LSN {before}", commit.lsn())));
        }
        let (should, is) = (touched(&mut state, &attempt.changes), told_of(&commit));
        if should != is {
            return Ok(Err(format!("commit {} changes {should:?}, and the feed says {is:?}", attempt.number)));
        }
        if let Err(why) = copy.take_in(&commit) {
            return Ok(Err(format!("commit {}: {why}", attempt.number)));
        }
        (before, last) = (commit.lsn(), commit.cursor());
    }
    if let Some(missing) = expected.next() {
        return Ok(Err(format!("commit {} is missing", missing.number)));
    }
    let newest = since.last().unwrap_or(from);
    Ok(copy.compare(&newest.state).map(|()| last))
}

impl Oracle {
    /// A reader that has seen the attempt `id`, in this snapshot, looks back from it to where it, or another one, has
    /// stood before.
    pub(super) fn follow(
        &self,
        snapshot: &Snapshot,
        id: usize,
        journal: Journal,
        told: &mut Told,
    ) -> crate::Result<Result<(), String>> {
        let ways: Vec<Way> = {
            let known = self.known();
            known.followed.iter().map(|stand| Way::new(&known.attempts, *stand, id)).collect()
        };
        for way in ways {
            if let Err(why) = way.judge(snapshot, journal, told)? {
                return Ok(Err(why));
            }
        }
        let end = snapshot.end()?;
        let mut known = self.known();
        known.followed.push((end, id));
        if known.followed.len() > 4 {
            // The oldest two stay: one that is far behind.
            known.followed.remove(2);
        }
        Ok(Ok(()))
    }

    /// A reader counts the commits, in transactions that have the count and its cursor. Gives the number of its commit.
    pub(super) fn count_commits(&self, store: &Store, forgiven: fn(&Error) -> bool) -> Result<usize, String> {
        self.write_and(store, Durability::Sync, forgiven, |tx| count(store, tx))
    }
}

const COUNTED: &[u8] = b"counted";

/// The commits that the reader has counted.
fn counted(tx: &WriteTxn) -> crate::Result<usize> {
    let value = tx.read_raw(META)?.get(COUNTED)?;
    Ok(value.map_or(0, |v| usize::try_from(u64::from_be_bytes(v[..].try_into().unwrap())).unwrap()))
}

fn count(store: &Store, tx: &WriteTxn) -> crate::Result<Result<Vec<Change>, String>> {
    let (before, cursor) = (counted(tx)?, tx.cursor("reader")?);
    let snapshot = store.read()?;
    // Where the sidecar was set back, a snapshot may miss the newest commits.
    if cursor.is_some_and(|cursor| cursor.lsn() > snapshot.lsn()) {
        return Ok(Ok(Vec::new()));
    }
    let all = number(&snapshot)?;
    let mut count = before;
    match cursor.map(|cursor| snapshot.changes(cursor)).transpose()? {
        Some(Feed::Changes(commits)) => {
            for commit in commits {
                let commit = commit?;
                let numbered = Changed::Put { table: META, key: NUMBER };
                count += commit.changes().filter(|change| *change == numbered).count();
            }
            if count != all {
                return Ok(Err(format!("the reader has counted {before} and {count} commits of {all}")));
            }
        }
        Some(Feed::Gap(Gap::Truncated { .. })) | None => count = all,
        Some(Feed::Gap(gap)) => return Ok(Err(format!("the reader's own cursor: {gap}"))),
    }
    tx.set_cursor("reader", &snapshot.end()?)?;
    Ok(Ok(vec![Change::Put(META.into(), COUNTED.to_vec(), Arc::from((count as u64).to_be_bytes()))]))
}

/// A workload that was followed.
struct Followed {
    world: Arc<World>,
    oracle: Oracle,
    /// Where readers stood.
    stood: Vec<(Cursor, usize)>,
    /// The number of events before it, when the journal was set.
    before: usize,
}

/// Runs a workload, and follows it meanwhile.
fn record(kind: Kind, seed: u64, journal: Journal, told: &mut Told) -> Followed {
    let mut rng = Rng(seed);
    let (world, mut disk, mut store) = new_store(Arc::new(Free), kind.log_cap());
    journal.begin(&store);
    let before = world.history().1.len();
    let oracle = Oracle::new(&world);
    let mut stood = Vec::new();
    for step in steps(kind, &mut rng, 30) {
        match step {
            Step::Commit(changes, durability) => _ = oracle.write(&store, changes, durability, |_| false).unwrap(),
            Step::Checkpoint => store.checkpoint().unwrap(),
            Step::Flush => store.flush().unwrap(),
            Step::Reopen | Step::Die => {
                if matches!(step, Step::Die) {
                    disk.kill();
                    disk.silence();
                }
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(store)));
                let (next, opened) = open_store(&world, 0, kind.log_cap());
                (disk, store) = (next, opened.unwrap());
            }
        }
        if rng.one_in(3) {
            oracle.count_commits(&store, |_| false).unwrap();
        }
        let snapshot = store.read().unwrap();
        let (_, id) = oracle.look(&snapshot, 0).unwrap();
        let place = || format!("{kind:?}, seed {seed}, {journal:?}");
        oracle.follow(&snapshot, id, journal, told).unwrap().unwrap_or_else(|why| panic!("{}: {why}", place()));
        stood.push((snapshot.end().unwrap(), id));
    }
    drop(store);
    Followed { world, oracle, stood, before }
}

/// Opens what a power loss may leave: each reader is told the truth, before and after other transactions have got the
/// LSNs that are lost, and after a checkpoint has applied those.
fn after_a_power_loss(
    world: &Arc<World>,
    oracle: &Oracle,
    stood: &[(Cursor, usize)],
    kind: Kind,
    journal: Journal,
    told: &mut Told,
) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let (disk, store) = open_store(world, 1, kind.log_cap());
    let store = store.map_err(text)?;
    let mut attempts = oracle.known().attempts.clone();
    for round in 0..3 {
        let snapshot = store.read().map_err(text)?;
        let id = match round {
            0 => id_of(&snapshot).map_err(text)?,
            _ => attempts.len() - 1,
        };
        for stand in stood {
            Way::new(&attempts, *stand, id).judge(&snapshot, journal, told).map_err(text)??;
        }
        let base = attempts[id].clone();
        let changes = numbered(vec![Change::Put("a".into(), vec![round], Arc::from([round]))], base.number + 1);
        let mut state = base.state.clone();
        state.apply(&changes);
        commit(&store, &changes, Durability::Relaxed).map_err(text)?;
        attempts.push(Attempt { number: base.number + 1, state, base: id, changes: Arc::new(changes), ..base });
        if round == 1 {
            store.checkpoint().map_err(text)?;
        }
    }
    check::structure(&store)?;
    disk.silence();
    Ok(())
}

#[test]
fn readers_are_told_the_truth_after_every_power_loss() {
    let (mut told, mut images) = (Told::default(), 0);
    let kinds = [Kind::Mixed, Kind::Relaxed, Kind::Tables, Kind::Direct, Kind::Batches];
    for seed in 0..30 {
        let (kind, journal) = (kinds[usize::try_from(seed).unwrap() % kinds.len()], Journal::of(seed));
        let Followed { world, oracle, stood, before } = record(kind, seed, journal, &mut told);
        let (start, events) = world.history();
        let (mut rng, mut replay) = (Rng(seed), Replay::new(start));
        let (mut seen, stride) = (HashSet::new(), 1 + events.len() / 16);
        for (at, event) in events.iter().enumerate() {
            let change = replay.apply(event) || matches!(event, Event::Acked(_));
            if !change || at < before || !rng.one_in(stride) {
                continue;
            }
            let mut found = Vec::new();
            let limits = Limits { all: 4, sample: 3, torn: 3 };
            replay.crash_states(&mut rng, limits, &mut |print| seen.insert(print), &mut |image| found.push(image));
            for image in found {
                images += 1;
                let world = World::new(image, Arc::new(Free));
                let some: Vec<_> = stood.iter().copied().filter(|_| rng.one_in(4)).collect();
                after_a_power_loss(&world, &oracle, &some, kind, journal, &mut told)
                    .unwrap_or_else(|why| panic!("{kind:?}, seed {seed}, {journal:?}, event {at}: {why}"));
            }
        }
    }
    println!("{images} power losses, {told:?}");
    assert!(images > 300 && told.commits > 3000 && told.truncated > 50 && told.other_history > 50, "{told:?}");
}

/// A small journal keeps the newest commits, and no more bytes than it may have; without one, it goes.
#[test]
fn the_journal_keeps_to_its_bound() {
    let (_world, _disk, store) = new_store(Arc::new(Free), 64 << 10);
    let journal_bytes = || store.read().unwrap().view().tree_root(TABLE_JOURNAL).unwrap().bytes;
    for bound in [2000_u64, 500, 0, 5000] {
        store.set_journal(Some(bound)).unwrap();
        store.checkpoint().unwrap();
        let mut ends = BTreeSet::new();
        for n in 0..60_u8 {
            commit(
                &store,
                &numbered(vec![Change::Put("a".into(), vec![n; 40], Arc::from([n]))], n.into()),
                Durability::Sync,
            )
            .unwrap();
            let end = store.read().unwrap().end().unwrap();
            ends.insert(end.lsn());
            if n % 5 == 4 {
                store.checkpoint().unwrap();
                assert!(journal_bytes() <= bound + 25, "{} of {bound}", journal_bytes());
                assert!(bound < 5000 || n < 59 || journal_bytes() + 150 > bound, "{} of {bound}", journal_bytes());
                let Feed::Changes(none) = store.changes(end).unwrap() else { panic!("its own end") };
                assert_eq!(none.count(), 0);
            }
        }
        // All since some commit, which the gap names; none before it.
        let first = store.read().unwrap().end().unwrap();
        let start = Cursor { lsn: 1, crc: None, ..first };
        let Feed::Gap(Gap::Truncated { oldest }) = store.changes(start).unwrap() else { panic!("no bound") };
        let Feed::Changes(kept) = store.changes(Cursor { lsn: oldest, ..start }).unwrap() else { panic!("{oldest}") };
        let kept: Vec<u64> = kept.map(|commit| commit.unwrap().lsn()).collect();
        assert!(kept.iter().eq(ends.range(oldest + 1..)), "{bound}: after {oldest}: {kept:?} of {ends:?}");
    }
    store.set_journal(None).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(journal_bytes(), 0);
    check::structure(&store).unwrap();
}

/// A program that does not know the journal makes a checkpoint: what it applied is missing, so the journal begins anew.
#[test]
fn a_journal_that_was_not_kept_counts_as_absent() {
    let (_world, _disk, store) = new_store(Arc::new(Free), 64 << 10);
    let put = |n: usize| commit(&store, &numbered(Vec::new(), n), Durability::Sync).unwrap();
    let end = || store.read().unwrap().end().unwrap();
    let commits = |since| match store.changes(since).unwrap() {
        Feed::Changes(commits) => Ok(commits.map(|commit| commit.unwrap().lsn()).collect::<Vec<_>>()),
        Feed::Gap(gap) => Err(gap),
    };
    store.set_journal(Some(1 << 20)).unwrap();
    (1..4).for_each(put);
    store.checkpoint().unwrap();
    let seen = end();
    KEEPS_NONE.set(true);
    (4..7).for_each(put);
    store.checkpoint().unwrap();
    KEEPS_NONE.set(false);
    let newest = end();
    assert_eq!(commits(seen), Err(Gap::Truncated { oldest: newest.lsn() }));
    assert_eq!(commits(newest), Ok(Vec::new()));
    put(7);
    let first = end();
    put(8);
    let second = end();
    assert_eq!(commits(newest), Ok(vec![first.lsn(), second.lsn()]));
    store.checkpoint().unwrap();
    assert_eq!(commits(seen), Err(Gap::Truncated { oldest: first.lsn() }));
    assert_eq!(commits(first), Ok(vec![second.lsn()]));
    check::structure(&store).unwrap();
}

/// Rows of the journal that no checkpoint has made are errors, whatever they are; never a panic, or an end too early.
#[test]
fn a_forged_journal_is_damage() {
    let entry = |code: u8| [&[7, 0, 0, 0, code, 16, 0, 0, 0, 1, 0][..], b"t"].concat();
    let sound = entry(1);
    let cases: Vec<(&str, Vec<(Vec<u8>, Vec<u8>)>)> = vec![
        ("nothing", Vec::new()),
        ("no first part", vec![(part_key(2, 1).to_vec(), sound.clone())]),
        ("a part is missing", vec![(part_key(2, 0).to_vec(), sound.clone()), (part_key(2, 2).to_vec(), sound.clone())]),
        ("no checksum", vec![(part_key(2, 0).to_vec(), vec![1, 2, 3])]),
        ("an unknown entry", vec![(part_key(2, 0).to_vec(), entry(9))]),
        ("a name that is no text", vec![(part_key(2, 0).to_vec(), [&entry(1)[..11], &[0xff][..]].concat())]),
        ("a short key", vec![(part_key(2, 0)[..11].to_vec(), sound.clone())]),
        ("it ends early", vec![(part_key(2, 0).to_vec(), sound.clone())]),
        ("a short last row", vec![(JOURNAL_COVERS.to_vec(), vec![0; 23])]),
    ];
    for (what, rows) in cases {
        let (_world, _disk, store) = new_store(Arc::new(Free), 64 << 10);
        store.set_journal(Some(1 << 20)).unwrap();
        commit(&store, &numbered(Vec::new(), 1), Durability::Sync).unwrap();
        let next = store.last_commit().unwrap() + 1;
        let covers = Covered { floor: Mark { lsn: 1, crc: 0 }, end: Mark { lsn: next, crc: 0 } }.encode().to_vec();
        store
            .write(|tx| {
                for (key, row) in [(JOURNAL_COVERS.to_vec(), covers)].into_iter().chain(rows) {
                    tx.change_row(TABLE_JOURNAL, &key, Some(crate::change::Change::Put(Bytes::copied(&row))));
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(store.last_commit().unwrap(), next);
        KEEPS_NONE.set(true);
        store.checkpoint().unwrap();
        KEEPS_NONE.set(false);
        let now = store.read().unwrap();
        let read = || match now.changes(now.cursor_at(1))? {
            Feed::Changes(mut commits) => commits.try_for_each(|commit| commit.map(drop)),
            Feed::Gap(gap) => panic!("{what}: {gap}"),
        };
        let found = read();
        assert!(found.as_ref().is_err_and(Error::is_corrupt), "{what}: {found:?}");
    }
}
