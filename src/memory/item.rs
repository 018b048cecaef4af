//! Items, as callers see and make them.

use crate::memory::error::{MemoryError, Result};
use crate::memory::id::ItemId;
use crate::memory::namespace::Namespace;
use crate::memory::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Largest content of an item, in bytes.
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, MAX_CONTENT};
/// let draft = |size| Draft::new("x".repeat(size));
/// assert!(memory.add("ada", draft(MAX_CONTENT / 2)).is_ok());
/// assert!(memory.add("bob", draft(MAX_CONTENT + 1)).is_err());
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
pub const MAX_CONTENT: usize = 4 << 20;
/// Largest metadata of an item, in bytes as JSON.
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, MAX_METADATA};
/// let draft = |size| Draft::new("a").metadata("text", "x".repeat(size));
/// assert!(memory.add("ada", draft(MAX_METADATA / 2)).is_ok());
/// assert!(memory.add("bob", draft(MAX_METADATA + 1)).is_err());
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
pub const MAX_METADATA: usize = 1 << 20;
/// No metadata is nested deeper.
const MAX_DEPTH: usize = 64;
/// No item has more tags.
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, MAX_TAGS};
/// let draft = |count| Draft::new("a").tags((0..count).map(|tag| tag.to_string()));
/// assert!(memory.add("ada", draft(MAX_TAGS)).is_ok());
/// assert!(memory.add("bob", draft(MAX_TAGS + 1)).is_err());
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
pub const MAX_TAGS: usize = 256;
/// No tag has more bytes.
const MAX_TAG: usize = 200;

/// One item.
///
/// Content, metadata, tags, expiry, namespace and vectors may be edited ([`Memory::update`](super::Memory::update),
/// [`Memory::put_if`](super::Memory::put_if)); the layer keeps the rest, and ignores changes of it.
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, Space};
/// memory.declare_space("small", Space::new(2))?;
/// memory.declare_space("large", Space::new(3))?;
/// let id = memory.add("ada", Draft::new("likes tea").vector("small", [1.0, 0.0]))?.id;
/// let before = memory.get(id)?.unwrap().content_hash();
/// let item = memory.update(id, |item| {
///     item.content.push_str(" and walks");
///     item.remove_vector("small");
///     item.set_vector("large", [0.0, 1.0, 0.0]);
/// })?;
/// assert_ne!(item.content_hash(), before);
/// assert_eq!(memory.get(id)?.unwrap().spaces().iter().collect::<Vec<_>>(), ["large"]);
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Item {
    /// Its id, which never changes.
    pub id: ItemId,
    /// Where it is. Another value moves it.
    pub namespace: Namespace,
    /// Its text.
    pub content: String,
    /// A JSON object.
    pub metadata: Map<String, Value>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// From when on it is no longer found.
    pub expires: Option<Timestamp>,
    /// When it was added.
    pub created: Timestamp,
    /// When it was changed last.
    pub updated: Timestamp,
    /// 1 when it was added, and one more with each change.
    pub version: u64,
    /// How often the same content was added again.
    pub duplicates: u64,
    /// The spaces in which it has vectors.
    pub(super) spaces: BTreeSet<String>,
    /// Changes of its vectors.
    #[serde(skip)]
    pub(super) vectors: BTreeMap<String, Option<Vec<f32>>>,
}

impl Item {
    /// The names of the spaces in which it has vectors. Read one with [`Memory::vector`](super::Memory::vector).
    #[must_use]
    pub fn spaces(&self) -> &BTreeSet<String> {
        &self.spaces
    }

    /// Sets its vector in a space, when the item is stored.
    pub fn set_vector(&mut self, space: impl Into<String>, vector: impl Into<Vec<f32>>) {
        self.vectors.insert(space.into(), Some(vector.into()));
    }

    /// Removes its vector from a space, when the item is stored.
    pub fn remove_vector(&mut self, space: impl Into<String>) {
        self.vectors.insert(space.into(), None);
    }

    /// The BLAKE3 hash of the content.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        content_hash(&self.content)
    }

    /// Applies a JSON merge patch (RFC 7396) to the members `content`, `metadata`, `tags` and `expires` (microseconds
    /// since 1970, or null).
    pub(super) fn merge(&mut self, patch: &Value) -> Result<()> {
        let wrong = |reason: String| MemoryError::Invalid { what: "patch", reason };
        let Value::Object(members) = patch else { return Err(wrong("it is not an object".to_owned())) };
        for (name, value) in members {
            match (name.as_str(), value) {
                ("content", Value::String(content)) => self.content.clone_from(content),
                ("metadata", Value::Null) => self.metadata.clear(),
                ("metadata", Value::Object(members)) => {
                    check_depth("metadata", value)?;
                    merge_objects(&mut self.metadata, members);
                }
                ("tags", Value::Null) => self.tags.clear(),
                ("tags", Value::Array(tags)) => {
                    let tag = |tag: &Value| tag.as_str().map(str::to_owned);
                    let tags = tags.iter().map(tag).collect::<Option<_>>();
                    self.tags = tags.ok_or_else(|| wrong("a tag is not a string".to_owned()))?;
                }
                ("expires", Value::Null) => self.expires = None,
                ("expires", Value::Number(number)) if number.is_u64() => {
                    self.expires = number.as_u64().map(Timestamp::from_micros);
                }
                ("content" | "metadata" | "tags" | "expires", _) => {
                    return Err(wrong(format!("{name} cannot be {value}")));
                }
                _ => return Err(wrong(format!("there is no member {name:?} to change"))),
            }
        }
        Ok(())
    }

    /// What may be stored.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what, reason| Err(MemoryError::Invalid { what, reason });
        if self.content.len() > MAX_CONTENT {
            return wrong("content", format!("{} bytes, and {MAX_CONTENT} are the limit", self.content.len()));
        }
        if self.tags.len() > MAX_TAGS {
            return wrong("tags", format!("{} of them, and {MAX_TAGS} are the limit", self.tags.len()));
        }
        for tag in &self.tags {
            if tag.is_empty() || tag.len() > MAX_TAG || tag.chars().any(char::is_control) {
                return wrong(
                    "tag",
                    format!("{tag:?} is empty, longer than {MAX_TAG} bytes, or has control characters"),
                );
            }
        }
        self.metadata.values().try_for_each(|value| check_depth("metadata", value))
    }
}

/// The first half of it is the key in the index.
pub(super) fn content_hash(content: &str) -> [u8; 32] {
    *blake3::hash(content.as_bytes()).as_bytes()
}

/// Without recursion: the depth is the caller's.
pub(super) fn check_depth(what: &'static str, value: &Value) -> Result<()> {
    let mut level = vec![value];
    for _ in 0..MAX_DEPTH {
        let inner = level.into_iter().flat_map(|value| match value {
            Value::Array(values) => values.iter().collect::<Vec<_>>(),
            Value::Object(members) => members.values().collect(),
            _ => Vec::new(),
        });
        level = inner.collect();
        if level.is_empty() {
            return Ok(());
        }
    }
    Err(MemoryError::invalid(what, format!("nested deeper than {MAX_DEPTH}")))
}

/// As RFC 7396 has it: null removes, objects are merged, everything else replaces.
fn merge_objects(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(members) => {
                let place = target.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(inner) = place {
                    merge_objects(inner, members);
                }
            }
            _ => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

/// When a draft expires.
#[derive(Debug, Clone, Copy, Default)]
enum Expiry {
    #[default]
    Never,
    At(Timestamp),
    After(Duration),
}

/// An item to add: its content, and what goes with it.
///
/// ```
/// use memstone::memory::Draft;
/// use serde_json::json;
/// use std::time::Duration;
/// let draft = Draft::new("Ada drinks tea")
///     .metadata("source", json!("chat"))
///     .tags(["drinks", "habits"])
///     .vector("small", [0.1, 0.7, 0.2])
///     .expires_in(Duration::from_secs(86_400));
/// ```
///
/// ```
/// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
/// use memstone::memory::{Draft, ItemId, Timestamp};
/// use serde_json::{Map, json};
/// let id = ItemId::from_bytes([7; 16]);
/// let metadata = Map::from_iter([("source".to_owned(), json!("an older program"))]);
/// let moved = Draft::new("Ada drinks tea")
///     .id(id)
///     .created(Timestamp::from_micros(7))
///     .updated(Timestamp::from_micros(9), 3)
///     .duplicates(2)
///     .expires_at(Timestamp::MAX)
///     .all_metadata(metadata)
///     .keep_duplicate();
/// assert_eq!(memory.add("ada", moved)?.id, id);
/// let item = memory.get(id)?.unwrap();
/// assert_eq!((item.created.as_micros(), item.updated.as_micros(), item.version, item.duplicates), (7, 9, 3, 2));
/// # Ok::<(), memstone::memory::MemoryError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Draft {
    pub(super) id: Option<ItemId>,
    pub(super) content: String,
    pub(super) metadata: Map<String, Value>,
    pub(super) tags: BTreeSet<String>,
    pub(super) vectors: BTreeMap<String, Vec<f32>>,
    pub(super) created: Option<Timestamp>,
    updated: Option<(Timestamp, u64)>,
    duplicates: u64,
    pub(super) keep_duplicate: bool,
    expiry: Expiry,
}

impl Draft {
    /// A draft with this content, and nothing else.
    #[must_use]
    pub fn new(content: impl Into<String>) -> Draft {
        Draft { content: content.into(), ..Draft::default() }
    }

    /// Sets a member of the metadata.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Draft {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Sets all metadata.
    #[must_use]
    pub fn all_metadata(mut self, metadata: Map<String, Value>) -> Draft {
        self.metadata = metadata;
        self
    }

    /// Adds tags.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Draft {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Sets the vector in a space, which must be declared ([`Memory::declare_space`](super::Memory::declare_space)).
    #[must_use]
    pub fn vector(mut self, space: impl Into<String>, vector: impl Into<Vec<f32>>) -> Draft {
        self.vectors.insert(space.into(), vector.into());
        self
    }

    /// From this time on the item is no longer found.
    #[must_use]
    pub fn expires_at(mut self, time: impl Into<Timestamp>) -> Draft {
        self.expiry = Expiry::At(time.into());
        self
    }

    /// So long after it was added the item is no longer found.
    #[must_use]
    pub fn expires_in(mut self, duration: Duration) -> Draft {
        self.expiry = Expiry::After(duration);
        self
    }

    /// Sets the id, for an item that comes from elsewhere.
    #[must_use]
    pub fn id(mut self, id: ItemId) -> Draft {
        self.id = Some(id);
        self
    }

    /// Sets the time of creation, for an item that comes from elsewhere.
    #[must_use]
    pub fn created(mut self, time: impl Into<Timestamp>) -> Draft {
        self.created = Some(time.into());
        self
    }

    /// Sets the time of the last change, and the version that it made (at least 1), for an item that comes from elsewhere.
    #[must_use]
    pub fn updated(mut self, time: impl Into<Timestamp>, version: u64) -> Draft {
        self.updated = Some((time.into(), version.max(1)));
        self
    }

    /// Sets how often the same content was added again, for an item that comes from elsewhere.
    #[must_use]
    pub fn duplicates(mut self, number: u64) -> Draft {
        self.duplicates = number;
        self
    }

    /// Adds the item also if the namespace has one with the same content.
    #[must_use]
    pub fn keep_duplicate(mut self) -> Draft {
        self.keep_duplicate = true;
        self
    }

    /// The item that it becomes.
    pub(super) fn into_item(self, id: ItemId, namespace: Namespace, now: Timestamp) -> Item {
        let created = self.created.unwrap_or(now);
        let (updated, version) = self.updated.unwrap_or((created, 1));
        Item {
            id,
            namespace,
            content: self.content,
            metadata: self.metadata,
            tags: self.tags,
            expires: match self.expiry {
                Expiry::Never => None,
                Expiry::At(time) => Some(time),
                Expiry::After(duration) => Some(now + duration),
            },
            created,
            updated,
            version,
            duplicates: self.duplicates,
            spaces: BTreeSet::new(),
            vectors: self.vectors.into_iter().map(|(space, vector)| (space, Some(vector))).collect(),
        }
    }
}

impl From<&str> for Draft {
    fn from(content: &str) -> Draft {
        Draft::new(content)
    }
}

impl From<String> for Draft {
    fn from(content: String) -> Draft {
        Draft::new(content)
    }
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Added {
    /// The item's id: that of the item with the same content, if there was one.
    pub id: ItemId,
    /// Whether there was one. Then nothing but its count of duplicates was changed.
    pub duplicate: bool,
}
