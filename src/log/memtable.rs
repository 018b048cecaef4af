//! The memtable: an index in memory of the live log, by table and key, with many versions of each key.
//!
//! One memtable holds the frames between two checkpoint records. Entries are only added, never
//! removed, so readers need no lock; a snapshot skips versions newer than its own LSN. After a checkpoint has
//! applied a memtable to the tree, it is dropped as a whole.

use crate::bytes::Bytes;
use crate::change::{Change, OwnedChange};
use crate::disk::format::{Overflow, TABLE_NAMES};
use crate::log::filter::{Filter, head};
use crate::log::frame::{Operation, Operations};
use crate::log::reader::Frame;
use crossbeam_skiplist::SkipMap;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

/// What identifies and orders an entry. The newest version of a key comes first.
trait Place {
    fn parts(&self) -> (u32, u64, &[u8], u64);
}

fn compare(a: &dyn Place, b: &dyn Place) -> Ordering {
    let (a_table, a_head, a_key, a_lsn) = a.parts();
    let (b_table, b_head, b_key, b_lsn) = b.parts();
    // The head is the first eight bytes of the key: it decides most comparisons without following a pointer.
    (a_table, a_head).cmp(&(b_table, b_head)).then_with(|| a_key.cmp(b_key)).then_with(|| b_lsn.cmp(&a_lsn))
}

#[derive(Debug)]
struct Entry {
    table: u32,
    head: u64,
    lsn: u64,
    frame: Arc<[u8]>,
    key: (u32, u32),
}

impl Entry {
    fn key(&self) -> &[u8] {
        self.frame.get(self.key.0 as usize..self.key.1 as usize).unwrap_or_default()
    }
}

impl Place for Entry {
    fn parts(&self) -> (u32, u64, &[u8], u64) {
        (self.table, self.head, self.key(), self.lsn)
    }
}

struct Probe<'a> {
    table: u32,
    key: &'a [u8],
    lsn: u64,
}

impl Place for Probe<'_> {
    fn parts(&self) -> (u32, u64, &[u8], u64) {
        (self.table, head(self.key), self.key, self.lsn)
    }
}

impl<'a> Borrow<dyn Place + 'a> for Entry {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        compare(self, other).is_eq()
    }
}
impl Eq for dyn Place + '_ {}
impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other)
    }
}
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        compare(self, other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other)
    }
}

#[derive(Debug, Clone)]
enum Stored {
    Put(u32, u32),
    Overflow(Box<Overflow>),
    Delete,
}

/// A long value that the log points at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pointed {
    pub(crate) value: Overflow,
    /// The newest root when the frame was written. Snapshots of this root and of later ones may read the value.
    pub(crate) birth: u64,
}

/// One version of one key.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) key: Bytes<'static>,
    pub(crate) change: OwnedChange,
}

fn version(entry: &Entry, stored: &Stored) -> Version {
    let part = |(from, to): (u32, u32)| Bytes::shared(Arc::clone(&entry.frame), from as usize..to as usize);
    let change = match stored {
        Stored::Put(from, to) => Change::Put(part((*from, *to))),
        Stored::Overflow(overflow) => Change::PutOverflow(overflow.clone()),
        Stored::Delete => Change::Delete,
    };
    Version { key: part(entry.key), change }
}

/// A transaction of the log.
#[derive(Debug, Clone)]
pub(crate) struct LoggedFrame {
    pub(crate) lsn: u64,
    pub(crate) crc: u32,
    pub(crate) payload: Bytes<'static>,
}

/// The frames between two checkpoint records.
#[derive(Debug)]
pub(crate) struct Memtable {
    map: SkipMap<Entry, Stored>,
    /// Every frame in this memtable has a higher LSN.
    after: u64,
    bytes: AtomicUsize,
    filter: Filter,
    /// The long values that versions in this memtable point at.
    long: RwLock<Vec<Pointed>>,
    dropped: RwLock<BTreeSet<u32>>,
    tables: RwLock<BTreeSet<u32>>,
    /// The LSN, which ascends, the CRC and the payload of each frame of a transaction.
    frames: RwLock<Vec<LoggedFrame>>,
}

impl Memtable {
    pub(crate) fn new(after: u64) -> Memtable {
        Memtable {
            map: SkipMap::new(),
            after,
            bytes: AtomicUsize::new(0),
            filter: Filter::default(),
            long: RwLock::default(),
            dropped: RwLock::default(),
            tables: RwLock::default(),
            frames: RwLock::default(),
        }
    }

    /// Every frame in this memtable has a higher LSN than this.
    pub(crate) fn after(&self) -> u64 {
        self.after
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.load(Relaxed) == 0
    }

    /// Bytes of frames kept in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Adds a frame. (Only one thread at a time reads the log.) Returns `false` if its payload is invalid, which its CRC makes all but impossible.
    pub(crate) fn insert(&self, frame: &Frame) -> bool {
        let payload = frame.payload();
        let (base, birth) = (payload.start, frame.header.root_sequence);
        let Some(bytes) = frame.bytes.get(payload.clone()) else { return false };
        let place = |range: std::ops::Range<usize>| -> (u32, u32) {
            // A frame is far smaller than 4 GiB: its length is a u32 in its header.
            (u32::try_from(base + range.start).unwrap_or(0), u32::try_from(base + range.end).unwrap_or(0))
        };
        for operation in Operations::new(bytes) {
            let (table, key, stored) = match operation {
                Some(Operation::Put { table, key, value }) => {
                    let (from, to) = place(value);
                    (table, key, Stored::Put(from, to))
                }
                Some(Operation::PutOverflow { table, key, value }) => {
                    self.long.write().unwrap_or_else(|e| e.into_inner()).push(Pointed { value: *value, birth });
                    (table, key, Stored::Overflow(value))
                }
                Some(Operation::Delete { table, key }) => (table, key, Stored::Delete),
                Some(Operation::DropTable { table }) => {
                    self.dropped.write().unwrap_or_else(|e| e.into_inner()).insert(table);
                    self.bytes.fetch_add(1, Relaxed);
                    continue;
                }
                None => return false,
            };
            let known = self.tables.read().unwrap_or_else(|e| e.into_inner()).contains(&table);
            if !known {
                self.tables.write().unwrap_or_else(|e| e.into_inner()).insert(table);
            }
            let head = head(bytes.get(key.clone()).unwrap_or_default());
            let others = |add: &mut dyn FnMut(u32, &[u8])| {
                self.map.iter().for_each(|entry| add(entry.key().table, entry.key().key()));
            };
            self.filter.add(table, bytes.get(key.clone()).unwrap_or_default(), others);
            let entry = Entry { table, head, lsn: frame.header.lsn, frame: Arc::clone(&frame.bytes), key: place(key) };
            self.map.insert(entry, stored);
        }
        let payload = Bytes::shared(Arc::clone(&frame.bytes), payload);
        let logged = LoggedFrame { lsn: frame.header.lsn, crc: frame.after.crc, payload };
        self.frames.write().unwrap_or_else(|e| e.into_inner()).push(logged);
        self.bytes.fetch_add(frame.bytes.len() + 100 * frame.header.operations as usize, Relaxed);
        true
    }

    /// Whether any frame changed the table.
    pub(crate) fn touches(&self, table: u32) -> bool {
        !self.is_empty() && self.tables.read().unwrap_or_else(|e| e.into_inner()).contains(&table)
    }

    /// The tables changed, and the tables dropped.
    pub(crate) fn touched_tables(&self) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let tables = self.tables.read().unwrap_or_else(|e| e.into_inner()).clone();
        (tables, self.dropped.read().unwrap_or_else(|e| e.into_inner()).clone())
    }

    /// Whether the set of tables was changed.
    pub(crate) fn renames(&self) -> bool {
        self.touches(TABLE_NAMES)
    }

    /// The newest version of a key that is not newer than `lsn`.
    pub(crate) fn get(&self, table: u32, key: &[u8], lsn: u64) -> Option<OwnedChange> {
        if !self.filter.may_hold(table, key) {
            return None;
        }
        let probe = Probe { table, key, lsn };
        let found = self.map.lower_bound(Bound::<&dyn Place>::Included(&probe))?;
        let entry = found.key();
        (entry.table == table && entry.key() == key).then(|| version(entry, found.value()).change)
    }

    /// The first key at or after (`Included`) or after (`Excluded`) the bound, with its newest version not newer than
    /// `lsn`.
    pub(crate) fn next(&self, table: u32, from: Bound<&[u8]>, lsn: u64) -> Option<Version> {
        let mut at = match from {
            // LSNs descend within a key: `u64::MAX` comes before all versions of it, 0 after them.
            Bound::Included(key) => self.map.lower_bound(Bound::<&dyn Place>::Included(&Probe { table, key, lsn })),
            Bound::Excluded(key) => self.map.lower_bound(Bound::<&dyn Place>::Excluded(&Probe { table, key, lsn: 0 })),
            Bound::Unbounded => {
                self.map.lower_bound(Bound::<&dyn Place>::Included(&Probe { table, key: &[], lsn: u64::MAX }))
            }
        };
        while let Some(found) = at {
            let entry = found.key();
            if entry.table != table {
                return None;
            }
            if entry.lsn <= lsn {
                return Some(version(entry, found.value()));
            }
            at = found.next();
        }
        None
    }

    /// The last key at or before (`Included`) or before (`Excluded`) the bound, with its newest version not newer than
    /// `lsn`.
    pub(crate) fn previous(&self, table: u32, to: Bound<&[u8]>, lsn: u64) -> Option<Version> {
        let mut at = match to {
            Bound::Included(key) => self.map.upper_bound(Bound::<&dyn Place>::Included(&Probe { table, key, lsn: 0 })),
            Bound::Excluded(key) => {
                self.map.upper_bound(Bound::<&dyn Place>::Excluded(&Probe { table, key, lsn: u64::MAX }))
            }
            Bound::Unbounded => {
                let next = Probe { table: table.checked_add(1)?, key: &[], lsn: u64::MAX };
                self.map.upper_bound(Bound::<&dyn Place>::Excluded(&next))
            }
        };
        while let Some(found) = at {
            let entry = found.key();
            if entry.table != table {
                return None;
            }
            if entry.lsn <= lsn {
                // This is the oldest version of the last key with a visible version; the newest visible one is needed.
                let probe = Probe { table, key: entry.key(), lsn };
                let newest = self.map.lower_bound(Bound::<&dyn Place>::Included(&probe))?;
                return Some(version(newest.key(), newest.value()));
            }
            at = found.prev();
        }
        None
    }

    /// The keys of a table that frames after `after`, up to `lsn`, have changed.
    pub(crate) fn changed_between(&self, table: u32, after: u64, lsn: u64) -> Vec<Vec<u8>> {
        let frames = self.frames.read().unwrap_or_else(|e| e.into_inner());
        let first = frames.partition_point(|frame| frame.lsn <= after);
        let mut keys = Vec::new();
        for LoggedFrame { payload, .. } in frames.iter().skip(first).take_while(|frame| frame.lsn <= lsn) {
            keys.extend(Operations::new(payload).flatten().filter_map(|operation| match operation {
                Operation::Put { table: of, key, .. }
                | Operation::PutOverflow { table: of, key, .. }
                | Operation::Delete { table: of, key } => payload.get(key).filter(|_| of == table).map(<[u8]>::to_vec),
                Operation::DropTable { .. } => None,
            }));
        }
        keys
    }

    /// The transactions after `after`, up to `lsn`, in their order.
    pub(crate) fn transactions(&self, after: u64, lsn: u64) -> Vec<LoggedFrame> {
        let frames = self.frames.read().unwrap_or_else(|e| e.into_inner());
        let place = |lsn: u64| frames.partition_point(|frame| frame.lsn <= lsn);
        frames.get(place(after)..place(lsn)).unwrap_or_default().to_vec()
    }

    /// The newest version not newer than `lsn` of each key of a table, in key order.
    pub(crate) fn newest(&self, table: u32, lsn: u64) -> impl Iterator<Item = Version> + '_ {
        let probe = Probe { table, key: &[], lsn: u64::MAX };
        let mut at = self.map.lower_bound(Bound::<&dyn Place>::Included(&probe));
        let mut last: Option<Bytes<'static>> = None;
        std::iter::from_fn(move || {
            while let Some(found) = at.take() {
                at = found.next();
                let entry = found.key();
                if entry.table != table {
                    at = None;
                    return None;
                }
                if entry.lsn <= lsn && last.as_ref().is_none_or(|last| **last != *entry.key()) {
                    let version = version(entry, found.value());
                    last = Some(version.key.clone());
                    return Some(version);
                }
            }
            None
        })
    }

    /// Every long value that any version in this memtable points at.
    pub(crate) fn overflows(&self) -> Vec<Pointed> {
        self.long.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Bytes of all these long values.
    pub(crate) fn long_bytes(&self) -> u64 {
        let long = self.long.read().unwrap_or_else(|e| e.into_inner());
        long.iter().fold(0, |sum, pointed| sum.saturating_add(pointed.value.len))
    }
}
