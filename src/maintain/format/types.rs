//! Whether bytes are keys or values of the types that a table notes, by the documented encodings alone.

use std::borrow::Cow;

/// Types nested deeper than this are not judged.
const MAX_NESTING: u32 = 32;
/// MessagePack nested deeper than this is refused by readers.
const MAX_DEPTH: usize = 1024;

/// A key's type, as its name says.
#[derive(Debug, PartialEq, Eq)]
enum KeyKind {
    Str,
    Bytes,
    /// Any bytes of this number.
    Fixed(usize),
    Bool,
    Char,
    Option(Box<KeyKind>),
    Reverse(Box<KeyKind>),
    Tuple(Vec<KeyKind>),
}

/// The type of a table's keys, to hold keys against.
#[derive(Debug, Default)]
pub(in crate::maintain) struct KeyType(Option<KeyKind>);

impl KeyType {
    /// Of the name of a type; of one that is not known, anything is a key.
    pub(in crate::maintain) fn named(name: &str) -> KeyType {
        let mut rest = name;
        KeyType(parse(&mut rest, 0).filter(|_| rest.is_empty()))
    }

    /// Whether these bytes are a key of it.
    pub(in crate::maintain) fn fits(&self, key: &[u8]) -> bool {
        let mut rest = key;
        self.0.as_ref().is_none_or(|kind| take(kind, &mut rest, true).is_some() && rest.is_empty())
    }
}

fn parse(rest: &mut &str, depth: u32) -> Option<KeyKind> {
    let mut eat = |start: &str| rest.strip_prefix(start).map(|left| *rest = left).is_some();
    if depth > MAX_NESTING {
        return None;
    }
    if eat("option<") {
        let inner = parse(rest, depth + 1)?;
        *rest = rest.strip_prefix('>')?;
        return Some(KeyKind::Option(Box::new(inner)));
    }
    if eat("reverse<") {
        let inner = parse(rest, depth + 1)?;
        *rest = rest.strip_prefix('>')?;
        return Some(KeyKind::Reverse(Box::new(inner)));
    }
    if eat("[u8;") {
        let (len, left) = rest.split_once(']')?;
        *rest = left;
        return Some(KeyKind::Fixed(len.trim().parse().ok()?));
    }
    if eat("()") {
        return Some(KeyKind::Fixed(0));
    }
    if eat("(") {
        let mut parts = vec![parse(rest, depth + 1)?];
        while let Some(left) = rest.strip_prefix(',') {
            *rest = left;
            parts.push(parse(rest, depth + 1)?);
        }
        *rest = rest.strip_prefix(')')?;
        return Some(KeyKind::Tuple(parts));
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let (word, left) = rest.split_at(end);
    *rest = left;
    Some(match word {
        "str" => KeyKind::Str,
        "bytes" => KeyKind::Bytes,
        "bool" => KeyKind::Bool,
        "char" => KeyKind::Char,
        "u8" | "i8" => KeyKind::Fixed(1),
        "u16" | "i16" => KeyKind::Fixed(2),
        "u32" | "i32" | "f32" | "date" => KeyKind::Fixed(4),
        "u64" | "i64" | "f64" => KeyKind::Fixed(8),
        "time" | "duration" => KeyKind::Fixed(12),
        "u128" | "i128" => KeyKind::Fixed(16),
        _ => return None,
    })
}

/// Takes one part off the front; `last` if nothing may follow it.
fn take(kind: &KeyKind, rest: &mut &[u8], last: bool) -> Option<()> {
    fn split<'k>(rest: &mut &'k [u8], len: usize) -> Option<&'k [u8]> {
        let (taken, left) = rest.split_at_checked(len)?;
        *rest = left;
        Some(taken)
    }
    match kind {
        KeyKind::Str | KeyKind::Bytes => {
            let bytes = if last { Cow::Borrowed(split(rest, rest.len())?) } else { Cow::Owned(escaped(rest)?) };
            (*kind == KeyKind::Bytes || std::str::from_utf8(&bytes).is_ok()).then_some(())
        }
        KeyKind::Fixed(len) => split(rest, *len).map(drop),
        KeyKind::Bool => split(rest, 1).filter(|byte| matches!(byte, [0 | 1])).map(drop),
        KeyKind::Char => {
            let code = u32::from_be_bytes(*split(rest, 4)?.first_chunk()?);
            char::from_u32(code).map(drop)
        }
        KeyKind::Option(inner) => match split(rest, 1)? {
            [0] => Some(()),
            [1] => take(inner, rest, last),
            _ => None,
        },
        KeyKind::Reverse(inner) => {
            // It shows its end everywhere.
            let inverted: Vec<u8> = rest.iter().map(|byte| !byte).collect();
            let mut left = inverted.as_slice();
            take(inner, &mut left, false)?;
            split(rest, rest.len() - left.len()).map(drop)
        }
        KeyKind::Tuple(parts) => {
            parts.iter().enumerate().try_for_each(|(at, part)| take(part, rest, last && at + 1 == parts.len()))
        }
    }
}

/// Text or bytes that show their end.
fn escaped(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let (first, left) = rest.split_first()?;
        *rest = left;
        if *first != 0 {
            bytes.push(*first);
            continue;
        }
        let (second, left) = rest.split_first()?;
        *rest = left;
        match second {
            0 => return Some(bytes),
            0xFF => bytes.push(0),
            _ => return None,
        }
    }
}

/// Whether bytes are a value of a type: of those that are not MessagePack, any are.
pub(in crate::maintain) fn value_fits(value_type: &str, value: &[u8]) -> bool {
    value_type != "msgpack" || is_msgpack(value)
}

/// One item, and nothing after it.
fn is_msgpack(mut rest: &[u8]) -> bool {
    // Items to come, innermost last.
    let mut open = vec![1_u64];
    while let Some(items) = open.last_mut() {
        if *items == 0 {
            open.pop();
            continue;
        }
        *items -= 1;
        match msgpack_item(&mut rest) {
            Some(0) => {}
            Some(nested) if open.len() < MAX_DEPTH => open.push(nested),
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Takes an item off the front; gives the number of items in it.
fn msgpack_item(rest: &mut &[u8]) -> Option<u64> {
    fn number(rest: &mut &[u8], size: usize) -> Option<u64> {
        let (bytes, left) = rest.split_at_checked(size)?;
        *rest = left;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
    let marker = u8::try_from(number(rest, 1)?).ok()?;
    let low = u64::from(marker & 0x0F);
    let (bytes, items) = match marker {
        0x00..=0x7F | 0xC0 | 0xC2 | 0xC3 | 0xE0..=0xFF => (0, 0),
        0x80..=0x8F => (0, 2 * low),
        0x90..=0x9F => (0, low),
        0xA0..=0xBF => (u64::from(marker & 0x1F), 0),
        0xC1 => return None,
        0xC4 | 0xD9 => (number(rest, 1)?, 0),
        0xC5 | 0xDA => (number(rest, 2)?, 0),
        0xC6 | 0xDB => (number(rest, 4)?, 0),
        0xC7 => (number(rest, 1)? + 1, 0),
        0xC8 => (number(rest, 2)? + 1, 0),
        0xC9 => (number(rest, 4)? + 1, 0),
        0xCA | 0xCE | 0xD2 => (4, 0),
        0xCB | 0xCF | 0xD3 => (8, 0),
        0xCC | 0xD0 => (1, 0),
        0xCD | 0xD1 => (2, 0),
        0xD4..=0xD8 => ((1 << (marker - 0xD4)) + 1, 0),
        0xDC => (0, number(rest, 2)?),
        0xDD => (0, number(rest, 4)?),
        0xDE => (0, 2 * number(rest, 2)?),
        0xDF => (0, 2 * number(rest, 4)?),
    };
    *rest = rest.get(usize::try_from(bytes).ok()?..)?;
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AsKey, Key};
    use std::cmp::Reverse;
    use std::time::{Duration, SystemTime};

    #[test]
    fn keys_of_each_type_fit_it_and_bent_ones_do_not() {
        fn real<K: Key>(key: impl AsKey<K::Owned>) {
            let kind = KeyType::named(&K::type_name());
            let bytes = AsKey::<K::Owned>::to_key(&key);
            assert!(kind.0.is_some() && kind.fits(&bytes), "{}: {bytes:?}", K::type_name());
        }
        real::<String>("text");
        real::<(u64, String)>((7_u64, "a\0b"));
        real::<(String, Option<i16>, [u8; 3])>(("a\0", Some(-1_i16), [1_u8, 2, 3]));
        real::<((bool, char), Vec<u8>)>(((true, 'é'), &b"a\0"[..]));
        real::<(f32, f64)>((-0.5_f32, f64::NAN));
        real::<(SystemTime, Duration)>((SystemTime::UNIX_EPOCH, Duration::from_millis(7)));
        real::<(Reverse<String>, Reverse<(u8, Vec<u8>)>)>((Reverse("a\0"), Reverse((7_u8, &b"b\0"[..]))));
        let cases: [(&str, &[u8], bool); 20] = [
            ("u32", &[0, 0, 0, 1], true),
            ("u32", &[0, 0, 1], false),
            ("i128", &[0; 16], true),
            ("str", "né".as_bytes(), true),
            ("str", &[0xFF], false),
            ("bytes", &[0xFF, 0], true),
            ("[u8;4]", &[1; 4], true),
            ("[u8;4]", &[1; 5], false),
            ("bool", &[2], false),
            ("char", &[0, 0, 0xD8, 0], false),
            ("()", &[], true),
            ("option<u8>", &[0], true),
            ("option<u8>", &[1], false),
            ("(str,u8)", &[b'a', 0, 0xFF, 0, 0, 7], true),
            ("(str,u8)", &[b'a', 0, 1, 0, 0, 7], false),
            ("((str,str),str)", &[b'a', 0, 0, b'b', 0, 0, b'c'], true),
            ("reverse<str>", &[!b'a', 0xFF, 0xFF], true),
            ("reverse<str>", &[!b'a'], false),
            ("(enum<Kind>,u8)", &[1], true),
            ("of another program", &[1], true),
        ];
        for (name, key, right) in cases {
            assert_eq!(KeyType::named(name).fits(key), right, "{name} {key:?}");
        }
        assert!(KeyType::named(&"(".repeat(100_000)).fits(b"x"));
    }

    #[test]
    fn values_of_serde_are_msgpack() {
        let value = serde_json::json!({ "a": [1, -5, 1.5, null, true, "text".repeat(100)], "b": {} });
        let bytes = rmp_serde::to_vec_named(&value).unwrap();
        assert!(value_fits("msgpack", &bytes));
        for cut in 0..bytes.len() {
            assert!(!value_fits("msgpack", &bytes[..cut]), "cut at {cut}");
        }
        assert!(!value_fits("msgpack", &[&bytes[..], &[0]].concat()) && value_fits("bytes", &[0xC1]));
        assert!(!value_fits("msgpack", &[0xC1]) && !value_fits("msgpack", &[0xDF, 0xFF, 0xFF, 0xFF, 0xFF]));
        assert!(!value_fits("msgpack", &[0x91; 100_000]));
    }
}
