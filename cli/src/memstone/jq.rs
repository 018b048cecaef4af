//! jq programs from one value to one value.

use jaq_core::data::JustLut;
use jaq_core::load::lex::{Lexer, Token};
use jaq_core::load::parse::{Def, Parser, Term};
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::{Num, Val};
use serde_json::Value;

use crate::failure::Failure;
use crate::jq_null;

/// The name under which the caller's program is run.
const MAIN: &str = "memstone_program";

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
        let mut body = parse(code).map_err(wrong)?;
        jq_null::rewrite(&mut body);
        let main = Def { name: MAIN, args: Vec::new(), body };
        let arena = Arena::default();
        let modules = Loader::new(definitions.map(as_long_as).chain([main]))
            .load(&arena, File { code: MAIN, path: () })
            .map_err(|_| wrong(vec!["it cannot be loaded".to_owned()]))?;
        let filter = Compiler::default()
            .with_funs(functions.chain([jq_null::object_for()]))
            .with_global_vars(names.iter().map(String::as_str))
            .compile(modules)
            .map_err(|errors| {
                let undefined = errors.iter().flat_map(|(_, errors)| errors);
                wrong(undefined.map(|(name, kind)| format!("there is no {} {name}", kind.as_str())).collect())
            })?;
        let variables = variables.iter().map(|(_, value)| to_jq(value)).collect::<Result<_, _>>()?;
        Ok(Program { filter, variables })
    }

    /// The one value that the program makes of `input`. A failure of the program is the caller's mistake.
    pub(crate) fn run(&self, input: &Val) -> Result<Val, Failure> {
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new(self.variables.iter().cloned()));
        let mut outputs = self.filter.id.run((context, input.clone())).map(|output| match output {
            Ok(value) => Ok(value),
            Err(exception) => Err(Failure::Usage(match exception.get_err() {
                Ok(error) => format!("the jq program failed: {error}"),
                Err(_) => "the jq program halted".to_owned(),
            })),
        });
        let output = outputs.next().ok_or(Failure::Usage("the jq program gave no value".to_owned()))??;
        match outputs.next().transpose()? {
            Some(_) => Err(Failure::Usage("the jq program gave several values, not one".to_owned())),
            None => Ok(output),
        }
    }
}

/// JSON as jq has it, to the last bit of its numbers.
pub(crate) fn to_jq(value: &Value) -> Result<Val, Failure> {
    Ok(match value {
        Value::Null => Val::Null,
        Value::Bool(flag) => Val::Bool(*flag),
        Value::String(text) => Val::utf8_str(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Val::Num(Num::from_integral(number)),
            (_, Some(number), _) => Val::Num(Num::from_integral(number)),
            (_, _, Some(number)) => Val::Num(Num::Float(number)),
            _ => return Err(Failure::Usage(format!("the number {number} has no exact form"))),
        },
        Value::Array(items) => items.iter().map(to_jq).collect::<Result<_, _>>()?,
        Value::Object(fields) => {
            let entry = |(name, value): (&String, &Value)| Ok((Val::utf8_str(name.clone()), to_jq(value)?));
            Val::obj(fields.iter().map(entry).collect::<Result<_, Failure>>()?)
        }
    })
}

/// A built-in definition beside one that borrows the caller's program.
fn as_long_as<'s>(definition: Def<&'static str>) -> Def<&'s str> {
    definition
}

/// The program as a tree, or what is wrong with it.
fn parse(code: &str) -> Result<Term<&str>, Vec<String>> {
    let wrong = |expected: &str, at: &str| {
        let found = if at.is_empty() { "its end".to_owned() } else { format!("{at:?}") };
        format!("expected {expected} at {found}")
    };
    let tokens = Lexer::new(code)
        .lex()
        .map_err(|errors| errors.iter().map(|(expected, at)| wrong(expected.as_str(), at)).collect::<Vec<_>>())?;
    Parser::new(&tokens).parse(|parser| parser.term()).map_err(|errors| {
        errors.iter().map(|(expected, at)| wrong(expected.as_str(), Token::opt_as_str(*at, code))).collect()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(code: &str, input: Value) -> Result<Value, Failure> {
        let output = Program::compile(code, &[("id".to_owned(), json!("x"))])?.run(&to_jq(&input)?)?;
        Ok(serde_json::from_str(&output.to_string()).unwrap())
    }

    #[test]
    fn one_value_to_one_value() {
        assert_eq!(run(".items += [{id: $id}]", json!(null)).unwrap(), json!({ "items": [{ "id": "x" }] }));
        assert_eq!(run(".n += 1", json!({ "n": 41, "é": 1 })).unwrap(), json!({ "n": 42, "é": 1 }));
        assert_eq!(run(".", json!(u64::MAX)).unwrap(), json!(u64::MAX), "large numbers stay exact");
        assert_eq!(run("map(select(. > 1)) | length", json!([1, 2, 3])).unwrap(), json!(2));
    }

    #[test]
    fn assignments_below_null_make_objects() {
        for (code, output) in [
            (".a.b += 1", json!({ "a": { "b": 1 } })),
            (".a[\"b\"].c = .", json!({ "a": { "b": { "c": null } } })),
            (".a[$id] |= 7 | .\"é\" //= 2", json!({ "a": { "x": 7 }, "é": 2 })),
            ("((.a | .b), .c) = 1", json!({ "a": { "b": 1 }, "c": 1 })),
            ("if true then .a.b = 1 else .c.d = 1 end", json!({ "a": { "b": 1 } })),
            ("def f: .n.m += 1; f | f", json!({ "n": { "m": 2 } })),
            ("reduce (1, 2) as $n (.; .a.b += $n)", json!({ "a": { "b": 3 } })),
            ("[.] | map(.a.b = 1)", json!([{ "a": { "b": 1 } }])),
            (
                "{x: (.a.b = 1)} | .y = \"\\(.z.w = 1)\"",
                json!({ "x": { "a": { "b": 1 } }, "y": "{\"x\":{\"a\":{\"b\":1}},\"z\":{\"w\":1}}" }),
            ),
            (". as {a: $q} | .b.c = $q", json!({ "b": { "c": null } })),
            (".a.b", json!(null)),
        ] {
            assert_eq!(run(code, json!(null)).unwrap_or_else(|error| panic!("{code}: {error:?}")), output, "{code}");
        }
        // What is there is assigned to as ever.
        assert_eq!(
            run(".a.b += 1 | .l[0] = 9", json!({ "a": { "b": 1 }, "l": [1] })).unwrap(),
            json!({ "a": { "b": 2 }, "l": [9] })
        );
        assert!(run(".a.b = 1", json!({ "a": [] })).is_err());
        assert!(run(".[0] = 1", json!(null)).is_err());
    }

    #[test]
    fn what_is_wrong_is_told() {
        let usage =
            |code| matches!(run(code, json!(1)), Err(Failure::Usage(message)) if message.contains("is wrong: "));
        assert!(usage(".a +") && usage("nothing_such") && usage("$y") && usage("\"a"));
        for (code, part) in [("empty", "no value"), (".,.", "several"), (".a", "cannot"), ("halt", "halted")] {
            let failure = run(code, json!(1));
            assert!(matches!(&failure, Err(Failure::Usage(message)) if message.contains(part)), "{code}: {failure:?}");
        }
    }
}
