//! The write-ahead log: frames, the ring they lie in, the reader that walks their chain, and the memtable, an
//! index of their content. Nothing here knows of trees or of locks.

mod filter;
pub(crate) mod frame;
pub(crate) mod memtable;
pub(crate) mod reader;
pub(crate) mod ring;
