//! `memstone journal`: how far back the changes of a store are known.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use memstone::{Feed, Gap, Options, Store};
use serde_json::json;

use crate::Common;
use crate::access::open_to_read;
use crate::failure::Failure;
use crate::output::Output;

/// Keep what each commit changed, for programs that follow the store
///
/// Without a journal the changes are known back to the last checkpoint. It holds tables and keys, no values; its oldest commits make room for new ones.
#[derive(Args)]
pub(crate) struct Journal {
    /// The store's file
    file: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Keep a journal from now on, or change how long it may be
    On {
        /// How many bytes it may have
        #[arg(long, value_name = "N", default_value = "16777216")]
        bytes: u64,
    },
    /// Take the journal away
    Off,
    /// Tell how long it may be, and how far back changes are known
    Status,
}

impl Journal {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let set = |bytes| -> Result<Store, Failure> {
            let store = Options::new().create(false).timeout(common.timeout).open(&self.file)?;
            store.set_journal(bytes)?;
            Ok(store)
        };
        match self.what {
            What::On { bytes } => tell(out, &set(Some(bytes))?),
            What::Off => tell(out, &set(None)?),
            What::Status => tell(out, &open_to_read(&self.file)?),
        }
    }
}

fn tell(out: &mut Output, store: &Store) -> Result<(), Failure> {
    let now = store.read()?;
    let after = match now.changes(now.cursor_at(0))? {
        Feed::Gap(Gap::Truncated { oldest }) => oldest,
        _ => 0,
    };
    match (out.json(), store.journal()?) {
        (true, bytes) => out.line(json!({ "bytes": bytes, "after": after })),
        (false, Some(bytes)) => {
            out.line(format_args!("a journal of up to {bytes} bytes; changes are known after commit {after}"))
        }
        (false, None) => out.line(format_args!("no journal; changes are known after commit {after}")),
    }
}
