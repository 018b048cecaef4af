//! Who may use the server over HTTP: a file of bearer tokens, each with the part of the memory that it opens.

use crate::scope::Scope;
use memstone::memory::Namespace;
use std::collections::HashMap;
use std::path::Path;

/// No shorter token is taken for a secret.
const SHORTEST: usize = 16;

/// Parts of the memory by token. A token is looked up by a keyed hash, so the time that this takes says nothing of the tokens that
/// are there.
pub(crate) type Users = HashMap<String, Scope>;

/// Reads such a file.
pub(crate) fn read(path: &Path) -> Result<Users, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|reason| format!("{}, {reason}", path.display()))
}

/// One token a line, and the namespace behind it; without one, the token opens all of the memory. Lines that begin with `#` are
/// passed over.
fn parse(text: &str) -> Result<Users, String> {
    let mut users = Users::new();
    for (position, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |reason: &str| format!("line {}: {reason}", position + 1);
        let (token, namespace) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if token.len() < SHORTEST || !token.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c)) {
            return Err(wrong("a token is at least 16 letters, digits or any of -._~+/="));
        }
        let namespace: Namespace = namespace.trim().parse().map_err(|error| wrong(&format!("{error}")))?;
        if users.insert(token.to_owned(), Scope::new(namespace)).is_some() {
            return Err(wrong("the token is there twice"));
        }
    }
    if users.is_empty() { Err("there is no token in it".to_owned()) } else { Ok(users) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn tokens_open_parts_and_wrong_lines_are_named() {
        let users = parse("# users\n\n0123456789abcdef ada/the coder\n  0123456789abcdeg\t\n").unwrap();
        assert_eq!(users["0123456789abcdef"], Scope::new("ada/the coder".parse().unwrap()));
        assert!(users["0123456789abcdeg"].is_whole());
        let wrong = [
            ("short ada", "line 1: a token is"),
            ("0123456789abcdef a//b", "line 1: invalid namespace"),
            ("0123456789abcdef a\n0123456789abcdef b", "line 2: the token is there twice"),
            ("0123456789abcdeü a", "line 1: a token is"),
            ("# none", "there is no token"),
        ];
        for (text, reason) in wrong {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
