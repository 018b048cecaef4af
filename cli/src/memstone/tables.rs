//! `memstone tables`: lists the tables.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::access::read_at;
use crate::failure::Failure;
use crate::output::{Output, columns};
use crate::text::name;

/// List the tables with their types, entries and sizes
///
/// Pages and bytes (of keys and values) are those of the newest checkpoint, without what the log adds.
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
        let mut rows = vec![["TABLE", "KEYS", "VALUES", "ENTRIES", "PAGES", "BYTES"].map(str::to_owned).to_vec()];
        rows.extend(tables.into_iter().map(|table| {
            let names = [&table.name, &table.key_type, &table.value_type].map(|text| name(text));
            let numbers = [table.entries, table.pages, table.bytes].map(|number| number.to_string());
            names.into_iter().chain(numbers).collect()
        }));
        columns(&rows).into_iter().try_for_each(|line| out.line(line))
    }
}
