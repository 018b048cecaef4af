//! Where the rows of a backup come from: a state of a store.

use crate::bytes::Bytes;
use crate::direction::Direction;
use crate::disk::format::TABLE_NAMES;
use crate::engine::merge::{MergeCursor, TableSource};
use crate::engine::stats::TableInfo;
use crate::engine::view::View;
use crate::error::{CorruptionKind, Error, Result};
use crate::maintain::content::ContentHash;
use crate::tree::bulk::FullLeaf;
use crate::txn::catalog::list_tables;
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
/// What a part of a table takes beside its keys and values.
const ITEM_BYTES: usize = size_of::<Item<'_>>();

/// Key and value.
pub(super) type Row<'s> = (Bytes<'s>, Bytes<'s>);
/// The rows of a table, in key order.
pub(super) type Rows<'s> = Box<dyn Iterator<Item = Result<Row<'s>>> + 's>;

/// The next part of a table: a row, or as many as a leaf of the tree is full of.
pub(super) enum Item<'s> {
    Row(Row<'s>),
    Leaf(FullLeaf<'s>),
}

/// The parts of a table, in key order.
pub(super) type Items<'s> = Box<dyn Iterator<Item = Result<Item<'s>>> + 's>;

/// A state that can be read table by table.
pub(super) trait Source {
    /// Its tables, in the order of their names.
    fn tables(&self) -> &[TableManifest];
    /// The rows of a table; none if there is no such table.
    fn rows(&self, table: u32) -> Result<Rows<'_>>;
    /// The same rows, leaves that are full of them as a whole.
    fn items(&self, table: u32) -> Result<Items<'_>> {
        Ok(Box::new(self.rows(table)?.map(|row| row.map(Item::Row))))
    }
}

/// The state that a snapshot shows.
pub(super) struct State {
    view: View,
    tables: Vec<TableManifest>,
}

impl State {
    pub(super) fn new(view: View) -> Result<State> {
        let names = TableSource::committed(&view, TABLE_NAMES)?;
        let tables = list_tables(names)?.into_iter().map(|info| {
            let id = view.table(&info.name)?.map(|entry| entry.id);
            let id = id.ok_or_else(|| Error::Internal("a table that is listed is not there".to_owned()))?;
            let TableInfo { name, key_type, value_type, entries, schema, schema_version, flags, .. } = info;
            Ok(TableManifest { id, name, key_type, value_type, rows: entries, schema, schema_version, flags })
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
        let (ground, mut walk) = self.walk(table)?;
        Ok(Box::new(std::iter::from_fn(move || next_row(&ground, &mut walk).transpose())))
    }

    fn items(&self, table: u32) -> Result<Items<'_>> {
        let (ground, mut walk) = self.walk(table)?;
        let page_size = self.view.tree.pages.page_size();
        Ok(Box::new(std::iter::from_fn(move || next_item(&ground, &mut walk, page_size).transpose())))
    }
}

impl State {
    /// Whether there is such a table.
    pub(super) fn has(&self, table: u32) -> bool {
        self.tables.iter().any(|known| known.id == table)
    }

    fn walk(&self, table: u32) -> Result<(TableSource<'_>, MergeCursor<'_>)> {
        let ground = TableSource::committed(&self.view, table)?;
        Ok((ground, MergeCursor::new(ground, Direction::Forward, Bound::Unbounded)?))
    }
}

fn next_row<'s>(ground: &TableSource<'s>, walk: &mut MergeCursor<'s>) -> Result<Option<Row<'s>>> {
    match walk.next()? {
        Some((key, found)) => Ok(Some((key, ground.read(found)?))),
        None => Ok(None),
    }
}

fn next_item<'s>(ground: &TableSource<'s>, walk: &mut MergeCursor<'s>, page_size: u32) -> Result<Option<Item<'s>>> {
    if let Some(leaf) = walk.leaf_ahead()?
        && let Some(full) = FullLeaf::of(leaf, page_size)?
    {
        walk.skip_leaf()?;
        return Ok(Some(Item::Leaf(full)));
    }
    Ok(next_row(ground, walk)?.map(Item::Row))
}

/// The rows of a table as they pass by: in order, as many as there should be, told to the watch and the hash.
pub(super) fn counted<'r, 's: 'r>(
    table: &'r TableManifest,
    items: Items<'s>,
    hash: &'r mut ContentHash,
    watch: &'r mut Watch<'_>,
) -> impl Iterator<Item = Result<Item<'s>>> + 'r {
    hash.table(table.name.as_bytes(), &table.key_type, &table.value_type);
    let (mut items, mut last, mut count) = (items, None::<Vec<u8>>, 0_u64);
    std::iter::from_fn(move || match items.next() {
        Some(Ok(item)) => {
            let rows = match tell(&item, &mut last, hash) {
                Ok(Some(rows)) => rows,
                Ok(None) => {
                    let found = "a key below the one before it".to_owned();
                    return Some(Err(wrong_rows(table, "keys that ascend", found)));
                }
                Err(error) => return Some(Err(error)),
            };
            count += rows.0;
            Some(watch.rows(rows.0, rows.1).map(|()| item))
        }
        None if count != table.rows => {
            let found = format!("{count} rows");
            count = table.rows;
            Some(Err(wrong_rows(table, &format!("{} rows", table.rows), found)))
        }
        other => other,
    })
}

/// Tells the hash of some rows that follow the key `last`: how many they are, and the bytes of their keys and values.
/// `None` if their keys do not ascend.
fn tell(item: &Item<'_>, last: &mut Option<Vec<u8>>, hash: &mut ContentHash) -> Result<Option<(u64, usize)>> {
    let (mut ascend, mut rows, mut bytes) = (true, 0, 0);
    let mut row = |key: &[u8], value: &[u8]| {
        ascend &= last.as_deref().is_none_or(|last| last < key);
        let place = last.get_or_insert_default();
        place.clear();
        place.extend_from_slice(key);
        hash.row(key, value);
        (rows, bytes) = (rows + 1, bytes + key.len() + value.len());
        Ok(())
    };
    match item {
        Item::Row((key, value)) => row(key, value)?,
        Item::Leaf(leaf) => leaf.rows(row)?,
    }
    Ok(ascend.then_some((rows, bytes)))
}

fn wrong_rows(table: &TableManifest, expected: &str, found: String) -> Error {
    Error::corrupt(CorruptionKind::Rows, 0, None, format!("{expected} in table {:?}", table.name), found)
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
        let mut items = counted(table, source.items(table.id)?, &mut hash, watch);
        if alone || table.rows < SMALL_TABLE {
            builder.table(table, items)?;
            continue;
        }
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(BATCHES);
            let building = scope.spawn(|| builder.table(table, receiver.into_iter().flat_map(each_item)));
            // If nobody takes a batch any more, building has failed, and tells why.
            while let Some(batch) = next_batch(&mut items)
                && sender.send(batch).is_ok()
            {}
            drop(sender);
            building.join().unwrap_or_else(|_| Err(Error::Internal("building a table panicked".to_owned())))
        })?;
    }
    Ok(hash.finish())
}

/// Some parts of a table, and the error that ended them.
type Batch<'s> = (Vec<Item<'s>>, Option<Error>);

/// The next parts, as many as are worth handing on together; none at the end.
fn next_batch<'s>(items: &mut impl Iterator<Item = Result<Item<'s>>>) -> Option<Batch<'s>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        match items.next() {
            Some(Ok(item)) => {
                bytes += ITEM_BYTES
                    + match &item {
                        Item::Row((key, value)) => key.len() + value.len(),
                        Item::Leaf(leaf) => leaf.size(),
                    };
                batch.push(item);
            }
            Some(Err(error)) => return Some((batch, Some(error))),
            None if batch.is_empty() => return None,
            None => break,
        }
    }
    Some((batch, None))
}

fn each_item((items, error): Batch<'_>) -> impl Iterator<Item = Result<Item<'_>>> {
    items.into_iter().map(Ok).chain(error.map(Err))
}
