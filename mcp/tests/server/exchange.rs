//! Exporting a memory as lines, and importing it elsewhere.

use crate::client::{Client, Start, entity, place};
use crate::strict::Strict;
use memstone::Store;
use memstone::memory::{Format, Memory, Metric, Namespace, Query, Space};
use serde_json::{Value, json};
use std::path::Path;

fn with_all_tools(path: &Path) -> Strict {
    Strict::with(path, "all")
}

/// A graph, and memories with all that they can have.
fn fill(client: &mut Strict, path: &Path) {
    client.call("create_entities", json!({ "entities": [entity("a", &["x", "x"]), entity("b", &[])] }));
    client.call("create_relations", json!({ "relations": [{ "from": "a", "to": "b", "relationType": "r" }] }));
    let memory = Memory::open(path).unwrap();
    for (name, format) in [("exact", Format::F32), ("half", Format::F16), ("byte", Format::I8)] {
        memory.declare_space(name, Space::new(5).format(format).metric(Metric::L2)).unwrap();
    }
    client.call("declare_metadata_field", json!({ "name": "stars" }));
    let vector = |n: usize| (0..5).map(|at| ((n * 7 + at * 3) as f32).sin() / 3.0).collect::<Vec<f32>>();
    let stored = |n: usize| {
        let namespace = ["", "chat", "chat/2026", "ü 🦀"][n % 4];
        let metadata = json!({ "stars": n, "share": 0.1 + n as f64 / 7.0, "deep": { "list": [1, null, "\n"] } });
        let vectors = json!({ "exact": vector(n), "half": vector(n), "byte": vector(n) });
        json!({ "content": format!("tea {n}\n\u{2028}\"x\""), "namespace": namespace, "metadata": metadata, "vectors": vectors,
            "tags": ["all", format!("{}", n % 3)] })
    };
    let ids = client.store((0..40).map(stored).collect());
    client.store(json!([stored(3), stored(3), { "content": "soon gone", "expires": "2200-01-01T00:00:00.000001Z" }]));
    client.call("update_memory", json!({ "id": ids[1], "content": "tea 2\n\u{2028}\"x\"", "namespace": "chat/2026" }));
    client.call("update_memory", json!({ "id": ids[2], "expires": "2100-01-01", "vectors": { "exact": null } }));
    client.call("update_memory", json!({ "id": ids[2], "tags": [] }));
}

fn export(client: &mut Strict, arguments: Value) -> String {
    client.call("export", arguments)["lines"].as_str().unwrap().to_owned()
}

/// Lines in an order that does not depend on the store.
fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_is_exported_is_imported_without_loss_and_once() {
    let (directory, path) = place("memory.mst");
    let mut client = with_all_tools(&path);
    fill(&mut client, &path);
    let lines = export(&mut client, json!({}));
    assert_eq!(lines.lines().count(), 3 + 3 + 1 + 41);
    let copy_path = directory.path().join("copy.mst");
    let mut copy = with_all_tools(&copy_path);
    copy.call("create_entities", json!({ "entities": [entity("b", &["y"])] }));
    let imported = copy.call("import", json!({ "lines": lines }));
    let graph = json!({ "entities": 1, "observations": 2, "relations": 1 });
    assert_eq!(imported, json!({ "graph": graph, "memories": 41, "present": 0 }));
    let again = copy.call("import", json!({ "lines": lines }));
    let nothing = json!({ "entities": 0, "observations": 0, "relations": 0 });
    assert_eq!(again, json!({ "graph": nothing, "memories": 0, "present": 41 }));
    // What the copy exports is the same, to the last bit of each number.
    assert_eq!(
        sorted(&export(&mut copy, json!({ "only": "memories" }))),
        sorted(&export(&mut client, json!({ "only": "memories" })))
    );
    drop((client, copy));
    let [from, to] = [&path, &copy_path].map(|path| Memory::open(path).unwrap());
    assert!(to.check().unwrap().is_clean());
    for hit in from.find(&Query::new().limit(1000)).unwrap().hits {
        let item = to.get(hit.item.id).unwrap().unwrap();
        assert_eq!(item, hit.item);
        for space in item.spaces() {
            assert_eq!(to.vector(item.id, space).unwrap(), from.vector(item.id, space).unwrap(), "{space}");
        }
    }
    assert_eq!(to.snapshot().unwrap().spaces(), from.snapshot().unwrap().spaces());
    assert_eq!(to.usage(Namespace::root()).unwrap(), from.usage(Namespace::root()).unwrap());
}

#[test]
fn a_part_is_exported_alone() {
    let (_directory, path) = place("memory.mst");
    let mut client = with_all_tools(&path);
    fill(&mut client, &path);
    let graph = export(&mut client, json!({ "only": "graph", "namespace": "chat" }));
    assert_eq!(graph.lines().count(), 3);
    let memories = export(&mut client, json!({ "only": "memories", "namespace": "chat" }));
    let namespaces = memories
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["namespace"].as_str().map(str::to_owned));
    let namespaces: Vec<String> = namespaces.collect();
    assert!(namespaces.len() == 20 && namespaces.iter().all(|of| of.starts_with("chat")), "{namespaces:?}");
    client.fails("invalid namespace", "export", json!({ "namespace": "/" }));
}

#[test]
fn a_bad_line_is_named_and_nothing_is_imported() {
    let (directory, path) = place("memory.mst");
    let mut client = with_all_tools(&path);
    fill(&mut client, &path);
    let good = export(&mut client, json!({}));
    let memory = good.lines().find(|line| line.contains("\"memory\"")).unwrap();
    let with = |field: &str, value: Value| {
        let mut line: Value = serde_json::from_str(memory).unwrap();
        (line["id"], line[field]) = (json!("01890a5d-ac96-774b-bcce-b302099a8057"), value);
        line.to_string()
    };
    let copy_path = directory.path().join("copy.mst");
    let mut copy = with_all_tools(&copy_path);
    copy.call("declare_vector_space", json!({ "name": "other", "dimension": 2 }));
    let number = good.lines().count() + 1;
    for (bad, reason) in [
        ("{".to_owned(), "EOF"),
        ("{\"type\":\"note\"}".to_owned(), "unknown variant"),
        ("{\"type\":\"entity\"}".to_owned(), "missing field"),
        (
            "{\"type\":\"space\",\"name\":\"other\",\"space\":{\"dimension\":3,\"format\":\"F32\",\"metric\":\"Dot\"}}"
                .to_owned(),
            "not 3",
        ),
        ("{\"type\":\"field\",\"name\":\"\"}".to_owned(), "field"),
        (with("namespace", json!("a//b")), "invalid namespace"),
        (with("id", json!("7")), "is not a UUID"),
        (with("tags", json!([""])), "invalid tag"),
        (with("vectors", json!({ "exact": [1.0] })), "1 elements, and the space has 5"),
        (with("vectors", json!({ "none": [1.0] })), "no vector space \"none\""),
        (with("created", json!("soon")), "not a time"),
        (with("content", json!("x".repeat((4 << 20) + 1))), "4194304 are the limit"),
    ] {
        let error = copy.try_call("import", json!({ "lines": format!("{good}{bad}\n") })).unwrap_err();
        assert!(error.starts_with(&format!("line {number}: ")) && error.contains(reason), "{reason}: {error}");
    }
    assert_eq!(copy.contents("list_memories", json!({})), Vec::<String>::new());
    assert_eq!(copy.call("read_graph", json!({}))["entities"], json!([]));
    let state = Memory::open(&copy_path).unwrap().snapshot().unwrap();
    assert_eq!((state.spaces().len(), state.fields().len()), (1, 0), "nothing was declared");
}

#[test]
fn an_import_that_is_cancelled_adds_nothing() {
    let (directory, path) = place("memory.mst");
    let mut client = with_all_tools(&path);
    fill(&mut client, &path);
    let lines = export(&mut client, json!({}));
    let copy_path = directory.path().join("copy.mst");
    let mut copy: Client = Start::memstone(&copy_path).with("MEMSTONE_TOOLS", "all").client();
    let store = Store::open(&copy_path).unwrap();
    let held = store.begin_write().unwrap();
    let id = copy.send("tools/call", json!({ "name": "import", "arguments": { "lines": lines } }));
    copy.raw(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }).to_string(),
    );
    assert_eq!(copy.request("ping", Value::Null)["result"], json!({}));
    held.rollback();
    let listed = copy.call("list_memories", json!({})).unwrap();
    assert!(copy.close());
    assert_eq!(listed["memories"], json!([]));
    assert!(store.read().unwrap().tables().unwrap().is_empty(), "it was broken off before its first memory");
}
