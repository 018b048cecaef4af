//! From SQLite.

use rusqlite::Connection;

use super::support::json;
use super::{Move, names, table, tables};

fn with(sql: &str) -> Move {
    let here = Move::new("source.db");
    Connection::open(&here.source).unwrap().execute_batch(sql).unwrap();
    here
}

#[test]
fn keys_follow_the_primary_key() {
    let here = with(
        "CREATE TABLE ids (id INTEGER PRIMARY KEY, v); INSERT INTO ids VALUES (3, 'c'), (-1, 'a');
         CREATE TABLE names (name TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO names VALUES ('é', 1), ('', 2);
         CREATE TABLE blobs (b BLOB PRIMARY KEY); INSERT INTO blobs VALUES (x'00ff');
         CREATE TABLE pairs (v, b VARCHAR(9), a INT, PRIMARY KEY (a, b)); INSERT INTO pairs VALUES (1, 'x', 2), (2, 'w', -2);
         CREATE TABLE none (v); INSERT INTO none VALUES ('first'), ('second');
         CREATE TABLE \"odd \"\"name\" (rowid TEXT, v); INSERT INTO \"odd \"\"name\" VALUES ('r', 1);
         CREATE TABLE reals (r REAL PRIMARY KEY); INSERT INTO reals VALUES (1.5);
         CREATE TABLE empty (id INTEGER PRIMARY KEY AUTOINCREMENT);
         CREATE VIEW seen AS SELECT * FROM ids; CREATE INDEX by_v ON ids (v);",
    );
    let report = here.ok("sqlite", &[]);
    let expected = [
        table("blobs", "bytes", "msgpack", 1),
        table("empty", "i64", "msgpack", 0),
        table("ids", "i64", "msgpack", 2),
        table("names", "str", "msgpack", 2),
        table("none", "i64", "msgpack", 2),
        table("odd \"name", "i64", "msgpack", 1),
        table("pairs", "(i64,str)", "msgpack", 2),
        table("reals", "i64", "msgpack", 1),
    ];
    assert_eq!(tables(&report), expected);
    assert_eq!(here.scan("ids"), ["-1\t{\"id\":-1,\"v\":\"a\"}", "3\t{\"id\":3,\"v\":\"c\"}"]);
    assert_eq!(here.scan("names"), ["\t{\"name\":\"\",\"v\":2}", "é\t{\"name\":\"é\",\"v\":1}"]);
    assert_eq!(
        here.scan("pairs"),
        ["[-2,\"w\"]\t{\"v\":2,\"b\":\"w\",\"a\":-2}", "[2,\"x\"]\t{\"v\":1,\"b\":\"x\",\"a\":2}"]
    );
    assert_eq!(here.scan("none"), ["1\t{\"v\":\"first\"}", "2\t{\"v\":\"second\"}"]);
    assert_eq!(here.scan("odd \"name"), ["1\t{\"rowid\":\"r\",\"v\":1}"]);
    here.bench.ok("check", &["--values"]);
}

#[test]
fn values_keep_their_types() {
    let here = with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c, d, e, f, g AS (a + 1));
         INSERT INTO t VALUES (1, 9223372036854775807, -9223372036854775808, 0.1, 'text é', x'00ff', NULL);
         INSERT INTO t VALUES (2, 1, 0, 1.0, '', x'', 9e999);",
    );
    here.ok("sqlite", &["--table", "t"]);
    let rows = here.scan("t");
    let value = json(rows[0].split_once('\t').unwrap().1);
    assert_eq!(value["a"], i64::MAX);
    assert_eq!(value["b"], i64::MIN);
    assert_eq!((&value["c"], &value["d"]), (&0.1.into(), &"text é".into()));
    assert_eq!((&value["e"], &value["f"]), (&serde_json::json!({"$bytes": "00ff"}), &serde_json::Value::Null));
    assert!(rows[1].contains("\"c\":1.0,"), "{rows:?}");
    assert!(rows[1].contains("\"g\":2"), "a generated column is a column: {rows:?}");
    assert!(rows[1].contains("7ff0000000000000"), "an infinite float is kept: {rows:?}");
}

#[test]
fn a_key_of_another_type_than_declared_is_told() {
    let here = with(
        "CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1), (x'ff', 2), (NULL, 3);
         CREATE TABLE u (k TEXT PRIMARY KEY); INSERT INTO u VALUES (CAST(x'ff' AS TEXT));",
    );
    here.fails(2, "table \"t\", row 1: column \"k\" of its key is a Null; --rowid", "sqlite", &["--table", "t"]);
    here.fails(2, "table \"u\", row 1: the text in column \"k\" is not UTF-8", "sqlite", &["--table", "u"]);
    let done = here.import("sqlite", &["--table", "t", "--skip-bad"]);
    assert!(done.out.contains("t: 1 rows of 3, 0 replaced, 0 kept, 2 skipped"), "{done:?}");
    std::fs::remove_file(&here.bench.file).unwrap();
    assert_eq!(tables(&here.ok("sqlite", &["--table", "t", "--rowid"])), [table("t", "i64", "msgpack", 3)]);
}

#[test]
fn a_virtual_table_is_named_or_left_out() {
    let here =
        with("CREATE TABLE t (v); CREATE VIRTUAL TABLE search USING fts5(text); INSERT INTO search VALUES ('a b');");
    here.fails(2, "table \"search\": it is a virtual table", "sqlite", &["--table", "search"]);
    let report = here.ok("sqlite", &["--skip-unknown"]);
    assert_eq!(tables(&report), [table("t", "i64", "msgpack", 0)]);
    assert!(report["left_out"].as_array().unwrap().len() > 1, "its shadow tables, too: {report}");
}

/// What is committed to the WAL alone is in it, what another process has not committed is not, and the database stays as it is.
#[test]
fn the_wal_is_read_beside_a_writer() {
    let here = Move::new("source.db");
    let writer = Connection::open(&here.source).unwrap();
    writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (v);").unwrap();
    writer.execute_batch("INSERT INTO t VALUES ('in the wal'); BEGIN; INSERT INTO t VALUES ('open');").unwrap();
    let wal = here.source.with_file_name("source.db-wal");
    let before = (std::fs::read(&here.source).unwrap(), std::fs::read(&wal).unwrap());
    assert_eq!(tables(&here.ok("sqlite", &[])), [table("t", "i64", "msgpack", 1)]);
    assert_eq!(here.scan("t"), ["1\t{\"v\":\"in the wal\"}"]);
    assert_eq!((std::fs::read(&here.source).unwrap(), std::fs::read(&wal).unwrap()), before);
    writer.execute_batch("COMMIT").unwrap();
    // Left by a process that died: its WAL is there, and nobody has it open.
    let dead = Move::new("source.db");
    for name in ["source.db", "source.db-wal"] {
        std::fs::copy(here.source.with_file_name(name), dead.source.with_file_name(name)).unwrap();
    }
    assert_eq!(tables(&dead.ok("sqlite", &[])), [table("t", "i64", "msgpack", 2)]);
    assert!(names(dead.source.parent().unwrap()).contains(&"source.db-wal".to_owned()));
}

#[test]
fn a_damaged_database_leaves_nothing() {
    let here = with(
        "CREATE TABLE t (v); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t SELECT hex(randomblob(50)) FROM n;",
    );
    let mut bytes = std::fs::read(&here.source).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xA5);
    std::fs::write(&here.source, bytes).unwrap();
    here.fails(5, "nothing was imported", "sqlite", &[]);
}
