//! `memstone watch`: prints changes as they land.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use memstone::{Changed, Feed, Snapshot, TableChange};
use serde_json::{Map, Value, json};

use crate::access::{Types, open_to_read};
use crate::clock::rfc3339;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::name;

/// Print what any process changes, as it lands
///
/// Each line has the time, the number (LSN) of the newest commit, the table, what became of it or of a row (+ a new one, ~ another value, - gone),
/// and the row's key. Commits that land together are shown as one change: of a key that was changed twice, what it came to. What came
/// before this command began, after `--after`, is shown commit by commit, as far as the store's log and journal have it; there + is any value.
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
    /// Begin after this commit, not after the newest one. If the changes since then are not known any more, the first line tells only that something came
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
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut last = match self.after {
            Some(after) if self.missed(&before, after, &mut left, out)? => before.lsn(),
            Some(after) => after,
            None => before.lsn(),
        };
        while left > 0 {
            let commit = store.wait_for_change(last, WATCH_WAIT)?;
            if commit <= last {
                continue;
            }
            let now = store.read()?;
            last = commit.max(now.lsn());
            let mut landed = Landed { time: rfc3339(SystemTime::now()), commit: last, left };
            let told = self.commits && self.missed(&now, before.lsn(), &mut landed.left, out)?;
            match told {
                true => {}
                false if self.commits || now.lsn() == before.lsn() => landed.line(Map::new(), "", out)?,
                false => self.changes(&before, &now, &mut landed, out)?,
            }
            left = landed.left;
            // A program may be waiting for this very line.
            out.flush()?;
            before = now;
        }
        Ok(())
    }

    /// Prints the commits after a known one, up to a state, as the store's feed has them; `false`: they are not all known.
    fn missed(&self, now: &Snapshot, after: u64, left: &mut u64, out: &mut Output) -> Result<bool, Failure> {
        let Feed::Changes(commits) = now.changes(now.cursor_at(after))? else { return Ok(false) };
        for commit in commits {
            let commit = commit?;
            let mut landed = Landed { time: rfc3339(SystemTime::now()), commit: commit.lsn(), left: *left };
            if self.commits {
                landed.line(Map::new(), "", out)?;
            } else {
                let of_it = |change: &Changed<'_>| self.table.as_ref().is_none_or(|only| only == change.table());
                for change in commit.changes().filter(of_it) {
                    landed.change(now, change, self.values, out)?;
                }
            }
            *left = landed.left;
        }
        out.flush()?;
        Ok(true)
    }

    fn changes(&self, before: &Snapshot, now: &Snapshot, landed: &mut Landed, out: &mut Output) -> Result<(), Failure> {
        for table in before.diff(now)?.tables() {
            if self.table.as_ref().is_some_and(|only| only != table.name()) {
                continue;
            }
            match table.change() {
                TableChange::Created => landed.table(table.name(), "created", None, out)?,
                TableChange::Renamed => landed.table(table.name(), "renamed", table.name_before(), out)?,
                TableChange::Dropped => {
                    landed.table(table.name(), "dropped", None, out)?;
                    continue;
                }
                _ => {}
            }
            let (keys, values) = table.types();
            let types = Types::named(keys, values);
            for row in table.rows()? {
                let row = row?;
                let what = match (&row.before, &row.after) {
                    (None, _) => (&*row.key, "put", '+'),
                    (Some(_), Some(_)) => (&*row.key, "changed", '~'),
                    (Some(_), None) => (&*row.key, "deleted", '-'),
                };
                landed.row(table.name(), &types, what, row.after.as_deref().filter(|_| self.values), out)?;
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

    /// A change of a commit that is past; the value is the newest.
    fn change(&mut self, now: &Snapshot, change: Changed<'_>, values: bool, out: &mut Output) -> Result<(), Failure> {
        let table = change.table();
        let (key, word, sign) = match change {
            Changed::Put { key, .. } => (key, "put", '+'),
            Changed::Deleted { key, .. } => (key, "deleted", '-'),
            Changed::TableRenamed { from, .. } => return self.table(table, "renamed", Some(from), out),
            Changed::TableCreated { .. } => return self.table(table, "created", None, out),
            Changed::TableDropped { .. } => return self.table(table, "dropped", None, out),
            _ => return self.table(table, "cleared", None, out),
        };
        let named = now.table_types(table)?;
        let types = named.as_ref().map_or(Types::named("bytes", "bytes"), |(keys, of)| Types::named(keys, of));
        let value = match values && sign == '+' && named.is_some() {
            true => now.untyped(table)?.get(key)?,
            false => None,
        };
        self.row(table, &types, (key, word, sign), value.as_deref(), out)
    }

    /// What became of the table itself.
    fn table(&mut self, table: &str, what: &str, from: Option<&str>, out: &mut Output) -> Result<(), Failure> {
        let mut fields = Map::new();
        fields.insert("table".to_owned(), json!(table));
        fields.insert("change".to_owned(), json!(what));
        from.iter().for_each(|from| drop(fields.insert("from".to_owned(), json!(from))));
        let from = from.map(|from| format!(" from {}", name(from))).unwrap_or_default();
        self.line(fields, &format!("{} {what}{from}", name(table)), out)
    }

    fn row(
        &mut self,
        table: &str,
        types: &Types,
        (key, change, sign): (&[u8], &str, char),
        value: Option<&[u8]>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let value = value.map(|value| types.values.show(value));
        let mut fields = Map::new();
        fields.insert("table".to_owned(), json!(table));
        fields.insert("change".to_owned(), json!(change));
        fields.insert("key".to_owned(), types.keys.show(key));
        value.iter().for_each(|value| drop(fields.insert("value".to_owned(), value.clone())));
        let value = value.map(|value| format!("\t{value}")).unwrap_or_default();
        self.line(fields, &format!("{} {sign} {}{value}", name(table), types.keys.line(key)), out)
    }
}
