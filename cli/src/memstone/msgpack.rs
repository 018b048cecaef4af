//! MessagePack as a tree whose parts remember the bytes they were read from.
//!
//! What JSON cannot express (bytes, maps by number, single floats, extensions) is told apart here,
//! and a program that changes a value can put every part that stays back byte for byte.

use rmp::Marker;

/// How deeply arrays and maps may be nested: what programs that use the library can read.
pub(crate) const MAX_NESTING: usize = 128;

/// One value within MessagePack.
pub(crate) struct Part<'b> {
    /// Its bytes, with all that it holds.
    pub(crate) raw: &'b [u8],
    pub(crate) what: What<'b>,
}

pub(crate) enum What<'b> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Single(f32),
    Float(f64),
    /// Text, which ought to be UTF-8.
    Text(&'b [u8]),
    Bytes(&'b [u8]),
    Extension,
    Array(Vec<Part<'b>>),
    Map(Vec<(Part<'b>, Part<'b>)>),
}

/// Why bytes are no MessagePack.
pub(crate) type Broken = &'static str;

const CUT_OFF: Broken = "it is cut off";

/// The one value that `bytes` are.
pub(crate) fn read(bytes: &[u8]) -> Result<Part<'_>, Broken> {
    let mut rest = bytes;
    let part = part(&mut rest, 0)?;
    if rest.is_empty() { Ok(part) } else { Err("bytes follow its end") }
}

/// Takes a value off the front. The nesting is bounded, so the recursion is, too.
fn part<'b>(rest: &mut &'b [u8], depth: usize) -> Result<Part<'b>, Broken> {
    let whole = *rest;
    let [marker] = take(rest)?;
    let what = match Marker::from_u8(marker) {
        Marker::Null => What::Nil,
        Marker::False => What::Bool(false),
        Marker::True => What::Bool(true),
        Marker::FixPos(number) => What::Unsigned(number.into()),
        Marker::U8 => What::Unsigned(u8::from_be_bytes(take(rest)?).into()),
        Marker::U16 => What::Unsigned(u16::from_be_bytes(take(rest)?).into()),
        Marker::U32 => What::Unsigned(u32::from_be_bytes(take(rest)?).into()),
        Marker::U64 => What::Unsigned(u64::from_be_bytes(take(rest)?)),
        Marker::FixNeg(number) => What::Signed(number.into()),
        Marker::I8 => What::Signed(i8::from_be_bytes(take(rest)?).into()),
        Marker::I16 => What::Signed(i16::from_be_bytes(take(rest)?).into()),
        Marker::I32 => What::Signed(i32::from_be_bytes(take(rest)?).into()),
        Marker::I64 => What::Signed(i64::from_be_bytes(take(rest)?)),
        Marker::F32 => What::Single(f32::from_be_bytes(take(rest)?)),
        Marker::F64 => What::Float(f64::from_be_bytes(take(rest)?)),
        Marker::FixStr(size) => What::Text(bytes(rest, size.into())?),
        Marker::Str8 => What::Text(sized(rest, 1)?),
        Marker::Str16 => What::Text(sized(rest, 2)?),
        Marker::Str32 => What::Text(sized(rest, 4)?),
        Marker::Bin8 => What::Bytes(sized(rest, 1)?),
        Marker::Bin16 => What::Bytes(sized(rest, 2)?),
        Marker::Bin32 => What::Bytes(sized(rest, 4)?),
        Marker::FixExt1 => extension(rest, 1)?,
        Marker::FixExt2 => extension(rest, 2)?,
        Marker::FixExt4 => extension(rest, 4)?,
        Marker::FixExt8 => extension(rest, 8)?,
        Marker::FixExt16 => extension(rest, 16)?,
        Marker::Ext8 => size(rest, 1).and_then(|size| extension(rest, size))?,
        Marker::Ext16 => size(rest, 2).and_then(|size| extension(rest, size))?,
        Marker::Ext32 => size(rest, 4).and_then(|size| extension(rest, size))?,
        Marker::FixArray(items) => array(rest, items.into(), depth)?,
        Marker::Array16 => size(rest, 2).and_then(|items| array(rest, items, depth))?,
        Marker::Array32 => size(rest, 4).and_then(|items| array(rest, items, depth))?,
        Marker::FixMap(entries) => map(rest, entries.into(), depth)?,
        Marker::Map16 => size(rest, 2).and_then(|entries| map(rest, entries, depth))?,
        Marker::Map32 => size(rest, 4).and_then(|entries| map(rest, entries, depth))?,
        Marker::Reserved => return Err("it has a marker that is never used"),
    };
    let raw = whole.get(..whole.len() - rest.len()).unwrap_or_default();
    Ok(Part { raw, what })
}

/// A length of 1, 2 or 4 bytes.
fn size(rest: &mut &[u8], width: u32) -> Result<u32, Broken> {
    Ok(bytes(rest, width)?.iter().fold(0, |size, byte| size << 8 | u32::from(*byte)))
}

fn sized<'b>(rest: &mut &'b [u8], width: u32) -> Result<&'b [u8], Broken> {
    let size = size(rest, width)?;
    bytes(rest, size)
}

fn extension<'b>(rest: &mut &'b [u8], size: u32) -> Result<What<'b>, Broken> {
    let [_type] = take(rest)?;
    bytes(rest, size).map(|_| What::Extension)
}

// Nothing is reserved for a length that was read: each item takes a byte at least.

fn array<'b>(rest: &mut &'b [u8], items: u32, depth: usize) -> Result<What<'b>, Broken> {
    let depth = deeper(depth)?;
    let mut array = Vec::new();
    for _ in 0..items {
        array.push(part(rest, depth)?);
    }
    Ok(What::Array(array))
}

fn map<'b>(rest: &mut &'b [u8], entries: u32, depth: usize) -> Result<What<'b>, Broken> {
    let depth = deeper(depth)?;
    let mut map = Vec::new();
    for _ in 0..entries {
        map.push((part(rest, depth)?, part(rest, depth)?));
    }
    Ok(What::Map(map))
}

pub(crate) fn deeper(depth: usize) -> Result<usize, Broken> {
    if depth < MAX_NESTING { Ok(depth + 1) } else { Err("it is nested more than 128 levels deep") }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Broken> {
    let (taken, after) = rest.split_first_chunk().ok_or(CUT_OFF)?;
    *rest = after;
    Ok(*taken)
}

fn bytes<'b>(rest: &mut &'b [u8], size: u32) -> Result<&'b [u8], Broken> {
    let size = usize::try_from(size).map_err(|_| CUT_OFF)?;
    let (taken, after) = rest.split_at_checked(size).ok_or(CUT_OFF)?;
    *rest = after;
    Ok(taken)
}

/// Writes MessagePack in its shortest form, as `rmp-serde` does.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

/// Writing into memory fails only where a length does not fit 32 bits.
const TOO_LONG: Broken = "it has a part of more than 2^32 bytes or items";

impl Writer {
    pub(crate) fn nil(&mut self) {
        self.bytes.push(Marker::Null.to_u8());
    }

    pub(crate) fn bool(&mut self, flag: bool) {
        self.bytes.push(if flag { Marker::True } else { Marker::False }.to_u8());
    }

    pub(crate) fn unsigned(&mut self, number: u64) -> Result<(), Broken> {
        rmp::encode::write_uint(&mut self.bytes, number).map(drop).map_err(|_| TOO_LONG)
    }

    pub(crate) fn signed(&mut self, number: i64) -> Result<(), Broken> {
        rmp::encode::write_sint(&mut self.bytes, number).map(drop).map_err(|_| TOO_LONG)
    }

    pub(crate) fn float(&mut self, number: f64) {
        self.bytes.push(Marker::F64.to_u8());
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<(), Broken> {
        rmp::encode::write_str_len(&mut self.bytes, length(text.len())?).map_err(|_| TOO_LONG)?;
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        rmp::encode::write_bin_len(&mut self.bytes, length(bytes.len())?).map_err(|_| TOO_LONG)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn array(&mut self, items: usize) -> Result<(), Broken> {
        rmp::encode::write_array_len(&mut self.bytes, length(items)?).map(drop).map_err(|_| TOO_LONG)
    }

    pub(crate) fn map(&mut self, entries: usize) -> Result<(), Broken> {
        rmp::encode::write_map_len(&mut self.bytes, length(entries)?).map(drop).map_err(|_| TOO_LONG)
    }
}

fn length(length: usize) -> Result<u32, Broken> {
    u32::try_from(length).map_err(|_| TOO_LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_messagepack() {
        for bytes in
            [&b""[..], b"\xC1", b"\xA1", b"\xC4\x02\x00", b"\xC7\x01\x00", b"\xDF\xFF\xFF\xFF\xFF", b"\xC0\xC0"]
        {
            assert!(read(bytes).is_err(), "{bytes:02x?}");
        }
        let nested = |levels| [vec![0x91; levels], vec![0xC0]].concat();
        assert!(read(&nested(MAX_NESTING)).is_ok() && read(&nested(MAX_NESTING + 1)).is_err());
    }

    #[test]
    fn parts_remember_their_bytes() {
        let bytes = b"\x82\xA1a\x93\xCC\x01\xC4\x01\xFF\xD4\x05\x09\x07\xCA\x3F\xC0\x00\x00";
        let part = read(bytes).unwrap();
        assert_eq!(part.raw, bytes);
        let What::Map(entries) = part.what else { panic!("no map") };
        let raw: Vec<_> = entries.iter().flat_map(|(key, value)| [key.raw, value.raw]).collect();
        assert_eq!(raw, [&b"\xA1a"[..], b"\x93\xCC\x01\xC4\x01\xFF\xD4\x05\x09", b"\x07", b"\xCA\x3F\xC0\x00\x00"]);
    }
}
