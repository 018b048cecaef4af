//! The verbs `dump` and `load` as the program has them, file by file: they are no library.
#![allow(dead_code, reason = "other verbs use the rest")]

#[path = "../../cli/src/memstone/access.rs"]
pub mod access;
#[path = "../../cli/src/memstone/dump.rs"]
pub mod dump;
#[path = "../../cli/src/memstone/failure.rs"]
pub mod failure;
#[path = "../../cli/src/memstone/keys.rs"]
pub mod keys;
#[path = "../../cli/src/memstone/load.rs"]
pub mod load;
#[path = "../../cli/src/memstone/msgpack.rs"]
pub mod msgpack;
#[path = "../../cli/src/memstone/new_store.rs"]
pub mod new_store;
#[path = "../../cli/src/memstone/output.rs"]
pub mod output;
#[path = "../../cli/src/memstone/text.rs"]
pub mod text;
#[path = "../../cli/src/memstone/values.rs"]
pub mod values;
