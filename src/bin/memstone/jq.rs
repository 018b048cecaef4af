//! jq programs from one value to one value.

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader, parse};
use jaq_core::{Compiler, Ctx, Filter, Vars, load};
use jaq_json::Val;
use serde_json::Value;

use crate::failure::Failure;

/// A compiled program with its variables.
pub(crate) struct Program {
    filter: Filter<JustLut<Val>>,
    variables: Vec<Val>,
}

impl Program {
    /// Compiles `code`, which may use the `variables` (without their `$`).
    pub(crate) fn compile(code: &str, variables: &[(String, Value)]) -> Result<Program, Failure> {
        let wrong =
            |what: Vec<String>| Failure::Usage(format!("the jq program {code:?} is wrong: {}", what.join("; ")));
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let names: Vec<String> = variables.iter().map(|(name, _)| format!("${name}")).collect();
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(&arena, File { code, path: () })
            .map_err(|errors| wrong(errors.iter().flat_map(|(_, error)| load_errors(error)).collect()))?;
        let filter = Compiler::default()
            .with_funs(functions)
            .with_global_vars(names.iter().map(String::as_str))
            .compile(modules)
            .map_err(|errors| {
                let undefined = errors.iter().flat_map(|(_, errors)| errors);
                wrong(undefined.map(|(name, kind)| format!("there is no {} {name}", kind.as_str())).collect())
            })?;
        let variables = variables.iter().map(|(_, value)| to_jq(value)).collect::<Result<_, _>>()?;
        Ok(Program { filter, variables })
    }

    /// The one value that the program makes of `input`.
    pub(crate) fn run(&self, input: &Value) -> Result<Value, Failure> {
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new(self.variables.iter().cloned()));
        let mut outputs = self.filter.id.run((context, to_jq(input)?)).map(|output| match output {
            Ok(value) => Ok(value),
            Err(exception) => Err(Failure::Other(match exception.get_err() {
                Ok(error) => format!("the jq program failed: {error}"),
                Err(_) => "the jq program halted".to_owned(),
            })),
        });
        let output = outputs.next().ok_or(Failure::Other("the jq program gave no value".to_owned()))??;
        if outputs.next().transpose()?.is_some() {
            return Err(Failure::Other("the jq program gave several values, not one".to_owned()));
        }
        serde_json::from_str(&output.to_string())
            .map_err(|error| Failure::Other(format!("the jq program gave a value that is not JSON: {error}")))
    }
}

fn to_jq(value: &Value) -> Result<Val, Failure> {
    jaq_json::read::parse_single(value.to_string().as_bytes()).map_err(|error| Failure::Other(format!("{error}")))
}

fn load_errors(error: &load::Error<&str>) -> Vec<String> {
    let found = |found: &str| if found.is_empty() { "its end".to_owned() } else { format!("{found:?}") };
    match error {
        load::Error::Io(errors) => errors.iter().map(|(path, error)| format!("{path}: {error}")).collect(),
        load::Error::Lex(errors) => {
            errors.iter().map(|(expected, at)| format!("expected {} at {}", expected.as_str(), found(at))).collect()
        }
        load::Error::Parse(errors) => errors
            .iter()
            .map(|(expected, at): &parse::Error<&str>| format!("expected {} at {}", expected.as_str(), found(at)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(code: &str, input: Value) -> Result<Value, Failure> {
        Program::compile(code, &[("id".to_owned(), json!("x"))])?.run(&input)
    }

    #[test]
    fn one_value_to_one_value() {
        assert_eq!(run(".items += [{id: $id}]", json!(null)).unwrap(), json!({ "items": [{ "id": "x" }] }));
        assert_eq!(run(".n += 1", json!({ "n": 41, "é": 1 })).unwrap(), json!({ "n": 42, "é": 1 }));
        assert_eq!(run(".", json!(u64::MAX)).unwrap(), json!(u64::MAX), "large numbers stay exact");
        assert_eq!(run("map(select(. > 1)) | length", json!([1, 2, 3])).unwrap(), json!(2));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let usage =
            |code| matches!(run(code, json!(1)), Err(Failure::Usage(message)) if message.contains("is wrong: "));
        assert!(usage(".a +") && usage("nothing_such") && usage("$y") && usage("\"a"));
        let other = |code, part| matches!(run(code, json!(1)), Err(Failure::Other(message)) if message.contains(part));
        assert!(
            other("empty", "no value") && other(".,.", "several") && other(".a", "cannot") && other("halt", "halted")
        );
    }
}
