//! The tools for memories: what they store and find, what they refuse, and that a client is kept within its part.

use crate::client::{Start, place};
use crate::strict::Strict;
use serde_json::{Value, json};

fn tea() -> Value {
    json!([
        { "content": "Ada drinks green tea in the morning", "namespace": "chat", "tags": ["habits", "drinks"] },
        { "content": "Ada walks to work", "namespace": "chat/2026", "tags": ["habits"], "metadata": { "stars": 3 } },
        { "content": "The tea house opens at nine", "metadata": { "stars": 5, "source": { "kind": "web" } } },
    ])
}

#[test]
fn memories_are_found_by_words_conditions_and_time() {
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, "all");
    client.call("declare_metadata_field", json!({ "name": "stars" }));
    let ids = client.store(tea());
    let search = |client: &mut Strict, arguments: Value| client.contents("search_memories", arguments);
    assert_eq!(search(&mut client, json!({ "query": "drinking tea" })).len(), 2);
    assert_eq!(
        search(&mut client, json!({ "query": "drinking tea", "every_word": true })),
        ["Ada drinks green tea in the morning"]
    );
    assert_eq!(
        search(&mut client, json!({ "query": "tea", "namespace": "chat" })),
        ["Ada drinks green tea in the morning"]
    );
    assert_eq!(search(&mut client, json!({ "query": "\"tea house\"", "tags": null })), ["The tea house opens at nine"]);
    assert_eq!(
        search(&mut client, json!({ "tags": ["habits"], "where": [{ "field": "stars", "from": 1, "to": 4 }] })),
        ["Ada walks to work"]
    );
    assert_eq!(
        search(&mut client, json!({ "where": [{ "field": "stars", "equals": 5 }] })),
        ["The tea house opens at nine"]
    );
    let first = client.call("get_memories", json!({ "ids": [ids[1]] }))["memories"][0].clone();
    assert_eq!((&first["namespace"], &first["version"]), (&json!("chat/2026"), &json!(1)));
    let all = json!({ "created_from": first["created"], "created_to": "2200-01-01" });
    assert_eq!(search(&mut client, all).len(), 3);
    assert_eq!(search(&mut client, json!({ "created_to": first["created"] })), Vec::<String>::new());

    let mut listed = Vec::new();
    let mut page = client.call("list_memories", json!({ "order": "oldest", "limit": 2 }));
    loop {
        listed.extend(
            page["memories"].as_array().unwrap().iter().map(|memory| memory["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page.get("next").cloned() else { break };
        page = client.call("list_memories", json!({ "order": "oldest", "limit": 2, "cursor": next }));
    }
    listed.sort_unstable();
    let mut expected = ids.clone();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    client.call("update_memory", json!({ "id": ids[0], "tags": ["habits"] }));
    assert_eq!(client.contents("recent_memories", json!({ "limit": 1 })), ["Ada drinks green tea in the morning"]);
    let tags = client.call("list_tags", json!({}));
    assert_eq!(tags["tags"], json!([{ "tag": "habits", "memories": 2 }]));
}

#[test]
fn a_memory_is_changed_in_parts_and_by_version() {
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, "memory");
    let id = &client.store(tea())[2];
    let patch = json!({ "stars": null, "source": { "kind": null, "page": 7 }, "new": true });
    let changed =
        client.call("update_memory", json!({ "id": id, "version": 1, "metadata": patch, "namespace": "houses" }));
    assert_eq!(changed["metadata"], json!({ "source": { "page": 7 }, "new": true }));
    assert_eq!(
        (&changed["version"], &changed["namespace"], &changed["tags"]),
        (&json!(2), &json!("houses"), &json!([]))
    );
    client.fails(
        "expected version 1, found 2. Nothing was changed",
        "update_memory",
        json!({ "id": id, "version": 1, "content": "x" }),
    );
    let changed = client.call("update_memory", json!({ "id": id, "expires": "2200-01-01T00:00:00Z" }));
    assert_eq!(changed["expires"], json!("2200-01-01T00:00:00.000000Z"));
    let changed =
        client.call("update_memory", json!({ "id": id, "expires": null, "content": "The tea house is closed" }));
    assert_eq!((changed.get("expires"), &changed["version"]), (None, &json!(4)));
    assert_eq!(client.contents("search_memories", json!({ "query": "closed" })), ["The tea house is closed"]);

    let deleted = client.call("delete_memories", json!({ "ids": [id, id] }));
    assert_eq!(deleted, json!({ "deleted": 1, "missing": [id] }));
    assert_eq!(client.call("get_memories", json!({ "ids": [id] })), json!({ "memories": [], "missing": [id] }));
    client.fails("there is no item", "update_memory", json!({ "id": id, "content": "x" }));
    // Another program checks what these calls have left.
    drop(client);
    assert!(memstone::memory::Memory::open(&path).unwrap().check().unwrap().is_clean());
}

#[test]
fn vectors_and_words_are_fused() {
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, "memory,care");
    let vector = |x: f64, y: f64| json!({ "small": [x, y] });
    let memories = json!([
        { "content": "green tea", "vectors": vector(1.0, 0.1) },
        { "content": "black coffee", "vectors": vector(0.9, 0.2) },
        { "content": "black tea", "vectors": vector(0.0, 1.0) },
    ]);
    client.fails("there is no vector space \"small\"", "store_memories", json!({ "memories": memories }));
    assert_eq!(client.contents("list_memories", json!({})), Vec::<String>::new(), "all or none");
    client.call("declare_vector_space", json!({ "name": "small", "dimension": 2 }));
    let ids = client.store(memories);
    let by = |words: Value, values: Value| json!({ "query": words, "vector": { "space": "small", "values": values } });
    assert_eq!(client.contents("search_memories", by(Value::Null, json!([1, 0])))[0], "green tea");
    let found = client.call("search_memories", by(json!("tea"), json!([1, 0])));
    let best = &found["hits"][0];
    assert_eq!(best["memory"]["content"], json!("green tea"));
    assert!(best["words"].is_number() && best["similarity"].as_f64() > Some(0.9), "{best}");
    client.fails("3 elements, and the space has 2", "search_memories", by(json!("tea"), json!([1, 0, 0])));
    let related = client.contents("related_memories", json!({ "id": ids[0], "limit": 2 }));
    assert_eq!((related.len(), related.contains(&"green tea".to_owned())), (2, false), "{related:?}");
    client.call("update_memory", json!({ "id": ids[1], "vectors": { "small": null } }));
    let without = client.call("get_memories", json!({ "ids": [ids[1]] }));
    assert_eq!(without["memories"][0]["spaces"], json!([]));
    let usage = client.call("get_memory_usage", json!({}));
    assert_eq!(usage["spaces"], json!([{ "name": "small", "dimension": 2 }]));
}

#[test]
fn a_client_of_a_part_sees_and_changes_nothing_else() {
    let (_directory, path) = place("memory.mst");
    let (mut ada, mut bob) = (Strict::within(&path, "ada"), Strict::within(&path, "team/bob"));
    let ids = ada.store(tea());
    let own = bob.store(json!([{ "content": "Bob drinks tea", "namespace": "chat" }]));
    assert_eq!(bob.contents("search_memories", json!({ "query": "tea" })), ["Bob drinks tea"]);
    assert_eq!(bob.contents("list_memories", json!({})).len(), 1);
    assert_eq!(bob.contents("related_memories", json!({ "id": own[0] })), Vec::<String>::new());
    assert_eq!(bob.call("get_memories", json!({ "ids": ids }))["memories"], json!([]));
    assert_eq!(bob.call("delete_memories", json!({ "ids": ids }))["deleted"], json!(0));
    assert_eq!(bob.call("list_tags", json!({}))["tags"], json!([]));
    assert_eq!(bob.call("cleanup_duplicates", json!({}))["deleted"], json!(0));
    for tool in ["update_memory", "related_memories"] {
        bob.fails("there is no item", tool, json!({ "id": ids[0], "content": "x" }));
    }
    for wrong in ["/", "/ada", "a//b"] {
        bob.fails("invalid namespace", "update_memory", json!({ "id": own[0], "namespace": wrong }));
    }
    // A name like any other.
    bob.call("update_memory", json!({ "id": own[0], "namespace": "../ada" }));
    let usage = bob.call("get_memory_usage", json!({}));
    assert_eq!((&usage["usage"]["items"], &usage["usage"]["namespace"]), (&json!(1), &json!("")));
    // What reaches the whole file is not there.
    for tool in ["read_graph", "create_backup", "set_memory_limits", "export"] {
        bob.client.call(tool, json!({})).unwrap_err();
    }
    assert_eq!(bob.client.request("resources/list", json!({}))["result"]["resources"], json!([]));
    assert!(!bob.client.request("resources/read", json!({ "uri": "memory://knowledge-graph" }))["error"].is_null());
    let all = ada.contents("list_memories", json!({}));
    assert_eq!(all.len(), 3, "{all:?}");
    let mut whole = Strict::with(&path, "memory");
    let usage = whole.call("get_memory_usage", json!({}));
    let namespaces: Vec<&Value> = usage["namespaces"].as_array().unwrap().iter().map(|of| &of["namespace"]).collect();
    assert!(
        namespaces.contains(&&json!("ada/chat/2026")) && namespaces.contains(&&json!("team/bob/../ada")),
        "{namespaces:?}"
    );
}

#[test]
fn refusals_say_what_how_much_and_when_again() {
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, "all");
    client.call("set_memory_limits", json!({ "namespace": "small", "items": 2 }));
    client.call("set_memory_limits", json!({ "namespace": "slow", "operations": 2, "seconds": 86_400 }));
    let of = |namespace: &str, number: usize| {
        let memories: Vec<Value> =
            (0..number).map(|n| json!({ "content": format!("{namespace} {n}"), "namespace": namespace })).collect();
        json!({ "memories": memories })
    };
    client.fails("namespace \"small\" may hold 2 items: it holds 2, and 1 more", "store_memories", of("small", 3));
    client.call("store_memories", of("small/below", 2));
    client.fails("delete what is no longer needed", "store_memories", of("small", 1));
    client.call("store_memories", of("slow", 2));
    client.fails(
        "namespace \"slow\" allows 2 operations within 86400.000 s; again in ",
        "store_memories",
        of("slow/er", 1),
    );
    let limits = client.call("get_memory_usage", json!({ "namespace": "slow/er" }))["limits"].clone();
    assert_eq!(limits, json!([{ "namespace": "slow", "operations": 2, "seconds": 86400.0 }]));
    client.call("set_memory_limits", json!({ "namespace": "slow" }));
    client.call("set_memory_limits", json!({ "namespace": "busy", "jobs": 1 }));
    let job = json!({ "queue": "q", "payload": null, "namespace": "busy/bee" });
    client.call("submit_job", job.clone());
    client.fails(
        "\"busy\" may hold 1 jobs that have not ended: it holds 1, and 1 more were to be added; again when one of them",
        "submit_job",
        job,
    );
    let limits = client.call("get_memory_usage", json!({ "namespace": "busy" }))["limits"].clone();
    assert_eq!(limits, json!([{ "namespace": "busy", "jobs": 1 }]));
    client.call("store_memories", of("slow/er", 1));

    client.fails("65 memories in one call, and 64 are the limit", "store_memories", of("many", 65));
    client.fails("expected a time such as", "search_memories", json!({ "created_from": "yesterday" }));
    client.fails("is not a UUID", "get_memories", json!({ "ids": ["7"] }));
    client.fails("\"price\" has no index", "search_memories", json!({ "where": [{ "field": "price", "equals": 1 }] }));
    client.fails("invalid cursor", "list_memories", json!({ "cursor": "next" }));
    client.fails("invalid tag", "store_memories", json!({ "memories": [{ "content": "x", "tags": [""] }] }));
    client.fails("expected one of newest, oldest, updated", "list_memories", json!({ "order": "best" }));
    let usage = client.call("get_memory_usage", json!({}));
    assert_eq!(usage["usage"]["items"], json!(5), "what was refused is not there");
}

#[test]
fn what_was_stored_twice_is_cleaned_up_and_what_has_expired_makes_room() {
    let (_directory, path) = place("memory.mst");
    let mut client = Strict::with(&path, "all");
    let ids = client.store(json!([
        { "content": "one", "tags": ["a"] },
        { "content": "two", "tags": ["b"] },
        { "content": "one", "namespace": "other" },
    ]));
    let again = client.call("store_memories", json!({ "memories": [{ "content": "one" }] }));
    assert_eq!(again["memories"], json!([{ "id": ids[0], "duplicate": true }]));
    client.call("update_memory", json!({ "id": ids[1], "content": "one" }));
    assert_eq!(client.call("cleanup_duplicates", json!({}))["deleted"], json!(1));
    let kept = client.call("get_memories", json!({ "ids": [ids[0], ids[1]] }));
    assert_eq!((&kept["memories"][0]["tags"], &kept["missing"]), (&json!(["a", "b"]), &json!([ids[1]])));

    client.call("set_memory_limits", json!({ "namespace": "brief", "items": 1 }));
    client.store(json!([{ "content": "gone", "namespace": "brief", "expires": "2000-01-01" }]));
    assert_eq!(client.contents("search_memories", json!({ "query": "gone" })), Vec::<String>::new());
    client.store(json!([{ "content": "here", "namespace": "brief" }]));
}

#[test]
fn hints_say_what_tools_do() {
    let (_directory, path) = place("memory.mst");
    let mut client = Start::memstone(&path).with("MEMSTONE_TOOLS", "memory").client();
    let listed = client.request("tools/list", json!({}));
    let hints = |name: &str| {
        let tools = listed["result"]["tools"].as_array().unwrap();
        let tool = tools.iter().find(|tool| tool["name"] == json!(name)).unwrap();
        ["readOnlyHint", "destructiveHint", "idempotentHint"].map(|hint| tool["annotations"][hint].as_bool().unwrap())
    };
    assert_eq!(hints("search_memories"), [true, false, true]);
    assert_eq!(hints("store_memories"), [false, false, false]);
    assert_eq!([hints("update_memory"), hints("delete_memories")], [[false, true, true]; 2]);
}

#[test]
fn quotas_hold_to_the_item() {
    const SERVERS: usize = 4;
    const EACH: usize = 30;
    const QUOTA: usize = 50;
    let (_directory, path) = place("memory.mst");
    Strict::with(&path, "all").call("set_memory_limits", json!({ "namespace": "team", "items": QUOTA }));
    let stored: usize = std::thread::scope(|scope| {
        let servers: Vec<_> = (0..SERVERS)
            .map(|server| {
                let path = &path;
                scope.spawn(move || {
                    let mut client = Start::memstone(path).with("MEMSTONE_TOOLS", "memory").client();
                    let sent: Vec<u64> = (0..EACH)
                        .map(|n| {
                            let memory =
                                json!({ "content": format!("{server} {n}"), "namespace": format!("team/{server}") });
                            let call = json!({ "name": "store_memories", "arguments": { "memories": [memory] } });
                            client.send("tools/call", call)
                        })
                        .collect();
                    let answers = sent.into_iter().map(|id| client.answer(id).unwrap()["result"].clone());
                    let is_stored = |answer: &Value| {
                        let text = answer["content"][0]["text"].as_str().unwrap();
                        assert!(
                            answer["isError"].is_null() || text.contains("may hold 50 items: it holds 50"),
                            "{text}"
                        );
                        answer["isError"].is_null()
                    };
                    answers.filter(is_stored).count()
                })
            })
            .collect();
        servers.into_iter().map(|server| server.join().unwrap()).sum()
    });
    assert_eq!(stored, QUOTA);
    let memory = memstone::memory::Memory::open(&path).unwrap();
    assert_eq!(memory.usage("team").unwrap().items, QUOTA as u64);
    assert!(memory.check().unwrap().is_clean());
}
