//! Maintenance: verifying, inspecting, diagnosing and repairing a store.

pub(crate) mod check;
pub(crate) mod content;
pub(crate) mod doctor;
mod format;
pub(crate) mod inspect;
pub(crate) mod repair;
pub(crate) mod watch;
