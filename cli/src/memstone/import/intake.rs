//! Rows from a source on their way into a new store, in batches, counted.

use std::fmt::Display;
use std::ops::ControlFlow;

use memstone::Error;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::new_store::{BATCH, Duplicates, Incoming, NewStore};
use crate::progress::Progress;

/// What a row costs in memory beside its bytes.
const ROW: usize = 64;

/// A table that is being filled.
pub(super) struct Filled {
    pub(super) name: String,
    pub(super) keys: String,
    pub(super) values: String,
    incoming: Incoming,
    /// Rows left out because they are wrong.
    skipped: u64,
}

/// Where in the source a row is: the line, or the number of the row in its table.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "a build of JSON lines alone has no numbered rows")]
pub(super) enum At {
    Line(u64),
    Row(u64),
}

struct Row {
    table: usize,
    at: At,
    key: Vec<u8>,
    value: Vec<u8>,
}

pub(super) struct Intake {
    new: NewStore,
    tables: Vec<Filled>,
    batch: Vec<Row>,
    bytes: usize,
    rows: u64,
    /// Lines left out that belong to no table.
    skipped: u64,
    skip_bad: bool,
    progress: Progress,
}

impl Intake {
    pub(super) fn new(new: NewStore, skip_bad: bool) -> Result<Intake, Failure> {
        let (tables, batch) = (Vec::new(), Vec::new());
        Ok(Intake { new, tables, batch, bytes: 0, rows: 0, skipped: 0, skip_bad, progress: Progress::new()? })
    }

    /// A table to be filled; it is there in the end even if no row comes.
    pub(super) fn table(&mut self, name: &str, (keys, values): (String, String), duplicates: Duplicates) {
        let incoming = Incoming::new(duplicates);
        self.tables.push(Filled { name: name.to_owned(), keys, values, incoming, skipped: 0 });
    }

    /// The types of a table get known only with its first row.
    pub(super) fn set_keys(&mut self, table: &str, keys: &str) {
        self.tables.iter_mut().filter(|filled| filled.name == table).for_each(|filled| filled.keys = keys.to_owned());
    }

    /// Takes a row, or tells why it has no form here. Rows of tables that were not chosen go nowhere.
    pub(super) fn row(&mut self, table: &str, at: At, row: Result<(Vec<u8>, Vec<u8>), String>) -> Result<(), Failure> {
        let Some(number) = self.tables.iter().position(|filled| filled.name == table) else { return Ok(()) };
        let (key, value) = match row {
            Ok(row) => row,
            Err(why) => return self.wrong(Some(number), at, why),
        };
        self.bytes += key.len() + value.len() + ROW;
        self.batch.push(Row { table: number, at, key, value });
        if self.bytes >= BATCH { self.commit() } else { Ok(()) }
    }

    /// A line that belongs to no table.
    pub(super) fn bad_line(&mut self, line: u64, why: String) -> Result<(), Failure> {
        self.wrong(None, At::Line(line), why)
    }

    /// What is wrong with a row ends the import, or the row is left out.
    fn wrong(&mut self, table: Option<usize>, at: At, why: impl Display) -> Result<(), Failure> {
        let table = table.and_then(|table| self.tables.get_mut(table));
        let place = match (at, &table) {
            (At::Line(line), _) => format!("line {line}"),
            (At::Row(row), Some(table)) => format!("table {:?}, row {row}", table.name),
            (At::Row(row), None) => format!("row {row}"),
        };
        if !self.skip_bad {
            return Err(Failure::Usage(format!("{place}: {why}; nothing was imported (--skip-bad leaves it out)")));
        }
        eprintln!("memstone: {place} is left out: {why}");
        *table.map_or(&mut self.skipped, |table| &mut table.skipped) += 1;
        Ok(())
    }

    /// Commits what has come so far.
    fn commit(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut self.batch);
        self.rows += batch.len() as u64;
        self.bytes = 0;
        // By table, each in the order in which its rows came.
        batch.sort_by_key(|row| row.table);
        let txn = self.new.begin()?;
        for rows in batch.chunk_by(|a, b| a.table == b.table) {
            let Some(number) = rows.first().map(|row| row.table) else { continue };
            let Some(filled) = self.tables.get(number) else { continue };
            let table = txn.untyped_as(&filled.name, &filled.keys, &filled.values)?;
            for row in rows {
                let Some(filled) = self.tables.get_mut(number) else { continue };
                match filled.incoming.put(&table, &row.key, &row.value) {
                    Err(Failure::Usage(why) | Failure::Store(Error::Invalid(why))) => {
                        self.wrong(Some(number), row.at, why)?;
                    }
                    Err(Failure::Store(error @ Error::TooLarge { .. })) => self.wrong(Some(number), row.at, error)?,
                    put => put?,
                }
            }
        }
        txn.commit()?;
        batch.clear();
        self.batch = batch;
        match self.progress.tell_rows(self.rows) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Failure::Store(Error::Cancelled { path: self.new.store().path().into() })),
        }
    }

    /// Makes the store what it is to be, all but its name: the last rows, and tables without any.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.commit()?;
        let txn = self.new.begin()?;
        for table in &self.tables {
            txn.untyped_as(&table.name, &table.keys, &table.values)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Compares a table with what the source says of it; gives the line of the report.
    pub(super) fn compare(&self, table: &str, in_source: u64) -> Result<Value, Failure> {
        let Some(filled) = self.tables.iter().find(|filled| filled.name == table) else { return Ok(Value::Null) };
        let there = self.new.store().read()?.untyped(table)?.len()?;
        let Incoming { replaced, kept, .. } = filled.incoming;
        if there + filled.skipped + replaced + kept != in_source {
            let left = filled.skipped + replaced + kept;
            return Err(Failure::Other(format!(
                "table {table:?}: the source has {in_source} rows, but {there} have come and {left} were left out; nothing was imported"
            )));
        }
        Ok(json!({
            "table": table, "keys": filled.keys, "values": filled.values, "source_rows": in_source, "rows": there,
            "replaced": replaced, "kept": kept, "skipped": filled.skipped,
        }))
    }

    /// Gives the store its name, and tells how many lines belong to no table.
    pub(super) fn give_name(self) -> Result<u64, Failure> {
        self.new.give_name()?;
        Ok(self.skipped)
    }
}
