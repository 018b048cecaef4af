//! Where the rows of a backup come from: a state of a store.

use crate::bytes::Bytes;
use crate::disk::format::TABLE_NAMES;
use crate::engine::view::View;
use crate::error::{Error, Result};
use crate::maintain::content::ContentHash;
use crate::txn::merge::{Direction, Ground, Walk};
use crate::txn::snapshot::list_tables;
use std::ops::Bound;
use std::sync::mpsc::sync_channel;

use super::builder::StoreBuilder;
use super::manifest::TableManifest;
use super::options::Watch;

/// A table with fewer rows is not worth a thread.
const SMALL_TABLE: u64 = 1000;
/// So many bytes of rows are handed from one thread to the other at once, and so many batches may wait there.
const BATCH_BYTES: usize = 256 << 10;
const BATCHES: usize = 4;
/// What a row takes beside its key and value.
const ROW_BYTES: usize = size_of::<Row<'_>>();

/// Key and value.
pub(super) type Row<'s> = (Bytes<'s>, Bytes<'s>);
/// The rows of a table, in key order.
pub(super) type Rows<'s> = Box<dyn Iterator<Item = Result<Row<'s>>> + 's>;

/// A state that can be read table by table.
pub(super) trait Source {
    /// Its tables, in the order of their names.
    fn tables(&self) -> &[TableManifest];
    /// The rows of a table; none if there is no such table.
    fn rows(&self, table: u32) -> Result<Rows<'_>>;
}

/// The state that a snapshot shows.
pub(super) struct State {
    view: View,
    tables: Vec<TableManifest>,
}

impl State {
    pub(super) fn new(view: View) -> Result<State> {
        let names = Ground { view: &view, txn: None, table: TABLE_NAMES, root: view.tree_root(TABLE_NAMES)? };
        let tables = list_tables(names)?.into_iter().map(|info| {
            let id = view.table(&info.name)?.map(|entry| entry.id);
            let id = id.ok_or_else(|| Error::Internal("a table that is listed is not there".to_owned()))?;
            let (name, key_type, value_type) = (info.name, info.key_type, info.value_type);
            Ok(TableManifest { id, name, key_type, value_type, rows: info.entries })
        });
        let tables = tables.collect::<Result<_>>()?;
        Ok(State { view, tables })
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }
}

impl Source for State {
    fn tables(&self) -> &[TableManifest] {
        &self.tables
    }

    fn rows(&self, table: u32) -> Result<Rows<'_>> {
        let ground = Ground { view: &self.view, txn: None, table, root: self.view.tree_root(table)? };
        let mut walk = Walk::new(ground, Direction::Forward, Bound::Unbounded)?;
        Ok(Box::new(std::iter::from_fn(move || {
            let step = walk.next().and_then(|row| match row {
                Some((key, found)) => Ok(Some((key, ground.read(found)?))),
                None => Ok(None),
            });
            step.transpose()
        })))
    }
}

/// The rows of a table as they pass by: in order, as many as there should be, told to the watch and the hash.
pub(super) fn counted<'r, 's: 'r>(
    table: &'r TableManifest,
    rows: Rows<'s>,
    hash: &'r mut ContentHash,
    watch: &'r mut Watch<'_>,
) -> impl Iterator<Item = Result<Row<'s>>> + 'r {
    hash.table(table.name.as_bytes(), &table.key_type, &table.value_type);
    let (mut rows, mut last, mut count) = (rows, None::<Bytes<'s>>, 0_u64);
    std::iter::from_fn(move || match rows.next() {
        Some(Ok((key, value))) => {
            if last.as_ref().is_some_and(|last| **last >= *key) {
                return Some(Err(wrong_rows(table, "keys that ascend", "a key below the one before it".to_owned())));
            }
            count += 1;
            hash.row(&key, &value);
            last = Some(key.clone());
            Some(watch.row(key.len() + value.len()).map(|()| (key, value)))
        }
        None if count != table.rows => {
            let found = format!("{count} rows");
            count = table.rows;
            Some(Err(wrong_rows(table, &format!("{} rows", table.rows), found)))
        }
        other => other,
    })
}

fn wrong_rows(table: &TableManifest, expected: &str, found: String) -> Error {
    Error::corrupt("table", 0, None, format!("{expected} in table {:?}", table.name), found)
}

/// Copies a state into a store that is being built. Gives the hash of its content.
///
/// Reading and hashing take about as long as building, so each may have a thread; `cores` tells how many of the machine's
/// cores it takes for that, so that a backup leaves some to those who work on the store meanwhile.
pub(super) fn copy(
    source: &dyn Source,
    builder: &mut StoreBuilder,
    cores: usize,
    watch: &mut Watch<'_>,
) -> Result<[u8; 32]> {
    let alone = std::thread::available_parallelism().is_ok_and(|there| there.get() < cores);
    watch.expect(source.tables().iter().fold(0, |sum, table| sum.saturating_add(table.rows)));
    let mut hash = ContentHash::new();
    for table in source.tables() {
        let mut rows = counted(table, source.rows(table.id)?, &mut hash, watch);
        if alone || table.rows < SMALL_TABLE {
            builder.table(table, rows)?;
            continue;
        }
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(BATCHES);
            let building = scope.spawn(|| builder.table(table, receiver.into_iter().flat_map(each_row)));
            // If nobody takes a batch any more, building has failed, and tells why.
            while let Some(batch) = next_batch(&mut rows)
                && sender.send(batch).is_ok()
            {}
            drop(sender);
            building.join().unwrap_or_else(|_| Err(Error::Internal("building a table panicked".to_owned())))
        })?;
    }
    Ok(hash.finish())
}

/// Some rows, and the error that ended them.
type Batch<'s> = (Vec<Row<'s>>, Option<Error>);

/// The next rows, as many as are worth handing on together; none at the end.
fn next_batch<'s>(rows: &mut impl Iterator<Item = Result<Row<'s>>>) -> Option<Batch<'s>> {
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH_BYTES / (2 * ROW_BYTES)), 0);
    while bytes < BATCH_BYTES {
        match rows.next() {
            Some(Ok((key, value))) => {
                bytes += ROW_BYTES + key.len() + value.len();
                batch.push((key, value));
            }
            Some(Err(error)) => return Some((batch, Some(error))),
            None if batch.is_empty() => return None,
            None => break,
        }
    }
    Some((batch, None))
}

fn each_row((rows, error): Batch<'_>) -> impl Iterator<Item = Result<Row<'_>>> {
    rows.into_iter().map(Ok).chain(error.map(Err))
}
