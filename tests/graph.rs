//! The knowledge graph against a simple model, and its tables against each other.
#![cfg(feature = "memory")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use common::TestStore;
use memstone::memory::Problem;
use memstone::memory::graph::{Entity, GraphError, GraphMut, GraphView, Relation, Subgraph};
use memstone::{Codec, MessagePack, Snapshot, Store, Table, TypedTableMut, WriteOptions, WriteTxn};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A write transaction on the graph.
fn edit<T>(store: &Store, body: impl FnOnce(&WriteTxn) -> Result<T, GraphError>) -> Result<T, GraphError> {
    store.transact(WriteOptions::new(), body).map(|committed| committed.value)
}

/// What the graph is to be: two lists, searched from the start.
#[derive(Debug, Default)]
struct Model(Subgraph);

impl Model {
    fn create_entities(&mut self, entities: &[Entity]) -> Vec<Entity> {
        let known = |new: &&Entity| self.0.entities.iter().any(|old| old.name == new.name);
        let created: Vec<Entity> = entities.iter().filter(|new| !known(new)).cloned().collect();
        self.0.entities.extend(created.clone());
        created
    }

    fn create_relations(&mut self, relations: &[Relation]) -> Vec<Relation> {
        let created: Vec<Relation> = relations.iter().filter(|new| !self.0.relations.contains(new)).cloned().collect();
        self.0.relations.extend(created.clone());
        created
    }

    fn add_observations(&mut self, name: &str, contents: &[String]) -> Option<Vec<String>> {
        let entity = self.0.entities.iter_mut().find(|entity| entity.name == name)?;
        let added: Vec<String> = contents.iter().filter(|text| !entity.observations.contains(text)).cloned().collect();
        entity.observations.extend(added.clone());
        Some(added)
    }

    fn delete_entities(&mut self, names: &[String]) {
        self.0.entities.retain(|entity| !names.contains(&entity.name));
        self.0.relations.retain(|relation| !names.contains(&relation.from) && !names.contains(&relation.to));
    }

    fn delete_observations(&mut self, name: &str, contents: &[String]) {
        if let Some(entity) = self.0.entities.iter_mut().find(|entity| entity.name == name) {
            entity.observations.retain(|text| !contents.contains(text));
        }
    }

    fn delete_relations(&mut self, relations: &[Relation]) {
        self.0.relations.retain(|relation| !relations.contains(relation));
    }

    fn part(&self, is_in: impl Fn(&Entity) -> bool) -> Subgraph {
        let entities: Vec<Entity> = self.0.entities.iter().filter(|entity| is_in(entity)).cloned().collect();
        let found = |name: &String| entities.iter().any(|entity| entity.name == *name);
        let relations = self.0.relations.iter().filter(|of| found(&of.from) || found(&of.to)).cloned().collect();
        Subgraph { entities, relations }
    }

    fn search(&self, query: &str) -> Subgraph {
        let has = |text: &String| text.to_lowercase().contains(&query.to_lowercase());
        self.part(|entity| has(&entity.name) || has(&entity.entity_type) || entity.observations.iter().any(has))
    }

    fn open(&self, names: &[String]) -> Subgraph {
        self.part(|entity| names.contains(&entity.name))
    }
}

#[derive(Debug, Clone)]
enum Step {
    CreateEntities(Vec<Entity>),
    CreateRelations(Vec<Relation>),
    AddObservations(Vec<(String, Vec<String>)>),
    DeleteEntities(Vec<String>),
    DeleteObservations(String, Vec<String>),
    DeleteRelations(Vec<Relation>),
    Clear,
    Checkpoint,
}

/// Few, so that they meet: cases of one letter, an empty one, one with a zero byte, and a long one.
fn words() -> impl Strategy<Value = String> {
    let long = "y".repeat(9000);
    select(["a", "A", "b", "Ab", "", "c\0", "\u{df}Σ", "\u{212a}", "k", &long].map(str::to_owned).to_vec())
}

fn relations() -> impl Strategy<Value = Vec<Relation>> {
    vec((words(), words(), words()).prop_map(|(from, to, kind)| Relation::new(from, to, kind)), 0..4)
}

fn steps() -> impl Strategy<Value = Step> {
    let entity = (words(), words(), vec(words(), 0..4));
    let entity = entity.prop_map(|(name, kind, observations)| Entity::new(name, kind, observations));
    prop_oneof![
        4 => vec(entity, 0..4).prop_map(Step::CreateEntities),
        4 => relations().prop_map(Step::CreateRelations),
        4 => vec((words(), vec(words(), 0..4)), 1..3).prop_map(Step::AddObservations),
        2 => vec(words(), 0..3).prop_map(Step::DeleteEntities),
        2 => (words(), vec(words(), 0..3)).prop_map(|(name, contents)| Step::DeleteObservations(name, contents)),
        2 => relations().prop_map(Step::DeleteRelations),
        1 => Just(Step::Clear),
        1 => Just(Step::Checkpoint),
    ]
}

/// One step on both, each a transaction of its own.
fn take(step: &Step, store: &Store, model: &mut Model) -> Result<(), GraphError> {
    match step {
        Step::CreateEntities(entities) => {
            let created = edit(store, |tx| GraphMut::new(tx)?.create_entities(entities))?;
            assert_eq!(created, model.create_entities(entities));
        }
        Step::CreateRelations(relations) => {
            let created = edit(store, |tx| GraphMut::new(tx)?.create_relations(relations))?;
            assert_eq!(created, model.create_relations(relations));
        }
        Step::AddObservations(all) => {
            let added = edit(store, |tx| {
                let graph = GraphMut::new(tx)?;
                all.iter().map(|(name, contents)| graph.add_observations(name, contents)).collect::<Result<Vec<_>, _>>()
            });
            let names: Vec<_> = all.iter().map(|(name, _)| name).collect();
            match added {
                Ok(added) => {
                    let expected = all.iter().map(|(name, contents)| model.add_observations(name, contents));
                    assert_eq!(Some(added), expected.collect::<Option<Vec<_>>>());
                }
                // One of the entities is missing, and nothing was added to the others either.
                Err(GraphError::NoEntity { name }) => {
                    assert!(names.contains(&&name) && model.open(&[name]).entities.is_empty());
                }
                Err(error) => return Err(error),
            }
        }
        Step::DeleteEntities(names) => {
            edit(store, |tx| GraphMut::new(tx)?.delete_entities(names))?;
            model.delete_entities(names);
        }
        Step::DeleteObservations(name, contents) => {
            edit(store, |tx| GraphMut::new(tx)?.delete_observations(name, contents))?;
            model.delete_observations(name, contents);
        }
        Step::DeleteRelations(relations) => {
            edit(store, |tx| GraphMut::new(tx)?.delete_relations(relations))?;
            model.delete_relations(relations);
        }
        Step::Clear => {
            edit(store, |tx| GraphMut::new(tx)?.clear())?;
            *model = Model::default();
        }
        Step::Checkpoint => store.checkpoint()?,
    }
    Ok(())
}

fn verify(snapshot: &Snapshot) -> Vec<String> {
    GraphView::new(snapshot).unwrap().verify().unwrap().iter().map(Problem::to_string).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_graph_is_as_the_model(steps in vec(steps(), 1..24), queries in vec(words(), 3)) {
        let test = TestStore::new();
        let store = Store::open(&test.path).unwrap();
        let mut model = Model::default();
        for step in &steps {
            take(step, &store, &mut model).unwrap();
            let snapshot = store.read().unwrap();
            let graph = GraphView::new(&snapshot).unwrap();
            prop_assert_eq!(&graph.whole().unwrap(), &model.0);
            prop_assert_eq!(graph.verify().unwrap(), Vec::<Problem>::new());
        }
        let snapshot = store.read().unwrap();
        let graph = GraphView::new(&snapshot).unwrap();
        for query in &queries {
            prop_assert_eq!(graph.search(query).unwrap(), model.search(query));
        }
        prop_assert_eq!(graph.open(&queries).unwrap(), model.open(&queries));
        let counts = graph.counts().unwrap();
        let observations: usize = model.0.entities.iter().map(|entity| entity.observations.len()).sum();
        prop_assert_eq!(
            [counts.entities, counts.observations, counts.relations],
            [model.0.entities.len(), observations, model.0.relations.len()].map(|count| count as u64)
        );
    }
}

#[test]
fn relations_of_other_parts_are_others() {
    let test = TestStore::new();
    let store = Store::open(&test.path).unwrap();
    let all = [("x", "ab", "c"), ("x", "a", "bc"), ("x", "", "abc"), ("xa", "b", "c"), ("ab", "x", "c")];
    let all = all.map(|(from, to, kind)| Relation::new(from, to, kind));
    for relation in &all {
        let relation = std::slice::from_ref(relation);
        assert_eq!(edit(&store, |tx| GraphMut::new(tx)?.create_relations(relation)).unwrap(), relation);
    }
    edit(&store, |tx| GraphMut::new(tx)?.delete_relations(&all[1..])).unwrap();
    assert_eq!(GraphView::new(&store.read().unwrap()).unwrap().whole().unwrap().relations, all[..1]);
}

/// How many rows of all tables a change touches.
fn rows_touched(store: &Store, change: impl FnOnce(&GraphMut<'_>) -> Result<(), GraphError>) -> usize {
    let before = store.read().unwrap();
    edit(store, |tx| change(&GraphMut::new(tx)?)).unwrap();
    let after = store.read().unwrap();
    let diff = before.diff(&after).unwrap();
    diff.tables().iter().map(|table| table.rows().unwrap().count()).sum()
}

#[test]
fn a_change_touches_the_rows_of_what_it_changes_alone() {
    let test = TestStore::new();
    let store = Store::open(&test.path).unwrap();
    let many = (0..1000).map(|i| format!("observation {i}"));
    edit(&store, |tx| GraphMut::new(tx)?.create_entities(&[Entity::new("hub", "t", many)])).unwrap();
    let relations: Vec<_> = (0..1000).map(|i| Relation::new("hub", format!("n{i}"), "r")).collect();
    edit(&store, |tx| GraphMut::new(tx)?.create_relations(&relations)).unwrap();
    assert_eq!(rows_touched(&store, |graph| graph.add_observations("hub", &["one more"]).map(drop)), 2);
    assert_eq!(rows_touched(&store, |graph| graph.add_observations("hub", &["one more"]).map(drop)), 0);
    assert_eq!(rows_touched(&store, |graph| graph.delete_observations("hub", &["observation 7"])), 2);
    assert_eq!(rows_touched(&store, |graph| graph.delete_relations(&[Relation::new("hub", "n7", "r")])), 3);
    assert_eq!(rows_touched(&store, |graph| graph.delete_entities(&["n8"])), 3, "no such entity, but a relation to it");
    assert_eq!(verify(&store.read().unwrap()), Vec::<String>::new());
}

#[test]
fn several_changes_are_one_transaction() {
    let test = TestStore::new();
    let store = Store::open(&test.path).unwrap();
    let failed = edit(&store, |tx| {
        let graph = GraphMut::new(tx)?;
        graph.create_entities(&[Entity::new("a", "t", ["x"])])?;
        graph.create_relations(&[Relation::new("a", "b", "r")])?;
        graph.add_observations("missing", &["y"]).map(drop)
    });
    assert_eq!(failed.unwrap_err().to_string(), "Entity with name missing not found");
    assert_eq!(GraphView::new(&store.read().unwrap()).unwrap().whole().unwrap(), Subgraph::default());
}

type Hash = [u8; 16];

/// Takes the first row out of a table behind the graph's back, and returns what is found to be wrong then.
fn without_first<K: memstone::Key<Owned = O>, O: memstone::AsKey<O>, V>(table: Table<'static, K, V>) -> Vec<String>
where
    MessagePack: Codec<V>,
{
    let test = TestStore::new();
    let store = Store::open(&test.path).unwrap();
    edit(&store, |tx| {
        let graph = GraphMut::new(tx)?;
        graph.create_entities(&[Entity::new("a", "t", ["x"]), Entity::new("b", "t", ["y", "z"])])?;
        graph.create_relations(&[Relation::new("a", "b", "r"), Relation::new("b", "b", "r")])
    })
    .unwrap();
    assert_eq!(verify(&store.read().unwrap()), Vec::<String>::new());
    store
        .write(|tx| {
            let table: TypedTableMut<'_, K, V> = tx.table(table)?;
            assert!(table.pop_first()?.is_some());
            Ok::<_, memstone::Error>(())
        })
        .unwrap();
    verify(&store.read().unwrap())
}

#[test]
fn a_contradiction_of_any_two_tables_is_found() {
    let found = without_first::<(Hash, u64), _, ()>(Table::new("graph.entities.by_name"));
    assert!(found[0].starts_with("table \"graph.entities.by_name\", entity "), "{found:?}");
    assert_eq!(found[1], "table \"graph.entities.by_name\", as a whole: 1 entries for 2 rows");
    let found = without_first::<(u64, Hash, u64), _, ()>(Table::new("graph.observations.by_content"));
    let missing = "missing, for its content";
    assert_eq!(found[0], format!("table \"graph.observations.by_content\", observation 0 of entity 0: {missing}"));
    let found = without_first::<(Hash, Hash, u64), _, ()>(Table::new("graph.relations.by_from"));
    assert!(found[0].starts_with("table \"graph.relations.by_from\", relation "), "{found:?}");
    let found = without_first::<(Hash, u64), _, ()>(Table::new("graph.relations.by_to"));
    assert!(found[0].starts_with("table \"graph.relations.by_to\", relation "), "{found:?}");
    let found = without_first::<u64, _, serde_json::Value>(Table::new("graph.entities"));
    assert_eq!(found[0], "table \"graph.observations\", observation 0 of entity 0: there is no entity 0");
    assert_eq!(found[1], "table \"graph.entities.by_name\", as a whole: 2 entries for 1 rows");
    let found = without_first::<(u64, u64), _, String>(Table::new("graph.observations"));
    assert_eq!(found, ["table \"graph.observations.by_content\", as a whole: 3 entries for 2 rows"]);
    let found = without_first::<u64, _, serde_json::Value>(Table::new("graph.relations"));
    assert_eq!(found.len(), 2, "{found:?}");
}
