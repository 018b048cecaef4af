//! Group commit: one flush for all waiting commits of all processes.
//!
//! A commit waits until the durable LSN covers it. The holder of SYNC is the flusher: it seals the batch,
//! flushes, publishes, and wakes the waiters. A waiter sleeps for a moment at a time, and can always take the
//! flusher's place, or flush beside a stopped one. So SYNC decides only which process flushes, never what is
//! durable.
//!
//! After a failed flush the kernel may have dropped the pages that it could not write, while it still shows them
//! or shows older bytes again. So only what was known to be durable before counts as being on disk: the store is
//! poisoned until every frame since then is rewritten and flushed, and a new root passes over the frames that are
//! gone.

use crate::disk::locks::{ByteLock, Deadline, SYNC, lock, try_lock};
use crate::disk::platform::LockMode;
use crate::disk::sidecar::Sidecar;
use crate::disk::slot::Counter;
use crate::engine::append::{Log, Sealed};
use crate::engine::board::Failures;
use crate::error::{LockKind, Result};
use std::ops::RangeInclusive;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a waiter sleeps before it checks whether there still is a flusher.
const FLUSHER_CHECK: Duration = Duration::from_millis(5);
/// A flusher that takes this many times the recent duration of flushes, within bounds, counts as stopped.
const STALLED_TIMES: u32 = 8;
const STALLED: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(1);

/// SYNC, held: the right to flush for all. (The kernel's lock is released first: the next thread that owns SYNC
/// within the process finds it free.)
pub(crate) struct SyncGuard<'e> {
    _kernel: ByteLock,
    _process: MutexGuard<'e, ()>,
}

impl Log {
    /// Returns when the transaction `lsn` and all before it are durable: flushes for all, or waits for the
    /// flusher, or flushes beside a flusher that is stalled. Only the locks have a deadline: the fate of what is
    /// in the log already is decided by a flush alone.
    ///
    /// The transaction must be in the log when this is called; see [`Log::wait_durable_since`].
    pub(crate) fn wait_durable(&self, lsn: u64) -> Result<()> {
        self.wait_durable_since(lsn, &self.failures(&self.sidecar()))
    }

    /// The same for a transaction that was in the log when the failures in `before` were counted, with the store
    /// not poisoned. A flush that failed since then may have removed it from the log: then its LSN says nothing
    /// about it.
    pub(crate) fn wait_durable_since(&self, lsn: u64, before: &Failures) -> Result<()> {
        let (mut flushes, mut since) = (None, self.disk.now_ms());
        loop {
            let sidecar = self.sidecar();
            let seen = sidecar.flushed_word();
            self.load_hints(&sidecar);
            let is_durable = self.durable_lsn() >= lsn;
            // Checked after the durable LSN: a root that passes over an LSN raises the durable LSN after the
            // failure was published.
            if self.has_failed_since(before) || !is_durable && self.is_poisoned(&sidecar) {
                return Err(self.poisoned_error("the flush that was to cover it failed"));
            }
            if is_durable {
                return Ok(());
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
            if cfg!(test) && sidecar.memory().id() == 0 {
                self.disk.sleep(FLUSHER_CHECK);
            } else {
                sidecar.wait_flushed(seen, FLUSHER_CHECK);
            }
        }
    }

    /// Flushes for all, whether or not another process is doing so.
    pub(crate) fn flush_beside(&self) -> Result<()> {
        let sealed = self.lock_append_to_seal(self.patient_deadline())?.seal();
        self.flush_sealed(&sealed)
    }

    /// Whether the holder of SYNC has taken much longer than a flush takes. Once found stalled, it counts as
    /// stopped until it ends a flush, so that only one commit has to wait to find out.
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

    /// Flushes for all, unless another process is doing so already.
    fn try_flush(&self) -> Result<bool> {
        let Some(sync) = self.try_lock_sync()? else { return Ok(false) };
        let sealed = self.lock_append_to_seal(self.patient_deadline())?.seal();
        self.flush_unless_covered(&sync, &sealed)?;
        Ok(true)
    }

    /// The same without waiting for any lock.
    pub(crate) fn flush_if_free(&self) -> Result<()> {
        if !self.is_poisoned(&self.known_sidecar())
            && self.proven.load(Ordering::Acquire)
            && let Some(sync) = self.try_lock_sync()?
            && let Some(mut append) = self.try_lock_append()?
        {
            let sealed = append.seal();
            drop(append);
            self.flush_unless_covered(&sync, &sealed)?;
        }
        Ok(())
    }

    /// The flusher before may have covered everything meanwhile.
    fn flush_unless_covered(&self, sync: &SyncGuard<'_>, sealed: &Sealed) -> Result<()> {
        if sealed.tail.lsn > self.durable_lsn() || sealed.sidecar.durable().is_none() {
            self.flush_batch(sync, sealed)?;
        }
        Ok(())
    }

    /// Takes SYNC if it is free.
    pub(crate) fn try_lock_sync(&self) -> Result<Option<SyncGuard<'_>>> {
        let Some(process) = try_lock(&self.syncing) else { return Ok(None) };
        let kernel = ByteLock::try_take(&self.disk, SYNC, LockMode::Exclusive)?;
        Ok(kernel.map(|kernel| SyncGuard { _kernel: kernel, _process: process }))
    }

    /// Flushes a sealed batch as the holder of SYNC, for which the other processes wait.
    pub(crate) fn flush_batch(&self, _sync: &SyncGuard<'_>, sealed: &Sealed) -> Result<()> {
        let started = Instant::now();
        let flushed = self.flush_sealed(sealed);
        let usual = sealed.sidecar.flush_time().unwrap_or_default();
        sealed.sidecar.set_flush_time((usual * 7 + started.elapsed()) / 8);
        sealed.sidecar.count_flush();
        flushed
    }

    /// Flushes a sealed batch, and publishes the result. Any process may do so beside another one: the durable
    /// LSN only rises.
    fn flush_sealed(&self, sealed: &Sealed) -> Result<()> {
        let Sealed { tail, sidecar } = sealed;
        let span = crate::trace::debug_span!("flush", lsn = tail.lsn, covered = crate::trace::field::Empty);
        let _in_span = span.enter();
        if let Err(e) = self.flush_file(sidecar) {
            crate::trace::error!(error = %e, "flush failed");
            return Err(self.poisoned_error(e.to_string()));
        }
        let covered = tail.lsn.saturating_sub(self.durable_lsn());
        span.record("covered", covered);
        self.publish_durable(sidecar, tail.lsn);
        self.note_in_slot(sidecar, |slot| slot.count(Counter::Flushes, 1));
        crate::trace::trace!(lsn = tail.lsn, covered, "flushed");
        Ok(())
    }

    /// Waits for SYNC, and so for the flush of its holder.
    pub(crate) fn lock_sync(&self, deadline: Deadline) -> Result<SyncGuard<'_>> {
        let process = lock(&self.syncing);
        let kernel = ByteLock::take(&self.disk, SYNC, LockMode::Exclusive, LockKind::Flush, deadline)?;
        Ok(SyncGuard { _kernel: kernel, _process: process })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Call, Conductor, Verdict};
    use crate::engine::Engine;
    use crate::simulation::new_store;
    use std::sync::{Arc, Mutex};

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
    fn one_thread_flushes_at_a_time() {
        let conductor = Arc::new(AtFlush::default());
        let (_, _, store) = new_store(Arc::clone(&conductor) as _, 64 << 10);
        let put = |rows: u8, len| store.write(|tx| (0..rows).try_for_each(|n| tx.raw("t")?.put(&[n], &vec![n; len])));
        let acts: [(&str, &dyn Fn()); 5] = [
            ("a commit", &|| put(1, 10).unwrap()),
            ("long values", &|| put(1, 40_000).unwrap()),
            ("a large commit", &|| put(40, 1000).unwrap()),
            ("a checkpoint", &|| {
                put(1, 10).unwrap();
                store.checkpoint().unwrap();
            }),
            ("repairing", &|| {
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
