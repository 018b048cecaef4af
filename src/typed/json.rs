//! The codec of JSON.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{Codec, codec_values};
use super::key::CodecError;
use crate::bytes::Bytes;

/// Values as JSON, recorded as `"json"`: every type of serde that JSON can express. It needs the feature `json`.
///
/// As with [`MessagePack`](crate::MessagePack), a struct may gain and lose fields. It is for tables that people or other
/// programs read as text; MessagePack is shorter, and keeps what JSON has no form for: here a float that is no number
/// becomes `null`, and the keys of maps must be text or numbers. Values nested more than 127 levels deep are refused.
///
/// ```
/// use memstone::{Json, Store, Table};
/// use std::collections::BTreeMap;
///
/// const COUNTS: Table<&str, BTreeMap<String, u64>, Json> = Table::new("counts");
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| tx.table(COUNTS)?.put("words", BTreeMap::from([("a".to_owned(), 2)])))?;
/// let snapshot = store.read()?;
/// assert_eq!(snapshot.table(COUNTS)?.get("words")?.unwrap()["a"], 2);
/// assert_eq!(snapshot.untyped("counts")?.get(b"words")?.unwrap(), br#"{"a":2}"#);
/// # Ok::<(), memstone::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// How deeply arrays and objects may be nested: what the parser reads, which recurses.
const MAX_NESTING: usize = 127;

codec_values! { Json, "json":
    [V: Serialize + DeserializeOwned] V => V, write, read;
    [] str => String, write, read;
}

fn read<V: DeserializeOwned>(bytes: Bytes<'_>) -> Result<V, CodecError> {
    serde_json::from_slice(&bytes).map_err(|error| CodecError::new(error.to_string()))
}

/// Refuses what could not be read again.
fn write<V: Serialize + ?Sized>(value: &V) -> Result<Cow<'_, [u8]>, CodecError> {
    let bytes = serde_json::to_vec(value).map_err(|error| CodecError::new(error.to_string()))?;
    if nesting(&bytes) > MAX_NESTING {
        return Err(CodecError::new(format!("nested more than {MAX_NESTING} levels deep")));
    }
    Ok(Cow::Owned(bytes))
}

/// How deeply sound JSON is nested.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text) = (0_usize, 0, false);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match (byte, in_text) {
            // A backslash takes the next byte with it.
            (b'\\', true) => drop(bytes.next()),
            (b'"', _) => in_text = !in_text,
            (b'[' | b'{', false) => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (b']' | b'}', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn read<V: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<V, CodecError> {
        <Json as Codec<V>>::decode(Bytes::borrowed(bytes))
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Note {
        text: String,
        #[serde(default)]
        stars: u8,
    }

    #[test]
    fn values_are_json() {
        let note = Note { text: "a\"{[".into(), stars: 3 };
        let bytes = Json::encode(&note).unwrap();
        assert_eq!(&*bytes, br#"{"text":"a\"{[","stars":3}"#);
        assert_eq!(read::<Note>(&bytes), Ok(note));
        assert_eq!(read::<Note>(br#" {"text":"b","more":[]} "#), Ok(Note { text: "b".into(), stars: 0 }));
        assert_eq!(<Json as Codec<str>>::encode("a").unwrap(), <Json as Codec<String>>::encode(&"a".into()).unwrap());
        assert_eq!(<Json as Codec<u8>>::name(), "json");
        let float = 0.1 + 0.2;
        assert_eq!(read::<f64>(&Json::encode(&float).unwrap()), Ok(float), "to the last bit");
    }

    #[test]
    fn hostile_bytes_give_an_error() {
        assert!(read::<String>(b"").is_err());
        assert!(read::<String>(b"\"a").is_err(), "cut off");
        assert!(read::<String>(b"\"a\"b").is_err(), "more than one value");
        assert!(read::<String>(b"\"\xFF\"").is_err(), "not UTF-8");
        assert!(read::<serde_json::Value>(&[b'['; 100_000]).is_err(), "nested without end");
    }

    /// An enum that holds itself.
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum Chain {
        End,
        Link(Box<Chain>),
    }

    #[test]
    fn what_can_be_written_can_be_read() {
        let chain = |links| (0..links).fold(Chain::End, |chain, _| Chain::Link(Box::new(chain)));
        let bytes = Json::encode(&chain(MAX_NESTING)).unwrap().into_owned();
        assert_eq!(read::<Chain>(&bytes), Ok(chain(MAX_NESTING)));
        assert!(Json::encode(&chain(MAX_NESTING + 1)).is_err());
        assert_eq!(nesting(br#"{"a[[\"[[\\":[[],[]]}"#), 3);
    }
}
