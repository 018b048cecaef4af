//! Reading and writing the free map: its bytes.

use super::bitmap::MAX_PAGES;
use super::{Groups, Own, Part, Region, Space, SpaceRoot};
use crate::bytes::Bytes;
use crate::disk::format::{
    KIND_FREE_DIRECTORY, KIND_FREE_REGION, KIND_PENDING, KIND_PENDING_PART, PAGE_CRC, PAGE_HEADER, PAGE_KIND,
    PAGE_NUMBER, PAGE_PAYLOAD_LEN, PAGE_RUN, PAGE_STORE, PAGE_TABLE, PAGE_VERSION, Ptr, TABLE_SPACE, get_u32, get_u64,
    put_bytes, put_u32, put_u64,
};
use crate::error::{CorruptionKind as Kind, Error, Result};

/// Bytes of a region in the directory; of the number of parts, of a part, of a group's start and of a range in the
/// pending list.
pub(super) const DIRECTORY_ENTRY: usize = 16;
pub(super) const PARTS_HEADER: usize = 4;
pub(super) const PART: usize = 8;
pub(super) const GROUP_HEADER: usize = 20;
pub(super) const RANGE: usize = 8;
/// No list has more parts: each is at least twice as long as the next shorter one, and no file has more than 2^32 pages.
const MAX_PARTS: usize = 32;

/// What the pending list takes in the next root.
struct Plan {
    /// Parts that join the new one: so many of the shortest.
    joined: usize,
    /// Bytes of the new part, at most; 0: there is none.
    part: usize,
    /// Bytes of the pending run, at most.
    list: usize,
}

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
            space.load_pending(root.pending.page, &run, &mut own, read)?;
        }
        space.check_uses(own)?;
        Ok(space)
    }

    /// The number of pages by which the file must [grow](Self::grow) so that [`Self::save`] has room for root `version`;
    /// call again after growing, until it is 0.
    pub(crate) fn growth_needed(&mut self, version: u64) -> u64 {
        self.merge_pending();
        let plan = self.plan(version);
        // Two more regions than now: growing may start one, and end in the next.
        let regions = self.regions.len() + 2;
        let runs = [self.pages_of(regions * DIRECTORY_ENTRY), self.pages_of(plan.list), self.pages_of_part(&plan)];
        let pages = runs.iter().sum::<u64>();
        // Single pages fit anywhere; the runs, allocated first, need at worst that many consecutive pages.
        let in_a_row = if runs.iter().any(|run| *run > 1) { pages } else { 1 };
        let fits = u32::try_from(in_a_row).is_ok_and(|run| self.free.find(run).is_some());
        let missing = (regions as u64 + pages).saturating_sub(self.free_pages());
        missing.max(if fits { 0 } else { in_a_row.saturating_sub(self.free_tail()) })
    }

    /// Writes the changes as part of root `version`, into pages allocated from this space, and retires the pages
    /// that held them before. Requires [`Self::growth_needed`] to be 0; after an error the space must be loaded
    /// again.
    pub(crate) fn save(&mut self, version: u64, write: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<SpaceRoot> {
        let plan = self.plan(version);
        let mut joined = plan.joined;
        self.dissolve(|_| {
            let joins = joined > 0;
            joined = joined.saturating_sub(1);
            joins
        });
        let mut outdated: Vec<Own> = self.orphans.drain(..).collect();
        outdated.push(std::mem::take(&mut self.directory));
        outdated.push(std::mem::take(&mut self.pending_list));
        outdated.extend(self.regions.iter_mut().filter(|region| region.dirty).filter_map(Region::detach));
        for own in outdated {
            self.retire_own(own, version);
        }

        // Runs first, while the free pages are consecutive. Allocating may change regions that were clean, whose
        // old pages then join the pending list: its run has room for them already.
        let directory_pages = self.pages_of(self.regions.len() * DIRECTORY_ENTRY);
        let directory = self.take_own(directory_pages, version)?;
        let list = self.take_own(self.pages_of(plan.list), version)?;
        let part = match self.pages_of_part(&plan) {
            0 => None,
            pages => Some(self.take_own(pages, version)?),
        };
        let written = self.settle_regions(version)?;
        self.merge_pending();

        for index in written {
            self.write_region(index, version, write)?;
        }
        let entries = self.directory_payload();
        let directory_ptr = self.write_run(directory, KIND_FREE_DIRECTORY, &entries, write)?;
        if let Some(own) = part {
            self.write_part(own, version, write)?;
        }
        let pending_ptr = self.write_run(list, KIND_PENDING, &self.list_payload(), write)?;
        self.directory = directory;
        self.pending_list = list;
        Ok(SpaceRoot { directory: directory_ptr, pending: pending_ptr, page_count: self.page_count() })
    }

    /// How the groups will lie once every page of this structure is retired.
    fn plan(&self, version: u64) -> Plan {
        // What this root frees stays in the pending run; what is left of earlier ones becomes a part.
        let mut part: usize = self.recent.range(..(version, 0)).map(|(_, ranges)| size_of_group(ranges)).sum();
        let newest: usize = self.recent.range((version, 0)..).map(|(_, ranges)| size_of_group(ranges)).sum();
        let mut joined = 0;
        for other in &self.parts {
            if part == 0 || u64::from(other.own.len) >= 2 * self.pages_of(part) {
                break;
            }
            part += other.size;
            joined += 1;
        }
        let own = self.regions_retired(part + newest) + self.orphans.len() + joined + 2;
        let parts = self.parts.len() + 1;
        Plan { joined, part, list: PARTS_HEADER + parts * PART + newest + own * (GROUP_HEADER + RANGE) }
    }

    /// How many regions will have another page, or none, at most; the groups take so many bytes.
    ///
    /// Each run takes pages in one region, or in some in a row. Each region that has changed then takes the lowest free page.
    /// Nothing is freed meanwhile, so all regions of which such a page is taken are full afterwards, but for the last one,
    /// which takes its page from itself: each page that is taken changes at most one more region.
    fn regions_retired(&self, groups: usize) -> usize {
        let all = self.regions.iter().filter(|region| !region.ptr.is_none()).count();
        let changed = self.regions.iter().filter(|region| region.dirty).count();
        let by_runs = 8 + groups / (self.region_words() * 64 * self.page_size as usize);
        all.min(2 * (changed + by_runs))
    }

    fn pages_of_part(&self, plan: &Plan) -> u64 {
        if plan.part == 0 { 0 } else { self.pages_of(plan.part) }
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

    /// Writes the groups of earlier versions as a part.
    fn write_part(&mut self, own: Own, version: u64, write: &mut dyn FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        let newest = self.recent.split_off(&(version, 0));
        let groups = std::mem::replace(&mut self.recent, newest);
        let mut payload = Vec::new();
        put_groups(&groups, &mut payload);
        let ptr = self.write_run(own, KIND_PENDING_PART, &payload, write)?;
        self.parts.push(Part { own, ptr, size: payload.len(), groups });
        self.parts.sort_by_key(|part| part.own.len);
        Ok(())
    }

    fn list_payload(&self) -> Vec<u8> {
        let mut out = u32::try_from(self.parts.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        for Ptr { page, crc } in self.parts.iter().map(|part| part.ptr) {
            out.extend_from_slice(&page.to_le_bytes());
            out.extend_from_slice(&crc.to_le_bytes());
        }
        put_groups(&self.recent, &mut out);
        out
    }

    fn load_pending<'a>(
        &mut self,
        page: u32,
        run: &[u8],
        own: &mut Vec<(u32, u32)>,
        read: &mut dyn FnMut(Ptr, u8) -> Result<Bytes<'a>>,
    ) -> Result<()> {
        let kind = Kind::PendingList;
        let list = self.payload(kind, page, run)?;
        let count = get_u32(list, 0) as usize;
        let rest = list.get(PARTS_HEADER..).filter(|_| count <= MAX_PARTS);
        let Some((parts, groups)) = rest.and_then(|rest| rest.split_at_checked(count * PART)) else {
            return Err(self.corrupt(kind, page, format!("up to {MAX_PARTS} parts"), format!("{count}")));
        };
        self.recent = self.load_groups(page, groups)?;
        for part in parts.chunks_exact(PART) {
            let ptr = Ptr::get(part, 0);
            let run = read(ptr, KIND_PENDING_PART)?;
            let payload = self.payload(kind, ptr.page, &run)?;
            let groups = self.load_groups(ptr.page, payload)?;
            let part = Part { own: self.own(ptr.page, &run), ptr, size: payload.len(), groups };
            own.push((part.own.page, part.own.len));
            self.parts.push(part);
        }
        self.parts.sort_by_key(|part| part.own.len);
        Ok(())
    }

    fn load_groups(&mut self, page: u32, mut rest: &[u8]) -> Result<Groups> {
        let kind = Kind::PendingList;
        let mut groups = Groups::new();
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
            groups.insert((freed, birth), ranges);
        }
        Ok(groups)
    }

    /// Checks that each page has one use: pending, part of this structure, or free.
    fn check_uses(&self, own: Vec<(u32, u32)>) -> Result<()> {
        let kind = Kind::FreeMap;
        let under_slots = (0, self.first_page);
        let mut used = own;
        used.extend(self.groups().flat_map(|(_, ranges)| ranges));
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
        if PAGE_HEADER + payload.len() > run.len() {
            return Err(Error::Internal(format!("{} bytes for {} pages of the free map", payload.len(), own.len)));
        }
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

fn size_of_group(ranges: &[(u32, u32)]) -> usize {
    GROUP_HEADER + ranges.len() * RANGE
}

fn put_groups(groups: &Groups, out: &mut Vec<u8>) {
    for ((freed, birth), ranges) in groups {
        out.extend_from_slice(&birth.to_le_bytes());
        out.extend_from_slice(&freed.to_le_bytes());
        out.extend_from_slice(&u32::try_from(ranges.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (page, run) in ranges {
            out.extend_from_slice(&page.to_le_bytes());
            out.extend_from_slice(&run.to_le_bytes());
        }
    }
}
