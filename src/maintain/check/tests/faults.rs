//! Faults made by hand: each is found, in the right kind and place.

use super::*;

/// Where a finding belongs.
enum At {
    /// A page of this table.
    Table(&'static str),
    /// A page of the free map.
    Space,
    /// A byte of the log.
    Log,
    /// A byte of the root slots.
    Slots,
    /// The end of the file.
    End,
}

use At::{End, Log, Slots, Space};

const ALPHA: At = At::Table("alpha");
const BETA: At = At::Table("beta");
const CATALOG: At = At::Table("(catalog)");
const NAMES: At = At::Table("(names)");

impl At {
    fn is(&self, finding: &Finding, len: u64) -> bool {
        let page = finding.page.is_some_and(|page| finding.offset == page * PAGE as u64);
        let log = u64::from(LOG_PAGE) * PAGE as u64..12 * PAGE as u64;
        match self {
            At::Table(name) => page && finding.table.as_deref() == Some(name),
            Space => page && finding.table.is_none(),
            Log => finding.page.is_none() && log.contains(&finding.offset),
            Slots => finding.page.is_none() && finding.offset < 8192 && finding.offset.is_multiple_of(2048),
            End => finding.page.is_none() && finding.offset == len,
        }
    }
}

/// Builds a store that was bent before, bends its bytes, and looks for the finding.
#[track_caller]
fn found(number: &mut u32, what: &str, at: &At, bend: impl FnOnce(&mut Store), bytes: impl FnOnce(&mut Vec<u8>)) {
    let mut store = Store::new();
    bend(&mut store);
    let mut file = store.build();
    bytes(&mut file);
    let disk = MemoryDisk::new(file.clone());
    let report = check_disk(&disk, &CheckOptions::new().values(true)).unwrap();
    let right = report.findings.iter().any(|f| f.message.contains(what) && at.is(f, file.len() as u64));
    assert!(right, "fault {number}: {what:?} is not in {:#?}", report.findings);
    *number += 1;
}

/// The leaf of table 17 with bent bytes under a right CRC.
fn leaf(bend: impl FnOnce(&mut [u8])) -> impl FnOnce(&mut Store) {
    move |s| {
        let ptr = s.pages.leaf(
            17,
            &[
                ("aa", short("1")),
                ("ab", short("2")),
                ("b", Val::Long(Overflow::whole(Ptr { page: 40, crc: 1 }, 9, 5))),
            ],
        );
        let ptr = sealed(&mut s.pages.bytes, ptr.page, bend);
        s.tables[1].1 = s.pages.tree(ptr);
    }
}

/// A branch of table 17 with bent bytes under a right CRC.
fn branch(bend: impl FnOnce(&mut [u8])) -> impl FnOnce(&mut Store) {
    move |s| {
        let children = ["a", "b", "c"].map(|key| s.pages.leaf(17, &[(key, short("v"))]));
        let ptr = s.pages.branch(17, 1, &children, &["b", "c"]);
        let ptr = sealed(&mut s.pages.bytes, ptr.page, bend);
        s.tables[1].1 = s.pages.tree(ptr);
    }
}

fn sealed(bytes: &mut [u8], page: u32, bend: impl FnOnce(&mut [u8])) -> Ptr {
    let page_bytes = &mut bytes[page as usize * PAGE..][..PAGE];
    bend(page_bytes);
    let crc = crc32fast::hash(&page_bytes[4..]);
    put_u32(page_bytes, PAGE_CRC, crc);
    Ptr { page, crc }
}

/// Bends all four copies of the root slots, or those of the newest, under right CRCs.
fn slots(bend: impl Fn(&mut [u8])) -> impl FnOnce(&mut Vec<u8>) {
    move |file| {
        for at in (0..8192).step_by(2048) {
            bend(&mut file[at..at + 2048]);
            seal_root(&mut file[at..at + 2048]);
        }
    }
}

/// Bends a run of the free map whose pointer lies at this offset of the slots.
fn space(pointer: usize, bend: impl FnOnce(&mut [u8])) -> impl FnOnce(&mut Vec<u8>) {
    move |file| {
        let page = get_u32(file, 4096 + pointer);
        let ptr = sealed(file, page, bend);
        slots(|slot| put_u32(slot, pointer + 4, ptr.crc))(file);
    }
}

fn frame(frame: Mark) -> impl FnOnce(&mut Store) {
    move |s| s.frames.push(frame)
}

fn raw(operations: u32, payload: &[u8]) -> Mark {
    Mark { operations, payload: payload.to_vec(), ..Mark::puts(46, &[]) }
}

const SAME: fn(&mut Store) = |_| {};
const AS_BUILT: fn(&mut Vec<u8>) = |_| {};

#[test]
fn in_headers_and_leaves() {
    let n = &mut 0;
    let mut in_leaf = |what: &str, bend: &dyn Fn(&mut [u8])| found(n, what, &BETA, leaf(bend), AS_BUILT);
    in_leaf("misdirected", &|page| put_u32(page, PAGE_NUMBER, 9));
    in_leaf("the tag", &|page| page[PAGE_STORE] ^= 1);
    in_leaf("its kind is 3", &|page| page[PAGE_KIND] = 3);
    in_leaf("its kind is 77", &|page| page[PAGE_KIND] = 77);
    in_leaf("level 1 of kind 1", &|page| page[PAGE_LEVEL] = 1);
    in_leaf("layout 2 of kind 1", &|page| page[PAGE_LAYOUT] = 2);
    in_leaf("layout 257 of kind 1", &|page| put_u16(page, PAGE_LAYOUT, 0x101));
    in_leaf("written for root 6", &|page| put_u64(page, PAGE_VERSION, 6));
    in_leaf("belongs to table 16", &|page| put_u32(page, PAGE_TABLE, 16));
    in_leaf("a run of no pages", &|page| put_u32(page, PAGE_RUN, 0));
    in_leaf("longer than the 16 allowed", &|page| put_u32(page, PAGE_RUN, 40));
    in_leaf("a leaf without entries", &|page| put_u16(page, NODE_COUNT, 0));
    in_leaf("bytes after its end are not zero", &|page| put_u32(page, NODE_END, 50));
    in_leaf("beyond the node", &|page| put_u32(page, NODE_END, 5000));
    in_leaf("entries end at", &|page| page[NODE_END] += 1);
    in_leaf("entry 0 starts at", &|page| page[PAGE_HEADER + 12] += 1);
    in_leaf("head 0 is", &|page| page[PAGE_HEADER] ^= 1);
    in_leaf("keys share 1 bytes, but 0", &|page| {
        page[PAGE_HEADER + 8..PAGE_HEADER + 12].copy_from_slice(b"\0\0ca");
        page[PAGE_HEADER + 24] = 2;
    });
    in_leaf("the list of entries lies outside", &|page| put_u16(page, NODE_PREFIX, 4050));
    in_leaf("a key lies outside", &|page| put_u16(page, PAGE_HEADER + 18, 0x7FFF));
    in_leaf("a value lies outside", &|page| put_u16(page, PAGE_HEADER + 19, 0x7FFC));
    in_leaf("the length of a key has a needless byte", &|page| put_u16(page, PAGE_HEADER + 18, 0x0082));
    in_leaf("the length of a value is longer than three bytes", &|page| {
        page[PAGE_HEADER + 19..PAGE_HEADER + 22].fill(0xFF)
    });
    in_leaf("a value of the unknown kind 2", &|page| page[PAGE_HEADER + 19] = 4 + 2);
    in_leaf("key 1 does not come after", &|page| page[PAGE_HEADER + 3] = b'c');
    in_leaf("17 bytes for a pointer", &|page| page[PAGE_HEADER + 25] = 17 * 4 + 1);
    found(n, "damaged, stale or lost", &BETA, |s| s.tables[1].1.ptr.crc ^= 1, AS_BUILT);
    found(n, "do not match its CRC", &BETA, SAME, |f| f[21 * PAGE + 60] ^= 1);
    found(n, "all zeros", &BETA, SAME, |f| f[21 * PAGE..22 * PAGE].fill(0));
    found(n, "do not exist", &BETA, |s| s.tables[1].1.ptr.page = 1 << 20, AS_BUILT);
    found(n, "used twice: by the root slots", &BETA, |s| s.tables[1].1.ptr.page = 1, AS_BUILT);
    found(n, "2 entries are noted", &ALPHA, |s| s.tables[0].1.count = 2, AS_BUILT);
    found(n, "1 pages and", &ALPHA, |s| s.tables[0].1.pages = 1, AS_BUILT);
    found(n, "and 1 bytes are noted", &BETA, |s| s.tables[1].1.bytes = 1, AS_BUILT);
    assert!(*n >= 27, "{n}");
}

/// A leaf of table 17 whose entries are alike: `a`, three heads at 41, the lengths at 53 and 55, three values.
fn alike(uniform: bool, bend: impl FnOnce(&mut [u8])) -> impl FnOnce(&mut Store) {
    move |s| {
        s.pages.uniform = uniform;
        let ptr = s.pages.leaf(17, &[("aa", short("1")), ("ab", short("2")), ("ac", short("3"))]);
        let ptr = sealed(&mut s.pages.bytes, ptr.page, bend);
        s.tables[1].1 = s.pages.tree(ptr);
        s.pages.uniform = true;
    }
}

#[test]
fn in_uniform_leaves() {
    let n = &mut 0;
    let mut in_leaf = |what: &str, bend: &dyn Fn(&mut [u8])| found(n, what, &BETA, alike(true, bend), AS_BUILT);
    in_leaf("the list of entries lies outside", &|page| put_u16(page, NODE_COUNT, 1020));
    in_leaf("a key lies outside", &|page| put_u16(page, 53, 0x7FFF));
    in_leaf("a value lies outside", &|page| put_u32(page, 55, 0x7FFC));
    in_leaf("a value lies outside", &|page| put_u32(page, 55, u32::MAX - 3));
    in_leaf("its entries end at 65, but 62", &|page| put_u32(page, 55, 2 * 4));
    in_leaf("a value of the unknown kind 2", &|page| put_u32(page, 55, 4 + 2));
    in_leaf("1 bytes for a pointer", &|page| put_u32(page, 55, 4 + 1));
    in_leaf("head 0 is 61000000", &|page| put_u16(page, 53, 0));
    in_leaf("key 2 does not come after", &|page| page[41 + 8 + 3] = b'b');
    in_leaf("entry 0 starts at", &|page| put_u16(page, PAGE_LAYOUT, 0));
    found(n, "its entries are alike, but each has its own lengths", &BETA, alike(false, |_| ()), AS_BUILT);
    assert!(*n >= 11, "{n}");
}

#[test]
fn in_branches_and_values() {
    let n = &mut 0;
    let mut in_branch = |what: &str, bend: &dyn Fn(&mut [u8])| found(n, what, &BETA, branch(bend), AS_BUILT);
    in_branch("a branch with 1 children", &|page| put_u16(page, NODE_COUNT, 1));
    in_branch("the list of children lies outside", &|page| put_u16(page, NODE_COUNT, 600));
    in_branch("suffix 0 starts at", &|page| page[PAGE_HEADER + 8] += 1);
    in_branch("head 1 is", &|page| page[PAGE_HEADER + 7] ^= 1);
    in_branch("separator 1 does not come after", &|page| {
        page[PAGE_HEADER + 54] = b'd';
        page[PAGE_HEADER + 3] = b'd';
    });
    in_branch("level 0 below level 2", &|page| page[PAGE_LEVEL] = 2);
    in_branch("level 41", &|page| page[PAGE_LEVEL] = 41);
    in_branch("layout 1 of kind 2", &|page| page[PAGE_LAYOUT] = 1);
    in_branch("used twice: by a tree and by a tree", &|page| {
        page.copy_within(PAGE_HEADER + 12..PAGE_HEADER + 16, PAGE_HEADER + 26)
    });
    in_branch("its parent notes 2 entries, but it has 1", &|page| page[PAGE_HEADER + 12 + 8] = 2);
    in_branch("outside of the range", &|page| {
        (0..8).for_each(|at| page.swap(PAGE_HEADER + 26 + at, PAGE_HEADER + 40 + at))
    });
    let long = |bend: fn(&mut Overflow)| {
        move |s: &mut Store| {
            let mut long = s.pages.value(17, 5000);
            bend(&mut long);
            let ptr = s.pages.leaf(17, &[("a", Val::Long(long))]);
            s.tables[1].1 = s.pages.tree(ptr);
        }
    };
    found(
        n,
        "not 5000 bytes from a run of 2 pages on, written for root 4",
        &BETA,
        long(|long| long.version -= 1),
        AS_BUILT,
    );
    found(n, "not 4999", &BETA, long(|long| long.len -= 1), AS_BUILT);
    found(n, "cannot be", &BETA, long(|long| long.len = u64::MAX), AS_BUILT);
    found(n, "cannot be", &BETA, long(|long| long.ptr.page = 1), AS_BUILT);
    found(n, "damaged, stale or lost", &BETA, long(|long| long.ptr.crc ^= 1), AS_BUILT);
    found(n, "used twice: by the log", &BETA, long(|long| long.ptr.page = LOG_PAGE), AS_BUILT);
    found(n, "their CRC: 0..9000 (at offset 45120)", &ALPHA, SAME, |f| f[13 * PAGE + 9] ^= 1);
    found(
        n,
        "belongs to table 16",
        &BETA,
        |s| {
            let long = s.pages.value(16, 10);
            let ptr = s.pages.leaf(17, &[("a", Val::Long(long))]);
            s.tables[1].1 = s.pages.tree(ptr);
        },
        AS_BUILT,
    );
    assert!(*n >= 16, "{n}");
}

#[test]
fn in_catalog_names_types_and_uses() {
    let n = &mut 0;
    found(n, "table 17 has entries but no name", &CATALOG, |s| _ = s.names.remove(1), AS_BUILT);
    found(n, "have the same id", &NAMES, |s| s.names[2].1 = 17, AS_BUILT);
    found(n, "is no table's", &CATALOG, |s| s.tables[1].0 = 19, AS_BUILT);
    found(n, "is no table's", &CATALOG, |s| s.tables[0].0 = 2, AS_BUILT);
    found(n, "cannot be understood", &NAMES, |s| s.names[2].1 = 19, AS_BUILT);
    found(n, "a node: ", &CATALOG, SAME, |f| f[24 * PAGE + 50] ^= 1);
    found(n, "a node: ", &NAMES, SAME, |f| f[23 * PAGE + 50] ^= 1);
    found(
        n,
        "is none of the type str",
        &BETA,
        |s| {
            let ptr = s.pages.leaf(17, &[("aa", short("1")), ("ab", short("2"))]);
            let bend = |page: &mut [u8]| {
                put_u32(page, PAGE_HEADER + 1 + 4, 0xFF00_0000);
            };
            let ptr = sealed(&mut s.pages.bytes, ptr.page, bend);
            s.tables[1].1 = s.pages.tree(ptr);
        },
        AS_BUILT,
    );
    found(n, "used twice: by a tree and by a tree", &BETA, |s| s.tables[1].1 = s.tables[0].1, AS_BUILT);
    found(n, "pages belong to nothing", &Space, |s| s.pending.truncate(1), AS_BUILT);
    found(n, "by a tree and by the pending pages", &Space, |s| s.pending.push((s.tables[1].1.ptr.page, 1)), AS_BUILT);
    found(n, "by the log and by the pending pages", &Space, |s| s.pending.push((LOG_PAGE + 1, 1)), AS_BUILT);
    found(n, "used twice: by the log", &Space, |s| s.slot.segments[1].0 = LOG_PAGE + 1, AS_BUILT);
    let (directory, pending) = (136, 144);
    found(n, "directory: it has 32 bytes", &Space, SAME, space(directory, |page| page[PAGE_PAYLOAD_LEN] += 16));
    found(n, "is not understood", &Space, SAME, space(directory, |page| page[PAGE_HEADER + 12] = 1));
    found(n, "are noted", &Space, SAME, space(directory, |page| page[PAGE_HEADER + 8] ^= 1));
    found(n, "a region of the free map: its CRC", &Space, SAME, space(directory, |page| page[PAGE_HEADER + 4] ^= 1));
    found(n, "its kind is 6", &Space, SAME, space(directory, |page| page[PAGE_KIND] = KIND_PENDING));
    found(n, "a group of", &Space, SAME, space(pending, |page| put_u64(page, PAGE_HEADER + 8, 99)));
    found(n, "a group is cut off", &Space, SAME, space(pending, |page| put_u32(page, PAGE_HEADER + 16, 900)));
    found(n, "do not exist", &Space, SAME, space(pending, |page| put_u32(page, PAGE_HEADER + 20, 1 << 20)));
    found(n, "after its payload", &Space, SAME, space(pending, |page| page[4000] = 1));
    assert!(*n >= 22, "{n}");
}

#[test]
fn in_slots_and_log() {
    let n = &mut 0;
    found(n, "broken: its bytes do not match", &Slots, SAME, |f| f[2048 + 100] ^= 1);
    found(n, "the magic bytes are missing", &Slots, SAME, |f| f[6144] ^= 1);
    found(n, "is missing from this copy", &Slots, SAME, |f| f[2048..4096].fill(0));
    found(n, "not root 4", &Slots, SAME, |f| {
        put_u64(f, 96, 2);
        seal_root(&mut f[..2048]);
    });
    found(n, "a page size of 4097", &Slots, SAME, slots(|slot| put_u32(slot, 52, 4097)));
    found(n, "99 log segments", &Slots, SAME, slots(|slot| put_u32(slot, 124, 99)));
    found(n, "reserved bytes are not zero", &Slots, SAME, slots(|slot| slot[900] = 1));
    found(n, "it says it is slot 7", &Slots, SAME, slots(|slot| put_u32(slot, 196, 7)));
    found(n, "newest transaction has LSN 41", &Slots, SAME, slots(|slot| put_u64(slot, 168, 41)));
    found(n, "at byte 8200 of its segment", &Slots, SAME, slots(|slot| put_u64(slot, 128, 8200)));
    found(n, "beyond its first segment", &Slots, SAME, slots(|slot| put_u64(slot, 128, 1 << 20)));
    found(n, "a log segment: ", &Slots, SAME, slots(|slot| put_u32(slot, 200, 1 << 20)));
    found(n, "the file should have", &End, SAME, |f| f.truncate(f.len() - PAGE));
    let mut in_frame = |what: &str, bad: Mark| found(n, what, &Log, frame(bad), AS_BUILT);
    in_frame("comes too late", Mark::puts(46, &[(17, "a", ""), (16, "a", "")]));
    in_frame("does not come after", Mark::puts(46, &[(17, "a", ""), (17, "a", "")]));
    in_frame("bytes follow", Mark { operations: 1, ..Mark::puts(46, &[(17, "a", ""), (17, "b", "")]) });
    in_frame("cut off", Mark { operations: 3, ..Mark::puts(46, &[(17, "a", ""), (17, "b", "")]) });
    in_frame("a checkpoint record with", Mark { kind: 2, ..Mark::puts(46, &[(17, "a", "")]) });
    in_frame("LSN 46 was durable before", Mark { durable_lsn: 46, ..Mark::puts(46, &[]) });
    in_frame("root 7 was durable", Mark { root_sequence: 7, ..Mark::puts(46, &[]) });
    in_frame("changes table 30, which has no name", Mark::puts(46, &[(30, "a", "")]));
    in_frame("changes table 3, which no", Mark::puts(46, &[(3, "a", "")]));
    in_frame("the row of table \"x\" cannot be", Mark::puts(46, &[(1, "x", "y")]));
    in_frame("dropped after a change", raw(2, &[2, 17, 0, 0, 0, 1, 0, b'a', 4, 16, 0, 0, 0]));
    in_frame("dropped twice", raw(2, &[4, 17, 0, 0, 0, 4, 17, 0, 0, 0]));
    in_frame("which this frame drops", raw(2, &[4, 17, 0, 0, 0, 2, 17, 0, 0, 0, 1, 0, b'a']));
    in_frame("cannot be", Mark::long(46, 17, "a", Overflow::whole(Ptr { page: 1 << 30, crc: 1 }, 10, 5)));
    let named_and_gone = |s: &mut Store| {
        s.frames.push(raw(1, &[2, 1, 0, 0, 0, 3, 0, b'n', b'e', b'w']));
        s.frames.push(Mark::puts(47, &[(19, "a", "")]));
    };
    found(n, "changes table 19, which has no name", &Log, named_and_gone, AS_BUILT);
    let starts = write_log(&mut Store::new().build(), &Store::new().frames);
    found(n, "breaks off after LSN 41", &Log, SAME, |f| f[place(starts[1] + 20)] ^= 1);
    assert!(*n >= 29, "{n}");
}

#[test]
fn frames_of_a_newer_program_are_no_damage() {
    for (bad, what) in [(Mark { kind: 7, ..Mark::puts(46, &[]) }, "kind 7"), (raw(1, &[9; 30]), "code 9")] {
        let mut store = Store::new();
        frame(bad)(&mut store);
        let error = check_disk(&MemoryDisk::new(store.build()), &CheckOptions::new()).unwrap_err();
        assert!(matches!(&error, crate::Error::Format { found, .. } if found.contains(what)), "{error}");
    }
}

/// A row may have more behind what is known of it.
#[test]
fn longer_rows_are_sound() {
    let mut store = Store::new();
    named(4, true, |_, row| row.extend(b"newer"))(&mut store);
    let report = check_disk(&MemoryDisk::new(store.build()), &CheckOptions::new()).unwrap();
    assert_eq!(report.findings, vec![]);
}

/// A state of root `sequence` that is kept by a name: a table and its catalog, in pages that wait, or do not.
fn named(sequence: u64, waits: bool, bend: impl FnOnce(&mut Pages, &mut Vec<u8>)) -> impl FnOnce(&mut Store) {
    move |s| {
        s.pages.version = sequence;
        let leaf = s.pages.leaf(17, &[("k", short("old"))]);
        let tree = s.pages.tree(leaf).encode().to_vec();
        let catalog = s.pages.leaf(0, &[("\0\0\0\x11", Val::Short(tree))]);
        if waits {
            s.pending.extend([(leaf.page, 1), (catalog.page, 1)]);
        }
        let mut row = sequence.to_le_bytes().to_vec();
        [40, 40, 1_u64].iter().for_each(|number| row.extend(number.to_le_bytes()));
        row.extend(s.pages.tree(catalog).encode());
        bend(&mut s.pages, &mut row);
        s.pages.version = 5;
        let table = s.pages.leaf(3, &[("one", Val::Short(row))]);
        s.tables.insert(0, (3, s.pages.tree(table)));
    }
}

#[test]
fn in_named_snapshots() {
    const TABLE: At = At::Table("(snapshots)");
    const ONE: At = At::Table("(snapshot one)");
    let mut sound = Store::new();
    named(4, true, |_, _| {})(&mut sound);
    let report = check_disk(&MemoryDisk::new(sound.build()), &CheckOptions::new()).unwrap();
    assert_eq!((report.findings, report.pages.pending), (vec![], 5));

    let n = &mut 0;
    let row = |bend: fn(&mut Vec<u8>)| named(4, true, move |_, row| bend(row));
    found(n, "cannot be understood", &TABLE, row(|row| row.truncate(row.len() - 1)), AS_BUILT);
    found(n, "cannot be understood", &TABLE, row(|row| put_u64(row, 0, 5)), AS_BUILT);
    found(n, "cannot be understood", &TABLE, row(|row| put_u64(row, 8, 41)), AS_BUILT);
    found(n, "its CRC is", &ONE, row(|row| row[36] ^= 1), AS_BUILT);
    found(n, "do not exist", &ONE, row(|row| put_u32(row, 32, 4000)), AS_BUILT);
    found(n, "not in the pending list", &Slots, named(4, false, |_, _| {}), AS_BUILT);
    found(n, "as if no version needed it", &Space, named(2, true, |_, _| {}), AS_BUILT);
    let other = |pages: &mut Pages, row: &mut Vec<u8>| {
        let catalog = pages.leaf(0, &[("\0\0\0\x02", Val::Short(vec![0; TREE_ROOT_SIZE]))]);
        put_bytes(row, 32, &pages.tree(catalog).encode());
    };
    found(n, "is no table's", &ONE, named(4, true, other), AS_BUILT);
    // What is a page of the newest trees by its number is another one by its CRC.
    let stale = named(4, true, |_, row| put_u32(row, 32, 13));
    found(n, "a page that is in use otherwise", &ONE, stale, AS_BUILT);
}

/// Each level has the one below it twice: a walk that took every way down would never end.
#[test]
fn catalogs_of_named_snapshots_that_share_subtrees_come_to_an_end() {
    let mut store = Store::new();
    named(4, true, |pages, row| {
        let mut below = pages.leaf(0, &[("\0\0\0\x11", Val::Short(vec![0; TREE_ROOT_SIZE]))]);
        for level in 1..40 {
            below = pages.branch(0, level, &[below, below], &["m"]);
        }
        put_bytes(row, 32, &pages.tree(below).encode());
    })(&mut store);
    check_disk(&MemoryDisk::new(store.build()), &CheckOptions::new()).unwrap();
}
