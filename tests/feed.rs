//! The change feed: across openings, and what copies of a store make of its cursors.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use memstone::{
    Changed, CheckOptions, Cursor, Durability, Error, Feed, Gap, RepairOptions, RestoreOptions, Store, WriteOptions,
};
use std::path::Path;
use std::time::Duration;

type Tested = Result<(), Error>;

fn put(store: &Store, table: &str, key: &str) -> u64 {
    store
        .transact(WriteOptions::new(), |tx| tx.raw(table)?.put(key.as_bytes(), b"value"))
        .map_err(|e: Error| e)
        .unwrap()
        .lsn
}

/// What the feed gives, as text: `table+key`, `table-key`, or what became of a table.
fn follow(store: &Store, since: Cursor) -> Result<Vec<String>, Gap> {
    match store.changes(since).unwrap() {
        Feed::Gap(gap) => Err(gap),
        Feed::Changes(commits) => {
            let commits: Vec<_> = commits.map(Result::unwrap).collect();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let changes = commits.iter().flat_map(|commit| {
                commit.changes().map(|change| match change {
                    Changed::Put { table, key } => format!("{table}+{}", text(key)),
                    Changed::Deleted { table, key } => format!("{table}-{}", text(key)),
                    other => format!("{other:?}"),
                })
            });
            Ok(changes.collect())
        }
        other => panic!("{other:?}"),
    }
}

fn is_clean(path: &Path) {
    let report = memstone::check(path, &CheckOptions::new()).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

#[test]
fn a_journal_and_its_cursors_outlive_the_process_and_go_with_a_clone() -> Tested {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path)?;
    store.set_journal(Some(1 << 20))?;
    put(&store, "notes", "a");
    let seen = store.read()?.end()?;
    store.write(|tx| tx.set_cursor("reader", &seen))?;
    store.checkpoint()?;
    put(&store, "notes", "b");
    store.checkpoint()?;
    put(&store, "notes", "c");
    store.close()?;
    is_clean(&path);

    let store = Store::open(&path)?;
    assert_eq!(store.read()?.cursor("reader")?, Some(seen));
    let both = ["notes+b", "notes+c"].map(str::to_owned).to_vec();
    assert_eq!(follow(&store, seen), Ok(both.clone()));
    let copy = dir.path().join("clone.mst");
    store.clone_to(&copy)?;
    put(&store, "notes", "only in the original");

    let clone = Store::open(&copy)?;
    assert_eq!(clone.journal()?, Some(1 << 20));
    assert_eq!(follow(&clone, seen), Err(Gap::OtherStore), "a cursor from outside");
    let own = clone.read()?.cursor("reader")?.unwrap();
    assert_eq!(own.lsn(), seen.lsn());
    assert_eq!(follow(&clone, own), Ok(both));
    let refused = clone.write(|tx| tx.set_cursor("reader", &seen));
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    clone.close()?;
    is_clean(&copy);
    Ok(())
}

#[test]
fn what_is_made_of_a_backup_or_by_a_repair_has_another_history() -> Tested {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path)?;
    store.set_journal(Some(1 << 20))?;
    store.write(|tx| tx.set_user_version(7))?;
    put(&store, "notes", "a");
    let seen = store.read()?.end()?;
    store.write(|tx| tx.set_cursor("reader", &seen))?;
    store.checkpoint()?;
    let hash = memstone::content_hash(&store.read()?)?;
    let backup = dir.path().join("backup.mst");
    store.read()?.backup_to(&backup)?;
    store.close()?;
    let (restored, repaired) = (dir.path().join("restored.mst"), dir.path().join("repaired.mst"));
    memstone::restore(&backup, &restored, RestoreOptions::new())?;
    memstone::repair(&path, &RepairOptions::new().output(&repaired))?;
    for path in [restored, repaired] {
        is_clean(&path);
        let store = Store::open(&path)?;
        let now = store.read()?;
        assert_eq!((now.cursors()?, store.journal()?, now.user_version()?), (Vec::new(), None, 7));
        assert_eq!(memstone::content_hash(&now)?, hash);
        assert_eq!(follow(&store, seen), Err(Gap::OtherStore));
    }
    Ok(())
}

#[test]
fn a_rollback_is_a_commit_like_any_other() -> Tested {
    let store = Store::in_memory()?;
    put(&store, "notes", "a");
    store.create_snapshot("before")?;
    put(&store, "notes", "b");
    let seen = store.read()?.end()?;
    store.roll_back_to("before")?;
    assert_eq!(follow(&store, seen), Ok(vec!["notes-b".to_owned()]));
    // The named state is older than the cursor.
    assert!(matches!(store.snapshot("before")?.changes(seen)?, Feed::Gap(Gap::OtherHistory)));
    Ok(())
}

#[test]
fn cursors_are_set_with_their_transaction_and_listed_by_name() -> Tested {
    let store = Store::in_memory()?;
    put(&store, "notes", "a");
    let end = store.read()?.end()?;
    let failed = store.write(|tx| {
        tx.set_cursor("a", &end)?;
        assert_eq!(tx.cursor("a")?, Some(end));
        Err::<(), _>(Error::abort("no"))
    });
    assert!(failed.is_err());
    assert_eq!(store.read()?.cursors()?, []);
    store.write(|tx| ["b", "a", "ä"].iter().try_for_each(|name| tx.set_cursor(name, &end)))?;
    store.write(|tx| {
        assert!(tx.delete_cursor("b")? && !tx.delete_cursor("b")? && tx.cursor("b")?.is_none());
        Ok(())
    })?;
    for _ in 0..2 {
        assert_eq!(store.read()?.cursors()?, [("a".to_owned(), end), ("ä".to_owned(), end)]);
        store.checkpoint()?;
    }
    for name in [String::new(), "n".repeat(1025)] {
        assert!(store.write(|tx| tx.set_cursor(&name, &end)).is_err());
    }
    // Cursors alone are not told of, and move nobody on.
    assert_eq!(follow(&store, store.read()?.end()?), Ok(Vec::new()));
    Ok(())
}

#[test]
fn without_a_journal_a_checkpoint_leaves_a_gap_behind_all_but_the_newest() -> Tested {
    let store = Store::in_memory()?;
    put(&store, "notes", "a");
    let old = store.read()?.end()?;
    let newest = put(&store, "notes", "b");
    let end = store.read()?.end()?;
    assert_eq!((end.lsn(), follow(&store, old)), (newest, Ok(vec!["notes+b".to_owned()])));
    store.checkpoint()?;
    assert_eq!(follow(&store, old), Err(Gap::Truncated { oldest: newest }));
    assert_eq!(follow(&store, end), Ok(Vec::new()));
    put(&store, "notes", "c");
    assert_eq!(follow(&store, end), Ok(vec!["notes+c".to_owned()]));
    Ok(())
}

/// Long keys and many of them: records of many rows, and one longer than the journal may be.
#[test]
fn long_records_are_kept_whole_or_not_at_all() -> Tested {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.mst");
    let store = Store::open(&path)?;
    store.set_journal(Some(100_000))?;
    store.checkpoint()?;
    let keys = |count: usize, len: usize| -> Vec<Vec<u8>> {
        (0..count).map(|n| [format!("{n:08}").as_bytes(), &vec![b'k'; len - 8]].concat()).collect()
    };
    for (count, len, kept) in [(10, memstone::MAX_KEY_SIZE, true), (5000, 9, true), (12_000, 8, false)] {
        let seen = store.read()?.end()?;
        let keys = keys(count, len);
        store.write(|tx| keys.iter().try_for_each(|key| tx.raw("t")?.put(key, b"")))?;
        for applied in [false, true] {
            let found = follow(&store, seen);
            if applied && !kept {
                assert_eq!(found, Err(Gap::Truncated { oldest: store.last_commit()? }));
                continue;
            }
            let found = found.unwrap();
            let puts: Vec<_> = found.iter().filter_map(|change| change.strip_prefix("t+")).collect();
            assert!(puts.iter().map(|key| key.as_bytes()).eq(keys.iter().map(Vec::as_slice)), "{count} keys");
            store.checkpoint()?;
        }
    }
    store.close()?;
    is_clean(&path);
    Ok(())
}

/// A reader that waits hears of relaxed commits, too, and takes values from the state that it was given.
#[test]
fn a_waiting_reader_sees_each_commit_once() -> Tested {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("memory.mst"))?;
    store.set_journal(Some(1 << 20))?;
    let start = store.read()?.end()?;
    let writer = store.clone();
    let thread = std::thread::spawn(move || {
        for n in 0..200_u8 {
            let options =
                WriteOptions::new().durability(if n % 3 == 0 { Durability::Sync } else { Durability::Relaxed });
            writer.write_with(options, |tx| tx.raw("t")?.put(&[n], &[n])).unwrap();
            if n % 50 == 49 {
                writer.checkpoint().unwrap();
            }
        }
    });
    let (mut cursor, mut found) = (start, Vec::new());
    while found.len() < 200 {
        store.wait_for_change(cursor.lsn(), Duration::from_secs(60))?;
        let now = store.read()?;
        let Feed::Changes(commits) = now.changes(cursor)? else { panic!("a gap after {cursor:?}") };
        for commit in commits {
            for change in commit?.changes() {
                if let Changed::Put { key, .. } = change {
                    assert_eq!(now.raw("t")?.get(key)?.unwrap(), key);
                    found.push(key[0]);
                }
            }
        }
        cursor = now.end()?;
    }
    thread.join().unwrap();
    assert!(found.iter().copied().eq(0..200));
    Ok(())
}
