//! `memstone drop` and `clear`: take a table, or all that is in it, out.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::Common;
use crate::access::Place;
use crate::failure::Failure;
use crate::output::Output;

/// Take a table out, with all that is in it
#[derive(Args)]
pub(crate) struct Drop {
    #[command(flatten)]
    named: Named,
}

/// Take everything out of a table; the table stays
#[derive(Args)]
pub(crate) struct Clear {
    #[command(flatten)]
    named: Named,
}

/// A table that has to be named: none is taken by default.
#[derive(Args)]
struct Named {
    /// The store's file
    file: PathBuf,
    /// The table
    #[arg(long, value_name = "NAME")]
    table: String,
}

impl Named {
    /// Does it, and tells how many entries are gone.
    fn run(self, common: &Common, out: &mut Output, drop_it: bool) -> Result<(), Failure> {
        let place = Place { file: self.file, table: self.table };
        let (entries, commit) = place.write(false, common.timeout, |txn| {
            let entries = place.find(txn)?.0.len()?;
            if drop_it {
                txn.drop_table(&place.table)?;
            } else {
                txn.clear_table(&place.table)?;
            }
            Ok(entries)
        })?;
        match out.json() {
            true => out.line(json!({ "table": place.table, "entries": entries, "commit": commit })),
            false => Ok(()),
        }
    }
}

impl Drop {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        self.named.run(common, out, true)
    }
}

impl Clear {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        self.named.run(common, out, false)
    }
}
