//! The last test file of a run: tells how many tests of the other files were skipped on this machine.
#![cfg(unix)]
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

#[path = "../../tests/common/skip.rs"]
mod skip;

use std::fs;
use std::io::Write;

#[test]
fn skipped_tests_are_counted() {
    let lines = fs::read_to_string(skip::list()).unwrap_or_default();
    if std::env::var_os("MEMSTONE_SKIPPED").is_none() {
        let _ = fs::remove_file(skip::list());
    }
    let text = match lines.lines().count() {
        0 => "no test was skipped\n".to_owned(),
        n => format!("{n} tests were SKIPPED:\n{lines}"),
    };
    // The macros that print are captured, a write is not.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}
