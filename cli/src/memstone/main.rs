//! `memstone`: a store on the command line. One file for each verb; what they share is in
//! `access` (opening stores and tables), `keys` and `values` (their form as text and JSON), `edit`
//! and `jq` (changing them), `output` and `failure` (what is printed, and the exit code).

mod access;
mod archive;
mod backup;
mod backups;
mod check;
mod checkpoint;
mod clock;
mod clone;
mod count;
mod create;
mod del;
mod demo;
mod doctor;
mod drop;
mod dump;
mod duplicates;
mod edit;
mod failure;
mod get;
mod given_file;
mod grow;
mod import;
mod journal;
mod jq;
mod jq_null;
mod keys;
#[path = "../layers.rs"]
mod layers;
mod load;
mod locks;
mod manual;
mod msgpack;
mod new_store;
mod output;
mod progress;
mod put;
mod range;
mod rename;
mod restore;
mod scan;
mod shell;
mod snapshot;
mod stat;
mod tables;
mod text;
mod top;
mod update;
mod values;
mod watch;
mod with_lock;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use failure::Failure;
use output::Output;

/// Transactional key-value stores in one file, for many processes at once.
///
/// Values are JSON here and MessagePack inside. Each verb is one transaction; a verb that only
/// reads waits for nobody and never creates a store.
#[derive(Parser)]
#[command(name = "memstone", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  not found: no such key, table, snapshot or store
  2  usage: the command line, the JSON or the jq program is wrong, a value would be altered, or a file or snapshot would be replaced
  3  busy: the lock was not free before the deadline, or the store to be replaced is open
  4  corrupt: the store, or a backup, is damaged
  5  any other failure
  6  doctor: something needs attention
with-lock exits with the code of its command once that has run (128 + N if signal N ended it).";

/// What every verb takes.
#[derive(Args)]
struct Common {
    /// Print JSON, one object a line, for machines; failures too, on standard error
    #[arg(long, global = true, overrides_with = "json")]
    json: bool,
    /// How long to wait for the turn to write, in seconds; fractions are allowed
    #[arg(long, global = true, value_name = "SECONDS", overrides_with = "timeout", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    /// Print what the store does to standard error
    #[arg(long, global = true)]
    debug: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[derive(Subcommand)]
enum Verb {
    Put(put::Put),
    Get(get::Get),
    Del(del::Del),
    Scan(scan::Scan),
    Update(update::Update),
    Append(grow::Append),
    Incr(grow::Incr),
    Count(count::Count),
    Duplicates(duplicates::Duplicates),
    Tables(tables::Tables),
    Create(create::Create),
    Rename(rename::Rename),
    Clear(drop::Clear),
    Drop(drop::Drop),
    Checkpoint(checkpoint::Checkpoint),
    Compact(checkpoint::Compact),
    Dump(dump::Dump),
    Load(load::Load),
    Doctor(doctor::Doctor),
    Import(import::Import),
    Stat(stat::Stat),
    Top(top::Top),
    Locks(locks::Locks),
    Check(check::Check),
    Watch(watch::Watch),
    Backup(backup::Backup),
    Backups(backups::Backups),
    Clone(clone::Clone),
    Restore(restore::Restore),
    Snapshot(snapshot::Snapshot),
    Archive(archive::Archive),
    Journal(journal::Journal),
    WithLock(with_lock::WithLock),
    Shell(shell::Shell),
    Completions(manual::Completions),
    Man(manual::Man),
    Demo(demo::Demo),
    #[command(hide = true)]
    DemoWorker(demo::worker::Worker),
}

fn main() -> ExitCode {
    let Cli { common, verb } = parse();
    if common.debug {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
    }
    let mut out = Output::new(common.json);
    match run(&common, verb, &mut out).and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        Err(failure) => failure.report(common.json),
    }
}

/// Reads the command line. One that lacks an argument is read once more with the store that `MEMSTONE_FILE` names.
fn parse() -> Cli {
    let words: Vec<OsString> = std::env::args_os().collect();
    let parsed = match (Cli::try_parse_from(&words), given_file::insert_default(&words)) {
        (Err(error), Some(words)) if error.kind() == ErrorKind::MissingRequiredArgument => Cli::try_parse_from(words),
        (parsed, _) => parsed,
    };
    parsed.unwrap_or_else(|error| error.exit())
}

fn run(common: &Common, verb: Verb, out: &mut Output) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Put(put) => put.run(common, out)?,
        Verb::Get(get) => get.run(out)?,
        Verb::Del(del) => del.run(common, out)?,
        Verb::Scan(scan) => scan.run(out)?,
        Verb::Update(update) => update.run(common, out)?,
        Verb::Append(append) => append.run(common, out)?,
        Verb::Incr(incr) => incr.run(common, out)?,
        Verb::Count(count) => count.run(out)?,
        Verb::Duplicates(duplicates) => duplicates.run(common, out)?,
        Verb::Tables(tables) => tables.run(out)?,
        Verb::Create(create) => create.run(common, out)?,
        Verb::Rename(rename) => rename.run(common, out)?,
        Verb::Clear(clear) => clear.run(common, out)?,
        Verb::Drop(drop) => drop.run(common, out)?,
        Verb::Checkpoint(checkpoint) => checkpoint.run(common)?,
        Verb::Compact(compact) => compact.run(common, out)?,
        Verb::Dump(dump) => dump.run(out)?,
        Verb::Load(load) => load.run(common.timeout, out)?,
        Verb::Doctor(doctor) => return doctor.run(out),
        Verb::Import(import) => import.run(out)?,
        Verb::Stat(stat) => stat.run(out)?,
        Verb::Top(top) => top.run(out)?,
        Verb::Locks(locks) => locks.run(out)?,
        Verb::Check(check) => return check.run(out),
        Verb::Watch(watch) => watch.run(out)?,
        Verb::Backup(backup) => backup.run(out)?,
        Verb::Backups(backups) => return backups.run(out),
        Verb::Clone(clone) => clone.run(common, out)?,
        Verb::Restore(restore) => restore.run(out)?,
        Verb::Snapshot(snapshot) => snapshot.run(common, out)?,
        Verb::Archive(archive) => return archive.run(common, out),
        Verb::Journal(journal) => journal.run(common, out)?,
        Verb::WithLock(with_lock) => return with_lock.run(common),
        Verb::Shell(shell) => return shell.run(common),
        Verb::Completions(completions) => completions.run(out)?,
        Verb::Man(man) => man.run()?,
        Verb::Demo(demo) => demo.run(out)?,
        Verb::DemoWorker(worker) => worker.run()?,
    }
    Ok(ExitCode::SUCCESS)
}
