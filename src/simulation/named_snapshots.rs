//! Snapshots by name: what a name was given stays what it is, for all processes, whatever becomes of the store
//! meanwhile, and no page of it is used again before the name is gone for certain.

use super::exclusion::Meanwhile;
use super::model::{KINDS, Kind, Model, Step, commit, numbered, perform, steps};
use super::{after_power_losses, check, effort, new_store, open_store, settings};
use crate::disk::sim::{Access, Call, Conductor, Event, Free, Killed, Limits, Replay, Rng, SimDisk, Verdict, World};
use crate::engine::Settings;
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::commit::Durability;
use crate::maintain::check::{CheckOptions, check_disk};
use crate::txn::snapshot::Snapshot;
use crate::{Error, Store};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CAP: u64 = 64 << 10;

fn put(store: &Store, n: u8) {
    let rows = |tx: &crate::WriteTxn| (0..200).try_for_each(|key: u8| tx.raw("t")?.put(&[key], &[n; 600]));
    store.write(rows).unwrap();
}

/// What all rows hold; an error if pages of it are gone.
fn value(snapshot: &Snapshot) -> crate::Result<u8> {
    let table = snapshot.raw("t")?;
    let n = table.get(&[0])?.unwrap()[0];
    for key in 0..200_u8 {
        assert_eq!(*table.get(&[key])?.unwrap(), [n; 600]);
    }
    Ok(n)
}

/// Overwrites all of it, and checkpoints, often enough that pages which nothing keeps are used again.
fn churn(store: &Store, n: u8) {
    for _ in 0..4 {
        put(store, n);
        store.checkpoint().unwrap();
    }
}

fn names(store: &Store) -> Vec<String> {
    store.snapshots().unwrap().into_iter().map(|snapshot| snapshot.name).collect()
}

/// Makes a checkpoint as an idle store does. Gives the pages that are not free then.
fn idle_checkpoint(store: &Store) -> u64 {
    store.engine().relax_view(0);
    let plan = CheckpointOptions { shrink: true, force: true, compact: 4096, ..CheckpointOptions::default() };
    let done = store.engine().checkpoint(&plan, None).unwrap();
    done.page_count - done.free_pages
}

#[test]
fn a_name_keeps_its_state_and_gives_its_space_back() {
    let (world, _disk, store) = new_store(Arc::new(Free), CAP);
    put(&store, 1);
    let made = store.create_snapshot("one").unwrap();
    assert_eq!((made.name.as_str(), made.lsn, made.kept), ("one", store.last_commit().unwrap(), 0));
    churn(&store, 2);
    store.create_snapshot("two").unwrap();
    churn(&store, 3);
    assert!(matches!(store.create_snapshot("one"), Err(Error::SnapshotExists { .. })));
    assert!(matches!(store.create_snapshot(""), Err(Error::Invalid(_))));
    assert!(matches!(store.create_snapshot(&"n".repeat(1025)), Err(Error::TooLarge { .. })));
    assert!(matches!(store.snapshot("three"), Err(Error::NoSnapshot { .. })));
    assert!(matches!(store.delete_snapshot("three"), Err(Error::NoSnapshot { .. })));
    store.close().unwrap();

    let store = open_store(&world, 1, CAP).1.unwrap();
    assert_eq!(names(&store), ["one", "two"]);
    let kept: Vec<u64> = store.stats().unwrap().snapshots.iter().map(|snapshot| snapshot.kept).collect();
    assert!(kept.iter().all(|kept| (200 * 600..200 * 900).contains(kept)), "{kept:?}");
    assert_eq!(
        (value(&store.snapshot("one").unwrap()).unwrap(), value(&store.snapshot("two").unwrap()).unwrap()),
        (1, 2)
    );
    check::structure(&store).unwrap();
    let with_both = (0..3).fold(0, |_, _| idle_checkpoint(&store));
    store.delete_snapshot("one").unwrap();
    let with_one = (0..3).fold(0, |_, _| idle_checkpoint(&store));
    assert!(with_one + 30 < with_both, "{with_both} pages, then {with_one}");
    assert_eq!((names(&store), value(&store.snapshot("two").unwrap()).unwrap()), (vec!["two".to_owned()], 2));
    store.delete_snapshot("two").unwrap();
    let with_none = (0..3).fold(0, |_, _| idle_checkpoint(&store));
    assert!(with_none + 30 < with_one, "{with_one} pages, then {with_none}");
    check::structure(&store).unwrap();
}

#[test]
fn pages_that_a_name_keeps_do_not_keep_an_idle_store_busy() {
    let (_world, _disk, store) = new_store(Arc::new(Free), 1 << 20);
    store.write(|tx| tx.raw("t")?.put(b"long", &vec![7; 4 << 20])).unwrap();
    store.create_snapshot("long").unwrap();
    store.write(|tx| tx.raw("t")?.delete(b"long")).unwrap();
    let turns = |store: &Store| {
        let plan = CheckpointOptions { shrink: true, force: true, compact: 4096, ..CheckpointOptions::default() };
        store.engine().relax_view(0);
        (1..20).find(|_| !store.engine().checkpoint(&plan, None).unwrap().could_shrink()).unwrap()
    };
    assert!(turns(&store) <= 2);
    store.delete_snapshot("long").unwrap();
    turns(&store);
    assert!(store.stats().unwrap().file_size < 1 << 20);
}

#[test]
fn a_process_that_never_heard_of_a_name_keeps_its_pages() {
    let (world, _disk, first) = new_store(Arc::new(Free), CAP);
    let second = open_store(&world, 1, CAP).1.unwrap();
    put(&second, 1);
    second.checkpoint().unwrap();
    first.create_snapshot("one").unwrap();
    // No process reads that version: the name alone keeps it.
    first.engine().relax_view(0);
    churn(&second, 2);
    let access = Access { read_only: true, ..Access::default() };
    let reader = Store::on_disk(world.disk_of(2, access) as _, settings(CAP)).unwrap();
    for store in [&first, &second, &reader] {
        assert_eq!((names(store), value(&store.snapshot("one").unwrap()).unwrap()), (vec!["one".to_owned()], 1));
    }
    assert!(matches!(reader.create_snapshot("two"), Err(Error::ReadOnly { .. })));
    assert!(matches!(reader.delete_snapshot("one"), Err(Error::ReadOnly { .. })));
}

#[test]
fn a_snapshot_in_use_outlives_its_name() {
    let (world, _disk, first) = new_store(Arc::new(Free), CAP);
    let second = open_store(&world, 1, CAP).1.unwrap();
    put(&first, 1);
    first.create_snapshot("one").unwrap();
    churn(&first, 2);
    let held = second.snapshot("one").unwrap();
    first.delete_snapshot("one").unwrap();
    churn(&first, 3);
    assert_eq!(value(&held).unwrap(), 1);
    assert!(matches!(second.snapshot("one"), Err(Error::NoSnapshot { .. })));
    drop(held);
    churn(&first, 4);
    check::structure(&first).unwrap();
}

/// Whatever a process is about to do when another deletes the name it opens, and has its pages used again: it has
/// the state, whole and for as long as it holds it, or hears that the name is gone.
#[test]
fn a_name_that_is_deleted_while_it_is_opened_is_whole_or_gone() {
    let (mut whole, mut gone) = (0, 0);
    for call in [Call::Lock, Call::Unlock, Call::Read, Call::Memory, Call::Flush] {
        for nth in 0.. {
            let conductor = Arc::new(Meanwhile::default());
            let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, CAP);
            let second = open_store(&world, 1, CAP).1.unwrap();
            put(&second, 1);
            second.create_snapshot("one").unwrap();
            churn(&second, 2);
            let done = Arc::new(AtomicBool::new(false));
            let (visited, visitor) = (Arc::clone(&done), second.clone());
            conductor.before(call, nth, move || {
                visitor.delete_snapshot("one").unwrap();
                churn(&visitor, 3);
                visited.store(true, SeqCst);
            });
            match first.snapshot("one") {
                Ok(snapshot) => {
                    let was_done = done.load(SeqCst);
                    churn(&second, 4);
                    assert_eq!(value(&snapshot).unwrap(), 1, "{call:?} {nth}");
                    if !was_done {
                        break;
                    }
                    whole += 1;
                }
                Err(Error::NoSnapshot { .. }) => gone += 1,
                Err(error) => panic!("{call:?} {nth}: {error}"),
            }
        }
    }
    assert!(whole > 0 && gone > 3, "{whole} times whole, {gone} times gone");
}

/// Kills process 0 at its n-th call.
#[derive(Default)]
struct Death {
    calls: AtomicUsize,
    at: AtomicUsize,
    victim: Mutex<Option<Arc<SimDisk>>>,
    dead: AtomicBool,
}

impl Conductor for Death {
    fn before(&self, process: usize, call: Call) -> Verdict {
        if process != 0 || self.at.load(SeqCst) == 0 {
            return Verdict::Go;
        }
        if !self.dead.load(SeqCst) {
            if self.calls.fetch_add(1, SeqCst) + 1 < self.at.load(SeqCst) {
                return Verdict::Go;
            }
            self.dead.store(true, SeqCst);
            self.victim.lock().unwrap().as_ref().unwrap().kill();
        }
        if call == Call::Write { Verdict::Part(30_000, 0) } else { Verdict::Fail(libc::EIO) }
    }
}

#[test]
fn a_process_killed_while_it_names_a_state_leaves_all_of_it_or_nothing() {
    for deletes in [false, true] {
        let (mut there, mut absent) = (0, 0);
        for at in 1.. {
            let death = Arc::new(Death::default());
            let (world, disk, first) = new_store(Arc::clone(&death) as _, CAP);
            let second = open_store(&world, 1, CAP).1.unwrap();
            put(&second, 1);
            second.checkpoint().unwrap();
            put(&second, 2);
            if deletes {
                second.create_snapshot("name").unwrap();
                churn(&second, 3);
            }
            *death.victim.lock().unwrap() = Some(disk);
            death.at.store(at, SeqCst);
            let act = || if deletes { first.delete_snapshot("name") } else { first.create_snapshot("name").map(drop) };
            let outcome = catch_unwind(AssertUnwindSafe(act));
            let died = outcome.as_ref().is_err_and(|died| died.is::<Killed>());
            if !died {
                outcome.unwrap().unwrap();
                death.at.store(0, SeqCst);
                assert_eq!(names(&second).is_empty(), deletes);
                break;
            }
            let _ = catch_unwind(AssertUnwindSafe(|| drop(first)));
            // The other goes on, and so does one that comes later.
            let look = |store: &Store| match store.snapshot("name") {
                Ok(snapshot) => value(&snapshot).unwrap() == 2,
                Err(Error::NoSnapshot { .. }) => false,
                Err(error) => panic!("killed at call {at}: {error}"),
            };
            let found = look(&second);
            *(if found { &mut there } else { &mut absent }) += 1;
            churn(&second, 4);
            let third = open_store(&world, 2, CAP).1.unwrap();
            assert_eq!((look(&second), look(&third)), (found, found), "killed at call {at}");
            check::structure(&third).unwrap_or_else(|e| panic!("killed at call {at}: {e}"));
        }
        assert!(there > 3 && absent > 3, "{there} times there, {absent} times not");
    }
}

/// Whatever a process is about to do when another commits, checkpoints, and gives a name of its own: each name has a state
/// that was the newest at some time during its call.
#[test]
fn names_given_at_the_same_time_each_have_a_state_of_their_time() {
    let mut changed = 0;
    for call in [Call::Lock, Call::Unlock, Call::Write, Call::Flush, Call::Read] {
        for nth in 0.. {
            let conductor = Arc::new(Meanwhile::default());
            let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, CAP);
            let impatient = Settings { timeout: Duration::ZERO, ..settings(CAP) };
            let second = Store::on_disk(world.disk(1) as _, impatient).unwrap();
            put(&second, 1);
            let (visited, visitor) = (Arc::new(AtomicUsize::new(0)), second.clone());
            let visits = Arc::clone(&visited);
            conductor.before(call, nth, move || {
                // What it cannot have because the first process holds it, it does without.
                let wrote = visitor.write(|tx| tx.raw("mark")?.put(b"key", b"value"));
                let named = visitor.create_snapshot("other");
                _ = visitor.checkpoint();
                let busy = |error: &Error| matches!(error, Error::Busy { .. });
                assert!(wrote.as_ref().err().is_none_or(busy) && named.as_ref().err().is_none_or(busy));
                visits.store(1 + usize::from(wrote.is_ok()) + 2 * usize::from(named.is_ok()), SeqCst);
            });
            first.create_snapshot("name").unwrap();
            let visit = visited.load(SeqCst);
            let wrote = matches!(visit, 2 | 4);
            let is_marked = |store: &Store, name: &str| {
                let snapshot = store.snapshot(name).unwrap();
                assert_eq!(value(&snapshot).unwrap(), 1, "{call:?} {nth}");
                snapshot.raw("mark").unwrap().contains(b"key").unwrap()
            };
            let marked = is_marked(&first, "name");
            assert!(wrote || !marked, "{call:?} {nth}");
            changed += usize::from(marked);
            churn(&first, 4);
            assert_eq!(is_marked(&second, "name"), marked, "{call:?} {nth}");
            if visit > 2 {
                assert_eq!(is_marked(&first, "other"), wrote, "{call:?} {nth}");
            }
            check::structure(&first).unwrap_or_else(|e| panic!("{call:?} {nth}: {e}"));
            if visit == 0 {
                break;
            }
        }
    }
    assert!(changed > 3, "{changed} names had what was committed meanwhile");
}

/// Counts what is read.
#[derive(Default)]
struct Reads(AtomicUsize);

impl Conductor for Reads {
    fn before(&self, _: usize, call: Call) -> Verdict {
        self.0.fetch_add(usize::from(call == Call::Read), SeqCst);
        Verdict::Go
    }
}

#[test]
fn what_differs_is_found_without_reading_the_rest() {
    const ROWS: u32 = 40_000;
    let reads = Arc::new(Reads::default());
    let (world, _disk, store) = new_store(Arc::clone(&reads) as _, 8 << 20);
    let write = |keys: std::ops::Range<u32>, value: u8| {
        let rows =
            |tx: &crate::WriteTxn| keys.clone().try_for_each(|n| tx.raw("t")?.put(&n.to_be_bytes(), &[value; 60]));
        store.write(rows).unwrap();
    };
    write(0..ROWS, 1);
    store.create_snapshot("before").unwrap();
    write(20_000..20_010, 2);
    store.close().unwrap();
    let count = |act: &dyn Fn(&Store) -> usize| {
        let store = open_store(&world, 1, 8 << 20).1.unwrap();
        let before = reads.0.load(SeqCst);
        (act(&store), reads.0.load(SeqCst) - before)
    };
    let (rows, diff) = count(&|store| {
        let (then, now) = (store.snapshot("before").unwrap(), store.read().unwrap());
        let diff = then.diff(&now).unwrap();
        diff.tables().iter().map(|table| table.rows().unwrap().count()).sum()
    });
    let (all, scan) = count(&|store| {
        let now = store.read().unwrap();
        now.raw("t").unwrap().range(..).unwrap().count()
    });
    assert_eq!((rows, all), (10, ROWS as usize));
    assert!(diff < 50 && scan > 600, "{diff} reads to compare, {scan} to read all");
}

/// Refuses the n-th write or flush of process 0.
#[derive(Default)]
struct Refusal {
    at: AtomicUsize,
    calls: AtomicUsize,
}

impl Conductor for Refusal {
    fn before(&self, process: usize, call: Call) -> Verdict {
        let counted = process == 0 && matches!(call, Call::Write | Call::Flush) && self.at.load(SeqCst) > 0;
        let refused = counted && self.calls.fetch_add(1, SeqCst) + 1 == self.at.load(SeqCst);
        if refused { Verdict::Fail(libc::EIO) } else { Verdict::Go }
    }
}

/// An error says that the name was not given or taken, unless it says that its fate is unknown. The state is whole in any case.
#[test]
fn a_failed_write_or_flush_leaves_a_name_as_it_was_or_its_fate_unknown() {
    let mut outcomes = [0; 3];
    for deletes in [false, true] {
        for at in 1.. {
            let refusal = Arc::new(Refusal::default());
            let (world, _disk, store) = new_store(Arc::clone(&refusal) as _, CAP);
            put(&store, 1);
            if deletes {
                store.create_snapshot("name").unwrap();
                churn(&store, 2);
            }
            refusal.at.store(at, SeqCst);
            let outcome = if deletes { store.delete_snapshot("name") } else { store.create_snapshot("name").map(drop) };
            let refused = refusal.calls.load(SeqCst) >= at;
            refusal.at.store(0, SeqCst);
            let kind = match &outcome {
                Ok(()) => 0,
                Err(error) if error.is_outcome_unknown() => 1,
                Err(_) => 2,
            };
            outcomes[kind] += 1;
            churn(&store, 3);
            let look = |store: &Store| match store.snapshot("name") {
                Ok(snapshot) => value(&snapshot).unwrap() == 1,
                Err(Error::NoSnapshot { .. }) => false,
                Err(error) => panic!("refused call {at}: {error}"),
            };
            let found = look(&store);
            assert!(kind == 1 || found == ((kind == 0) != deletes), "refused call {at}: {outcome:?}, found: {found}");
            after_power_losses(&world, CAP, |store| assert_eq!(look(store), found));
            check::structure(&store).unwrap();
            if !refused {
                break;
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 1), "{outcomes:?}");
}

/// A check walks what a name keeps while another process deletes the name, and has the pages used again.
#[test]
fn a_check_beside_deletions_finds_no_damage() {
    for nth in (0..).step_by(3) {
        let conductor = Arc::new(Meanwhile::default());
        let (world, _disk, first) = new_store(Arc::clone(&conductor) as _, CAP);
        drop(first);
        let second = open_store(&world, 1, CAP).1.unwrap();
        put(&second, 1);
        second.create_snapshot("one").unwrap();
        churn(&second, 2);
        let done = Arc::new(AtomicBool::new(false));
        let (visited, visitor) = (Arc::clone(&done), second.clone());
        conductor.before(Call::Read, nth, move || {
            visitor.delete_snapshot("one").unwrap();
            churn(&visitor, 3);
            visited.store(true, SeqCst);
        });
        let report = check_disk(&*world.disk(0), &CheckOptions::new()).unwrap();
        assert!(report.is_clean(), "before read {nth}: {:?}", report.findings);
        if !done.load(SeqCst) {
            assert!(nth > 30, "{nth} reads");
            return;
        }
    }
}

/// A store and its names, as they should be.
#[derive(Clone, Default)]
struct Expected {
    now: Model,
    named: BTreeMap<String, Model>,
}

impl Expected {
    fn compare(&self, store: &Store) -> Result<(), String> {
        let text = |e: Error| e.to_string();
        self.now.compare(&store.read().map_err(text)?)?;
        let found = store.snapshots().map_err(text)?;
        if !found.iter().map(|snapshot| &snapshot.name).eq(self.named.keys()) {
            return Err(format!("{found:?} instead of {:?}", self.named.keys()));
        }
        for (name, model) in &self.named {
            let snapshot = store.snapshot(name).map_err(text)?;
            model.compare(&snapshot).map_err(|e| format!("the snapshot {name}: {e}"))?;
        }
        check::structure(store)
    }
}

/// What a diff makes of a model; what it says of the earlier state must be so.
fn applied(model: &Model, diff: &crate::Diff<'_>) -> Model {
    let mut model = model.clone();
    let taken: Vec<_> =
        diff.tables().iter().map(|table| table.name_before().and_then(|name| model.0.remove(name))).collect();
    for (table, rows) in diff.tables().iter().zip(taken) {
        let mut rows = rows.map_or_else(BTreeMap::new, |rows| BTreeMap::clone(&rows));
        let mut last = None;
        for row in table.rows().unwrap() {
            let row = row.unwrap();
            assert!(row.before != row.after && last < Some(row.key.to_vec()));
            last = Some(row.key.to_vec());
            let old = match &row.after {
                Some(value) => rows.insert(row.key.to_vec(), value.to_vec().into()),
                None => rows.remove(&row.key[..]),
            };
            assert_eq!(old.as_deref(), row.before.as_deref());
        }
        match table.name_after() {
            Some(name) => _ = model.0.insert(name.to_owned(), Arc::new(rows)),
            None => assert!(rows.is_empty(), "all rows of a table that was dropped are told"),
        }
    }
    model
}

/// Changes names, writes, checkpoints, goes back, by two processes in turn, and looks at all of it after each step.
fn live(kind: Kind, seed: u64, count: usize) {
    let mut rng = Rng(seed);
    let (world, _disk, first) = new_store(Arc::new(Free), kind.log_cap());
    let mut stores = [Some(first), Some(open_store(&world, 1, kind.log_cap()).1.unwrap())];
    let mut expected = Expected::default();
    let mut held: Vec<(Snapshot, Model)> = Vec::new();
    for (n, step) in steps(kind, &mut rng, count).into_iter().enumerate() {
        let process = rng.below(2);
        let store = stores[process].clone().unwrap();
        let name = format!("name {}", rng.below(4));
        match (rng.below(8), step) {
            (0 | 1, _) => match store.create_snapshot(&name) {
                Ok(_) => _ = expected.named.insert(name, expected.now.clone()),
                Err(error) => assert!(expected.named.contains_key(&name), "{error}"),
            },
            (2, _) => match store.delete_snapshot(&name) {
                Ok(()) => _ = expected.named.remove(&name).unwrap(),
                Err(error) => assert!(!expected.named.contains_key(&name), "{error}"),
            },
            (3, _) if expected.named.contains_key(&name) => {
                store.roll_back_to(&name).unwrap();
                expected.now = expected.named[&name].clone();
            }
            (4, _) => held.extend(store.snapshot(&name).ok().map(|snapshot| (snapshot, expected.named[&name].clone()))),
            (_, Step::Commit(changes, durability)) => {
                let changes = numbered(changes, n + 1);
                commit(&store, &changes, durability).unwrap();
                expected.now.apply(&changes);
            }
            (_, Step::Reopen | Step::Die) => {
                drop(store);
                held.clear();
                stores[process].take().unwrap().close().unwrap();
                stores[process] = Some(open_store(&world, process, kind.log_cap()).1.unwrap());
            }
            _ => store.checkpoint().unwrap(),
        }
        if n % 5 == 0 {
            let report = check_disk(&*world.disk(2), &CheckOptions::new()).unwrap();
            assert!(report.is_clean(), "{kind:?}, seed {seed}, step {n}: {:?}", report.findings);
        }
        for store in stores.iter().flatten() {
            expected.compare(store).unwrap_or_else(|e| panic!("{kind:?}, seed {seed}, step {n}: {e}"));
        }
        let now = stores[0].as_ref().unwrap().read().unwrap();
        for (name, model) in &expected.named {
            let then = stores[0].as_ref().unwrap().snapshot(name).unwrap();
            assert!(applied(model, &then.diff(&now).unwrap()) == expected.now, "{kind:?}, seed {seed}, step {n}");
            assert!(applied(&expected.now, &now.diff(&then).unwrap()) == *model, "{kind:?}, seed {seed}, step {n}");
        }
        held.iter().for_each(|(snapshot, model)| model.compare(snapshot).unwrap());
        held.truncate(3);
    }
}

#[test]
fn names_hold_what_they_were_given_whatever_is_done() {
    for seed in 0..effort("MEMSTONE_NAMES", 3) {
        for kind in KINDS {
            live(kind, seed as u64, 60);
        }
    }
}

/// The second reader walks what names keep, too: each byte there that is not what was written is found.
#[test]
fn damage_in_what_a_name_keeps_is_found() {
    let (world, _disk, store) = new_store(Arc::new(Free), 1 << 20);
    let long = |n: u8| store.write(|tx| tx.raw("long")?.put(b"key", &[n; 50_000])).unwrap();
    put(&store, 1);
    long(1);
    store.create_snapshot("one").unwrap();
    churn(&store, 2);
    long(2);
    store.checkpoint().unwrap();
    let uses = |view: &crate::engine::view::View| {
        let mut pages = std::collections::BTreeSet::new();
        for table in [crate::disk::format::TABLE_NAMES, 16, 17] {
            let root = view.tree_root(table).unwrap();
            let mut todo = vec![(root.ptr, None)];
            while let Some((ptr, level)) = todo.pop() {
                let node = view.tree.pages.node(ptr, table, level).unwrap();
                pages.insert(ptr.page);
                for at in 0..node.count() {
                    if !node.is_leaf() {
                        todo.push((node.child(at), Some(node.level() - 1)));
                    } else if let entry = node.entry(at).unwrap()
                        && entry.long
                    {
                        pages.insert(node.overflow(&entry).unwrap().ptr.page);
                    }
                }
            }
        }
        pages
    };
    let (now, then) = (uses(store.read().unwrap().view()), uses(store.snapshot("one").unwrap().view()));
    drop(store);
    let image = world.image();
    let findings = |image: crate::disk::sim::Image| {
        let world = World::new(image, Arc::new(Free));
        check_disk(&*world.disk(0), &CheckOptions::new()).unwrap().findings
    };
    assert_eq!(findings(image.clone()), []);
    let own: Vec<u32> = then.difference(&now).copied().collect();
    assert!(own.len() > 15, "{own:?}");
    for page in own {
        let mut damaged = image.clone();
        damaged.write(&[0xA5; 8], u64::from(page) * 4096 + 100);
        let found = findings(damaged);
        let right = found.iter().all(|f| f.table.as_deref() == Some("(snapshot one)") && f.page == Some(page.into()));
        assert!(right && found.len() == 1, "page {page}: {found:?}");
    }
}

#[test]
fn tables_take_their_names_and_types_back() {
    let (_world, _disk, store) = new_store(Arc::new(Free), CAP);
    const TYPED: crate::Table<'_, u32, String> = crate::Table::new("typed");
    store
        .write(|tx| ["a", "b", "c", "d"].iter().try_for_each(|name| tx.raw(name)?.put(b"name", name.as_bytes())))
        .unwrap();
    store.write(|tx| tx.table(TYPED)?.put(7, "seven")).unwrap();
    store.create_snapshot("before").unwrap();
    let rename =
        |tx: &crate::WriteTxn, pairs: &[(&str, &str)]| pairs.iter().try_for_each(|(a, b)| tx.rename_table(a, b));
    // Three take each other's names, one is replaced by a table of other types.
    store.write(|tx| rename(tx, &[("a", "x"), ("b", "a"), ("c", "b"), ("x", "c")])).unwrap();
    store
        .write(|tx| {
            tx.drop_table("typed")?;
            tx.raw("typed")?.put(b"raw", b"row")?;
            tx.clear_table("d")
        })
        .unwrap();
    let tx = store.begin_write().unwrap();
    tx.raw("e").unwrap().put(b"k", b"v").unwrap();
    assert!(matches!(tx.roll_back_to_snapshot(&store.snapshot("before").unwrap()), Err(Error::Invalid(_))));
    drop(tx);
    store.roll_back_to("before").unwrap();
    let now = store.read().unwrap();
    assert!(store.snapshot("before").unwrap().diff(&now).unwrap().is_empty());
    for name in ["a", "b", "c", "d"] {
        assert_eq!(now.raw(name).unwrap().get(b"name").unwrap().unwrap()[..], *name.as_bytes());
    }
    assert_eq!(now.table(TYPED).unwrap().get(7).unwrap().unwrap(), "seven");
    assert_eq!(now.tables().unwrap().len(), 5);
}

/// Takes a record of names given and taken, and of what is written between.
fn record(kind: Kind, seed: u64, count: usize) -> (Arc<World>, Vec<Expected>) {
    let mut rng = Rng(seed);
    let (world, disk, store) = new_store(Arc::new(Free), kind.log_cap());
    let mut states = vec![Expected::default()];
    for step in steps(kind, &mut rng, count) {
        let n = states.len();
        let mut next = states[n - 1].clone();
        let name = format!("name {}", rng.below(2));
        let changes = match step {
            Step::Commit(changes, _) => numbered(changes, n),
            _ => {
                store.checkpoint().unwrap();
                continue;
            }
        };
        world.remark(Event::Begun(n));
        match (rng.below(3), next.named.contains_key(&name)) {
            (0, false) => {
                next.named.insert(name.clone(), next.now.clone());
                store.create_snapshot(&name).unwrap();
            }
            (0, true) => {
                next.named.remove(&name);
                store.delete_snapshot(&name).unwrap();
            }
            _ => {
                next.now.apply(&changes);
                store.write(|tx| perform(tx, &changes)).unwrap();
                if rng.one_in(2) {
                    store.checkpoint().unwrap();
                }
            }
        }
        states.push(next);
        world.remark(Event::Acked(n));
    }
    disk.silence();
    (world, states)
}

/// Opens what a power loss left; the state is one of those that it may be. Then the store is used, so that pages are
/// used again.
fn after_a_power_loss(image: crate::disk::sim::Image, cap: u64, allowed: &[Expected]) -> Result<(), String> {
    let world = World::new(image, Arc::new(Free));
    let (disk, store) = open_store(&world, 1, cap);
    let store = store.map_err(|e| format!("opening: {e}"))?;
    let found: Vec<_> = allowed.iter().map(|expected| expected.compare(&store)).collect();
    let Some(at) = found.iter().position(Result::is_ok) else { return Err(format!("{found:?}")) };
    let mut expected = allowed[at].clone();
    for n in 0..2 {
        let changes = numbered(Vec::new(), 1_000_000 + n);
        commit(&store, &changes, Durability::Sync).map_err(|e| e.to_string())?;
        expected.now.apply(&changes);
        store.checkpoint().map_err(|e| e.to_string())?;
    }
    let result = expected.compare(&store).map_err(|e| format!("afterwards: {e}"));
    disk.silence();
    result
}

#[test]
fn a_power_loss_leaves_each_name_with_its_state_or_not_at_all() {
    let limits = Limits { all: 16, sample: 3, torn: 4 };
    let mut count = 0;
    let kinds = [Kind::Single, Kind::Batches, Kind::Long, Kind::Direct, Kind::Tables, Kind::Deletes];
    for (seed, kind) in (0..).zip(kinds.into_iter().cycle().take(2 * effort("MEMSTONE_NAMES", 3))) {
        let (world, states) = record(kind, seed, 30);
        let (start, events) = world.history();
        let (mut replay, mut rng, mut seen) = (Replay::new(start), Rng(seed), std::collections::HashSet::new());
        for (at, event) in events.iter().enumerate() {
            if !replay.apply(event) && !matches!(event, Event::Acked(_)) {
                continue;
            }
            let (floor, ceiling) = (replay.acked, replay.begun.max(replay.acked));
            let mut fresh = |print: u64| seen.insert((print, floor));
            let mut images = Vec::new();
            replay.crash_states(&mut rng, limits, &mut fresh, &mut |image| images.push(image));
            for image in images {
                count += 1;
                let result = after_a_power_loss(image, kind.log_cap(), &states[floor..=ceiling]);
                result.unwrap_or_else(|e| panic!("{kind:?}, event {at} of {}: {e}", events.len()));
            }
        }
    }
    assert!(count > 1000, "{count} states");
}
