//! What the reference server does not have: deadlines, cancelled calls, and files that are not as they should be.

use crate::client::{Client, Start, entity, names, place};
use memstone::Store;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

fn create(client: &mut Client, name: &str) -> Result<Value, String> {
    client.call("create_entities", json!({ "entities": [entity(name, &[])] }))
}

fn send(client: &mut Client, tool: &str, arguments: Value) -> u64 {
    client.send("tools/call", json!({ "name": tool, "arguments": arguments }))
}

#[test]
fn a_call_that_does_not_get_the_lock_says_who_holds_it_and_changes_nothing() {
    let (_directory, path) = place("memory.mst");
    let store = Store::open(&path).unwrap();
    let mut client = Start::memstone(&path).with("MEMSTONE_DEADLINE", "1").client();
    let held = store.begin_write().unwrap();
    let late: Vec<u64> = ["a", "b", "c"]
        .iter()
        .map(|name| send(&mut client, "create_entities", json!({ "entities": [entity(name, &[])] })))
        .collect();
    let texts: Vec<String> = late
        .into_iter()
        .map(|id| client.answer(id).unwrap()["result"]["content"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    assert!(texts[0].contains(&format!("process {}", std::process::id())), "{texts:?}");
    assert!(texts.iter().all(|text| text.contains("may succeed later")), "{texts:?}");
    held.rollback();
    create(&mut client, "d").unwrap();
    drop(client);
    assert_eq!(names(&path), ["d"]);
}

#[test]
fn reading_goes_on_while_many_changes_wait_for_another_process() {
    let (_directory, path) = place("memory.mst");
    let store = Store::open(&path).unwrap();
    let mut client = Start::memstone(&path).client();
    let held = store.begin_write().unwrap();
    // More than the server has threads.
    let waiting: Vec<u64> = (0..60)
        .map(|i| send(&mut client, "create_entities", json!({ "entities": [entity(&i.to_string(), &[])] })))
        .collect();
    assert_eq!(client.call("read_graph", json!({})).unwrap()["entities"], json!([]));
    held.rollback();
    for id in waiting {
        assert!(client.answer(id).unwrap()["result"]["isError"].is_null());
    }
    drop(client);
    assert_eq!(names(&path), (0..60).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_call_that_is_cancelled_before_it_begins_is_not_done() {
    let (_directory, path) = place("memory.mst");
    let store = Store::open(&path).unwrap();
    let mut client = Start::memstone(&path).client();
    let held = store.begin_write().unwrap();
    let arguments = |name| json!({ "entities": [entity(name, &[])] });
    let (first, second) =
        (send(&mut client, "create_entities", arguments("a")), send(&mut client, "create_entities", arguments("b")));
    let cancelled = json!({ "requestId": second, "reason": "changed my mind" });
    client.raw(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled }).to_string());
    // Its answer shows that the cancellation was read before.
    assert_eq!(client.request("ping", Value::Null)["result"], json!({}));
    held.rollback();
    assert!(client.answer(first).unwrap()["result"]["isError"].is_null());
    create(&mut client, "c").unwrap();
    assert!(client.close());
    assert_eq!(names(&path), ["a", "c"]);
}

#[test]
fn calls_that_are_sent_at_once_see_each_other_in_their_order() {
    let (_directory, path) = place("memory.mst");
    let mut client = Start::memstone(&path).client();
    let calls = [
        ("create_entities", json!({ "entities": [entity("a", &["x"])] })),
        ("add_observations", json!({ "observations": [{ "entityName": "a", "contents": ["y"] }] })),
        ("delete_observations", json!({ "deletions": [{ "entityName": "a", "observations": ["x"] }] })),
        ("create_relations", json!({ "relations": [{ "from": "a", "to": "a", "relationType": "is" }] })),
        ("add_observations", json!({ "observations": [{ "entityName": "b", "contents": ["y"] }] })),
        ("create_entities", json!({ "entities": [entity("b", &[])] })),
    ];
    let ids: Vec<u64> = calls.into_iter().map(|(tool, arguments)| send(&mut client, tool, arguments)).collect();
    let failed: Vec<bool> =
        ids.into_iter().map(|id| client.answer(id).unwrap()["result"]["isError"] == json!(true)).collect();
    assert_eq!(failed, [false, false, false, false, true, false]);
    let graph = client.call("open_nodes", json!({ "names": ["a"] })).unwrap();
    assert_eq!(graph["entities"][0]["observations"], json!(["y"]));
}

#[test]
fn a_subscriber_hears_of_changes_by_any_server_once() {
    let (_directory, path) = place("memory.mst");
    let (mut client, mut other) = (Start::memstone(&path).client(), Start::memstone(&path).client());
    create(&mut other, "before").unwrap();
    let uri = json!({ "uri": "memory://knowledge-graph" });
    assert_eq!(client.request("resources/subscribe", uri.clone())["result"], json!({}));
    for name in ["a", "b", "c"] {
        create(&mut other, name).unwrap();
        let news = client.notification();
        assert_eq!((&news["method"], &news["params"]), (&json!("notifications/resources/updated"), &uri));
        let graph = client.call("open_nodes", json!({ "names": [name] })).unwrap();
        assert_eq!(graph["entities"][0]["name"], json!(name));
        create(&mut client, &format!("{name} too")).unwrap();
        assert_eq!(client.notifications.drain(..).count(), 1, "of its own change it hears before the answer");
    }
    client.request("resources/unsubscribe", uri);
    create(&mut other, "after").unwrap();
    assert!(client.close());
}

#[test]
fn a_subscriber_hears_of_the_graph_alone() {
    let (_directory, path) = place("memory.mst");
    let start = || Start::memstone(&path).with("MEMSTONE_TOOLS", "all").client();
    let (mut client, mut other) = (start(), start());
    create(&mut other, "before").unwrap();
    let uri = json!({ "uri": "memory://knowledge-graph" });
    client.request("resources/subscribe", uri.clone());
    let memory = |n: usize| json!({ "memories": [{ "content": format!("tea {n}") }] });
    for round in 0..3 {
        // Memories, jobs and declarations, of this client and of another one.
        for n in 0..5 {
            other.call("store_memories", memory(round * 100 + n)).unwrap();
            client.call("store_memories", memory(round * 100 + 50 + n)).unwrap();
        }
        other.call("submit_job", json!({ "queue": "embed", "payload": round })).unwrap();
        other.call("declare_metadata_field", json!({ "name": format!("other {round}") })).unwrap();
        client.call("declare_metadata_field", json!({ "name": format!("own {round}") })).unwrap();
        client.call("cleanup_duplicates", json!({})).unwrap();
        let lines = client.call("export", json!({ "only": "memories" })).unwrap();
        client.call("import", lines).unwrap();
        assert_eq!(client.notifications, Vec::<Value>::new(), "round {round}");
        // What comes after it is told of: nothing was told before that.
        create(&mut other, &format!("{round}")).unwrap();
        let news = client.notification();
        assert_eq!((&news["method"], &news["params"]), (&json!("notifications/resources/updated"), &uri));
        let line = format!("{{\"type\":\"entity\",\"name\":\"own {round}\",\"entityType\":\"t\",\"observations\":[]}}");
        client.call("import", json!({ "lines": line })).unwrap();
        assert_eq!(client.notifications.drain(..).count(), 1, "of an import before its answer");
        client.request("ping", Value::Null);
        assert_eq!(client.notifications, Vec::<Value>::new(), "round {round}");
    }
}

#[test]
fn lines_that_are_no_requests_do_no_harm() {
    let (_directory, path) = place("memory.mst");
    let mut client = Start::memstone(&path).client();
    for line in ["", "{", "[]", "7", "{\"jsonrpc\":\"2.0\"}", "\u{0}", "{\"jsonrpc\":\"2.0\",\"method\":\"nothing\"}"] {
        client.raw(line);
    }
    // Half a character, as a program writes it that cuts strings by UTF-16 units.
    client.raw(
        r#"{"jsonrpc":"2.0","id":900,"method":"tools/call","params":{"name":"create_entities","arguments":{"entities":[{"name":"\ud83e","entityType":"\ud83e\udd80","observations":[]}]}}}"#,
    );
    let answer = client.answer(900).unwrap();
    let created = &answer["result"]["structuredContent"]["entities"][0];
    assert_eq!((created["name"].as_str(), created["entityType"].as_str()), (Some("\u{fffd}"), Some("🦀")));
    assert!(client.close());
}

#[test]
fn a_place_that_cannot_be_used_is_named_until_it_can() {
    let (directory, _) = place("");
    let folder = directory.path().join("later");
    let path = folder.join("memory.mst");
    let mut client = Start::memstone(&path).client();
    let error = create(&mut client, "a").unwrap_err();
    assert!(error.contains("later/memory.mst"), "{error}");
    fs::create_dir(&folder).unwrap();
    create(&mut client, "a").unwrap();

    let foreign = directory.path().join("notes.txt");
    fs::write(&foreign, "not a store").unwrap();
    let error = create(&mut Start::memstone(&foreign).client(), "a").unwrap_err();
    assert!(error.contains("not a memstone store"), "{error}");
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "not a store");
}

#[test]
fn a_store_that_was_replaced_is_opened_anew() {
    let (directory, path) = place("memory.mst");
    let mut client = Start::memstone(&path).client();
    create(&mut client, "old").unwrap();
    let other = directory.path().join("other.mst");
    create(&mut Start::memstone(&other).client(), "new").unwrap();
    fs::rename(&other, &path).unwrap();
    let graph = client.call("read_graph", json!({})).unwrap();
    assert_eq!(graph["entities"][0]["name"], json!("new"));
    create(&mut client, "newer").unwrap();
    drop(client);
    assert_eq!(names(&path), ["new", "newer"]);
}

#[test]
fn without_a_path_the_memory_is_in_the_data_directory() {
    let (home, _) = place("");
    let start = Start::memstone(&home.path().join("unused"))
        .without("MEMORY_FILE_PATH")
        .without("XDG_DATA_HOME")
        .with("HOME", home.path().to_str().unwrap());
    create(&mut start.client(), "a").unwrap();
    let data = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    assert_eq!(names(&home.path().join(data).join("memstone/memory.mst")), ["a"]);
}

#[test]
fn logs_go_to_standard_error_alone() {
    let (directory, path) = place("memory.mst");
    let log = directory.path().join("log");
    // The client would fail at a line that is not JSON.
    let mut client = Start::memstone(&path).logging_to(&log, "trace").client();
    create(&mut client, "a").unwrap();
    create(&mut client, "").unwrap();
    client.call("no_tool", json!({})).unwrap_err();
    assert!(client.close());
    assert!(fs::read_to_string(&log).unwrap().contains("Tool no_tool not found"));
}

#[test]
fn arguments_and_settings_that_are_wrong_are_refused() {
    let run = |arguments: &[&str], name: &str, value: &str| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_memstone-mcp")).args(arguments).env(name, value).output().unwrap();
        let text = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        (output.status.code(), text.into_owned())
    };
    let (code, text) = run(&["--file"], "HOME", "");
    assert!(code == Some(2) && text.contains("--file"), "{text}");
    let (code, text) = run(&[], "MEMSTONE_DEADLINE", "soon");
    assert!(code == Some(2) && text.contains("soon"), "{text}");
    let (code, text) = run(&[], "RUST_LOG", "a=b=c");
    assert!(code == Some(2) && text.contains("RUST_LOG"), "{text}");
    let (code, text) = run(&["--help"], "HOME", "");
    assert!(code == Some(0) && text.contains("MEMORY_FILE_PATH"), "{text}");
}
