//! The memtable: an index in memory of the live log, by table and key, with many versions of each key.
//!
//! One memtable holds the frames between two checkpoint records. Entries are only added, never
//! removed, so readers need no lock; a snapshot skips versions newer than its own LSN. After a checkpoint has
//! applied a memtable to the tree, it is dropped as a whole.

use crate::bytes::Bytes;
use crate::change::{Change, OwnedChange};
use crate::direction::Direction;
use crate::disk::format::{Overflow, TABLE_NAMES};
use crate::log::filter::{Filter, head};
use crate::log::frame::{Operation, Operations, Part};
use crate::log::reader::Frame;
use crossbeam_skiplist::{SkipMap, map};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

/// What identifies and orders an entry. The newest version of a key comes first.
trait Sorted {
    fn parts(&self) -> (u32, u64, &[u8], u64);
}

fn compare(a: &dyn Sorted, b: &dyn Sorted) -> Ordering {
    let (a_table, a_head, a_key, a_lsn) = a.parts();
    let (b_table, b_head, b_key, b_lsn) = b.parts();
    // The head is the first eight bytes of the key: it decides most comparisons without following a pointer.
    (a_table, a_head).cmp(&(b_table, b_head)).then_with(|| a_key.cmp(b_key)).then_with(|| b_lsn.cmp(&a_lsn))
}

#[derive(Debug)]
struct Version {
    table: u32,
    head: u64,
    lsn: u64,
    frame: Arc<[u8]>,
    key: Part,
}

impl Version {
    fn key(&self) -> &[u8] {
        self.key.of(&self.frame)
    }

    /// A part of its frame, which it shares.
    fn part(&self, part: Part) -> Bytes<'static> {
        Bytes::shared(Arc::clone(&self.frame), part.range())
    }
}

impl Sorted for Version {
    fn parts(&self) -> (u32, u64, &[u8], u64) {
        (self.table, self.head, self.key(), self.lsn)
    }
}

struct Probe<'a> {
    table: u32,
    head: u64,
    key: &'a [u8],
    lsn: u64,
}

impl<'a> Probe<'a> {
    fn new(table: u32, key: &'a [u8], lsn: u64) -> Probe<'a> {
        Probe { table, head: head(key), key, lsn }
    }
}

impl Sorted for Probe<'_> {
    fn parts(&self) -> (u32, u64, &[u8], u64) {
        (self.table, self.head, self.key, self.lsn)
    }
}

impl<'a> Borrow<dyn Sorted + 'a> for Version {
    fn borrow(&self) -> &(dyn Sorted + 'a) {
        self
    }
}

/// The map looks entries up by probes, so both have the same order.
macro_rules! ordered {
    ($($type:ty),+) => {
        $(
            impl PartialEq for $type {
                fn eq(&self, other: &Self) -> bool {
                    compare(self, other).is_eq()
                }
            }

            impl Eq for $type {}

            impl PartialOrd for $type {
                fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                    Some(self.cmp(other))
                }
            }

            impl Ord for $type {
                fn cmp(&self, other: &Self) -> Ordering {
                    compare(self, other)
                }
            }
        )+
    };
}

ordered! { dyn Sorted + '_, Version }

/// A long value that the log points at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pointed {
    pub(crate) value: Overflow,
    /// The newest root when the frame was written. Snapshots of this root and of later ones may read the value.
    pub(crate) birth: u64,
}

/// A frame of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct LoggedFrame {
    pub(crate) lsn: u64,
    pub(crate) crc: u32,
    pub(crate) bytes: Arc<[u8]>,
}

/// The frames between two checkpoint records.
#[derive(Debug)]
pub(crate) struct Memtable {
    map: SkipMap<Version, Change<Part>>,
    /// Every frame in this memtable has a higher LSN.
    after: u64,
    bytes: AtomicUsize,
    filter: Filter,
    /// The long values that versions in this memtable point at.
    long: RwLock<Vec<Pointed>>,
    dropped: RwLock<BTreeSet<u32>>,
    tables: RwLock<BTreeSet<u32>>,
    /// The frames of transactions; their LSNs ascend.
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

    /// Adds a frame. (Only one thread at a time reads the log.)
    pub(crate) fn insert(&self, frame: &Frame) {
        for operation in &frame.operations {
            let (table, key, change) = match operation {
                Operation::Change { table, key, change } => (*table, *key, change),
                Operation::DropTable { table } => {
                    self.dropped.write().unwrap_or_else(|e| e.into_inner()).insert(*table);
                    self.bytes.fetch_add(1, Relaxed);
                    continue;
                }
            };
            if let Change::PutOverflow(value) = change {
                let pointed = Pointed { value: **value, birth: frame.header.root_sequence };
                self.long.write().unwrap_or_else(|e| e.into_inner()).push(pointed);
            }
            let known = self.tables.read().unwrap_or_else(|e| e.into_inner()).contains(&table);
            if !known {
                self.tables.write().unwrap_or_else(|e| e.into_inner()).insert(table);
            }
            let entry = Version {
                table,
                head: head(key.of(&frame.bytes)),
                lsn: frame.header.lsn,
                frame: Arc::clone(&frame.bytes),
                key,
            };
            let others = |add: &mut dyn FnMut(u32, &[u8])| {
                self.map.iter().for_each(|entry| add(entry.key().table, entry.key().key()));
            };
            self.filter.add(table, entry.key(), others);
            self.map.insert(entry, change.clone());
        }
        let logged = LoggedFrame { lsn: frame.header.lsn, crc: frame.after.crc, bytes: Arc::clone(&frame.bytes) };
        self.frames.write().unwrap_or_else(|e| e.into_inner()).push(logged);
        self.bytes.fetch_add(frame.bytes.len() + 100 * frame.header.operations as usize, Relaxed);
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

    /// The first version at a probe or behind it.
    fn at_or_behind(&self, probe: &Probe<'_>) -> Option<At<'_>> {
        self.map.lower_bound(Bound::<&dyn Sorted>::Included(probe))
    }

    /// The last version at a probe or before it.
    fn at_or_before(&self, probe: &Probe<'_>) -> Option<At<'_>> {
        self.map.upper_bound(Bound::<&dyn Sorted>::Included(probe))
    }

    /// What the newest version of a key that is not newer than `lsn` does to it.
    pub(crate) fn get(&self, table: u32, key: &[u8], lsn: u64) -> Option<OwnedChange> {
        if !self.filter.may_hold(table, key) {
            return None;
        }
        let found = self.at_or_behind(&Probe::new(table, key, lsn))?;
        let entry = found.key();
        (entry.table == table && entry.key() == key).then(|| change_at(&found))
    }

    /// A walk over the keys of a table, with the newest version of each that is not newer than `lsn`. It starts when it
    /// is sent to a key.
    pub(crate) fn walk(&self, table: u32, lsn: u64, direction: Direction) -> Versions<'_> {
        Versions { memtable: self, table, lsn, direction, next: None }
    }

    /// The same from the first key on.
    pub(crate) fn versions(&self, table: u32, lsn: u64) -> Versions<'_> {
        let mut versions = self.walk(table, lsn, Direction::Forward);
        versions.seek(Bound::Unbounded);
        versions
    }

    /// The keys of a table that frames after `after`, up to `lsn`, have changed.
    pub(crate) fn changed_between(&self, table: u32, after: u64, lsn: u64) -> Vec<Vec<u8>> {
        let frames = self.frames.read().unwrap_or_else(|e| e.into_inner());
        let first = frames.partition_point(|frame| frame.lsn <= after);
        let mut keys = Vec::new();
        for LoggedFrame { bytes: frame, .. } in frames.iter().skip(first).take_while(|frame| frame.lsn <= lsn) {
            keys.extend(Operations::of(frame).flatten().filter_map(|operation| match operation {
                Operation::Change { table: of, key, .. } if of == table => Some(key.of(frame).to_vec()),
                _ => None,
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

/// A place in the map.
type At<'m> = map::Entry<'m, Version, Change<Part>>;

fn change_at(at: &At<'_>) -> OwnedChange {
    at.value().map(|value| at.key().part(*value))
}

/// A walk over the keys of a table in one direction, with the newest version of each that is not newer than an LSN.
pub(crate) struct Versions<'m> {
    memtable: &'m Memtable,
    table: u32,
    lsn: u64,
    direction: Direction,
    /// That version of the next key.
    next: Option<At<'m>>,
}

/// After so many versions that do not count, the next one that may is searched for.
const STEPS: usize = 8;

impl<'m> Versions<'m> {
    /// To the first key from a bound on.
    pub(crate) fn seek(&mut self, from: Bound<&[u8]>) {
        // LSNs descend within a key: `u64::MAX` comes before all versions of it, 0 behind them.
        let (before, behind) = (u64::MAX, 0);
        let (table, key, lsn) = match (from, self.direction) {
            (Bound::Included(key), Direction::Forward) => (self.table, key, before),
            (Bound::Excluded(key), Direction::Forward) => (self.table, key, behind),
            (Bound::Included(key), Direction::Backward) => (self.table, key, behind),
            (Bound::Excluded(key), Direction::Backward) => (self.table, key, before),
            (Bound::Unbounded, Direction::Forward) => (self.table, &[][..], before),
            (Bound::Unbounded, Direction::Backward) => (self.table.saturating_add(1), &[][..], before),
        };
        let probe = Probe::new(table, key, lsn);
        self.next = match self.direction {
            Direction::Forward => self.ahead(self.memtable.at_or_behind(&probe), None),
            Direction::Backward => self.back(self.memtable.at_or_before(&probe)),
        };
    }

    /// To the key after this one.
    pub(crate) fn advance(&mut self) {
        let Some(at) = self.next.take() else { return };
        let key = at.key().key();
        self.next = match self.direction {
            Direction::Forward => self.ahead(at.next(), Some(key)),
            Direction::Backward => self.back(self.memtable.at_or_before(&self.probe(key, u64::MAX))),
        };
    }

    /// The next key.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.next.as_ref().map(|at| at.key().key())
    }

    /// The next key, as a part of its frame.
    pub(crate) fn shared_key(&self) -> Option<Bytes<'static>> {
        self.next.as_ref().map(|at| at.key().part(at.key().key))
    }

    /// What becomes of the next key.
    pub(crate) fn change(&self) -> Option<OwnedChange> {
        self.next.as_ref().map(change_at)
    }

    fn probe<'k>(&self, key: &'k [u8], lsn: u64) -> Probe<'k> {
        Probe::new(self.table, key, lsn)
    }

    /// The first version from `at` on that counts: it is of another key than `passed`, and not newer than the LSN.
    fn ahead(&self, mut at: Option<At<'m>>, passed: Option<&[u8]>) -> Option<At<'m>> {
        for skipped in 1.. {
            let found = at?;
            let entry = found.key();
            if entry.table != self.table {
                return None;
            }
            let is_passed = passed.is_some_and(|passed| entry.key() == passed);
            if !is_passed && entry.lsn <= self.lsn {
                return Some(found);
            }
            at = if skipped % STEPS == 0 {
                self.memtable.at_or_behind(&self.probe(entry.key(), if is_passed { 0 } else { self.lsn }))
            } else {
                found.next()
            };
        }
        None
    }

    /// The version that counts of the last key up to `at`, which is the oldest version of a key.
    fn back(&self, mut at: Option<At<'m>>) -> Option<At<'m>> {
        loop {
            let found = at?;
            let entry = found.key();
            if entry.table != self.table {
                return None;
            }
            if entry.lsn <= self.lsn {
                return self.memtable.at_or_behind(&self.probe(entry.key(), self.lsn));
            }
            at = self.memtable.at_or_before(&self.probe(entry.key(), u64::MAX));
        }
    }
}

impl Iterator for Versions<'_> {
    type Item = (Bytes<'static>, OwnedChange);

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.shared_key().zip(self.change());
        self.advance();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::frame::{FRAME_HEADER, FrameBuilder, FrameHeader, FrameKind, read_operations};
    use crate::log::reader::Point;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A transaction that puts or deletes keys of table 17, and changes both tables beside it.
    fn frame(lsn: u64, changes: &BTreeMap<u8, bool>) -> Frame {
        let mut builder = FrameBuilder::new();
        builder.put(16, b"last", b"");
        for (key, put) in changes {
            match put {
                true => builder.put(17, &[*key], &lsn.to_le_bytes()),
                false => builder.delete(17, &[*key]),
            }
        }
        builder.put(18, b"", b"");
        let header = FrameHeader {
            previous_crc: 0,
            kind: FrameKind::Commit,
            relaxed: false,
            changes_tables: false,
            lsn,
            position: 0,
            root_sequence: 1,
            durable_lsn: 0,
            time: 0,
            payload_len: builder.payload_len().unwrap(),
            operations: builder.operations(),
        };
        let (bytes, crc) = builder.finish(7, &header);
        let bytes = &bytes[..FRAME_HEADER + header.payload_len as usize];
        let operations = read_operations(bytes).unwrap();
        Frame { header, bytes: Arc::from(bytes), operations, after: Point { end: 0, crc, lsn } }
    }

    /// The LSN of a put, which is its value.
    fn put_at(change: &OwnedChange) -> Option<u64> {
        let Change::Put(value) = change else { return None };
        Some(u64::from_le_bytes(value[..].try_into().unwrap()))
    }

    proptest! {
        #[test]
        fn walks_and_lookups_find_the_newest_version_up_to_an_lsn(
            frames in vec(btree_map(0_u8..6, any::<bool>(), 1..4), 1..60),
            key in 0_u8..7,
            at in any::<prop::sample::Index>(),
        ) {
            let memtable = Memtable::new(0);
            (1..).zip(&frames).for_each(|(lsn, changes)| memtable.insert(&frame(lsn, changes)));
            let newest = at.index(frames.len() + 1) as u64;
            let mut model = BTreeMap::<Vec<u8>, Option<u64>>::new();
            for (lsn, changes) in (1..=newest).zip(&frames) {
                model.extend(changes.iter().map(|(key, put)| (vec![*key], put.then_some(lsn))));
            }
            for key in 0..7 {
                let found = memtable.get(17, &[key], newest).map(|change| put_at(&change));
                prop_assert_eq!(found, model.get(&vec![key]).copied());
            }
            let bound = [key];
            for from in [Bound::Included(&bound[..]), Bound::Excluded(&bound[..]), Bound::Unbounded] {
                let walk = |direction| {
                    let mut walk = memtable.walk(17, newest, direction);
                    walk.seek(from);
                    walk.map(|(key, change)| (key.to_vec(), put_at(&change))).collect::<Vec<_>>()
                };
                let ahead = model.range::<[u8], _>((from, Bound::Unbounded));
                prop_assert_eq!(walk(Direction::Forward), ahead.map(|(k, v)| (k.clone(), *v)).collect::<Vec<_>>());
                let back = model.range::<[u8], _>((Bound::Unbounded, from)).rev();
                prop_assert_eq!(walk(Direction::Backward), back.map(|(k, v)| (k.clone(), *v)).collect::<Vec<_>>());
            }
        }
    }
}
