//! How the values of a table become bytes: the trait of codecs, the codecs' names, and the forms in which values are
//! passed.

use std::borrow::Cow;

use super::key::CodecError;
use crate::bytes::Bytes;

/// A way to keep values of type `V` as bytes: the third parameter of a [`Table`](crate::Table).
///
/// | codec | values | recorded as | feature |
/// |---|---|---|---|
/// | [`MessagePack`], the default | all types of serde | `msgpack` | `msgpack` (on by default) |
/// | `Json` | all types of serde | `json` | `json` |
/// | [`Raw`](crate::Raw) | `[u8]`, `Vec<u8>`, `[u8; N]`, `str`, `String`, `()` | `bytes` | – |
///
/// Other codecs are implementations of this trait: for all types that a library can encode, or for one type.
///
/// ```
/// use memstone::{Bytes, Codec, CodecError, Store, Table};
/// use serde::{Deserialize, Serialize, de::DeserializeOwned};
/// use std::borrow::Cow;
///
/// /// Without the names of fields: shorter, and a field that comes or goes makes it another type.
/// struct Postcard;
///
/// impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
///     type Value<'a> = V;
///     fn name() -> Cow<'static, str> {
///         "postcard".into()
///     }
///     fn encode(value: &V) -> Result<Cow<'_, [u8]>, CodecError> {
///         postcard::to_stdvec(value).map(Cow::Owned).map_err(|error| CodecError::new(error.to_string()))
///     }
///     fn decode(bytes: Bytes<'_>) -> Result<V, CodecError> {
///         match postcard::take_from_bytes(&bytes) {
///             Ok((value, [])) => Ok(value),
///             Ok(_) => Err(CodecError::new("bytes after the value")),
///             Err(error) => Err(CodecError::new(error.to_string())),
///         }
///     }
/// }
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Point {
///     x: i32,
///     y: i32,
/// }
///
/// const POINTS: Table<&str, Point, Postcard> = Table::new("points");
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| tx.table(POINTS)?.put("home", Point { x: 3, y: -4 }))?;
/// assert_eq!(store.read()?.table(POINTS)?.get("home")?, Some(Point { x: 3, y: -4 }));
/// assert_eq!(&*store.read()?.untyped("points")?.get(b"home")?.unwrap(), [6, 7]);
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// A codec that reads in place gives a `Value` that borrows: it receives the bytes as [`Bytes`], which live as long as
/// the snapshot or the transaction, and may keep them. This one finds fields of a fixed layout only when asked for
/// them:
///
/// ```
/// use memstone::{Bytes, Codec, CodecError, Store, Table};
/// use std::borrow::Cow;
///
/// struct Sample {
///     time: u64,
///     label: String,
/// }
///
/// /// Read in place: the label is neither copied nor looked at.
/// struct SampleRef<'a>(Bytes<'a>);
///
/// impl SampleRef<'_> {
///     fn time(&self) -> u64 {
///         self.0.first_chunk().map_or(0, |time| u64::from_le_bytes(*time))
///     }
///     fn label(&self) -> &[u8] {
///         self.0.get(8..).unwrap_or_default()
///     }
/// }
///
/// struct InPlace;
///
/// impl Codec<Sample> for InPlace {
///     type Value<'a> = SampleRef<'a>;
///     fn name() -> Cow<'static, str> {
///         "sample-1".into() // the layout is a part of the name: bytes do not describe themselves
///     }
///     fn encode(value: &Sample) -> Result<Cow<'_, [u8]>, CodecError> {
///         Ok([&value.time.to_le_bytes()[..], value.label.as_bytes()].concat().into())
///     }
///     fn decode(bytes: Bytes<'_>) -> Result<SampleRef<'_>, CodecError> {
///         if bytes.len() < 8 { Err(CodecError::new("no sample")) } else { Ok(SampleRef(bytes)) }
///     }
/// }
///
/// const SAMPLES: Table<u32, Sample, InPlace> = Table::new("samples");
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| tx.table(SAMPLES)?.put(1, Sample { time: 70, label: "first".to_owned() }))?;
/// let snapshot = store.read()?;
/// let sample = snapshot.table(SAMPLES)?.get(1)?.unwrap();
/// assert_eq!((sample.time(), sample.label()), (70, &b"first"[..]));
/// # Ok::<(), memstone::Error>(())
/// ```
///
/// [rkyv](https://docs.rs/rkyv) 0.8 works like that: the `Value` keeps the [`Bytes`], `decode` checks them with
/// `rkyv::access::<ArchivedSample, rkyv::rancor::Error>(&bytes)`, and a method of the `Value` gives the archived form by
/// the same call; `encode` is `rkyv::to_bytes::<rkyv::rancor::Error>(value)`. It needs rkyv's feature `unaligned`, for
/// values lie at any address.
///
/// Protocol buffers by [prost](https://docs.rs/prost) 0.14 are one codec for all messages, by name:
///
/// ```text
/// impl<M: prost::Message + prost::Name + Default> Codec<M> for Protobuf {
///     type Value<'a> = M;
///     fn name() -> Cow<'static, str> {
///         format!("protobuf {}", M::full_name()).into()
///     }
///     fn encode(value: &M) -> Result<Cow<'_, [u8]>, CodecError> {
///         Ok(value.encode_to_vec().into())
///     }
///     fn decode(bytes: Bytes<'_>) -> Result<M, CodecError> {
///         M::decode(&*bytes).map_err(|error| CodecError::new(error.to_string()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the codec `{Self}` has no values of type `{V}`",
    note = "`MessagePack`, the default, takes types that implement `Serialize` and `DeserializeOwned`, and needs the feature `msgpack`",
    note = "`Raw` takes bytes and text: `Table<K, [u8], Raw>`"
)]
pub trait Codec<V: ?Sized> {
    /// What reading gives: `V` itself, or a form that borrows from the snapshot or the transaction.
    type Value<'a>;

    /// The name that a table is recorded with, of at most [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE) bytes. Opening it
    /// with a codec of another name gives [`Error::TypeMismatch`](crate::Error::TypeMismatch), so the name changes
    /// when old bytes can no longer be read.
    fn name() -> Cow<'static, str>;

    /// The bytes of a value; borrowed if it is stored as it is.
    ///
    /// A codec that has both `str` and `String`, or both `[u8]` and `Vec<u8>`, encodes both alike: each may be passed
    /// for the other.
    ///
    /// # Errors
    /// A value that this codec cannot keep, or could not read again.
    fn encode(value: &V) -> Result<Cow<'_, [u8]>, CodecError>;

    /// The value of `bytes`, which may be anything: damaged, or of another program.
    ///
    /// # Errors
    /// Bytes that are no such value. Bytes after its end are an error, too.
    fn decode(bytes: Bytes<'_>) -> Result<Self::Value<'_>, CodecError>;
}

/// Values as [MessagePack](https://msgpack.org) with the names of fields: every type of serde. The default codec.
///
/// A struct may gain fields (with `#[serde(default)]`) or lose some, and still reads older values. The recorded name is
/// `"msgpack"` for all types: names of Rust types are not stable, and MessagePack describes itself. Values nested more
/// than 128 levels deep are refused, both when written and when read. It needs the feature `msgpack`, which is on by
/// default.
///
/// To serde a `Vec<u8>` is a list of numbers: slow, and up to twice the size. For plain bytes use [`Raw`](crate::Raw).
///
/// ```
/// use memstone::{Codec, MessagePack};
///
/// let bytes = <MessagePack as Codec<(u8, bool)>>::encode(&(7, true))?;
/// assert_eq!(&*bytes, [0x92, 7, 0xC3]);
/// assert_eq!(<MessagePack as Codec<(u8, bool)>>::decode(bytes[..].into())?, (7, true));
/// # Ok::<(), memstone::CodecError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct MessagePack;

/// A form in which a value may be passed to a table of values `V` by the codec `C`: a `V`, a `&V`; a `&str` where `V` is
/// `String`; slices, vectors, arrays and [`Bytes`] where `V` is `[u8]` or `Vec<u8>`.
///
/// ```
/// use memstone::{BytesTable, Store, Table};
///
/// const NAMES: Table<u32, String> = Table::new("names");
/// const FILES: BytesTable<&str> = BytesTable::new("files");
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     tx.table(NAMES)?.put(1, "ada")?;
///     tx.table(NAMES)?.put(2, "bob".to_owned())?;
///     tx.table(NAMES)?.put(3, &"cyd".to_owned())?;
///     tx.table(FILES)?.put("a", b"text")?;
///     tx.table(FILES)?.put("b", vec![0; 100])
/// })?;
/// # Ok::<(), memstone::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed for a value `{V}` of the codec `{C}`",
    note = "a value is passed as itself or by reference, text as `&str`, bytes as a slice, an array or a vector"
)]
pub trait AsValue<V: ?Sized, C> {
    /// The value's bytes.
    ///
    /// ```
    /// use memstone::{AsValue, MessagePack};
    /// let value = AsValue::<String, MessagePack>::to_value(&"ada")?;
    /// assert_eq!(&*value, b"\xA3ada");
    /// # Ok::<(), memstone::CodecError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Codec::encode`].
    fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError>;
}

impl<V, C: Codec<V>> AsValue<V, C> for V {
    fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError> {
        C::encode(self)
    }
}

impl<V: ?Sized, C: Codec<V>> AsValue<V, C> for &V {
    fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError> {
        C::encode(self)
    }
}

/// Forms of a type that are not the type: each is seen as a `$seen`, which the codec encodes like it.
macro_rules! forms {
    ($seen:ty, $value:ty: $([$($generics:tt)*] $form:ty),+) => {
        $(impl<$($generics)* C: Codec<$seen>> AsValue<$value, C> for $form {
            fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError> {
                C::encode(self.as_ref())
            }
        })+
    };
}

forms!(str, String: [] &str);
forms!(str, str: [] String, [] &String);
forms!([u8], Vec<u8>: [] &[u8], [const N: usize,] [u8; N], [const N: usize,] &[u8; N], ['a,] Bytes<'a>, ['a,] &Bytes<'a>);
forms!([u8], [u8]: [] Vec<u8>, [] &Vec<u8>, [const N: usize,] [u8; N], [const N: usize,] &[u8; N], ['a,] Bytes<'a>, ['a,] &Bytes<'a>);

/// The types of values that a codec has: generics, type, what reading gives, how a value is written, and how it is read.
macro_rules! codec_values {
    ($codec:ty, $name:literal: $([$($generics:tt)*] $value:ty => $read:ty, $encode:expr, $decode:expr;)+) => {
        $(impl<$($generics)*> Codec<$value> for $codec {
            type Value<'a> = $read;

            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }

            fn encode(value: &$value) -> Result<Cow<'_, [u8]>, CodecError> {
                let encode: fn(&$value) -> Result<Cow<'_, [u8]>, CodecError> = $encode;
                encode(value)
            }

            fn decode<'a>(bytes: Bytes<'a>) -> Result<$read, CodecError> {
                let decode: fn(Bytes<'a>) -> Result<$read, CodecError> = $decode;
                decode(bytes)
            }
        })+
    };
}

pub(super) use codec_values;
