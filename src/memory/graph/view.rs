//! Reading a graph.

use super::parts::{Counts, GraphError, Relation, Subgraph};
use super::tables::{
    ENTITIES_BY_NAME, OBSERVATIONS, OBSERVATIONS_BY_CONTENT, RELATIONS_BY_FROM, RELATIONS_BY_TO, Tables,
};
use super::text::Wanted;
use crate::Snapshot;
use crate::memory::check::Problem;
use std::collections::BTreeSet;

/// The graph as it is in a snapshot.
///
/// ```
/// use memstone::memory::graph::{Entity, GraphError, GraphMut, GraphView, Relation};
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     let graph = GraphMut::new(tx)?;
///     graph.create_entities(&[Entity::new("ada", "person", ["reads"]), Entity::new("bob", "person", ["sings"])])?;
///     Ok(graph.create_relations(&[Relation::new("ada", "bob", "knows")])?)
/// })?;
/// let snapshot = store.read()?;
/// let graph = GraphView::new(&snapshot)?;
/// assert_eq!(graph.counts()?.entities, 2);
/// assert_eq!(graph.search("SING")?.entities, [Entity::new("bob", "person", ["sings"])]);
/// assert_eq!(graph.open(&["ada"])?.relations, graph.whole()?.relations);
/// assert!(graph.verify()?.is_empty());
/// # Ok::<(), GraphError>(())
/// ```
#[derive(Debug)]
pub struct GraphView<'s> {
    tables: Tables<'s>,
}

impl<'s> GraphView<'s> {
    /// The store's graph; a store without one has an empty one.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) if a table of the same name holds something else.
    pub fn new(snapshot: &'s Snapshot) -> Result<GraphView<'s>, GraphError> {
        Ok(GraphView { tables: Tables::open(snapshot)? })
    }

    /// How much there is. This reads no entity.
    ///
    /// # Errors
    /// The store's.
    pub fn counts(&self) -> Result<Counts, GraphError> {
        Ok(self.tables.counts()?)
    }

    /// All of the graph.
    ///
    /// # Errors
    /// [`GraphError::Contradiction`]; the store's.
    pub fn whole(&self) -> Result<Subgraph, GraphError> {
        let entities = self.tables.entities(None)?.collect::<Result<_, _>>()?;
        let relations = self.tables.relations()?.map(|row| Ok(row?.1)).collect::<Result<_, GraphError>>()?;
        Ok(Subgraph { entities, relations })
    }

    /// The entities whose name, type, or one observation contains `query`, whatever the case of letters; and the
    /// relations from or to one of them. This reads all entities and observations, and the relations that it finds.
    ///
    /// # Errors
    /// [`GraphError::Contradiction`]; the store's.
    pub fn search(&self, query: &str) -> Result<Subgraph, GraphError> {
        let wanted = Wanted::new(query);
        let entities = self.tables.entities(Some(&wanted))?.collect::<Result<Vec<_>, _>>()?;
        let names: BTreeSet<&str> = entities.iter().map(|entity| &*entity.name).collect();
        let relations = self.relations_of(names)?;
        Ok(Subgraph { entities, relations })
    }

    /// The relations with one of these names at either end, in the order of creation.
    fn relations_of<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Vec<Relation>, GraphError> {
        let mut numbers = BTreeSet::new();
        for name in names {
            numbers.extend(self.tables.relations_of(name)?);
        }
        numbers.into_iter().map(|number| self.tables.relation(number)).collect()
    }

    /// The entities of these names, and the relations from or to one of them. A name without an entity adds nothing.
    ///
    /// # Errors
    /// [`GraphError::Contradiction`]; the store's.
    pub fn open<T: AsRef<str>>(&self, names: &[T]) -> Result<Subgraph, GraphError> {
        let mut entities = BTreeSet::new();
        let mut known = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            let found = self.tables.entities_of(name)?;
            if !found.is_empty() {
                known.push(name);
            }
            entities.extend(found);
        }
        let relations = self.relations_of(known)?;
        let entities = entities.into_iter().map(|number| self.tables.entity(number)).collect::<Result<_, _>>()?;
        Ok(Subgraph { entities, relations })
    }

    /// Reads all of the graph and compares each row with the indexes. Returns what does not agree; an empty list says
    /// that every index has exactly the rows that it should.
    ///
    /// # Errors
    /// The store's.
    pub fn verify(&self) -> Result<Vec<Problem>, GraphError> {
        let mut found = Vec::new();
        self.verify_entities(&mut found)?;
        self.verify_relations(&mut found)?;
        // Every row is in its indexes: if they are of the same size, they have nothing else.
        for (index, size, rows) in self.tables.index_sizes()? {
            if size != rows {
                let reason = format!("{size} entries for {rows} rows");
                found.push(Problem { table: index, key: String::new(), reason });
            }
        }
        Ok(found)
    }

    fn verify_entities(&self, found: &mut Vec<Problem>) -> Result<(), GraphError> {
        for row in self.tables.observations()? {
            let (key, text) = row?;
            let name = format!("observation {} of entity {}", key.1, key.0);
            if !self.tables.has_entity(key.0)? {
                let reason = format!("there is no entity {}", key.0);
                found.push(Problem { table: OBSERVATIONS.name(), key: name.clone(), reason });
            }
            if !self.tables.is_content(key, &text)? {
                found.push(missing(OBSERVATIONS_BY_CONTENT.name(), name, "content"));
            }
        }
        for row in self.tables.names()? {
            let (number, name) = row?;
            if !self.tables.is_named(number, &name)? {
                found.push(missing(ENTITIES_BY_NAME.name(), format!("entity {number}"), &format!("name {name:?}")));
            }
        }
        Ok(())
    }

    fn verify_relations(&self, found: &mut Vec<Problem>) -> Result<(), GraphError> {
        for row in self.tables.relations()? {
            let (number, relation) = row?;
            let Relation { from, to, .. } = &relation;
            let (is_from, is_to) = self.tables.is_joined(number, &relation)?;
            let (key, value) = (format!("relation {number}"), format!("relation from {from:?} to {to:?}"));
            if !is_from {
                found.push(missing(RELATIONS_BY_FROM.name(), key.clone(), &value));
            }
            if !is_to {
                found.push(missing(RELATIONS_BY_TO.name(), key, &value));
            }
        }
        Ok(())
    }
}

/// An index without an entry for a row that there is.
fn missing(table: &'static str, key: String, of: &str) -> Problem {
    Problem { table, key, reason: format!("missing, for its {of}") }
}
