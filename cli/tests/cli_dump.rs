//! `memstone dump` and `load`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use memstone::{Raw, Store, Table};
use proptest::prelude::*;
use support::{Bench, Outcome};

/// Loads a dump into a store of its own.
fn load(dump: &str, arguments: &[&str]) -> (Bench, Outcome) {
    let bench = Bench::new();
    let outcome = bench.run_with_input("load", arguments, dump.as_bytes());
    (bench, outcome)
}

/// Keys and values of all kinds, as their bytes.
fn all_kinds() -> Bench {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    store
        .write(|tx| {
            let notes = tx.table(Table::<&str, (f32, Option<u64>, Vec<String>)>::new("notes"))?;
            notes.put("é\n\u{2028}", &(0.1, Some(u64::MAX), vec!["a\0".to_owned()]))?;
            tx.table(Table::<u128, f64>::new("floats"))?.put(u128::MAX, f64::NAN)?;
            tx.table(Table::<u128, f64>::new("floats"))?.put(0, -0.0)?;
            tx.table(Table::<(i32, Option<&[u8]>), [u8], Raw>::new("pairs"))?.put((-1, Some(b"\0\xFF")), b"\xFFv")?;
            tx.table(Table::<(i32, Option<&[u8]>), [u8], Raw>::new("pairs"))?.put((1, None::<&[u8]>), b"text")?;
            // As deep as a value may be, in JSON three times that.
            let deep = tx.untyped_as("deep", "str", "msgpack")?;
            deep.put(b"arrays", &[[0x91; 127].as_slice(), &[0xc0]].concat())?;
            deep.put(b"maps", &[[0x81, 0x01].repeat(127).as_slice(), &[0xc0]].concat())?;
            tx.raw("raw")?.put(b"", b"")?;
            tx.raw("raw")?.put(b"\xFF\0\x85", &[0xFE; 9000])?;
            tx.untyped_as("mine", "str", "msgpack")?.put(b"no text \xFF", b"\xC1 no MessagePack")?;
            tx.raw("empty").map(drop)
        })
        .unwrap();
    store.close().unwrap();
    bench
}

/// The tables: name, types, rows.
type Content = Vec<(String, String, String, Vec<(Vec<u8>, Vec<u8>)>)>;

fn content(bench: &Bench) -> Content {
    let snapshot = Store::options().read_only(true).open(&bench.file).unwrap().read().unwrap();
    let rows = |name: &str| {
        let rows = snapshot.untyped(name).unwrap().prefix(b"").unwrap();
        rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
    };
    let tables = snapshot.tables().unwrap().into_iter();
    tables.map(|table| (table.name.clone(), table.key_type, table.value_type, rows(&table.name))).collect()
}

#[test]
fn dump_load_dump_gives_the_same_bytes() {
    let bench = all_kinds();
    let dump = bench.ok("dump", &[]);
    let (loaded, outcome) = load(&dump, &[]);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(outcome.out, "10 rows, 0 replaced, 0 kept, 0 skipped\n");
    assert_eq!(content(&loaded), content(&bench));
    assert_eq!(loaded.ok("dump", &[]), dump);
    assert_eq!(std::fs::read_dir(loaded.dir.path()).unwrap().count(), 1, "nothing but the store is left");
    // Into a store that has it all already.
    let again = loaded.run_with_input("load", &[], dump.as_bytes());
    assert_eq!(again.out, "10 rows, 10 replaced, 0 kept, 0 skipped\n");
    assert_eq!(loaded.ok("dump", &[]), dump);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_back(rows: Vec<(u8, Vec<u8>, Vec<u8>)>) {
        const KINDS: [(&str, &str); 6] =
            [("str", "msgpack"), ("bytes", "bytes"), ("u64", "msgpack"), ("(str,i16)", "bytes"), ("option<bool>", "msgpack"), ("odd", "odd")];
        let bench = Bench::new();
        let store = Store::open(&bench.file).unwrap();
        store.write(|tx| rows.iter().try_for_each(|(kind, key, value)| {
            let (keys, values) = KINDS[usize::from(*kind) % KINDS.len()];
            tx.untyped_as(&format!("{keys} {values}"), keys, values)?.put(key, value)
        })).unwrap();
        store.close().unwrap();
        let dump = bench.ok("dump", &[]);
        let (loaded, outcome) = load(&dump, &[]);
        prop_assert_eq!(outcome.code, 0, "{:?}", outcome);
        prop_assert_eq!(content(&loaded), content(&bench));
        prop_assert_eq!(loaded.ok("dump", &[]), dump);
    }
}

/// A table's schema and the store's user version are in the dump, and come back; a store that is there keeps its own.
#[test]
fn schemas_and_the_user_version_come_back() {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    store
        .write(|tx| {
            tx.untyped_as("notes", "str", "msgpack")?.put(b"k", b"\x01")?;
            tx.set_schema("notes", "example.org/note", 3)?;
            tx.set_user_version(9)
        })
        .unwrap();
    store.close().unwrap();
    let dump = bench.ok("dump", &[]);
    assert!(dump.starts_with("{\"format\":\"memstone-dump\",\"version\":1,\"user_version\":9}\n"), "{dump}");
    assert!(dump.contains("\"schema\":\"example.org/note\",\"schema_version\":3"), "{dump}");
    let (loaded, _) = load(&dump, &[]);
    assert_eq!(loaded.ok("dump", &[]), dump);
    let other = Bench::new();
    other.ok("put", &["a", "1"]);
    assert_eq!(other.run_with_input("load", &[], dump.as_bytes()).code, 0);
    let snapshot = Store::open(&other.file).unwrap().read().unwrap();
    assert_eq!((snapshot.user_version().unwrap(), snapshot.table_schema("notes").unwrap().unwrap().1), (0, 3));
}

#[test]
fn tables_and_prefixes_are_chosen() {
    let bench = Bench::new();
    for key in ["a", "ab", "b"] {
        bench.ok("put", &[key, "1"]);
        bench.ok("put", &["--table", "other", key, "2"]);
    }
    let some = bench.ok("dump", &["--table", "other", "--prefix", "a"]);
    let (loaded, _) = load(&some, &[]);
    assert_eq!(loaded.ok("scan", &["--table", "other"]), "a\t2\nab\t2\n");
    let (loaded, _) = load(&bench.ok("dump", &[]), &["--table", "default"]);
    assert_eq!((loaded.ok("count", &[]).as_str(), loaded.run("count", &["--table", "other"]).code), ("3\n", 1));
    bench.fails(1, "no table", "dump", &["--table", "none"]);
}

#[test]
fn a_wrong_line_stops_all_or_is_left_out() {
    let bench = Bench::new();
    (0..3).for_each(|n| drop(bench.ok("put", &[&format!("k{n}"), "1"])));
    let dump = bench.ok("dump", &[]);
    let cut = dump.lines().take(4).collect::<Vec<_>>().join("\n");
    let wrong = dump.replace("{\"k\":\"k1\",\"v\":1}", "{\"k\":7,\"v\":1}");
    for (bad, said) in [
        (cut.as_str(), "cut off"),
        (wrong.as_str(), "line 4: \"k\" is no key"),
        (&dump.replace("\"rows\":3", "\"rows\":4"), "3 rows instead of 4"),
        ("{\"k\":1}\n", "line 1: this is no dump"),
        ("[]\n", "line 1: no object"),
        ("", "cut off"),
        (&dump.replace("\"version\":1", "\"version\":2"), "line 1: not a memstone-dump"),
    ] {
        // A new store, and one that is there: neither has anything of it.
        let (none, outcome) = load(bad, &[]);
        assert_eq!((outcome.code, none.file.exists()), (2, false), "{outcome:?}");
        assert!(outcome.err.contains(said), "{outcome:?}");
        assert_eq!(std::fs::read_dir(none.dir.path()).unwrap().count(), 0);
        none.ok("put", &["before", "1"]);
        assert_eq!(none.run_with_input("load", &[], bad.as_bytes()).code, 2);
        assert_eq!(none.ok("scan", &[]), "before\t1\n");
    }
    let (some, outcome) = load(&wrong, &["--skip-bad"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "2 rows, 0 replaced, 0 kept, 1 skipped\n"));
    assert!(outcome.err.contains("line 4 is left out"), "{outcome:?}");
    assert_eq!(some.ok("count", &[]), "2\n");
}

/// A line that may have named a table takes the rows after it along: they are not those of the table before.
#[test]
fn rows_of_a_table_that_is_left_out_go_nowhere() {
    let bench = Bench::new();
    bench.ok("put", &["a", "1"]);
    ["b", "c"].iter().for_each(|key| drop(bench.ok("put", &["--table", "other", key, "2"])));
    let dump = bench.ok("dump", &[]);
    let line = dump.lines().find(|line| line.contains("\"other\"")).unwrap();
    let long = line.replace("other", &"o".repeat(1025));
    for (bad, said) in [(&line[..line.len() - 3], "not JSON"), ("{}", "a row of no table"), (&*long, "1025 bytes")] {
        let wrong = dump.replace(line, bad);
        let (none, outcome) = load(&wrong, &[]);
        assert_eq!((outcome.code, none.file.exists()), (2, false), "{outcome:?}");
        assert!(outcome.err.contains("line 4: "), "{outcome:?}");
        let (some, outcome) = load(&wrong, &["--skip-bad"]);
        assert!(outcome.err.contains("line 4 is left out") && outcome.err.contains(said), "{outcome:?}");
        assert_eq!(some.ok("dump", &[]).lines().count(), 4, "{outcome:?}");
        assert_eq!(some.ok("count", &[]), "1\n");
    }
    // A key that no store holds.
    let wrong = dump.replace("\"a\"", &format!("\"{}\"", "a".repeat(8193)));
    let (_, outcome) = load(&wrong, &[]);
    assert!(outcome.code == 2 && outcome.err.contains("line 3: "), "{outcome:?}");
    let (some, _) = load(&wrong, &["--skip-bad"]);
    assert_eq!((some.ok("count", &[]), some.ok("count", &["--table", "other"])), ("0\n".to_owned(), "2\n".to_owned()));
}

#[test]
fn duplicates_are_replaced_kept_or_refused() {
    let bench = Bench::new();
    bench.ok("put", &["k", "1"]);
    let dump = bench.ok("dump", &[]);
    bench.ok("put", &["k", "2"]);
    let kept = bench.run_with_input("load", &["--duplicates", "keep"], dump.as_bytes());
    assert_eq!(
        (kept.out.as_str(), bench.ok("get", &["k"]).as_str()),
        ("0 rows, 0 replaced, 1 kept, 0 skipped\n", "2\n")
    );
    let refused = bench.run_with_input("load", &["--duplicates", "fail"], dump.as_bytes());
    assert_eq!((refused.code, bench.ok("get", &["k"]).as_str()), (2, "2\n"));
    bench.run_with_input("load", &[], dump.as_bytes());
    assert_eq!(bench.ok("get", &["k"]), "1\n");
    // Other types under the same name.
    bench.ok("create", &["--table", "t", "--keys", "u8"]);
    let other = dump.replace("\"default\"", "\"t\"");
    assert_eq!(bench.run_with_input("load", &[], other.as_bytes()).code, 2);
}
