//! Every fault that the corruption tests and the fuzz targets found, as a test of its own.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "common/cost.rs"]
mod cost;
mod damage;
#[allow(dead_code, reason = "one of its two targets is used here")]
#[path = "../fuzz/src/open.rs"]
mod open;
#[path = "../fuzz/src/repair.rs"]
mod repair;

use memstone::{Options, Store};

/// The file grew for the value, and the root did not know: after a crash, and for other processes,
/// the value lay beyond the end of the file as they saw it.
#[test]
fn a_long_value_that_only_the_log_points_at_is_read_after_a_crash() {
    let dir = damage::scratch();
    let path = dir.path().join("live.mst");
    let store = Store::open(&path).unwrap();
    let value = vec![7; 40_000];
    store.write(|tx| tx.raw("t")?.put(b"k", &value)).unwrap();
    let crashed = dir.path().join("crashed.mst");
    std::fs::copy(&path, &crashed).unwrap();
    for options in [Options::new(), Options::new().read_only(true), Options::new().memory_map(false)] {
        let copy = options.open(&crashed).unwrap();
        assert_eq!(copy.read().unwrap().raw("t").unwrap().get(b"k").unwrap().unwrap(), value[..]);
        // The last handle to go must not checkpoint the log before the next way of reading is tried.
        drop(copy);
        std::fs::copy(&path, &crashed).unwrap();
    }
    // Another description of the same file, as another process has it.
    let other = Options::new().read_only(true).open(&path).unwrap();
    let longer = vec![8; 90_000];
    store.write(|tx| tx.raw("t")?.put(b"l", &longer)).unwrap();
    assert_eq!(other.read().unwrap().raw("t").unwrap().get(b"l").unwrap().unwrap(), longer[..]);
}

/// The frame found no room after its long value was written, and the checkpoint that made room took the
/// value's pages for free ones and wrote over them.
#[test]
fn a_long_value_survives_the_checkpoint_that_makes_room_for_its_frame() {
    let dir = damage::scratch();
    for page_size in [4096, 16384, 65536] {
        let store = Options::new().page_size(page_size).open(dir.path().join(format!("{page_size}.mst"))).unwrap();
        let value = vec![7; 40_000];
        for round in 0..20_u8 {
            store
                .write(|tx| {
                    let table = tx.raw("t")?;
                    table.put(&[round], &value)?;
                    table.put(&[round, 1], &vec![round; 30_000])
                })
                .unwrap();
            let snapshot = store.read().unwrap();
            for at in 0..=round {
                assert_eq!(snapshot.raw("t").unwrap().get(&[at]).unwrap().unwrap(), value[..]);
                assert_eq!(snapshot.raw("t").unwrap().get(&[at, 1]).unwrap().unwrap(), vec![at; 30_000][..]);
            }
        }
        store.checkpoint().unwrap();
        assert_eq!(store.read().unwrap().raw("t").unwrap().len().unwrap(), 40);
    }
}

/// Cost without bound: every block after the log's end held a header that promised a frame up to
/// the ring's end, and each was read and summed to tell whether it was whole.
#[test]
fn forged_headers_of_long_frames_after_the_logs_end_cost_little() {
    let dir = damage::scratch();
    let path = dir.path().join("long.mst");
    Options::new().open(&path).unwrap().close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let u64_at = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let newest = [0, 4096].into_iter().max_by_key(|slot| u64_at(&bytes, slot + 96)).unwrap();
    // The root is made to name a log of 64 MiB at the file's end.
    let (page, pages) = (bytes.len() / 4096, 16_384);
    bytes.resize((page + pages) * 4096, 0);
    let (lsn, position) = (u64_at(&bytes, newest + 104), 1 << 30);
    for copy in [newest, newest + 2048] {
        for (at, word) in [(124, 1), (200, page), (204, pages)] {
            bytes[copy + at..copy + at + 4].copy_from_slice(&(word as u32).to_le_bytes());
        }
        for (at, word) in [(112, position), (128, 0), (152, page + pages)] {
            bytes[copy + at..copy + at + 8].copy_from_slice(&(word as u64).to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[copy + 52..copy + 2048]);
        bytes[copy + 20..copy + 24].copy_from_slice(&crc.to_le_bytes());
    }
    for block in 1..pages {
        let at = (page + block) * 4096;
        bytes[at..at + 4].copy_from_slice(b"mlf1");
        bytes[at + 12] = 1;
        for (field, word) in [(16, lsn + 9), (24, (position + block * 4096) as u64), (40, lsn + 8)] {
            bytes[at + field..at + field + 8].copy_from_slice(&word.to_le_bytes());
        }
        let payload = (pages - block) * 4096 - 64;
        bytes[at + 56..at + 60].copy_from_slice(&(payload as u32).to_le_bytes());
    }
    std::fs::write(&path, &bytes).unwrap();
    let before = cost::read_by_this_thread();
    let store = Options::new().read_only(true).memory_map(false).open(&path).unwrap();
    assert_eq!(store.read().unwrap().tables().unwrap(), []);
    let after = cost::read_by_this_thread();
    let Some((before, after)) = before.zip(after) else {
        println!("what a thread reads is not told here");
        return;
    };
    println!("{} bytes read by {} calls of {}", after.0 - before.0, after.1 - before.1, bytes.len());
    assert!(after.0 - before.0 < 4 * bytes.len() as u64, "read {} bytes", after.0 - before.0);
}

/// Forged stores, as inputs of the fuzz target `open_mutated`. Whatever the answers are, they come in
/// time, and nothing panics.
#[test]
fn forged_stores_are_answered_in_time() {
    let forged: [&[u8]; 3] = [
        // A free map that calls pages of a tree free.
        &[
            6, 0, 30, 228, 17, 2, 254, 89, 196, 80, 255, 255, 255, 56, 53, 143, 2, 2, 185, 212, 96, 194, 209, 170, 245,
            82,
        ],
        // A catalog whose rows do not ascend: compaction went round in it.
        &[
            255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 7, 59, 0, 96, 97, 153, 150, 125, 0,
            215, 251, 208, 64, 107, 38, 105, 36, 60,
        ],
        // A long value's pointer of another length, which an update took over into a new leaf.
        &[
            22, 2, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 202, 54, 51, 51, 0, 0, 0, 0, 5, 2, 200, 209, 129, 228, 119, 247, 12,
            89, 84, 92, 77, 179,
        ],
    ];
    forged.into_iter().for_each(open::open_mutated);
}

/// Where the fuzz targets' code puts its files.
fn scratch() -> &'static std::path::Path {
    static DIR: std::sync::LazyLock<tempfile::TempDir> = std::sync::LazyLock::new(damage::scratch);
    DIR.path()
}
