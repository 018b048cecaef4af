//! The sessions that the reference of the command shows: each command is run, and prints what stands there.
//!
//! `MEMSTONE_WRITE=1 cargo test --test cli_reference` writes what is printed into the page, to be read before it is committed.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/COMMAND_LINE.md")
}

/// A command of a session, and what it prints. A part that differs from run to run is `…` there.
struct Step {
    command: String,
    printed: Vec<String>,
}

fn steps(session: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in session.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), printed: Vec::new() }),
            None => steps.last_mut().unwrap().printed.push(line.to_owned()),
        }
    }
    steps
}

/// Whether a line is as the page has it, where `…` stands for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (nth, part) in parts.iter().enumerate() {
        let found = if nth + 1 == parts.len() {
            rest.ends_with(part).then(|| rest.len() - part.len())
        } else {
            rest.find(part)
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

fn run(command: &str, dir: &Path) -> Vec<String> {
    let binaries = Path::new(env!("CARGO_BIN_EXE_memstone")).parent().unwrap();
    let path = std::env::join_paths([binaries, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{command} 2>&1")]).current_dir(dir).env("PATH", path).env_remove("MEMSTONE_FILE");
    String::from_utf8(shell.output().unwrap().stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn each_session_prints_what_the_reference_shows() {
    let text = fs::read_to_string(page()).unwrap();
    let mut parts = text.split("```console\n");
    let mut written = parts.next().unwrap().to_owned();
    let mut commands = 0;
    for part in parts {
        let (session, after) = part.split_once("```").unwrap();
        let dir = tempfile::tempdir().unwrap();
        written += "```console\n";
        for step in steps(session) {
            let printed = run(&step.command, dir.path());
            let fit = printed.len() == step.printed.len() && step.printed.iter().zip(&printed).all(|(a, b)| fits(a, b));
            assert!(
                fit || std::env::var_os("MEMSTONE_WRITE").is_some(),
                "{}\n{}\ninstead of\n{}",
                step.command,
                printed.join("\n"),
                step.printed.join("\n")
            );
            let lines = if fit { &step.printed } else { &printed };
            written += &format!("$ {}\n", step.command);
            lines.iter().for_each(|line| written += &format!("{line}\n"));
            commands += 1;
        }
        written += "```";
        written += after;
    }
    assert!(commands > 30, "{commands}");
    if std::env::var_os("MEMSTONE_WRITE").is_some() {
        fs::write(page(), written).unwrap();
    }
}

#[test]
fn no_verb_goes_without_an_example() {
    let text = fs::read_to_string(page()).unwrap();
    let sessions: Vec<&str> =
        text.split("```console\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    let help = run("memstone --help", Path::new("."));
    let verbs = help.iter().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for verb in verbs.map(|line| line.split_whitespace().next().unwrap()) {
        let shown = |session: &&str| {
            session.lines().any(|line| line.starts_with("$ ") && line.contains(&format!("memstone {verb}")))
        };
        assert!(verb == "help" || sessions.iter().any(shown), "there is no example of {verb}");
        assert!(
            ["help", "demo"].contains(&verb) || text.contains(&format!("`{verb} ")),
            "the table does not tell of {verb}"
        );
    }
}

/// The options that a text names.
fn options(text: &str) -> BTreeSet<String> {
    let named =
        text.match_indices("--").filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '-'));
    let word = |(at, _)| {
        let rest = &text[at + 2..];
        rest[..rest.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(rest.len())].to_owned()
    };
    named.map(word).filter(|word| word.starts_with(|c: char| c.is_alphabetic())).collect()
}

/// The words under "Commands:" of a help.
fn subcommands(help: &[String]) -> Vec<String> {
    let lines = help.iter().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|verb| verb != "help").collect()
}

/// The table of verbs names no option that a verb does not take, and the page names each option that a verb takes.
#[test]
fn the_options_of_the_reference_are_those_of_the_help() {
    let text = fs::read_to_string(page()).unwrap();
    let rows = || text.lines().filter(|line| line.starts_with("| `"));
    let (here, on_page) = (Path::new("."), options(&text));
    for verb in subcommands(&run("memstone --help", here)) {
        let mut help = run(&format!("memstone {verb} --help"), here);
        for of_verb in subcommands(&help) {
            help.extend(run(&format!("memstone {verb} {of_verb} --help"), here));
        }
        let (prose, taken) = (help.join("\n"), help.iter().filter(|line| line.trim_start().starts_with('-')));
        let taken: BTreeSet<String> = taken.flat_map(|line| options(line)).collect();
        assert!(taken.contains("help"), "{verb}: {prose}");
        let unsaid: Vec<_> = taken.difference(&on_page).filter(|option| *option != "help").collect();
        assert!(unsaid.is_empty(), "the page does not tell of these options of {verb}: {unsaid:?}");
        let own = rows().filter(|row| row[..row.find(" | ").unwrap()].contains(&format!("`{verb} ")));
        let told = own.flat_map(|row| options(row.replace("\\|", "/").as_str()));
        let unknown: Vec<_> = told.filter(|option| !options(&prose).contains(option)).collect();
        assert!(unknown.is_empty(), "{verb} does not take these options of the page: {unknown:?}");
    }
}
