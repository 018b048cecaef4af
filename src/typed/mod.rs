//! Typed keys and values: the order-preserving key encoding and MessagePack values.

pub(crate) mod key;
pub(crate) mod value;
