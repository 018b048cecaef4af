//! Tests of what this machine forbids are skipped in plain sight: with a line that the harness cannot
//! capture, counted by the last test file of a run (`tools/tests/z_skipped.rs`) and by `.ci/run`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// The lines of one run of `cargo test`: all test programs of it have the same parent. `.ci/run` names the file.
pub fn list() -> PathBuf {
    if let Some(named) = std::env::var_os("MEMSTONE_SKIPPED") {
        return named.into();
    }
    let run = std::os::unix::process::parent_id();
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("skipped-{run}"))
}

/// Tells that the running test is skipped, and what it needs. The test returns then.
pub fn skip(needs: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: needs {needs}\n", thread.name().unwrap_or("a test"));
    // The macros that print are captured, a write is not.
    let _ = std::io::stderr().write_all(line.as_bytes());
    // A user who may not write there is told by the line above alone.
    if let Ok(mut file) = fs::File::options().append(true).create(true).open(list()) {
        let _ = file.write_all(line.as_bytes());
    }
}
