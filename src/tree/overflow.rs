//! Long values: written to pages of their own chunk by chunk, and freed.

use super::build::max_inline;
use super::node::{Header, Long};
use super::pages::Pages;
use super::update::PageStore;
use crate::disk::format::{
    CHUNK, Extents, KIND_OVERFLOW, MAX_VALUE_SIZE, Overflow, PAGE_CRC, PAGE_NUMBER, PAGE_PAYLOAD_LEN, PAGE_VERSION,
    Shape, put_u32, put_u64,
};
use crate::error::{Error, LimitKind, Result};

/// Values from this length on lie in their pages whole. They need not be in the tree for that: the log may point at them.
/// And they are read in place, which is worth more than the part of a page that a tail would save.
pub(crate) const WHOLE: u64 = 32 << 10;

/// Writes whole pages, from this page on.
type Put<'p> = &'p mut dyn FnMut(u32, &[u8]) -> Result<()>;

/// A long value on its way to its pages. Of the value no more than the chunk being filled is in memory, and what shares a
/// chunk with the head, which is written last: only then are the CRCs of all chunks known.
pub(crate) struct OverflowWriter {
    header: Header,
    extents: Extents,
    page_size: u32,
    len: u64,
    shape: Shape,
    /// The bytes of the chunks into which the head reaches.
    front: Vec<u8>,
    front_len: usize,
    /// The chunk after them that is being filled.
    chunk: Vec<u8>,
    /// Of the chunks that are written.
    crcs: Vec<u32>,
    /// Bytes of the value so far.
    written: u64,
}

impl OverflowWriter {
    /// Begins a value of `len` bytes in these pages, which are as many as it needs.
    pub(crate) fn new(pages: &Pages, len: u64, version: u64, extents: Extents) -> OverflowWriter {
        let (shape, page_size) = (Shape::of(len), pages.page_size());
        let first = extents.iter().next().unwrap_or_default();
        let header = Header {
            page: first.page,
            store_tag: pages.store_tag(),
            kind: KIND_OVERFLOW,
            level: 0,
            version,
            table: 0,
            run: first.pages,
        };
        let total = extents.pages() * u64::from(page_size);
        let front_len = usize_of(shape.head.next_multiple_of(CHUNK).min(total));
        let mut front = Vec::with_capacity(front_len);
        front.resize(usize_of(shape.head), 0);
        let (chunk, crcs) = Default::default();
        OverflowWriter { header, extents, page_size, len, shape, front, front_len, chunk, crcs, written: 0 }
    }

    /// Bytes of the value that are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.len - self.written
    }

    /// The next bytes of the value.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond its length, and what `put` returns.
    pub(crate) fn write(&mut self, mut bytes: &[u8], put: Put<'_>) -> Result<()> {
        if bytes.len() as u64 > self.missing() {
            let size = self.written + bytes.len() as u64;
            return Err(Error::TooLarge { what: LimitKind::StreamedValue, size, limit: self.len });
        }
        self.written += bytes.len() as u64;
        while !bytes.is_empty() {
            let in_front = self.front.len() < self.front_len;
            let (buffer, size) =
                if in_front { (&mut self.front, self.front_len) } else { (&mut self.chunk, usize_of(CHUNK)) };
            let (now, later) = bytes.split_at(bytes.len().min(size - buffer.len()));
            buffer.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == usize_of(CHUNK) {
                self.put_chunk(put)?;
            }
        }
        Ok(())
    }

    fn put_chunk(&mut self, put: Put<'_>) -> Result<()> {
        self.crcs.push(crc32fast::hash(&self.chunk));
        let at = self.front_len as u64 + (self.crcs.len() as u64 - 1) * CHUNK;
        put_at(&self.extents, self.page_size, at, &self.chunk, put)?;
        self.chunk.clear();
        Ok(())
    }

    /// Writes the rest, the head last, and returns the pointer for this table. All of the value has been written.
    pub(crate) fn finish(mut self, table: u32, put: Put<'_>) -> Result<Overflow> {
        if self.missing() > 0 {
            return Err(Error::Internal(format!("{} bytes of a long value are missing", self.missing())));
        }
        let page_size = self.page_size as usize;
        if !self.chunk.is_empty() {
            self.chunk.resize(self.chunk.len().next_multiple_of(page_size), 0);
            self.put_chunk(put)?;
        }
        self.front.resize(self.front.len().next_multiple_of(page_size), 0);
        let front_crcs: Vec<u32> = (0..self.front.len() as u64)
            .step_by(usize_of(CHUNK))
            .map(|start| self.shape.chunk(start / CHUNK, self.front.len() as u64))
            .map(|part| self.front.get(usize_of(part.start)..usize_of(part.end)).unwrap_or_default())
            .map(crc32fast::hash)
            .collect();
        for (chunk, crc) in (0..).zip(front_crcs.iter().chain(&self.crcs)) {
            put_u32(&mut self.front, Shape::crc_at(chunk), *crc);
        }
        self.header.table = table;
        self.header.write(&mut self.front);
        put_u64(&mut self.front, PAGE_PAYLOAD_LEN, self.len);
        let crc = seal_head(self.front.get_mut(..usize_of(self.shape.head)).unwrap_or_default());
        put_at(&self.extents, self.page_size, 0, &self.front, put)?;
        Ok(Overflow::placed(&self.extents, crc, self.len, self.header.version))
    }
}

/// Writes bytes of a value's pages, wherever its extents have them.
fn put_at(extents: &Extents, page_size: u32, mut at: u64, mut bytes: &[u8], put: Put<'_>) -> Result<()> {
    while !bytes.is_empty() {
        let Some((offset, rest)) = extents.locate(at, page_size) else {
            return Err(Error::Internal("a long value has too few pages".to_owned()));
        };
        let (now, later) = bytes.split_at(bytes.len().min(usize_of(rest)));
        put(u32::try_from(offset / u64::from(page_size)).unwrap_or(u32::MAX), now)?;
        at += now.len() as u64;
        bytes = later;
    }
    Ok(())
}

/// Completes a head with its CRC, which it returns.
fn seal_head(head: &mut [u8]) -> u32 {
    let crc = crc32fast::hash(head.get(PAGE_NUMBER..).unwrap_or_default());
    put_u32(head, PAGE_CRC, crc);
    crc
}

/// (What lies in memory has fewer bytes than an address.)
fn usize_of(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Writes a long value for a leaf: to pages of its own, but for its tail, which it returns with the pointer.
pub(crate) fn write_long<'v>(store: &mut dyn PageStore, table: u32, value: &'v [u8]) -> Result<(Overflow, &'v [u8])> {
    let (front, tail) = value.split_at(value.len() - tail_of(value.len(), store.pages().page_size()));
    Ok((write_overflow(store, table, front)?, tail))
}

/// How many of the last bytes of a value stay in the leaf: those that would not fill a page, unless they fill most of it.
fn tail_of(len: usize, page_size: u32) -> usize {
    let (shape, page) = (Shape::of(len as u64), u64::from(page_size));
    let rest = shape.end % page;
    // What shares the first page with the head is no tail: that page is needed anyway.
    let has_tail = (len as u64) < WHOLE && shape.end > page && usize_of(rest) <= max_inline(page_size);
    if has_tail { usize_of(rest) } else { 0 }
}

/// Writes a long value, or all but its tail, to pages of its own.
pub(crate) fn write_overflow(store: &mut dyn PageStore, table: u32, value: &[u8]) -> Result<Overflow> {
    let len = value.len() as u64;
    check_len(len)?;
    let pages = u32::try_from(Overflow::pages(len, store.pages().page_size())).unwrap_or(u32::MAX);
    let extents = store.allocate_extents(pages)?;
    let mut writer = OverflowWriter::new(store.pages(), len, store.version(), extents);
    let mut put = |page: u32, bytes: &[u8]| store.write(page, bytes);
    writer.write(value, &mut put)?;
    writer.finish(table, &mut put)
}

/// Writes what is in the pages of a long value once more, to other pages, chunk by chunk.
pub(crate) fn copy_overflow(
    store: &mut dyn PageStore,
    pages: &Pages,
    table: u32,
    long: &Overflow,
    place: Extents,
) -> Result<Overflow> {
    let value = pages.long_value(&Long::from(*long), table)?;
    let mut writer = OverflowWriter::new(pages, long.len, store.version(), place);
    let mut put = |page: u32, bytes: &[u8]| store.write(page, bytes);
    while writer.missing() > 0 {
        let part = value.slice(value.chunk_around(long.len - writer.missing()))?;
        writer.write(&part, &mut put)?;
    }
    writer.finish(table, &mut put)
}

/// Gives a long value that nothing durable refers to another version, in its place.
pub(crate) fn renew_overflow(pages: &Pages, long: &Overflow, version: u64, put: Put<'_>) -> Result<Overflow> {
    let (mut front, extents) = pages.front_of(long)?;
    let head = front.get_mut(..usize_of(Shape::of(long.len).head)).unwrap_or_default();
    put_u64(head, PAGE_VERSION, version);
    let crc = seal_head(head);
    put_at(&extents, pages.page_size(), 0, &front, put)?;
    Ok(long.renewed(crc, version))
}

/// Whether a value may have this length.
pub(crate) fn check_len(len: u64) -> Result<()> {
    if len > MAX_VALUE_SIZE {
        return Err(Error::TooLarge { what: LimitKind::Value, size: len, limit: MAX_VALUE_SIZE });
    }
    Ok(())
}

/// Frees the pages of a long value on its pointer's word alone: a damaged value can be deleted.
pub(crate) fn free_overflow(store: &mut dyn PageStore, pages: &Pages, long: &Overflow) -> Result<()> {
    let extents = pages.overflow_extents(long)?;
    extents.iter().try_for_each(|extent| store.free(extent.page, extent.pages, long.version))
}
