//! From LMDB.
#![allow(deprecated, reason = "a flag is what tells that keys are integers")]

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, DatabaseFlags, Env, EnvFlags, EnvOpenOptions};

use super::{Move, names, table, tables};

/// A database: name, flags, rows.
type Rows<'a> = (Option<&'a str>, DatabaseFlags, &'a [(&'a [u8], &'a [u8])]);

/// An environment with databases.
fn write(path: &Path, flags: EnvFlags, databases: &[Rows<'_>]) {
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 20).max_dbs(16);
    // SAFETY: nothing else uses the file meanwhile.
    let env: Env = unsafe { options.flags(flags).open(path) }.unwrap();
    for (name, flags, rows) in databases {
        let opened = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
            let mut options = opener.database_options().types::<Bytes, Bytes>();
            options.flags(*flags);
            if let Some(name) = name {
                options.name(name);
            }
            options.create(txn).map(CommitOrAbort::<_, ()>::Commit)
        });
        let database = opened.unwrap().commit().unwrap();
        let mut txn = env.write_txn().unwrap();
        rows.iter().for_each(|(key, value)| database.put(&mut txn, key, value).unwrap());
        txn.commit().unwrap();
    }
    env.prepare_for_closing().wait();
}

fn folder(here: &Move) {
    std::fs::create_dir(&here.source).unwrap();
}

#[test]
fn named_databases_come_over_with_their_keys() {
    let (here, plain) = (Move::new("env"), DatabaseFlags::empty());
    folder(&here);
    let number = |n: u64| if cfg!(target_endian = "big") { n.to_be_bytes() } else { n.to_le_bytes() };
    let small = |n: u32| if cfg!(target_endian = "big") { n.to_be_bytes() } else { n.to_le_bytes() };
    write(
        &here.source,
        EnvFlags::empty(),
        &[
            (Some("plain"), plain, &[(b"b\0", b"\xFF"), (b"a", b"")]),
            (Some("é"), plain, &[]),
            (Some("numbers"), DatabaseFlags::INTEGER_KEY, &[(&number(256), b"x"), (&number(1), b"y")]),
            (Some("small"), DatabaseFlags::INTEGER_KEY, &[(&small(65536), b"x"), (&small(2), b"y")]),
            (Some("tags"), DatabaseFlags::DUP_SORT, &[(b"k", b"2"), (b"k", b"1"), (b"j\0", b"3"), (b"k", b"0")]),
            (
                Some("both"),
                DatabaseFlags::INTEGER_KEY | DatabaseFlags::DUP_SORT,
                &[(&number(7), b"b"), (&number(7), b"a"), (&number(256), b"0")],
            ),
        ],
    );
    let before = std::fs::read(here.source.join("data.mdb")).unwrap();
    let expected = [
        table("both", "(u64,bytes)", "bytes", 3),
        table("numbers", "u64", "bytes", 2),
        table("plain", "bytes", "bytes", 2),
        table("small", "u32", "bytes", 2),
        table("tags", "(bytes,bytes)", "bytes", 4),
        table("é", "bytes", "bytes", 0),
    ];
    assert_eq!(tables(&here.ok("lmdb", &[])), expected);
    assert_eq!(std::fs::read(here.source.join("data.mdb")).unwrap(), before, "the source is only read");
    assert_eq!(here.scan("numbers"), ["1\t\"y\"", "256\t\"x\""]);
    assert_eq!(here.scan("small"), ["2\t\"y\"", "65536\t\"x\""]);
    assert_eq!(here.scan("plain"), ["a\t\"\"", "b\\x00\t{\"$bytes\":\"ff\"}"]);
    assert_eq!(here.scan("both"), ["[7,\"a\"]\t\"\"", "[7,\"b\"]\t\"\"", "[256,\"0\"]\t\"\""]);
    let tags = ["[\"j\\\\x00\",\"3\"]\t\"\"", "[\"k\",\"0\"]\t\"\"", "[\"k\",\"1\"]\t\"\"", "[\"k\",\"2\"]\t\"\""];
    assert_eq!(here.scan("tags"), tags);
}

#[test]
fn the_main_database_comes_over_without_what_leads_to_others() {
    let (here, plain) = (Move::new("env"), DatabaseFlags::empty());
    folder(&here);
    // One of its rows has the length of those that lead to named databases.
    let rows: &[(&[u8], &[u8])] = &[(b"a", b"1"), (b"long", &[7; 48]), (b"z", b"2")];
    write(&here.source, EnvFlags::empty(), &[(None, plain, rows), (Some("main"), plain, &[(b"k", b"v")])]);
    let expected = [table("main", "bytes", "bytes", 1), table("(main)", "bytes", "bytes", 3)];
    assert_eq!(tables(&here.ok("lmdb", &[])), expected);
    assert_eq!(here.scan("(main)")[0], "a\t\"1\"");
    // A file instead of a directory, and no named databases.
    let here = Move::new("file.mdb");
    write(&here.source, EnvFlags::NO_SUB_DIR, &[(None, plain, rows)]);
    assert_eq!(tables(&here.ok("lmdb", &[])), [table("main", "bytes", "bytes", 3)]);
    assert!(names(here.source.parent().unwrap()).len() <= 2, "the lock file at most");
}
