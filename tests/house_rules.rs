//! The rules of the house, as tests: who may use whom, where `unsafe` may stand, how large a file
//! may grow, and that the documents name what is there. A rule that is broken for a reason is
//! broken here, in a list, with the reason.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "house_rules/floors.rs"]
mod floors;
#[path = "house_rules/lengths.rs"]
mod lengths;
#[path = "common/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may use, low to high. A path allows all that is below it. (A layer may always use itself.)
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("trace", &[]),
    ("bytes", &[]),
    ("change", &["bytes", "disk::format"]),
    ("direction", &[]),
    ("disk", &["error"]),
    // The tree does not know of processes: no lock, no sidecar, no root slot.
    ("tree", &["bytes", "change", "direction", "error", "disk::format", "disk::platform"]),
    // The log does not know of trees. (The index takes `TABLE_NAMES` from the format, nothing more.)
    ("log", &["bytes", "change", "direction", "error", "disk::format", "disk::platform", "disk::root"]),
    // The engine sees a `Disk`, never the file or the operating system behind it.
    (
        "engine",
        &[
            "bytes",
            "change",
            "direction",
            "error",
            "disk::fork",
            "disk::durable_note",
            "disk::format",
            "disk::holders",
            "disk::host",
            "disk::locks",
            "disk::pins",
            "disk::platform",
            "disk::root",
            "disk::private_memory",
            "disk::sidecar",
            "disk::slot",
            "log",
            "trace",
            "tree",
        ],
    ),
    (
        "txn",
        &[
            "bytes",
            "change",
            "direction",
            "error",
            "disk::format",
            "engine",
            "tree::diff",
            "tree::long_value",
            "tree::node",
        ],
    ),
    // Typed tables know raw tables, by the names that users know them by.
    (
        "typed",
        &[
            "bytes",
            "error",
            "Diff",
            "MAX_NAME_SIZE",
            "OwnedRawRange",
            "OwnedRawTable",
            "RawRange",
            "RawTable",
            "RawTableMut",
            "ReadState",
            "RowChange",
            "RowChanges",
            "Snapshot",
            "TableName",
            "WriteTxn",
        ],
    ),
    // What is built on a store knows it by the names that users know.
    (
        "memory",
        &[
            "Bytes",
            "Changed",
            "Codec",
            "CodecError",
            "Commit",
            "Cursor",
            "Durability",
            "Error",
            "Feed",
            "Gap",
            "Holder",
            "LockStats",
            "Locks",
            "MessagePack",
            "RawRange",
            "RawTable",
            "RawTableMut",
            "ReadState",
            "Result",
            "Snapshot",
            "Store",
            "Table",
            "TypedRange",
            "TypedTable",
            "TypedTableMut",
            "WriteOptions",
            "WriteTxn",
        ],
    ),
    // Maintenance knows the store by the names that users know it by, and the file by its own reader (see below).
    (
        "maintain",
        &[
            "error",
            "disk::format",
            "disk::platform",
            "disk::rename",
            "disk::unix",
            // The doctor asks the system who holds which lock, and what surrounds the file.
            "disk::host",
            "disk::locks",
            "disk::pins",
            "disk::surroundings",
            "ArchiveStatus",
            "BackupDir",
            "BackupKind",
            "BackupState",
            "CheckOptions",
            "Durability",
            "Holder",
            "LockStats",
            "Locks",
            "LogStats",
            "NamedSnapshot",
            "Options",
            "ProcessStats",
            "Severity",
            "Snapshot",
            "Stats",
            "Store",
            "Table",
            "TableInfo",
            "WriteOptions",
            "WriteTxn",
        ],
    ),
    // Pages for readers, without code.
    ("guide", &[]),
    // Ways in for the fuzz targets, behind a feature: to all that reads bytes from disk.
    ("fuzzing", &["direction", "disk::format", "disk::memory", "disk::root", "log", "tree"]),
    // The archive of the log takes what the engine hands on, and knows files, not stores.
    (
        "archive",
        &[
            "error",
            "disk::format",
            "disk::host",
            "disk::platform",
            "disk::rename",
            "disk::root",
            "disk::unix",
            "engine::archive",
            "trace",
        ],
    ),
    ("store", &["archive", "bytes", "change", "error", "disk", "engine", "txn", "maintain"]),
    // Backups read states as snapshots do, and build stores from the tree up. They open stores by the names that users know.
    (
        "backup",
        &[
            "archive",
            "bytes",
            "direction",
            "error",
            "disk",
            "engine",
            "trace",
            "tree",
            "txn",
            "maintain",
            "Options",
            "Snapshot",
            "Store",
            "WriteOptions",
            "WriteTxn",
        ],
    ),
];

/// The only files with `unsafe`: where the operating system is called or memory is mapped.
const UNSAFE: &[&str] = &[
    "cli/src/memstone/import/lmdb.rs",
    "cli/src/memstone/with_lock.rs",
    "src/disk/file_id.rs",
    "src/disk/file_lock.rs",
    "src/disk/fork.rs",
    "src/disk/host.rs",
    "src/disk/map.rs",
    "src/disk/netfs.rs",
    "src/disk/reflink.rs",
    "src/disk/rename.rs",
    "src/disk/shm.rs",
    "src/disk/sigbus.rs",
    "src/disk/size_limit.rs",
    "src/disk/surroundings.rs",
    "src/disk/unix.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the project with one of these endings, by their paths within it.
fn files(folder: &str, endings: &[&str]) -> BTreeSet<String> {
    fn walk(at: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let names = found.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
    names.filter(|name| endings.iter().any(|ending| name.ends_with(ending))).collect()
}

/// The library's, the commands' the derive's and the server's.
fn sources() -> BTreeSet<String> {
    ["src", "cli/src", "derive/src", "mcp/src"].iter().flat_map(|folder| files(folder, &[".rs"])).collect()
}

/// Those, and the tests and tools.
fn sources_and_tests() -> BTreeSet<String> {
    let folders = ["tests", "tools", "cli/tests", "mcp/tests"];
    sources().into_iter().chain(folders.iter().flat_map(|folder| files(folder, &[".rs"]))).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn is_test_file(file: &str) -> bool {
    // The proof and its simulated disk are compiled for tests alone, and the tools are for tests.
    ["tests/", "tools/", "cli/tests/", "mcp/tests/", "src/simulation/", "src/disk/sim"]
        .iter()
        .any(|start| file.starts_with(start))
        || file.ends_with("tests.rs")
        || file.ends_with("testing.rs")
        || file.contains("/tests/")
}

/// The code of a source file: no comments, and no test module, which stands last.
fn code(file: &str) -> String {
    let text = read(file);
    let end = text.find("#[cfg(test)]\nmod tests {").or_else(|| text.find("#[cfg(test)]\npub(super) mod tests {"));
    let lines = text[..end.unwrap_or(text.len())].lines();
    lines.map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// Everything that the code names by a path from the crate's root.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        collect(&code[at + "crate::".len()..], "", &mut found);
    }
    found
}

/// Reads one use tree, `a::b` or `a::{b, c::d}` or `{a, b::c}`, and gives what is left after it.
fn collect<'c>(rest: &'c str, prefix: &str, found: &mut BTreeSet<String>) -> &'c str {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, mut rest) = rest.split_at(end);
    let path =
        if prefix.is_empty() || name.is_empty() { format!("{prefix}{name}") } else { format!("{prefix}::{name}") };
    if let Some(after) = rest.strip_prefix("::") {
        return collect(after, &path, found);
    }
    if !rest.starts_with('{') {
        found.insert(path);
        return rest;
    }
    while rest.starts_with(['{', ',']) {
        let next = rest[1..].trim_start();
        if next.starts_with('}') {
            rest = next;
            break;
        }
        rest = collect(next, &path, found).trim_start();
    }
    rest.strip_prefix('}').unwrap_or(rest)
}

#[test]
fn use_trees_are_read_as_the_compiler_does() {
    let found = uses(
        "use crate::disk::{format::{A, B}, root::C};\nuse crate::error::Error;\nfn f() { crate::bytes::g() }\nuse crate::{\n    D,\n    tree::E,\n};",
    );
    let expected = ["D", "bytes::g", "disk::format::A", "disk::format::B", "disk::root::C", "error::Error", "tree::E"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn every_file_uses_only_what_stands_below_it() {
    let mut wrong = Vec::new();
    for file in files("src", &[".rs"]) {
        let within = file.strip_prefix("src/").unwrap();
        if within == "lib.rs" || is_test_file(&file) {
            continue;
        }
        let layer = within.split('/').next().unwrap().trim_end_matches(".rs");
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            wrong.push(format!("{file}: the layer {layer:?} is not in the list"));
            continue;
        };
        for used in uses(&code(&file)) {
            let below_it = |path: &str| used.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with("::"));
            if !below.iter().chain([&layer]).any(|path| below_it(path)) {
                wrong.push(format!("{file} uses crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_second_reader_of_the_file_shares_constants_alone() {
    // A mistake in the engine's reading must not be repeated by the checker.
    const SHARED: [&str; 4] = ["error", "disk::format", "disk::platform", "disk::unix"];
    let of_reader = |file: &String| {
        let within = file.strip_prefix("src/maintain/").unwrap_or_default();
        ["check.rs", "check/", "format/"].iter().any(|start| within.starts_with(start)) && !is_test_file(file)
    };
    let (mut wrong, mut found) = (Vec::new(), 0);
    for file in files("src", &[".rs"]).iter().filter(|file| of_reader(file)) {
        found += 1;
        let shared = |used: &String| SHARED.iter().chain([&"maintain"]).any(|path| used.starts_with(path));
        wrong.extend(uses(&code(file)).into_iter().filter(|used| !shared(used)).map(|used| format!("{file}: {used}")));
    }
    assert!(wrong.is_empty() && found > 5, "{wrong:#?}");
}

#[test]
fn unsafe_stands_in_few_files() {
    let is_unsafe = |file: &String| {
        let words = code(file);
        words.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe")
    };
    let found: Vec<String> = sources().into_iter().filter(|file| !is_test_file(file)).filter(is_unsafe).collect();
    assert_eq!(found, UNSAFE, "the list of files with `unsafe` is exact");
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let block = ["unsa", "fe {"].concat();
    let (page, mut found) = (read("docs/TESTING.md"), 0);
    for file in ["src", "cli", "tests", "tools", "benches"].iter().flat_map(|folder| files(folder, &[".rs"])) {
        if file.contains("/target/") {
            continue;
        }
        let text = read(&file);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, l)| l.contains(&block) && !l.starts_with("//")) {
            let above = lines[..at].iter().rev().skip_while(|l| l.starts_with("#["));
            let mut comment = above.take_while(|l| l.starts_with("//"));
            assert!(comment.any(|l| l.starts_with("// SAFETY: ")), "{file}:{} has no `SAFETY:` above it", at + 1);
            assert!(page.contains(&format!("| `{file}` |")), "docs/TESTING.md, \"Every `unsafe`\", lacks {file}");
            found += 1;
        }
    }
    assert!(found > 40, "only {found} blocks were found");
}

#[test]
fn nothing_is_left_for_later() {
    let markers =
        [["TO", "DO"], ["FIX", "ME"], ["to", "do!"], ["un", "implemented!"], ["db", "g!"]].map(|m| m.concat());
    let endian = [["from_ne", "_bytes"], ["to_ne", "_bytes"]].map(|m| m.concat());
    let mut wrong = Vec::new();
    for file in sources_and_tests() {
        let text = read(&file);
        wrong.extend(markers.iter().filter(|m| text.contains(*m)).map(|m| format!("{file}: {m}")));
        // The file is little-endian on every machine.
        wrong.extend(endian.iter().filter(|m| text.contains(*m)).map(|m| format!("{file}: {m}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tests_draw_from_one_source() {
    // Seeds that are written down mean what they meant: the numbers that SplitMix64 is known by.
    let mut random = random::Random(1_234_567);
    let drawn: [u64; 3] = std::array::from_fn(|_| random.next());
    assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    // The sidecar's seals are made by the same finalizer, and are part of its protocol.
    const ITS_OWN: [&str; 2] = ["src/disk/words.rs", "tests/common/random.rs"];
    let all = sources_and_tests().into_iter().chain(files("benches", &[".rs"]));
    let finalizer = ["0xbf58_476d", "_1ce4_e5b9"].concat();
    let found: Vec<String> = all.filter(|file| read(file).contains(&finalizer)).collect();
    assert_eq!(found, ITS_OWN, "include tests/common/random.rs");
}

/// Where a test may fail because something took long, and why. Nothing but what ends a hang is a reason.
const LIMITS: &[(&str, &str)] = &[
    ("tests/common/mod.rs", "`give_up_after`: a minute without what a test waits for"),
    ("tests/file_format.rs", "a minute in which the store was never copied before it was checkpointed"),
];

/// The assertions in a text, each up to its closing parenthesis.
fn assertions(text: &str) -> Vec<&str> {
    let ends = |from: &str| {
        let mut depth = 0_i32;
        from.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ')' && depth == 0
        })
    };
    let starts = ["assert!(", "assert_eq!(", "assert_ne!("].iter().flat_map(|name| text.match_indices(name));
    starts.filter_map(|(at, _)| Some(&text[at..at + ends(&text[at..])?])).collect()
}

/// What an assertion says about a time that something took at most: a word that stands before a `<` or after a `>`.
/// (That something took at least so long, no machine is too busy for.)
fn limits_a_time(assertion: &str, times: &BTreeSet<String>) -> bool {
    let name = |text: &str| text.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap().to_owned();
    let is_time = |text: &str| {
        let text = text.trim_end();
        text.ends_with(".elapsed()") || text.ends_with("Instant::now()") || times.contains(&name(text))
    };
    let after = |text: &str| {
        let text = text.trim_start_matches('=').trim_start();
        let end = text.find(|c: char| !(c.is_alphanumeric() || "_.:()".contains(c))).unwrap_or(text.len());
        text[..end].trim_end_matches(')').to_owned()
    };
    assertion.match_indices(" < ").chain(assertion.match_indices(" <= ")).any(|(at, _)| is_time(&assertion[..at]))
        || assertion.match_indices(" > ").chain(assertion.match_indices(" >= ")).any(|(at, sign)| {
            let right = after(&assertion[at + sign.len()..]);
            times.contains(&right) || right.ends_with(".elapsed(") || right.ends_with("Instant::now(")
        })
}

/// The names that a text gives to times that something took.
fn times(text: &str) -> BTreeSet<String> {
    let named = text.match_indices("let ").filter_map(|(at, _)| {
        let (name, value) = text[at + 4..].split_once(" = ")?;
        let value = value.split(';').next()?;
        let is_time = value.ends_with(".elapsed()") || value.ends_with(".elapsed().as_millis()");
        is_time.then(|| name.trim_start_matches("mut ").to_owned())
    });
    named.collect()
}

#[test]
fn no_test_fails_because_a_machine_is_slow() {
    let cases = [
        ("let took = started.elapsed(); assert!(took < LIMIT, \"{took:?}\");", true),
        ("assert!(started.elapsed() <= Duration::from_secs(2));", true),
        ("assert!(SOON > begun.elapsed());", true),
        ("assert!(begun.elapsed() >= Duration::from_millis(60));", false),
        ("let n = count(); assert!(n < 5, \"{:?}\", begun.elapsed());", false),
    ];
    for (text, expected) in cases {
        assert_eq!(assertions(text).iter().any(|a| limits_a_time(a, &times(text))), expected, "{text}");
    }
    let mut found = BTreeSet::new();
    for file in sources_and_tests() {
        let text = read(&file);
        let start = if is_test_file(&file) { Some(0) } else { text.find("#[cfg(test)]\n") };
        let tests = &text[start.unwrap_or(text.len())..];
        if file != "tests/house_rules.rs" && assertions(tests).iter().any(|a| limits_a_time(a, &times(tests))) {
            found.insert(file);
        }
    }
    let allowed: BTreeSet<String> = LIMITS.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(found, allowed, "count steps instead, or make it a benchmark");
}

#[test]
fn nothing_names_the_machine_it_was_made_on() {
    // Of the folders that a build machine may have; `/home/me` and the like are examples in tests.
    let mut places = vec![["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/Us", "ers/"].concat()];
    places.extend(std::env::var("HOME").ok().filter(|home| home.len() > 1).map(|home| format!("{home}/")));
    let mut wrong = Vec::new();
    let mut all = files("src", &[".rs"]);
    for folder in ["cli", "derive", "mcp", "tests", "tools", "docs", "benches", ".ci", "fuzz"] {
        all.extend(files(folder, &[".rs", ".md", ".toml", ".sh", "run", "fuzz"]));
    }
    all.retain(|file| !file.contains("/target/"));
    all.extend(["README.md", "CHANGELOG.md", "Cargo.toml"].map(str::to_owned));
    for file in all {
        let text = read(&file);
        wrong.extend(places.iter().filter(|place| text.contains(*place)).map(|place| format!("{file}: {place}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut pages = files("docs", &[".md"]);
    pages.extend(["README.md", "CHANGELOG.md", "mcp/README.md"].map(str::to_owned));
    let mut wrong = Vec::new();
    for page in &pages {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            // (The guide's links to items are rustdoc's to check.)
            if target.is_empty() || ["://", "::"].iter().any(|other| target.contains(other)) {
                continue;
            }
            if !root().join(page).parent().unwrap().join(target).exists() {
                wrong.push(format!("{page} links to {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (readme, decisions) = (read("README.md"), read("docs/adr/README.md"));
    for page in pages.iter().filter(|page| page.starts_with("docs/") && *page != "docs/adr/README.md") {
        let (from, name) = match page.strip_prefix("docs/adr/") {
            Some(record) => (decisions.clone(), record),
            // Results are found through the page that says what is run.
            None if page.starts_with("docs/results/") => {
                (read(&page.replace("/results/", "/")), page.strip_prefix("docs/").unwrap())
            }
            None if page.starts_with("docs/guide/") => {
                (read("src/guide.rs"), page.strip_prefix("docs/guide/").unwrap().trim_end_matches(".md"))
            }
            None => (readme.clone(), page.as_str()),
        };
        assert!(from.contains(&format!("]({name}")), "nobody is led to {page}");
    }
}

#[test]
fn the_code_map_names_every_source_file() {
    let map = read("docs/ARCHITECTURE.md");
    for file in files("src", &[".rs"]) {
        let name = file.rsplit('/').next().unwrap();
        if is_test_file(&file) || name == "mod.rs" {
            continue;
        }
        assert!(map.contains(&format!("`{name}`")), "docs/ARCHITECTURE.md does not name {file}");
    }
}

#[test]
fn the_page_on_locks_gives_every_lock_byte() {
    let (source, page) = (read("src/disk/locks.rs"), read("docs/LOCKING.md"));
    let mut found = 0;
    for line in source.lines() {
        let Some(rest) = line.strip_prefix("pub(crate) const ") else { continue };
        let Some((name, value)) = rest.split_once(": u64 = ") else { continue };
        let row = format!("| {name} | `{}` |", value.trim_end_matches(';'));
        assert!(page.contains(&row), "docs/LOCKING.md lacks {row}");
        found += 1;
    }
    assert!(found >= 9, "only {found} lock bytes were found in the source");
}
