//! Keys of any table as text and JSON, by the type name that the table records.

use std::str::FromStr;
use std::time::Duration;

use memstone::{AsKey, CodecError, Key, Place};
use serde_json::Value;

use crate::failure::Failure;
use crate::text::{escaped, hex, unescaped, unhex};
use crate::values::bytes_as_json;

/// The type of a table's keys, as far as it can be told from its recorded name.
pub(crate) enum KeyType {
    Scalar(&'static Scalar),
    Array(usize),
    Option(Box<KeyType>),
    Reverse(Box<KeyType>),
    Tuple(Vec<KeyType>),
}

/// A type with no parts.
pub(crate) struct Scalar {
    name: &'static str,
    decode: fn(Place, &mut &[u8]) -> Result<Value, CodecError>,
    encode: fn(&Value, Place, &mut Vec<u8>) -> Option<()>,
}

const fn number<T: Key<Owned = T> + AsKey<T> + ToString + FromStr>(name: &'static str) -> Scalar {
    Scalar {
        name,
        decode: |place, bytes| {
            let text = T::decode(place, bytes)?.to_string();
            // What JSON's numbers cannot hold exactly becomes a string.
            let small = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from));
            Ok(small.unwrap_or_else(|_| text.into()))
        },
        encode: |value, place, out| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.parse::<T>().ok().map(|number| number.encode(place, out))
        },
    }
}

/// A float as a number; what JSON has no number for, by its name or its bits.
const fn float<T: Float>(name: &'static str) -> Scalar {
    Scalar {
        name,
        decode: |place, bytes| {
            let number = T::decode(place, bytes)?;
            let plain = serde_json::Number::from_f64(number.into()).map(Value::Number);
            Ok(plain.unwrap_or_else(|| match number.to_string() {
                nan if nan == "NaN" => number.bits().into(),
                infinite => infinite.into(),
            }))
        },
        encode: |value, place, out| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let number = match text.strip_prefix("0x") {
                Some(_) => T::of_bits(&text),
                None => text.parse::<T>().ok().filter(|number| number.to_string() != "NaN"),
            };
            number.map(|number| number.encode(place, out))
        },
    }
}

trait Float: Key<Owned = Self> + AsKey<Self> + Copy + Into<f64> + ToString + FromStr {
    /// As `0x7fc00000`.
    fn bits(self) -> String;
    fn of_bits(text: &str) -> Option<Self>;
}

macro_rules! floats {
    ($($float:ty, $bits:ty;)+) => {
        $(impl Float for $float {
            fn bits(self) -> String {
                format!("{:#x}", self.to_bits())
            }

            fn of_bits(text: &str) -> Option<$float> {
                <$bits>::from_str_radix(text.strip_prefix("0x")?, 16).ok().map(<$float>::from_bits)
            }
        })+
    };
}

floats!(f32, u32; f64, u64;);

/// A type whose text is as others write it: RFC 3339.
const fn written<T: Key<Owned = T> + AsKey<T> + ToString + FromStr>(name: &'static str) -> Scalar {
    Scalar {
        name,
        decode: |place, bytes| T::decode(place, bytes).map(|value| value.to_string().into()),
        encode: |value, place, out| value.as_str()?.parse::<T>().ok().map(|value| value.encode(place, out)),
    }
}

static STR: Scalar = Scalar {
    name: "str",
    decode: |place, bytes| String::decode(place, bytes).map(Value::from),
    encode: |value, place, out| value.as_str().map(|text| text.encode(place, out)),
};

static BYTES: Scalar = Scalar {
    name: "bytes",
    decode: |place, bytes| Vec::<u8>::decode(place, bytes).map(|bytes| escaped(&bytes).into()),
    encode: |value, place, out| unescaped(value.as_str()?).map(|bytes| AsKey::<Vec<u8>>::encode(&bytes, place, out)),
};

static OTHERS: [Scalar; 18] = [
    number::<u8>("u8"),
    number::<u16>("u16"),
    number::<u32>("u32"),
    number::<u64>("u64"),
    number::<u128>("u128"),
    number::<i8>("i8"),
    number::<i16>("i16"),
    number::<i32>("i32"),
    number::<i64>("i64"),
    number::<i128>("i128"),
    float::<f32>("f32"),
    float::<f64>("f64"),
    written::<jiff::Timestamp>("time"),
    written::<jiff::civil::Date>("date"),
    Scalar {
        name: "duration",
        decode: |place, bytes| {
            let time = Duration::decode(place, bytes)?;
            Ok(format!("{}.{:09}s", time.as_secs(), time.subsec_nanos()).into())
        },
        encode: |value, place, out| {
            let text = value.as_str()?.strip_suffix('s')?;
            let (seconds, nanos) = text.split_once('.').unwrap_or((text, "0"));
            let digits = (nanos.len() <= 9).then(|| format!("{nanos:0<9}"))?;
            Duration::new(seconds.parse().ok()?, digits.parse().ok()?).encode(place, out);
            Some(())
        },
    },
    Scalar {
        name: "bool",
        decode: |place, bytes| bool::decode(place, bytes).map(Value::from),
        encode: |value, place, out| {
            let flag = value.as_bool().or_else(|| value.as_str()?.parse().ok())?;
            flag.encode(place, out);
            Some(())
        },
    },
    Scalar {
        name: "char",
        decode: |place, bytes| char::decode(place, bytes).map(|letter| letter.to_string().into()),
        encode: |value, place, out| value.as_str()?.parse::<char>().ok().map(|letter| letter.encode(place, out)),
    },
    Scalar {
        name: "()",
        decode: |_, _| Ok(Value::Null),
        encode: |value, _, _| (value.is_null() || value.as_str() == Some("")).then_some(()),
    },
];

impl KeyType {
    /// The type called `name`; one that is not known counts as bytes.
    pub(crate) fn named(name: &str) -> KeyType {
        let mut rest = name;
        parse(&mut rest, 0).filter(|_| rest.is_empty()).unwrap_or(KeyType::Scalar(&BYTES))
    }

    /// A key's JSON form: numbers, strings, arrays for tuples; bytes as escaped text, fixed arrays
    /// as hex. What does not decode is shown as `{"$bytes": hex}`, which no key that does is.
    pub(crate) fn show(&self, mut bytes: &[u8]) -> Value {
        let whole = bytes;
        match self.decode(Place::Last, &mut bytes) {
            Ok(value) if bytes.is_empty() => value,
            _ => bytes_as_json(whole),
        }
    }

    /// The key that has this JSON form.
    pub(crate) fn bytes_of(&self, shown: &Value) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        self.encode(shown, Place::Last, &mut key).map(|()| key)
    }

    /// A key as text in one line, for people. No two keys of a table are shown alike.
    pub(crate) fn line(&self, bytes: &[u8]) -> String {
        match (self, self.show(bytes)) {
            // Their bytes are their text, sound or not.
            (KeyType::Scalar(Scalar { name: "str" | "bytes", .. }), _) => escaped(bytes),
            (KeyType::Scalar(_) | KeyType::Array(_), Value::String(text)) => escaped(text.as_bytes()),
            (_, other) => other.to_string(),
        }
    }

    /// The key that an argument means: the text itself, a number, hex, or JSON for tuples.
    pub(crate) fn key(&self, text: &str) -> Result<Vec<u8>, Failure> {
        let mut key = Vec::new();
        let encoded = self.argument(text).and_then(|value| self.encode(&value, Place::Last, &mut key));
        encoded.map(|()| key).ok_or_else(|| Failure::Usage(format!("{text:?} is no key of type {}", self.name())))
    }

    /// The bytes that keys with this prefix begin with; of a tuple, its leading parts.
    pub(crate) fn prefix(&self, text: &str) -> Result<Vec<u8>, Failure> {
        let mut prefix = Vec::new();
        let encoded = match self {
            KeyType::Scalar(scalar) if !matches!(scalar.name, "str" | "bytes") => None,
            KeyType::Option(_) | KeyType::Reverse(_) => None,
            KeyType::Array(_) => unhex(text).map(|bytes| prefix = bytes),
            KeyType::Tuple(parts) => self.argument(text).and_then(|value| {
                let values = value.as_array().filter(|values| values.len() <= parts.len())?;
                parts.iter().zip(values).enumerate().try_for_each(|(index, (part, value))| {
                    let last = index + 1 == parts.len();
                    part.encode(value, if last { Place::Last } else { Place::Inner }, &mut prefix)
                })
            }),
            KeyType::Scalar(_) => self.argument(text).and_then(|value| self.encode(&value, Place::Last, &mut prefix)),
        };
        encoded
            .map(|()| prefix)
            .ok_or_else(|| Failure::Usage(format!("{text:?} is no prefix of keys of type {}", self.name())))
    }

    pub(crate) fn name(&self) -> String {
        match self {
            KeyType::Scalar(scalar) => scalar.name.to_owned(),
            KeyType::Array(size) => format!("[u8;{size}]"),
            KeyType::Option(part) => format!("option<{}>", part.name()),
            KeyType::Reverse(part) => format!("reverse<{}>", part.name()),
            KeyType::Tuple(parts) => format!("({})", parts.iter().map(KeyType::name).collect::<Vec<_>>().join(",")),
        }
    }

    /// Whether null is one of its values: within an option, such a value is shown as an array of itself.
    fn may_be_null(&self) -> bool {
        match self {
            KeyType::Reverse(part) => part.may_be_null(),
            _ => matches!(self, KeyType::Option(_) | KeyType::Scalar(Scalar { name: "()", .. })),
        }
    }

    fn argument(&self, text: &str) -> Option<Value> {
        match self {
            KeyType::Scalar(_) | KeyType::Array(_) => Some(text.into()),
            KeyType::Option(_) | KeyType::Reverse(_) | KeyType::Tuple(_) => serde_json::from_str(text).ok(),
        }
    }

    fn decode(&self, place: Place, bytes: &mut &[u8]) -> Result<Value, CodecError> {
        match self {
            KeyType::Scalar(scalar) => (scalar.decode)(place, bytes),
            KeyType::Array(size) => {
                let (array, rest) = bytes.split_at_checked(*size).ok_or(CodecError::new("cut off"))?;
                *bytes = rest;
                Ok(hex(array).into())
            }
            KeyType::Option(part) => match u8::decode(place, bytes)? {
                0 => Ok(Value::Null),
                1 if part.may_be_null() => part.decode(place, bytes).map(|value| vec![value].into()),
                1 => part.decode(place, bytes),
                other => Err(CodecError::new(format!("{other} as the mark of an option"))),
            },
            KeyType::Reverse(part) => {
                let inverted: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
                let mut rest = inverted.as_slice();
                let value = part.decode(Place::Inner, &mut rest)?;
                *bytes = bytes.get(inverted.len() - rest.len()..).unwrap_or_default();
                Ok(value)
            }
            KeyType::Tuple(parts) => {
                let part = |(index, part): (usize, &KeyType)| {
                    part.decode(if index + 1 == parts.len() { place } else { Place::Inner }, bytes)
                };
                parts.iter().enumerate().map(part).collect::<Result<_, _>>().map(Value::Array)
            }
        }
    }

    fn encode(&self, value: &Value, place: Place, out: &mut Vec<u8>) -> Option<()> {
        match self {
            KeyType::Scalar(scalar) => (scalar.encode)(value, place, out),
            KeyType::Array(size) => {
                let bytes = unhex(value.as_str()?).filter(|bytes| bytes.len() == *size)?;
                out.extend_from_slice(&bytes);
                Some(())
            }
            KeyType::Option(part) => {
                out.push(u8::from(!value.is_null()));
                match value {
                    Value::Null => Some(()),
                    Value::Array(values) if part.may_be_null() => match values.as_slice() {
                        [value] => part.encode(value, place, out),
                        _ => None,
                    },
                    _ if part.may_be_null() => None,
                    value => part.encode(value, place, out),
                }
            }
            KeyType::Reverse(part) => {
                let start = out.len();
                part.encode(value, Place::Inner, out)?;
                out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
                Some(())
            }
            KeyType::Tuple(parts) => {
                let values = value.as_array().filter(|values| values.len() == parts.len())?;
                parts.iter().zip(values).enumerate().try_for_each(|(index, (part, value))| {
                    part.encode(value, if index + 1 == parts.len() { place } else { Place::Inner }, out)
                })
            }
        }
    }
}

/// Types nested deeper than this are taken for bytes: a name from a file is not to decide how deep the stack grows.
const DEEPEST: usize = 32;

/// Takes a type's name off the front.
fn parse(rest: &mut &str, depth: usize) -> Option<KeyType> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(scalar) = OTHERS.iter().chain([&STR, &BYTES]).find(|scalar| {
        // `u8` is not the beginning of a longer name: what follows a name is never alphanumeric.
        rest.strip_prefix(scalar.name).is_some_and(|after| !after.starts_with(char::is_alphanumeric))
    }) {
        *rest = rest.strip_prefix(scalar.name)?;
        return Some(KeyType::Scalar(scalar));
    }
    if let Some(after) = rest.strip_prefix("[u8;") {
        let (size, after) = after.split_once(']')?;
        *rest = after;
        return size.parse().ok().map(KeyType::Array);
    }
    for (start, of) in [("option<", KeyType::Option as fn(_) -> _), ("reverse<", KeyType::Reverse)] {
        if let Some(after) = rest.strip_prefix(start) {
            *rest = after;
            let part = parse(rest, depth + 1)?;
            *rest = rest.strip_prefix('>')?;
            return Some(of(Box::new(part)));
        }
    }
    *rest = rest.strip_prefix('(')?;
    let mut parts = vec![parse(rest, depth + 1)?];
    while let Some(after) = rest.strip_prefix(',') {
        *rest = after;
        parts.push(parse(rest, depth + 1)?);
    }
    *rest = rest.strip_prefix(')')?;
    Some(KeyType::Tuple(parts))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_and_back() {
        for (name, text, shown) in [
            ("str", "né", json!("né")),
            ("bytes", "a\\x00\\xff\\\\é", json!("a\\x00\\xff\\\\é")),
            ("u64", "18446744073709551615", json!(18446744073709551615u64)),
            ("u128", "340282366920938463463374607431768211455", json!("340282366920938463463374607431768211455")),
            ("i16", "-5", json!(-5)),
            ("bool", "true", json!(true)),
            ("char", "é", json!("é")),
            ("[u8;4]", "0102-0aff", json!("01020aff")),
            ("f64", "-1.5", json!(-1.5)),
            ("f64", "-0.0", json!(-0.0)),
            ("f64", "inf", json!("inf")),
            ("f64", "0x7ff8000000000001", json!("0x7ff8000000000001")),
            ("f32", "0.1", json!(f64::from(0.1_f32))),
            ("time", "1969-12-31T23:59:59.5Z", json!("1969-12-31T23:59:59.5Z")),
            ("date", "2026-11-22", json!("2026-11-22")),
            ("duration", "1.5s", json!("1.500000000s")),
            ("reverse<str>", "\"né\"", json!("né")),
            (
                "(reverse<(str,time)>,u8)",
                r#"[["a","2026-11-22T00:00:00Z"],7]"#,
                json!([["a", "2026-11-22T00:00:00Z"], 7]),
            ),
            ("option<u8>", "null", json!(null)),
            ("option<u8>", "7", json!(7)),
            ("(u32,str)", r#"[7,"a\u0000b"]"#, json!([7, "a\0b"])),
            ("((str,bytes),option<i8>)", r#"[["a","\\x00"],-1]"#, json!([["a", "\\x00"], -1])),
        ] {
            let keys = KeyType::named(name);
            assert_eq!(keys.name(), name);
            let key = keys.key(text).unwrap();
            assert_eq!(keys.show(&key), shown, "{name}");
        }
        assert_eq!(KeyType::named("(u32,str)").key(r#"[7,"a"]"#).unwrap(), (7u32, "a").to_key().into_owned());
    }

    #[test]
    fn what_is_no_key() {
        for (name, text) in [
            ("f64", "NaN"),
            ("f32", "x"),
            ("time", "yesterday"),
            ("duration", "1.0000000001s"),
            ("u8", "256"),
            ("u8", "x"),
            ("[u8;2]", "012"),
            ("(u8,str)", "[1]"),
            ("bool", "1"),
            ("bytes", "\\q"),
        ] {
            assert!(matches!(KeyType::named(name).key(text), Err(Failure::Usage(_))), "{name} {text}");
        }
        // Not of the recorded type, or of no known type: shown as bytes.
        assert_eq!(KeyType::named("u32").show(b"ab"), json!({ "$bytes": "6162" }));
        assert_eq!(KeyType::named("option<u8>").show(b"\x02\x07"), json!({ "$bytes": "0207" }), "no mark of an option");
        assert_eq!(KeyType::named("mine<str>").show(b"a\xFF"), json!("a\\xff"));
    }

    #[test]
    fn no_two_keys_share_a_line() {
        let lines = [
            ("str", &b"a\nb"[..], r"a\x0ab"),
            ("str", br"a\x0ab", r"a\\x0ab"),
            ("str", br"a\nb", r"a\\nb"),
            ("str", b"\xFF", r"\xff"),
            ("str", br"\xff", r"\\xff"),
            ("str", br#"{"$bytes":"ff"}"#, r#"{"$bytes":"ff"}"#),
            ("str", "\u{85}\u{2028}é".as_bytes(), r"\xc2\x85\xe2\x80\xa8é"),
            ("bytes", b"k\0\xFF\n", r"k\x00\xff\x0a"),
            ("bytes", br"k\x00", r"k\\x00"),
            ("u8", b"7", "55"),
            ("u8", b"77", r#"{"$bytes":"3737"}"#),
            ("option<str>", b"\0", "null"),
            ("option<str>", b"\x01null", r#""null""#),
            ("option<option<u8>>", b"\x01\0", "[null]"),
            ("option<option<u8>>", b"\x01\x01\x07", "[7]"),
            ("(str,str)", b"a\tb\0\0c\n", r#"["a\tb","c\n"]"#),
        ];
        for (name, key, line) in lines {
            let keys = KeyType::named(name);
            assert_eq!(keys.line(key), line, "{name} {key:02x?}");
            if matches!(keys, KeyType::Option(_)) {
                assert_eq!(keys.key(line).unwrap(), key, "{name} {line}");
            }
        }
        for (name, text) in [("option<()>", "7"), ("option<option<u8>>", "7"), ("option<option<u8>>", "[7,8]")] {
            assert!(KeyType::named(name).key(text).is_err(), "{name} {text}");
        }
    }

    #[test]
    fn a_type_that_is_nested_without_end_is_bytes() {
        for (start, end) in [("option<", ">"), ("(u8,", ")")] {
            let name = |depth: usize| format!("{}u8{}", start.repeat(depth), end.repeat(depth));
            assert_eq!(KeyType::named(&name(DEEPEST)).name(), name(DEEPEST));
            assert_eq!(KeyType::named(&name(DEEPEST + 1)).name(), "bytes");
            assert_eq!(KeyType::named(&name(1 << 20)).name(), "bytes");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(KeyType::named("str").prefix("ab").unwrap(), b"ab");
        assert_eq!(KeyType::named("(str,str)").prefix(r#"["a"]"#).unwrap(), b"a\0\0");
        assert_eq!(KeyType::named("(str,str)").prefix(r#"["a","b"]"#).unwrap(), b"a\0\0b");
        assert_eq!(KeyType::named("[u8;4]").prefix("0102").unwrap(), [1, 2]);
        assert!(KeyType::named("u8").prefix("1").is_err());
    }
}
