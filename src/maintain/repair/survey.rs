//! What a root leads to, and what of it is destroyed: read without changing or keeping rows, but those of the store's own tables.

use std::collections::BTreeMap;

use super::bits::Bits;
use super::log::Log;
use super::report::RootSource;
use super::space::Space;
use super::tree::{Gap, Met, TreeWalk, value_of};
use crate::disk::format::{
    FIRST_USER_TABLE, TABLE_CATALOG, TABLE_NAMES, TABLE_SETTINGS, TABLE_SNAPSHOTS, TreeRoot, get_u32,
};
use crate::disk::platform::Disk;
use crate::error::{Error, Result};
use crate::maintain::format::file::File;
use crate::maintain::format::frames::FRAMES_KNOWN;
use crate::maintain::format::rows::catalog_row;
use crate::maintain::format::slots::Root;
use crate::maintain::watch::Watch;

/// Gaps of one table beyond which neighbours are told as one.
const MANY: usize = 10_000;

/// A tree of the store, without its rows.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) root: TreeRoot,
    /// Entries as they are noted, if they are.
    pub(super) expected: Option<u64>,
    /// Entries that were found.
    pub(super) rows: u64,
    pub(super) gaps: Vec<Gap>,
}

/// One of the two tables that the store keeps for itself, whole.
#[derive(Default)]
pub(super) struct Own {
    pub(super) tree: Tree,
    pub(super) rows: Vec<(Vec<u8>, Vec<u8>)>,
}

/// All that a root leads to.
pub(super) struct Survey<'d> {
    /// The pages that the root knows.
    pub(super) file: File<'d>,
    /// All pages that the file has.
    pub(super) all: File<'d>,
    pub(super) root: Root,
    pub(super) source: RootSource,
    pub(super) space: Space,
    pub(super) catalog: Own,
    pub(super) names: Own,
    /// The table of named snapshots: they are told, and not brought back.
    pub(super) snapshots: Own,
    /// The rows of the settings.
    pub(super) settings: Vec<(Vec<u8>, Vec<u8>)>,
    /// The users' tables that have rows, by id.
    pub(super) trees: BTreeMap<u32, Tree>,
    /// Pages of trees.
    pub(super) used: Bits,
    pub(super) log: Log,
}

impl<'d> Survey<'d> {
    pub(super) fn new(
        disk: &'d dyn Disk,
        root: Root,
        source: RootSource,
        space: Option<Space>,
        watch: &mut Watch<'_>,
    ) -> Result<Survey<'d>> {
        let all = whole_file(disk, root.page_size, get_u32(&root.store, 0))?;
        let pages = u32::try_from(root.page_count).unwrap_or(u32::MAX).min(all.pages);
        let file = File { pages, version: root.sequence, ..all };
        let space = space.unwrap_or_else(|| Space::read(&file, &root));
        let log = Log::read(&file, &root);
        if let Some(found) = &log.newer {
            return Err(Error::newer(disk.path(), found, FRAMES_KNOWN));
        }
        let mut survey = Survey {
            file,
            all,
            source,
            space,
            catalog: Own::default(),
            names: Own::default(),
            snapshots: Own::default(),
            settings: Vec::new(),
            trees: BTreeMap::new(),
            used: Bits::default(),
            log,
            root,
        };
        survey.walk_all(watch)?;
        Ok(survey)
    }

    fn walk_all(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        // A root that was rebuilt notes no number.
        let count = self.root.catalog.count;
        let expected = (self.source != RootSource::Rebuilt).then_some(count);
        self.catalog = self.own(TABLE_CATALOG, self.root.catalog, expected, watch)?;
        if self.source == RootSource::Rebuilt && self.root.catalog.ptr.is_none() {
            self.catalog.tree.gaps.push(Gap::all(0, "no page of the catalog is whole"));
        }
        let rows = self.catalog.rows.clone();
        for (id, root) in rows.iter().filter_map(|(key, value)| catalog_row(key, value)) {
            self.add_tree(id, root, Some(root.count), watch)?;
        }
        Ok(())
    }

    /// Walks a tree that the catalog tells of.
    pub(super) fn add_tree(
        &mut self,
        id: u32,
        root: TreeRoot,
        expected: Option<u64>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        if id == TABLE_NAMES {
            self.names = self.own(TABLE_NAMES, root, expected, watch)?;
        } else if id == TABLE_SNAPSHOTS {
            self.snapshots = self.own(TABLE_SNAPSHOTS, root, expected, watch)?;
        } else if id < FIRST_USER_TABLE {
            let rows = self.own(id, root, expected, watch)?.rows;
            // Of the store's own settings a repaired store has only the user's version, and it has no journal.
            if id == TABLE_SETTINGS {
                self.settings = rows;
            }
        } else {
            let mut tree = Tree { root, expected, ..Tree::default() };
            let mut walk = TreeWalk { file: self.file, table: id, used: &mut self.used };
            walk.walk(root.ptr, &mut |met| {
                match met {
                    Met::Leaf(entries) => tree.rows += entries.len() as u64,
                    Met::Gap(gap) => tree.add_gap(gap),
                }
                watch.more(u64::from(self.file.page_size))
            })?;
            self.trees.insert(id, tree);
        }
        Ok(())
    }

    fn own(&mut self, id: u32, root: TreeRoot, expected: Option<u64>, watch: &mut Watch<'_>) -> Result<Own> {
        let mut own = Own { tree: Tree { root, expected, ..Tree::default() }, rows: Vec::new() };
        let all = self.all;
        let mut walk = TreeWalk { file: self.file, table: id, used: &mut self.used };
        walk.walk(root.ptr, &mut |met| {
            match met {
                Met::Leaf(entries) => {
                    for (key, value) in entries {
                        match value_of(&all, id, value) {
                            Ok(value) => own.add(key, value),
                            Err((page, why)) => own.tree.add_gap(just(key, page, why)),
                        }
                    }
                }
                Met::Gap(gap) => own.tree.add_gap(gap),
            }
            watch.more(0)
        })?;
        Ok(own)
    }

    /// Whether a page lies in the log, where none of a tree does.
    pub(super) fn is_of_log(&self, page: u32) -> bool {
        self.root.segments.iter().any(|(first, pages)| page >= *first && page - first < *pages)
    }

    /// How much of the trees is destroyed.
    pub(super) fn gaps(&self) -> usize {
        let trees = self.trees.values().chain([&self.catalog.tree, &self.names.tree]);
        trees.map(|tree| tree.gaps.len()).sum()
    }

    /// Whether what the store says of its tables is all there.
    pub(super) fn knows_its_tables(&self) -> bool {
        self.catalog.tree.gaps.is_empty() && self.names.tree.gaps.is_empty()
    }
}

impl Tree {
    fn add_gap(&mut self, gap: Gap) {
        let many = self.gaps.len() >= MANY;
        match self.gaps.last_mut().filter(|last| many && last.high.is_some() && last.high == gap.low) {
            Some(last) => last.high = gap.high,
            None => self.gaps.push(gap),
        }
    }
}

impl Own {
    pub(super) fn add(&mut self, key: &[u8], value: Vec<u8>) {
        self.tree.rows += 1;
        self.rows.push((key.to_vec(), value));
    }
}

/// The gap that one key leaves.
fn just(key: &[u8], page: u32, why: String) -> Gap {
    Gap { low: Some(key.to_vec()), high: Some([key, &[0]].concat()), page, why, is_leaf: true }
}

/// The file with all the pages that it has, whatever a root says.
pub(super) fn whole_file(disk: &dyn Disk, page_size: u32, store_tag: u32) -> Result<File<'_>> {
    let len = disk.len().map_err(|source| Error::io("stat", disk.path(), source))?;
    let pages = u32::try_from(len / u64::from(page_size)).unwrap_or(u32::MAX);
    Ok(File { disk, page_size, store_tag, pages, version: u64::MAX })
}
