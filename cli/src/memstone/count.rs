//! `memstone count`: how many entries there are.

use clap::Args;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::range::Rows;

/// Print how many entries a table has, or those of a range
///
/// No entry is read: the branches of the table's tree note how many are below them.
#[derive(Args)]
pub(crate) struct Count {
    #[command(flatten)]
    rows: Rows,
}

impl Count {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let (snapshot, types) = self.rows.open()?;
        let table = snapshot.untyped(&self.rows.place.table)?;
        let entries =
            if self.rows.keys.is_all() { table.len()? } else { self.rows.keys.span(&types.keys)?.count_in(&table)? };
        if out.json() {
            out.line(json!({ "table": self.rows.place.table, "entries": entries }))
        } else {
            out.line(entries)
        }
    }
}
