//! The file and the system below it: format constants, the platform's face, locks, shared memory.

pub(crate) mod format;
pub(crate) mod platform;
pub(crate) mod unix;
