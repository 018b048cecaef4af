//! `memstone archive`: the archive of a store's log.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use memstone::{ArchiveStatus, Options, Store};
use serde_json::json;

use crate::Common;
use crate::access::open_to_read;
use crate::clock::{readable, rfc3339};
use crate::failure::Failure;
use crate::output::Output;

/// Keep every transaction in a directory, so that any moment can be brought back
///
/// With a backup made since, in the same directory, `memstone restore DIR FILE --to TIME` brings back the store as it was. The exit code
/// is 5 if the archive does not go on: something that was committed is, or will be, missing in it.
#[derive(Args)]
pub(crate) struct Archive {
    /// The store's file
    file: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Archive the log from now on, whichever process checkpoints it
    On {
        /// The directory, which is made if it is not there; best one with backups
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Archive what is committed so far, and then no more; the files stay
    Off,
    /// Archive what is committed so far
    Flush,
    /// Tell what is archived, what is missing, and whether it goes on
    Status,
}

impl Archive {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<ExitCode, Failure> {
        let open =
            || -> Result<Store, Failure> { Ok(Options::new().create(false).timeout(common.timeout).open(&self.file)?) };
        match self.what {
            What::On { dir } => told(out, Some(&open()?.start_archive(dir)?)),
            What::Off => {
                let ended = open()?.stop_archive()?;
                match (out.json(), ended) {
                    (true, _) => out.line(json!({ "ended": ended }))?,
                    (false, true) => out.line("ended; its files stay")?,
                    (false, false) => out.line("there was none")?,
                }
                Ok(ExitCode::SUCCESS)
            }
            What::Flush => told(out, Some(&open()?.archive_now()?)),
            What::Status => told(out, open_to_read(&self.file)?.archive_status()?.as_ref()),
        }
    }
}

fn told(out: &mut Output, status: Option<&ArchiveStatus>) -> Result<ExitCode, Failure> {
    let Some(status) = status else {
        if out.json() {
            out.line(json!(null))?
        } else {
            out.line("the store has no archive")?
        }
        return Ok(ExitCode::SUCCESS);
    };
    let goes_on = status.trouble.is_none() && status.gaps.iter().all(|gap| gap.found.is_some());
    let code = if goes_on { ExitCode::SUCCESS } else { ExitCode::from(5) };
    if out.json() {
        out.line(readable(json!(status)))?;
        return Ok(code);
    }
    out.line(format_args!("archive {} in {}", status.id, status.directory.display()))?;
    match (status.first, status.covered) {
        (Some(first), Some(covered)) => {
            let (last, covered) = (status.last, rfc3339(covered));
            out.line(format_args!(
                "transactions after {first}, up to {last}; all that were committed up to {covered}"
            ))?;
        }
        _ => out.line("nothing is archived yet")?,
    }
    for gap in &status.gaps {
        out.line(format_args!("missing: after {}, up to {}: {}", gap.from, gap.to, gap.reason))?;
    }
    status.trouble.as_ref().map_or(Ok(()), |trouble| out.line(format_args!("it does not go on: {trouble}")))?;
    Ok(code)
}
