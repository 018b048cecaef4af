//! Tests of the server as its clients see it: a process with lines of JSON on its standard input and output.
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod behaviour;
mod care;
mod client;
mod exchange;
mod http_client;
mod import;
mod jobs;
mod many;
mod memories;
mod metrics;
mod over_http;
mod reference;
mod schema;
#[path = "../../../tests/common/skip.rs"]
mod skip;
mod soak;
mod strict;
