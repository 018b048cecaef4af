//! The words of shared memory, sealed: the value that a process reads was written whole, and for this store.
//!
//! Words that a process acts upon carry a check of their values and a salt. A *rising* word says how far
//! something has come. It holds value and check in one 64-bit word, so that a store to it is atomic even if its
//! writer dies, and any process may raise it without a lock. A word without a valid check, or with the mark
//! [`LEAST`], is *silent*: it has no value.

use crate::disk::platform::SharedMemory;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a rising word that hold its content; the rest hold the check.
const SAID_BITS: u32 = 44;
/// The word is silent, and was raised meanwhile: its content is not its value but a lower bound of it.
pub(crate) const LEAST: u64 = 1 << (SAID_BITS - 1);

/// The content of a rising word.
enum Said {
    Value(u64),
    /// Silent, but raised to this meanwhile.
    AtLeast(u64),
    Nothing,
}

/// SplitMix64's finalizer over the values in turn: fast, and every bit of the values affects the result.
pub(crate) fn mix(seed: u64, values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(seed, |mut h, value| {
        h = (h ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        h ^ (h >> 31)
    })
}

/// What a wait on a word compares: its lower half.
pub(super) fn futex_value(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}

/// Shared memory, and the salt of its seals.
#[derive(Clone)]
pub(crate) struct Words {
    pub(super) memory: Arc<dyn SharedMemory>,
    pub(super) salt: u64,
}

impl Words {
    pub(super) fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.memory.words().get(index)
    }

    pub(super) fn load(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |w| w.load(Ordering::Acquire))
    }

    pub(super) fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.own_word(index) {
            word.store(value, Ordering::Release);
        }
    }

    /// A word to be changed; `None` if the sidecar is mapped for reading only.
    pub(super) fn own_word(&self, index: usize) -> Option<&AtomicU64> {
        self.word(index).filter(|_| self.memory.is_writable())
    }

    fn check(&self, at: usize, values: &[u64]) -> u64 {
        mix(self.salt ^ at as u64, values.iter().copied())
    }

    /// Publishes sealed words. For each group one process at a time does so: the holder of the group's kernel
    /// lock.
    pub(super) fn publish(&self, at: usize, values: &[u64]) {
        for (i, value) in values.iter().enumerate() {
            self.store(at + i, *value);
        }
        self.store(at + values.len(), self.check(at, values));
    }

    pub(super) fn read<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        // Waits for a publisher in the middle of its few stores, but not for one that is stopped or died there:
        // the reader looks again, or reads the file.
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

    pub(super) fn seal(&self, at: usize, said: u64) -> u64 {
        let check = mix(self.salt ^ at as u64, [said]) << SAID_BITS;
        check | said
    }

    fn unseal(&self, at: usize, word: u64) -> Said {
        let said = word & ((1 << SAID_BITS) - 1);
        match (self.seal(at, said) == word, said & LEAST) {
            (false, _) => Said::Nothing,
            (true, 0) => Said::Value(said),
            (true, _) => Said::AtLeast(said ^ LEAST),
        }
    }

    /// The value of a rising word; `None` if it is silent.
    pub(super) fn risen(&self, at: usize) -> Option<u64> {
        match self.unseal(at, self.load(at)) {
            Said::Value(value) => Some(value),
            Said::AtLeast(_) | Said::Nothing => None,
        }
    }

    /// Raises a word, unless its value is as high already. A silent word stays silent: it may have had a higher
    /// value before it was damaged, and only a process that has read the whole file restores it. That process may
    /// have read the file before this rise: so the word keeps the value as a lower bound of what the process must
    /// have found.
    pub(super) fn rise(&self, at: usize, value: u64) {
        self.change(at, value, |seen| match self.unseal(at, seen) {
            Said::Value(said) => (said < value).then_some(value),
            Said::AtLeast(least) => (least < value).then_some(value | LEAST),
            Said::Nothing => Some(value | LEAST),
        });
    }

    /// Raises a word, or restores it if it has been silent since `before`. If another process has restored it
    /// since then, its value may have been damaged once more, and the word stays silent.
    pub(super) fn restore(&self, at: usize, before: u64, value: u64) {
        let was_silent = !matches!(self.unseal(at, before), Said::Value(_));
        self.change(at, value, |seen| {
            let raise = match self.unseal(at, seen) {
                Said::Value(said) => said < value,
                Said::AtLeast(least) => was_silent && least <= value,
                Said::Nothing => seen == before,
            };
            raise.then_some(value)
        });
    }

    /// Raises a word, or gives it a value, whatever it was.
    pub(super) fn say(&self, at: usize, value: u64) {
        self.restore(at, self.load(at), value);
    }

    /// Changes a word. A value that does not fit is not stored.
    fn change(&self, at: usize, value: u64, says: impl Fn(u64) -> Option<u64>) {
        if let Some(word) = self.own_word(at).filter(|_| value < LEAST) {
            let seal = |said| self.seal(at, said);
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |seen| says(seen).map(seal));
        }
    }
}
