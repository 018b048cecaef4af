//! One process' side of the protocols: joining, waiting for a turn, appending, flushing together,
//! folding the log into the tree, and keeping a view of what is committed.
//!
//! The reading order: `sharing` (which sidecar, and who else is there), `open` (joining and recovery),
//! `hints` (what the sidecar says, and when the file knows better), `queue` (whose turn it is to write),
//! `append` (the tail and what is put there), `flush` (durability for all), `view` (what a
//! snapshot sees), `checkpoint` and `fold` (the log becomes tree), `janitor` (what is done when
//! nobody asks), `stats`.

pub(crate) mod append;
pub(crate) mod archive;
pub(crate) mod changes;
pub(crate) mod checkpoint;
pub(crate) mod commit;
pub(crate) mod compact;
pub(crate) mod doubt;
pub(crate) mod flush;
pub(crate) mod fold;
pub(crate) mod heal;
pub(crate) mod hints;
pub(crate) mod janitor;
pub(crate) mod known_tables;
pub(crate) mod metrics;
pub(crate) mod named;
pub(crate) mod one_pass;
mod onlooker;
pub(crate) mod open;
pub(crate) mod open_store;
pub(crate) mod queue;
pub(crate) mod relaxed;
pub(crate) mod ring_plan;
pub(crate) mod roots;
pub(crate) mod sharing;
pub(crate) mod stats;
pub(crate) mod still;
pub(crate) mod view;

use crate::disk::format::MAX_KEY_SIZE;
use crate::disk::locks::{ByteLock, Deadline, FairLock, lock};
use crate::disk::pins::Pins;
use crate::disk::platform::{Disk, Mapping};
use crate::disk::sidecar::Sidecar;
use crate::disk::slot::Slot;
use crate::error::{Error, Result};
use crate::tree::pages::Verified;
use append::Appender;
use known_tables::KnownTables;
use relaxed::Unflushed;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use view::{View, ViewState};

/// What the user may set when opening.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long to wait for any lock.
    pub(crate) timeout: Duration,
    /// How long a commit that is in the log waits for a lock without which nobody can tell its fate.
    pub(crate) patience: Duration,
    /// The log never grows beyond this.
    pub(crate) log_cap: u64,
    /// Whether page reads go through a map of the file.
    pub(crate) memory_map: bool,
    /// Whether helper threads may be started; without them their work is done in line.
    pub(crate) threads: bool,
    /// What keeps the log of a store that has an archive.
    pub(crate) archive: Option<Arc<dyn archive::Archive>>,
}

/// Default for [`Settings::patience`].
pub(crate) const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);
/// Default for [`Settings::log_cap`].
pub(crate) const DEFAULT_LOG_CAP: u64 = 32 << 20;
/// Largest [`Settings::log_cap`] that may be asked for: a quarter of it is the largest frame.
pub(crate) const MAX_LOG_CAP: u64 = 4 << 30;
/// Size of the log of a new, or an idle, store.
pub(crate) const MIN_LOG: u64 = 64 << 10;
/// How often a process looks whether its sidecar is still the one by that name.
const SIDECAR_LOOK_MS: u64 = 1000;

/// One store, as one process has it open.
pub(crate) struct Engine {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) settings: Settings,
    pub(crate) page_size: u32,
    pub(crate) store_id: [u8; 16],
    pub(crate) store_tag: u32,
    pub(crate) pins: Arc<Pins>,
    pub(crate) verified: Arc<Verified>,

    sidecar: RwLock<Arc<Sidecar>>,
    sidecar_seen_ms: AtomicU64,
    rejoining: Mutex<()>,
    /// This process' slot in any sidecar, held by a kernel lock; none if all are taken.
    slot: Option<(usize, ByteLock)>,
    /// What tells this opening of the store from others in that slot.
    incarnation: u64,
    /// Shows to others that the store is open here, as long as it is.
    presence: Mutex<Option<ByteLock>>,
    /// Shows which sidecar this process uses: its number.
    member: Mutex<Option<(u64, ByteLock)>>,
    /// There is no sidecar, and nobody else writes.
    is_alone: AtomicBool,

    pub(crate) writer: Arc<FairLock>,
    pub(crate) checkpointing: Arc<FairLock>,
    syncing: Mutex<()>,
    /// Held while the file is flushed.
    flushing: Mutex<()>,
    appender: Mutex<Appender>,
    view: Mutex<ViewState>,
    /// The newest state that was handed out.
    published: Mutex<Option<Arc<View>>>,
    view_used_ms: AtomicU64,
    map: Mutex<Option<Arc<dyn Mapping>>>,
    tables: Mutex<KnownTables>,

    /// Newest LSN that this process knows to be durable.
    durable: AtomicU64,
    /// Newest LSN that this process knows to be visible, durable or not.
    relaxed: AtomicU64,
    /// Newest root sequence that this process knows to be durable.
    durable_root: AtomicU64,
    /// A flush failed and nothing has mended it yet.
    poisoned: AtomicBool,
    /// How many flushes of this process have failed.
    failures: AtomicU64,
    /// How often what was read of the log was forgotten.
    forgotten: AtomicU64,
    /// A flush of this process proves what others wrote before it came.
    proven: AtomicBool,
    /// The same of root slots.
    proven_roots: AtomicBool,
    /// How many flushes had ended, one more than that, when a flusher was found not to move on.
    stalled: AtomicU64,
    /// The log's end at the last look for a batch that nobody flushes, and when that was.
    unflushed: Mutex<(u64, u64)>,
    /// Relaxed commits of this process that are not known durable.
    unflushed_commits: Unflushed,
    /// Where moving pages down goes on: a table, and a key in it.
    compacting: Mutex<Option<(u32, Option<Vec<u8>>)>>,
    janitor: janitor::Janitor,
    fork_generation: u32,
    /// How often a snapshot was given although more may have been shown elsewhere: its reader is told nothing.
    #[cfg(test)]
    pub(crate) shown_late: AtomicU64,
    /// Whether this process has left the store already.
    left: AtomicBool,
}

impl Engine {
    pub(crate) fn path(&self) -> &Path {
        self.disk.path()
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Instant::now().checked_add(self.settings.timeout)
    }

    /// The deadline for a lock on which the fate of a commit hangs that is in the log already.
    pub(crate) fn patient_deadline(&self) -> Deadline {
        Instant::now().checked_add(self.settings.patience.max(self.settings.timeout))
    }

    fn io(&self, op: &'static str) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::io(op, self.path(), source)
    }

    /// Refuses to work in a forked child, whose locks would be its parent's.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if crate::disk::fork::fork_generation() == self.fork_generation {
            return Ok(());
        }
        Err(self.forked())
    }

    #[cold]
    fn forked(&self) -> Error {
        Error::Forked { path: self.path().to_path_buf() }
    }

    /// Refuses to write to a file that is no longer the one by its name: what is committed there would
    /// be lost to all who open the store by that name.
    pub(crate) fn check_name(&self) -> Result<()> {
        let Some(found) = self.disk.lost_name() else { return Ok(()) };
        Err(Error::Moved { path: self.path().to_path_buf(), found: found.to_owned() })
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_process()?;
        if self.disk.writable() {
            return Ok(());
        }
        Err(Error::ReadOnly { path: self.path().to_path_buf() })
    }

    pub(crate) fn check_key(key: &[u8]) -> Result<()> {
        if key.len() <= MAX_KEY_SIZE {
            return Ok(());
        }
        Err(Error::TooLarge { what: "key", size: key.len() as u64, limit: MAX_KEY_SIZE as u64 })
    }

    // The sidecar.

    /// The sidecar, looked after at most once a second. For readers: nothing is waited for.
    pub(crate) fn sidecar(&self) -> Arc<Sidecar> {
        let now = self.disk.now_ms();
        if now.wrapping_sub(self.sidecar_seen_ms.load(Ordering::Relaxed)) >= SIDECAR_LOOK_MS {
            self.sidecar_seen_ms.store(now, Ordering::Relaxed);
            let sidecar = self.known_sidecar();
            if !self.is_found(&sidecar).unwrap_or(false) {
                // Without it the file itself is looked at.
                let _ = self.rejoin_sidecar(false);
            }
        }
        self.known_sidecar()
    }

    pub(crate) fn slot<'a>(&self, sidecar: &'a Sidecar) -> Option<Slot<'a>> {
        let (index, _) = self.slot.as_ref()?;
        Some(sidecar.slot(*index))
    }

    // What is durable, and what is visible.

    pub(crate) fn durable_lsn(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    fn raise_durable(&self, lsn: u64) {
        self.durable.fetch_max(lsn, Ordering::AcqRel);
    }

    pub(crate) fn known_root(&self) -> u64 {
        self.durable_root.load(Ordering::Acquire)
    }

    fn raise_root(&self, sequence: u64) {
        self.durable_root.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Newest LSN that readers see, as far as this process knows.
    fn visible(&self) -> u64 {
        self.durable_lsn().max(self.relaxed.load(Ordering::Acquire))
    }

    pub(crate) fn is_poisoned(&self, sidecar: &Sidecar) -> bool {
        self.poisoned.load(Ordering::Acquire) || sidecar.poisoned()
    }

    pub(crate) fn poisoned_error(&self, reason: impl Into<String>) -> Error {
        Error::Poisoned { path: self.path().to_path_buf(), reason: reason.into() }
    }

    /// What becomes of an error once the commit may be found.
    pub(crate) fn unconfirmed(&self, error: Error) -> Error {
        let reason = if let Error::Poisoned { reason, .. } = error { reason } else { error.to_string() };
        Error::Unconfirmed { path: self.path().to_path_buf(), reason }
    }

    fn appender(&self) -> std::sync::MutexGuard<'_, Appender> {
        lock(&self.appender)
    }
}
