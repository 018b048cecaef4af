//! A short run of the torture program (`tools/torture`), and its judges on histories that are known.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, unreachable_pub)]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../torture/run/mod.rs"]
mod run;

use common::{TestStore, random, setting};
use run::{Settings, everything};

/// The workers of a storm are this program once more.
#[test]
fn child_entry() {
    run::worker::play();
}

#[test]
fn a_short_storm_leaves_one_order_of_commits() {
    let test = TestStore::new();
    let settings = Settings {
        seconds: setting("MEMSTONE_TORTURE_SECONDS", 6),
        processes: 6,
        kills: setting("MEMSTONE_KILLS", 60),
        seed: setting("MEMSTONE_SEED", 1),
        dir: Some(test.dir.path().to_path_buf()),
        worker_args: ["--exact", "child_entry", "--nocapture"].map(str::to_owned).to_vec(),
        disks: false,
        ..Settings::default()
    };
    assert!(everything(&settings));
}
