//! Sixteen servers on one file, killed at any time, with the graph and memories: nothing acknowledged is lost, and all indexes agree.
//!
//! The test does a round with a fixed number of calls. With `MEMSTONE_SOAK_SECONDS` it goes on with rounds for so long:
//! `MEMSTONE_SOAK_SECONDS=60 cargo test -p memstone-mcp --test server soak -- --nocapture`

use crate::client::{Start, entity, place};
use memstone::memory::graph::GraphView;
use memstone::memory::{Memory, Query};
use memstone::{CheckOptions, Store};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

const SERVERS: usize = 16;
/// So many calls of each are acknowledged in a round.
const CALLS: usize = 12;

/// A call that stores something by this name: every second one in the graph, the others as a memory.
fn call(name: &str, number: usize) -> Value {
    if number.is_multiple_of(2) {
        json!({ "name": "create_entities", "arguments": { "entities": [entity(name, &["x"])] } })
    } else {
        let memory = json!({ "content": name, "namespace": "soak", "tags": [name.split('/').next().unwrap()] });
        json!({ "name": "store_memories", "arguments": { "memories": [memory] } })
    }
}

/// Makes calls until so many are acknowledged, each by its name. A server is killed with calls under way, after some answers, and
/// another one takes over. Returns the number of kills.
fn run(path: &Path, writer: usize, round: usize) -> usize {
    let (mut next, mut kills) = (0, 0);
    while next < CALLS {
        let mut client = Start::memstone(path).with("MEMSTONE_TOOLS", "graph,memory").client();
        let sent: Vec<u64> = (next..CALLS)
            .map(|number| client.send("tools/call", call(&format!("{writer}/{round}/{number}"), number)))
            .collect();
        // The servers die at different places.
        let survives = 1 + (writer * 5 + kills * 7 + round) % 6;
        for id in sent.into_iter().take(survives) {
            let answer = client.answer(id).unwrap();
            assert!(answer["result"]["isError"].is_null(), "{answer}");
            next += 1;
        }
        kills += usize::from(next < CALLS);
        client.kill();
    }
    kills
}

/// Everything that was acknowledged so far is there, once, and all agrees.
fn verify(path: &Path, rounds: usize) {
    let report = memstone::check(path, &CheckOptions::new().values(true)).unwrap();
    assert!(report.is_clean(), "{report:#?}");
    let store = Store::open(path).unwrap();
    let snapshot = store.read().unwrap();
    let graph = GraphView::new(&snapshot).unwrap();
    assert_eq!(graph.verify().unwrap(), Vec::new());
    let memory = Memory::new(store);
    let checked = memory.check().unwrap();
    assert!(checked.is_clean(), "{checked:#?}");
    let found = memory.find(&Query::new().limit(usize::MAX)).unwrap();
    let kept: Vec<String> = found.hits.into_iter().map(|hit| hit.item.content).collect();
    let entities = graph.whole().unwrap().entities.into_iter().map(|entity| entity.name);
    let kept: Vec<String> = kept.into_iter().chain(entities).collect();
    let expected: BTreeSet<String> = (0..SERVERS)
        .flat_map(|writer| (0..rounds).map(move |round| (writer, round)))
        .flat_map(|(writer, round)| (0..CALLS).map(move |number| format!("{writer}/{round}/{number}")))
        .collect();
    assert_eq!(kept.len(), expected.len(), "nothing is there twice");
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn sixteen_servers_with_kills_lose_nothing() {
    let soak = std::env::var("MEMSTONE_SOAK_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(soak.unwrap_or(0));
    let (_directory, path) = place("memory.mst");
    let (mut round, mut kills) = (0, 0);
    loop {
        kills += std::thread::scope(|scope| {
            let path = &path;
            let writers: Vec<_> = (0..SERVERS).map(|writer| scope.spawn(move || run(path, writer, round))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum::<usize>()
        });
        round += 1;
        verify(&path, round);
        if Instant::now() >= end {
            break;
        }
    }
    println!("{round} rounds, {kills} kills, {} acknowledged calls kept", round * SERVERS * CALLS);
    assert!(kills >= 2 * SERVERS * round, "only {kills} servers were killed");
}
