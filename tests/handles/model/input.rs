//! The operations of a sequence, read from bytes.

use super::tables::{Bounds, Kind};
use std::ops::Bound;

const NAMES: [&str; 4] = ["a", "b", "tables may have long names", ""];
const SIZES: [usize; 8] = [0, 3, 100, 1000, 1025, 5000, 20_000, 40_000];

/// The input, byte by byte; zeros after its end.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// A place in something that has so many; none if it has none.
    pub fn place(&mut self, len: usize) -> Option<usize> {
        let at = usize::from(self.byte());
        (len > 0).then(|| at % len)
    }

    pub fn name(&mut self) -> &'static str {
        // Mostly the first two, so that things happen to the same table.
        NAMES[usize::from(self.byte()).trailing_zeros().min(3) as usize]
    }

    pub fn kind(&mut self) -> Kind {
        if self.byte().is_multiple_of(4) { Kind::Typed } else { Kind::Raw }
    }

    /// Few distinct keys, some of which begin others, some long. Those of typed tables are text.
    pub fn key(&mut self, kind: Kind) -> Vec<u8> {
        let byte = self.byte();
        let mut key = match byte >> 5 {
            0..4 => vec![b'k', byte & 15],
            4 => vec![b'k'; usize::from(byte & 0x1f)],
            5 | 6 => [b"prefix/".as_slice(), &[byte & 7, self.byte()]].concat(),
            _ => [vec![byte & 3; 1 << (byte & 15).min(12)], vec![self.byte()]].concat(),
        };
        if kind == Kind::Typed {
            key.iter_mut().for_each(|byte| *byte &= 0x7f);
        }
        key
    }

    pub fn value(&mut self) -> Vec<u8> {
        let (size, fill) = (self.byte(), self.byte());
        let len = SIZES[usize::from(size & 7)] + usize::from(size >> 3);
        (0..len).map(|i| fill.wrapping_add((i / 7) as u8)).collect()
    }

    pub fn bounds(&mut self, kind: Kind) -> Bounds {
        [(); 2].map(|()| match self.byte() % 4 {
            0 => Bound::Included(self.key(kind)),
            1 => Bound::Excluded(self.key(kind)),
            _ => Bound::Unbounded,
        })
    }
}
