//! The store named by the environment, `memstone shell`, `append`, `incr`, completions and man pages.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "../../tests/common/skip.rs"]
#[allow(missing_docs, unreachable_pub, dead_code, reason = "what is included is a test's")]
mod skip;
mod support;
use std::io::Write;
use std::process::{Command, Stdio};
use support::{Bench, Outcome, json, outcome};

/// The command with a default store.
fn with_default(bench: &Bench, words: &[&str]) -> Outcome {
    outcome(
        Command::new(env!("CARGO_BIN_EXE_memstone"))
            .args(words)
            .env("MEMSTONE_FILE", &bench.file)
            .current_dir(&bench.dir),
    )
}

#[test]
fn the_environment_names_the_store_that_is_left_out() {
    let bench = Bench::new();
    let other = bench.dir.path().join("other.mst");
    assert_eq!(with_default(&bench, &["put", "a", "1"]).code, 0);
    assert_eq!(with_default(&bench, &["get", "a"]).out, "1\n");
    assert_eq!(with_default(&bench, &["--json", "scan"]).out, "{\"key\":\"a\",\"value\":1}\n");
    assert_eq!(with_default(&bench, &["snapshot", "create", "s"]).code, 0);
    assert_eq!(with_default(&bench, &["with-lock", "--", "true"]).code, 0);
    // A store that is given counts, and one that stands where a key would is not taken for the key.
    assert_eq!(with_default(&bench, &["put", "other.mst", "b", "2"]).code, 0);
    assert_eq!(with_default(&bench, &["get", "other.mst", "b"]).out, "2\n");
    assert_eq!(with_default(&bench, &["get", "other.mst"]).code, 2);
    assert_eq!(with_default(&bench, &["put", "other.mst", "5"]).code, 2);
    assert_eq!(bench.ok("scan", &[]), "a\t1\n");
    assert!(other.exists());
    // Without it, it has to be given.
    let none = outcome(Command::new(env!("CARGO_BIN_EXE_memstone")).args(["get", "a"]).env_remove("MEMSTONE_FILE"));
    assert_eq!(none.code, 2);
}

fn script(bench: &Bench, options: &[&str], lines: &str) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memstone"));
    command
        .args(options)
        .arg("shell")
        .arg(&bench.file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: out.status.code().unwrap(), out: text(out.stdout), err: text(out.stderr) }
}

#[test]
fn a_shell_runs_verbs_line_by_line() {
    let bench = Bench::new();
    let done = script(
        &bench,
        &[],
        "# a comment\n\nput 'a key' '{\"x\": 1}'\nget 'a key'\nscan --json\nsnapshot create s\ncount\nexit\nput no 1\n",
    );
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(
        done.out.lines().filter(|line| !line.starts_with("\"s\"")).collect::<Vec<_>>(),
        ["{\"x\":1}", "{\"key\":\"a key\",\"value\":{\"x\":1}}", "1"]
    );
    assert_eq!(script(&bench, &["--json"], "get 'a key'\n").out, "{\"key\":\"a key\",\"value\":{\"x\":1}}\n");
    // The first line that fails ends a script.
    for (line, code) in [("get nothing", 1), ("get", 2), ("nonsense", 2), ("put b '", 2), ("put b {", 2)] {
        let failed = script(&bench, &[], &format!("{line}\nput b 1\n"));
        assert!(failed.code == code && !failed.err.is_empty(), "{line}: {failed:?}");
    }
    assert_eq!(bench.ok("count", &[]), "1\n");
    assert!(script(&bench, &[], "help\n").out.contains("scan"));
}

/// Types lines at a shell on a terminal of its own (by `script` of util-linux), each when it is asked for. Gives whether
/// the shell ended well.
#[cfg(target_os = "linux")]
fn typed(bench: &Bench, lines: &[&[u8]]) -> bool {
    use std::io::Read;
    // What the line editor prints before it reads a line.
    const ASKS: &[u8] = b"\x1b[?2004h";
    let shell = format!("'{}' shell '{}'", env!("CARGO_BIN_EXE_memstone"), bench.file.display());
    let mut command = Command::new("timeout");
    // (A terminal at which nothing is typed for a minute is hung up.)
    command.args(["60", "script", "-q", "-e", "-c", &shell, "/dev/null"]);
    command.env("HOME", bench.dir.path()).env("TERM", "xterm");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut piece, mut lines) = (Vec::new(), [0; 4096], lines.iter());
    while let Ok(read @ 1..) = screen.read(&mut piece) {
        shown.extend_from_slice(&piece[..read]);
        while let Some(at) = shown.windows(ASKS.len()).position(|text| text == ASKS) {
            shown.drain(..at + ASKS.len());
            lines.next().into_iter().for_each(|line| keyboard.write_all(line).unwrap());
        }
    }
    child.wait().unwrap().success()
}

#[test]
#[cfg(target_os = "linux")]
fn lines_that_were_typed_are_kept_and_come_back() {
    let bench = Bench::new();
    if !Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return skip::skip("script of util-linux");
    }
    let history = bench.dir.path().join(".memstone_history");
    let kept = || std::fs::read_to_string(&history).unwrap();
    // What fails is told, and the next line is read; a line can be edited (the cursor to its begin, a letter deleted).
    assert!(typed(&bench, &[b"incr n\r", b"get nothing\r", b"xincr n\x01\x1b[3~\r", b"exit\r"]));
    assert_eq!(bench.ok("get", &["n"]), "2\n");
    let lines = kept();
    assert_eq!(
        lines.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(),
        ["incr n", "get nothing", "incr n", "exit"]
    );
    // The next shell has them: up, past `exit`.
    assert!(typed(&bench, &[b"\x1b[A\x1b[A\r", b"exit\r"]));
    assert_eq!(bench.ok("get", &["n"]), "3\n");
    // A script is no conversation.
    assert_eq!(script(&bench, &[], "incr n\n").code, 0);
    assert!(!kept().contains("script") && kept().lines().count() >= lines.lines().count());
    // A history that cannot be read or kept is no reason not to run.
    std::fs::remove_file(&history).unwrap();
    std::fs::create_dir(&history).unwrap();
    assert!(typed(&bench, &[b"incr n\r", b"exit\r"]));
    assert_eq!(bench.ok("get", &["n"]), "5\n");
}

#[test]
fn lists_and_texts_grow() {
    let bench = Bench::new();
    assert_eq!(bench.ok("append", &["list", "{\"n\": 1}"]), "1\n");
    assert_eq!(bench.ok("append", &["list", "2"]), "2\n");
    assert_eq!(bench.ok("get", &["list"]), "[{\"n\":1},2]\n");
    assert_eq!(bench.ok("append", &["text", "--string", "ab"]), "2\n");
    assert_eq!(json(&bench.ok("append", &["text", "--string", "ü", "--json"]))["length"], 3);
    assert_eq!(bench.ok("get", &["text", "--raw"]), "abü");
    bench.fails(2, "no list", "append", &["text", "1"]);
    bench.fails(2, "no text", "append", &["list", "--string", "x"]);
    bench.ok("create", &["--table", "raw", "--keys", "bytes", "--values", "bytes"]);
    assert_eq!(bench.ok("append", &["k", "--string", "ab", "--table", "raw"]), "2\n");
    assert_eq!(bench.run_with_input("append", &["k", "-", "--raw", "--table", "raw"], b"\xff").code, 0);
    bench.fails(2, "--string", "append", &["k", "1", "--table", "raw"]);
    assert_eq!(bench.ok("get", &["k", "--hex", "--table", "raw"]), "6162ff\n");
    // What JSON cannot express stays as it is.
    bench.store("kept", &[0x91, 0xc4, 0x01, 0xff]);
    bench.ok("append", &["kept", "1"]);
    assert_eq!(bench.stored("default", "kept"), [0x92, 0xc4, 0x01, 0xff, 0x01]);
}

#[test]
fn numbers_grow_exactly_or_not_at_all() {
    let bench = Bench::new();
    assert_eq!(bench.ok("incr", &["n"]), "1\n");
    assert_eq!(bench.ok("incr", &["n", "41"]), "42\n");
    assert_eq!(bench.ok("incr", &["n", "-2"]), "40\n");
    assert_eq!(json(&bench.ok("incr", &["n", "0.5", "--json"]))["value"], 40.5);
    bench.ok("put", &["large", "18446744073709551614"]);
    assert_eq!(bench.ok("incr", &["large"]), "18446744073709551615\n");
    bench.fails(2, "does not fit 64 bits", "incr", &["large"]);
    assert_eq!(bench.ok("get", &["large"]), "18446744073709551615\n");
    bench.ok("put", &["text", "\"1\""]);
    bench.fails(2, "no number", "incr", &["text"]);
    bench.fails(2, "no number", "incr", &["n", "\"1\""]);
    std::thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(|| (0..10).for_each(|_| drop(bench.ok("incr", &["shared"]))))));
    });
    assert_eq!(bench.ok("get", &["shared"]), "40\n");
}

#[test]
fn shells_and_man_are_told_of_each_verb() {
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| outcome(Command::new(env!("CARGO_BIN_EXE_memstone")).args(words));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let told = run(&["completions", shell]);
        assert!(told.code == 0 && told.out.contains("with-lock") && told.out.contains("incr"), "{shell}");
    }
    assert_eq!(run(&["completions", "csh"]).code, 2);
    let pages = dir.path().join("man");
    assert_eq!(run(&["man", pages.to_str().unwrap()]).code, 0);
    for page in ["memstone.1", "memstone-put.1", "memstone-snapshot-diff.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    assert!(!pages.join("memstone-demo-worker.1").exists());
}
