//! Numbers that look like chance and are the same for the same seed: SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, 2014).
//! All tests, tools and benchmarks take theirs from here; each program includes this file.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "no program uses all of it")]

/// What the state rises by at each step: an odd number without a pattern in its bits.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Moves each bit of a number through all the others.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A source of numbers, from its seed.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`, of the type of `end`; 0 if `end` is 0.
    pub fn below<N: TryFrom<u64> + TryInto<u64> + Default>(&mut self, end: N) -> N {
        let end = end.try_into().unwrap_or(0).max(1);
        N::try_from(self.next() % end).unwrap_or_default()
    }

    /// Whether the one in `n` cases is met.
    pub fn one_in<N: TryFrom<u64> + TryInto<u64> + Default + PartialEq>(&mut self, n: N) -> bool {
        self.below(n) == N::default()
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.iter_mut().zip(self.next().to_le_bytes()).for_each(|(place, byte)| *place = byte);
        }
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        bytes
    }
}
