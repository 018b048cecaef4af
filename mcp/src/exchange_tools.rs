//! The tools that write a memory as text, and read it back.

use crate::care::Care;
use crate::care_tools::COUNTS;
use crate::failure::Failure;
use crate::items::walk_in;
use crate::json_lines;
use crate::lines::{self, Content, wrong};
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::WriteTxn;
use memstone::memory::graph::{GraphMut, GraphView, Subgraph};
use memstone::memory::{ItemId, MemoryError, MemoryTxn};
use serde::Deserialize;
use serde_json::{Value, json};

/// No more bytes are exported by one call.
const LONGEST: usize = 64 << 20;

/// The tools.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "export",
        title: "Export",
        about: "Return the knowledge graph and the memories as JSON Lines: one entity, relation or memory a line, with all \
                that belongs to it",
        input: Shape::Object(&[
            Field::optional("only", Shape::Choice(&["graph", "memories"]), "Both if it is not given"),
            Field::optional("namespace", Shape::Text, "Only memories in this namespace and below it"),
        ]),
        output: Shape::Object(&[Field::new("lines", Shape::Text, "The memory as JSON Lines")]),
        effect: Effect::Reads,
        work: Work::Care(export),
    },
    Tool {
        name: "import",
        title: "Import",
        about: "Add what is not there yet, all of it or nothing: entities, observations, relations, memories with their ids, \
                times and versions, and the vector spaces and fields that they need",
        input: Shape::Object(&[Field::new("lines", Shape::Text, "JSON Lines, as export returns them")]),
        output: Shape::Object(&[
            Field::new("graph", COUNTS, "What was added to the knowledge graph"),
            Field::new("memories", Shape::Count, "How many memories were added"),
            Field::new("present", Shape::Count, "How many had ids that were there already, and stay as they are"),
        ]),
        effect: Effect::Adds,
        work: Work::Care(import),
    },
];

fn export(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        only: Option<String>,
        namespace: Option<String>,
    }
    let Arguments { only, namespace } = Arguments::deserialize(arguments)?;
    let state = care.items.snapshot()?;
    let mut text = String::new();
    if only.as_deref() != Some("memories") {
        // Of the same state.
        text.push_str(&json_lines::write(&GraphView::new(state.store_snapshot())?.whole()?));
        bounded(&text)?;
    }
    if only.as_deref() != Some("graph") {
        text.push_str(&lines::declared(&state));
        walk_in(care, &state, care.scope.namespace(namespace.as_deref())?, |item| {
            lines::write(&item, &state, &mut text)?;
            bounded(&text)
        })?;
    }
    Ok(Answer { text: text.clone(), content: json!({ "lines": text }) })
}

fn bounded(text: &str) -> Result<(), Failure> {
    if text.len() <= LONGEST {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "These are more than {LONGEST} bytes of lines, and that is the limit of one call: export the graph and namespaces one \
         by one, or make a backup with create_backup."
    )))
}

fn import(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        lines: String,
    }
    let Arguments { lines } = Arguments::deserialize(arguments)?;
    let Content { graph, spaces, fields, memories } = lines::parse(&lines)?;
    care.write_bulk(|tx| {
        let counts = add_graph(tx, graph)?;
        let tx = care.items.on(tx)?;
        for (line, name, space) in spaces {
            tx.declare_space(&name, space).map_err(|error| at(line, error))?;
        }
        for (line, name) in fields {
            tx.declare_field(&name).map_err(|error| at(line, error))?;
        }
        let (total, mut added) = (memories.len(), 0_u64);
        for (done, (line, saved)) in memories.into_iter().enumerate() {
            if care.step(done as u64, total as u64).is_break() {
                return Err(care.broken_off());
            }
            let id = saved.id.parse().map_err(|error| at(line, error))?;
            added += u64::from(add(care, &tx, id, saved).map_err(|error| at(line, error))?);
        }
        Answer::of(json!({ "graph": counts, "memories": added, "present": total as u64 - added }))
    })
}

/// Adds a memory, unless one with its id is there.
fn add(care: &Care<'_>, tx: &MemoryTxn<'_>, id: ItemId, saved: lines::Saved) -> Result<bool, MemoryError> {
    if tx.get(id)?.is_some() {
        return Ok(false);
    }
    let namespace = care.scope.absolute(&saved.namespace)?;
    tx.add(namespace, saved.draft(id))?;
    Ok(true)
}

/// What the layer refuses is said of the line; errors of the store are of no line.
fn at(line: usize, error: MemoryError) -> Failure {
    match error {
        MemoryError::Store(error) => error.into(),
        error => wrong(line, &error),
    }
}

fn add_graph(tx: &WriteTxn, new: Subgraph) -> Result<Value, Failure> {
    if new.entities.is_empty() && new.relations.is_empty() {
        return Ok(json!({ "entities": 0, "observations": 0, "relations": 0 }));
    }
    let (graph, mut entities, mut observations) = (GraphMut::new(tx)?, 0, 0);
    for entity in new.entities {
        let created = graph.create_entities(std::slice::from_ref(&entity))?;
        entities += created.len();
        observations += match created.first() {
            Some(created) => created.observations.len(),
            None => graph.add_observations(&entity.name, &entity.observations)?.len(),
        };
    }
    let mut relations = 0;
    for relation in new.relations {
        relations += graph.create_relations(&[relation])?.len();
    }
    Ok(json!({ "entities": entities, "observations": observations, "relations": relations }))
}
