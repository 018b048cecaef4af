//! Ways into the parts that read bytes from disk, for the fuzz targets alone. Not part of the
//! interface: behind the feature `fuzzing`, which nothing else turns on.

use crate::direction::Direction;
use crate::disk::format::{
    KIND_BRANCH, KIND_LEAF, PAGE_CRC, PAGE_HEADER, PAGE_KIND, PAGE_LEVEL, PAGE_NUMBER, PAGE_RUN, PAGE_STORE,
    PAGE_TABLE, Ptr, TreeRoot, get_u32, put_u32,
};
use crate::disk::memory::MemoryDisk;
use crate::disk::root::{NewStore, Root, Segment};
use crate::log::frame::{FRAME_HEADER, FrameHeader, Operation, frame_crc};
use crate::log::memtable::Memtable;
use crate::log::reader::{Frame, LogReader, Point};
use crate::log::ring::Ring;
use crate::tree::cursor::{Cursor, get};
use crate::tree::node::Node;
use crate::tree::pages::{Pages, Verified};
use crate::tree::rank::{nth, rank};
use std::ops::Bound;
use std::sync::Arc;

const TAG: u32 = u32::from_le_bytes(*b"fuzz");
const TABLE: u32 = 16;

/// Walks `log` as the bytes of a ring of two segments that starts `offset` bytes into the first,
/// and looks at all it finds. With `repair` the headers that lie on the way are made to fit the chain
/// first, so that what they speak of is believed. Gives the number of frames.
pub fn walk_log(log: &[u8], offset: u16, repair: bool) -> usize {
    if log.len() / 4096 < 2 {
        return 0;
    }
    let root = root_of_log(log.len() / 4096, offset);
    let ring = Ring::new(&root);
    let mut file = file_of_log(log);
    let mut point = Point::start_of(&root);
    if repair {
        repair_chain(&mut file, &ring, point);
    }
    let disk = MemoryDisk::new(file);
    let mut reader = LogReader::new(&disk, &ring, TAG, point);
    let mut memtable = Memtable::new(point.lsn);
    let mut frames = 0;
    while let Ok(Some(frame)) = reader.next() {
        look_at(&frame, point, &ring);
        if frame.header.time % 2 == 1 {
            memtable = Memtable::new(point.lsn);
        }
        memtable.insert(&frame);
        look_up(&memtable);
        point = frame.after;
        frames += 1;
    }
    let _ = reader.verify_end(root.sequence);
    frames
}

/// The page size of that root, and the unit of its log.
const PAGE: u64 = 4096;

/// A root whose ring has these pages, in two segments: the second half of the file comes first.
fn root_of_log(pages: usize, offset: u16) -> Root {
    let page = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let start = u64::from(offset) % (PAGE * (pages as u64 / 2)) / 8 * 8;
    let new = NewStore { page_size: 4096, store_id: *b"fuzz............", application: 0, created: 0 };
    Root {
        sequence: 3,
        checkpoint_lsn: 7,
        last_commit: 7,
        log_position: (9 << 20) + start,
        log_crc: 5,
        log_offset: start,
        segments: vec![
            Segment { page: page(3 + pages / 2), pages: page(pages - pages / 2) },
            Segment { page: 3, pages: page(pages / 2) },
        ],
        page_count: pages as u64 + 3,
        next_table: TABLE,
        ..Root::first(&new, 1)
    }
}

/// The file in which such a ring lies: `log` is in the order of the ring, the file has it rotated.
fn file_of_log(log: &[u8]) -> Vec<u8> {
    let pages = log.len() / 4096;
    let whole = log.get(..pages * 4096).unwrap_or_default();
    let (first, second) = whole.split_at(whole.len() - pages / 2 * 4096);
    [&[0; 12288], second, first].concat()
}

/// A frame that was found stands where the chain goes on, and is read without a panic.
fn look_at(frame: &Frame, before: Point, ring: &Ring) {
    let header = &frame.header;
    assert!(header.lsn == before.lsn + 1 && header.position >= before.end, "the chain goes on");
    assert!(frame.after.end > before.end && header.position < ring.end());
    for operation in &frame.operations {
        if let Operation::Change { key, .. } = operation {
            assert!(frame.bytes.get(key.range()).is_some());
        }
    }
}

/// Every key that the index has is found, in ascending order.
fn look_up(memtable: &Memtable) {
    let (touched, _) = memtable.touched_tables();
    for table in touched {
        let mut last: Option<Vec<u8>> = None;
        for (key, _) in memtable.versions(table, u64::MAX) {
            assert!(last.as_deref().is_none_or(|last| last < &key[..]), "the index ascends");
            assert!(memtable.get(table, &key, u64::MAX).is_some());
            last = Some(key.to_vec());
        }
    }
}

/// Writes into each header that the chain would come to what makes it the next one.
fn repair_chain(file: &mut [u8], ring: &Ring, mut point: Point) {
    let mut tries = [point.end, point.end.next_multiple_of(PAGE)];
    while tries.iter().any(|at| {
        let repaired = repair_frame(file, ring, *at, point);
        if let Some(after) = repaired {
            point = after;
        }
        repaired.is_some()
    }) {
        tries = [point.end, point.end.next_multiple_of(PAGE)];
    }
}

fn repair_frame(file: &mut [u8], ring: &Ring, position: u64, before: Point) -> Option<Point> {
    let get = |file: &[u8], at: u64| -> Option<u8> {
        (at < ring.end()).then(|| file.get(usize::try_from(ring.file_offset(at)).ok()?).copied())?
    };
    let header: Vec<u8> = (0..FRAME_HEADER as u64).map_while(|i| get(file, position + i)).collect();
    let (mut header, _) = FrameHeader::decode(&header).map(|(h, _)| (header, h))?;
    put_u32(&mut header, 8, before.crc);
    crate::disk::format::put_u64(&mut header, 16, before.lsn + 1);
    crate::disk::format::put_u64(&mut header, 24, position);
    let length = u64::from(get_u32(&header, 56));
    let payload = (0..length).map_while(|i| get(file, position + FRAME_HEADER as u64 + i));
    let mut frame = header.clone();
    frame.extend(payload);
    if frame.len() as u64 != FRAME_HEADER as u64 + length {
        return None;
    }
    let crc = frame_crc(TAG, frame.get(8..)?);
    put_u32(&mut frame, 4, crc);
    for (i, byte) in (0..).zip(frame.iter().take(FRAME_HEADER)) {
        let place = file.get_mut(usize::try_from(ring.file_offset(position + i)).ok()?)?;
        *place = *byte;
    }
    Some(Point { end: position + (FRAME_HEADER as u64 + length).next_multiple_of(8), crc, lsn: before.lsn + 1 })
}

/// Takes `bytes` for a node, with a header that is believed, and asks it everything: as a single
/// leaf or branch, and as the whole of a tree whose pointers lead where they may.
pub fn read_node(bytes: &[u8], key: &[u8]) {
    let mut node = bytes.to_vec();
    node.resize(bytes.len().max(PAGE_HEADER).next_multiple_of(4096), 0);
    node.truncate(65536);
    put_u32(&mut node, PAGE_NUMBER, 2);
    put_u32(&mut node, PAGE_STORE, TAG);
    put_u32(&mut node, PAGE_TABLE, TABLE);
    let run = u32::try_from(node.len() / 4096).unwrap_or(1);
    put_u32(&mut node, PAGE_RUN, run);
    if let Some([kind, level]) = node.get_mut(PAGE_KIND..=PAGE_LEVEL) {
        *level %= 3;
        *kind = if *level == 0 { KIND_LEAF } else { KIND_BRANCH };
    }
    let crc = crc32fast::hash(node.get(PAGE_NUMBER..).unwrap_or_default());
    put_u32(&mut node, PAGE_CRC, crc);
    let mut file = vec![0; 12288];
    file.extend_from_slice(&node);
    let root = TreeRoot { ptr: Ptr { page: 3, crc }, count: 3, ..TreeRoot::default() };
    let pages =
        Pages::new(Arc::new(MemoryDisk::new(file)), None, Arc::new(Verified::new()), 4096, TAG, u64::from(run) + 3);
    if let Ok(node) = pages.node(root.ptr, TABLE, None) {
        ask(&node, key);
    }
    assert!(rank(&pages, TABLE, root, key).map_or(true, |(rank, _)| rank <= root.count));
    let _ = nth(&pages, TABLE, root, root.count / 2);
    let _ = get(&pages, TABLE, root, key).and_then(|value| value.map(|v| v.read(&pages, TABLE)).transpose());
    let mut cursor = Cursor::new(&pages, TABLE, root);
    let mut steps = 0;
    for direction in [Direction::Forward, Direction::Backward] {
        let _ = cursor.seek(direction, Bound::Unbounded);
        while let Ok(Some(_)) = cursor.step(direction) {
            steps += 1;
        }
        let _ = cursor.seek(direction, Bound::Included(key));
        let _ = cursor.seek(direction, Bound::Excluded(key)).and_then(|()| cursor.peek(direction).map(drop));
    }
    assert!(steps <= 2 * 65536, "more entries than a node can have");
}

fn ask(node: &Node<'_>, key: &[u8]) {
    if node.is_leaf() {
        let _ = node.find(key);
        assert!(node.lower_bound(key).is_ok_and(|(at, _)| at <= node.count()) || node.lower_bound(key).is_err());
        for index in 0..node.count() {
            if let Ok(entry) = node.entry(index) {
                let _ = node.find(&node.key(&entry));
                let _ = node.value(&entry);
            }
        }
    } else {
        assert!(node.route(key).map_or(true, |child| child < node.count()));
        let mut out = Vec::new();
        for index in 0..node.count() {
            let _ = node.child(index);
            if index + 1 < node.count() && node.separator(index, &mut out).is_ok() {
                assert!(node.route(&out).map_or(true, |child| child < node.count()));
            }
        }
    }
}
