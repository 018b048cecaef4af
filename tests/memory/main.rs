//! The memory layer, through its public face.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::cast_possible_truncation, reason = "tests cast numbers that they chose")]

mod allowance;
mod check;
mod cost;
mod edits;
mod expiry;
mod feed;
mod items;
mod limits;
mod model;
mod queries;
#[path = "../common/random.rs"]
mod random;
mod sharing;
mod statistics;
mod support;
mod vectors;
mod words;
