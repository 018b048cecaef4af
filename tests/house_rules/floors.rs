//! The order of the files inside a folder: each uses those before it, by imports and by calls of methods.
//!
//! The layers of `house_rules.rs` keep folders apart. Inside one, all methods of a type may stand in any file, so no
//! import shows who calls whom. Here the methods are looked up by their names, which are therefore unique.

use crate::{files, read};
use std::collections::{BTreeMap, BTreeSet};

/// The files of `src/engine/`, low to high. A floor is a struct that holds the one below; the compiler keeps the
/// order of floors, this test that of the files of one.
const ENGINE: &[(&str, &[&str])] = &[
    ("values", &["settings", "changes", "ring_plan"]),
    ("OpenFile", &["file"]),
    ("Board", &["chores", "board", "sharing", "busy"]),
    ("Roots", &["roots", "file_flush", "rewrite", "checkpoint_guard", "durable_root", "left_behind"]),
    ("Log", &["append", "unproven", "group_commit"]),
    ("Views", &["view", "hints", "onlooker", "snapshot", "names", "one_pass"]),
    (
        "Engine",
        &[
            "mod",
            "writer_queue",
            "known_tables",
            "archive",
            "page_writer",
            "move_down",
            "checkpoint",
            "flush_repair",
            "requests",
            "relaxed",
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
/// The types whose methods the files of the engine share.
const SHARED: &[&str] = &[
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
];
/// The settings name the trait through which an archive is called; its methods get what a fold made.
const EXCEPTIONS: &[(&str, &str)] = &[("settings", "archive")];

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
fn methods(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for block in text.split("\nimpl").skip(1) {
        let (head, body) = block.split_once("{\n").unwrap_or_default();
        let body = body.split("\n}").next().unwrap_or_default();
        let of_shared = head.split(|c: char| !c.is_alphanumeric()).any(|word| SHARED.contains(&word));
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

#[test]
fn files_of_the_engine_use_those_before_them() {
    let order: Vec<&str> = ENGINE.iter().flat_map(|(_, files)| files.iter().copied()).collect();
    let place: BTreeMap<&str, usize> = order.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let there: BTreeSet<String> = files("src/engine", &[".rs"])
        .into_iter()
        .filter(|file| !file.ends_with("_tests.rs"))
        .map(|file| file.trim_start_matches("src/engine/").trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(there, order.iter().map(|name| (*name).to_owned()).collect(), "the list of files is exact");

    let texts: BTreeMap<&str, String> =
        order.iter().map(|name| (*name, code(&format!("src/engine/{name}.rs")))).collect();
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, text) in &texts {
        for method in methods(text) {
            if let Some(other) = owner.insert(method, name) {
                wrong.push(format!("`{method}` is in {other} and in {name}: nobody can tell which is called"));
            }
        }
    }
    assert!(owner.len() > 150, "only {} methods were found", owner.len());
    let mut edges = 0;
    for (name, text) in &texts {
        let imports =
            names_behind(text, "crate::engine::").filter(|used| place.contains_key(used)).map(|used| (used, ""));
        let calls = names_behind(text, ".").filter_map(|method| owner.get(method).map(|used| (*used, method)));
        // A method is called with a parenthesis behind it.
        let calls = calls.filter(|(_, method)| text.contains(&format!(".{method}(")));
        for (used, method) in imports.chain(calls).filter(|(used, _)| used != name) {
            edges += 1;
            if place[used] > place[name] && !EXCEPTIONS.contains(&(name, used)) {
                wrong.push(format!("{name} uses {used}, which is above it: {method}"));
            }
        }
    }
    assert!(edges > 300, "only {edges} uses were found");
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
