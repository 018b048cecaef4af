//! `memstone count`: how many entries there are.

use clap::Args;
use serde_json::json;

use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;
use crate::range::Keys;

/// Print how many entries a table has, or those of a range
///
/// The entries of a range are counted one by one; the table's own number is known.
#[derive(Args)]
pub(crate) struct Count {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    keys: Keys,
    /// Read the named snapshot instead of the newest state
    #[arg(long, value_name = "NAME")]
    at: Option<String>,
}

impl Count {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let snapshot = self.place.read_at(self.at.as_deref())?;
        let types = self.place.types_in(&snapshot)?;
        let table = snapshot.raw(&self.place.table)?;
        let entries = if self.keys.is_all() {
            table.len()?
        } else {
            self.keys.span(&types.keys)?.of(&table)?.try_fold(0_u64, |n, entry| entry.map(|_| n + 1))?
        };
        if out.json() { out.line(json!({ "table": self.place.table, "entries": entries })) } else { out.line(entries) }
    }
}
