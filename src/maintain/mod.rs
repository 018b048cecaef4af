//! What keeps a store well over the years.

pub(crate) mod check;
pub(crate) mod content;
