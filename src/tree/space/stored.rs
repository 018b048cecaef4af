//! Reading and writing the free map: its bytes.

use super::bitmap::MAX_PAGES;
use super::{Own, Region, Space, SpaceRoot};
use crate::bytes::Bytes;
use crate::disk::format::{
    KIND_FREE_DIRECTORY, KIND_FREE_REGION, KIND_PENDING, PAGE_CRC, PAGE_HEADER, PAGE_KIND, PAGE_NUMBER,
    PAGE_PAYLOAD_LEN, PAGE_RUN, PAGE_STORE, PAGE_TABLE, PAGE_VERSION, Ptr, TABLE_SPACE, get_u32, get_u64, put_bytes,
    put_u32, put_u64,
};
use crate::error::{CorruptionKind as Kind, Error, Result};

/// Bytes of a region in the directory, of a group's start and of a range in the pending list.
pub(super) const DIRECTORY_ENTRY: usize = 16;
pub(super) const GROUP_HEADER: usize = 20;
pub(super) const RANGE: usize = 8;

impl Space {
    /// Loads the free map of `root`. `read` returns the verified run, with its header, behind a pointer to a run
    /// of the given kind. The caller has checked `page_count` against the file's length, which bounds the memory
    /// used here.
    pub(crate) fn load<'a>(
        page_size: u32,
        store_tag: u32,
        first_page: u32,
        root: SpaceRoot,
        read: &mut dyn FnMut(Ptr, u8) -> Result<Bytes<'a>>,
    ) -> Result<Space> {
        if root.page_count > u64::from(MAX_PAGES) || root.page_count < u64::from(first_page) {
            return Err(Error::corrupt(
                Kind::RootSlots,
                0,
                None,
                format!("{first_page} to {MAX_PAGES} pages"),
                format!("{} pages", root.page_count),
            ));
        }
        let mut space = Space::new(page_size, store_tag, first_page, root.page_count);
        let mut own = Vec::new();
        if !root.directory.is_none() {
            let run = read(root.directory, KIND_FREE_DIRECTORY)?;
            space.directory = space.own(root.directory.page, &run);
            own.push((space.directory.page, space.directory.len));
            space.load_regions(root.directory.page, &run, &mut own, read)?;
        }
        if !root.pending.is_none() {
            let run = read(root.pending, KIND_PENDING)?;
            space.pending_list = space.own(root.pending.page, &run);
            own.push((space.pending_list.page, space.pending_list.len));
            space.load_pending(root.pending.page, &run)?;
        }
        space.check_uses(own)?;
        Ok(space)
    }

    /// The number of pages by which the file must [grow](Self::grow) so that [`Self::save`] has room; call again
    /// after growing, until it is 0.
    pub(crate) fn growth_needed(&mut self) -> u64 {
        self.merge_pending();
        // Two more regions than now: growing may start one, and end in the next.
        let regions = self.regions.len() + 2;
        let runs = self.pages_of(regions * DIRECTORY_ENTRY) + self.pages_of(self.pending_bound());
        // Single pages fit anywhere; the two runs, allocated first, need at worst that many consecutive pages.
        let in_a_row = if runs > 2 { runs } else { 1 };
        let fits = u32::try_from(in_a_row).is_ok_and(|run| self.free.find(run).is_some());
        let missing = (regions as u64 + runs).saturating_sub(self.free_pages());
        missing.max(if fits { 0 } else { in_a_row.saturating_sub(self.free_tail()) })
    }

    /// Writes the changes as part of root `version`, into pages allocated from this space, and retires the pages
    /// that held them before. Requires [`Self::growth_needed`] to be 0; after an error the space must be loaded
    /// again.
    pub(crate) fn save(&mut self, version: u64, write: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<SpaceRoot> {
        let mut outdated: Vec<Own> = self.orphans.drain(..).collect();
        outdated.push(std::mem::take(&mut self.directory));
        outdated.push(std::mem::take(&mut self.pending_list));
        outdated.extend(self.regions.iter_mut().filter(|region| region.dirty).filter_map(Region::detach));
        for own in outdated {
            self.retire_own(own, version);
        }
        self.merge_pending();

        // Runs first, while the free pages are consecutive. Allocating may change regions that were clean, whose
        // old pages then join the pending list: its run has room for them already.
        let directory_pages = self.pages_of(self.regions.len() * DIRECTORY_ENTRY);
        let pending_pages = self.pages_of(self.pending_bound());
        let directory = self.take_own(directory_pages, version)?;
        let pending = self.take_own(pending_pages, version)?;
        let written = self.settle_regions(version)?;
        self.merge_pending();

        for index in written {
            self.write_region(index, version, write)?;
        }
        let entries = self.directory_payload();
        let directory_ptr = self.write_run(directory, KIND_FREE_DIRECTORY, &entries, write)?;
        let groups = self.pending_payload();
        let pending_ptr = self.write_run(pending, KIND_PENDING, &groups, write)?;
        self.directory = directory;
        self.pending_list = pending;
        Ok(SpaceRoot { directory: directory_ptr, pending: pending_ptr, page_count: self.page_count() })
    }

    /// Gives each changed region that has free pages a new page. Allocating it may change another region, which
    /// then needs a page too. That terminates, since each region is settled once, and a settled region keeps its
    /// page even if its last free page is allocated.
    fn settle_regions(&mut self, version: u64) -> Result<Vec<usize>> {
        let mut settled = vec![false; self.regions.len()];
        let mut written = Vec::new();
        loop {
            let open: Vec<usize> = (0..)
                .zip(self.regions.iter().zip(&settled))
                .filter_map(|(index, (region, settled))| (region.dirty && !settled).then_some(index))
                .collect();
            if open.is_empty() {
                break;
            }
            for index in open {
                if let Some(old) = self.regions.get_mut(index).and_then(Region::detach) {
                    self.retire_own(old, version);
                }
                if self.free_in_region(index) > 0 {
                    let page = self.take_own(1, version)?.page;
                    if let Some(region) = self.regions.get_mut(index) {
                        *region = Region { ptr: Ptr { page, crc: 0 }, birth: version, dirty: true };
                    }
                    written.push(index);
                }
                if let Some(settled) = settled.get_mut(index) {
                    *settled = true;
                }
            }
        }
        for region in &mut self.regions {
            region.dirty = false;
        }
        Ok(written)
    }

    fn write_region(
        &mut self,
        index: usize,
        version: u64,
        write: &mut dyn FnMut(u32, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut payload = vec![0; self.page_size as usize - PAGE_HEADER];
        let words = self.free.words(index * self.region_words(), self.region_words());
        for (place, word) in payload.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let page = self.regions.get(index).map_or(0, |region| region.ptr.page);
        let ptr = self.write_run(Own { page, len: 1, birth: version }, KIND_FREE_REGION, &payload, write)?;
        if let Some(region) = self.regions.get_mut(index) {
            region.ptr = ptr;
        }
        Ok(())
    }

    fn directory_payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.regions.len() * DIRECTORY_ENTRY);
        for (index, region) in self.regions.iter().enumerate() {
            let free = if region.ptr.is_none() { 0 } else { self.free_in_region(index) };
            for word in [region.ptr.page, region.ptr.crc, free, 0] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        out
    }

    fn load_regions<'a>(
        &mut self,
        page: u32,
        run: &[u8],
        own: &mut Vec<(u32, u32)>,
        read: &mut dyn FnMut(Ptr, u8) -> Result<Bytes<'a>>,
    ) -> Result<()> {
        let payload = self.payload(Kind::FreeDirectory, page, run)?;
        if payload.len() != self.regions.len() * DIRECTORY_ENTRY {
            let expected = format!("{} regions", self.regions.len());
            return Err(self.corrupt(Kind::FreeDirectory, page, expected, format!("{} bytes", payload.len())));
        }
        for (index, entry) in payload.chunks_exact(DIRECTORY_ENTRY).enumerate() {
            let ptr = Ptr::get(entry, 0);
            let free = get_u32(entry, 8);
            if ptr.is_none() {
                if free != 0 {
                    return Err(self.corrupt(Kind::FreeDirectory, page, "a region page", "none, but free pages"));
                }
                continue;
            }
            let bytes = read(ptr, KIND_FREE_REGION)?;
            let bitmap = self.payload(Kind::FreeRegion, ptr.page, &bytes)?;
            if bitmap.len() != self.region_words() * 8 || bytes.len() != self.page_size as usize {
                return Err(self.corrupt(
                    Kind::FreeRegion,
                    ptr.page,
                    "a page of bits",
                    format!("{} bytes", bitmap.len()),
                ));
            }
            let before = self.free.free();
            let words = bitmap.chunks_exact(8).map(|word| get_u64(word, 0));
            if !self.free.load(index * self.region_words(), words) {
                return Err(self.corrupt(Kind::FreeRegion, ptr.page, "pages of the file", "pages beyond its end"));
            }
            if self.free.free() - before != free {
                let found = format!("{}", self.free.free() - before);
                return Err(self.corrupt(Kind::FreeRegion, ptr.page, format!("{free} free pages"), found));
            }
            own.push((ptr.page, 1));
            if let Some(region) = self.regions.get_mut(index) {
                *region = Region { ptr, birth: get_u64(&bytes, PAGE_VERSION), dirty: false };
            }
        }
        Ok(())
    }

    /// The largest size of the pending list, in bytes, once every page of this structure is retired.
    fn pending_bound(&self) -> usize {
        let own = self.regions.iter().filter(|region| !region.ptr.is_none()).count() + self.orphans.len() + 2;
        let groups = self.pending.values().map(|ranges| GROUP_HEADER + ranges.len() * RANGE).sum::<usize>();
        groups + own * (GROUP_HEADER + RANGE)
    }

    fn pending_payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for ((freed, birth), ranges) in &self.pending {
            out.extend_from_slice(&birth.to_le_bytes());
            out.extend_from_slice(&freed.to_le_bytes());
            out.extend_from_slice(&u32::try_from(ranges.len()).unwrap_or(u32::MAX).to_le_bytes());
            for (page, run) in ranges {
                out.extend_from_slice(&page.to_le_bytes());
                out.extend_from_slice(&run.to_le_bytes());
            }
        }
        out
    }

    fn load_pending(&mut self, page: u32, run: &[u8]) -> Result<()> {
        let kind = Kind::PendingList;
        let mut rest = self.payload(kind, page, run)?;
        let mut last = None;
        while !rest.is_empty() {
            let (birth, freed) = (get_u64(rest, 0), get_u64(rest, 8));
            let body = (get_u32(rest, 16) as usize).saturating_mul(RANGE);
            let ranges = rest.get(GROUP_HEADER..GROUP_HEADER.saturating_add(body));
            let Some(ranges) = ranges.filter(|_| birth < freed && body > 0 && last < Some((freed, birth))) else {
                return Err(self.corrupt(kind, page, "groups of ranges", format!("one of {birth} to {freed}")));
            };
            rest = rest.get(GROUP_HEADER + body..).unwrap_or_default();
            last = Some((freed, birth));
            let ranges: Vec<_> = ranges.chunks_exact(RANGE).map(|r| (get_u32(r, 0), get_u32(r, 4))).collect();
            for (first, run) in &ranges {
                if *run == 0 || u64::from(*first) + u64::from(*run) > self.page_count() {
                    return Err(self.corrupt(kind, page, "pages of the file", format!("{run} pages from {first}")));
                }
                self.pending_pages += u64::from(*run);
            }
            self.pending.insert((freed, birth), ranges);
        }
        Ok(())
    }

    /// Checks that each page has one use: pending, part of this structure, or free.
    fn check_uses(&self, own: Vec<(u32, u32)>) -> Result<()> {
        let kind = Kind::FreeMap;
        let under_slots = (0, self.first_page);
        let mut used = own;
        used.extend(self.pending.values().flatten());
        used.push(under_slots);
        used.sort_unstable();
        let mut end = 0;
        for (page, run) in used {
            if page < end {
                return Err(self.corrupt(kind, page, "one use of the page", "two"));
            }
            if self.free.any_free(page, run) {
                return Err(self.corrupt(kind, page, "a used page", "a free one"));
            }
            end = page.saturating_add(run);
        }
        Ok(())
    }

    fn own(&self, page: u32, run: &[u8]) -> Own {
        let len = u32::try_from(run.len() / self.page_size as usize).unwrap_or(u32::MAX);
        Own { page, len, birth: get_u64(run, PAGE_VERSION) }
    }

    fn pages_of(&self, payload: usize) -> u64 {
        (payload + PAGE_HEADER).div_ceil(self.page_size as usize) as u64
    }

    fn take_own(&mut self, pages: u64, version: u64) -> Result<Own> {
        let len = u32::try_from(pages).unwrap_or(u32::MAX);
        let page = self
            .allocate(len)
            .ok_or_else(|| Error::Internal("the free map was saved without asking for growth first".to_owned()))?;
        Ok(Own { page, len, birth: version })
    }

    fn retire_own(&mut self, own: Own, version: u64) {
        // Never freed at once, whatever version the page gives: the durable root uses it.
        self.retire(own.page, own.len, own.birth.min(version.saturating_sub(1)), version);
    }

    fn write_run(
        &self,
        own: Own,
        kind: u8,
        payload: &[u8],
        write: &mut dyn FnMut(u32, &[u8]) -> Result<()>,
    ) -> Result<Ptr> {
        let mut run = vec![0; own.len as usize * self.page_size as usize];
        put_u32(&mut run, PAGE_NUMBER, own.page);
        put_u32(&mut run, PAGE_STORE, self.store_tag);
        if let Some(place) = run.get_mut(PAGE_KIND) {
            *place = kind;
        }
        put_u64(&mut run, PAGE_VERSION, own.birth);
        put_u32(&mut run, PAGE_TABLE, TABLE_SPACE);
        put_u32(&mut run, PAGE_RUN, own.len);
        put_u64(&mut run, PAGE_PAYLOAD_LEN, payload.len() as u64);
        put_bytes(&mut run, PAGE_HEADER, payload);
        let crc = crc32fast::hash(run.get(PAGE_NUMBER..).unwrap_or_default());
        put_u32(&mut run, PAGE_CRC, crc);
        write(own.page, &run)?;
        Ok(Ptr { page: own.page, crc })
    }

    fn payload<'r>(&self, kind: Kind, page: u32, run: &'r [u8]) -> Result<&'r [u8]> {
        let len = get_u64(run, PAGE_PAYLOAD_LEN);
        usize::try_from(len)
            .ok()
            .and_then(|len| run.get(PAGE_HEADER..)?.get(..len))
            .ok_or_else(|| self.corrupt(kind, page, "a payload within the run", format!("{len} bytes")))
    }

    fn corrupt(&self, kind: Kind, page: u32, expected: impl Into<String>, found: impl Into<String>) -> Error {
        let offset = u64::from(page) * u64::from(self.page_size);
        Error::corrupt(kind, offset, Some(u64::from(page)), expected, found)
    }
}
