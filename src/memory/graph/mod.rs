//! A knowledge graph in a store: entities with observations, and relations between them.
//!
//! The graph lies in ordinary tables, whose names start with `graph.`, so any number of processes read and change it
//! at once, and a change of it commits together with whatever else its transaction does. [`GraphView`] reads it in a
//! [`Snapshot`](crate::Snapshot), [`GraphMut`] changes it in a [`WriteTxn`](crate::WriteTxn).
//!
//! Names are all that connects: a relation holds the names of its two entities, which need not exist. An operation
//! returns entities and relations in the order in which they were created. Finding an entity by its name, its
//! relations in either direction, and whether it has an observation, take one look-up of an index each; adding an
//! observation costs the same however many there are.
//!
//! ```
//! use memstone::Store;
//! use memstone::memory::graph::{Entity, GraphError, GraphMut, GraphView, Relation};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! let store = Store::open(dir.path().join("memory.mst"))?;
//! store.write(|tx| {
//!     let graph = GraphMut::new(tx)?;
//!     graph.create_entities(&[Entity::new("ada", "person", ["writes programs"])])?;
//!     graph.create_relations(&[Relation::new("ada", "engine", "described")])?;
//!     Ok(graph.add_observations("ada", &["likes numbers"])?)
//! })?;
//!
//! let snapshot = store.read()?;
//! let found = GraphView::new(&snapshot)?.search("NUMBERS")?;
//! assert_eq!(found.entities[0].observations, ["writes programs", "likes numbers"]);
//! assert_eq!(found.relations[0].to, "engine");
//! # Ok::<(), GraphError>(())
//! ```

mod edit;
mod parts;
mod tables;
mod text;
mod view;

pub use edit::GraphMut;
pub use parts::{Counts, Entity, GraphError, Relation, Subgraph};
pub use view::GraphView;
