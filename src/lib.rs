//! memstone: a transactional, embedded key-value store in one file, for many processes at once.
#![allow(dead_code, unreachable_pub)]

mod bytes;
mod disk;
mod error;
mod maintain;
mod tree;
mod typed;

pub use bytes::Bytes;
pub use disk::format::{MAX_KEY_SIZE, MAX_NAME_SIZE, MAX_VALUE_SIZE};
pub use error::{Corruption, Error, Holder, Result};
pub use maintain::check::{CheckOptions, Finding, PageCounts, Report, Severity, TableReport, check};
