//! Many users of one memory of 100,000 items, at once: every fifth call of each user stores something, the others search it by words.
//!
//! `cargo bench -p memstone-mcp --bench load -- processes|sessions USERS PAUSE SECONDS ROUNDS [import]`
//!
//! Each user begins a call every PAUSE milliseconds, or when the one before is answered, if that is later; a time counts from when the
//! call was due. Which of its first five calls stores is drawn for each user, and all search for the same things, each from another one
//! on: so the luck of the draw gives nobody more work than others. `processes` starts a server for each user, `sessions` one
//! that all of them reach over HTTP. With `import` one more user stores 64 items with each call, without a pause. All of that is done
//! ROUNDS times, each time on the same file. `MEMSTONE_MCP` may name another server than the one just built.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program that measures"
)]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "numbers that it chose")]

#[path = "../../tests/common/random.rs"]
mod random;

use memstone::memory::{Draft, Memory, MemoryError, MemoryOptions};
use memstone::{Durability, Store, WriteOptions};
use random::Random;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ITEMS: u64 = 100_000;
const VOCABULARY: f64 = 30_000.0;
/// The words of an item.
const WORDS: usize = 30;
/// So many queries of three words.
const QUERIES: usize = 100;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |at: usize, usual: u64| asked.get(at).map_or(usual, |text| text.parse().unwrap());
    let load = Load {
        are_processes: asked.first().is_none_or(|word| word == "processes"),
        users: u32::try_from(number(1, 20)).unwrap(),
        pause: Duration::from_millis(number(2, 100)),
        length: Duration::from_secs(number(3, 10)),
        imports: asked.last().is_some_and(|word| word == "import"),
    };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let filled = dir.path().join("filled.mst");
    let started = Instant::now();
    fill(&filled);
    println!("{ITEMS} items of {WORDS} words: {:.1} s", started.elapsed().as_secs_f64());
    let mut rounds = Vec::new();
    for round in 0..number(4, 1) {
        let path = dir.path().join(format!("memory{round}.mst"));
        std::fs::copy(&filled, &path).unwrap();
        rounds.push(load.apply(&path));
    }
    report(&rounds);
}

/// What is asked of the servers.
struct Load {
    are_processes: bool,
    users: u32,
    pause: Duration,
    length: Duration,
    imports: bool,
}

impl Load {
    fn apply(&self, path: &Path) -> Round {
        let listening = (!self.are_processes).then(|| Listening::start(path));
        let connect = || match &listening {
            Some(server) => Box::new(Session::start(&server.address)) as Box<dyn Client>,
            None => Box::new(Process::start(path)),
        };
        let mut clients: Vec<Box<dyn Client>> = (0..self.users + u32::from(self.imports)).map(|_| connect()).collect();
        let importer = self.imports.then(|| clients.pop().unwrap());
        let begin = Instant::now() + Duration::from_millis(500);
        let end = begin + self.length;
        std::thread::scope(|scope| {
            let importer = importer.map(|client| scope.spawn(move || import(client, end)));
            let users: Vec<_> = (0..)
                .zip(clients)
                .map(|(user, client)| {
                    // They begin one after the other.
                    let first = begin + self.pause * user / self.users;
                    let work = move || use_memory(client, user, first, end, self.pause);
                    std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work).unwrap()
                })
                .collect();
            let served = users.into_iter().map(|user| user.join().unwrap()).collect();
            let imported = importer.map_or(0, |importer| importer.join().unwrap());
            Round::new(served, imported, self.length)
        })
    }
}

/// What was measured in one round, by the names of the figures.
struct Round(Vec<(&'static str, f64)>);

impl Round {
    fn new(served: Vec<Served>, imported: usize, length: Duration) -> Round {
        let calls = |of: fn(&Served) -> usize| served.iter().map(of).collect::<Vec<usize>>();
        let all = calls(Served::calls);
        let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        let per_second = |number: usize| number as f64 / length.as_secs_f64();
        let mut figures = vec![
            ("calls/s", per_second(all.iter().sum())),
            ("imported items/s", per_second(imported)),
            ("least served", *least as f64),
            ("most served", *most as f64),
            ("least : most", *least as f64 / *most as f64),
        ];
        let times = |of: fn(&Served) -> &Vec<Duration>| {
            let mut times: Vec<Duration> = served.iter().flat_map(|user| of(user).iter().copied()).collect();
            times.sort_unstable();
            times
        };
        let (searches, stores) = (times(|user| &user.searches), times(|user| &user.stores));
        let at = |times: &[Duration], share: usize| match times.len().checked_sub(1) {
            Some(last) => times[last * share / 100].as_secs_f64() * 1000.0,
            None => f64::NAN,
        };
        figures.extend(SEARCH.iter().zip(SHARES).map(|(name, share)| (*name, at(&searches, share))));
        figures.extend(STORE.iter().zip(SHARES).map(|(name, share)| (*name, at(&stores, share))));
        Round(figures)
    }
}

/// The median, what 95 and 99 of 100 do not exceed, and the greatest.
const SHARES: [usize; 4] = [50, 95, 99, 100];
const SEARCH: [&str; 4] = ["search ms: median", "search ms: p95", "search ms: p99", "search ms: longest"];
const STORE: [&str; 4] = ["store ms: median", "store ms: p95", "store ms: p99", "store ms: longest"];

/// Of each figure the median of all rounds, and the least and the greatest.
fn report(rounds: &[Round]) {
    let Some(Round(first)) = rounds.first() else { return };
    for (at, (name, _)) in first.iter().enumerate() {
        let mut values: Vec<f64> = rounds.iter().map(|Round(figures)| figures[at].1).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (median, last) = (values[values.len() / 2], values[values.len() - 1]);
        println!("{name:20} {median:9.2}  ({:.2} to {last:.2})", values[0]);
    }
}

/// A word as often as Zipf's law has it: the first is in most texts.
fn word(random: &mut Random) -> String {
    let share = random.next() as f64 / u64::MAX as f64;
    format!("word{}", VOCABULARY.powf(share) as u32)
}

fn text(random: &mut Random, words: usize) -> String {
    (0..words).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}

/// What is searched for.
fn queries() -> Vec<String> {
    let mut random = Random(7);
    (0..QUERIES).map(|_| text(&mut random, 3)).collect()
}

fn fill(path: &Path) {
    let options = MemoryOptions::new().writing(WriteOptions::new().durability(Durability::Relaxed));
    let memory = Memory::with(Store::open(path).unwrap(), options);
    let mut random = Random(1);
    for _ in 0..ITEMS / 1000 {
        let batch = memory.write(|tx| {
            for _ in 0..1000 {
                tx.add("team", Draft::new(text(&mut random, WORDS)).keep_duplicate())?;
            }
            Ok::<_, MemoryError>(())
        });
        batch.unwrap();
    }
    memory.store().checkpoint().unwrap();
    memory.store().clone().close().unwrap();
}

/// The times of a user's calls.
#[derive(Default)]
struct Served {
    searches: Vec<Duration>,
    stores: Vec<Duration>,
}

impl Served {
    fn calls(&self) -> usize {
        self.searches.len() + self.stores.len()
    }
}

fn use_memory(mut client: Box<dyn Client>, user: u32, first: Instant, end: Instant, pause: Duration) -> Served {
    let mut random = Random(u64::from(user) + 2);
    let queries = queries();
    let (phase, from) = (random.below(5), random.below(QUERIES));
    let (mut served, mut due) = (Served::default(), first);
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let is_search = served.calls() % 5 != phase;
        let query = &queries[(from + served.searches.len()) % QUERIES];
        let call = if is_search {
            json!({ "name": "search_memories", "arguments": { "query": query, "namespace": "team", "limit": 10 } })
        } else {
            store(&[text(&mut random, WORDS)])
        };
        client.call(call);
        let time = due.elapsed();
        if is_search {
            served.searches.push(time)
        } else {
            served.stores.push(time)
        }
        due = (due + pause).max(Instant::now());
    }
    served
}

fn store(contents: &[String]) -> Value {
    let memories: Vec<Value> =
        contents.iter().map(|content| json!({ "content": content, "namespace": "team" })).collect();
    json!({ "name": "store_memories", "arguments": { "memories": memories } })
}

/// Stores as much as it can; returns how many items that were.
fn import(mut client: Box<dyn Client>, end: Instant) -> usize {
    let (mut random, mut imported) = (Random(1_000_000), 0);
    while Instant::now() < end {
        let contents: Vec<String> = (0..64).map(|_| text(&mut random, WORDS)).collect();
        client.call(store(&contents));
        imported += contents.len();
    }
    imported
}

/// A user's way to a server.
trait Client: Send {
    /// Sends a message, and returns the answer if it is a request.
    fn ask(&mut self, message: Value) -> Option<Value>;

    fn call(&mut self, call: Value) {
        let answer = self.ask(json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call })).unwrap();
        assert!(answer["result"]["isError"].is_null() && !answer["result"].is_null(), "{answer}");
    }

    fn shake_hands(&mut self) {
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "load", "version": "1" } });
        self.ask(json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello })).unwrap();
        self.ask(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    }
}

fn server(path: &Path) -> Command {
    let server = std::env::var_os("MEMSTONE_MCP").unwrap_or_else(|| env!("CARGO_BIN_EXE_memstone-mcp").into());
    let mut command = Command::new(server);
    command.env("MEMORY_FILE_PATH", path).env("MEMSTONE_TOOLS", "memory");
    command
}

/// A server of this user alone.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(path: &Path) -> Process {
        let mut child = server(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut process = Process { child, input, output };
        process.shake_hands();
        process
    }
}

impl Client for Process {
    fn ask(&mut self, message: Value) -> Option<Value> {
        writeln!(self.input, "{message}").unwrap();
        message.get("id")?;
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server of all users.
struct Listening {
    child: Child,
    address: String,
}

impl Listening {
    fn start(path: &Path) -> Listening {
        let mut command = server(path);
        let mut child = command.env("MEMSTONE_HTTP", "127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at http://").and_then(|rest| rest.strip_suffix("/mcp"));
        Listening { child, address: address.unwrap().to_owned() }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session over HTTP, on a connection of its own.
struct Session {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Session {
    fn start(address: &str) -> Session {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let accept = "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n";
        let head = format!("POST /mcp HTTP/1.1\r\nHost: {address}\r\n{accept}");
        let mut session = Session { stream: BufReader::new(stream), head };
        session.shake_hands();
        session
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn piece(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

impl Client for Session {
    fn ask(&mut self, message: Value) -> Option<Value> {
        let body = message.to_string();
        let request = format!("{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let status = self.line();
        assert!(status.contains(" 20"), "{status}");
        let (mut length, mut is_in_pieces, mut body) = (0, false, String::new());
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "transfer-encoding" => is_in_pieces = true,
                "mcp-session-id" => self.head += &format!("Mcp-Session-Id: {value}\r\n"),
                _ => {}
            }
        }
        if is_in_pieces {
            loop {
                let length = usize::from_str_radix(&self.line(), 16).unwrap();
                body += &self.piece(length);
                self.line();
                if length == 0 {
                    break;
                }
            }
        } else {
            body += &self.piece(length);
        }
        let mut events = body.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        events.rfind(|data| !data.is_empty()).map(|data| serde_json::from_str(data).unwrap())
    }
}
