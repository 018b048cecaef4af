//! Abstract models of the protocols, explored exhaustively: `docs/PROOF.md` tells what they cover.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, unreachable_pub)]

mod disk;
mod explore;
mod log;
mod log_engine;
mod log_moves;
mod log_steps;
mod log_world;
mod pins;
mod pins_steps;
mod rules;
mod scenes;

use explore::{Model, Report, explore};
use rules::Broken;
use scenes::{BROKEN_LOG, BROKEN_PINS, LOG, PINS, log_scene, pins_scene};
use std::time::Instant;

/// More states than this do not fit into the memory of a small machine.
const MOST: usize = 40_000_000;

fn run<M: Model>(name: &str, model: &M) -> Report {
    let started = Instant::now();
    let report = explore(model, MOST);
    let Report { states, transitions, depth, .. } = report;
    println!("{name}: {states} states, {transitions} transitions, depth {depth}, {:.1?}", started.elapsed());
    report
}

fn holds<M: Model>(name: &str, long: bool, model: &M) {
    if long && std::env::var_os("MEMSTONE_MODEL").is_none() {
        return;
    }
    if let Some(violation) = run(name, model).violation {
        panic!("{name}:\n{}", violation.trace);
    }
}

fn fails<M: Model>(broken: Broken, name: &str, model: &M, steps: usize) {
    let Some(violation) = explore(model, MOST).violation else { panic!("nobody noticed {broken:?} in {name}") };
    println!("{broken:?}, {name}: {} steps: {}", violation.steps, violation.reason);
    if std::env::var_os("MEMSTONE_TRACE").is_some() {
        println!("{}", violation.trace);
    }
    assert_eq!(violation.steps, steps, "the shortest trace for {broken:?} in {name}:\n{}", violation.trace);
}

#[test]
fn the_log_keeps_its_promises() {
    LOG.iter().for_each(|(name, long, model)| holds(name, *long, model));
}

#[test]
fn pages_and_pins_keep_their_promises() {
    PINS.iter().for_each(|(name, long, model)| holds(name, *long, model));
}

#[test]
fn each_rule_of_the_log_is_needed() {
    for (broken, scene, steps) in BROKEN_LOG {
        fails(*broken, scene, &log::Log { broken: *broken, ..log_scene(scene) }, *steps);
    }
}

#[test]
fn each_rule_of_pages_and_pins_is_needed() {
    for (broken, scene, steps) in BROKEN_PINS {
        fails(*broken, scene, &pins::Pins { broken: *broken, ..pins_scene(scene) }, *steps);
    }
}
