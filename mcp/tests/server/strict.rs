//! A client that compares each answer with the schema of its tool.

use crate::client::{Client, Start};
use crate::schema::violations;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A client whose answers are compared with the schemas of the tools.
pub struct Strict {
    pub client: Client,
    schemas: BTreeMap<String, Value>,
}

impl Strict {
    pub fn start(start: Start) -> Strict {
        let mut client = start.client();
        let listed = client.request("tools/list", json!({}));
        let tools = listed["result"]["tools"].as_array().unwrap();
        let schemas =
            tools.iter().map(|tool| (tool["name"].as_str().unwrap().to_owned(), tool["outputSchema"].clone()));
        Strict { schemas: schemas.collect(), client }
    }

    pub fn with(path: &Path, tools: &str) -> Strict {
        Strict::start(Start::memstone(path).with("MEMSTONE_TOOLS", tools))
    }

    pub fn within(path: &Path, namespace: &str) -> Strict {
        Strict::start(Start::memstone(path).with("MEMSTONE_NAMESPACE", namespace))
    }

    pub fn try_call(&mut self, tool: &str, arguments: Value) -> Result<Value, String> {
        let answer = self.client.call(tool, arguments)?;
        assert_eq!(violations(&self.schemas[tool], &answer), Vec::<String>::new(), "{tool}: {answer}");
        Ok(answer)
    }

    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.try_call(tool, arguments).unwrap_or_else(|error| panic!("{tool}: {error}"))
    }

    /// The call must fail with an error that has `part` in it.
    pub fn fails(&mut self, part: &str, tool: &str, arguments: Value) {
        let error = self.try_call(tool, arguments).expect_err(tool);
        assert!(error.contains(part), "{tool}: {error}");
    }

    /// Stores memories and returns their ids.
    pub fn store(&mut self, memories: Value) -> Vec<String> {
        let stored = self.call("store_memories", json!({ "memories": memories }));
        let stored = stored["memories"].as_array().unwrap();
        stored.iter().map(|memory| memory["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The contents that a tool answers, in their order.
    pub fn contents(&mut self, tool: &str, arguments: Value) -> Vec<String> {
        let answer = self.call(tool, arguments);
        let memories = answer["memories"].as_array().cloned();
        let memories = memories
            .unwrap_or_else(|| answer["hits"].as_array().unwrap().iter().map(|hit| hit["memory"].clone()).collect());
        memories.iter().map(|memory| memory["content"].as_str().unwrap().to_owned()).collect()
    }
}
