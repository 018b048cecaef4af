//! What the documents, the examples and the packages promise to readers: how long they are, what leads to what, and what
//! goes to the registry.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The names of the files of a folder, in order.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The chapters of the guide, by name.
fn chapters() -> Vec<String> {
    names("docs/guide").iter().map(|file| read(&format!("docs/guide/{file}"))).collect()
}

#[test]
fn the_guide_reads_in_twenty_minutes() {
    const WORDS_A_MINUTE: usize = 225;
    let words: usize = chapters().iter().map(|chapter| chapter.split_whitespace().count()).sum();
    assert!(words <= 20 * WORDS_A_MINUTE, "{words} words");
}

#[test]
fn the_readme_fits_on_two_screens_before_it_links_on() {
    const SCREEN: (usize, usize) = (55, 110);
    let readme = read("README.md");
    let (before, links) = readme.split_once("## Further reading").unwrap();
    let lines: usize = before.lines().map(|line| line.chars().count().div_ceil(SCREEN.1).max(1)).sum();
    assert!(lines <= 2 * SCREEN.0, "{lines} lines");
    assert!(links.contains("docs/guide/concepts.md") && links.contains("docs/guide/when_not.md"));
}

/// Lines of code: without comments, and without empty ones.
fn code(program: &str) -> usize {
    program.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn programs_to_copy_from_are_short_and_found() {
    const LONGEST: usize = 60;
    let short = ["notes", "job_queue", "cache", "async_tokio", "several_processes", "schema_change"];
    let all = names("examples").iter().map(|file| file.trim_end_matches(".rs").to_owned()).collect::<Vec<_>>();
    let (readme, guide) = (read("README.md"), read("src/guide.rs") + &chapters().concat());
    for program in short {
        let lines = code(&read(&format!("examples/{program}.rs")));
        assert!(lines <= LONGEST, "examples/{program}.rs has {lines} lines of code");
        assert!(guide.contains(&format!("examples/{program}.rs")), "the guide does not name examples/{program}.rs");
    }
    for program in all {
        assert!(
            readme.contains(&format!("(examples/{program}.rs)")),
            "README.md does not link to examples/{program}.rs"
        );
    }
}

#[test]
fn the_list_of_decisions_has_all_of_them() {
    let (list, mut number) = (read("docs/adr/README.md"), 0);
    let list = list.split_whitespace().collect::<Vec<_>>().join(" ");
    for file in names("docs/adr").iter().filter(|file| *file != "README.md") {
        let title = read(&format!("docs/adr/{file}")).lines().next().unwrap().to_owned();
        let title = title.strip_prefix("# ").unwrap();
        let (of_title, words) = title.split_once(". ").unwrap();
        let of_file: usize = file[..4].parse().unwrap();
        assert_eq!(of_title.parse(), Ok(of_file), "{file} is titled {title}");
        assert!(list.contains(&format!("{of_file}. [{words}]({file})")), "the list has no {title:?} ({file})");
        while number + 1 < of_file {
            number += 1;
            assert!(list.contains(&format!("Number {number} was set aside")), "decision {number} is missing");
        }
        number = of_file;
    }
    assert!(number >= 49);
}

/// The text between a section's head and the next section.
fn section<'t>(manifest: &'t str, head: &str) -> &'t str {
    let rest = manifest.split(&format!("[{head}]\n")).nth(1).unwrap_or_default();
    rest.split("\n[").next().unwrap()
}

/// The words in quotes of `key = ["a", "b"]`, or of `key = "a"`.
fn quoted<'t>(section: &'t str, key: &str) -> Vec<&'t str> {
    let line = section.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_default();
    line.split('"').skip(1).step_by(2).collect()
}

#[test]
fn each_package_is_ready_for_the_registry() {
    let version = quoted(section(&read("Cargo.toml"), "package"), "version")[0].to_owned();
    for package in [".", "cli", "derive", "mcp"] {
        let manifest = read(&format!("{package}/Cargo.toml"));
        let about = section(&manifest, "package");
        assert_eq!(quoted(about, "version"), [&*version], "{package}");
        assert_eq!(quoted(about, "description").len(), 1, "{package}");
        for inherited in ["edition", "rust-version", "license", "repository"] {
            assert!(about.contains(&format!("\n{inherited}.workspace = true\n")), "{package}: {inherited}");
        }
        let (keywords, categories) = (quoted(about, "keywords"), quoted(about, "categories"));
        assert!((1..=5).contains(&keywords.len()) && keywords.iter().all(|word| word.len() <= 20), "{package}");
        assert!((1..=5).contains(&categories.len()), "{package}");
        // In the package's own folder: a file beside it would lie elsewhere for the registry, and its links lead nowhere.
        assert_eq!(quoted(about, "readme"), ["README.md"], "{package}");
        for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
            assert!(root().join(package).join(file).exists(), "{package}: {file} is not there");
        }
        // A dependency by path alone cannot be published; one of the tests is left out of the package.
        let dependencies = section(&manifest, "dependencies").lines().filter(|line| line.contains("path = "));
        for line in dependencies {
            assert!(line.contains(&format!("version = \"{version}\"")), "{package}: {line}");
        }
    }
    let places = ["Cargo.toml", "cli/Cargo.toml", "derive/Cargo.toml", "mcp/Cargo.toml", "README.md"];
    let named: Vec<_> = places.iter().filter(|file| read(file).contains("repository = \"")).collect();
    assert_eq!(named, [&"Cargo.toml"], "one place says where the sources are");
}

/// The features that the documentation shows are all but `fuzzing`, and those that others bring.
#[test]
fn the_documentation_shows_every_feature() {
    let manifest = read("Cargo.toml");
    let shown = quoted(section(&manifest, "package.metadata.docs.rs"), "features").join(" ");
    let features = section(&manifest, "features").lines().filter_map(|line| line.split_once(" = "));
    let default = quoted(section(&manifest, "features"), "default");
    for (feature, _) in features.filter(|(feature, _)| !["default", "fuzzing", "serde"].contains(feature)) {
        assert!(shown.contains(feature) || default.contains(&feature), "docs.rs does not show the feature {feature}");
    }
    assert!(quoted(section(&manifest, "features"), "json").contains(&"serde"), "which brings `serde`");
}

/// The refusal of other systems, compiled as if this were one.
#[test]
fn a_system_that_is_not_supported_gets_a_clear_error() {
    let library = read("src/lib.rs");
    let systems = "any(target_os = \"linux\", target_os = \"macos\")";
    let start = library.find(&format!("#[cfg(not({systems}))]\ncompile_error!(")).expect("a refusal");
    let refusal = library[start..].split_inclusive(");\n").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let compile = |text: &str| {
        let source = dir.path().join("lib.rs");
        fs::write(&source, text).unwrap();
        let rustc = option_env!("RUSTC").unwrap_or("rustc");
        let mut rustc = Command::new(rustc);
        rustc.args(["--crate-type", "lib", "--emit", "metadata", "--out-dir"]).arg(dir.path()).arg(Path::new(&source));
        String::from_utf8(rustc.output().unwrap().stderr).unwrap()
    };
    assert_eq!(compile(refusal), "", "nothing on a system that is supported");
    let refused = compile(&refusal.replace(systems, "any()"));
    for part in ["memstone runs on Linux and macOS", "F_OFD_SETLK", "keep the store in a process on one of these"] {
        assert!(refused.contains(part), "{refused}");
    }
}
