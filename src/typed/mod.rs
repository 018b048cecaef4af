//! Typed tables: the order-preserving key encoding, the codecs of values, and the tables over them.
//!
//! Nothing here knows of pages, logs or locks: a typed table encodes keys and values, and passes the bytes to the
//! raw table below it.

mod codec;
mod definition;
mod diff;
mod iter;
#[cfg(feature = "json")]
mod json;
mod key;
mod key_range;
mod key_reverse;
mod key_scalars;
#[cfg(test)]
mod key_tests;
mod key_time;
mod key_tuples;
#[cfg(feature = "msgpack")]
mod msgpack;
mod open;
mod owned;
mod raw;
mod table;
#[cfg(test)]
mod table_tests;

pub use codec::{AsValue, Codec, MessagePack};
pub use definition::{BytesTable, Table};
pub use diff::{TypedChange, TypedChanges};
pub use iter::{Keys, TypedRange, Values};
#[cfg(feature = "json")]
pub use json::Json;
pub use key::{AsKey, CodecError, Key, Place};
pub use key_range::{KeyBounds, KeyPrefix, KeyRange};
pub use owned::{OwnedTypedRange, OwnedTypedTable};
pub use raw::Raw;
pub use table::{TypedTable, TypedTableMut};
