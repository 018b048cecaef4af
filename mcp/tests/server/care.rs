//! The tools that look after the memory.

use crate::client::{Client, Start, entity, names, place};
use memstone::Store;
use serde_json::{Value, json};
use std::path::Path;

fn with_all_tools(path: &Path) -> Client {
    Start::memstone(path).with("MEMSTONE_TOOLS", "all").client()
}

fn fill(client: &mut Client) {
    client.call("create_entities", json!({ "entities": [entity("a", &["x", "x"]), entity("b", &[])] })).unwrap();
    let relation = json!({ "from": "a", "to": "b", "relationType": "r" });
    client.call("create_relations", json!({ "relations": [relation] })).unwrap();
}

#[test]
fn they_are_listed_when_they_are_asked_for() {
    let (_directory, path) = place("memory.mst");
    let listed = |mut client: Client| {
        let tools = client.request("tools/list", json!({}));
        tools["result"]["tools"].as_array().unwrap().len()
    };
    assert_eq!(listed(Start::memstone(&path).client()), 9);
    assert_eq!(listed(with_all_tools(&path)), 45);
    let error = Start::memstone(&path).client().call("create_backup", json!({})).unwrap_err();
    assert!(error.contains("not found"), "{error}");
}

#[test]
fn a_backup_is_restored_beside_other_servers_and_can_be_undone() {
    let (_directory, path) = place("memory.mst");
    let (mut client, mut other) = (with_all_tools(&path), with_all_tools(&path));
    let none = client.call("list_backups", json!({})).unwrap();
    assert_eq!(none["backups"], json!([]));
    fill(&mut client);
    let first = client.call("create_backup", json!({})).unwrap();
    let before = other.call("read_graph", json!({})).unwrap();
    other.call("delete_entities", json!({ "entityNames": ["a"] })).unwrap();
    other.call("create_entities", json!({ "entities": [entity("c", &["z"])] })).unwrap();

    let restored = client.call("restore_backup", json!({ "name": first["name"] })).unwrap();
    assert_eq!(restored["graph"], json!({ "entities": 2, "observations": 2, "relations": 1 }));
    assert_eq!(other.call("read_graph", json!({})).unwrap(), before);
    let undone = other.call("restore_backup", json!({ "name": restored["before"] })).unwrap();
    assert_eq!(undone["graph"], json!({ "entities": 2, "observations": 1, "relations": 0 }));
    let list = client.call("list_backups", json!({})).unwrap();
    let states: Vec<&Value> = list["backups"].as_array().unwrap().iter().map(|backup| &backup["state"]).collect();
    assert_eq!(states, ["good", "good", "good"]);

    for name in ["", "..", "../memory.mst", "missing"] {
        let error = client.call("restore_backup", json!({ "name": name })).unwrap_err();
        assert!(error.contains("no backup named"), "{error}");
    }
    assert_eq!(client.call("check_integrity", json!({})).unwrap(), json!({ "clean": true, "findings": [] }));
    drop((client, other));
    assert_eq!(names(&path), ["b", "c"]);
}

#[test]
fn backups_that_a_rule_does_not_keep_are_removed() {
    let (_directory, path) = place("memory.mst");
    let mut client = with_all_tools(&path);
    fill(&mut client);
    let error = client.call("create_backup", json!({ "keep": "7x" })).unwrap_err();
    assert!(error.contains("no rule such as 7d,4w,12m"), "{error}");
    let names = |client: &mut Client| -> Vec<Value> {
        let list = client.call("list_backups", json!({})).unwrap();
        list["backups"].as_array().unwrap().iter().map(|backup| backup["name"].clone()).collect()
    };
    assert_eq!(names(&mut client), Vec::<Value>::new(), "a rule that is none is refused first");
    let first = client.call("create_backup", json!({ "keep": null })).unwrap();
    let second = client.call("create_backup", json!({ "keep": "2y" })).unwrap();
    // Of one year, whichever it is, the last one is kept.
    let third = client.call("create_backup", json!({ "keep": "1y" })).unwrap();
    let removed: Vec<&Value> = [&second, &third].iter().flat_map(|made| made["removed"].as_array().unwrap()).collect();
    assert_eq!(removed, [&first["name"], &second["name"]]);
    assert_eq!(names(&mut client), [third["name"].clone()]);
}

#[test]
fn a_damaged_memory_is_found_and_said_to_be() {
    let (_directory, path) = place("memory.mst");
    let mut client = with_all_tools(&path);
    fill(&mut client);
    let health = client.call("get_system_health", json!({})).unwrap();
    assert_eq!(health["graph"], json!({ "entities": 2, "observations": 2, "relations": 1 }));
    assert!(health["status"] != json!("damage") && health["processes"].as_u64() >= Some(1), "{health}");
    client.call("store_memories", json!({ "memories": [{ "content": "tea" }] })).unwrap();
    client.call("submit_job", json!({ "queue": "embed", "payload": 7 })).unwrap();
    client.call("set_memory_limits", json!({ "namespace": "", "items": 1 })).unwrap();
    let health = client.call("get_system_health", json!({})).unwrap();
    assert_eq!((&health["memories"], &health["jobs"]), (&json!(1), &json!(1)));
    let warnings = health["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|text| text.as_str().unwrap().contains("quota is nearly used up")), "{health}");
    // A program that knows nothing of graphs takes a row away.
    let table: memstone::Table<'_, u64, Value> = memstone::Table::new("graph.entities");
    Store::open(&path).unwrap().write(|tx| tx.table(table)?.pop_first()).unwrap();
    let found = client.call("check_integrity", json!({})).unwrap();
    assert_eq!(found["clean"], json!(false));
    assert!(found["findings"][0].as_str().unwrap().contains("there is no entity 0"), "{found}");
    let error = client.call("read_graph", json!({})).unwrap_err();
    assert!(error.contains("contradict"), "{error}");
    // And one of the index of times of a memory.
    Store::open(&path).unwrap().write(|tx| tx.raw("memory.times")?.pop_first().map(|row| row.is_some())).unwrap();
    let found = client.call("check_integrity", json!({})).unwrap();
    let of_memories =
        found["findings"].as_array().unwrap().iter().filter(|text| text.as_str().unwrap().contains("memory."));
    assert!(of_memories.count() >= 1, "{found}");
    // And a job of the queue that it waits in.
    client.call("submit_job", json!({ "queue": "embed", "payload": 7 })).unwrap();
    Store::open(&path).unwrap().write(|tx| tx.raw("jobs.waiting")?.pop_first().map(|row| row.is_some())).unwrap();
    let found = client.call("check_integrity", json!({})).unwrap();
    let is_of_jobs = |text: &Value| text.as_str().unwrap().contains("jobs.waiting");
    assert!(found["findings"].as_array().unwrap().iter().any(is_of_jobs), "{found}");
}

#[test]
fn a_long_call_tells_its_progress_before_it_is_answered() {
    let (_directory, path) = place("memory.mst");
    let mut client = with_all_tools(&path);
    fill(&mut client);
    let call = json!({ "name": "create_backup", "arguments": {}, "_meta": { "progressToken": "p" } });
    let answer = client.request("tools/call", call);
    assert!(answer["result"]["isError"].is_null(), "{answer}");
    let news = client.notifications.iter().filter(|news| news["method"] == json!("notifications/progress"));
    let told: Vec<[Option<f64>; 2]> =
        news.map(|news| ["progress", "total"].map(|field| news["params"][field].as_f64())).collect();
    assert!(told.windows(2).all(|pair| pair[0][0] < pair[1][0]), "{told:?}");
    let [done, total] = told.last().unwrap();
    assert!(done == total && *done > Some(0.0), "{told:?}");
}
