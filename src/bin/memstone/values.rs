//! Values of any table as JSON, and JSON as their bytes.

use std::fmt;
use std::io::Read;

use memstone::{Blob, Value as _};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::failure::Failure;
use crate::keys::escaped;

/// A JSON value, kept as MessagePack.
///
/// Unlike `serde_json::Value` it reads whatever MessagePack has: bytes as a list of numbers, an
/// extension as its type and bytes, and map keys that are not strings as their JSON text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document(pub(crate) Value);

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
                Ok(flag.into())
            }
            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(number.into())
            }
            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(number.into())
            }
            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(number.into())
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(text.into())
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
                Ok(bytes.into())
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<Value, D::Error> {
                extension.deserialize_tuple(2, Any)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut array = Vec::new();
                while let Some(Document(item)) = items.next_element()? {
                    array.push(item);
                }
                Ok(array.into())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut object = serde_json::Map::new();
                while let Some((Document(key), Document(value))) = entries.next_entry()? {
                    let key = if let Value::String(text) = key { text } else { key.to_string() };
                    object.insert(key, value);
                }
                Ok(object.into())
            }
        }
        deserializer.deserialize_any(Any).map(Document)
    }
}

/// How a table keeps its values.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ValueType {
    MessagePack,
    Bytes,
}

impl ValueType {
    /// The type called `name`; one that is not known counts as bytes.
    pub(crate) fn named(name: &str) -> ValueType {
        if name == Document::type_name() { ValueType::MessagePack } else { ValueType::Bytes }
    }

    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Value, Failure> {
        match self {
            ValueType::MessagePack => Document::decode(bytes)
                .map(|document| document.0)
                .map_err(|error| Failure::Other(format!("the value cannot be decoded: {error}"))),
            ValueType::Bytes => Ok(String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| escaped(bytes)).into()),
        }
    }

    /// Like `decode`, for lists: what cannot be decoded is shown as bytes.
    pub(crate) fn show(self, bytes: &[u8]) -> Value {
        self.decode(bytes).unwrap_or_else(|_| escaped(bytes).into())
    }

    pub(crate) fn encode(self, value: Value) -> Result<Vec<u8>, Failure> {
        let failed = |error| Failure::Usage(format!("the value cannot be stored: {error}"));
        match (self, value) {
            (ValueType::MessagePack, value) => Ok(Document(value).encode().map_err(failed)?.into_owned()),
            (ValueType::Bytes, Value::String(text)) => Ok(Blob(text.into_bytes()).0),
            (ValueType::Bytes, _) => Err(Failure::Usage("this table holds bytes: give a string".to_owned())),
        }
    }
}

/// The value that an argument means: JSON, or a string as it is; `-` reads standard input.
pub(crate) fn argument(text: &str, as_string: bool) -> Result<Value, Failure> {
    let mut read = Vec::new();
    if text == "-" {
        std::io::stdin().read_to_end(&mut read)?;
    } else {
        read.extend_from_slice(text.as_bytes());
    }
    let text = String::from_utf8(read).map_err(|_| Failure::Usage("the value is not UTF-8".to_owned()))?;
    if as_string {
        return Ok(text.into());
    }
    serde_json::from_str(&text).map_err(|error| {
        Failure::Usage(format!("the value is not JSON ({error}); to store text as it is, add --string"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_goes_in_and_comes_out() {
        let value = json!({ "b": [1, -2, 1.5, null, true, u64::MAX, i64::MIN], "a": { "nested": "é" } });
        let bytes = ValueType::MessagePack.encode(value.clone()).unwrap();
        assert_eq!(ValueType::MessagePack.decode(&bytes).unwrap(), value);
        assert!(bytes.starts_with(b"\x82\xA1b"), "the fields keep their order");
    }

    #[test]
    fn what_json_has_not() {
        let show = |bytes: &[u8]| ValueType::MessagePack.show(bytes);
        assert_eq!(show(b"\x81\x07\xC4\x02\x01\x02"), json!({ "7": [1, 2] }));
        assert_eq!(show(b"\xD4\x05\x09"), json!([5, [9]]));
        assert_eq!(show(b"\xCA\x7F\xC0\x00\x00"), json!(null), "not a number");
        assert_eq!(show(b"\xA1"), json!("\\xa1"), "cut off");
        assert!(ValueType::MessagePack.decode(b"\xA1").is_err());
    }

    #[test]
    fn plain_bytes() {
        assert_eq!(ValueType::Bytes.encode("a\n".into()).unwrap(), b"a\n");
        assert!(ValueType::Bytes.encode(json!(1)).is_err());
        assert_eq!(ValueType::Bytes.show(b"a\n"), json!("a\n"));
        assert_eq!(ValueType::Bytes.show(b"\xFF"), json!("\\xff"));
    }

    #[test]
    fn arguments() {
        assert_eq!(argument("[1]", false).unwrap(), json!([1]));
        assert_eq!(argument("[1]", true).unwrap(), json!("[1]"));
        assert!(matches!(argument("{a", false), Err(Failure::Usage(message)) if message.contains("--string")));
    }
}
