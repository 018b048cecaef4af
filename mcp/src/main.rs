//! `memstone-mcp`: a memory server of the Model Context Protocol, for one client on standard input and output, or for
//! many over HTTP. It stands in for the reference server: the same tools, and any number of servers on one file.
//!
//! From the wire inwards: `wire` and `mend` (lines of JSON), `http_server` and `users` (many clients), `server`, `news` and `ticker` (the protocol),
//! `desk` (threads, deadlines and order), `memory` (the store), `pace` (pauses of bulk changes), `tool`, `toolset` and `shape`, and the tools: `graph_tools`; `recall_tools` and
//! `record_tools` with `items`, `scope` and `moment`; `care_tools` and `admin_tools` with `care`. `settings` is what the environment says;
//! `place`, `origin` and `json_lines` say where the memory lies and what is imported into it; `failure` is every error.

mod admin_tools;
mod care;
mod care_tools;
mod desk;
mod exchange_tools;
mod failure;
mod graph_tools;
mod http_server;
mod items;
mod job_tools;
mod json_lines;
mod lines;
mod memory;
mod mend;
mod metrics_tools;
mod moment;
mod news;
mod origin;
mod pace;
mod place;
mod recall_tools;
mod record_tools;
mod scope;
mod server;
mod settings;
mod shape;
mod ticker;
mod tool;
mod toolset;
mod users;
mod wire;
mod work_tools;

use desk::{Desk, Seat};
use failure::Failure;
use memory::Memory;
use news::News;
use rmcp::transport::async_rw::AsyncRwTransport;
use server::Server;
use settings::Settings;
use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ticker::Ticker;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const HELP: &str = "\
A memory server of the Model Context Protocol, on standard input and output, or over HTTP.
The first is started by a client (an assistant), not by hand; any number of servers may share one file.

Environment:
  MEMORY_FILE_PATH   the file of the memory; one that ends in .jsonl or .json is imported once
                     into a store beside it, and not changed
                     (default: memstone/memory.mst in the user's data directory)
  MEMSTONE_DEADLINE  how long a call may wait for others, in seconds (default: 30)
  MEMSTONE_TOOLS     some of graph (the nine of the reference server), memory (memories, found
                     by words and vectors), jobs (to submit), work (to claim and finish jobs) and
                     care (health, backups, statistics, limits), with commas; or all (default: graph)
  MEMSTONE_NAMESPACE the part of the memory that clients see: they have the tools of memory alone
  MEMSTONE_HTTP      listen at this address and port, e.g. 127.0.0.1:8417, for many clients
  MEMSTONE_TOKENS    a file of bearer tokens, one a line, each with the namespace that it opens
  MEMSTONE_HTTP_HOSTS
                     more names of this host, with commas, for clients of another one
  MEMSTONE_HTTP_SESSIONS
                     how many sessions there may be at once (default: 4096)
  RUST_LOG           what is logged to standard error (default: warn)

Options:
  -h, --help     this text
  -V, --version  the version";

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
    let served =
        Settings::from_environment().and_then(|settings| serve(settings).map_err(|failure| failure.to_string()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
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

fn log_to_standard_error() -> Result<(), String> {
    let wanted = env::var("RUST_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { Ok(Targets::new().with_default(LevelFilter::WARN)) } else { wanted.parse() };
    let wanted: Targets = wanted.map_err(|error| format!("RUST_LOG: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(wanted).with(lines).try_init().map_err(|error| error.to_string())
}

/// Answers clients until the one on standard input closes it, or the process is asked to end.
fn serve(settings: Settings) -> Result<(), Failure> {
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(THREADS).build();
    let threads = threads.map_err(|error| Failure::Internal(format!("no threads: {error}")))?;
    let (memory, patience) = (Arc::new(Memory::new(settings.place.clone())), settings.patience);
    let desk = Arc::new(Desk::new(Arc::clone(&memory), patience));
    let served = threads.block_on(async {
        warm_up(Arc::clone(&memory), patience);
        if settings.listen.is_some() { http_server::serve(desk, settings).await } else { answer(desk, settings).await }
    });
    // Calls that have begun end first; there are no others.
    threads.shutdown_timeout(patience);
    let closed = memory.close();
    served.and(closed)
}

/// Opens the store, so that the first call finds it open.
fn warm_up(memory: Arc<Memory>, patience: Duration) {
    tokio::task::spawn_blocking(move || {
        if let Err(failure) = memory.warm_up(Instant::now() + patience) {
            // Each call tries again, and says so.
            tracing::error!(%failure, "the memory cannot be opened");
        }
    });
}

/// Answers the client on standard input and output.
async fn answer(desk: Arc<Desk>, settings: Settings) -> Result<(), Failure> {
    let news = News::new(Arc::new(Ticker::new(Arc::clone(&desk.memory))));
    let tools = settings.tools.tools(&settings.scope);
    let server = Server::new(Seat::new(desk, Arc::new(settings.scope)), tools, news, None);
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
