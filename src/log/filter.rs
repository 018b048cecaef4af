//! A Bloom filter (B. H. Bloom, 1970) of the keys of a memtable: most reads are for a key that the log does not
//! contain, and find that out from two words.
//!
//! It grows with the keys, so that it is small for a log with few of them, and good for one with many.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The sizes of a filter, in words, which are powers of two: 4 KiB to 16 MiB.
const SIZES: [usize; 5] = [1 << 9, 1 << 12, 1 << 15, 1 << 18, 1 << 21];
/// With fewer bits for each key it grows to the next size.
const BITS: usize = 7;

type Words = [AtomicU64];

#[derive(Debug, Default)]
pub(super) struct Filter {
    /// The last of these that is made has all keys. The ones before it stay, for readers that look at them just now:
    /// they are an eighth of it.
    made: [OnceLock<Box<Words>>; SIZES.len()],
    /// Which one that is.
    last: AtomicUsize,
    keys: AtomicUsize,
}

/// The first eight bytes of a key, as a number that is ordered as they are.
pub(super) fn head(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let n = key.len().min(8);
    if let (Some(to), Some(from)) = (bytes.get_mut(..n), key.get(..n)) {
        to.copy_from_slice(from);
    }
    u64::from_be_bytes(bytes)
}

/// The positions of a key's two bits in a filter of so many words: word, bit.
fn places(table: u32, key: &[u8], size: usize) -> [(usize, u64); 2] {
    // Eight bytes at a time, each mixed by a multiplication whose halves are combined by XOR.
    let mut hash = u64::from(table) ^ 0x9e37_79b9_7f4a_7c15;
    let mut step = |word: u64| {
        let product = u128::from(hash ^ word) * 0x2d35_8dcc_aa6c_78a5_u128;
        hash = low_half(product) ^ low_half(product >> 64);
    };
    let mut words = key.chunks_exact(8);
    for chunk in &mut words {
        step(chunk.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    }
    step(head(words.remainder()) ^ key.len() as u64);
    step(0x4b33_a62e_d433_d4a3);
    let place = |hash: u64| (usize::try_from(hash >> 6).unwrap_or(0) & (size - 1), 1 << (hash & 63));
    [place(hash & 0xffff_ffff), place(hash >> 32)]
}

fn low_half(value: u128) -> u64 {
    u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0)
}

fn set(words: &Words, table: u32, key: &[u8]) {
    for (word, bit) in places(table, key, words.len()) {
        if let Some(word) = words.get(word) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }
}

impl Filter {
    /// Adds a key; `others` are those added before. One thread at a time may do so.
    pub(super) fn add(&self, table: u32, key: &[u8], others: impl FnOnce(&mut dyn FnMut(u32, &[u8]))) {
        let keys = self.keys.fetch_add(1, Ordering::Relaxed) + 1;
        let last = self.last.load(Ordering::Relaxed);
        let full = SIZES.get(last).is_some_and(|size| keys * BITS > size * 64) && last + 1 < SIZES.len();
        let at = if full { last + 1 } else { last };
        let (Some(words), Some(size)) = (self.made.get(at), SIZES.get(at)) else { return };
        let words = words.get_or_init(|| (0..*size).map(|_| AtomicU64::new(0)).collect());
        if full {
            others(&mut |table, key| set(words, table, key));
        }
        set(words, table, key);
        self.last.store(at, Ordering::Release);
    }

    /// Never `false` for a key that was added before the reading snapshot was taken.
    #[inline]
    pub(super) fn may_hold(&self, table: u32, key: &[u8]) -> bool {
        let last = self.made.get(self.last.load(Ordering::Acquire));
        let Some(words) = last.and_then(OnceLock::get) else { return false };
        let is_set = |(at, bit): &(usize, u64)| words.get(*at).is_some_and(|w| w.load(Ordering::Relaxed) & bit != 0);
        places(table, key, words.len()).iter().all(is_set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_that_are_absent_pass_whatever_the_number_of_keys() {
        let (filter, mut added, mut seen) = (Filter::default(), 0_u32, Vec::new());
        for n in [1, 500, 4_000, 5_000, 30_000, 50_000, 299_000, 400_000] {
            for key in added..n {
                filter.add(7, &key.to_be_bytes(), |add| (0..key).for_each(|key| add(7, &key.to_be_bytes())));
            }
            added = n;
            assert!((0..n).all(|key| filter.may_hold(7, &key.to_be_bytes())));
            let passed = (n..n + 10_000).filter(|key| filter.may_hold(7, &key.to_be_bytes())).count();
            let bytes = SIZES[filter.last.load(Ordering::Relaxed)] * 8;
            assert!(passed < 700, "{n} keys, {bytes} bytes: {passed} of 10,000 pass");
            seen.push(bytes >> 10);
        }
        assert_eq!(seen, [4, 4, 4, 32, 32, 256, 256, 2048]);
    }
}
