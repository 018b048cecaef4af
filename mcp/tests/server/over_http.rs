//! The server over HTTP: sessions, who is let in, and how it ends.

use crate::client::{Start, entity, names, place};
use crate::http_client::{Listening, events};
use memstone::Store;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::process::Command;

fn creates(name: &str) -> Value {
    json!({ "entities": [entity(name, &[])] })
}

#[test]
fn sessions_share_the_memory_with_each_other_and_with_other_servers() {
    let (_directory, path) = place("memory.mst");
    let server = Listening::start(&path, &[]);
    let (mut first, mut second) = (server.session(), server.session());
    let (listed, _) = first.request("tools/list", json!({}));
    let mut on_standard_input = Start::memstone(&path).client();
    assert_eq!(listed["result"], on_standard_input.request("tools/list", json!({}))["result"]);
    first.call("create_entities", creates("a")).unwrap();
    second.call("create_entities", creates("b")).unwrap();
    on_standard_input.call("create_entities", creates("c")).unwrap();
    let graph = first.call("read_graph", json!({})).unwrap();
    assert_eq!(graph["entities"].as_array().unwrap().len(), 3);
    let error = first.call("add_observations", json!({ "observations": [{ "entityName": "x", "contents": [] }] }));
    assert_eq!(error.unwrap_err(), "Entity with name x not found");
    // Half a character, as over standard input.
    let half = first.message("tools/call", json!({ "name": "create_entities", "arguments": creates("HALF") }));
    let reply = first.post(&half.replace("HALF", "\\ud83e"));
    let (answer, _) = first.protocol_answer(&reply);
    assert_eq!(answer["result"]["structuredContent"]["entities"][0]["name"], json!("\u{fffd}"));
    first.send("DELETE", "/mcp", "");
    assert_eq!(first.reply().status, 202);
    let late = first.message("tools/list", json!({}));
    assert_eq!(first.post(&late).status, 404, "the session has ended");
    second.call("create_entities", creates("d")).unwrap();
    assert!(server.end());
    assert_eq!(names(&path), ["a", "b", "c", "\u{fffd}", "d"]);
}

#[test]
fn pages_of_other_hosts_are_refused() {
    let (_directory, path) = place("memory.mst");
    let server = Listening::start(&path, &[("MEMSTONE_HTTP_HOSTS", "memory.example, other.example:8443")]);
    let port = server.address.rsplit_once(':').unwrap().1.to_owned();
    let status = |headers: &[(&str, &str)]| {
        let mut guest = server.guest(None);
        guest.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let hello = guest.message("initialize", crate::client::hello());
        guest.post(&hello).status
    };
    assert_eq!(status(&[("Host", &format!("localhost:{port}"))]), 200);
    assert_eq!(status(&[("Host", "memory.example")]), 200);
    assert_eq!(status(&[("Host", "rebound.example")]), 403);
    assert_eq!(status(&[("Origin", &format!("http://localhost:{port}"))]), 200);
    assert_eq!(status(&[("Origin", "http://[::1]:3000")]), 200);
    assert_eq!(status(&[("Origin", "https://memory.example")]), 200);
    assert_eq!(status(&[("Origin", "https://other.example:8443")]), 200);
    for origin in ["http://rebound.example", "https://other.example", "http://localhost.rebound.example", "null", "x"] {
        assert_eq!(status(&[("Origin", origin)]), 403, "{origin}");
    }
}

#[test]
fn a_token_opens_the_part_of_its_user() {
    const ADA: &str = "ada-0123456789abcdef";
    const BOB: &str = "bob-0123456789abcdef";
    const ALL: &str = "all-0123456789abcdef";
    let (directory, path) = place("memory.mst");
    let tokens = directory.path().join("tokens");
    fs::write(&tokens, format!("# who\n{ADA} ada\n{BOB} team/bob\n{ALL}\n")).unwrap();
    let variables = [("MEMSTONE_TOKENS", tokens.to_str().unwrap()), ("MEMSTONE_TOOLS", "all")];
    let server = Listening::start(&path, &variables);
    for token in [None, Some("ada"), Some("ada-0123456789abcdefg"), Some("")] {
        let mut guest = server.guest(token);
        let hello = guest.message("initialize", crate::client::hello());
        guest.send("POST", "/mcp", &hello);
        let (status, headers) = guest.head();
        assert_eq!(status, 401, "{token:?}");
        assert!(headers.contains(&("www-authenticate".to_owned(), "Bearer".to_owned())), "{headers:?}");
    }
    let (mut ada, mut bob) = (server.session_of(Some(ADA)), server.session_of(Some(BOB)));
    let stored = ada.call("store_memories", json!({ "memories": [{ "content": "Ada drinks tea" }] })).unwrap();
    bob.call("store_memories", json!({ "memories": [{ "content": "Bob drinks tea" }] })).unwrap();
    let found = bob.call("search_memories", json!({ "query": "tea" })).unwrap();
    assert_eq!(found["hits"].as_array().unwrap().len(), 1);
    assert_eq!(found["hits"][0]["memory"]["content"], json!("Bob drinks tea"));
    let deleted = bob.call("delete_memories", json!({ "ids": [stored["memories"][0]["id"]] })).unwrap();
    assert_eq!(deleted["deleted"], json!(0));
    bob.call("read_graph", json!({})).unwrap_err();
    // The session of one is none of the other.
    let of_ada = ada.headers.iter().find(|(name, _)| name == "Mcp-Session-Id").unwrap().clone();
    let mut thief = server.guest(Some(BOB));
    thief.headers.push(of_ada);
    let call = thief.message("tools/list", json!({}));
    assert_eq!(thief.post(&call).status, 404);
    let mut whole = server.session_of(Some(ALL));
    let usage = whole.call("get_memory_usage", json!({})).unwrap();
    assert_eq!(usage["usage"]["items"], json!(2));
    whole.call("read_graph", json!({})).unwrap();
}

#[test]
fn requests_that_are_too_much_or_none_are_refused() {
    let (_directory, path) = place("memory.mst");
    let server = Listening::start(&path, &[("MEMSTONE_HTTP_SESSIONS", "2")]);
    let (mut first, mut second) = (server.session(), server.session());
    let mut third = server.guest(None);
    let hello = third.message("initialize", crate::client::hello());
    assert_eq!(third.post(&hello).status, 503, "there are two sessions");
    first.send("DELETE", "/mcp", "");
    assert_eq!(first.reply().status, 202);
    // The place is free when the session's task has ended.
    while third.post(&hello).status == 503 {
        std::thread::yield_now();
    }
    second.send("POST", "/other", "{}");
    assert_eq!(second.reply().status, 404);
    for body in ["", "{", "[]", "{\"jsonrpc\":\"2.0\"}"] {
        let status = second.post(body).status;
        assert!((400..500).contains(&status), "{body:?}: {status}");
    }
    second.call("create_entities", creates("a")).unwrap();
    // What is said to come is refused before it comes.
    let session = &second.headers.last().unwrap().1;
    let length = format!("Mcp-Session-Id: {session}\r\nContent-Length: {}", 17 << 20);
    let head = format!("POST /mcp HTTP/1.1\r\nHost: {}\r\n{length}\r\n\r\n", server.address);
    second.stream.get_mut().write_all(head.as_bytes()).unwrap();
    assert_eq!(second.reply().status, 413);
    assert!(server.end());
}

#[test]
fn a_listener_hears_of_changes_by_others_until_the_server_ends() {
    let (_directory, path) = place("memory.mst");
    // It would wait for so long, and is to end without waiting.
    let server = Listening::start(&path, &[("MEMSTONE_DEADLINE", "3600")]);
    let (mut session, mut other) = (server.session(), server.session());
    let uri = json!({ "uri": "memory://knowledge-graph" });
    session.request("resources/subscribe", uri.clone());
    let mut listener = server.guest(None);
    listener.headers.clone_from(&session.headers);
    listener.send("GET", "/mcp", "");
    assert_eq!(listener.head().0, 200);
    for name in ["a", "b"] {
        other.call("create_entities", creates(name)).unwrap();
        let news = std::iter::repeat_with(|| events(&listener.chunk())).find(|events| !events.is_empty()).unwrap();
        assert_eq!((&news[0]["method"], &news[0]["params"]), (&json!("notifications/resources/updated"), &uri));
    }
    // What it listens to has no end, and the server ends nevertheless.
    assert!(server.end());
}

#[test]
fn a_call_that_has_begun_is_answered_before_the_server_ends() {
    let (_directory, path) = place("memory.mst");
    let store = Store::open(&path).unwrap();
    let mut server = Listening::start(&path, &[]);
    let mut session = server.session();
    let held = store.begin_write().unwrap();
    let call = session.message("tools/call", json!({ "name": "create_entities", "arguments": creates("a") }));
    session.send("POST", "/mcp", &call);
    while store.locks().unwrap().waiting.is_empty() {
        std::thread::yield_now();
    }
    server.ask_to_end();
    // It listens no more when it has understood.
    while std::net::TcpStream::connect(&server.address).is_ok() {
        std::thread::yield_now();
    }
    held.rollback();
    let reply = session.reply();
    let (answer, _) = session.protocol_answer(&reply);
    assert_eq!(answer["result"]["structuredContent"]["entities"][0]["name"], json!("a"));
    assert!(server.child.wait().unwrap().success());
    drop(store);
    assert_eq!(names(&path), ["a"]);
}

#[test]
fn settings_that_would_open_the_memory_to_the_world_are_refused() {
    let (directory, path) = place("memory.mst");
    let tokens = directory.path().join("tokens");
    fs::write(&tokens, "short ada\n").unwrap();
    let refused = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memstone-mcp"));
        let output = command.env("MEMORY_FILE_PATH", &path).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let open = refused(&[("MEMSTONE_HTTP", "0.0.0.0:0")]);
    assert!(open.contains("other hosts can reach"), "{open}");
    let short = refused(&[("MEMSTONE_HTTP", "0.0.0.0:0"), ("MEMSTONE_TOKENS", tokens.to_str().unwrap())]);
    assert!(short.contains("line 1: a token is at least 16"), "{short}");
    let port = refused(&[("MEMSTONE_HTTP", "8417")]);
    assert!(port.contains("127.0.0.1:8417"), "{port}");
    let tools = refused(&[("MEMSTONE_TOOLS", "some")]);
    assert!(tools.contains("\"graph\", \"memory\", \"jobs\", \"work\" and \"care\""), "{tools}");
    let namespace = refused(&[("MEMSTONE_NAMESPACE", "a//b")]);
    assert!(namespace.contains("MEMSTONE_NAMESPACE: invalid namespace"), "{namespace}");
}
