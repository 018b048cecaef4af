//! Backups of a store, and bringing it back.
//!
//! A `clone` is a store's file as it is. A full backup is itself a store: `builder` makes it in one pass from `rows` in key order, `place` gives it its
//! name when it is whole. An increment (`increment`) says what has changed since another backup, in a `stream` of
//! checksummed blocks. A `chain` reads a full backup and its increments as one state, from which
//! `restore` builds a store. `directory` keeps many of them. `moment` finds the backup, and the transactions of an archive,
//! that lead to a moment, and `replay` reads both as one state.

mod builder;
mod chain;
mod clone;
mod directory;
mod full;
mod increment;
mod keep;
mod manifest;
mod moment;
mod options;
mod packed;
mod place;
mod replay;
mod restore;
mod rows;
mod stream;
mod stream_reader;
mod utc;

pub use clone::{CloneOptions, CloneReport};
pub use directory::{BackupDir, BackupEntry, BackupState};
pub use keep::Keep;
pub use manifest::{BackupBase, BackupKind, Manifest, TableManifest};
pub use moment::Moment;
pub use options::{BackupOptions, BackupProgress, BackupStep, RestoreOptions};
pub use restore::{RestoreReport, restore};
