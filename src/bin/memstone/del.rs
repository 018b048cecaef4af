//! `memstone del`: takes a key out.

use clap::Args;
use serde_json::json;

use crate::Common;
use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;

/// Take a key out of a table
#[derive(Args)]
pub(crate) struct Del {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
}

impl Del {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let ((), commit) = self.place.write(false, common.timeout, |txn| {
            let (table, types) = self.place.find(txn)?;
            let old = table.remove(&types.keys.key(&self.key)?)?;
            // A failure rolls back: where nothing is taken out, nothing is committed.
            old.map(drop).ok_or_else(|| self.place.no_key(&self.key))
        })?;
        if out.json() { out.line(json!({ "key": self.key, "commit": commit })) } else { Ok(()) }
    }
}
