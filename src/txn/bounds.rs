//! Ranges of byte strings, as callers write them.

use std::ops::{Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// A range of keys of a raw table: any of the standard ranges over a form of bytes, `..`, `b"a"..`, `"a".."m"`,
/// `..=key`, or a pair of [`Bound`]s, as in `(Bound::Excluded(last), Bound::Unbounded)` to continue after `last`.
/// One that ends before it starts is empty.
///
/// A trait of its own, because with [`RangeBounds`] the type of `..` would have to be spelled out.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// use std::ops::Bound;
/// store.write(|tx| tx.raw("t")?.bulk_load([("a", "1"), ("b", "2"), ("c", "3")]).map(drop))?;
///
/// let snapshot = store.read()?;
/// let table = snapshot.raw("t")?;
/// assert_eq!(table.range(..)?.count(), 3);
/// assert_eq!(table.range(b"b"..)?.count(), 2);
/// assert_eq!(table.range("a".."c")?.count(), 2);
/// assert_eq!(table.range(..=vec![b'b'])?.count(), 2);
/// assert_eq!(table.range((Bound::Excluded(b"a"), Bound::Unbounded))?.count(), 2);
/// # Ok::<(), memstone::Error>(())
/// ```
pub trait ByteRange {
    /// Both ends.
    ///
    /// ```
    /// use memstone::ByteRange;
    /// use std::ops::Bound;
    /// assert_eq!(("a".."m").bounds(), (Bound::Included(&b"a"[..]), Bound::Excluded(&b"m"[..])));
    /// ```
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>);
}

impl ByteRange for RangeFull {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

macro_rules! byte_ranges {
    ($($range:ty),+) => {
        $(impl<Q: AsRef<[u8]>> ByteRange for $range {
            fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
                (RangeBounds::<Q>::start_bound(self).map(Q::as_ref), RangeBounds::<Q>::end_bound(self).map(Q::as_ref))
            }
        })+
    };
}

byte_ranges!(Range<Q>, RangeInclusive<Q>, RangeFrom<Q>, RangeTo<Q>, RangeToInclusive<Q>, (Bound<Q>, Bound<Q>));
