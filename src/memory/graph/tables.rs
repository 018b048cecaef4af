//! The tables of the graph: the one file that knows how it is stored.
//!
//! Rows of entities and relations have ascending numbers, so that their order is that of creation. An observation is
//! a row of its own. Every other table is an index, and each of its keys ends with the number of the row that it
//! leads to. Texts of any length are in the indexes by their hashes, which have one length.

use super::parts::{Counts, Entity, GraphError, Relation};
use super::text::{InPlace, Text, Wanted};
use crate::{MessagePack, ReadState, Result, Snapshot, Table, TypedRange, TypedTable, TypedTableMut, WriteTxn};
use serde::{Deserialize, Serialize};
use std::iter::Peekable;

/// The first half of a BLAKE3 hash: nobody can find two texts with the same one.
type Hash = [u8; 16];
/// The key of an index by the hash of a name.
type ByName = (Hash, u64);

/// Declares the tables once: their names and types, and the structs that hold them, open for reading or for writing.
macro_rules! tables {
    ($($(#[$what:meta])* $table:ident, $field:ident: $name:literal, $key:ty => $value:ty $(, $codec:ty)?;)+) => {
        $($(#[$what])* pub(super) const $table: Table<$key, $value $(, $codec)?> = Table::new($name);)+

        /// The tables for reading.
        #[derive(Debug)]
        pub(super) struct Tables<'s> {
            $($field: TypedTable<'s, $key, $value $(, $codec)?>,)+
        }

        /// The tables for writing. Each method keeps a row and its indexes in step.
        #[derive(Debug)]
        pub(super) struct TablesMut<'t> {
            $($field: TypedTableMut<'t, $key, $value $(, $codec)?>,)+
        }

        impl<'s> Tables<'s> {
            pub(super) fn open(snapshot: &'s Snapshot) -> Result<Tables<'s>> {
                Ok(Tables { $($field: snapshot.table($table)?,)+ })
            }
        }

        impl<'t> TablesMut<'t> {
            pub(super) fn open(tx: &'t WriteTxn) -> Result<TablesMut<'t>> {
                Ok(TablesMut { $($field: tx.table($table)?,)+ })
            }

            /// Removes every row.
            pub(super) fn clear(&self) -> Result<()> {
                $(self.$field.clear()?;)+
                Ok(())
            }
        }
    };
}

tables! {
    ENTITIES, entities: "graph.entities", u64 => EntityRow;
    ENTITIES_BY_NAME, entities_by_name: "graph.entities.by_name", ByName => ();
    /// By entity and position.
    OBSERVATIONS, observations: "graph.observations", (u64, u64) => str, InPlace;
    /// By entity, content and position.
    OBSERVATIONS_BY_CONTENT, observations_by_content: "graph.observations.by_content", (u64, Hash, u64) => ();
    RELATIONS, relations: "graph.relations", u64 => Relation;
    /// By the first name, and by the rest of the relation.
    RELATIONS_BY_FROM, relations_by_from: "graph.relations.by_from", (Hash, Hash, u64) => ();
    RELATIONS_BY_TO, relations_by_to: "graph.relations.by_to", ByName => ();
}

/// An entity without its observations.
#[derive(Serialize, Deserialize)]
pub(super) struct EntityRow {
    name: String,
    kind: String,
}

fn hash(text: &str) -> Hash {
    first_half(blake3::hash(text.as_bytes()))
}

/// Of the second name and the type. The length keeps `("ab", "c")` and `("a", "bc")` apart.
fn hash_of_rest(relation: &Relation) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&u64::try_from(relation.to.len()).unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(relation.to.as_bytes()).update(relation.relation_type.as_bytes());
    first_half(hasher.finalize())
}

fn first_half(hash: blake3::Hash) -> Hash {
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The rows that an index leads to by one name.
fn rows<S: ReadState>(index: TypedRange<'_, ByName, (), MessagePack, S>) -> Result<Vec<u64>> {
    index.keys().map(|key| Ok(key?.1)).collect()
}

/// The number after the largest one.
fn next<V>(last: Option<(u64, V)>) -> u64 {
    last.map_or(0, |(number, _)| number.saturating_add(1))
}

impl<'s> Tables<'s> {
    pub(super) fn counts(&self) -> Result<Counts> {
        Ok(Counts {
            entities: self.entities.len()?,
            observations: self.observations.len()?,
            relations: self.relations.len()?,
        })
    }

    /// The sizes of the indexes, in the order of [`Counts`], each with what it is an index of.
    pub(super) fn index_sizes(&self) -> Result<[(&'static str, u64, u64); 4]> {
        let counts = self.counts()?;
        Ok([
            (ENTITIES_BY_NAME.name(), self.entities_by_name.len()?, counts.entities),
            (OBSERVATIONS_BY_CONTENT.name(), self.observations_by_content.len()?, counts.observations),
            (RELATIONS_BY_FROM.name(), self.relations_by_from.len()?, counts.relations),
            (RELATIONS_BY_TO.name(), self.relations_by_to.len()?, counts.relations),
        ])
    }

    /// All entities, in one pass over them and their observations; or those that have what is wanted: of the others
    /// nothing is copied but name and type.
    pub(super) fn entities<'w>(&self, wanted: Option<&'w Wanted>) -> Result<Entities<'s, 'w>> {
        let observations = self.observations.range(..)?.peekable();
        Ok(Entities { rows: self.entities.range(..)?, observations, texts: Vec::new(), wanted })
    }

    /// All relations with their numbers.
    pub(super) fn relations(&self) -> Result<impl Iterator<Item = Result<(u64, Relation)>> + use<'s>> {
        self.relations.range(..)
    }

    pub(super) fn entities_of(&self, name: &str) -> Result<Vec<u64>> {
        rows(self.entities_by_name.prefix((hash(name),))?)
    }

    pub(super) fn entity(&self, number: u64) -> Result<Entity, GraphError> {
        let Some(EntityRow { name, kind }) = self.entities.get(number)? else {
            return Err(missing("entity", number));
        };
        let texts = self.observations.prefix((number,))?.values();
        let observations = texts.map(|text| Ok(text?.into_string())).collect::<Result<_>>()?;
        Ok(Entity { name, entity_type: kind, observations })
    }

    /// The relations with `name` at either end.
    pub(super) fn relations_of(&self, name: &str) -> Result<Vec<u64>> {
        let from = self.relations_by_from.prefix((hash(name),))?.keys();
        let mut found = from.map(|key| Ok(key?.2)).collect::<Result<Vec<_>>>()?;
        found.extend(rows(self.relations_by_to.prefix((hash(name),))?)?);
        Ok(found)
    }

    pub(super) fn relation(&self, number: u64) -> Result<Relation, GraphError> {
        self.relations.get(number)?.ok_or_else(|| missing("relation", number))
    }

    /// The numbers and names of all entities.
    pub(super) fn names(&self) -> Result<impl Iterator<Item = Result<(u64, String)>> + use<'s>> {
        Ok(self.entities.range(..)?.map(|row| row.map(|(number, row)| (number, row.name))))
    }

    /// Whether the index by name leads to the entity.
    pub(super) fn is_named(&self, number: u64, name: &str) -> Result<bool> {
        self.entities_by_name.contains((hash(name), number))
    }

    /// All observations with their entities and positions, those of missing entities, too.
    pub(super) fn observations(&self) -> Result<impl Iterator<Item = Result<((u64, u64), String)>> + use<'s>> {
        Ok(self.observations.range(..)?.map(|row| row.map(|(key, text)| (key, text.into_string()))))
    }

    pub(super) fn has_entity(&self, number: u64) -> Result<bool> {
        self.entities.contains(number)
    }

    /// Whether the index by content leads to the observation.
    pub(super) fn is_content(&self, (entity, position): (u64, u64), text: &str) -> Result<bool> {
        self.observations_by_content.contains((entity, hash(text), position))
    }

    /// Whether the indexes by the first and by the second name lead to the relation.
    pub(super) fn is_joined(&self, number: u64, relation: &Relation) -> Result<(bool, bool)> {
        let from = self.relations_by_from.contains((hash(&relation.from), hash_of_rest(relation), number))?;
        Ok((from, self.relations_by_to.contains((hash(&relation.to), number))?))
    }
}

fn missing(what: &str, number: u64) -> GraphError {
    GraphError::Contradiction(format!("an index leads to {what} {number}, which does not exist"))
}

/// Entities in the order of their numbers, with their observations.
pub(super) struct Entities<'s, 'w> {
    rows: TypedRange<'s, u64, EntityRow>,
    observations: Peekable<TypedRange<'s, (u64, u64), str, InPlace>>,
    /// Those of the entity at hand.
    texts: Vec<Text<'s>>,
    wanted: Option<&'w Wanted>,
}

impl Entities<'_, '_> {
    /// Reads the observations of `entity`; what is left of those before it belongs to no entity.
    fn read_observations_of(&mut self, entity: u64) -> Result<(), GraphError> {
        self.texts.clear();
        while let Some(next) = self.observations.next_if(|next| !matches!(next, Ok(((of, _), _)) if *of > entity)) {
            let ((of, position), text) = next?;
            if of < entity {
                return Err(orphan(of, position));
            }
            self.texts.push(text);
        }
        Ok(())
    }

    /// The entity of a row, if it has what is wanted.
    fn entity(&mut self, number: u64, row: EntityRow) -> Result<Option<Entity>, GraphError> {
        self.read_observations_of(number)?;
        let EntityRow { name, kind } = row;
        let has = |wanted: &Wanted| {
            wanted.is_in(&name) || wanted.is_in(&kind) || self.texts.iter().any(|text| wanted.is_in_text(text))
        };
        if !self.wanted.is_none_or(has) {
            return Ok(None);
        }
        let observations = self.texts.drain(..).map(Text::into_string).collect();
        Ok(Some(Entity { name, entity_type: kind, observations }))
    }
}

/// An observation without an entity.
fn orphan(entity: u64, position: u64) -> GraphError {
    GraphError::Contradiction(format!("observation {position} is of entity {entity}, which does not exist"))
}

impl Iterator for Entities<'_, '_> {
    type Item = Result<Entity, GraphError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entity = self.rows.next()?.map_err(GraphError::from).and_then(|(number, row)| self.entity(number, row));
            if let Some(entity) = entity.transpose() {
                return Some(entity);
            }
        }
    }
}

impl TablesMut<'_> {
    pub(super) fn entities_of(&self, name: &str) -> Result<Vec<u64>> {
        rows(self.entities_by_name.prefix((hash(name),))?)
    }

    pub(super) fn add_entity(&self, entity: &Entity) -> Result<()> {
        let number = next(self.entities.last()?);
        self.entities.put(number, EntityRow { name: entity.name.clone(), kind: entity.entity_type.clone() })?;
        self.entities_by_name.put((hash(&entity.name), number), ())?;
        entity.observations.iter().try_for_each(|text| self.add_observation(number, text))
    }

    /// Removes the entity with its observations.
    pub(super) fn remove_entity(&self, number: u64, name: &str) -> Result<()> {
        self.entities.delete(number)?;
        self.entities_by_name.delete((hash(name), number))?;
        self.observations.delete_range((number, 0)..=(number, u64::MAX))?;
        self.observations_by_content.delete_range((number, [0; 16], 0)..=(number, [u8::MAX; 16], u64::MAX))?;
        Ok(())
    }

    pub(super) fn has_observation(&self, entity: u64, text: &str) -> Result<bool> {
        Ok(self.observations_by_content.prefix((entity, hash(text)))?.next().transpose()?.is_some())
    }

    /// Adds it as the entity's last one.
    pub(super) fn add_observation(&self, entity: u64, text: &str) -> Result<()> {
        let last = self.observations.prefix((entity,))?.keys().next_back().transpose()?;
        let position = next(last.map(|(_, position)| (position, ())));
        self.observations.put((entity, position), text)?;
        self.observations_by_content.put((entity, hash(text), position), ())
    }

    /// Removes all observations of the entity with this content.
    pub(super) fn remove_observation(&self, entity: u64, text: &str) -> Result<()> {
        let found: Vec<_> = self.observations_by_content.prefix((entity, hash(text)))?.keys().collect::<Result<_>>()?;
        found.into_iter().try_for_each(|key| {
            self.observations.delete((entity, key.2))?;
            self.observations_by_content.delete(key)
        })
    }

    /// The relations that are equal to this one.
    pub(super) fn relations_like(&self, relation: &Relation) -> Result<Vec<u64>> {
        let equal = self.relations_by_from.prefix((hash(&relation.from), hash_of_rest(relation)))?;
        equal.keys().map(|key| Ok(key?.2)).collect()
    }

    /// The relations with `name` at either end; one with `name` at both ends comes twice.
    pub(super) fn relations_of(&self, name: &str) -> Result<Vec<u64>> {
        let from = self.relations_by_from.prefix((hash(name),))?.keys();
        let mut found = from.map(|key| Ok(key?.2)).collect::<Result<Vec<_>>>()?;
        found.extend(rows(self.relations_by_to.prefix((hash(name),))?)?);
        Ok(found)
    }

    pub(super) fn add_relation(&self, relation: &Relation) -> Result<()> {
        let number = next(self.relations.last()?);
        self.relations.put(number, relation)?;
        self.relations_by_from.put((hash(&relation.from), hash_of_rest(relation), number), ())?;
        self.relations_by_to.put((hash(&relation.to), number), ())
    }

    pub(super) fn remove_relation(&self, number: u64) -> Result<()> {
        let Some(relation) = self.relations.remove(number)? else { return Ok(()) };
        self.relations_by_from.delete((hash(&relation.from), hash_of_rest(&relation), number))?;
        self.relations_by_to.delete((hash(&relation.to), number))
    }
}
