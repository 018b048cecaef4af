//! Choosing the root to start from.

use std::collections::BTreeMap;

use super::log::{Log, Loose};
use super::report::RootSource;
use super::scan::{Seen, find_page_size, scan};
use super::space::Space;
use super::survey::{Survey, whole_file};
use crate::disk::format::{
    FORMAT_VERSION, KIND_BRANCH, KIND_FREE_DIRECTORY, KIND_LEAF, KIND_PENDING, PAGE_PAYLOAD_LEN, Ptr, TABLE_CATALOG,
    TreeRoot, get_u64,
};
use crate::disk::platform::Disk;
use crate::error::{Error, Result};
use crate::maintain::format::file::File;
use crate::maintain::format::pages::Described;
use crate::maintain::format::slots::{Content, Root, Slots};
use crate::maintain::format::space::region_pages;
use crate::maintain::watch::Watch;

/// Catalogs that are tried when there is no root slot.
const TRIED: usize = 4;

/// The root whose trees hold best, with all that it leads to.
pub(super) fn choose<'d>(disk: &'d dyn Disk, watch: &mut Watch<'_>) -> Result<Survey<'d>> {
    let slots = match Slots::read(disk) {
        Ok(slots) => slots,
        Err(error @ Error::NotAStore { .. }) => return rebuild(disk, watch)?.ok_or(error),
        Err(error) => return Err(error),
    };
    let mut roots: Vec<Root> = Vec::new();
    for (_, content) in &slots.copies {
        if let Content::Whole(root) = content
            && !roots.iter().any(|other| other.sequence == root.sequence)
        {
            roots.push((**root).clone());
        }
    }
    roots.sort_unstable_by_key(|root| std::cmp::Reverse(root.sequence));
    let mut roots = roots.into_iter();
    let Some(newest) = roots.next() else {
        let found = "no root slot is whole, and no page tells what it is".to_owned();
        return rebuild(disk, watch)?.ok_or(Error::NotAStore { path: disk.path().to_path_buf(), found });
    };
    let store = newest.store;
    let slot_lost = roots.len() == 0 && newest.sequence > 1;
    let mut survey = Survey::new(disk, newest, RootSource::Newest, None, watch)?;
    if slot_lost {
        // The one that is lost may have been the newer one, and have laid the log elsewhere.
        let loose = loose_frames(&survey, watch)?;
        survey.log.go_on(&loose);
    }
    if survey.gaps() == 0 {
        return Ok(survey);
    }
    for older in roots.filter(|root| root.store == store) {
        let older = Survey::new(disk, older, RootSource::Older, None, watch)?;
        // With its log, it comes to the same state, and nothing of it is destroyed.
        if older.gaps() == 0 && older.log.lsn >= survey.log.lsn && older.log.lost_to.is_none() {
            return Ok(older);
        }
    }
    Ok(survey)
}

/// Frames anywhere in the file, in the order of their LSNs.
fn loose_frames(survey: &Survey<'_>, watch: &mut Watch<'_>) -> Result<Vec<Loose>> {
    let mut loose = Loosely::new(survey.all);
    scan(&survey.all, watch, &mut |seen| {
        if let Seen::Frame(offset) = seen {
            loose.look(offset);
        }
        Ok(())
    })?;
    Ok(loose.sorted())
}

/// Frames found one by one. Real ones do not overlap, so together they are no longer than the file.
struct Loosely<'d> {
    file: File<'d>,
    spent: u64,
    frames: Vec<Loose>,
}

impl<'d> Loosely<'d> {
    fn new(file: File<'d>) -> Loosely<'d> {
        Loosely { file, spent: 0, frames: Vec::new() }
    }

    fn look(&mut self, offset: u64) {
        if self.spent <= 2 * self.file.offset(self.file.pages) {
            self.frames.extend(Loose::read(&self.file, offset, &mut self.spent));
        }
    }

    fn sorted(mut self) -> Vec<Loose> {
        self.frames.sort_unstable_by_key(|frame| frame.mark.lsn);
        self.frames
    }
}

/// What a pass over all pages finds of roots that no slot tells of, by version.
#[derive(Default)]
struct Traces {
    /// The highest node of the catalog, which a checkpoint that changed anything wrote.
    catalogs: BTreeMap<u64, (u8, Ptr)>,
    directories: BTreeMap<u64, (Ptr, u64)>,
    pendings: BTreeMap<u64, Ptr>,
    /// The newest version of any node.
    newest: u64,
}

impl Traces {
    fn see(&mut self, run: Described, bytes: &[u8]) {
        if matches!(run.kind, KIND_LEAF | KIND_BRANCH) {
            self.newest = self.newest.max(run.version);
        }
        match run.kind {
            KIND_LEAF | KIND_BRANCH if run.table == TABLE_CATALOG => {
                let highest = self.catalogs.entry(run.version).or_insert((run.level, run.ptr));
                if run.level > highest.0 {
                    *highest = (run.level, run.ptr);
                }
            }
            KIND_FREE_DIRECTORY => {
                self.directories.insert(run.version, (run.ptr, get_u64(bytes, PAGE_PAYLOAD_LEN) / 16));
            }
            KIND_PENDING => _ = self.pendings.insert(run.version, run.ptr),
            _ => {}
        }
    }
}

/// Puts a root together from what the pages say of themselves; `None` if there is no page of a store.
fn rebuild<'d>(disk: &'d dyn Disk, watch: &mut Watch<'_>) -> Result<Option<Survey<'d>>> {
    let Some((page_size, tag)) = find_page_size(disk, watch)? else { return Ok(None) };
    let all = whole_file(disk, page_size, tag)?;
    let mut traces = Traces::default();
    let mut loose = Loosely::new(all);
    scan(&all, watch, &mut |seen| {
        match seen {
            Seen::Run(run, bytes) => traces.see(run, bytes),
            Seen::Frame(offset) => loose.look(offset),
            Seen::Value(_) => {}
        }
        Ok(())
    })?;
    let loose = loose.sorted();
    let mut versions: Vec<u64> = traces.catalogs.keys().rev().take(TRIED).copied().collect();
    // A catalog of which nothing is destroyed, or else the newest one, or else none: then each table is put together from its
    // leaves. An older one with gaps would hide newer pages.
    versions.push(traces.newest);
    for version in versions {
        let root = root_of(&all, &traces, version);
        let space = (root.directory.is_none() || root.pending.is_none()).then(Space::unknown);
        let mut survey = Survey::new(disk, root, RootSource::Rebuilt, space, watch)?;
        survey.log = Log::rebuild(version, &loose);
        if survey.gaps() == 0 || version == traces.newest {
            return Ok(Some(survey));
        }
    }
    Ok(None)
}

fn root_of(all: &File<'_>, traces: &Traces, version: u64) -> Root {
    let catalog = traces.catalogs.get(&version).map_or(Ptr::NONE, |(_, ptr)| *ptr);
    let (directory, regions) = traces.directories.get(&version).copied().unwrap_or_default();
    let pending = traces.pendings.get(&version).copied().unwrap_or_default();
    let page_count = match regions {
        0 => u64::from(all.pages),
        _ => regions.saturating_mul(region_pages(all.page_size)),
    };
    let mut store = [0; 16];
    for (place, byte) in store.iter_mut().zip(all.store_tag.to_le_bytes()) {
        *place = byte;
    }
    Root {
        format_version: FORMAT_VERSION,
        page_size: all.page_size,
        store,
        sequence: version,
        checkpoint_lsn: 0,
        log_position: 0,
        log_crc: 0,
        log_offset: 0,
        segments: Vec::new(),
        catalog: TreeRoot { ptr: catalog, ..TreeRoot::default() },
        directory,
        pending,
        page_count,
        next_table: u32::MAX,
        commit_time: 0,
        last_commit: 0,
        application: 0,
        offset: 0,
    }
}
