//! `memstone del`: takes a key, or those of a range, out.

use clap::Args;
use serde_json::json;

use crate::Common;
use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;
use crate::range::Keys;

/// Take a key, or those of a range, out of a table
#[derive(Args)]
pub(crate) struct Del {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true, required_unless_present_any = ["prefix", "from", "to"])]
    #[arg(conflicts_with_all = ["prefix", "from", "to"])]
    key: Option<String>,
    #[command(flatten)]
    keys: Keys,
}

impl Del {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let Some(key) = &self.key else { return self.run_on_range(common, out) };
        let ((), commit) = self.place.write(false, common.timeout, |txn| {
            let (table, types) = self.place.find(txn)?;
            let old = table.remove(&types.keys.key(key)?)?;
            // A failure rolls back: where nothing is taken out, nothing is committed.
            old.map(drop).ok_or_else(|| self.place.no_key(key))
        })?;
        if out.json() { out.line(json!({ "key": key, "commit": commit })) } else { Ok(()) }
    }

    /// In one transaction. That there is nothing in the range is no failure.
    fn run_on_range(&self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let (entries, commit) = self.place.write(false, common.timeout, |txn| {
            let (table, types) = self.place.find(txn)?;
            self.keys.span(&types.keys)?.delete_from(&table)
        })?;
        match out.json() {
            true => out.line(json!({ "entries": entries, "commit": commit })),
            false => out.line(entries),
        }
    }
}
