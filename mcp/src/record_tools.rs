//! The tools that store, change and delete memories.

use crate::care::Care;
use crate::failure::Failure;
use crate::items::{ITEM, MOST, Moment, Record, bounded, missing, shown, walk};
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::memory::{Draft, Item, ItemId, MemoryError, Namespace};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::time::Duration;

const VECTORS: Field = Field::optional(
    "vectors",
    Shape::Map(&Shape::List(&Shape::Number)),
    "Embeddings of the content, by the name of a declared vector space",
);
const TAGS: Field = Field::optional("tags", Shape::List(&Shape::Text), "");

/// Memories that are to be stored.
pub(crate) const NEW: Shape = Shape::List(&Shape::Object(&[
    Field::new("content", Shape::Text, "What is to be remembered"),
    Field::optional("namespace", Shape::Text, "Where it belongs, e.g. projects/website"),
    Field::optional("metadata", Shape::Map(&Shape::Any), ""),
    TAGS,
    VECTORS,
    Field::optional("expires", Shape::Time, "From then on it is not found"),
    Field::optional("expires_in_seconds", Shape::Count, "The same, counted from now"),
]));
/// What has become of them.
pub(crate) const STORED: Shape = Shape::List(&Shape::Object(&[
    Field::new("id", Shape::Text, ""),
    Field::new("duplicate", Shape::Flag, "Whether the content was there already, with this id"),
]));

/// The tools.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "store_memories",
        title: "Store Memories",
        about: "Store new memories, all of them or none. The same content in the same namespace is stored once",
        input: Shape::Object(&[Field::new("memories", NEW, "64 at most")]),
        output: Shape::Object(&[Field::new("memories", STORED, "In the same order")]),
        effect: Effect::Adds,
        work: Work::Record(store),
    },
    Tool {
        name: "update_memory",
        title: "Update Memory",
        about: "Change parts of a memory. What is not given stays as it is",
        input: Shape::Object(&[
            Field::new("id", Shape::Text, ""),
            Field::optional("version", Shape::Count, "The version that was read: refused if it was changed since"),
            Field::optional("content", Shape::Text, ""),
            Field::optional("namespace", Shape::Text, "Move it there"),
            Field::optional("metadata", Shape::Map(&Shape::Any), "Members to set; null removes one"),
            Field::optional("tags", Shape::List(&Shape::Text), "All tags that it is to have"),
            Field::optional("expires", Shape::Any, "A time; null: never"),
            Field::optional("vectors", Shape::Map(&Shape::Any), "Embeddings by vector space; null removes one"),
        ]),
        output: ITEM,
        effect: Effect::Removes,
        work: Work::Record(update),
    },
    Tool {
        name: "delete_memories",
        title: "Delete Memories",
        about: "Delete memories by their ids, all of them or none",
        input: Shape::Object(&[Field::new("ids", Shape::List(&Shape::Text), "Their ids, 64 at most")]),
        output: Shape::Object(&[
            Field::new("deleted", Shape::Count, "How many were there"),
            Field::new("missing", Shape::List(&Shape::Text), "The ids for which there was none"),
        ]),
        effect: Effect::Removes,
        work: Work::Record(delete),
    },
    Tool {
        name: "cleanup_duplicates",
        title: "Cleanup Duplicates",
        about: "Delete memories whose content another one in the same namespace has. The oldest is kept, and gets their \
                tags. Reads all of them",
        input: Shape::Object(&[Field::optional("namespace", Shape::Text, "Only in this namespace and below it")]),
        output: Shape::Object(&[Field::new("deleted", Shape::Count, "")]),
        effect: Effect::Removes,
        work: Work::Care(cleanup_duplicates),
    },
];

/// A memory that is to be stored.
#[derive(Deserialize)]
pub(crate) struct New {
    content: String,
    namespace: Option<String>,
    metadata: Option<Map<String, Value>>,
    tags: Option<Vec<String>>,
    vectors: Option<BTreeMap<String, Vec<f32>>>,
    expires: Option<Moment>,
    expires_in_seconds: Option<u64>,
}

impl New {
    fn draft(self) -> Draft {
        let mut draft = Draft::new(self.content)
            .all_metadata(self.metadata.unwrap_or_default())
            .tags(self.tags.unwrap_or_default());
        for (space, vector) in self.vectors.unwrap_or_default() {
            draft = draft.vector(space, vector);
        }
        match (self.expires, self.expires_in_seconds) {
            (Some(Moment(time)), _) => draft.expires_at(time),
            (None, Some(seconds)) => draft.expires_in(Duration::from_secs(seconds)),
            (None, None) => draft,
        }
    }
}

fn store(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        memories: Vec<New>,
    }
    let Arguments { memories } = Arguments::deserialize(arguments)?;
    Answer::of(json!({ "memories": store_all(record, memories)? }))
}

/// Stores memories, and tells what has become of them.
pub(crate) fn store_all(record: &Record<'_>, memories: Vec<New>) -> Result<Vec<Value>, Failure> {
    bounded("memories", memories.len())?;
    let stored = memories.into_iter().map(|new| {
        let namespace = record.scope.namespace(new.namespace.as_deref())?;
        let added = record.tx.add(namespace, new.draft())?;
        Ok(json!({ "id": added.id, "duplicate": added.duplicate }))
    });
    stored.collect()
}

/// What is to be changed of a memory.
#[derive(Deserialize)]
struct Change {
    id: String,
    version: Option<u64>,
    content: Option<String>,
    namespace: Option<String>,
    metadata: Option<Map<String, Value>>,
    tags: Option<Vec<String>>,
    vectors: Option<BTreeMap<String, Option<Vec<f32>>>>,
}

fn update(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let change = Change::deserialize(arguments).map_err(|error| Failure::Refused(format!("vectors: {error}")))?;
    let mut item = record.item(&change.id)?.ok_or_else(|| missing(&change.id))?;
    let found = item.version;
    if let Some(expected) = change.version.filter(|expected| *expected != found) {
        return Err(MemoryError::Conflict { id: item.id, expected, found: Some(found) }.into());
    }
    if let Some(namespace) = &change.namespace {
        item.namespace = record.scope.namespace(Some(namespace))?;
    }
    match arguments.get("expires") {
        None => {}
        Some(Value::Null) => item.expires = None,
        Some(time) => {
            let Moment(time) = Moment::deserialize(time)
                .map_err(|_| Failure::Refused(format!("expires is {time}, not a time such as 2026-01-31T12:00:00Z")))?;
            item.expires = Some(time);
        }
    }
    apply(change, &mut item);
    Answer::of(shown(&record.tx.put_if(&item)?, record.scope))
}

fn apply(change: Change, item: &mut Item) {
    if let Some(content) = change.content {
        item.content = content;
    }
    if let Some(patch) = change.metadata {
        merge(&mut item.metadata, patch);
    }
    if let Some(tags) = change.tags {
        item.tags = tags.into_iter().collect();
    }
    for (space, vector) in change.vectors.unwrap_or_default() {
        match vector {
            Some(vector) => item.set_vector(space, vector),
            None => item.remove_vector(space),
        }
    }
}

/// A JSON merge patch (RFC 7396). It is no deeper than the protocol's reader allows.
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.remove(&name)),
            Value::Object(members) => {
                let mut inner = match target.remove(&name) {
                    Some(Value::Object(inner)) => inner,
                    _ => Map::new(),
                };
                merge(&mut inner, members);
                target.insert(name, Value::Object(inner));
            }
            value => drop(target.insert(name, value)),
        }
    }
}

fn delete(record: &Record<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        ids: Vec<String>,
    }
    let Arguments { ids } = Arguments::deserialize(arguments)?;
    bounded("ids", ids.len())?;
    let (mut deleted, mut missing) = (0, Vec::new());
    for id in ids {
        match record.item(&id)? {
            Some(item) if record.tx.remove(item.id)? => deleted += 1,
            _ => missing.push(id),
        }
    }
    Answer::of(json!({ "deleted": deleted, "missing": missing }))
}

/// In one pass over the items, oldest first, and a small transaction for each few that are to be deleted.
fn cleanup_duplicates(care: &Care<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        namespace: Option<String>,
    }
    let Arguments { namespace } = Arguments::deserialize(arguments)?;
    let namespace = care.scope.namespace(namespace.as_deref())?;
    let duplicates = duplicates(care, namespace)?;
    let mut deleted = 0;
    for batch in duplicates.chunks(MOST) {
        let step = match care.step(deleted, duplicates.len() as u64) {
            ControlFlow::Continue(()) => merge_all(care, batch),
            ControlFlow::Break(()) => Err(care.broken_off()),
        };
        deleted += match step {
            Err(failure) if deleted > 0 => {
                return Err(Failure::Refused(format!(
                    "{deleted} were deleted, and then: {failure} Call again for the rest."
                )));
            }
            step => step?,
        };
    }
    Answer::of(json!({ "deleted": deleted }))
}

/// Deletes the second of each pair, and gives its tags to the first; returns how many were deleted.
fn merge_all(care: &Care<'_>, pairs: &[(ItemId, ItemId)]) -> Result<u64, Failure> {
    care.write_bulk(|tx| {
        let tx = care.items.on(tx)?;
        let mut deleted = 0;
        for (kept, other) in pairs {
            let (Some(kept), Some(other)) = (tx.get(*kept)?, tx.get(*other)?) else { continue };
            // Either may have been changed since.
            if (&kept.namespace, &kept.content) == (&other.namespace, &other.content) {
                tx.update(kept.id, |item| item.tags.extend(other.tags))?;
                deleted += u64::from(tx.remove(other.id)?);
            }
        }
        Ok(deleted)
    })
}

/// The items whose content an older one has, each behind that one.
fn duplicates(care: &Care<'_>, namespace: Namespace) -> Result<Vec<(ItemId, ItemId)>, Failure> {
    let mut oldest = HashMap::<(Namespace, [u8; 32]), ItemId>::new();
    let mut found = Vec::new();
    walk(care, namespace, |item| match oldest.entry((item.namespace.clone(), item.content_hash())) {
        Entry::Occupied(kept) => found.push((*kept.get(), item.id)),
        Entry::Vacant(place) => {
            place.insert(item.id);
        }
    })?;
    Ok(found)
}
