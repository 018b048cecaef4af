//! A backup with transactions of an archive on top of it, read as one state.
//!
//! What the transactions have put and deleted in the end lies in a store beside the new one, as long as that is built: so
//! memory does not grow with them.

use crate::disk::format::{DEFAULT_PAGE_SIZE, FIRST_USER_TABLE, SETTING_USER_VERSION, TABLE_NAMES, TABLE_SETTINGS};
use crate::disk::host::random;
use crate::engine::archive::KeptChange;
use crate::engine::commit::Durability;
use crate::engine::open::create;
use crate::engine::table_row::TableEntry;
use crate::error::{CorruptionKind, Error, Result};
use crate::txn::versions::version_in;
use crate::{Options, Snapshot, Store, WriteOptions, WriteTxn};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::chain::Chain;
use super::manifest::{Manifest, TableManifest};
use super::moment::Stretch;
use super::options::Watch;
use super::place::Temporary;
use super::rows::{Rows, Source};

/// So many bytes of changes are handed to the scratch store at once.
const BATCH_BYTES: usize = 8 << 20;

/// A store under a name of its own beside the new one, which goes when it was read.
struct Scratch {
    // Given back before its file goes.
    store: Store,
    _file: Temporary,
}

impl Scratch {
    fn create(target: &Path) -> Result<Scratch> {
        let file = Temporary::create(target)?;
        create(&file.disk()?, DEFAULT_PAGE_SIZE, random(target)?)?;
        Ok(Scratch { store: Options::new().single_process(true).open(file.path())?, _file: file })
    }
}

/// The name of the scratch table with what was put into a table, and of that with what was deleted from it.
fn puts(table: u32) -> String {
    format!("put {table}")
}

fn deletes(table: u32) -> String {
    format!("deleted {table}")
}

/// A state of a chain, and what was changed since.
pub(super) struct Replayed {
    chain: Chain,
    changed: BTreeSet<u32>,
    manifest: Manifest,
    // Given back before its store goes.
    snapshot: Snapshot,
    _scratch: Scratch,
}

/// What the transactions have done so far.
struct Replaying<'s> {
    store: &'s Store,
    /// By name.
    tables: BTreeMap<String, TableManifest>,
    next_table: u32,
    user_version: u64,
    changed: BTreeSet<u32>,
    /// Not yet in the scratch store.
    waiting: BTreeMap<u32, Waiting>,
    bytes: usize,
}

#[derive(Default)]
struct Waiting {
    /// All that was there before is gone.
    dropped: bool,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Replayed {
    pub(super) fn new(chain: Chain, stretch: &Stretch, target: &Path, watch: &mut Watch<'_>) -> Result<Replayed> {
        let scratch = Scratch::create(target)?;
        let base = chain.manifest().clone();
        let mut replaying = Replaying {
            store: &scratch.store,
            tables: base.tables.iter().map(|table| (table.name.clone(), table.clone())).collect(),
            next_table: base.next_table,
            user_version: base.user_version,
            changed: BTreeSet::new(),
            waiting: BTreeMap::new(),
            bytes: 0,
        };
        stretch.read(base.lsn, &mut |_, table, change| replaying.take(table, change, watch))?;
        replaying.hand_over()?;
        let Replaying { tables, next_table, user_version, changed, .. } = replaying;
        let (lsn, time_us) = stretch.last;
        let tables = tables.into_values().collect();
        let manifest = Manifest { lsn, time_us, tables, next_table, user_version, content_hash: None, ..base };
        let snapshot = Store::read(&scratch.store)?;
        let mut replayed = Replayed { chain, changed, manifest, snapshot, _scratch: scratch };
        replayed.count()?;
        Ok(replayed)
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many rows the changed tables have now.
    fn count(&mut self) -> Result<()> {
        let mut tables = std::mem::take(&mut self.manifest.tables);
        for table in tables.iter_mut().filter(|table| self.changed.contains(&table.id)) {
            table.rows = self.rows(table.id)?.try_fold(0, |count: u64, row| row.map(|_| count + 1))?;
        }
        self.manifest.tables = tables;
        Ok(())
    }
}

impl Replaying<'_> {
    fn take(&mut self, table: u32, change: KeptChange<'_>, watch: &mut Watch<'_>) -> Result<()> {
        if table == TABLE_NAMES {
            return self.name(change);
        }
        if table == TABLE_SETTINGS {
            match change {
                KeptChange::Put { key: SETTING_USER_VERSION, value } => self.user_version = version_in(Some(value))?,
                KeptChange::Delete { key: SETTING_USER_VERSION } => self.user_version = 0,
                _ => {}
            }
            return Ok(());
        }
        if table < FIRST_USER_TABLE {
            return Ok(());
        }
        self.next_table = self.next_table.max(table.saturating_add(1));
        self.changed.insert(table);
        let waiting = self.waiting.entry(table).or_default();
        match change {
            KeptChange::Put { key, value } => {
                self.bytes += key.len() + value.len();
                waiting.rows.insert(key.to_vec(), Some(value.to_vec()));
            }
            KeptChange::Delete { key } => {
                self.bytes += key.len();
                waiting.rows.insert(key.to_vec(), None);
            }
            KeptChange::Drop => *waiting = Waiting { dropped: true, rows: BTreeMap::new() },
        }
        self.bytes += 100;
        if self.bytes >= BATCH_BYTES {
            watch.tell()?;
            self.hand_over()?;
        }
        Ok(())
    }

    fn name(&mut self, change: KeptChange<'_>) -> Result<()> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        match change {
            KeptChange::Put { key, value } => {
                let entry =
                    TableEntry::decode(value).filter(|entry| entry.id >= FIRST_USER_TABLE).ok_or_else(|| {
                        Error::corrupt(CorruptionKind::Archive, 0, None, "a row of the names table", "something else")
                    })?;
                self.next_table = self.next_table.max(entry.id.saturating_add(1));
                // Its rows are counted later, if any is changed; as many as it had under another name otherwise.
                let rows = self.tables.values().find(|table| table.id == entry.id).map_or(0, |table| table.rows);
                let (id, name) = (entry.id, text(key));
                entry.check_flags(&name)?;
                let table = TableManifest {
                    id,
                    name: name.clone(),
                    key_type: entry.key_type.into(),
                    value_type: entry.value_type.into(),
                    rows,
                    schema: entry.schema.into(),
                    schema_version: entry.schema_version,
                    flags: entry.flags,
                };
                self.changed.insert(id);
                self.tables.insert(name, table);
            }
            KeptChange::Delete { key } => _ = self.tables.remove(&text(key)),
            KeptChange::Drop => {}
        }
        Ok(())
    }

    /// Puts what waits into the scratch store.
    fn hand_over(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let options = WriteOptions::new().durability(Durability::Relaxed);
        self.store.write_with(options, |tx| waiting.iter().try_for_each(|(table, waiting)| put(tx, *table, waiting)))
    }
}

fn put(tx: &WriteTxn, table: u32, waiting: &Waiting) -> Result<()> {
    if waiting.dropped {
        tx.drop_table(puts(table))?;
        tx.drop_table(deletes(table))?;
    }
    let (put, deleted) = (tx.raw(&puts(table))?, tx.raw(&deletes(table))?);
    for (key, value) in &waiting.rows {
        match value {
            Some(value) => {
                put.put(key, value)?;
                deleted.remove(key)?;
            }
            None => {
                put.remove(key)?;
                deleted.put(key, &[])?;
            }
        }
    }
    Ok(())
}

impl Source for Replayed {
    fn tables(&self) -> &[TableManifest] {
        &self.manifest.tables
    }

    fn rows(&self, table: u32) -> Result<Rows<'_>> {
        let base = self.chain.rows(table)?;
        if !self.changed.contains(&table) {
            return Ok(base);
        }
        let put = self.snapshot.raw(&puts(table))?.range(..)?;
        let deleted = self.snapshot.raw(&deletes(table))?;
        let base = base.filter_map(move |row| match row.and_then(|row| Ok((deleted.get(&row.0)?.is_some(), row))) {
            Ok((is_deleted, row)) => (!is_deleted).then_some(Ok(row)),
            Err(error) => Some(Err(error)),
        });
        let (mut base, mut put) = (base.peekable(), put.peekable());
        Ok(Box::new(std::iter::from_fn(move || match (base.peek(), put.peek()) {
            (Some(Ok((old, _))), Some(Ok((new, _)))) => match (**old).cmp(&**new) {
                Ordering::Less => base.next(),
                Ordering::Equal => base.next().and_then(|_| put.next()),
                Ordering::Greater => put.next(),
            },
            (Some(Err(_)), _) | (_, None) => base.next(),
            (_, Some(_)) => put.next(),
        })))
    }
}
