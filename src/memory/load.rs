//! Reading items, and the entries that the indexes have of them.

use crate::memory::error::{MemoryError, Result};
use crate::memory::field;
use crate::memory::id::ItemId;
use crate::memory::item::{Item, content_hash};
use crate::memory::namespace::Namespace;
use crate::memory::rows::{NamespaceRow, Row};
use crate::memory::settings::Settings;
use crate::memory::tables::{Number, Place, Reader, Table, key};
use crate::memory::text::Text;
use crate::memory::time::Timestamp;
use std::collections::BTreeSet;

/// The two orders of the index by time.
pub(super) const CREATED: u8 = 0;
pub(super) const UPDATED: u8 = 1;

/// An entry of an index without values.
pub(super) type Entry = (Table, Vec<u8>);

/// The row of a namespace, if it holds anything.
pub(super) fn namespace_row(reader: &Reader<'_>, namespace: &Namespace) -> Result<Option<NamespaceRow>> {
    let key = namespace.key();
    let row = reader.get(Table::Namespaces, &key)?;
    row.map(|row| NamespaceRow::parse(&key, &row)).transpose()
}

/// The path of a namespace.
pub(super) fn path(reader: &Reader<'_>, number: Number) -> Result<Namespace> {
    let key = number.to_be_bytes();
    let path = reader.get(Table::Numbers, &key)?;
    let path = path.and_then(|path| Namespace::from_key(&path));
    path.ok_or_else(|| Table::Numbers.damaged(&key, "not the path of a namespace"))
}

/// Where an item is, expired or not.
pub(super) fn place(reader: &Reader<'_>, id: ItemId) -> Result<Option<Place>> {
    let Some(place) = reader.get(Table::Ids, id.as_bytes())? else { return Ok(None) };
    match Place::at_end(&place).filter(|_| place.len() == 8) {
        Some(place) => Ok(Some(place)),
        None => Err(Table::Ids.damaged(id.as_bytes(), "not a place")),
    }
}

/// The item at a place, expired or not.
pub(super) fn id_at(reader: &Reader<'_>, place: Place) -> Result<Option<ItemId>> {
    let row = reader.get(Table::Items, &place.key())?;
    row.map(|row| Row::parse(place, &row).map(|row| row.id)).transpose()
}

/// An item that is still to be found, and where it is.
pub(super) fn live(
    reader: &Reader<'_>,
    settings: &Settings,
    id: ItemId,
    now: Timestamp,
) -> Result<Option<(Place, Item)>> {
    let Some(place) = place(reader, id)? else { return Ok(None) };
    let Some(row) = reader.get(Table::Items, &place.key())? else { return Ok(None) };
    let row = Row::parse(place, &row)?;
    if !row.is_live(now) {
        return Ok(None);
    }
    Ok(Some((place, row.item(place, path(reader, place.namespace)?, settings)?)))
}

/// An item's vector in a space.
pub(super) fn vector(reader: &Reader<'_>, settings: &Settings, place: Place, space: &str) -> Result<Option<Vec<f32>>> {
    let numbered = settings.space(space)?;
    let Some(row) = numbered.get(reader, place)? else { return Ok(None) };
    let vector = numbered.space.decode(&row);
    vector.map(Some).ok_or_else(|| Table::Vectors.damaged(&place.key(), format!("not a vector of {}", numbered.space)))
}

/// The terms of an item's text.
pub(super) fn text(reader: &Reader<'_>, place: Place) -> Result<Text> {
    let row = reader.get(Table::Texts, &place.key())?;
    row.and_then(|row| Text::decode(&row)).ok_or_else(|| Table::Texts.damaged(&place.key(), "not the terms of a text"))
}

/// Bytes of the vectors in these spaces.
pub(super) fn vector_bytes(settings: &Settings, bits: u64) -> u64 {
    settings.spaces_of(bits).map(|numbered| numbered.space.row_size() as u64).sum()
}

/// The prefix of the index by content.
pub(super) fn hash_key(namespace: Number, content: &str) -> Vec<u8> {
    let hash = content_hash(content);
    key(&[&namespace.to_be_bytes(), hash.first_chunk::<16>().map_or(&[][..], |half| half)])
}

/// The prefix of the index by tags.
pub(super) fn tag_key(namespace: Number, tag: &str) -> Vec<u8> {
    key(&[&namespace.to_be_bytes(), tag.as_bytes(), &[0]])
}

/// The prefix of the index by time.
pub(super) fn time_key(namespace: Number, order: u8, time: Timestamp) -> Vec<u8> {
    key(&[&namespace.to_be_bytes(), &[order], &time.as_micros().to_be_bytes()])
}

/// The prefix of the index by a field.
pub(super) fn field_key(namespace: Number, field: u16, value: &[u8]) -> Vec<u8> {
    key(&[&namespace.to_be_bytes(), &field.to_be_bytes(), value])
}

/// All that the indexes without values have of an item.
pub(super) fn entries(settings: &Settings, place: Place, item: &Item) -> BTreeSet<Entry> {
    let (namespace, number) = (place.namespace, place.number.to_be_bytes());
    let mut entries = BTreeSet::new();
    let mut add = |table, prefix: Vec<u8>| {
        entries.insert((table, [&prefix[..], &number].concat()));
    };
    add(Table::Hashes, hash_key(namespace, &item.content));
    add(Table::Times, time_key(namespace, CREATED, item.created));
    add(Table::Times, time_key(namespace, UPDATED, item.updated));
    item.tags.iter().for_each(|tag| add(Table::Tags, tag_key(namespace, tag)));
    for (field, name) in settings.fields() {
        let values = field::keys(&item.metadata, name);
        values.iter().for_each(|value| add(Table::Fields, field_key(namespace, field, value)));
    }
    if let Some(time) = item.expires {
        add(Table::Expiries, key(&[&time.as_micros().to_be_bytes(), &namespace.to_be_bytes()]));
    }
    entries
}

/// The error for an item that is gone.
pub(super) fn not_found(id: ItemId) -> MemoryError {
    MemoryError::NotFound { id }
}
