//! From JSON lines.

use super::support::json;
use super::{Move, table, tables};

const MEMORY: &str = r#"{"type":"entity","name":"Ada","entityType":"person","observations":["likes tea","é \" \u2028"]}
{"type":"relation","from":"Ada","to":"Engine","relationType":"describes"}

{"type":"entity","name":"Engine","entityType":"machine","observations":[]}
{"type":"relation","from":"Ada","to":"Ada","relationType":"is"}
{"type":"entity","name":"","entityType":"none","observations":[],"createdAt":1.5}"#;

fn with(text: &str) -> Move {
    let here = Move::new("memory.jsonl");
    std::fs::write(&here.source, text).unwrap();
    here
}

#[test]
fn a_memory_servers_graph_comes_over() {
    let here = with(MEMORY);
    let report = here.ok("jsonl", &[]);
    let expected = [table("entities", "str", "msgpack", 3), table("relations", "(str,str,str)", "msgpack", 2)];
    assert_eq!(tables(&report), expected);
    let entities = here.bench.ok("scan", &["--table", "entities", "--json"]);
    let rows: Vec<_> = entities.lines().map(json).collect();
    assert_eq!(rows[0]["key"], "");
    let none = serde_json::json!({"name": "", "entityType": "none", "observations": [], "createdAt": 1.5});
    assert_eq!(rows[0]["value"], none, "fields that the reference does not have stay");
    assert_eq!(rows[1]["value"]["observations"][1], "é \" \u{2028}");
    let relations = here.scan("relations");
    assert!(relations[0].starts_with(r#"["Ada","describes","Engine"]"#), "{relations:?}");
    assert!(relations[1].starts_with(r#"["Ada","is","Ada"]"#), "{relations:?}");
    here.bench.ok("check", &["--values"]);
}

#[test]
fn one_table_is_chosen_and_one_that_is_not_there_is_told() {
    let here = with(MEMORY);
    here.fails(1, "it has: entities, relations", "jsonl", &["--table", "notes"]);
    assert_eq!(tables(&here.ok("jsonl", &["--table", "entities"])), [table("entities", "str", "msgpack", 3)]);
    assert_eq!(here.bench.run("count", &["--table", "relations"]).code, 1);
}

#[test]
fn a_wrong_line_is_told_by_its_number() {
    let good = r#"{"type":"entity","name":"a","entityType":"t","observations":[]}"#;
    for (line, said) in [
        ("{\"type\":\"entity\",", "line 2: it is not JSON"),
        ("[]", "line 2: it is no JSON object"),
        (r#"{"type":"entity","name":7}"#, "line 2: its \"name\" is no text"),
        (r#"{"type":"relation","from":"a","to":"b"}"#, "line 2: its \"relationType\" is no text"),
        (r#"{"type":"observation"}"#, "line 2: its \"type\" is neither"),
        (r#"{"name":"b"}"#, "line 2: its \"type\" is neither"),
        (r#"{"type":"entity","name":"b","n":123456789012345678901}"#, "line 2: the integer 123456789012345678901"),
        (good, "line 2: its key is there already"),
    ] {
        let here = with(&format!("{good}\n{line}\n{}\n", good.replace("\"a\"", "\"c\"")));
        here.fails(2, said, "jsonl", &[]);
        let done = here.import("jsonl", &["--skip-bad"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.err.contains("line 2 is left out"), "{done:?}");
        assert_eq!(here.scan("entities").len(), 2);
    }
    let here = Move::new("memory.jsonl");
    std::fs::write(&here.source, [good.as_bytes(), b"\n\xFF\n"].concat()).unwrap();
    here.fails(2, "line 2: it is not UTF-8", "jsonl", &[]);
    // A key that is too long is known when it is put.
    let long = format!("{good}\n{}", good.replace("\"a\"", &format!("{:?}", "k".repeat(9000))));
    with(&long).fails(2, "line 2: ", "jsonl", &[]);
}

#[test]
fn the_same_key_twice_is_replaced_or_kept() {
    let rows = "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":2}\n{\"id\":\"a\",\"n\":3}\n";
    for (choice, value, replaced, kept) in [("replace", "3", 1, 0), ("keep", "1", 0, 1)] {
        let here = with(rows);
        let done = here.import("jsonl", &["--key", "id", "--duplicates", choice, "--json"]);
        let report = &json(&done.out)["tables"][0];
        assert_eq!((&report["rows"], &report["source_rows"]), (&2.into(), &3.into()), "{report}");
        assert_eq!((&report["replaced"], &report["kept"]), (&replaced.into(), &kept.into()), "{report}");
        assert_eq!(json(&here.bench.ok("get", &["a"]))["n"].to_string(), value);
    }
}

#[test]
fn any_objects_are_keyed_by_a_field() {
    let here = with("{\"id\":10,\"v\":{\"$bytes\":\"ff\"}}\n{\"id\":-2,\"v\":null}\n");
    let report = here.ok("jsonl", &["--key", "id", "--into", "rows"]);
    assert_eq!(tables(&report), [table("rows", "i64", "msgpack", 2)]);
    let rows = here.scan("rows");
    assert_eq!(rows[0], "-2\t{\"id\":-2,\"v\":null}");
    // An object that looks like the command line's notation for bytes stays an object.
    assert_eq!(rows[1], "10\t{\"id\":10,\"v\":{\"$map\":[[\"$bytes\",\"ff\"]]}}");
    let mixed = with("{\"id\":1}\n{\"id\":\"a\"}\n{\"no\":1}\n");
    mixed.fails(2, "line 2: its \"id\" is of type str, unlike those before", "jsonl", &["--key", "id"]);
    let done = mixed.import("jsonl", &["--key", "id", "--skip-bad"]);
    assert!(done.out.contains("1 rows of 3, 0 replaced, 0 kept, 2 skipped"), "{done:?}");
    assert!(done.err.contains("line 3 is left out: its \"id\" is neither"), "{done:?}");
}

#[test]
fn nothing_at_all_becomes_empty_tables() {
    let report = with("").ok("jsonl", &[]);
    assert_eq!(tables(&report).iter().map(|table| table.3).sum::<u64>(), 0);
    let here = with("");
    assert_eq!(tables(&here.ok("jsonl", &["--key", "id"])), [table("default", "str", "msgpack", 0)]);
}
