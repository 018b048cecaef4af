//! `memstone watch`: prints commits as they land.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use memstone::Store;
use serde_json::json;

use crate::access::open_to_read;
use crate::clock::rfc3339;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::name;

/// Print commits of any process as they land
///
/// Each line has the time, the number (LSN) of the newest commit, and the tables that gained or
/// lost entries. Commits that land together share a line.
#[derive(Args)]
pub(crate) struct Watch {
    /// The store's file
    file: PathBuf,
    /// Begin after this commit, not after the newest one
    #[arg(long, value_name = "LSN")]
    after: Option<u64>,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// How long one wait lasts; a watcher that sleeps longer would not notice less.
const PATIENCE: Duration = Duration::from_secs(60);

impl Watch {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let store = open_to_read(&self.file)?;
        let mut entries = count_entries(&store)?;
        let mut last = self.after.map_or_else(|| store.last_commit(), Ok)?;
        let mut lines = 0;
        while self.count.is_none_or(|count| lines < count) {
            let commit = store.wait_for_change(last, PATIENCE)?;
            if commit <= last {
                continue;
            }
            last = commit;
            lines += 1;
            let now = count_entries(&store)?;
            let names = now.keys().chain(entries.keys().filter(|name| !now.contains_key(*name)));
            let count = |entries: &BTreeMap<String, u64>, name| entries.get(name).copied().unwrap_or(0).cast_signed();
            let changes = names.map(|name| (name, count(&now, name) - count(&entries, name)));
            let changes: Vec<_> = changes.filter(|(_, change)| *change != 0).collect();
            let time = rfc3339(SystemTime::now());
            if out.json() {
                let changes: serde_json::Map<_, _> =
                    changes.iter().map(|(name, change)| ((*name).clone(), json!(change))).collect();
                out.line(json!({ "time": time, "commit": commit, "entries": changes }))?;
            } else {
                let changes: Vec<_> =
                    changes.iter().map(|(table, change)| format!("{} {change:+}", name(table))).collect();
                out.line(format_args!("{time} {commit} {}", changes.join(", ")).to_string().trim_end())?;
            }
            // A program may be waiting for this very line.
            out.flush()?;
            entries = now;
        }
        Ok(())
    }
}

fn count_entries(store: &Store) -> Result<BTreeMap<String, u64>, Failure> {
    Ok(store.read()?.tables()?.into_iter().map(|table| (table.name, table.entries)).collect())
}
