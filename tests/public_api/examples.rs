//! Each public item has an example that runs.
//!
//! A **function** has one if a block of code that runs calls it, or implements it: in its own documentation, in that of
//! its type or of another function of this type, or in that of a function that returns the type.
//!
//! A **type**, a constant or an alias has one if such a block stands in its documentation, or in that of one of its
//! functions; or if what has an example names it: a function in its signature, a struct in a public field, an enum in a
//! variant. So a report that is only read needs no block beside the one of the call that returns it.
//!
//! Fields, variants and implementations of traits need none. What macros make is not looked at.

use super::{exported, root, signature, sources, subject, words};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

struct Item {
    name: String,
    /// The type or the trait of a function.
    of: Option<String>,
    is_function: bool,
    /// The blocks of code in its documentation that run.
    example: String,
    /// A function's signature; what a type has in public fields and variants.
    names: String,
}

impl Item {
    fn full_name(&self) -> String {
        self.of.as_ref().map_or_else(|| self.name.clone(), |of| format!("{of}::{}", self.name))
    }
}

/// The blocks of code that run, of the lines of a documentation.
fn running(docs: &[&str]) -> String {
    let (mut code, mut runs) = (String::new(), None);
    for line in docs {
        match (line.trim().strip_prefix("```"), runs) {
            (Some(kind), None) => runs = Some(["", "should_panic"].contains(&kind)),
            (Some(_), Some(_)) => runs = None,
            (None, Some(true)) => code += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    code
}

/// Whether a function of this name is called in the code, or written.
fn calls(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        !before.ends_with(is_word) && (after.starts_with('(') || after.starts_with("::<"))
    })
}

/// What a struct has in public fields, or an enum in its variants: the lines from its first one to its end.
fn held(lines: &[&str]) -> String {
    let is_enum = lines[0].contains("enum ");
    let body = lines.iter().skip(1).take_while(|line| line.starts_with("    "));
    let shown = body.filter(|line| (is_enum && !line.trim().starts_with(['/', '#'])) || line.starts_with("    pub "));
    shown.map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// The public items of a file.
fn read(text: &str, public: &BTreeSet<String>) -> Vec<Item> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut items, mut docs, mut of, mut at) = (Vec::new(), Vec::new(), None::<(String, bool)>, 0);
    while at < lines.len() {
        let (line, start) = (lines[at], at);
        at += 1;
        if let Some(doc) = line.trim_start().strip_prefix("///") {
            docs.push(doc.strip_prefix(' ').unwrap_or(doc));
            continue;
        }
        if line.trim_start().starts_with("#[") {
            while !lines[at - 1].ends_with(']') {
                at += 1;
            }
            continue;
        }
        let example = running(&std::mem::take(&mut docs));
        let is_trait = of.as_ref().is_some_and(|(_, is_trait)| *is_trait);
        let inner = line
            .strip_prefix("    ")
            .map(|inner| inner.strip_prefix("pub ").unwrap_or(if is_trait { inner } else { "" }));
        if let (Some(function), Some((ty, _))) = (inner, &of)
            && let Some(name) = function.trim_start_matches("const ").strip_prefix("fn ")
            && public.contains(ty)
        {
            let (name, names) = (words(name).next().unwrap().to_owned(), signature(&lines[start..]));
            items.push(Item { name, of: Some(ty.clone()), is_function: true, example, names });
            continue;
        }
        if line.starts_with("impl") {
            let header = signature(&lines[start..]);
            of = Some(subject(&header)).filter(|(made, _)| made.is_none()).map(|(_, ty)| (ty.to_owned(), false));
        } else if line.starts_with(|c: char| c.is_alphabetic()) && !line.starts_with("where") {
            of = None;
        }
        let Some(rest) = line.strip_prefix("pub ") else { continue };
        let kind = words(rest).next().unwrap();
        let name =
            words(rest).find(|word| !["const", "fn", "unsafe", kind].contains(word)).unwrap_or_default().to_owned();
        if !public.contains(&name) || !["struct", "enum", "trait", "type", "const", "fn"].contains(&kind) {
            continue;
        }
        if kind == "trait" {
            of = Some((name.clone(), true));
        }
        let is_function = rest.starts_with("fn ") || rest.starts_with("const fn ");
        let names = if is_function { signature(&lines[start..]) } else { held(&lines[start..]) };
        items.push(Item { name, of: None, is_function, example, names });
    }
    items
}

/// The public items of a module, without those of the modules in it that have a face of their own.
fn public_items(module: &str) -> Vec<Item> {
    let text = |file: &Path| fs::read_to_string(file).unwrap();
    let memory = root().join("src/memory");
    let (face, others) = match module {
        "" => (root().join("src/lib.rs"), vec![memory]),
        "memory" => (memory.join("mod.rs"), vec![memory.join("graph"), memory.join("jobs")]),
        inner => (root().join("src").join(inner).join("mod.rs"), Vec::new()),
    };
    let mut files = Vec::new();
    sources(face.parent().unwrap(), &mut files);
    files.retain(|file| !others.iter().any(|other| file.starts_with(other)));
    files.sort();
    // What the face re-exports, and what it defines itself.
    let own = text(&face);
    let own = own.lines().filter_map(|line| line.strip_prefix("pub struct "));
    let mut public = exported(&text(&face));
    public.extend(own.filter_map(|rest| words(rest).next()).map(str::to_owned));
    files.iter().flat_map(|file| read(super::without_tests(&text(file)), &public)).collect()
}

/// The names of the items that have no example.
fn without_example(items: &[Item]) -> Vec<String> {
    // By type: the examples of it, of its functions, and of what returns it.
    let mut of_type: BTreeMap<&str, String> = BTreeMap::new();
    for item in items {
        let returned = item.names.rsplit_once("->").filter(|_| item.is_function).map_or("", |(_, returned)| returned);
        let subjects = item.of.as_deref().or((!item.is_function).then_some(&item.name));
        for ty in words(returned).chain(subjects) {
            *of_type.entry(ty).or_default() += &item.example;
        }
    }
    let is_shown = |item: &&Item| {
        let examples = item.of.as_deref().and_then(|ty| of_type.get(ty)).map_or("", String::as_str);
        calls(&item.example, &item.name) || calls(examples, &item.name)
    };
    let (shown, mut missing): (Vec<_>, Vec<_>) = items.iter().filter(|item| item.is_function).partition(is_shown);
    let mut named: BTreeSet<&str> = shown.iter().flat_map(|item| words(&item.names)).collect();
    named.extend(
        items.iter().filter(|item| !item.example.is_empty()).map(|item| item.of.as_deref().unwrap_or(&item.name)),
    );
    let mut types: Vec<&Item> = items.iter().filter(|item| !item.is_function).collect();
    loop {
        let (found, rest): (Vec<&Item>, Vec<&Item>) = types.into_iter().partition(|item| named.contains(&*item.name));
        types = rest;
        if found.is_empty() {
            break;
        }
        named.extend(found.iter().flat_map(|item| words(&item.names)));
    }
    missing.extend(types);
    missing.iter().map(|item| item.full_name()).collect()
}

#[test]
fn each_public_item_has_an_example_that_runs() {
    let items = public_items("");
    let names: BTreeSet<_> = items.iter().map(Item::full_name).collect();
    for name in
        ["Store::open", "check", "Codec::decode", "MAX_KEY_SIZE", "KeyBounds", "RawTableMut::try_update", "Table::name"]
    {
        assert!(names.contains(name), "{name} is not seen");
    }
    assert!(items.len() > 370, "only {} items are seen", items.len());
    assert_eq!(
        without_example(&items),
        [""; 0],
        "these need an example: `tests/public_api/examples.rs` says which would do"
    );
}

#[test]
fn each_item_of_the_memory_has_an_example_that_runs() {
    for (module, some) in [
        ("memory", ["Memory::open", "MemoryTxn::sweep", "Query::after", "MAX_TAGS"]),
        ("memory/jobs", ["Jobs::claim", "JobsTxn::finish", "Job::delay", "MAX_PAYLOAD"]),
        ("memory/graph", ["GraphMut::new", "GraphView::search", "Entity::new", "Relation::new"]),
    ] {
        let items = public_items(module);
        let names: BTreeSet<_> = items.iter().map(Item::full_name).collect();
        for name in some {
            assert!(names.contains(name), "{module}: {name} is not seen");
        }
        assert_eq!(without_example(&items), [""; 0], "{module}");
    }
}

#[test]
fn an_item_without_an_example_is_found() {
    let text = r#"
/// ```
/// let both = A::new().shown(1);
/// ```
pub struct A {
    /// ```
    /// hidden();
    /// ```
    pub held: Held,
    private: Unseen,
}

impl A {
    pub fn new() -> A {}

    pub fn shown(self, number: Given) -> A {}

    /// ```ignore
    /// a.hidden();
    /// ```
    pub fn hidden(&self) -> Unseen {}

    pub fn made(&self) -> Made {}
}

pub struct Held {
    pub inner: Inner,
}

pub enum Inner {
    One(Deep),
}

pub struct Deep;

pub struct Unseen;

pub struct Given;

pub trait T {
    fn required(&self);
}

/// ```
/// made(a).required();
/// ```
pub fn make() -> Made {}

pub struct Made;

impl Made {
    pub fn required(&self) {}
}
"#;
    let public = ["A", "Held", "Inner", "Deep", "Unseen", "Given", "T", "make", "Made"].map(str::to_owned).into();
    let items = read(text, &public);
    assert_eq!(without_example(&items), ["A::hidden", "A::made", "T::required", "make", "Unseen", "T", "Made"]);
}
