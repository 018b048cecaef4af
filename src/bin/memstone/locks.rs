//! `memstone locks`: who holds a lock, and who waits.

use std::path::PathBuf;

use clap::Args;
use memstone::Holder;
use serde_json::json;

use crate::access::open_to_read;
use crate::clock::{readable, rfc3339};
use crate::failure::Failure;
use crate::output::{Output, columns};

/// Show who holds the store's locks and who waits for them, and since when
///
/// "open" are all processes that have the store open to write. They are named by what they say of
/// themselves: process ids are those of their own container.
#[derive(Args)]
pub(crate) struct Locks {
    /// The store's file
    file: PathBuf,
}

impl Locks {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let locks = open_to_read(&self.file)?.locks()?;
        if out.json() {
            return out.line(readable(json!(locks)));
        }
        let row = |what: &str, holder: &Holder| {
            let time = holder.held_for().map_or("?".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
            let time = if holder.stopped { format!("{time}, stopped") } else { time };
            let (since, pid) = (holder.since.map_or("?".to_owned(), rfc3339), holder.pid.to_string());
            vec![what.to_owned(), pid, holder.host.clone(), since, time, holder.command.escape_debug().to_string()]
        };
        let mut rows = vec![["LOCK", "PID", "HOST", "SINCE", "FOR", "COMMAND"].map(str::to_owned).to_vec()];
        for (lock, holder) in [("writer", &locks.writer), ("checkpoint", &locks.checkpoint)] {
            rows.push(
                holder.as_ref().map_or_else(|| vec![lock.to_owned(), "free".to_owned()], |holder| row(lock, holder)),
            );
        }
        rows.extend(locks.waiting.iter().map(|holder| row("waiting", holder)));
        rows.extend(locks.processes.iter().map(|process| row("open", &process.process)));
        columns(&rows).into_iter().try_for_each(|line| out.line(line))
    }
}
