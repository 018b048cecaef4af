//! One process' side of the protocols: joining the store, waiting for WRITER, appending, group commit,
//! checkpoints, and the views that snapshots read.
//!
//! Reading order: `sharing` (which sidecar this process uses, and which other processes have the store open),
//! `open` (joining and recovery), `hints` (what the sidecar says, and when the file overrules it), `writer_queue`
//! (the order in which writers take WRITER), `append` (the tail of the log), `group_commit` (one flush for all
//! waiting commits), `view` (what a snapshot sees), `checkpoint` (applies the log to the tree), `background`
//! (work that no caller asks for), `stats`.

/// A floor of the engine: a struct that holds the one below, and can be used as that one, too.
macro_rules! floor {
    ($floor:ident on $below:ident, in $field:ident) => {
        impl std::ops::Deref for $floor {
            type Target = $below;

            #[inline]
            fn deref(&self) -> &$below {
                &self.$field
            }
        }
    };
}

pub(crate) mod append;
pub(crate) mod archive;
pub(crate) mod background;
pub(crate) mod board;
pub(crate) mod buffer;
mod busy;
pub(crate) mod changes;
pub(crate) mod checkpoint;
pub(crate) mod checkpoint_guard;
pub(crate) mod chores;
pub(crate) mod commit;
pub(crate) mod commit_record;
pub(crate) mod compact;
mod delta;
pub(crate) mod due;
mod durable_root;
pub(crate) mod facts;
pub(crate) mod feed;
pub(crate) mod file;
mod file_flush;
pub(crate) mod flush_repair;
pub(crate) mod gaps;
pub(crate) mod group_commit;
pub(crate) mod hints;
pub(crate) mod journal;
pub(crate) mod known_tables;
pub(crate) mod left_behind;
pub(crate) mod merge;
pub(crate) mod metrics;
mod move_down;
pub(crate) mod named;
pub(crate) mod names;
pub(crate) mod new_root;
pub(crate) mod one_pass;
mod onlooker;
pub(crate) mod open;
pub(crate) mod open_store;
pub(crate) mod page_writer;
mod rank;
pub(crate) mod relaxed;
mod requests;
mod rewrite;
pub(crate) mod ring_plan;
pub(crate) mod roots;
pub(crate) mod settings;
pub(crate) mod sharing;
mod snapshot;
pub(crate) mod stats;
pub(crate) mod still;
pub(crate) mod streams;
pub(crate) mod table_row;
pub(crate) mod unproven;
pub(crate) mod view;
pub(crate) mod writer_queue;

pub(crate) use settings::{DEFAULT_LOG_CAP, DEFAULT_TIMEOUT, MAX_LOG_CAP, MIN_LOG, MIN_LOG_PAGES, Settings};

use crate::disk::locks::FairLock;
use known_tables::KnownTables;
use page_writer::SpaceOfLog;
use relaxed::Unflushed;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use view::Views;

/// One store, as one process has it open.
pub(crate) struct Engine {
    views: Views,
    pub(crate) writer: Arc<FairLock>,
    tables: Mutex<KnownTables>,
    /// Relaxed commits of this process that are not known durable.
    unflushed_commits: Unflushed,
    /// Where compaction continues: a table, and a key in it.
    compacting: Mutex<Option<(u32, Option<Vec<u8>>)>>,
    /// Which pages are free for the next long value.
    space_of_log: Mutex<Option<Box<SpaceOfLog>>>,
    /// How often that was read from the file.
    #[cfg(test)]
    pub(crate) spaces_loaded: std::sync::atomic::AtomicU64,
    /// Whether this process has left the store already.
    left: AtomicBool,
}

floor!(Engine on Views, in views);
