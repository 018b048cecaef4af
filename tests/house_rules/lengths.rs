//! How long a file and a function may be: a ratchet. What is longer today is listed with its length, which only falls.

use crate::{files, is_test_file, read, sources_and_tests};
use std::collections::BTreeMap;

/// No file is longer.
const LONGEST_FILE: usize = 600;
/// Those that are, with their lengths, which only fall: an entry is lowered with its file, and goes in the end.
const LONG_FILES: &[(&str, usize)] = &[("src/disk/sim.rs", 779), ("src/simulation/named_snapshots.rs", 712)];

/// No function of the library and the commands is longer, from `fn` to its closing brace; no one of tests and tools
/// is longer than the second number.
const LONGEST_FUNCTION: (usize, usize) = (60, 100);
/// Those that are, with their lengths, which only fall, too.
const LONG_FUNCTIONS: &[(&str, &str, usize)] =
    &[("benches/field/src/single.rs", "run", 115), ("src/simulation/interleaving.rs", "run", 105)];

/// So many lines less than an entry says need no lower entry yet.
const SLACK: usize = 4;

/// Compares lengths with a list of those that are longer than others may be: each is as listed, or a little less.
/// What is wrong is said as the entry that would be right.
fn compare(found: &BTreeMap<String, usize>, listed: &BTreeMap<String, usize>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, lines) in found {
        match listed.get(name) {
            None => wrong.push(format!("{name} is too long: {lines} lines")),
            Some(limit) if lines > limit => wrong.push(format!("{name} has grown from {limit} to {lines} lines")),
            Some(limit) if lines + SLACK < *limit => wrong.push(format!("{name}: lower its entry to {lines}")),
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|name| !found.contains_key(*name));
    wrong.extend(gone.map(|name| format!("{name} needs no entry")));
    wrong
}

#[test]
fn no_file_grows_for_ever() {
    let lengths = sources_and_tests().into_iter().map(|file| {
        let lines = read(&file).lines().count();
        (file, lines)
    });
    let found = lengths.filter(|(_, lines)| *lines > LONGEST_FILE).collect();
    let listed = LONG_FILES.iter().map(|(file, lines)| ((*file).to_owned(), *lines)).collect();
    let wrong = compare(&found, &listed);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The functions of a text as rustfmt leaves it, by name and number of lines. One ends with the brace that stands as
/// far in as its `fn`.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        // It has no body, or one on its line.
        if line.ends_with([';', '}']) {
            continue;
        }
        let same = |(_, other): &(usize, &&str)| !other.trim().is_empty() && indent(other) == indent(line);
        let mut rest = lines.iter().enumerate().skip(at + 1).filter(same);
        let end = rest.find(|(_, other)| other.trim() == "}" || other.ends_with(';'));
        if let Some((end, _)) = end.filter(|(_, other)| other.trim() == "}") {
            found.push((name, end - at + 1));
        }
    }
    found
}

/// The name of the function that begins on a line.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let mut words = before.split_whitespace();
    let is_one = words.all(|w| ["const", "async", "unsafe", "extern", "\"C\""].contains(&w) || w.starts_with("pub"));
    let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    (is_one && end > 0).then_some(&after[..end])
}

#[test]
fn no_function_grows_for_ever() {
    let text = "trait T {\n    fn a(\n    );\n    fn b() {\n        x\n    }\n    pub(crate) fn c<'a>(\n    ) -> X\n    where\n        \
                A: B,\n    {\n        if y {\n        }\n    }\n}\nfn d() {}\nconst fn e() {\n}\n// a fn (\n";
    assert_eq!(functions(text), [("b", 3), ("c", 8), ("e", 2)]);
    let (limits, listed) = (BTreeMap::from([("a".into(), 70), ("b".into(), 70)]), ["a", "b", "c", "d"]);
    let listed = listed.iter().map(|name| ((*name).to_owned(), if *name == "b" { 80 } else { 69 })).collect();
    assert_eq!(compare(&limits, &listed).len(), 4, "grown, shrunk, and two that are needed no more");

    let mut found = BTreeMap::new();
    for file in sources_and_tests().into_iter().chain(files("benches", &[".rs"])) {
        let of_program = !is_test_file(&file) && !file.starts_with("benches/");
        let text = read(&file);
        let end = if of_program { text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len()) } else { text.len() };
        let most = if of_program { LONGEST_FUNCTION.0 } else { LONGEST_FUNCTION.1 };
        for (name, lines) in functions(&text[..end]).into_iter().filter(|(_, lines)| *lines > most) {
            let longest = found.entry(format!("{file}: {name}")).or_insert(lines);
            *longest = lines.max(*longest);
        }
    }
    let listed = LONG_FUNCTIONS.iter().map(|(file, name, lines)| (format!("{file}: {name}"), *lines)).collect();
    let wrong = compare(&found, &listed);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
