//! Where vectors lie: a new one in a row of its own; those of sixteen items whose numbers follow each other in one row,
//! as soon as a later item has one. So adding a vector writes it twice at most, and a scan reads long stretches of memory.

use crate::memory::error::Result;
use crate::memory::tables::{Number, Place, Reader, Table, Writer, key, last_number};
use crate::memory::vector::Space;
use std::ops::Bound;

/// The numbers of a block differ in so many bits.
const BLOCK_BITS: u32 = 4;
/// Longer vectors stay in rows of their own: long enough to be read fast.
const LONGEST: usize = 8192;

/// A space, and its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbered {
    pub(super) number: u8,
    pub(super) space: Space,
}

/// The vectors of a block: a bit for each of its items that has one, the lowest for the first; then the vectors.
struct Block<'b> {
    mask: u16,
    vectors: &'b [u8],
}

impl<'b> Block<'b> {
    fn parse(row: &'b [u8], size: usize) -> Option<Block<'b>> {
        let (mask, vectors) = row.split_first_chunk()?;
        let mask = u16::from_be_bytes(*mask);
        (vectors.len() == mask.count_ones() as usize * size && mask != 0).then_some(Block { mask, vectors })
    }

    /// The items that have a vector, by their place in the block, and their vectors.
    fn iter(&self, size: usize) -> impl Iterator<Item = (u32, &'b [u8])> + use<'b> {
        let mask = self.mask;
        (0..1 << BLOCK_BITS).filter(move |slot| mask & (1 << slot) != 0).zip(self.vectors.chunks_exact(size))
    }
}

impl Numbered {
    fn key(self, place: Place) -> Vec<u8> {
        key(&[&[self.number], &place.key()])
    }

    fn block_key(self, place: Place) -> Vec<u8> {
        self.key(Place { number: place.number >> BLOCK_BITS, ..place })
    }

    fn slot(place: Place) -> u32 {
        place.number & ((1 << BLOCK_BITS) - 1)
    }

    /// An item's vector, as a row.
    pub(super) fn get(self, reader: &Reader<'_>, place: Place) -> Result<Option<Vec<u8>>> {
        if let Some(row) = reader.get(Table::Vectors, &self.key(place))? {
            return Ok(Some(row.to_vec()));
        }
        let Some(row) = reader.get(Table::Blocks, &self.block_key(place))? else { return Ok(None) };
        let mut vectors = self.block(place, &row)?.iter(self.space.row_size());
        Ok(vectors.find(|(slot, _)| *slot == Self::slot(place)).map(|(_, vector)| vector.to_vec()))
    }

    fn block(self, place: Place, row: &[u8]) -> Result<Block<'_>> {
        let damaged = || Table::Blocks.damaged(&self.block_key(place), format!("not vectors of {}", self.space));
        Block::parse(row, self.space.row_size()).ok_or_else(damaged)
    }

    /// Sets an item's vector.
    pub(super) fn put(self, writer: &Writer<'_>, place: Place, row: &[u8]) -> Result<()> {
        self.delete(writer, place)?;
        writer.put(Table::Vectors, &self.key(place), row)?;
        // The block before is complete, most likely.
        let before = (place.number >> BLOCK_BITS).checked_sub(1).filter(|_| self.space.row_size() <= LONGEST);
        before.map_or(Ok(()), |block| self.pack(writer, Place { number: block << BLOCK_BITS, ..place }))
    }

    /// Puts all vectors of a block into one row.
    fn pack(self, writer: &Writer<'_>, first: Place) -> Result<()> {
        let (from, end) = (self.key(first), self.key(Place { number: first.number + (1 << BLOCK_BITS), ..first }));
        let rows = writer.reader.range(Table::Vectors, Bound::Included(&from), Bound::Excluded(&end))?;
        let mut vectors = Vec::new();
        for row in rows {
            let (key, vector) = row?;
            vectors.push((Self::slot(Place { number: last_number(&key), ..first }), vector.to_vec()));
            writer.delete(Table::Vectors, &key)?;
        }
        if vectors.is_empty() {
            return Ok(());
        }
        if let Some(row) = writer.reader.get(Table::Blocks, &self.block_key(first))? {
            let known = self.block(first, &row)?;
            vectors.extend(known.iter(self.space.row_size()).map(|(slot, vector)| (slot, vector.to_vec())));
        }
        self.write_block(writer, first, vectors)
    }

    fn write_block(self, writer: &Writer<'_>, place: Place, mut vectors: Vec<(u32, Vec<u8>)>) -> Result<()> {
        vectors.sort_unstable_by_key(|(slot, _)| *slot);
        let mask = vectors.iter().fold(0_u16, |mask, (slot, _)| mask | 1 << slot);
        let mut row = mask.to_be_bytes().to_vec();
        vectors.iter().for_each(|(_, vector)| row.extend_from_slice(vector));
        if vectors.is_empty() {
            return writer.delete(Table::Blocks, &self.block_key(place));
        }
        writer.put(Table::Blocks, &self.block_key(place), &row)
    }

    /// Removes an item's vector, if it has one.
    pub(super) fn delete(self, writer: &Writer<'_>, place: Place) -> Result<()> {
        let key = self.key(place);
        if writer.reader.contains(Table::Vectors, &key)? {
            return writer.delete(Table::Vectors, &key);
        }
        let Some(row) = writer.reader.get(Table::Blocks, &self.block_key(place))? else { return Ok(()) };
        let block = self.block(place, &row)?;
        if block.mask & (1 << Self::slot(place)) == 0 {
            return Ok(());
        }
        let others = block.iter(self.space.row_size()).filter(|(slot, _)| *slot != Self::slot(place));
        self.write_block(writer, place, others.map(|(slot, vector)| (slot, vector.to_vec())).collect())
    }

    /// Calls `each` with all vectors of a namespace, or with those of some items, given by ascending numbers.
    pub(super) fn scan(
        self,
        reader: &Reader<'_>,
        namespace: Number,
        selection: Option<&[u32]>,
        mut each: impl FnMut(Place, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut each = |number: u32, vector: &[u8]| {
            let selected = selection.is_none_or(|numbers| numbers.binary_search(&number).is_ok());
            if selected { each(Place { namespace, number }, vector) } else { Ok(()) }
        };
        let prefix = key(&[&[self.number], &namespace.to_be_bytes()]);
        for row in reader.prefix(Table::Blocks, &prefix)? {
            let (key, row) = row?;
            let number = last_number(&key);
            let first = number << BLOCK_BITS;
            let block = self.block(Place { namespace, number: first }, &row)?;
            block.iter(self.space.row_size()).try_for_each(|(slot, vector)| each(first + slot, vector))?;
        }
        for row in reader.prefix(Table::Vectors, &prefix)? {
            let (key, row) = row?;
            each(last_number(&key), &row)?;
        }
        Ok(())
    }
}

/// The number of vectors that all rows hold.
pub(super) fn count(reader: &Reader<'_>) -> Result<u64> {
    let mut count = reader.len(Table::Vectors)?;
    for row in reader.prefix(Table::Blocks, b"")? {
        let (_, row) = row?;
        count += row.first_chunk().map_or(0, |mask| u64::from(u16::from_be_bytes(*mask).count_ones()));
    }
    Ok(count)
}
