#![expect(clippy::cast_possible_truncation, reason = "small numbers made by the tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::stored::{GROUP_HEADER, PARTS_HEADER};
use super::*;
use crate::bytes::Bytes;
use crate::disk::format::*;
use crate::error::{CorruptionKind, Error, Result};

pub(super) const PAGE: u32 = 4096;
const TAG: u32 = 0x0601_7a65;
pub(super) const FIRST: u32 = 2;
/// Pages of one region at this page size.
pub(super) const REGION: u32 = (PAGE - 40) * 8;

/// Runs as they lie on the disk, by first page.
pub(super) type Disk = HashMap<u32, Vec<u8>>;

pub(super) fn save(space: &mut Space, version: u64, disk: &mut Disk) -> SpaceRoot {
    loop {
        match space.growth_needed(version) {
            0 => break,
            more => space.grow(space.page_count() + more),
        }
    }
    let root = space.save(version, &mut |page, run| {
        disk.insert(page, run.to_vec());
        Ok(())
    });
    root.unwrap()
}

pub(super) fn load(root: SpaceRoot, disk: &Disk) -> Result<Space> {
    Space::load(PAGE, TAG, FIRST, root, &mut |ptr, kind| {
        let run = disk.get(&ptr.page).expect("a run behind each pointer");
        assert_eq!((get_u32(run, PAGE_CRC), crc32fast::hash(&run[4..])), (ptr.crc, ptr.crc));
        assert_eq!((get_u32(run, PAGE_NUMBER), get_u32(run, PAGE_STORE), run[PAGE_KIND]), (ptr.page, TAG, kind));
        assert_eq!((get_u32(run, PAGE_TABLE), get_u32(run, PAGE_RUN) * PAGE), (TABLE_SPACE, run.len() as u32));
        Ok(Bytes::shared(Arc::from(&run[..]), 0..run.len()))
    })
}

fn free_set(space: &Space) -> BTreeSet<u32> {
    let words = (0u32..).zip(space.free.words(0, usize::MAX >> 1)).filter(|(_, word)| **word != 0);
    words.flat_map(|(at, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)).collect()
}

fn pending_set(space: &Space) -> BTreeMap<u32, (u64, u64)> {
    let pages = space.groups().flat_map(|((freed, birth), ranges)| {
        ranges.iter().flat_map(move |(page, run)| (*page..page + run).map(move |page| (page, (*birth, *freed))))
    });
    pages.collect()
}

fn own_pages(space: &Space) -> BTreeSet<u32> {
    let regions = space.regions.iter().filter(|region| !region.ptr.is_none()).map(|region| region.ptr.page);
    let runs = [space.directory, space.pending_list].map(|own| own.page..own.page + own.len);
    let parts = space.parts.iter().flat_map(|part| part.own.page..part.own.page + part.own.len);
    regions.chain(runs.into_iter().flatten()).chain(parts).collect()
}

/// Each version as a range of its own; adjacent ones are as good as joined.
pub(super) fn versions(pins: &[u64]) -> Vec<Range<u64>> {
    let pins: BTreeSet<_> = pins.iter().copied().collect();
    pins.into_iter().map(|pin| pin..pin + 1).collect()
}

/// Says the same as a [`Space`], page by page, for pages that are not its own.
#[derive(Default)]
struct Model {
    free: BTreeSet<u32>,
    /// Runs handed out, with the version they were written for.
    used: BTreeMap<u32, (u32, u64)>,
    pending: BTreeMap<u32, (u64, u64)>,
}

impl Model {
    fn lowest(&self, run: u32) -> Option<u32> {
        self.free.iter().copied().find(|page| (*page..page + run).all(|page| self.free.contains(&page)))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(u32),
    Release(usize),
    Retire(usize),
    Reserve(u32, u32),
    Grow(u32),
    Truncate(u32),
    Checkpoint(Vec<u64>),
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop_oneof![4 => Just(1u32), 3 => 1..20u32, 1 => 1..200u32].prop_map(Step::Allocate),
        2 => any::<usize>().prop_map(Step::Release),
        5 => any::<usize>().prop_map(Step::Retire),
        1 => (0..800u32, 1..9u32).prop_map(|(page, run)| Step::Reserve(page, run)),
        1 => (1..300u32).prop_map(Step::Grow),
        1 => (0..300u32).prop_map(Step::Truncate),
        3 => prop::collection::vec(0..30u64, 0..3).prop_map(Step::Checkpoint),
        1 => Just(Step::Reload),
    ];
    prop::collection::vec(step, 1..120)
}

/// `base` shifts all of it, so that the pages in play lie across a region's edge.
/// A map of free pages that steps are played on, beside its model.
struct Play {
    base: u32,
    space: Space,
    model: Model,
    disk: Disk,
    /// The root that is durable, and what it says.
    root: SpaceRoot,
    durable: Space,
    /// The version being built.
    version: u64,
}

impl Play {
    fn new(base: u32) -> Play {
        let mut space = Space::new(PAGE, TAG, FIRST, u64::from(base));
        let mut disk = Disk::new();
        let root = save(&mut space, 1, &mut disk);
        let model = Model { free: free_set(&space), ..Model::default() };
        let durable = load(root, &disk).unwrap();
        Play { base, space, model, disk, root, durable, version: 2 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Allocate(run) => self.allocate(run),
            Step::Release(_) | Step::Retire(_) if self.model.used.is_empty() => {}
            Step::Release(pick) => self.release(pick),
            Step::Retire(pick) => self.retire(pick),
            Step::Reserve(page, run) => self.reserve(self.base.saturating_sub(100) + page, run),
            Step::Grow(pages) => {
                let old = self.space.free.len();
                self.space.grow(u64::from(old + pages));
                self.model.free.extend(old..old + pages);
            }
            Step::Truncate(pages) => self.truncate(pages),
            Step::Checkpoint(pins) => self.checkpoint(&pins),
            Step::Reload => self.reload(),
        }
        assert_eq!(self.space.free_pages() as usize, self.model.free.len());
        assert_eq!(free_set(&self.space).range(..self.base).count(), 0);
    }

    fn allocate(&mut self, run: u32) {
        let page = self.space.allocate(run);
        assert_eq!(page, self.model.lowest(run));
        if let Some(page) = page {
            self.model.free.retain(|p| !(page..page + run).contains(p));
            self.model.used.insert(page, (run, self.version));
            assert!((page..page + run).all(|page| !durable_needs(&self.durable, page)));
        }
    }

    /// A run in use: its page, its length and its birth.
    fn picked(&self, pick: usize) -> (u32, u32, u64) {
        let used = &self.model.used;
        used.iter().nth(pick % used.len()).map(|(page, (run, birth))| (*page, *run, *birth)).unwrap()
    }

    fn release(&mut self, pick: usize) {
        let (page, run, birth) = self.picked(pick);
        if birth == self.version {
            self.space.release(page, run);
            self.model.used.remove(&page);
            self.model.free.extend(page..page + run);
        }
    }

    fn retire(&mut self, pick: usize) {
        let (page, run, birth) = self.picked(pick);
        self.space.retire(page, run, birth, self.version);
        self.model.used.remove(&page);
        if birth == self.version {
            self.model.free.extend(page..page + run);
        } else {
            self.model.pending.extend((page..page + run).map(|page| (page, (birth, self.version))));
        }
    }

    fn reserve(&mut self, page: u32, run: u32) {
        let (model, version) = (&mut self.model, self.version);
        let pending = pending_set(&self.space);
        // Long values are reserved before anything is retired, so the durable root needs none of it.
        if (page..page + run).any(|page| pending.get(&page).is_some_and(|(_, freed)| *freed == version)) {
            return;
        }
        let fits = (page..page + run).all(|page| model.free.contains(&page) || pending.contains_key(&page));
        assert_eq!(self.space.reserve(page, run), fits);
        if fits {
            model.free.retain(|p| !(page..page + run).contains(p));
            model.pending.retain(|p, _| !(page..page + run).contains(p));
            assert_eq!(self.space.pending_pages() as usize, pending_set(&self.space).len());
            model.used.insert(page, (run, version));
        }
    }

    fn truncate(&mut self, pages: u32) {
        let free = &self.model.free;
        let tail = (0..self.space.free.len()).rev().take_while(|page| free.contains(page)).count() as u64;
        assert_eq!(self.space.free_tail(), tail);
        let count = self.space.page_count() - tail.min(u64::from(pages));
        self.space.truncate(self.space.page_count().saturating_sub(u64::from(pages)));
        assert_eq!(self.space.page_count(), count);
        self.model.free.retain(|page| u64::from(*page) < count);
    }

    fn checkpoint(&mut self, pins: &[u64]) {
        let old_own = own_pages(&self.space);
        self.root = save(&mut self.space, self.version, &mut self.disk);
        for page in old_own.difference(&own_pages(&self.space)) {
            let orphan = self.space.orphans.iter().any(|own| own.page == *page);
            assert!(pending_set(&self.space).contains_key(page) || orphan);
        }
        self.durable = load(self.root, &self.disk).unwrap();
        self.version += 1;
        self.space.reclaim(self.version - 1, &versions(pins));
        self.model.pending.retain(|_, (birth, freed)| pins.iter().any(|pin| (*birth..*freed).contains(pin)));
        self.compare();
    }

    /// The space's own pages are its affair; the rest is as the model says.
    fn compare(&mut self) {
        let (space, model, own) = (&self.space, &mut self.model, own_pages(&self.space));
        for (page, range) in &model.pending {
            assert_eq!(pending_set(space).get(page), Some(range));
        }
        for (page, (run, _)) in &model.used {
            for page in *page..page + run {
                assert!(!own.contains(&page) && !space.free.all_free(page, 1));
            }
        }
        model.free = free_set(space);
        let used = model.used.values().map(|(run, _)| *run as usize).sum::<usize>();
        let given_up: usize = space.orphans.iter().map(|own| own.len as usize).sum();
        let all = model.free.len() + space.pending_pages() as usize + own.len() + given_up + used + self.base as usize;
        assert_eq!(all, space.page_count() as usize, "no page is lost");
    }

    /// As if the process had died: what was done since the last root never happened.
    fn reload(&mut self) {
        let (model, durable, base) = (&mut self.model, &self.durable, self.base);
        self.disk.retain(|page, _| !free_set(durable).contains(page) || own_pages(durable).contains(page));
        let lost: BTreeSet<u32> = free_set(durable);
        self.space = load(self.root, &self.disk).unwrap();
        model.free = free_set(&self.space);
        model.pending = pending_set(&self.space);
        let own = own_pages(&self.space);
        model.pending.retain(|page, _| !own.contains(page));
        model.used.retain(|page, (_, birth)| *birth < self.version && !lost.contains(page));
        // Runs retired since are used again.
        let known: BTreeSet<u32> = model.used.iter().flat_map(|(page, (run, _))| *page..page + run).collect();
        for page in base..self.space.free.len() {
            let elsewhere = model.free.contains(&page) || model.pending.contains_key(&page) || own.contains(&page);
            if !known.contains(&page) && !elsewhere {
                model.used.insert(page, (1, self.version - 1));
            }
        }
    }
}

fn play(base: u32, steps: Vec<Step>) {
    let mut play = Play::new(base);
    steps.into_iter().for_each(|step| play.step(step));
}

/// Whether the durable root, or a version before it, still uses the page.
fn durable_needs(durable: &Space, page: u32) -> bool {
    page < durable.free.len() && !durable.free.all_free(page, 1) && !pending_set(durable).contains_key(&page)
}

#[test]
fn pages_in_use_exist_and_are_not_free() {
    let mut space = Space::new(PAGE, TAG, FIRST, 20);
    space.release(10, 4);
    assert!(space.in_use(FIRST, 8) && space.in_use(14, 6));
    for (page, run) in [(FIRST - 1, 1), (9, 2), (13, 1), (10, 4), (19, 2), (20, 1), (u32::MAX, 2)] {
        assert!(!space.in_use(page, run), "{page} + {run}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_model(steps in steps()) {
        play(FIRST, steps);
    }

    #[test]
    fn agrees_with_a_model_across_regions(before in 0..400u32, steps in steps()) {
        play(REGION - before, steps);
    }

    #[test]
    fn damaged_payloads_never_panic(at in 0usize..600, bits in 1u8.., which in 0usize..4) {
        let mut disk = Disk::new();
        let mut space = Space::new(PAGE, TAG, FIRST, 2);
        space.grow(400);
        let runs: Vec<u32> = (0..40).filter_map(|n| space.allocate(1 + n % 5)).collect();
        save(&mut space, 1, &mut disk);
        for (n, page) in (0u32..).zip(runs).step_by(2) {
            space.retire(page, 1 + n % 5, 1, 2);
        }
        save(&mut space, 2, &mut disk);
        let root = save(&mut space, 3, &mut disk);
        let runs = [root.directory, root.pending, space.regions[0].ptr, space.parts[0].ptr];
        let page = runs[which].page;
        let run = disk.get_mut(&page).unwrap();
        run[PAGE_PAYLOAD_LEN + at] ^= bits;
        // Only what no checksum covers here: the bytes themselves must hold together.
        let read = Space::load(PAGE, TAG, FIRST, root, &mut |ptr, _| match disk.get(&ptr.page) {
            Some(run) => Ok(Bytes::shared(Arc::from(&run[..]), 0..run.len())),
            None => Err(Error::corrupt(CorruptionKind::Page, 0, None, "", "")),
        });
        if let Err(error) = read {
            prop_assert!(error.is_corrupt());
        }
    }
}

#[test]
fn the_lowest_pages_go_first_and_a_pin_holds_only_its_own() {
    let mut disk = Disk::new();
    let mut space = Space::new(PAGE, TAG, FIRST, 2);
    space.grow(100);
    let pages: Vec<u32> = (0..6).map(|_| space.allocate(3).unwrap()).collect();
    assert_eq!(pages, [2, 5, 8, 11, 14, 17]);
    save(&mut space, 10, &mut disk);
    space.retire(2, 3, 4, 11); // versions 4 to 10
    space.retire(5, 3, 10, 11); // version 10 alone
    space.retire(8, 3, 11, 11); // never in a root
    assert_eq!(space.allocate(3), Some(8));
    save(&mut space, 11, &mut disk);
    let free = |space: &Space, page| space.free.all_free(page, 3);
    space.reclaim(10, &[]);
    assert!(!free(&space, 2), "the durable root is still 10");
    space.reclaim(11, &versions(&[9, 3, 12]));
    assert!(!free(&space, 2), "version 9 is pinned");
    assert!(free(&space, 5));
    // A value that took the pages before that pin came keeps them.
    assert!(space.reserve(3, 4) && !space.reserve(3, 1));
    assert_eq!(pending_set(&space).range(..10).map(|(page, _)| *page).collect::<Vec<_>>(), [2]);
    space.reclaim(11, &versions(&[11, 3]));
    assert!(space.free.all_free(2, 1) && space.free.all_free(7, 1));
}

#[test]
fn a_clean_space_is_rewritten_without_growing() {
    let mut disk = Disk::new();
    let mut space = Space::new(PAGE, TAG, FIRST, 2);
    for version in 1..200 {
        save(&mut space, version, &mut disk);
        space.reclaim(version, &[]);
    }
    assert!(space.page_count() < 16, "{} pages", space.page_count());
    assert!(space.pending_pages() <= 3);
}

#[test]
fn long_runs_and_many_regions_survive_a_round_trip() {
    let mut disk = Disk::new();
    let mut space = Space::new(PAGE, TAG, FIRST, u64::from(FIRST));
    space.grow(u64::from(REGION) * 5 + 77);
    assert_eq!(space.allocate(REGION * 2), Some(FIRST));
    assert_eq!(space.allocate(REGION * 4), None);
    let root = save(&mut space, 1, &mut disk);
    let again = load(root, &disk).unwrap();
    assert_eq!(free_set(&again), free_set(&space));
    assert_eq!(own_pages(&again), own_pages(&space));
    assert_eq!(again.regions.iter().filter(|region| region.ptr.is_none()).count(), 2, "full regions keep no page");

    // One page changes in the last region: only that region, and the first one with room, move.
    let mut again = again;
    let last = u32::try_from(again.page_count()).unwrap() - 1;
    assert!(again.reserve(last, 1));
    let before: Vec<u32> = again.regions.iter().map(|region| region.ptr.page).collect();
    save(&mut again, 2, &mut disk);
    let moved = before.iter().zip(&again.regions).filter(|(page, region)| **page != region.ptr.page).count();
    assert_eq!(moved, 2);

    // Cut most of it off: the regions that end are retired with the next root.
    assert!(!again.reserve(last, 1));
    again.retire(FIRST, REGION * 2, 1, 3);
    again.retire(last, 1, 2, 3);
    save(&mut again, 3, &mut disk);
    again.reclaim(3, &[]);
    again.truncate(1000);
    let root = save(&mut again, 4, &mut disk);
    again.reclaim(4, &[]);
    assert!(again.page_count() < u64::from(REGION) * 3);
    assert_eq!(load(root, &disk).unwrap().page_count(), again.page_count());
}

#[test]
fn hostile_content_is_refused() {
    let mut space = Space::new(PAGE, TAG, FIRST, 2);
    space.grow(60);
    let page = space.allocate(10).unwrap();
    let mut disk = Disk::new();
    save(&mut space, 1, &mut disk);
    space.retire(page, 10, 1, 2);
    let root = save(&mut space, 2, &mut disk);
    let region = space.regions[0].ptr.page;
    assert!(load(root, &disk).is_ok());

    // Each case changes some bytes and seals the run again, along the pointers.
    let broken = |target: u32, at: usize, value: &[u8]| {
        let mut disk = disk.clone();
        let run = disk.get_mut(&target).unwrap();
        run[at..at + value.len()].copy_from_slice(value);
        let mut root = root;
        let seal = |disk: &mut Disk, page: u32| {
            let run = disk.get_mut(&page).unwrap();
            let crc = crc32fast::hash(&run[4..]);
            put_u32(run, PAGE_CRC, crc);
            crc
        };
        let crc = seal(&mut disk, region);
        put_u32(disk.get_mut(&root.directory.page).unwrap(), PAGE_HEADER + 4, crc);
        root.directory.crc = seal(&mut disk, root.directory.page);
        root.pending.crc = seal(&mut disk, root.pending.page);
        match load(root, &disk) {
            Err(error) => assert!(error.is_corrupt(), "{error}"),
            Ok(_) => panic!("page {target} byte {at} = {value:?} was believed"),
        }
    };
    let group = PAGE_HEADER + PARTS_HEADER;
    let first_range = group + GROUP_HEADER;
    broken(region, PAGE_HEADER, &[0xff]); // pages under the root slots, and used ones
    broken(region, PAGE_HEADER + 60 / 8 + 4, &[1]); // beyond the end
    broken(region, PAGE_PAYLOAD_LEN, &[8, 0]);
    broken(region, PAGE_PAYLOAD_LEN, &[0xff; 8]);
    broken(root.directory.page, PAGE_HEADER + 8, &[0, 0]); // another count
    broken(root.directory.page, PAGE_HEADER, &[0; 4]); // a count but no page
    broken(root.directory.page, PAGE_PAYLOAD_LEN, &[32]);
    broken(root.pending.page, PAGE_HEADER, &33u32.to_le_bytes()); // more parts than any list has
    broken(root.pending.page, PAGE_HEADER, &20u32.to_le_bytes()); // more than there is room for
    broken(root.pending.page, group, &2u64.to_le_bytes()); // born as it was freed
    broken(root.pending.page, group + 16, &0u32.to_le_bytes());
    broken(root.pending.page, group + 16, &u32::MAX.to_le_bytes());
    broken(root.pending.page, first_range, &0u32.to_le_bytes()); // under the slots
    broken(root.pending.page, first_range, &root.directory.page.to_le_bytes()); // in use
    broken(root.pending.page, first_range + 4, &0u32.to_le_bytes()); // an empty range
    broken(root.pending.page, first_range + 4, &u32::MAX.to_le_bytes()); // beyond the end
    for page_count in [0, u64::from(FIRST) - 1, 1 << 32, u64::MAX] {
        assert!(load(SpaceRoot { page_count, ..SpaceRoot::default() }, &disk).is_err());
    }
}

#[test]
fn many_single_pages_are_quick_in_a_fragmented_file() {
    let mut space = Space::new(PAGE, TAG, FIRST, u64::from(FIRST));
    space.grow(2_000_000);
    // Every other page of the first half is used: a search that started anew each time would look
    // at it all for each run.
    let half: Vec<u32> = (0..1_000_000).filter_map(|_| space.allocate(1)).collect();
    for page in half.iter().step_by(2) {
        space.release(*page, 1);
    }
    for run in [2, 3, 7, 40, 100] {
        for _ in 0..2000 {
            assert!(space.allocate(run).unwrap() > 1_000_000);
        }
    }
    for page in half.iter().step_by(2).take(100_000) {
        assert_eq!(space.allocate(1), Some(*page));
    }
}
