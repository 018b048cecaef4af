//! Repair with real files and processes: nothing half-made appears under a final name, whatever ends it.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, unreachable_pub)]

mod common;

use common::{Child, Role, tell};
use memstone::{CheckOptions, Error, Options, Phase, RepairOptions, Store, check, content_hash, repair, repair_with};
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const ROLES: &[Role] = &[("repair_and_die", repair_and_die)];

#[test]
fn child_entry() {
    common::play(&[ROLES]);
}

/// A store of some megabytes, closed.
fn store(dir: &Path) -> (PathBuf, [u8; 32]) {
    let path = dir.join("store.mst");
    let store = Store::open(&path).unwrap();
    for part in 0..8_u32 {
        store
            .write(|tx| {
                let rows = tx.raw("rows")?;
                (0..4000_u32).try_for_each(|n| rows.put(&(n * 8 + part).to_be_bytes(), &[part as u8; 150]))?;
                tx.raw("long")?.put(&part.to_be_bytes(), &vec![part as u8; 100_000])
            })
            .unwrap();
    }
    let hash = content_hash(&store.read().unwrap()).unwrap();
    store.close().unwrap();
    (path, hash)
}

fn hash_of(path: &Path) -> [u8; 32] {
    content_hash(&Options::new().read_only(true).open(path).unwrap().read().unwrap()).unwrap()
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Destroys all pages of a kind (1 leaf, 2 branch): those in use among them.
fn destroy(path: &Path, kind: u8, most: usize) {
    let mut bytes = fs::read(path).unwrap();
    let pages = bytes.chunks(4096).enumerate().skip(2).filter(|(n, page)| {
        let number = u32::from_le_bytes(page[4..8].try_into().unwrap()) as usize;
        number == *n && page[12] == kind && u32::from_le_bytes(page[24..28].try_into().unwrap()) >= 16
    });
    let pages: Vec<usize> = pages.map(|(n, _)| n).take(most).collect();
    assert!(!pages.is_empty());
    pages.iter().for_each(|n| bytes[n * 4096 + 100..n * 4096 + 200].fill(0xee));
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_healthy_store_gives_one_that_holds_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (path, hash) = store(dir.path());
    let before = fs::read(&path).unwrap();
    let report = repair(&path, &RepairOptions::new()).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.output, dir.path().join("store.mst.repaired"));
    assert_eq!(hash_of(&report.output), hash);
    assert_eq!(report.content_hash, hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    assert_eq!(report.tables.iter().map(|table| table.entries).sum::<u64>(), 32_008);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(dir.path()), ["store.mst", "store.mst.repaired"].map(str::to_owned).into());
    // There it stays: a second repair does not replace it.
    let again = repair(&path, &RepairOptions::new()).unwrap_err();
    assert!(matches!(&again, Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::AlreadyExists), "{again}");
    let typed = repair(&path, &RepairOptions::new().output(dir.path().join("other.mst"))).unwrap();
    assert_eq!(hash_of(&typed.output), hash);
}

#[test]
fn without_its_branches_a_store_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (path, hash) = store(dir.path());
    destroy(&path, 2, usize::MAX);
    assert!(check(&path, &CheckOptions::new()).unwrap().damage > 0);
    let report = repair(&path, &RepairOptions::new()).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    assert_eq!(hash_of(&report.output), hash);
}

#[test]
fn a_repair_in_place_keeps_the_damaged_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, hash) = store(dir.path());
    destroy(&path, 2, usize::MAX);
    let damaged = fs::read(&path).unwrap();
    let reader = Options::new().read_only(true).open(&path).unwrap();
    let busy = repair(&path, &RepairOptions::new().in_place(true)).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy}");
    // Beside it, a copy may be repaired.
    assert!(repair(&path, &RepairOptions::new()).unwrap().is_complete());
    drop(reader);
    let report = repair(&path, &RepairOptions::new().in_place(true)).unwrap();
    assert_eq!(report.output, path);
    let kept = report.kept.clone().unwrap();
    assert!(report.is_complete() && fs::read(&kept).unwrap() == damaged);
    assert_eq!(hash_of(&path), hash);
    assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
    let name = kept.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("store.mst.damaged-"), "{name}");
}

#[test]
fn a_store_that_may_be_written_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = store(dir.path());
    let writer = Store::open(&path).unwrap();
    for options in [RepairOptions::new(), RepairOptions::new().in_place(true)] {
        let busy = repair(&path, &options).unwrap_err();
        assert!(matches!(busy, Error::Busy { .. }), "{busy}");
        let named = busy.to_string().contains(&format!("process {} ", std::process::id()));
        assert!(named || !cfg!(target_os = "linux"), "{busy}");
    }
    writer.close().unwrap();
    assert_eq!(names(dir.path()), ["store.mst"].map(str::to_owned).into());
}

#[test]
fn broken_off_at_any_step_it_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = store(dir.path());
    let before = fs::read(&path).unwrap();
    let mut phases = BTreeSet::new();
    for step in 0.. {
        let mut calls = 0;
        let result = repair_with(&path, &RepairOptions::new(), |progress| {
            calls += 1;
            phases.insert(format!("{:?}", progress.phase));
            if calls > step { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let Err(error) = result else { break };
        assert!(matches!(error, Error::Cancelled { .. }), "{error}");
        assert_eq!(names(dir.path()), ["store.mst"].map(str::to_owned).into(), "after step {step}");
    }
    assert_eq!(phases.len(), 4, "{phases:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Repairs, and is killed at one of the steps.
fn repair_and_die(words: &[String]) {
    let (path, in_place, step) = (&words[0], words[1] == "in place", words[2].parse::<u32>().unwrap());
    let mut calls = 0;
    repair_with(path, &RepairOptions::new().in_place(in_place), |_| {
        calls += 1;
        if calls > step {
            // No destructor runs, as with SIGKILL.
            std::process::abort();
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    tell("lived");
}

#[test]
fn killed_at_any_step_it_leaves_the_old_or_the_new_store() {
    for how in ["beside", "in place"] {
        let dir = tempfile::tempdir().unwrap();
        let (path, hash) = store(dir.path());
        destroy(&path, 2, usize::MAX);
        let damaged = fs::read(&path).unwrap();
        for step in 0.. {
            let mut child = Child::start("repair_and_die", &[&path.display(), &how, &step]);
            if child.process.wait().unwrap().success() {
                break;
            }
            assert_eq!(fs::read(&path).unwrap(), damaged, "killed at step {step}");
            let others: Vec<_> = names(dir.path()).into_iter().filter(|name| !name.starts_with('.')).collect();
            assert_eq!(others, ["store.mst"], "killed at step {step}");
        }
        let result = if how == "beside" { dir.path().join("store.mst.repaired") } else { path };
        assert_eq!(hash_of(&result), hash);
    }
}

#[test]
fn the_result_has_the_permissions_of_the_damaged_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = store(dir.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut worst = 0;
    let output = repair_with(&path, &RepairOptions::new(), |progress| {
        if progress.phase != Phase::Reading {
            for name in names(dir.path()).iter().filter(|name| name.ends_with(".repair")) {
                worst |= fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o077;
            }
        }
        ControlFlow::Continue(())
    });
    assert_eq!(fs::metadata(output.unwrap().output).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(worst, 0);
}

#[test]
fn keys_that_are_none_of_their_type_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.mst");
    let store = Store::open(&path).unwrap();
    store.write(|tx| tx.table(memstone::Table::<&str, u8>::new("typed"))?.insert("a", 1)).unwrap();
    store.write(|tx| tx.untyped("typed")?.put(&[0xFF], &[0xC1])).unwrap();
    let hash = content_hash(&store.read().unwrap()).unwrap();
    // Keys and values are judged in the tree.
    store.checkpoint().unwrap();
    store.close().unwrap();
    let report = check(&path, &CheckOptions::new().values(true)).unwrap();
    assert_eq!((report.damage, report.warnings), (0, 2), "{:?}", report.findings);
    let report = repair(&path, &RepairOptions::new()).unwrap();
    assert!(report.is_complete());
    assert_eq!(hash_of(&report.output), hash);
}
