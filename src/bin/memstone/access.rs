//! Opening stores and tables for the verbs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use memstone::{RawTableMut, Snapshot, Store, Table, TableInfo, WriteOptions, WriteTxn};

use crate::failure::Failure;
use crate::keys::KeyType;
use crate::values::ValueType;

/// The table that a verb works on.
#[derive(Args)]
pub(crate) struct Place {
    /// The store's file
    pub(crate) file: PathBuf,
    /// The table
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) table: String,
}

/// How a table's keys and values are to be read.
pub(crate) struct Types {
    pub(crate) keys: KeyType,
    pub(crate) values: ValueType,
}

/// The store, to read it only: it is neither created nor written to.
pub(crate) fn open_to_read(file: &PathBuf) -> Result<Store, Failure> {
    Ok(Store::options().create(false).read_only(true).open(file)?)
}

impl Place {
    /// A snapshot of the store.
    pub(crate) fn read(&self) -> Result<Snapshot, Failure> {
        Ok(open_to_read(&self.file)?.read()?)
    }

    /// The types of the table, which has to be there.
    pub(crate) fn types(&self, tables: &[TableInfo]) -> Result<Types, Failure> {
        match tables.iter().find(|info| info.name == self.table) {
            Some(info) => {
                Ok(Types { keys: KeyType::named(&info.key_type), values: ValueType::named(&info.value_type) })
            }
            None => {
                let names: Vec<_> = tables.iter().map(|info| info.name.as_str()).collect();
                let others =
                    if names.is_empty() { "no tables".to_owned() } else { format!("tables: {}", names.join(", ")) };
                Err(Failure::NotFound(format!("there is no table {:?} (the store has {others})", self.table)))
            }
        }
    }

    /// Runs `body` in a write transaction and commits; gives what it returned and the commit's LSN.
    pub(crate) fn write<T>(
        &self,
        create: bool,
        timeout: Duration,
        body: impl FnOnce(&WriteTxn) -> Result<T, Failure>,
    ) -> Result<(T, u64), Failure> {
        let store = Store::options().create(create).timeout(timeout).open(&self.file)?;
        let txn = store.begin_write_with(WriteOptions::new().timeout(timeout))?;
        let done = body(&txn)?;
        Ok((done, txn.commit()?))
    }

    /// The table in a write transaction; if it is not there, it is created with string keys.
    pub(crate) fn open<'t>(&'t self, txn: &'t WriteTxn) -> Result<(RawTableMut<'t>, Types), Failure> {
        let types = match self.types(&txn.tables()?) {
            Ok(types) => types,
            Err(_) => {
                txn.table(Table::<&str, serde_json::Value>::new(&self.table))?;
                self.types(&txn.tables()?)?
            }
        };
        Ok((txn.bytes_of(&self.table)?, types))
    }

    /// The failure to find a key.
    pub(crate) fn no_key(&self, key: &str) -> Failure {
        Failure::NotFound(format!("there is no key {key:?} in table {:?}", self.table))
    }
}
