//! The file of the reference server: one entity or relation a line, as JSON.

use crate::failure::Failure;
use crate::mend::mended;
use memstone::memory::graph::{Entity, Relation, Subgraph};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;

/// The content of such a file. Lines of other types are passed over, as the reference server does, and counted.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<(Subgraph, usize), Failure> {
    let bytes = mended(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes));
    let (mut graph, mut others) = (Subgraph::default(), 0);
    for (position, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |reason: String| Failure::Import { path: path.to_path_buf(), line: Some(position + 1), reason };
        let value: Value = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        match value.get("type").and_then(Value::as_str) {
            Some("entity") => graph.entities.push(read::<Entity>(value).map_err(wrong)?),
            Some("relation") => graph.relations.push(read::<Relation>(value).map_err(wrong)?),
            _ => others += 1,
        }
    }
    Ok((graph, others))
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The same graph as such a file, which ends with a line break.
pub(crate) fn write(graph: &Subgraph) -> String {
    let entities = graph.entities.iter().map(|Entity { name, entity_type, observations }| {
        json!({ "type": "entity", "name": name, "entityType": entity_type, "observations": observations })
    });
    let relations = graph.relations.iter().map(|Relation { from, to, relation_type }| {
        json!({ "type": "relation", "from": from, "to": to, "relationType": relation_type })
    });
    entities.chain(relations).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let graph = Subgraph {
            entities: vec![Entity::new("a\n\"b\"", "t", ["x", "x", ""]), Entity::new("", "", Vec::<String>::new())],
            relations: vec![Relation::new("a\n\"b\"", "ü🦀", "to")],
        };
        assert_eq!(parse(Path::new("m.jsonl"), write(&graph).as_bytes()).unwrap(), (graph, 0));
    }

    #[test]
    fn files_are_read_as_the_reference_server_reads_them() {
        let text = "\u{feff}{\"type\":\"relation\",\"from\":\"a\",\"to\":\"b\",\"relationType\":\"r\",\"more\":1}\r\n \n\
                    {\"type\":\"note\"}\n{\"type\":\"entity\",\"name\":\"\\ud83d\",\"entityType\":\"t\",\"observations\":[]}";
        let (graph, others) = parse(Path::new("m.jsonl"), text.as_bytes()).unwrap();
        assert_eq!((graph.relations.len(), others), (1, 1));
        assert_eq!(graph.entities[0].name, "\u{fffd}", "half a character");
    }

    #[test]
    fn a_wrong_line_is_named() {
        for wrong in ["{", "{\"type\":\"entity\",\"name\":1}", "{\"type\":\"relation\",\"from\":\"a\"}"] {
            let text = format!("\n{wrong}\n");
            let error = parse(Path::new("m.jsonl"), text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("m.jsonl, line 2: "), "{error}");
        }
    }
}
