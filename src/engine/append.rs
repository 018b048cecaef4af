//! The tail of the log, and appending frames to it.
//!
//! The holder of APPEND finds the true tail before it writes, and the file decides. It looks for a newer root in
//! the slots, and for frames behind the last known one: it starts at this process' own last position in the
//! chain, or at a sidecar's hint that the file confirms, and walks to the chain's end.

use crate::disk::host::unix_us;
use crate::disk::locks::{APPEND, ByteLock, Deadline, lock, try_lock};
use crate::disk::platform::LockMode;
use crate::disk::root::{Root, Slots, peek_sequence};
use crate::disk::sidecar::{Sidecar, TailHint, WordsBefore};
use crate::engine::board::Failures;
use crate::engine::roots::Roots;
use crate::error::{Error, LockKind, Result};
use crate::log::frame::{FRAME_HEADER, FrameBuilder, FrameHeader, FrameKind};
use crate::log::reader::{LogReader, Point, goes_on_elsewhere, seems_to_go_on};
use crate::log::ring::Ring;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Room that only the checkpoint record may use, so that a full log can always be checkpointed.
fn reserve(ring: &Ring) -> u64 {
    2 * ring.block()
}

/// What this process knows of the log's end. Read only while APPEND is held.
pub(crate) struct Appender {
    /// A durable root; its ring is the current one.
    pub(crate) root: Arc<Root>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) tail: Point,
    /// Where the last frame starts.
    pub(crate) start: u64,
    /// Whether the next frame may share a block with the last one: only if no flush may have
    /// covered that block.
    pub(crate) open: bool,
    /// [`Engine::forgotten`] when the tail was last searched for from a root.
    pub(crate) forgotten: u64,
    /// The newest change of the set of tables that this process has found in the log or in a hint.
    pub(crate) tables: u64,
}

impl Appender {
    pub(crate) fn new(root: Arc<Root>) -> Appender {
        let ring = Arc::new(Ring::new(&root));
        let tail = Point::start_of(&root);
        Appender { root, ring, tail, start: tail.end, open: false, forgotten: 0, tables: 0 }
    }

    /// Takes over a newer durable root.
    pub(crate) fn take_over(&mut self, root: Arc<Root>) {
        self.ring = Arc::new(Ring::new(&root));
        if root.checkpoint_lsn > self.tail.lsn {
            self.tail = Point::start_of(&root);
            self.start = self.tail.end;
            self.open = false;
        }
        self.root = root;
    }

    fn next_position(&self) -> u64 {
        if self.open { self.tail.end } else { self.ring.next_block(self.tail.end) }
    }

    /// Bytes of the log that the next checkpoint would free.
    pub(crate) fn used(&self) -> u64 {
        self.tail.end - self.ring.start().min(self.tail.end)
    }
}

/// The log, as this process appends to it and flushes it.
pub(crate) struct Log {
    roots: Roots,
    appender: Mutex<Appender>,
    pub(super) syncing: Mutex<()>,
    /// A flush of this process covers what other processes wrote before it opened the file.
    pub(super) proven: AtomicBool,
    /// How many flushes had ended, plus one, when a flusher was found to be stalled.
    pub(super) stalled: AtomicU64,
}

floor!(Log on Roots, in roots);

/// APPEND, held by one thread of this process.
///
/// When this is dropped, the kernel's lock is released first. Otherwise the next thread of this process would
/// find it held, by the same file description, and lose it a moment later without noticing.
pub(crate) struct AppendGuard<'a> {
    _kernel: ByteLock,
    pub(crate) state: MutexGuard<'a, Appender>,
    pub(crate) sidecar: Arc<Sidecar>,
    pub(crate) log: &'a Log,
    /// There is a newer root to build on, which cannot be confirmed before a failed flush is repaired; or frames
    /// that were published are gone.
    pub(crate) unsettled: bool,
    /// The failed flushes known before the tail was searched for.
    pub(crate) failures: Failures,
    /// The log continued behind the published tail.
    pub(crate) walked: bool,
}

/// A batch that the next flush covers.
pub(crate) struct Sealed {
    pub(crate) tail: Point,
    pub(crate) sidecar: Arc<Sidecar>,
}

/// Why a frame was not appended.
pub(crate) enum Appended {
    /// It is there, with this LSN.
    At(u64),
    /// A checkpoint must free space in the log first.
    NoRoom,
}

impl Log {
    pub(crate) fn new(roots: Roots, root: Root) -> Log {
        Log {
            roots,
            appender: Mutex::new(Appender::new(Arc::new(root))),
            syncing: Mutex::new(()),
            proven: AtomicBool::new(false),
            stalled: AtomicU64::new(0),
        }
    }

    pub(super) fn appender(&self) -> std::sync::MutexGuard<'_, Appender> {
        lock(&self.appender)
    }

    /// Takes APPEND and finds the true tail.
    pub(crate) fn lock_append(&self, deadline: Deadline) -> Result<AppendGuard<'_>> {
        let state = lock(&self.appender);
        let kernel = ByteLock::take(&self.disk, APPEND, LockMode::Exclusive, LockKind::Append, deadline)?;
        self.guard_append(state, kernel)
    }

    /// The same, unless another thread or process holds it.
    pub(crate) fn try_lock_append(&self) -> Result<Option<AppendGuard<'_>>> {
        let Some(state) = try_lock(&self.appender) else { return Ok(None) };
        let Some(kernel) = ByteLock::try_take(&self.disk, APPEND, LockMode::Exclusive)? else { return Ok(None) };
        self.guard_append(state, kernel).map(Some)
    }

    fn guard_append<'e>(&'e self, state: MutexGuard<'e, Appender>, kernel: ByteLock) -> Result<AppendGuard<'e>> {
        // Read only now: while APPEND is held, the sidecar that was started last is the one that the last
        // appender published to, or a newer one without hints.
        let (sidecar, joined) = self.newest_sidecar();
        let current = joined.is_ok();
        if let Err(why) = joined
            && !self.may_do_without_sidecar()?
        {
            return Err(why);
        }
        let failures = self.failures(&sidecar);
        let (unsettled, walked) = (false, false);
        let mut guard = AppendGuard { state, sidecar, log: self, unsettled, failures, walked, _kernel: kernel };
        guard.find_tail(current)?;
        // Without a sidecar no process could have published a flush.
        guard.state.open &= current;
        Ok(guard)
    }
}

impl AppendGuard<'_> {
    fn find_tail(&mut self, current: bool) -> Result<()> {
        let log = self.log;
        let before = self.sidecar.words_before();
        let hinted = log.load_hints(&self.sidecar);
        let forgotten = log.forgotten.load(Ordering::Acquire);
        if self.state.forgotten != forgotten {
            self.begin_again(Arc::clone(&self.state.root), forgotten);
        }
        let hinted_tail = self.sidecar.tail();
        let newer = self.newer_roots()?;
        if let Some(root) = newer.as_ref().and_then(|slots| log.certain_root(slots)) {
            self.build_on(root);
        }
        self.follow_hint()?;
        self.walk_on()?;
        if let Some(slots) = newer
            && self.settle_newer_root(slots.newest, hinted)?
        {
            self.follow_hint()?;
            self.walk_on()?;
        }
        self.put_tables_right(hinted_tail);
        if self.newest_given() > self.state.tail.lsn {
            // Frames that were given an LSN are gone: a flush failed, and its process died before it could publish
            // that.
            if !log.is_poisoned(&self.sidecar) {
                log.poison(&self.sidecar);
            }
            self.unsettled = true;
        } else if self.walked {
            self.publish();
        }
        // Frames that no sidecar of this process has published may have been acknowledged through another
        // sidecar.
        let unseen = || self.state.tail.lsn > log.visible() && log.disk.lost_name().is_some();
        let elsewhere = !current && (self.walked || unseen());
        if (!hinted || elsewhere) && !log.is_poisoned(&self.sidecar) {
            self.show_all(&before)?;
        }
        Ok(())
    }

    /// Makes a newer, unpublished root durable, and publishes it, if the log depends on it. Such a root may lay
    /// out the ring differently, hold a transaction of its own, or let the log continue beyond the older root's
    /// ring, and what is appended must fit it. Its writer held APPEND until it could publish, so it is dead, or
    /// has published to a sidecar that is gone. The same is done with any newer root if the sidecar gives no root
    /// at all: a root that was published elsewhere may be built upon, and the pages of the one before be reused.
    /// Returns whether the log continues from it.
    pub(crate) fn settle_newer_root(&mut self, newest: Root, hinted: bool) -> Result<bool> {
        let log = self.log;
        let known = &self.state.root;
        if newest.sequence <= known.sequence {
            return Ok(false);
        }
        let elsewhere = goes_on_elsewhere(&*log.disk, known, &newest, self.state.tail);
        if hinted && !elsewhere.map_err(log.io("read the log"))? {
            return Ok(false);
        }
        self.unsettled = log.is_poisoned(&self.sidecar);
        if self.unsettled {
            // Nothing can be confirmed here; the repair of the failed flush handles the root.
            return Ok(false);
        }
        log.rewrite_slot(&newest)?;
        log.flush_found()?;
        let sequence = newest.sequence;
        self.state.take_over(Arc::new(newest));
        self.publish_root();
        log.raise_root(sequence);
        Ok(true)
    }

    /// An older copy of the sidecar, written over it in place, gives an older set of tables than the one that
    /// this process has found. If its tail lies before the root, the root may hide a change.
    fn put_tables_right(&mut self, hinted_tail: Option<TailHint>) {
        let Some(hinted) = self.sidecar.tables() else { return };
        let checkpoint = self.state.root.checkpoint_lsn;
        let hidden = hinted_tail.is_some_and(|tail| tail.lsn < checkpoint);
        self.state.tables = self.state.tables.max(hinted).max(if hidden { checkpoint } else { 0 });
        if hinted < self.state.tables {
            self.sidecar.rise_tables(self.state.tables);
        }
    }

    /// The last transaction that changed the set of tables, if that is known for certain.
    pub(crate) fn tables(&self) -> Option<u64> {
        self.sidecar.tables().map(|hinted| hinted.max(self.state.tables))
    }

    fn publish_tables(&mut self, lsn: u64) {
        self.state.tables = self.state.tables.max(lsn);
        self.sidecar.rise_tables(lsn);
    }

    /// The slots, if they may hold a newer root than the one known here.
    fn newer_roots(&self) -> Result<Option<Slots>> {
        let log = self.log;
        let newest = peek_sequence(&*log.disk, log.page_size).map_err(log.io("read the root slots"))?;
        if newest <= self.state.root.sequence {
            return Ok(None);
        }
        let slots = log.slots()?;
        Ok((slots.newest.sequence > self.state.root.sequence).then_some(slots))
    }

    fn build_on(&mut self, root: Root) {
        if root.sequence > self.state.root.sequence {
            self.log.raise_root(root.sequence);
            self.state.take_over(Arc::new(root));
        }
    }

    /// Moves to the tail that the sidecar gives, if the file confirms it.
    fn follow_hint(&mut self) -> Result<()> {
        let log = self.log;
        let hint = self.sidecar.tail();
        let state = &mut *self.state;
        match hint {
            Some(hint) if hint.lsn > state.tail.lsn => {
                state.open = false;
                if confirms(log, &state.ring, &hint)? {
                    state.tail = Point { end: hint.end, crc: hint.crc, lsn: hint.lsn };
                    state.start = hint.start;
                    state.open = hint.open;
                }
            }
            Some(hint) if hint.lsn == state.tail.lsn && hint.crc == state.tail.crc => state.open = hint.open,
            _ => state.open = false,
        }
        // A flush may have covered the block, whatever the hint says.
        let flushed = log.durable_lsn().max(self.sidecar.flushed_unsealed());
        state.open &= flushed < state.tail.lsn;
        Ok(())
    }

    /// Walks to the chain's end, and publishes what dead processes did not live to publish.
    pub(crate) fn walk_on(&mut self) -> Result<()> {
        let log = self.log;
        let state = &mut *self.state;
        if !seems_to_go_on(&*log.disk, &state.ring, state.tail).map_err(log.io("read the log"))? {
            return Ok(());
        }
        let ring = Arc::clone(&state.ring);
        let mut reader = LogReader::new(&*log.disk, &ring, log.store_tag, state.tail);
        while let Some(frame) = reader.next()? {
            // A flush may have covered it.
            state.start = frame.header.position;
            state.tail = frame.after;
            state.open = false;
            self.walked = true;
            if frame.header.changes_tables {
                state.tables = state.tables.max(frame.header.lsn);
                self.sidecar.rise_tables(frame.header.lsn);
            }
        }
        Ok(())
    }

    /// Publishes a root that has just been confirmed, and that may hold a transaction without a frame.
    pub(crate) fn publish_root(&mut self) {
        self.publish_tables(self.state.root.checkpoint_lsn);
        self.publish();
    }

    /// A new sidecar, or a damaged one, does not say which commits readers may have seen. So everything found in
    /// the file is flushed, and becomes visible.
    fn show_all(&mut self, before: &WordsBefore) -> Result<()> {
        self.log.flush_found()?;
        self.state.open = false;
        self.publish();
        if self.sidecar.tables().is_none() {
            self.sidecar.rise_tables(self.state.tail.lsn);
        }
        self.sidecar.publish_all(before, self.state.root.sequence, self.log.durable_lsn(), self.state.tail.lsn);
        Ok(())
    }

    /// Releases the tail; returns the failed flushes known when something was appended.
    pub(crate) fn into_failures(self) -> Failures {
        self.failures
    }

    /// Whether a frame of at most this many bytes has room, whether or not the batch is sealed.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        let ring = &self.state.ring;
        ring.next_block(self.state.tail.end) + len.next_multiple_of(8) + reserve(ring) <= ring.end()
    }

    /// Appends a frame. On an error it is not in the log, unless that is [`Error::Unconfirmed`].
    pub(crate) fn append(&mut self, frame: &mut FrameBuilder, kind: FrameKind, relaxed: bool) -> Result<Appended> {
        let log = self.log;
        if self.unsettled || log.is_poisoned(&self.sidecar) {
            return Err(log.not_repaired());
        }
        let state = &mut *self.state;
        let position = state.next_position();
        let reserve = if kind == FrameKind::Checkpoint { 0 } else { reserve(&state.ring) };
        if position + frame.frame_len() + reserve > state.ring.end() {
            return Ok(Appended::NoRoom);
        }
        let lsn = state.tail.lsn + 1;
        let header = FrameHeader {
            previous_crc: state.tail.crc,
            kind,
            relaxed,
            changes_tables: frame.changes_tables(),
            lsn,
            position,
            root_sequence: state.root.sequence,
            durable_lsn: log.durable_lsn(),
            time: unix_us(),
            payload_len: frame.payload_len()?,
            operations: frame.operations(),
        };
        let (bytes, crc) = frame.finish(log.store_tag, &header);
        if let Err(e) = state.ring.write(&*log.disk, position, bytes) {
            // What was written may be a whole frame, which other processes may have read already.
            return match LogReader::new(&*log.disk, &state.ring, log.store_tag, state.tail).next() {
                Ok(None) => Err(Error::io("append to the log", log.path(), e)),
                _ => {
                    log.poison(&self.sidecar);
                    Err(log.unconfirmed(Error::io("append to the log", log.path(), e)))
                }
            };
        }
        state.tail = Point { end: position + bytes.len() as u64, crc, lsn };
        state.start = position;
        state.open = true;
        if frame.changes_tables() {
            self.publish_tables(lsn);
        }
        self.publish();
        if relaxed {
            self.show(lsn);
        }
        Ok(Appended::At(lsn))
    }

    /// Makes everything up to this LSN visible, durable or not. It is published before this process shows it, so
    /// that every later snapshot in another process includes it.
    fn show(&self, lsn: u64) {
        self.sidecar.rise_visible(lsn);
        self.log.relaxed.fetch_max(lsn, Ordering::AcqRel);
    }

    /// The newest LSN that was given to a frame, as far as this process knows.
    fn newest_given(&self) -> u64 {
        self.sidecar.tail().map_or(0, |tail| tail.lsn).max(self.log.given_lsn())
    }

    /// The newest LSN that was given, or published.
    pub(crate) fn newest_published(&self) -> u64 {
        let seen = self.sidecar.visible().unwrap_or(0).max(self.log.visible());
        self.state.tail.lsn.max(self.newest_given()).max(seen)
    }

    /// Sets the tail to where the log of a root starts. The LSNs up to the tail that was stay given.
    fn begin_again(&mut self, root: Arc<Root>, forgotten: u64) {
        self.log.raise_given(self.state.tail.lsn);
        let tables = self.state.tables;
        *self.state = Appender { forgotten, tables, ..Appender::new(root) };
    }

    /// Discards the tail, which may never have been durable, and searches for the chain's end from a durable
    /// root.
    pub(crate) fn start_over(&mut self, root: Root) -> Result<()> {
        let log = self.log;
        log.forget_log();
        let forgotten = log.forgotten.load(Ordering::Acquire);
        self.begin_again(Arc::new(root), forgotten);
        self.walk_on()?;
        self.sidecar.rise_root(self.state.root.sequence);
        self.sidecar.rise_tables(self.state.root.checkpoint_lsn);
        log.raise_root(self.state.root.sequence);
        Ok(())
    }

    /// Publishes that this many failed flushes are repaired, up to the tail.
    pub(crate) fn recovered(&mut self, failures: u64) -> Result<()> {
        self.unsettled = false;
        self.seal();
        self.log.poisoned.store(false, Ordering::Release);
        if self.sidecar.publish_repaired(failures) {
            return Ok(());
        }
        Err(self.log.poisoned_error("another flush failed meanwhile"))
    }

    /// Ends the batch: from now on the log may be flushed, so the next frame starts in a new block, and a torn
    /// write of that frame cannot damage this batch.
    pub(crate) fn seal(&mut self) -> Sealed {
        self.state.open = false;
        self.publish();
        Sealed { tail: self.state.tail, sidecar: Arc::clone(&self.sidecar) }
    }

    /// Publishes the tail, and the root that it belongs to: without the root, other processes would look for the
    /// tail's frames in an older ring.
    pub(crate) fn publish(&self) {
        if self.unsettled {
            // The published tail stays: it keeps its LSNs from being given twice.
            return;
        }
        let Appender { tail, start, open, .. } = *self.state;
        self.sidecar.set_tail(TailHint { end: tail.end, start, lsn: tail.lsn, crc: tail.crc, open });
        self.sidecar.rise_root(self.state.root.sequence);
    }
}

/// Whether the file holds the frame that a hint refers to. The hint was published after that frame was written in
/// full, so its header is proof enough.
fn confirms(log: &Log, ring: &Ring, hint: &TailHint) -> Result<bool> {
    if hint.start < ring.start() || hint.end > ring.end() || hint.start >= hint.end {
        return Ok(false);
    }
    let mut header = [0; FRAME_HEADER];
    ring.read(&*log.disk, hint.start, &mut header).map_err(log.io("read the log"))?;
    Ok(FrameHeader::decode(&header).is_some_and(|(header, crc)| {
        header.lsn == hint.lsn
            && header.position == hint.start
            && hint.start + header.frame_len() == hint.end
            && crc == hint.crc
    }))
}

#[cfg(test)]
#[path = "append_tests.rs"]
mod tests;
