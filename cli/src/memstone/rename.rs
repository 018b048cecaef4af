//! `memstone rename`: gives a table another name.

use clap::Args;
use serde_json::json;

use crate::Common;
use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;

/// Give a table another name
#[derive(Args)]
pub(crate) struct Rename {
    #[command(flatten)]
    place: Place,
    /// The name that it gets
    name: String,
}

impl Rename {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let ((), commit) = self.place.write(false, common.timeout, |txn| {
            self.place.find(txn)?;
            Ok(txn.rename_table(&self.place.table, &self.name)?)
        })?;
        if out.json() { out.line(json!({ "table": self.name, "commit": commit })) } else { Ok(()) }
    }
}
