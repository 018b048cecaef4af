//! The bytes of rows: items and namespaces.

use crate::memory::error::Result;
use crate::memory::id::ItemId;
use crate::memory::item::Item;
use crate::memory::namespace::Namespace;
use crate::memory::settings::Settings;
use crate::memory::tables::{Number, Place, Table};
use crate::memory::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Takes numbers and slices off the front of a row.
pub(super) struct Fields<'b>(pub(super) &'b [u8]);

impl<'b> Fields<'b> {
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A slice behind its length.
    fn slice(&mut self) -> Option<&'b [u8]> {
        let len = self.u32()?;
        self.bytes(len as usize)
    }
}

/// An item's row: id, created, updated, expires (`u64::MAX`: never), version, duplicates, spaces (a bit each), content
/// and metadata (JSON) behind their lengths, and tags with bytes of 0 between them.
pub(super) struct Row<'b> {
    pub(super) id: ItemId,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) version: u64,
    pub(super) duplicates: u64,
    pub(super) spaces: u64,
    pub(super) content: &'b str,
    metadata: &'b [u8],
    tags: &'b str,
}

impl<'b> Row<'b> {
    pub(super) fn parse(place: Place, bytes: &'b [u8]) -> Result<Row<'b>> {
        let parse = || {
            let mut fields = Fields(bytes);
            Some(Row {
                id: ItemId::from_bytes(fields.array()?),
                created: Timestamp::from_micros(fields.u64()?),
                updated: Timestamp::from_micros(fields.u64()?),
                expires: Timestamp::from_micros(fields.u64()?),
                version: fields.u64()?,
                duplicates: fields.u64()?,
                spaces: fields.u64()?,
                content: std::str::from_utf8(fields.slice()?).ok()?,
                metadata: fields.slice()?,
                tags: std::str::from_utf8(fields.0).ok()?,
            })
        };
        parse().ok_or_else(|| Table::Items.damaged(&place.key(), "not the row of an item"))
    }

    /// Whether it is still to be found.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.expires > now
    }

    pub(super) fn item(&self, place: Place, namespace: Namespace, settings: &Settings) -> Result<Item> {
        let metadata = serde_json::from_slice(self.metadata)
            .map_err(|error| Table::Items.damaged(&place.key(), format!("metadata: {error}")))?;
        Ok(Item {
            id: self.id,
            namespace,
            content: self.content.to_owned(),
            metadata,
            tags: self.tags.split('\0').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            expires: (self.expires != Timestamp::MAX).then_some(self.expires),
            created: self.created,
            updated: self.updated,
            version: self.version,
            duplicates: self.duplicates,
            spaces: settings.space_names(self.spaces),
            vectors: BTreeMap::new(),
        })
    }
}

/// The row of an item that has vectors in these spaces.
pub(super) fn encode_item(item: &Item, spaces: u64) -> Result<Vec<u8>> {
    let metadata = serde_json::to_vec(&item.metadata)
        .map_err(|error| crate::memory::MemoryError::invalid("metadata", error.to_string()))?;
    if metadata.len() > super::MAX_METADATA {
        let reason = format!("{} bytes, and {} are the limit", metadata.len(), super::MAX_METADATA);
        return Err(crate::memory::MemoryError::invalid("metadata", reason));
    }
    let tags = item.tags.iter().map(String::as_str).collect::<Vec<_>>().join("\0");
    let mut row = Vec::with_capacity(72 + item.content.len() + metadata.len() + tags.len());
    row.extend_from_slice(item.id.as_bytes());
    let expires = item.expires.unwrap_or(Timestamp::MAX);
    for time in [item.created, item.updated, expires] {
        row.extend_from_slice(&time.as_micros().to_be_bytes());
    }
    for number in [item.version, item.duplicates, spaces] {
        row.extend_from_slice(&number.to_be_bytes());
    }
    for part in [item.content.as_bytes(), &metadata] {
        let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
        row.extend_from_slice(&len.to_be_bytes());
        row.extend_from_slice(part);
    }
    row.extend_from_slice(tags.as_bytes());
    Ok(row)
}

/// How many items, of how many bytes: rows of items and of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) items: u64,
    pub(super) bytes: u64,
}

/// What is known of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NamespaceRow {
    pub(super) number: Number,
    /// The number of the next item.
    pub(super) next: u32,
    /// Its own items, without those of namespaces below.
    pub(super) own: Counts,
    /// The lengths of its own items' texts, in words.
    pub(super) words: u64,
    /// With all namespaces below it.
    pub(super) total: Counts,
}

impl NamespaceRow {
    pub(super) fn parse(key: &[u8], bytes: &[u8]) -> Result<NamespaceRow> {
        let parse = || {
            let mut fields = Fields(bytes);
            let (number, next) = (fields.u32()?, fields.u32()?);
            let own = Counts { items: fields.u64()?, bytes: fields.u64()? };
            let words = fields.u64()?;
            let total = Counts { items: fields.u64()?, bytes: fields.u64()? };
            Some(NamespaceRow { number, next, own, words, total })
        };
        parse().ok_or_else(|| Table::Namespaces.damaged(key, "not the row of a namespace"))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.number, self.next].map(u32::to_be_bytes);
        let counts = [self.own.items, self.own.bytes, self.words, self.total.items, self.total.bytes];
        [numbers.concat(), counts.map(u64::to_be_bytes).concat()].concat()
    }
}

/// The names of spaces as bits.
pub(super) fn space_bits(numbers: &BTreeSet<u8>) -> u64 {
    numbers.iter().fold(0, |bits, number| bits | 1_u64.checked_shl(u32::from(*number)).unwrap_or(0))
}
