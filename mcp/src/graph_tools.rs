//! The nine tools of the reference server: the knowledge graph.

use crate::failure::Failure;
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::memory::graph::{Entity, GraphMut, GraphView, Relation, Subgraph};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const ENTITY: Shape = Shape::Object(&[
    Field::new("name", Shape::Text, "The name of the entity"),
    Field::new("entityType", Shape::Text, "The type of the entity"),
    Field::new(
        "observations",
        Shape::List(&Shape::Text),
        "An array of observation contents associated with the entity",
    ),
]);
const RELATION: Shape = Shape::Object(&[
    Field::new("from", Shape::Text, "The name of the entity where the relation starts"),
    Field::new("to", Shape::Text, "The name of the entity where the relation ends"),
    Field::new("relationType", Shape::Text, "The type of the relation"),
]);
const ENTITIES: Field = Field::new("entities", Shape::List(&ENTITY), "");
const RELATIONS: Field = Field::new("relations", Shape::List(&RELATION), "");
/// Entities and relations.
pub(crate) const GRAPH: Shape = Shape::Object(&[ENTITIES, RELATIONS]);
const DONE: Shape = Shape::Object(&[Field::new("success", Shape::Flag, ""), Field::new("message", Shape::Text, "")]);

/// The tools, in the order of the reference server's list.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "create_entities",
        title: "Create Entities",
        about: "Create multiple new entities in the knowledge graph",
        input: Shape::Object(&[ENTITIES]),
        output: Shape::Object(&[ENTITIES]),
        effect: Effect::Adds,
        work: Work::Edit(create_entities),
    },
    Tool {
        name: "create_relations",
        title: "Create Relations",
        about: "Create multiple new relations between entities in the knowledge graph. Relations should be in active voice",
        input: Shape::Object(&[RELATIONS]),
        output: Shape::Object(&[RELATIONS]),
        effect: Effect::Adds,
        work: Work::Edit(create_relations),
    },
    Tool {
        name: "add_observations",
        title: "Add Observations",
        about: "Add new observations to existing entities in the knowledge graph",
        input: Shape::Object(&[Field::new(
            "observations",
            Shape::List(&Shape::Object(&[
                Field::new("entityName", Shape::Text, "The name of the entity to add the observations to"),
                Field::new("contents", Shape::List(&Shape::Text), "An array of observation contents to add"),
            ])),
            "",
        )]),
        output: Shape::Object(&[Field::new(
            "results",
            Shape::List(&Shape::Object(&[
                Field::new("entityName", Shape::Text, ""),
                Field::new("addedObservations", Shape::List(&Shape::Text), ""),
            ])),
            "",
        )]),
        effect: Effect::Adds,
        work: Work::Edit(add_observations),
    },
    Tool {
        name: "delete_entities",
        title: "Delete Entities",
        about: "Delete multiple entities and their associated relations from the knowledge graph",
        input: Shape::Object(&[Field::new(
            "entityNames",
            Shape::List(&Shape::Text),
            "An array of entity names to delete",
        )]),
        output: DONE,
        effect: Effect::Removes,
        work: Work::Edit(delete_entities),
    },
    Tool {
        name: "delete_observations",
        title: "Delete Observations",
        about: "Delete specific observations from entities in the knowledge graph",
        input: Shape::Object(&[Field::new(
            "deletions",
            Shape::List(&Shape::Object(&[
                Field::new("entityName", Shape::Text, "The name of the entity containing the observations"),
                Field::new("observations", Shape::List(&Shape::Text), "An array of observations to delete"),
            ])),
            "",
        )]),
        output: DONE,
        effect: Effect::Removes,
        work: Work::Edit(delete_observations),
    },
    Tool {
        name: "delete_relations",
        title: "Delete Relations",
        about: "Delete multiple relations from the knowledge graph",
        input: Shape::Object(&[Field::new("relations", Shape::List(&RELATION), "An array of relations to delete")]),
        output: DONE,
        effect: Effect::Removes,
        work: Work::Edit(delete_relations),
    },
    Tool {
        name: "read_graph",
        title: "Read Graph",
        about: "Read the entire knowledge graph",
        input: Shape::Object(&[]),
        output: GRAPH,
        effect: Effect::Reads,
        work: Work::Read(read_graph),
    },
    Tool {
        name: "search_nodes",
        title: "Search Nodes",
        about: "Search for nodes in the knowledge graph based on a query",
        input: Shape::Object(&[Field::new(
            "query",
            Shape::Text,
            "The search query to match against entity names, types, and observation content",
        )]),
        output: GRAPH,
        effect: Effect::Reads,
        work: Work::Read(search_nodes),
    },
    Tool {
        name: "open_nodes",
        title: "Open Nodes",
        about: "Open specific nodes in the knowledge graph by their names",
        input: Shape::Object(&[Field::new("names", Shape::List(&Shape::Text), "An array of entity names to retrieve")]),
        output: GRAPH,
        effect: Effect::Reads,
        work: Work::Read(open_nodes),
    },
];

fn create_entities(graph: &GraphMut<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        entities: Vec<Entity>,
    }
    let created = graph.create_entities(&Arguments::deserialize(arguments)?.entities)?;
    Answer::json(&created, json!({ "entities": created }))
}

#[derive(Deserialize)]
struct Relations {
    relations: Vec<Relation>,
}

fn create_relations(graph: &GraphMut<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let created = graph.create_relations(&Relations::deserialize(arguments)?.relations)?;
    Answer::json(&created, json!({ "relations": created }))
}

fn add_observations(graph: &GraphMut<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        observations: Vec<New>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct New {
        entity_name: String,
        contents: Vec<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Added {
        entity_name: String,
        added_observations: Vec<String>,
    }
    let mut results = Vec::new();
    for New { entity_name, contents } in Arguments::deserialize(arguments)?.observations {
        let added_observations = graph.add_observations(&entity_name, &contents)?;
        results.push(Added { entity_name, added_observations });
    }
    Answer::json(&results, json!({ "results": results }))
}

fn done(message: &str) -> Answer {
    Answer { text: message.to_owned(), content: json!({ "success": true, "message": message }) }
}

fn delete_entities(graph: &GraphMut<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Arguments {
        entity_names: Vec<String>,
    }
    graph.delete_entities(&Arguments::deserialize(arguments)?.entity_names)?;
    Ok(done("Entities deleted successfully"))
}

fn delete_observations(graph: &GraphMut<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        deletions: Vec<Deletion>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Deletion {
        entity_name: String,
        observations: Vec<String>,
    }
    for Deletion { entity_name, observations } in Arguments::deserialize(arguments)?.deletions {
        graph.delete_observations(&entity_name, &observations)?;
    }
    Ok(done("Observations deleted successfully"))
}

fn delete_relations(graph: &GraphMut<'_>, arguments: &Value) -> Result<Answer, Failure> {
    graph.delete_relations(&Relations::deserialize(arguments)?.relations)?;
    Ok(done("Relations deleted successfully"))
}

fn graph_answer(graph: &Subgraph) -> Result<Answer, Failure> {
    Answer::json(graph, serde_json::to_value(graph)?)
}

/// All of the graph.
pub(crate) fn read_graph(graph: &GraphView<'_>, _: &Value) -> Result<Answer, Failure> {
    graph_answer(&graph.whole()?)
}

fn search_nodes(graph: &GraphView<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        query: String,
    }
    graph_answer(&graph.search(&Arguments::deserialize(arguments)?.query)?)
}

fn open_nodes(graph: &GraphView<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        names: Vec<String>,
    }
    graph_answer(&graph.open(&Arguments::deserialize(arguments)?.names)?)
}
