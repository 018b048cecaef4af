//! What a graph consists of, and what can go wrong with it.

use serde::{Deserialize, Serialize};

/// An entity: a name, a type, and what is known about it.
///
/// Serialised, its fields are `name`, `entityType` and `observations`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entity {
    /// By this, relations and later calls refer to it.
    pub name: String,
    /// What kind of thing it is, in the user's words.
    pub entity_type: String,
    /// What is known about it, oldest first.
    pub observations: Vec<String>,
}

impl Entity {
    /// An entity of these parts.
    ///
    /// ```
    /// use memstone::memory::graph::Entity;
    /// let ada = Entity::new("ada", "person", ["writes programs"]);
    /// assert_eq!((&*ada.name, ada.observations.len()), ("ada", 1));
    /// ```
    pub fn new<O: Into<String>>(
        name: impl Into<String>,
        entity_type: impl Into<String>,
        observations: impl IntoIterator<Item = O>,
    ) -> Entity {
        let observations = observations.into_iter().map(Into::into).collect();
        Entity { name: name.into(), entity_type: entity_type.into(), observations }
    }
}

/// A relation: two entities by their names, and how the first stands to the second.
///
/// Serialised, its fields are `from`, `to` and `relationType`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relation {
    /// The name of the entity that it starts from.
    pub from: String,
    /// The name of the entity that it leads to.
    pub to: String,
    /// What it says, best in active voice.
    pub relation_type: String,
}

impl Relation {
    /// A relation of these parts.
    ///
    /// ```
    /// use memstone::memory::graph::Relation;
    /// assert_eq!(Relation::new("ada", "bob", "knows").to, "bob");
    /// ```
    pub fn new(from: impl Into<String>, to: impl Into<String>, relation_type: impl Into<String>) -> Relation {
        Relation { from: from.into(), to: to.into(), relation_type: relation_type.into() }
    }
}

/// A part of a graph, or all of it, in the order of creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subgraph {
    /// Entities, with all their observations.
    pub entities: Vec<Entity>,
    /// Relations; an entity that one of them names may be missing from the part.
    pub relations: Vec<Relation>,
}

/// How much a graph holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The number of entities.
    pub entities: u64,
    /// The number of observations of all entities.
    pub observations: u64,
    /// The number of relations.
    pub relations: u64,
}

/// What can go wrong with a graph.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// There is no entity of that name. Nothing was changed.
    #[error("Entity with name {name} not found")]
    NoEntity {
        /// The name that was asked for.
        name: String,
    },
    /// Two tables of the graph contradict each other: another program has written to one of them.
    /// [`GraphView::verify`](super::GraphView::verify) lists every contradiction.
    #[error("the tables of the graph contradict each other: {0}")]
    Contradiction(String),
    /// The store's error.
    #[error(transparent)]
    Store(#[from] crate::Error),
}

/// In a body of [`Store::write`](crate::Store::write): see [`Error::into_abort`](crate::Error::into_abort).
impl From<GraphError> for crate::Error {
    fn from(error: GraphError) -> crate::Error {
        match error {
            GraphError::Store(error) => error,
            error => crate::Error::abort(error),
        }
    }
}
