//! A client of a server that listens, over connections of its own.

use crate::client::hello;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nothing that a test waits for takes longer, unless a process is stuck.
const STUCK: Duration = Duration::from_secs(120);

/// A server that listens. Dropping it kills the server.
pub struct Listening {
    pub child: Child,
    pub address: String,
}

impl Listening {
    /// With its memory at `path`, at a port that is free, and with these variables.
    pub fn start(path: &Path, variables: &[(&str, &str)]) -> Listening {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memstone-mcp"));
        command.env("MEMORY_FILE_PATH", path).env("RUST_LOG", "off").env("MEMSTONE_HTTP", "127.0.0.1:0");
        command.envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at http://").and_then(|rest| rest.strip_suffix("/mcp"));
        Listening { child, address: address.unwrap_or_else(|| panic!("{line:?}")).to_owned() }
    }

    /// A session without a token.
    pub fn session(&self) -> Session {
        self.session_of(None)
    }

    pub fn session_of(&self, token: Option<&str>) -> Session {
        let mut session = self.guest(token);
        let (answer, _) = session.request("initialize", hello());
        assert!(answer["result"]["serverInfo"]["name"].is_string(), "{answer}");
        session.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        session
    }

    /// A client that has not shaken hands.
    pub fn guest(&self, token: Option<&str>) -> Session {
        Session {
            address: self.address.clone(),
            stream: connect(&self.address),
            headers: token.map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))).into_iter().collect(),
            last: 0,
        }
    }

    /// Asks the server to end, and waits until it has; returns whether it ended well.
    pub fn end(mut self) -> bool {
        self.ask_to_end();
        self.child.wait().unwrap().success()
    }

    pub fn ask_to_end(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(STUCK)).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

/// An answer: its status, the session that it names, and its body.
pub struct Reply {
    pub status: u16,
    pub session: Option<String>,
    pub body: String,
}

/// One client, on a connection of its own.
pub struct Session {
    pub address: String,
    pub stream: BufReader<TcpStream>,
    pub headers: Vec<(String, String)>,
    last: u64,
}

impl Session {
    /// Sends a request.
    pub fn send(&mut self, method: &str, path: &str, body: &str) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let given = |name: &str| self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !given("Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        head += "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n";
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// The head of the answer: its status and its headers, with names in lower case.
    pub fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let status = self.line();
        let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {status:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { return (status, headers) };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next piece of a body in pieces; empty at its end.
    pub fn chunk(&mut self) -> String {
        let length = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut piece = vec![0; length];
        self.stream.read_exact(&mut piece).unwrap();
        assert_eq!(self.line(), "");
        String::from_utf8(piece).unwrap()
    }

    pub fn reply(&mut self) -> Reply {
        let (status, headers) = self.head();
        let header = |name: &str| headers.iter().find(|header| header.0 == name).map(|header| header.1.clone());
        let mut body = String::new();
        if let Some(length) = header("content-length") {
            let mut bytes = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut bytes).unwrap();
            body = String::from_utf8(bytes).unwrap();
        } else if header("transfer-encoding").is_some() {
            loop {
                let piece = self.chunk();
                if piece.is_empty() {
                    break;
                }
                body += &piece;
            }
        }
        Reply { status, session: header("mcp-session-id"), body }
    }

    pub fn post(&mut self, body: &str) -> Reply {
        self.send("POST", "/mcp", body);
        self.reply()
    }

    /// A call of the protocol, to be sent.
    pub fn message(&mut self, method: &str, parameters: Value) -> String {
        self.last += 1;
        json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": parameters }).to_string()
    }

    /// The answer to a request of the protocol, and what the server has said before.
    pub fn request(&mut self, method: &str, parameters: Value) -> (Value, Vec<Value>) {
        let message = self.message(method, parameters);
        let reply = self.post(&message);
        self.protocol_answer(&reply)
    }

    /// What a reply says in the protocol.
    pub fn protocol_answer(&mut self, reply: &Reply) -> (Value, Vec<Value>) {
        assert_eq!(reply.status, 200, "{}", reply.body);
        if let Some(session) = &reply.session {
            self.headers.push(("Mcp-Session-Id".to_owned(), session.clone()));
        }
        let mut messages = events(&reply.body);
        (messages.pop().unwrap_or_else(|| panic!("no message: {}", reply.body)), messages)
    }

    /// What a tool answers: its structured content, or the text of its error.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Result<Value, String> {
        let (answer, _) = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        let result = answer.get("result").unwrap_or_else(|| panic!("{answer}"));
        if result["isError"] == json!(true) {
            return Err(result["content"][0]["text"].as_str().unwrap().to_owned());
        }
        Ok(result["structuredContent"].clone())
    }
}

/// The messages in a stream of events.
pub fn events(body: &str) -> Vec<Value> {
    let data = body.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| !data.is_empty()).map(|data| serde_json::from_str(data).unwrap()).collect()
}
