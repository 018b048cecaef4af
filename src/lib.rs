//! memstone: a transactional, embedded key-value store in one file, for many processes at once.
#![allow(dead_code, unreachable_pub)]

mod bytes;
mod disk;
mod engine;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod log;
mod store;
mod tree;
mod txn;
mod typed;

pub use bytes::Bytes;
pub use disk::format::{MAX_KEY_SIZE, MAX_NAME_SIZE, MAX_VALUE_SIZE};
pub use engine::commit::Durability;
pub use engine::stats::{LockStats, Locks, LogStats, ProcessStats, Stats};
pub use error::{Corruption, Error, Holder, Result};
pub use store::{Options, Store};
pub use txn::range::RawRange;
pub use txn::snapshot::{Snapshot, TableInfo};
pub use txn::table::RawTable;
pub use txn::write::{Savepoint, WriteOptions, WriteTxn};
pub use txn::write_table::RawTableMut;
pub use typed::{
    AsKey, AsValue, Blob, CodecError, Key, KeyBounds, KeyPrefix, KeyRange, Keys, Place, Table, TypedRange, TypedTable,
    TypedTableMut, Value, Values,
};
