//! Reading long values, whole or in part. What is verified is the head and the chunks in which the part lies. (The tail
//! was verified with its leaf.)
//!
//! [`Verified`](super::pages::Verified) remembers a chunk at the page with which it begins, under its CRC and that of the
//! pointer (which no other value has, while equal chunks have equal CRCs); the first chunk, together with the head, under
//! the CRC of the pointer. A head whose first chunk was never read is verified each time: it has four bytes for each 64 KiB.

use super::node::Long;
use super::pages::Pages;
use crate::bytes::Bytes;
use crate::disk::format::{
    CHUNK, Extents, KIND_OVERFLOW, Overflow, PAGE_CRC, PAGE_KIND, PAGE_NUMBER, PAGE_PAYLOAD_LEN, PAGE_RUN, PAGE_STORE,
    PAGE_TABLE, PAGE_VERSION, Ptr, Shape, get_u32, get_u64,
};
use crate::error::{CorruptionKind, Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Where there is no map, longer values are not kept in private memory: they would evict everything else.
const CACHED_CHUNKS: u64 = 4;

/// A long value whose head is verified.
pub(crate) struct LongValue<'p> {
    pages: &'p Pages,
    long: Overflow,
    extents: Extents,
    shape: Shape,
    head: Bytes<'p>,
    /// The value's bytes behind those in the pages.
    tail: Bytes<'p>,
}

impl Pages {
    /// The exact bytes of a long value that has no tail.
    pub(crate) fn overflow(&self, long: &Overflow, table: u32) -> Result<Bytes<'_>> {
        self.long_value(&Long::from(*long), table)?.slice(0..long.len)
    }

    /// A long value of which parts are to be read.
    pub(crate) fn long_value<'p>(&'p self, Long { pages: long, tail }: &Long<'p>, table: u32) -> Result<LongValue<'p>> {
        let (extents, shape) = (self.overflow_extents(long)?, Shape::of(long.len));
        let head = self.head(long, &extents, shape, table)?;
        Ok(LongValue { pages: self, long: *long, extents, shape, head, tail: tail.clone() })
    }

    /// The pages of a long value, from its pointer alone; an error if the pointer is impossible.
    pub(crate) fn overflow_extents(&self, long: &Overflow) -> Result<Extents> {
        let extents = long.extents(self.page_size());
        let exist = |extents: &Extents| {
            let all = |count| extents.iter().all(|extent| self.exists(extent.page, u64::from(extent.pages), count));
            all(self.page_count()) || all(self.grown())
        };
        extents.filter(exist).ok_or_else(|| {
            let (expected, found) = ("a long value within the file", format!("a value of {} bytes", long.len));
            self.damage(CorruptionKind::LongValue, long.ptr, expected.to_owned(), found)
        })
    }

    /// The head of a long value, verified.
    fn head(&self, long: &Overflow, extents: &Extents, shape: Shape, table: u32) -> Result<Bytes<'_>> {
        let range = 0..shape.head;
        if let Some(head) = self.mapped_part(extents, range.clone())
            && (self.is_verified(long.ptr) || self.check_head(long, head).is_ok())
        {
            let head = Bytes::borrowed(head);
            return self.check_fields(long, extents, &head, table).map(|()| head);
        }
        let size = usize::try_from(shape.head).unwrap_or(usize::MAX);
        let bytes = match self.cached(long.ptr).filter(|chunk| chunk.len() >= size) {
            Some(chunk) => chunk,
            None => {
                let head = self.read_part(extents, range, long.ptr)?;
                self.check_head(long, &head)?;
                head
            }
        };
        let head = Bytes::shared(bytes, 0..size);
        self.check_fields(long, extents, &head, table).map(|()| head)
    }

    /// The pages that hold the head of a long value, and its extents.
    pub(super) fn front_of(&self, long: &Overflow) -> Result<(Vec<u8>, Extents)> {
        let (extents, head) = (self.overflow_extents(long)?, Shape::of(long.len).head);
        let front = self.read_part(&extents, 0..head.next_multiple_of(u64::from(self.page_size())), long.ptr)?;
        let size = usize::try_from(head).unwrap_or(usize::MAX);
        self.check_head(long, front.get(..size).unwrap_or_default())?;
        Ok((front.to_vec(), extents))
    }

    fn check_head(&self, long: &Overflow, head: &[u8]) -> Result<()> {
        let found = (get_u32(head, PAGE_CRC), crc32fast::hash(head.get(PAGE_NUMBER..).unwrap_or_default()));
        if found != (long.ptr.crc, long.ptr.crc) {
            let (expected, found) = (format!("CRC {:08x}", long.ptr.crc), format!("CRC {:08x}", found.1));
            return Err(self.damage(CorruptionKind::LongValue, long.ptr, expected, found));
        }
        Ok(())
    }

    /// Whether a head with the right CRC is that of this pointer, in this table.
    fn check_fields(&self, long: &Overflow, extents: &Extents, head: &[u8], table: u32) -> Result<()> {
        let place = (get_u32(head, PAGE_NUMBER), get_u32(head, PAGE_STORE), get_u32(head, PAGE_RUN));
        let first = extents.iter().next().unwrap_or_default();
        let right = place == (long.ptr.page, self.store_tag(), first.pages)
            && head.get(PAGE_KIND) == Some(&KIND_OVERFLOW)
            && get_u32(head, PAGE_TABLE) == table;
        if !right {
            return Err(self.misplaced(long.ptr, head, CorruptionKind::LongValue, table));
        }
        let found = (get_u64(head, PAGE_PAYLOAD_LEN), get_u64(head, PAGE_VERSION));
        if found != (long.len, long.version) {
            let show = |(len, version): (u64, u64)| format!("{len} bytes of version {version}");
            return Err(self.damage(CorruptionKind::LongValue, long.ptr, show((long.len, long.version)), show(found)));
        }
        Ok(())
    }

    /// Bytes of a long value's pages, if they lie in one piece that the map holds.
    fn mapped_part(&self, extents: &Extents, range: Range<u64>) -> Option<&[u8]> {
        let map = self.map.as_deref()?;
        let (offset, rest) = extents.locate(range.start, self.page_size())?;
        let size = usize::try_from(range.end - range.start).ok().filter(|size| *size as u64 <= rest)?;
        let start = usize::try_from(offset).ok()?;
        let part = map.bytes().get(start..start.checked_add(size)?)?;
        // A file is cut from its end: touching the last byte marks the map as torn if a part is lost.
        if std::hint::black_box(part.last().copied()).is_some() && map.bytes().is_empty() {
            return None;
        }
        Some(part)
    }

    /// Bytes of a long value's pages, read into private memory; they may lie in several pieces.
    fn read_part(&self, extents: &Extents, range: Range<u64>, ptr: Ptr) -> Result<Arc<[u8]>> {
        let size = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut buffer: Arc<[u8]> = std::iter::repeat_n(0, size).collect();
        let (mut at, mut place) = (range.start, Arc::get_mut(&mut buffer).unwrap_or_default());
        while !place.is_empty() {
            let Some((offset, rest)) = extents.locate(at, self.page_size()) else {
                return Err(Error::Internal("a part beyond the pages of a long value".to_owned()));
            };
            let size = usize::try_from(rest).unwrap_or(usize::MAX).min(place.len());
            let (now, later) = place.split_at_mut(size);
            self.read_at(ptr, now, offset)?;
            at += size as u64;
            place = later;
        }
        Ok(buffer)
    }
}

impl<'p> LongValue<'p> {
    /// A part of the value, as far as it lies in it: borrowed from the map if that has it in one piece, otherwise a copy.
    pub(crate) fn slice(&self, range: Range<u64>) -> Result<Bytes<'p>> {
        let seam = self.long.len;
        if range.end <= seam || self.tail.is_empty() {
            return self.in_pages(range);
        }
        let in_tail = |at: u64| usize::try_from(at.saturating_sub(seam)).unwrap_or(usize::MAX).min(self.tail.len());
        let tail = self.tail.slice(in_tail(range.start)..in_tail(range.end));
        if range.start >= seam {
            return Ok(tail);
        }
        Ok(Bytes::joined(&self.in_pages(range.start..seam)?, &tail))
    }

    /// A part of what the pages have of the value.
    fn in_pages(&self, range: Range<u64>) -> Result<Bytes<'p>> {
        let in_pages = |at: u64| self.shape.head + at.min(self.long.len);
        let (start, end) = (in_pages(range.start), in_pages(range.end));
        if start >= end {
            return Ok(Bytes::borrowed(&[]));
        }
        let mut chunks = start / CHUNK..(end - 1) / CHUNK + 1;
        if let Some(part) = self.pages.mapped_part(&self.extents, start..end)
            && chunks.clone().all(|chunk| self.mapped_chunk(chunk).is_some())
        {
            return Ok(Bytes::borrowed(part));
        }
        let within = |at: u64, chunk: u64| usize::try_from(at.saturating_sub(chunk * CHUNK)).unwrap_or(usize::MAX);
        if chunks.end - chunks.start == 1 {
            return Ok(self.chunk(chunks.start)?.slice(within(start, chunks.start)..within(end, chunks.start)));
        }
        let size = usize::try_from(end - start).unwrap_or(usize::MAX);
        let mut buffer: Arc<[u8]> = std::iter::repeat_n(0, size).collect();
        let mut place = Arc::get_mut(&mut buffer).unwrap_or_default();
        chunks.try_for_each(|chunk| {
            let bytes = self.chunk(chunk)?;
            let part = bytes.get(within(start, chunk)..within(end, chunk).min(bytes.len())).unwrap_or_default();
            let (now, later) = std::mem::take(&mut place).split_at_mut(part.len());
            now.copy_from_slice(part);
            place = later;
            Ok::<_, Error>(())
        })?;
        Ok(Bytes::shared(buffer, 0..size))
    }

    /// The length of the value.
    pub(crate) fn len(&self) -> u64 {
        self.long.len + self.tail.len() as u64
    }

    /// The part of the value that lies in the same chunk as this byte of it, or is its tail.
    pub(crate) fn chunk_around(&self, at: u64) -> Range<u64> {
        if at >= self.long.len {
            return self.long.len..self.len();
        }
        self.shape.value_in((self.shape.head + at) / CHUNK)
    }

    /// Bytes in the value's pages.
    fn total(&self) -> u64 {
        self.extents.pages() * u64::from(self.pages.page_size())
    }

    /// The bytes of a chunk, with the head if that lies there.
    fn bytes_of(&self, chunk: u64) -> Range<u64> {
        chunk * CHUNK..((chunk + 1) * CHUNK).min(self.total())
    }

    /// Under what a chunk is remembered.
    fn ptr(&self, chunk: u64) -> Ptr {
        if chunk == 0 {
            return self.long.ptr;
        }
        let offset = self.extents.locate(chunk * CHUNK, self.pages.page_size()).map_or(0, |(offset, _)| offset);
        let page = u32::try_from(offset / u64::from(self.pages.page_size())).unwrap_or(0);
        Ptr { page, crc: self.long.ptr.crc ^ self.crc(chunk).rotate_left(16) }
    }

    fn crc(&self, chunk: u64) -> u32 {
        get_u32(&self.head, Shape::crc_at(chunk))
    }

    /// A chunk in the map, verified.
    fn mapped_chunk(&self, chunk: u64) -> Option<&'p [u8]> {
        let bytes = self.pages.mapped_part(&self.extents, self.bytes_of(chunk))?;
        let ptr = self.ptr(chunk);
        if !self.pages.is_verified(ptr) {
            self.check(chunk, bytes).ok()?;
            self.pages.set_verified(ptr);
        }
        Some(bytes)
    }

    /// A verified chunk. (A part of the map that failed once reads as zeros from then on: the file itself decides.)
    fn chunk(&self, chunk: u64) -> Result<Bytes<'p>> {
        if let Some(bytes) = self.mapped_chunk(chunk) {
            return Ok(Bytes::borrowed(bytes));
        }
        let ptr = self.ptr(chunk);
        let bytes = match self.pages.cached(ptr) {
            Some(bytes) => bytes,
            None => {
                let bytes = self.pages.read_part(&self.extents, self.bytes_of(chunk), ptr)?;
                self.check(chunk, &bytes)?;
                if self.shape.chunks <= CACHED_CHUNKS {
                    self.pages.cache(ptr, &bytes);
                }
                bytes
            }
        };
        let size = bytes.len();
        Ok(Bytes::shared(bytes, 0..size))
    }

    fn check(&self, chunk: u64, bytes: &[u8]) -> Result<()> {
        #[cfg(test)]
        self.pages.note_chunk();
        let from = self.shape.chunk(chunk, self.total()).start - chunk * CHUNK;
        let covered = bytes.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
        let (expected, found) = (self.crc(chunk), crc32fast::hash(covered));
        if expected != found {
            let Range { start, end } = self.shape.value_in(chunk);
            let found = format!("CRC {found:08x} in bytes {start}..{end} of the value");
            let ptr = Ptr { crc: expected, ..self.ptr(chunk) };
            return Err(self.pages.damage(CorruptionKind::LongValue, ptr, format!("CRC {expected:08x}"), found));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "long_value_tests.rs"]
mod tests;
