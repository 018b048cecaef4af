//! Bytes of a key or value, borrowed from the map of the file or shared with it.

use std::ops::{Deref, Range};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// Bytes that a snapshot or transaction returns, without copying where possible.
///
/// They are valid as long as the snapshot or transaction that they came from. `to_vec` (of the slice that they
/// deref to) copies them. In a forked child, do not read bytes that came from the parent: they may change once
/// the parent drops the snapshot or transaction.
#[derive(Clone)]
pub struct Bytes<'a>(Inner<'a>);

/// As many bytes as lie in the value itself, which is then no larger than the other forms.
pub(crate) const SMALL: usize = 30;

#[derive(Clone)]
enum Inner<'a> {
    Borrowed(&'a [u8]),
    Shared {
        buffer: Arc<[u8]>,
        range: Range<usize>,
    },
    Small {
        len: u8,
        bytes: [u8; SMALL],
    },
    /// A part of what a snapshot keeps.
    Kept {
        keeper: Arc<dyn Keeper>,
        range: Range<usize>,
    },
}

/// What keeps bytes alive, and in place, for bytes that borrow nothing.
pub(crate) trait Keeper: Send + Sync {
    /// The same bytes at every call.
    fn kept(&self) -> &[u8];
}

impl<'a> Bytes<'a> {
    pub(crate) fn borrowed(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes(Inner::Borrowed(bytes))
    }

    /// A copy.
    pub(crate) fn copied(bytes: &[u8]) -> Bytes<'static> {
        let mut small = [0; SMALL];
        if let Some(place) = small.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        Bytes::small(bytes.len(), &small).unwrap_or_else(|| Bytes::shared(Arc::from(bytes), 0..bytes.len()))
    }

    /// Bytes that were put together, whose beginning is in `bytes`. `None` if they are too many to lie in the value.
    #[inline]
    pub(crate) fn small<const N: usize>(len: usize, bytes: &[u8; N]) -> Option<Bytes<'static>> {
        let bytes = bytes.first_chunk::<SMALL>().filter(|_| len <= SMALL)?;
        Some(Bytes(Inner::Small { len: u8::try_from(len).ok()?, bytes: *bytes }))
    }

    /// A part of a shared buffer; the empty slice if the range lies outside of it.
    pub(crate) fn shared(buffer: Arc<[u8]>, range: Range<usize>) -> Bytes<'static> {
        Bytes(Inner::Shared { buffer, range })
    }

    /// These bytes without a borrow: what lies within what the keeper keeps stays there, other borrowed bytes are
    /// copied.
    pub(crate) fn keep<K: Keeper + 'static>(self, keeper: &Arc<K>) -> Bytes<'static> {
        match self.0 {
            Inner::Borrowed(bytes) if bytes.len() > SMALL => {
                let start = bytes.as_ptr().addr().wrapping_sub(keeper.kept().as_ptr().addr());
                let range = start..start.wrapping_add(bytes.len());
                // The same length at the same address is the same memory.
                match keeper.kept().get(range.clone()) {
                    Some(kept) if std::ptr::eq(kept, bytes) => {
                        let keeper = Arc::<K>::clone(keeper);
                        Bytes(Inner::Kept { keeper, range })
                    }
                    _ => Bytes::copied(bytes),
                }
            }
            Inner::Borrowed(bytes) => Bytes::copied(bytes),
            Inner::Shared { buffer, range } => Bytes(Inner::Shared { buffer, range }),
            Inner::Small { len, bytes } => Bytes(Inner::Small { len, bytes }),
            Inner::Kept { keeper, range } => Bytes(Inner::Kept { keeper, range }),
        }
    }

    /// A part of these bytes; the empty slice if the range lies outside.
    #[inline(always)]
    pub(crate) fn slice(&self, range: Range<usize>) -> Bytes<'a> {
        match &self.0 {
            Inner::Borrowed(bytes) => Bytes::borrowed(bytes.get(range).unwrap_or_default()),
            Inner::Shared { buffer, range: outer } => {
                Bytes(Inner::Shared { buffer: Arc::clone(buffer), range: within(outer, range) })
            }
            Inner::Kept { keeper, range: outer } => {
                Bytes(Inner::Kept { keeper: Arc::clone(keeper), range: within(outer, range) })
            }
            Inner::Small { .. } => Bytes::copied(self.get(range).unwrap_or_default()),
        }
    }
}

// They are never changed.
impl UnwindSafe for Bytes<'_> {}
impl RefUnwindSafe for Bytes<'_> {}

/// A range within a range.
fn within(outer: &Range<usize>, range: Range<usize>) -> Range<usize> {
    let start = outer.start.saturating_add(range.start).min(outer.end);
    let end = outer.start.saturating_add(range.end).min(outer.end);
    start..end.max(start)
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Borrowed(bytes) => bytes,
            Inner::Shared { buffer, range } => buffer.get(range.clone()).unwrap_or_default(),
            Inner::Small { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Inner::Kept { keeper, range } => keeper.kept().get(range.clone()).unwrap_or_default(),
        }
    }
}

impl AsRef<[u8]> for Bytes<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Bytes<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes<'_> {}

impl PartialOrd for Bytes<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl PartialEq<[u8]> for Bytes<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<&[u8]> for Bytes<'_> {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Bytes<'_> {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == other[..]
    }
}

impl std::fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}
