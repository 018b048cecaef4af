//! Where the store's file stands on a command line that leaves it out: `MEMSTONE_FILE` names it, or the shell does.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Verbs that take no store.
const NONE: [&str; 5] = ["backups", "completions", "demo", "help", "man"];
/// Verbs whose last argument it is.
const LAST: [&str; 2] = ["import", "restore"];
/// Verbs that have verbs of their own, before it.
const NESTED: [&str; 1] = ["snapshot"];
/// Options before the verb that take a value.
const WITH_VALUE: [&str; 1] = ["--timeout"];

/// The words with the file put where the verb wants it; `None` if there is no such place.
pub(crate) fn insert(words: &[OsString], file: &OsStr) -> Option<Vec<OsString>> {
    let verb = verb_at(words)?;
    let name = words.get(verb)?.to_str()?;
    let at = match name {
        _ if NONE.contains(&name) => return None,
        _ if LAST.contains(&name) => words.len(),
        _ if NESTED.contains(&name) => (verb + 2).min(words.len()),
        _ => verb + 1,
    };
    let mut words = words.to_vec();
    words.insert(at, file.to_owned());
    Some(words)
}

/// The same for a command line that cannot be read as it is, by the environment. Not if a file's name stands where the
/// store would: then something else is missing, and the verb is not to work on another store.
pub(crate) fn insert_default(words: &[OsString]) -> Option<Vec<OsString>> {
    let file = std::env::var_os("MEMSTONE_FILE").filter(|file| !file.is_empty())?;
    let all = insert(words, &file)?;
    let given = words.get(verb_at(words)? + 1..)?.iter().find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let is_file = given.is_some_and(|word| Path::new(word).exists());
    (!is_file || words.get(verb_at(words)?).is_some_and(|verb| LAST.iter().any(|last| verb == last))).then_some(all)
}

fn verb_at(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        let word = words.get(at)?.to_str()?;
        if !word.starts_with('-') {
            return Some(at);
        }
        at += if WITH_VALUE.contains(&word) { 2 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stands_where_the_verb_wants_it() {
        for (line, expected) in [
            ("m get k", Some("m get F k")),
            ("m --json --timeout 5 put k v", Some("m --json --timeout 5 put F k v")),
            ("m --timeout=5 scan --keys", Some("m --timeout=5 scan F --keys")),
            ("m snapshot create before", Some("m snapshot create F before")),
            ("m snapshot", Some("m snapshot F")),
            ("m restore full.mst", Some("m restore full.mst F")),
            ("m with-lock -- ls -l", Some("m with-lock F -- ls -l")),
            ("m backups d", None),
            ("m --json", None),
            ("m", None),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let found = insert(&words, OsStr::new("F"));
            let expected = expected.map(|line| line.split(' ').map(OsString::from).collect::<Vec<_>>());
            assert_eq!(found, expected, "{line}");
        }
    }
}
