//! Long values: where they lie, and whether their bytes are right, chunk by chunk.

use std::borrow::Cow;
use std::ops::Range;

use super::file::{Expect, File};
use super::node::is_zero;
use super::pages::Described;
use crate::disk::format::{
    Extents, MAX_VALUE_SIZE, Overflow, PAGE_CRC, PAGE_NUMBER, PAGE_PAYLOAD_LEN, PAGE_RUN, PAGE_VERSION, Shape, get_u32,
    get_u64,
};

/// Damaged ranges that are named.
const NAMED: usize = 4;

impl File<'_> {
    /// The pages of a long value, which need not lie within those of the root.
    pub(in crate::maintain) fn extents(&self, long: &Overflow) -> Result<Extents, String> {
        if long.len > MAX_VALUE_SIZE {
            return Err(format!("a value of {} bytes", long.len));
        }
        long.extents(self.page_size).ok_or_else(|| {
            let pages = Overflow::pages(long.len, self.page_size);
            format!("its extents are not those of {} bytes in {pages} pages", long.len)
        })
    }

    /// The same, if they lie within the pages of the root.
    pub(in crate::maintain) fn extents_within(&self, long: &Overflow) -> Result<Extents, String> {
        let extents = self.extents(long)?;
        extents.iter().try_for_each(|extent| self.within(extent.page, u64::from(extent.pages)))?;
        Ok(extents)
    }

    /// Verifies a long value chunk by chunk. It need not lie within the pages of the root.
    pub(in crate::maintain) fn verify_long(&self, long: &Overflow, expect: Expect) -> Result<(), String> {
        self.long_pieces(long, expect, |_| {})
    }

    /// A long value, verified.
    pub(in crate::maintain) fn long_value(&self, long: &Overflow, expect: Expect) -> Result<Vec<u8>, String> {
        self.extents(long)?;
        let size = usize::try_from(long.len).unwrap_or(usize::MAX);
        let mut value = Vec::new();
        value.try_reserve_exact(size).map_err(|_| format!("no memory for a value of {size} bytes"))?;
        self.long_pieces(long, expect, |piece| value.extend_from_slice(piece))?;
        Ok(value)
    }

    fn long_pieces(&self, long: &Overflow, expect: Expect, each: impl FnMut(&[u8])) -> Result<(), String> {
        let extents = self.extents(long)?;
        verify(self, long, &extents, expect, |range| self.part(&extents, range).map(Cow::Owned), each)
    }

    /// A long value of one extent of which all bytes are at hand, verified.
    pub(in crate::maintain) fn long_value_of<'b>(
        &self,
        bytes: &'b [u8],
        long: &Overflow,
        expect: Expect,
    ) -> Result<&'b [u8], String> {
        let extents = self.extents(long)?;
        let place = |range: Range<u64>| {
            let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            range.and_then(|(start, end)| bytes.get(start..end)).ok_or_else(|| "a part of it is missing".to_owned())
        };
        verify(self, long, &extents, expect, |range| place(range).map(Cow::Borrowed), |_| {})?;
        let Shape { head, end, .. } = Shape::of(long.len);
        place(head..end)
    }

    /// Verifies a long value that was found by its first page: without a pointer, as far as that run of pages goes.
    pub(in crate::maintain) fn verify_found(
        &self,
        page: &[u8],
        told: &Described,
        expect: Expect,
    ) -> Result<(), String> {
        let long = Overflow::whole(told.ptr, get_u64(page, PAGE_PAYLOAD_LEN), told.version);
        if self.extents(&long)?.pages() == u64::from(told.pages) {
            return self.verify_long(&long, expect);
        }
        // Only a pointer tells where its other extents are.
        let extents = Extents::one(told.ptr.page, told.pages);
        let head = self.part(&extents, 0..Shape::of(long.len).head)?;
        verify_head(self, &long, &extents, expect, &head)
    }

    /// Bytes of a value's pages.
    fn part(&self, extents: &Extents, range: Range<u64>) -> Result<Vec<u8>, String> {
        let mut part = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
        let (mut at, mut rest) = (range.start, part.as_mut_slice());
        while !rest.is_empty() {
            let (offset, here) = extents.locate(at, self.page_size).ok_or("it has too few pages")?;
            let size = usize::try_from(here).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(size);
            self.read(now, offset)?;
            at += size as u64;
            rest = later;
        }
        Ok(part)
    }
}

/// Verifies all of a value whose pages `fetch` reads. `each` gets its bytes in order, up to the first that are damaged.
fn verify<'b>(
    file: &File<'_>,
    long: &Overflow,
    extents: &Extents,
    expect: Expect,
    fetch: impl Fn(Range<u64>) -> Result<Cow<'b, [u8]>, String>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), String> {
    let shape = Shape::of(long.len);
    let head = fetch(0..shape.head)?;
    verify_head(file, long, extents, expect, &head)?;
    let total = extents.pages() * u64::from(file.page_size);
    let mut damaged: Vec<Range<u64>> = Vec::new();
    let mut padding = true;
    for chunk in 0..shape.chunks {
        let (range, value) = (shape.chunk(chunk, total), shape.value_in(chunk));
        let bytes = fetch(range).ok().filter(|bytes| crc32fast::hash(bytes) == get_u32(&head, Shape::crc_at(chunk)));
        let Some(bytes) = bytes else {
            match damaged.last_mut() {
                Some(last) if last.end == value.start => last.end = value.end,
                _ => damaged.push(value),
            }
            continue;
        };
        let (used, rest) = bytes.split_at(usize::try_from(value.end - value.start).unwrap_or(0).min(bytes.len()));
        padding &= is_zero(rest);
        if damaged.is_empty() {
            each(used);
        }
    }
    if !damaged.is_empty() {
        return Err(lost(long, extents, shape, file.page_size, &damaged));
    }
    if padding { Ok(()) } else { Err("bytes after its end are not zero".to_owned()) }
}

fn verify_head(file: &File<'_>, long: &Overflow, extents: &Extents, expect: Expect, head: &[u8]) -> Result<(), String> {
    file.header(head, long.ptr, expect)?;
    if crc32fast::hash(head.get(PAGE_NUMBER..).unwrap_or_default()) != get_u32(head, PAGE_CRC) {
        return Err("its head does not match its CRC".to_owned());
    }
    let first = extents.iter().next().unwrap_or_default();
    let (found, expected) = (
        (get_u64(head, PAGE_PAYLOAD_LEN), get_u32(head, PAGE_RUN), get_u64(head, PAGE_VERSION)),
        (long.len, first.pages, long.version),
    );
    if found != expected {
        let show = |(len, pages, version): (u64, u32, u64)| {
            format!("{len} bytes from a run of {pages} pages on, written for root {version}")
        };
        return Err(format!("{}, not {} as its pointer says", show(found), show(expected)));
    }
    let table = Shape::crc_at(Shape::of(long.len).chunks);
    if !is_zero(head.get(table..).unwrap_or_default()) {
        return Err("bytes of its head are not zero".to_owned());
    }
    Ok(())
}

/// Which bytes of a value are damaged, and where they lie.
fn lost(long: &Overflow, extents: &Extents, shape: Shape, page_size: u32, damaged: &[Range<u64>]) -> String {
    let name = |range: &Range<u64>| {
        let at = extents.locate(shape.head + range.start, page_size).map_or(0, |(offset, _)| offset);
        format!("{}..{} (at offset {at})", range.start, range.end)
    };
    let named: Vec<String> = damaged.iter().take(NAMED).map(name).collect();
    let more =
        if damaged.len() > NAMED { format!(" and {} more ranges", damaged.len() - NAMED) } else { String::new() };
    format!("of its {} bytes, those do not match their CRC: {}{more}", long.len, named.join(", "))
}
