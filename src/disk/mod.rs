//! The file and the system below it: format constants, the platform's interface, locks, shared memory.

pub(crate) mod durable_note;
pub(crate) mod extents;
pub(crate) mod file_id;
mod file_lock;
pub(crate) mod fork;
pub(crate) mod format;
pub(crate) mod heap;
pub(crate) mod holders;
pub(crate) mod host;
pub(crate) mod locks;
mod map;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod memory;
pub(crate) mod netfs;
pub(crate) mod pins;
pub(crate) mod platform;
pub(crate) mod private_memory;
pub(crate) mod reflink;
pub(crate) mod rename;
pub(crate) mod root;
mod shm;
pub(crate) mod sidecar;
mod sigbus;
#[cfg(test)]
pub(crate) mod sim;
mod size_limit;
pub(crate) mod slot;
pub(crate) mod surroundings;
pub(crate) mod unix;
pub(crate) mod words;
