//! The public interface, as a list in `docs/public-api.txt`: a change of it is a line of the change that is reviewed.
//!
//! It is read from the sources as rustfmt leaves them: an item begins and ends in the first column. What macros make is
//! listed as the call of the macro. `MEMSTONE_BLESS=1 cargo test --test public_api` writes the list anew.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test")]

#[path = "public_api/examples.rs"]
mod examples;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LIST: &str = "docs/public-api.txt";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(at: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let for_tests = ["simulation", "sim", "sim.rs", "tests", "fuzzing.rs", "testing.rs"].contains(&name.as_str());
        if path.is_dir() && !for_tests {
            sources(&path, found);
        } else if name.ends_with(".rs") && !for_tests && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// A file's text without the tests at its end.
fn without_tests(text: &str) -> &str {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.split("#[cfg(test)]\npub(super) mod tests {").next().unwrap()
}

/// Lines without comments, and without the tests at the end.
fn code(text: &str) -> Vec<&str> {
    let text = without_tests(text);
    text.lines().filter(|line| !line.trim_start().starts_with("//") && !line.trim().is_empty()).collect()
}

/// One line of all, with single spaces.
fn flat(lines: &[&str]) -> String {
    let text = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    text.replace("( ", "(").replace(", )", ")").replace(",)", ")")
}

/// A signature, without the body that may follow it.
fn signature(lines: &[&str]) -> String {
    let end = lines.iter().position(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'));
    let text = flat(&lines[..=end.unwrap_or(lines.len() - 1)]);
    let end = text.find(" {").unwrap_or(text.len());
    text[..end].trim_end_matches(';').to_owned()
}

/// What of the attributes belongs to the interface.
fn promises(attributes: &[&str]) -> String {
    let kept = attributes.iter().filter(|line| {
        ["#[derive", "#[cfg_attr(feature", "#[non_exhaustive", "#[must_use", "#[doc(hidden"]
            .iter()
            .any(|start| line.trim().starts_with(start))
    });
    kept.map(|line| format!(" {}", line.trim().split(" = ").next().unwrap().trim_end_matches(']').to_owned() + "]"))
        .collect()
}

/// The names that `lib.rs` makes public.
fn exported(lib: &str) -> BTreeSet<String> {
    let uses = lib.split("\npub use ").skip(1).map(|rest| rest.split(';').next().unwrap());
    uses.flat_map(|tree| {
        let names = tree.rsplit_once('{').map_or_else(|| tree.rsplit("::").next().unwrap(), |(_, names)| names);
        words(names).map(str::to_owned).collect::<Vec<_>>()
    })
    .collect()
}

/// The name of the type, and of the trait if there is one, of an `impl`.
fn subject(header: &str) -> (Option<&str>, &str) {
    let text = &header["impl".len()..];
    let mut depth = 0;
    let generics = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '<') - i32::from(*c == '>');
        depth == 0
    });
    let rest = text[generics.map_or(0, |(at, _)| at)..].trim_start_matches('>').trim();
    let name = |path: &'_ str| path.trim_start_matches('&').split(['<', ' ', '{']).next().map_or(0, str::len);
    let last = |path| {
        let path = str::trim_start_matches(path, '&');
        path[..name(path)].rsplit("::").next().unwrap()
    };
    match rest.split_once(" for ") {
        Some((of, ty)) => (Some(last(of)), last(ty)),
        None => (None, last(rest)),
    }
}

/// What the macros `shows!` and `both_ends!` of `lib.rs` make: implementations, as they would be written by hand.
fn implementations(call: &str) -> Option<Vec<String>> {
    let shown = call.strip_prefix("shows! { self: ");
    let (entries, traits): (Vec<&str>, &[&str]) = match (shown, call.strip_prefix("both_ends! { self: ")) {
        (Some(shown), _) => (shown.split_inclusive('}').collect(), &["fmt::Debug"]),
        (_, Some(walked)) => (vec![walked], &["Iterator", "DoubleEndedIterator", "FusedIterator"]),
        _ => return None,
    };
    let entries = entries.into_iter().filter_map(|entry| entry.split_once(" {").map(|(header, _)| header.trim()));
    let headers = entries.flat_map(|entry| {
        let (generics, ty) = entry.strip_prefix('[').map_or(("", entry), |rest| rest.split_once("] ").unwrap());
        let ty = ty.split(" =>").next().unwrap();
        traits.iter().map(move |of| match (*of, generics) {
            (_, "") => format!("impl {of} for {ty}"),
            ("Iterator", _) => format!("impl<{generics}> {of} for {ty}"),
            _ => format!("impl<{}> {of} for {}", generics.replace("'s, ", ""), ty.replace("<'s", "<'_")),
        })
    });
    Some(headers.collect())
}

struct Listing<'a> {
    exported: &'a BTreeSet<String>,
    /// Traits of the crate's own.
    traits: &'a BTreeSet<String>,
    lines: Vec<String>,
}

impl Listing<'_> {
    fn is_public(&self, name: &str) -> bool {
        self.exported.contains(name)
    }

    /// An item, with the attributes above it.
    fn item(&mut self, attributes: &[&str], item: &[&str], has_public: bool) {
        let first = item[0];
        if first.starts_with("impl") {
            return self.implementation(item);
        }
        if let Some(implementations) = implementations(&flat(item)) {
            let public = implementations.into_iter().filter(|header| self.is_public(subject(header).1));
            return self.lines.extend(public.collect::<Vec<_>>());
        }
        if first.contains("! {") || first.contains("!(") {
            let has_public = has_public || item.iter().any(|line| words(line).any(|word| self.is_public(word)));
            if has_public && !first.starts_with("macro_rules!") {
                self.lines.push(flat(item));
            }
            return;
        }
        let Some(rest) = first.strip_prefix("pub ") else { return };
        let mut parts =
            words(rest).filter(|word| !["const", "unsafe", "async"].contains(word) || rest.starts_with("const "));
        let (kind, name) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        let name = if name == "fn" { parts.next().unwrap() } else { name };
        if !self.is_public(name) {
            return;
        }
        let promises = promises(attributes);
        match kind {
            "struct" => self.structure(&promises, item, name),
            "enum" => self.lines.push(format!("{}{promises}", flat(item))),
            "trait" => self.members(&format!("{}{promises}", signature(item)), item, name, &["fn ", "type ", "const "]),
            _ => self.lines.push(format!("{}{promises}", signature(item))),
        }
    }

    fn structure(&mut self, promises: &str, item: &[&str], name: &str) {
        if item.len() == 1 && item[0].ends_with(';') {
            let header = item[0].split('(').next().unwrap();
            let fields = item[0].split_once('(').map_or("", |(_, fields)| fields);
            let public = if fields.starts_with("pub ") { format!("({fields}") } else { String::new() };
            return self.lines.push(format!("{header}{public}{promises}"));
        }
        self.lines.push(format!("{}{promises}", signature(item)));
        for line in item.iter().filter(|line| line.starts_with("    pub ")) {
            self.lines.push(format!("{name}.{}", line.trim()["pub ".len()..].trim_end_matches(',')));
        }
    }

    fn implementation(&mut self, item: &[&str]) {
        let header = signature(item);
        let (of, name) = subject(&header);
        if !self.is_public(name) {
            return;
        }
        match of {
            Some(of) if self.traits.contains(of) && !self.is_public(of) => {}
            Some(_) => self.lines.push(header),
            None => self.members("", item, name, &["pub fn ", "pub const "]),
        }
    }

    fn members(&mut self, header: &str, item: &[&str], name: &str, starts: &[&str]) {
        if !header.is_empty() {
            self.lines.push(header.to_owned());
        }
        for (at, line) in item.iter().enumerate() {
            let inner = line.strip_prefix("    ").unwrap_or_default();
            if starts.iter().any(|start| inner.starts_with(start)) {
                self.lines.push(format!("{name}: {}", signature(&item[at..])));
            }
        }
    }
}

/// The items of a file: attributes above, and lines.
fn items<'t>(lines: &[&'t str]) -> Vec<(Vec<&'t str>, Vec<&'t str>)> {
    let (mut found, mut attributes, mut at) = (Vec::new(), Vec::new(), 0);
    while at < lines.len() {
        let start = at;
        at += 1;
        if lines[start].starts_with("#[") {
            while !lines[at - 1].ends_with(']') {
                at += 1;
            }
            attributes.extend(&lines[start..at]);
            continue;
        }
        let open = |line: &str| !(line.ends_with(';') || line.ends_with('}') || line.ends_with(");"));
        if open(lines[start]) {
            while at < lines.len() && (lines[at].starts_with([' ', ')', ']']) && !lines[at].starts_with(");"))
                || lines[at].starts_with("where")
                || lines[at] == "{"
            {
                at += 1;
            }
            at += 1;
        }
        found.push((std::mem::take(&mut attributes), lines[start..at.min(lines.len())].to_vec()));
    }
    found
}

fn listing() -> String {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    files.sort();
    let exported = exported(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let traits = texts.iter().flat_map(|text| code(text)).filter_map(|line| {
        let rest = line.split_once("trait ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"))?.1;
        words(rest).next().map(str::to_owned)
    });
    let traits = traits.collect();
    let mut listing = Listing { exported: &exported, traits: &traits, lines: Vec::new() };
    for text in &texts {
        let lines = code(text);
        let items = items(&lines);
        let has_public = items.iter().any(|(_, item)| {
            item[0]
                .strip_prefix("pub ")
                .is_some_and(|rest| words(rest).nth(1).is_some_and(|name| exported.contains(name)))
        });
        items.iter().for_each(|(attributes, item)| listing.item(attributes, item, has_public));
    }
    listing.lines.sort();
    listing.lines.dedup();
    listing.lines.join("\n") + "\n"
}

#[test]
fn the_public_interface_is_as_listed() {
    let (found, path) = (listing(), root().join(LIST));
    if std::env::var_os("MEMSTONE_BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    let (found, listed): (BTreeSet<_>, BTreeSet<_>) = (found.lines().collect(), listed.lines().collect());
    let new: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "the interface has changed: if that is meant, MEMSTONE_BLESS=1 cargo test --test public_api\nnew: {new:#?}\ngone: {gone:#?}"
    );
}

#[test]
fn the_list_has_what_it_must() {
    let found = listing();
    for line in [
        "Store: pub fn open(path: impl AsRef<Path>) -> Result<Store>",
        "Store: pub fn write<T>(&self, body: impl FnOnce(&WriteTxn) -> Result<T>) -> Result<T>",
        "WriteTxn: pub fn commit(mut self) -> Result<u64>",
        "impl<S: ReadState> FusedIterator for RawRange<'_, S>",
        "Stats.last_commit: u64",
        "pub fn check(path: impl AsRef<Path>, options: &CheckOptions) -> Result<Report>",
        "ByteRange: fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>)",
    ] {
        assert!(found.lines().any(|listed| listed == line), "{line}");
    }
    assert!(found.lines().any(|line| line.starts_with("kinds! {") && line.contains("Writer = \"writer\"")));
    assert!(found.lines().count() > 500, "only {} lines", found.lines().count());
}

/// Which types may cross threads is decided for each of them, by the compiler.
#[test]
fn the_auto_traits_of_every_type_are_asserted() {
    let assertions = fs::read_to_string(root().join("tests/handles/auto_traits.rs")).unwrap();
    let asserted: BTreeSet<&str> = words(&assertions).collect();
    let found = listing();
    let types = found.lines().filter_map(|line| line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum ")));
    let forgotten: Vec<_> =
        types.filter_map(|rest| words(rest).next()).filter(|name| !asserted.contains(name)).collect();
    assert_eq!(forgotten, [""; 0], "tests/handles/auto_traits.rs does not name them");
}

/// What may grow says so, so that it can without breaking a program. The others are as they are for good.
#[test]
fn what_may_grow_says_so() {
    // `Place` and `TypedChange` are made by programs: in codecs, and in comparisons.
    const WHOLE: [&str; 2] = ["Place", "TypedChange"];
    let found = listing();
    let has_fields = |name: &str| found.lines().any(|line| line.starts_with(&format!("{name}.")));
    let closed = found.lines().filter(|line| !line.contains("#[non_exhaustive]")).filter_map(|line| {
        let rest = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum "))?;
        let name = words(rest).next()?;
        (line.starts_with("pub enum") || has_fields(name)).then(|| name.to_owned())
    });
    assert_eq!(closed.collect::<Vec<_>>(), WHOLE);
}

/// Raw and typed tables are alike in every method, but for what only bytes can be: read and written in part.
#[test]
fn raw_and_typed_tables_have_the_same_methods() {
    let found = listing();
    let methods = |of: &str| -> BTreeSet<String> {
        let own = found.lines().filter_map(|line| line.strip_prefix(of)?.strip_prefix(": pub fn "));
        own.map(|rest| words(rest).next().unwrap().to_owned()).collect()
    };
    let only_raw: [(&str, &str, &[&str]); 3] = [
        ("RawTable", "TypedTable", &["get_slice", "reader", "value_len"]),
        ("RawTableMut", "TypedTableMut", &["writer"]),
        ("OwnedRawTable", "OwnedTypedTable", &[]),
    ];
    for (raw, typed, only) in only_raw {
        let (raw, typed) = (methods(raw), methods(typed));
        assert!(typed.len() > 10, "{typed:?}");
        assert_eq!(raw.difference(&typed).map(String::as_str).collect::<Vec<_>>(), only);
        assert_eq!(typed.difference(&raw).collect::<Vec<_>>(), [""; 0]);
    }
}
