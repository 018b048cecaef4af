//! Making a store, joining it, recovering it, leaving it.
//!
//! Under OPEN, whoever finds no other process that may write is first: it reads the log to its end,
//! makes what it found durable, and sets the sidecar up anew. Nothing in the data file is changed by
//! that; what is not known durable may be written once more, byte for byte.

use crate::disk::format::{FIRST_USER_TABLE, LOG_BLOCK, Ptr, SLOT_SIZE, TreeRoot};
use crate::disk::host::{incarnation, process_identity};
use crate::disk::locks::{ByteLock, FairLock, OPEN, PRESENCE, SLOT, WRITABLE, lock, try_lock};
use crate::disk::pins::Pins;
use crate::disk::platform::{Disk, LockMode, Mapping};
use crate::disk::root::{Root, Segment, Slots, read_slots};
use crate::disk::sidecar::{PrivateMemory, SIDECAR_SIZE, SLOTS, Sidecar, TailHint};
use crate::engine::append::Appender;
use crate::engine::checkpoint::Plan;
use crate::engine::doubt::Told;
use crate::engine::janitor::Janitor;
use crate::engine::view::ViewState;
use crate::engine::{Engine, MIN_LOG, Settings};
use crate::error::{Error, Result};
use crate::log::ring::Ring;
use crate::log::walk::{Point, Walker};
use crate::tree::pages::Verified;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The smallest map, in bytes of address space: a growing store is not mapped again at every step.
const MIN_MAP: u64 = 1 << 30;
/// Pages that a leaving process moves down at most, so that closing stays quick.
const COMPACT_ON_LEAVING: usize = 512;

/// Writes an empty store into an empty file, durably.
pub(crate) fn create(disk: &dyn Disk, page_size: u32, store_id: [u8; 16]) -> Result<()> {
    let first = Root::first_page(page_size);
    let log_pages = u32::try_from(MIN_LOG / u64::from(page_size)).unwrap_or(1).max(1);
    let page_count = u64::from(first + log_pages);
    let root = Root {
        page_size,
        store_id,
        sequence: 1,
        checkpoint_lsn: 0,
        log_position: LOG_BLOCK,
        log_crc: 0,
        log_offset: 0,
        segments: vec![Segment { page: first, pages: log_pages }],
        catalog: TreeRoot::default(),
        free_directory: Ptr::NONE,
        pending: Ptr::NONE,
        page_count,
        next_table: FIRST_USER_TABLE,
        time: 0,
        last_commit: 0,
    };
    let io = |op| move |e| Error::io(op, disk.path(), e);
    let page_size = u64::from(page_size);
    disk.set_len(page_count * page_size).map_err(io("set the length"))?;
    let log_start = u64::from(first) * page_size;
    disk.allocate(log_start, page_count * page_size - log_start).map_err(io("allocate"))?;
    disk.write_at(&root.encode(), Root::slot_offset(root.sequence)).map_err(io("write a root slot"))?;
    disk.flush().map_err(io("flush"))
}

impl Engine {
    /// Joins the store in this file.
    pub(crate) fn open(disk: Arc<dyn Disk>, settings: Settings) -> Result<Arc<Engine>> {
        let started = Instant::now();
        let writable = disk.writable();
        let deadline = started.checked_add(settings.timeout);
        let mode = if writable { LockMode::Exclusive } else { LockMode::Shared };
        let open = ByteLock::take(&disk, OPEN, mode, "open", deadline)?;
        let io = |op| {
            let path = disk.path().to_path_buf();
            move |e| Error::io(op, path, e)
        };
        let first = disk.probe(WRITABLE, 1).map_err(io("look for others"))?.is_none();
        // Read only now: whoever was the last may have folded the log, and gone, a moment ago.
        let slots = find_slots(&*disk)?;
        let (certain, root) = (slots.are_twins(), slots.newest);
        let mut presence = Vec::new();
        let bytes: &[u64] = if writable { &[PRESENCE, WRITABLE] } else { &[PRESENCE] };
        for byte in bytes {
            presence.push(ByteLock::take(&disk, *byte, LockMode::Shared, "presence", deadline)?);
        }
        let slot = if writable { take_slot(&disk)? } else { None };
        let private = Sidecar::new(Arc::new(PrivateMemory::new()), &root.store_id);
        private.set_up();
        let (page_size, store_id, store_tag) = (root.page_size, root.store_id, root.store_tag());
        let root = Arc::new(root);
        let engine = Arc::new_cyclic(|weak| Engine {
            page_size,
            store_id,
            store_tag,
            pins: Pins::new(Arc::clone(&disk)),
            verified: Arc::new(Verified::new()),
            sidecar: RwLock::new(Arc::new(private)),
            sidecar_seen_ms: AtomicU64::new(disk.now_ms()),
            rejoining: Mutex::new(()),
            slot,
            incarnation: incarnation(),
            presence: Mutex::new(presence),
            writer: Arc::new(FairLock::default()),
            checkpointing: Arc::new(FairLock::default()),
            syncing: Mutex::new(()),
            flushing: Mutex::new(()),
            appender: Mutex::new(Appender::new(Arc::clone(&root))),
            view: Mutex::new(ViewState::default()),
            map: Mutex::new(None),
            tables: Mutex::default(),
            durable: AtomicU64::new(0),
            relaxed: AtomicU64::new(0),
            durable_root: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            compacting: Mutex::new(None),
            janitor: Janitor::new(weak.clone()),
            fork_generation: crate::disk::fork::fork_generation(),
            left: AtomicBool::new(false),
            settings,
            disk: Arc::clone(&disk),
        });
        engine.watch_pins();
        if first {
            engine.recover(&root, certain)?;
        } else {
            engine.join_sidecar(true);
            engine.learn(&engine.sidecar());
            let root = engine.durable_root()?;
            *engine.appender() = Appender::new(Arc::new(root));
        }
        drop(open);
        if !first && writable {
            engine.write_doubtful_anew();
        }
        let took_us = started.elapsed().as_micros();
        tracing::debug!(path = %engine.path().display(), first, writable, took_us, "store opened");
        Ok(engine)
    }

    /// Nobody else may write: finds the log's end, makes it durable, and starts a new sidecar.
    fn recover(&self, root: &Arc<Root>, certain: bool) -> Result<()> {
        let ring = Ring::new(root);
        let mut appender = self.appender();
        let mut walker = Walker::new(&*self.disk, &ring, self.store_tag, appender.tail);
        let mut frames = 0_u64;
        while let Some(frame) = walker.next()? {
            appender.start = frame.header.position;
            frames += 1;
        }
        appender.tail = walker.point();
        walker.verify_end(root.sequence)?;
        let told = self.left_behind();
        if let Some(Told { durable, root: known_root, poisoned }) = told {
            if root.sequence > known_root && (poisoned || !certain) {
                let offset = Root::slot_offset(root.sequence);
                self.disk.write_at(&root.encode(), offset).map_err(self.io("write a root slot"))?;
            }
            if appender.tail.lsn > durable {
                self.write_frames_anew(&ring, Point::start_of(root), durable)?;
            }
        }
        // What a killed process wrote may lie in the system's cache only. From here on it counts.
        if (frames > 0 || told.is_some_and(|told| told.poisoned) || !certain)
            && let Err(e) = self.disk.flush()
            && self.disk.writable()
        {
            // (What the sidecar that is there tells is as true as before.)
            if told.is_none() && self.create_sidecar() {
                let sidecar = self.sidecar();
                sidecar.set_durable(root.checkpoint_lsn);
                sidecar.set_poisoned(true);
            }
            return Err(Error::io("flush", self.path(), e));
        }
        let (tail, start) = (appender.tail, appender.start);
        drop(appender);
        self.raise_root(root.sequence);
        self.raise_durable(tail.lsn);
        if self.disk.writable() {
            self.create_sidecar();
            let sidecar = self.sidecar();
            sidecar.set_root(root.sequence);
            sidecar.set_relaxed(0);
            sidecar.set_tables(tail.lsn);
            sidecar.set_tail(TailHint { end: tail.end, start, lsn: tail.lsn, crc: tail.crc, open: false });
            sidecar.set_durable(tail.lsn);
        }
        if frames > 0 {
            tracing::info!(frames, lsn = tail.lsn, "recovered: the log was read to its end");
        }
        Ok(())
    }

    // The sidecar.

    fn use_sidecar(&self, sidecar: Sidecar) {
        if let Some((index, _)) = &self.slot {
            let (pid, host, command) = process_identity();
            let slot = sidecar.slot(*index);
            if !slot.is_introduced_as(self.incarnation) {
                slot.introduce(self.incarnation, pid, &host, &command);
            }
            sidecar.raise_slot_bound(index + 1);
        }
        *self.sidecar.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sidecar);
        self.sidecar_seen_ms.store(self.disk.now_ms(), Ordering::Relaxed);
    }

    /// Starts a new sidecar. The caller holds OPEN. Where none can be had, everything works without.
    fn create_sidecar(&self) -> bool {
        match self.disk.sidecar(SIDECAR_SIZE, true) {
            Ok(memory) => {
                let sidecar = Sidecar::new(memory, &self.store_id);
                sidecar.set_up();
                sidecar.set_boot();
                self.use_sidecar(sidecar);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "no sidecar; other processes are found by looking at the file");
                false
            }
        }
    }

    /// Joins the sidecar that is there; starts one if there is none and `create`. The caller of the
    /// latter holds OPEN.
    fn join_sidecar(&self, create: bool) -> bool {
        if let Ok(memory) = self.disk.sidecar(SIDECAR_SIZE, false) {
            let sidecar = Sidecar::new(memory, &self.store_id);
            if sidecar.is_ours() && sidecar.is_current() {
                self.use_sidecar(sidecar);
                return true;
            }
        }
        create && self.disk.writable() && self.create_sidecar()
    }

    /// The sidecar was deleted, cut, or overwritten: joins the one that others started, or starts one.
    /// Readers do not wait for whoever is doing the same (`wait` = false).
    pub(crate) fn rejoin_sidecar(&self, wait: bool) -> bool {
        let Some(_one) = try_lock(&self.rejoining) else {
            if wait {
                drop(lock(&self.rejoining));
                return self.sidecar().is_current();
            }
            return false;
        };
        if self.join_sidecar(false) {
            return true;
        }
        if !self.disk.writable() {
            return false;
        }
        let open = if wait {
            ByteLock::take(&self.disk, OPEN, LockMode::Exclusive, "open", self.deadline()).ok()
        } else {
            ByteLock::try_take(&self.disk, OPEN, LockMode::Exclusive).ok().flatten()
        };
        let joined = open.is_some() && self.join_sidecar(true);
        if joined {
            tracing::info!("the sidecar was lost; joined a new one");
        }
        joined
    }

    pub(crate) fn slot_is_alive(&self, index: usize) -> bool {
        if self.slot.as_ref().is_some_and(|(own, _)| *own == index) {
            return true;
        }
        matches!(self.disk.probe(SLOT + index as u64, 1), Ok(Some(_)))
    }

    // The map.

    /// A map of at least so many pages, with room to grow.
    pub(crate) fn mapping(&self, pages: u64) -> Result<Option<Arc<dyn Mapping>>> {
        let need = pages * u64::from(self.page_size);
        let mut map = lock(&self.map);
        if let Some(map) = &*map
            && map.bytes().len() as u64 >= need
        {
            return Ok(Some(Arc::clone(map)));
        }
        let roomy = (need * 2).next_power_of_two().max(MIN_MAP);
        // An address space limit may refuse the room to grow.
        let found = match self.disk.map(roomy) {
            Ok(Some(map)) => Some(map),
            Ok(None) | Err(_) => self.disk.map(need).map_err(self.io("map"))?,
        };
        map.clone_from(&found);
        Ok(found)
    }

    // Leaving.

    /// Flushes what is not durable, folds the log if this process is the last that may write, and lets go.
    pub(crate) fn leave(&self) -> Result<()> {
        if self.left.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // A forked child has none of the threads that it would wait for.
        if self.check_process().is_err() {
            return Ok(());
        }
        self.janitor.stop();
        let result = if self.disk.writable() { self.leave_tidily() } else { Ok(()) };
        self.relax_view(0);
        lock(&self.presence).clear();
        tracing::debug!(path = %self.path().display(), "store closed");
        result
    }

    fn leave_tidily(&self) -> Result<()> {
        // Our own look at an old version must not keep its pages.
        self.relax_view(0);
        let relaxed = self.relaxed.load(Ordering::Acquire);
        if relaxed > self.durable_lsn() {
            self.wait_durable(relaxed, self.deadline())?;
        }
        let alone =
            || -> Result<bool> { Ok(self.disk.probe(WRITABLE, 1).map_err(self.io("look for others"))?.is_none()) };
        if !alone()? {
            return Ok(());
        }
        if let Some(turn) = self.try_lock_checkpoint()? {
            let mut plan = Plan { shrink: true, compact: COMPACT_ON_LEAVING, ..Plan::default() };
            // What a checkpoint sets free can be used, or cut off, only by the next one.
            turn.run(&plan, self.deadline())?;
            plan.force = true;
            for _ in 0..3 {
                if !turn.could_shrink()? {
                    break;
                }
                turn.run(&plan, self.deadline())?;
            }
            turn.write_twin()?;
        }
        let soon = Instant::now().checked_add(Duration::from_millis(500));
        let _one = lock(&self.rejoining);
        let Ok(_open) = ByteLock::take(&self.disk, OPEN, LockMode::Exclusive, "open", soon) else { return Ok(()) };
        let others = self.disk.probe(PRESENCE, 2).map_err(self.io("look for others"))?;
        if others.is_none() {
            let _ = self.disk.remove_sidecar();
        }
        Ok(())
    }
}

/// The roots, of a file that is as long as the newest one says.
fn find_slots(disk: &dyn Disk) -> Result<Slots> {
    let mut prefix = vec![0; 2 * SLOT_SIZE];
    let mut last = None;
    loop {
        let n = disk.read_at(&mut prefix, 0).map_err(|e| Error::io("read the root slots", disk.path(), e))?;
        let slots = read_slots(prefix.get(..n).unwrap_or_default(), disk.path())?;
        let len = disk.len().map_err(|e| Error::io("read the length", disk.path(), e))?;
        let root = &slots.newest;
        if len >= root.page_count * u64::from(root.page_size) {
            return Ok(slots);
        }
        // A checkpoint may have cut the file since the slots were read. Then they say something else now.
        if last == Some(root.sequence) {
            let expected = format!("{} pages of {} bytes", root.page_count, root.page_size);
            let found = format!("a file of {len} bytes");
            return Err(Error::corrupt("file", len, None, expected, found).in_file(disk.path()));
        }
        last = Some(root.sequence);
    }
}

fn take_slot(disk: &Arc<dyn Disk>) -> Result<Option<(usize, ByteLock)>> {
    for index in 0..SLOTS {
        if let Some(kernel) = ByteLock::try_take(disk, SLOT + index as u64, LockMode::Exclusive)? {
            return Ok(Some((index, kernel)));
        }
    }
    Ok(None)
}
