//! The shapes of what a tool takes and returns: one description makes the JSON Schema and checks the input.

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
    /// A list of any length.
    List(&'static Shape),
    /// An object with these fields, all of which are required. Others are passed over.
    Object(&'static [Field]),
    /// Anything.
    Any,
}

/// A field of an object.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// What it is for; empty: its name says it.
    pub(crate) about: &'static str,
}

impl Field {
    pub(crate) const fn new(name: &'static str, shape: Shape, about: &'static str) -> Field {
        Field { name, shape, about }
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
            Shape::List(of) => {
                set("type", json!("array"));
                set("items", Value::Object(of.schema(open)));
            }
            Shape::Object(fields) => {
                set("type", json!("object"));
                set("properties", fields.iter().map(|field| (field.name, field.schema(open))).collect());
                if !fields.is_empty() {
                    set("required", fields.iter().map(|field| field.name).collect());
                }
                if !open {
                    set("additionalProperties", json!(false));
                }
            }
            Shape::Any => {}
        }
        schema
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
            (Shape::List(of), Some(Value::Array(items))) => {
                for (position, item) in items.iter().enumerate() {
                    of.look(Some(item), &format!("{path}[{position}]"), found);
                }
            }
            (Shape::Object(fields), Some(Value::Object(object))) => {
                for field in *fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    field.shape.look(object.get(field.name), &format!("{path}{dot}{}", field.name), found);
                }
            }
            _ => {
                let line = if found.is_empty() { "" } else { "\n" };
                let _ = write!(found, "{line}Invalid input: expected {}, received {}", self.name(), kind(value));
                let _ = if path.is_empty() { Ok(()) } else { write!(found, " at {path}") };
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Shape::Text => "string",
            Shape::Flag => "boolean",
            Shape::Count => "a whole number",
            Shape::List(_) => "array",
            Shape::Object(_) => "object",
            Shape::Any => "a value",
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
