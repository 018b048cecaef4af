//! The free map and the pending list.

use super::file::Expect;
use super::uses::Use;
use super::{Place, Walk};
use crate::disk::format::{
    KIND_FREE_DIRECTORY, KIND_FREE_REGION, KIND_PENDING, PAGE_HEADER, PAGE_PAYLOAD_LEN, Ptr, TABLE_SPACE, get_u32,
    get_u64,
};

const DIRECTORY_ENTRY: usize = 16;
const GROUP_HEADER: usize = 20;
const RANGE: usize = 8;

impl Walk<'_> {
    pub(super) fn space(&mut self) {
        let region_pages = (self.file.page_size as usize - PAGE_HEADER) * 8;
        if !self.root.directory.is_none()
            && let Some(directory) =
                self.space_run(self.root.directory, KIND_FREE_DIRECTORY, "the free map's directory")
        {
            let regions = usize::try_from(self.root.page_count).unwrap_or(usize::MAX).div_ceil(region_pages);
            if directory.len() == regions * DIRECTORY_ENTRY {
                for (index, entry) in directory.chunks_exact(DIRECTORY_ENTRY).enumerate() {
                    self.region(index as u64 * region_pages as u64, entry);
                }
            } else {
                let message = format!("the free map's directory has {} bytes for {regions} regions", directory.len());
                self.space_damage(self.root.directory.page, message);
            }
        }
        if !self.root.pending.is_none()
            && let Some(list) = self.space_run(self.root.pending, KIND_PENDING, "the pending list")
            && let Err(why) = self.pending(&list)
        {
            self.space_damage(self.root.pending.page, format!("the pending list: {why}"));
        }
    }

    fn space_damage(&mut self, page: u32, message: String) {
        self.findings.damage(Place { offset: self.file.offset(page), page: Some(page), table: None }, message);
    }

    /// The payload of a run of the free map, whose pages are marked.
    fn space_run(&mut self, ptr: Ptr, kind: u8, what: &str) -> Option<Vec<u8>> {
        let (kinds, max_pages): (&[u8], u32) = match kind {
            KIND_FREE_DIRECTORY => (&[KIND_FREE_DIRECTORY], self.file.pages),
            KIND_FREE_REGION => (&[KIND_FREE_REGION], 1),
            _ => (&[KIND_PENDING], self.file.pages),
        };
        let expect = Expect { kinds, table: TABLE_SPACE, version: self.file.version };
        let payload = self.file.run(ptr, expect, max_pages).and_then(|mut run| {
            let pages = u32::try_from(run.len() / self.file.page_size as usize).unwrap_or(u32::MAX);
            let len = usize::try_from(get_u64(&run, PAGE_PAYLOAD_LEN)).unwrap_or(usize::MAX);
            let end = len.saturating_add(PAGE_HEADER);
            match run.get(end..) {
                Some(rest) if rest.iter().all(|byte| *byte == 0) => {}
                Some(_) => return Err("bytes after its payload are not zero".to_owned()),
                None => return Err(format!("a payload of {len} bytes in {pages} pages")),
            }
            run.truncate(end);
            run.drain(..PAGE_HEADER);
            Ok((run, pages))
        });
        match payload {
            Ok((payload, pages)) => self.claim(ptr.page, pages, Use::FreeMap, None).then_some(payload),
            Err(why) => {
                if self.file.within(ptr.page, 1).is_ok() {
                    self.claim(ptr.page, 1, Use::FreeMap, None);
                }
                self.space_damage(ptr.page, format!("{what}: {why}"));
                None
            }
        }
    }

    /// One entry of the directory, for the pages from `first` on.
    fn region(&mut self, first: u64, entry: &[u8]) {
        let ptr = Ptr { page: get_u32(entry, 0), crc: get_u32(entry, 4) };
        let (noted, reserved) = (get_u32(entry, 8), get_u32(entry, 12));
        if reserved != 0 || ptr.is_none() && (noted != 0 || ptr.crc != 0) {
            let message = format!("the free map's directory: region from page {first} on is not understood");
            return self.space_damage(self.root.directory.page, message);
        }
        if ptr.is_none() {
            return;
        }
        let Some(bits) = self.space_run(ptr, KIND_FREE_REGION, "a region of the free map") else { return };
        if bits.len() != self.file.page_size as usize - PAGE_HEADER {
            return self.space_damage(ptr.page, format!("a region of the free map with {} bytes", bits.len()));
        }
        // Runs of set bits, each claimed in one go.
        let mut free = 0;
        let mut start = None;
        let ends = std::iter::once((bits.len() * 8, false));
        let each =
            bits.iter().enumerate().flat_map(|(at, byte)| (0..8).map(move |bit| (at * 8 + bit, byte >> bit & 1 == 1)));
        for (at, set) in each.chain(ends) {
            let page = first + at as u64;
            match (set, start) {
                (true, None) => start = Some(page),
                (false, Some(from)) => {
                    free += page - from;
                    self.free(from, page, ptr.page);
                    start = None;
                }
                _ => {}
            }
        }
        if free != u64::from(noted) {
            let message = format!("a region of the free map with {free} free pages, but {noted} are noted");
            self.space_damage(ptr.page, message);
        }
    }

    fn free(&mut self, from: u64, to: u64, region: u32) {
        match (u32::try_from(from), u32::try_from(to - from)) {
            (Ok(page), Ok(run)) if to <= self.root.page_count => _ = self.claim(page, run, Use::Free, None),
            _ => self.space_damage(region, format!("pages {from} to {to} are free, but beyond the end")),
        }
    }

    fn pending(&mut self, mut rest: &[u8]) -> Result<(), String> {
        let mut last_group = None;
        while !rest.is_empty() {
            let (birth, freed, n) = (get_u64(rest, 0), get_u64(rest, 8), get_u32(rest, 16) as usize);
            let (_, ranges) = rest.split_at_checked(GROUP_HEADER).ok_or("a group is cut off")?;
            let (ranges, left) = ranges.split_at_checked(n.saturating_mul(RANGE)).ok_or("a group is cut off")?;
            if n == 0 || birth >= freed || freed > self.file.version || last_group >= Some((freed, birth)) {
                return Err(format!("a group of {n} ranges, written for root {birth}, freed by root {freed}"));
            }
            last_group = Some((freed, birth));
            rest = left;
            let mut end = 0;
            for range in ranges.chunks_exact(RANGE) {
                let (page, run) = (get_u32(range, 0), get_u32(range, 4));
                self.file.within(page, u64::from(run))?;
                if page <= end && end != 0 {
                    return Err(format!("the range from page {page} on does not come after the one before it"));
                }
                end = page.saturating_add(run);
                self.claim(page, run, Use::Pending, None);
            }
        }
        Ok(())
    }
}
