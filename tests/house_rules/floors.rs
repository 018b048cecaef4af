//! The order of the files inside a folder: each uses those before it, by imports and by calls of methods.
//!
//! The layers of `house_rules.rs` keep folders apart. Inside one, all methods of a type may stand in any file, so no
//! import shows who calls whom. Here the methods are looked up by their names, which are therefore unique.

use crate::{files, read};
use std::collections::{BTreeMap, BTreeSet};

/// The files of `src/engine/`, low to high. A floor is a struct that holds the one below; the compiler keeps the
/// order of floors, this test that of the files of one.
const ENGINE: &[(&str, &[&str])] = &[
    ("values", &["settings", "gaps", "delta", "facts", "changes", "buffer", "ring_plan"]),
    ("OpenFile", &["file"]),
    ("Board", &["chores", "board", "sharing", "busy"]),
    ("Roots", &["roots", "file_flush", "rewrite", "checkpoint_guard", "durable_root", "left_behind"]),
    ("Log", &["append", "unproven", "group_commit"]),
    (
        "Views",
        &[
            "table_row",
            "view",
            "merge",
            "rank",
            "hints",
            "onlooker",
            "snapshot",
            "names",
            "one_pass",
            "commit_record",
            "feed",
        ],
    ),
    (
        "Engine",
        &[
            "mod",
            "writer_queue",
            "known_tables",
            "archive",
            "page_writer",
            "move_down",
            "new_root",
            "journal",
            "checkpoint",
            "flush_repair",
            "requests",
            "relaxed",
            "due",
            "streams",
            "commit",
            "compact",
            "named",
            "still",
            "stats",
            "metrics",
            "background",
            "open",
            "open_store",
        ],
    ),
];
/// The settings name the trait through which an archive is called; its methods get what a fold made.
const EXCEPTIONS: &[(&str, &str)] = &[("settings", "archive")];

/// A folder, its files in order, and the types whose methods stand in several of them.
struct Folder {
    path: &'static str,
    order: Vec<&'static str>,
    shared: &'static [&'static str],
    /// So many methods, and uses of other files, are found at least: otherwise this test has gone blind.
    least: (usize, usize),
}

fn folders() -> [Folder; 4] {
    [
        Folder {
            path: "src/engine",
            order: ENGINE.iter().flat_map(|(_, files)| files.iter().copied()).collect(),
            shared: &[
                "OpenFile",
                "Board",
                "Roots",
                "Log",
                "Views",
                "Engine",
                "AppendGuard",
                "CheckpointGuard",
                "WriterGuard",
                "View",
                "TreeVersion",
                "Appender",
            ],
            least: (150, 300),
        },
        Folder {
            path: "src/txn",
            order: vec![
                "mod",
                "catalog",
                "txn_table",
                "undo",
                "write",
                "tables",
                "savepoint",
                "table_name",
                "snapshot",
                "state",
                "table",
                "bounds",
                "range",
                "owned",
                "write_table",
                "rank",
                "value_reader",
                "value_writer",
                "handles",
                "versions",
                "diff",
                "roll_back",
                "changes",
                "cursors",
            ],
            shared: &["WriteTxn"],
            least: (30, 60),
        },
        Folder {
            path: "src/typed",
            order: vec![
                "mod",
                "key",
                "key_scalars",
                "key_reverse",
                "key_time",
                "key_range",
                "key_tuples",
                "codec",
                "msgpack",
                "json",
                "raw",
                "definition",
                "iter",
                "table",
                "open",
                "owned",
                "diff",
            ],
            shared: &["Table", "TypedRange"],
            least: (5, 15),
        },
        Folder {
            path: "src/store",
            order: vec!["registry", "archive", "named", "changes", "options"],
            shared: &["Store"],
            least: (5, 1),
        },
    ]
}

/// The text without comments, and without the tests at its end.
fn code(file: &str) -> String {
    let text = read(file);
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The names that stand right behind a pattern.
fn names_behind<'t>(text: &'t str, pattern: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(pattern).map(move |(at, _)| {
        let rest = &text[at + pattern.len()..];
        &rest[..rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())]
    })
}

/// The methods (functions with a receiver) in the `impl` blocks of the shared types.
fn methods<'t>(text: &'t str, shared: &[&str]) -> BTreeSet<&'t str> {
    let mut found = BTreeSet::new();
    for block in text.split("\nimpl").skip(1) {
        let (head, body) = block.split_once("{\n").unwrap_or_default();
        let body = body.split("\n}").next().unwrap_or_default();
        let of_shared = head.split(|c: char| !c.is_alphanumeric()).any(|word| shared.contains(&word));
        if !of_shared || head.contains(" for ") {
            continue;
        }
        for function in body.split(" fn ").skip(1) {
            let name = names_behind(function, "").next().unwrap_or_default();
            let arguments = function.split_once('(').map_or("", |(_, rest)| rest.split(')').next().unwrap_or(""));
            if arguments.split(',').next().is_some_and(|first| first.contains("self")) {
                found.insert(name);
            }
        }
    }
    found
}

/// What is wrong in a folder.
fn look(folder: &Folder) -> Vec<String> {
    let Folder { path, order, shared, least } = folder;
    let place: BTreeMap<&str, usize> = order.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let is_test = |file: &str| file.ends_with("_tests.rs") || file.trim_start_matches(path)[1..].contains('/');
    let there: BTreeSet<String> = files(path, &[".rs"])
        .into_iter()
        .filter(|file| !is_test(file))
        .map(|file| file.trim_start_matches(path)[1..].trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(there, order.iter().map(|name| (*name).to_owned()).collect(), "{path}: the list of files is exact");

    let texts: BTreeMap<&str, String> = order.iter().map(|name| (*name, code(&format!("{path}/{name}.rs")))).collect();
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, text) in &texts {
        for method in methods(text, shared) {
            if let Some(other) = owner.insert(method, name) {
                wrong.push(format!("{path}: `{method}` is in {other} and in {name}: which one is called?"));
            }
        }
    }
    assert!(owner.len() >= least.0, "{path}: only {} methods were found", owner.len());
    let module = format!("{}::", path.replace("src/", "crate::"));
    let mut edges = 0;
    for (name, text) in &texts {
        let imports = [module.as_str(), "super::"].into_iter().flat_map(|start| names_behind(text, start));
        let imports = imports.filter(|used| place.contains_key(used)).map(|used| (used, ""));
        let calls = names_behind(text, ".").filter_map(|method| owner.get(method).map(|used| (*used, method)));
        // A method is called with a parenthesis behind it.
        let calls = calls.filter(|(_, method)| text.contains(&format!(".{method}(")));
        for (used, method) in imports.chain(calls).filter(|(used, _)| used != name) {
            edges += 1;
            if place[used] > place[name] && !EXCEPTIONS.contains(&(name, used)) {
                wrong.push(format!("{path}: {name} uses {used}, which is above it: {method}"));
            }
        }
    }
    assert!(edges >= least.1, "{path}: only {edges} uses were found");
    wrong
}

#[test]
fn files_of_a_folder_use_those_before_them() {
    let mut wrong: Vec<String> = folders().iter().flat_map(look).collect();
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
