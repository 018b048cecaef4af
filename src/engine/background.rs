//! Work that no caller asks for: flushing relaxed commits, checkpointing a log that has grown or is idle,
//! releasing a tree version that is no longer read.
//!
//! A thread does it. It is started when there is work and ends when there is none, so an idle process has no
//! thread.

use crate::engine::Engine;
use crate::engine::checkpoint::{BACKGROUND_LOCK_WAIT, CheckpointOptions};
use crate::engine::chores::{CHORE_CHECK, Chore, Chores};
use crate::engine::due::Due;
use crate::engine::move_down::{SLACK_PAGES, Shortening, WORTHWHILE, is_worthwhile};
use crate::engine::new_root::CheckpointResult;
use crate::error::Result;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// After this long without a commit the store is idle: a log that is worth it is checkpointed. After this long without
/// a read the tree version is released.
const IDLE: Duration = Duration::from_secs(1);
/// After this long without a commit any log is checkpointed.
const IDLE_FOR_LONG: Duration = Duration::from_secs(300);
/// Most pages moved down in one go.
const COMPACT_WHEN_IDLE: usize = 4096;

/// Starts the thread. It ends when the store is left, or when there is no work.
pub(crate) fn start(engine: &Weak<Engine>) -> bool {
    let engine = engine.clone();
    std::thread::Builder::new().name("memstone".to_owned()).spawn(move || run(&engine)).is_ok()
}

impl Engine {
    /// Has the background thread check for free pages whenever the last snapshot of a version is dropped.
    pub(crate) fn watch_pins(self: &Arc<Self>) {
        if self.settings.threads {
            let weak = Arc::downgrade(self);
            self.pins.on_release(move || {
                if let Some(engine) = weak.upgrade() {
                    engine.background.call(Chore::Release);
                }
            });
        }
    }
}

/// Marks the thread as ended when it panics, which code of the program may cause (a `tracing` subscriber): no
/// caller may wait for it then.
struct Ended<'e>(&'e Weak<Engine>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(engine) = self.0.upgrade()
        {
            engine.background.ended();
        }
    }
}

fn run(weak: &Weak<Engine>) {
    let _ended = Ended(weak);
    let (mut rounds, mut wait) = (Rounds::new(Instant::now()), CHORE_CHECK);
    loop {
        // Held only during work: the last handle must be able to close the store.
        let Some(engine) = weak.upgrade() else { return };
        let Some(chores) = engine.background.next(wait) else {
            engine.background.ended();
            return;
        };
        match rounds.step(&engine, chores, Instant::now()) {
            Some(next) => wait = next,
            None if engine.background.end_unless_called() => return,
            None => wait = CHORE_CHECK,
        }
    }
}

/// What the thread remembers between rounds.
struct Rounds {
    idle_since: Instant,
    last_lsn: u64,
    /// The log's end when it was found whether the idle store is worth a checkpoint, and what was found.
    judged_lsn: u64,
    due: Due,
    /// The file could get shorter.
    compacting: bool,
    shortening: Shortening,
    /// A snapshot's version was released, and the pages that this frees were not checked yet.
    released: bool,
    /// Free pages that the last checkpoint left in the file.
    left: u64,
}

impl Rounds {
    fn new(now: Instant) -> Rounds {
        Rounds {
            idle_since: now,
            last_lsn: 0,
            judged_lsn: 0,
            due: Due::Never,
            compacting: false,
            shortening: Shortening::by_checkpoints(),
            released: false,
            left: 0,
        }
    }

    /// Does the chores, and the work of an idle store. Returns how long to wait for more work; `None`: none is left.
    fn step(&mut self, engine: &Engine, chores: Chores, now: Instant) -> Option<Duration> {
        if chores.flush {
            let relaxed = engine.relaxed.load(Ordering::Acquire);
            match engine.wait_durable(relaxed) {
                Ok(()) => engine.forget_flushed(),
                Err(error) => crate::trace::warn!(%error, "relaxed commits could not be flushed"),
            }
        }
        let lsn = tail_lsn(engine);
        if lsn != self.last_lsn {
            self.last_lsn = lsn;
            self.idle_since = now;
        }
        let idle_for = now.saturating_duration_since(self.idle_since);
        let idle = idle_for >= IDLE;
        let writable = engine.disk.writable();
        self.released = writable && (self.released || chores.released);
        if idle && writable && lsn != self.judged_lsn {
            self.judge(engine, lsn);
        }
        let due = self.due == Due::Now || self.due == Due::Later && idle_for >= IDLE_FOR_LONG;
        let mut rest = idle && writable && (due || self.compacting);
        if idle && writable && !rest && std::mem::take(&mut self.released) && self.could_give_back(engine) {
            (rest, self.compacting, self.shortening) = (true, true, Shortening::by_checkpoints());
        }
        if chores.checkpoint || rest {
            let done = background_checkpoint(engine, rest && !chores.checkpoint, self.compacting);
            if rest {
                self.rested(engine, done);
            }
        }
        if !idle {
            self.shortening = Shortening::by_checkpoints();
        }
        if engine.relax_view(u64::try_from(IDLE.as_millis()).unwrap_or(1000)) {
            engine.forget_space();
        }
        let rests = idle && !self.compacting && !self.released && !engine.view_is_pinned();
        match self.due {
            Due::Later if rests && writable => Some(IDLE_FOR_LONG.saturating_sub(idle_for).max(CHORE_CHECK)),
            Due::Never | Due::Later if rests => None,
            _ => Some(CHORE_CHECK),
        }
    }

    /// Finds out whether the idle store is worth a checkpoint. If it is not yet, readers without hints, and the next
    /// process to open the store, learn from the file that the log is durable.
    fn judge(&mut self, engine: &Engine, lsn: u64) {
        self.judged_lsn = lsn;
        // After an error the checkpoint is tried, and reports it.
        self.due = engine.checkpoint_due().unwrap_or(Due::Now);
        if self.due != Due::Now
            && let Err(error) = note_durable(engine)
        {
            crate::trace::warn!(%error, "the file does not say that the log is durable");
        }
    }

    /// `None`: another process makes a checkpoint, or this one failed. It is retried, a limited number of times.
    fn rested(&mut self, engine: &Engine, done: Option<CheckpointResult>) {
        if done.is_none() && self.shortening.goes_on() {
            self.shortening.note(u64::MAX);
            self.released = true;
            return;
        }
        let done = done.unwrap_or_default();
        self.due = Due::Never;
        self.judged_lsn = tail_lsn(engine);
        self.last_lsn = self.judged_lsn;
        // Continues as long as the file gets shorter; a held snapshot may prevent that.
        self.shortening.note(done.page_count);
        self.left = done.free_pages;
        self.compacting = done.could_shrink() && self.shortening.goes_on();
    }

    /// Whether a released version has freed pages: notably more than the last checkpoint left, so that
    /// checkpoints which cannot shorten the file are not repeated for ever.
    fn could_give_back(&self, engine: &Engine) -> bool {
        let turn = engine.try_lock_checkpoint().ok().flatten();
        let space = turn.and_then(|turn| engine.free_and_all_pages(&turn).ok());
        space.is_some_and(|(free, page_count)| {
            is_worthwhile(free, page_count, WORTHWHILE) && free > self.left + SLACK_PAGES
        })
    }
}

fn note_durable(engine: &Engine) -> Result<()> {
    // A process that is making a root knows more.
    engine.try_lock_checkpoint()?.map_or(Ok(()), |turn| engine.note_durable(&turn))
}

fn tail_lsn(engine: &Engine) -> u64 {
    engine.sidecar().tail().map_or(0, |tail| tail.lsn)
}

fn background_checkpoint(engine: &Engine, idle: bool, force: bool) -> Option<CheckpointResult> {
    let deadline = Instant::now().checked_add(BACKGROUND_LOCK_WAIT);
    let plan = CheckpointOptions {
        shrink: idle,
        force,
        compact: if idle { COMPACT_WHEN_IDLE } else { 0 },
        ..CheckpointOptions::default()
    };
    // A process that is making a checkpoint already does it for all.
    let turn = engine.try_lock_checkpoint().ok().flatten()?;
    engine.run_checkpoint(&turn, &plan, deadline).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Conductor;
    use crate::simulation::new_store;
    use std::sync::atomic::AtomicU64;

    /// Time that passes when the test says so.
    #[derive(Default)]
    struct Clock(AtomicU64);

    impl Conductor for Clock {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn an_idle_file_shrinks_when_its_last_snapshot_is_dropped() {
        let clock = Arc::new(Clock::default());
        let (_, _, store) = new_store(Arc::clone(&clock) as _, 1 << 20);
        let engine = store.engine();
        let start = Instant::now();
        let mut rounds = Rounds::new(start);
        // Until nothing is left to do; a few looks at most.
        let mut rest = |chores| {
            for looks in 1.. {
                let now = clock.0.fetch_add(2000, Ordering::SeqCst);
                if rounds.step(engine, chores, start + Duration::from_millis(now)) != Some(CHORE_CHECK) {
                    return looks;
                }
                assert!(looks < 40, "no end in sight");
            }
            0
        };
        let pages = || engine.slots().unwrap().newest.page_count;
        store.write(|tx| (0..200_u8).try_for_each(|n| tx.raw("t")?.put(&[n], &[n; 30_000]))).unwrap();
        store.checkpoint().unwrap();
        let (first, second) = (store.read().unwrap(), store.read().unwrap());
        store.write(|tx| tx.clear_table("t")).unwrap();
        rest(Chores::default());
        assert!(pages() > 1500, "a snapshot needs all of it: {}", pages());
        drop(first);
        let roots = engine.known_root();
        let released = Chores { released: true, ..Chores::default() };
        rest(released);
        assert_eq!(engine.known_root(), roots, "the other snapshot needs it still: no checkpoint is worth it");
        assert_eq!(second.raw("t").unwrap().get(&[7]).unwrap().unwrap()[..], [7; 30_000]);
        drop(second);
        rest(released);
        assert!(pages() < 100, "{} pages", pages());
        // Nothing more to be had: no more checkpoints.
        let roots = engine.known_root();
        rest(released);
        assert_eq!(engine.known_root(), roots);
    }

    #[test]
    fn a_lone_commit_is_checkpointed_after_minutes() {
        let clock = Arc::new(Clock::default());
        let (_, _, store) = new_store(Arc::clone(&clock) as _, 1 << 20);
        let engine = store.engine();
        let start = Instant::now();
        let mut rounds = Rounds::new(start);
        let mut step = |seconds| {
            clock.0.store(1000 * seconds, Ordering::SeqCst);
            rounds.step(engine, Chores::default(), start + Duration::from_secs(seconds))
        };
        store.write(|tx| tx.raw("t")?.put(b"k", b"v")).unwrap();
        let root = engine.known_root();
        assert_eq!(step(0), Some(CHORE_CHECK));
        let waits = [step(2), step(3), step(200)];
        assert!(waits.iter().all(|wait| wait.is_some()), "{waits:?}");
        assert_eq!((engine.known_root(), waits[2]), (root, Some(IDLE_FOR_LONG - Duration::from_secs(200))));
        step(301);
        assert_eq!(engine.known_root(), root + 1);
        assert_eq!(step(303), None);
        // What is worth it is checkpointed as soon as the store is idle.
        store.write(|tx| tx.raw("t")?.put(b"k", &vec![7; 300 << 10])).unwrap();
        step(304);
        step(306);
        assert_eq!(engine.known_root(), root + 2);
        store.write(|tx| tx.raw("t")?.remove(b"k").map(drop)).unwrap();
        step(307);
        step(309);
        assert!(engine.known_root() > root + 2, "a short frame frees a long value");
    }

    #[test]
    fn the_pages_of_the_catalog_are_moved_down() {
        const SIZE: usize = 4 << 20;
        let clock = Arc::new(Clock::default());
        let (_, _, store) = new_store(Arc::clone(&clock) as _, 1 << 20);
        let engine = store.engine();
        let start = Instant::now();
        let mut rounds = Rounds::new(start);
        let mut rest = |mut chores| {
            for looks in 0.. {
                let now = clock.0.fetch_add(2000, Ordering::SeqCst);
                let step = rounds.step(engine, std::mem::take(&mut chores), start + Duration::from_millis(now));
                if step != Some(CHORE_CHECK) {
                    return;
                }
                assert!(looks < 40, "no end in sight");
            }
        };
        store.write(|tx| tx.raw("kept")?.put(b"k", b"v")).unwrap();
        store.checkpoint().unwrap();
        rest(Chores::default());
        // The file is as short as it can be: what is written now lies behind the value, once the snapshots keep
        // all the pages before it.
        store.write(|tx| tx.raw("t")?.put(b"long", &vec![7; SIZE])).unwrap();
        let mut snaps = vec![store.read().unwrap()];
        for n in 0..20_u8 {
            store.write(|tx| tx.raw("u")?.put(b"k", &[n])).unwrap();
            store.checkpoint().unwrap();
            snaps.push(store.read().unwrap());
        }
        store.write(|tx| tx.raw("t")?.remove(b"long").and(tx.raw("u")?.remove(b"k")).map(drop)).unwrap();
        rest(Chores::default());
        drop(snaps);
        rest(Chores { released: true, ..Chores::default() });
        let pages = engine.slots().unwrap().newest.page_count;
        assert!(pages < 100, "{pages} pages");
        assert_eq!(store.read().unwrap().raw("kept").unwrap().get(b"k").unwrap().unwrap()[..], *b"v");
    }

    #[test]
    fn only_the_release_of_the_last_pin_calls_back() {
        let (_, _, store) = new_store(Arc::new(crate::disk::sim::Free), 1 << 20);
        let pins = &store.engine().pins;
        let called = Arc::new(AtomicU64::new(0));
        let call = Arc::clone(&called);
        pins.on_release(move || {
            call.fetch_add(1, Ordering::SeqCst);
        });
        let (one, two) = (pins.pin(1000).unwrap(), pins.pin(1000).unwrap());
        drop(one);
        assert_eq!(called.load(Ordering::SeqCst), 0);
        drop(two);
        assert_eq!(called.load(Ordering::SeqCst), 1);
    }
}
