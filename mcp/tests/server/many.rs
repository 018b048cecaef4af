//! Many servers on one file, and many calls at once: what was acknowledged is there.

use crate::client::{Client, Start, entity, names, place};
use memstone::memory::graph::GraphView;
use memstone::{CheckOptions, Store};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const SERVERS: usize = 4;
const CREATES: usize = 50;

/// Sends a call that creates one entity.
fn send_create(client: &mut Client, name: &str) -> u64 {
    client.send("tools/call", json!({ "name": "create_entities", "arguments": { "entities": [entity(name, &["x"])] } }))
}

/// Whether the answer says that the entity was created.
fn is_created(answer: &Value, name: &str) -> bool {
    answer["result"]["structuredContent"]["entities"][0]["name"] == json!(name)
}

/// The store is whole, and its indexes agree.
fn verify(path: &Path) {
    let report = memstone::check(path, &CheckOptions::new()).unwrap();
    assert!(report.is_clean(), "{report:#?}");
    let store = Store::open(path).unwrap();
    let snapshot = store.read().unwrap();
    assert_eq!(GraphView::new(&snapshot).unwrap().verify().unwrap(), Vec::new());
}

#[test]
fn four_servers_with_fifty_creates_each_keep_two_hundred() {
    let (_directory, path) = place("memory.mst");
    std::thread::scope(|scope| {
        for server in 0..SERVERS {
            let path = &path;
            scope.spawn(move || {
                let mut client = Start::memstone(path).client();
                let sent: Vec<(u64, String)> = (0..CREATES)
                    .map(|i| format!("{server}/{i}"))
                    .map(|name| (send_create(&mut client, &name), name))
                    .collect();
                for (id, name) in sent {
                    assert!(is_created(&client.answer(id).unwrap(), &name));
                }
            });
        }
    });
    let kept = names(&path);
    assert_eq!((kept.len(), kept.iter().collect::<BTreeSet<_>>().len()), (200, 200));
    for server in 0..SERVERS {
        let expected: Vec<String> = (0..CREATES).map(|i| format!("{server}/{i}")).collect();
        let of_server: Vec<&String> = kept.iter().filter(|name| name.starts_with(&format!("{server}/"))).collect();
        assert_eq!(of_server, expected.iter().collect::<Vec<_>>(), "in the order in which they were sent");
    }
    verify(&path);
}

#[test]
fn two_hundred_calls_at_once_are_done_in_their_order() {
    let (_directory, path) = place("memory.mst");
    let mut client = Start::memstone(&path).client();
    let sent: Vec<u64> = (0..200).map(|i| send_create(&mut client, &format!("n{i}"))).collect();
    // Each is answered, and the last one saw all others.
    let seen = client.send(
        "tools/call",
        json!({ "name": "add_observations", "arguments": { "observations":
        (0..200).map(|i| json!({ "entityName": format!("n{i}"), "contents": ["seen"] })).collect::<Vec<_>>() } }),
    );
    for (i, id) in sent.into_iter().enumerate() {
        assert!(is_created(&client.answer(id).unwrap(), &format!("n{i}")));
    }
    let seen = client.answer(seen).unwrap();
    assert_eq!(seen["result"]["structuredContent"]["results"].as_array().unwrap().len(), 200, "{seen}");
    drop(client);
    assert_eq!(names(&path), (0..200).map(|i| format!("n{i}")).collect::<Vec<_>>());
    verify(&path);
}

/// Creates entities until all are acknowledged, with a new server each time that this one was killed. A server is
/// killed with calls under way, after some answers. Returns how often that was.
fn create_through_kills(path: &Path, writer: usize) -> usize {
    let (mut next, mut kills) = (0, 0);
    while next < CREATES {
        let mut client = Start::memstone(path).client();
        let names: Vec<String> = (next..CREATES).map(|i| format!("{writer}/{i}")).collect();
        let sent: Vec<(u64, &String)> = names.iter().map(|name| (send_create(&mut client, name), name)).collect();
        // The servers die at different places.
        let survives = 3 + (writer * 5 + kills * 7) % 11;
        for (id, name) in sent.iter().take(survives) {
            let answer = client.answer(*id).unwrap();
            // A server that was killed may have created it without a word; then it is there already.
            let is_there = answer["result"]["structuredContent"]["entities"] == json!([]);
            assert!(is_created(&answer, name) || (is_there && kills > 0), "{answer}");
            next += 1;
        }
        kills += usize::from(next < CREATES);
        client.kill();
    }
    kills
}

#[test]
fn killed_servers_lose_nothing_that_they_acknowledged() {
    let (_directory, path) = place("memory.mst");
    let kills: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..SERVERS)
            .map(|writer| {
                let path = &path;
                scope.spawn(move || create_through_kills(path, writer))
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert!(kills >= 12, "only {kills} servers were killed");
    let kept: BTreeSet<String> = names(&path).into_iter().collect();
    let expected = (0..SERVERS).flat_map(|writer| (0..CREATES).map(move |i| format!("{writer}/{i}")));
    assert_eq!(kept, expected.collect::<BTreeSet<String>>());
    verify(&path);
}
