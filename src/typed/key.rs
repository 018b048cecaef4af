//! The traits of the key encoding, and its two building blocks: fixed-width components and
//! escaped, terminated ones. `docs/KEY_ENCODING.md` is the contract; the impls follow it.

use std::borrow::Cow;
use std::fmt;

/// Bytes that are not a key or value of the type asked for, or a value that cannot be encoded.
///
/// ```
/// let error = memstone::CodecError::new("no such day");
/// assert_eq!(error.to_string(), "no such day");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError(Cow<'static, str>);

impl CodecError {
    /// An error with its reason.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> CodecError {
        CodecError(reason.into())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

/// Where a component stands in a key, which decides whether it must show its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Something follows: the encoding must delimit itself.
    Inner,
    /// It reaches to the end of the key, so that strings and bytes are stored as they are.
    Last,
}

/// A type of the keys of a table: `Table<K, V>` wants `K: Key`.
///
/// Several types share one encoding and one recorded name: `&str`, `str` and `String` are all
/// `"str"`. [`Key::Owned`] is the one that reading gives back, and it decides which forms a lookup
/// accepts (see [`AsKey`]): `get("a")` works on a `Table<&str, _>` and on a `Table<String, _>`.
///
/// `#[derive(Key)]` implements it, and [`AsKey`], for structs and enums, with the feature `derive`. By hand, a type
/// delegates to one that has it:
///
/// ```
/// use memstone::{AsKey, CodecError, Key, Place};
/// use std::borrow::Cow;
///
/// #[derive(Debug, PartialEq)]
/// struct UserId(u64);
///
/// impl Key for UserId {
///     type Owned = UserId;
///     fn type_name() -> Cow<'static, str> {
///         u64::type_name()
///     }
///     fn decode(place: Place, bytes: &mut &[u8]) -> Result<UserId, CodecError> {
///         u64::decode(place, bytes).map(UserId)
///     }
/// }
/// impl AsKey<UserId> for UserId {
///     fn encode(&self, place: Place, out: &mut Vec<u8>) {
///         self.0.encode(place, out);
///     }
/// }
///
/// let key = UserId(7).to_key();
/// assert_eq!(*key, [0, 0, 0, 0, 0, 0, 0, 7]);
/// assert_eq!(UserId::from_key(&key), Ok(UserId(7)));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of keys",
    note = "`#[derive(Key)]` makes one of a struct or an enum that owns its parts, if each of them is a key"
)]
pub trait Key {
    /// The type that reading a key returns.
    type Owned: AsKey<Self::Owned>;

    /// The stable name recorded with the table: `"str"`, `"u64"`, `"(u32,str)"`.
    fn type_name() -> Cow<'static, str>;

    /// Decodes one key from the front of `bytes` and removes it; with [`Place::Last`], the key takes all of them.
    ///
    /// The bytes may be anything: bytes that are not such a key give an error.
    fn decode(place: Place, bytes: &mut &[u8]) -> Result<Self::Owned, CodecError>;

    /// Decodes `bytes` as one key, with nothing left over.
    fn from_key(mut bytes: &[u8]) -> Result<Self::Owned, CodecError> {
        let key = Self::decode(Place::Last, &mut bytes)?;
        if bytes.is_empty() { Ok(key) } else { Err(CodecError::new(format!("{} bytes too many", bytes.len()))) }
    }
}

/// A form in which a key may be passed if reading returns an `O`.
///
/// For `O = String` that is `&str`, `str`, `String` and references to them; for a tuple it is a tuple of forms of
/// its parts: `get((7, "a"))` on a `Table<(u32, String), _>`.
///
/// Contract: for values `a < b` the bytes of `a` come before the bytes of `b`, in either place;
/// equal values have equal bytes; with [`Place::Inner`] no encoding is the beginning of another.
///
/// ```
/// # let store = memstone::Store::in_memory()?;
/// use memstone::{AsKey, Place, Table};
/// const NOTES: Table<(u32, String), ()> = Table::new("notes");
/// store.write(|tx| tx.table(NOTES)?.put((7, "a"), ()))?; // a `&str` for the `String`
/// assert!(store.read()?.table(NOTES)?.contains((7, "a".to_owned()))?);
///
/// assert_eq!(*AsKey::<String>::to_key("ab"), *b"ab");
/// let mut inner = Vec::new();
/// AsKey::<String>::encode("ab", Place::Inner, &mut inner);
/// assert_eq!(inner, b"ab\0\0"); // shows its own end
/// # Ok::<(), memstone::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed for a key `{O}`",
    note = "a key is passed as itself or by reference, text as `&str`, bytes as a slice, a tuple as a tuple of forms"
)]
pub trait AsKey<O> {
    /// Appends the key's bytes to `out`.
    fn encode(&self, place: Place, out: &mut Vec<u8>);

    /// The bytes of the whole key; not copied if it is stored as it is.
    fn to_key(&self) -> Cow<'_, [u8]> {
        let mut out = Vec::with_capacity(32);
        self.encode(Place::Last, &mut out);
        Cow::Owned(out)
    }
}

impl<O, Q: AsKey<O> + ?Sized> AsKey<O> for &Q {
    fn encode(&self, place: Place, out: &mut Vec<u8>) {
        (**self).encode(place, out);
    }

    fn to_key(&self) -> Cow<'_, [u8]> {
        (**self).to_key()
    }
}

/// What stands for a zero byte inside an escaped component: it must sort after `END`.
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xFF];
/// What ends an escaped component: it sorts before everything that may continue one.
const END: [u8; 2] = [0x00, 0x00];

/// Appends `bytes` as a component: unchanged if it is the last one, otherwise escaped and terminated.
pub(crate) fn put_bytes(bytes: &[u8], place: Place, out: &mut Vec<u8>) {
    if place == Place::Last {
        return out.extend_from_slice(bytes);
    }
    out.reserve(bytes.len() + END.len());
    for (position, part) in bytes.split(|byte| *byte == 0).enumerate() {
        if position > 0 {
            out.extend_from_slice(&ESCAPED_ZERO);
        }
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&END);
}

/// Removes a component that [`put_bytes`] wrote from the front of `bytes`.
pub(crate) fn take_bytes(place: Place, bytes: &mut &[u8]) -> Result<Vec<u8>, CodecError> {
    if place == Place::Last {
        return Ok(std::mem::take(bytes).to_vec());
    }
    let mut out = Vec::new();
    loop {
        let zero = bytes.iter().position(|byte| *byte == 0).ok_or(CodecError::new("a component without its end"))?;
        let (part, rest) = bytes.split_at(zero);
        out.extend_from_slice(part);
        let Some((mark, rest)) = rest.split_first_chunk::<2>() else {
            return Err(CodecError::new("a component cut off in its end mark"));
        };
        *bytes = rest;
        match *mark {
            END => return Ok(out),
            ESCAPED_ZERO => out.push(0),
            [_, other] => return Err(CodecError::new(format!("an unknown escape 00 {other:02x}"))),
        }
    }
}

/// Removes `N` bytes from the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], CodecError> {
    let Some((taken, rest)) = bytes.split_first_chunk::<N>() else {
        return Err(CodecError::new(format!("{} bytes where {N} are needed", bytes.len())));
    };
    *bytes = rest;
    Ok(*taken)
}
