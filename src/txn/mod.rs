//! Transactions: snapshots, write transactions, and the merged view of the write buffer, the log
//! index and the tree that both read through.

pub(crate) mod bounds;
pub(crate) mod catalog;
pub(crate) mod changes;
mod cursors;
pub(crate) mod diff;
pub(crate) mod handles;
pub(crate) mod owned;
pub(crate) mod range;
pub(crate) mod rank;
pub(crate) mod roll_back;
pub(crate) mod savepoint;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod table_name;
pub(crate) mod tables;
pub(crate) mod txn_table;
pub(crate) mod undo;
pub(crate) mod value_reader;
pub(crate) mod value_writer;
pub(crate) mod versions;
pub(crate) mod write;
pub(crate) mod write_table;
