//! A client that starts a server and talks to it.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Nothing that a test waits for takes longer, unless a process is stuck.
const STUCK: Duration = Duration::from_secs(120);

/// How a server is started.
pub struct Start {
    command: Command,
}

impl Start {
    /// The server under test, with its memory at `path`.
    pub fn memstone(path: &Path) -> Start {
        Start::of(Command::new(env!("CARGO_BIN_EXE_memstone-mcp")), path)
    }

    /// Any server.
    pub fn of(mut command: Command, path: &Path) -> Start {
        command.env("MEMORY_FILE_PATH", path).env("RUST_LOG", "off").env_remove("MEMSTONE_DEADLINE");
        Start { command }
    }

    pub fn with(mut self, name: &str, value: &str) -> Start {
        self.command.env(name, value);
        self
    }

    pub fn without(mut self, name: &str) -> Start {
        self.command.env_remove(name);
        self
    }

    /// What is logged goes to this file.
    pub fn logging_to(mut self, file: &Path, level: &str) -> Start {
        self.command.env("RUST_LOG", level).stderr(std::fs::File::create(file).unwrap());
        self
    }

    /// Starts it and shakes hands.
    pub fn client(self) -> Client {
        let mut client = self.silent_client();
        let answer = client.request("initialize", hello());
        assert!(answer["result"]["serverInfo"]["name"].is_string(), "{answer}");
        client.notify("notifications/initialized");
        client
    }

    /// Starts it.
    pub fn silent_client(mut self) -> Client {
        let mut child = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Client { child, input: Some(input), lines, last: 0, kept: HashMap::new(), notifications: Vec::new() }
    }
}

pub fn hello() -> Value {
    json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } })
}

/// A server's client. Dropping it kills the server.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    last: u64,
    kept: HashMap<u64, Value>,
    /// What the server has said without being asked, so far.
    pub notifications: Vec<Value>,
}

impl Client {
    /// Writes a line as it is; a server that is gone takes none.
    pub fn raw(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        let _ = input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n"));
    }

    pub fn notify(&mut self, method: &str) {
        self.raw(&json!({ "jsonrpc": "2.0", "method": method }).to_string());
    }

    /// Sends a request and returns its id.
    pub fn send(&mut self, method: &str, parameters: Value) -> u64 {
        self.last += 1;
        let mut message = json!({ "jsonrpc": "2.0", "id": self.last, "method": method });
        if !parameters.is_null() {
            message["params"] = parameters;
        }
        self.raw(&message.to_string());
        self.last
    }

    /// The answer to a request; `None` if the server ended before it answered.
    pub fn answer(&mut self, id: u64) -> Option<Value> {
        loop {
            if let Some(answer) = self.kept.remove(&id) {
                return Some(answer);
            }
            match self.lines.recv_timeout(STUCK) {
                Ok(message) => self.keep(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no answer to request {id}"),
            }
        }
    }

    fn keep(&mut self, message: Value) {
        match message.get("id").and_then(Value::as_u64) {
            Some(id) => drop(self.kept.insert(id, message)),
            None => self.notifications.push(message),
        }
    }

    /// Waits for what the server says without being asked.
    pub fn notification(&mut self) -> Value {
        while self.notifications.is_empty() {
            let message = self.lines.recv_timeout(STUCK).unwrap_or_else(|error| panic!("nothing was said: {error}"));
            self.keep(message);
        }
        self.notifications.remove(0)
    }

    /// The answer to the next request, `result` or `error` and nothing else.
    pub fn request(&mut self, method: &str, parameters: Value) -> Value {
        let id = self.send(method, parameters);
        let mut answer = self.answer(id).unwrap_or_else(|| panic!("the server ended before it answered {method}"));
        let fields = answer.as_object_mut().unwrap();
        fields.retain(|name, _| name != "jsonrpc" && name != "id");
        answer
    }

    /// What a tool answers: its structured content, or the text of its error.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Result<Value, String> {
        let answer = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        let result = answer.get("result").unwrap_or_else(|| panic!("{answer}"));
        if result["isError"] == json!(true) {
            return Err(result["content"][0]["text"].as_str().unwrap().to_owned());
        }
        Ok(result["structuredContent"].clone())
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Closes the server's standard input; returns whether it ended well.
    pub fn close(mut self) -> bool {
        drop(self.input.take());
        // Its output ends with it.
        loop {
            match self.lines.recv_timeout(STUCK) {
                Ok(message) => self.keep(message),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap().success(),
                Err(RecvTimeoutError::Timeout) => panic!("the server does not end"),
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An entity of `name`, as an argument.
pub fn entity(name: &str, observations: &[&str]) -> Value {
    json!({ "name": name, "entityType": "t", "observations": observations })
}

/// The names of all entities that a new server finds at `path`.
pub fn names(path: &Path) -> Vec<String> {
    let graph = Start::memstone(path).client().call("read_graph", json!({})).unwrap();
    let entities = graph["entities"].as_array().unwrap();
    entities.iter().map(|entity| entity["name"].as_str().unwrap().to_owned()).collect()
}

/// A directory of its own, and a path in it.
pub fn place(name: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    (directory, path)
}
