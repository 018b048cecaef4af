//! The tail of the log, and putting frames there.
//!
//! Whoever appends holds APPEND, knows the true tail, and only then writes. The tail comes from
//! the file: from this process' own last place in the chain, or from a sidecar's hint that the
//! file confirms, followed by a walk to the chain's end.

use crate::disk::locks::{APPEND, ByteLock, Deadline, lock};
use crate::disk::platform::LockMode;
use crate::disk::root::Root;
use crate::disk::sidecar::{Sidecar, TailHint};
use crate::engine::Engine;
use crate::engine::flush::Sealed;
use crate::error::{Error, Result};
use crate::log::frame::{FRAME_HEADER, FrameBuilder, FrameHeader, FrameKind};
use crate::log::ring::{Ring, next_block};
use crate::log::walk::{Point, Walker};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

/// Room that only the mark of a checkpoint may use, so that a full log can always be folded.
const RESERVE: u64 = 2 * 4096;

/// What this process knows of the log's end. Only looked at while APPEND is held.
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
}

impl Appender {
    pub(crate) fn new(root: Arc<Root>) -> Appender {
        let ring = Arc::new(Ring::new(&root));
        let tail = Point::start_of(&root);
        Appender { root, ring, tail, start: tail.end, open: false }
    }

    /// Takes over a newer durable root.
    pub(crate) fn adopt(&mut self, root: Arc<Root>) {
        self.ring = Arc::new(Ring::new(&root));
        if root.checkpoint_lsn > self.tail.lsn {
            self.tail = Point::start_of(&root);
            self.start = self.tail.end;
            self.open = false;
        }
        self.root = root;
    }

    fn next_position(&self) -> u64 {
        if self.open { self.tail.end } else { next_block(self.tail.end) }
    }

    /// Bytes of the log that the next checkpoint would set free.
    pub(crate) fn used(&self) -> u64 {
        self.tail.end - self.ring.start().min(self.tail.end)
    }
}

/// The tail, held by this thread of this process alone.
///
/// The kernel's lock goes first when this is dropped. The other way round the next thread of this
/// process would find it held, by the same description, and a moment later have lost it unawares.
pub(crate) struct AppendGuard<'a> {
    _kernel: ByteLock,
    pub(crate) state: MutexGuard<'a, Appender>,
    pub(crate) sidecar: Arc<Sidecar>,
    engine: &'a Engine,
    /// A newer root may be the one to build on, and nobody can confirm it before a failed flush is mended.
    in_doubt: bool,
}

/// Why a frame was not appended.
pub(crate) enum Appended {
    /// It is there, with this LSN.
    At(u64),
    /// The log must be folded first.
    NoRoom,
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

impl Engine {
    /// Takes APPEND and finds the true tail.
    pub(crate) fn lock_append(&self, deadline: Deadline) -> Result<AppendGuard<'_>> {
        let state = lock(&self.appender);
        let kernel = ByteLock::take(&self.disk, APPEND, LockMode::Exclusive, "append", deadline)?;
        // Looked at only now: a sidecar that is current while APPEND is held is the one that
        // the last appender published to, or a newer one that says nothing.
        let (sidecar, current) = self.current_sidecar();
        let mut guard = AppendGuard { state, sidecar, engine: self, in_doubt: false, _kernel: kernel };
        guard.find_tail()?;
        // Without a sidecar nobody could have told us of a flush.
        guard.state.open &= current;
        Ok(guard)
    }
}

impl AppendGuard<'_> {
    fn find_tail(&mut self) -> Result<()> {
        let engine = self.engine;
        let told = engine.learn(&self.sidecar);
        let known = self.state.root.sequence;
        let unsure = !told || self.sidecar.root() != Some(known) || engine.known_root() > known;
        // (While a flush that failed is not mended nothing can be confirmed; whoever mends it sees to the root.)
        self.in_doubt = unsure && engine.is_poisoned(&self.sidecar);
        if unsure && !self.in_doubt {
            // Somebody may have died before telling of a root that changes the ring or the LSN: what
            // is appended must fit it, so it must be durable, and then it is the one to build on.
            let root = engine.confirm_root()?;
            if root.sequence > self.state.root.sequence {
                self.state.adopt(Arc::new(root));
            }
            // Whoever cannot confirm it, since a flush failed meanwhile, must be able to follow.
            self.sidecar.set_root(self.state.root.sequence);
        }
        let hint = self.sidecar.tail();
        let state = &mut *self.state;
        match hint {
            Some(hint) if hint.lsn > state.tail.lsn => {
                state.open = false;
                if confirms(engine, &state.ring, &hint)? {
                    state.tail = Point { end: hint.end, crc: hint.crc, lsn: hint.lsn };
                    state.start = hint.start;
                    state.open = hint.open;
                }
            }
            Some(hint) if hint.lsn == state.tail.lsn && hint.crc == state.tail.crc => state.open = hint.open,
            _ => state.open = false,
        }
        let ring = Arc::clone(&state.ring);
        let mut walker = Walker::new(&*engine.disk, &ring, engine.store_tag, state.tail);
        while let Some(frame) = walker.next()? {
            // Appended by somebody who did not live to publish it. A flush may have covered it.
            state.start = frame.header.position;
            state.tail = frame.after;
            state.open = false;
            if frame.header.changes_tables {
                self.sidecar.set_tables(frame.header.lsn);
            }
        }
        if self.sidecar.relaxed().is_none() && !engine.is_poisoned(&self.sidecar) {
            // A new sidecar, or a spoilt one: it does not tell which relaxed commits readers may have
            // seen. So all that is here is made durable, and may be seen.
            engine.flush_found()?;
            state.open = false;
            self.sidecar.set_relaxed(state.tail.lsn);
        }
        Ok(())
    }

    /// Whether a frame of at most so many bytes has room, sealed batch or not.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        next_block(self.state.tail.end) + len.next_multiple_of(8) + RESERVE <= self.state.ring.end()
    }

    /// Appends a frame. On an error it is not in the log, unless that is [`Error::Unconfirmed`].
    pub(crate) fn append(&mut self, frame: &mut FrameBuilder, kind: FrameKind, relaxed: bool) -> Result<Appended> {
        let engine = self.engine;
        if self.in_doubt {
            return Err(engine.unmended());
        }
        let state = &mut *self.state;
        let position = state.next_position();
        let reserve = if kind == FrameKind::Rotate { 0 } else { RESERVE };
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
            durable_lsn: engine.durable_lsn(),
            time: now_us(),
            payload_len: frame.payload_len()?,
            operations: frame.operations(),
        };
        let (bytes, crc) = frame.finish(engine.store_tag, &header);
        if let Err(e) = state.ring.write(&*engine.disk, position, bytes) {
            // What was written of it may be whole, and then others may have read it already.
            return match Walker::new(&*engine.disk, &state.ring, engine.store_tag, state.tail).next() {
                Ok(None) => Err(Error::io("append to the log", engine.path(), e)),
                _ => {
                    engine.poison(&self.sidecar);
                    Err(engine.unconfirmed(Error::io("append to the log", engine.path(), e)))
                }
            };
        }
        state.tail = Point { end: position + bytes.len() as u64, crc, lsn };
        state.start = position;
        state.open = true;
        if frame.changes_tables() {
            self.sidecar.set_tables(lsn);
        }
        if relaxed {
            self.show(lsn);
        }
        self.publish();
        Ok(Appended::At(lsn))
    }

    /// Lets readers see everything up to this LSN, whether or not it was told to be durable.
    pub(crate) fn show(&self, lsn: u64) {
        self.engine.relaxed.fetch_max(lsn, Ordering::AcqRel);
        self.sidecar.set_relaxed(self.sidecar.relaxed().unwrap_or(0).max(lsn));
    }

    /// Ends the batch: from here on what is in the log may be flushed, so the next frame starts in
    /// a new block, and a torn write of it cannot touch this one.
    pub(crate) fn seal(&mut self) -> Sealed {
        self.state.open = false;
        self.publish();
        Sealed { tail: self.state.tail, sidecar: Arc::clone(&self.sidecar) }
    }

    /// Tells the others where the tail is.
    pub(crate) fn publish(&self) {
        let Appender { tail, start, open, .. } = *self.state;
        self.sidecar.set_tail(TailHint { end: tail.end, start, lsn: tail.lsn, crc: tail.crc, open });
    }
}

/// Whether the file holds the frame that a hint speaks of. The hint was published after that
/// frame was written in full, so its header is proof enough.
fn confirms(engine: &Engine, ring: &Ring, hint: &TailHint) -> Result<bool> {
    if hint.start < ring.start() || hint.end > ring.end() || hint.start >= hint.end {
        return Ok(false);
    }
    let mut header = [0; FRAME_HEADER];
    ring.read(&*engine.disk, hint.start, &mut header).map_err(engine.io("read the log"))?;
    Ok(FrameHeader::decode(&header).is_some_and(|(header, crc)| {
        header.lsn == hint.lsn
            && header.position == hint.start
            && hint.start + header.frame_len() == hint.end
            && crc == hint.crc
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::locks::try_lock;
    use crate::disk::sim::{Call, Conductor, Verdict};
    use crate::proof::new_store;
    use std::sync::Mutex;

    type Look = Box<dyn Fn() -> bool + Send>;

    /// Looks at something each time a kernel lock is about to be given back.
    #[derive(Default)]
    struct AtUnlock(Mutex<(Option<Look>, Vec<bool>)>);

    impl Conductor for AtUnlock {
        fn before(&self, _: usize, call: Call) -> Verdict {
            let (look, seen) = &mut *self.0.lock().unwrap();
            if let (Call::Unlock, Some(look)) = (call, look) {
                seen.push(look());
            }
            Verdict::Go
        }
    }

    #[test]
    fn whoever_gives_a_kernel_lock_back_still_owns_it_within_the_process() {
        let conductor = Arc::new(AtUnlock::default());
        let (_, _, store) = new_store(Arc::clone(&conductor) as _, 1 << 20);
        let engine = store.engine();
        let seen = |look: fn(&Engine) -> bool, take_and_drop: &dyn Fn()| {
            let engine = Arc::clone(engine);
            *conductor.0.lock().unwrap() = (Some(Box::new(move || look(&engine))), Vec::new());
            take_and_drop();
            std::mem::take(&mut *conductor.0.lock().unwrap()).1
        };
        let append = seen(|engine| try_lock(&engine.appender).is_none(), &|| drop(engine.lock_append(None).unwrap()));
        assert_eq!(append, [true]);
        let sync = seen(|engine| try_lock(&engine.syncing).is_none(), &|| drop(engine.lock_sync(None).unwrap()));
        assert_eq!(sync, [true]);
        let writer = seen(|engine| engine.writer.try_take().is_none(), &|| drop(engine.take_writer(None).unwrap()));
        assert_eq!(writer, [true]);
        let checkpoint =
            seen(|engine| engine.checkpointing.try_take().is_none(), &|| drop(engine.lock_checkpoint(None).unwrap()));
        assert_eq!(checkpoint, [true]);
    }
}
