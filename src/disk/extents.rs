//! Where a long value lies: the pointer to it, its extents, and the chunks in which it is verified.
//!
//! A long value has whole pages of its own, in up to eight *extents*: runs of adjacent pages. The bytes of these pages,
//! extent after extent, begin with the *head*: the header of every run, a CRC for each chunk, and zeros up to a multiple
//! of 64. The value follows, then zeros up to the end of the last page. A *chunk* is 64 KiB of these bytes; the first one
//! is without the head, the last one ends with the last page. Each extent but the last is a whole number of chunks, so
//! every chunk lies in one piece.
//!
//! The last bytes of a value may lie elsewhere: behind the pointer, in the entry of the leaf. They are its *tail*, and the
//! pages have what comes before it.

use super::format::{MAX_VALUE_SIZE, PAGE_HEADER, Ptr, get_u32, get_u64, put_u32, put_u64};
use std::ops::Range;

/// Bytes of a chunk.
pub(crate) const CHUNK: u64 = 64 << 10;
/// The head ends at a multiple of this, and so does the value's first byte lie at one.
const ALIGNMENT: u64 = 64;
/// Extents of a value at most.
pub(crate) const MAX_EXTENTS: u32 = 8;
/// Extents that a pointer names after the first one.
const MORE: usize = MAX_EXTENTS as usize - 1;

/// Adjacent pages of a long value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Extent {
    pub(crate) page: u32,
    /// 0: there is no such extent.
    pub(crate) pages: u32,
}

impl Extent {
    /// Just after the last page.
    pub(crate) fn end(self) -> u64 {
        u64::from(self.page) + u64::from(self.pages)
    }
}

/// The pointer to the pages of a long value: the first page and the CRC of the head, how many bytes of the value they
/// have, the version that they were written for (as in the head, so that they can be freed unread), and the extents
/// after the first, whose length follows from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Overflow {
    pub(crate) ptr: Ptr,
    pub(crate) len: u64,
    pub(crate) version: u64,
    more: [Extent; MORE],
}

/// Encoded size of an [`Overflow`] of one extent: `u32 page, u32 crc, u32 len, u32 length of the tail, u64 version`.
pub(crate) const OVERFLOW_SIZE: usize = 24;
/// Where a pointer says how long the tail behind it is.
const TAIL_LEN: usize = 12;
/// What each further extent adds: `u32 page, u32 pages`.
const EXTENT_SIZE: usize = 8;
/// Encoded size of the longest one.
pub(crate) const MAX_OVERFLOW_SIZE: usize = OVERFLOW_SIZE + MORE * EXTENT_SIZE;

impl Overflow {
    /// A value in one extent.
    pub(crate) fn whole(ptr: Ptr, len: u64, version: u64) -> Overflow {
        Overflow { ptr, len, version, more: [Extent::default(); MORE] }
    }

    /// A value whose head has this CRC, in these extents.
    pub(crate) fn placed(extents: &Extents, crc: u32, len: u64, version: u64) -> Overflow {
        let mut all = extents.iter();
        let page = all.next().map_or(0, |first| first.page);
        let mut long = Overflow::whole(Ptr { page, crc }, len, version);
        long.more.iter_mut().zip(all).for_each(|(place, extent)| *place = extent);
        long
    }

    /// The same pages, with another version and so another CRC in the head.
    pub(crate) fn renewed(&self, crc: u32, version: u64) -> Overflow {
        Overflow { ptr: Ptr { crc, ..self.ptr }, version, ..*self }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.with_tail(&[])
    }

    /// The pointer, and the tail of its value behind it.
    pub(crate) fn with_tail(&self, tail: &[u8]) -> Vec<u8> {
        let short = |len: u64| u32::try_from(len).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(MAX_OVERFLOW_SIZE + tail.len());
        out.resize(OVERFLOW_SIZE, 0);
        self.ptr.put(&mut out, 0);
        put_u32(&mut out, 8, short(self.len));
        put_u32(&mut out, TAIL_LEN, short(tail.len() as u64));
        put_u64(&mut out, 16, self.version);
        for extent in self.more() {
            let at = out.len();
            out.resize(at + EXTENT_SIZE, 0);
            put_u32(&mut out, at, extent.page);
            put_u32(&mut out, at + 4, extent.pages);
        }
        out.extend_from_slice(tail);
        out
    }

    /// How many of these bytes are a pointer's; the tail follows. `None` if a pointer cannot have so many.
    #[inline]
    pub(crate) fn size_in(bytes: &[u8]) -> Option<usize> {
        let size = bytes.len().checked_sub(get_u32(bytes, TAIL_LEN) as usize)?;
        let is_size = (OVERFLOW_SIZE..=MAX_OVERFLOW_SIZE).contains(&size);
        (is_size && (size - OVERFLOW_SIZE).is_multiple_of(EXTENT_SIZE)).then_some(size)
    }

    /// A pointer to a value without a tail.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Overflow> {
        Overflow::decode_with_tail(bytes).filter(|(_, tail)| tail.is_empty()).map(|(long, _)| long)
    }

    /// A pointer, and the tail behind it. `None` if the lengths cannot be: no value is that long, or they are not those
    /// of these bytes.
    pub(crate) fn decode_with_tail(bytes: &[u8]) -> Option<(Overflow, &[u8])> {
        let (pointer, tail) = bytes.split_at_checked(Overflow::size_in(bytes)?)?;
        let mut long = Overflow::whole(Ptr::get(pointer, 0), get_u32(pointer, 8).into(), get_u64(pointer, 16));
        let rest = pointer.get(OVERFLOW_SIZE..).unwrap_or_default().chunks_exact(EXTENT_SIZE);
        for (place, extent) in long.more.iter_mut().zip(rest) {
            *place = Extent { page: get_u32(extent, 0), pages: get_u32(extent, 4) };
            if place.pages == 0 {
                return None;
            }
        }
        (long.len + tail.len() as u64 <= MAX_VALUE_SIZE).then_some((long, tail))
    }

    fn more(&self) -> impl Iterator<Item = Extent> + '_ {
        self.more.iter().copied().take_while(|extent| extent.pages > 0)
    }

    /// Pages that `len` bytes of a value take.
    pub(crate) fn pages(len: u64, page_size: u32) -> u64 {
        Shape::of(len).end.div_ceil(u64::from(page_size))
    }

    /// The extents, in the order of the value's bytes; `None` if no writer made such a pointer: the value is too long,
    /// the extents have another length than it needs, or overlap, or one before the last is not made of whole chunks.
    pub(crate) fn extents(&self, page_size: u32) -> Option<Extents> {
        let total = Overflow::pages(self.len, page_size);
        let others: u64 = self.more().map(|extent| u64::from(extent.pages)).sum();
        let first = u32::try_from(total.checked_sub(others)?).ok()?;
        let mut extents = Extents::default();
        extents.push(Extent { page: self.ptr.page, pages: first });
        self.more().for_each(|extent| extents.push(extent));
        let per_chunk = pages_per_chunk(page_size);
        let whole = extents.iter().rev().skip(1).all(|extent| extent.pages.is_multiple_of(per_chunk));
        let exist = extents.iter().all(|extent| extent.pages > 0 && extent.end() <= u64::from(u32::MAX));
        let mut sorted = extents;
        sorted.sort();
        let apart = sorted.iter().zip(sorted.iter().skip(1)).all(|(one, next)| one.end() <= u64::from(next.page));
        (self.len <= MAX_VALUE_SIZE && whole && exist && apart).then_some(extents)
    }
}

/// Pages of a chunk. Pages are never larger than one.
pub(crate) fn pages_per_chunk(page_size: u32) -> u32 {
    u32::try_from(CHUNK).unwrap_or(u32::MAX) / page_size.max(1)
}

/// The extents of one value, in the order of its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extents {
    list: [Extent; MAX_EXTENTS as usize],
    count: usize,
}

impl Extents {
    /// One extent.
    pub(crate) fn one(page: u32, pages: u32) -> Extents {
        let mut extents = Extents::default();
        extents.push(Extent { page, pages });
        extents
    }

    /// Adds an extent behind the others: as a part of the last one, if it follows that in the file. There must be room.
    pub(crate) fn push(&mut self, extent: Extent) {
        let last = self.count.checked_sub(1).and_then(|last| self.list.get_mut(last));
        if let Some(last) = last.filter(|last| last.end() == u64::from(extent.page)) {
            last.pages = last.pages.saturating_add(extent.pages);
            return;
        }
        debug_assert!(self.count < self.list.len());
        if let Some(place) = self.list.get_mut(self.count) {
            *place = extent;
            self.count += 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Extent> + '_ {
        self.list.iter().take(self.count).copied()
    }

    fn sort(&mut self) {
        self.list.get_mut(..self.count).unwrap_or_default().sort_unstable_by_key(|extent| extent.page);
    }

    pub(crate) fn pages(&self) -> u64 {
        self.iter().map(|extent| u64::from(extent.pages)).sum()
    }

    /// Just after the last page in the file.
    pub(crate) fn end(&self) -> u64 {
        self.iter().map(Extent::end).max().unwrap_or(0)
    }

    /// Where a byte of the value's pages lies in the file, and how many bytes follow in its extent from there on.
    pub(crate) fn locate(&self, mut at: u64, page_size: u32) -> Option<(u64, u64)> {
        let page_size = u64::from(page_size);
        self.iter().find_map(|extent| {
            let size = u64::from(extent.pages) * page_size;
            if at >= size {
                at -= size;
                return None;
            }
            Some((u64::from(extent.page) * page_size + at, size - at))
        })
    }
}

/// What the number of the bytes in its pages tells of a long value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many chunks it has: the least number for which head and value fit into them.
    pub(crate) chunks: u64,
    /// Bytes of the head: the value starts there.
    pub(crate) head: u64,
    /// Where the value ends.
    pub(crate) end: u64,
}

impl Shape {
    /// (A value beyond the limit has the shape of one at the limit.)
    pub(crate) fn of(len: u64) -> Shape {
        let mut chunks = 1;
        loop {
            let head = (PAGE_HEADER as u64 + 4 * chunks).next_multiple_of(ALIGNMENT);
            let end = head + len.min(MAX_VALUE_SIZE);
            let needed = end.div_ceil(CHUNK);
            if needed <= chunks {
                return Shape { chunks, head, end };
            }
            chunks = needed;
        }
    }

    /// Where the CRC of a chunk lies in the head.
    pub(crate) fn crc_at(chunk: u64) -> usize {
        usize::try_from(PAGE_HEADER as u64 + 4 * chunk).unwrap_or(usize::MAX)
    }

    /// The bytes that the CRC of a chunk covers, of `total` bytes in the value's pages.
    pub(crate) fn chunk(&self, chunk: u64, total: u64) -> Range<u64> {
        let start = (chunk * CHUNK).max(self.head);
        start..((chunk + 1) * CHUNK).min(total).max(start)
    }

    /// The part of the value that lies in a chunk.
    pub(crate) fn value_in(&self, chunk: u64) -> Range<u64> {
        let part = self.chunk(chunk, self.end);
        part.start - self.head..part.end - self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_needs_as_few_chunks_as_hold_it_and_its_head() {
        let shape = |len| {
            let Shape { chunks, head, end } = Shape::of(len);
            assert_eq!(end, head + len);
            (chunks, head)
        };
        assert_eq!(shape(0), (1, 64));
        assert_eq!(shape(CHUNK - 64), (1, 64));
        assert_eq!(shape(CHUNK - 63), (2, 64));
        assert_eq!(shape(6 * CHUNK - 64), (6, 64));
        assert_eq!(shape(6 * CHUNK - 63), (7, 128));
        // The head of the longest value is longer than a chunk: the first chunk has nothing of the value.
        assert_eq!(shape(MAX_VALUE_SIZE), (16386, 65600));
        let longest = Shape::of(MAX_VALUE_SIZE);
        assert_eq!((longest.value_in(0), longest.value_in(1)), (0..0, 0..2 * CHUNK - 65600));
        assert_eq!(Shape::of(u64::MAX), longest);
        assert_eq!(Overflow::pages(8192 - 64, 4096), 2);
        assert_eq!(Overflow::pages(8192 - 63, 4096), 3);
    }

    #[test]
    fn pointers_read_back_and_impossible_ones_are_refused() {
        let ptr = Ptr { page: 9, crc: 3 };
        let place = |list: &[(u32, u32)]| {
            let mut extents = Extents::default();
            list.iter().for_each(|(page, pages)| extents.push(Extent { page: *page, pages: *pages }));
            extents
        };
        let len = 1 << 20;
        let pointer = |list: &[(u32, u32)], len| Overflow::placed(&place(list), 3, len, 4);
        for list in [&[(9, 257)][..], &[(9, 16), (100, 241)], &[(400, 32), (9, 224), (900, 1)]] {
            let long = pointer(list, len);
            assert_eq!(long.encode().len(), 24 + 8 * (list.len() - 1));
            assert_eq!(Overflow::decode(&long.encode()), Some(long));
            assert_eq!(long.extents(4096), Some(place(list)));
        }
        assert_eq!(Overflow::whole(ptr, len, 4), pointer(&[(9, 257)], len));
        let refused = [
            pointer(&[(9, 17), (100, 240)], len),
            pointer(&[(9, 16), (100, 300)], len),
            pointer(&[(9, 16), (24, 241)], len),
            pointer(&[(u32::MAX - 5, 257)], len),
            pointer(&[(9, 1)], MAX_VALUE_SIZE + 1),
        ];
        for long in refused {
            assert_eq!(long.extents(4096), None, "{long:?}");
        }
        let bytes = pointer(&[(9, 16), (100, 241)], len).encode();
        assert_eq!(Overflow::decode(&bytes[..31]), None);
        assert_eq!(Overflow::decode(&[&bytes[..28], &[0; 4]].concat()), None);
        assert_eq!(Overflow::decode(&[0; 24 + 64]), None);
    }

    #[test]
    fn a_tail_follows_its_pointer() {
        let mut extents = Extents::one(9, 16);
        let one = Overflow::placed(&extents, 3, 60_000, 4);
        extents.push(Extent { page: 100, pages: 1 });
        let two = Overflow::placed(&extents, 3, 66_000, 4);
        for (long, tail) in [(one, &b""[..]), (one, b"a"), (two, &[7; 3000]), (two, &[0; 8])] {
            let bytes = long.with_tail(tail);
            assert_eq!(Overflow::decode_with_tail(&bytes), Some((long, tail)));
            assert_eq!(Overflow::decode(&bytes), tail.is_empty().then_some(long), "a frame has none");
            assert_eq!(Overflow::decode_with_tail(&[&bytes[..], &[0]].concat()), None, "a byte too many");
            assert_eq!(Overflow::decode_with_tail(&bytes[..bytes.len() - 1]), None, "one too few");
        }
        let told = |len: u32, tail: u32, size: usize| {
            let mut bytes = vec![0; size];
            put_u32(&mut bytes, 8, len);
            put_u32(&mut bytes, TAIL_LEN, tail);
            Overflow::decode_with_tail(&bytes).map(|(long, tail)| (long.len, tail.len()))
        };
        assert_eq!(told(5, 7, 31), Some((5, 7)));
        let refused = [told(5, 8, 31), told(5, u32::MAX, 31), told(5, 7, 30), told(5, 7, 16), told(1 << 30, 7, 31)];
        assert_eq!(refused, [None; 5]);
        // All that is beyond a pointer's bytes is the tail's: none of it is taken for another extent.
        assert_eq!(told(5, 0, 31), None);
    }

    #[test]
    fn bytes_are_found_in_their_extents() {
        let mut extents = Extents::one(10, 16);
        extents.push(Extent { page: 5, pages: 2 });
        assert_eq!((extents.pages(), extents.end(), extents.len()), (18, 26, 2));
        assert_eq!(extents.locate(0, 4096), Some((40960, CHUNK)));
        assert_eq!(extents.locate(CHUNK - 1, 4096), Some((40960 + CHUNK - 1, 1)));
        assert_eq!(extents.locate(CHUNK, 4096), Some((5 * 4096, 8192)));
        assert_eq!(extents.locate(CHUNK + 8192, 4096), None);
    }
}
