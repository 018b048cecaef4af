//! `memstone-mcp`: a memory server of the Model Context Protocol on standard input and output. It stands in for the
//! reference server: the same tools, and any number of servers on one file.
//!
//! From the wire inwards: `wire` and `mend` (lines of JSON), `server` and `news` (the protocol), `desk` (threads,
//! deadlines and order), `memory` (the store), `tool`, `shape`, `graph_tools`, `care` and `care_tools` (the tools).
//! `place`, `origin` and `json_lines` say where the memory lies and what is imported into it; `failure` is every error.

mod care;
mod care_tools;
mod desk;
mod failure;
mod graph_tools;
mod json_lines;
mod memory;
mod mend;
mod news;
mod origin;
mod place;
mod server;
mod shape;
mod tool;
mod wire;

use desk::Desk;
use failure::Failure;
use memory::Memory;
use news::News;
use place::Place;
use rmcp::transport::async_rw::AsyncRwTransport;
use server::Server;
use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const HELP: &str = "\
A memory server of the Model Context Protocol, on standard input and output.
It is started by a client (an assistant), not by hand; any number of servers may share one file.

Environment:
  MEMORY_FILE_PATH   the file of the memory; one that ends in .jsonl or .json is imported once
                     into a store beside it, and not changed
                     (default: memstone/memory.mst in the user's data directory)
  MEMSTONE_DEADLINE  how long a call may wait for others, in seconds (default: 30)
  MEMSTONE_TOOLS     `all` adds tools for health, backups, export and import
                     to the nine of the reference server
  RUST_LOG           what is logged to standard error (default: warn)

Options:
  -h, --help     this text
  -V, --version  the version";

/// How long a call may wait for others, unless the environment says otherwise: clients wait for a minute.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest message, in bytes.
const LONGEST_LINE: u32 = 256 << 20;
/// So many calls block at once; two more threads move standard input and output.
const THREADS: usize = 34;

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        None => {}
        Some("-h" | "--help") => return print(HELP),
        Some("-V" | "--version") => return print(concat!("memstone-mcp ", env!("CARGO_PKG_VERSION"))),
        Some(other) => return refuse(&format!("unknown argument {other:?}; see --help")),
    }
    if let Err(error) = log_to_standard_error() {
        return refuse(&error);
    }
    let patience = match patience() {
        Ok(patience) => patience,
        Err(error) => return refuse(&error),
    };
    let all = match env::var_os("MEMSTONE_TOOLS").unwrap_or_default().to_str() {
        Some("all") => true,
        Some("" | "graph") => false,
        other => return refuse(&format!("MEMSTONE_TOOLS is {other:?}; it may be \"graph\" or \"all\"")),
    };
    match Place::from_environment().and_then(|place| serve(place, patience, all)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refuse(&failure.to_string()),
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    let written = writeln!(std::io::stdout(), "{text}");
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refuse(why: &str) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "memstone-mcp: {why}");
    ExitCode::from(2)
}

fn patience() -> Result<Duration, String> {
    let Some(text) = env::var_os("MEMSTONE_DEADLINE") else { return Ok(PATIENCE) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let patience = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    patience
        .filter(|patience| (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(patience))
        .ok_or_else(|| format!("MEMSTONE_DEADLINE is {text:?}, not a number of seconds from 0.001 to 86400"))
}

fn log_to_standard_error() -> Result<(), String> {
    let wanted = env::var("RUST_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { Ok(Targets::new().with_default(LevelFilter::WARN)) } else { wanted.parse() };
    let wanted: Targets = wanted.map_err(|error| format!("RUST_LOG: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(wanted).with(lines).try_init().map_err(|error| error.to_string())
}

/// Answers the client until it closes standard input.
fn serve(place: Place, patience: Duration, all: bool) -> Result<(), Failure> {
    let threads = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(THREADS).build();
    let threads = threads.map_err(|error| Failure::Internal(format!("no threads: {error}")))?;
    let memory = Arc::new(Memory::new(place));
    let served = threads.block_on(answer(Arc::clone(&memory), patience, all));
    // Calls that have begun end first; there are no others.
    threads.shutdown_timeout(patience);
    let closed = memory.close();
    served.and(closed)
}

async fn answer(memory: Arc<Memory>, patience: Duration, all: bool) -> Result<(), Failure> {
    let opening = Arc::clone(&memory);
    tokio::task::spawn_blocking(move || {
        if let Err(failure) = opening.warm_up(Instant::now() + patience) {
            // Each call tries again, and says so.
            tracing::error!(%failure, "the memory cannot be opened");
        }
    });
    let server = Server::new(Desk::new(Arc::clone(&memory), patience), News::new(memory), all);
    let input = wire::mended_lines(tokio::io::stdin(), LONGEST_LINE.into());
    let transport =
        AsyncRwTransport::new_server(input, tokio::io::stdout()).with_max_line_length(LONGEST_LINE as usize);
    let running = match rmcp::serve_server(server, transport).await {
        Ok(running) => running,
        // The client has left before it said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(Failure::Internal(error.to_string())),
    };
    let ended = running.waiting().await;
    ended.map(drop).map_err(|error| Failure::Internal(error.to_string()))
}
