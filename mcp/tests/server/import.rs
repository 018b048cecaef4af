//! The file of the reference server is imported once, and never changed.

use crate::client::{Start, names, place};
use serde_json::json;
use std::fs;

const FILE: &str = r#"{"type":"entity","name":"ada","entityType":"person","observations":["reads"]}
{"type":"entity","name":"bob","entityType":"person","observations":[]}
{"type":"relation","from":"ada","to":"bob","relationType":"knows"}"#;

#[test]
fn servers_that_start_at_once_import_the_file_once() {
    let (_directory, path) = place("memory.jsonl");
    fs::write(&path, FILE).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(names(&path), ["ada", "bob"]));
        }
    });
    let mut client = Start::memstone(&path).client();
    let graph = client.call("read_graph", json!({})).unwrap();
    assert_eq!(graph["relations"], json!([{ "from": "ada", "to": "bob", "relationType": "knows" }]));
    client.call("delete_entities", json!({ "entityNames": ["ada"] })).unwrap();
    drop(client);
    assert_eq!(names(&path), ["bob"], "it is not imported again");
    assert_eq!(fs::read_to_string(&path).unwrap(), FILE);
}

#[test]
fn a_file_with_a_mistake_is_imported_when_it_is_corrected() {
    let (_directory, path) = place("memory.jsonl");
    fs::write(&path, FILE.replace("\"observations\":[]", "\"observations\":7")).unwrap();
    let mut client = Start::memstone(&path).client();
    for tool in ["read_graph", "create_entities"] {
        let error = client.call(tool, json!({ "entities": [] })).unwrap_err();
        assert!(error.contains("memory.jsonl, line 2: ") && error.contains("not changed"), "{error}");
    }
    fs::write(&path, FILE).unwrap();
    let graph = client.call("read_graph", json!({})).unwrap();
    assert_eq!(graph["entities"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_that_comes_later_or_changes_is_told_of() {
    let (directory, path) = place("memory.jsonl");
    let log = directory.path().join("log");
    let start = || Start::memstone(&path).logging_to(&log, "warn").client();
    let ada = json!({ "entities": [{ "name": "mine", "entityType": "t", "observations": [] }] });
    start().call("create_entities", ada).unwrap();
    fs::write(&path, FILE).unwrap();
    assert_eq!(start().call("open_nodes", json!({ "names": ["mine", "ada"] })).unwrap()["relations"], json!([]));
    assert!(fs::read_to_string(&log).unwrap().contains("a content of its own"));

    start().call("delete_entities", json!({ "entityNames": ["mine"] })).unwrap();
    assert_eq!(names(&path), ["ada", "bob"], "the memory is empty, and the file was never imported");
    fs::write(&path, "").unwrap();
    assert!(start().close());
    assert!(fs::read_to_string(&log).unwrap().contains("changed since it was imported"));
    assert_eq!(names(&path), ["ada", "bob"]);
}
