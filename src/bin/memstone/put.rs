//! `memstone put`: sets a key's value.

use clap::Args;
use serde_json::json;

use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;
use crate::{Common, values};

/// Set the value of a key; the store and the table are created if they are not there
#[derive(Args)]
pub(crate) struct Put {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// The value as JSON; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// Take the value as text, not as JSON
    #[arg(long)]
    string: bool,
}

impl Put {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        // Read before the lock is taken: nobody should wait for this standard input.
        let value = values::argument(&self.value, self.string)?;
        let ((), commit) = self.place.write(true, common.timeout, |txn| {
            let (table, types) = self.place.open(txn)?;
            Ok(table.put(&types.keys.key(&self.key)?, &types.values.encode(value)?)?)
        })?;
        if out.json() { out.line(json!({ "key": self.key, "commit": commit })) } else { Ok(()) }
    }
}
