//! `memstone append` and `memstone incr`: the changes that people make most, without a jq program.

use clap::Args;
use serde_json::{Value, json};

use crate::access::Place;
use crate::edit::Original;
use crate::failure::Failure;
use crate::jq::Program;
use crate::output::Output;
use crate::values::{self, Form, Given, ValueType};
use crate::{Common, update};

/// Add an item to the end of a list, or text to the end of a text
///
/// Read and written in one write transaction: no change of another process is lost. What is there keeps its bytes. If there is nothing, a
/// list of this one item, or this text, is made, and the store and the table, too.
#[derive(Args)]
pub(crate) struct Append {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// The item as JSON; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// Add text to a text; in a table of bytes, any bytes
    #[arg(long, visible_alias = "raw")]
    string: bool,
}

impl Append {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let item = values::argument(&self.value, if self.string { Form::Text } else { Form::Json })?;
        let (length, commit) = self.place.write(true, common.timeout, |txn| {
            let (table, types) = self.place.find_or_create(txn)?;
            let key = types.keys.key(&self.key)?;
            let old = table.get(&key)?.map(|bytes| bytes.to_vec());
            let (new, length) = appended(types.values, old, item)?;
            table.put(&key, &new)?;
            Ok(length)
        })?;
        if out.json() {
            out.line(json!({ "key": self.key, "length": length, "commit": commit }))
        } else {
            out.line(length)
        }
    }
}

/// The bytes of a value with something behind it, and how many items, letters or bytes it has by then.
fn appended(values: ValueType, old: Option<Vec<u8>>, item: Given) -> Result<(Vec<u8>, usize), Failure> {
    let (program, item) = match (values, item) {
        (ValueType::Bytes, Given::Text(bytes)) => {
            let all = [old.unwrap_or_default(), bytes].concat();
            let length = all.len();
            return Ok((all, length));
        }
        (ValueType::Bytes, _) => return Err(Failure::Usage("this table holds bytes: add --string".to_owned())),
        (_, Given::Text(text)) => {
            let text = String::from_utf8(text).map_err(|_| Failure::Usage("the text is not UTF-8".to_owned()))?;
            (TEXT, Value::from(text))
        }
        (_, Given::Json(item)) => (LIST, item),
        (_, Given::Stored(_)) => (LIST, Value::Null),
    };
    let program = Program::compile(program, &[("item".to_owned(), item)])?;
    let original = Original::new(values, old.as_deref());
    let new = original.encode(&program.run(original.value())?)?;
    let length = match values.show(&new) {
        Value::Array(items) => items.len(),
        Value::String(text) => text.chars().count(),
        _ => 0,
    };
    Ok((new, length))
}

const LIST: &str = "if . == null then [$item] elif type == \"array\" then . + [$item] \
    else error(\"the value is no list but of type \" + type + \": --string adds to a text\") end";
const TEXT: &str = "if . == null then $item elif type == \"string\" then . + $item \
    else error(\"the value is no text but of type \" + type) end";
const NUMBER: &str = "if . == null then $by elif type == \"number\" then . + $by \
    else error(\"the value is no number but of type \" + type) end";

/// Add to a number, and print the sum
///
/// Read and written in one write transaction: no change of another process is lost. If there is nothing, it counts as 0.
/// A sum that 64 bits cannot hold is refused.
#[derive(Args)]
pub(crate) struct Incr {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// What is added, as JSON; less than 0 to take away
    #[arg(allow_negative_numbers = true, default_value = "1")]
    by: String,
}

impl Incr {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let by = values::json(&self.by)?;
        if !by.is_number() {
            return Err(Failure::Usage(format!("{by} is no number")));
        }
        let program = Program::compile(NUMBER, &[("by".to_owned(), by)])?;
        let (value, commit) = update::change(&self.place, &self.key, &program, common)?;
        if out.json() {
            out.line(json!({ "key": self.key, "value": value, "commit": commit }))
        } else {
            out.value(&value)
        }
    }
}
