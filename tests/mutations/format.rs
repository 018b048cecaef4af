//! How a broken rule is written down: one file for each.
//!
//! ```text
//! rule: what must hold, in words
//! test: lib simulation::crash            the tests that must notice, the cheapest first: target, filter
//! test: MEMSTONE_SCHEDULES=500 lib simulation::schedule::many --ignored
//!
//! ---- src/engine/flush.rs
//! text that stands there once, with «the part that is replaced» marked
//! ---- instead
//! what stands in its place when the rule is broken
//! ```
//!
//! More places may follow. The marked part is an expression, or whole statements, or nothing (then
//! something is added there), for both it and its replacement are compiled, and a word of the
//! environment chooses. So one build has all rules in it, kept and broken.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The word of the environment that names the rule to break.
pub const CHOICE: &str = "MEMSTONE_BROKEN";

/// The roots of the crates whose rules are broken.
const ROOTS: [&str; 3] = ["src/lib.rs", "cli/src/memstone/main.rs", "mcp/src/main.rs"];

pub struct Mutation {
    pub name: String,
    pub rule: String,
    pub tests: Vec<String>,
    pub places: Vec<Place>,
}

pub struct Place {
    pub file: String,
    before: String,
    kept: String,
    after: String,
    broken: String,
}

/// All mutations of a folder, by name.
pub fn read_all(folder: &Path) -> Result<Vec<Mutation>, String> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let text = fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
        parse(&name, &text).map_err(|e| format!("{name}: {e}"))
    };
    paths.iter().map(read).collect()
}

fn parse(name: &str, text: &str) -> Result<Mutation, String> {
    let mut parts = text.split("\n---- ");
    let mut mutation = Mutation { name: name.to_owned(), rule: String::new(), tests: Vec::new(), places: Vec::new() };
    for line in parts.next().unwrap_or_default().lines().filter(|line| !line.is_empty()) {
        match line.split_once(": ") {
            Some(("rule", rule)) => rule.clone_into(&mut mutation.rule),
            Some(("test", test)) => mutation.tests.push(test.to_owned()),
            _ => return Err(format!("a line that says nothing: {line}")),
        }
    }
    while let Some(part) = parts.next() {
        let (file, found) = part.split_once('\n').ok_or("a place without text")?;
        let broken = parts.next().and_then(|part| part.strip_prefix("instead")).ok_or("a place without `instead`")?;
        let (before, rest) = found.split_once('«').ok_or("no part is marked")?;
        let (kept, after) = rest.split_once('»').ok_or("the mark has no end")?;
        mutation.places.push(Place {
            file: file.to_owned(),
            before: before.trim_start_matches('\n').to_owned(),
            kept: kept.to_owned(),
            after: after.trim_end().to_owned(),
            broken: broken.trim().to_owned(),
        });
    }
    if mutation.rule.is_empty() || mutation.tests.is_empty() || mutation.places.is_empty() {
        return Err("it needs a rule, a test and a place".to_owned());
    }
    Ok(mutation)
}

impl Place {
    /// Where the marked part stands in the file's text.
    pub fn find(&self, text: &str) -> Result<std::ops::Range<usize>, String> {
        let whole = format!("{}{}{}", self.before, self.kept, self.after);
        let found: Vec<usize> = text.match_indices(&whole).map(|(at, _)| at).collect();
        match found[..] {
            [at] => Ok(at + self.before.len()..at + self.before.len() + self.kept.len()),
            _ => Err(format!("{} holds this {} times, not once:\n{whole}", self.file, found.len())),
        }
    }
}

/// The files below `root` that mutations change, with the kept and the broken rules in them.
pub fn apply(root: &Path, mutations: &[Mutation]) -> Result<BTreeMap<String, String>, String> {
    // By file, then by place: what stands there, and what each mutation makes of it.
    let mut files: BTreeMap<&str, BTreeMap<(usize, usize), Vec<(&str, &str)>>> = BTreeMap::new();
    let read = |file: &str| fs::read_to_string(root.join(file)).map_err(|e| format!("{file}: {e}"));
    for mutation in mutations {
        for place in &mutation.places {
            let range = place.find(&read(&place.file)?).map_err(|e| format!("{}: {e}", mutation.name))?;
            let places = files.entry(&place.file).or_default();
            places.entry((range.start, range.end)).or_default().push((&mutation.name, &place.broken));
        }
    }
    let mut changed = BTreeMap::new();
    for (file, places) in files {
        let text = read(file)?;
        let (mut out, mut done) = (String::new(), 0);
        for ((start, end), broken) in places {
            if start < done {
                return Err(format!("{file}: {} overlaps with another", broken[0].0));
            }
            out.push_str(&text[done..start]);
            out.push_str(&choice(&text[start..end], &broken));
            done = end;
        }
        out.push_str(&text[done..]);
        changed.insert(file.to_owned(), out);
    }
    for root in ROOTS {
        changed.entry(root.to_owned()).or_insert(read(root)?).push_str(&format!(
            "\n/// Whether this rule is to be broken.\npub(crate) fn broken(rule: &str) -> bool {{\n    \
             static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();\n    \
             CHOSEN.get_or_init(|| std::env::var(\"{CHOICE}\").ok()).as_deref() == Some(rule)\n}}\n"
        ));
    }
    Ok(changed)
}

/// The kept text or one of the broken ones, as the environment says.
fn choice(kept: &str, broken: &[(&str, &str)]) -> String {
    let branches: Vec<_> =
        broken.iter().map(|(name, text)| format!("if crate::broken({name:?}) {{ {text} }}")).collect();
    let branches = branches.join(" else ");
    match kept.trim_end().chars().next_back() {
        None => branches,
        Some(';' | '}') => format!("{branches} else {{ {kept} }}"),
        Some(_) => format!("({branches} else {{ {kept} }})"),
    }
}
