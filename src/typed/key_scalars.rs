//! The key encoding of strings, bytes, numbers, fixed arrays and options.

use std::borrow::Cow;

use super::key::{AsKey, CodecError, Key, Place, put_bytes, take, take_bytes};
use crate::bytes::Bytes;

/// Types of one encoding: which of them may name a table's keys, and how a key of each is seen
/// as a slice of bytes.
macro_rules! slice_keys {
    ($name:literal, $owned:ty, $decode:expr, keys: $($key:ty),+; forms: $([$($generics:tt)*] $form:ty),+) => {
        $(impl Key for $key {
            type Owned = $owned;

            fn type_name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }

            fn decode(place: Place, bytes: &mut &[u8]) -> Result<$owned, CodecError> {
                take_bytes(place, bytes).and_then($decode)
            }
        })+
        $(impl<$($generics)*> AsKey<$owned> for $form {
            fn encode(&self, place: Place, out: &mut Vec<u8>) {
                put_bytes(self.as_ref(), place, out);
            }

            fn to_key(&self) -> Cow<'_, [u8]> {
                Cow::Borrowed(self.as_ref())
            }
        })+
    };
}

slice_keys!("str", String, |bytes| String::from_utf8(bytes).map_err(|error| CodecError::new(error.to_string())),
    keys: str, &str, String; forms: [] str, [] String);
slice_keys!("bytes", Vec<u8>, Ok,
    keys: [u8], &[u8], Vec<u8>; forms: [] [u8], [] Vec<u8>, [const N: usize] [u8; N], ['a] Bytes<'a>);

/// Types of a fixed width: `$put` gives the bytes, `$take` makes the value of them again.
macro_rules! fixed_keys {
    ($($type:ty, $name:literal, $put:expr, $take:expr;)+) => {
        $(impl Key for $type {
            type Owned = $type;

            fn type_name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }

            fn decode(_: Place, bytes: &mut &[u8]) -> Result<$type, CodecError> {
                let make: fn([u8; size_of::<$type>()]) -> Result<$type, CodecError> = $take;
                make(take(bytes)?)
            }
        }

        impl AsKey<$type> for $type {
            fn encode(&self, _: Place, out: &mut Vec<u8>) {
                let bytes: fn($type) -> [u8; size_of::<$type>()] = $put;
                out.extend_from_slice(&bytes(*self));
            }
        })+
    };
}

fixed_keys! {
    bool, "bool", |flag| [u8::from(flag)], |[byte]| match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(CodecError::new(format!("{other} as a bool"))),
    };
    char, "char", |letter| u32::from(letter).to_be_bytes(), |bytes| {
        let code = u32::from_be_bytes(bytes);
        char::from_u32(code).ok_or_else(|| CodecError::new(format!("{code:#x} as a char")))
    };
    (), "()", |()| [], |[]| Ok(());
    // Big-endian, so that the bytes sort as the numbers do.
    u8, "u8", u8::to_be_bytes, |bytes| Ok(u8::from_be_bytes(bytes));
    u16, "u16", u16::to_be_bytes, |bytes| Ok(u16::from_be_bytes(bytes));
    u32, "u32", u32::to_be_bytes, |bytes| Ok(u32::from_be_bytes(bytes));
    u64, "u64", u64::to_be_bytes, |bytes| Ok(u64::from_be_bytes(bytes));
    u128, "u128", u128::to_be_bytes, |bytes| Ok(u128::from_be_bytes(bytes));
    // The sign bit is flipped, so that negative numbers come first.
    i8, "i8", |number| (number ^ i8::MIN).to_be_bytes(), |bytes| Ok(i8::from_be_bytes(bytes) ^ i8::MIN);
    i16, "i16", |number| (number ^ i16::MIN).to_be_bytes(), |bytes| Ok(i16::from_be_bytes(bytes) ^ i16::MIN);
    i32, "i32", |number| (number ^ i32::MIN).to_be_bytes(), |bytes| Ok(i32::from_be_bytes(bytes) ^ i32::MIN);
    i64, "i64", |number| (number ^ i64::MIN).to_be_bytes(), |bytes| Ok(i64::from_be_bytes(bytes) ^ i64::MIN);
    i128, "i128", |number| (number ^ i128::MIN).to_be_bytes(), |bytes| Ok(i128::from_be_bytes(bytes) ^ i128::MIN);
    // The sign bit of positive floats is flipped, and all bits of negative ones, whose magnitude descends: the order of
    // IEEE's totalOrder. Every pattern of bits is a float.
    f32, "f32", |number| {
        let bits = number.to_bits();
        (if number.is_sign_negative() { !bits } else { bits ^ (1 << 31) }).to_be_bytes()
    }, |bytes| {
        let bits = u32::from_be_bytes(bytes);
        Ok(f32::from_bits(if bits >> 31 == 0 { !bits } else { bits ^ (1 << 31) }))
    };
    f64, "f64", |number| {
        let bits = number.to_bits();
        (if number.is_sign_negative() { !bits } else { bits ^ (1 << 63) }).to_be_bytes()
    }, |bytes| {
        let bits = u64::from_be_bytes(bytes);
        Ok(f64::from_bits(if bits >> 63 == 0 { !bits } else { bits ^ (1 << 63) }))
    };
}

#[cfg(feature = "uuid")]
fixed_keys! {
    // Recorded as an array: a table of one may be opened with the other.
    uuid::Uuid, "[u8;16]", uuid::Uuid::into_bytes, |bytes| Ok(uuid::Uuid::from_bytes(bytes));
}

/// Fixed arrays: UUIDs, hashes. No length is stored.
impl<const N: usize> Key for [u8; N] {
    type Owned = [u8; N];

    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("[u8;{N}]"))
    }

    fn decode(_: Place, bytes: &mut &[u8]) -> Result<[u8; N], CodecError> {
        take(bytes)
    }
}

impl<const N: usize> AsKey<[u8; N]> for [u8; N] {
    fn encode(&self, _: Place, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn to_key(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self)
    }
}

/// `None` comes before every `Some`.
impl<K: Key> Key for Option<K> {
    type Owned = Option<K::Owned>;

    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("option<{}>", K::type_name()))
    }

    fn decode(place: Place, bytes: &mut &[u8]) -> Result<Option<K::Owned>, CodecError> {
        match take(bytes)? {
            [0] => Ok(None),
            [1] => K::decode(place, bytes).map(Some),
            [other] => Err(CodecError::new(format!("{other} as the mark of an option"))),
        }
    }
}

impl<O, Q: AsKey<O>> AsKey<Option<O>> for Option<Q> {
    fn encode(&self, place: Place, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                key.encode(place, out);
            }
        }
    }
}
