//! The file and the system below it: format constants, the platform's face, locks, shared memory.

pub(crate) mod format;
pub(crate) mod locks;
pub(crate) mod platform;
pub(crate) mod root;
pub(crate) mod sidecar;
pub(crate) mod unix;
