//! What the processes tell each other through shared memory.
//!
//! Everything in here is a hint. Words that somebody acts upon are *sealed*: they carry a check
//! word made of their values and the store's id, so that garbage is told from a message. Whoever
//! finds no valid message looks at the file instead, and whoever publishes next mends it.
//!
//! Layout in 64-bit words: 0..64 the board (below), then 128 slots of 128 words, one for each
//! process, taken by a kernel lock on the data file.

use crate::disk::host::boot_id;
use crate::disk::platform::SharedMemory;
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
const IDENTITY: usize = 0; // sealed: 1 word (layout version)
const BOOT: usize = 4; // sealed: 1 word (the boot of the system)
const TAIL: usize = 8; // sealed: end, start, lsn, crc | open << 32
const DURABLE: usize = 16; // sealed: lsn
const RELAXED: usize = 24; // sealed: lsn; twice
const ROOT: usize = 32; // sealed: sequence
const POISON: usize = 40; // sealed: 1 if poisoned, 0 if not
const TABLES: usize = 44; // sealed: lsn
const TICKET: usize = 48;
const SLOT_BOUND: usize = 49;
/// Wakes those who wait for a flush.
const FLUSHED: usize = 56;
/// Wakes those who wait for a change.
const CHANGED: usize = 57;
/// How many wait, in the word two further on: without waiters nobody needs to be woken.
const WAITERS: usize = 2;

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
const SLOT_WAITS: usize = 24;
const SLOT_HOST: usize = 64;
const HOST_WORDS: usize = 8;
const SLOT_COMMAND: usize = 72;
const COMMAND_WORDS: usize = 32;

/// Buckets of the histogram of waits: bucket `i` counts waits below 2^i µs.
pub(crate) const WAIT_BUCKETS: usize = 32;

const LAYOUT: u64 = 0x6d73_6964_6563_0001;

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

impl Sidecar {
    pub(crate) fn new(memory: Arc<dyn SharedMemory>, store_id: &[u8; 16]) -> Sidecar {
        let (low, high) = store_id.split_at(8);
        let word = |half: &[u8]| half.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        Sidecar { memory, salt: word(low) ^ word(high).rotate_left(32) ^ LAYOUT }
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.memory.words().get(index)
    }

    fn load(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |w| w.load(Ordering::Acquire))
    }

    fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Ordering::Release);
        }
    }

    fn check(&self, at: usize, values: &[u64]) -> u64 {
        // SplitMix64's finalizer over the values in turn: quick, and no value leaves a bit unmoved.
        values.iter().fold(self.salt ^ at as u64, |mut h, value| {
            h = (h ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
            h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            h ^ (h >> 31)
        })
    }

    /// Publishes sealed words. One process at a time does so for each group: it holds the group's kernel lock.
    fn publish(&self, at: usize, values: &[u64]) {
        for (i, value) in values.iter().enumerate() {
            self.store(at + i, *value);
        }
        self.store(at + values.len(), self.check(at, values));
    }

    fn read<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        // A publisher in the middle of its few stores is waited for; one that died there is not.
        for _ in 0..64 {
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

    pub(crate) fn is_current(&self) -> bool {
        self.memory.is_current()
    }

    /// Whether this memory was set up for this store.
    pub(crate) fn is_ours(&self) -> bool {
        self.memory.words().len() * 8 >= SIDECAR_SIZE && self.read::<1>(IDENTITY) == Some([LAYOUT])
    }

    pub(crate) fn set_up(&self) {
        self.publish(IDENTITY, &[LAYOUT]);
        self.publish(POISON, &[0]);
    }

    /// Notes when it was set up, for those who find it when its users are gone.
    pub(crate) fn set_boot(&self) {
        self.publish(BOOT, &[boot_id()]);
    }

    /// Whether it was set up since the system started, and so is as old as anything in its cache.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.read::<1>(BOOT) == Some([boot_id()])
    }

    pub(crate) fn tail(&self) -> Option<TailHint> {
        let [end, start, lsn, last] = self.read::<4>(TAIL)?;
        let crc = u32::try_from(last & 0xffff_ffff).ok()?;
        Some(TailHint { end, start, lsn, crc, open: last >> 32 == 1 })
    }

    pub(crate) fn set_tail(&self, tail: TailHint) {
        self.publish(TAIL, &[tail.end, tail.start, tail.lsn, u64::from(tail.crc) | u64::from(tail.open) << 32]);
    }

    pub(crate) fn durable(&self) -> Option<u64> {
        self.read::<1>(DURABLE).map(|[lsn]| lsn)
    }

    pub(crate) fn set_durable(&self, lsn: u64) {
        self.publish(DURABLE, &[lsn]);
    }

    /// Nothing else tells how far relaxed commits were acknowledged, so a publisher that is stopped,
    /// or killed, between two stores must not take away what was said before.
    pub(crate) fn relaxed(&self) -> Option<u64> {
        let newest = self.read::<1>(RELAXED).max(self.read::<1>(RELAXED + 2));
        newest.map(|[lsn]| lsn)
    }

    pub(crate) fn set_relaxed(&self, lsn: u64) {
        self.publish(RELAXED, &[lsn]);
        self.publish(RELAXED + 2, &[lsn]);
    }

    pub(crate) fn root(&self) -> Option<u64> {
        self.read::<1>(ROOT).map(|[sequence]| sequence)
    }

    pub(crate) fn set_root(&self, sequence: u64) {
        self.publish(ROOT, &[sequence]);
    }

    /// LSN of the newest transaction that changed the set of tables, if that is known for certain.
    pub(crate) fn tables(&self) -> Option<u64> {
        self.read::<1>(TABLES).map(|[lsn]| lsn).filter(|lsn| *lsn != 0)
    }

    pub(crate) fn set_tables(&self, lsn: u64) {
        self.publish(TABLES, &[lsn]);
    }

    pub(crate) fn poisoned(&self) -> bool {
        self.read::<1>(POISON) == Some([1])
    }

    pub(crate) fn set_poisoned(&self, poisoned: bool) {
        self.publish(POISON, &[u64::from(poisoned)]);
    }

    fn wait(&self, at: usize, seen: u64, timeout: Duration) {
        let Some(waiters) = self.word(at + WAITERS) else { return };
        // Announced before the word is compared, and the word is changed before this is read: a
        // waker that sees no waiter has changed the word in time for the comparison.
        waiters.fetch_add(1, Ordering::SeqCst);
        self.memory.wait(at, low(seen), timeout);
        waiters.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self, at: usize) {
        if let Some(word) = self.word(at) {
            word.fetch_add(1, Ordering::SeqCst);
            if self.word(at + WAITERS).is_some_and(|waiters| waiters.load(Ordering::SeqCst) != 0) {
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

    /// Whether anybody waits for a turn to write, or for a flush.
    pub(crate) fn is_busy(&self) -> bool {
        self.load(FLUSHED + WAITERS) != 0 || self.first_waiter().is_some()
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
        self.word(TICKET).map_or(1, |w| w.fetch_add(1, Ordering::AcqRel)).wrapping_add(1).max(1)
    }

    /// How many slots, from the first, may be in use.
    pub(crate) fn slot_bound(&self) -> usize {
        usize::try_from(self.load(SLOT_BOUND)).unwrap_or(SLOTS).min(SLOTS)
    }

    pub(crate) fn raise_slot_bound(&self, bound: usize) {
        if let Some(word) = self.word(SLOT_BOUND) {
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

    /// Takes a ticket away that nobody stands behind, unless it has changed meanwhile.
    pub(crate) fn clear_ticket(&self, ticket: u64) {
        if let Some(word) = self.sidecar.word(self.base + SLOT_TICKET) {
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
        if let Some(word) = self.sidecar.word(self.base + SLOT_WAKE) {
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

/// Memory of this process alone, for when no sidecar can be had: threads still wake each other,
/// other processes are found by looking at the file.
pub(crate) struct PrivateMemory {
    words: Vec<AtomicU64>,
    lock: std::sync::Mutex<()>,
    changed: std::sync::Condvar,
}

impl PrivateMemory {
    pub(crate) fn new() -> PrivateMemory {
        let words = (0..SIDECAR_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        PrivateMemory { words, lock: std::sync::Mutex::new(()), changed: std::sync::Condvar::new() }
    }
}

impl SharedMemory for PrivateMemory {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn is_current(&self) -> bool {
        // A real sidecar is looked for each time somebody asks.
        false
    }

    fn wait(&self, index: usize, expected: u32, timeout: Duration) {
        let guard = crate::disk::locks::lock(&self.lock);
        if self.words.get(index).is_some_and(|w| low(w.load(Ordering::Acquire)) == expected) {
            let _ = self.changed.wait_timeout(guard, timeout);
        }
    }

    fn wake_all(&self, _index: usize) {
        let _guard = crate::disk::locks::lock(&self.lock);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_told_from_a_message() {
        let memory: Arc<dyn SharedMemory> = Arc::new(PrivateMemory::new());
        let sidecar = Sidecar::new(Arc::clone(&memory), b"0123456789abcdef");
        assert!(!sidecar.is_ours());
        sidecar.set_up();
        assert!(sidecar.is_ours());
        assert_eq!(sidecar.tail(), None);
        let tail = TailHint { end: 9, start: 8, lsn: 7, crc: 6, open: true };
        sidecar.set_tail(tail);
        sidecar.set_durable(5);
        assert_eq!(sidecar.tail(), Some(tail));
        assert_eq!(Sidecar::new(Arc::clone(&memory), b"another store id").durable(), None);
        for word in memory.words() {
            word.store(0x1234_5678_9abc_def0, Ordering::Relaxed);
        }
        assert_eq!((sidecar.tail(), sidecar.durable(), sidecar.is_ours()), (None, None, false));
        assert!(!sidecar.poisoned());
        let _ = (sidecar.first_waiter(), sidecar.slot(3).holder(None));
    }

    #[test]
    fn the_lowest_ticket_is_first() {
        let sidecar = Sidecar::new(Arc::new(PrivateMemory::new()), &[1; 16]);
        sidecar.raise_slot_bound(4);
        assert_eq!(sidecar.first_waiter(), None);
        sidecar.slot(3).set_ticket(sidecar.draw_ticket());
        sidecar.slot(1).set_ticket(sidecar.draw_ticket());
        assert_eq!(sidecar.first_waiter(), Some((3, 1)));
        sidecar.slot(3).clear_ticket(1);
        assert_eq!(sidecar.first_waiter(), Some((1, 2)));
    }
}
