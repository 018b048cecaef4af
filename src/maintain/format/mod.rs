//! A second reader of the file, written from the documented format alone: it shares only constants with the
//! engine, so that checks and repairs do not repeat a bug of the engine. Whatever the file holds, nothing here
//! panics; a problem is returned as text.

pub(in crate::maintain) mod file;
pub(in crate::maintain) mod frames;
pub(in crate::maintain) mod journal;
pub(in crate::maintain) mod long;
pub(in crate::maintain) mod node;
pub(in crate::maintain) mod pages;
pub(in crate::maintain) mod rows;
pub(in crate::maintain) mod slots;
pub(in crate::maintain) mod space;
pub(in crate::maintain) mod types;

const BASE: u64 = 1 << 62;
/// Lock byte of a process that opens or leaves the store.
pub(in crate::maintain) const OPEN: u64 = BASE;
/// First lock byte of the processes that have the store open for writing.
pub(in crate::maintain) const WRITERS: u64 = BASE + (1 << 60);
/// First lock byte of those that have it open for reading; there are as many bytes of each.
pub(in crate::maintain) const READERS: u64 = WRITERS + (1 << 50);
/// Lock byte of version 0. Holding the byte of a version in any mode keeps the pages of its tree from being
/// reused.
pub(in crate::maintain) const PIN: u64 = BASE + (1 << 61);
