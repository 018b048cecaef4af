//! `memstone snapshot`: states of the store, kept by name.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use memstone::{NamedSnapshot, RowChange, Store, TableChange, TableDiff};
use serde_json::json;

use crate::Common;
use crate::access::{Types, open_to_read, read_at};
use crate::clock::{readable, rfc3339};
use crate::failure::Failure;
use crate::output::{Output, columns};
use crate::text::name;

/// Keep states of the store by name: make, list, compare, go back to, delete them
///
/// A named snapshot stays until it is deleted, for all processes. Verbs that read take --at NAME.
#[derive(Args)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Keep the newest state by a name
    Create(Named),
    /// List the named snapshots, with the bytes that are kept for each of them alone
    List {
        /// The store's file
        file: PathBuf,
    },
    /// Print what differs between a named snapshot and the newest state
    ///
    /// A line for each table that differs, then one for each row: `-` what it was, `+` what it is.
    /// With --json each row is an object of "table", "key", "before" and "after".
    Diff {
        #[command(flatten)]
        named: Named,
        /// Compare with this named snapshot instead of the newest state
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// Only the tables, and how many rows differ
        #[arg(long)]
        count: bool,
    },
    /// Make the store's content what it was, in one transaction; the snapshot stays
    Rollback(Named),
    /// Delete a named snapshot; the space that it alone kept is used again
    Delete(Named),
}

#[derive(Args)]
struct Named {
    /// The store's file
    file: PathBuf,
    /// The snapshot's name
    name: String,
}

impl Snapshot {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let open = |file: &PathBuf| Store::options().create(false).timeout(common.timeout).open(file);
        match self.verb {
            Verb::Create(Named { file, name }) => {
                let made = open(&file)?.create_snapshot(&name)?;
                let line = format!("{name:?}: kept, up to transaction {}", made.lsn);
                if out.json() { out.line(readable(json!(made))) } else { out.line(line) }
            }
            Verb::List { file } => list(&open_to_read(&file)?.snapshots()?, out),
            Verb::Diff { named, to, count } => diff(&named, to.as_deref(), count, out),
            Verb::Rollback(Named { file, name }) => {
                let lsn = open(&file)?.roll_back_to(&name)?;
                let line = format!("{name:?}: the content is as it was then, as of transaction {lsn}");
                if out.json() { out.line(json!({ "name": name, "lsn": lsn })) } else { out.line(line) }
            }
            Verb::Delete(Named { file, name }) => {
                open(&file)?.delete_snapshot(&name)?;
                if out.json() { out.line(json!({ "deleted": name })) } else { Ok(()) }
            }
        }
    }
}

fn list(snapshots: &[NamedSnapshot], out: &mut Output) -> Result<(), Failure> {
    if out.json() {
        return snapshots.iter().try_for_each(|snapshot| out.line(readable(json!(snapshot))));
    }
    let mut rows = vec![["SNAPSHOT", "TIME", "LSN", "KEPT"].map(str::to_owned).to_vec()];
    rows.extend(snapshots.iter().map(|NamedSnapshot { name: text, lsn, time, kept, .. }| {
        vec![name(text), rfc3339(*time), lsn.to_string(), kept.to_string()]
    }));
    columns(&rows).into_iter().try_for_each(|line| out.line(line))
}

fn diff(named: &Named, to: Option<&str>, count: bool, out: &mut Output) -> Result<(), Failure> {
    // One handle: both states are then of one store.
    let _store = open_to_read(&named.file)?;
    let (before, after) = (read_at(&named.file, Some(&named.name))?, read_at(&named.file, to)?);
    for table in before.diff(&after)?.tables() {
        let change = change(table);
        if count {
            let rows = table.rows()?.try_fold(0_u64, |sum, row| row.map(|_| sum + 1))?;
            match out.json() {
                true => out.line(json!({ "table": table.name(), "change": change, "rows": rows }))?,
                false => out.line(format_args!("{}: {change}, {rows} rows differ", name(table.name())))?,
            }
            continue;
        }
        match out.json() {
            true => out.line(json!({ "table": table.name(), "change": change }))?,
            false => out.line(format_args!("{}: {change}", name(table.name())))?,
        }
        let (keys, values) = table.types();
        let types = Types::named(keys, values);
        table.rows()?.try_for_each(|row| show(table.name(), &types, &row?, out))?;
    }
    Ok(())
}

fn change(table: &TableDiff<'_>) -> String {
    match table.change() {
        TableChange::Created => "created".to_owned(),
        TableChange::Dropped => "dropped".to_owned(),
        TableChange::Renamed => format!("renamed from {}", name(table.name_before().unwrap_or_default())),
        _ => "changed".to_owned(),
    }
}

fn show(table: &str, types: &Types, row: &RowChange<'_>, out: &mut Output) -> Result<(), Failure> {
    let value = |value: &Option<memstone::Bytes<'_>>| value.as_ref().map(|value| types.values.show(value));
    let (before, after) = (value(&row.before), value(&row.after));
    if out.json() {
        let key = types.keys.show(&row.key);
        return out.line(json!({ "table": table, "key": key, "before": before, "after": after }));
    }
    let key = types.keys.line(&row.key);
    before.map_or(Ok(()), |value| out.line(format_args!("- {key}\t{value}")))?;
    after.map_or(Ok(()), |value| out.line(format_args!("+ {key}\t{value}")))
}
