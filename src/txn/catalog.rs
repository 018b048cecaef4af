//! The tables of a state, and their types.

use crate::direction::Direction;
use crate::engine::buffer::Over;
use crate::engine::merge::{MergeCursor, TableSource};
use crate::engine::stats::TableInfo;
use crate::engine::table_row::TableEntry;
use crate::error::{Error, Result};
use std::ops::Bound;

/// The types that a table of bytes is recorded with.
pub(crate) const RAW_TYPES: (&str, &str) = ("bytes", "bytes");

/// All tables, by the rows of the names table.
pub(crate) fn list_tables<B: Over>(names: TableSource<'_, B>) -> Result<Vec<TableInfo>> {
    let mut tables = Vec::new();
    let mut walk = MergeCursor::new(names, Direction::Forward, Bound::Unbounded)?;
    while let Some((name, found)) = walk.next()? {
        let row = names.read(found)?;
        // Copied before it is called a string: see `ReadMap`.
        let name = String::from_utf8(name.to_vec());
        let name = name.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        let entry = TableEntry::of_row(name.as_bytes(), &row)?;
        let root = names.view.tree_root(entry.id)?;
        let entries = TableSource { table: entry.id, root, ..names }.entries()?;
        tables.push(TableInfo {
            name,
            key_type: entry.key_type.into(),
            value_type: entry.value_type.into(),
            entries,
            pages: root.pages,
            bytes: root.bytes,
            schema: entry.schema.into(),
            schema_version: entry.schema_version,
            flags: entry.flags,
        });
    }
    Ok(tables)
}

/// A table's schema as recorded: its name and version. An empty name and 0 stand for none.
pub(crate) fn check_schema(name: &str, expected: (&str, u64), found: &TableEntry) -> Result<()> {
    let found = (&*found.schema, found.schema_version);
    if expected == found {
        return Ok(());
    }
    let show = |schema| match schema {
        ("", 0) => "no schema".to_owned(),
        (name, version) => format!("schema {name:?} version {version}"),
    };
    Err(Error::TypeMismatch { table: name.to_owned(), expected: show(expected), found: show(found) })
}

/// A table's types, as recorded when it was created.
pub(crate) fn check_types(name: &str, expected: (&str, &str), found: (&str, &str)) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let show = |(key, value): (&str, &str)| format!("{key} → {value}");
    Err(Error::TypeMismatch { table: name.to_owned(), expected: show(expected), found: show(found) })
}
