//! The shapes of what a tool takes and returns: one description makes the JSON Schema and checks the input.

use crate::moment;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// A shape of JSON.
pub(crate) enum Shape {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number that is not negative.
    Count,
    /// Any number.
    Number,
    /// A time: RFC 3339, or a date alone.
    Time,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of any length.
    List(&'static Shape),
    /// An object with any names, and values of this shape.
    Map(&'static Shape),
    /// An object with these fields. Others are passed over.
    Object(&'static [Field]),
    /// An object with the fields of all of these.
    Joined(&'static [&'static [Field]]),
    /// Anything.
    Any,
}

/// A field of an object.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// What it is for; empty: its name says it.
    pub(crate) about: &'static str,
    /// Whether it must be there. One that need not may be null as well.
    is_required: bool,
}

impl Field {
    pub(crate) const fn new(name: &'static str, shape: Shape, about: &'static str) -> Field {
        Field { name, shape, about, is_required: true }
    }

    pub(crate) const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Field {
        Field { name, shape, about, is_required: false }
    }
}

impl Shape {
    /// The schema of a tool's input, which may have more fields than it says.
    pub(crate) fn of_input(&self) -> Map<String, Value> {
        self.whole_schema(true)
    }

    /// The schema of a tool's structured answer, which has exactly these fields.
    pub(crate) fn of_output(&self) -> Map<String, Value> {
        self.whole_schema(false)
    }

    fn whole_schema(&self, open: bool) -> Map<String, Value> {
        let mut schema = Map::new();
        schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        schema.extend(self.schema(open));
        schema
    }

    fn schema(&self, open: bool) -> Map<String, Value> {
        let mut schema = Map::new();
        let mut set = |key: &str, value: Value| drop(schema.insert(key.to_owned(), value));
        match self {
            Shape::Text => set("type", json!("string")),
            Shape::Flag => set("type", json!("boolean")),
            Shape::Count => {
                set("type", json!("integer"));
                set("minimum", json!(0));
            }
            Shape::Number => set("type", json!("number")),
            Shape::Time => set("type", json!("string")),
            Shape::Choice(words) => {
                set("type", json!("string"));
                set("enum", json!(words));
            }
            Shape::List(of) => {
                set("type", json!("array"));
                set("items", Value::Object(of.schema(open)));
            }
            Shape::Map(of) => {
                set("type", json!("object"));
                set("additionalProperties", Value::Object(of.schema(open)));
            }
            Shape::Object(_) | Shape::Joined(_) => {
                set("type", json!("object"));
                set("properties", self.fields().map(|field| (field.name, field.schema(open))).collect());
                let required: Vec<&str> =
                    self.fields().filter(|field| field.is_required).map(|field| field.name).collect();
                if !required.is_empty() {
                    set("required", json!(required));
                }
                if !open {
                    set("additionalProperties", json!(false));
                }
            }
            Shape::Any => {}
        }
        schema
    }

    /// The fields of an object; others have none.
    fn fields(&self) -> impl Iterator<Item = &'static Field> + use<> {
        let (one, all): (&[Field], &[&[Field]]) = match self {
            Shape::Object(fields) => (fields, &[]),
            Shape::Joined(lists) => (&[], lists),
            _ => (&[], &[]),
        };
        one.iter().chain(all.iter().copied().flatten())
    }

    /// What is wrong with `value`, one line for each mistake; empty if nothing is.
    pub(crate) fn mistakes(&self, value: &Value) -> String {
        let mut found = String::new();
        self.look(Some(value), "", &mut found);
        found
    }

    fn look(&self, value: Option<&Value>, path: &str, found: &mut String) {
        match (self, value) {
            (Shape::Text, Some(Value::String(_))) | (Shape::Flag, Some(Value::Bool(_))) | (Shape::Any, Some(_)) => {}
            (Shape::Count, Some(Value::Number(number))) if number.is_u64() => {}
            (Shape::Number, Some(Value::Number(_))) => {}
            (Shape::Time, Some(Value::String(text))) if moment::parse(text).is_some() => {}
            (Shape::Choice(words), Some(Value::String(text))) if words.contains(&text.as_str()) => {}
            (Shape::List(of), Some(Value::Array(items))) => {
                for (position, item) in items.iter().enumerate() {
                    of.look(Some(item), &format!("{path}[{position}]"), found);
                }
            }
            (Shape::Map(of), Some(Value::Object(object))) => {
                for (name, value) in object {
                    of.look(Some(value), &member(path, name), found);
                }
            }
            (Shape::Object(_) | Shape::Joined(_), Some(Value::Object(object))) => {
                for field in self.fields() {
                    match object.get(field.name) {
                        None | Some(Value::Null) if !field.is_required => {}
                        value => field.shape.look(value, &member(path, field.name), found),
                    }
                }
            }
            _ => {
                let line = if found.is_empty() { "" } else { "\n" };
                let _ = write!(found, "{line}Invalid input: expected {}, received {}", self.name(), kind(value));
                let _ = if path.is_empty() { Ok(()) } else { write!(found, " at {path}") };
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Shape::Text => "string".to_owned(),
            Shape::Flag => "boolean".to_owned(),
            Shape::Count => "a whole number".to_owned(),
            Shape::Number => "number".to_owned(),
            Shape::Time => "a time such as 2026-01-31T12:00:00Z".to_owned(),
            Shape::Choice(words) => format!("one of {}", words.join(", ")),
            Shape::List(_) => "array".to_owned(),
            Shape::Map(_) | Shape::Object(_) | Shape::Joined(_) => "object".to_owned(),
            Shape::Any => "a value".to_owned(),
        }
    }
}

impl Field {
    fn schema(&self, open: bool) -> Map<String, Value> {
        let mut schema = self.shape.schema(open);
        if !self.about.is_empty() {
            schema.insert("description".to_owned(), json!(self.about));
        }
        schema
    }
}

/// Where a member of an object is.
fn member(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "undefined",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::Object(&[
        Field::new("when", Shape::Time, ""),
        Field::optional("order", Shape::Choice(&["up", "down"]), ""),
        Field::optional("scores", Shape::Map(&Shape::List(&Shape::Number)), ""),
    ]);

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let mistakes = |value: Value| SHAPE.mistakes(&value);
        assert_eq!(mistakes(json!({ "when": "2026-01-31", "order": null, "scores": { "a": [1, 0.5] } })), "");
        let wrong = mistakes(json!({ "when": "soon", "order": "left", "scores": { "a": [1, "x"] } }));
        let expected = [
            "expected a time such as 2026-01-31T12:00:00Z, received string at when",
            "expected one of up, down, received string at order",
            "expected number, received string at scores.a[1]",
        ];
        assert_eq!(wrong, expected.map(|line| format!("Invalid input: {line}")).join("\n"));
    }

    #[test]
    fn schemas_require_what_is_not_optional() {
        let schema = Value::Object(SHAPE.of_output());
        assert_eq!(schema["required"], json!(["when"]));
        assert_eq!(schema["properties"]["order"], json!({ "type": "string", "enum": ["up", "down"] }));
        let numbers = json!({ "type": "array", "items": { "type": "number" } });
        assert_eq!(schema["properties"]["scores"], json!({ "type": "object", "additionalProperties": numbers }));
    }
}
