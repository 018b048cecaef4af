//! Verifies stores in full, beside live writers and without changing a byte; repairs damaged ones.

#[path = "../layers.rs"]
mod layers;
mod look;
mod repair;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use memstone::Error;

/// Verify memstone stores in full: every page, key and pointer, the log, and that each page has
/// exactly one use. Other processes may go on using the store; the file is never written.
///
/// With --repair, a new store is written with everything of a damaged one that can be proved intact, and a report
/// of the rest: by default to FILE.repaired. The damaged file stays as it is.
#[derive(Parser)]
#[command(name = "store-check", version, after_help = EXIT_CODES)]
struct Args {
    /// The data files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object for each file.
    #[arg(long)]
    json: bool,
    /// Print nothing about files without findings.
    #[arg(short, long)]
    quiet: bool,
    /// Print what each table holds and what the pages are used for.
    #[arg(short, long)]
    verbose: bool,
    /// Print at most this many findings for each file.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    max_findings: usize,
    /// Hold values against the type that their table notes, as keys always are, and the tables of the memory layer and of a
    /// knowledge graph against each other.
    #[arg(long, conflicts_with = "repair")]
    values: bool,
    /// Print the copies of the root slots, and verify nothing.
    #[arg(long, conflicts_with = "repair")]
    roots: bool,
    /// Print what a page holds, and verify nothing else.
    #[arg(long, value_name = "N", conflicts_with = "repair")]
    dump_page: Option<u32>,
    /// Print the frames of the log that are not in the tree yet, and verify nothing.
    #[arg(long, conflicts_with = "repair")]
    dump_log: bool,
    /// Print which pages are free, or pending, and verify nothing.
    #[arg(long, conflicts_with = "repair")]
    free: bool,
    /// Write a repaired store.
    #[arg(long)]
    repair: bool,
    /// Where to write it; there must be no such file yet. Default: FILE.repaired
    #[arg(long, value_name = "FILE", requires = "repair")]
    output: Option<PathBuf>,
    /// Give the repaired store the name of the damaged one, which is kept as FILE.damaged-TIME. Nobody may have it open.
    #[arg(long, requires = "repair", conflicts_with = "output")]
    in_place: bool,
    /// Also take what cannot be proved to be current: older rows where newer ones are destroyed, and transactions behind a damaged
    /// one. Deleted rows may come back.
    #[arg(long, requires = "repair")]
    unproven: bool,
}

const EXIT_CODES: &str = "\
Exit codes (of several files, the first of these that fits):
  4  damage was found; with --repair: something is lost, or uncertain, as the report says
  3  busy: another process has the store open, and it cannot be repaired meanwhile
  2  wrong usage
  5  any other failure: not there, not a store, no permission, no space
  1  repaired: everything is there
  0  no damage";

/// What came of one file; of several, the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Clean,
    Repaired,
    Failed,
    Usage,
    Busy,
    Damaged,
}

impl Outcome {
    fn code(self) -> u8 {
        match self {
            Outcome::Clean => 0,
            Outcome::Repaired => 1,
            Outcome::Usage => 2,
            Outcome::Busy => 3,
            Outcome::Damaged => 4,
            Outcome::Failed => 5,
        }
    }

    /// Tells of a file that could not be worked on.
    fn failed(path: &Path, error: &Error, json: bool) -> Outcome {
        eprintln!("store-check: {error}");
        if json {
            print(&format!("{}\n", serde_json::json!({ "path": path.to_string_lossy(), "error": error.to_string() })));
        }
        match error {
            Error::Busy { .. } => Outcome::Busy,
            Error::Corrupt(_) => Outcome::Damaged,
            Error::Invalid(_) => Outcome::Usage,
            _ => Outcome::Failed,
        }
    }
}

/// Prints, unless nobody reads any more, as with `head`: the exit status still tells.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.output.is_some() && args.files.len() > 1 {
        eprintln!("store-check: --output is for one file");
        return ExitCode::from(2);
    }
    let looks = args.roots || args.dump_log || args.free || args.dump_page.is_some();
    let each = |path: &PathBuf| match (args.repair, looks) {
        (true, _) => repair::run(path, &args),
        (false, true) => look::run(path, &args),
        (false, false) => verify::run(path, &args),
    };
    // No shortcut: each file is worked on.
    let outcomes: Vec<Outcome> = args.files.iter().map(each).collect();
    ExitCode::from(outcomes.into_iter().max().map_or(0, Outcome::code))
}
