//! `memstone update`: changes a value with a jq program, atomically.

use clap::Args;
use serde_json::{Value, json};

use crate::access::Place;
use crate::edit::Original;
use crate::failure::Failure;
use crate::jq::Program;
use crate::output::Output;
use crate::{Common, values};

/// Change a value with a jq program: read, run and write in one write transaction
///
/// The program gets the present value, or null if there is none, and must give exactly one value:
///
///   memstone update memory.mst sessions '.items += [{"id": $id}]' --arg id "$ID"
///
/// Nobody can write in between, so no change of another process is lost. If the program fails,
/// nothing is changed. What it leaves as it is keeps its bytes; what JSON cannot express (bytes,
/// maps with other keys than text, …) can be kept, moved, copied or taken out, but not rebuilt.
/// The store and the table are created if they are not there.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Update {
    #[command(flatten)]
    place: Place,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// The jq program
    #[arg(value_name = "JQ-EXPRESSION", allow_hyphen_values = true)]
    program: String,
    /// Set $NAME to a string in the program
    #[arg(long, num_args = 2, value_names = ["NAME", "TEXT"], allow_hyphen_values = true)]
    arg: Vec<String>,
    /// Set $NAME to a JSON value in the program
    #[arg(long, num_args = 2, value_names = ["NAME", "JSON"], allow_hyphen_values = true)]
    argjson: Vec<String>,
}

impl Update {
    pub(crate) fn run(self, common: &Common, out: &mut Output) -> Result<(), Failure> {
        let program = Program::compile(&self.program, &self.variables()?)?;
        let (value, commit) = change(&self.place, &self.key, &program, common)?;
        if out.json() { out.line(json!({ "key": self.key, "value": value, "commit": commit })) } else { Ok(()) }
    }

    fn variables(&self) -> Result<Vec<(String, Value)>, Failure> {
        let pairs = |flat: &[String], as_string: bool| {
            let pair = |pair: &[String]| match pair {
                [name, text] if as_string => Ok((name.clone(), Value::from(text.as_str()))),
                [name, text] => Ok((name.clone(), values::json(text)?)),
                _ => Err(Failure::Usage("a name and a value are needed".to_owned())),
            };
            flat.chunks(2).map(pair).collect::<Result<Vec<_>, _>>()
        };
        Ok([pairs(&self.arg, true)?, pairs(&self.argjson, false)?].concat())
    }
}

/// Runs a program over a key's value in one write transaction. Gives what the value is then, and the commit's LSN.
pub(crate) fn change(place: &Place, key: &str, program: &Program, common: &Common) -> Result<(Value, u64), Failure> {
    place.write(true, common.timeout, |txn| {
        let (table, types) = place.find_or_create(txn)?;
        let key = types.keys.key(key)?;
        let old = table.get(&key)?.map(|bytes| bytes.to_vec());
        let original = Original::new(types.values, old.as_deref());
        let new = original.encode(&program.run(original.value())?)?;
        if old.as_ref() != Some(&new) {
            table.put(&key, &new)?;
        }
        Ok(types.values.show(&new))
    })
}
