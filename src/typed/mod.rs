//! Typed tables: the order-preserving key encoding, MessagePack values, and the tables over them.
//!
//! Nothing here knows of pages, logs or locks: a typed table encodes keys and values, and passes the bytes to the
//! raw table below it.

mod definition;
mod diff;
mod iter;
mod key;
mod key_range;
mod key_scalars;
#[cfg(test)]
mod key_tests;
mod key_tuples;
mod msgpack;
mod table;
#[cfg(test)]
mod table_tests;
mod value;

pub use definition::Table;
pub use diff::{TypedChange, TypedChanges};
pub use iter::{Keys, TypedRange, Values};
pub use key::{AsKey, CodecError, Key, Place};
pub use key_range::{KeyBounds, KeyPrefix, KeyRange};
pub use table::{TypedTable, TypedTableMut};
pub use value::{AsValue, Blob, Value};
