//! The file and the system below it: format constants, the platform's face, locks, shared memory.

pub(crate) mod fork;
pub(crate) mod format;
pub(crate) mod host;
mod lock;
mod map;
pub(crate) mod netfs;
pub(crate) mod platform;
mod shm;
mod sigbus;
pub(crate) mod unix;
