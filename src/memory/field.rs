//! Values of metadata fields as keys of an index, in their order.

use crate::memory::language::beginning_of;
use serde_json::{Map, Number, Value};

/// A longer text is cut here in the index, and has its hash behind it: it is found as it is, and lies in a range by its
/// beginning.
const MAX_TEXT: usize = 256;

/// The kinds of values, in the order of the index.
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;

/// The values that a field has in some metadata, as keys: one, none, or those of an array. A name that starts with a slash
/// is a JSON pointer, any other one that of a member.
pub(super) fn keys(metadata: &Map<String, Value>, name: &str) -> Vec<Vec<u8>> {
    let mut parts = name.strip_prefix('/').map_or(vec![name.to_owned()], |pointer| {
        pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
    });
    parts.reverse();
    let mut found = parts.pop().and_then(|part| metadata.get(&part));
    while let Some(part) = parts.pop() {
        found = match found {
            Some(Value::Object(members)) => members.get(&part),
            _ => None,
        };
    }
    match found {
        Some(Value::Array(values)) => values.iter().filter_map(key).collect(),
        Some(value) => key(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A value as a key; `None` for what is not indexed: null, arrays and objects.
pub(super) fn key(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        Value::Bool(false) => vec![FALSE],
        Value::Bool(true) => vec![TRUE],
        Value::Number(number) => number_key(number)?,
        Value::String(text) => text_key(text),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    })
}

/// The nearest number of 64 bits with a fraction, in the order of numbers; then the difference to a whole number, which it
/// may not hold exactly.
fn number_key(number: &Number) -> Option<Vec<u8>> {
    let float = number.as_f64()? + 0.0;
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let bits = float.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    let difference = whole.map_or(0, |whole| whole - whole_part(float));
    let difference = u16::try_from(difference + 0x8000).ok()?;
    Some([&[NUMBER][..], &ordered.to_be_bytes(), &difference.to_be_bytes()].concat())
}

#[expect(clippy::cast_possible_truncation, reason = "it is the nearest to a whole number of 64 bits")]
fn whole_part(float: f64) -> i128 {
    float as i128
}

/// The text, with bytes of 0 doubled by 255, and an end that comes before all that could follow.
fn text_key(text: &str) -> Vec<u8> {
    let cut = beginning_of(text, MAX_TEXT);
    let mut key = vec![TEXT];
    for byte in cut.bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(255);
        }
    }
    key.extend([0, 0]);
    if cut.len() < text.len() {
        key.extend(blake3::hash(text.as_bytes()).as_bytes().iter().take(16));
    }
    key
}
