//! A process remembers which tables the names stand for, and another one changes that, and dies
//! before it can tell.

use super::{new_store, open_store};
use crate::disk::sim::{Call, Conductor, Free, Killed, Verdict};
use crate::error::{Error, Result};
use crate::txn::write::WriteTxn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Process 1 dies when it has written, once it is told to.
#[derive(Default)]
struct DiesAfterWriting(AtomicBool);

impl Conductor for DiesAfterWriting {
    fn before(&self, process: usize, call: Call) -> Verdict {
        let dies = process == 1 && call == Call::Write && self.0.load(Ordering::SeqCst);
        if dies { Verdict::Part(65536, 0) } else { Verdict::Go }
    }
}

/// Commits `change` by a process that dies once it is in the log, then `blind` by one that knew the
/// tables before; gives what the tables then hold.
fn after(
    change: impl Fn(&WriteTxn) -> Result<()>,
    blind: impl Fn(&WriteTxn) -> Result<()>,
) -> Result<Vec<(String, Vec<String>)>> {
    let conductor = Arc::new(DiesAfterWriting::default());
    let (world, _disk, store) = new_store(Arc::clone(&conductor) as _, 1 << 20);
    store.write(|tx| {
        tx.raw("a")?.put(b"a", b"")?;
        tx.raw("b")?.put(b"b", b"")
    })?;
    // From here on this process knows both names, and reads nothing to find them.
    store.write(|tx| tx.raw("a")?.put(b"a", b""))?;
    store.write(|tx| tx.raw("b")?.put(b"b", b""))?;

    let (disk, other) = open_store(&world, 1, 1 << 20);
    let other = other?;
    let tx = other.begin_write()?;
    change(&tx)?;
    conductor.0.store(true, Ordering::SeqCst);
    let died = catch_unwind(AssertUnwindSafe(|| tx.commit())).unwrap_err();
    assert!(died.is::<Killed>());
    disk.silence();
    let _ = catch_unwind(AssertUnwindSafe(|| drop(other)));

    store.write(blind)?;
    super::check::structure(&store).unwrap();
    let snapshot = store.read()?;
    let rows = |name: &str| -> Result<Vec<String>> {
        let table = snapshot.raw(name)?;
        table.prefix(b"")?.map(|row| Ok(String::from_utf8_lossy(&row?.0).into_owned())).collect()
    };
    snapshot.tables()?.into_iter().map(|table| Ok((table.name.clone(), rows(&table.name)?))).collect()
}

fn held(tables: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    tables.iter().map(|(name, rows)| ((*name).to_owned(), rows.iter().map(|r| (*r).to_owned()).collect())).collect()
}

fn put_both(tx: &WriteTxn) -> Result<()> {
    let (a, b) = (tx.raw("a")?, tx.raw("b")?);
    a.put(b"to a", b"")?;
    b.put(b"not to b", b"")?;
    b.delete(b"not to b")?;
    b.put(b"to b", b"")
}

fn put_both_and_go_back(tx: &WriteTxn) -> Result<()> {
    let (a, b) = (tx.raw("a")?, tx.raw("b")?);
    a.put(b"to a", b"")?;
    let savepoint = tx.savepoint();
    b.put(b"to b", b"")?;
    a.put(b"not to a", b"")?;
    tx.rollback_to(&savepoint)?;
    b.put(b"to b", b"")
}

#[test]
fn what_is_written_blindly_goes_where_the_names_lead() {
    let nothing = after(|tx| tx.raw("a")?.put(b"more", b""), put_both).unwrap();
    assert_eq!(nothing, held(&[("a", &["a", "more", "to a"]), ("b", &["b", "to b"])]));
    let dropped = after(|tx| tx.drop_table("a").map(drop), put_both).unwrap();
    assert_eq!(dropped, held(&[("a", &["to a"]), ("b", &["b", "to b"])]));
    let cleared = after(|tx| tx.clear_table("b"), put_both).unwrap();
    assert_eq!(cleared, held(&[("a", &["a", "to a"]), ("b", &["to b"])]));
    let swap = |tx: &WriteTxn| {
        tx.rename_table("a", "c")?;
        tx.rename_table("b", "a")?;
        tx.rename_table("c", "b")
    };
    let swapped = after(swap, put_both).unwrap();
    assert_eq!(swapped, held(&[("a", &["b", "to a"]), ("b", &["a", "to b"])]));
    assert_eq!(after(swap, put_both_and_go_back).unwrap(), swapped);
    // A long value, and a read in the same transaction, find out by another way.
    let long = after(swap, |tx| tx.raw("a")?.put(b"long", &[7; 40_000])).unwrap();
    assert_eq!(long, held(&[("a", &["b", "long"]), ("b", &["a"])]));
    // And so does one that goes straight to the tree.
    let much =
        |tx: &WriteTxn| (0..300).try_for_each(|n| tx.raw("a")?.put(&[b'm', n as u8, (n >> 8) as u8], &[7; 1000]));
    let rows = after(swap, much).unwrap().into_iter().map(|(_, rows)| (rows[0].clone(), rows.len()));
    assert_eq!(rows.collect::<Vec<_>>(), [("b".to_owned(), 301), ("a".to_owned(), 1)]);
    let read = |tx: &WriteTxn| {
        let a = tx.raw("a")?;
        a.put(b"to a", b"")?;
        assert!(a.get(b"a")?.is_none() && a.get(b"b")?.is_some() && a.get(b"to a")?.is_some());
        Ok(())
    };
    assert_eq!(after(swap, read).unwrap(), held(&[("a", &["b", "to a"]), ("b", &["a"])]));
    // Nor does going back undo the name of what stays.
    let read_and_go_back = |tx: &WriteTxn| {
        let a = tx.raw("a")?;
        a.put(b"to a", b"")?;
        let savepoint = tx.savepoint();
        assert!(a.get(b"a")?.is_none() && a.get(b"to a")?.is_some());
        tx.rollback_to(&savepoint)
    };
    let dropped = after(|tx| tx.drop_table("a").map(drop), read_and_go_back).unwrap();
    assert_eq!(dropped, held(&[("a", &["to a"]), ("b", &["b"])]));
}

fn give_a_other_types(tx: &WriteTxn) -> Result<()> {
    tx.drop_table("a")?;
    tx.untyped_as("a", "u64", "text").map(drop)
}

#[test]
fn a_name_that_now_has_other_types_is_no_place_for_what_was_written() {
    for blind in [put_both, put_both_and_go_back] {
        match after(give_a_other_types, blind) {
            Err(Error::TypeMismatch { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_transaction_that_turns_out_to_be_wrong_cannot_be_committed_though_its_error_is_ignored() {
    let ways: [fn(&WriteTxn); 6] = [
        |tx| drop(tx.raw("b").unwrap().get(b"b")),
        |tx| drop(tx.raw("a").unwrap().len()),
        |tx| drop(tx.read_raw("b")),
        |tx| drop(tx.drop_table("a")),
        |tx| drop(tx.clear_table("a")),
        |tx| {
            let savepoint = tx.savepoint();
            assert!(matches!(tx.rollback_to(&savepoint), Err(Error::TypeMismatch { .. })));
        },
    ];
    for ignored in ways {
        let blind = |tx: &WriteTxn| {
            tx.raw("a")?.put(b"to a", b"")?;
            ignored(tx);
            // What can be found out by reading still cannot: it is no error of one call.
            assert!(matches!(tx.tables(), Err(Error::TypeMismatch { .. })));
            tx.raw("a")?.put(b"again", b"")
        };
        match after(give_a_other_types, blind) {
            Err(Error::TypeMismatch { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_table_has_an_id_of_its_own() {
    let (_world, _disk, store) = new_store(Arc::new(Free), 1 << 20);
    let names = ["a", "b", "c", "d"];
    for name in names {
        store.write(|tx| tx.raw(name)?.put(name.as_bytes(), b"")).unwrap();
        store.checkpoint().unwrap();
        if name == "b" {
            store.write(|tx| tx.drop_table("b")).unwrap();
            store.checkpoint().unwrap();
        }
    }
    let snapshot = store.read().unwrap();
    let rows = |name: &str| snapshot.raw(name).unwrap().prefix(b"").unwrap().map(|row| row.unwrap().0.to_vec());
    let rows = names.map(|name| rows(name).collect::<Vec<_>>());
    assert_eq!(rows, [vec![b"a".to_vec()], vec![], vec![b"c".to_vec()], vec![b"d".to_vec()]]);
}

/// An older copy of the sidecar is written over it in place: it tells of an older set of tables. A process that had
/// looked for the log's end since then, and still knows a table by that set, must not take the word for it.
#[test]
fn an_older_word_about_the_tables_is_not_believed() {
    for checkpointed in [false, true] {
        let (world, _disk, first) = new_store(Arc::new(Free), 1 << 20);
        let second = open_store(&world, 1, 1 << 20).1.unwrap();
        let put = |store: &crate::Store, key: &[u8]| store.write(|tx| tx.raw("t")?.put(key, b"")).unwrap();
        put(&first, b"old");
        put(&second, b"known");
        put(&second, b"known");
        world.copy_sidecar();
        first
            .write(|tx| {
                tx.drop_table("t")?;
                tx.raw("t")?.put(b"new", b"")
            })
            .unwrap();
        if checkpointed {
            first.checkpoint().unwrap();
        } else {
            drop(second.engine().lock_append(None).unwrap());
        }
        world.restore_sidecar(true);
        put(&second, b"blind");
        let snapshot = first.read().unwrap();
        let rows = snapshot.raw("t").unwrap().prefix(b"").unwrap().map(|row| row.unwrap().0.to_vec());
        assert_eq!(rows.collect::<Vec<_>>(), [b"blind".to_vec(), b"new".to_vec()], "checkpointed: {checkpointed}");
    }
}
