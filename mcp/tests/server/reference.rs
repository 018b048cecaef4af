//! The reference server and this one give the same answers, call by call.
//!
//! `recorded/*.json` are scripts: calls, each with what the real server answered. The scripts are played to
//! this server. If the real one is there, they are played to it as well, and what was recorded must still be true. It
//! is looked for in `mcp/node_modules` (`npm install --no-save @modelcontextprotocol/server-memory` in `mcp/` puts it
//! there) or where `MEMSTONE_REFERENCE_SERVER` says: the package's directory. With `MEMSTONE_RECORD` set, its answers
//! are written to the scripts instead.

use crate::client::{Client, Start, hello};
use crate::skip::skip;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Serialize, Deserialize)]
struct Script {
    about: String,
    /// The package's version that was recorded.
    version: String,
    /// What the file of the memory holds at first, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    calls: Vec<Call>,
}

#[derive(Serialize, Deserialize)]
struct Call {
    method: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    params: Value,
    /// Why this server answers something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    differs: Option<String>,
    #[serde(default)]
    answer: Value,
    /// What the server says unasked before it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notifications: Vec<Value>,
}

/// The real server.
struct Reference {
    program: PathBuf,
    version: String,
}

impl Reference {
    fn find() -> Option<Reference> {
        let at_home = || Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/@modelcontextprotocol/server-memory");
        let package = std::env::var_os("MEMSTONE_REFERENCE_SERVER").map_or_else(at_home, PathBuf::from);
        let manifest = fs::read(package.join("package.json")).ok()?;
        let manifest: Value = serde_json::from_slice(&manifest).ok()?;
        Command::new("node").arg("--version").output().ok()?;
        Some(Reference { program: package.join("dist/index.js"), version: manifest["version"].as_str()?.to_owned() })
    }

    fn start(&self, path: &Path) -> Start {
        let mut command = Command::new("node");
        command.arg(&self.program).stderr(std::process::Stdio::null());
        Start::of(command, path)
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 6, "{found:?}");
    found
}

/// The answers of a server to a script, and its notifications.
fn play(script: &Script, start: impl FnOnce(&Path) -> Start) -> Vec<(Value, Vec<Value>)> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memory.jsonl");
    if let Some(content) = &script.file {
        fs::write(&path, content).unwrap();
    }
    let mut client = start(&path).silent_client();
    let answers = script.calls.iter().map(|call| answer(&mut client, call)).collect();
    if let Some(content) = &script.file {
        assert!(client.close(), "the server failed at the end");
        // The real one has its memory in the file; this one imports it and leaves it alone.
        if directory.path().join("memory.jsonl.mst").exists() {
            assert_eq!(&fs::read_to_string(&path).unwrap(), content);
        }
    }
    answers
}

fn answer(client: &mut Client, call: &Call) -> (Value, Vec<Value>) {
    let parameters = if call.method == "initialize" { hello() } else { call.params.clone() };
    let answer = client.request(&call.method, parameters);
    if call.method == "initialize" {
        client.notify("notifications/initialized");
    }
    (comparable(answer), client.notifications.drain(..).map(comparable).collect())
}

/// What is to be the same. The two have names and versions of their own. The real server says of each tool that it
/// never runs as a task, which is what its absence means. Errors of requests that are no calls have other words, and
/// wrong parameters the code that is meant for them.
fn comparable(mut message: Value) -> Value {
    if let Some(result) = message.get_mut("result").and_then(Value::as_object_mut) {
        result.remove("serverInfo");
        for tool in result.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
            assert_ne!(tool["execution"]["taskSupport"], json!("required"));
            tool.as_object_mut().unwrap().remove("execution");
        }
    }
    if let Some(error) = message.get_mut("error") {
        let internal_or_wrong = [-32603, -32602].map(|code| json!(code)).contains(&error["code"]);
        if internal_or_wrong && !error["message"].as_str().unwrap().starts_with("MCP error") {
            *error = json!("wrong parameters");
        } else if error["code"] == json!(-32601) {
            *error = json!("no such method");
        }
    }
    if let Some(fields) = message.as_object_mut() {
        fields.remove("jsonrpc");
    }
    message
}

#[test]
fn every_answer_is_that_of_the_reference_server() {
    let reference = Reference::find();
    if reference.is_none() {
        skip("npm's @modelcontextprotocol/server-memory; compared with its recorded answers instead");
    }
    let is_recording = std::env::var_os("MEMSTONE_RECORD").is_some();
    for path in scripts() {
        let mut script: Script = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(reference) = &reference {
            let answers = play(&script, |path| reference.start(path));
            if is_recording {
                record(&path, &mut script, reference, answers);
                continue;
            }
            compare_with(&name, &script, &answers, &format!("the real server ({})", reference.version), false);
        }
        let answers = play(&script, Start::memstone);
        compare_with(&name, &script, &answers, "memstone-mcp", true);
    }
    assert!(!is_recording, "recorded; look at the difference, and run again without MEMSTONE_RECORD");
}

/// Compares with what was recorded. A call that is to differ must differ, so that the list of differences is exact.
fn compare_with(name: &str, script: &Script, answers: &[(Value, Vec<Value>)], server: &str, is_ours: bool) {
    for (position, (call, (answer, notifications))) in script.calls.iter().zip(answers).enumerate() {
        let is_same = *answer == call.answer && *notifications == call.notifications;
        if is_same != (is_ours && call.differs.is_some()) {
            continue;
        }
        panic!(
            "{name}, call {position} of {}: {} {}\n{server}: {answer}\n  and says {notifications:?}\nrecorded: {}\n  and says {:?}",
            script.version, call.method, call.params, call.answer, call.notifications
        );
    }
}

fn record(path: &Path, script: &mut Script, reference: &Reference, answers: Vec<(Value, Vec<Value>)>) {
    script.version.clone_from(&reference.version);
    for (call, (answer, notifications)) in script.calls.iter_mut().zip(answers) {
        call.answer = answer;
        call.notifications = notifications;
    }
    // One call a line: readable where it is short, and differences are found.
    let calls: Vec<String> = script.calls.iter().map(|call| serde_json::to_string(call).unwrap()).collect();
    let mut head = serde_json::to_value(&*script).unwrap();
    head.as_object_mut().unwrap().remove("calls");
    let head = serde_json::to_string_pretty(&head).unwrap();
    let head = head.trim_end_matches(['\n', '}']);
    fs::write(path, format!("{head},\n  \"calls\": [\n    {}\n  ]\n}}\n", calls.join(",\n    "))).unwrap();
}
