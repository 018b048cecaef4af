//! What is searched for.

use crate::memory::error::{MemoryError, Result};
use crate::memory::id::ItemId;
use crate::memory::item::Item;
use crate::memory::language::Language;
use crate::memory::namespace::Namespace;
use crate::memory::tables::Place;
use crate::memory::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

/// The order of hits that are not ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Order {
    /// The one that was added last comes first.
    #[default]
    Newest,
    /// The one that was added first comes first.
    Oldest,
    /// The one that was changed last comes first.
    LastUpdated,
}

/// What a search looks for, among which items.
///
/// With words, items are ranked by BM25; with a vector, by how alike theirs is; with both, by reciprocal rank fusion of
/// the two lists. With neither, they come by time. All conditions hold at once, and are applied before anything is ranked.
///
/// ```
/// use memstone::memory::{Query, Timestamp};
/// let query = Query::new()
///     .under("ada")
///     .tag("habits")
///     .field("source", "chat")
///     .created(Timestamp::from_micros(0)..)
///     .words("\"green tea\" morn*")
///     .vector("small", [0.1, 0.7, 0.2])
///     .limit(5);
/// ```
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, Order, Query, Space, Timestamp};
/// memory.declare_space("small", Space::new(2))?;
/// let tea = memory.add("ada", Draft::new("likes green tea").vector("small", [1.0, 0.0]))?.id;
/// let walk = memory.add("ada/chat", Draft::new("walks to work").vector("small", [0.9, 0.1]))?.id;
/// let found = |query: Query| -> Result<Vec<_>, memstone::memory::MemoryError> {
///     Ok(memory.find(&query)?.hits.iter().map(|hit| hit.item.id).collect())
/// };
/// assert_eq!(found(Query::new().only_in("ada"))?, [tea]);
/// assert_eq!(found(Query::new().words("green walks").every_word())?, []);
/// assert_eq!(found(Query::new().like("small", tea).at_least(0.5))?, [walk]);
/// assert_eq!(found(Query::new().order(Order::Oldest).updated(Timestamp::MIN..))?, [tea, walk]);
/// let page = memory.find(&Query::new().order(Order::Oldest).limit(1))?;
/// assert_eq!(found(Query::new().order(Order::Oldest).after(page.next.unwrap()))?, [walk]);
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Query {
    under: std::result::Result<Namespace, String>,
    pub(super) below: bool,
    pub(super) tags: Vec<String>,
    pub(super) created: (Bound<Timestamp>, Bound<Timestamp>),
    pub(super) updated: (Bound<Timestamp>, Bound<Timestamp>),
    pub(super) fields: Vec<(String, FieldRange)>,
    pub(super) words: Option<String>,
    pub(super) every: bool,
    pub(super) vector: Option<(String, Likeness)>,
    pub(super) at_least: f32,
    pub(super) order: Order,
    pub(super) after: Option<Cursor>,
    pub(super) limit: usize,
}

/// The values of a field that are searched for.
pub(super) type FieldRange = (Bound<Value>, Bound<Value>);

/// What vectors are compared with.
#[derive(Debug, Clone)]
pub(super) enum Likeness {
    Vector(Vec<f32>),
    Item(ItemId),
}

const EVERY_TIME: (Bound<Timestamp>, Bound<Timestamp>) = (Bound::Unbounded, Bound::Unbounded);

impl Default for Query {
    fn default() -> Query {
        Query {
            under: Ok(Namespace::root()),
            below: true,
            tags: Vec::new(),
            created: EVERY_TIME,
            updated: EVERY_TIME,
            fields: Vec::new(),
            words: None,
            every: false,
            vector: None,
            at_least: f32::NEG_INFINITY,
            order: Order::default(),
            after: None,
            limit: 10,
        }
    }
}

impl Query {
    /// All items, the newest first, ten of them.
    #[must_use]
    pub fn new() -> Query {
        Query::default()
    }

    /// Only in this namespace and below it. One that cannot be a namespace is an error of the search.
    #[must_use]
    pub fn under<N: TryInto<Namespace, Error: Into<MemoryError>>>(mut self, namespace: N) -> Query {
        self.under = namespace.try_into().map_err(|error| error.into().to_string());
        self.below = true;
        self
    }

    /// Only in this namespace, not below it.
    #[must_use]
    pub fn only_in<N: TryInto<Namespace, Error: Into<MemoryError>>>(self, namespace: N) -> Query {
        Query { below: false, ..self.under(namespace) }
    }

    /// Only items with this tag. Several calls ask for all of the tags.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Query {
        self.tags.push(tag.into());
        self
    }

    /// Only items that were added in this time.
    #[must_use]
    pub fn created(mut self, range: impl RangeBounds<Timestamp>) -> Query {
        self.created = (range.start_bound().cloned(), range.end_bound().cloned());
        self
    }

    /// Only items that were changed last in this time.
    #[must_use]
    pub fn updated(mut self, range: impl RangeBounds<Timestamp>) -> Query {
        self.updated = (range.start_bound().cloned(), range.end_bound().cloned());
        self
    }

    /// Only items whose metadata field has this value, or an array with it. The field must be declared
    /// ([`Memory::declare_field`](super::Memory::declare_field)).
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Query {
        let value = value.into();
        self.fields.push((name.into(), (Bound::Included(value.clone()), Bound::Included(value))));
        self
    }

    /// Only items whose metadata field has a value in this range: of numbers, or of texts.
    ///
    /// ```
    /// # use memstone::memory::Query;
    /// let query = Query::new().field_range("stars", 3..).field_range("author", "a".to_owned().."n".to_owned());
    /// ```
    #[must_use]
    pub fn field_range<V: Into<Value> + Clone>(mut self, name: impl Into<String>, range: impl RangeBounds<V>) -> Query {
        let value = |bound: Bound<&V>| bound.map(|value| value.clone().into());
        self.fields.push((name.into(), (value(range.start_bound()), value(range.end_bound()))));
        self
    }

    /// Ranks items by these words: those that have any of them, rare words first. `"two words"` in quotation marks must
    /// stand in the text like that; `begin*` stands for all words with that beginning.
    #[must_use]
    pub fn words(mut self, words: impl Into<String>) -> Query {
        self.words = Some(words.into());
        self
    }

    /// Only items that have all of the words.
    #[must_use]
    pub fn every_word(mut self) -> Query {
        self.every = true;
        self
    }

    /// Ranks items by how alike their vectors in this space are to this one.
    #[must_use]
    pub fn vector(mut self, space: impl Into<String>, vector: impl Into<Vec<f32>>) -> Query {
        self.vector = Some((space.into(), Likeness::Vector(vector.into())));
        self
    }

    /// Ranks items by how alike their vectors in this space are to that of an item, which is not among the hits.
    #[must_use]
    pub fn like(mut self, space: impl Into<String>, item: ItemId) -> Query {
        self.vector = Some((space.into(), Likeness::Item(item)));
        self
    }

    /// Only vectors that are at least so alike, by the metric of their space.
    #[must_use]
    pub fn at_least(mut self, similarity: f32) -> Query {
        self.at_least = similarity;
        self
    }

    /// The order of hits that are not ranked.
    #[must_use]
    pub fn order(mut self, order: Order) -> Query {
        self.order = order;
        self
    }

    /// Goes on where another search ended ([`Found::next`]) that had the same order and no ranking.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Query {
        self.after = Some(cursor);
        self
    }

    /// So many hits at most.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Query {
        self.limit = limit;
        self
    }

    pub(super) fn namespace(&self) -> Result<&Namespace> {
        self.under.as_ref().map_err(|reason| MemoryError::invalid("query", reason.clone()))
    }
}

/// Where a search ended. As text it can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(super) time: Timestamp,
    pub(super) place: Place,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.time.as_micros(), self.place.namespace, self.place.number)
    }
}

impl FromStr for Cursor {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Cursor> {
        let parse = || {
            let mut parts = text.split('-');
            let time = Timestamp::from_micros(u64::from_str_radix(parts.next()?, 16).ok()?);
            let namespace = u32::from_str_radix(parts.next()?, 16).ok()?;
            let number = u32::from_str_radix(parts.next()?, 16).ok()?;
            parts.next().is_none().then_some(Cursor { time, place: Place { namespace, number } })
        };
        parse().ok_or_else(|| MemoryError::invalid("cursor", format!("{text:?}")))
    }
}

/// One item that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Hit {
    /// The item.
    pub item: Item,
    /// What it is ranked by, more is better: BM25, the similarity, or the sum of reciprocal ranks; 0 without a ranking.
    pub score: f64,
    /// Its BM25 score, if it is among the best by words.
    pub words: Option<f64>,
    /// How alike its vector is, if it is among the best by that.
    pub similarity: Option<f64>,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// The best first.
    pub hits: Vec<Hit>,
    /// Where to go on, if the hits came by time and there may be more.
    pub next: Option<Cursor>,
    /// How many rows the search has read.
    pub rows_read: u64,
}

/// Words of a query, taken apart.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) terms: Vec<Wanted>,
    /// Terms that must follow each other.
    pub(super) phrases: Vec<Vec<String>>,
}

/// A term, or the beginning of one.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) term: String,
    /// Terms with this beginning count as well.
    pub(super) beginning: Option<String>,
    /// No item without it is found.
    pub(super) required: bool,
}

impl Words {
    pub(super) fn new(language: Language, text: &str, every: bool) -> Words {
        let mut words = Words::default();
        // Every second part stands between quotation marks.
        for (at, part) in text.split('"').enumerate() {
            if at % 2 == 1 {
                let phrase = language.terms(part);
                phrase.iter().for_each(|term| words.want(term.clone(), None, true));
                words.phrases.extend((phrase.len() > 1).then_some(phrase));
                continue;
            }
            for chunk in part.split_whitespace() {
                let mut terms = language.terms(chunk);
                if let Some((word, stem)) = chunk.strip_suffix('*').and_then(|chunk| language.beginning(chunk)) {
                    terms.pop();
                    words.want(stem, Some(word), every);
                }
                terms.into_iter().for_each(|term| words.want(term, None, every));
            }
        }
        words
    }

    fn want(&mut self, term: String, beginning: Option<String>, required: bool) {
        match self.terms.iter_mut().find(|wanted| wanted.term == term && wanted.beginning == beginning) {
            Some(wanted) => wanted.required |= required,
            None => self.terms.push(Wanted { term, beginning, required }),
        }
    }
}
