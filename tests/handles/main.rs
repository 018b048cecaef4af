//! A handle keeps its word: what is written through it takes effect in the table that it stands for, or
//! gives an error; and what it belongs to stays open for as long as there is a handle.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

#[path = "../common/mod.rs"]
mod common;

mod agreement;
mod auto_traits;
mod model;
mod options;
mod owned;
mod ownership;
mod tables;
