//! A pass over MessagePack without recursion, made before any recursive decoder reads it.
//!
//! The decoder recurses into nested values, and into nested enums without any limit, so bytes
//! from a damaged file could overflow the stack. Both directions pass through here: what can be
//! written can be read.

use super::key::CodecError;

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
    use super::*;

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
}
