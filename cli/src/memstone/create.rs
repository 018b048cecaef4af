//! `memstone create`: makes a store, or a table.

use std::path::PathBuf;

use clap::Args;
use memstone::{Store, WriteOptions};
use serde_json::json;

use crate::Common;
use crate::failure::Failure;
use crate::keys::KeyType;
use crate::output::Output;

/// Create a store, or a table in one
///
/// What is there already, with the same types, is left as it is.
#[derive(Args)]
pub(crate) struct Create {
    /// The store's file
    file: PathBuf,
    /// The table to create; without it only the store is made
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// The type of its keys: str, bytes, u8 to u128, i8 to i128, f32, f64, bool, char, [u8;N], time, duration, date,
    /// option<…>, reverse<…>, or a tuple such as (u32,str)
    #[arg(long, value_name = "TYPE", default_value = "str", requires = "table")]
    keys: String,
    /// The codec of its values
    #[arg(long, value_name = "TYPE", default_value = "msgpack", requires = "table", value_parser = ["msgpack", "json", "bytes"])]
    values: String,
    /// The size of a new store's pages, a power of two from 4096 to 65536
    #[arg(long, value_name = "BYTES")]
    page_size: Option<u32>,
}

impl Create {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        if KeyType::named(&self.keys).name() != self.keys {
            return Err(Failure::Usage(format!("{:?} is no type of keys", self.keys)));
        }
        let mut options = Store::options().timeout(common.timeout);
        if let Some(page_size) = self.page_size {
            options = options.page_size(page_size);
        }
        let is_new = !self.file.exists();
        let store = options.open(&self.file)?;
        if let Some(table) = &self.table {
            store.write_with(WriteOptions::new().timeout(common.timeout), |txn| {
                txn.untyped_as(table, &self.keys, &self.values).map(drop)
            })?;
        }
        store.close()?;
        match out.json() {
            true => out.line(json!({ "file": self.file, "new": is_new, "table": self.table })),
            false => Ok(()),
        }
    }
}
