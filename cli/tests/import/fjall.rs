//! From fjall.

use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use super::{Move, names, table, tables};

fn write(here: &Move) -> Database {
    let database = Database::builder(&here.source).open().unwrap();
    let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default).unwrap();
    let (some, many) = (keyspace("some"), keyspace("many"));
    keyspace("empty");
    some.insert(b"b\0", b"\xFF").unwrap();
    some.insert(b"a", b"old").unwrap();
    some.insert(b"a", b"new").unwrap();
    some.insert(b"gone", b"").unwrap();
    some.remove(b"gone").unwrap();
    (0..50_000_u32).for_each(|n| many.insert(n.to_be_bytes(), [7; 100]).unwrap());
    // Some of it lies in tables, the rest in the journal.
    many.rotate_memtable_and_wait().unwrap();
    (50_000..50_010_u32).for_each(|n| many.insert(n.to_be_bytes(), [7; 100]).unwrap());
    database.persist(PersistMode::SyncAll).unwrap();
    database
}

/// The files below a folder, with their bytes.
fn files(dir: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push((path.clone(), std::fs::read(path).unwrap()))
        }
    }
    found.sort();
    found
}

#[test]
fn keyspaces_come_over_and_the_source_stays_as_it_is() {
    let here = Move::new("db");
    let open = write(&here);
    here.fails(5, "another process has it open", "fjall", &[]);
    drop(open);
    let before = files(&here.source);
    let expected = [
        table("empty", "bytes", "bytes", 0),
        table("many", "bytes", "bytes", 50_010),
        table("some", "bytes", "bytes", 2),
    ];
    assert_eq!(tables(&here.ok("fjall", &[])), expected);
    assert!(files(&here.source) == before, "the source is only read");
    assert_eq!(here.scan("some"), ["a\t\"new\"", "b\\x00\t{\"$bytes\":\"ff\"}"]);
    assert_eq!(names(here.bench.dir.path()), ["test.mst"], "the copy is gone");
}

#[test]
fn what_is_no_database_is_told() {
    let here = Move::new("db");
    std::fs::create_dir(&here.source).unwrap();
    here.fails(5, "no directory of a fjall database", "fjall", &[]);
    assert!(names(&here.source).is_empty(), "nothing is made in it");
}
