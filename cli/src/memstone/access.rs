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

impl Types {
    /// The types that a table records by these names.
    pub(crate) fn named(keys: &str, values: &str) -> Types {
        Types { keys: KeyType::named(keys), values: ValueType::named(values) }
    }
}

/// The store, to read it only: it is neither created nor written to.
pub(crate) fn open_to_read(file: &PathBuf) -> Result<Store, Failure> {
    Ok(Store::options().create(false).read_only(true).open(file)?)
}

/// The newest state of a store, or a named snapshot.
pub(crate) fn read_at(file: &PathBuf, name: Option<&str>) -> Result<Snapshot, Failure> {
    let store = open_to_read(file)?;
    Ok(name.map_or_else(|| store.read(), |name| store.snapshot(name))?)
}

impl Place {
    /// The newest state of the store, or a named snapshot.
    pub(crate) fn read_at(&self, name: Option<&str>) -> Result<Snapshot, Failure> {
        read_at(&self.file, name)
    }

    /// The table's types in a snapshot, which has to have it.
    pub(crate) fn types_in(&self, snapshot: &Snapshot) -> Result<Types, Failure> {
        match snapshot.table_types(&self.table)? {
            Some((keys, values)) => Ok(Types::named(&keys, &values)),
            None => Err(self.no_table(&snapshot.tables()?)),
        }
    }

    /// The table, which has to be there, to change it.
    pub(crate) fn find<'t>(&self, txn: &'t WriteTxn) -> Result<(RawTableMut<'t>, Types), Failure> {
        match txn.table_types(&self.table)? {
            Some((keys, values)) => Ok((txn.untyped(&self.table)?, Types::named(&keys, &values))),
            None => Err(self.no_table(&txn.tables()?)),
        }
    }

    /// The table, to change it; if it is not there, it is created with string keys.
    pub(crate) fn find_or_create<'t>(&self, txn: &'t WriteTxn) -> Result<(RawTableMut<'t>, Types), Failure> {
        if txn.table_types(&self.table)?.is_none() {
            txn.table(Table::<&str, serde_json::Value>::new(&self.table))?;
        }
        self.find(txn)
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

    /// The failure to find a key.
    pub(crate) fn no_key(&self, key: &str) -> Failure {
        Failure::NotFound(format!("there is no key {key:?} in table {:?}", self.table))
    }

    fn no_table(&self, tables: &[TableInfo]) -> Failure {
        let names: Vec<_> = tables.iter().map(|info| info.name.as_str()).collect();
        let others = if names.is_empty() { "no tables".to_owned() } else { format!("tables: {}", names.join(", ")) };
        Failure::NotFound(format!("there is no table {:?} (the store has {others})", self.table))
    }
}
