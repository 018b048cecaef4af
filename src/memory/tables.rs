//! The tables of the layer, and all of its access to the store.

use crate::memory::error::{MemoryError, Result};
use crate::{Bytes, Error, RawRange, RawTable, RawTableMut, Snapshot, WriteTxn};
use std::cell::{Cell, OnceCell};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of a namespace.
pub(super) type Number = u32;

/// Where the rows of an item are: its namespace, and its number there. Numbers ascend in the order of creation, and
/// are not used again while the namespace exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) namespace: Number,
    pub(super) number: u32,
}

/// A table. The comments give keys and values; numbers are big-endian in keys, so that keys have their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Table {
    /// Nothing → what is declared ([`Settings`](super::settings::Settings)); `n` → the next namespace's number.
    Settings,
    /// Path → what the namespace holds ([`NamespaceRow`](super::rows::NamespaceRow)).
    Namespaces,
    /// Number of a namespace → path.
    Numbers,
    /// Place → item ([`Row`](super::rows::Row)).
    Items,
    /// Place → the terms of its text ([`Text`](super::text::Text)).
    Texts,
    /// Id → place.
    Ids,
    /// Namespace, first half of the content's hash, number → nothing.
    Hashes,
    /// Namespace, 0 (created) or 1 (updated), time, number → nothing.
    Times,
    /// Namespace, tag, 0, number → nothing.
    Tags,
    /// Namespace, field, value, number → nothing.
    Fields,
    /// Time of expiry, place → nothing.
    Expiries,
    /// Namespace, term, 0, block of numbers → which items have it ([`postings`](super::postings)).
    Words,
    /// Space, place → vector.
    Vectors,
    /// Space, namespace, block of numbers → vectors ([`vector_rows`](super::vector_rows)).
    Blocks,
    /// Path → quotas and rate ([`Limits`](super::limits::Limits)).
    Limits,
    /// Path → the state of its token bucket.
    Buckets,
    /// Path, 0 → how many permits it has; path, 0, end of the lease, permit → nothing ([`permits`](super::permits)).
    Permits,
    /// Nothing → layout and next number ([`jobs`](super::jobs), as all that follow).
    JobHead,
    /// Name of a queue → its number, and where to begin to look in it.
    JobQueues,
    /// Number of a lane → queue, namespace, counters, and which of its jobs are first.
    JobLanes,
    /// Number of a queue, path → number of the lane.
    JobLaneNumbers,
    /// Queue, 0, turn, lane → nothing; queue, 1, time at which a job is due, lane → nothing.
    JobAgenda,
    /// Number of a job → what is known of it.
    Jobs,
    /// Number of a job → payload.
    JobPayloads,
    /// Lane, class, place → number of the job.
    JobsWaiting,
    /// Lane, time at which it is due, number of the job → nothing.
    JobsDelayed,
    /// Queue, end of the lease, number of the job → nothing.
    JobLeases,
    /// Lane, key → number of the job.
    JobKeys,
    /// Until when it is kept, number of the job → nothing.
    JobsEnded,
    /// Lane, number of the job → nothing.
    JobsDead,
    /// Path → how many jobs count for its quota ([`job_counts`](super::job_counts)).
    JobCounts,
}

pub(super) const TABLES: [Table; 31] = [
    Table::Settings,
    Table::Namespaces,
    Table::Numbers,
    Table::Items,
    Table::Texts,
    Table::Ids,
    Table::Hashes,
    Table::Times,
    Table::Tags,
    Table::Fields,
    Table::Expiries,
    Table::Words,
    Table::Vectors,
    Table::Blocks,
    Table::Limits,
    Table::Buckets,
    Table::Permits,
    Table::JobHead,
    Table::JobQueues,
    Table::JobLanes,
    Table::JobLaneNumbers,
    Table::JobAgenda,
    Table::Jobs,
    Table::JobPayloads,
    Table::JobsWaiting,
    Table::JobsDelayed,
    Table::JobLeases,
    Table::JobKeys,
    Table::JobsEnded,
    Table::JobsDead,
    Table::JobCounts,
];

impl Table {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Table::Settings => "memory.settings",
            Table::Namespaces => "memory.namespaces",
            Table::Numbers => "memory.numbers",
            Table::Items => "memory.items",
            Table::Texts => "memory.texts",
            Table::Ids => "memory.ids",
            Table::Hashes => "memory.hashes",
            Table::Times => "memory.times",
            Table::Tags => "memory.tags",
            Table::Fields => "memory.fields",
            Table::Expiries => "memory.expiries",
            Table::Words => "memory.words",
            Table::Vectors => "memory.vectors",
            Table::Blocks => "memory.vector_blocks",
            Table::Limits => "memory.limits",
            Table::Buckets => "memory.buckets",
            Table::Permits => "memory.permits",
            Table::JobHead => "jobs.head",
            Table::JobQueues => "jobs.queues",
            Table::JobLanes => "jobs.lanes",
            Table::JobLaneNumbers => "jobs.lane_numbers",
            Table::JobAgenda => "jobs.agenda",
            Table::Jobs => "jobs.jobs",
            Table::JobPayloads => "jobs.payloads",
            Table::JobsWaiting => "jobs.waiting",
            Table::JobsDelayed => "jobs.delayed",
            Table::JobLeases => "jobs.leases",
            Table::JobKeys => "jobs.keys",
            Table::JobsEnded => "jobs.ended",
            Table::JobsDead => "jobs.dead",
            Table::JobCounts => "jobs.counts",
        }
    }

    /// The error for a row that is not what it should be.
    pub(super) fn damaged(self, key: &[u8], reason: impl Into<String>) -> MemoryError {
        MemoryError::Damaged { table: self.name(), key: key.escape_ascii().to_string(), reason: reason.into() }
    }
}

/// How many rows were read and written.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) read: AtomicU64,
    pub(super) written: AtomicU64,
}

/// One table each, opened when it is first used.
struct Opened<T>([OnceCell<T>; TABLES.len()]);

impl<T> Opened<T> {
    fn new() -> Opened<T> {
        Opened(std::array::from_fn(|_| OnceCell::new()))
    }

    fn get(&self, table: Table, open: impl FnOnce(&str) -> crate::Result<T>) -> Result<&T> {
        let cell = self.0.get(table as usize).ok_or_else(|| Error::Internal(format!("no table {table:?}")))?;
        match cell.get() {
            Some(opened) => Ok(opened),
            None => {
                let opened = open(table.name())?;
                Ok(cell.get_or_init(|| opened))
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Source<'s> {
    Snapshot(&'s Snapshot),
    Txn(&'s WriteTxn),
}

/// A table in either.
enum Readable<'s> {
    Snapshot(RawTable<'s>),
    Txn(RawTable<'s, WriteTxn>),
}

/// A range of one.
enum Range<'s> {
    Snapshot(RawRange<'s>),
    Txn(RawRange<'s, WriteTxn>),
}

/// Asks a table, or a range, in whichever of the two it is.
macro_rules! in_either {
    ($kind:ident, $readable:expr, $name:ident => $ask:expr) => {
        match $readable {
            $kind::Snapshot($name) => $ask,
            $kind::Txn($name) => $ask,
        }
    };
}

/// The tables as a snapshot or a write transaction sees them.
pub(super) struct Reader<'s> {
    source: Source<'s>,
    tables: Opened<Readable<'s>>,
    counters: &'s Counters,
    read: Cell<u64>,
}

impl<'s> Reader<'s> {
    pub(super) fn of_snapshot(snapshot: &'s Snapshot, counters: &'s Counters) -> Reader<'s> {
        Reader { source: Source::Snapshot(snapshot), tables: Opened::new(), counters, read: Cell::new(0) }
    }

    fn table(&self, table: Table) -> Result<&Readable<'s>> {
        self.tables.get(table, |name| match self.source {
            Source::Snapshot(snapshot) => snapshot.raw(name).map(Readable::Snapshot),
            Source::Txn(tx) => tx.read_raw(name).map(Readable::Txn),
        })
    }

    /// How many rows this reader has read.
    pub(super) fn rows_read(&self) -> u64 {
        self.read.get()
    }

    fn note_read(&self) {
        self.read.set(self.read.get() + 1);
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes<'s>>> {
        self.note_read();
        Ok(in_either!(Readable, self.table(table)?, table => table.get(key))?)
    }

    pub(super) fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        self.note_read();
        Ok(in_either!(Readable, self.table(table)?, table => table.contains(key))?)
    }

    /// The number of rows; it takes time.
    pub(super) fn len(&self, table: Table) -> Result<u64> {
        Ok(in_either!(Readable, self.table(table)?, table => table.len())?)
    }

    /// The number of rows in a range, without reading them.
    pub(super) fn count(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<u64> {
        self.note_read();
        Ok(in_either!(Readable, self.table(table)?, table => table.count((from, to)))?)
    }

    pub(super) fn range(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Rows<'s, '_>> {
        let rows = match self.table(table)? {
            Readable::Snapshot(table) => Range::Snapshot(table.range((from, to))?),
            Readable::Txn(table) => Range::Txn(table.range((from, to))?),
        };
        Ok(Rows { rows, reader: self })
    }

    pub(super) fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Rows<'s, '_>> {
        let rows = match self.table(table)? {
            Readable::Snapshot(table) => Range::Snapshot(table.prefix(prefix)?),
            Readable::Txn(table) => Range::Txn(table.prefix(prefix)?),
        };
        Ok(Rows { rows, reader: self })
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.counters.read.fetch_add(self.read.get(), Ordering::Relaxed);
    }
}

/// Rows of a table in key order.
pub(super) struct Rows<'s, 'r> {
    rows: Range<'s>,
    reader: &'r Reader<'s>,
}

impl<'s> Iterator for Rows<'s, '_> {
    type Item = Result<(Bytes<'s>, Bytes<'s>)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let row = in_either!(Range, &mut self.rows, rows => rows.next())?;
        self.reader.note_read();
        Some(row.map_err(Into::into))
    }
}

impl DoubleEndedIterator for Rows<'_, '_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = in_either!(Range, &mut self.rows, rows => rows.next_back())?;
        self.reader.note_read();
        Some(row.map_err(Into::into))
    }
}

/// The tables in a write transaction: it reads its own changes.
pub(super) struct Writer<'t> {
    pub(super) reader: Reader<'t>,
    tx: &'t WriteTxn,
    tables: Opened<RawTableMut<'t>>,
}

impl<'t> Writer<'t> {
    pub(super) fn new(tx: &'t WriteTxn, counters: &'t Counters) -> Writer<'t> {
        let reader = Reader { source: Source::Txn(tx), tables: Opened::new(), counters, read: Cell::new(0) };
        Writer { reader, tx, tables: Opened::new() }
    }

    fn table(&self, table: Table) -> Result<&RawTableMut<'t>> {
        self.reader.counters.written.fetch_add(1, Ordering::Relaxed);
        self.tables.get(table, |name| self.tx.raw(name))
    }

    pub(super) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.table(table)?.put(key, value)?)
    }

    pub(super) fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        Ok(self.table(table)?.delete(key)?)
    }

    /// Removes all rows of a table.
    pub(super) fn clear(&self, table: Table) -> Result<()> {
        Ok(self.table(table)?.clear()?)
    }
}

impl Place {
    pub(super) fn key(self) -> [u8; 8] {
        (u64::from(self.namespace) << 32 | u64::from(self.number)).to_be_bytes()
    }

    /// The place whose bytes a key or value ends with.
    pub(super) fn at_end(bytes: &[u8]) -> Option<Place> {
        let number = bytes.last_chunk()?;
        let namespace = bytes.get(..bytes.len() - 4)?.last_chunk()?;
        Some(Place { namespace: u32::from_be_bytes(*namespace), number: u32::from_be_bytes(*number) })
    }
}

/// The number that a key ends with.
pub(super) fn last_number(key: &[u8]) -> u32 {
    key.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// A key from its parts.
pub(super) fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
