//! Named snapshots: what each of them refers to exists, and is kept from being reused.
//!
//! Their trees share most pages with the newest ones. A page that has a use there was verified there; its header
//! shows whether it is the one that the pointer means. Pages that the newest trees do not use must be in the
//! pending list, in a group that says that the snapshot's version needs them.

use std::ops::Range;

use super::uses::Use;
use super::{PIN, Place, Walk};
use crate::disk::format::{
    FIRST_USER_TABLE, KIND_BRANCH, KIND_LEAF, KIND_OVERFLOW, MAX_LEVEL, MAX_PAGE_SIZE, OWN_TABLES, Overflow,
    PAGE_LEVEL, Ptr, TABLE_CATALOG, TABLE_SNAPSHOTS, TreeRoot,
};
use crate::disk::platform::{Disk, LockMode};
use crate::error::{Error, Result};
use crate::maintain::format::file::{Expect, File};
use crate::maintain::format::node::{self, Value};
use crate::maintain::format::rows::{SnapshotRow, catalog_row, snapshot_row};

/// The lock bytes of the versions that the names of a root stand for, held while they are read.
#[derive(Default)]
pub(super) struct Pinned<'d> {
    disk: Option<&'d dyn Disk>,
    pub(super) versions: Vec<u64>,
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        if let Some(disk) = self.disk {
            self.versions.iter().for_each(|version| _ = disk.unlock(PIN + version));
        }
    }
}

impl<'d> Pinned<'d> {
    /// A later look at the root decides whether the pins count: a name that the root still has kept its pages
    /// until then.
    pub(super) fn take(file: &File<'d>, catalog: TreeRoot, newest: u64) -> Result<Pinned<'d>> {
        let mut pinned = Pinned { disk: Some(file.disk), versions: Vec::new() };
        let mut rows = Rows::within(file);
        rows.read(file, catalog.ptr, TABLE_CATALOG, None);
        let tables = std::mem::take(&mut rows.found);
        let table = tables.iter().filter_map(|(key, row)| catalog_row(key, row)).find(|(id, _)| *id == TABLE_SNAPSHOTS);
        rows.read(file, table.map(|(_, root)| root).unwrap_or_default().ptr, TABLE_SNAPSHOTS, None);
        let rows = rows.found;
        let versions = rows.iter().filter_map(|(name, row)| snapshot_row(name, row)).map(|row| row.sequence);
        for version in versions.filter(|version| *version < newest) {
            let taken = file.disk.try_lock(PIN + version, LockMode::Shared);
            if taken.map_err(|source| Error::io("lock", file.disk.path(), source))? {
                pinned.versions.push(version);
            }
        }
        Ok(pinned)
    }
}

/// The pages of named snapshots that the newest trees do not use.
#[derive(Default)]
pub(super) struct Kept {
    pages: super::uses::Uses,
    versions: Vec<u64>,
    count: u64,
    waiting: u64,
    /// Nodes of their catalogs that may still be read: in a sound store there are fewer than pages.
    left: Option<u64>,
}

impl Walk<'_, '_> {
    /// The rows of the table of names, and what each of them leads to.
    pub(super) fn named(&mut self, rows: Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, value) in rows {
            let Some(row) = snapshot_row(&key, &value).filter(|row| row.sequence < self.root.sequence) else {
                let message = format!("the row of snapshot {} cannot be understood", key.escape_ascii());
                self.row("(snapshots)", message);
                continue;
            };
            // A named snapshot that could not be pinned may be deleted by now.
            if self.pinned.versions.contains(&row.sequence) {
                self.named_snapshot(&row);
            }
        }
    }

    fn named_snapshot(&mut self, row: &SnapshotRow) {
        let damage = self.findings.report.damage;
        self.kept.versions.push(row.sequence);
        self.kept.versions.sort_unstable();
        let what = format!("(snapshot {})", row.name);
        let mut walk = NamedWalk { walk: self, version: row.sequence, what: &what };
        walk.tree(TABLE_CATALOG, row.catalog);
        if walk.walk.findings.report.damage > damage {
            return;
        }
        let file = File { version: row.sequence, ..self.file };
        let left = *self.kept.left.get_or_insert(u64::from(self.file.pages) * 2);
        let mut rows = Rows { found: Vec::new(), left };
        rows.read(&file, row.catalog.ptr, TABLE_CATALOG, None);
        self.kept.left = Some(rows.left);
        if rows.left == 0 {
            let note = format!("{what} was not checked: the catalogs of all snapshots are larger than the file");
            return self.findings.report.notes.push(note);
        }
        for (key, value) in rows.found {
            match catalog_row(&key, &value) {
                Some((id, root)) if id >= FIRST_USER_TABLE || OWN_TABLES.contains(&id) => {
                    NamedWalk { walk: self, version: row.sequence, what: &what }.tree(id, root);
                }
                _ => self.row(&what, format!("the row {} of its catalog is no table's", key.escape_ascii())),
            }
        }
    }

    /// A range of the pending list, needed by the versions of `group`.
    pub(super) fn waiting(&mut self, page: u32, run: u32, group: Range<u64>) {
        if self.kept.count == 0 {
            return;
        }
        let needed = self.kept.versions.iter().any(|version| group.contains(version));
        let named = (page..page.saturating_add(run)).filter(|page| self.kept.pages.get(*page) == Use::Named);
        let (count, first) = named.fold((0, None), |(count, first), page| (count + 1, first.or(Some(page))));
        self.kept.waiting += count;
        if let Some(first) = first.filter(|_| !needed) {
            let message = "a page of a named snapshot waits as if no version needed it: it will be used again";
            self.findings.damage(self.place_of(first, None), message);
        }
    }

    /// A range of free pages.
    pub(super) fn is_free(&mut self, page: u32, run: u32) {
        if self.kept.count == 0 {
            return;
        }
        let end = page.saturating_add(run).min(self.file.pages);
        let first = (page..end).find(|page| self.kept.pages.get(*page) == Use::Named);
        if let Some(first) = first {
            let message = "the page is used twice: by a named snapshot and by the free pages";
            self.findings.damage(self.place_of(first, None), message);
        }
    }

    /// Reports pages of named snapshots that neither the newest trees nor the pending list contain.
    pub(super) fn judge_kept(&mut self) {
        let missing = self.kept.count.saturating_sub(self.kept.waiting);
        if missing > 0 && self.findings.report.damage == 0 {
            let message =
                format!("{missing} pages of named snapshots are not in the pending list: they stay when the names go");
            self.findings.warning(Place::byte(self.root.offset), message);
        }
    }

    fn place_of<'p>(&self, page: u32, table: Option<&'p str>) -> Place<'p> {
        Place { offset: self.file.offset(page), page: Some(page), table }
    }
}

struct NamedWalk<'w, 'd, 'p> {
    walk: &'w mut Walk<'d, 'p>,
    version: u64,
    what: &'w str,
}

impl NamedWalk<'_, '_, '_> {
    fn tree(&mut self, table: u32, root: TreeRoot) {
        if !root.ptr.is_none() {
            self.node(table, root.ptr, None);
        }
    }

    fn damage(&mut self, page: u32, message: String) {
        let place = self.walk.place_of(page, Some(self.what));
        self.walk.findings.damage(place, message);
    }

    /// Whether a page has been walked already; then it must be the one that the pointer means.
    fn is_shared(&mut self, ptr: Ptr, expect: Expect) -> bool {
        let walk = &mut *self.walk;
        if walk.uses.get(ptr.page) == Use::Nothing && walk.kept.pages.get(ptr.page) == Use::Nothing {
            return false;
        }
        if let Err(why) = walk.file.head(ptr, expect) {
            self.damage(ptr.page, format!("a page that is in use otherwise: {why}"));
        }
        true
    }

    fn keep(&mut self, page: u32, pages: u32) {
        self.walk.kept.count += u64::from(pages);
        let twice = self.walk.kept.pages.claim(page, pages, Use::Named).map(|(twice, ..)| twice);
        let other = (page..page.saturating_add(pages)).find(|page| self.walk.uses.get(*page) != Use::Nothing);
        if let Some(twice) = twice.or(other) {
            self.damage(twice, "the page is used twice: by a named snapshot, and by another run".to_owned());
        }
    }

    /// A node and what is below it. Levels fall by one at each step, and no page is walked twice.
    fn node(&mut self, table: u32, ptr: Ptr, above: Option<u8>) {
        let expect = Expect { kinds: &[KIND_LEAF, KIND_BRANCH], table, version: self.version };
        if self.is_shared(ptr, expect) {
            return;
        }
        let page_size = self.walk.file.page_size;
        let run = match self.walk.file.run(ptr, expect, MAX_PAGE_SIZE / page_size) {
            Ok(run) => run,
            Err(why) => return self.damage(ptr.page, format!("a node: {why}")),
        };
        self.keep(ptr.page, u32::try_from(run.len() / page_size as usize).unwrap_or(u32::MAX));
        let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        if level > MAX_LEVEL || above.is_some_and(|above| level + 1 != above) {
            return self.damage(ptr.page, format!("level {level} below level {}", above.unwrap_or(MAX_LEVEL + 1)));
        }
        let below = if level == 0 {
            node::leaf(&run).map(|entries| {
                let long = entries.into_iter().filter_map(|(_, value)| match value {
                    Value::Long(long) => Some(long.pages),
                    Value::Inline(_) => None,
                });
                long.for_each(|long| self.long_value(table, long));
            })
        } else {
            let children = node::branch(&run).map(|node| node.children);
            children.map(|children| children.iter().for_each(|child| self.node(table, child.ptr, Some(level))))
        };
        if let Err(why) = below {
            self.damage(ptr.page, why);
        }
    }

    fn long_value(&mut self, table: u32, long: Overflow) {
        let expect = Expect { kinds: &[KIND_OVERFLOW], table, version: self.version };
        if self.is_shared(long.ptr, expect) {
            return;
        }
        let file = self.walk.file;
        let extents = file.extents_within(&long);
        match extents.and_then(|extents| file.verify_long(&long, expect).map(|()| extents)) {
            Ok(extents) => extents.iter().for_each(|extent| self.keep(extent.page, extent.pages)),
            Err(why) => self.damage(long.ptr.page, format!("a long value: {why}")),
        }
    }
}

/// The short rows of small trees, as far as they can be read; damage is reported by another walk.
struct Rows {
    found: Vec<(Vec<u8>, Vec<u8>)>,
    /// Nodes that may still be read: pointers of a hostile file may share subtrees.
    left: u64,
}

impl Rows {
    fn within(file: &File<'_>) -> Rows {
        Rows { found: Vec::new(), left: u64::from(file.pages) }
    }

    fn read(&mut self, file: &File<'_>, ptr: Ptr, table: u32, above: Option<u8>) {
        let expect = Expect { kinds: &[KIND_LEAF, KIND_BRANCH], table, version: file.version };
        if ptr.is_none() || self.left == 0 {
            return;
        }
        self.left -= 1;
        let Ok(run) = file.run(ptr, expect, MAX_PAGE_SIZE / file.page_size) else { return };
        let level = run.get(PAGE_LEVEL).copied().unwrap_or(0);
        if level > MAX_LEVEL || above.is_some_and(|above| level + 1 != above) {
            return;
        }
        if level > 0 {
            let children = node::branch(&run).map(|node| node.children).unwrap_or_default();
            return children.into_iter().for_each(|child| self.read(file, child.ptr, table, Some(level)));
        }
        for (key, value) in node::leaf(&run).unwrap_or_default() {
            if let Value::Inline(value) = value {
                self.found.push((key.to_vec(), value.to_vec()));
            }
        }
    }
}
