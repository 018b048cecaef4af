//! Behaviours that only real processes show, a file for each.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod background;
mod bad_input;
mod changes;
mod counter;
mod fairness;
mod fork;
mod holder;
mod kill;
mod large;
mod memory;
mod no_space;
mod open_time;
mod permissions;
mod read_only;
mod same_process;
mod sidecar;
mod snapshots;
mod threads;

#[test]
fn child_entry() {
    common::play(&[
        background::ROLES,
        changes::ROLES,
        counter::ROLES,
        fairness::ROLES,
        fork::ROLES,
        holder::ROLES,
        kill::ROLES,
        memory::ROLES,
        no_space::ROLES,
        open_time::ROLES,
        permissions::ROLES,
        sidecar::ROLES,
        snapshots::ROLES,
    ]);
}
