//! `load`, `import`, `clone` and `compact`, ended at each of their steps: by a kill, by a full disk, by a power loss.
//! What is found under a final name is whole, what was there is as it was, and the same command then does its work.
#![cfg(target_os = "linux")]
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

#[path = "steps/full_disk.rs"]
mod full_disk;
#[path = "steps/killed.rs"]
mod killed;
#[path = "steps/power.rs"]
mod power;
#[path = "../../tests/common/random.rs"]
mod random;
#[path = "../../tests/backup/replay.rs"]
mod replay;
#[path = "../../tests/common/skip.rs"]
mod skip;
mod support;
#[path = "steps/works.rs"]
mod works;

use std::process::{Command, Stdio};

/// Calls that change what is on a disk, or what is named.
const CALLS: [&str; 14] = [
    "pwrite64",
    "write",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "mkdir",
    "link",
    "linkat",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "copy_file_range",
];

/// Says so if calls cannot be interfered with here.
fn cannot_trace() -> bool {
    let strace = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let cannot = !strace.is_ok_and(|status| status.success());
    if cannot {
        skip::skip("strace, and the right to trace a child (ptrace)");
    }
    cannot
}

/// Whether all points are tried, or a sample.
fn all_points() -> bool {
    std::env::var_os("MEMSTONE_STATES").is_some()
}
