//! redb: a table for each of its tables; of a multimap table, a table of pairs.

mod types;

use std::path::{Path, PathBuf};

use memstone::Place;
use redb::{
    MultimapTableDefinition, MultimapTableHandle, ReadOnlyDatabase, ReadTransaction, ReadableDatabase,
    ReadableMultimapTable, ReadableTable, ReadableTableMetadata, TableDefinition, TableError, TableHandle, TypeName,
};

use crate::failure::Failure;

use super::intake::{At, Intake};
use super::source::{Found, Source, unreadable};
use types::{AnyKey, AnyValue, Type, read_as};

/// redb's own default is a GiB.
const CACHE: usize = 32 << 20;

pub(super) struct Redb {
    path: PathBuf,
    tables: Vec<TableIn>,
    txn: ReadTransaction,
    _database: ReadOnlyDatabase,
}

struct TableIn {
    name: String,
    multimap: bool,
    /// The types of keys and values, or their names if one of them has no form here.
    types: Result<(Type, Type), String>,
}

impl Redb {
    pub(super) fn open(path: &Path) -> Result<Redb, Failure> {
        let wrong = |error: String| unreadable(path, error);
        let database = redb::Database::builder().set_cache_size(CACHE).open_read_only(path);
        let database: ReadOnlyDatabase = database.map_err(|error| wrong(error.to_string()))?;
        let txn = database.begin_read().map_err(|error| wrong(error.to_string()))?;
        let mut tables = Vec::new();
        for table in txn.list_tables().map_err(|error| wrong(error.to_string()))? {
            tables.push(TableIn::look_up(&txn, table.name(), false).map_err(wrong)?);
        }
        for table in txn.list_multimap_tables().map_err(|error| wrong(error.to_string()))? {
            tables.push(TableIn::look_up(&txn, table.name(), true).map_err(wrong)?);
        }
        Ok(Redb { path: path.to_path_buf(), tables, txn, _database: database })
    }

    fn table(&self, name: &str) -> Result<(&TableIn, Type, Type), Failure> {
        let table = self.tables.iter().find(|table| table.name == name);
        match table.map(|table| (table, &table.types)) {
            Some((table, Ok((key, value)))) => Ok((table, *key, *value)),
            _ => Err(unreadable(&self.path, format_args!("table {name:?} cannot be read"))),
        }
    }

    fn plain(&self, name: &str, key: Type, value: Type, intake: &mut Intake) -> Result<(), Failure> {
        let wrong = |error: &dyn std::fmt::Display| unreadable(&self.path, format_args!("table {name:?}: {error}"));
        let table = open_plain(&self.txn, name, key, value).map_err(|error| wrong(&error))?;
        for (number, row) in (1..).zip(table.iter().map_err(|error| wrong(&error))?) {
            let (k, v) = row.map_err(|error| wrong(&error))?;
            let mut bytes = Vec::new();
            let row = key.key(k.value(), Place::Last, &mut bytes).and_then(|()| Ok((bytes, value.value(v.value())?)));
            intake.row(name, At::Row(number), row)?;
        }
        Ok(())
    }

    fn pairs(&self, name: &str, key: Type, value: Type, intake: &mut Intake) -> Result<(), Failure> {
        let wrong = |error: &dyn std::fmt::Display| unreadable(&self.path, format_args!("table {name:?}: {error}"));
        let table = open_multimap(&self.txn, name, key, value).map_err(|error| wrong(&error))?;
        let mut number = 0;
        for entry in table.iter().map_err(|error| wrong(&error))? {
            let (k, values) = entry.map_err(|error| wrong(&error))?;
            for v in values {
                let v = v.map_err(|error| wrong(&error))?;
                number += 1;
                let mut bytes = Vec::new();
                let pair = key.key(k.value(), Place::Inner, &mut bytes);
                let pair = pair.and_then(|()| value.key(v.value(), Place::Last, &mut bytes));
                intake.row(name, At::Row(number), pair.map(|()| (bytes, Vec::new())))?;
            }
        }
        Ok(())
    }
}

impl Source for Redb {
    fn tables(&mut self) -> Result<Vec<Found>, Failure> {
        let found = |table: &TableIn| {
            let types = table.types.clone().map(|(key, value)| match table.multimap {
                true => (format!("({},{})", key.key_name(), value.key_name()), "bytes".to_owned()),
                false => (key.key_name().to_owned(), value.value_name().to_owned()),
            });
            Found { name: table.name.clone(), types }
        };
        Ok(self.tables.iter().map(found).collect())
    }

    fn read(&mut self, name: &str, intake: &mut Intake) -> Result<(), Failure> {
        let (table, key, value) = self.table(name)?;
        if table.multimap { self.pairs(name, key, value, intake) } else { self.plain(name, key, value, intake) }
    }

    fn count(&mut self, name: &str) -> Result<u64, Failure> {
        let (table, key, value) = self.table(name)?;
        let wrong = |error: &dyn std::fmt::Display| unreadable(&self.path, format_args!("table {name:?}: {error}"));
        let rows = match table.multimap {
            true => open_multimap(&self.txn, name, key, value).map_err(|error| wrong(&error))?.len(),
            false => open_plain(&self.txn, name, key, value).map_err(|error| wrong(&error))?.len(),
        };
        rows.map_err(|error| wrong(&error))
    }
}

impl TableIn {
    /// Finds out a table's types: opening it as any types tells which ones it has.
    fn look_up(txn: &ReadTransaction, name: &str, multimap: bool) -> Result<TableIn, String> {
        let opened = match multimap {
            true => open_multimap(txn, name, Type::Bytes, Type::Bytes).map(drop),
            false => open_plain(txn, name, Type::Bytes, Type::Bytes).map(drop),
        };
        let types = match opened {
            Ok(()) => Ok((Type::Bytes, Type::Bytes)),
            Err(TableError::TableTypeMismatch { key, value, .. }) => types_of(&key, &value, multimap),
            Err(error) => return Err(format!("table {name:?}: {error}")),
        };
        Ok(TableIn { name: name.to_owned(), multimap, types })
    }
}

fn types_of(key: &TypeName, value: &TypeName, multimap: bool) -> Result<(Type, Type), String> {
    let has_no_form = |what: &str, name: &TypeName| {
        format!("its {what} are of redb's type {:?}, which has no form here", name.name())
    };
    let find = |name: &TypeName| Type::ALL.into_iter().find(|known| known.redb_name() == *name);
    let key_type = find(key).filter(|found| found.is_key()).ok_or_else(|| has_no_form("keys", key))?;
    let value_type = find(value).filter(|found| !multimap || found.is_key());
    Ok((key_type, value_type.ok_or_else(|| has_no_form("values", value))?))
}

fn open_plain(
    txn: &ReadTransaction,
    name: &str,
    key: Type,
    value: Type,
) -> Result<redb::ReadOnlyTable<AnyKey, AnyValue>, TableError> {
    read_as(key, value);
    txn.open_table(TableDefinition::new(name))
}

fn open_multimap(
    txn: &ReadTransaction,
    name: &str,
    key: Type,
    value: Type,
) -> Result<redb::ReadOnlyMultimapTable<AnyKey, AnyValue>, TableError> {
    read_as(key, value);
    txn.open_multimap_table(MultimapTableDefinition::new(name))
}
