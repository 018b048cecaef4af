//! The archive: the log's transactions in files of their own, before a checkpoint frees their space.
//!
//! `setting` is what the store says of its archive, `segment` a file of it (`record` has the bytes, `state` what it has come to,
//! and whether a checkpoint connects to that), `keeper` appends to the newest segment, `reader` reads them back, and `place` lists
//! and names the files. Whether something is missing is not a matter of what was noted when it was lost: each batch says which
//! transaction the one before must have ended with.

pub(crate) mod keeper;
pub(crate) mod place;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod segment;
pub(crate) mod setting;
pub(crate) mod state;
