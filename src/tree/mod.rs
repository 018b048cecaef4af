//! The copy-on-write B+tree and the space it lives in. Nothing here knows of processes, locks,
//! the log or transactions.

mod build;
pub(crate) mod bulk;
mod counted;
pub(crate) mod cursor;
pub(crate) mod diff;
mod encode;
pub(crate) mod long_value;
pub(crate) mod node;
pub(crate) mod overflow;
pub(crate) mod pages;
pub(crate) mod rank;
pub(crate) mod space;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod update;
pub(crate) mod walk;
