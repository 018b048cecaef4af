//! Large trees: in which order their pages are read, by how many threads, and in how much memory, changes nothing of what is found.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use super::*;
use crate::Store as RealStore;

/// A store whose leaves do not lie in the order of their keys, with some long values. Made once.
fn scattered() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.mst");
        let store = RealStore::open(&path).unwrap();
        // A long common part, which branches store once, and a check holds with each fence.
        let key = |n: u64| [&[b'p'; 60][..], &(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()].concat();
        for round in 0..8_u64 {
            let batch = |tx: &crate::WriteTxn| {
                (0..3000).try_for_each(|n| tx.raw("rows")?.put(&key(round * 3000 + n), &[7; 150]))?;
                (0..40).try_for_each(|n| tx.raw("long")?.put(&key(round * 40 + n), &vec![9; 2000 + 300 * n as usize]))
            };
            store.write(batch).unwrap();
            store.checkpoint().unwrap();
        }
        store.close().unwrap();
        std::fs::read(&path).unwrap()
    })
}

fn options(threads: usize, held: usize) -> CheckOptions {
    let threads = NonZeroUsize::new(threads).unwrap();
    CheckOptions { held, threads, ..CheckOptions::new().max_findings(100_000) }
}

fn report(disk: &MemoryDisk, options: &CheckOptions) -> Report {
    let report = check_disk(disk, options).unwrap();
    assert!(disk.locked.lock().unwrap().is_empty(), "a pin is left");
    report
}

fn sorted(mut report: Report) -> String {
    report.findings.sort_by_key(|f| (f.offset, f.message.clone()));
    serde_json::to_string(&report).unwrap()
}

/// The kind of the run that starts at a page, if one does.
fn kind(bytes: &[u8], page: usize) -> Option<u8> {
    let page_bytes = &bytes[page * PAGE..(page + 1) * PAGE];
    let whole = get_u32(page_bytes, PAGE_NUMBER) as usize == page && get_u32(page_bytes, PAGE_RUN) == 1;
    (whole && crc32fast::hash(&page_bytes[PAGE_NUMBER..]) == get_u32(page_bytes, PAGE_CRC))
        .then(|| page_bytes[PAGE_KIND])
}

#[test]
fn pages_are_read_once_in_the_order_in_which_they_lie() {
    let disk = MemoryDisk::new(scattered().to_vec());
    let report = report(&disk, &options(1, HELD));
    assert!(report.is_clean(), "{:?}", report.findings);
    let read = disk.read.into_inner().unwrap();
    let pages = report.pages;
    let used = (pages.tree + pages.values + pages.log + pages.free_map) * PAGE as u64;
    let bytes: u64 = read.iter().map(|(_, len)| *len as u64).sum();
    // Beside these: the root slots, over and over, what lies between two runs, and blocks of the log that are looked at.
    assert!(bytes < used + used / 4, "{bytes} bytes were read, {used} are in use");
    let back = read.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    let leaves: u64 = report.tables.iter().map(|table| table.leaves).sum();
    assert!(leaves > 700, "only {leaves} leaves");
    assert!(
        back < 40 && read.len() as u64 * 5 < leaves,
        "{} reads, {back} of them back, for {leaves} leaves",
        read.len()
    );
}

#[test]
fn threads_and_memory_change_nothing_of_what_is_found() {
    let sound = scattered();
    let expected = sorted(report(&MemoryDisk::new(sound.to_vec()), &options(1, HELD)));
    for held in [0, 3000, 40_000] {
        assert_eq!(sorted(report(&MemoryDisk::new(sound.to_vec()), &options(2, held))), expected, "{held} bytes held");
    }
    let mut state = 88_172_645_463_325_252_u64;
    for round in 0..20 {
        let mut bent = sound.to_vec();
        for _ in 0..=round {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = 3 * PAGE + (state % (bent.len() - 3 * PAGE) as u64) as usize;
            bent[at] ^= 1 << (round % 8);
        }
        let one = report(&MemoryDisk::new(bent.clone()), &options(1, HELD));
        for threads in [2, 5] {
            let more = report(&MemoryDisk::new(bent.clone()), &options(threads, HELD));
            assert_eq!(
                serde_json::to_string(&more).unwrap(),
                serde_json::to_string(&one).unwrap(),
                "{threads} threads"
            );
        }
        let little = report(&MemoryDisk::new(bent), &options(2, 5000));
        assert_eq!(sorted(little), sorted(one));
    }
}

#[test]
fn a_destroyed_node_says_nothing_of_its_neighbours() {
    let sound = scattered();
    let mut tried = [0; 2];
    for page in 2..sound.len() / PAGE {
        let which = match kind(sound, page) {
            Some(KIND_LEAF) if page % 37 == 0 => 0,
            Some(KIND_BRANCH) => 1,
            _ => continue,
        };
        let mut bent = sound.to_vec();
        bent[page * PAGE + 2000] ^= 1;
        let found = report(&MemoryDisk::new(bent), &options(1, HELD));
        let damage: Vec<_> = found.findings.iter().filter(|f| f.severity == Severity::Damage).collect();
        let its_own = damage.len() == 1 && damage[0].page == Some(page as u64) && damage[0].message.contains("its CRC");
        // A page of an older tree, by now free, or pending.
        let unused = found.is_clean();
        assert!(its_own || unused, "page {page}: {damage:?}");
        tried[which] += u32::from(its_own);
    }
    assert!(tried[0] > 10 && tried[1] > 5, "{tried:?}");
}

#[test]
fn a_bad_sector_costs_its_own_page_alone() {
    let sound = scattered();
    let leaf = (0..sound.len() / PAGE).filter(|page| kind(sound, *page) == Some(KIND_LEAF));
    let mut found = 0;
    for page in leaf.step_by(97) {
        let disk = MemoryDisk { bad: Some((page * PAGE + 1000) as u64), ..MemoryDisk::new(sound.to_vec()) };
        let report = report(&disk, &options(2, HELD));
        let damage: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Damage).collect();
        match damage.as_slice() {
            [] => assert!(report.is_clean()),
            [one] => {
                assert!(one.page == Some(page as u64) && one.message.contains("a bad sector"), "{one:?}");
                found += 1;
            }
            more => panic!("page {page}: {more:?}"),
        }
    }
    assert!(found > 5, "{found}");
}

#[test]
fn a_check_tells_how_far_it_is_and_can_be_broken_off_at_any_time() {
    let disk = MemoryDisk::new(scattered().to_vec());
    let mut told: Vec<Progress> = Vec::new();
    let mut go_on = |progress: Progress| {
        told.push(progress);
        ControlFlow::Continue(())
    };
    let report = check_disk_with(&disk, &options(1, HELD), &mut Watch::new(disk.path(), &mut go_on)).unwrap();
    let pages = report.pages;
    assert!(told.len() > 3 && told.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes), "{told:?}");
    let last = told.last().unwrap();
    let in_use = (pages.total - pages.free) * PAGE as u64;
    assert!(told.iter().all(|t| t.phase == Phase::Verifying && t.total == in_use), "{told:?}, {in_use} in use");
    assert!(last.bytes <= in_use && last.bytes > (pages.tree + pages.values) * PAGE as u64 - (5 << 20), "{last:?}");
    for moment in 0..told.len() {
        let disk = MemoryDisk::new(scattered().to_vec());
        let mut calls = 0;
        let mut stop = |_: Progress| {
            calls += 1;
            if calls > moment { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = check_disk_with(&disk, &options(2, HELD), &mut Watch::new(disk.path(), &mut stop));
        assert!(matches!(result, Err(Error::Cancelled { .. })), "{result:?}");
        assert!(disk.locked.lock().unwrap().is_empty(), "a pin is left");
        assert_eq!(calls, moment + 1, "the callback is not asked again");
    }
}

/// The file of a store that is open, with two roots that differ, and one in which a page of the older one alone is destroyed.
#[test]
fn the_tree_of_the_other_root_is_checked_as_far_as_it_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    let store = RealStore::open(&path).unwrap();
    let key = |n: u32| n.to_be_bytes();
    store.write(|tx| (0..3000).try_for_each(|n| tx.raw("rows")?.put(&key(n), &[1; 150]))).unwrap();
    store.write(|tx| tx.raw("long")?.put(b"k", &[2; 3900])).unwrap();
    store.checkpoint().unwrap();
    store.write(|tx| (0..3000).step_by(500).try_for_each(|n| tx.raw("rows")?.put(&key(n), &[3; 150]))).unwrap();
    store.write(|tx| tx.raw("long")?.put(b"k", b"short")).unwrap();
    store.checkpoint().unwrap();
    let file = std::fs::read(&path).unwrap();
    let sound = report(&MemoryDisk::new(file.clone()), &options(1, HELD));
    assert_eq!((sound.findings.len(), sound.other_root), (0, Some(sound.root_sequence - 1)));
    let (mut nodes, mut longs, mut unseen, mut own) = (0, 0, 0, Vec::new());
    for page in 2..file.len() / PAGE {
        let mut bent = file.clone();
        bent[page * PAGE + 3000] ^= 1;
        let found = report(&MemoryDisk::new(bent), &options(1, HELD));
        match found.findings.as_slice() {
            [] => unseen += 1,
            [one] if one.severity == Severity::Warning => {
                assert_eq!(one.page, Some(page as u64), "{one:?}");
                assert!(one.message.starts_with(&format!("root {}, which serves", sound.root_sequence - 1)), "{one:?}");
                own.push(page);
                nodes += u32::from(one.message.contains("a node of table"));
                longs += u32::from(one.message.contains("a long value of table"));
            }
            _ => assert!(found.damage > 0, "{:?}", found.findings),
        }
    }
    // Six leaves, the branch above them, the leaf of the other table, the catalog; the value.
    assert!(nodes >= 9 && longs == 1, "{nodes} nodes, {longs} long values, {unseen} pages without a use");
    // Another run was written there by a writer that died: no damage.
    let mut reused = file.clone();
    for page in own {
        put_u64(&mut reused[page * PAGE..], PAGE_VERSION, sound.root_sequence + 1);
        put_u32(&mut reused[page * PAGE..], PAGE_CRC, page as u32);
    }
    assert_eq!(report(&MemoryDisk::new(reused), &options(1, HELD)).findings, []);
    // What a writer has open may be written over at any moment.
    let live = check(&path, &CheckOptions::new()).unwrap();
    assert!(live.other_root.is_none() && live.is_clean());
    store.close().unwrap();
}
