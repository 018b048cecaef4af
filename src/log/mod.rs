//! The write-ahead log: frames, the ring they lie in, walking their chain, and the index of what
//! they say. Nothing here knows of trees or of locks.

pub(crate) mod frame;
pub(crate) mod memtable;
pub(crate) mod reader;
pub(crate) mod ring;
