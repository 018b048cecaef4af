//! A handle of a table stands for that table, whatever name it has, until the table is gone.

use crate::common::TestStore;
use memstone::{Error, RawTable, RawTableMut, Result, Store, Table, WriteTxn};

const NUMBERS: Table<&str, u64> = Table::new("numbers");
const OTHERS: Table<&str, u64> = Table::new("others");

/// Tables "t" (a, b, c) and "u" (x), in the log or in the tree.
fn filled(checkpointed: bool) -> (TestStore, Store) {
    let test = TestStore::new();
    let store = test.open();
    store
        .write(|tx| {
            let t = tx.raw("t")?;
            [b"a", b"b", b"c"].into_iter().try_for_each(|key| t.put(key, b"old"))?;
            tx.raw("u")?.put(b"x", b"old")
        })
        .unwrap();
    if checkpointed {
        store.checkpoint().unwrap();
    }
    (test, store)
}

/// Runs `body` on tables that lie in the log and on those in the tree; gives what is then committed.
fn commits(body: impl Fn(&WriteTxn) -> Result<()>) -> Vec<(String, String)> {
    let [first, second] = [false, true].map(|checkpointed| {
        let (_test, store) = filled(checkpointed);
        store.write(&body).unwrap();
        let snapshot = store.read().unwrap();
        let names = snapshot.tables().unwrap().into_iter().map(|table| table.name);
        names.map(|name| (name.clone(), keys(&snapshot.untyped(&name).unwrap()))).collect()
    });
    assert_eq!(first, second);
    first
}

fn keys(table: &RawTable<'_>) -> String {
    let keys = table.range(..).unwrap().map(|row| row.unwrap().0.to_vec());
    String::from_utf8(keys.collect::<Vec<_>>().join(&b' ')).unwrap()
}

fn held(tables: &[(&str, &str)]) -> Vec<(String, String)> {
    tables.iter().map(|(name, keys)| ((*name).to_owned(), (*keys).to_owned())).collect()
}

/// Every way to use a table that is gone.
fn is_gone(table: &RawTableMut<'_>) {
    let gone = |result: Result<()>| assert!(matches!(result, Err(Error::NoTable { .. })), "{result:?}");
    gone(table.put(b"k", b"v"));
    gone(table.insert(b"k", b"v").map(drop));
    gone(table.delete(b"k"));
    gone(table.remove(b"k").map(drop));
    gone(table.get(b"k").map(drop));
    gone(table.contains(b"k").map(drop));
    gone(table.len().map(drop));
    gone(table.first().map(drop));
    gone(table.pop_last().map(drop));
    gone(table.retain(|_, _| false).map(drop));
    gone(table.bulk_load([(b"k", b"v")]).map(drop));
    gone(table.delete_range(..).map(drop));
}

#[test]
fn a_table_opened_after_a_savepoint_is_the_same_after_going_back() {
    let done = commits(|tx| {
        let savepoint = tx.savepoint();
        let t = tx.raw("t")?;
        tx.rollback_to(&savepoint)?;
        assert!(t.get(b"a")?.is_some());
        tx.clear_table("t")?;
        assert!(t.get(b"a")?.is_none());
        t.put(b"new", b"")
    });
    assert_eq!(done, held(&[("t", "new"), ("u", "x")]));
}

#[test]
fn a_table_created_after_a_savepoint_is_gone_after_going_back() {
    let done = commits(|tx| {
        let savepoint = tx.savepoint();
        let n = tx.raw("n")?;
        n.put(b"k", b"")?;
        tx.rollback_to(&savepoint)?;
        is_gone(&n);
        // Another one takes the name, and is not the one that the handle stands for.
        let again = tx.raw("n")?;
        is_gone(&n);
        again.put(b"again", b"")
    });
    assert_eq!(done, held(&[("n", "again"), ("t", "a b c"), ("u", "x")]));
}

#[test]
fn a_dropped_table_is_gone_though_another_takes_its_name() {
    let done = commits(|tx| {
        let t = tx.raw("t")?;
        t.put(b"lost", b"")?;
        assert!(tx.drop_table("t")?);
        is_gone(&t);
        let again = tx.raw("t")?;
        is_gone(&t);
        assert!(again.is_empty()?);
        again.put(b"new", b"")?;
        is_gone(&t);
        // So it is when a table that was there before takes the name.
        drop(again);
        assert!(tx.drop_table("t")?);
        tx.rename_table("u", "t")?;
        is_gone(&t);
        assert!(tx.raw("t")?.get(b"x")?.is_some());
        Ok(())
    });
    assert_eq!(done, held(&[("t", "x")]));
}

#[test]
fn going_back_brings_a_dropped_table_back_to_its_handles() {
    let done = commits(|tx| {
        let (t, savepoint) = (tx.raw("t")?, tx.savepoint());
        t.put(b"undone", b"")?;
        tx.drop_table("t")?;
        let other = tx.raw("t")?;
        other.put(b"other", b"")?;
        tx.rollback_to(&savepoint)?;
        is_gone(&other);
        assert!(t.get(b"a")?.is_some() && t.get(b"undone")?.is_none());
        t.put(b"d", b"")
    });
    assert_eq!(done, held(&[("t", "a b c d"), ("u", "x")]));
}

#[test]
fn a_cleared_table_takes_what_is_put_through_any_of_its_handles() {
    let done = commits(|tx| {
        let first = tx.raw("t")?;
        first.put(b"lost", b"")?;
        tx.clear_table("t")?;
        first.put(b"1", b"")?;
        let savepoint = tx.savepoint();
        let second = tx.raw("t")?;
        second.put(b"undone", b"")?;
        tx.clear_table("t")?;
        first.put(b"undone too", b"")?;
        second.put(b"undone as well", b"")?;
        assert_eq!((first.len()?, second.len()?), (2, 2));
        tx.rollback_to(&savepoint)?;
        first.put(b"2", b"")?;
        second.put(b"3", b"")?;
        assert_eq!((first.len()?, tx.raw("t")?.len()?), (3, 3));
        Ok(())
    });
    assert_eq!(done, held(&[("t", "1 2 3"), ("u", "x")]));
}

#[test]
fn a_renamed_table_keeps_its_handles() {
    let done = commits(|tx| {
        let (t, u) = (tx.raw("t")?, tx.raw("u")?);
        let savepoint = tx.savepoint();
        tx.rename_table("t", "v")?;
        tx.rename_table("u", "t")?;
        t.put(b"undone", b"")?;
        tx.rollback_to(&savepoint)?;
        tx.rename_table("t", "v")?;
        tx.rename_table("u", "t")?;
        t.put(b"to v", b"")?;
        u.put(b"to t", b"")?;
        tx.raw("t")?.put(b"to t, too", b"")?;
        tx.clear_table("v")?;
        t.put(b"to v, cleared", b"")
    });
    assert_eq!(done, held(&[("t", "to t to t, too x"), ("v", "to v, cleared")]));
}

#[test]
fn a_table_that_takes_a_held_name_is_checked_for_its_types() {
    let done = commits(|tx| {
        let (raw, typed) = (tx.read_raw("numbers")?, tx.read_table(NUMBERS)?);
        assert!(raw.is_empty()? && typed.is_empty()?);
        // A table of bytes takes the name: it is what the one stands for now, and not the other.
        tx.rename_table("u", "numbers")?;
        assert!(raw.get(b"x")?.is_some());
        assert!(matches!(typed.get("x"), Err(Error::TypeMismatch { .. })));
        assert!(matches!(tx.table(NUMBERS), Err(Error::TypeMismatch { .. })));
        tx.rename_table("numbers", "u")?;
        assert!(raw.is_empty()? && typed.is_empty()?);
        // And one of numbers.
        tx.table(OTHERS)?.put("one", 1)?;
        tx.rename_table("others", "numbers")?;
        assert_eq!(typed.get("one")?, Some(1));
        assert!(matches!(raw.get(b"one"), Err(Error::TypeMismatch { .. })));
        assert!(matches!(tx.raw("numbers"), Err(Error::TypeMismatch { .. })));
        // The table of the old name is another one.
        let others = tx.table(OTHERS)?;
        others.put("two", 2)?;
        assert_eq!((others.len()?, typed.len()?), (1, 1));
        Ok(())
    });
    assert_eq!(done, held(&[("numbers", "one"), ("others", "two"), ("t", "a b c"), ("u", "x")]));
}

#[test]
fn a_typed_table_clears_itself_whatever_its_name() {
    let done = commits(|tx| {
        let numbers = tx.table(NUMBERS)?;
        numbers.put("one", 1)?;
        tx.rename_table("numbers", "others")?;
        let other = tx.table(NUMBERS)?;
        other.put("kept", 2)?;
        numbers.clear()?;
        assert!(numbers.is_empty()? && other.len()? == 1);
        numbers.put("three", 3)?;
        tx.drop_table("numbers")?;
        assert!(matches!(other.clear(), Err(Error::NoTable { .. })));
        tx.rename_table("others", "numbers")?;
        assert!(matches!(other.clear(), Err(Error::NoTable { .. })));
        assert!(matches!(other.put("lost", 4), Err(Error::NoTable { .. })));
        Ok(())
    });
    assert_eq!(done, held(&[("numbers", "three"), ("t", "a b c"), ("u", "x")]));
}

#[test]
fn a_range_goes_on_in_its_table() {
    commits(|tx| {
        let t = tx.raw("t")?;
        let mut range = t.range(..)?;
        let mut next = || range.next().transpose().map(|row| row.map(|(key, _)| key.to_vec()));
        assert_eq!(next()?.unwrap(), b"a");
        tx.rename_table("t", "v")?;
        assert_eq!(next()?.unwrap(), b"b");
        // After the table was cleared, only rows that were put since lie ahead.
        let savepoint = tx.savepoint();
        tx.clear_table("v")?;
        t.put(b"a", b"")?;
        t.put(b"bb", b"")?;
        assert_eq!(next()?.unwrap(), b"bb");
        tx.rollback_to(&savepoint)?;
        assert_eq!(next()?.unwrap(), b"c");
        tx.drop_table("v")?;
        assert!(matches!(next(), Err(Error::NoTable { .. })));
        assert!(next()?.is_none(), "after an error it ends");
        Ok(())
    });
}

#[test]
fn savepoints_are_of_their_transaction_and_nest() {
    let (_test, store) = filled(false);
    let (_other_test, other) = filled(false);
    let (tx, foreign) = (store.begin_write().unwrap(), other.begin_write().unwrap());
    let (first, strange) = (tx.savepoint(), foreign.savepoint());
    let second = tx.savepoint();
    assert!(matches!(tx.rollback_to(&strange), Err(Error::Savepoint)));
    tx.rollback_to(&first).unwrap();
    assert!(matches!(tx.rollback_to(&second), Err(Error::Savepoint)));
    let t = tx.raw("t").unwrap();
    t.put(b"d", b"").unwrap();
    tx.rollback_to(&first).unwrap();
    assert!(t.get(b"d").unwrap().is_none());
    // Without a savepoint nothing is kept to be undone; one that comes later undoes what came after it.
    drop(first);
    t.put(b"d", b"").unwrap();
    let third = tx.savepoint();
    t.put(b"e", b"").unwrap();
    tx.rollback_to(&third).unwrap();
    tx.commit().unwrap();
    assert_eq!(keys(&store.read().unwrap().raw("t").unwrap()), "a b c d");
}

/// A schema stays with its table, and the user version with the content, whatever becomes of them.
#[test]
fn schemas_and_the_user_version_stay() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let store = Store::options().application_id(77).open(path("memory.mst"))?;
    let schema = |snapshot: &memstone::Snapshot, table: &str| snapshot.table_schema(table).unwrap();
    let of = |name: &str, version| Some((name.to_owned(), version));
    store.write(|tx| tx.raw("a")?.put(b"k", b"v"))?;
    let plain = store.read()?;
    assert_eq!((schema(&plain, "a"), schema(&plain, "none"), plain.user_version()?), (of("", 0), None, 0));
    store.write(|tx| {
        tx.set_schema("a", "notes", 3)?;
        tx.set_user_version(u64::MAX)?;
        assert_eq!((tx.table_schema("a")?, tx.user_version()?), (of("notes", 3), u64::MAX));
        assert!(matches!(tx.set_schema("none", "s", 1), Err(Error::NoTable { .. })));
        assert!(matches!(tx.set_schema("a", &"s".repeat(1025), 1), Err(Error::TooLarge { .. })));
        let savepoint = tx.savepoint();
        tx.set_schema("a", "other", 4)?;
        tx.set_user_version(0)?;
        tx.rollback_to(&savepoint)
    })?;
    store.write(|tx| {
        tx.clear_table("a")?;
        tx.rename_table("a", "b")?;
        tx.raw("b")?.put(b"k", b"w")
    })?;
    let now = store.read()?;
    assert_eq!((schema(&now, "b"), now.user_version()?, schema(&plain, "a")), (of("notes", 3), u64::MAX, of("", 0)));
    assert_eq!(now.tables()?.first().map(|table| (table.schema.as_str(), table.schema_version)), Some(("notes", 3)));

    now.backup_to(path("backup.mst"))?;
    memstone::restore(path("backup.mst"), path("restored.mst"), memstone::RestoreOptions::new())?;
    store.clone_to(path("clone.mst"))?;
    std::fs::copy(path("clone.mst"), path("patient.mst")).unwrap();
    memstone::repair(path("patient.mst"), &memstone::RepairOptions::new())?;
    for name in ["backup.mst", "restored.mst", "clone.mst", "patient.mst.repaired"] {
        let copy = Store::options().create(false).application_id(77).open(path(name))?;
        let snapshot = copy.read()?;
        assert_eq!((schema(&snapshot, "b"), snapshot.user_version()?), (of("notes", 3), u64::MAX), "{name}");
        let other = Store::options().application_id(78).open(path(name));
        assert!(matches!(other, Err(Error::OtherApplication { expected: 78, found: 77, .. })), "{name}");
    }
    store.write(|tx| tx.roll_back_to_snapshot(&plain))?;
    let back = store.read()?;
    assert_eq!((schema(&back, "a"), schema(&back, "b"), back.user_version()?), (of("", 0), None, 0));
    Ok(())
}
