//! One process' part of the sidecar: its identity, what it waits for or holds, and its counters.
//!
//! Only the process that holds the slot's lock byte writes there, except that any process may clear a ticket that
//! no live process stands behind.

use crate::disk::words::{Words, futex_value};
use crate::error::Holder;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 64-bit words of a slot.
pub(crate) const SLOT_WORDS: usize = 128;
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
/// A random number of each opening of the store.
const SLOT_OWNER: usize = 16;
/// Since when the process has pinned the oldest tree version that it keeps, in milliseconds since 1970; 0 without
/// one.
const SLOT_PINNED: usize = 17;
const SLOT_WAITS: usize = 24;
const SLOT_HOST: usize = 64;
const HOST_WORDS: usize = 8;
const SLOT_COMMAND: usize = 72;
const COMMAND_WORDS: usize = 32;

/// Buckets of the histogram of waits: bucket `i` counts waits below 2^i µs.
pub(crate) const WAIT_BUCKETS: usize = 32;

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

/// What a process waits for or holds, in its slot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    Waiting,
    Writing,
    Checkpointing,
}

/// Milliseconds since 1970, for people to read.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

/// Garbage becomes an unlikely time, not a panic; 0 stands for none.
fn from_unix_ms(ms: u64) -> Option<SystemTime> {
    (ms != 0).then(|| UNIX_EPOCH + Duration::from_millis(ms.min(1 << 45)))
}

/// One process' part of the sidecar.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(super) words: &'a Words,
    pub(super) base: usize,
}

impl Slot<'_> {
    /// Clears the slot for a new owner, and writes the owner's identity.
    pub(crate) fn introduce(&self, owner: u64, pid: u32, host: &str, command: &str) {
        for i in 0..SLOT_WORDS {
            self.words.store(self.base + i, 0);
        }
        self.words.store(self.base + SLOT_OWNER, owner);
        self.words.store(self.base + SLOT_PID, u64::from(pid));
        self.words.store(self.base + SLOT_STARTED, unix_ms());
        self.write_text(SLOT_HOST, HOST_WORDS, host);
        self.write_text(SLOT_COMMAND, COMMAND_WORDS, command);
    }

    /// Whether the slot names its present owner, not the one before, which may have had the same process id.
    pub(crate) fn is_introduced_as(&self, owner: u64) -> bool {
        self.words.load(self.base + SLOT_OWNER) == owner
    }

    fn write_text(&self, at: usize, words: usize, text: &str) {
        let mut bytes = text.as_bytes().iter().copied();
        for i in 0..words {
            let word: [u8; 8] = std::array::from_fn(|_| bytes.next().unwrap_or(0));
            self.words.store(self.base + at + i, u64::from_le_bytes(word));
        }
    }

    fn read_text(&self, at: usize, words: usize) -> String {
        let bytes = (0..words).flat_map(|i| self.words.load(self.base + at + i).to_le_bytes());
        let bytes: Vec<u8> = bytes.take_while(|b| *b != 0).collect();
        String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    pub(crate) fn ticket(&self) -> u64 {
        self.words.load(self.base + SLOT_TICKET)
    }

    pub(crate) fn set_ticket(&self, ticket: u64) {
        self.words.store(self.base + SLOT_TICKET, ticket);
    }

    /// When its owner drew the ticket, in µs of the clock that all processes share.
    pub(crate) fn since(&self) -> u64 {
        self.words.load(self.base + SLOT_SINCE)
    }

    pub(crate) fn set_since(&self, now_us: u64) {
        self.words.store(self.base + SLOT_SINCE, now_us);
    }

    /// Clears a ticket that no process stands behind, unless it has changed meanwhile.
    pub(crate) fn clear_ticket(&self, ticket: u64) {
        if let Some(word) = self.words.own_word(self.base + SLOT_TICKET) {
            let _ = word.compare_exchange(ticket, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    pub(crate) fn wake_word(&self) -> u64 {
        self.words.load(self.base + SLOT_WAKE)
    }

    pub(crate) fn wait(&self, seen: u64, timeout: Duration) {
        self.words.memory.wait(self.base + SLOT_WAKE, futex_value(seen), timeout);
    }

    pub(crate) fn wake(&self) {
        if let Some(word) = self.words.own_word(self.base + SLOT_WAKE) {
            word.fetch_add(1, Ordering::AcqRel);
            self.words.memory.wake_all(self.base + SLOT_WAKE);
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

    /// Notes since when the process is in this state; `false`: it no longer is.
    pub(crate) fn set_state(&self, state: State, on: bool) {
        self.words.store(self.state_word(state), if on { unix_ms() } else { 0 });
    }

    pub(crate) fn state(&self, state: State) -> Option<SystemTime> {
        from_unix_ms(self.words.load(self.state_word(state)))
    }

    pub(crate) fn holder(&self, since: Option<SystemTime>) -> Holder {
        Holder {
            pid: u32::try_from(self.words.load(self.base + SLOT_PID)).unwrap_or(0),
            host: self.read_text(SLOT_HOST, HOST_WORDS),
            command: self.read_text(SLOT_COMMAND, COMMAND_WORDS),
            since,
            stopped: false,
        }
    }

    /// Notes since when the process keeps the oldest state that it keeps; 0: it keeps none.
    pub(crate) fn set_pinned(&self, since_ms: u64) {
        self.words.store(self.base + SLOT_PINNED, since_ms);
    }

    pub(crate) fn pinned(&self) -> Option<SystemTime> {
        from_unix_ms(self.words.load(self.base + SLOT_PINNED))
    }

    pub(crate) fn started(&self) -> SystemTime {
        from_unix_ms(self.words.load(self.base + SLOT_STARTED)).unwrap_or(UNIX_EPOCH)
    }

    // Only the slot's own process counts in it, so plain addition is enough.

    pub(crate) fn count(&self, counter: Counter, n: u64) {
        let at = self.base + SLOT_COUNTERS + counter as usize;
        self.words.store(at, self.words.load(at).wrapping_add(n));
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.words.load(self.base + SLOT_COUNTERS + counter as usize)
    }

    /// Counts an acquisition of the writer lock after this wait.
    pub(crate) fn count_wait(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.count(Counter::Acquisitions, 1);
        self.count(Counter::WaitTotal, micros);
        let longest = micros.max(self.counter(Counter::WaitLongest));
        self.words.store(self.base + SLOT_COUNTERS + Counter::WaitLongest as usize, longest);
        self.words.store(self.base + SLOT_COUNTERS + Counter::LastAcquired as usize, unix_ms());
        let bucket = (64 - micros.leading_zeros() as usize).min(WAIT_BUCKETS - 1);
        let at = self.base + SLOT_WAITS + bucket;
        self.words.store(at, self.words.load(at).wrapping_add(1));
    }

    pub(crate) fn waits(&self) -> [u64; WAIT_BUCKETS] {
        std::array::from_fn(|i| self.words.load(self.base + SLOT_WAITS + i))
    }

    pub(crate) fn last_acquired(&self) -> Option<SystemTime> {
        from_unix_ms(self.counter(Counter::LastAcquired))
    }
}
