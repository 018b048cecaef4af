//! Whether a value is as a JSON Schema says, as far as the server's schemas go.

use serde_json::Value;

/// What is wrong with `value`, or with the schema.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(schema, value, "", &mut found);
    found
}

fn look(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let is_right = match schema["type"].as_str() {
        None => true,
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("an unknown type: {other}"),
    };
    if !is_right {
        found.push(format!("{path} is {value}, and the schema is {schema}"));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        found.push(format!("{path} is {value}, none of {words:?}"));
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        look(&schema["items"], item, &format!("{path}[{at}]"), found);
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            found.push(format!("{path}.{name} is missing"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(of), _) => look(of, member, &format!("{path}.{name}"), found),
            (None, Value::Bool(false)) => found.push(format!("{path}.{name} is not in the schema")),
            (None, of) => look(of, member, &format!("{path}.{name}"), found),
        }
    }
}

#[test]
fn what_is_not_as_the_schema_says_is_found() {
    use serde_json::json;
    let number = json!({ "type": "array", "items": { "type": "number" } });
    let schema =
        json!({ "type": "object", "properties": { "a": number }, "required": ["a"], "additionalProperties": false });
    assert_eq!(violations(&schema, &json!({ "a": [1, 0.5] })), Vec::<String>::new());
    assert_eq!(violations(&schema, &json!({ "a": [1, "x"], "b": 1 })).len(), 2);
    assert_eq!(violations(&schema, &json!({})).len(), 1);
}
