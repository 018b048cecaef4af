//! A short run of the torture program: see `examples/torture`.

use crate::common::{TestStore, setting};
use crate::torture_run::{Settings, everything};

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
