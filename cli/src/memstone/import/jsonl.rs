//! JSON lines: the reference memory server's entities and relations, or any objects keyed by one of their fields.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use memstone::{AsKey, Codec, MessagePack, Place};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::values;

use super::intake::{At, Intake};
use super::source::{Found, Source, unreadable};

const ENTITIES: &str = "entities";
const RELATIONS: &str = "relations";

pub(super) struct JsonLines {
    path: PathBuf,
    input: Option<Box<dyn BufRead>>,
    form: Form,
    /// Rows of each table that were read, wrong ones and those with a key that came before included.
    counted: BTreeMap<String, u64>,
}

enum Form {
    /// Entities by name; relations by where from, of what type, and where to.
    Memory,
    /// Objects with this field as their key, into this table; the first one says of what type keys are.
    Keyed { field: String, table: String, keys: Option<&'static str> },
}

/// The table that a line belongs to, and its row or what is wrong with it.
type Row = (String, Result<(Vec<u8>, Vec<u8>), String>);

impl JsonLines {
    pub(super) fn open(path: &Path, key: Option<String>, table: String) -> Result<JsonLines, Failure> {
        let input: Box<dyn BufRead> = match path == Path::new("-") {
            true => Box::new(io::stdin().lock()),
            false => {
                let file = File::open(path).map_err(|error| unreadable(path, error))?;
                Box::new(BufReader::with_capacity(1 << 16, file))
            }
        };
        let form = key.map_or(Form::Memory, |field| Form::Keyed { field, table, keys: None });
        Ok(JsonLines { path: path.to_path_buf(), input: Some(input), form, counted: BTreeMap::new() })
    }
}

impl Source for JsonLines {
    fn tables(&mut self) -> Result<Vec<Found>, Failure> {
        let found = |name: &str, keys: &str| Found {
            name: name.to_owned(),
            types: Ok((keys.to_owned(), <MessagePack as Codec<Value>>::name().into_owned())),
        };
        Ok(match &self.form {
            Form::Memory => vec![found(ENTITIES, "str"), found(RELATIONS, "(str,str,str)")],
            Form::Keyed { table, .. } => vec![found(table, "str")],
        })
    }

    fn read(&mut self, _: &str, intake: &mut Intake) -> Result<(), Failure> {
        let Some(mut input) = self.input.take() else { return Ok(()) };
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if input.read_until(b'\n', &mut line).map_err(|error| unreadable(&self.path, error))? == 0 {
                break;
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let object = match object(text) {
                Ok(object) => object,
                Err(why) => {
                    intake.bad_line(number, why)?;
                    continue;
                }
            };
            match self.form.row(object, intake) {
                Ok((table, row)) => {
                    intake.row(&table, At::Line(number), row)?;
                    *self.counted.entry(table).or_default() += 1;
                }
                Err(why) => intake.bad_line(number, why)?,
            }
        }
        Ok(())
    }

    fn count(&mut self, table: &str) -> Result<u64, Failure> {
        Ok(self.counted.get(table).copied().unwrap_or_default())
    }
}

fn object(line: &[u8]) -> Result<Map<String, Value>, String> {
    let text = str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    match values::json(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is no JSON object".to_owned()),
        // What is JSON all the same has an integer that would be altered.
        Err(failure) => Err(match (serde_json::from_str::<Value>(text), failure) {
            (Err(error), _) => format!("it is not JSON ({error})"),
            (_, Failure::Usage(why)) => why,
            (_, _) => "it is not JSON".to_owned(),
        }),
    }
}

impl Form {
    /// The row that an object is, or why it belongs to no table.
    fn row(&mut self, mut object: Map<String, Value>, intake: &mut Intake) -> Result<Row, String> {
        match self {
            Form::Memory => {
                let kind = object.shift_remove("type");
                match kind.as_ref().and_then(Value::as_str) {
                    Some("entity") => Ok((ENTITIES.to_owned(), row(key_of(&object, ["name"]), object))),
                    Some("relation") => {
                        let key = key_of(&object, ["from", "relationType", "to"]);
                        Ok((RELATIONS.to_owned(), row(key, object)))
                    }
                    _ => Err("its \"type\" is neither \"entity\" nor \"relation\"; --key FIELD reads other objects"
                        .to_owned()),
                }
            }
            Form::Keyed { field, table, keys } => {
                let given = object.get(field).cloned().unwrap_or(Value::Null);
                let (kind, key) = match (&given, given.as_i64()) {
                    (Value::String(text), _) => ("str", text.clone().into_bytes()),
                    (_, Some(number)) => ("i64", number.to_key().into_owned()),
                    _ => {
                        return Ok((
                            table.clone(),
                            Err(format!("its {field:?} is neither a text nor an integer of 64 bits")),
                        ));
                    }
                };
                if *keys.get_or_insert(kind) != kind {
                    let why = format!("its {field:?} is of type {kind}, unlike those before");
                    return Ok((table.clone(), Err(why)));
                }
                intake.set_keys(table, kind);
                Ok((table.clone(), row(Ok(key), object)))
            }
        }
    }
}

fn row(key: Result<Vec<u8>, String>, object: Map<String, Value>) -> Result<(Vec<u8>, Vec<u8>), String> {
    let value = Value::Object(object);
    // As it is: nothing in it is taken for the command line's notation.
    Ok((key?, MessagePack::encode(&value).map_err(|error| error.to_string())?.into_owned()))
}

/// The key of fields that must be texts; of several, a tuple.
fn key_of<const N: usize>(object: &Map<String, Value>, fields: [&str; N]) -> Result<Vec<u8>, String> {
    let mut key = Vec::new();
    for (index, field) in fields.into_iter().enumerate() {
        let text = object.get(field).and_then(Value::as_str).ok_or_else(|| format!("its {field:?} is no text"))?;
        text.encode(if index + 1 == N { Place::Last } else { Place::Inner }, &mut key);
    }
    Ok(key)
}
