#![expect(clippy::cast_possible_truncation, reason = "small numbers made by the tests")]

mod engine;
mod faults;
mod order;
pub(in crate::maintain) mod sample;

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::LockKind;
use crate::disk::format::*;
use crate::disk::memory::MemoryDisk;
use crate::maintain::format::node;
use crate::tree::space::SpaceRoot;
use sample::*;

fn checked(file: &[u8]) -> Report {
    let disk = MemoryDisk::new(file.to_vec());
    let report = check_disk(&disk, &CheckOptions::new()).unwrap();
    assert!(disk.locked.lock().unwrap().is_empty(), "a pin is left");
    report
}

/// The messages of a store that was bent.
fn messages(bend: impl FnOnce(&mut Store)) -> String {
    let mut store = Store::new();
    bend(&mut store);
    let report = checked(&store.build());
    let lines = report.findings.iter().map(|f| format!("{:?} {:?} {:?}: {}\n", f.severity, f.page, f.table, f.message));
    lines.collect()
}

#[track_caller]
fn finds(what: &str, bend: impl FnOnce(&mut Store)) {
    let found = messages(bend);
    assert!(found.contains(what), "{what:?} is not in:\n{found}");
}

#[test]
fn a_sound_store_has_no_findings() {
    let file = Store::new().build();
    let report = checked(&file);
    assert_eq!(report.findings, []);
    assert!(report.is_clean() && report.notes.is_empty());
    assert_eq!(report.store_id, "01020304-0506-0708-090a-0b0c0d0e0f10");
    assert_eq!((report.root_sequence, report.checkpoint_lsn, report.lsn, report.log_frames), (5, 40, 45, 5));
    assert_eq!(report.log_capacity, 7 * PAGE as u64);
    let names: Vec<_> = report.tables.iter().map(|t| (t.name.as_str(), t.id, t.entries, t.levels)).collect();
    assert_eq!(
        names,
        [("(catalog)", 0, 3, 1), ("(names)", 1, 3, 1), ("alpha", 16, 7, 3), ("beta", 17, 2, 1), ("empty", 18, 0, 0)]
    );
    let alpha = &report.tables[2];
    assert_eq!((alpha.leaves, alpha.branches, alpha.long_values, alpha.long_value_pages), (4, 3, 1, 3));
    assert_eq!((alpha.value_bytes, alpha.key_type.as_str(), alpha.value_type.as_str()), (9005, "str", "u8"));
    let pages = report.pages;
    assert_eq!(pages.total, (file.len() / PAGE) as u64);
    assert_eq!((pages.slots, pages.log, pages.tree, pages.values, pages.lost), (3, 7, 10, 5, 0));
    assert_eq!(pages.free_map + pages.free, pages.total - 25 - pages.pending);
    assert!(pages.free > 30 && pages.pending == 3 && pages.free_map == 4);
}

#[test]
fn a_file_is_checked_without_being_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    let bytes = Store::new().build();
    std::fs::write(&path, &bytes).unwrap();
    let report = check(&path, &CheckOptions::new()).unwrap();
    assert!(report.is_clean() && report.path == path, "{:?}", report.findings);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no file beside it");
    assert!(matches!(check(dir.path().join("none"), &CheckOptions::new()), Err(Error::NotFound { .. })));
}

#[test]
fn every_damaged_byte_is_found() {
    let file = Store::new().build();
    let sound = checked(&file);
    let mut walk_uses = BTreeMap::new();
    for page in 0..(file.len() / PAGE) {
        // Which pages the check reads, found by spoiling them whole.
        let mut spoilt = file.clone();
        spoilt[page * PAGE + 100..(page + 1) * PAGE].fill(0x55);
        walk_uses.insert(page, !checked(&spoilt).is_clean());
    }
    let used = walk_uses.values().filter(|used| **used).count() as u64;
    let pages = sound.pages;
    // Of the log's seven pages, the frames reach four, but those of the last batch may be torn.
    // Nothing is kept in the epoch's block.
    assert_eq!(used, pages.slots - 1 + pages.tree + pages.values + pages.free_map + 2);
    for at in 0..file.len() {
        let page = at / PAGE;
        let looked_at = if walk_uses[&page] { at % PAGE < 48 || at % 101 == 0 } else { at % 1009 == 0 };
        if !looked_at {
            continue;
        }
        let mut bent = file.clone();
        bent[at] ^= 1 << (at % 8);
        let report = checked(&bent);
        if page < 2 {
            assert_eq!((report.damage, report.warnings), (0, 1), "slot byte {at}");
        } else if page < 3 {
            assert!(report.is_clean(), "the epoch, which is worth nothing between two boots");
        } else if (LOG_PAGE as usize..LOG_PAGE as usize + 8).contains(&page) {
            // A frame whose durability nothing after it proves may have been torn.
            assert!(report.damage > 0 || report.is_clean());
        } else if walk_uses[&page] {
            assert!(report.damage > 0, "byte {at} of page {page}");
        } else {
            assert!(report.is_clean(), "byte {at} of unused page {page}: {:?}", report.findings);
        }
    }
}

#[test]
fn misplaced_and_stale_pages_are_found() {
    let file = Store::new().build();
    let swap = |a: usize, b: usize| {
        let mut bent = file.clone();
        bent.copy_within(a * PAGE..(a + 1) * PAGE, b * PAGE);
        checked(&bent).findings.into_iter().map(|f| f.message).collect::<String>()
    };
    assert!(swap(13, 14).contains("misdirected"));
    let mut bent = file.clone();
    bent[15 * PAGE..16 * PAGE].fill(0);
    let zeros = checked(&bent).findings;
    assert!(zeros[0].message.contains("all zeros"), "{zeros:?}");
    let mut bent = file.clone();
    bent.truncate(21 * PAGE);
    let report = checked(&bent);
    assert!(report.findings[0].message.contains("should have") && report.damage > 1);
}

#[test]
fn each_wrong_shape_is_named() {
    finds("entries are noted, but 7 are there", |s| s.tables[0].1.count = 8);
    // Seven nodes and the three pages of the long value; its 9,000 bytes, 5 of the other values, 30 of keys.
    finds("10 pages and 9036 bytes are noted, but 10 and 9035 are there", |s| s.tables[0].1.bytes += 1);
    finds("9 pages and 9035 bytes are noted", |s| s.tables[0].1.pages -= 1);
    finds("used twice: by a tree and by a tree", |s| s.tables[1].1 = s.tables[0].1);
    finds("belongs to table 17, not 16", |s| s.tables[0].1 = s.tables[1].1);
    finds("pages belong to nothing", |s| s.pending.truncate(1));
    finds("used twice: by a tree and by the pending pages", |s| s.pending.push((s.tables[1].1.ptr.page, 1)));
    finds("by the log and by the pending pages", |s| s.pending.push((LOG_PAGE + 1, 1)));
    finds("pages from here on are used twice: by the log", |s| s.slot.segments[1].0 = LOG_PAGE + 1);
}

#[test]
fn keys_out_of_order_are_found() {
    let leaf = |rows: &'static [&'static str]| {
        move |s: &mut Store| {
            let rows: Vec<_> = rows.iter().map(|key| (*key, short("v"))).collect();
            let ptr = s.pages.leaf(17, &rows);
            s.tables[1].1 = s.pages.tree(ptr);
        }
    };
    finds("key 1 does not come after", leaf(&["b", "a"]));
    finds("key 2 does not come after", leaf(&["a", "b", "b", "c"]));
    let branch = |separator: &'static str, low: &'static str, high: &'static str| {
        move |s: &mut Store| {
            let children = [low, high].map(|key| s.pages.leaf(17, &[(key, short("v"))]));
            let ptr = s.pages.branch(17, 1, &children, &[separator]);
            s.tables[1].1 = s.pages.tree(ptr);
        }
    };
    assert_eq!(messages(branch("m", "l", "m")).matches("range").count(), 0);
    finds("outside of the range", branch("m", "m", "n"));
    finds("outside of the range", branch("m", "a", "l"));
    finds("level 0 below level 2", |s| {
        let children = ["a", "b"].map(|key| s.pages.leaf(17, &[(key, short("v"))]));
        let ptr = s.pages.branch(17, 2, &children, &["b"]);
        s.tables[1].1 = s.pages.tree(ptr);
    });
    finds("separators are outside", |s| {
        let leaves = ["a", "b", "c"].map(|key| s.pages.leaf(17, &[(key, short("v"))]));
        let low = s.pages.branch(17, 1, &leaves[..2], &["z"]);
        let other = s.pages.leaf(17, &[("x", short("v"))]);
        let high = s.pages.branch(17, 1, &[leaves[2], other], &["x"]);
        let ptr = s.pages.branch(17, 2, &[low, high], &["c"]);
        s.tables[1].1 = s.pages.tree(ptr);
    });
    finds("written for root 6", |s| {
        s.pages.version = 6;
        leaf(&["a"])(s);
    });
}

#[test]
fn wrong_long_values_are_found() {
    let long = |bend: fn(&mut Overflow)| {
        move |s: &mut Store| {
            let mut long = s.pages.value(17, 5000);
            bend(&mut long);
            let ptr = s.pages.leaf(17, &[("a", Val::Long(long))]);
            s.tables[1].1 = s.pages.tree(ptr);
        }
    };
    finds("5000 bytes from a run of 2 pages on, written for root 5, not 4999", long(|long| long.len -= 1));
    finds("not 5000 bytes from a run of 2 pages on, written for root 4", long(|long| long.version -= 1));
    finds("cannot be", long(|long| long.len = u64::MAX));
    finds("cannot be", long(|long| long.ptr.page = u32::MAX));
    finds("cannot be", long(|long| long.ptr.page = 1));
    finds("damaged, stale or lost", long(|long| long.ptr.crc ^= 1));
    finds("used twice: by the log", long(|long| long.ptr.page = LOG_PAGE));
}

/// A store whose second table has a value of 4032 bytes in a page and 2118 in the leaf, and what bends it.
fn with_tail(bend: impl FnOnce(&mut Overflow, &mut Vec<u8>, &mut u32)) -> Store {
    let mut store = Store::new();
    let (mut long, mut tail, mut told) = (store.pages.value(17, 4032), vec![0xee; 2118], 2118);
    bend(&mut long, &mut tail, &mut told);
    let ptr = store.pages.leaf(17, &[("a", Val::Tailed(long, tail, told)), ("b", short("c"))]);
    store.tables[1].1 = store.pages.tree(ptr);
    store
}

#[test]
fn a_tail_belongs_to_its_value() {
    let file = with_tail(|_, _, _| ()).build();
    let report = checked(&file);
    assert_eq!(report.damage, 0, "{:?}", report.findings);
    let beta = &report.tables[3];
    assert_eq!((beta.long_values, beta.long_value_pages, beta.value_bytes), (1, 1, 6151));
    let tail = file.windows(2118).position(|bytes| bytes.iter().all(|byte| *byte == 0xee)).unwrap();
    for at in [tail, tail + 1000, tail + 2117] {
        let mut bent = file.clone();
        bent[at] ^= 1;
        assert!(checked(&bent).damage > 0, "byte {at}");
    }
    finds("2 pages and 4035 bytes are noted, but 2 and 6153 are there", |store| {
        *store = with_tail(|_, _, _| ());
        store.tables[1].1.bytes -= 2118;
    });
}

#[test]
fn wrong_tails_are_found() {
    let finds = |what: &str, bend: fn(&mut Overflow, &mut Vec<u8>, &mut u32)| {
        finds(what, |store| *store = with_tail(bend));
    };
    finds("2142 bytes for a pointer and a tail that cannot be", |_, _, told| *told += 1);
    finds("2142 bytes for a pointer and a tail that cannot be", |_, _, told| *told -= 1);
    finds("cannot be", |_, _, told| *told = u32::MAX);
    finds("cannot be", |long, _, _| long.len = (1 << 30) - 2117);
    // Eight bytes of the tail, taken for an extent.
    finds("its extents are not those of 4032 bytes in 1 pages", |_, _, told| *told -= 8);
    finds("not 4031 bytes from a run of 1 pages on", |long, _, _| long.len -= 1);
}

#[test]
fn catalog_and_names_must_agree() {
    finds("table 17 has entries but no name", |s| _ = s.names.remove(1));
    finds("have the same id", |s| s.names[2].1 = 17);
    finds("is no table's", |s| s.tables[1].0 = 19);
    finds("is no table's", |s| s.tables[0].0 = 2);
    finds("cannot be understood", |s| s.names[2].1 = 19);
}

#[test]
fn a_torn_tail_is_no_damage_but_a_broken_middle_is() {
    let sound = Store::new();
    let frames = sound.frames.clone();
    let file = sound.build();
    let starts = write_log(&mut file.clone(), &frames);
    // The last frame: torn.
    let mut bent = file.clone();
    bent[place(starts[4] + 70)] ^= 1;
    let report = checked(&bent);
    assert!(report.is_clean() && report.lsn == 44, "{:?}", report.findings);
    // LSN 42 and 43: the frame of LSN 44 stands in a block of its own and knows that 43 was durable.
    for (start, last) in [(starts[1], 41), (starts[2], 42)] {
        let mut bent = file.clone();
        bent[place(start + 20)] ^= 1;
        let report = checked(&bent);
        assert!(report.findings[0].message.contains(&format!("breaks off after LSN {last}")), "{:?}", report.findings);
        assert_eq!((report.findings[0].severity, report.lsn), (Severity::Damage, last));
    }
    // The same, but nothing says that it ever was durable.
    let mut relaxed = frames.clone();
    relaxed[3].durable_lsn = 41;
    let mut bent = file.clone();
    write_log(&mut bent, &relaxed);
    bent[place(starts[2] + 20)] ^= 1;
    let report = checked(&bent);
    assert_eq!((report.damage, report.lsn), (0, 42));
    // The same, but it has seen a newer root: that root is lost. (One root more may have been a copy.)
    relaxed[3].root_sequence = 7;
    write_log(&mut bent, &relaxed);
    bent[place(starts[2] + 20)] ^= 1;
    assert!(checked(&bent).findings[0].message.contains("breaks off"));
    // Within the chain, too.
    write_log(&mut bent, &relaxed);
    assert!(checked(&bent).findings[0].message.contains("root 7 was durable"));
}

#[test]
fn wrong_frames_are_found() {
    let with = |frame: Mark| move |s: &mut Store| s.frames.push(frame);
    finds("comes too late", with(Mark::puts(46, &[(17, "a", ""), (16, "a", "")])));
    finds("does not come after", with(Mark::puts(46, &[(17, "a", ""), (17, "a", "")])));
    finds("bytes follow", with(Mark { operations: 1, ..Mark::puts(46, &[(17, "a", ""), (17, "b", "")]) }));
    finds("cut off", with(Mark { operations: 3, ..Mark::puts(46, &[(17, "a", ""), (17, "b", "")]) }));
    finds("a checkpoint record with", with(Mark { kind: 2, ..Mark::puts(46, &[(17, "a", "")]) }));
    let lost = Overflow::whole(Ptr { page: 1 << 30, crc: 1 }, 10, 5);
    finds("cannot be", with(Mark::long(46, 17, "a", lost)));
    assert_eq!(
        messages(with(Mark { operations: 2, payload: vec![4, 17, 0, 0, 0, 4, 18, 0, 0, 0], ..Mark::puts(46, &[]) })),
        ""
    );
}

#[test]
fn a_commit_at_work_beside_the_check_is_no_damage() {
    let sound = Store::new();
    let frames = sound.frames.clone();
    let whole = sound.build();
    let starts = write_log(&mut whole.clone(), &frames);
    // All but the newest two batches are there; they appear at any one moment.
    let mut early = whole.clone();
    for at in starts[2]..starts[4] + 4096 {
        early[place(at)] = 0;
    }
    let reads = {
        let disk = MemoryDisk::new(early.clone());
        let report = check_disk(&disk, &CheckOptions::new()).unwrap();
        assert!(report.is_clean() && report.lsn == 42);
        disk.reads.into_inner()
    };
    let mut ends = BTreeMap::new();
    for moment in 0..reads {
        let mut disk = MemoryDisk::new(early.clone());
        let late = whole.clone();
        disk.hook = Box::new(move |read, bytes| {
            if read == moment {
                bytes.clone_from(&late);
            }
        });
        let report = check_disk(&disk, &CheckOptions::new()).unwrap();
        assert_eq!(report.findings, [], "at read {moment}");
        *ends.entry(report.lsn).or_insert(0) += 1;
    }
    assert_eq!(ends.keys().copied().collect::<Vec<_>>(), [42, 45]);
}

#[test]
fn a_checkpoint_beside_the_check_is_no_damage() {
    let file = Store::new().build();
    // Root 6: the same tree, the log gone on over all that was there.
    let slot = || {
        let mut later = file.clone();
        let mut slot = None;
        if let Some(Content { catalog, space, segments }) = content(&file) {
            slot = Some(Slot { sequence: 6, checkpoint_lsn: 45, log_crc: 1, catalog, space, next_table: 19, segments });
        }
        slot.unwrap().write(&mut later);
        for at in LOG_POSITION..LOG_POSITION + 7 * PAGE as u64 {
            later[place(at)] = 0x77;
        }
        later
    };
    let later = slot();
    let reads = {
        let disk = MemoryDisk::new(file.clone());
        check_disk(&disk, &CheckOptions::new()).unwrap();
        disk.reads.into_inner()
    };
    let mut roots = BTreeMap::new();
    for moment in 0..reads {
        let mut disk = MemoryDisk::new(file.clone());
        let late = later.clone();
        disk.hook = Box::new(move |read, bytes| {
            if read == moment {
                bytes.clone_from(&late);
            }
        });
        let report = check_disk(&disk, &CheckOptions::new()).unwrap();
        let damage: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Damage).collect();
        assert!(damage.is_empty(), "at read {moment}: {damage:?}");
        *roots.entry(report.root_sequence).or_insert(0) += 1;
    }
    assert_eq!(roots.keys().copied().collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn a_root_that_went_before_it_was_pinned_is_not_walked() {
    let mut later = Store::new();
    later.pages.value(17, 1);
    later.slot.sequence = 7;
    later.pending.push((23, 1));
    let mut later = later.build();
    let mut file = Store::new().build();
    let len = file.len().max(later.len());
    file.resize(len, 0);
    later.resize(len, 0);
    let mut disk = MemoryDisk::new(file);
    // The slots are read three times before the lock: what comes next is after it.
    disk.hook = Box::new(move |read, bytes| {
        if read == 3 {
            bytes.clone_from(&later);
        }
    });
    let report = check_disk(&disk, &CheckOptions::new()).unwrap();
    assert_eq!((report.root_sequence, report.findings), (7, vec![]));
}

#[test]
fn roots_that_always_go_before_they_are_pinned_are_never_walked() {
    let file = Store::new().build();
    let Content { catalog, space, segments } = content(&file).unwrap();
    let slot = Slot { sequence: 0, checkpoint_lsn: 40, log_crc: 0xabcd, catalog, space, next_table: 19, segments };
    let mut disk = MemoryDisk::new(file);
    let sequence = Mutex::new(5);
    disk.lock_hook = Box::new(move |_, bytes| {
        let mut sequence = sequence.lock().unwrap();
        *sequence += 1;
        Slot { sequence: *sequence, ..slot.clone() }.write(bytes);
    });
    let error = check_disk(&disk, &CheckOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Busy { lock: LockKind::Pin, .. }), "{error}");
    assert!(disk.locked.lock().unwrap().is_empty());
}

struct Content {
    catalog: TreeRoot,
    space: SpaceRoot,
    segments: Vec<(u32, u32)>,
}

fn content(file: &[u8]) -> Option<Content> {
    let root = Slots::read(&MemoryDisk::new(file.to_vec())).unwrap().newest()?;
    let space = SpaceRoot { directory: root.directory, pending: root.pending, page_count: root.page_count };
    Some(Content { catalog: root.catalog, space, segments: root.segments })
}

#[test]
fn checkpoints_without_end_leave_the_log_out() {
    let file = Store::new().build();
    let Content { catalog, space, segments } = content(&file).unwrap();
    let slot = Slot { sequence: 0, checkpoint_lsn: 40, log_crc: 0xabcd, catalog, space, next_table: 19, segments };
    let mut disk = MemoryDisk::new(file);
    // A new root every few reads: never the same before and after the log.
    let sequence = Mutex::new((5u64, 0u32));
    disk.hook = Box::new(move |read, bytes| {
        let mut state = sequence.lock().unwrap();
        if read >= state.1 + 11 {
            *state = (state.0 + 1, read);
            Slot { sequence: state.0, ..slot.clone() }.write(bytes);
        }
    });
    let report = check_disk(&disk, &CheckOptions::new()).unwrap();
    assert!(report.notes[0].contains("not checked"), "{:?}", report.notes);
    assert_eq!(report.damage, 0, "{:?}", report.findings);
    assert_eq!((report.log_frames, report.pages.tree), (0, 10));
}

#[test]
fn slots_are_judged_copy_by_copy() {
    let file = Store::new().build();
    let with = |bend: &dyn Fn(&mut Vec<u8>)| {
        let mut bent = file.clone();
        bend(&mut bent);
        checked(&bent)
    };
    // The newest slot torn to pieces: the one before it serves, and the log proves the loss.
    let report = with(&|f| f[4096..8192].fill(9));
    assert!(report.root_sequence == 4 && report.warnings >= 2 && report.damage > 0);
    let report = with(&|f| f[..4096].fill(9));
    assert_eq!((report.root_sequence, report.damage, report.warnings), (5, 0, 2));
    // A newer root that never became whole.
    let report = with(&|f| f[..2048].copy_within(100..200, 300));
    assert_eq!((report.damage, report.warnings), (0, 1));
    let report = with(&|f| (0..4).for_each(|copy| f[copy * 2048 + 50] ^= 1));
    assert_eq!(report.damage, 5);
    assert!(report.findings[4].message.contains("no root slot is whole"));
    // A copy with a right CRC and other fields.
    let report = with(&|f| {
        put_u32(f, 52, 4097);
        seal_root(&mut f[..2048]);
    });
    assert!(report.findings[0].message.contains("a page size of 4097") && report.damage == 0);
}

#[test]
fn what_is_no_store_is_said_to_be_none() {
    let error = |bytes: Vec<u8>| check_disk(&MemoryDisk::new(bytes), &CheckOptions::new()).unwrap_err();
    assert!(matches!(error(Vec::new()), Error::NotAStore { found, .. } if found.contains("empty")));
    assert!(matches!(error(vec![0; 10000]), Error::NotAStore { found, .. } if found.contains("zeros")));
    assert!(matches!(error(b"SQLite format 3\0".repeat(1000)), Error::NotAStore { .. }));
    let mut newer = Store::new().build();
    put_u32(&mut newer, 8, 3);
    // The preamble alone counts: nothing else is known of a newer version.
    let crc = crc32fast::hash(&newer[..16]);
    put_u32(&mut newer, 16, crc);
    assert!(matches!(error(newer), Error::Format { found, .. } if found == "format version 3"));
    for (at, what) in [(56, "features"), (188, "protocol")] {
        let mut newer = Store::new().build();
        for copy in newer[..8192].chunks_mut(2048) {
            copy[at] ^= 0x40;
            seal_root(copy);
        }
        assert!(matches!(error(newer), Error::Format { found, .. } if found.contains(what)));
    }
    let short = checked(b"memstone");
    assert!(short.damage > 0 && short.root_sequence == 0);
}

#[test]
fn a_few_bytes_cannot_ask_for_much_memory_or_time() {
    // A file of 16 TiB, all holes but for a page, whose lists name all of it, many times over.
    let mut pages = Pages { bytes: vec![0; 3 * PAGE], version: 5, ..Pages::default() };
    let mut list = vec![0; PAGE_HEADER + 4];
    for freed in 1..100u64 {
        list.extend_from_slice(&0u64.to_le_bytes());
        list.extend_from_slice(&freed.to_le_bytes());
        list.extend_from_slice(&1u32.to_le_bytes());
        list.extend_from_slice(&4u32.to_le_bytes());
        list.extend_from_slice(&(u32::MAX - 4).to_le_bytes());
    }
    let len = (list.len() - PAGE_HEADER) as u64;
    put_u64(&mut list, PAGE_PAYLOAD_LEN, len);
    let pending = pages.seal(KIND_PENDING, 0, TABLE_SPACE, list);
    let mut file = pages.bytes;
    let space = SpaceRoot { pending, page_count: u64::from(u32::MAX), ..SpaceRoot::default() };
    Slot {
        sequence: 101,
        checkpoint_lsn: 0,
        log_crc: 0,
        catalog: TreeRoot { ptr: Ptr { page: u32::MAX - 1, crc: 1 }, count: 1, ..TreeRoot::default() },
        space,
        next_table: 16,
        segments: vec![(4, 2), (6, u32::MAX), (5, 1)],
    }
    .write(&mut file);
    let mut disk = MemoryDisk::new(file);
    disk.len = u64::from(u32::MAX) * PAGE as u64;
    let report = check_disk(&disk, &CheckOptions::new().max_findings(10)).unwrap();
    assert!(report.damage > 20 && report.findings.len() == 10);
    assert_eq!(report.pages.total, u64::from(u32::MAX));
}

#[test]
fn overlapping_frames_behind_the_end_are_not_read_for_ever() {
    let mut store = Store::new();
    store.frames.truncate(1);
    let mut file = store.build();
    // In each block a frame that claims all the rest of the ring, with a wrong CRC.
    for block in 1..5u64 {
        let position = LOG_POSITION + block * 4096;
        let frame = Mark { durable_lsn: 99, ..Mark::puts(50, &[(16, "k", "v")]) };
        frame.write(&mut file, position, 0);
        let len = (7 - block) * 4096 - 64;
        for (at, byte) in (position + 56..).zip((len as u32).to_le_bytes()) {
            file[place(at)] = byte;
        }
    }
    let disk = MemoryDisk::new(file);
    let report = check_disk(&disk, &CheckOptions::new()).unwrap();
    assert!(report.findings[0].message.contains("cannot be genuine"), "{:?}", report.findings);
}

proptest! {
    #[test]
    fn damaged_nodes_never_panic(at in prop_oneof![Just(14), 32usize..400], value in any::<[u8; 2]>(), branch in any::<bool>(), uniform in any::<bool>()) {
        let mut pages = Pages { bytes: vec![0; PAGE], version: 1, ..Pages::default() };
        let ptr = Ptr { page: 3, crc: 4 };
        if branch {
            pages.branch(16, 1, &[ptr; 4], &["abc", "abd", "abdominal"]);
        } else if uniform {
            pages.leaf(16, &[("abc", short("1")), ("abd", short("2")), ("acd", short("3"))]);
        } else {
            pages.leaf(16, &[("abc", short("1")), ("abd", Val::Long(Overflow::whole(ptr, 5, 5))), ("abe", short(""))]);
        }
        let node = &mut pages.bytes[PAGE..];
        let sound = if branch { node::branch(node).is_ok() } else { node::leaf(node).is_ok() };
        prop_assert!(sound);
        node[at..at + 2].copy_from_slice(&value);
        let _ = (node::branch(node), node::leaf(node));
    }

    #[test]
    fn any_bytes_end_in_an_answer(noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40), seal in any::<bool>()) {
        let mut file = Store::new().build();
        for (at, byte) in noise {
            let at = if seal { 4096 + 8 + at.index(900) } else { at.index(file.len()) };
            file[at] = byte;
        }
        if seal {
            seal_root(&mut file[4096..4096 + 2048]);
        }
        let _ = check_disk(&MemoryDisk::new(file), &CheckOptions::new());
    }
}
