//! The order-preserving encoding of keys.
