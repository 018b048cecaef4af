//! The proof by simulation: the unchanged engine over a disk in memory, through every crash, fault
//! and schedule that the simulation can make.
//!
//! `model` says what a store must hold, `check` looks at every page, `crash` reopens what a power
//! loss may leave, `fault` lets calls of the platform fail, `schedule` lets processes run in every
//! order and kills them, `between` goes through the places at which one may be disturbed. The others
//! hold single rules of the protocol, each at a chosen call. How long it runs is set by
//! `MEMSTONE_STATES`, `MEMSTONE_SCHEDULES`; see `docs/PROOF.md`.

mod archive;
mod check;
mod crash;
mod dead_processes;
mod deviations;
mod epoch;
mod exclusion;
mod fault;
mod feed;
mod flush_errors;
mod frugal;
mod growth;
mod hints;
mod history;
mod interleaving;
mod lost_writes;
#[cfg(feature = "memory")]
mod memory;
mod model;
mod monotonic;
mod named_snapshots;
mod oracle;
mod pause;
mod publication;
mod ring;
mod schedule;
mod scheduler;
mod shared_blocks;
mod sharing;
mod space;
mod streams;
mod table_names;
mod unsynced_root;

use crate::disk::sim::{Conductor, Free, Image, Limits, Replay, Rng, SimDisk, World};
use crate::engine::{Settings, open};
use crate::error::Result;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;

fn settings(log_cap: u64) -> Settings {
    // Simulated time does not move the engine's deadlines: none must come near.
    Settings {
        timeout: Duration::from_secs(100_000),
        patience: Duration::ZERO,
        log_cap,
        memory_map: false,
        threads: false,
        application: 0,
        archive: None,
    }
}

/// A new, empty store, and its only user.
pub(crate) fn new_store(conductor: Arc<dyn Conductor>, log_cap: u64) -> (Arc<World>, Arc<SimDisk>, Store) {
    let world = World::new(Image::default(), conductor);
    let disk = world.disk(0);
    open::create(&*disk, 4096, *b"simulated store!").unwrap();
    world.record();
    let store = Store::on_disk(Arc::clone(&disk) as _, settings(log_cap)).unwrap();
    (world, disk, store)
}

fn open_store(world: &Arc<World>, process: usize, log_cap: u64) -> (Arc<SimDisk>, Result<Store>) {
    let disk = world.disk(process);
    let store = Store::on_disk(Arc::clone(&disk) as _, settings(log_cap));
    (disk, store)
}

/// Opens what a power loss at the end of the record may leave, and looks at it.
fn after_power_losses(world: &World, log_cap: u64, look: impl Fn(&Store)) {
    let (start, events) = world.history();
    let mut replay = Replay::new(start);
    for event in &events {
        replay.apply(event);
    }
    let limits = Limits { all: 512, sample: 20, torn: 20 };
    replay.crash_states(&mut Rng(1), limits, &mut |_| true, &mut |image| {
        look(&open_store(&World::new(image, Arc::new(Free)), 0, log_cap).1.unwrap());
    });
}

/// A number from the environment: how much is to be done.
fn effort(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}
