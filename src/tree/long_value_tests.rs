#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use crate::change::Change;
use crate::disk::format::{CHUNK, Extent, Extents, Overflow, Ptr, Shape, TreeRoot, get_u32, put_u32};
use crate::disk::platform::Disk;
use crate::tree::cursor::get;
use crate::tree::node::{LeafValue, Long};
use crate::tree::overflow::{OverflowWriter, free_overflow, renew_overflow, write_long, write_overflow};
use crate::tree::testing::TestStore;
use crate::tree::update::{PageStore, update};
use std::sync::atomic::Ordering;

const TABLE: u32 = 16;

fn value(len: u64) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8 ^ (n >> 16) as u8).collect()
}

/// Lengths at which the number of pages or the tail changes, with both, in pages of 4096 bytes.
const SEAMS: [(u64, u64, u64); 12] = [
    (3073, 1, 0),
    (4032, 1, 0),
    (4033, 1, 1),
    (6150, 1, 2118),
    (7104, 1, 3072),
    (7105, 2, 0),
    (8128, 2, 0),
    (8129, 2, 1),
    (12_288, 3, 64),
    (32_704, 8, 0),
    (32_767, 8, 63),
    (32_768, 9, 0),
];

/// A tree with a value of this length, under the key `k`.
fn tree_with(len: u64) -> (TestStore, TreeRoot) {
    let mut store = TestStore::new(4096);
    let rows = [Ok((b"k", Change::Put(value(len))))].into_iter();
    let root = update(&mut store, TABLE, TreeRoot::default(), rows).unwrap();
    (store, root)
}

/// A value in extents of so many chunks, each where `place` puts it among them, and the rest at the end.
fn scattered(store: &mut TestStore, len: u64, parts: &[u32], order: &[usize]) -> Overflow {
    let total = Overflow::pages(len, 4096) as u32;
    let pages: Vec<u32> = parts.iter().map(|chunks| chunks * 16).collect();
    let rest = total - pages.iter().sum::<u32>();
    let mut places = vec![0; parts.len()];
    // A page in between keeps them apart.
    for index in order {
        places[*index] = store.allocate(pages[*index]).unwrap();
        store.allocate(1).unwrap();
    }
    let mut extents = Extents::default();
    places.iter().zip(&pages).for_each(|(page, pages)| extents.push(Extent { page: *page, pages: *pages }));
    extents.push(Extent { page: store.allocate(rest).unwrap(), pages: rest });
    let mut writer = OverflowWriter::new(store.pages(), len, store.version(), extents);
    let mut put = |page: u32, bytes: &[u8]| store.write(page, bytes);
    for part in value(len).chunks(50_001) {
        writer.write(part, &mut put).unwrap();
    }
    writer.finish(TABLE, &mut put).unwrap()
}

#[test]
fn values_read_back_whole_and_in_part_wherever_they_lie() {
    let lengths = [1, 4032, 4033, CHUNK - 64, CHUNK - 63, CHUNK, 6 * CHUNK - 64, 6 * CHUNK - 63, 700_000];
    for mapped in [0, 300_000, usize::MAX] {
        let mut store = TestStore::new(4096);
        let mut all: Vec<Overflow> =
            lengths.iter().map(|len| write_overflow(&mut store, TABLE, &value(*len)).unwrap()).collect();
        all.push(scattered(&mut store, 700_000, &[1, 3, 2], &[2, 0, 1]));
        all.push(scattered(&mut store, 1 << 20, &[1, 1, 1, 1, 1, 1, 1], &[6, 5, 4, 3, 2, 1, 0]));
        let pages = store.reopened(mapped);
        for long in &all {
            let whole = value(long.len);
            assert!(*pages.overflow(long, TABLE).unwrap() == whole[..], "{} bytes", long.len);
            let opened = pages.long_value(&Long::from(*long), TABLE).unwrap();
            let edges =
                [0, 1, 4000, CHUNK - 65, CHUNK - 64, CHUNK, 2 * CHUNK + 5, long.len - 1, long.len, long.len + 9];
            for (from, to) in edges.iter().flat_map(|from| edges.iter().map(move |to| (*from, *to))) {
                let expected = whole.get(from as usize..to.min(long.len) as usize).unwrap_or_default();
                assert!(*opened.slice(from..to).unwrap() == *expected, "{from}..{to} of {}", long.len);
            }
            assert!(pages.overflow(long, TABLE + 1).unwrap_err().is_corrupt(), "another table");
            let bent = Overflow::whole(long.ptr, long.len + 1, long.version);
            assert!(pages.overflow(&bent, TABLE).unwrap_err().is_corrupt(), "another length");
        }
    }
}

#[test]
fn what_does_not_fill_a_page_is_the_tail() {
    for (len, pages, tail) in SEAMS {
        let whole = value(len);
        let (long, rest) = write_long(&mut TestStore::new(4096), TABLE, &whole).unwrap();
        assert_eq!((Overflow::pages(long.len, 4096), rest.len() as u64), (pages, tail), "{len} bytes");
        assert!(*rest == whole[(len - tail) as usize..] && long.len == len - tail);
    }
    // A page has as much room for tails as for values in leaves.
    for (page_size, len, tail) in [(16384, 28_608, 12_288), (16384, 28_609, 0), (32768, 32_767, 63), (65536, 70_000, 0)]
    {
        let whole = value(len);
        let (_, rest) = write_long(&mut TestStore::new(page_size), TABLE, &whole).unwrap();
        assert_eq!(rest.len(), tail, "{len} bytes in pages of {page_size}");
    }
}

#[test]
fn a_value_with_a_tail_is_read_whole_and_in_part() {
    for (len, _, tail) in SEAMS {
        let (whole, (store, root), seam) = (value(len), tree_with(len), len - tail);
        for mapped in [0, usize::MAX] {
            let pages = store.reopened(mapped);
            let found = get(&pages, TABLE, root, b"k").unwrap().unwrap();
            let LeafValue::Overflow(long) = &found else { panic!("{len} bytes in the leaf") };
            assert_eq!((long.len(), long.tail.len() as u64), (len, tail));
            let opened = pages.long_value(long, TABLE).unwrap();
            assert_eq!(opened.len(), len);
            let edges = [0, 1, seam - 1, seam, seam + 1, len - 1, len, len + 9, u64::MAX];
            for (from, to) in edges.iter().flat_map(|from| edges.iter().map(move |to| (*from, *to))) {
                let expected = whole.get(from.min(len) as usize..to.min(len) as usize).unwrap_or_default();
                let part = opened.slice(from..to).unwrap();
                assert!(*part == *expected, "{from}..{to} of {len}");
                // Only what lies on both sides of the seam is a copy.
                let is_split = from < seam && to > seam && tail > 0;
                if let Some(map) = pages.map.as_deref().filter(|_| !expected.is_empty()) {
                    assert_eq!(map.bytes().as_ptr_range().contains(&part.as_ptr()), !is_split, "{from}..{to} of {len}");
                }
            }
            assert_eq!((opened.chunk_around(seam - 1), opened.chunk_around(seam)), (0..seam, seam..len));
            assert!(*found.read(&pages, TABLE).unwrap() == whole[..]);
        }
    }
}

/// A leaf whose checksum is right, with a pointer that no writer makes.
#[test]
fn lengths_of_a_tail_that_cannot_be_are_damage() {
    let (store, root) = tree_with(6150);
    let sound = store.disk.bytes.lock().unwrap().clone();
    let leaf = root.ptr.page as usize * 4096;
    // The leaf has the header, the key, its head, two lengths in six bytes, and the pointer.
    let pointer = leaf + 40 + 1 + 4 + 6;
    assert_eq!((get_u32(&sound, pointer + 8), get_u32(&sound, pointer + 12)), (4032, 2118));
    let read = |at: usize, number: u32| {
        let mut bent = sound.clone();
        put_u32(&mut bent, pointer + at, number);
        let crc = crc32fast::hash(&bent[leaf + 4..leaf + 4096]);
        put_u32(&mut bent, leaf, crc);
        let root = TreeRoot { ptr: Ptr { crc, ..root.ptr }, ..root };
        let pages = store.opened_on(bent, usize::MAX);
        get(&pages, TABLE, root, b"k").and_then(|found| found.unwrap().read(&pages, TABLE).map(|value| value.len()))
    };
    assert_eq!(read(12, 2118).unwrap(), 6150);
    for tail in [0, 1, 2117, 2119, 2118 - 64, 2118 - 56, 2118 - 8, 2118 + 24, 1 << 30, u32::MAX] {
        assert!(read(12, tail).unwrap_err().is_corrupt(), "a tail of {tail} bytes");
    }
    for len in [0, 4031, 4033, (1 << 30) - 2117, u32::MAX] {
        assert!(read(8, len).unwrap_err().is_corrupt(), "{len} bytes in the pages");
    }
}

#[test]
fn the_first_byte_lies_at_a_multiple_of_64() {
    let mut store = TestStore::new(4096);
    for len in [5000, 300_000, 3_000_000] {
        let long = write_overflow(&mut store, TABLE, &value(len)).unwrap();
        let mut found = [0; 16];
        let at = u64::from(long.ptr.page) * 4096 + Shape::of(len).head;
        store.disk.read_at(&mut found, at).unwrap();
        assert_eq!((at % 64, &found[..]), (0, &value(len)[..16]));
    }
}

/// A slice reads what it needs: damage elsewhere is not noticed, and no other chunk is verified.
#[test]
fn a_slice_verifies_the_chunks_that_it_touches() {
    let mut store = TestStore::new(4096);
    let len = 64 << 20;
    let whole = value(len);
    let long = write_overflow(&mut store, TABLE, &whole).unwrap();
    let sound = store.disk.bytes.lock().unwrap().clone();
    let start = u64::from(long.ptr.page) * 4096;
    for mapped in [0, usize::MAX] {
        let (pages, verified) = store.counted_on(sound.clone(), mapped);
        let chunks = || verified.chunks.swap(0, Ordering::Relaxed);
        let opened = pages.long_value(&Long::from(long), TABLE).unwrap();
        assert_eq!(chunks(), 0, "the head alone");
        let part = opened.slice(40_000_000..40_004_096).unwrap();
        assert!(*part == whole[40_000_000..40_004_096]);
        assert_eq!(chunks(), 1);
        let again = pages.long_value(&Long::from(long), TABLE).unwrap().slice(40_000_001..40_000_002).unwrap();
        // Without a map nothing is remembered of so long a value.
        let once = u64::from(mapped == 0);
        assert_eq!((again.len(), chunks()), (1, once));
        opened.slice(10 * CHUNK - Shape::of(len).head - 1..11 * CHUNK).unwrap();
        assert_eq!(chunks(), 3);
        pages.overflow(&long, TABLE).unwrap();
        assert_eq!(chunks(), Shape::of(len).chunks - 4 * (1 - once));
    }
    let mut bent = sound;
    bent[(start + 100 * CHUNK + 7) as usize] ^= 1;
    for mapped in [0, usize::MAX] {
        let (pages, _) = store.counted_on(bent.clone(), mapped);
        let opened = pages.long_value(&Long::from(long), TABLE).unwrap();
        let head = Shape::of(len).head;
        assert!(opened.slice(0..100 * CHUNK - head).is_ok() && opened.slice(101 * CHUNK - head..len).is_ok());
        for range in [0..len, 100 * CHUNK - head..100 * CHUNK - head + 1, 101 * CHUNK - head - 1..len] {
            let error = opened.slice(range).unwrap_err();
            let expected = format!("bytes {}..{} of the value", 100 * CHUNK - head, 101 * CHUNK - head);
            assert!(error.is_corrupt() && error.to_string().contains(&expected), "{error}");
        }
    }
}

#[test]
fn every_byte_of_a_value_is_under_a_checksum() {
    let mut store = TestStore::new(4096);
    let long = scattered(&mut store, 150_000, &[1, 1], &[1, 0]);
    let sound = store.disk.bytes.lock().unwrap().clone();
    for extent in long.extents(4096).unwrap().iter() {
        let start = extent.page as usize * 4096;
        // Every byte of the head, and some of the rest.
        for at in (0..extent.pages as usize * 4096).filter(|at| *at < 130 || at % 509 == 0) {
            let mut bent = sound.clone();
            bent[start + at] ^= 0x10;
            let found = store.opened_on(bent, usize::MAX).overflow(&long, TABLE).map(|_| ());
            assert!(found.is_err_and(|error| error.is_corrupt()), "byte {at}");
        }
    }
}

#[test]
fn a_value_is_renewed_in_place_and_freed_whole() {
    let mut store = TestStore::new(4096);
    let long = scattered(&mut store, 150_000, &[1, 1], &[1, 0]);
    let pages = std::sync::Arc::clone(store.pages());
    let renewed = renew_overflow(&pages, &long, 77, &mut |page, bytes| store.write(page, bytes)).unwrap();
    assert_eq!((renewed.version, renewed.ptr.page), (77, long.ptr.page));
    assert!(*store.reopened(0).overflow(&renewed, TABLE).unwrap() == value(150_000));
    assert!(pages.overflow(&long, TABLE).unwrap_err().is_corrupt(), "it has another CRC now");
    let live = store.live.len();
    free_overflow(&mut store, &pages, &long).unwrap();
    assert_eq!(store.live.len(), live - 3);
}
