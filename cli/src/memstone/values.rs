//! Values of any table as JSON, and JSON as their bytes.
//!
//! A table of JSON has them as they are. In a table of MessagePack, numbers, text, lists and maps with text keys are themselves. What JSON cannot express has a
//! notation of its own, an object of one field, and goes in and out by it without change:
//!
//! - `{"$bytes": "ff00"}`: bytes, as hex digits
//! - `{"$map": [[key, value], …]}`: a map whose keys are not distinct texts, or one that would
//!   otherwise look like this notation
//! - `{"$msgpack": "d40509"}`: any other MessagePack (extensions, floats that are no numbers)

use std::io::Read;

use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::msgpack::{self, Broken, Part, What, Writer};
use crate::text::{hex, unhex};

const BYTES: &str = "$bytes";
const MAP: &str = "$map";
const MESSAGE_PACK: &str = "$msgpack";

/// How a table keeps its values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum ValueType {
    MessagePack,
    Json,
    /// Also those of a codec that is not known.
    Bytes,
}

/// A value as the caller gave it.
pub(crate) enum Given {
    Json(Value),
    /// Text as it is; in a table of bytes, any bytes.
    Text(Vec<u8>),
    /// The bytes that the table is to hold.
    Stored(Vec<u8>),
}

impl ValueType {
    /// What the codec called `name` keeps; one that is not known counts as bytes.
    pub(crate) fn named(name: &str) -> ValueType {
        match name {
            "msgpack" => ValueType::MessagePack,
            "json" => ValueType::Json,
            _ => ValueType::Bytes,
        }
    }

    /// The JSON form of a stored value. No two values share one, but for the width of their numbers.
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Value, Failure> {
        match self {
            ValueType::MessagePack => msgpack::read(bytes).map(|part| as_json(&part)).map_err(|broken| {
                Failure::Other(format!("the value is no MessagePack: {broken}; get --hex prints its bytes"))
            }),
            ValueType::Json => stored_json(bytes)
                .map_err(|why| Failure::Other(format!("the value is {why}; get --hex prints its bytes"))),
            ValueType::Bytes => Ok(str::from_utf8(bytes).map_or_else(|_| bytes_as_json(bytes), Value::from)),
        }
    }

    /// Like `decode`, for lists: what is no MessagePack, or no JSON, is shown as bytes in its notation.
    pub(crate) fn show(self, bytes: &[u8]) -> Value {
        self.decode(bytes).unwrap_or_else(|_| match self {
            ValueType::MessagePack => json!({ MESSAGE_PACK: hex(bytes) }),
            ValueType::Json | ValueType::Bytes => bytes_as_json(bytes),
        })
    }

    /// The bytes to store for a value.
    pub(crate) fn encode(self, given: Given) -> Result<Vec<u8>, Failure> {
        let bytes = match (self, given) {
            (ValueType::MessagePack, Given::Json(value)) => to_messagepack(&value)?,
            (ValueType::MessagePack, Given::Text(text)) => {
                let text = str::from_utf8(&text).map_err(|_| Failure::Usage("the value is not UTF-8".to_owned()))?;
                to_messagepack(&text.into())?
            }
            (ValueType::Json, Given::Json(value)) => value.to_string().into_bytes(),
            (ValueType::Json, Given::Text(text)) => {
                let text = str::from_utf8(&text).map_err(|_| Failure::Usage("the value is not UTF-8".to_owned()))?;
                Value::from(text).to_string().into_bytes()
            }
            (ValueType::Bytes, Given::Json(value)) => match (&value, notation(&value)) {
                (_, Some((BYTES, digits))) => from_hex(digits)?,
                (Value::String(text), _) => text.clone().into_bytes(),
                _ => return Err(Failure::Usage(format!("{NO_TEXT} or {{\"$bytes\": hex}}"))),
            },
            (_, Given::Text(bytes) | Given::Stored(bytes)) => bytes,
        };
        // The program that owns the table must be able to read it.
        match self {
            ValueType::MessagePack => drop(msgpack::read(&bytes).map_err(unstorable)?),
            ValueType::Json => drop(stored_json(&bytes).map_err(|why| Failure::Usage(format!("the value is {why}")))?),
            ValueType::Bytes => {}
        }
        Ok(bytes)
    }
}

/// The JSON in a table of JSON, or why it is none that can be shown exactly.
fn stored_json(bytes: &[u8]) -> Result<Value, String> {
    let text = str::from_utf8(bytes).map_err(|_| "no JSON: it is not UTF-8".to_owned())?;
    let value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    match integer_beyond_64_bits(text) {
        None => Ok(value),
        Some(number) => Err(format!("JSON with the integer {number}, which does not fit 64 bits")),
    }
}

/// What a table of bytes says to other JSON.
pub(crate) const NO_TEXT: &str = "this table holds bytes: give a string";

pub(crate) fn unstorable(broken: Broken) -> Failure {
    Failure::Usage(format!("the value cannot be stored as MessagePack: {broken}"))
}

pub(crate) fn bytes_as_json(bytes: &[u8]) -> Value {
    json!({ BYTES: hex(bytes) })
}

fn as_json(part: &Part<'_>) -> Value {
    let other = || json!({ MESSAGE_PACK: hex(part.raw) });
    // `from_f64` has none for what is no number.
    let float = |number| serde_json::Number::from_f64(number).map_or_else(other, Value::Number);
    match &part.what {
        What::Nil => Value::Null,
        What::Bool(flag) => (*flag).into(),
        What::Unsigned(number) => (*number).into(),
        What::Signed(number) => (*number).into(),
        What::Single(number) => float((*number).into()),
        What::Float(number) => float(*number),
        What::Text(text) => str::from_utf8(text).map_or_else(|_| other(), Value::from),
        What::Bytes(bytes) => bytes_as_json(bytes),
        What::Extension => other(),
        What::Array(items) => items.iter().map(as_json).collect(),
        What::Map(entries) => object(entries).map_or_else(|| json!({ MAP: pairs(entries) }), Value::Object),
    }
}

fn pairs(entries: &[(Part<'_>, Part<'_>)]) -> Vec<Value> {
    entries.iter().map(|(key, value)| vec![as_json(key), as_json(value)].into()).collect()
}

/// A map as an object: not if its keys are no distinct texts, or it looks like the notation.
fn object(entries: &[(Part<'_>, Part<'_>)]) -> Option<Map<String, Value>> {
    fn key<'b>(part: &Part<'b>) -> Option<&'b str> {
        if let What::Text(text) = part.what { str::from_utf8(text).ok() } else { None }
    }
    if let [(only, _)] = entries
        && matches!(key(only), Some(BYTES | MAP | MESSAGE_PACK))
    {
        return None;
    }
    let mut object = Map::new();
    for (name, value) in entries {
        if object.insert(key(name)?.to_owned(), as_json(value)).is_some() {
            return None;
        }
    }
    Some(object)
}

/// The name and content of our notation, where a value is one.
fn notation(value: &Value) -> Option<(&'static str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    [BYTES, MAP, MESSAGE_PACK].into_iter().find_map(|name| Some((name, object.get(name)?)))
}

fn to_messagepack(value: &Value) -> Result<Vec<u8>, Failure> {
    let mut out = Writer::default();
    write(value, &mut out, 0)?;
    Ok(out.bytes)
}

fn write(value: &Value, out: &mut Writer, depth: usize) -> Result<(), Failure> {
    match notation(value) {
        Some((BYTES, digits)) => return out.blob(&from_hex(digits)?).map_err(unstorable),
        Some((MAP, pairs)) => return write_pairs(pairs, out, msgpack::deeper(depth).map_err(unstorable)?),
        Some((_, digits)) => {
            let bytes = from_hex(digits)?;
            msgpack::read(&bytes).map_err(unstorable)?;
            out.bytes.extend_from_slice(&bytes);
            return Ok(());
        }
        None => {}
    }
    match value {
        Value::Null => out.nil(),
        Value::Bool(flag) => out.bool(*flag),
        Value::String(text) => out.text(text).map_err(unstorable)?,
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => out.unsigned(number).map_err(unstorable)?,
            (_, Some(number), _) => out.signed(number).map_err(unstorable)?,
            (_, _, Some(number)) => out.float(number),
            _ => return Err(Failure::Usage(format!("the number {number} has no exact form"))),
        },
        Value::Array(items) => {
            let depth = msgpack::deeper(depth).map_err(unstorable)?;
            out.array(items.len()).map_err(unstorable)?;
            items.iter().try_for_each(|item| write(item, out, depth))?;
        }
        Value::Object(fields) => {
            let depth = msgpack::deeper(depth).map_err(unstorable)?;
            out.map(fields.len()).map_err(unstorable)?;
            for (name, value) in fields {
                out.text(name).map_err(unstorable)?;
                write(value, out, depth)?;
            }
        }
    }
    Ok(())
}

fn write_pairs(pairs: &Value, out: &mut Writer, depth: usize) -> Result<(), Failure> {
    let wrong = || Failure::Usage(format!("\"{MAP}\" wants an array of pairs of a key and a value"));
    let pairs = pairs.as_array().ok_or_else(wrong)?;
    out.map(pairs.len()).map_err(unstorable)?;
    for pair in pairs {
        let [key, value] = pair.as_array().map(Vec::as_slice).unwrap_or_default() else { return Err(wrong()) };
        write(key, out, depth)?;
        write(value, out, depth)?;
    }
    Ok(())
}

fn from_hex(digits: &Value) -> Result<Vec<u8>, Failure> {
    digits.as_str().and_then(unhex).ok_or_else(|| {
        let plain = format!("to store this very object, give {{\"{MAP}\": [[name, value]]}}");
        Failure::Usage(format!("{digits} is no string of hex digits, two for each byte; {plain}"))
    })
}

/// How the argument for a value is to be taken.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Json,
    Text,
    Hex,
}

/// The value that an argument means; `-` reads standard input.
pub(crate) fn argument(text: &str, form: Form) -> Result<Given, Failure> {
    let mut read = Vec::new();
    if text == "-" {
        std::io::stdin().read_to_end(&mut read)?;
    } else {
        read.extend_from_slice(text.as_bytes());
    }
    meant(read, form)
}

/// The value that these bytes mean.
pub(crate) fn meant(read: Vec<u8>, form: Form) -> Result<Given, Failure> {
    if form == Form::Text {
        return Ok(Given::Text(read));
    }
    let text = str::from_utf8(&read).map_err(|_| Failure::Usage("the value is not UTF-8".to_owned()))?;
    match form {
        Form::Hex => {
            let bytes = unhex(text.trim()).ok_or_else(|| Failure::Usage("the value is not hex digits".to_owned()));
            bytes.map(Given::Stored)
        }
        _ => json(text).map(Given::Json),
    }
}

/// JSON whose numbers are kept exactly: integers of 64 bits, floats to the last bit.
pub(crate) fn json(text: &str) -> Result<Value, Failure> {
    let value = serde_json::from_str(text).map_err(|error| {
        Failure::Usage(format!("the value is not JSON ({error}); to store text as it is, add --string"))
    })?;
    match integer_beyond_64_bits(text) {
        None => Ok(value),
        Some(number) => {
            let advice = "give it as a string, or with a fraction if a float is meant";
            Err(Failure::Usage(format!("the integer {number} does not fit 64 bits and would be altered: {advice}")))
        }
    }
}

/// An integer in sound JSON that its parser would silently make a float of.
fn integer_beyond_64_bits(json: &str) -> Option<&str> {
    let is_number = |letter: char| letter.is_ascii_digit() || matches!(letter, '+' | '-' | '.' | 'e' | 'E');
    let is_integer =
        |number: &str| number.ends_with(|last: char| last.is_ascii_digit()) && !number.contains(['.', 'e', 'E']);
    let fits = |number: &str| number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    let mut words = outside_strings(json).flat_map(|piece| piece.split(move |letter| !is_number(letter)));
    words.find(|word| is_integer(word) && !fits(word))
}

/// What stands between the strings of sound JSON.
fn outside_strings(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(json);
    std::iter::from_fn(move || {
        let all = rest.take()?;
        let Some((piece, mut text)) = all.split_once('"') else { return Some(all) };
        while let Some(at) = text.find(['"', '\\']) {
            let mut letters = text.get(at..)?.chars();
            if letters.next() == Some('"') {
                rest = Some(letters.as_str());
                break;
            }
            // A backslash takes the next letter with it.
            letters.next();
            text = letters.as_str();
        }
        Some(piece)
    })
}

#[cfg(test)]
pub(crate) mod tests;
