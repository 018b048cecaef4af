//! `memstone tables`: lists the tables.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::access::read_at;
use crate::failure::Failure;
use crate::output::{Output, columns};
use crate::text::name;

/// List the tables with their types and number of entries
#[derive(Args)]
pub(crate) struct Tables {
    /// The store's file
    file: PathBuf,
    /// Read the named snapshot instead of the newest state
    #[arg(long, value_name = "NAME")]
    at: Option<String>,
}

impl Tables {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let tables = read_at(&self.file, self.at.as_deref())?.tables()?;
        if out.json() {
            return tables.iter().try_for_each(|table| out.line(json!(table)));
        }
        let mut rows = vec![["TABLE", "KEYS", "VALUES", "ENTRIES"].map(str::to_owned).to_vec()];
        rows.extend(tables.into_iter().map(|table| {
            vec![name(&table.name), name(&table.key_type), name(&table.value_type), table.entries.to_string()]
        }));
        columns(&rows).into_iter().try_for_each(|line| out.line(line))
    }
}
