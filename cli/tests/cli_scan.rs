//! `memstone scan` and `tables`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod support;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Stdio;

use memstone::{Error, Raw, Store, Table};
use support::{Bench, json};

/// A store with the keys a, ab, b, c and the values 1 to 4.
fn letters() -> Bench {
    let bench = Bench::new();
    for (key, value) in ["a", "ab", "b", "c"].iter().zip(["1", "2", "3", "4"]) {
        bench.ok("put", &[key, value]);
    }
    bench
}

fn keys(bench: &Bench, arguments: &[&str]) -> String {
    let out = bench.ok("scan", arguments);
    out.lines().map(|line| line.split_once('\t').unwrap().0).collect::<Vec<_>>().join(" ")
}

#[test]
fn ranges_prefixes_limits_directions() {
    let bench = letters();
    assert_eq!(bench.ok("scan", &[]), "a\t1\nab\t2\nb\t3\nc\t4\n");
    assert_eq!(keys(&bench, &["--prefix", "a"]), "a ab");
    assert_eq!(keys(&bench, &["--prefix", "a", "--reverse"]), "ab a");
    assert_eq!(keys(&bench, &["--from", "ab"]), "ab b c");
    assert_eq!(keys(&bench, &["--to", "b"]), "a ab");
    assert_eq!(keys(&bench, &["--from", "ab", "--to", "c"]), "ab b");
    assert_eq!(keys(&bench, &["--from", "ab", "--to", "c", "--reverse", "--limit", "1"]), "b");
    assert_eq!(keys(&bench, &["--limit", "0"]), "");
    assert_eq!(keys(&bench, &["--from", "c", "--to", "a"]), "");
    assert_eq!(bench.run("scan", &["--prefix", "a", "--from", "b"]).code, 2);
    assert_eq!(bench.run("scan", &["--limit", "x"]).code, 2);
}

#[test]
fn json_is_an_object_a_line() {
    let bench = letters();
    bench.ok("put", &["\n\"é", "{\"x\":\"\\n\"}"]);
    let out = bench.ok("scan", &["--json", "--limit", "2"]);
    let lines: Vec<_> = out.lines().map(json).collect();
    assert_eq!(lines[0], serde_json::json!({ "key": "\n\"é", "value": { "x": "\n" } }));
    assert_eq!(lines[1], serde_json::json!({ "key": "a", "value": 1 }));
    assert_eq!(bench.ok("scan", &["--limit", "1"]), "\\x0a\"é\t{\"x\":\"\\n\"}\n", "a line stays a line");
}

#[test]
fn tables_of_other_types_are_shown() {
    let bench = letters();
    let store = Store::open(&bench.file).unwrap();
    store
        .write(|tx| {
            tx.table(Table::<&[u8], [u8], Raw>::new("raw"))?.put(b"k\xFF\n", b"v\xFF")?;
            let pairs = tx.table(Table::<(i32, &str), bool>::new("pairs"))?;
            pairs.put((-1, "a"), true)?;
            pairs.put((7, "a"), true)?;
            pairs.put((7, "b"), false)?;
            tx.table(Table::<[u8; 16], ()>::new("ids"))?.put([0xAB; 16], ())?;
            // An undecodable value in a table of MessagePack.
            tx.untyped("default")?.put(b"broken", b"\xC1")?;
            Ok::<_, Error>(())
        })
        .unwrap();
    drop(store);
    assert_eq!(bench.ok("scan", &["--table", "raw"]), "k\\xff\\x0a\t{\"$bytes\":\"76ff\"}\n");
    assert_eq!(bench.ok("scan", &["--table", "pairs"]), "[-1,\"a\"]\ttrue\n[7,\"a\"]\ttrue\n[7,\"b\"]\tfalse\n");
    assert_eq!(bench.ok("scan", &["--table", "pairs", "--prefix", "[7]", "--limit", "1"]), "[7,\"a\"]\ttrue\n");
    assert_eq!(bench.ok("scan", &["--table", "pairs", "--from", "[7,\"b\"]"]), "[7,\"b\"]\tfalse\n");
    assert_eq!(bench.ok("scan", &["--table", "ids", "--prefix", "abab"]), format!("{}\tnull\n", "ab".repeat(16)));
    assert_eq!(bench.ok("scan", &["--prefix", "broken"]), "broken\t{\"$msgpack\":\"c1\"}\n");
    // Pages and bytes are those of a checkpoint.
    bench.ok("checkpoint", &[]);
    assert_eq!(
        bench.ok("tables", &[]),
        "TABLE    KEYS       VALUES   ENTRIES  PAGES  BYTES\n\
         default  str        msgpack  5        1      16\n\
         ids      [u8;16]    msgpack  1        1      17\n\
         pairs    (i32,str)  msgpack  3        1      18\n\
         raw      bytes      bytes    1        1      5\n"
    );
    let out = bench.ok("tables", &["--json"]);
    assert_eq!(json(out.lines().nth(3).unwrap())["name"], "raw");
}

#[test]
fn names_of_tables_do_not_run_into_others() {
    let bench = letters();
    bench.ok("put", &["a", "1", "--table", "two  words\n"]);
    bench.ok("put", &["a", "1", "--table", "x +1, default"]);
    let out = bench.ok("tables", &[]);
    assert_eq!(out.lines().count(), 4, "{out}");
    for row in ["\"two  words\\n\"   str ", "\"x +1, default\"  str "] {
        assert!(out.lines().any(|line| line.starts_with(row)), "{out}");
    }
}

#[test]
fn a_table_is_read_whatever_the_others_are_like() {
    let bench = letters();
    let store = Store::open(&bench.file).unwrap();
    store.write(|tx| tx.raw("damaged")?.put(b"k", b"a needle in a page")).unwrap();
    store.checkpoint().unwrap();
    // In the log: to count the entries of its table, its page is read.
    store.write(|tx| tx.raw("damaged")?.put(b"j", b"")).unwrap();
    let mut file = std::fs::File::options().read(true).write(true).open(&bench.file).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let needles = bytes.windows(18).enumerate().filter(|(_, bytes)| bytes == b"a needle in a page");
    for at in needles.map(|(at, _)| at) {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(b"x").unwrap();
    }
    bench.fails(4, "is damaged", "get", &["--table", "damaged", "k"]);
    assert_eq!(bench.ok("get", &["a"]), "1\n");
    assert_eq!(keys(&bench, &[]), "a ab b c");
    bench.ok("put", &["d", "5"]);
    bench.ok("update", &["d", ". + 1"]);
    bench.ok("del", &["d"]);
    // It would checkpoint the damaged table.
    std::mem::forget(store);
}

#[test]
fn a_missing_table_is_not_found() {
    letters().fails(1, "there is no table \"x\" (the store has tables: default)", "scan", &["--table", "x"]);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let bench = Bench::new();
    let store = Store::open(&bench.file).unwrap();
    let value = "x".repeat(1000);
    let rows = (1000..2000).map(|number| (number.to_string(), value.as_str()));
    store.write(|tx| tx.table(Table::<&str, String>::new("default"))?.bulk_load(rows)).unwrap();
    drop(store);
    // More than a pipe holds, and nobody reads it.
    let mut child = bench.command("scan", &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

#[test]
fn a_row_is_a_line_and_no_two_rows_share_one() {
    let bench = Bench::new();
    let keys =
        ["a\nb", r"a\x0ab", r"a\nb", "a\tb", r"a\x09b", "\u{85}", "\u{2028}", "\u{1b}[2J", "\u{7f}", r"\", r"\\", "é"];
    for key in keys {
        bench.ok("put", &[key, "--string", key]);
    }
    let rows = bench.ok("scan", &[]);
    let lines: Vec<_> = rows.split(['\n', '\u{85}', '\u{2028}', '\r']).collect();
    assert_eq!((lines.len(), lines[keys.len()]), (keys.len() + 1, ""), "{rows}");
    let mut shown: Vec<_> = lines.iter().filter_map(|line| line.split_once('\t')).collect();
    for (key, value) in &shown {
        let value = json(value);
        let escaped: String = value
            .as_str()
            .unwrap()
            .chars()
            .map(|letter| match letter {
                '\\' => r"\\".to_owned(),
                letter if letter.is_control() || letter == '\u{2028}' => {
                    letter.to_string().bytes().map(|byte| format!(r"\x{byte:02x}")).collect()
                }
                letter => letter.to_string(),
            })
            .collect();
        assert_eq!(*key, escaped);
    }
    assert!(!rows.contains(|letter: char| letter.is_control() && !matches!(letter, '\n' | '\t')));
    shown.dedup_by_key(|(key, _)| *key);
    assert_eq!(shown.len(), keys.len());
    let rows = bench.ok("scan", &["--json"]);
    assert!(rows.lines().all(|line| json(line)["key"] == json(line)["value"]), "{rows}");
}
