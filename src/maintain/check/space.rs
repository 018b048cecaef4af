//! The free map and the pending list.

use super::uses::Use;
use super::{Place, Walk};
use crate::disk::format::{KIND_FREE_DIRECTORY, KIND_FREE_REGION, KIND_PENDING, KIND_PENDING_PART, PAGE_HEADER, Ptr};
use crate::maintain::format::space::{Region, free_runs, parts, pending, regions};

impl Walk<'_, '_> {
    pub(super) fn space(&mut self) {
        if !self.root.directory.is_none()
            && let Some(directory) =
                self.space_run(self.root.directory, KIND_FREE_DIRECTORY, "the free map's directory")
        {
            match regions(&directory, self.file.page_size, self.root.page_count) {
                Ok(regions) => regions.iter().for_each(|region| self.region(region)),
                Err(why) => self.space_damage(self.root.directory.page, format!("the free map's directory: {why}")),
            }
        }
        if !self.root.pending.is_none()
            && let Some(list) = self.space_run(self.root.pending, KIND_PENDING, "the pending list")
            && let Err(why) = self.pending(&list)
        {
            self.space_damage(self.root.pending.page, format!("the pending list: {why}"));
        }
    }

    /// The pending list, and its parts.
    fn pending(&mut self, list: &[u8]) -> Result<(), String> {
        let (parts, groups) = parts(list)?;
        self.groups(groups)?;
        for part in parts {
            if let Some(groups) = self.space_run(part, KIND_PENDING_PART, "a part of the pending list")
                && let Err(why) = self.groups(&groups)
            {
                self.space_damage(part.page, format!("a part of the pending list: {why}"));
            }
        }
        Ok(())
    }

    fn space_damage(&mut self, page: u32, message: String) {
        self.findings.damage(Place { offset: self.file.offset(page), page: Some(page), table: None }, message);
    }

    /// The payload of a run of the free map, whose pages are marked.
    fn space_run(&mut self, ptr: Ptr, kind: u8, what: &str) -> Option<Vec<u8>> {
        match self.file.space_payload(ptr, kind) {
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

    /// One entry of the directory.
    fn region(&mut self, region: &Region) {
        if !region.is_sound {
            let message = format!("the free map's directory: region from page {} on is not understood", region.first);
            return self.space_damage(self.root.directory.page, message);
        }
        let (ptr, noted) = (region.ptr, region.free);
        if ptr.is_none() {
            return;
        }
        let Some(bits) = self.space_run(ptr, KIND_FREE_REGION, "a region of the free map") else { return };
        if bits.len() != self.file.page_size as usize - PAGE_HEADER {
            return self.space_damage(ptr.page, format!("a region of the free map with {} bytes", bits.len()));
        }
        // Runs of set bits, each claimed in one go.
        let free = free_runs(&bits, region.first, |from, to| self.free(from, to, ptr.page));
        if free != u64::from(noted) {
            let message = format!("a region of the free map with {free} free pages, but {noted} are noted");
            self.space_damage(ptr.page, message);
        }
    }

    fn free(&mut self, from: u64, to: u64, region: u32) {
        match (u32::try_from(from), u32::try_from(to - from)) {
            (Ok(page), Ok(run)) if to <= self.root.page_count => {
                self.claim(page, run, Use::Free, None);
                self.is_free(page, run);
            }
            _ => self.space_damage(region, format!("pages {from} to {to} are free, but beyond the end")),
        }
    }

    fn groups(&mut self, groups: &[u8]) -> Result<(), String> {
        pending(groups, self.file.version, |page, run, group| {
            self.file.within(page, u64::from(run))?;
            self.claim(page, run, Use::Pending, None);
            self.waiting(page, run, group);
            Ok(())
        })
    }
}
