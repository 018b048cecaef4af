//! memstone: a transactional, embedded key-value store in one file, for many processes at once.
//!
//! Any number of processes may open the same file, read it and write it, without configuration and without a
//! server. Writers take turns in a fair queue; readers wait for no writer.
//!
//! # Typed tables
//!
//! A [`Table`] names a table and its types. Keys have an order-preserving encoding ([`Key`](trait@Key)),
//! values are any serde type, as [`MessagePack`] unless the table names another [`Codec`], or bytes as they are ([`Raw`]).
//!
//! ```
//! use memstone::{Store, Table};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Note {
//!     text: String,
//!     stars: u32,
//! }
//!
//! /// By person and time.
//! const NOTES: Table<(&str, u64), Note> = Table::new("notes");
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("memory.mst");
//! let store = Store::open(&path)?;
//! store.write(|tx| {
//!     let notes = tx.table(NOTES)?;
//!     notes.insert(("ada", 1), &Note { text: "first".to_owned(), stars: 1 })?;
//!     notes.insert(("ada", 2), &Note { text: "second".to_owned(), stars: 3 })?;
//!     notes.insert(("bob", 1), &Note { text: "other".to_owned(), stars: 2 })
//! })?;
//!
//! let snapshot = store.read()?;
//! let notes = snapshot.table(NOTES)?;
//! assert_eq!(notes.get(("ada", 2))?.unwrap().stars, 3);
//! let texts = notes.prefix(("ada",))?.rev().map(|entry| Ok(entry?.1.text)).collect::<Result<Vec<_>, memstone::Error>>()?;
//! assert_eq!(texts, ["second", "first"]);
//! # Ok::<(), memstone::Error>(())
//! ```
//!
//! # Raw tables
//!
//! Bytes to bytes; values are returned without copying where possible ([`Bytes`]).
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
//! use std::ops::Bound;
//!
//! store.write(|tx| {
//!     let table = tx.raw("blobs")?;
//!     table.put(b"a", b"1")?;
//!     table.put(b"b", b"2")
//! })?;
//! let snapshot = store.read()?;
//! let table = snapshot.raw("blobs")?;
//! let (key, value) = table.range((Bound::Excluded(b"a"), Bound::Unbounded))?.next().unwrap()?;
//! assert_eq!((&key[..], &value[..]), (&b"b"[..], &b"2"[..]));
//! # Ok::<(), memstone::Error>(())
//! ```
//!
//! # Snapshots and transactions
//!
//! A [`Snapshot`] is one committed state. It is owned, `Send` and `Sync`, cheap to clone, and keeps the pages it
//! needs from being reused; so do not hold one for ever. A [`WriteTxn`] sees the newest state and its own
//! changes; no other transaction runs meanwhile. [`Store::write`] commits when its closure returns `Ok`. Both
//! keep the store open: dropping the last handle, snapshot or transaction leaves the store.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
//! let before = store.read()?;
//! let failed = store.write(|tx| {
//!     tx.raw("t")?.put(b"k", b"v")?;
//!     Err::<(), _>(memstone::Error::abort("changed my mind"))
//! });
//! assert!(failed.is_err());
//! assert_eq!(store.last_commit()?, before.lsn());
//! # Ok::<(), memstone::Error>(())
//! ```
//!
//! [`Store::create_snapshot`] keeps a state under a name until it is deleted; [`Snapshot::diff`] lists the
//! differences between two states, and [`Store::roll_back_to`] goes back to one.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
//! store.create_snapshot("before-migration")?;
//! store.write(|tx| tx.raw("t")?.put(b"k", b"v"))?;
//! let (before, now) = (store.snapshot("before-migration")?, store.read()?);
//! assert_eq!(before.diff(&now)?.tables()[0].name(), "t");
//! # Ok::<(), memstone::Error>(())
//! ```
//!
//! # Durability
//!
//! A commit with [`Durability::Sync`], the default, is on the disk when it returns; all waiting commits of all
//! processes share a flush. A commit with [`Durability::Relaxed`] is visible at once and flushed soon after.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
//! use memstone::{Durability, WriteOptions};
//!
//! let relaxed = WriteOptions::new().durability(Durability::Relaxed);
//! for i in 0..100_u32 {
//!     store.write_with(relaxed.clone(), |tx| tx.raw("log")?.put(&i.to_be_bytes(), b"event"))?;
//! }
//! store.flush()?; // now they are on the disk
//! # Ok::<(), memstone::Error>(())
//! ```
//!
//! # Errors
//!
//! There is one [`Error`] type. [`Error::Busy`] names the process that holds the lock, [`Error::Corrupt`] says
//! where the damage is, [`Error::is_retryable`] whether the same call may succeed later, and
//! [`Error::is_outcome_unknown`] whether a commit may have taken effect although it returned the error.
//! `docs/OPERATIONS.md` says what to do about each error.
//!
//! # More
//!
//! The guide (module `guide` of this documentation) has the concepts and a chapter for each task; `docs/PROMISES.md`
//! lists promises and limits; `docs/` describes the architecture, the locks, the file format and the
//! key encoding. The library reports what it does as `tracing` events.
#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "what would be told is named all the same"))]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "tests cast numbers that they chose"))]

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!(
    "memstone runs on Linux and macOS: it needs byte-range locks of an open file description (F_OFD_SETLK) and shared \
     memory maps. On other systems, keep the store in a process on one of these."
);

/// `Debug` of what is opened: its name, and some of what it holds.
macro_rules! shows {
    ($self:ident: $($([$($generics:tt)*])? $name:ident $(<$($arg:tt),+>)? { $($field:ident: $value:expr),* })+) => {
        $(
            impl $(<$($generics)*>)? std::fmt::Debug for $name $(<$($arg),+>)? {
                fn fmt(&$self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    let mut shown = f.debug_struct(stringify!($name));
                    $(shown.field(stringify!($field), &$value);)*
                    shown.finish_non_exhaustive()
                }
            }
        )+
    };
}

/// An iterator from both ends, which stays at its end.
macro_rules! both_ends {
    ($self:ident: [$($generics:tt)*] $name:ident $(<$($arg:tt),+>)? => $item:ty { next: $next:expr, back: $back:expr }) => {
        impl<$($generics)*> Iterator for $name $(<$($arg),+>)? {
            type Item = $item;

            fn next(&mut $self) -> Option<Self::Item> {
                $next
            }
        }

        impl<$($generics)*> DoubleEndedIterator for $name $(<$($arg),+>)? {
            fn next_back(&mut $self) -> Option<Self::Item> {
                $back
            }
        }

        impl<$($generics)*> std::iter::FusedIterator for $name $(<$($arg),+>)? {}
    };
}

mod archive;
mod backup;
mod bytes;
mod change;
mod direction;
mod disk;
mod engine;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(doc, doctest))]
pub mod guide;
mod log;
mod maintain;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(test)]
mod simulation;
mod store;
mod trace;
mod tree;
mod txn;
mod typed;

pub use backup::{
    BackupBase, BackupDir, BackupEntry, BackupKind, BackupOptions, BackupProgress, BackupState, BackupStep,
    CloneOptions, CloneReport, Keep, Manifest, Moment, RestoreOptions, RestoreReport, TableManifest, restore,
};
pub use bytes::Bytes;
pub use disk::format::{MAX_KEY_SIZE, MAX_NAME_SIZE, MAX_VALUE_SIZE};
pub use engine::commit::Durability;
pub use engine::metrics::{Rates, Sample};
pub use engine::names::NamedSnapshot;
pub use engine::stats::{LockStats, Locks, LogStats, ProcessStats, Stats, TableInfo};
pub use error::{CodecOp, Corruption, CorruptionKind, Error, Holder, LimitKind, LockKind, Result};
pub use maintain::check::{CheckOptions, Finding, PageCounts, Report, Severity, TableReport, check, check_with};
pub use maintain::content::content_hash;
pub use maintain::doctor::diagnosis::{
    BackupNews, Concern, Diagnosis, Extent, FilePlace, Health, Leftover, LogState, OpenProcess, PinnedVersion, Role,
    SpaceUse, StoreState, Subject, TableSize, Urgency,
};
pub use maintain::doctor::{DiagnoseOptions, diagnose, diagnose_with};
pub use maintain::inspect::{FrameView, FreePages, PageView, RootCopy, free_pages, log_frames, page_view, root_copies};
pub use maintain::repair::report::{
    BeyondFrame, Certainty, LostRange, LostValue, RepairReport, RepairedTable, RootSource, SalvagedPage,
};
pub use maintain::repair::{RepairOptions, repair, repair_with};
pub use maintain::watch::{Phase, Progress};
#[cfg(feature = "derive")]
pub use memstone_derive::Key;
pub use store::archive::{ArchiveGap, ArchiveStatus};
pub use store::{Options, Store};
pub use txn::bounds::ByteRange;
pub use txn::changes::{Changed, Changes, Commit, Cursor, Feed, Gap};
pub use txn::diff::{Diff, RowChange, RowChanges, TableChange, TableDiff};
pub use txn::owned::{OwnedRawRange, OwnedRawTable};
pub use txn::range::{RawKeys, RawRange, RawValues};
pub use txn::snapshot::Snapshot;
pub use txn::state::ReadState;
pub use txn::table::RawTable;
pub use txn::table_name::TableName;
pub use txn::undo::Savepoint;
pub use txn::value_reader::ValueReader;
pub use txn::value_writer::ValueWriter;
pub use txn::write::{Committed, WriteOptions, WriteTxn};
pub use txn::write_table::RawTableMut;
#[cfg(feature = "json")]
pub use typed::Json;
pub use typed::{
    AsKey, AsValue, BytesTable, Codec, CodecError, Key, KeyBounds, KeyPrefix, KeyRange, Keys, MessagePack,
    OwnedTypedRange, OwnedTypedTable, Place, Raw, Table, TypedChange, TypedChanges, TypedRange, TypedTable,
    TypedTableMut, Values,
};

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The example of the key encoding.
#[cfg(doctest)]
#[doc = include_str!("../docs/KEY_ENCODING.md")]
struct KeyEncoding;
