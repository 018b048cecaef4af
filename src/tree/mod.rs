//! The copy-on-write B+tree and the space it lives in. Nothing here knows of processes, locks,
//! the log or transactions.

pub(crate) mod cursor;
pub(crate) mod node;
pub(crate) mod pages;
pub(crate) mod space;
pub(crate) mod update;
