//! Whatever was done between them: a full backup and its increments give the state of each of them.

use crate::{hash_of, restored};
use memstone::{BackupKind, BackupOptions, Error, Options, Snapshot, Store, WriteTxn};
use proptest::prelude::*;
use std::path::PathBuf;

const TABLES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    Put {
        table: usize,
        from: u16,
        count: u16,
        len: usize,
    },
    Delete {
        table: usize,
        from: u16,
        count: u16,
    },
    Clear(usize),
    Drop(usize),
    Rename(usize, usize),
    Checkpoint,
    Reopen,
    /// A snapshot is held, and released.
    Hold,
    Release,
    /// Of the newest state, or of the held one.
    Backup {
        increment: bool,
        held: bool,
        prove: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let table = 0..TABLES.len();
    let len = prop_oneof![6 => 0..60_usize, 2 => 100..1500_usize, 1 => 4000..13_000_usize, 1 => 30_000..200_000_usize];
    let count = prop_oneof![4 => 1..4_u16, 2 => 1..400_u16];
    let step = prop_oneof![
        8 => (table.clone(), 0..2000_u16, count.clone(), len)
            .prop_map(|(table, from, count, len)| Step::Put { table, from, count: if len > 2000 { 1 } else { count }, len }),
        5 => (table.clone(), 0..2000_u16, count).prop_map(|(table, from, count)| Step::Delete { table, from, count }),
        1 => table.clone().prop_map(Step::Clear),
        1 => table.clone().prop_map(Step::Drop),
        1 => (table.clone(), table).prop_map(|(from, to)| Step::Rename(from, to)),
        4 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        6 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(held, full, prove)| Step::Backup { increment: !(full && prove), held, prove }),
    ];
    proptest::collection::vec(step, 5..60)
}

fn change(tx: &WriteTxn, step: &Step) -> memstone::Result<()> {
    match step {
        Step::Put { table, from, count, len } => {
            let table = tx.raw(TABLES[*table])?;
            for key in *from..from + count {
                table.put(&key.to_be_bytes(), &vec![(key ^ *len as u16) as u8; *len])?;
            }
        }
        Step::Delete { table, from, count } => {
            let table = tx.raw(TABLES[*table])?;
            for key in *from..from + count {
                table.delete(&key.to_be_bytes())?;
            }
        }
        Step::Clear(table) => tx.raw(TABLES[*table])?.clear()?,
        Step::Drop(table) if tx.table_types(TABLES[*table])?.is_some() => drop(tx.drop_table(TABLES[*table])?),
        Step::Rename(from, to)
            if tx.table_types(TABLES[*from])?.is_some() && tx.table_types(TABLES[*to])?.is_none() =>
        {
            tx.rename_table(TABLES[*from], TABLES[*to])?;
        }
        _ => {}
    }
    Ok(())
}

/// Backups in order, each with the hash of its state.
#[derive(Default)]
struct Made {
    files: Vec<(PathBuf, String)>,
    /// The last one, and its transaction.
    last: Option<(PathBuf, u64)>,
    increments: usize,
}

impl Made {
    fn backup(&mut self, dir: &std::path::Path, snapshot: &Snapshot, increment: bool, prove: bool, held: bool) {
        let hash = hash_of(snapshot);
        let path = dir.join(format!("{}.backup", self.files.len()));
        let mut options = BackupOptions::new().prove(prove);
        // Nothing can be made since a state that is newer.
        let base = self.last.clone().filter(|(_, lsn)| increment && *lsn <= snapshot.lsn());
        if let Some((base, _)) = &base {
            options = options.since(base);
        }
        let manifest = match snapshot.backup_with(&path, options) {
            // The base rests on a root that was made after the snapshot, although it has no newer transaction.
            Err(Error::Backup { .. }) if held => return assert!(!path.exists()),
            made => made.unwrap(),
        };
        assert_eq!(manifest.kind == BackupKind::Increment, base.is_some());
        assert_eq!(manifest.lsn, snapshot.lsn());
        self.increments += usize::from(base.is_some());
        let expected = (base.is_none() || prove).then_some(hash.clone());
        assert_eq!(manifest.content_hash, expected);
        self.last = Some((path.clone(), snapshot.lsn()));
        self.files.push((path, hash));
    }
}

fn run(steps: &[Step]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let open = || Options::new().log_cap(256 << 10).open(&path).unwrap();
    let mut store = open();
    let (mut made, mut held): (Made, Option<Snapshot>) = Default::default();
    for step in steps {
        match step {
            Step::Checkpoint => store.checkpoint().unwrap(),
            Step::Reopen => {
                held = None;
                store.close().unwrap();
                store = open();
            }
            Step::Hold => held = Some(store.read().unwrap()),
            Step::Release => held = None,
            Step::Backup { increment, held: of_held, prove } => {
                let snapshot = held.clone().filter(|_| *of_held).unwrap_or_else(|| store.read().unwrap());
                made.backup(dir.path(), &snapshot, *increment, *prove, *of_held);
            }
            change_step => store.write(|tx| change(tx, change_step)).unwrap(),
        }
    }
    drop(held);
    Store::close(store).unwrap();
    for (file, hash) in &made.files {
        assert_eq!(&restored(file, &dir.path().join("again.mst")), hash, "{}", file.display());
    }
    made.increments
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn each_backup_of_a_chain_gives_the_state_it_was_made_of(steps in steps()) {
        run(&steps);
    }
}

#[test]
fn what_was_undone_in_the_log_after_the_base_is_undone_in_the_increment() {
    let put = |from, count, len| Step::Put { table: 0, from, count, len };
    let backup = |increment| Step::Backup { increment, held: false, prove: false };
    // The base has the row in its log; at the next checkpoint the tree stays as it was, for the row has come and gone.
    let gone = [put(0, 500, 20), Step::Checkpoint, put(700, 1, 9), backup(false)];
    let undone = [Step::Delete { table: 0, from: 700, count: 1 }, Step::Checkpoint, backup(true)];
    assert_eq!(run(&[&gone[..], &undone].concat()), 1);
    // The same for a row that was changed and changed back, over two increments.
    let changed = [put(0, 500, 20), Step::Checkpoint, backup(false), put(30, 1, 9), backup(true)];
    let back = [put(30, 1, 20), Step::Checkpoint, backup(true), Step::Checkpoint, backup(true)];
    assert_eq!(run(&[&changed[..], &back].concat()), 3);
}

#[test]
fn leaves_that_have_gone_are_gone() {
    let backup = |increment| Step::Backup { increment, held: false, prove: false };
    let fill = [Step::Put { table: 0, from: 0, count: 2000, len: 40 }, Step::Checkpoint, backup(false)];
    let holes: Vec<Step> = (0..8).map(|n| Step::Delete { table: 0, from: n * 250, count: 120 }).collect();
    let rest = [Step::Checkpoint, backup(true)];
    assert_eq!(run(&[&fill[..], &holes, &rest].concat()), 1);
}

#[test]
fn long_values_that_did_not_change_are_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst")).unwrap();
    let long = |byte: u8| vec![byte; 300_000];
    store.write(|tx| (0..20_u8).try_for_each(|n| tx.raw("t")?.put(&[n], &long(n)))).unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    store.write(|tx| tx.raw("u")?.put(b"k", b"v")).unwrap();
    store.checkpoint().unwrap();
    let base = dir.path().join("base");
    store.read().unwrap().backup_to(&base).unwrap();
    store.write(|tx| tx.raw("t")?.put(&[7], &long(99))).unwrap();
    store.checkpoint().unwrap();
    let increment = dir.path().join("increment");
    let snapshot = store.read().unwrap();
    snapshot.backup_with(&increment, BackupOptions::new().since(&base).prove(true)).unwrap();
    let size = std::fs::metadata(&increment).unwrap().len();
    assert!(size < 400_000, "{size} bytes for one value of 300000");
    assert_eq!(restored(&increment, &dir.path().join("again.mst")), hash_of(&snapshot));
}
