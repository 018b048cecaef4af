//! Hints that the processes publish to each other through shared memory.
//!
//! Everything in here is a hint. Words that a process acts upon are *sealed*: they carry a check of their values,
//! the store's id, the data file's device and inode, and the version of this layout. So garbage, the sidecar of
//! another file, and the sidecar of a release with another layout all count as *silent*. A process that finds no
//! valid hint reads the file instead, and the next process that publishes writes a valid one.
//!
//! Words that say how far something has come are *rising*: any process may raise them without a lock.
//!
//! Layout in 64-bit words: 0..64 the board (below), then 128 slots of 128 words, one for each process, taken by a
//! kernel lock on the data file.

use crate::disk::format::PROTOCOL_VERSION;
use crate::disk::host::now_ms;
use crate::disk::platform::{FileId, SharedMemory};
use crate::disk::slot::{SLOT_WORDS, Slot};
use crate::disk::words::{Words, futex_value, mix};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Slots for processes. A process beyond them works without one.
pub(crate) const SLOTS: usize = 128;
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
const POISON: usize = 21; // rising: how often a flush failed or was repaired; odd while one is not repaired
const FLUSH_TIME: usize = 22; // sealed like a rising one: µs
const MAKING: usize = 23; // rising: sequence
const TICKET: usize = 48;
const SLOT_BOUND: usize = 49;
const FLUSHES: usize = 50;
/// Wakes processes that wait for a flush.
const FLUSHED: usize = 56;
/// Wakes processes that wait for a change.
const CHANGED: usize = 57;
/// The number of waiters, in the word two further on: without waiters the waker saves a system call.
const WAITERS: usize = 2;
/// Until when the last of them waits, in the word four further on: a process killed in its wait must not count
/// for ever.
const WAITING_UNTIL: usize = 4;

/// A waiter that cannot increment that number sleeps no longer than this.
const UNANNOUNCED: Duration = Duration::from_millis(5);
/// A waiter may still be counted this much later than it meant to wake.
const LATE_MS: u64 = 1000;

/// The protocol, in plain: unlike every other word, this one has the same meaning and place in every version.
const VERSION: usize = 63;
/// The layout above, and the protocol of the lock bytes (`docs/LOCKING.md`).
pub(crate) const PROTOCOL: u64 = plain(PROTOCOL_VERSION as u64);

/// A version as the word [`VERSION`] has it: a mark, the version's complement, the version, of 32, 16 and 16 bits.
const fn plain(version: u64) -> u64 {
    0x6d73_6964 << 32 | (!version & 0xffff) << 16 | version & 0xffff
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

/// A view of the shared memory.
#[derive(Clone)]
pub(crate) struct Sidecar {
    words: Words,
}

/// The words that say how far everything has come, as they were at one time.
pub(crate) struct WordsBefore([u64; 3]);

impl Sidecar {
    /// A view of memory, as the sidecar of this store in this file.
    pub(crate) fn new(memory: Arc<dyn SharedMemory>, store_id: &[u8; 16], file: FileId) -> Sidecar {
        let (low, high) = store_id.split_at(8);
        let word = |bytes: &[u8]| bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        let salt = mix(PROTOCOL, [word(low), word(high), file.device, file.inode]);
        Sidecar { words: Words { memory, salt } }
    }

    pub(crate) fn memory(&self) -> &Arc<dyn SharedMemory> {
        &self.words.memory
    }

    /// [`Sidecar::durable`] and [`Sidecar::visible`]. A value beyond the published end of the log is garbage that
    /// looks valid. (The end is published before anything up to it is called durable or visible; therefore it is
    /// read after them.)
    pub(crate) fn durable_and_visible(&self) -> [Option<u64>; 2] {
        let (lsns, tail) = ([DURABLE, VISIBLE].map(|at| self.words.risen(at)), self.tail());
        lsns.map(|lsn| lsn.filter(|lsn| tail.is_none_or(|tail| *lsn <= tail.lsn)))
    }

    pub(crate) fn is_current(&self) -> bool {
        self.words.memory.is_current()
    }

    /// The epoch in which it was set up for this store, in this file; `None` if it was not.
    pub(crate) fn epoch(&self) -> Option<u64> {
        if self.words.memory.words().len() * 8 < SIDECAR_SIZE {
            return None;
        }
        self.words.read(IDENTITY).and_then(|[layout, epoch]| (layout == PROTOCOL).then_some(epoch))
    }

    /// The version of the protocol, if it is a sidecar of another one.
    pub(crate) fn other_protocol(&self) -> Option<u64> {
        let found = self.words.load(VERSION);
        (found == plain(found & 0xffff) && found != PROTOCOL).then_some(found & 0xffff)
    }

    /// Makes it one of another version.
    #[cfg(test)]
    pub(crate) fn set_protocol(&self, version: u64) {
        self.words.store(VERSION, plain(version));
    }

    /// Clears the board, and sets it up for this store, without hints yet.
    pub(crate) fn set_up(&self, epoch: u64) {
        self.clear();
        self.words.store(VERSION, PROTOCOL);
        self.words.publish(IDENTITY, &[PROTOCOL, epoch]);
    }

    /// Afterwards it belongs to no store, and counts no failed flush.
    pub(crate) fn clear(&self) {
        for index in 0..BOARD_WORDS {
            // Sleepers compare these two with the value they saw: they must only count up.
            if index != FLUSHED && index != CHANGED {
                self.words.store(index, 0);
            }
        }
        for index in 0..SLOTS {
            self.slot(index).set_ticket(0);
        }
        self.words.store(POISON, self.words.seal(POISON, 0));
    }

    pub(crate) fn tail(&self) -> Option<TailHint> {
        let [end, start, lsn, last] = self.words.read::<4>(TAIL)?;
        let crc = u32::try_from(last & 0xffff_ffff).ok()?;
        Some(TailHint { end, start, lsn, crc, open: last >> 32 == 1 })
    }

    pub(crate) fn set_tail(&self, tail: TailHint) {
        self.words.publish(TAIL, &[tail.end, tail.start, tail.lsn, u64::from(tail.crc) | u64::from(tail.open) << 32]);
    }

    /// The words before the file was read, for [`Sidecar::publish_all`].
    pub(crate) fn words_before(&self) -> WordsBefore {
        WordsBefore([ROOT, DURABLE, VISIBLE].map(|at| self.words.load(at)))
    }

    /// Restores the hints: the newest root, what is known to be durable, and what is visible. The caller has read
    /// everything in the file since it called [`Sidecar::words_before`].
    pub(crate) fn publish_all(&self, before: &WordsBefore, root: u64, durable: u64, visible: u64) {
        for ((at, value), before) in [(ROOT, root), (DURABLE, durable), (VISIBLE, visible)].into_iter().zip(before.0) {
            self.words.restore(at, before, value);
        }
    }

    /// Newest LSN that a flush of a sealed batch has covered.
    pub(crate) fn durable(&self) -> Option<u64> {
        self.durable_and_visible()[0]
    }

    pub(crate) fn rise_durable(&self, lsn: u64) {
        self.words.rise(DURABLE, lsn);
    }

    /// Newest LSN that readers see whether or not it is durable. (They also see what is durable.)
    pub(crate) fn visible(&self) -> Option<u64> {
        self.durable_and_visible()[1]
    }

    pub(crate) fn rise_visible(&self, lsn: u64) {
        self.words.rise(VISIBLE, lsn);
    }

    /// Newest LSN that a reader without hints has flushed, and shown, without sealing its batch.
    pub(crate) fn flushed_unsealed(&self) -> u64 {
        self.words.risen(FLUSHED_UNSEALED).unwrap_or(0)
    }

    pub(crate) fn rise_flushed_unsealed(&self, lsn: u64) {
        self.words.say(FLUSHED_UNSEALED, lsn);
    }

    /// Newest root known to be durable.
    pub(crate) fn root(&self) -> Option<u64> {
        self.words.risen(ROOT)
    }

    pub(crate) fn rise_root(&self, sequence: u64) {
        self.words.rise(ROOT, sequence);
    }

    /// Newest root of which a slot was written, or is about to be, if that is known for certain.
    pub(crate) fn making(&self) -> Option<u64> {
        self.words.risen(MAKING)
    }

    /// To be called before the slot of this root is written.
    pub(crate) fn rise_making(&self, sequence: u64) {
        self.words.rise(MAKING, sequence);
    }

    /// No slot that may be on disk holds a newer root than this one: the caller has written both slots and
    /// flushed them, or knows of every root made since then. (A higher value is kept until a root of that number
    /// is made.)
    pub(crate) fn settle_making(&self, sequence: u64) {
        self.words.say(MAKING, sequence);
    }

    /// Lowers the word, as an older copy put back in place does.
    #[cfg(test)]
    pub(crate) fn set_root_back(&self, sequence: u64) {
        self.words.store(ROOT, self.words.seal(ROOT, sequence));
    }

    /// Makes VISIBLE silent.
    #[cfg(test)]
    pub(crate) fn spoil_visible(&self) {
        self.words.store(VISIBLE, 0);
    }

    /// LSN of the newest transaction that changed the set of tables, if that is known for certain.
    pub(crate) fn tables(&self) -> Option<u64> {
        self.words.risen(TABLES)
    }

    pub(crate) fn rise_tables(&self, lsn: u64) {
        self.words.say(TABLES, lsn);
    }

    /// The count of failed flushes and repairs. Odd: a flush has failed and is not repaired yet.
    pub(crate) fn failures(&self) -> u64 {
        self.words.risen(POISON).unwrap_or(0)
    }

    pub(crate) fn poisoned(&self) -> bool {
        !self.failures().is_multiple_of(2)
    }

    /// Publishes that a flush has failed, also to a process that is about to publish the repair of an earlier
    /// failure.
    pub(crate) fn poison(&self) {
        let failures = self.failures();
        self.words.say(POISON, failures + 1 + failures % 2);
    }

    /// Publishes that the last of this many failures is repaired. `false`: another flush has failed meanwhile.
    pub(crate) fn publish_repaired(&self, failures: u64) -> bool {
        let (from, to) = (self.words.seal(POISON, failures), self.words.seal(POISON, failures + 1));
        self.words
            .own_word(POISON)
            .is_none_or(|word| word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    /// How long recent flushes took.
    pub(crate) fn flush_time(&self) -> Option<Duration> {
        self.words.risen(FLUSH_TIME).map(Duration::from_micros)
    }

    pub(crate) fn set_flush_time(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(1 << 40);
        self.words.store(FLUSH_TIME, self.words.seal(FLUSH_TIME, micros));
    }

    fn wait(&self, at: usize, seen: u64, timeout: Duration) {
        let (Some(waiters), Some(until)) = (self.words.own_word(at + WAITERS), self.words.own_word(at + WAITING_UNTIL))
        else {
            // No waker can know of this waiter: it wakes by itself.
            return self.words.memory.wait(at, futex_value(seen), timeout.min(UNANNOUNCED));
        };
        let end = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).saturating_add(now_ms());
        until.fetch_max(end.saturating_add(LATE_MS), Ordering::SeqCst);
        // Counted before the word is compared, while the waker changes the word before it reads the count: a
        // waker that sees no waiter has changed the word in time for the comparison.
        waiters.fetch_add(1, Ordering::SeqCst);
        self.words.memory.wait(at, futex_value(seen), timeout);
        let _ = waiters.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(1)));
    }

    /// Whether a process waits on a word. Resets a count whose waiters are all dead.
    fn is_waited_for(&self, at: usize) -> bool {
        let (Some(waiters), Some(until)) = (self.words.word(at + WAITERS), self.words.word(at + WAITING_UNTIL)) else {
            return false;
        };
        let count = waiters.load(Ordering::SeqCst);
        if count == 0 {
            return false;
        }
        let in_time = until.load(Ordering::SeqCst) >= now_ms();
        if !in_time && self.words.memory.is_writable() {
            let _ = waiters.compare_exchange(count, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        in_time
    }

    fn wake(&self, at: usize) {
        if let Some(word) = self.words.own_word(at) {
            word.fetch_add(1, Ordering::SeqCst);
            if self.is_waited_for(at) {
                self.words.memory.wake_all(at);
            }
        }
    }

    /// The value that [`Sidecar::wait_flushed`] compares with. Read it before reading what the wake-up announces.
    pub(crate) fn flushed_word(&self) -> u64 {
        self.words.load(FLUSHED)
    }

    pub(crate) fn wait_flushed(&self, seen: u64, timeout: Duration) {
        self.wait(FLUSHED, seen, timeout);
    }

    pub(crate) fn wake_flushed(&self) {
        self.wake(FLUSHED);
    }

    /// How many flushes the holders of SYNC have completed.
    pub(crate) fn flushes(&self) -> u64 {
        self.words.load(FLUSHES)
    }

    pub(crate) fn count_flush(&self) {
        if let Some(word) = self.words.own_word(FLUSHES) {
            word.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether a process waits for its turn to write, or for a flush.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_waited_for(FLUSHED) || self.first_waiter().is_some()
    }

    pub(crate) fn changed_word(&self) -> u64 {
        self.words.load(CHANGED)
    }

    pub(crate) fn wait_changed(&self, seen: u64, timeout: Duration) {
        self.wait(CHANGED, seen, timeout);
    }

    pub(crate) fn wake_changed(&self) {
        self.wake(CHANGED);
    }

    // The writers' queue.

    pub(crate) fn slot(&self, index: usize) -> Slot<'_> {
        Slot { words: &self.words, base: BOARD_WORDS + (index % SLOTS) * SLOT_WORDS }
    }

    /// A ticket higher than all before it.
    pub(crate) fn draw_ticket(&self) -> u64 {
        self.words.own_word(TICKET).map_or(1, |w| w.fetch_add(1, Ordering::AcqRel)).wrapping_add(1).max(1)
    }

    /// How many slots, from the first, may be in use.
    pub(crate) fn slot_bound(&self) -> usize {
        usize::try_from(self.words.load(SLOT_BOUND)).unwrap_or(SLOTS).min(SLOTS)
    }

    pub(crate) fn raise_slot_bound(&self, bound: usize) {
        if let Some(word) = self.words.own_word(SLOT_BOUND) {
            word.fetch_max(bound as u64, Ordering::AcqRel);
        }
    }

    /// The first waiter: the slot with the lowest ticket.
    pub(crate) fn first_waiter(&self) -> Option<(usize, u64)> {
        (0..self.slot_bound()).map(|i| (i, self.slot(i).ticket())).filter(|(_, t)| *t != 0).min_by_key(|(_, t)| *t)
    }
}

#[cfg(test)]
#[path = "sidecar_tests.rs"]
mod tests;
