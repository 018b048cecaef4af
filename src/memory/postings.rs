//! Which items of a namespace have a term: rows of up to 64 items whose numbers follow each other.
//!
//! A row of the index belongs to a namespace, a term and a block of numbers. It has three bytes for each item of the
//! block that has the term: the lowest six bits of its number, how often it has the term, and how long its text is. So
//! a new item changes one short row for each of its terms, however many items have the term; and a search reads a
//! sixty-fourth as many rows as there are items.

use crate::memory::error::Result;
use crate::memory::tables::{Number, Place, Reader, Table, Writer, key, last_number};
use crate::memory::text::Text;

/// The numbers of a block differ in so many bits.
const BLOCK_BITS: u32 = 6;
/// Lengths up to here are exact; above, eight steps go to a factor of two.
const EXACT: u8 = 128;

/// An item that has a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) number: u32,
    /// How often; 255 stands for more, too.
    pub(super) count: u8,
    /// A code of the length of its text.
    pub(super) length: u8,
}

/// The prefix of the keys of a term's rows.
fn term_key(namespace: Number, term: &str) -> Vec<u8> {
    key(&[&namespace.to_be_bytes(), term.as_bytes(), &[0]])
}

fn row_key(place: Place, term: &str) -> Vec<u8> {
    key(&[&term_key(place.namespace, term), &(place.number >> BLOCK_BITS).to_be_bytes()])
}

fn low_bits(place: Place) -> u8 {
    (place.number & ((1 << BLOCK_BITS) - 1)).to_le_bytes()[0]
}

/// The items of a row.
fn entries(row: &[u8]) -> &[[u8; 3]] {
    row.as_chunks().0
}

/// Adds an item with this text to the rows of its terms.
pub(super) fn add(writer: &Writer<'_>, place: Place, text: &Text) -> Result<()> {
    let (low, length) = (low_bits(place), encode_length(text.len()));
    change_rows(writer, place, text, |count, entries| {
        entries.push([low, u8::try_from(count).unwrap_or(u8::MAX), length]);
        entries.sort_unstable();
    })
}

/// Removes an item with this text from them.
pub(super) fn remove(writer: &Writer<'_>, place: Place, text: &Text) -> Result<()> {
    change_rows(writer, place, text, |_, _| {})
}

/// Changes the rows of a text's terms: `change` gets how often the text has the term, and the other items.
fn change_rows(
    writer: &Writer<'_>,
    place: Place,
    text: &Text,
    change: impl Fn(usize, &mut Vec<[u8; 3]>),
) -> Result<()> {
    let low = low_bits(place);
    for (term, count) in text.counts() {
        let key = row_key(place, term);
        let row = writer.reader.get(Table::Words, &key)?;
        let mut items: Vec<[u8; 3]> = row.as_deref().map(entries).unwrap_or_default().to_vec();
        items.retain(|[number, ..]| *number != low);
        change(count, &mut items);
        match items.as_flattened() {
            [] => writer.delete(Table::Words, &key)?,
            row => writer.put(Table::Words, &key, row)?,
        }
    }
    Ok(())
}

/// The items of a namespace that have a term, by ascending numbers.
pub(super) fn of_term(reader: &Reader<'_>, namespace: Number, term: &str) -> Result<Vec<Posting>> {
    let mut found = Vec::new();
    for row in reader.prefix(Table::Words, &term_key(namespace, term))? {
        let (key, row) = row?;
        found.extend(in_row(&key, &row));
    }
    Ok(found)
}

/// The items of a namespace that have a term with this beginning, by ascending numbers, each once.
pub(super) fn of_beginning(reader: &Reader<'_>, namespace: Number, beginning: &str) -> Result<Vec<Posting>> {
    let mut found: Vec<Posting> = Vec::new();
    for row in reader.prefix(Table::Words, &key(&[&namespace.to_be_bytes(), beginning.as_bytes()]))? {
        let (key, row) = row?;
        found.extend(in_row(&key, &row));
    }
    Ok(merged(found))
}

/// The same items by ascending numbers, each once, with the sum of its counts.
pub(super) fn merged(mut postings: Vec<Posting>) -> Vec<Posting> {
    postings.sort_unstable_by_key(|posting| posting.number);
    postings.dedup_by(|next, kept| {
        let same = next.number == kept.number;
        if same {
            kept.count = kept.count.saturating_add(next.count);
        }
        same
    });
    postings
}

fn in_row<'b>(key: &[u8], row: &'b [u8]) -> impl Iterator<Item = Posting> + 'b {
    let base = last_number(key) << BLOCK_BITS;
    entries(row).iter().map(move |[low, count, length]| Posting {
        number: base | u32::from(*low),
        count: *count,
        length: *length,
    })
}

/// What the index has of an item and a term.
pub(super) fn find(reader: &Reader<'_>, place: Place, term: &str) -> Result<Option<Posting>> {
    let key = row_key(place, term);
    let row = reader.get(Table::Words, &key)?;
    Ok(row.and_then(|row| in_row(&key, &row).find(|posting| posting.number == place.number)))
}

/// What the index has of an item with this text and a term that it has so often.
pub(super) fn expected(place: Place, text: &Text, count: usize) -> Posting {
    let count = u8::try_from(count).unwrap_or(u8::MAX);
    Posting { number: place.number, count, length: encode_length(text.len()) }
}

/// The number of items in a row.
pub(super) fn row_len(row: &[u8]) -> usize {
    entries(row).len()
}

fn encode_length(length: usize) -> u8 {
    if let Some(code) = u8::try_from(length).ok().filter(|code| *code < EXACT) {
        return code;
    }
    let power = length.ilog2() as usize;
    let code = usize::from(EXACT) + (power - 7) * 8 + ((length >> (power - 3)) & 7);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The shortest length with this code.
pub(super) fn decode_length(code: u8) -> u32 {
    let code = u32::from(code);
    match code.checked_sub(u32::from(EXACT)) {
        None => code,
        Some(step) => (8 + step % 8) << (4 + step / 8),
    }
}
