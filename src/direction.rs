//! The direction of a walk over keys.

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

impl Direction {
    /// Whether a walk comes to `a` before `b`.
    pub(crate) fn before(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Direction::Forward => a < b,
            Direction::Backward => a > b,
        }
    }

    /// The place after `index`: before the first one lies a number that is larger than any count.
    #[inline]
    pub(crate) fn next(self, index: usize) -> usize {
        match self {
            Direction::Forward => index + 1,
            Direction::Backward => index.wrapping_sub(1),
        }
    }
}
