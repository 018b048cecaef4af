//! What the processes publish to each other in the sidecar, and what this process knows of it.
//!
//! Everything known here only rises, except the counts of failed flushes. *Publish before you show*: what a
//! process is about to show or acknowledge is published first, so that every later snapshot in any process
//! includes it.

use crate::disk::host::incarnation;
use crate::disk::locks::{ByteLock, SLOT};
use crate::disk::private_memory::PrivateMemory;
use crate::disk::sidecar::Sidecar;
use crate::disk::slot::Slot;
use crate::engine::chores::Background;
use crate::engine::file::OpenFile;
use crate::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub(super) const NOT_REPAIRED: &str = "an earlier flush failed; the next write repairs it";

/// The sidecar that this process uses, and what this process knows of the log and the roots.
pub(crate) struct Board {
    file: OpenFile,
    pub(super) sidecar: RwLock<Arc<Sidecar>>,
    pub(super) sidecar_seen_ms: AtomicU64,
    pub(super) rejoining: Mutex<()>,
    /// This process' slot in any sidecar, held by a kernel lock; `None` if all slots are taken.
    pub(super) slot: Option<(usize, ByteLock)>,
    /// Tells this opening of the store from earlier owners of the slot.
    pub(super) incarnation: u64,
    /// The lock byte that shows to other processes that this one has the store open.
    pub(super) presence: Mutex<Option<ByteLock>>,
    /// The lock byte that shows which sidecar this process uses, and that sidecar's number.
    pub(super) member: Mutex<Option<(u64, ByteLock)>>,
    /// There is no sidecar, and no other process writes.
    pub(super) is_alone: AtomicBool,

    /// Newest LSN that this process knows to be durable.
    durable: AtomicU64,
    /// Newest LSN that this process knows to be visible, durable or not.
    pub(super) relaxed: AtomicU64,
    /// Newest LSN that this process knows to have been given to a frame. None is given twice, for readers may have
    /// read a frame that a failed flush has taken out of the log since.
    given: AtomicU64,
    /// Newest root sequence that this process knows to be durable.
    durable_root: AtomicU64,
    /// A flush failed and is not repaired yet.
    pub(super) poisoned: AtomicBool,
    /// How many flushes of this process have failed.
    failures: AtomicU64,
    /// How often this process has discarded what it had read of the log.
    pub(super) forgotten: AtomicU64,
    /// Work that no caller asks for.
    pub(super) background: Background,
}

floor!(Board on OpenFile, in file);

/// The failed flushes that this process and its sidecar had counted at one moment.
pub(crate) struct Failures {
    own: u64,
    pub(crate) published: u64,
    sidecar: Arc<Sidecar>,
}

impl Board {
    /// Starts with no knowledge, and with a sidecar private to this process.
    pub(crate) fn new(file: OpenFile, slot: Option<(usize, ByteLock)>, background: Background) -> Board {
        let private = Sidecar::new(Arc::new(PrivateMemory::new()), &file.store_id, file.disk.identity());
        private.clear();
        Board {
            sidecar: RwLock::new(Arc::new(private)),
            sidecar_seen_ms: AtomicU64::new(file.disk.now_ms()),
            rejoining: Mutex::new(()),
            slot,
            incarnation: incarnation(),
            presence: Mutex::new(None),
            member: Mutex::new(None),
            is_alone: AtomicBool::new(false),
            durable: AtomicU64::new(0),
            relaxed: AtomicU64::new(0),
            given: AtomicU64::new(0),
            durable_root: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            background,
            file,
        }
    }

    pub(crate) fn slot<'a>(&self, sidecar: &'a Sidecar) -> Option<Slot<'a>> {
        let (index, _) = self.slot.as_ref()?;
        Some(sidecar.slot(*index))
    }

    /// Notes something there.
    pub(crate) fn note_in_slot(&self, sidecar: &Sidecar, note: impl FnOnce(Slot<'_>)) {
        if let Some(slot) = self.slot(sidecar) {
            note(slot);
        }
    }

    pub(crate) fn slot_is_alive(&self, index: usize) -> bool {
        if self.slot.as_ref().is_some_and(|(own, _)| *own == index) {
            return true;
        }
        matches!(self.disk.probe(SLOT + index as u64, 1), Ok(Some(_)))
    }

    pub(crate) fn known_sidecar(&self) -> Arc<Sidecar> {
        Arc::clone(&self.sidecar.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over the sidecar's hints; `false` if they do not say what readers may see.
    pub(crate) fn load_hints(&self, sidecar: &Sidecar) -> bool {
        let [durable, visible] = sidecar.durable_and_visible();
        self.raise_durable(durable.unwrap_or(0));
        self.relaxed.fetch_max(visible.unwrap_or(0), Ordering::AcqRel);
        // Read last: a root is published before what can be found only through it.
        let root = sidecar.root();
        self.raise_root(root.unwrap_or(0));
        durable.is_some() && visible.is_some() && root.is_some()
    }

    pub(crate) fn durable_lsn(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn raise_durable(&self, lsn: u64) {
        self.durable.fetch_max(lsn, Ordering::AcqRel);
    }

    pub(crate) fn given_lsn(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    pub(super) fn raise_given(&self, lsn: u64) {
        self.given.fetch_max(lsn, Ordering::AcqRel);
    }

    pub(crate) fn known_root(&self) -> u64 {
        self.durable_root.load(Ordering::Acquire)
    }

    pub(super) fn raise_root(&self, sequence: u64) {
        self.durable_root.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Newest LSN that readers see, as far as this process knows.
    pub(super) fn visible(&self) -> u64 {
        self.durable_lsn().max(self.relaxed.load(Ordering::Acquire))
    }

    /// Has the log read again from the root: frames that this process has read, and that were never durable, may
    /// be gone.
    pub(crate) fn forget_log(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn is_poisoned(&self, sidecar: &Sidecar) -> bool {
        self.poisoned.load(Ordering::Acquire) || sidecar.poisoned()
    }

    /// From now on only what was known to be durable counts as being on disk.
    pub(crate) fn poison(&self, sidecar: &Sidecar) {
        self.failures.fetch_add(1, Ordering::AcqRel);
        self.poisoned.store(true, Ordering::Release);
        sidecar.poison();
        sidecar.wake_flushed();
    }

    /// The error until the next write transaction has repaired a failed flush: the store accepts no commit before
    /// that.
    pub(crate) fn not_repaired(&self) -> Error {
        self.poisoned_error(NOT_REPAIRED)
    }

    /// The failed flushes known at this moment, for [`Engine::wait_durable_since`].
    pub(crate) fn failures(&self, sidecar: &Arc<Sidecar>) -> Failures {
        let own = self.failures.load(Ordering::Acquire);
        Failures { own, published: sidecar.failures(), sidecar: Arc::clone(sidecar) }
    }

    pub(crate) fn has_failed_since(&self, before: &Failures) -> bool {
        if before.own != self.failures.load(Ordering::Acquire) || before.published != before.sidecar.failures() {
            return true;
        }
        // Processes that have joined another sidecar since then count failures there, starting from zero.
        let sidecar = self.known_sidecar();
        !Arc::ptr_eq(&sidecar, &before.sidecar) && sidecar.failures() > 0
    }
}
