//! Jobs, through their public face.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::cast_possible_truncation, reason = "tests cast numbers that they chose")]

mod check;
mod cost;
mod fair;
mod model;
mod operations;
mod processes;
mod quota;
#[path = "../common/random.rs"]
mod random;
mod support;
mod waiting;
