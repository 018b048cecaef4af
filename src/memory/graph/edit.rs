//! Changing a graph.

use super::parts::{Entity, GraphError, Relation};
use super::tables::TablesMut;
use crate::WriteTxn;

/// The graph in a write transaction. It sees the transaction's own changes; all of them commit together, or none.
///
/// What a method refuses, it refuses before it changes anything.
///
/// ```
/// use memstone::memory::graph::{Entity, GraphError, GraphMut, GraphView, Relation};
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = memstone::Store::open(dir.path().join("memory.mst"))?;
/// store.write(|tx| {
///     let graph = GraphMut::new(tx)?;
///     let created = graph.create_entities(&[Entity::new("ada", "person", ["reads"])])?;
///     assert_eq!(created.len(), 1);
///     assert_eq!(graph.add_observations("ada", &["reads", "writes"])?, ["writes"]);
///     assert!(matches!(graph.add_observations("bob", &["sings"]), Err(GraphError::NoEntity { .. })));
///     Ok(())
/// })?;
/// let snapshot = store.read()?;
/// assert_eq!(GraphView::new(&snapshot)?.open(&["ada"])?.entities[0].observations, ["reads", "writes"]);
///
/// store.write(|tx| {
///     let graph = GraphMut::new(tx)?;
///     let knows = [Relation::new("ada", "bob", "knows")];
///     assert_eq!(graph.create_relations(&knows)?, knows);
///     graph.delete_observations("ada", &["reads"])?;
///     graph.delete_relations(&knows)?;
///     graph.delete_entities(&["ada"])?;
///     graph.clear()?; // whatever there was
///     Ok(())
/// })?;
/// assert_eq!(GraphView::new(&store.read()?)?.counts()?.entities, 0);
/// # Ok::<(), GraphError>(())
/// ```
#[derive(Debug)]
pub struct GraphMut<'t> {
    tables: TablesMut<'t>,
}

impl<'t> GraphMut<'t> {
    /// The store's graph; its tables are created if they do not exist.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) if a table of the same name holds something else.
    pub fn new(tx: &'t WriteTxn) -> Result<GraphMut<'t>, GraphError> {
        Ok(GraphMut { tables: TablesMut::open(tx)? })
    }

    /// Creates the entities whose names are not in the graph yet, and returns them. What the graph held before the
    /// call decides: two new entities of the same name in one call are both created.
    ///
    /// # Errors
    /// The store's.
    pub fn create_entities(&self, entities: &[Entity]) -> Result<Vec<Entity>, GraphError> {
        let mut created = Vec::new();
        for entity in entities {
            if self.tables.entities_of(&entity.name)?.is_empty() {
                created.push(entity.clone());
            }
        }
        created.iter().try_for_each(|entity| self.tables.add_entity(entity))?;
        Ok(created)
    }

    /// Creates the relations that are not in the graph yet, and returns them. Their entities need not exist. What
    /// the graph held before the call decides, as in [`GraphMut::create_entities`].
    ///
    /// # Errors
    /// The store's.
    pub fn create_relations(&self, relations: &[Relation]) -> Result<Vec<Relation>, GraphError> {
        let mut created = Vec::new();
        for relation in relations {
            if self.tables.relations_like(relation)?.is_empty() {
                created.push(relation.clone());
            }
        }
        created.iter().try_for_each(|relation| self.tables.add_relation(relation))?;
        Ok(created)
    }

    /// Adds those of the observations that the entity does not have yet, in this order, and returns them. Of several
    /// entities of that name, it is the oldest.
    ///
    /// # Errors
    /// [`GraphError::NoEntity`]; the store's.
    pub fn add_observations<T: AsRef<str>>(&self, entity: &str, contents: &[T]) -> Result<Vec<String>, GraphError> {
        let number = self.oldest(entity)?.ok_or_else(|| GraphError::NoEntity { name: entity.to_owned() })?;
        let mut added = Vec::new();
        for text in contents {
            if !self.tables.has_observation(number, text.as_ref())? {
                added.push(text.as_ref().to_owned());
            }
        }
        added.iter().try_for_each(|text| self.tables.add_observation(number, text))?;
        Ok(added)
    }

    /// Removes the entities of these names with their observations, and all relations from or to these names. A
    /// name without an entity is not an error.
    ///
    /// # Errors
    /// The store's.
    pub fn delete_entities<T: AsRef<str>>(&self, names: &[T]) -> Result<(), GraphError> {
        for name in names.iter().map(AsRef::as_ref) {
            for number in self.tables.entities_of(name)? {
                self.tables.remove_entity(number, name)?;
            }
            for number in self.tables.relations_of(name)? {
                self.tables.remove_relation(number)?;
            }
        }
        Ok(())
    }

    /// Removes the entity's observations that are equal to one of these. Neither a missing entity nor a missing
    /// observation is an error. Of several entities of that name, it is the oldest.
    ///
    /// # Errors
    /// The store's.
    pub fn delete_observations<T: AsRef<str>>(&self, entity: &str, contents: &[T]) -> Result<(), GraphError> {
        let Some(number) = self.oldest(entity)? else { return Ok(()) };
        contents.iter().try_for_each(|text| self.tables.remove_observation(number, text.as_ref()))?;
        Ok(())
    }

    /// Removes all relations that are equal to one of these. A missing one is not an error.
    ///
    /// # Errors
    /// The store's.
    pub fn delete_relations(&self, relations: &[Relation]) -> Result<(), GraphError> {
        for relation in relations {
            for number in self.tables.relations_like(relation)? {
                self.tables.remove_relation(number)?;
            }
        }
        Ok(())
    }

    /// Removes all entities and relations.
    ///
    /// # Errors
    /// The store's.
    pub fn clear(&self) -> Result<(), GraphError> {
        Ok(self.tables.clear()?)
    }

    fn oldest(&self, name: &str) -> Result<Option<u64>, GraphError> {
        Ok(self.tables.entities_of(name)?.into_iter().min())
    }
}
