//! `memstone scan`: prints keys and values in order.

use clap::Args;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::range::Rows;

/// Print the keys and values of a table in order
///
/// With --json each line is an object of "key" and "value". Keys of other types than strings are
/// given and shown as numbers, as escaped text (bytes), as hex (fixed arrays) or as JSON arrays
/// (tuples).
#[derive(Args)]
pub(crate) struct Scan {
    #[command(flatten)]
    rows: Rows,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print the keys alone
    #[arg(long = "keys")]
    keys_only: bool,
    /// From the last to the first
    #[arg(long)]
    reverse: bool,
}

impl Scan {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let (snapshot, types) = self.rows.open()?;
        let table = snapshot.untyped(&self.rows.place.table)?;
        let range = self.rows.keys.span(&types.keys)?.of(&table)?;
        let mut show = |entry: memstone::Result<(memstone::Bytes<'_>, memstone::Bytes<'_>)>| {
            let (key, value) = entry?;
            let value = (!self.keys_only).then(|| types.values.show(&value));
            match (value, out.json()) {
                (Some(value), true) => out.line(json!({ "key": types.keys.show(&key), "value": value })),
                (Some(value), false) => out.line(format_args!("{}\t{value}", types.keys.line(&key))),
                (None, true) => out.line(json!({ "key": types.keys.show(&key) })),
                (None, false) => out.line(types.keys.line(&key)),
            }
        };
        let limit = self.limit.unwrap_or(usize::MAX);
        if self.reverse {
            range.rev().take(limit).try_for_each(&mut show)
        } else {
            range.into_iter().take(limit).try_for_each(&mut show)
        }
    }
}
