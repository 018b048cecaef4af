//! Values as MessagePack with named fields, or as plain bytes.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::CodecError;
use super::msgpack;
use crate::bytes::Bytes;

/// A type of the values of a table: `Table<K, V>` wants `V: Value`.
///
/// Every serde type is one. It is stored as MessagePack with its fields' names, so a struct may gain fields (with
/// `#[serde(default)]`) or lose some and still read older values. The recorded type name is `"msgpack"` for all
/// of them: Rust type paths are not stable, and MessagePack describes itself. Values nested more than 128 levels
/// deep are refused, both when written and when read. For plain bytes use [`Blob`].
pub trait Value: Sized {
    /// The stable name recorded with the table: `"msgpack"` or `"bytes"`.
    fn type_name() -> &'static str;

    /// The value's bytes.
    fn encode(&self) -> Result<Cow<'_, [u8]>, CodecError>;

    /// Decodes a value from `bytes`, which may be anything.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;
}

impl<T: Serialize + DeserializeOwned> Value for T {
    fn type_name() -> &'static str {
        "msgpack"
    }

    fn encode(&self) -> Result<Cow<'_, [u8]>, CodecError> {
        pack(self)
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        msgpack::check(bytes)?;
        rmp_serde::from_slice(bytes).map_err(|error| CodecError::new(error.to_string()))
    }
}

fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Cow<'static, [u8]>, CodecError> {
    let bytes = rmp_serde::to_vec_named(value).map_err(|error| CodecError::new(error.to_string()))?;
    msgpack::check(&bytes)?;
    Ok(Cow::Owned(bytes))
}

/// A value of plain bytes, stored as they are.
///
/// To serde a `Vec<u8>` is a list of numbers: slow, and up to twice the size. With `Table<&str, Blob>`, `insert`
/// takes byte slices and vectors directly.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob(pub Vec<u8>);

impl Value for Blob {
    fn type_name() -> &'static str {
        "bytes"
    }

    fn encode(&self) -> Result<Cow<'_, [u8]>, CodecError> {
        Ok(Cow::Borrowed(&self.0))
    }

    fn decode(bytes: &[u8]) -> Result<Blob, CodecError> {
        Ok(Blob(bytes.to_vec()))
    }
}

/// A form in which a value may be passed to a table of values `V`: a `V`, a `&V`, a `&str` where `V` is `String`,
/// bytes where `V` is [`Blob`].
pub trait AsValue<V> {
    /// The value's bytes.
    fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError>;
}

impl<V: Value> AsValue<V> for V {
    fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError> {
        self.encode()
    }
}

impl<V: Value> AsValue<V> for &V {
    fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError> {
        (**self).encode()
    }
}

impl AsValue<String> for &str {
    fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError> {
        pack(*self)
    }
}

macro_rules! blob_forms {
    ($([$($generics:tt)*] $form:ty),+) => {
        $(impl<$($generics)*> AsValue<Blob> for $form {
            fn to_value(&self) -> Result<Cow<'_, [u8]>, CodecError> {
                Ok(Cow::Borrowed(self.as_ref()))
            }
        })+
    };
}

blob_forms!([] &[u8], [] Vec<u8>, [] &Vec<u8>, [const N: usize] [u8; N], [const N: usize] &[u8; N], ['a] Bytes<'a>, ['a] &Bytes<'a>);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Old {
        title: String,
        stars: u8,
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct New {
        #[serde(default)]
        tags: Vec<String>,
        title: String,
        #[serde(default)]
        parent: Option<u64>,
    }

    #[test]
    fn a_struct_that_gained_and_lost_fields_reads_old_values() {
        let old = Old { title: "a".into(), stars: 3 };
        let new = New::decode(&old.encode().unwrap()).unwrap();
        assert_eq!(new, New { tags: vec![], title: "a".into(), parent: None });
        let missing = Old::decode(&new.encode().unwrap()).unwrap_err();
        assert!(missing.to_string().contains("stars"), "{missing}");
    }

    #[test]
    fn values_are_messagepack_with_names() {
        let old = Old { title: "a".into(), stars: 3 };
        assert_eq!(&*old.encode().unwrap(), b"\x82\xA5title\xA1a\xA5stars\x03");
        assert_eq!(<Old as Value>::type_name(), "msgpack");
        assert_eq!(&*AsValue::<String>::to_value(&"a").unwrap(), b"\xA1a");
    }

    #[test]
    fn blobs_are_stored_as_they_are() {
        assert_eq!(&*AsValue::<Blob>::to_value(&b"a\0").unwrap(), b"a\0");
        assert_eq!(&*AsValue::<Blob>::to_value(&vec![1, 2]).unwrap(), [1, 2]);
        assert_eq!(Blob::decode(b"xy").unwrap(), Blob(b"xy".to_vec()));
        assert_eq!(Blob::type_name(), "bytes");
    }

    #[test]
    fn hostile_bytes_give_an_error() {
        assert!(String::decode(b"").is_err());
        assert!(String::decode(b"\xA5ab").is_err(), "cut off");
        assert!(String::decode(b"\xA1ab").unwrap_err().to_string().contains("1 bytes too many"));
        assert!(Vec::<u64>::decode(b"\xDD\xFF\xFF\xFF\xFF\x01").is_err(), "a length beyond the bytes");
        assert!(String::decode(b"\xDB\xFF\xFF\xFF\xFFab").is_err(), "a length beyond the bytes");
        assert!(serde_json::Value::decode(&[0x91; 100_000]).is_err(), "nested without end");
        assert!(serde_json::Value::decode(&[0x81; 100_000]).is_err(), "nested without end");
        assert!(BTreeMap::<String, u8>::decode(b"\x81\xC1\x01").is_err());
    }

    /// An enum that holds itself: the decoder has no limit of its own for these.
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum Chain {
        End,
        Link(Box<Chain>),
    }

    #[test]
    fn what_can_be_written_can_be_read() {
        let chain = |links| (0..links).fold(Chain::End, |chain, _| Chain::Link(Box::new(chain)));
        let bytes = chain(msgpack::MAX_NESTING).encode().unwrap().into_owned();
        assert_eq!(Chain::decode(&bytes).unwrap(), chain(msgpack::MAX_NESTING));
        assert!(chain(msgpack::MAX_NESTING + 1).encode().is_err());
        let hostile = b"\x81\xA4Link".repeat(100_000);
        assert!(Chain::decode(&hostile).unwrap_err().to_string().contains("128 levels"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let _ = serde_json::Value::decode(&bytes);
            let _ = Old::decode(&bytes);
            let _ = New::decode(&bytes);
        }
    }
}
