//! `memstone import`: moving in from other stores, wholly or not at all. One file for each make; what an import needs
//! of them is the trait `Source`.

#[cfg(feature = "import-fjall")]
mod fjall;
mod intake;
mod jsonl;
#[cfg(feature = "import-lmdb")]
mod lmdb;
#[cfg(feature = "import-redb")]
mod redb;
mod source;
#[cfg(feature = "import-sqlite")]
mod sqlite;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::new_store::{Duplicates, NewStore, must_be_free};
use crate::output::Output;
use intake::Intake;
use source::Source;

/// Move in: make a store of what redb, SQLite, LMDB, fjall or JSON lines hold
///
/// The source is only read. The new store gets its name when it is whole and each table has as many rows as the source says; before,
/// and after any failure, nothing has that name.
#[derive(Args)]
pub(crate) struct Import {
    /// What the source is
    #[arg(long, value_enum, value_name = "KIND")]
    from: From,
    /// The source: a file, or a directory for fjall and LMDB; `-` reads JSON lines from standard input
    source: PathBuf,
    /// The new store's file
    file: PathBuf,
    /// Only this table; may be given several times
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// JSON lines: any objects, each keyed by this field, instead of a memory server's entities and relations
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,
    /// JSON lines with --key: the table that they become
    #[arg(long, value_name = "NAME", requires = "key", default_value = "default")]
    into: String,
    /// SQLite: key every table by its rowid, whatever its primary key is
    #[arg(long)]
    rowid: bool,
    /// Leave out tables of types that have no form here, and tell of each
    #[arg(long)]
    skip_unknown: bool,
    /// Leave out rows and lines that are wrong, tell of each by its number, and import the others
    #[arg(long)]
    skip_bad: bool,
    /// JSON lines: what becomes of a row whose key was there already
    #[arg(long, value_enum, default_value = "fail")]
    duplicates: Duplicates,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Debug)]
enum From {
    /// A redb file
    Redb,
    /// A SQLite database, with its WAL
    Sqlite,
    /// An LMDB environment
    Lmdb,
    /// The reference memory server's JSON lines, or any others with --key
    Jsonl,
    /// A fjall database
    Fjall,
}

impl Import {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        self.check_options()?;
        must_be_free(&self.file)?;
        if self.source != Path::new("-") && !self.source.exists() {
            return Err(Failure::NotFound(format!("{}: no such file or directory", self.source.display())));
        }
        // A foreign library may panic over a damaged file. The new store goes with the stack.
        let done = catch_unwind(AssertUnwindSafe(|| self.import(self.open()?.as_mut())));
        let report = done.unwrap_or_else(|_| {
            let what = self.name_of_kind();
            Err(source::unreadable(&self.source, format_args!("{what} gave up on it; it may be damaged")))
        })?;
        print(&report, out)
    }

    fn name_of_kind(&self) -> String {
        self.from.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Options of one kind of source are refused with another.
    fn check_options(&self) -> Result<(), Failure> {
        let jsonl = self.from == From::Jsonl;
        for (given, fits, option) in [
            (self.key.is_some(), jsonl, "--key is for --from jsonl"),
            (
                self.duplicates != Duplicates::Fail,
                jsonl,
                "--duplicates is for --from jsonl: elsewhere no key comes twice",
            ),
            (self.source == Path::new("-"), jsonl, "standard input is read with --from jsonl alone"),
            (self.rowid, self.from == From::Sqlite, "--rowid is for --from sqlite"),
        ] {
            if given && !fits {
                return Err(Failure::Usage(option.to_owned()));
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<Box<dyn Source>, Failure> {
        match self.from {
            From::Jsonl => Ok(Box::new(jsonl::JsonLines::open(&self.source, self.key.clone(), self.into.clone())?)),
            #[cfg(feature = "import-redb")]
            From::Redb => Ok(Box::new(redb::Redb::open(&self.source)?)),
            #[cfg(feature = "import-sqlite")]
            From::Sqlite => Ok(Box::new(sqlite::Sqlite::open(&self.source, self.rowid)?)),
            #[cfg(feature = "import-lmdb")]
            From::Lmdb => Ok(Box::new(lmdb::Lmdb::open(&self.source)?)),
            #[cfg(feature = "import-fjall")]
            From::Fjall => Ok(Box::new(fjall::Fjall::open(&self.source, &self.file)?)),
            #[allow(unreachable_patterns, reason = "a build with all features reads every kind")]
            _ => Err(Failure::Usage(format!(
                "this build does not read {0}: build it with the feature import-{0} (cargo install --path cli --features import-{0}), or with import for all kinds",
                self.name_of_kind()
            ))),
        }
    }

    /// Reads all that is chosen into a new store, compares, and names it.
    fn import(&self, source: &mut dyn Source) -> Result<Value, Failure> {
        let found = source.tables()?;
        self.must_be_there(&found)?;
        let mut intake = Intake::new(NewStore::beside(&self.file, "import")?, self.skip_bad)?;
        let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
        for table in found.into_iter().filter(|table| self.is_chosen(&table.name)) {
            match table.types {
                Ok(types) => {
                    intake.table(&table.name, types, self.duplicates);
                    chosen.push(table.name);
                }
                Err(why) if self.skip_unknown => left_out.push(json!({ "table": table.name, "why": why })),
                Err(why) => {
                    let advice = "--skip-unknown leaves it out";
                    return Err(Failure::Usage(format!(
                        "table {:?}: {why}; nothing was imported ({advice})",
                        table.name
                    )));
                }
            }
        }
        chosen.iter().try_for_each(|table| source.read(table, &mut intake))?;
        intake.finish()?;
        let mut tables = Vec::new();
        for table in &chosen {
            tables.push(intake.compare(table, source.count(table)?)?);
        }
        let skipped = intake.give_name()?;
        Ok(json!({ "file": self.file, "tables": tables, "left_out": left_out, "skipped_lines": skipped }))
    }

    fn is_chosen(&self, table: &str) -> bool {
        self.table.is_empty() || self.table.iter().any(|name| name == table)
    }

    fn must_be_there(&self, found: &[source::Found]) -> Result<(), Failure> {
        let missing = self.table.iter().find(|name| !found.iter().any(|table| table.name == **name));
        missing.map_or(Ok(()), |name| {
            let names: Vec<_> = found.iter().map(|table| table.name.as_str()).collect();
            Err(Failure::NotFound(format!("the source has no table {name:?} (it has: {})", names.join(", "))))
        })
    }
}

/// A line for each table; with `--json`, all in one object.
fn print(report: &Value, out: &mut Output) -> Result<(), Failure> {
    if out.json() {
        return out.line(report);
    }
    let items = |name: &str| report.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |item: &Value, name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |item: &Value, name: &str| item.get(name).and_then(Value::as_u64).unwrap_or_default();
    for table in items("tables") {
        let (name, keys, values) = (text(&table, "table"), text(&table, "keys"), text(&table, "values"));
        let (rows, source) = (number(&table, "rows"), number(&table, "source_rows"));
        let (replaced, kept, skipped) = (number(&table, "replaced"), number(&table, "kept"), number(&table, "skipped"));
        out.line(format_args!(
            "{name}: {rows} rows of {source}, {replaced} replaced, {kept} kept, {skipped} skipped ({keys} -> {values})"
        ))?;
    }
    for table in items("left_out") {
        out.line(format_args!("{}: left out: {}", text(&table, "table"), text(&table, "why")))?;
    }
    match number(report, "skipped_lines") {
        0 => Ok(()),
        lines => out.line(format_args!("{lines} lines of no table skipped")),
    }
}
