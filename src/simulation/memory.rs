//! The memory layer and the graph over the simulated disk. After a power loss, and after the death of a process at any
//! call, what was acknowledged is there, nothing is there by half, and all indexes agree.

use super::pause::Stage;
use super::{effort, new_store, open_store};
use crate::Store;
use crate::disk::sim::{Call, Event, Free, Limits as CrashLimits, Replay, Rng, SimDisk, World};
use crate::memory::graph::{Entity, GraphMut, GraphView, Relation};
use crate::memory::{
    Draft, Item, ItemId, Language, Limits, Memory, MemoryError, MemoryOptions, MemoryTxn, Namespace, Order, Permit,
    Query, Result, Space, Timestamp, check_layers,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LOG_CAP: u64 = 64 << 10;
const NAMESPACES: [&str; 4] = ["a", "a/b", "a/b/c", "d"];
const WORDS: [&str; 6] = ["tea", "coffee", "walks", "house", "zebra", "night"];
const SPACE: &str = "s";

fn draw<'d>(rng: &mut Rng, of: &[&'d str]) -> &'d str {
    of[rng.below(of.len())]
}

fn text(rng: &mut Rng) -> String {
    (0..1 + rng.below(5)).map(|_| draw(rng, &WORDS)).collect::<Vec<_>>().join(" ")
}

/// A memory at this time: in seconds, so that items may expire from one operation to the next.
fn at(store: &Store, time: u64) -> Memory {
    Memory::with(store.clone(), MemoryOptions::new().clock(move || Timestamp::from_micros(time * 1_000_000)))
}

/// The n-th operation. It depends on the numbers drawn and on the content alone, so that on the same content it does the
/// same.
fn act(store: &Store, n: u64, seed: u64) {
    let (memory, mut rng) = (at(store, n), Rng(seed ^ n.wrapping_mul(0x9e37)));
    let done = match rng.below(20) {
        0..10 => {
            memory.write(|tx| (0..1 + rng.below(3)).try_for_each(|part| change(tx, n * 8 + part as u64, &mut rng)))
        }
        10 => memory.clear(draw(&mut rng, &NAMESPACES)).map(drop),
        11 => memory.sweep(2).map(drop),
        12 if memory.snapshot().unwrap().fields().is_empty() => memory.declare_field("n"),
        12 => memory.drop_field("n").map(drop),
        13 => memory.enter("a/b", Duration::from_secs(1)).and_then(Permit::leave),
        14 => store.write(|tx| change_graph(&GraphMut::new(tx)?, &mut rng)).map_err(MemoryError::Store),
        15 | 16 => memory.charge("a/b", 1 + rng.below(2_u64)),
        17 => memory.set_limits(draw(&mut rng, &NAMESPACES), limits(&mut rng)),
        18 => memory.set_language(if rng.one_in(2) { Language::None } else { Language::English }),
        _ => store.checkpoint().map_err(MemoryError::Store),
    };
    match done {
        Ok(()) | Err(MemoryError::AtOnce { .. } | MemoryError::Quota { .. } | MemoryError::Rate { .. }) => {}
        Err(error) => panic!("operation {n}: {error}"),
    }
}

/// Limits that some operations reach: of items, of bytes, of operations.
fn limits(rng: &mut Rng) -> Limits {
    let limits = Limits::new().items(6 + rng.below(12_u64)).at_once(2).rate(8, Duration::from_secs(16));
    if rng.one_in(2) { limits.bytes(600 + rng.below(900_u64)) } else { limits }
}

/// One change of an item, as a part of a transaction.
fn change(tx: &MemoryTxn<'_>, number: u64, rng: &mut Rng) -> Result<()> {
    let items = tx.find(&Query::new().order(Order::Oldest).limit(100))?.hits;
    let chosen = (!items.is_empty()).then(|| items[rng.below(items.len())].item.id);
    let words = text(rng);
    let edit = |item: &mut Item| item.content.clone_from(&words);
    match (rng.below(8), chosen) {
        (0, Some(id)) => tx.remove(id).map(drop),
        (1, Some(id)) => tx.update(id, edit).map(drop),
        (2, Some(id)) => {
            tx.patch(id, &serde_json::json!({"metadata": {"n": rng.below(3_u8)}, "tags": ["x"]})).map(drop)
        }
        (3, Some(id)) => {
            let namespace = draw(rng, &NAMESPACES).parse::<Namespace>()?;
            tx.update(id, |item| item.namespace = namespace).map(drop)
        }
        (4, Some(id)) => tx.update(id, |item| item.set_vector(SPACE, [1.0, f32::from(rng.below(5_u8))])).map(drop),
        _ => {
            let draft = Draft::new(words).id(ItemId::from_bytes((u128::from(number) << 64).to_be_bytes()));
            let draft = draft
                .tags([draw(rng, &WORDS)])
                .metadata("n", rng.below(3_u8))
                .vector(SPACE, [f32::from(rng.below(5_u8)), 1.0]);
            let draft = if rng.one_in(3) { draft.expires_in(Duration::from_secs(rng.below(9_u64))) } else { draft };
            tx.add(draw(rng, &NAMESPACES), draft).map(drop)
        }
    }
}

fn change_graph(graph: &GraphMut<'_>, rng: &mut Rng) -> crate::Result<()> {
    let (one, other) = (draw(rng, &WORDS), draw(rng, &WORDS));
    match rng.below(5) {
        0 => graph.delete_entities(&[one])?,
        1 => drop(graph.create_relations(&[Relation::new(one, other, "r")])?),
        2 => graph.delete_observations(one, &[other])?,
        _ => {
            graph.create_entities(&[Entity::new(one, "t", [text(rng)])])?;
            graph.add_observations(one, &[other, "more"])?;
        }
    }
    Ok(())
}

/// All that can be read, expired or not.
fn content(store: &Store) -> String {
    let memory = at(store, 0);
    let snapshot = memory.snapshot().unwrap();
    let hits = snapshot.find(&Query::new().order(Order::Oldest).limit(10_000)).unwrap().hits;
    let mut items: Vec<Item> = hits.into_iter().map(|hit| hit.item).collect();
    items.sort_by_key(|item| item.id);
    let vectors: Vec<_> = items.iter().map(|item| snapshot.vector(item.id, SPACE).unwrap()).collect();
    let (namespaces, fields) = (snapshot.namespaces("").unwrap(), snapshot.fields());
    let limits: Vec<Limits> = NAMESPACES.iter().map(|namespace| snapshot.limits(*namespace).unwrap()).collect();
    let buckets = snapshot.store_snapshot().raw("memory.buckets").unwrap();
    let buckets: Vec<_> = buckets.range(..).unwrap().map(|row| row.unwrap()).collect();
    let graph = GraphView::new(snapshot.store_snapshot()).unwrap().whole().unwrap();
    format!("{items:#?}\n{vectors:?}\n{namespaces:?}\n{fields:?}\n{limits:?}\n{buckets:?}\n{graph:#?}")
}

fn is_clean(store: &Store) {
    let report = check_layers(store).unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

fn prepare(store: &Store) {
    let memory = at(store, 0);
    memory.declare_space(SPACE, Space::new(2)).unwrap();
    let limits = Limits::new().at_once(2);
    memory.set_limits("a", limits.items(12).bytes(2000)).unwrap();
    memory.set_limits("a/b", limits.rate(8, Duration::from_secs(16))).unwrap();
}

/// Opens what a power loss leaves: one of the states between what was acknowledged and what was begun. The memory goes on.
fn look(world: &Arc<World>, states: &[String], place: &str) {
    let (disk, store) = open_store(world, 1, LOG_CAP);
    let store = store.unwrap();
    let found = content(&store);
    assert!(states.contains(&found), "{place}: none of {} states, but {found}", states.len());
    is_clean(&store);
    act(&store, 1_000, 5);
    is_clean(&store);
    disk.silence();
}

fn power_losses(seed: u64, operations: u64) -> usize {
    let (world, _disk, store) = new_store(Arc::new(Free), LOG_CAP);
    prepare(&store);
    let mut states = vec![content(&store)];
    world.remark(Event::Acked(0));
    for n in 1..=operations {
        let number = usize::try_from(n).unwrap();
        world.remark(Event::Begun(number));
        act(&store, n, seed);
        world.remark(Event::Acked(number));
        states.push(content(&store));
        is_clean(&store);
    }
    let (start, events) = world.history();
    let (mut replay, mut rng, mut seen, mut count) = (Replay::new(start), Rng(seed), HashSet::new(), 0);
    // Before the first state is acknowledged, the memory is being prepared.
    let first = events.iter().position(|event| matches!(event, Event::Acked(0))).unwrap();
    for (at, event) in events.iter().enumerate() {
        let is_change = replay.apply(event);
        if at < first || !is_change && !matches!(event, Event::Acked(_)) {
            continue;
        }
        let (acked, begun) = (replay.acked, replay.begun.max(replay.acked));
        let limits = CrashLimits { all: 4, sample: 2, torn: 2 };
        replay.crash_states(&mut rng, limits, &mut |print| seen.insert((print, acked)), &mut |image| {
            count += 1;
            let place = format!("seed {seed}, event {at} of {}", events.len());
            look(&World::new(image, Arc::new(Free)), &states[acked..=begun], &place);
        });
    }
    count
}

#[test]
fn a_power_loss_leaves_whole_operations_and_indexes_that_agree() {
    let seeds = effort("MEMSTONE_SEEDS", 4) as u64;
    let count: usize = (0..seeds).map(|seed| power_losses(seed, 14)).sum();
    assert!(count > 100, "only {count} states");
}

/// A process acts, and is killed before the n-th such call, if there is one. Gives whether it had been told that it was
/// done.
fn act_and_die(
    stage: &Arc<Stage>,
    world: &Arc<World>,
    process: usize,
    call: (Call, usize),
    (n, seed): (u64, u64),
) -> bool {
    let (disk, store): (Arc<SimDisk>, _) = open_store(world, process, LOG_CAP);
    let store = store.unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let (told, of) = (Arc::clone(&is_done), Arc::clone(&disk));
    let still = stage.up_to((process, call.0, call.1), move || {
        act(&store, n, seed);
        // One that was killed meanwhile is told nothing.
        told.store(!of.is_dead(), Ordering::SeqCst);
    });
    if let Some(still) = still {
        still.die(&disk);
    }
    is_done.load(Ordering::SeqCst)
}

/// The same operations are done on a store that nothing happens to; it has what each of them leads to.
fn kills(seed: u64, operations: u64) -> usize {
    let stage = Arc::new(Stage::default());
    let (world, _disk, store) = new_store(Arc::clone(&stage) as _, LOG_CAP);
    let (_other, _its_disk, twin) = new_store(Arc::new(Free), LOG_CAP);
    prepare(&store);
    prepare(&twin);
    // Some die alone, some beside a process that has the store open.
    let bystander = seed.is_multiple_of(2).then(|| store.clone());
    drop(store);
    let (mut rng, mut before, mut killed) = (Rng(seed), content(&twin), 0);
    for n in 1..=operations {
        act(&twin, n, seed);
        let after = content(&twin);
        let calls = [Call::Write, Call::Flush, Call::Memory, Call::Lock, Call::Read];
        let call = (calls[rng.below(calls.len())], rng.below(12));
        let process = usize::try_from(n).unwrap() * 2;
        let is_done = act_and_die(&stage, &world, process, call, (n, seed));
        let next = open_store(&world, process + 1, LOG_CAP).1.unwrap();
        let seen = content(&next);
        // What its process had appended and not told of is found by the next writer, at the latest.
        let tx = next.begin_write().unwrap();
        assert!(!tx.tables().unwrap().is_empty());
        tx.rollback();
        let found = content(&next);
        let place = format!("seed {seed}, operation {n}, killed at {call:?}, done: {is_done}");
        assert!(seen == after || !is_done && seen == before, "{place}: {seen}\nafter {before}");
        assert!(found == after || !is_done && found == before && seen == before, "{place}: {found}\nafter {before}");
        is_clean(&next);
        if found != after {
            killed += 1;
            act(&next, n, seed);
            assert_eq!(content(&next), after, "{place}");
        }
        if let Some(bystander) = &bystander {
            assert_eq!(content(bystander), after, "{place}");
        }
        before = after;
    }
    killed
}

#[test]
fn a_killed_process_leaves_whole_operations_and_indexes_that_agree() {
    let seeds = effort("MEMSTONE_SEEDS", 8) as u64;
    let killed: usize = (0..seeds).map(|seed| kills(seed, 30)).sum();
    assert!(killed > 20, "only {killed} were killed on the way");
}
