//! The codec of MessagePack, and a pass over it without recursion, made before any recursive decoder reads it.
//!
//! The decoder recurses into nested values, and into nested enums without any limit, so bytes
//! from a damaged file could overflow the stack. Both directions pass through here: what can be
//! written can be read.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{Codec, MessagePack, codec_values};
use super::key::CodecError;
use crate::bytes::Bytes;

codec_values! { MessagePack, "msgpack":
    [V: Serialize + DeserializeOwned] V => V, write, read;
    [] str => String, write, read;
}

fn read<V: DeserializeOwned>(bytes: Bytes<'_>) -> Result<V, CodecError> {
    check(&bytes)?;
    rmp_serde::from_slice(&bytes).map_err(|error| CodecError::new(error.to_string()))
}

/// Refuses what could not be read again.
fn write<V: Serialize + ?Sized>(value: &V) -> Result<Cow<'_, [u8]>, CodecError> {
    let bytes = rmp_serde::to_vec_named(value).map_err(|error| CodecError::new(error.to_string()))?;
    check(&bytes)?;
    Ok(Cow::Owned(bytes))
}

/// How deeply arrays and maps may be nested.
pub(crate) const MAX_NESTING: usize = 128;

/// Checks that `bytes` are one whole MessagePack value, nested no deeper than [`MAX_NESTING`].
pub(crate) fn check(bytes: &[u8]) -> Result<(), CodecError> {
    // How many items are still to come on each open level; the outermost is the value itself.
    let mut open = [0u64; MAX_NESTING + 1];
    let mut depth = 0;
    let mut left = 1u64;
    let mut rest = bytes;
    loop {
        while left == 0 {
            if depth == 0 {
                return match rest.len() {
                    0 => Ok(()),
                    more => Err(CodecError::new(format!("{more} bytes too many"))),
                };
            }
            depth -= 1;
            left = open.get(depth).copied().unwrap_or_default();
        }
        left -= 1;
        let items = match item(&mut rest)? {
            Item::Scalar { size } => {
                rest = usize::try_from(size).ok().and_then(|size| rest.get(size..)).ok_or_else(cut_off)?;
                continue;
            }
            Item::Nested { items } => items,
        };
        let Some(slot) = open.get_mut(depth).filter(|_| depth < MAX_NESTING) else {
            return Err(CodecError::new(format!("nested more than {MAX_NESTING} levels deep")));
        };
        *slot = left;
        depth += 1;
        left = items;
    }
}

enum Item {
    /// `size` bytes follow that hold no items.
    Scalar { size: u64 },
    /// An array or a map: this many items follow.
    Nested { items: u64 },
}

/// Removes a marker and its length from the front.
fn item(rest: &mut &[u8]) -> Result<Item, CodecError> {
    let marker = number(rest, 1)?;
    Ok(match marker {
        0x80..=0x8F => Item::Nested { items: 2 * (marker & 0x0F) },
        0x90..=0x9F => Item::Nested { items: marker & 0x0F },
        0xA0..=0xBF => Item::Scalar { size: marker & 0x1F },
        // nil, false and true, and the small integers
        0x00..=0x7F | 0xC0 | 0xC2 | 0xC3 | 0xE0..=0xFF => Item::Scalar { size: 0 },
        // bin, then str, with a length of 1, 2 or 4 bytes
        0xC4..=0xC6 => Item::Scalar { size: number(rest, 1 << (marker - 0xC4))? },
        0xD9..=0xDB => Item::Scalar { size: number(rest, 1 << (marker - 0xD9))? },
        // ext has a byte for its type beside its data
        0xC7..=0xC9 => Item::Scalar { size: number(rest, 1 << (marker - 0xC7))? + 1 },
        0xD4..=0xD8 => Item::Scalar { size: (1 << (marker - 0xD4)) + 1 },
        // floats of 4 and 8 bytes, unsigned and signed integers of 1 to 8
        0xCA | 0xCB => Item::Scalar { size: 4 << (marker - 0xCA) },
        0xCC..=0xCF => Item::Scalar { size: 1 << (marker - 0xCC) },
        0xD0..=0xD3 => Item::Scalar { size: 1 << (marker - 0xD0) },
        0xDC | 0xDD => Item::Nested { items: number(rest, 2 << (marker - 0xDC))? },
        0xDE | 0xDF => Item::Nested { items: 2 * number(rest, 2 << (marker - 0xDE))? },
        _ => return Err(CodecError::new(format!("no MessagePack: marker {marker:#04x}"))),
    })
}

/// Removes a big-endian number of `size` bytes from the front.
fn number(rest: &mut &[u8], size: usize) -> Result<u64, CodecError> {
    let (bytes, after) = rest.split_at_checked(size).ok_or_else(cut_off)?;
    *rest = after;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn cut_off() -> CodecError {
    CodecError::new("MessagePack that is cut off")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    fn read<V: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<V, CodecError> {
        <MessagePack as Codec<V>>::decode(Bytes::borrowed(bytes))
    }

    #[test]
    fn every_marker_has_its_length() {
        let text = "x".repeat(40);
        let long = "y".repeat(70_000);
        let value = serde_json::json!({
            "numbers": [0, 127, 128, 65535, 65536, 4294967296u64, -1, -33, -200, -40000, -3000000000i64, 1.5],
            "short": "a", "middle": text, "long": long, "nil": null, "flags": [true, false],
            "array16": vec![1; 20], "array32": vec![1; 70_000],
            "map16": (0..20).map(|n| (n.to_string(), n)).collect::<std::collections::BTreeMap<_, _>>(),
        });
        check(&rmp_serde::to_vec_named(&value).unwrap()).unwrap();
        check(&rmp_serde::to_vec_named(&1.5f32).unwrap()).unwrap();
        check(
            &rmp_serde::to_vec_named(&(70_000..140_000).map(|n| (n, n)).collect::<std::collections::BTreeMap<_, _>>())
                .unwrap(),
        )
        .unwrap();
        // fixext1, ext8 of three bytes, bin16
        check(&[0xD4, 1, 0]).unwrap();
        check(&[0xC7, 3, 1, 0, 0, 0]).unwrap();
        check(&[0xC5, 0, 2, 0, 0]).unwrap();
        assert!(check(&[0xC1]).is_err(), "a marker that is never used");
        assert!(check(&[0xC7, 3, 1, 0, 0]).is_err(), "cut off");
        assert!(check(&[]).is_err(), "nothing");
        assert!(check(&[0xDF, 0xFF, 0xFF, 0xFF, 0xFF]).is_err(), "a length beyond the bytes");
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |levels| [vec![0x91; levels], vec![0xC0]].concat();
        check(&nested(MAX_NESTING)).unwrap();
        assert!(check(&nested(MAX_NESTING + 1)).unwrap_err().to_string().contains("128 levels"));
    }

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
        let new = read::<New>(&MessagePack::encode(&old).unwrap()).unwrap();
        assert_eq!(new, New { tags: vec![], title: "a".into(), parent: None });
        let missing = read::<Old>(&MessagePack::encode(&new).unwrap()).unwrap_err();
        assert!(missing.to_string().contains("stars"), "{missing}");
    }

    #[test]
    fn values_are_messagepack_with_names() {
        let old = Old { title: "a".into(), stars: 3 };
        assert_eq!(&*MessagePack::encode(&old).unwrap(), b"\x82\xA5title\xA1a\xA5stars\x03");
        assert_eq!(<MessagePack as Codec<Old>>::name(), "msgpack");
        assert_eq!(&*<MessagePack as Codec<str>>::encode("a").unwrap(), b"\xA1a");
        assert_eq!(&*<MessagePack as Codec<String>>::encode(&"a".into()).unwrap(), b"\xA1a");
    }

    #[test]
    fn hostile_bytes_give_an_error() {
        assert!(read::<String>(b"").is_err());
        assert!(read::<String>(b"\xA5ab").is_err(), "cut off");
        assert!(read::<String>(b"\xA1ab").unwrap_err().to_string().contains("1 bytes too many"));
        assert!(read::<Vec<u64>>(b"\xDD\xFF\xFF\xFF\xFF\x01").is_err(), "a length beyond the bytes");
        assert!(read::<String>(b"\xDB\xFF\xFF\xFF\xFFab").is_err(), "a length beyond the bytes");
        assert!(read::<serde_json::Value>(&[0x91; 100_000]).is_err(), "nested without end");
        assert!(read::<serde_json::Value>(&[0x81; 100_000]).is_err(), "nested without end");
        assert!(read::<BTreeMap<String, u8>>(b"\x81\xC1\x01").is_err());
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
        let bytes = MessagePack::encode(&chain(MAX_NESTING)).unwrap().into_owned();
        assert_eq!(read::<Chain>(&bytes).unwrap(), chain(MAX_NESTING));
        assert!(MessagePack::encode(&chain(MAX_NESTING + 1)).is_err());
        let hostile = b"\x81\xA4Link".repeat(100_000);
        assert!(read::<Chain>(&hostile).unwrap_err().to_string().contains("128 levels"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let _ = read::<serde_json::Value>(&bytes);
            let _ = read::<Old>(&bytes);
            let _ = read::<New>(&bytes);
        }
    }
}
