//! Breaks the rules of the protocol, one at a time, and shows that the tests notice.
//!
//! `cargo run --bin mutations`, or with the names, or parts of names, of some of the rules in
//! `tests/mutations/`. One build, in `target/mutations`, has all of them in it; a word of the
//! environment says which one is broken. The tests that are to notice run once with none broken
//! and must pass; then, for each rule, until one of them fails. A rule that nothing notices fails
//! the program. At the end the table is printed that `docs/results/TESTING.md` has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a tool")]

#[path = "../../tests/mutations/format.rs"]
mod format;

use format::{CHOICE, Mutation, apply, read_all};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// A test may take so much longer than with all rules kept; then it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let all = read_all(&root.join("tests/mutations")).unwrap_or_else(|e| fail(&e));
    let chosen: Vec<&Mutation> = all
        .iter()
        .filter(|mutation| wanted.is_empty() || wanted.iter().any(|part| mutation.name.contains(part.as_str())))
        .collect();
    if chosen.is_empty() {
        fail("there is no such rule in tests/mutations");
    }
    let work = root.join("target/mutations");
    copy(root, &work.join("source"), &all);
    let tests: BTreeSet<&str> = chosen.iter().flat_map(|m| m.tests.iter().map(String::as_str)).collect();
    let bench = Bench { programs: build(&work, &tests), work };

    let mut unbroken = BTreeMap::new();
    for test in tests {
        let run = bench.run(test, None, Duration::from_secs(600));
        println!("all rules kept: {test}: {} passed in {:.0?}", run.passed, run.took);
        if run.caught.is_some() || run.passed == 0 {
            fail(&format!("{test} does not pass with all rules kept; see {}", run.log.display()));
        }
        unbroken.insert(test, run.took);
    }
    let (mut table, mut survivors) = (String::new(), Vec::new());
    for mutation in &chosen {
        let started = Instant::now();
        let limit = |test: &str| unbroken[test] * 2 + PATIENCE;
        let caught = mutation
            .tests
            .iter()
            .find_map(|test| Some((test, bench.run(test, Some(&mutation.name), limit(test)).caught?)));
        let seconds = started.elapsed().as_secs_f64();
        let by = match &caught {
            Some((test, by)) if test.contains('=') => format!("{by}, with `{}`", test.split(' ').next().unwrap()),
            Some((_, by)) => by.clone(),
            None => "nothing".to_owned(),
        };
        println!("{}: {by} ({seconds:.0} s)", mutation.name);
        let files: BTreeSet<_> = mutation.places.iter().map(|p| p.file.trim_start_matches("src/")).collect();
        let files: Vec<_> = files.into_iter().map(|file| format!("`{file}`")).collect();
        let row = format!("| {} | {} | {by} | {seconds:.0} |\n", mutation.rule, files.join(", "));
        match caught {
            Some(_) => table.push_str(&row),
            None => survivors.push(&mutation.name),
        }
    }
    println!("\n| rule | where | noticed by | seconds |\n|---|---|---|---|\n{table}");
    let caught = chosen.len() - survivors.len();
    println!("{caught} noticed, {} survived: {survivors:?}", survivors.len());
    ExitCode::from(u8::from(!survivors.is_empty()))
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(2)
}

/// Copies the project, with all rules in it kept and broken. What did not change keeps its time, for cargo.
fn copy(root: &Path, to: &Path, mutations: &[Mutation]) {
    remove_strays(root, to);
    let changed = apply(root, mutations).unwrap_or_else(|e| fail(&e));
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = folder.join(entry.file_name());
            if ["target", "fuzz/target", "fuzz/corpus", ".git"].iter().any(|skip| name == Path::new(skip)) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(name);
                continue;
            }
            let bytes = match changed.get(name.to_str().unwrap_or_default()) {
                Some(text) => text.clone().into_bytes(),
                None => fs::read(entry.path()).unwrap(),
            };
            let place = to.join(&name);
            if fs::read(&place).ok().as_ref() != Some(&bytes) {
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::write(place, bytes).unwrap();
            }
        }
    }
}

/// Removes what an earlier copy has left of files that are gone: cargo finds programs by their names.
fn remove_strays(root: &Path, to: &Path) {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(to.join(&folder)).into_iter().flatten().flatten() {
            let name = folder.join(entry.file_name());
            let is_folder = entry.file_type().unwrap().is_dir();
            match root.join(&name).exists() {
                true if is_folder => folders.push(name),
                true => {}
                false if is_folder => fs::remove_dir_all(entry.path()).unwrap(),
                false => fs::remove_file(entry.path()).unwrap(),
            }
        }
    }
}

/// A line for tests: words of the environment, the target, the arguments of the test program.
fn parts(test: &str) -> (Vec<(&str, &str)>, &str, Vec<&str>) {
    let (settings, rest): (Vec<&str>, Vec<&str>) = test.split(' ').partition(|word| word.contains('='));
    (settings.iter().filter_map(|word| word.split_once('=')).collect(), rest[0], rest[1..].to_vec())
}

/// Builds the test programs. A mutation that does not compile ends here, and is not taken for noticed.
fn build(work: &Path, tests: &BTreeSet<&str>) -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics", "--target-dir"]);
    cargo.arg(work.join("build")).current_dir(work.join("source"));
    // No debugger looks at these programs, and they are built faster so.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("RUSTFLAGS", "-Awarnings");
    for target in tests.iter().map(|test| parts(test).1).collect::<BTreeSet<_>>() {
        match target {
            "lib" => cargo.arg("--lib"),
            "memstone-mcp" => cargo.args(["--bin", target]),
            _ => cargo.args(["--test", target]),
        };
        if ["jobs", "memory"].contains(&target) {
            cargo.args(["--features", "memory"]);
        }
    }
    let started = Instant::now();
    let output = cargo.stderr(Stdio::inherit()).output().unwrap();
    if !output.status.success() {
        fail("the mutations do not compile");
    }
    println!("built in {:.0?}", started.elapsed());
    let mut programs = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let Some(program) = message["executable"].as_str().filter(|_| message["profile"]["test"] == true) else {
            continue;
        };
        let is_lib = message["target"]["kind"][0] == "lib";
        let name = if is_lib { "lib" } else { message["target"]["name"].as_str().unwrap_or_default() };
        programs.insert(name.to_owned(), PathBuf::from(program));
    }
    programs
}

struct Bench {
    work: PathBuf,
    programs: BTreeMap<String, PathBuf>,
}

struct Run {
    passed: usize,
    caught: Option<String>,
    took: Duration,
    log: PathBuf,
}

impl Bench {
    /// Runs a test, with one rule broken or none.
    fn run(&self, test: &str, broken: Option<&str>, limit: Duration) -> Run {
        let (settings, target, arguments) = parts(test);
        let log = self.work.join(format!("{}.log", broken.unwrap_or("kept")));
        let file = File::create(&log).unwrap();
        let program = self.programs.get(target).unwrap_or_else(|| fail(&format!("no test program {target}")));
        let mut command = Command::new(program);
        command.args(arguments).envs(settings).current_dir(self.work.join("source"));
        command.env_remove(CHOICE).envs(broken.map(|name| (CHOICE, name)));
        command.stdin(Stdio::null()).stderr(file.try_clone().unwrap()).stdout(file).process_group(0);
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if started.elapsed() > limit {
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // A test's own processes may live on; all are of this group.
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = child.wait();
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        let ended = |end: &'static str| {
            text.lines().filter_map(move |line| {
                line.strip_prefix("test ")?.split_once(" ... ")?.1.ends_with(end).then_some(line)
            })
        };
        let failed: Vec<_> = text
            .lines()
            .skip_while(|line| *line != "failures:")
            .filter_map(|line| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"))
            .collect();
        let caught = match status {
            Some(status) if status.success() => None,
            Some(_) if !failed.is_empty() => Some(format!("`{}`", failed[0])),
            Some(status) => Some(format!("`{test}`, whose process ended with {status}")),
            None => Some(format!("`{test}`, which hangs")),
        };
        Run { passed: ended("ok").count(), caught, took: started.elapsed(), log }
    }
}
