//! The free map and the pending list.

use std::ops::Range;

use super::file::File;
use super::slots::Root;
use crate::disk::format::{
    KIND_FREE_DIRECTORY, KIND_FREE_REGION, KIND_PENDING, KIND_PENDING_PART, PAGE_HEADER, Ptr, get_u32, get_u64,
};

const DIRECTORY_ENTRY: usize = 16;
const PARTS_HEADER: usize = 4;
const PART: usize = 8;
const GROUP_HEADER: usize = 20;
const RANGE: usize = 8;
/// Parts that a pending list has at most.
const MAX_PARTS: usize = 32;

/// Pages that one region of the free map tells of.
pub(in crate::maintain) fn region_pages(page_size: u32) -> u64 {
    (page_size as usize - PAGE_HEADER) as u64 * 8
}

/// An entry of the free map's directory.
pub(in crate::maintain) struct Region {
    /// The first page that it tells of.
    pub(in crate::maintain) first: u64,
    /// The region's page; none if no page of it is free.
    pub(in crate::maintain) ptr: Ptr,
    /// Free pages, as noted.
    pub(in crate::maintain) free: u32,
    /// Whether it can be one.
    pub(in crate::maintain) is_sound: bool,
}

/// The regions in a directory's payload, for a file of so many pages.
pub(in crate::maintain) fn regions(payload: &[u8], page_size: u32, page_count: u64) -> Result<Vec<Region>, String> {
    let pages = region_pages(page_size);
    let regions = page_count.div_ceil(pages);
    if payload.len() as u64 != regions * DIRECTORY_ENTRY as u64 {
        return Err(format!("it has {} bytes for {regions} regions", payload.len()));
    }
    let entries =
        payload.chunks_exact(DIRECTORY_ENTRY).zip((0..).step_by(usize::try_from(pages).unwrap_or(usize::MAX)));
    Ok(entries
        .map(|(entry, first)| {
            let ptr = Ptr { page: get_u32(entry, 0), crc: get_u32(entry, 4) };
            let (free, reserved) = (get_u32(entry, 8), get_u32(entry, 12));
            let is_sound = reserved == 0 && (!ptr.is_none() || free == 0 && ptr.crc == 0);
            Region { first, ptr, free, is_sound }
        })
        .collect())
}

/// Calls `each` for the runs of set bits in a region's payload: from a page, to just before another. Gives the number of set bits.
pub(in crate::maintain) fn free_runs(bits: &[u8], first: u64, mut each: impl FnMut(u64, u64)) -> u64 {
    let (mut free, mut start) = (0, None);
    let end = std::iter::once((bits.len() * 8, false));
    let all =
        bits.iter().enumerate().flat_map(|(at, byte)| (0..8).map(move |bit| (at * 8 + bit, byte >> bit & 1 == 1)));
    for (at, set) in all.chain(end) {
        let page = first + at as u64;
        match (set, start) {
            (true, None) => start = Some(page),
            (false, Some(from)) => {
                free += page - from;
                each(from, page);
                start = None;
            }
            _ => {}
        }
    }
    free
}

/// The parts that a pending list's payload points at, and its own groups.
pub(in crate::maintain) fn parts(payload: &[u8]) -> Result<(Vec<Ptr>, &[u8]), String> {
    let count = get_u32(payload, 0) as usize;
    let rest = payload.get(PARTS_HEADER..).filter(|_| count <= MAX_PARTS);
    let (parts, groups) =
        rest.and_then(|rest| rest.split_at_checked(count * PART)).ok_or_else(|| format!("it has {count} parts"))?;
    let pointer = |part: &[u8]| Ptr { page: get_u32(part, 0), crc: get_u32(part, 4) };
    Ok((parts.chunks_exact(PART).map(pointer).collect(), groups))
}

/// Calls `each` with the first page and the length of each range in the groups of a pending list that a root of this
/// `version` may have, and the versions that need it.
pub(in crate::maintain) fn pending(
    mut rest: &[u8],
    version: u64,
    mut each: impl FnMut(u32, u32, Range<u64>) -> Result<(), String>,
) -> Result<(), String> {
    let mut last_group = None;
    while !rest.is_empty() {
        let (birth, freed, n) = (get_u64(rest, 0), get_u64(rest, 8), get_u32(rest, 16) as usize);
        let (_, ranges) = rest.split_at_checked(GROUP_HEADER).ok_or("a group is cut off")?;
        let (ranges, left) = ranges.split_at_checked(n.saturating_mul(RANGE)).ok_or("a group is cut off")?;
        if n == 0 || birth >= freed || freed > version || last_group >= Some((freed, birth)) {
            return Err(format!("a group of {n} ranges, written for root {birth}, freed by root {freed}"));
        }
        last_group = Some((freed, birth));
        rest = left;
        let mut end = 0;
        for range in ranges.chunks_exact(RANGE) {
            let (page, run) = (get_u32(range, 0), get_u32(range, 4));
            if page < end || run == 0 {
                return Err(format!("the range from page {page} on does not come after the one before it"));
            }
            end = page.saturating_add(run).saturating_add(1);
            each(page, run, birth..freed)?;
        }
    }
    Ok(())
}

/// Calls `each` for the pending list behind a pointer, if there is one, and for each of its parts: with the first page of
/// the run, and with its groups or why they cannot be read.
pub(in crate::maintain) fn each_of_pending(
    file: &File<'_>,
    list: Ptr,
    mut each: impl FnMut(u32, Result<&[u8], String>),
) {
    if list.is_none() {
        return;
    }
    let run = file.space_payload(list, KIND_PENDING);
    let (all, groups) = match run.as_ref().map_err(String::clone).and_then(|(payload, _)| parts(payload)) {
        Ok(read) => read,
        Err(why) => return each(list.page, Err(why)),
    };
    each(list.page, Ok(groups));
    for part in all {
        let run = file.space_payload(part, KIND_PENDING_PART);
        each(part.page, run.as_ref().map(|(groups, _)| groups.as_slice()).map_err(String::clone));
    }
}

/// What a root's free map and pending list tell of.
#[derive(Default)]
pub(in crate::maintain) struct Unused {
    /// Free runs: from a page, so many.
    pub(in crate::maintain) free: Vec<(u64, u64)>,
    /// Runs that are kept for snapshots of older versions.
    pub(in crate::maintain) pending: Vec<(u64, u64)>,
    /// Pages of the two that cannot be read, and why.
    pub(in crate::maintain) broken: Vec<(u32, String)>,
}

impl Unused {
    pub(in crate::maintain) fn read(file: &File<'_>, root: &Root) -> Unused {
        let mut unused = Unused::default();
        unused.read_free(file, root);
        each_of_pending(file, root.pending, |at, groups| {
            let read = groups.and_then(|groups| {
                pending(groups, root.sequence, |page, run, _| {
                    unused.pending.push((page.into(), run.into()));
                    Ok(())
                })
            });
            unused.broken.extend(read.err().map(|why| (at, why)));
        });
        unused
    }

    fn read_free(&mut self, file: &File<'_>, root: &Root) {
        if root.directory.is_none() {
            return;
        }
        let payload = file.space_payload(root.directory, KIND_FREE_DIRECTORY);
        let regions = match payload.and_then(|(payload, _)| regions(&payload, root.page_size, root.page_count)) {
            Ok(regions) => regions,
            Err(why) => return self.broken.push((root.directory.page, why)),
        };
        for region in regions.iter().filter(|region| !region.ptr.is_none()) {
            match file.space_payload(region.ptr, KIND_FREE_REGION) {
                Ok((bits, _)) => {
                    _ = free_runs(&bits, region.first, |from, to| self.free.push((from, to - from)));
                }
                Err(why) => self.broken.push((region.ptr.page, why)),
            }
        }
    }
}
