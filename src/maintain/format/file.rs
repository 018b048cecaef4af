//! Reading runs of pages and checking their headers. Problems are returned as text.

use std::borrow::Cow;

use crate::disk::format::{
    FIRST_PAGE, KIND_BRANCH, KIND_FREE_DIRECTORY, KIND_FREE_REGION, KIND_PENDING, PAGE_CRC, PAGE_HEADER, PAGE_KIND,
    PAGE_LEVEL, PAGE_NUMBER, PAGE_PAYLOAD_LEN, PAGE_RESERVED, PAGE_RUN, PAGE_STORE, PAGE_TABLE, PAGE_VERSION, Ptr,
    TABLE_SPACE, get_u16, get_u32, get_u64,
};
use crate::disk::platform::Disk;

use super::node::is_zero;

/// What a run must be.
#[derive(Clone, Copy)]
pub(in crate::maintain) struct Expect {
    pub(in crate::maintain) kinds: &'static [u8],
    pub(in crate::maintain) table: u32,
    /// Newest root that it may have been written for.
    pub(in crate::maintain) version: u64,
}

#[derive(Clone, Copy)]
pub(in crate::maintain) struct File<'d> {
    pub(in crate::maintain) disk: &'d dyn Disk,
    pub(in crate::maintain) page_size: u32,
    pub(in crate::maintain) store_tag: u32,
    /// Pages that exist.
    pub(in crate::maintain) pages: u32,
    /// Sequence of the root.
    pub(in crate::maintain) version: u64,
}

impl File<'_> {
    /// Pages below lie under the root slots and the epoch's block.
    pub(in crate::maintain) fn first_page(&self) -> u32 {
        FIRST_PAGE
    }

    pub(in crate::maintain) fn offset(&self, page: u32) -> u64 {
        u64::from(page) * u64::from(self.page_size)
    }

    pub(in crate::maintain) fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), String> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.disk.read_at(rest, offset + done as u64) {
                Ok(0) => return Err("it lies beyond the end of the file".to_owned()),
                Ok(read) => done += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("it cannot be read: {error}")),
            }
        }
        Ok(())
    }

    /// Whether a run lies within the pages of the root.
    pub(in crate::maintain) fn within(&self, page: u32, run: u64) -> Result<(), String> {
        if page < self.first_page() || run == 0 || u64::from(page) + run > u64::from(self.pages) {
            return Err(format!("{run} pages from page {page} on do not exist"));
        }
        Ok(())
    }

    /// Judges the header of a run alone.
    pub(in crate::maintain) fn head(&self, ptr: Ptr, expect: Expect) -> Result<(), String> {
        self.within(ptr.page, 1)?;
        let mut head = [0; PAGE_HEADER];
        self.read(&mut head, self.offset(ptr.page))?;
        self.header(&head, ptr, expect).map(drop)
    }

    /// A whole run of at most `max_pages`, verified.
    pub(in crate::maintain) fn run(&self, ptr: Ptr, expect: Expect, max_pages: u32) -> Result<Vec<u8>, String> {
        self.within(ptr.page, 1)?;
        let mut first = vec![0; self.page_size as usize];
        self.read(&mut first, self.offset(ptr.page))?;
        let more = match self.run_of(&first, ptr, expect, max_pages)? {
            Cow::Owned(run) => Some(run),
            Cow::Borrowed(_) => None,
        };
        Ok(more.unwrap_or(first))
    }

    /// A run, verified, of which at least the first page is at hand, and lies within those of the root. What is missing is
    /// read.
    pub(in crate::maintain) fn run_of<'b>(
        &self,
        at_hand: &'b [u8],
        ptr: Ptr,
        expect: Expect,
        max_pages: u32,
    ) -> Result<Cow<'b, [u8]>, String> {
        let first = at_hand.get(..self.page_size as usize).unwrap_or(at_hand);
        let pages = self.header(first, ptr, expect)?;
        if pages > max_pages {
            return Err(format!("a run of {pages} pages, longer than the {max_pages} allowed"));
        }
        self.within(ptr.page, u64::from(pages))?;
        let run = match at_hand.get(..pages as usize * self.page_size as usize) {
            Some(run) => Cow::Borrowed(run),
            None => Cow::Owned(self.rest_of(at_hand, ptr.page, pages)?),
        };
        if crc32fast::hash(run.get(PAGE_NUMBER..).unwrap_or_default()) != ptr.crc {
            return Err("its bytes do not match its CRC".to_owned());
        }
        Ok(run)
    }

    /// A run of which the first bytes are at hand.
    fn rest_of(&self, first: &[u8], page: u32, pages: u32) -> Result<Vec<u8>, String> {
        // Long runs exist in long files alone, but such a file may be all holes.
        let len = pages as usize * self.page_size as usize;
        let mut run = Vec::new();
        run.try_reserve_exact(len).map_err(|_| format!("no memory for a run of {len} bytes"))?;
        run.extend_from_slice(first);
        run.resize(len, 0);
        let rest = run.get_mut(first.len()..).unwrap_or_default();
        self.read(rest, self.offset(page) + first.len() as u64)?;
        Ok(run)
    }

    /// The payload of a run of the free map, and the pages of the run.
    pub(in crate::maintain) fn space_payload(&self, ptr: Ptr, kind: u8) -> Result<(Vec<u8>, u32), String> {
        let (kinds, max_pages): (&[u8], u32) = match kind {
            KIND_FREE_DIRECTORY => (&[KIND_FREE_DIRECTORY], self.pages),
            KIND_FREE_REGION => (&[KIND_FREE_REGION], 1),
            _ => (&[KIND_PENDING], self.pages),
        };
        let mut run = self.run(ptr, Expect { kinds, table: TABLE_SPACE, version: self.version }, max_pages)?;
        let pages = u32::try_from(run.len() / self.page_size as usize).unwrap_or(u32::MAX);
        let len = usize::try_from(get_u64(&run, PAGE_PAYLOAD_LEN)).unwrap_or(usize::MAX);
        let end = len.saturating_add(PAGE_HEADER);
        match run.get(end..) {
            Some(rest) if is_zero(rest) => {}
            Some(_) => return Err("bytes after its payload are not zero".to_owned()),
            None => return Err(format!("a payload of {len} bytes in {pages} pages")),
        }
        run.truncate(end);
        run.drain(..PAGE_HEADER);
        Ok((run, pages))
    }

    /// Judges a header; gives the pages of the run.
    pub(super) fn header(&self, run: &[u8], ptr: Ptr, expect: Expect) -> Result<u32, String> {
        let crc = get_u32(run, PAGE_CRC);
        let number = get_u32(run, PAGE_NUMBER);
        let tag = get_u32(run, PAGE_STORE);
        let kind = run.get(PAGE_KIND).copied().unwrap_or(0);
        let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        let version = get_u64(run, PAGE_VERSION);
        let table = get_u32(run, PAGE_TABLE);
        let pages = get_u32(run, PAGE_RUN);
        if run.iter().all(|byte| *byte == 0) {
            return Err("it is all zeros".to_owned());
        }
        if number != ptr.page {
            return Err(format!("it says that it is page {number}: misdirected"));
        }
        if tag != self.store_tag {
            return Err(format!("it bears the tag {tag:08x} of another store, not {:08x}", self.store_tag));
        }
        if crc != ptr.crc {
            return Err(format!("its CRC is {crc:08x}, but {:08x} is expected: damaged, stale or lost", ptr.crc));
        }
        if !expect.kinds.contains(&kind) {
            return Err(format!("its kind is {kind}, not one of {:?}", expect.kinds));
        }
        if table != expect.table {
            return Err(format!("it belongs to table {table}, not {}", expect.table));
        }
        if version > expect.version {
            return Err(format!("it was written for root {version}, later than {}", expect.version));
        }
        if get_u16(run, PAGE_RESERVED) != 0 || (level != 0) != (kind == KIND_BRANCH) {
            return Err(format!("level {level} of kind {kind}"));
        }
        if pages == 0 {
            return Err("a run of no pages".to_owned());
        }
        Ok(pages)
    }
}
