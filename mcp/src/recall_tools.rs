//! The tools that find and read memories.

use crate::failure::Failure;
use crate::items::{HITS, ITEM, Moment, Recall, bounded, hits, missing, shown};
use crate::shape::{Field, Shape};
use crate::tool::{Answer, Effect, Tool, Work};
use memstone::memory::{Cursor, Namespace, NamespaceInfo, Order, Query, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::ops::Bound;
use std::time::Duration;

/// The most hits that one call answers.
const MOST_HITS: u64 = 100;
/// So many words of a memory at most are searched for in others.
const WORDS_OF_ONE: usize = 48;

const NAMESPACE: Field =
    Field::optional("namespace", Shape::Text, "Only in this namespace and below it, e.g. chat/2026");
const LIMIT: Field = Field::optional("limit", Shape::Count, "How many at most: 10 if it is not given, 100 at most");
/// What conditions a search may have.
const CONDITIONS: &[Field] = &[
    NAMESPACE,
    Field::optional("tags", Shape::List(&Shape::Text), "Only with all of these tags"),
    Field::optional("created_from", Shape::Time, "Only stored then or later"),
    Field::optional("created_to", Shape::Time, "Only stored before then"),
    Field::optional("updated_from", Shape::Time, "Only changed then or later"),
    Field::optional("updated_to", Shape::Time, "Only changed before then"),
    Field::optional(
        "where",
        Shape::List(&Shape::Object(&[
            Field::new("field", Shape::Text, "A declared field of the metadata"),
            Field::optional("equals", Shape::Any, "Its value"),
            Field::optional("from", Shape::Any, "Its smallest value"),
            Field::optional("to", Shape::Any, "Its greatest value"),
        ])),
        "Only with these values in the metadata",
    ),
    LIMIT,
];
const ID: Field = Field::new("id", Shape::Text, "The id of a memory");
const COUNTS: &[Field] = &[
    Field::new("namespace", Shape::Text, ""),
    Field::new("own_items", Shape::Count, "Memories in it"),
    Field::new("own_bytes", Shape::Count, "Their bytes"),
    Field::new("items", Shape::Count, "Memories in it and below it; expired ones count until they are removed"),
    Field::new("bytes", Shape::Count, "Their bytes"),
];

/// The tools.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "search_memories",
        title: "Search Memories",
        about: "Search memories by words, by a vector, or by both at once, under conditions. Without words and vector: \
                the newest ones that meet the conditions",
        input: Shape::Joined(&[
            &[
                Field::optional("query", Shape::Text, "Words; \"a phrase\" must stand there, begin* is any such word"),
                Field::optional("every_word", Shape::Flag, "Only with all of the words"),
                Field::optional(
                    "vector",
                    Shape::Object(&[
                        Field::new("space", Shape::Text, "A declared vector space"),
                        Field::new("values", Shape::List(&Shape::Number), "The embedding of what is searched"),
                        Field::optional("at_least", Shape::Number, "Only vectors that are at least so alike"),
                    ]),
                    "Rank by how alike vectors are; together with words, both rankings are fused",
                ),
            ],
            CONDITIONS,
        ]),
        output: HITS,
        effect: Effect::Reads,
        work: Work::Recall(search),
    },
    Tool {
        name: "list_memories",
        title: "List Memories",
        about: "List memories by time, page by page, under conditions",
        input: Shape::Joined(&[
            &[
                Field::optional(
                    "order",
                    Shape::Choice(&["newest", "oldest", "updated"]),
                    "The newest first if it is not given; updated: the one that was changed last comes first",
                ),
                Field::optional("cursor", Shape::Text, "Where to go on: what the page before answered as next"),
            ],
            CONDITIONS,
        ]),
        output: Shape::Object(&[
            Field::new("memories", Shape::List(&ITEM), ""),
            Field::optional("next", Shape::Text, "The cursor of the next page, if there may be more"),
        ]),
        effect: Effect::Reads,
        work: Work::Recall(list),
    },
    Tool {
        name: "recent_memories",
        title: "Recent Memories",
        about: "The memories that were stored or changed last",
        input: Shape::Object(&[
            Field::optional("since", Shape::Time, "Only those that were changed then or later"),
            NAMESPACE,
            LIMIT,
        ]),
        output: Shape::Object(&[Field::new("memories", Shape::List(&ITEM), "The last one first")]),
        effect: Effect::Reads,
        work: Work::Recall(recent),
    },
    Tool {
        name: "get_memories",
        title: "Get Memories",
        about: "Return memories by their ids",
        input: Shape::Object(&[Field::new("ids", Shape::List(&Shape::Text), "Their ids, 64 at most")]),
        output: Shape::Object(&[
            Field::new("memories", Shape::List(&ITEM), ""),
            Field::new("missing", Shape::List(&Shape::Text), "The ids for which there is none"),
        ]),
        effect: Effect::Reads,
        work: Work::Recall(get),
    },
    Tool {
        name: "related_memories",
        title: "Related Memories",
        about: "The memories that are most like another one, by its words and vectors",
        input: Shape::Object(&[ID, NAMESPACE, LIMIT]),
        output: HITS,
        effect: Effect::Reads,
        work: Work::Recall(related),
    },
    Tool {
        name: "list_tags",
        title: "List Tags",
        about: "List the tags of memories, and how many have each",
        input: Shape::Object(&[NAMESPACE]),
        output: Shape::Object(&[Field::new(
            "tags",
            Shape::List(&Shape::Object(&[
                Field::new("tag", Shape::Text, ""),
                Field::new("memories", Shape::Count, "How many have it; expired ones count until they are removed"),
            ])),
            "The most frequent first",
        )]),
        effect: Effect::Reads,
        work: Work::Recall(list_tags),
    },
    Tool {
        name: "get_memory_usage",
        title: "Get Memory Usage",
        about: "How much the namespaces hold, what they may hold, and which vector spaces and fields are declared",
        input: Shape::Object(&[NAMESPACE]),
        output: Shape::Object(&[
            Field::new("usage", Shape::Object(COUNTS), "Of the namespace"),
            Field::new(
                "namespaces",
                Shape::List(&Shape::Object(COUNTS)),
                "Of it and those below it that hold anything",
            ),
            Field::new(
                "limits",
                Shape::List(&Shape::Object(&[
                    Field::new("namespace", Shape::Text, "The path from the root, as refusals name it"),
                    Field::optional("items", Shape::Count, "How many memories it may hold"),
                    Field::optional("bytes", Shape::Count, "How many bytes it may hold"),
                    Field::optional("jobs", Shape::Count, "How many jobs that have not ended it may have"),
                    Field::optional("operations", Shape::Count, "How many changes are allowed"),
                    Field::optional("seconds", Shape::Number, "In how many seconds"),
                ])),
                "Of the namespace, and of those above it that have any",
            ),
            Field::new(
                "spaces",
                Shape::List(&Shape::Object(&[
                    Field::new("name", Shape::Text, ""),
                    Field::new("dimension", Shape::Count, "How many numbers a vector has"),
                ])),
                "The vector spaces",
            ),
            Field::new("fields", Shape::List(&Shape::Text), "The fields of the metadata that conditions may name"),
        ]),
        effect: Effect::Reads,
        work: Work::Recall(usage),
    },
];

/// The conditions of a search.
#[derive(Deserialize, Default)]
struct Conditions {
    namespace: Option<String>,
    tags: Option<Vec<String>>,
    created_from: Option<Moment>,
    created_to: Option<Moment>,
    updated_from: Option<Moment>,
    updated_to: Option<Moment>,
    #[serde(rename = "where")]
    fields: Option<Vec<Condition>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Condition {
    field: String,
    equals: Option<Value>,
    from: Option<Value>,
    to: Option<Value>,
}

impl Conditions {
    fn query(self, recall: &Recall<'_>) -> Result<Query, Failure> {
        let limit = self.limit.unwrap_or(10).min(MOST_HITS);
        let mut query = Query::new()
            .under(recall.scope.namespace(self.namespace.as_deref())?)
            .created(between(self.created_from, self.created_to))
            .updated(between(self.updated_from, self.updated_to))
            .limit(usize::try_from(limit).unwrap_or(usize::MAX));
        for tag in self.tags.unwrap_or_default() {
            query = query.tag(tag);
        }
        for Condition { field, equals, from, to } in self.fields.unwrap_or_default() {
            query = match equals {
                Some(value) => query.field(field, value),
                None => {
                    let bound = |value: Option<Value>| value.map_or(Bound::Unbounded, Bound::Included);
                    query.field_range(field, (bound(from), bound(to)))
                }
            };
        }
        Ok(query)
    }
}

/// From the first time on, until before the second.
fn between(from: Option<Moment>, to: Option<Moment>) -> (Bound<Timestamp>, Bound<Timestamp>) {
    let from = from.map_or(Bound::Unbounded, |Moment(time)| Bound::Included(time));
    (from, to.map_or(Bound::Unbounded, |Moment(time)| Bound::Excluded(time)))
}

fn search(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        query: Option<String>,
        every_word: Option<bool>,
        vector: Option<Vector>,
        #[serde(flatten)]
        conditions: Conditions,
    }
    #[derive(Deserialize)]
    struct Vector {
        space: String,
        values: Vec<f32>,
        at_least: Option<f32>,
    }
    let Arguments { query: words, every_word, vector, conditions } = Arguments::deserialize(arguments)?;
    let mut query = conditions.query(recall)?;
    if let Some(words) = words {
        query = query.words(words);
    }
    if every_word == Some(true) {
        query = query.every_word();
    }
    if let Some(Vector { space, values, at_least }) = vector {
        query = query.vector(space, values).at_least(at_least.unwrap_or(f32::NEG_INFINITY));
    }
    let found = recall.state.find(&query)?;
    Answer::of(hits(&found.hits, recall.scope))
}

fn list(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        order: Option<String>,
        cursor: Option<String>,
        #[serde(flatten)]
        conditions: Conditions,
    }
    let Arguments { order, cursor, conditions } = Arguments::deserialize(arguments)?;
    let mut query = conditions.query(recall)?.order(match order.as_deref() {
        Some("oldest") => Order::Oldest,
        Some("updated") => Order::LastUpdated,
        _ => Order::Newest,
    });
    if let Some(cursor) = cursor {
        query = query.after(cursor.parse::<Cursor>()?);
    }
    let found = recall.state.find(&query)?;
    let memories: Vec<Value> = found.hits.iter().map(|hit| shown(&hit.item, recall.scope)).collect();
    Answer::of(match found.next {
        Some(next) => json!({ "memories": memories, "next": next.to_string() }),
        None => json!({ "memories": memories }),
    })
}

fn recent(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        since: Option<Moment>,
        namespace: Option<String>,
        limit: Option<u64>,
    }
    let Arguments { since, namespace, limit } = Arguments::deserialize(arguments)?;
    let conditions = Conditions { namespace, limit, updated_from: since, ..Conditions::default() };
    let found = recall.state.find(&conditions.query(recall)?.order(Order::LastUpdated))?;
    let memories: Vec<Value> = found.hits.iter().map(|hit| shown(&hit.item, recall.scope)).collect();
    Answer::of(json!({ "memories": memories }))
}

fn get(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        ids: Vec<String>,
    }
    let Arguments { ids } = Arguments::deserialize(arguments)?;
    bounded("ids", ids.len())?;
    let (mut memories, mut missing) = (Vec::new(), Vec::new());
    for id in ids {
        match recall.item(&id)? {
            Some(item) => memories.push(shown(&item, recall.scope)),
            None => missing.push(id),
        }
    }
    Answer::of(json!({ "memories": memories, "missing": missing }))
}

/// By the first words of the memory, and by its vector in the first space in which it has one.
fn related(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Arguments {
        id: String,
        namespace: Option<String>,
        limit: Option<u64>,
    }
    let Arguments { id, namespace, limit } = Arguments::deserialize(arguments)?;
    let item = recall.item(&id)?.ok_or_else(|| missing(&id))?;
    // It is among the best itself.
    let limit = limit.unwrap_or(10).min(MOST_HITS);
    let conditions = Conditions { namespace, limit: Some(limit + 1), ..Conditions::default() };
    // Neither phrases nor beginnings of words are meant.
    let words =
        item.content.split(|c: char| c.is_whitespace() || matches!(c, '"' | '*')).filter(|word| !word.is_empty());
    let mut query = conditions.query(recall)?.words(words.take(WORDS_OF_ONE).collect::<Vec<_>>().join(" "));
    if let Some(space) = item.spaces().first() {
        query = query.like(space, item.id);
    }
    let mut found = recall.state.find(&query)?.hits;
    found.retain(|hit| hit.item.id != item.id);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Answer::of(hits(&found, recall.scope))
}

fn list_tags(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let Namespaced { namespace } = Namespaced::deserialize(arguments)?;
    let mut tags = recall.state.tags(recall.scope.namespace(namespace.as_deref())?)?;
    tags.sort_by_key(|of| Reverse(of.items));
    let tags: Vec<Value> = tags.iter().map(|of| json!({ "tag": of.tag, "memories": of.items })).collect();
    Answer::of(json!({ "tags": tags }))
}

#[derive(Deserialize)]
struct Namespaced {
    namespace: Option<String>,
}

fn usage(recall: &Recall<'_>, arguments: &Value) -> Result<Answer, Failure> {
    let Namespaced { namespace } = Namespaced::deserialize(arguments)?;
    let namespace = recall.scope.namespace(namespace.as_deref())?;
    let counts = |info: &NamespaceInfo| {
        json!({
            "namespace": recall.scope.shown(&info.namespace),
            "own_items": info.own_items,
            "own_bytes": info.own_bytes,
            "items": info.items,
            "bytes": info.bytes,
        })
    };
    let spaces = recall.state.spaces();
    let spaces = spaces.iter().map(|(name, space)| json!({ "name": name, "dimension": space.dimension() }));
    Answer::of(json!({
        "usage": counts(&recall.state.usage(&namespace)?),
        "namespaces": recall.state.namespaces(&namespace)?.iter().map(counts).collect::<Vec<_>>(),
        "limits": limits(recall, namespace)?,
        "spaces": spaces.collect::<Vec<_>>(),
        "fields": recall.state.fields(),
    }))
}

/// The limits that a namespace is under, its own first.
fn limits(recall: &Recall<'_>, namespace: Namespace) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    let mut above = Some(namespace);
    while let Some(namespace) = above {
        let Values { items, bytes, jobs, rate } =
            Values::deserialize(serde_json::to_value(recall.state.limits(&namespace)?)?)?;
        let mut limits = Map::new();
        limits.insert("namespace".to_owned(), json!(namespace));
        let seconds = rate.map(|(_, micros)| Duration::from_micros(micros).as_secs_f64());
        let operations = rate.map(|rate| rate.0);
        let counts = [("items", items), ("bytes", bytes), ("jobs", jobs), ("operations", operations)];
        let values = counts.map(|(name, count)| (name, json!(count))).into_iter().chain([("seconds", json!(seconds))]);
        limits.extend(values.filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)));
        if limits.len() > 1 {
            found.push(Value::Object(limits));
        }
        above = namespace.parent();
    }
    Ok(found)
}

/// Limits as they are written: a rate is a number of operations, and in how many microseconds.
#[derive(Deserialize)]
struct Values {
    items: Option<u64>,
    bytes: Option<u64>,
    jobs: Option<u64>,
    rate: Option<(u64, u64)>,
}
