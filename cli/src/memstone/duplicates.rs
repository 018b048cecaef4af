//! `memstone duplicates`: rows of a table that have the same value.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::Hasher;

use clap::Args;
use memstone::Bytes;
use serde_json::json;

use crate::Common;
use crate::access::{Place, Types};
use crate::failure::Failure;
use crate::output::Output;

/// Find rows of a table whose value another row has already, and take them out if asked to
///
/// A line for each: its key, and the first key, in the table's order, with the same value, byte for byte. It holds a hash and a key
/// of each row in memory.
#[derive(Args)]
pub(crate) struct Duplicates {
    #[command(flatten)]
    place: Place,
    /// Take them out, in one transaction; the first row of each value stays
    #[arg(long)]
    remove: bool,
}

/// A key, and the first one with the same value.
type Same = (Vec<u8>, Vec<u8>);

impl Duplicates {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let (found, types) = if self.remove { self.take_out(common)? } else { self.find()? };
        let count = found.len();
        for (key, first) in found {
            match out.json() {
                true => out.line(json!({ "key": types.keys.show(&key), "same_as": types.keys.show(&first) }))?,
                false => out.line(format_args!("{}\t{}", types.keys.line(&key), types.keys.line(&first)))?,
            }
        }
        let what = if self.remove { "removed" } else { "found" };
        if out.json() { out.line(json!({ what: count })) } else { out.line(format_args!("{count} {what}")) }
    }

    fn find(&self) -> Result<(Vec<Same>, Types), Failure> {
        let snapshot = self.place.read_at(None)?;
        let types = self.place.types_in(&snapshot)?;
        let table = snapshot.untyped(&self.place.table)?;
        let found = same(table.range(..)?, |key| table.get(key))?;
        Ok((found, types))
    }

    fn take_out(&self, common: &Common) -> Result<(Vec<Same>, Types), Failure> {
        let (found, _) = self.place.write(false, common.timeout, |txn| {
            let (table, types) = self.place.find(txn)?;
            let found = same(table.range(..)?, |key| table.get(key))?;
            found.iter().try_for_each(|(key, _)| table.delete(key))?;
            Ok((found, types))
        })?;
        Ok(found)
    }
}

/// Rows whose value an earlier one has. (Values of one hash are compared.)
fn same<'t>(
    rows: impl Iterator<Item = memstone::Result<(Bytes<'t>, Bytes<'t>)>>,
    get: impl Fn(&[u8]) -> memstone::Result<Option<Bytes<'t>>>,
) -> Result<Vec<Same>, Failure> {
    let mut seen: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
    let mut found = Vec::new();
    for row in rows {
        let (key, value) = row?;
        let mut hash = DefaultHasher::new();
        hash.write(&value);
        match seen.entry(hash.finish()) {
            Entry::Vacant(none) => drop(none.insert(vec![key.to_vec()])),
            Entry::Occupied(mut of_that_hash) => {
                let mut first = None;
                for earlier in of_that_hash.get() {
                    if get(earlier)?.is_some_and(|other| *other == *value) {
                        first = Some(earlier.clone());
                        break;
                    }
                }
                match first {
                    Some(first) => found.push((key.to_vec(), first)),
                    None => of_that_hash.get_mut().push(key.to_vec()),
                }
            }
        }
    }
    Ok(found)
}
