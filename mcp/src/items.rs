//! The items of the memory for a client: what its tools read and write, as JSON, within its part.

use crate::care::Care;
use crate::failure::Failure;
use crate::moment;
use crate::scope::Scope;
use crate::shape::{Field, Shape};
use memstone::WriteTxn;
use memstone::memory::jobs::{Jobs, JobsSnapshot, JobsTxn};
use memstone::memory::{
    Hit, Item, ItemId, Memory, MemoryError, MemorySnapshot, MemoryTxn, Namespace, Order, Query, Timestamp,
};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The most memories that one call stores, changes or removes: others wait for no more.
pub(crate) const MOST: usize = 64;
/// So many items are read at once by what reads all of them.
const PAGE: usize = 256;

/// A state of the items, for a client.
pub(crate) struct Recall<'c> {
    pub(crate) state: MemorySnapshot,
    jobs: &'c Jobs,
    pub(crate) scope: &'c Scope,
}

/// The items in a write transaction, for a client.
pub(crate) struct Record<'c> {
    pub(crate) tx: MemoryTxn<'c>,
    jobs: JobsTxn<'c>,
    pub(crate) scope: &'c Scope,
}

impl<'c> Recall<'c> {
    pub(crate) fn new(items: &Memory, jobs: &'c Jobs, scope: &'c Scope) -> Result<Recall<'c>, Failure> {
        Ok(Recall { state: items.snapshot()?, jobs, scope })
    }

    /// A state of the jobs.
    pub(crate) fn jobs(&self) -> Result<JobsSnapshot, Failure> {
        Ok(self.jobs.snapshot()?)
    }

    /// The item with this id, if the client may see it.
    pub(crate) fn item(&self, id: &str) -> Result<Option<Item>, Failure> {
        self.scope.item(id, |id| self.state.get(id))
    }
}

impl<'c> Record<'c> {
    pub(crate) fn new(
        tx: &'c WriteTxn,
        items: &'c Memory,
        jobs: &'c Jobs,
        scope: &'c Scope,
    ) -> Result<Record<'c>, Failure> {
        Ok(Record { tx: items.on(tx)?, jobs: jobs.on(tx)?, scope })
    }

    /// The jobs in the same transaction.
    pub(crate) fn jobs(&self) -> &JobsTxn<'c> {
        &self.jobs
    }

    /// The item with this id, if the client may see it.
    pub(crate) fn item(&self, id: &str) -> Result<Option<Item>, Failure> {
        self.scope.item(id, |id| self.tx.get(id))
    }
}

/// Shows all items of a namespace and below it, oldest first, to `body`.
pub(crate) fn walk(care: &Care<'_>, namespace: Namespace, mut body: impl FnMut(Item)) -> Result<(), Failure> {
    let state = care.items.snapshot()?;
    walk_in(care, &state, namespace, |item| {
        body(item);
        Ok(())
    })
}

/// The same of one state.
pub(crate) fn walk_in(
    care: &Care<'_>,
    state: &MemorySnapshot,
    namespace: Namespace,
    mut body: impl FnMut(Item) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut done, total) = (0, state.usage(&namespace)?.items);
    let mut query = Query::new().under(namespace).order(Order::Oldest).limit(PAGE);
    loop {
        let found = state.find(&query)?;
        done += found.hits.len() as u64;
        found.hits.into_iter().try_for_each(|hit| body(hit.item))?;
        let Some(next) = found.next else { return Ok(()) };
        query = query.after(next);
        if care.step(done, total).is_break() {
            return Err(care.broken_off());
        }
    }
}

/// There is no item with this id, or none that the client may see.
pub(crate) fn missing(id: &str) -> Failure {
    match id.parse::<ItemId>() {
        Ok(id) => MemoryError::NotFound { id }.into(),
        Err(error) => error.into(),
    }
}

/// Refuses more than [`MOST`] of something.
pub(crate) fn bounded(what: &str, number: usize) -> Result<(), Failure> {
    if number <= MOST {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{number} {what} in one call, and {MOST} are the limit. Nothing was changed: make several calls."
    )))
}

/// An item, as answers have it.
pub(crate) const ITEM: Shape = Shape::Object(&[
    Field::new("id", Shape::Text, "For get_memories, update_memory, delete_memories and related_memories"),
    Field::new("namespace", Shape::Text, "Where it is"),
    Field::new("content", Shape::Text, ""),
    Field::new("metadata", Shape::Map(&Shape::Any), ""),
    Field::new("tags", Shape::List(&Shape::Text), ""),
    Field::new("created", Shape::Time, ""),
    Field::new("updated", Shape::Time, ""),
    Field::optional("expires", Shape::Time, "From then on it is not found"),
    Field::new("version", Shape::Count, "1, and one more with each change"),
    Field::new("duplicates", Shape::Count, "How often the same content was stored again"),
    Field::new("spaces", Shape::List(&Shape::Text), "The vector spaces in which it has a vector"),
]);

/// The same, as JSON.
pub(crate) fn shown(item: &Item, scope: &Scope) -> Value {
    let mut shown = json!({
        "id": item.id,
        "namespace": scope.shown(&item.namespace),
        "content": item.content,
        "metadata": item.metadata,
        "tags": item.tags,
        "created": moment::text(item.created),
        "updated": moment::text(item.updated),
    });
    if let Some(members) = shown.as_object_mut() {
        if let Some(expires) = item.expires {
            members.insert("expires".to_owned(), json!(moment::text(expires)));
        }
        members.insert("version".to_owned(), json!(item.version));
        members.insert("duplicates".to_owned(), json!(item.duplicates));
        members.insert("spaces".to_owned(), json!(item.spaces()));
    }
    shown
}

/// What a search answers.
pub(crate) const HITS: Shape = Shape::Object(&[Field::new(
    "hits",
    Shape::List(&Shape::Object(&[
        Field::new("memory", ITEM, ""),
        Field::new("score", Shape::Number, "What it is ranked by; more is better"),
        Field::optional("words", Shape::Number, "Its score by the words (BM25), if it is among the best by that"),
        Field::optional("similarity", Shape::Number, "How alike its vector is, if it is among the best by that"),
    ])),
    "The best first",
)]);

/// The same, as JSON.
pub(crate) fn hits(hits: &[Hit], scope: &Scope) -> Value {
    let shown = hits.iter().map(|hit| {
        let mut entry = json!({ "memory": shown(&hit.item, scope), "score": hit.score });
        for (name, score) in [("words", hit.words), ("similarity", hit.similarity)] {
            if let (Some(score), Some(members)) = (score, entry.as_object_mut()) {
                members.insert(name.to_owned(), json!(score));
            }
        }
        entry
    });
    json!({ "hits": shown.collect::<Vec<_>>() })
}

/// A time in arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        moment::parse(&text).map(Moment).ok_or_else(|| D::Error::custom("not a time"))
    }
}
