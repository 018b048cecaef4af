//! Creating, joining, recovering and leaving a store.
//!
//! Under OPEN, a process that finds no other writer is the first writer: it performs recovery, which reads the
//! log to its end, makes it durable, and sets up the sidecar. Recovery changes nothing in the data file; what is
//! not known to be durable may be rewritten byte for byte.

use crate::disk::format::FIRST_PAGE;
use crate::disk::host::unix_us;
use crate::disk::locks::{ByteLock, SLOT, lock};
use crate::disk::platform::{Disk, LockMode};
use crate::disk::root::{NewStore, Root, Slots, read_head, read_slots};
use crate::disk::sidecar::{SLOTS, TailHint};
use crate::engine::append::{Appender, Log};
use crate::engine::board::Board;
use crate::engine::checkpoint::CheckpointOptions;
use crate::engine::checkpoint_guard::CheckpointGuard;
use crate::engine::chores::Background;
use crate::engine::due::Due;
use crate::engine::file::OpenFile;
use crate::engine::left_behind::LeftBehind;
use crate::engine::move_down::Shortening;
use crate::engine::relaxed::Unflushed;
use crate::engine::roots::Roots;
use crate::engine::sharing::{OpenGuard, Others};
use crate::engine::view::Views;
use crate::engine::{Engine, MIN_LOG_PAGES, Settings, background};
use crate::error::{CorruptionKind, Error, Result};
use crate::log::reader::{LogReader, Point};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Most keys that a leaving process touches in one checkpoint to move pages down.
const COMPACT_ON_LEAVING: usize = 1 << 14;
/// The last process to leave begins no further checkpoint that moves pages down after this long.
const LEAVING_MS: u64 = 5000;

/// Writes an empty store into an empty file, durably.
pub(crate) fn create(disk: &dyn Disk, page_size: u32, store_id: [u8; 16]) -> Result<()> {
    create_for(disk, page_size, store_id, 0)
}

/// The same, of an application.
pub(crate) fn create_for(disk: &dyn Disk, page_size: u32, store_id: [u8; 16], application: u32) -> Result<()> {
    let root = Root::first(&NewStore { page_size, store_id, application, created: unix_us() }, MIN_LOG_PAGES);
    let io = |op| move |e| Error::io(op, disk.path(), e);
    let (log, len) = (u64::from(FIRST_PAGE * page_size), root.page_count * u64::from(page_size));
    disk.set_len(len).map_err(io("set the length"))?;
    disk.allocate(log, len - log).map_err(io("allocate"))?;
    disk.write_at(&root.encode(), root.offset()).map_err(io("write a root slot"))?;
    disk.flush().map_err(io("flush"))
}

impl Engine {
    /// Joins the store in this file.
    pub(crate) fn open(disk: Arc<dyn Disk>, settings: Settings) -> Result<Arc<Engine>> {
        let started = Instant::now();
        let writable = disk.writable();
        let deadline = started.checked_add(settings.timeout);
        let mode = if writable { LockMode::Exclusive } else { LockMode::Shared };
        let open = OpenGuard::take(&disk, mode, deadline)?;
        if let Some(found) = disk.lost_name() {
            // The file was replaced while its OPEN was waited for.
            return Err(Error::Moved { path: disk.path().to_path_buf(), found: found.to_owned() });
        }
        let others = Others::look(&*disk)?;
        others.must_be_here(&*disk)?;
        // Read only now: the last process may have checkpointed the log, and left, a moment ago.
        let slots = find_slots(&*disk)?;
        slots.newest.must_be_of(settings.application, disk.path())?;
        let certain = slots.are_copies();
        let engine = Engine::new(&disk, settings, slots.newest)?;
        engine.watch_pins();
        if !others.writers {
            engine.open_first(&open, certain)?;
        } else {
            engine.open_beside(&open)?;
        }
        drop(open);
        let (first, took_us) = (!others.writers, started.elapsed().as_micros());
        crate::trace::debug!(path = %engine.path().display(), first, writable, took_us, "store opened");
        Ok(engine)
    }

    /// A process' side of the store, with no knowledge yet, and not visible to other processes yet.
    fn new(disk: &Arc<dyn Disk>, settings: Settings, root: Root) -> Result<Arc<Engine>> {
        let slot = if disk.writable() { take_slot(disk)? } else { None };
        let file = OpenFile::new(disk, settings, &root);
        Ok(Arc::new_cyclic(|weak| {
            let engine = weak.clone();
            let board = Board::new(file, slot, Background::new(move || background::start(&engine)));
            Engine {
                views: Views::new(Log::new(Roots::new(board), root)),
                writer: Arc::default(),
                tables: Mutex::default(),
                unflushed_commits: Unflushed::default(),
                compacting: Mutex::default(),
                space_of_log: Mutex::default(),
                #[cfg(test)]
                spaces_loaded: Default::default(),
                left: AtomicBool::new(false),
            }
        }))
    }

    /// For the first to open: no other process may write.
    fn open_first(&self, open: &OpenGuard, certain: bool) -> Result<()> {
        let left = self.left_behind();
        if self.disk.writable() && self.start_sidecar(open, true)?.is_err() {
            self.is_alone.store(true, Ordering::Release);
        }
        // Only now, when the hints of the previous processes are cleared: a reader that finds a writer trusts the
        // hints.
        self.appear()?;
        let recovered = self.recover(certain, left);
        let sidecar = self.known_sidecar();
        if recovered.is_err() && left.is_none() && !sidecar.poisoned() {
            // Nothing was written: no sidecar is left beside a file that cannot be opened.
            let _ = sidecar.memory().remove();
        }
        recovered
    }

    fn open_beside(&self, open: &OpenGuard) -> Result<()> {
        self.appear()?;
        if !self.join_sidecar()?
            && self.disk.writable()
            && let Err(why) = self.start_sidecar(open, false)?
        {
            return Err(self.without_sidecar(&why));
        }
        self.load_hints(&self.known_sidecar());
        let root = self.durable_root()?;
        *self.appender() = Appender::new(Arc::new(root));
        Ok(())
    }

    /// Recovery: no other process may write. Finds the log's end, makes it durable, and publishes it.
    fn recover(&self, certain: bool, left: Option<LeftBehind>) -> Result<()> {
        let root = Arc::clone(&self.appender().root);
        let found = self.log_end(&root)?;
        let note = self.durable_note()?;
        let noted = note.is_some_and(|note| note.is_of(found.lsn, found.crc));
        // Without a sidecar the note alone says that no newer root is hidden by a failed flush.
        let hides_none = !self.disk.writable() || note.is_some_and(|note| note.root == root.sequence);
        let unheard = LeftBehind { making: if hides_none { 0 } else { u64::MAX }, ..LeftBehind::default() };
        let mut left = left.unwrap_or(unheard);
        if noted {
            left.durable = left.durable.max(found.lsn);
        }
        if self.disk.writable() {
            self.rewrite_left_behind(&root, left, certain, found.lsn)?;
        }
        let sidecar = self.known_sidecar();
        // What a killed process wrote may be in the system's cache only. From here on it counts.
        if (found.lsn > root.checkpoint_lsn && !noted || left.distrusts_slots(&root) || !certain)
            && let Err(e) = self.disk.flush()
            && self.disk.writable()
        {
            // From this, or from the previous hints, the next process to open knows what to rewrite.
            sidecar.publish_all(&sidecar.words_before(), left.root, left.durable.max(root.checkpoint_lsn), 0);
            sidecar.poison();
            return Err(Error::io("flush", self.path(), e));
        }
        // After a failed flush, what was rewritten may have been older bytes already.
        let end = self.log_end(&root)?;
        self.proven.store(true, Ordering::Release);
        self.proven_roots.store(self.disk.writable(), Ordering::Release);
        self.raise_root(root.sequence);
        self.raise_durable(end.lsn);
        if self.disk.writable() {
            // No LSN is given twice: read-only processes may still have frames that are gone. The first writer
            // passes over them.
            let newest = left.tail.map_or(0, |tail| tail.lsn).max(found.lsn).max(end.lsn);
            sidecar.set_tail(TailHint { lsn: newest, ..end });
            if newest > end.lsn {
                self.poison(&sidecar);
            }
            sidecar.rise_tables(newest);
            sidecar.settle_making(root.sequence);
            sidecar.publish_all(&sidecar.words_before(), root.sequence, end.lsn, end.lsn);
            sidecar.wake_changed();
        }
        if end.lsn > root.checkpoint_lsn {
            crate::trace::info!(lsn = end.lsn, "recovered: the log was read to its end");
        }
        Ok(())
    }

    /// Walks to the log's end, which is verified, and notes it for the appenders of this process.
    fn log_end(&self, root: &Root) -> Result<TailHint> {
        let mut appender = self.appender();
        let ring = Arc::clone(&appender.ring);
        let mut reader = LogReader::new(&*self.disk, &ring, self.store_tag, Point::start_of(root));
        while let Some(frame) = reader.next()? {
            appender.start = frame.header.position;
        }
        appender.tail = reader.point();
        reader.verify_end(root.sequence)?;
        let Point { end, crc, lsn } = appender.tail;
        Ok(TailHint { end, start: appender.start, lsn, crc, open: false })
    }

    // Leaving.

    /// Flushes what is not durable, and leaves the store. The last process that may write checkpoints the log if that
    /// is worth it, and otherwise notes that the log is durable, so that the next one to open need not flush it.
    pub(crate) fn leave(&self) -> Result<()> {
        if self.left.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // A forked child has none of the threads that this would wait for.
        if self.check_process().is_err() {
            return Ok(());
        }
        // A killed process of the simulation unwinds through here, and does nothing more.
        if cfg!(test) && std::thread::panicking() {
            return Ok(());
        }
        self.background.stop();
        let result = if self.disk.writable() {
            let flushed = self.flush_all();
            flushed.and(self.leave_tidily())
        } else {
            Ok(())
        };
        self.relax_view(0);
        *lock(&self.presence) = None;
        *lock(&self.member) = None;
        crate::trace::debug!(path = %self.path().display(), "store closed");
        result
    }

    fn leave_tidily(&self) -> Result<()> {
        // This process' own pin of an old version must not keep its pages.
        self.relax_view(0);
        if self.has_writers()? {
            return Ok(());
        }
        if let Some(turn) = self.try_lock_checkpoint()? {
            let due = self.checkpoint_due()?;
            // The tree version that was looked at must not keep its pages.
            self.relax_view(0);
            if due == Due::Now {
                self.checkpoint_on_leaving(&turn)?;
            }
            turn.write_copy()?;
            self.note_durable(&turn)?;
        }
        let soon = Instant::now().checked_add(Duration::from_millis(500));
        let _one = lock(&self.rejoining);
        let Ok(_open) = OpenGuard::take(&self.disk, LockMode::Exclusive, soon) else { return Ok(()) };
        if Others::look(&*self.disk)?.nobody() {
            let _ = self.known_sidecar().memory().remove();
        }
        Ok(())
    }

    fn checkpoint_on_leaving(&self, turn: &CheckpointGuard<'_>) -> Result<()> {
        let mut plan = CheckpointOptions { shrink: true, compact: COMPACT_ON_LEAVING, ..CheckpointOptions::default() };
        let until = self.disk.now_ms() + LEAVING_MS;
        let mut shortening = Shortening::by_checkpoints();
        shortening.note(self.run_checkpoint(turn, &plan, self.deadline())?.page_count);
        plan.force = true;
        // A process that comes meanwhile may need CHECKPOINT: the rest is left to it.
        while shortening.goes_on()
            && self.disk.now_ms() < until
            && self.could_shrink(turn, &plan)?
            && !self.has_writers()?
        {
            shortening.note(self.run_checkpoint(turn, &plan, self.deadline())?.page_count);
        }
        Ok(())
    }
}

/// The roots of a file that is as long as the newest root says.
fn find_slots(disk: &dyn Disk) -> Result<Slots> {
    let mut last = None;
    loop {
        let head = read_head(|bytes, at| disk.read_at(bytes, at));
        let slots = read_slots(&head.map_err(|e| Error::io("read the root slots", disk.path(), e))?, disk.path())?;
        if disk.writable() {
            slots.newest.check_writable(disk.path())?;
        }
        let len = disk.len().map_err(|e| Error::io("read the length", disk.path(), e))?;
        let root = &slots.newest;
        if len >= root.page_count * u64::from(root.page_size) {
            return Ok(slots);
        }
        // A checkpoint may have cut the file since the slots were read. Then the slots have changed.
        if last == Some(root.sequence) {
            let expected = format!("{} pages of {} bytes", root.page_count, root.page_size);
            let found = format!("a file of {len} bytes");
            return Err(Error::corrupt(CorruptionKind::File, len, None, expected, found).in_file(disk.path()));
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
