//! Which pages are free, and which are pending until a snapshot ends.
//!
//! In memory this is a bitmap of the whole file (one bit in 32768 of its size) and the list of pending pages,
//! held by the process that makes a checkpoint. On disk it is copied on write like everything else, so that a
//! torn write never touches what the durable root uses:
//!
//! ```text
//! root slot ──▶ directory run (KIND_FREE_DIRECTORY)     payload: 16 bytes for each region
//!          │      u32 page    the region's page; 0: none of its pages is free, no page is kept
//!          │      u32 crc     CRC in that page's header
//!          │      u32 free    bits set in it
//!          │      u32 zero
//!          │      └──▶ region page (KIND_FREE_REGION)   payload: page_size - 40 bytes of bitmap
//!          │             bit i of byte j: page region * (page_size - 40) * 8 + j * 8 + i is free
//!          └──▶ pending run (KIND_PENDING)              payload: u32 n, n times a part, then the newest groups
//!                 │  u32 page, u32 crc                  pointer to a part
//!                 └──▶ part (KIND_PENDING_PART)         payload: groups
//!
//!                groups, ascending by (freed, birth):
//!                  u64 birth, u64 freed                 birth < freed
//!                  u32 n, then n times                  ascending, apart from each other
//!                    u32 page, u32 run
//! ```
//!
//! All start with the common 40-byte header: level 0, table `TABLE_SPACE`, the payload's exact
//! length, zeros after it. The pending run and its parts may be some pages longer than their payloads need. A file
//! of `page_count` pages has `page_count / ((page_size - 40) * 8)` regions, rounded up. Bits of
//! pages that do not exist, or lie under the root slots, are zero. A root without a directory has
//! no free page, one without a pending run no pending page.
//!
//! A pending page was written for version `birth` and belongs to no tree of version `freed` or later: snapshots
//! of the versions between need it, and so does the root before `freed` until the root `freed` is durable. The
//! pages of this structure are retired in the same way.
//!
//! # The parts of the pending list
//!
//! A part never changes. The pending run itself is written with each root: it has the groups that this root frees. Most
//! of them are free again two roots later; what a snapshot keeps for longer moves to a part then, so that it is not written
//! again by each root while that snapshot lives. A new part takes in all parts of less than twice its length, so each
//! part is at least twice as long as the next shorter one: there are few, and what is written of a group in all its life
//! grows with the logarithm of the list. A part of which some pages come free is given up if they are at least as many as
//! it has itself: what is left of it is written again. Otherwise they wait: they are fewer than those of the list.

mod bitmap;
mod stored;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::disk::format::{Extent, Extents, MAX_EXTENTS, PAGE_HEADER, Ptr, pages_per_chunk};
use bitmap::{Bitmap, MAX_PAGES};

/// A long value of fewer chunks than this is never split: it can be read in place.
const SPLIT_CHUNKS: u32 = 16;

/// What a root slot says about space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SpaceRoot {
    pub(crate) directory: Ptr,
    pub(crate) pending: Ptr,
    pub(crate) page_count: u64,
}

/// A run of this structure's own pages in the last root. `len` 0: there is none.
#[derive(Clone, Copy, Default)]
struct Own {
    page: u32,
    len: u32,
    birth: u64,
}

#[derive(Clone, Copy, Default)]
struct Region {
    ptr: Ptr,
    birth: u64,
    /// Differs from what `ptr` holds.
    dirty: bool,
}

/// The free pages as they would be after some allocations.
pub(crate) struct Room {
    free: Bitmap,
    /// A long value of so many pages may be split.
    split: u32,
}

impl Room {
    #[cfg(test)]
    pub(crate) fn endless() -> Room {
        Room { free: Bitmap::new(0), split: 0 }
    }

    /// Takes this many pages at the lowest place, if that lies before page `limit`. (A value that may be split takes none.)
    pub(crate) fn take_before(&mut self, pages: u32, limit: u32) -> bool {
        if pages >= self.split {
            return true;
        }
        let place = self.free.find(pages).filter(|page| *page < limit);
        place.inspect(|page| self.free.take(*page, pages)).is_some()
    }
}

/// Pending pages by (freed, birth), so that the first ones to come free come first.
type Groups = BTreeMap<(u64, u64), Vec<(u32, u32)>>;

/// A part of the pending list, as it is on disk.
struct Part {
    own: Own,
    ptr: Ptr,
    /// Bytes of its payload.
    size: usize,
    groups: Groups,
}

/// All pages of the file, by their use: free, pending, or neither.
pub(crate) struct Space {
    page_size: u32,
    store_tag: u32,
    first_page: u32,
    free: Bitmap,
    regions: Vec<Region>,
    /// Pages of regions that were cut off, and of parts that were given up; the durable root still uses them.
    orphans: Vec<Own>,
    directory: Own,
    pending_list: Own,
    /// The groups that are in no part.
    recent: Groups,
    /// The shortest first.
    parts: Vec<Part>,
    /// Pages of all groups.
    pending_pages: u64,
}

impl Space {
    /// Starts with nothing free; pages below `first_page` lie under the root slots and are never free.
    pub(crate) fn new(page_size: u32, store_tag: u32, first_page: u32, page_count: u64) -> Space {
        let page_count = u32::try_from(page_count).unwrap_or(MAX_PAGES).min(MAX_PAGES);
        let mut space = Space {
            page_size,
            store_tag,
            first_page,
            free: Bitmap::new(page_count),
            regions: Vec::new(),
            orphans: Vec::new(),
            directory: Own::default(),
            pending_list: Own::default(),
            recent: Groups::new(),
            parts: Vec::new(),
            pending_pages: 0,
        };
        space.fit_regions();
        space
    }

    /// Allocates the lowest `run` consecutive free pages, so that the end of the file becomes empty. `None`: the
    /// file must grow first.
    pub(crate) fn allocate(&mut self, run: u32) -> Option<u32> {
        let page = self.free.find(run)?;
        self.take(page, run);
        Some(page)
    }

    /// Allocates the lowest free pages before page `limit` for a long value. If there is a run for all of it, that; else
    /// for a large value up to [`MAX_EXTENTS`] runs, each at least that part of it, so that no more are needed. Also
    /// returns how many pages are missing still; for them there is room for one extent.
    pub(crate) fn allocate_extents(&mut self, pages: u32, limit: u32) -> (Extents, u32) {
        let (mut extents, mut missing) = (Extents::default(), pages);
        if let Some(page) = self.free.find(pages).filter(|page| *page < limit) {
            self.take(page, pages);
            return (Extents::one(page, pages), 0);
        }
        if pages < self.split_size() {
            return (extents, missing);
        }
        let chunk = pages_per_chunk(self.page_size);
        let least = pages.div_ceil(MAX_EXTENTS).next_multiple_of(chunk);
        while missing > 0
            && let Some(page) = self.free.find(least.min(missing)).filter(|page| *page < limit)
        {
            let run = self.free.run_at(page, missing);
            let run = if run < missing { run / chunk * chunk } else { run };
            self.take(page, run);
            extents.push(Extent { page, pages: run });
            missing -= run;
        }
        (extents, missing)
    }

    /// Pages of the smallest long value that is split.
    fn split_size(&self) -> u32 {
        SPLIT_CHUNKS * pages_per_chunk(self.page_size)
    }

    /// The room that allocations would find.
    pub(crate) fn room(&self) -> Room {
        Room { free: self.free.clone(), split: self.split_size() }
    }

    fn take(&mut self, page: u32, run: u32) {
        self.free.take(page, run);
        self.touch(page, run);
    }

    /// The file has grown: its new pages are free.
    pub(crate) fn grow(&mut self, page_count: u64) {
        let old = self.free.len();
        debug_assert!(page_count <= u64::from(MAX_PAGES), "a file of {page_count} pages");
        self.free.grow(u32::try_from(page_count).unwrap_or(MAX_PAGES).min(MAX_PAGES));
        self.fit_regions();
        self.touch(old, self.free.len() - old);
    }

    /// Allocates exactly these pages, for a long value that the log refers to; `false`, and nothing allocated, if
    /// any of them is in use. They may be pending: the writer that allocated them for the value had seen that no
    /// snapshot needs them, and a pin that came and went since must not undo that.
    pub(crate) fn reserve(&mut self, page: u32, run: u32) -> bool {
        let reserved = self.free.all_free(page, run) || self.free_pending(page, run);
        if reserved {
            self.take(page, run);
        }
        reserved
    }

    /// Whether these pages exist, and none of them is free.
    pub(crate) fn in_use(&self, page: u32, run: u32) -> bool {
        let within = page.checked_add(run).is_some_and(|end| end <= self.free.len());
        page >= self.first_page && within && !self.free.any_free(page, run)
    }

    /// Frees the pending pages among these, if all the rest are free.
    fn free_pending(&mut self, page: u32, run: u32) -> bool {
        let Some(end) = page.checked_add(run).filter(|end| *end <= self.free.len()) else { return false };
        let within = |first: u32, len: u32| (first.clamp(page, end), first.saturating_add(len).clamp(page, end));
        let mut parts: Vec<(u32, u32)> =
            self.groups().flat_map(|(_, ranges)| ranges).map(|(first, len)| within(*first, *len)).collect();
        parts.retain(|(from, to)| from < to);
        parts.sort_unstable();
        let mut at = page;
        for (from, to) in parts.iter().copied().chain([(end, end)]) {
            if from < at || !self.free.all_free(at, from - at) {
                return false;
            }
            at = to;
        }
        self.dissolve(|part| {
            part.groups.values().flatten().any(|(first, len)| {
                let (from, to) = within(*first, *len);
                from < to
            })
        });
        self.recent.retain(|_, ranges| {
            let outside = |(first, len): (u32, u32)| {
                let (from, to) = within(first, len);
                let cut =
                    if from < to { [(first, from - first), (to, first + len - to)] } else { [(first, len), (0, 0)] };
                cut.into_iter().filter(|(_, len)| *len > 0)
            };
            *ranges = ranges.drain(..).flat_map(outside).collect();
            !ranges.is_empty()
        });
        for (from, to) in parts {
            self.pending_pages -= u64::from(to - from);
            self.free.give(from, to - from);
        }
        true
    }

    /// Frees pages that no root, not even the durable one, has ever referred to.
    pub(crate) fn release(&mut self, page: u32, run: u32) {
        debug_assert!(page >= self.first_page, "page {page} lies under the root slots");
        self.free.give(page, run);
        self.touch(page, run);
    }

    /// Makes pages pending: the tree of version `freed` no longer uses them; they were written for version
    /// `birth`.
    pub(crate) fn retire(&mut self, page: u32, run: u32, birth: u64, freed: u64) {
        if birth >= freed {
            self.release(page, run);
        } else if run > 0 {
            debug_assert!(!self.free.any_free(page, run), "free pages {page}+{run} are retired");
            self.pending_pages += u64::from(run);
            self.recent.entry((freed, birth)).or_default().push((page, run));
        }
    }

    /// Frees the pending pages that neither the durable root nor a pinned version needs. A pin keeps only the
    /// pages of its own version, not everything that was freed after it. The pinned ranges of versions ascend and
    /// have gaps between them.
    pub(crate) fn reclaim(&mut self, durable: u64, pinned: &[Range<u64>]) {
        let is_needed = |(freed, birth): &(u64, u64)| {
            let first = pinned.partition_point(|pins| pins.end <= *birth);
            *freed > durable || pinned.get(first).is_some_and(|pins| pins.start < *freed)
        };
        // A part is written again only for at least as many pages as it has.
        self.dissolve(|part| {
            let ripe = part.groups.iter().filter(|(group, _)| !is_needed(group));
            ripe.map(|(_, ranges)| pages_in(ranges)).sum::<u64>() >= part.own.len.into()
        });
        let mut ripe = Vec::new();
        self.recent.retain(|group, ranges| {
            let keep = is_needed(group);
            if !keep {
                ripe.append(ranges);
            }
            keep
        });
        for (page, run) in ripe {
            self.pending_pages -= u64::from(run);
            self.release(page, run);
        }
    }

    /// Gives up some parts: what they list is written again with the next root.
    fn dissolve(&mut self, given_up: impl FnMut(&mut Part) -> bool) {
        for Part { own, groups, .. } in self.parts.extract_if(.., given_up) {
            self.orphans.push(own);
            for (group, mut ranges) in groups {
                self.recent.entry(group).or_default().append(&mut ranges);
            }
        }
    }

    /// All groups.
    fn groups(&self) -> impl Iterator<Item = (&(u64, u64), &Vec<(u32, u32)>)> {
        self.recent.iter().chain(self.parts.iter().flat_map(|part| &part.groups))
    }

    /// The number of pending pages that any of these versions uses.
    pub(crate) fn kept_pages(&self, versions: &[u64]) -> u64 {
        self.used_by(versions).filter(|(users, _)| !users.is_empty()).map(|(_, pages)| pages).sum()
    }

    /// For each of these ascending versions: how many of the pending pages only it uses.
    pub(crate) fn kept_alone(&self, versions: &[u64]) -> Vec<u64> {
        let mut alone = vec![0; versions.len()];
        for (users, pages) in self.used_by(versions).filter(|(users, _)| users.len() == 1) {
            if let Some(sum) = alone.get_mut(users.start) {
                *sum += pages;
            }
        }
        alone
    }

    /// For each group of pending pages: which of the ascending versions use it (`0..0` if none does), and its
    /// number of pages.
    fn used_by<'a>(&'a self, versions: &'a [u64]) -> impl Iterator<Item = (Range<usize>, u64)> + 'a {
        self.groups().map(move |((freed, birth), ranges)| {
            let (first, end) = (versions.partition_point(|v| v < birth), versions.partition_point(|v| v < freed));
            let users = if first < end { first..end } else { 0..0 };
            (users, pages_in(ranges))
        })
    }

    pub(crate) fn free_pages(&self) -> u64 {
        u64::from(self.free.free())
    }

    pub(crate) fn pending_pages(&self) -> u64 {
        self.pending_pages
    }

    pub(crate) fn page_count(&self) -> u64 {
        u64::from(self.free.len())
    }

    /// Free pages at the very end of the file.
    pub(crate) fn free_tail(&self) -> u64 {
        u64::from(self.free.tail())
    }

    /// Cuts free pages off the end, at most as many as there are.
    pub(crate) fn truncate(&mut self, page_count: u64) {
        let least = self.free.len() - self.free.tail();
        let page_count = u32::try_from(page_count).unwrap_or(u32::MAX).max(least);
        if page_count < self.free.len() {
            self.touch(page_count, self.free.len() - page_count);
            self.free.shrink(page_count);
            self.fit_regions();
        }
    }

    /// Has this structure's own pages from `cutoff` on rewritten at the lowest free pages when it is saved.
    pub(crate) fn move_below(&mut self, cutoff: u32) {
        for region in self.regions.iter_mut().filter(|region| region.ptr.page >= cutoff) {
            region.dirty = true;
        }
        self.dissolve(|part| part.own.page.saturating_add(part.own.len) > cutoff);
    }

    /// Words of the bitmap in one region; a page's payload is a multiple of 8 bytes.
    fn region_words(&self) -> usize {
        (self.page_size as usize - PAGE_HEADER) / 8
    }

    /// Adjusts the list of regions to the number of pages.
    fn fit_regions(&mut self) {
        let count = (self.free.len() as usize).div_ceil(self.region_words() * 64);
        let cut = self.regions.split_off(count.min(self.regions.len()));
        self.orphans.extend(cut.into_iter().filter_map(|mut region| region.detach()));
        self.regions.resize(count, Region::default());
    }

    /// Marks the regions of these pages as changed.
    fn touch(&mut self, page: u32, run: u32) {
        if run > 0 {
            let pages = self.region_words() * 64;
            let (first, last) = (page as usize / pages, (page as usize + run as usize - 1) / pages);
            for region in self.regions.iter_mut().take(last + 1).skip(first) {
                region.dirty = true;
            }
        }
    }

    fn free_in_region(&self, index: usize) -> u32 {
        let words = self.region_words();
        self.free.words(index * words, words).iter().map(|word| word.count_ones()).sum()
    }

    /// Joins adjacent ranges.
    fn merge_pending(&mut self) {
        for ranges in self.recent.values_mut() {
            ranges.sort_unstable();
            ranges.dedup_by(|next, before| {
                let joins = before.0 + before.1 == next.0;
                before.1 += if joins { next.1 } else { 0 };
                joins
            });
        }
    }
}

/// The pages of a group.
fn pages_in(ranges: &[(u32, u32)]) -> u64 {
    ranges.iter().map(|(_, run)| u64::from(*run)).sum()
}

impl Region {
    /// Gives up the page that holds the old bits.
    fn detach(&mut self) -> Option<Own> {
        let old = std::mem::replace(&mut self.ptr, Ptr::NONE);
        (!old.is_none()).then_some(Own { page: old.page, len: 1, birth: self.birth })
    }
}

#[cfg(test)]
mod growth_tests;
#[cfg(test)]
mod tests;
