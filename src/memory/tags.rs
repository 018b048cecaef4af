//! Which tags there are, by their index: the items are not read.

use crate::memory::error::{MemoryError, Result};
use crate::memory::load;
use crate::memory::namespace::Namespace;
use crate::memory::scope;
use crate::memory::snapshot::MemorySnapshot;
use crate::memory::tables::{Number, Reader, Table};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A tag, and how many items have it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct TagInfo {
    /// The tag.
    pub tag: String,
    /// How many items have it; expired ones count until they are swept.
    pub items: u64,
}

impl MemorySnapshot {
    /// See [`Memory::tags`](super::Memory::tags).
    ///
    /// ```
    /// # let memory = memstone::memory::Memory::new(memstone::Store::in_memory()?);
    /// # use memstone::memory::Draft;
    /// memory.add("ada", Draft::new("likes tea").tags(["habits"]))?;
    /// let snapshot = memory.snapshot()?;
    /// assert_eq!((snapshot.tags("ada")?[0].tag.as_str(), snapshot.tags("bob")?.len()), ("habits", 0));
    /// # Ok::<(), memstone::memory::MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn tags<N>(&self, under: N) -> Result<Vec<TagInfo>>
    where
        N: TryInto<Namespace, Error: Into<MemoryError>>,
    {
        let under = under.try_into().map_err(Into::into)?;
        let (reader, mut counts) = (self.reader(), BTreeMap::new());
        for (_, row) in scope::namespaces(&reader, &under, true)? {
            if row.own.items > 0 {
                count(&reader, row.number, &mut counts)?;
            }
        }
        Ok(counts.into_iter().map(|(tag, items)| TagInfo { tag, items }).collect())
    }
}

/// Adds up the tags of one namespace: the first entry of each tag names it, and the next tag is looked for behind all of its
/// entries.
fn count(reader: &Reader<'_>, namespace: Number, counts: &mut BTreeMap<String, u64>) -> Result<()> {
    let end = scope::after(&namespace.to_be_bytes());
    let mut from = Bound::Included(namespace.to_be_bytes().to_vec());
    loop {
        let rows = reader.range(Table::Tags, from.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice))?;
        let Some(row) = { rows }.next() else { return Ok(()) };
        let (key, _) = row?;
        let tag = tag_of(&key).ok_or_else(|| Table::Tags.damaged(&key, "not a tag and an item"))?;
        let prefix = load::tag_key(namespace, tag);
        let behind = scope::after(&prefix);
        let items = reader.count(Table::Tags, Bound::Included(&prefix), behind.as_ref().map(Vec::as_slice))?;
        *counts.entry(tag.to_owned()).or_default() += items;
        from = match behind {
            Bound::Excluded(next) => Bound::Included(next),
            _ => return Ok(()),
        };
    }
}

/// Behind the number of the namespace, and before the 0 and the number of the item.
fn tag_of(key: &[u8]) -> Option<&str> {
    let tag = key.get(size_of::<Number>()..key.len().checked_sub(5)?)?;
    std::str::from_utf8(tag).ok()
}
