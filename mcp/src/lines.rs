//! A memory as JSON Lines, for export and import: the graph in the form of the reference server's file; what is declared; and
//! memories with all that belongs to them.

use crate::failure::Failure;
use crate::items::Moment;
use crate::mend::mended;
use crate::moment;
use memstone::memory::graph::{Entity, Relation, Subgraph};
use memstone::memory::{Draft, Item, ItemId, MemorySnapshot, Space};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What such lines hold. Everything is known by the number of its line, from 1 on.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) graph: Subgraph,
    pub(crate) spaces: Vec<(usize, String, Space)>,
    pub(crate) fields: Vec<(usize, String)>,
    pub(crate) memories: Vec<(usize, Saved)>,
}

/// A line.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Entity(Entity),
    Relation(Relation),
    Space { name: String, space: Space },
    Field { name: String },
    Memory(Saved),
}

/// A memory, as a line has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    pub(crate) id: String,
    pub(crate) namespace: String,
    content: String,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    vectors: BTreeMap<String, Vec<f32>>,
    created: Moment,
    updated: Moment,
    #[serde(default)]
    expires: Option<Moment>,
    version: u64,
    #[serde(default)]
    duplicates: u64,
}

impl Saved {
    /// The memory as it was.
    pub(crate) fn draft(self, id: ItemId) -> Draft {
        let mut draft = Draft::new(self.content)
            .id(id)
            .all_metadata(self.metadata)
            .tags(self.tags)
            .created(self.created.0)
            .updated(self.updated.0, self.version)
            .duplicates(self.duplicates)
            .keep_duplicate();
        for (space, vector) in self.vectors {
            draft = draft.vector(space, vector);
        }
        match self.expires {
            Some(Moment(time)) => draft.expires_at(time),
            None => draft,
        }
    }
}

/// Reads lines. One that is none of these is refused by its number, and so are all others with it.
pub(crate) fn parse(text: &str) -> Result<Content, Failure> {
    let bytes = mended(text.as_bytes());
    let mut content = Content::default();
    for (position, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = position + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line).map_err(|error| wrong(number, &error))? {
            Line::Entity(entity) => content.graph.entities.push(entity),
            Line::Relation(relation) => content.graph.relations.push(relation),
            Line::Space { name, space } => content.spaces.push((number, name, space)),
            Line::Field { name } => content.fields.push((number, name)),
            Line::Memory(memory) => content.memories.push((number, memory)),
        }
    }
    Ok(content)
}

/// A line cannot be imported.
pub(crate) fn wrong(number: usize, reason: &dyn std::fmt::Display) -> Failure {
    Failure::Refused(format!("line {number}: {reason}. Nothing was imported: correct the line, and call again."))
}

/// What is declared, as lines.
pub(crate) fn declared(state: &MemorySnapshot) -> String {
    let spaces =
        state.spaces().into_iter().map(|(name, space)| json!({ "type": "space", "name": name, "space": space }));
    let fields = state.fields().into_iter().map(|name| json!({ "type": "field", "name": name }));
    spaces.chain(fields).map(|line| format!("{line}\n")).collect()
}

/// Adds the line of a memory to others.
pub(crate) fn write(item: &Item, state: &MemorySnapshot, lines: &mut String) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Line<'i> {
        r#type: &'static str,
        id: ItemId,
        namespace: String,
        content: &'i str,
        metadata: &'i Map<String, Value>,
        tags: Vec<&'i String>,
        vectors: BTreeMap<&'i String, Vec<f32>>,
        created: String,
        updated: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<String>,
        version: u64,
        duplicates: u64,
    }
    let mut vectors = BTreeMap::new();
    for space in item.spaces() {
        vectors.extend(state.vector(item.id, space)?.map(|vector| (space, vector)));
    }
    let line = Line {
        r#type: "memory",
        id: item.id,
        namespace: item.namespace.to_string(),
        content: &item.content,
        metadata: &item.metadata,
        tags: item.tags.iter().collect(),
        vectors,
        created: moment::text(item.created),
        updated: moment::text(item.updated),
        expires: item.expires.map(moment::text),
        version: item.version,
        duplicates: item.duplicates,
    };
    let _ = writeln!(lines, "{}", serde_json::to_string(&line)?);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_none_is_refused_by_its_number() {
        let entity = json!({ "type": "entity", "name": "a", "entityType": "t", "observations": [] });
        let memory = json!({
            "type": "memory", "id": "x", "namespace": "", "content": "", "created": "2026-01-01",
            "updated": "2026-01-01", "version": 1
        });
        let with = |field: &str, value: Value| {
            let mut other = memory.clone();
            other[field] = value;
            other
        };
        let parsed = parse(&format!("{entity}\n\n{memory}\n")).unwrap();
        assert_eq!((parsed.graph.entities.len(), parsed.memories[0].0), (1, 3));
        let others = [
            json!({ "type": "other" }),
            json!({ "name": "a" }),
            json!(7),
            json!({ "type": "entity", "name": "a" }),
            json!({ "type": "space", "name": "a", "space": { "dimension": 2 } }),
            with("created", json!("soon")),
            with("version", json!(-1)),
            with("vectors", json!({ "a": ["x"] })),
            with("more", json!(1)),
        ];
        for other in others.map(|other| other.to_string()).iter().map(String::as_str).chain(["{", "\u{0}"]) {
            let error = parse(&format!("{entity}\n{memory}\n{other}")).map(drop).unwrap_err().to_string();
            assert!(error.starts_with("line 3: ") && error.contains("Nothing was imported"), "{other}: {error}");
        }
    }
}
