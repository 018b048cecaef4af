//! memstone: a transactional, embedded key-value store in one file, for many processes at once.
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "tests cast numbers that they chose"))]

mod bytes;
mod disk;
mod engine;
mod error;
mod log;
mod maintain;
mod store;
mod tree;
mod txn;
mod typed;

pub use bytes::Bytes;
pub use disk::format::{MAX_KEY_SIZE, MAX_NAME_SIZE, MAX_VALUE_SIZE};
pub use engine::commit::Durability;
pub use engine::stats::{LockStats, Locks, LogStats, ProcessStats, Stats, TableInfo};
pub use error::{Corruption, Error, Holder, Result};
pub use maintain::check::{CheckOptions, Finding, PageCounts, Report, Severity, TableReport, check};
pub use store::{Options, Store};
pub use txn::range::RawRange;
pub use txn::snapshot::Snapshot;
pub use txn::table::RawTable;
pub use txn::write::{Savepoint, WriteOptions, WriteTxn};
pub use txn::write_table::RawTableMut;
pub use typed::{
    AsKey, AsValue, Blob, CodecError, Key, KeyBounds, KeyPrefix, KeyRange, Keys, Place, Table, TypedRange, TypedTable,
    TypedTableMut, Value, Values,
};
