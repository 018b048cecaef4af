//! `memstone watch`: prints changes as they land.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use memstone::{RowChange, Snapshot, TableChange, TableDiff};
use serde_json::{Map, Value, json};

use crate::access::{Types, open_to_read};
use crate::clock::rfc3339;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::name;

/// Print what any process changes, as it lands
///
/// Each line has the time, the number (LSN) of the newest commit, the table, what became of it or of a row (+ a new one, ~ another value, - gone),
/// and the row's key. Commits that land together are shown as one change: of a key that was changed twice, what it came to.
#[derive(Args)]
pub(crate) struct Watch {
    /// The store's file
    file: PathBuf,
    /// Only this table
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Print the new values, too
    #[arg(long)]
    values: bool,
    /// A line for each commit, without tables and keys
    #[arg(long, conflicts_with_all = ["table", "values"])]
    commits: bool,
    /// Begin after this commit, not after the newest one. What it was is not known any more: the first line tells only that something came since
    #[arg(long, value_name = "LSN")]
    after: Option<u64>,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// How long one wait lasts; a watcher that sleeps longer would not notice less.
const WATCH_WAIT: Duration = Duration::from_secs(60);

/// What has landed together.
struct Landed {
    time: String,
    commit: u64,
    left: u64,
}

impl Watch {
    pub(crate) fn run(self, out: &mut Output) -> Result<(), Failure> {
        let store = open_to_read(&self.file)?;
        let mut before = store.read()?;
        let mut last = self.after.unwrap_or_else(|| before.lsn());
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let commit = store.wait_for_change(last, WATCH_WAIT)?;
            if commit <= last {
                continue;
            }
            let now = store.read()?;
            last = commit.max(now.lsn());
            let mut landed = Landed { time: rfc3339(SystemTime::now()), commit: last, left };
            if self.commits || now.lsn() == before.lsn() {
                landed.line(Map::new(), "", out)?;
            } else {
                self.changes(&before, &now, &mut landed, out)?;
            }
            left = landed.left;
            // A program may be waiting for this very line.
            out.flush()?;
            before = now;
        }
        Ok(())
    }

    fn changes(&self, before: &Snapshot, now: &Snapshot, landed: &mut Landed, out: &mut Output) -> Result<(), Failure> {
        for table in before.diff(now)?.tables() {
            if self.table.as_ref().is_some_and(|only| only != table.name()) {
                continue;
            }
            landed.table(table, out)?;
            if table.change() == TableChange::Dropped {
                continue;
            }
            let (keys, values) = table.types();
            let types = Types::named(keys, values);
            for row in table.rows()? {
                landed.row(table.name(), &types, &row?, self.values, out)?;
            }
        }
        Ok(())
    }
}

impl Landed {
    fn line(&mut self, mut fields: Map<String, Value>, text: &str, out: &mut Output) -> Result<(), Failure> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        if !out.json() {
            return out.line(format_args!("{} {} {text}", self.time, self.commit).to_string().trim_end());
        }
        fields.insert("time".to_owned(), json!(self.time));
        fields.insert("commit".to_owned(), json!(self.commit));
        out.line(Value::Object(fields))
    }

    /// What became of the table itself.
    fn table(&mut self, table: &TableDiff<'_>, out: &mut Output) -> Result<(), Failure> {
        let (what, from) = match table.change() {
            TableChange::Created => ("created", None),
            TableChange::Dropped => ("dropped", None),
            TableChange::Renamed => ("renamed", table.name_before()),
            _ => return Ok(()),
        };
        let mut fields = Map::new();
        fields.insert("table".to_owned(), json!(table.name()));
        fields.insert("change".to_owned(), json!(what));
        from.iter().for_each(|from| drop(fields.insert("from".to_owned(), json!(from))));
        let from = from.map(|from| format!(" from {}", name(from))).unwrap_or_default();
        self.line(fields, &format!("{} {what}{from}", name(table.name())), out)
    }

    fn row(
        &mut self,
        table: &str,
        types: &Types,
        row: &RowChange<'_>,
        values: bool,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let (change, sign) = match (&row.before, &row.after) {
            (None, _) => ("put", '+'),
            (Some(_), Some(_)) => ("changed", '~'),
            (Some(_), None) => ("deleted", '-'),
        };
        let value = row.after.as_ref().filter(|_| values).map(|value| types.values.show(value));
        let mut fields = Map::new();
        fields.insert("table".to_owned(), json!(table));
        fields.insert("change".to_owned(), json!(change));
        fields.insert("key".to_owned(), types.keys.show(&row.key));
        value.iter().for_each(|value| drop(fields.insert("value".to_owned(), value.clone())));
        let value = value.map(|value| format!("\t{value}")).unwrap_or_default();
        self.line(fields, &format!("{} {sign} {}{value}", name(table), types.keys.line(&row.key)), out)
    }
}
