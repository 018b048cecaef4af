//! Every change of an item goes through here: what it was, what it is to be, and all rows that follow from that.

use crate::memory::error::{MemoryError, Result};
use crate::memory::item::Item;
use crate::memory::limits::{self, Limits};
use crate::memory::load;
use crate::memory::namespace::Namespace;
use crate::memory::postings;
use crate::memory::rows::{Counts, NamespaceRow, Row, encode_item, space_bits};
use crate::memory::settings::{Settings, has_bit};
use crate::memory::tables::{Number, Place, Table, Writer};
use crate::memory::text::Text;
use crate::memory::time::Timestamp;
use crate::memory::vector_rows::Numbered;
use std::collections::{BTreeMap, BTreeSet};

/// An item as it is stored.
pub(super) struct Stored {
    pub(super) place: Place,
    version: Version,
}

/// One version of an item, and what its rows are made of.
struct Version {
    item: Item,
    /// The spaces in which it has vectors.
    spaces: u64,
    row: Vec<u8>,
    text: Text,
    /// Of the row and the vectors.
    bytes: u64,
}

/// New vectors, by their spaces; `None`: the vector goes.
type Vectors = Vec<(Numbered, Option<Vec<u8>>)>;

impl Stored {
    /// Reads an item, expired or not.
    pub(super) fn read(writer: &Writer<'_>, settings: &Settings, place: Place) -> Result<Stored> {
        let reader = &writer.reader;
        let row = reader.get(Table::Items, &place.key())?;
        let row =
            row.ok_or_else(|| Table::Items.damaged(&place.key(), "an index leads to an item that is not there"))?;
        let parsed = Row::parse(place, &row)?;
        let version = Version {
            item: parsed.item(place, load::path(reader, place.namespace)?, settings)?,
            spaces: parsed.spaces,
            bytes: row.len() as u64 + load::vector_bytes(settings, parsed.spaces),
            row: row.to_vec(),
            text: load::text(reader, place)?,
        };
        Ok(Stored { place, version })
    }

    pub(super) fn item(&self) -> &Item {
        &self.version.item
    }
}

impl Version {
    /// What an item is to be, and the changes of its vectors. Nothing is written.
    fn new(settings: &Settings, mut item: Item, before: Option<&Version>) -> Result<(Version, Vectors)> {
        item.check()?;
        // The last time stands for none.
        item.expires = item.expires.filter(|time| *time < Timestamp::MAX);
        let old = before.map_or(0, |before| before.spaces);
        let mut numbers: BTreeSet<u8> = (0..64).filter(|number| has_bit(old, *number)).collect();
        let mut vectors = Vectors::new();
        for (name, vector) in std::mem::take(&mut item.vectors) {
            let space = settings.space(&name)?;
            let row = vector.map(|vector| space.space.encode(&vector)).transpose()?;
            if row.is_some() {
                numbers.insert(space.number)
            } else {
                numbers.remove(&space.number)
            };
            vectors.push((space, row));
        }
        let spaces = space_bits(&numbers);
        item.spaces = settings.space_names(spaces);
        let row = encode_item(&item, spaces)?;
        let bytes = row.len() as u64 + load::vector_bytes(settings, spaces);
        let text = match before.filter(|before| before.item.content == item.content) {
            Some(before) => before.text.clone(),
            None => Text::new(settings.language, &item.content),
        };
        Ok((Version { item, spaces, row, text, bytes }, vectors))
    }
}

/// Whether a change takes a token of the namespace's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charge {
    /// A caller's change does, at this time.
    At(Timestamp),
    /// Housekeeping does not.
    Nothing,
}

/// Adds an item, and gives it as it is stored.
pub(super) fn add(writer: &Writer<'_>, settings: &Settings, item: Item, charge: Charge) -> Result<Item> {
    replace(writer, settings, None, item, charge)
}

/// Replaces an item, or adds it; another namespace moves it. If it is refused, nothing is changed.
pub(super) fn replace(
    writer: &Writer<'_>,
    settings: &Settings,
    before: Option<&Stored>,
    item: Item,
    charge: Charge,
) -> Result<Item> {
    let (after, vectors) = Version::new(settings, item, before.map(|before| &before.version))?;
    let stays = before.filter(|before| before.item().namespace == after.item.namespace);
    let plan = Plan::new(writer, before.map(|before| &before.version), Some(&after))?;
    if let Charge::At(now) = charge {
        limits::take(writer, &after.item.namespace, 1, now)?;
    }
    let new = plan.write(writer, &after.item.namespace, stays.is_none())?;
    let place = stays.map_or(new, |before| before.place);

    write_vectors(writer, settings, before, place, &vectors)?;
    match before.filter(|before| before.place == place) {
        Some(before) if before.version.text == after.text => {}
        Some(before) => {
            postings::remove(writer, place, &before.version.text)?;
            write_text(writer, place, &after.text)?;
        }
        None => {
            before.map_or(Ok(()), |before| remove_text(writer, before))?;
            write_text(writer, place, &after.text)?;
        }
    }
    write_entries(writer, settings, before, Some((place, &after.item)))?;
    if let Some(moved) = before.filter(|before| before.place != place) {
        writer.delete(Table::Items, &moved.place.key())?;
    }
    writer.put(Table::Items, &place.key(), &after.row)?;
    if before.is_none_or(|before| before.place != place) {
        writer.put(Table::Ids, after.item.id.as_bytes(), &place.key())?;
    }
    Ok(after.item)
}

/// Removes an item.
pub(super) fn remove(writer: &Writer<'_>, settings: &Settings, stored: &Stored, charge: Charge) -> Result<()> {
    let (item, place) = (stored.item(), stored.place);
    let plan = Plan::new(writer, Some(&stored.version), None)?;
    if let Charge::At(now) = charge {
        limits::take(writer, &item.namespace, 1, now)?;
    }
    plan.write(writer, &item.namespace, false)?;
    settings.spaces_of(stored.version.spaces).try_for_each(|space| space.delete(writer, place))?;
    remove_text(writer, stored)?;
    write_entries(writer, settings, Some(stored), None)?;
    writer.delete(Table::Items, &place.key())?;
    writer.delete(Table::Ids, item.id.as_bytes())
}

/// Counts one more duplicate of an item.
pub(super) fn count_duplicate(writer: &Writer<'_>, stored: &Stored, now: Timestamp) -> Result<()> {
    limits::take(writer, &stored.item().namespace, 1, now)?;
    let item = Item { duplicates: stored.item().duplicates.saturating_add(1), ..stored.item().clone() };
    writer.put(Table::Items, &stored.place.key(), &encode_item(&item, stored.version.spaces)?)
}

/// Makes the index of words anew, for another language.
pub(super) fn rewrite_text(writer: &Writer<'_>, settings: &Settings, place: Place) -> Result<usize> {
    let row = writer.reader.get(Table::Items, &place.key())?;
    let row = row.ok_or_else(|| Table::Items.damaged(&place.key(), "the item is gone"))?;
    let text = Text::new(settings.language, Row::parse(place, &row)?.content);
    write_text(writer, place, &text)?;
    Ok(text.len())
}

fn write_text(writer: &Writer<'_>, place: Place, text: &Text) -> Result<()> {
    postings::add(writer, place, text)?;
    writer.put(Table::Texts, &place.key(), &text.encode())
}

fn remove_text(writer: &Writer<'_>, stored: &Stored) -> Result<()> {
    postings::remove(writer, stored.place, &stored.version.text)?;
    writer.delete(Table::Texts, &stored.place.key())
}

/// Writes the vectors that are new, and takes the others along if the item moves.
fn write_vectors(
    writer: &Writer<'_>,
    settings: &Settings,
    before: Option<&Stored>,
    place: Place,
    vectors: &Vectors,
) -> Result<()> {
    if let Some(before) = before.filter(|before| before.place != place) {
        for space in settings.spaces_of(before.version.spaces) {
            if let Some(row) = space.get(&writer.reader, before.place)? {
                space.put(writer, place, &row)?;
            }
            space.delete(writer, before.place)?;
        }
    }
    vectors.iter().try_for_each(|(space, row)| match row {
        Some(row) => space.put(writer, place, row),
        None => space.delete(writer, place),
    })
}

/// Writes what differs between the entries of two versions.
fn write_entries(
    writer: &Writer<'_>,
    settings: &Settings,
    before: Option<&Stored>,
    after: Option<(Place, &Item)>,
) -> Result<()> {
    let old = before.map(|stored| load::entries(settings, stored.place, stored.item())).unwrap_or_default();
    let new = after.map(|(place, item)| load::entries(settings, place, item)).unwrap_or_default();
    old.difference(&new).try_for_each(|(table, key)| writer.delete(*table, key))?;
    new.difference(&old).try_for_each(|(table, key)| writer.put(*table, key, b""))
}

/// What a namespace has more, or less, after a change.
#[derive(Default)]
struct Delta {
    own: Difference,
    words: i128,
    total: Difference,
}

#[derive(Default)]
struct Difference {
    items: i128,
    bytes: i128,
}

impl Difference {
    fn add(&mut self, sign: i128, version: &Version) {
        self.items += sign;
        self.bytes += sign * i128::from(version.bytes);
    }

    fn apply(&self, counts: Counts) -> Counts {
        Counts { items: sum(counts.items, self.items), bytes: sum(counts.bytes, self.bytes) }
    }
}

fn sum(count: u64, difference: i128) -> u64 {
    u64::try_from((i128::from(count) + difference).max(0)).unwrap_or(u64::MAX)
}

/// The new rows of the namespaces that a change concerns; no quota forbids them.
struct Plan {
    rows: Vec<(Namespace, Option<NamespaceRow>, NamespaceRow)>,
}

impl Plan {
    fn new(writer: &Writer<'_>, before: Option<&Version>, after: Option<&Version>) -> Result<Plan> {
        let mut deltas: BTreeMap<Namespace, Delta> = BTreeMap::new();
        for (sign, version) in [(-1, before), (1, after)] {
            let Some(version) = version else { continue };
            for namespace in version.item.namespace.lineage() {
                deltas.entry(namespace).or_default().total.add(sign, version);
            }
            let own = deltas.entry(version.item.namespace.clone()).or_default();
            own.own.add(sign, version);
            own.words += sign * i128::try_from(version.text.len()).unwrap_or(0);
        }
        let mut rows = Vec::new();
        for (namespace, delta) in deltas {
            let known = load::namespace_row(&writer.reader, &namespace)?;
            let row = known.unwrap_or_default();
            let total = delta.total.apply(row.total);
            if after.is_some() {
                Limits::read(&writer.reader, &namespace)?.check(&namespace, row.total, total)?;
            }
            let row = NamespaceRow { own: delta.own.apply(row.own), words: sum(row.words, delta.words), total, ..row };
            rows.push((namespace, known, row));
        }
        Ok(Plan { rows })
    }

    /// Writes the rows. If the change adds an item to a namespace, gives it a place there.
    fn write(self, writer: &Writer<'_>, namespace: &Namespace, adds: bool) -> Result<Place> {
        let mut place = Place { namespace: 0, number: 0 };
        for (path, known, mut row) in self.rows {
            let key = path.key();
            if row.total.items == 0 {
                // Nothing refers to an empty namespace; its number is not used again.
                writer.delete(Table::Namespaces, &key)?;
                writer.delete(Table::Numbers, &row.number.to_be_bytes())?;
                continue;
            }
            if known.is_none() {
                row.number = next_number(writer)?;
                writer.put(Table::Numbers, &row.number.to_be_bytes(), &key)?;
            }
            if path == *namespace && adds {
                place = Place { namespace: row.number, number: row.next };
                let exhausted = MemoryError::Exhausted { what: "items in one namespace", limit: u32::MAX.into() };
                row.next = row.next.checked_add(1).ok_or(exhausted)?;
            }
            if known != Some(row) {
                writer.put(Table::Namespaces, &key, &row.encode())?;
            }
        }
        Ok(place)
    }
}

/// A number that no namespace has had.
fn next_number(writer: &Writer<'_>) -> Result<Number> {
    let row = writer.reader.get(Table::Settings, b"n")?;
    let number = row.and_then(|row| row.first_chunk().map(|row| u32::from_be_bytes(*row))).unwrap_or(0);
    let exhausted = MemoryError::Exhausted { what: "namespaces", limit: u32::MAX.into() };
    let next = number.checked_add(1).ok_or(exhausted)?;
    writer.put(Table::Settings, b"n", &next.to_be_bytes())?;
    Ok(number)
}
