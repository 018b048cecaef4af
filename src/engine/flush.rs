//! Durability: one flush for all that wait, of every process.
//!
//! A commit waits until the durable LSN covers it. A process that gets SYNC flushes for
//! everybody: seals the batch, flushes, publishes, wakes all. The others sleep for a moment and can
//! always take the flusher's place, or flush beside one that was stopped, so SYNC decides only who
//! flushes, never what is durable.
//!
//! After a failed flush the kernel may have dropped the pages it could not write while it still
//! shows them. So nothing is believed to be on disk that was not known durable before: the store
//! is poisoned until every frame since then has been written anew and flushed.

use crate::disk::format::LOG_BLOCK;
use crate::disk::locks::{ByteLock, Deadline, SYNC, lock, try_lock};
use crate::disk::platform::LockMode;
use crate::disk::root::Slots;
use crate::disk::sidecar::{Counter, Sidecar};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::log::ring::{Ring, next_block};
use crate::log::walk::{Point, Walker};
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

/// How long a follower sleeps before it looks whether there still is a flusher.
const LOOK: Duration = Duration::from_millis(5);
/// A flusher that takes so many times as long as flushes took of late is taken for one that was stopped, within bounds.
const STALLED_TIMES: u32 = 8;
const STALLED: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(1);
const UNMENDED: &str = "an earlier flush failed; the next write mends it";

/// The right to flush for everybody. (The kernel's lock goes first: whoever gets the other one next finds it free.)
pub(crate) struct SyncGuard<'e> {
    _kernel: ByteLock,
    _process: MutexGuard<'e, ()>,
}

/// A batch that the next flush covers.
pub(crate) struct Sealed {
    pub(crate) tail: Point,
    pub(crate) sidecar: Arc<Sidecar>,
}

impl Engine {
    /// Returns when the transaction `lsn` and all before it are durable: flushes for all, or waits for the
    /// process that does so, or, if that one does not move on, flushes beside it. There is no deadline but
    /// for the locks, for what is in the log already has a fate that only a flush decides.
    pub(crate) fn wait_durable(&self, lsn: u64) -> Result<()> {
        let (mut flushes, mut since) = (None, self.disk.now_ms());
        loop {
            let sidecar = self.sidecar();
            let seen = sidecar.flushed_word();
            self.learn(&sidecar);
            if self.durable_lsn() >= lsn {
                return Ok(());
            }
            if self.is_poisoned(&sidecar) {
                return Err(self.poisoned_error("the flush that was to cover it failed"));
            }
            if self.try_flush()? {
                continue;
            }
            let ended = sidecar.flushes();
            if flushes.replace(ended) != Some(ended) {
                since = self.disk.now_ms();
            }
            if self.is_stalled(&sidecar, ended, since) {
                self.flush_beside()?;
                continue;
            }
            // Simulated time passes only in calls of the platform, which memory of this process alone makes none of.
            #[cfg(test)]
            if sidecar.memory().id() == 0 {
                self.disk.sleep(LOOK);
                continue;
            }
            sidecar.wait_flushed(seen, LOOK);
        }
    }

    /// Flushes for everybody, whether or not another process is doing so.
    pub(crate) fn flush_beside(&self) -> Result<()> {
        let sealed = self.lock_append_to_seal(self.patient_deadline())?.seal();
        self.flush_sealed(&sealed)
    }

    /// Whether the holder of SYNC has taken longer than a flush takes. Once found so it counts as stopped until
    /// it ends a flush, so that only one commit has to find out.
    fn is_stalled(&self, sidecar: &Sidecar, ended: u64, since: u64) -> bool {
        if self.stalled.load(Ordering::Relaxed) == ended + 1 {
            return true;
        }
        let usual = sidecar.flush_time().unwrap_or(*STALLED.end()) * STALLED_TIMES;
        let limit = usual.clamp(*STALLED.start(), *STALLED.end());
        let stalled = u128::from(self.disk.now_ms().saturating_sub(since)) > limit.as_millis();
        if stalled {
            self.stalled.store(ended + 1, Ordering::Relaxed);
        }
        stalled
    }

    /// Flushes for everybody, unless another process is doing so already.
    fn try_flush(&self) -> Result<bool> {
        let Some(sync) = self.try_lock_sync()? else { return Ok(false) };
        let sealed = self.lock_append_to_seal(self.patient_deadline())?.seal();
        self.flush_unless_covered(&sync, &sealed)?;
        Ok(true)
    }

    /// The same without waiting for any lock.
    pub(crate) fn flush_if_free(&self) -> Result<()> {
        if self.proven.load(Ordering::Acquire)
            && let Some(sync) = self.try_lock_sync()?
            && let Some(mut append) = self.try_lock_append()?
        {
            let sealed = append.seal();
            drop(append);
            self.flush_unless_covered(&sync, &sealed)?;
        }
        Ok(())
    }

    /// The flusher before may have covered everything while the lock was taken.
    fn flush_unless_covered(&self, sync: &SyncGuard<'_>, sealed: &Sealed) -> Result<()> {
        if sealed.tail.lsn > self.durable_lsn() || sealed.sidecar.durable().is_none() {
            self.flush_batch(sync, sealed)?;
        }
        Ok(())
    }

    /// Takes SYNC if nobody has it.
    pub(crate) fn try_lock_sync(&self) -> Result<Option<SyncGuard<'_>>> {
        let Some(process) = try_lock(&self.syncing) else { return Ok(None) };
        let kernel = ByteLock::try_take(&self.disk, SYNC, LockMode::Exclusive)?;
        Ok(kernel.map(|kernel| SyncGuard { _kernel: kernel, _process: process }))
    }

    /// Flushes a sealed batch for everybody, as the holder of SYNC: the others wait for it.
    pub(crate) fn flush_batch(&self, _sync: &SyncGuard<'_>, sealed: &Sealed) -> Result<()> {
        let started = Instant::now();
        let flushed = self.flush_sealed(sealed);
        let usual = sealed.sidecar.flush_time().unwrap_or_default();
        sealed.sidecar.set_flush_time((usual * 7 + started.elapsed()) / 8);
        sealed.sidecar.count_flush();
        flushed
    }

    /// Flushes a sealed batch, and tells everybody. Any process may do so, beside another one: the word that
    /// tells what is durable only rises.
    fn flush_sealed(&self, sealed: &Sealed) -> Result<()> {
        let Sealed { tail, sidecar } = sealed;
        if let Err(e) = self.flush_file(sidecar) {
            tracing::error!(error = %e, "flush failed");
            return Err(self.poisoned_error(e.to_string()));
        }
        let covered = tail.lsn.saturating_sub(self.durable_lsn());
        self.publish_durable(sidecar, tail.lsn);
        if let Some(slot) = self.slot(sidecar) {
            slot.count(Counter::Flushes, 1);
        }
        tracing::trace!(lsn = tail.lsn, covered, "flushed");
        Ok(())
    }

    /// Tells everybody how far the log is durable, then acknowledges it here. In this order: what a thread of
    /// this process returns with, or shows, must be seen by every snapshot taken later, in any process.
    pub(crate) fn publish_durable(&self, sidecar: &Arc<Sidecar>, lsn: u64) {
        sidecar.rise_durable(lsn);
        // A sidecar that was lost meanwhile tells those who have it; the one that others started since says
        // nothing yet, or its readers find in the file what it does not tell.
        let (current, _) = self.current_sidecar();
        let next = (!Arc::ptr_eq(sidecar, &current)).then_some(&current);
        next.inspect(|next| next.rise_durable(lsn));
        self.raise_durable(lsn);
        for told in [Some(sidecar), next].into_iter().flatten() {
            told.wake_flushed();
            told.wake_changed();
        }
    }

    /// Waits for SYNC, and for every flush under way.
    pub(crate) fn lock_sync(&self, deadline: Deadline) -> Result<SyncGuard<'_>> {
        let process = lock(&self.syncing);
        let kernel = ByteLock::take(&self.disk, SYNC, LockMode::Exclusive, "flush", deadline)?;
        Ok(SyncGuard { _kernel: kernel, _process: process })
    }

    /// Nothing can be done, or believed, before somebody mends a failed flush.
    pub(crate) fn unmended(&self) -> Error {
        self.poisoned_error(UNMENDED)
    }

    /// Flushes what others wrote. A failure is reported once: whoever hears of it must see to it
    /// that nothing is believed durable because a later flush succeeds.
    pub(crate) fn flush_found(&self) -> Result<()> {
        let sidecar = self.sidecar();
        if self.is_poisoned(&sidecar) {
            return Err(self.unmended());
        }
        self.flush_file(&sidecar).map_err(|e| Error::io("flush", self.path(), e))
    }

    /// Flushes the file, unless a failed flush waits to be mended; poisons the store if this one fails.
    ///
    /// One thread at a time: all of a process share a description, and the system tells only one of those who flush
    /// through it that something was dropped.
    pub(crate) fn flush_file(&self, sidecar: &Sidecar) -> io::Result<()> {
        let _alone = lock(&self.flushing);
        if self.is_poisoned(sidecar) {
            return Err(io::Error::other(UNMENDED));
        }
        let flushed = self.disk.flush();
        if flushed.is_err() && self.disk.writable() {
            self.poison(sidecar);
        }
        flushed
    }

    /// From now on nothing that was not known durable is believed to be on disk.
    pub(crate) fn poison(&self, sidecar: &Sidecar) {
        self.poisoned.store(true, Ordering::Release);
        sidecar.set_poisoned(true);
        sidecar.wake_flushed();
    }

    /// Mends a poisoned store: writes every frame that is not known durable anew, and both roots'
    /// newest, and flushes. The frames' bytes and places stay the same, so whatever of them did
    /// reach the disk is overwritten by itself, and a torn write changes nothing.
    /// The caller holds WRITER and CHECKPOINT.
    pub(crate) fn heal(&self, deadline: Deadline) -> Result<()> {
        let _sync = self.lock_sync(deadline)?;
        let mut append = self.lock_append(deadline)?;
        if !self.is_poisoned(&append.sidecar) {
            return Ok(());
        }
        let durable = self.durable_lsn();
        let Slots { newest, older } = self.slots()?;
        // A root whose flush failed may be on disk or not, and its ring may be the current one or
        // not. Written again it is durable for certain once the flush below succeeds: its pages
        // were flushed before it was first written.
        let doubtful = newest.sequence > self.known_root();
        if doubtful {
            self.write_slot_once_more(&newest)?;
        }
        let roots = if doubtful { [older.as_ref(), Some(&newest)] } else { [Some(&newest), None] };
        let mut point = Point::default();
        let mut ring = Ring::new(&newest);
        for root in roots.into_iter().flatten() {
            // (A transaction that went straight to the tree has no frame: the chain goes on from its root.)
            ring = Ring::new(root);
            point = self.write_frames_anew(&ring, Point::start_of(root), durable)?;
        }
        {
            let _alone = lock(&self.flushing);
            self.disk.flush().map_err(|e| self.poisoned_error(format!("the disk still refuses: {e}")))?;
        }
        if doubtful {
            let sequence = newest.sequence;
            append.state.adopt(Arc::new(newest));
            append.tell_of_root();
            self.raise_root(sequence);
        }
        let tail = append.state.tail;
        if tail.lsn < point.lsn || tail == point {
            append.state.tail = point;
        } else if tail.lsn > point.lsn || tail.crc != point.crc {
            return Err(Error::corrupt(
                "log",
                ring.file_offset(point.end),
                None,
                format!("transactions up to {}", append.state.tail.lsn),
                format!("the chain ends after {}", point.lsn),
            )
            .in_file(self.path()));
        }
        append.seal();
        self.proven.store(true, Ordering::Release);
        self.poisoned.store(false, Ordering::Release);
        append.sidecar.set_poisoned(false);
        self.publish_durable(&append.sidecar, point.lsn);
        tracing::warn!(lsn = point.lsn, "a failed flush was mended: every frame since was written anew");
        Ok(())
    }

    /// Writes the frames of the chain after `durable` anew, in their places, and gives the chain's end.
    pub(crate) fn write_frames_anew(&self, ring: &Ring, mut point: Point, durable: u64) -> Result<Point> {
        let mut walker = Walker::new(&*self.disk, ring, self.store_tag, point);
        let mut block = 0;
        while let Some(frame) = walker.next()? {
            if frame.after.lsn > durable {
                // Whole blocks, for a page is what the kernel drops; none of them holds durable
                // frames, since each batch starts in a new one.
                let start = frame.header.position.max(block);
                let start = start - start % LOG_BLOCK;
                block = next_block(frame.after.end);
                let mut bytes = vec![0; usize::try_from(block - start).unwrap_or(0)];
                ring.read(&*self.disk, start, &mut bytes).map_err(self.io("read the log"))?;
                ring.write(&*self.disk, start, &bytes).map_err(self.io("write the log anew"))?;
            }
            point = frame.after;
        }
        Ok(point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Call, Conductor, Verdict};
    use crate::proof::new_store;
    use std::sync::Mutex;

    /// Looks, at each flush of the file, whether another thread could flush it, too.
    #[derive(Default)]
    struct AtFlush(Mutex<(Option<Arc<Engine>>, Vec<bool>)>);

    impl Conductor for AtFlush {
        fn before(&self, _: usize, call: Call) -> Verdict {
            let (engine, seen) = &mut *self.0.lock().unwrap();
            if let (Call::Flush, Some(engine)) = (call, engine) {
                seen.push(try_lock(&engine.flushing).is_some());
            }
            Verdict::Go
        }
    }

    #[test]
    fn whoever_flushes_keeps_the_other_threads_from_it() {
        let conductor = Arc::new(AtFlush::default());
        let (_, _, store) = new_store(Arc::clone(&conductor) as _, 64 << 10);
        let put = |rows: u8, len| store.write(|tx| (0..rows).try_for_each(|n| tx.raw("t")?.put(&[n], &vec![n; len])));
        let acts: [(&str, &dyn Fn()); 5] = [
            ("a commit", &|| put(1, 10).unwrap()),
            ("long values", &|| put(1, 40_000).unwrap()),
            ("straight to the tree", &|| put(40, 1000).unwrap()),
            ("a checkpoint", &|| store.checkpoint().unwrap()),
            ("mending", &|| {
                store.engine().poison(&store.engine().sidecar());
                put(1, 10).unwrap();
            }),
        ];
        for (name, act) in acts {
            *conductor.0.lock().unwrap() = (Some(Arc::clone(store.engine())), Vec::new());
            act();
            let (_, seen) = std::mem::take(&mut *conductor.0.lock().unwrap());
            assert!(!seen.is_empty() && !seen.contains(&true), "{name}: {seen:?}");
        }
    }
}
