//! SQLite: a row is its primary key, and a map of its columns.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use memstone::{AsKey, Place};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

use crate::failure::Failure;
use crate::msgpack::Writer;

use super::intake::{At, Intake};
use super::source::{Found, Source, unreadable};

/// A tuple has no more parts.
const PARTS: usize = 6;
/// The names of the rowid, unless a column has them.
const ROWID: [&str; 3] = ["rowid", "_rowid_", "oid"];

pub(super) struct Sqlite {
    path: PathBuf,
    connection: Connection,
    tables: Vec<TableIn>,
}

struct TableIn {
    name: String,
    /// Where the key comes from, or why there is none.
    key: Result<Rc<KeyOf>, String>,
}

/// The columns, or the name of the rowid, that make the key, with their types.
struct KeyOf {
    parts: Vec<(String, Part)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Integer,
    Text,
    Blob,
}

/// A column as SQLite describes it.
struct Column {
    name: String,
    declared: String,
    /// Its place in the primary key, from 1 on.
    in_key: i64,
}

impl Sqlite {
    /// Opens the database, and one state of it: what others commit from here on is not seen.
    pub(super) fn open(path: &Path, by_rowid: bool) -> Result<Sqlite, Failure> {
        let wrong = |error: rusqlite::Error| unreadable(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
        connection.execute_batch("PRAGMA query_only = 1; BEGIN").map_err(wrong)?;
        let tables = tables_in(&connection, by_rowid).map_err(wrong)?;
        Ok(Sqlite { path: path.to_path_buf(), connection, tables })
    }

    fn key(&self, name: &str) -> Result<Rc<KeyOf>, Failure> {
        let table = self.tables.iter().find(|table| table.name == name);
        let key = table.and_then(|table| table.key.as_ref().ok()).map(Rc::clone);
        key.ok_or_else(|| unreadable(&self.path, format_args!("table {name:?} cannot be read")))
    }
}

impl Source for Sqlite {
    fn tables(&mut self) -> Result<Vec<Found>, Failure> {
        let found = |table: &TableIn| Found {
            name: table.name.clone(),
            types: table.key.as_ref().map(|key| (key.type_name(), "msgpack".to_owned())).map_err(Clone::clone),
        };
        Ok(self.tables.iter().map(found).collect())
    }

    fn read(&mut self, name: &str, intake: &mut Intake) -> Result<(), Failure> {
        let key = self.key(name)?;
        let wrong = |error: rusqlite::Error| unreadable(&self.path, format_args!("table {name:?}: {error}"));
        let parts: Vec<_> = key.parts.iter().map(|(column, _)| quoted(column)).collect();
        // In the order of keys as far as an index has it: the new store's pages are filled one after the other.
        let parts = parts.join(", ");
        let query = format!("SELECT {parts}, * FROM {} ORDER BY {parts}", quoted(name));
        let mut statement = self.connection.prepare(&query).map_err(wrong)?;
        let columns: Vec<_> = statement.column_names().skip(key.parts.len()).map(str::to_owned).collect();
        let mut rows = statement.query([]).map_err(wrong)?;
        let mut number = 0;
        while let Some(row) = rows.next().map_err(wrong)? {
            number += 1;
            let taken = key.encode(row).and_then(|bytes| Ok((bytes, as_map(row, key.parts.len(), &columns)?)));
            intake.row(name, At::Row(number), taken)?;
        }
        Ok(())
    }

    fn count(&mut self, name: &str) -> Result<u64, Failure> {
        let count = self
            .connection
            .query_row(&format!("SELECT count(*) FROM {}", quoted(name)), [], |row| row.get::<_, i64>(0));
        let count = count.map_err(|error| unreadable(&self.path, format_args!("table {name:?}: {error}")))?;
        Ok(count.cast_unsigned())
    }
}

fn tables_in(connection: &Connection, by_rowid: bool) -> rusqlite::Result<Vec<TableIn>> {
    let list = "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut list = connection.prepare(list)?;
    let mut rows = list.query([])?;
    let mut tables = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, kind, without_rowid): (String, String, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let key = match kind.as_str() {
            "table" => key_of(&columns_of(connection, &name)?, without_rowid, by_rowid),
            // A view has no rows of its own.
            "view" => continue,
            kind => Err(format!("it is a {kind} table, whose rows are another module's")),
        };
        tables.push(TableIn { name, key: key.map(Rc::new) });
    }
    Ok(tables)
}

fn columns_of(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut list = connection.prepare("SELECT name, type, pk FROM pragma_table_xinfo(?1)")?;
    let columns =
        list.query_map([table], |row| Ok(Column { name: row.get(0)?, declared: row.get(1)?, in_key: row.get(2)? }))?;
    columns.collect()
}

/// What a table is keyed by: its primary key, if its columns' types say what keys are; or else the rowid.
fn key_of(columns: &[Column], without_rowid: bool, by_rowid: bool) -> Result<KeyOf, String> {
    let mut primary: Vec<_> = columns.iter().filter(|column| column.in_key > 0).collect();
    primary.sort_by_key(|column| column.in_key);
    let parts: Option<Vec<_>> =
        primary.iter().map(|column| part_of(&column.declared).map(|part| (column.name.clone(), part))).collect();
    if let Some(parts) = parts.filter(|parts| !by_rowid && (1..=PARTS).contains(&parts.len())) {
        return Ok(KeyOf { parts });
    }
    if without_rowid {
        return Err("it has no rowid, and its primary key is not of one to six integers, texts and blobs".to_owned());
    }
    let free = ROWID.into_iter().find(|rowid| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(rowid)));
    let rowid = free.ok_or("columns have all names of its rowid")?;
    Ok(KeyOf { parts: vec![(rowid.to_owned(), Part::Integer)] })
}

/// The keys that a column's declared type leads to, by SQLite's rules of affinity. Columns of any type, and of numbers that
/// need not be integers, make no keys.
fn part_of(declared: &str) -> Option<Part> {
    let declared = declared.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    match () {
        () if has(&["INT"]) => Some(Part::Integer),
        () if has(&["CHAR", "CLOB", "TEXT"]) => Some(Part::Text),
        () if has(&["BLOB"]) => Some(Part::Blob),
        () => None,
    }
}

impl KeyOf {
    fn type_name(&self) -> String {
        let name = |part: &Part| match part {
            Part::Integer => "i64",
            Part::Text => "str",
            Part::Blob => "bytes",
        };
        let names: Vec<_> = self.parts.iter().map(|(_, part)| name(part)).collect();
        match names.as_slice() {
            [only] => (*only).to_owned(),
            several => format!("({})", several.join(",")),
        }
    }

    /// The key of a row, whose first columns are its parts.
    fn encode(&self, row: &Row<'_>) -> Result<Vec<u8>, String> {
        let mut key = Vec::new();
        for (index, (column, part)) in self.parts.iter().enumerate() {
            let place = if index + 1 == self.parts.len() { Place::Last } else { Place::Inner };
            match (part, row.get_ref(index).map_err(|error| error.to_string())?) {
                (Part::Integer, ValueRef::Integer(number)) => number.encode(place, &mut key),
                (Part::Text, ValueRef::Text(text)) => utf8(column, text)?.encode(place, &mut key),
                (Part::Blob, ValueRef::Blob(bytes)) => AsKey::<Vec<u8>>::encode(&bytes, place, &mut key),
                (_, value) => {
                    let found = value.data_type();
                    return Err(format!(
                        "column {column:?} of its key is a {found}; --rowid keys by the rowid instead"
                    ));
                }
            }
        }
        Ok(key)
    }
}

/// A row's columns as a MessagePack map, from the column `first` on.
fn as_map(row: &Row<'_>, first: usize, columns: &[String]) -> Result<Vec<u8>, String> {
    let mut out = Writer::default();
    out.map(columns.len())?;
    for (index, column) in columns.iter().enumerate() {
        out.text(column)?;
        match row.get_ref(first + index).map_err(|error| error.to_string())? {
            ValueRef::Null => out.nil(),
            ValueRef::Integer(number) => match u64::try_from(number) {
                Ok(number) => out.unsigned(number)?,
                Err(_) => out.signed(number)?,
            },
            ValueRef::Real(number) => out.float(number),
            ValueRef::Text(text) => out.text(utf8(column, text)?)?,
            ValueRef::Blob(bytes) => out.blob(bytes)?,
        }
    }
    Ok(out.bytes)
}

fn utf8<'t>(column: &str, text: &'t [u8]) -> Result<&'t str, String> {
    str::from_utf8(text).map_err(|_| format!("the text in column {column:?} is not UTF-8"))
}

/// A name as SQL takes it, whatever its letters.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
