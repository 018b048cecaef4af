//! `memstone locks`: who holds a lock, and who waits.

use std::path::PathBuf;

use clap::Args;
use memstone::Holder;
use serde_json::json;

use crate::access::open_to_read;
use crate::clock::{readable, rfc3339};
use crate::failure::Failure;
use crate::output::{Output, columns};
use crate::text::escaped;

/// Show who holds the store's locks and who waits for them, and since when
///
/// "open" are the processes that have the store open to write. They are named by what they say of
/// themselves: process ids are those of their own container, and a process that does not share the
/// sidecar has no name here. A lock that it holds is shown as held all the same, never as free.
#[derive(Args)]
pub(crate) struct Locks {
    /// The store's file
    file: PathBuf,
}

/// Who holds a lock, where only the system says that it is held.
const NAMELESS: &str = "held by a process that left no name";

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
            let (host, command) = (escaped(holder.host.as_bytes()), escaped(holder.command.as_bytes()));
            vec![what.to_owned(), pid, host, since, time, command]
        };
        let mut rows = vec![["LOCK", "PID", "HOST", "SINCE", "FOR", "COMMAND"].map(str::to_owned).to_vec()];
        for (lock, holder, held) in
            [("writer", &locks.writer, locks.writer_held), ("checkpoint", &locks.checkpoint, locks.checkpoint_held)]
        {
            rows.push(match holder {
                Some(holder) => row(lock, holder),
                None if held => [lock, "?", "?", "?", "?", NAMELESS].map(str::to_owned).to_vec(),
                None => [lock, "free"].map(str::to_owned).to_vec(),
            });
        }
        rows.extend(locks.waiting.iter().map(|holder| row("waiting", holder)));
        rows.extend(locks.processes.iter().map(|process| row("open", &process.process)));
        columns(&rows).into_iter().try_for_each(|line| out.line(line))
    }
}
