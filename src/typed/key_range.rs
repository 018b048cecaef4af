//! Ranges and prefixes of keys, as callers write them.

use std::borrow::Cow;
use std::ops::{Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use super::key::AsKey;

/// Both ends of a range of keys, encoded.
pub type KeyBounds<'a> = (Bound<Cow<'a, [u8]>>, Bound<Cow<'a, [u8]>>);

/// Any of the standard ranges over a form of the key: `..`, `"a".."m"`, `(7, "x")..`, `..=9`, or a pair of
/// [`Bound`]s, as in `(Bound::Excluded(last), Bound::Unbounded)` to continue after `last`.
///
/// A trait of its own, because with [`RangeBounds`] the type of `..` would have to be spelled out.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::{KeyRange, Table};
/// use std::ops::Bound;
/// const VISITS: Table<(&str, u32), ()> = Table::new("visits");
/// store.write(|tx| tx.table(VISITS)?.bulk_load([(("ada", 1), ()), (("ada", 2), ()), (("bob", 1), ())]).map(drop))?;
/// let snapshot = store.read()?;
/// let visits = snapshot.table(VISITS)?;
/// assert_eq!(visits.range(("ada", 2)..)?.count(), 2);
/// assert_eq!(visits.range((Bound::Excluded(("ada", 2)), Bound::Unbounded))?.count(), 1);
///
/// // What it is made into: both ends, as bytes.
/// let (from, to) = KeyRange::<u16>::bounds(&(1..));
/// assert_eq!((from, to), (Bound::Included(vec![0, 1].into()), Bound::Unbounded));
/// # Ok::<(), memstone::Error>(())
/// ```
pub trait KeyRange<O> {
    /// Both ends, encoded.
    fn bounds(&self) -> KeyBounds<'_>;
}

impl<O> KeyRange<O> for RangeFull {
    fn bounds(&self) -> KeyBounds<'_> {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

macro_rules! key_ranges {
    ($($range:ty),+) => {
        $(impl<O, Q: AsKey<O>> KeyRange<O> for $range {
            fn bounds(&self) -> KeyBounds<'_> {
                (RangeBounds::<Q>::start_bound(self).map(Q::to_key), RangeBounds::<Q>::end_bound(self).map(Q::to_key))
            }
        })+
    };
}

key_ranges!(Range<Q>, RangeInclusive<Q>, RangeFrom<Q>, RangeTo<Q>, RangeToInclusive<Q>, (Bound<Q>, Bound<Q>));

/// The common start of all keys of a prefix scan.
///
/// - for strings, bytes, fixed arrays and UUIDs: their first bytes, `prefix("ab")`;
/// - for tuples: their leading parts, each whole, `prefix((7,))` on keys `(u32, &str)`; or all
///   parts, of which the last is itself a prefix, `prefix((7, "ab"))`.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::{KeyPrefix, Table};
/// const VISITS: Table<(&str, &str), ()> = Table::new("visits");
/// store.write(|tx| tx.table(VISITS)?.bulk_load([(("ada", "inn"), ()), (("ada", "zoo"), ()), (("bob", "inn"), ())]).map(drop))?;
/// let snapshot = store.read()?;
/// let visits = snapshot.table(VISITS)?;
/// assert_eq!((visits.prefix(("ada",))?.count(), visits.prefix(("ada", "z"))?.count()), (2, 1));
///
/// let mut bytes = Vec::new();
/// KeyPrefix::<(String, String)>::encode_prefix(&("ada", "z"), &mut bytes);
/// assert_eq!(bytes, b"ada\0\0z");
/// # Ok::<(), memstone::Error>(())
/// ```
pub trait KeyPrefix<O> {
    /// Appends the bytes with which all these keys start.
    fn encode_prefix(&self, out: &mut Vec<u8>);
}

impl<O, Q: KeyPrefix<O> + ?Sized> KeyPrefix<O> for &Q {
    fn encode_prefix(&self, out: &mut Vec<u8>) {
        (**self).encode_prefix(out);
    }
}

macro_rules! slice_prefixes {
    ($([$($generics:tt)*] $form:ty => $owned:ty),+) => {
        $(impl<$($generics)*> KeyPrefix<$owned> for $form {
            fn encode_prefix(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.as_ref());
            }
        })+
    };
}

slice_prefixes!(
    [] str => String,
    [] String => String,
    [] [u8] => Vec<u8>,
    [] Vec<u8> => Vec<u8>,
    [const N: usize] [u8; N] => Vec<u8>,
    [const N: usize] [u8] => [u8; N],
    [const N: usize, const M: usize] [u8; M] => [u8; N]
);
#[cfg(feature = "uuid")]
slice_prefixes!([] [u8] => uuid::Uuid, [const M: usize] [u8; M] => uuid::Uuid);
