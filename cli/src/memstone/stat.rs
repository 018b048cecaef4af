//! `memstone stat`: the store's figures.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::access::open_to_read;
use crate::clock::readable;
use crate::failure::Failure;
use crate::output::{Output, columns, flat};

/// Print the store's figures: sizes, commits, flushes, waits
#[derive(Args)]
pub(crate) struct Stat {
    /// The store's file
    file: PathBuf,
    /// Print them in the text format that Prometheus reads
    #[arg(long)]
    prometheus: bool,
}

impl Stat {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        if self.prometheus {
            if out.json() {
                return Err(Failure::Usage("--prometheus is a format of its own: leave --json out".to_owned()));
            }
            let sample = open_to_read(&self.file)?.sample()?;
            let path = self.file.canonicalize().unwrap_or(self.file);
            return out.bytes(sample.to_prometheus(&path).as_bytes());
        }
        let mut stats = readable(json!(open_to_read(&self.file)?.stats()?));
        if out.json() {
            return out.line(stats);
        }
        // They have a verb of their own.
        stats.as_object_mut().and_then(|stats| stats.shift_remove("tables"));
        columns(&flat(&stats)).into_iter().try_for_each(|line| out.line(line))
    }
}
