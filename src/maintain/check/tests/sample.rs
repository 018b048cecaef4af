//! A store written byte by byte from the documents of the format, by code that shares nothing with
//! the engine but the free map.

use std::collections::BTreeMap;

use crate::disk::format::*;
use crate::tree::space::{Space, SpaceRoot};

pub(in crate::maintain) const PAGE: usize = 4096;
pub(in crate::maintain) const STORE: [u8; 16] = *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";
pub(in crate::maintain) const LOG_PAGE: u32 = 3;
pub(in crate::maintain) const LOG_PAGES: [u32; 2] = [4, 3];
pub(in crate::maintain) const LOG_POSITION: u64 = 1 << 20;
pub(in crate::maintain) const LOG_OFFSET: u64 = 4096 * 2;
/// Page of the long value that the log names.
pub(in crate::maintain) const LOG_VALUE: u32 = 50;

/// The row of a table with the id 19.
pub(in crate::maintain) const NEW_TABLE: &str = "\u{13}\0\0\0\0\0\0\0\u{3}\0str\u{2}\0u8\0\0\0\0\0\0\0\0\0\0";

pub(in crate::maintain) enum Val {
    Short(Vec<u8>),
    Long(Overflow),
    /// With a tail, and how long the pointer says that it is.
    Tailed(Overflow, Vec<u8>, u32),
}

pub(in crate::maintain) fn short(value: &str) -> Val {
    Val::Short(value.as_bytes().to_vec())
}

/// Writes runs one after the other.
pub(in crate::maintain) struct Pages {
    pub(in crate::maintain) bytes: Vec<u8>,
    pub(in crate::maintain) version: u64,
    /// What is in the tree below each node: entries, pages, bytes, end of the last page.
    pub(in crate::maintain) sums: BTreeMap<u32, [u64; 4]>,
    /// Leaves of entries that are alike are uniform, as the format demands.
    pub(in crate::maintain) uniform: bool,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages { bytes: Vec::new(), version: 0, sums: BTreeMap::new(), uniform: true }
    }
}

impl Pages {
    /// The tree with this root, as its row in the catalog has it.
    pub(in crate::maintain) fn tree(&self, ptr: Ptr) -> TreeRoot {
        let [count, pages, bytes, end] = self.sums.get(&ptr.page).copied().unwrap_or_default();
        TreeRoot { ptr, count, pages, bytes, end: end as u32 }
    }

    pub(in crate::maintain) fn seal(&mut self, kind: u8, level: u8, table: u32, run: Vec<u8>) -> Ptr {
        let page = (self.bytes.len() / PAGE) as u32;
        let (run, crc) = seal(page, self.version, kind, level, table, run);
        self.bytes.extend_from_slice(&run);
        Ptr { page, crc }
    }

    pub(in crate::maintain) fn leaf(&mut self, table: u32, entries: &[(&str, Val)]) -> Ptr {
        let keys: Vec<&[u8]> = entries.iter().map(|(key, _)| key.as_bytes()).collect();
        let prefix = shared(&keys);
        let mut run = vec![0; PAGE_HEADER];
        run.extend_from_slice(&keys[0][..prefix]);
        keys.iter().for_each(|key| run.extend_from_slice(&head(&key[prefix..])));
        let stored = |value: &Val| match value {
            Val::Short(value) => (value.len() * 4, value.clone()),
            Val::Long(long) => (24 * 4 + 1, long.encode()),
            Val::Tailed(long, tail, told) => {
                let mut bytes = long.with_tail(tail);
                bytes[12..16].copy_from_slice(&told.to_le_bytes());
                (bytes.len() * 4 + 1, bytes)
            }
        };
        let lengths: Vec<_> = entries.iter().map(|(key, value)| (key.len() - prefix, stored(value).0)).collect();
        let uniform = self.uniform && lengths.iter().all(|each| *each == lengths[0]);
        let mut bodies = Vec::new();
        for ((key, value), (suffix, word)) in entries.iter().zip(&lengths) {
            if !uniform {
                run.extend_from_slice(&((PAGE_HEADER + prefix + 6 * keys.len() + bodies.len()) as u16).to_le_bytes());
                bodies.extend_from_slice(&varint(*suffix));
                bodies.extend_from_slice(&varint(*word));
            }
            bodies.extend_from_slice(key.as_bytes().get(prefix + 4..).unwrap_or_default());
            bodies.extend_from_slice(&stored(value).1);
        }
        if uniform {
            put_u16(&mut run, 14, 1);
            run.extend_from_slice(&(lengths[0].0 as u16).to_le_bytes());
            run.extend_from_slice(&(lengths[0].1 as u32).to_le_bytes());
        }
        run.extend_from_slice(&bodies);
        finish(&mut run, keys.len(), prefix);
        let size = |(key, value): &(&str, Val)| match value {
            Val::Short(value) => (0, (key.len() + value.len()) as u64, 0),
            Val::Long(long) => {
                let pages = Overflow::pages(long.len.min(1 << 30), PAGE as u32);
                let end = long.extents(PAGE as u32).map_or(0, |extents| extents.end());
                (pages, key.len() as u64 + long.len.min(1 << 30), end)
            }
            Val::Tailed(long, tail, _) => {
                let end = long.extents(PAGE as u32).map_or(0, |extents| extents.end());
                (Overflow::pages(long.len, PAGE as u32), key.len() as u64 + long.len + tail.len() as u64, end)
            }
        };
        let pages = run.len().div_ceil(PAGE) as u64;
        let ptr = self.seal(KIND_LEAF, 0, table, run);
        let own = [entries.len() as u64, pages, 0, u64::from(ptr.page) + pages];
        let sums = entries
            .iter()
            .map(size)
            .fold(own, |[n, pages, bytes, end], (more, size, last)| [n, pages + more, bytes + size, end.max(last)]);
        self.sums.insert(ptr.page, sums);
        ptr
    }

    pub(in crate::maintain) fn branch(&mut self, table: u32, level: u8, children: &[Ptr], separators: &[&str]) -> Ptr {
        let keys: Vec<&[u8]> = separators.iter().map(|key| key.as_bytes()).collect();
        let prefix = shared(&keys);
        let mut run = vec![0; PAGE_HEADER];
        run.extend_from_slice(&keys[0][..prefix]);
        keys.iter().for_each(|key| run.extend_from_slice(&head(&key[prefix..])));
        let mut at = run.len() + 2 * keys.len() + 18 * children.len();
        for key in &keys {
            run.extend_from_slice(&(at as u16).to_le_bytes());
            at += key.len() - prefix;
        }
        for child in children {
            run.extend_from_slice(&child.page.to_le_bytes());
            run.extend_from_slice(&child.crc.to_le_bytes());
            run.extend_from_slice(&self.tree(*child).count.to_le_bytes()[..6]);
            run.extend_from_slice(&self.tree(*child).end.to_le_bytes());
        }
        keys.iter().for_each(|key| run.extend_from_slice(&key[prefix..]));
        finish(&mut run, children.len(), prefix);
        let ptr = self.seal(KIND_BRANCH, level, table, run);
        let below = children.iter().map(|child| self.tree(*child));
        let sums = below.fold([0, 1, 0, u64::from(ptr.page) + 1], |[count, pages, bytes, end]: [u64; 4], child| {
            [count + child.count, pages + child.pages, bytes + child.bytes, end.max(child.end.into())]
        });
        self.sums.insert(ptr.page, sums);
        ptr
    }

    pub(in crate::maintain) fn value(&mut self, table: u32, len: usize) -> Overflow {
        let version = self.version;
        Overflow::whole(self.seal(KIND_OVERFLOW, 0, table, long_value(len)), len as u64, version)
    }
}

fn varint(number: usize) -> Vec<u8> {
    match number {
        0..0x80 => vec![number as u8],
        0x80..0x4000 => vec![number as u8 | 0x80, (number >> 7) as u8],
        _ => vec![number as u8 | 0x80, (number >> 7) as u8 | 0x80, (number >> 14) as u8],
    }
}

pub(in crate::maintain) fn long_value(len: usize) -> Vec<u8> {
    let mut run = vec![0; 64];
    put_u64(&mut run, PAGE_PAYLOAD_LEN, len as u64);
    run.extend((0..len).map(|at| at as u8));
    run.resize(run.len().next_multiple_of(PAGE), 0);
    // One chunk.
    assert!(run.len() <= 65536);
    let crc = crc32fast::hash(&run[64..]);
    put_u32(&mut run, 40, crc);
    run
}

pub(in crate::maintain) fn seal(
    page: u32,
    version: u64,
    kind: u8,
    level: u8,
    table: u32,
    mut run: Vec<u8>,
) -> (Vec<u8>, u32) {
    run.resize(run.len().next_multiple_of(PAGE), 0);
    put_u32(&mut run, PAGE_NUMBER, page);
    run[PAGE_STORE..PAGE_STORE + 4].copy_from_slice(&STORE[..4]);
    run[PAGE_KIND] = kind;
    run[PAGE_LEVEL] = level;
    put_u64(&mut run, PAGE_VERSION, version);
    put_u32(&mut run, PAGE_TABLE, table);
    let pages = run.len() / PAGE;
    put_u32(&mut run, PAGE_RUN, pages as u32);
    let covered = if kind == KIND_OVERFLOW { 64 } else { run.len() };
    let crc = crc32fast::hash(&run[4..covered]);
    put_u32(&mut run, PAGE_CRC, crc);
    (run, crc)
}

pub(in crate::maintain) fn shared(keys: &[&[u8]]) -> usize {
    keys[0].iter().zip(keys[keys.len() - 1]).take_while(|(a, b)| a == b).count()
}

pub(in crate::maintain) fn head(rest: &[u8]) -> [u8; 4] {
    // On disk the number is little-endian, its first byte thus the last.
    std::array::from_fn(|at| rest.get(3 - at).copied().unwrap_or(0))
}

pub(in crate::maintain) fn finish(run: &mut [u8], count: usize, prefix: usize) {
    put_u16(run, NODE_COUNT, count as u16);
    put_u16(run, NODE_PREFIX, prefix as u16);
    let end = run.len() as u32;
    put_u32(run, NODE_END, end);
}

/// What a root slot says.
#[derive(Clone)]
pub(in crate::maintain) struct Slot {
    pub(in crate::maintain) sequence: u64,
    pub(in crate::maintain) checkpoint_lsn: u64,
    pub(in crate::maintain) log_crc: u32,
    pub(in crate::maintain) catalog: TreeRoot,
    pub(in crate::maintain) space: SpaceRoot,
    pub(in crate::maintain) next_table: u32,
    pub(in crate::maintain) segments: Vec<(u32, u32)>,
}

impl Slot {
    pub(in crate::maintain) fn write(&self, file: &mut [u8]) {
        let mut copy = vec![0; 2048];
        copy[..8].copy_from_slice(&MAGIC);
        put_u32(&mut copy, 8, 2);
        put_u16(&mut copy, 12, 2048);
        copy[14..16].copy_from_slice(&[1, 4]);
        put_u32(&mut copy, 52, PAGE as u32);
        copy[80..96].copy_from_slice(&STORE);
        put_u64(&mut copy, 96, self.sequence);
        put_u64(&mut copy, 104, self.checkpoint_lsn);
        put_u64(&mut copy, 112, if self.segments.is_empty() { 0 } else { LOG_POSITION });
        put_u32(&mut copy, 120, self.log_crc);
        put_u32(&mut copy, 124, self.segments.len() as u32);
        put_u64(&mut copy, 128, if self.segments.is_empty() { 0 } else { LOG_OFFSET });
        put_u32(&mut copy, 136, self.space.directory.page);
        put_u32(&mut copy, 140, self.space.directory.crc);
        put_u32(&mut copy, 144, self.space.pending.page);
        put_u32(&mut copy, 148, self.space.pending.crc);
        put_u64(&mut copy, 152, self.space.page_count);
        put_u64(&mut copy, 160, 1_700_000_000_000_000);
        put_u64(&mut copy, 168, self.checkpoint_lsn);
        put_u32(&mut copy, 188, 1);
        put_u32(&mut copy, 192, self.next_table);
        put_u32(&mut copy, 196, (self.sequence % 2) as u32);
        for (at, (page, pages)) in (200..).step_by(8).zip(&self.segments) {
            put_u32(&mut copy, at, *page);
            put_u32(&mut copy, at + 4, *pages);
        }
        put_bytes(&mut copy, 712, &self.catalog.encode());
        seal_root(&mut copy);
        let at = (self.sequence % 2) as usize * PAGE;
        file[at..at + 2048].copy_from_slice(&copy);
        file[at + 2048..at + 4096].copy_from_slice(&copy);
    }
}

/// Makes both checksums of a copy of a root right.
pub(in crate::maintain) fn seal_root(copy: &mut [u8]) {
    let crc = crc32fast::hash(&copy[..16]);
    put_u32(copy, 16, crc);
    let crc = crc32fast::hash(&copy[52..2048]);
    put_u32(copy, 20, crc);
}

/// One frame, not yet placed.
#[derive(Clone)]
pub(in crate::maintain) struct Mark {
    pub(in crate::maintain) kind: u8,
    pub(in crate::maintain) lsn: u64,
    pub(in crate::maintain) root_sequence: u64,
    pub(in crate::maintain) durable_lsn: u64,
    pub(in crate::maintain) operations: u32,
    pub(in crate::maintain) payload: Vec<u8>,
}

impl Mark {
    pub(in crate::maintain) fn puts(lsn: u64, rows: &[(u32, &str, &str)]) -> Mark {
        let mut payload = Vec::new();
        for (table, key, value) in rows {
            payload.push(1);
            payload.extend_from_slice(&table.to_le_bytes());
            payload.extend_from_slice(&(key.len() as u16).to_le_bytes());
            payload.extend_from_slice(&(value.len() as u32).to_le_bytes());
            payload.extend_from_slice(key.as_bytes());
            payload.extend_from_slice(value.as_bytes());
        }
        Mark { kind: 1, lsn, root_sequence: 5, durable_lsn: lsn - 1, operations: rows.len() as u32, payload }
    }

    pub(in crate::maintain) fn long(lsn: u64, table: u32, key: &str, long: Overflow) -> Mark {
        let mut payload = vec![3];
        payload.extend_from_slice(&table.to_le_bytes());
        payload.extend_from_slice(&(key.len() as u16).to_le_bytes());
        payload.extend_from_slice(&24u16.to_le_bytes());
        payload.extend_from_slice(key.as_bytes());
        payload.extend_from_slice(&long.encode());
        Mark { operations: 1, payload, ..Mark::puts(lsn, &[]) }
    }

    /// Writes it at a log position; gives its end and CRC.
    pub(in crate::maintain) fn write(&self, file: &mut [u8], position: u64, previous: u32) -> (u64, u32) {
        let mut frame = vec![0; 64];
        frame[..4].copy_from_slice(b"mlf1");
        put_u32(&mut frame, 8, previous);
        frame[12] = self.kind;
        put_u64(&mut frame, 16, self.lsn);
        put_u64(&mut frame, 24, position);
        put_u64(&mut frame, 32, self.root_sequence);
        put_u64(&mut frame, 40, self.durable_lsn);
        put_u64(&mut frame, 48, 1_700_000_000_000_000 + self.lsn);
        put_u32(&mut frame, 56, self.payload.len() as u32);
        put_u32(&mut frame, 60, self.operations);
        frame.extend_from_slice(&self.payload);
        let crc = crc32fast::hash(&[&STORE[..4], &frame[8..]].concat());
        put_u32(&mut frame, 4, crc);
        for (at, byte) in (position..).zip(&frame) {
            file[place(at)] = *byte;
        }
        ((position + frame.len() as u64).next_multiple_of(8), crc)
    }
}

/// The byte of the file at a log position: the two segments have a page between them.
pub(in crate::maintain) fn place(position: u64) -> usize {
    let first = LOG_PAGES[0] as usize * PAGE;
    let ring = first + LOG_PAGES[1] as usize * PAGE;
    let at = (LOG_OFFSET + position - LOG_POSITION) as usize % ring;
    let gap = if at < first { 0 } else { PAGE };
    LOG_PAGE as usize * PAGE + at + gap
}

/// A store that the tests bend before it is put together.
pub(in crate::maintain) struct Store {
    pub(in crate::maintain) pages: Pages,
    /// Rows of the catalog and of names.
    pub(in crate::maintain) tables: Vec<(u32, TreeRoot)>,
    pub(in crate::maintain) names: Vec<(&'static str, u32)>,
    pub(in crate::maintain) slot: Slot,
    pub(in crate::maintain) frames: Vec<Mark>,
    pub(in crate::maintain) pending: Vec<(u32, u32)>,
    pub(in crate::maintain) log_value: Vec<u8>,
}

impl Store {
    pub(in crate::maintain) fn new() -> Store {
        let mut pages = Pages { bytes: vec![0; 11 * PAGE], version: 4, ..Pages::default() };
        let long = pages.value(16, 9000);
        let leaves = [
            pages.leaf(16, &[("key/a", short("1")), ("key/b", Val::Long(long)), ("key/bb", short(""))]),
            pages.leaf(16, &[("key/m", short("3"))]),
            pages.leaf(16, &[("key/n", short("4")), ("kez", short("5"))]),
        ];
        pages.version = 5;
        let low = pages.branch(16, 1, &leaves[..2], &["key/c"]);
        let high_leaf = pages.leaf(16, &[("l", short("6"))]);
        let high = pages.branch(16, 1, &[leaves[2], high_leaf], &["kf"]);
        let root = pages.branch(16, 2, &[low, high], &["key/mm"]);
        let beta = pages.leaf(17, &[("", short("empty key")), ("x", short("y"))]);
        // The gap between the log's segments, and two pages that were of use before.
        let old = pages.leaf(17, &[("", short("older"))]);
        let pending = vec![(old.page, 1), (7, 1)];
        // A long value that only the log names, in pages that were free when the root was written.
        let (log_value, crc) = seal(LOG_VALUE, 6, KIND_OVERFLOW, 0, 17, long_value(5000));
        let log_long = Overflow::whole(Ptr { page: LOG_VALUE, crc }, 5000, 6);
        Store {
            tables: vec![(16, pages.tree(root)), (17, pages.tree(beta))],
            names: vec![("alpha", 16), ("beta", 17), ("empty", 18)],
            slot: Slot {
                sequence: 5,
                checkpoint_lsn: 40,
                log_crc: 0xabcd,
                catalog: TreeRoot::default(),
                space: SpaceRoot::default(),
                next_table: 19,
                segments: vec![(LOG_PAGE, LOG_PAGES[0]), (LOG_PAGE + LOG_PAGES[0] + 1, LOG_PAGES[1])],
            },
            frames: vec![
                Mark::puts(41, &[(1, "new", NEW_TABLE), (16, "key/a", "9"), (16, "key/b", "9"), (17, "a", "")]),
                Mark { kind: 2, ..Mark::puts(42, &[]) },
                Mark::long(43, 17, "long", log_long),
                // Long enough to reach into the second segment.
                Mark::puts(44, &[(16, "key/z", &"v".repeat(7000))]),
                Mark::puts(45, &[(16, "key/z", "last")]),
            ],
            pending,
            log_value,
            pages,
        }
    }

    pub(in crate::maintain) fn build(mut self) -> Vec<u8> {
        let values: Vec<Vec<u8>> = self
            .names
            .iter()
            .map(|(_, id)| {
                [&id.to_le_bytes()[..], &[0; 4], &3u16.to_le_bytes(), b"str", &2u16.to_le_bytes(), b"u8", &[0; 10]]
                    .concat()
            })
            .collect();
        let rows: Vec<_> = self.names.iter().zip(values).map(|((name, _), value)| (*name, Val::Short(value))).collect();
        let names = self.pages.leaf(1, &rows);
        self.tables.insert(0, (1, self.pages.tree(names)));
        let keys: Vec<String> =
            self.tables.iter().map(|(id, _)| String::from_utf8(id.to_be_bytes().to_vec()).unwrap()).collect();
        let rows: Vec<_> =
            keys.iter().zip(&self.tables).map(|(k, (_, r))| (k.as_str(), Val::Short(r.encode().to_vec()))).collect();
        let catalog = self.pages.leaf(0, &rows);
        self.slot.catalog = self.pages.tree(catalog);
        let mut file = self.pages.bytes;
        let mut space = Space::new(PAGE as u32, get_u32(&STORE, 0), 3, (file.len() / PAGE) as u64);
        self.pending.iter().for_each(|(page, run)| space.retire(*page, *run, 3, 5));
        space.grow(space.page_count() + 40);
        let last = space.page_count() as u32 - 1;
        assert!(space.reserve(last, 1));
        // Freed by an earlier root: in a part of the pending list.
        space.retire(last, 1, 2, 4);
        file.resize(space.page_count() as usize * PAGE, 0);
        let mut place = |page: u32, run: &[u8]| {
            let at = page as usize * PAGE;
            file[at..at + run.len()].copy_from_slice(run);
            Ok(())
        };
        let root = space.save(5, &mut place).unwrap();
        place(LOG_VALUE, &self.log_value).unwrap();
        self.slot.space = root;
        self.slot.write(&mut file);
        Slot { sequence: self.slot.sequence - 1, ..self.slot.clone() }.write(&mut file);
        write_log(&mut file, &self.frames);
        file
    }
}

pub(in crate::maintain) fn write_log(file: &mut [u8], frames: &[Mark]) -> Vec<u64> {
    let (mut position, mut crc) = (LOG_POSITION, 0xabcd);
    let mut starts = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        // The batches are sealed after the first and the third frame.
        if index == 1 || index == 3 {
            position = position.next_multiple_of(4096);
        }
        starts.push(position);
        (position, crc) = frame.write(file, position, crc);
    }
    starts
}
