//! Bytes of a key or value, borrowed from the map of the file or shared with it.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// Bytes that a snapshot or transaction returns, without copying where possible.
///
/// They are valid as long as the snapshot or transaction that they came from. `to_vec` (of the slice that they
/// deref to) copies them. In a forked child, do not read bytes that came from the parent: they may change once
/// the parent drops the snapshot or transaction.
///
/// They compare with slices, arrays, vectors and strings, and become a `Vec<u8>` or, by [`Bytes::into_owned`], bytes
/// that borrow nothing.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::Bytes;
/// store.write(|tx| tx.raw("t")?.put(b"k", b"value"))?;
/// let snapshot = store.read()?;
/// let value: Bytes<'_> = snapshot.raw("t")?.get(b"k")?.unwrap();
/// assert!(value == "value" && value == *b"value" && vec![b'v'] < value.to_vec());
/// let owned: Bytes<'static> = value.clone().into_owned();
/// let copied: Vec<u8> = value.into();
/// drop(snapshot);
/// assert_eq!(owned, copied);
/// # Ok::<(), memstone::Error>(())
/// ```
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
    /// A part of what a snapshot keeps, or of bytes that were put together.
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

impl Keeper for Vec<u8> {
    fn kept(&self) -> &[u8] {
        self
    }
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

    /// Two parts put together. (A buffer that is shared by itself would have to be filled with zeros first.)
    pub(crate) fn joined(first: &[u8], last: &[u8]) -> Bytes<'static> {
        let (keeper, range) = (Arc::new([first, last].concat()), 0..first.len() + last.len());
        Bytes(Inner::Kept { keeper, range })
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
            _ => self.into_owned(),
        }
    }

    /// These bytes without a borrow: copied, if they lie in the map of the file, otherwise shared. What
    /// [`OwnedRawTable`](crate::OwnedRawTable) gives borrows nothing from the start, and is not copied.
    #[must_use]
    pub fn into_owned(self) -> Bytes<'static> {
        match self.0 {
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

impl Hash for Bytes<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Borrow<[u8]> for Bytes<'_> {
    fn borrow(&self) -> &[u8] {
        self
    }
}

/// Comparing with other forms of bytes, in both directions.
macro_rules! compared_with {
    ($([$($generics:tt)*] $form:ty),+ $(,)?) => {
        $(
            impl<$($generics)*> PartialEq<$form> for Bytes<'_> {
                fn eq(&self, other: &$form) -> bool {
                    **self == *AsRef::<[u8]>::as_ref(other)
                }
            }

            impl<$($generics)*> PartialEq<Bytes<'_>> for $form {
                fn eq(&self, other: &Bytes<'_>) -> bool {
                    *AsRef::<[u8]>::as_ref(self) == **other
                }
            }
        )+
    };
}

compared_with!(
    [] [u8], [] &[u8], [const N: usize] [u8; N], [const N: usize] &[u8; N], [] Vec<u8>, [] str, [] &str, [] String,
);

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes::borrowed(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Bytes<'a> {
    fn from(bytes: &'a [u8; N]) -> Bytes<'a> {
        Bytes::borrowed(bytes)
    }
}

impl<'a> From<&'a str> for Bytes<'a> {
    fn from(text: &'a str) -> Bytes<'a> {
        Bytes::borrowed(text.as_bytes())
    }
}

impl From<Vec<u8>> for Bytes<'static> {
    fn from(bytes: Vec<u8>) -> Bytes<'static> {
        let len = bytes.len();
        if len <= SMALL { Bytes::copied(&bytes) } else { Bytes::shared(Arc::from(bytes), 0..len) }
    }
}

impl From<Bytes<'_>> for Vec<u8> {
    fn from(bytes: Bytes<'_>) -> Vec<u8> {
        bytes.to_vec()
    }
}

impl From<Bytes<'_>> for Box<[u8]> {
    fn from(bytes: Bytes<'_>) -> Box<[u8]> {
        Box::from(&*bytes)
    }
}

impl Default for Bytes<'_> {
    /// No bytes.
    fn default() -> Self {
        Bytes::borrowed(&[])
    }
}

impl<'b> IntoIterator for &'b Bytes<'_> {
    type Item = &'b u8;
    type IntoIter = std::slice::Iter<'b, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

/// They are copied, so that a value of [`Bytes<'static>`](Bytes) can be read. A format that has no bytes, such as JSON, has
/// a list of numbers.
///
/// ```
/// use memstone::Bytes;
/// let bytes: Bytes<'static> = serde_json::from_str("[1, 2, 255]").unwrap();
/// assert_eq!(bytes, [1, 2, 255]);
/// assert_eq!(serde_json::to_string(&bytes).unwrap(), "[1,2,255]");
/// ```
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Bytes<'_> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor).map(Bytes::from)
    }
}

#[cfg(feature = "serde")]
struct BytesVisitor;

#[cfg(feature = "serde")]
impl<'de> serde::de::Visitor<'de> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
        // The length may be a lie of damaged bytes: no more than a page is reserved for it.
        let mut bytes = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(4096));
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

impl std::fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashSet};

    struct Constant([u8; 100]);

    impl Keeper for Constant {
        fn kept(&self) -> &[u8] {
            &self.0
        }
    }

    /// All forms of bytes of this length.
    fn forms(keeper: &Arc<Constant>, len: usize) -> [Bytes<'_>; 4] {
        let there = &keeper.0[..len];
        [
            Bytes::borrowed(there),
            Bytes::from(there.to_vec()),
            Bytes::borrowed(there).keep(keeper),
            Bytes::borrowed(there).into_owned(),
        ]
    }

    #[test]
    fn all_forms_are_the_same_bytes() {
        let keeper = Arc::new(Constant(std::array::from_fn(|n| n as u8)));
        for len in [0, 1, SMALL, SMALL + 1, 100] {
            let there = &keeper.0[..len];
            for bytes in forms(&keeper, len) {
                assert_eq!(bytes, *there);
                assert_eq!(bytes, there);
                assert_eq!(bytes, there.to_vec());
                assert_eq!(*there, bytes);
                assert_eq!(
                    (bytes.slice(1..3), Vec::from(bytes.clone())),
                    (Bytes::from(&there[1.min(len)..3.min(len)]), there.to_vec())
                );
                assert_eq!(bytes.slice(200..300).len(), 0);
            }
            assert_eq!(forms(&keeper, len).into_iter().collect::<HashSet<_>>().len(), 1);
            let sorted: BTreeSet<Bytes<'_>> = forms(&keeper, len).into();
            assert!(sorted.contains(there), "found by a slice");
        }
    }

    /// In MessagePack as bytes, of which a `Vec<u8>` is a list; in a field as alone; and what was written as text.
    #[cfg(feature = "msgpack")]
    #[test]
    fn bytes_are_values_of_serde() {
        #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
        struct Picture {
            pixels: Bytes<'static>,
        }
        for len in [0, 1, SMALL, SMALL + 1, 5000] {
            let picture = Picture { pixels: vec![200; len].into() };
            let written = rmp_serde::to_vec_named(&picture).unwrap();
            assert!(written.len() <= len + 13, "{} bytes for {len}", written.len());
            assert_eq!(rmp_serde::from_slice::<Picture>(&written).unwrap(), picture);
            let list = rmp_serde::to_vec(&vec![200_u8; len]).unwrap();
            assert_eq!(rmp_serde::from_slice::<Bytes<'_>>(&list).unwrap(), picture.pixels);
        }
        let text = rmp_serde::to_vec("text").unwrap();
        assert_eq!(rmp_serde::from_slice::<Bytes<'_>>(&text).unwrap(), "text");
        assert!(rmp_serde::from_slice::<Bytes<'_>>(&[7]).is_err());
        // A list that says it has more elements than there are bytes.
        assert!(rmp_serde::from_slice::<Bytes<'_>>(&[0xDD, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
    }

    #[test]
    fn what_is_kept_is_not_copied_and_keeps_its_keeper() {
        let keeper = Arc::new(Constant([7; 100]));
        let kept = Bytes::borrowed(&keeper.0[10..90]).keep(&keeper);
        assert!(std::ptr::eq(&*kept, &keeper.0[10..90]));
        assert_eq!((Arc::strong_count(&keeper), kept.slice(1..2).len()), (2, 1));
        let elsewhere = [7; 100];
        let copied = Bytes::borrowed(&elsewhere).keep(&keeper);
        assert!(!std::ptr::eq(&*copied, &elsewhere[..]) && copied == elsewhere);
        assert_eq!(Arc::strong_count(&keeper), 2, "short, or of another place: copied");
        drop(kept);
        assert_eq!(Arc::strong_count(&keeper), 1);
    }
}
