//! Stores of every format version that was ever released: each must read back to its known content.
//!
//! While a version is not released, its fixtures are made once more with
//! `cargo test --test fixtures -- --ignored`; afterwards never again.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod damage;

use damage::{Content, Outcome, Recorder, Sample, put, read_all, sample, scratch};
use memstone::{Durability, Options};
use std::path::PathBuf;

fn place(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v2").join(name)
}

/// What `name` holds, told by the code that made it: its content depends on nothing but that code.
fn made(name: &str) -> Sample {
    let dir = scratch();
    match name {
        "closed.mst" => {
            let path = dir.path().join(name);
            let mut store = Recorder::create(&path, &Options::new());
            let notes: Vec<_> = (0..20).map(|n| put("notes", format!("note/{n:02}"), n, 100)).collect();
            store.commit(Durability::Sync, &notes);
            store.commit(Durability::Sync, &[put("empty value", "", 0, 0)]);
            let Recorder { store, states, .. } = store;
            store.close().unwrap();
            let newest = *states.keys().next_back().unwrap();
            Sample { bytes: std::fs::read(path).unwrap(), states, newest, page_size: 4096, earlier: Vec::new() }
        }
        "named.mst" => {
            let path = dir.path().join(name);
            let mut store = Recorder::create(&path, &Options::new());
            store.commit(Durability::Sync, &[put("notes", "k", 1, 100), put("long", "k", 2, 10_000)]);
            store.store.create_snapshot("kept").unwrap();
            store.commit(Durability::Sync, &[put("notes", "k", 3, 100), put("long", "k", 4, 10_000)]);
            store.store.start_archive(dir.path().join("archive")).unwrap();
            store.commit(Durability::Sync, &[put("notes", "l", 5, 100)]);
            let Recorder { store, states, .. } = store;
            store.close().unwrap();
            let newest = *states.keys().next_back().unwrap();
            Sample { bytes: std::fs::read(path).unwrap(), states, newest, page_size: 4096, earlier: Vec::new() }
        }
        "log_tail.mst" => sample(dir.path(), 4096, true),
        "all_pages.mst" => sample(dir.path(), 4096, false),
        "pages_16k.mst" => sample(dir.path(), 16384, false),
        other => panic!("no fixture {other}"),
    }
}

const NAMES: [&str; 5] = ["closed.mst", "log_tail.mst", "all_pages.mst", "pages_16k.mst", "named.mst"];

#[test]
#[ignore = "writes the fixtures of the version that is not released yet"]
fn make_the_fixtures() {
    for name in NAMES {
        std::fs::write(place(name), made(name).bytes).unwrap();
    }
}

#[test]
fn every_fixture_reads_back() {
    for name in NAMES {
        // Whatever LSNs the code of today would give: the content alone is the contract.
        let made = made(name);
        let truth = Sample { states: [(0, made.truth().clone())].into(), newest: 0, ..made };
        let stored = std::fs::read(place(name)).unwrap();
        let dir = scratch();
        let copy = dir.path().join(name);
        for options in [Options::new(), Options::new().read_only(true), Options::new().memory_map(false)] {
            std::fs::write(&copy, &stored).unwrap();
            let outcome = read_all(&copy, &options.clone().create(false), &truth);
            assert!(matches!(outcome, Outcome::Right), "{name}: {outcome:?}");
        }
        // Written to, it holds the old and the new.
        std::fs::write(&copy, &stored).unwrap();
        let store = Options::new().open(&copy).unwrap();
        let lsn = {
            let tx = store.begin_write().unwrap();
            tx.raw("added").unwrap().put(b"k", b"v").unwrap();
            tx.commit().unwrap()
        };
        store.close().unwrap();
        let mut content: Content = truth.truth().clone();
        content.entry("added".to_owned()).or_default().insert(b"k".to_vec(), b"v".to_vec());
        let after = Sample { states: [(lsn, content)].into(), newest: lsn, ..truth };
        let outcome = read_all(&copy, &Options::new(), &after);
        assert!(matches!(outcome, Outcome::Right), "{name}, written to: {outcome:?}");
    }
}

/// What the store's own tables say: a name with its state, and an archive that this file, a copy, does not go on with.
#[test]
fn names_and_the_archive_read_back() {
    let dir = scratch();
    let copy = dir.path().join("named.mst");
    std::fs::copy(place("named.mst"), &copy).unwrap();
    let store = Options::new().open(&copy).unwrap();
    let names = store.snapshots().unwrap();
    assert_eq!(names.iter().map(|named| named.name.as_str()).collect::<Vec<_>>(), ["kept"]);
    let kept = store.snapshot("kept").unwrap();
    let value = |table, key: &[u8]| kept.raw(table).unwrap().get(key).unwrap().map(|value| value.to_vec());
    assert_eq!(value("notes", b"k"), Some(damage::value(1, 100)));
    assert_eq!(value("long", b"k"), Some(damage::value(2, 10_000)));
    assert_eq!(value("notes", b"l"), None);
    let status = store.archive_status().unwrap().expect("the archive's row is not found");
    assert_eq!(status.directory.file_name().unwrap(), "archive");
    drop(kept);
    store.roll_back_to("kept").unwrap();
    store.delete_snapshot("kept").unwrap();
    store.stop_archive().unwrap();
    store.close().unwrap();
    let report = memstone::check(&copy, &memstone::CheckOptions::new()).unwrap();
    assert!(report.is_clean(), "{report:#?}");
}
