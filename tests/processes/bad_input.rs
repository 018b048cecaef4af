//! Files that are no store, and arguments that cannot be: each a specific error, and nothing is touched.

use crate::common::TestStore;
use memstone::{Error, LimitKind, MAX_KEY_SIZE, MAX_NAME_SIZE, MAX_VALUE_SIZE, Options, Store, Table};

/// Opening these bytes in every way fails so, and changes neither them nor the directory.
fn refused(bytes: &[u8], expected: impl Fn(&Error) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    for options in [Options::new(), Options::new().read_only(true), Options::new().create(false)] {
        let error = options.open(&path).expect_err("must not open");
        assert!(expected(&error), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(!error.is_retryable());
        assert!(std::fs::read(&path).unwrap() == bytes, "the file was changed");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was left beside it");
    }
}

fn not_a_store(error: &Error) -> bool {
    matches!(error, Error::NotAStore { .. })
}

/// A whole small store's bytes.
fn store_bytes() -> Vec<u8> {
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| tx.raw("t")?.put(b"a", &[1; 3000])).unwrap();
    store.close().unwrap();
    std::fs::read(&test.path).unwrap()
}

/// Sets bytes in each copy of each root slot, and makes its CRC right again.
fn patched(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = store_bytes();
    for copy in [0, 2048, 4096, 6144] {
        if &bytes[copy..copy + 8] == b"memstone" {
            bytes[copy + at..copy + at + with.len()].copy_from_slice(with);
            for (covered, place) in [(0..16, 16), (52..2048, 20)] {
                let crc = crc32fast::hash(&bytes[copy + covered.start..copy + covered.end]);
                bytes[copy + place..copy + place + 4].copy_from_slice(&crc.to_le_bytes());
            }
        }
    }
    bytes
}

#[test]
fn a_text_file() {
    refused(b"Remember the milk.\n".repeat(1000).as_slice(), not_a_store);
    refused(b"x", not_a_store);
}

#[test]
fn an_empty_file() {
    refused(b"", not_a_store);
}

#[test]
fn a_file_of_zeros() {
    refused(&[0; 100_000], |error| not_a_store(error) || error.is_corrupt());
}

#[test]
fn a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(dir.path()).err().unwrap();
    assert!(not_a_store(&error), "{error:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_missing_directory_and_a_missing_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absent/memory.mst");
    let error = Store::open(&path).err().unwrap();
    assert!(matches!(&error, Error::Io { .. } | Error::NotFound { .. }), "{error:?}");
    for options in [Options::new().create(false), Options::new().read_only(true)] {
        let error = options.open(dir.path().join("absent.mst")).err().unwrap();
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_truncated_store() {
    let bytes = store_bytes();
    refused(&bytes[..bytes.len() / 2], Error::is_corrupt);
    refused(&bytes[..8192], Error::is_corrupt);
    refused(&bytes[..100], |error| not_a_store(error) || error.is_corrupt());
}

#[test]
fn a_long_value_cut_off_after_it_was_verified() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path).unwrap();
    let value: Vec<u8> = (1..1 << 18_u32).flat_map(u32::to_le_bytes).collect();
    store.write(|tx| tx.raw("t")?.put(b"long", &value)).unwrap();
    let snap = store.read().unwrap();
    let table = snap.raw("t").unwrap();
    assert_eq!(table.get(b"long").unwrap().unwrap(), value[..]);
    let (bytes, last) = (std::fs::read(&path).unwrap(), &value[value.len() - 4..]);
    let end = bytes.windows(4).rposition(|found| found == last).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(end as u64 - 10_000).unwrap();
    // Neither zeros in its place, nor the end of this process.
    assert!(table.get(b"long").unwrap_err().is_corrupt());
    assert!(table.get(b"long").unwrap_err().is_corrupt());
    assert!(table.get(b"none").unwrap().is_none());
}

#[test]
fn a_newer_version() {
    let newer = |error: &Error| matches!(error, Error::Format { found, .. } if found == "format version 99");
    refused(&patched(8, &99_u32.to_le_bytes()), newer);
}

#[test]
fn an_unknown_feature() {
    refused(&patched(56, &(1_u64 << 63).to_le_bytes()), |error| matches!(error, Error::Format { .. }));
}

#[test]
fn another_protocol_of_locks_and_sidecar() {
    refused(&patched(188, &2_u32.to_le_bytes()), |error| matches!(error, Error::Format { .. }));
}

#[test]
fn an_unknown_feature_for_writers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let bytes = patched(64, &1_u64.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Format { .. })));
    let store = Options::new().read_only(true).open(&path).unwrap();
    assert_eq!(store.read().unwrap().raw("t").unwrap().get(b"a").unwrap().unwrap(), [1; 3000][..]);
    store.close().unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
}

#[test]
fn features_that_need_not_be_known_stay() {
    let test = TestStore::new();
    std::fs::write(&test.path, patched(72, &(5_u64 << 32).to_le_bytes())).unwrap();
    let store = test.open();
    for n in 0..3_u8 {
        store.write(|tx| tx.raw("t")?.put(b"n", &[n; 9000])).unwrap();
        store.checkpoint().unwrap();
    }
    store.close().unwrap();
    let bytes = std::fs::read(&test.path).unwrap();
    for copy in [0, 2048, 4096, 6144] {
        assert_eq!(bytes[copy + 72..copy + 80], (5_u64 << 32).to_le_bytes(), "the copy at {copy}");
    }
}

/// The newest frame of a store with a log, with another byte, and a right CRC.
fn with_frame(at: usize, byte: u8) -> Vec<u8> {
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| tx.raw("t")?.put(b"a", &[1; 3000])).unwrap();
    store.checkpoint().unwrap();
    store.write(|tx| tx.raw("t")?.put(b"b", &[2; 300])).unwrap();
    let mut bytes = std::fs::read(&test.path).unwrap();
    let lsn = |at: &usize| u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap());
    let frames = (12_288..bytes.len()).step_by(8).filter(|at| &bytes[*at..at + 4] == b"mlf1");
    let frame = frames.max_by_key(lsn).unwrap();
    let len = u32::from_le_bytes(bytes[frame + 56..frame + 60].try_into().unwrap()) as usize;
    bytes[frame + at] = byte;
    let covered = [&bytes[80..84], &bytes[frame + 8..frame + 64 + len]].concat();
    bytes[frame + 4..frame + 8].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
    bytes
}

#[test]
fn a_frame_of_a_newer_program() {
    for (at, byte) in [(12, 3), (13, 4), (64, 9)] {
        let bytes = with_frame(at, byte);
        let newer = |error: &Error| matches!(error, Error::Format { .. });
        refused(&bytes, newer);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        assert!(newer(&memstone::check(&path, &memstone::CheckOptions::new()).unwrap_err()));
        assert!(newer(&memstone::repair(&path, &memstone::RepairOptions::new()).unwrap_err()));
        let restored = memstone::restore(&path, dir.path().join("again"), memstone::RestoreOptions::new());
        assert!(newer(&restored.unwrap_err()));
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn a_wrong_page_size() {
    for size in [0_u32, 1, 4095, 12_288, 1 << 20, u32::MAX] {
        refused(&patched(52, &size.to_le_bytes()), |error| not_a_store(error) || error.is_corrupt());
    }
}

#[test]
fn keys_values_and_names_beyond_their_limits() {
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| tx.raw("t")?.put(&vec![1; MAX_KEY_SIZE], b"fits")).unwrap();
    let before = store.last_commit().unwrap();
    let too_large = |result: Result<(), Error>, of: LimitKind| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::TooLarge { what, .. } if *what == of), "{error:?}");
    };
    too_large(store.write(|tx| tx.raw("t")?.put(&vec![1; MAX_KEY_SIZE + 1], b"")), LimitKind::Key);
    let huge = vec![0; MAX_VALUE_SIZE as usize + 1];
    too_large(store.write(|tx| tx.raw("t")?.put(b"a", &huge)), LimitKind::Value);
    too_large(store.write(|tx| tx.raw(&"n".repeat(MAX_NAME_SIZE + 1)).map(drop)), LimitKind::TableName);
    assert_eq!(store.last_commit().unwrap(), before);
    assert_eq!(store.read().unwrap().tables().unwrap().len(), 1);
    store.write(|tx| tx.raw(&"n".repeat(MAX_NAME_SIZE))?.put(b"", b"")).unwrap();
    assert!(store.read().unwrap().raw(&"n".repeat(MAX_NAME_SIZE)).unwrap().contains(b"").unwrap());
}

#[test]
fn a_table_opened_with_other_types() {
    const TEXTS: Table<&str, String> = Table::new("t");
    const NUMBERS: Table<u64, String> = Table::new("t");
    let test = TestStore::new();
    let store = test.open();
    store.write(|tx| tx.table(TEXTS)?.insert("a", "b".to_owned()).map(drop)).unwrap();
    let mismatch = |error: Error| assert!(matches!(error, Error::TypeMismatch { .. }), "{error:?}");
    mismatch(store.read().unwrap().table(NUMBERS).err().unwrap());
    // The bytes of any table may be read, not written.
    assert_eq!(store.read().unwrap().untyped("t").unwrap().len().unwrap(), 1);
    mismatch(store.read().unwrap().raw("t").map(drop).unwrap_err());
    mismatch(store.write(|tx| tx.raw("t").map(drop)).unwrap_err());
    mismatch(store.write(|tx| tx.table(NUMBERS)?.insert(1, String::new()).map(drop)).unwrap_err());
    assert_eq!(store.read().unwrap().table(TEXTS).unwrap().get("a").unwrap().unwrap(), "b");
}

#[test]
fn options_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    for options in [
        Options::new().page_size(5000),
        Options::new().page_size(1 << 17),
        Options::new().log_cap(1),
        Options::new().log_cap(5 << 30),
    ] {
        assert!(matches!(options.open(&path).err().unwrap(), Error::Invalid(_)));
    }
    assert!(!path.exists());
}

/// Slot A, slot B, the epoch and each batch of the log lie in blocks of a page's size. A store of any page size is
/// found by slot B alone.
#[test]
fn blocks_are_as_large_as_pages() {
    for page_size in [4096_usize, 8192, 16_384, 32_768, 65_536] {
        let test = TestStore::new();
        let options = Options::new().page_size(page_size as u32).log_cap(64 << 10);
        let store = options.open(&test.path).unwrap();
        for n in 0..40_u8 {
            store.write(|tx| tx.raw("t")?.put(&[n], &[n; 9000])).unwrap();
        }
        store.checkpoint().unwrap();
        // The newest root is to be in slot B.
        while store.stats().unwrap().root_sequence.is_multiple_of(2) {
            store.write(|tx| tx.raw("t")?.put(&[0], b"other")).unwrap();
            store.checkpoint().unwrap();
        }
        (40..43_u8).for_each(|n| store.write(|tx| tx.raw("t")?.put(&[n], b"v")).unwrap());
        let mut bytes = std::fs::read(&test.path).unwrap();
        let starts: Vec<_> = (0..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"mlf1")).collect();
        assert!(starts[0] >= 3 * page_size);
        let lsn = |at: &usize| u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap());
        let newest = starts.iter().map(lsn).max().unwrap();
        let commits = starts.iter().filter(|at| lsn(at) > newest - 3);
        assert_eq!(commits.filter(|at| **at % page_size == 0).count(), 3, "{page_size}: {starts:?}");
        bytes[..page_size].fill(0xa5);
        let copy = TestStore::new();
        std::fs::write(&copy.path, bytes).unwrap();
        let found = options.open(&copy.path).unwrap();
        assert_eq!(found.read().unwrap().raw("t").unwrap().len().unwrap(), 43);
        found.close().unwrap();
        let report = memstone::check(&copy.path, &memstone::CheckOptions::new()).unwrap();
        assert_eq!(report.damage, 0, "{page_size}: {:?}", report.findings);
    }
}
