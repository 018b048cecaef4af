//! A stored value as a jq program sees it, and the bytes of what the program makes of it.
//!
//! What the program leaves as it is keeps its bytes, wherever it ends up: a part is known again by
//! the memory that it shares with the original. What JSON cannot express can be kept, moved,
//! copied and taken out, but not rebuilt: that is refused, for it would be altered.

use std::collections::HashMap;

use jaq_json::{Map, Num, Val};
use serde_json::Value;

use crate::failure::Failure;
use crate::jq::to_jq;
use crate::msgpack::{self, Part, What, Writer};
use crate::values::{Given, NO_TEXT, ValueType, unstorable};

/// The value before the program runs.
pub(crate) struct Original<'b> {
    values: ValueType,
    value: Val,
    /// Its parts and their bytes. Each is kept here, so that as long as results are compared with it
    /// nothing new takes its memory, and jq changes a copy.
    parts: HashMap<Memory, (Val, &'b [u8])>,
    /// How jq prints the parts that are bytes.
    printed: Vec<String>,
}

/// Where a part of a value lies. A clone lies there, too; whatever was changed, lies elsewhere.
#[derive(PartialEq, Eq, Hash)]
enum Memory {
    Number(usize),
    Text(usize, usize),
    Bytes(usize, usize),
    Array(usize),
    Object(usize),
}

impl Memory {
    fn of(value: &Val) -> Option<Memory> {
        Some(match value {
            Val::Num(Num::BigInt(number)) => Memory::Number(std::ptr::from_ref(&**number).addr()),
            Val::Num(Num::Dec(number)) => Memory::Number(std::ptr::from_ref(&**number).addr()),
            Val::TStr(text) => Memory::Text(text.as_ptr().addr(), text.len()),
            Val::BStr(bytes) => Memory::Bytes(bytes.as_ptr().addr(), bytes.len()),
            Val::Arr(items) => Memory::Array(std::ptr::from_ref(&**items).addr()),
            Val::Obj(fields) => Memory::Object(std::ptr::from_ref(&**fields).addr()),
            Val::Null | Val::Bool(_) | Val::Num(Num::Int(_) | Num::Float(_)) => return None,
        })
    }
}

impl<'b> Original<'b> {
    /// The stored bytes, if there are any.
    pub(crate) fn new(values: ValueType, bytes: Option<&'b [u8]>) -> Original<'b> {
        let mut original = Original { values, value: Val::Null, parts: HashMap::new(), printed: Vec::new() };
        let Some(bytes) = bytes else { return original };
        original.value = match values {
            ValueType::MessagePack => match msgpack::read(bytes) {
                Ok(part) => original.part(&part),
                Err(_) => original.opaque(bytes, bytes),
            },
            // As a whole: a part has no bytes of its own that could be put elsewhere as they are.
            ValueType::Json => match values.decode(bytes).and_then(|value| to_jq(&value)) {
                Ok(value) => original.known(value, bytes),
                Err(_) => original.opaque(bytes, bytes),
            },
            ValueType::Bytes if str::from_utf8(bytes).is_ok() => original.known(Val::utf8_str(bytes.to_vec()), bytes),
            ValueType::Bytes => original.opaque(bytes, bytes),
        };
        original
    }

    /// What the program gets.
    pub(crate) fn value(&self) -> &Val {
        &self.value
    }

    fn known(&mut self, value: Val, raw: &'b [u8]) -> Val {
        if let Some(memory) = Memory::of(&value) {
            self.parts.insert(memory, (value.clone(), raw));
        }
        value
    }

    /// Bytes, which jq has beside text, and which JSON has not.
    fn opaque(&mut self, bytes: &[u8], raw: &'b [u8]) -> Val {
        let value = Val::byte_str(bytes.to_vec());
        self.printed.push(value.to_string());
        self.known(value, raw)
    }

    fn part(&mut self, part: &Part<'b>) -> Val {
        let value = match &part.what {
            What::Nil => Val::Null,
            What::Bool(flag) => Val::Bool(*flag),
            What::Unsigned(number) => integer(*number, part.raw, |out| out.unsigned(*number)),
            What::Signed(number) => integer(*number, part.raw, |out| out.signed(*number)),
            What::Float(number) if number.is_finite() => Val::Num(Num::Float(*number)),
            What::Float(number) => decimal(*number),
            What::Single(number) => decimal((*number).into()),
            What::Text(text) => Val::utf8_str(text.to_vec()),
            What::Bytes(bytes) => return self.opaque(bytes, part.raw),
            What::Extension => return self.opaque(part.raw, part.raw),
            What::Array(items) => items.iter().map(|item| self.part(item)).collect(),
            What::Map(entries) => match self.object(entries) {
                Some(object) => object,
                None => return self.opaque(part.raw, part.raw),
            },
        };
        self.known(value, part.raw)
    }

    /// A map as jq has it, with any keys; none if two of them are the same to jq.
    fn object(&mut self, entries: &[(Part<'b>, Part<'b>)]) -> Option<Val> {
        let mut object = Map::default();
        for (key, value) in entries {
            let (key, value) = (self.part(key), self.part(value));
            if object.insert(key, value).is_some() {
                return None;
            }
        }
        Some(Val::obj(object))
    }

    /// The bytes of what the program gave.
    ///
    /// # Errors
    /// `Failure::Usage` if it holds something that neither stayed as it was nor can be expressed.
    pub(crate) fn encode(&self, result: &Val) -> Result<Vec<u8>, Failure> {
        if let Some(raw) = self.kept(result) {
            return Ok(raw.to_vec());
        }
        match self.values {
            ValueType::MessagePack => {
                let mut out = Writer::default();
                self.write(result, &mut out, 0)?;
                // What stayed may have moved deeper, or may be no MessagePack.
                msgpack::read(&out.bytes).map_err(unstorable)?;
                Ok(out.bytes)
            }
            ValueType::Json => ValueType::Json.encode(Given::Json(self.plain(result)?)),
            ValueType::Bytes => match result {
                Val::TStr(text) => Ok(self.text(text)?.as_bytes().to_vec()),
                Val::BStr(_) => Err(refused(NEW_BYTES)),
                _ => Err(Failure::Usage(format!("{NO_TEXT}, which the jq program must make"))),
            },
        }
    }

    fn kept(&self, value: &Val) -> Option<&'b [u8]> {
        self.parts.get(&Memory::of(value)?).map(|(_, raw)| *raw)
    }

    fn write(&self, value: &Val, out: &mut Writer, depth: usize) -> Result<(), Failure> {
        if let Some(raw) = self.kept(value) {
            out.bytes.extend_from_slice(raw);
            return Ok(());
        }
        match value {
            Val::Null => out.nil(),
            Val::Bool(flag) => out.bool(*flag),
            Val::Num(number) => write_number(number, out)?,
            Val::TStr(text) => out.text(self.text(text)?).map_err(unstorable)?,
            Val::BStr(_) => return Err(refused(NEW_BYTES)),
            Val::Arr(items) => {
                let depth = msgpack::deeper(depth).map_err(unstorable)?;
                out.array(items.len()).map_err(unstorable)?;
                items.iter().try_for_each(|item| self.write(item, out, depth))?;
            }
            Val::Obj(fields) => {
                let depth = msgpack::deeper(depth).map_err(unstorable)?;
                out.map(fields.len()).map_err(unstorable)?;
                for (name, value) in fields.iter() {
                    if !matches!(name, Val::TStr(_)) {
                        return Err(refused("a map whose keys are not all text"));
                    }
                    self.write(name, out, depth)?;
                    self.write(value, out, depth)?;
                }
            }
        }
        Ok(())
    }

    /// A result as JSON.
    fn plain(&self, value: &Val) -> Result<Value, Failure> {
        Ok(match value {
            Val::Null => Value::Null,
            Val::Bool(flag) => Value::Bool(*flag),
            Val::Num(number) => {
                let mut out = Writer::default();
                write_number(number, &mut out)?;
                ValueType::MessagePack.decode(&out.bytes)?
            }
            Val::TStr(text) => self.text(text)?.into(),
            Val::BStr(_) => return Err(refused(NEW_BYTES)),
            Val::Arr(items) => items.iter().map(|item| self.plain(item)).collect::<Result<_, _>>()?,
            Val::Obj(fields) => {
                let field = |(name, value): (&Val, &Val)| match name {
                    Val::TStr(name) => Ok((self.text(name)?.to_owned(), self.plain(value)?)),
                    _ => Err(refused("a map whose keys are not all text")),
                };
                Value::Object(fields.iter().map(field).collect::<Result<_, _>>()?)
            }
        })
    }

    /// New text, which must not be made of bytes.
    fn text<'t>(&self, text: &'t [u8]) -> Result<&'t str, Failure> {
        let text = str::from_utf8(text).map_err(|_| refused("text that is not UTF-8"))?;
        // What jq prints of bytes is no JSON, and leads nobody back to them.
        match text.contains("b\"") && self.printed.iter().any(|printed| text.contains(printed)) {
            true => Err(refused("bytes printed as text")),
            false => Ok(text),
        }
    }
}

const NEW_BYTES: &str = "bytes that are not those of the value before";

fn refused(what: &str) -> Failure {
    let kept = "what JSON cannot express can be kept, moved, copied or taken out, but not rebuilt";
    Failure::Usage(format!("the jq program gave {what}: {kept}. Nothing was changed"))
}

/// An integer. One that is not in its shortest form lies in memory of its own, to be known again.
fn integer<T: Copy + TryInto<isize> + Into<i128>>(
    number: T,
    raw: &[u8],
    write: impl FnOnce(&mut Writer) -> Result<(), msgpack::Broken>,
) -> Val {
    let mut shortest = Writer::default();
    let is_shortest = write(&mut shortest).is_ok() && shortest.bytes == raw;
    match number.try_into() {
        Ok(small) if is_shortest => Val::Num(Num::Int(small)),
        _ => Val::Num(Num::big_int(Into::<i128>::into(number).into())),
    }
}

/// A number that JSON has not, as a decimal: jq calculates with it, and it lies in memory of its own.
fn decimal(number: f64) -> Val {
    let text = match number {
        number if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        number => format!("{number:?}"),
    };
    Val::Num(Num::Dec(text.into()))
}

fn write_number(number: &Num, out: &mut Writer) -> Result<(), Failure> {
    match number {
        Num::Int(number) => out.signed(i64::try_from(*number).unwrap_or_default()).map_err(unstorable),
        Num::BigInt(number) => {
            let digits = number.to_string();
            if let Ok(number) = digits.parse() {
                out.unsigned(number).map_err(unstorable)
            } else if let Ok(number) = digits.parse() {
                out.signed(number).map_err(unstorable)
            } else {
                Err(Failure::Usage(format!("the jq program gave the integer {digits}, which does not fit 64 bits")))
            }
        }
        Num::Float(number) => write_float(*number, out),
        Num::Dec(digits) => write_float(digits.parse().unwrap_or(f64::NAN), out),
    }
}

fn write_float(number: f64, out: &mut Writer) -> Result<(), Failure> {
    if !number.is_finite() {
        return Err(refused("a number that JSON has not (NaN or infinite)"));
    }
    out.float(number);
    Ok(())
}

#[cfg(test)]
mod tests;
