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
}

impl Stat {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut stats = readable(json!(open_to_read(&self.file)?.stats()?));
        if out.json() {
            return out.line(stats);
        }
        // They have a verb of their own.
        stats.as_object_mut().and_then(|stats| stats.shift_remove("tables"));
        columns(&flat(&stats)).into_iter().try_for_each(|line| out.line(line))
    }
}
