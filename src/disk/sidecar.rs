//! What the processes tell each other through shared memory.
//!
//! Everything in here is a hint. Words that a process acts upon are *sealed*: they carry a check made of
//! their values, the store's id, the data file's device and inode, and the version of this layout. So
//! garbage, a sidecar of another file, and one that another release of the program lays out otherwise
//! all count as silence. A process that finds no valid message looks at the file instead, and the next
//! to publish puts a valid one there.
//!
//! Words that say how far something has come are *rising*: one word holds value and check, so that a
//! store to it is whole whatever becomes of its writer, and any process may raise it without a lock.
//!
//! Layout in 64-bit words: 0..64 the board (below), then 128 slots of 128 words, one for each
//! process, taken by a kernel lock on the data file.

use crate::disk::host::now_ms;
use crate::disk::platform::{FileId, SharedMemory};
use crate::error::Holder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Slots for processes. A process beyond them works without one.
pub(crate) const SLOTS: usize = 128;
const SLOT_WORDS: usize = 128;
const BOARD_WORDS: usize = 64;
/// Size of the sidecar in bytes.
pub(crate) const SIDECAR_SIZE: usize = (BOARD_WORDS + SLOTS * SLOT_WORDS) * 8;

// The board.
const IDENTITY: usize = 0; // sealed: layout version, epoch
const TAIL: usize = 8; // sealed: end, start, lsn, crc | open << 32
const DURABLE: usize = 16; // rising: lsn
const VISIBLE: usize = 17; // rising: lsn
const FLUSHED_UNSEALED: usize = 18; // rising: lsn
const ROOT: usize = 19; // rising: sequence
const TABLES: usize = 20; // rising: lsn
const POISON: usize = 21; // rising: how often a flush failed or was mended; odd while one is not mended
const FLUSH_TIME: usize = 22; // sealed like a rising one: µs
const MAKING: usize = 23; // rising: sequence
const TICKET: usize = 48;
const SLOT_BOUND: usize = 49;
const FLUSHES: usize = 50;
/// Wakes those who wait for a flush.
const FLUSHED: usize = 56;
/// Wakes those who wait for a change.
const CHANGED: usize = 57;
/// How many wait, in the word two further on: without waiters there is no one to wake.
const WAITERS: usize = 2;
/// Until when the last of them waits, in the word four further on: one killed in its wait does not count for ever.
const WAITING_UNTIL: usize = 4;

/// Bits of a rising word that hold its value; the others hold its check.
const VALUE_BITS: u32 = 44;

// A slot.
const SLOT_TICKET: usize = 0;
const SLOT_WAKE: usize = 1;
const SLOT_PID: usize = 2;
const SLOT_STARTED: usize = 3;
const SLOT_WAITING: usize = 4;
const SLOT_WRITING: usize = 5;
const SLOT_CHECKPOINTING: usize = 6;
const SLOT_SINCE: usize = 7;
/// The counters, in the order of [`Counter`].
const SLOT_COUNTERS: usize = 8;
/// A number that each opening of the store has for itself.
const SLOT_OWNER: usize = 16;
/// Since when the oldest tree version that the process has pinned is pinned, in milliseconds since 1970; 0 without one.
const SLOT_PINNED: usize = 17;
const SLOT_WAITS: usize = 24;
const SLOT_HOST: usize = 64;
const HOST_WORDS: usize = 8;
const SLOT_COMMAND: usize = 72;
const COMMAND_WORDS: usize = 32;

/// A waiter that cannot announce itself sleeps no longer than this.
const UNANNOUNCED: Duration = Duration::from_millis(5);
/// So much later than it meant to a waiter may still be counted.
const LATE_MS: u64 = 1000;

/// Buckets of the histogram of waits: bucket `i` counts waits below 2^i µs.
pub(crate) const WAIT_BUCKETS: usize = 32;

/// The layout above, and the protocol of the lock bytes (`docs/LOCKING.md`).
pub(crate) const PROTOCOL: u64 = 0x6d73_6964_6563_0003;

/// What each process counts in its slot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counter {
    Acquisitions,
    Failures,
    WaitTotal,
    WaitLongest,
    LastAcquired,
    Commits,
    Flushes,
    Checkpoints,
}

/// The end of the log as the last appender left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TailHint {
    pub(crate) end: u64,
    pub(crate) start: u64,
    pub(crate) lsn: u64,
    pub(crate) crc: u32,
    /// Whether the next frame may start in the block that the last one ends in.
    pub(crate) open: bool,
}

/// What a process waits for or holds, in its slot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    Waiting,
    Writing,
    Checkpointing,
}

/// A view of the shared memory.
#[derive(Clone)]
pub(crate) struct Sidecar {
    memory: Arc<dyn SharedMemory>,
    salt: u64,
}

/// Milliseconds since 1970, for people to read.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

fn from_unix_ms(ms: u64) -> SystemTime {
    // Garbage becomes an unlikely time, not a panic.
    UNIX_EPOCH + Duration::from_millis(ms.min(1 << 45))
}

/// The words that tell how far everything has come, as they were at one time.
pub(crate) struct WordsBefore([u64; 3]);

/// SplitMix64's finalizer over the values in turn: quick, and no value leaves a bit unmoved.
pub(crate) fn mix(seed: u64, values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(seed, |mut h, value| {
        h = (h ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        h ^ (h >> 31)
    })
}

impl Sidecar {
    /// A view of memory that speaks of this store, in this file.
    pub(crate) fn new(memory: Arc<dyn SharedMemory>, store_id: &[u8; 16], file: FileId) -> Sidecar {
        let (low, high) = store_id.split_at(8);
        let word = |bytes: &[u8]| bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        let salt = mix(PROTOCOL, [word(low), word(high), file.device, file.inode]);
        Sidecar { memory, salt }
    }

    pub(crate) fn memory(&self) -> &Arc<dyn SharedMemory> {
        &self.memory
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.memory.words().get(index)
    }

    fn load(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |w| w.load(Ordering::Acquire))
    }

    fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.own_word(index) {
            word.store(value, Ordering::Release);
        }
    }

    /// A word to be changed; none where the sidecar can only be read.
    fn own_word(&self, index: usize) -> Option<&AtomicU64> {
        self.word(index).filter(|_| self.memory.is_writable())
    }

    fn check(&self, at: usize, values: &[u64]) -> u64 {
        mix(self.salt ^ at as u64, values.iter().copied())
    }

    /// Publishes sealed words. One process at a time does so for each group: it holds the group's kernel lock.
    fn publish(&self, at: usize, values: &[u64]) {
        for (i, value) in values.iter().enumerate() {
            self.store(at + i, *value);
        }
        self.store(at + values.len(), self.check(at, values));
    }

    fn read<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        // A publisher in the middle of its few stores is waited for; one that stands still or died there is not: those who
        // read look again, or at the file.
        for _ in 0..16 {
            let mut values = [0; N];
            for (i, value) in values.iter_mut().enumerate() {
                *value = self.load(at + i);
            }
            if self.load(at + N) == self.check(at, &values) {
                return Some(values);
            }
            std::hint::spin_loop();
        }
        None
    }

    fn seal(&self, at: usize, value: u64) -> u64 {
        let check = mix(self.salt ^ at as u64, [value]) << VALUE_BITS;
        check | value
    }

    fn unseal(&self, at: usize, word: u64) -> Option<u64> {
        let value = word & ((1 << VALUE_BITS) - 1);
        (self.seal(at, value) == word).then_some(value)
    }

    /// What a rising word says.
    fn risen(&self, at: usize) -> Option<u64> {
        self.unseal(at, self.load(at))
    }

    /// Raises a word, unless it says as much already. A word that says nothing is left so: it may have been
    /// spoilt when it said more, and only a process that has looked at all there is lets it speak again.
    fn rise(&self, at: usize, value: u64) {
        // A value beyond what fits is not told.
        let Some(word) = self.own_word(at).filter(|_| value >> VALUE_BITS == 0) else { return };
        let sealed = self.seal(at, value);
        let mut seen = word.load(Ordering::Acquire);
        while self.unseal(at, seen).is_some_and(|said| said < value) {
            match word.compare_exchange_weak(seen, sealed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Raises a word, or lets it speak if it still says the same nothing as it did before: otherwise others
    /// have let it speak since, and what it said then may have been spoilt once more.
    fn restore(&self, at: usize, before: u64, value: u64) {
        if let Some(word) = self.own_word(at).filter(|_| self.unseal(at, before).is_none() && value >> VALUE_BITS == 0)
        {
            let _ = word.compare_exchange(before, self.seal(at, value), Ordering::AcqRel, Ordering::Acquire);
        }
        self.rise(at, value);
    }

    /// What [`Sidecar::durable`] and [`Sidecar::visible`] say. What is beyond the log's end as it is told is garbage that
    /// looks valid. (The end is told before anything is called durable or visible, and so it is read after them.)
    pub(crate) fn durable_and_visible(&self) -> [Option<u64>; 2] {
        let (lsns, tail) = ([DURABLE, VISIBLE].map(|at| self.risen(at)), self.tail());
        lsns.map(|lsn| lsn.filter(|lsn| tail.is_none_or(|tail| *lsn <= tail.lsn)))
    }

    pub(crate) fn is_current(&self) -> bool {
        self.memory.is_current()
    }

    /// The epoch in which it was set up for this store, in this file; none if it was not.
    pub(crate) fn epoch(&self) -> Option<u64> {
        if self.memory.words().len() * 8 < SIDECAR_SIZE {
            return None;
        }
        self.read(IDENTITY).and_then(|[layout, epoch]| (layout == PROTOCOL).then_some(epoch))
    }

    /// Clears the board, and lets it speak of this store. Nothing is told yet.
    pub(crate) fn set_up(&self, epoch: u64) {
        self.clear();
        self.publish(IDENTITY, &[PROTOCOL, epoch]);
    }

    /// It is nobody's, and tells of no failed flush.
    pub(crate) fn clear(&self) {
        for index in 0..BOARD_WORDS {
            // Sleepers compare these two with what they saw: they only ever count on.
            if index != FLUSHED && index != CHANGED {
                self.store(index, 0);
            }
        }
        for index in 0..SLOTS {
            self.slot(index).set_ticket(0);
        }
        self.store(POISON, self.seal(POISON, 0));
    }

    pub(crate) fn tail(&self) -> Option<TailHint> {
        let [end, start, lsn, last] = self.read::<4>(TAIL)?;
        let crc = u32::try_from(last & 0xffff_ffff).ok()?;
        Some(TailHint { end, start, lsn, crc, open: last >> 32 == 1 })
    }

    pub(crate) fn set_tail(&self, tail: TailHint) {
        self.publish(TAIL, &[tail.end, tail.start, tail.lsn, u64::from(tail.crc) | u64::from(tail.open) << 32]);
    }

    /// What the words were before the file was looked at, for [`Sidecar::tell_all`].
    pub(crate) fn words_before(&self) -> WordsBefore {
        WordsBefore([ROOT, DURABLE, VISIBLE].map(|at| self.load(at)))
    }

    /// Lets the sidecar speak: of the newest root, of what is known durable, and of what all may see. The caller
    /// has looked at all that lies in the file, since it took the words down.
    pub(crate) fn tell_all(&self, before: &WordsBefore, root: u64, durable: u64, visible: u64) {
        for ((at, value), before) in [(ROOT, root), (DURABLE, durable), (VISIBLE, visible)].into_iter().zip(before.0) {
            self.restore(at, before, value);
        }
    }

    /// Newest LSN that a flush of a sealed batch has covered.
    pub(crate) fn durable(&self) -> Option<u64> {
        self.durable_and_visible()[0]
    }

    pub(crate) fn rise_durable(&self, lsn: u64) {
        self.rise(DURABLE, lsn);
    }

    /// Newest LSN that readers see whether or not it is durable. (They also see what is durable.)
    pub(crate) fn visible(&self) -> Option<u64> {
        self.durable_and_visible()[1]
    }

    pub(crate) fn rise_visible(&self, lsn: u64) {
        self.rise(VISIBLE, lsn);
    }

    /// Newest LSN that a reader without hints has flushed, and shown, without sealing its batch.
    pub(crate) fn flushed_unsealed(&self) -> u64 {
        self.risen(FLUSHED_UNSEALED).unwrap_or(0)
    }

    pub(crate) fn rise_flushed_unsealed(&self, lsn: u64) {
        self.restore(FLUSHED_UNSEALED, self.load(FLUSHED_UNSEALED), lsn);
    }

    /// Newest root known to be durable.
    pub(crate) fn root(&self) -> Option<u64> {
        self.risen(ROOT)
    }

    pub(crate) fn rise_root(&self, sequence: u64) {
        self.rise(ROOT, sequence);
    }

    /// Newest root of which a slot was, or is about to be, written, if that is known for certain.
    pub(crate) fn making(&self) -> Option<u64> {
        self.risen(MAKING)
    }

    /// The slot of this root is written next.
    pub(crate) fn rise_making(&self, sequence: u64) {
        self.rise(MAKING, sequence);
    }

    /// No slot that may be on disk holds a newer root than this one: the caller has written both and flushed them, or
    /// knows of each root since then. (A word that says more is left so, until a root of that number is made.)
    pub(crate) fn settle_making(&self, sequence: u64) {
        self.restore(MAKING, self.load(MAKING), sequence);
    }

    /// Says less than before, as an older copy put back in place does.
    #[cfg(test)]
    pub(crate) fn set_root_back(&self, sequence: u64) {
        self.store(ROOT, self.seal(ROOT, sequence));
    }

    /// Makes the word say nothing that tells what is visible.
    #[cfg(test)]
    pub(crate) fn spoil_visible(&self) {
        self.store(VISIBLE, 0);
    }

    /// LSN of the newest transaction that changed the set of tables, if that is known for certain.
    pub(crate) fn tables(&self) -> Option<u64> {
        self.risen(TABLES)
    }

    pub(crate) fn rise_tables(&self, lsn: u64) {
        self.restore(TABLES, self.load(TABLES), lsn);
    }

    /// How often a flush has failed, or was mended. Odd: one has failed, and was not mended yet.
    pub(crate) fn failures(&self) -> u64 {
        self.risen(POISON).unwrap_or(0)
    }

    pub(crate) fn poisoned(&self) -> bool {
        !self.failures().is_multiple_of(2)
    }

    /// Tells that a flush has failed: also the process that is about to tell that an earlier one is mended.
    pub(crate) fn poison(&self) {
        let failures = self.failures();
        self.restore(POISON, self.load(POISON), failures + 1 + failures % 2);
    }

    /// Tells that the last of so many failures is mended. `false`: another one came meanwhile.
    pub(crate) fn heal(&self, failures: u64) -> bool {
        let (from, to) = (self.seal(POISON, failures), self.seal(POISON, failures + 1));
        self.own_word(POISON)
            .is_none_or(|word| word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    /// How long flushes have taken of late.
    pub(crate) fn flush_time(&self) -> Option<Duration> {
        self.risen(FLUSH_TIME).map(Duration::from_micros)
    }

    pub(crate) fn set_flush_time(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(1 << 40);
        self.store(FLUSH_TIME, self.seal(FLUSH_TIME, micros));
    }

    fn wait(&self, at: usize, seen: u64, timeout: Duration) {
        let (Some(waiters), Some(until)) = (self.own_word(at + WAITERS), self.own_word(at + WAITING_UNTIL)) else {
            // No waker can know of this waiter: it looks for itself.
            return self.memory.wait(at, low(seen), timeout.min(UNANNOUNCED));
        };
        let end = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).saturating_add(now_ms());
        until.fetch_max(end.saturating_add(LATE_MS), Ordering::SeqCst);
        // Announced before the word is compared, and the word is changed before this is read: a
        // waker that sees no waiter has changed the word in time for the comparison.
        waiters.fetch_add(1, Ordering::SeqCst);
        self.memory.wait(at, low(seen), timeout);
        let _ = waiters.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(1)));
    }

    /// Whether a process waits on a word. A count that outlived all whom it counted is put right.
    fn is_waited_for(&self, at: usize) -> bool {
        let (Some(waiters), Some(until)) = (self.word(at + WAITERS), self.word(at + WAITING_UNTIL)) else {
            return false;
        };
        let count = waiters.load(Ordering::SeqCst);
        if count == 0 {
            return false;
        }
        let in_time = until.load(Ordering::SeqCst) >= now_ms();
        if !in_time && self.memory.is_writable() {
            let _ = waiters.compare_exchange(count, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        in_time
    }

    fn wake(&self, at: usize) {
        if let Some(word) = self.own_word(at) {
            word.fetch_add(1, Ordering::SeqCst);
            if self.is_waited_for(at) {
                self.memory.wake_all(at);
            }
        }
    }

    /// The value that [`Sidecar::wait_flushed`] compares with. Read it before looking at what it announces.
    pub(crate) fn flushed_word(&self) -> u64 {
        self.load(FLUSHED)
    }

    pub(crate) fn wait_flushed(&self, seen: u64, timeout: Duration) {
        self.wait(FLUSHED, seen, timeout);
    }

    pub(crate) fn wake_flushed(&self) {
        self.wake(FLUSHED);
    }

    /// How many flushes the holders of SYNC have ended.
    pub(crate) fn flushes(&self) -> u64 {
        self.load(FLUSHES)
    }

    pub(crate) fn count_flush(&self) {
        if let Some(word) = self.own_word(FLUSHES) {
            word.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether a process waits for its turn to write, or for a flush.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_waited_for(FLUSHED) || self.first_waiter().is_some()
    }

    pub(crate) fn changed_word(&self) -> u64 {
        self.load(CHANGED)
    }

    pub(crate) fn wait_changed(&self, seen: u64, timeout: Duration) {
        self.wait(CHANGED, seen, timeout);
    }

    pub(crate) fn wake_changed(&self) {
        self.wake(CHANGED);
    }

    // The writers' queue.

    pub(crate) fn slot(&self, index: usize) -> Slot<'_> {
        Slot { sidecar: self, base: BOARD_WORDS + (index % SLOTS) * SLOT_WORDS }
    }

    /// A ticket higher than all before it.
    pub(crate) fn draw_ticket(&self) -> u64 {
        self.own_word(TICKET).map_or(1, |w| w.fetch_add(1, Ordering::AcqRel)).wrapping_add(1).max(1)
    }

    /// How many slots, from the first, may be in use.
    pub(crate) fn slot_bound(&self) -> usize {
        usize::try_from(self.load(SLOT_BOUND)).unwrap_or(SLOTS).min(SLOTS)
    }

    pub(crate) fn raise_slot_bound(&self, bound: usize) {
        if let Some(word) = self.own_word(SLOT_BOUND) {
            word.fetch_max(bound as u64, Ordering::AcqRel);
        }
    }

    /// The waiter whose turn it is: the slot with the lowest ticket.
    pub(crate) fn first_waiter(&self) -> Option<(usize, u64)> {
        (0..self.slot_bound()).map(|i| (i, self.slot(i).ticket())).filter(|(_, t)| *t != 0).min_by_key(|(_, t)| *t)
    }
}

fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}

/// One process' part of the sidecar.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    sidecar: &'a Sidecar,
    base: usize,
}

impl Slot<'_> {
    /// Clears the slot for a new owner and writes who that is.
    pub(crate) fn introduce(&self, owner: u64, pid: u32, host: &str, command: &str) {
        for i in 0..SLOT_WORDS {
            self.sidecar.store(self.base + i, 0);
        }
        self.sidecar.store(self.base + SLOT_OWNER, owner);
        self.sidecar.store(self.base + SLOT_PID, u64::from(pid));
        self.sidecar.store(self.base + SLOT_STARTED, unix_ms());
        self.write_text(SLOT_HOST, HOST_WORDS, host);
        self.write_text(SLOT_COMMAND, COMMAND_WORDS, command);
    }

    /// Whether the slot says who its owner is: not its last owner, which may have had the same process id.
    pub(crate) fn is_introduced_as(&self, owner: u64) -> bool {
        self.sidecar.load(self.base + SLOT_OWNER) == owner
    }

    fn write_text(&self, at: usize, words: usize, text: &str) {
        let mut bytes = text.as_bytes().iter().copied();
        for i in 0..words {
            let word: [u8; 8] = std::array::from_fn(|_| bytes.next().unwrap_or(0));
            self.sidecar.store(self.base + at + i, u64::from_le_bytes(word));
        }
    }

    fn read_text(&self, at: usize, words: usize) -> String {
        let bytes = (0..words).flat_map(|i| self.sidecar.load(self.base + at + i).to_le_bytes());
        let bytes: Vec<u8> = bytes.take_while(|b| *b != 0).collect();
        String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    pub(crate) fn ticket(&self) -> u64 {
        self.sidecar.load(self.base + SLOT_TICKET)
    }

    pub(crate) fn set_ticket(&self, ticket: u64) {
        self.sidecar.store(self.base + SLOT_TICKET, ticket);
    }

    /// When its owner lined up, in µs of the clock that all share.
    pub(crate) fn since(&self) -> u64 {
        self.sidecar.load(self.base + SLOT_SINCE)
    }

    pub(crate) fn set_since(&self, now_us: u64) {
        self.sidecar.store(self.base + SLOT_SINCE, now_us);
    }

    /// Takes a ticket away that no process stands behind, unless it has changed meanwhile.
    pub(crate) fn clear_ticket(&self, ticket: u64) {
        if let Some(word) = self.sidecar.own_word(self.base + SLOT_TICKET) {
            let _ = word.compare_exchange(ticket, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    pub(crate) fn wake_word(&self) -> u64 {
        self.sidecar.load(self.base + SLOT_WAKE)
    }

    pub(crate) fn wait(&self, seen: u64, timeout: Duration) {
        self.sidecar.memory.wait(self.base + SLOT_WAKE, low(seen), timeout);
    }

    pub(crate) fn wake(&self) {
        if let Some(word) = self.sidecar.own_word(self.base + SLOT_WAKE) {
            word.fetch_add(1, Ordering::AcqRel);
            self.sidecar.memory.wake_all(self.base + SLOT_WAKE);
        }
    }

    fn state_word(&self, state: State) -> usize {
        self.base
            + match state {
                State::Waiting => SLOT_WAITING,
                State::Writing => SLOT_WRITING,
                State::Checkpointing => SLOT_CHECKPOINTING,
            }
    }

    /// Says since when the process is in this state; `false` that it no longer is.
    pub(crate) fn set_state(&self, state: State, on: bool) {
        self.sidecar.store(self.state_word(state), if on { unix_ms() } else { 0 });
    }

    pub(crate) fn state(&self, state: State) -> Option<SystemTime> {
        match self.sidecar.load(self.state_word(state)) {
            0 => None,
            ms => Some(from_unix_ms(ms)),
        }
    }

    pub(crate) fn holder(&self, since: Option<SystemTime>) -> Holder {
        Holder {
            pid: u32::try_from(self.sidecar.load(self.base + SLOT_PID)).unwrap_or(0),
            host: self.read_text(SLOT_HOST, HOST_WORDS),
            command: self.read_text(SLOT_COMMAND, COMMAND_WORDS),
            since,
            stopped: false,
        }
    }

    /// Says since when the process holds the oldest state that it holds; 0: it holds none.
    pub(crate) fn set_pinned(&self, since_ms: u64) {
        self.sidecar.store(self.base + SLOT_PINNED, since_ms);
    }

    pub(crate) fn pinned(&self) -> Option<SystemTime> {
        match self.sidecar.load(self.base + SLOT_PINNED) {
            0 => None,
            ms => Some(from_unix_ms(ms)),
        }
    }

    pub(crate) fn started(&self) -> SystemTime {
        from_unix_ms(self.sidecar.load(self.base + SLOT_STARTED))
    }

    // Only the slot's own process counts in it, so plain adding is enough.

    pub(crate) fn count(&self, counter: Counter, n: u64) {
        let at = self.base + SLOT_COUNTERS + counter as usize;
        self.sidecar.store(at, self.sidecar.load(at).wrapping_add(n));
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.sidecar.load(self.base + SLOT_COUNTERS + counter as usize)
    }

    /// Counts an acquisition of the writer lock after such a wait.
    pub(crate) fn count_wait(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.count(Counter::Acquisitions, 1);
        self.count(Counter::WaitTotal, micros);
        let longest = micros.max(self.counter(Counter::WaitLongest));
        self.sidecar.store(self.base + SLOT_COUNTERS + Counter::WaitLongest as usize, longest);
        self.sidecar.store(self.base + SLOT_COUNTERS + Counter::LastAcquired as usize, unix_ms());
        let bucket = (64 - micros.leading_zeros() as usize).min(WAIT_BUCKETS - 1);
        let at = self.base + SLOT_WAITS + bucket;
        self.sidecar.store(at, self.sidecar.load(at).wrapping_add(1));
    }

    pub(crate) fn waits(&self) -> [u64; WAIT_BUCKETS] {
        std::array::from_fn(|i| self.sidecar.load(self.base + SLOT_WAITS + i))
    }

    pub(crate) fn last_acquired(&self) -> Option<SystemTime> {
        match self.counter(Counter::LastAcquired) {
            0 => None,
            ms => Some(from_unix_ms(ms)),
        }
    }
}

#[cfg(test)]
#[path = "sidecar_tests.rs"]
mod tests;
