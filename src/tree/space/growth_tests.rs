//! What a root writes and reads of free space does not grow with what snapshots keep, nor with the file.

use std::collections::HashSet;

use super::tests::{Disk, FIRST, PAGE, REGION, load, save, versions};
use super::*;

/// A process that makes every other root: what it has read, and what it had to read and to write, in pages.
#[derive(Default)]
struct Process {
    known: HashSet<(u32, u32)>,
    read: usize,
    written: usize,
}

impl Process {
    /// Loads the space of a root: what it knows already is not read again.
    fn load(&mut self, root: SpaceRoot, disk: &Disk) -> Space {
        let space = load(root, disk).unwrap();
        let runs = space.parts.iter().map(|part| part.ptr).chain(space.regions.iter().map(|region| region.ptr));
        for ptr in runs.chain([root.directory, root.pending]).filter(|ptr| !ptr.is_none()) {
            if self.known.insert((ptr.page, ptr.crc)) {
                self.read += disk[&ptr.page].len() / PAGE as usize;
            }
        }
        space
    }

    /// Writes a root, whose runs it knows.
    fn save(&mut self, space: &mut Space, version: u64, disk: &mut Disk) -> SpaceRoot {
        let mut written = Disk::new();
        let root = save(space, version, &mut written);
        self.written += written.values().map(|run| run.len() / PAGE as usize).sum::<usize>();
        disk.extend(written);
        let (read, again) = (self.read, self.load(root, disk));
        assert_eq!(again.groups().count(), space.groups().count());
        self.read = read;
        root
    }
}

const ROOTS: u32 = 600;
/// Pages that each root takes from the tree of version 1, and pages that it replaces of the root before it.
const EACH: u32 = 100;
const OLD: u32 = 80_000;

/// Two processes make roots in turn, of which each frees as much as any other, while `pins` are held. Returns what each
/// hundred of them writes and reads, and the space that is left.
fn roots(pins: &[u64]) -> (Vec<(usize, usize)>, Space) {
    let (mut disk, mut costs) = (Disk::new(), Vec::new());
    let mut processes = [Process::default(), Process::default()];
    let mut space = Space::new(PAGE, 0x0601_7a65, FIRST, FIRST.into());
    space.grow(200_000);
    let old = space.allocate(OLD).unwrap();
    let mut replaced: Vec<u32> = (0..EACH).map(|_| space.allocate(1).unwrap()).collect();
    let mut root = processes[0].save(&mut space, 1, &mut disk);
    for version in 2..u64::from(ROOTS) + 2 {
        let [process, _] = &mut processes;
        space = process.load(root, &disk);
        space.reclaim(version - 1, &versions(pins));
        for n in 0..EACH {
            let scattered = (u32::try_from(version - 2).unwrap() * EACH + n) * 7919 % OLD;
            space.retire(old + scattered, 1, 1, version);
        }
        let new: Vec<u32> = (0..EACH).map(|_| space.allocate(1).unwrap()).collect();
        std::mem::replace(&mut replaced, new).into_iter().for_each(|page| space.retire(page, 1, version - 1, version));
        root = process.save(&mut space, version, &mut disk);
        processes.swap(0, 1);
        if version % 100 == 1 {
            costs.push(processes.iter().fold((0, 0), |(written, read), p| (written + p.written, read + p.read)));
            processes.iter_mut().for_each(|process| (process.written, process.read) = (0, 0));
        }
    }
    (costs, space)
}

#[test]
fn what_a_snapshot_keeps_is_not_written_again_by_each_root() {
    let (free, _) = roots(&[]);
    let (kept, mut space) = roots(&[1]);
    println!("written and read: {free:?} without a snapshot, {kept:?} with one");
    // In the end the list has so many pages.
    let list = ROOTS as usize * EACH as usize * 8 / PAGE as usize;
    assert!(space.pending_pages() > u64::from(ROOTS * EACH) && list > 100);
    assert!(space.parts.len() <= list.ilog2() as usize + 2, "{} parts", space.parts.len());
    let written = |costs: &[(usize, usize)]| costs.iter().map(|(written, _)| written).sum::<usize>();
    // Each root adds a fifth of a page to the list: a page of its own for a part, and the merges.
    let most = written(&free) + ROOTS as usize + list * (list.ilog2() as usize + 2);
    assert!(written(&kept) <= most, "{} pages instead of {most}", written(&kept));
    for (written, read) in kept {
        assert!(read <= written + 200, "{read} pages read, {written} written");
    }
    // When the snapshot ends, all of it comes free, and the list is short.
    space.reclaim(u64::from(ROOTS) + 1, &[]);
    assert!(space.pending_pages() == 0 && space.parts.is_empty(), "{} pages", space.pending_pages());
}

#[test]
fn pages_wait_for_their_part_only_if_they_are_fewer_than_its_own() {
    let (_, mut space) = roots(&[1]);
    let group = (300, 299);
    let longest = |space: &mut Space, pages: fn(u32) -> u32| {
        let part = space.parts.last_mut().unwrap();
        let pages = pages(part.own.len);
        part.groups.insert(group, vec![(3, pages)]);
        space.pending_pages += u64::from(pages);
        space.reclaim(u64::from(ROOTS) + 1, &versions(&[1]));
        (pages, space.groups().any(|(other, _)| *other == group))
    };
    let (pages, waits) = longest(&mut space, |own| own - 1);
    assert!(pages > 20 && waits && !space.free.any_free(3, pages));
    let (pages, waits) = longest(&mut space, |own| own);
    assert!(!waits && space.free.all_free(3, pages));
}

#[test]
fn of_a_large_file_only_the_regions_that_change_are_written_and_read() {
    const REGIONS: u32 = 800;
    let mut disk = Disk::new();
    let mut space = Space::new(PAGE, 0x0601_7a65, FIRST, (REGION * REGIONS).into());
    // A hundred gigabytes, of which each region has some free pages.
    (0..REGIONS).for_each(|region| space.release(region * REGION + 100, 20));
    let (mut one, mut other) = (Process::default(), Process::default());
    let mut root = one.save(&mut space, 1, &mut disk);
    assert!(one.written > REGIONS as usize);
    other.load(root, &disk);
    one.written = 0;
    for version in 2..12 {
        let mut space = one.load(root, &disk);
        space.reclaim(version - 1, &[]);
        space.retire(700 * REGION + 1000 + u32::try_from(version).unwrap(), 1, 1, version);
        root = one.save(&mut space, version, &mut disk);
    }
    other.read = 0;
    other.load(root, &disk);
    // The directory has four pages, the list has one; there change the region of the page that comes free, and those of
    // this structure's own pages.
    assert!(one.written <= 10 * 12 && other.read <= 14, "{} written, {} read", one.written, other.read);
}
