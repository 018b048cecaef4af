//! Typed tables: the order-preserving key encoding, MessagePack values, and the tables over them.
//!
//! Nothing here knows of pages, logs or locks: a typed table turns keys and values into bytes and
//! hands them to the raw table below it.

pub(crate) mod key;
mod key_range;
mod key_scalars;
#[cfg(test)]
mod key_tests;
mod key_tuples;
mod msgpack;
pub(crate) mod value;

pub use key::{AsKey, CodecError, Key, Place};
pub use key_range::{KeyPrefix, KeyRange};
pub use value::{AsValue, Blob, Value};
