//! Runs the `memstone` command on a store of its own.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A folder with a store that is not there yet.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) file: PathBuf,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.mst");
        Bench { dir, file }
    }

    /// The command `memstone VERB FILE REST…`.
    pub(crate) fn command(&self, verb: &str, rest: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memstone"));
        command.arg(verb).arg(&self.file).args(rest);
        command
    }

    pub(crate) fn run(&self, verb: &str, rest: &[&str]) -> Outcome {
        outcome(&mut self.command(verb, rest))
    }

    /// Like `run`, with `input` as standard input.
    pub(crate) fn run_with_input(&self, verb: &str, rest: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(verb, rest);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finished(child.wait_with_output().unwrap())
    }

    /// Runs a verb that must succeed, and gives its output.
    pub(crate) fn ok(&self, verb: &str, rest: &[&str]) -> String {
        let outcome = self.run(verb, rest);
        assert_eq!(outcome.code, 0, "{verb} {rest:?}: {outcome:?}");
        assert_eq!(outcome.err, "", "{verb} {rest:?}");
        outcome.out
    }

    /// Runs a verb that must fail with `code` and a message that has `part` in it.
    pub(crate) fn fails(&self, code: i32, part: &str, verb: &str, rest: &[&str]) {
        let outcome = self.run(verb, rest);
        assert_eq!(outcome.code, code, "{verb} {rest:?}: {outcome:?}");
        assert!(outcome.err.contains(part), "{verb} {rest:?}: {outcome:?}");
        assert_eq!(outcome.out, "", "{verb} {rest:?}");
    }
}

/// What other programs see and do beside the command.
impl Bench {
    /// The bytes that a table holds for a key of text.
    pub(crate) fn stored(&self, table: &str, key: &str) -> Vec<u8> {
        let snapshot = memstone::Store::options().read_only(true).open(&self.file).unwrap().read().unwrap();
        snapshot.untyped(table).unwrap().get(key.as_bytes()).unwrap().unwrap().to_vec()
    }

    /// Stores any bytes in the table "default", which has keys of text and MessagePack.
    pub(crate) fn store(&self, key: &str, bytes: &[u8]) {
        let store = memstone::Store::open(&self.file).unwrap();
        let put = |tx: &memstone::WriteTxn| {
            tx.table(memstone::Table::<&str, String>::new("default"))?;
            tx.untyped("default")?.put(key.as_bytes(), bytes)
        };
        store.write(put).unwrap();
    }
}

pub(crate) fn outcome(command: &mut Command) -> Outcome {
    finished(command.stdin(Stdio::null()).output().unwrap())
}

fn finished(output: std::process::Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}
